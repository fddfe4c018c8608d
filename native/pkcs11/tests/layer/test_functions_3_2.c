/* test_functions_3_2.c - what PKCS#11 3.2 adds, apart from messages. */
#include <string.h>

#include "check.h"
#include "fake_worker.h"
#include "operations.h"

static uint8_t data[1000], signature[256];
static CK_SESSION_HANDLE session;
static CK_OBJECT_HANDLE mac, rsa;
static CK_MECHANISM hashed = {CKM_SHA256_RSA_PKCS, NULL, 0}, hmac = {CKM_SHA256_HMAC, NULL, 0};

static CK_ULONG sign(CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    CK_ULONG length = sizeof signature;
    CHECK_RV(CKR_OK, C_SignInit(session, mechanism, key));
    CHECK_RV(CKR_OK, C_Sign(session, data, sizeof data, signature, &length));
    return length;
}

static CK_RV begin(CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key, CK_ULONG length)
{
    return C_VerifySignatureInit(session, mechanism, key, signature, length);
}

static void check_signature(CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    CK_ULONG length = sign(mechanism, key);
    CHECK_RV(CKR_OK, begin(mechanism, key, length));
    signature[3] ^= 1; /* it was taken at the beginning */
    CHECK_RV(CKR_OK, C_VerifySignature(session, data, sizeof data));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_VerifySignature(session, data, sizeof data));
    CHECK_RV(CKR_OK, begin(mechanism, key, length));
    CHECK_RV(CKR_SIGNATURE_INVALID, C_VerifySignature(session, data, sizeof data));
    signature[3] ^= 1;
    CHECK_RV(CKR_OK, begin(mechanism, key, length));
    CHECK_RV(CKR_OK, C_VerifySignatureUpdate(session, data, 400));
    CHECK_RV(CKR_OK, C_VerifySignatureUpdate(session, NULL, 0));
    CHECK_RV(CKR_OK, C_VerifySignatureUpdate(session, data + 400, 600));
    CHECK_RV(CKR_OK, C_VerifySignatureFinal(session));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_VerifySignatureFinal(session));
    CHECK_RV(CKR_OK, begin(mechanism, key, length));
    CHECK_RV(CKR_OK, C_VerifySignatureUpdate(session, data, 999));
    CHECK_RV(CKR_SIGNATURE_INVALID, C_VerifySignatureFinal(session));
    CHECK_RV(CKR_OK, begin(mechanism, key, length - 1));
    CHECK_RV(CKR_SIGNATURE_LEN_RANGE, C_VerifySignature(session, data, sizeof data));
    CHECK_RV(CKR_OK, begin(mechanism, key, 0));
    CHECK_RV(CKR_SIGNATURE_LEN_RANGE, C_VerifySignature(session, data, sizeof data));
}

static void test_verify_signature(void)
{
    check_signature(&hashed, rsa);
    check_signature(&hmac, mac);
}

/* A session verifies one thing at a time, by the functions that fit the beginning. */
static void test_kinds_of_verification(void)
{
    CK_ULONG length = sign(&hashed, rsa);
    CHECK_RV(CKR_OK, begin(&hashed, rsa, length));
    CHECK_RV(CKR_OPERATION_ACTIVE, begin(&hashed, rsa, length));
    CHECK_RV(CKR_OPERATION_ACTIVE, C_VerifyInit(session, &hashed, rsa));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_Verify(session, data, 5, signature, length));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_VerifyUpdate(session, data, 5));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_VerifyFinal(session, signature, length));
    CHECK_RV(CKR_OK, C_VerifySignatureUpdate(session, data, 5));
    CHECK_RV(CKR_OPERATION_ACTIVE, C_VerifySignature(session, data, 5));
    CHECK_RV(CKR_OK, begin(&hashed, rsa, length)); /* that has ended it */
    CHECK_RV(CKR_OK, C_SessionCancel(session, CKF_VERIFY));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_VerifySignatureUpdate(session, data, 5));
    CHECK_RV(CKR_OK, begin(&hashed, rsa, length));
    CHECK_RV(CKR_OK, C_VerifySignatureInit(session, NULL, 0, NULL, 0));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_VerifySignatureFinal(session));
    CHECK_RV(CKR_OK, C_VerifyInit(session, &hashed, rsa));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_VerifySignature(session, data, 5));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_VerifySignatureUpdate(session, data, 5));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_VerifySignatureFinal(session));
    CHECK_RV(CKR_OK, C_Verify(session, data, sizeof data, signature, length));
}

static void test_hostile_verification(void)
{
    fake.usage = CKF_SIGN;
    CK_ULONG length = sign(&hashed, rsa);
    CHECK_RV(CKR_KEY_FUNCTION_NOT_PERMITTED, begin(&hashed, rsa, length));
    fake.usage |= CKF_VERIFY;
    CHECK_RV(CKR_ARGUMENTS_BAD, C_VerifySignatureInit(session, &hashed, rsa, NULL, length));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_VerifySignatureInit(session, NULL, rsa, signature, length));
    CHECK_RV(CKR_SIGNATURE_LEN_RANGE, begin(&hashed, rsa, ~0UL));
    CHECK_RV(CKR_KEY_HANDLE_INVALID, begin(&hashed, 0, length));
    CHECK_RV(CKR_KEY_TYPE_INCONSISTENT, begin(&hashed, mac, length));
    CHECK_RV(CKR_SESSION_HANDLE_INVALID,
             C_VerifySignatureInit(0, &hashed, rsa, signature, length));
    CHECK_RV(CKR_OK, begin(&hashed, rsa, length));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_VerifySignature(session, NULL, 5));
    CHECK_RV(CKR_OK, begin(&hashed, rsa, length));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_VerifySignatureUpdate(session, data, ~0UL));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_VerifySignatureFinal(session));
}

static CK_MECHANISM kem = {CKM_ML_KEM, NULL, 0};
static uint8_t ciphertext[1088];

static void test_encapsulation(void)
{
    CK_OBJECT_HANDLE key = fake_find(session, FAKE_KEM), mine = 0, yours = 0;
    char name[] = "shared";
    CK_ATTRIBUTE template[] = {{CKA_LABEL, name, 6}};
    CK_ULONG length = 0;
    fake.usage = CKF_ENCAPSULATE | CKF_DECAPSULATE;
    CHECK_RV(CKR_OK, C_EncapsulateKey(session, &kem, key, template, 1, NULL, &length, NULL));
    CHECK(length == sizeof ciphertext);
    length--;
    CHECK_RV(CKR_BUFFER_TOO_SMALL,
             C_EncapsulateKey(session, &kem, key, template, 1, ciphertext, &length, &mine));
    CHECK(length == sizeof ciphertext && mine == 0 && fake.calls[CV_ENCAPSULATE_KEY] == 0);
    CHECK_RV(CKR_OK,
             C_EncapsulateKey(session, &kem, key, template, 1, ciphertext, &length, &mine));
    CHECK(length == sizeof ciphertext && memcmp(ciphertext, "ciphertext", 10) == 0);
    CHECK_RV(CKR_OK, C_DecapsulateKey(session, &kem, key, template, 1, ciphertext, length, &yours));
    CHECK(mine != 0 && yours != 0 && mine != yours);
    template[0].pValue = memset(name, 0, 6);
    CHECK_RV(CKR_OK, C_GetAttributeValue(session, yours, template, 1));
    CHECK(template[0].ulValueLen == 6 && memcmp(name, "shared", 6) == 0);
    CHECK_RV(CKR_OK, C_DestroyObject(session, mine));
}

static CK_RV encapsulate(CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key, CK_ATTRIBUTE *template)
{
    CK_ULONG length = sizeof ciphertext;
    CK_OBJECT_HANDLE made;
    return C_EncapsulateKey(session, mechanism, key, template, template != NULL, ciphertext,
                            &length, &made);
}

static CK_RV decapsulate(CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key, CK_ULONG length)
{
    CK_OBJECT_HANDLE made;
    return C_DecapsulateKey(session, mechanism, key, NULL, 0, ciphertext, length, &made);
}

static void test_hostile_encapsulation(void)
{
    CK_OBJECT_HANDLE key = fake_find(session, FAKE_KEM), made;
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE token = {CKA_TOKEN, &yes, 1}, bad = {CKA_LABEL, NULL, 5};
    CK_MECHANISM extra = {CKM_ML_KEM, &made, sizeof made};
    CK_ULONG length = sizeof ciphertext;
    fake.usage = CKF_SIGN;
    CHECK_RV(CKR_KEY_FUNCTION_NOT_PERMITTED, encapsulate(&kem, key, NULL));
    fake.usage = CKF_ENCAPSULATE | CKF_DECAPSULATE;
    CHECK_RV(CKR_ARGUMENTS_BAD, encapsulate(NULL, key, NULL));
    CHECK_RV(CKR_MECHANISM_INVALID, encapsulate(&hashed, key, NULL));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, encapsulate(&extra, key, NULL));
    CHECK_RV(CKR_KEY_HANDLE_INVALID, encapsulate(&kem, 0, NULL));
    CHECK_RV(CKR_KEY_TYPE_INCONSISTENT, encapsulate(&kem, rsa, NULL));
    CHECK_RV(CKR_SESSION_READ_ONLY, encapsulate(&kem, key, &token));
    CHECK(encapsulate(&kem, key, &bad) != CKR_OK);
    bad.type = CKA_TOKEN;
    CHECK(encapsulate(&kem, key, &bad) != CKR_OK);
    CHECK_RV(CKR_ARGUMENTS_BAD,
             C_EncapsulateKey(session, &kem, key, NULL, 1, ciphertext, &length, &made));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_DecapsulateKey(session, &kem, key, NULL, 1, ciphertext, 1088, &made));
    CHECK(C_DecapsulateKey(session, &kem, key, &bad, 1, ciphertext, 1088, &made) != CKR_OK);
    CHECK_RV(CKR_ARGUMENTS_BAD,
             C_EncapsulateKey(session, &kem, key, NULL, 0, ciphertext, NULL, &made));
    CHECK_RV(CKR_ARGUMENTS_BAD,
             C_EncapsulateKey(session, &kem, key, NULL, 0, ciphertext, &length, NULL));
    CHECK_RV(CKR_ARGUMENTS_BAD, decapsulate(NULL, key, sizeof ciphertext));
    CHECK_RV(CKR_MECHANISM_INVALID, decapsulate(&hmac, key, sizeof ciphertext));
    CHECK_RV(CKR_ENCRYPTED_DATA_LEN_RANGE, decapsulate(&kem, key, ~0UL));
    CHECK_RV(CKR_ENCRYPTED_DATA_LEN_RANGE, decapsulate(&kem, key, 5));
    CHECK_RV(CKR_KEY_HANDLE_INVALID, decapsulate(&kem, 0, sizeof ciphertext));
    CHECK_RV(CKR_ARGUMENTS_BAD,
             C_DecapsulateKey(session, &kem, key, NULL, 0, NULL, sizeof ciphertext, &made));
    CHECK_RV(CKR_ARGUMENTS_BAD,
             C_DecapsulateKey(session, &kem, key, NULL, 0, ciphertext, 1088, NULL));
    fake.refuse[CV_ENCAPSULATE_KEY] = CKR_DEVICE_ERROR;
    CHECK_RV(CKR_DEVICE_ERROR, encapsulate(&kem, key, NULL));
}

static uint8_t iv[12] = "a first iv..", extra[4] = "more", wrapped[300];
static CK_GCM_PARAMS gcm = {iv, 12, 96, NULL, 0, 128};
static CK_GCM_WRAP_PARAMS gcm_wrap = {iv, 12, 32, CKG_GENERATE_COUNTER, NULL, 0, 128};
static CV_CCM_PARAMS ccm = {32, iv, 12, NULL, 0, 16};
static CK_CCM_WRAP_PARAMS ccm_wrap = {32, iv, 12, 0, CKG_GENERATE_RANDOM, NULL, 0, 16};

static CK_RV wrap(CK_MECHANISM_TYPE type, void *parameter, size_t size, uint8_t *out,
                  CK_ULONG *length)
{
    CK_MECHANISM mechanism = {type, parameter, size};
    return C_WrapKeyAuthenticated(session, &mechanism, mac, rsa, extra, 4, out, length);
}

static CK_RV unwrap(CK_MECHANISM_TYPE type, void *parameter, size_t size)
{
    CK_MECHANISM mechanism = {type, parameter, size};
    CK_OBJECT_HANDLE made;
    return C_UnwrapKeyAuthenticated(session, &mechanism, mac, wrapped, 16, NULL, 0, extra, 4,
                                    &made);
}

/* The associated data go where C_WrapKey has them, and a nonce is told once it was used. */
static void test_authenticated_wrapping(void)
{
    CK_ULONG length = 0;
    CHECK_RV(CKR_OK, wrap(CKM_AES_GCM, &gcm, sizeof gcm, NULL, &length));
    CHECK(length == 16);
    CHECK_RV(CKR_OK, wrap(CKM_AES_GCM, &gcm, sizeof gcm, wrapped, &length));
    CHECK(memcmp(wrapped, "a first iv..more", 16) == 0);
    CHECK_RV(CKR_OK, wrap(CKM_AES_CCM, &ccm, sizeof ccm, wrapped, &length));
    CHECK(memcmp(wrapped, "a first iv..more", 16) == 0);
    CHECK_RV(CKR_OK, wrap(CKM_AES_GCM, &gcm_wrap, sizeof gcm_wrap, NULL, &length));
    length = 15;
    CHECK_RV(CKR_BUFFER_TOO_SMALL,
             wrap(CKM_AES_GCM, &gcm_wrap, sizeof gcm_wrap, wrapped, &length));
    CHECK(length == 16 && memcmp(iv, "a first iv..", 12) == 0);
    CHECK_RV(CKR_OK, wrap(CKM_AES_GCM, &gcm_wrap, sizeof gcm_wrap, wrapped, &length));
    CHECK(memcmp(iv, "a fi", 4) == 0 && memcmp(iv, "a first iv..", 12) != 0);
    CHECK(memcmp(wrapped, iv, 12) == 0);
    CHECK_RV(CKR_OK, wrap(CKM_AES_CCM, &ccm_wrap, sizeof ccm_wrap, wrapped, &length));
    CHECK(memcmp(iv, "a fi", 4) != 0 && memcmp(wrapped, iv, 12) == 0);
    uint8_t before[12];
    memcpy(before, iv, 12);
    CHECK_RV(CKR_OK, unwrap(CKM_AES_GCM, &gcm, sizeof gcm));
    CHECK_RV(CKR_OK, unwrap(CKM_AES_GCM, &gcm_wrap, sizeof gcm_wrap));
    CHECK_RV(CKR_OK, unwrap(CKM_AES_CCM, &ccm_wrap, sizeof ccm_wrap));
    CHECK(memcmp(before, iv, 12) == 0); /* who unwraps generates nothing */
}

static void test_hostile_wrapping(void)
{
    CK_ULONG length = sizeof wrapped;
    CK_GCM_PARAMS bad = gcm;
    CHECK_RV(CKR_ARGUMENTS_BAD, C_WrapKeyAuthenticated(session, NULL, mac, rsa, extra, 4, wrapped,
                                                       &length));
    CHECK_RV(CKR_ARGUMENTS_BAD, wrap(CKM_AES_GCM, NULL, sizeof gcm, wrapped, &length));
    CHECK_RV(CKR_ARGUMENTS_BAD, wrap(CKM_AES_GCM, &gcm, sizeof gcm, wrapped, NULL));
    CHECK_RV(CKR_MECHANISM_INVALID, wrap(CKM_AES_KEY_WRAP, NULL, 0, wrapped, &length));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, wrap(CKM_AES_GCM, NULL, 0, wrapped, &length));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, wrap(CKM_AES_GCM, &gcm, 47, wrapped, &length));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, wrap(CKM_AES_CCM, &ccm, ~0UL, wrapped, &length));
    bad.pAAD = extra; /* in both places */
    bad.ulAADLen = 4;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, wrap(CKM_AES_GCM, &bad, sizeof bad, wrapped, &length));
    bad = gcm;
    bad.pIv = NULL;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, wrap(CKM_AES_GCM, &bad, sizeof bad, wrapped, &length));
    bad = gcm;
    bad.ulIvLen = ~0UL;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, unwrap(CKM_AES_GCM, &bad, sizeof bad));
    CK_MECHANISM good = {CKM_AES_GCM, &gcm, sizeof gcm};
    CHECK_RV(CKR_ARGUMENTS_BAD,
             C_WrapKeyAuthenticated(session, &good, mac, rsa, NULL, 4, wrapped, &length));
    CHECK_RV(CKR_WRAPPING_KEY_HANDLE_INVALID,
             C_WrapKeyAuthenticated(session, &good, 0, rsa, NULL, 0, wrapped, &length));
    CHECK_RV(CKR_KEY_HANDLE_INVALID,
             C_WrapKeyAuthenticated(session, &good, mac, 0, NULL, 0, wrapped, &length));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_UnwrapKeyAuthenticated(session, &good, mac, NULL, 16, NULL, 0,
                                                         NULL, 0, &mac));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_UnwrapKeyAuthenticated(session, &good, mac, wrapped, 16, NULL, 0,
                                                         extra, ~0UL, &mac));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_UnwrapKeyAuthenticated(session, &good, mac, wrapped, 16, NULL, 0,
                                                         NULL, 0, NULL));
}

static void test_asynchronous(void)
{
    CK_SESSION_HANDLE other;
    CK_UTF8CHAR name[] = "C_Sign";
    CK_ASYNC_DATA result;
    CK_FLAGS flags = 7;
    CK_ULONG id;
    CHECK_RV(CKR_SESSION_ASYNC_NOT_SUPPORTED,
             C_OpenSession(0, CKF_SERIAL_SESSION | CKF_ASYNC_SESSION, NULL, NULL, &other));
    CHECK_RV(CKR_SESSION_ASYNC_NOT_SUPPORTED, C_AsyncComplete(session, name, &result));
    CHECK_RV(CKR_SESSION_ASYNC_NOT_SUPPORTED, C_AsyncGetID(session, name, &id));
    CHECK_RV(CKR_SESSION_ASYNC_NOT_SUPPORTED, C_AsyncJoin(session, name, 1, data, 5));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_AsyncComplete(session, NULL, NULL));
    CHECK_RV(CKR_SESSION_HANDLE_INVALID, C_AsyncGetID(0, name, &id));
    CHECK_RV(CKR_OK, C_GetSessionValidationFlags(session, CKS_LAST_VALIDATION_OK, &flags));
    CHECK(flags == 0);
    CHECK_RV(CKR_ARGUMENTS_BAD, C_GetSessionValidationFlags(session, 2, &flags));
    CHECK_RV(CKR_ARGUMENTS_BAD,
             C_GetSessionValidationFlags(session, CKS_LAST_VALIDATION_OK, NULL));
}

static void run(void (*test)(void))
{
    fake_reset();
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    session = fake_session(0);
    mac = fake_find(session, FAKE_MAC);
    rsa = fake_find(session, FAKE_RSA);
    test();
    CHECK_RV(CKR_OK, C_Finalize(NULL));
    CHECK_RV(CKR_CRYPTOKI_NOT_INITIALIZED, C_VerifySignatureFinal(session));
}

int main(void)
{
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 131 + i / 251);
    run(test_verify_signature);
    run(test_kinds_of_verification);
    run(test_hostile_verification);
    run(test_encapsulation);
    run(test_hostile_encapsulation);
    run(test_authenticated_wrapping);
    run(test_hostile_wrapping);
    run(test_asynchronous);
    return 0;
}
