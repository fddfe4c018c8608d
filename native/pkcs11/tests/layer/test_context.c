/* test_context.c - keys that ask for the password before each use. */
#include <string.h>

#include "check.h"
#include "fake_worker.h"
#include "operations.h"

static CK_UTF8CHAR pin[] = "password", wrong[] = "passport";
static CK_MECHANISM pkcs = {CKM_RSA_PKCS, NULL, 0}, hashed = {CKM_SHA256_RSA_PKCS, NULL, 0};
static CK_SESSION_HANDLE session;
static CK_OBJECT_HANDLE rsa;
static uint8_t data[256] = "some data", out[256];

static CK_RV context_login(const CK_UTF8CHAR *password)
{
    return C_Login(session, CKU_CONTEXT_SPECIFIC, (CK_UTF8CHAR_PTR)password, 8);
}

static void test_each_signature_needs_a_password(void)
{
    CK_ULONG length = sizeof out;
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, context_login(pin));
    for (unsigned i = 0; i < 2; i++) {
        CHECK_RV(CKR_OK, C_SignInit(session, &hashed, rsa));
        CHECK_RV(CKR_OK, context_login(pin));
        CHECK_RV(CKR_OK, C_Sign(session, data, 9, NULL, &length)); /* which spends nothing */
        CHECK_RV(CKR_OK, C_Sign(session, data, 9, out, &length));
        CHECK_RV(CKR_OK, C_SignInit(session, &hashed, rsa));
        CHECK_RV(CKR_USER_NOT_LOGGED_IN, C_Sign(session, data, 9, out, &length));
        CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, context_login(pin));
    }
    CHECK(fake.calls[CV_SIGN] == 0 && fake.calls[CV_USE_IN_CONTEXT] == 2);
    CHECK_RV(CKR_OK, C_SignInit(session, &hashed, rsa));
    CHECK_RV(CKR_OK, C_SignUpdate(session, data, 5));
    CHECK_RV(CKR_OK, C_LoginUser(session, CKU_CONTEXT_SPECIFIC, pin, 8, (CK_UTF8CHAR_PTR) "co", 2));
    CHECK_RV(CKR_OK, C_SignUpdate(session, data + 5, 4));
    CHECK_RV(CKR_OK, C_SignFinal(session, out, &length));
}

/* A wrong password costs a try, not the operation, nor the login. */
static void test_wrong_passwords(void)
{
    CK_ULONG length = sizeof out;
    CK_SESSION_INFO info;
    CHECK_RV(CKR_OK, C_SignInit(session, &hashed, rsa));
    CHECK_RV(CKR_ARGUMENTS_BAD, context_login(NULL));
    CHECK_RV(CKR_PIN_LEN_RANGE, C_Login(session, CKU_CONTEXT_SPECIFIC, pin, 256));
    CHECK(fake.calls[CV_CONTEXT_LOGIN] == 0);
    CHECK_RV(CKR_PIN_INCORRECT, context_login(wrong));
    CHECK(fake.calls[CV_CONTEXT_LOGIN] == 1); /* never tried twice */
    CHECK_RV(CKR_OK, C_GetSessionInfo(session, &info));
    CHECK(info.state == CKS_RO_USER_FUNCTIONS);
    CHECK_RV(CKR_OK, context_login(pin));
    CHECK_RV(CKR_OK, C_Sign(session, data, 9, out, &length));
}

/* A proof that is refused ends the operation and leaves the login. */
static void test_a_proof_that_came_too_late(void)
{
    CK_ULONG length = sizeof out;
    CK_SESSION_INFO info;
    CHECK_RV(CKR_OK, C_SignInit(session, &hashed, rsa));
    CHECK_RV(CKR_OK, context_login(pin));
    fake.keep_ticket = true;
    fake.refuse[CV_USE_IN_CONTEXT] = CKR_USER_NOT_LOGGED_IN;
    CHECK_RV(CKR_USER_NOT_LOGGED_IN, C_Sign(session, data, 9, out, &length));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_Sign(session, data, 9, out, &length));
    CHECK_RV(CKR_OK, C_GetSessionInfo(session, &info));
    CHECK(info.state == CKS_RO_USER_FUNCTIONS);
    fake.refuse[CV_USE_IN_CONTEXT] = CKR_OK;
    CHECK_RV(CKR_OK, C_SignInit(session, &hashed, rsa));
    CHECK_RV(CKR_OK, context_login(pin));
    CHECK_RV(CKR_OK, context_login(pin)); /* anew, as long as it is not used */
    CHECK_RV(CKR_OK, C_Sign(session, data, 9, out, &length));
}

/* What it is for: the proof goes to the operation that has none. */
static void test_several_operations(void)
{
    CK_ULONG length = sizeof out;
    CHECK_RV(CKR_OK, C_SignInit(session, &pkcs, rsa));
    CHECK_RV(CKR_OK, context_login(pin));
    CHECK_RV(CKR_OK, C_Sign(session, data, 9, out, &length));
    CHECK_RV(CKR_OK, C_DecryptInit(session, &pkcs, rsa));
    CHECK_RV(CKR_OK, context_login(pin));
    length = 255; /* less than there might be: nothing is asked for */
    CHECK_RV(CKR_BUFFER_TOO_SMALL, C_Decrypt(session, data, 256, out, &length));
    CHECK(length == 256);
    CHECK_RV(CKR_OK, C_Decrypt(session, data, 256, out, &length));
    CHECK(length == 's'); /* the first byte says how much */
    CHECK_RV(CKR_OK, C_SignRecoverInit(session, &pkcs, rsa));
    CHECK_RV(CKR_OK, context_login(pin));
    length = sizeof out;
    CHECK_RV(CKR_OK, C_SignRecover(session, data, 9, out, &length));
    CHECK(fake.calls[CV_USE_IN_CONTEXT] == 3);
    CHECK(fake.calls[CV_SIGN] + fake.calls[CV_DECRYPT] + fake.calls[CV_SIGN_RECOVER] == 0);
}

/* Each message is a use of its own. */
static void test_each_message_needs_a_password(void)
{
    CK_ULONG length = sizeof out;
    CHECK_RV(CKR_OK, C_MessageSignInit(session, &hashed, rsa));
    CHECK_RV(CKR_USER_NOT_LOGGED_IN, C_SignMessage(session, NULL, 0, data, 9, out, &length));
    for (unsigned i = 0; i < 2; i++) {
        CHECK_RV(CKR_OK, context_login(pin));
        CHECK_RV(CKR_OK, C_SignMessage(session, NULL, 0, data, 9, out, &length));
        CHECK_RV(CKR_USER_NOT_LOGGED_IN, C_SignMessage(session, NULL, 0, data, 9, out, &length));
    }
    CHECK(fake.calls[CV_USE_IN_CONTEXT] == 2);
    CHECK_RV(CKR_OK, C_MessageSignFinal(session));
}

/* The public key asks for nothing. */
static void test_verification_needs_none(void)
{
    CHECK_RV(CKR_OK, C_VerifyInit(session, &hashed, rsa));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, context_login(pin));
    CHECK_RV(CKR_SIGNATURE_LEN_RANGE, C_Verify(session, data, 9, out, 9));
    CHECK(fake.calls[CV_VERIFY] == 1);
}

static void run(void (*test)(void))
{
    fake_reset();
    fake.usage |= CKF_SIGN_RECOVER;
    fake.always_authenticate = true;
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    session = fake_session(0);
    CHECK_RV(CKR_OK, C_Login(session, CKU_USER, pin, 8));
    rsa = fake_find(session, FAKE_RSA);
    test();
    CHECK_RV(CKR_OK, C_Finalize(NULL));
}

int main(void)
{
    run(test_each_signature_needs_a_password);
    run(test_wrong_passwords);
    run(test_a_proof_that_came_too_late);
    run(test_several_operations);
    run(test_each_message_needs_a_password);
    run(test_verification_needs_none);
    return 0;
}
