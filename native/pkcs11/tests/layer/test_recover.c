/* test_recover.c - signatures that give their data back. */
#include <string.h>

#include "check.h"
#include "fake_worker.h"
#include "operations.h"

static CK_MECHANISM pkcs = {CKM_RSA_PKCS, NULL, 0}, hashed = {CKM_SHA256_RSA_PKCS, NULL, 0};
static CK_SESSION_HANDLE session;
static CK_OBJECT_HANDLE rsa;
static uint8_t data[] = "some data", signature[300], recovered[300];

static void test_there_and_back(void)
{
    CK_ULONG length = 0;
    CHECK_RV(CKR_OK, C_SignRecoverInit(session, &pkcs, rsa));
    CHECK_RV(CKR_OPERATION_ACTIVE, C_SignRecoverInit(session, &pkcs, rsa));
    CHECK_RV(CKR_OK, C_SignRecover(session, data, sizeof data, NULL, &length));
    CHECK(length == 256);
    length = 255;
    CHECK_RV(CKR_BUFFER_TOO_SMALL,
             C_SignRecover(session, data, sizeof data, signature, &length));
    CHECK(length == 256 && fake.calls[CV_SIGN_RECOVER] == 0);
    CHECK_RV(CKR_OK, C_SignRecover(session, data, sizeof data, signature, &length));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED,
             C_SignRecover(session, data, sizeof data, signature, &length));
    CHECK_RV(CKR_OK, C_VerifyRecoverInit(session, &pkcs, rsa));
    CHECK_RV(CKR_OK, C_VerifyRecover(session, signature, 256, NULL, &length));
    CHECK(length >= sizeof data && fake.calls[CV_VERIFY_RECOVER] == 0);
    length = sizeof data - 1; /* how much there is shows only now */
    CHECK_RV(CKR_BUFFER_TOO_SMALL, C_VerifyRecover(session, signature, 256, recovered, &length));
    CHECK(length == sizeof data);
    CHECK_RV(CKR_OK, C_VerifyRecover(session, signature, 256, recovered, &length));
    CHECK(length == sizeof data && memcmp(recovered, data, length) == 0);
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED,
             C_VerifyRecover(session, signature, 256, recovered, &length));
}

static void test_refusals_end_it(void)
{
    CK_ULONG length = sizeof signature;
    CHECK_RV(CKR_OK, C_SignRecoverInit(session, &pkcs, rsa));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_SignRecover(session, NULL, 5, signature, &length));
    CHECK_RV(CKR_OK, C_SignRecoverInit(session, &pkcs, rsa));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_SignRecover(session, data, 5, signature, NULL));
    CHECK_RV(CKR_OK, C_SignRecoverInit(session, &pkcs, rsa));
    CHECK_RV(CKR_DATA_LEN_RANGE, C_SignRecover(session, signature, 256, signature, &length));
    CHECK_RV(CKR_OK, C_SignRecoverInit(session, &pkcs, rsa));
    CHECK_RV(CKR_DATA_LEN_RANGE, C_SignRecover(session, data, 1UL << 40, signature, &length));
    CHECK_RV(CKR_OK, C_VerifyRecoverInit(session, &pkcs, rsa));
    CHECK_RV(CKR_SIGNATURE_LEN_RANGE,
             C_VerifyRecover(session, signature, 255, recovered, &length));
    CHECK_RV(CKR_OK, C_VerifyRecoverInit(session, &pkcs, rsa));
    CHECK_RV(CKR_SIGNATURE_LEN_RANGE,
             C_VerifyRecover(session, signature, 1UL << 40, recovered, &length));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED,
             C_VerifyRecover(session, signature, 256, recovered, &length));
}

static void test_what_it_takes(void)
{
    CHECK_RV(CKR_MECHANISM_INVALID, C_SignRecoverInit(session, &hashed, rsa));
    CHECK_RV(CKR_KEY_HANDLE_INVALID, C_SignRecoverInit(session, &pkcs, 0));
    CHECK_RV(CKR_KEY_TYPE_INCONSISTENT,
             C_VerifyRecoverInit(session, &pkcs, fake_find(session, FAKE_EC)));
    fake.usage = CKF_SIGN | CKF_VERIFY; /* which is something else */
    CHECK_RV(CKR_OK, C_CloseSession(session));
    CHECK_RV(CKR_OK, C_Finalize(NULL));
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    session = fake_session(0);
    rsa = fake_find(session, FAKE_RSA);
    CHECK_RV(CKR_KEY_FUNCTION_NOT_PERMITTED, C_SignRecoverInit(session, &pkcs, rsa));
    CHECK_RV(CKR_KEY_FUNCTION_NOT_PERMITTED, C_VerifyRecoverInit(session, &pkcs, rsa));
}

static void test_cancel(void)
{
    CK_ULONG length = sizeof signature;
    CHECK_RV(CKR_OK, C_SignRecoverInit(session, &pkcs, rsa));
    CHECK_RV(CKR_OK, C_VerifyRecoverInit(session, &pkcs, rsa));
    CHECK_RV(CKR_OK, C_SessionCancel(session, CKF_SIGN | CKF_VERIFY));
    CHECK_RV(CKR_OK, C_SignRecover(session, data, 5, signature, &length));
    CHECK_RV(CKR_OK, C_SignRecoverInit(session, &pkcs, rsa));
    CHECK_RV(CKR_OK, C_SessionCancel(session, CKF_SIGN_RECOVER | CKF_VERIFY_RECOVER));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_SignRecover(session, data, 5, signature, &length));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED,
             C_VerifyRecover(session, signature, 256, recovered, &length));
    CHECK_RV(CKR_OK, C_SignRecoverInit(session, &pkcs, rsa)); /* closed while active */
    CHECK_RV(CKR_OK, C_CloseSession(session));
}

static void run(void (*test)(void))
{
    fake_reset();
    fake.usage = CKF_SIGN_RECOVER | CKF_VERIFY_RECOVER;
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    session = fake_session(0);
    rsa = fake_find(session, FAKE_RSA);
    test();
    CHECK_RV(CKR_OK, C_Finalize(NULL));
}

int main(void)
{
    run(test_there_and_back);
    run(test_refusals_end_it);
    run(test_what_it_takes);
    run(test_cancel);
    return 0;
}
