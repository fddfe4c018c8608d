/* test_dual.c - two operations in one call: both see the plaintext, or neither goes on. */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "check.h"
#include "fake_worker.h"
#include "operations.h"

static CK_MECHANISM sha256 = {CKM_SHA256, NULL, 0}, ecb = {CKM_AES_ECB, NULL, 0},
                    hmac = {CKM_SHA256_HMAC, NULL, 0};
static CK_SESSION_HANDLE session;
static CK_OBJECT_HANDLE aes, mac;
static uint8_t plain[64], sealed[64], place[64];

static void begin(bool encrypt, bool digest, bool sign, bool verify)
{
    CHECK_RV(CKR_OK, encrypt ? C_EncryptInit(session, &ecb, aes)
                             : C_DecryptInit(session, &ecb, aes));
    if (digest)
        CHECK_RV(CKR_OK, C_DigestInit(session, &sha256));
    if (sign)
        CHECK_RV(CKR_OK, C_SignInit(session, &hmac, mac));
    if (verify)
        CHECK_RV(CKR_OK, C_VerifyInit(session, &hmac, mac));
}

static void check_digest(const void *data, size_t length)
{
    uint8_t right[32], made[32];
    CK_ULONG made_length = sizeof made;
    EVP_Digest(data, length, right, NULL, EVP_sha256(), NULL);
    CHECK_RV(CKR_OK, C_DigestFinal(session, made, &made_length));
    CHECK(memcmp(made, right, sizeof right) == 0);
}

static void right_mac(uint8_t *out)
{
    HMAC(EVP_sha256(), "0123456789abcdef0123456789abcde", 32, plain, sizeof plain, out, NULL);
}

static void test_each_sees_the_plaintext(void)
{
    uint8_t right[32], made[32];
    CK_ULONG length = sizeof place;
    begin(true, true, false, false);
    memcpy(place, plain, sizeof plain); /* in place */
    CHECK_RV(CKR_OK, C_DigestEncryptUpdate(session, place, sizeof place, place, &length));
    CHECK(length == sizeof sealed && memcmp(place, sealed, sizeof sealed) == 0);
    check_digest(plain, sizeof plain);
    begin(false, true, false, false);
    CHECK_RV(CKR_OK, C_DecryptDigestUpdate(session, place, sizeof place, place, &length));
    CHECK(memcmp(place, plain, sizeof plain) == 0);
    check_digest(plain, sizeof plain);
    CHECK_RV(CKR_OK, C_SessionCancel(session, CKF_ENCRYPT | CKF_DECRYPT));
    begin(true, false, true, false);
    CHECK_RV(CKR_OK, C_SignEncryptUpdate(session, place, sizeof place, place, &length));
    CHECK(memcmp(place, sealed, sizeof sealed) == 0);
    right_mac(right);
    length = sizeof made;
    CHECK_RV(CKR_OK, C_SignFinal(session, made, &length));
    CHECK(memcmp(made, right, sizeof right) == 0);
    begin(false, false, false, true);
    length = sizeof place;
    CHECK_RV(CKR_OK, C_DecryptVerifyUpdate(session, place, sizeof place, place, &length));
    CHECK(memcmp(place, plain, sizeof plain) == 0);
    CHECK_RV(CKR_OK, C_VerifyFinal(session, right, sizeof right));
}

/* A length and a short buffer take nothing in. */
static void test_too_small_a_buffer(void)
{
    CK_ULONG length = 0;
    begin(true, true, false, false);
    CHECK_RV(CKR_OK, C_DigestEncryptUpdate(session, plain, 32, NULL, &length));
    CHECK(length == 32);
    length = 31;
    CHECK_RV(CKR_BUFFER_TOO_SMALL, C_DigestEncryptUpdate(session, plain, 32, place, &length));
    CHECK(length == 32 && fake.calls[CV_ENCRYPT] == 0);
    CHECK_RV(CKR_OK, C_DigestEncryptUpdate(session, plain, 32, place, &length));
    CHECK(memcmp(place, sealed, 32) == 0);
    check_digest(plain, 32);
    begin(false, true, false, false);
    length = 15;
    CHECK_RV(CKR_BUFFER_TOO_SMALL, C_DecryptDigestUpdate(session, sealed, 16, place, &length));
    CHECK(fake.calls[CV_DECRYPT] == 0);
    CHECK_RV(CKR_OK, C_DecryptDigestUpdate(session, sealed, 16, place, &length));
    check_digest(plain, 16);
}

/* Without one of the two the other takes nothing in, and goes on. */
static void test_both_must_be_active(void)
{
    CK_ULONG length = sizeof place;
    CHECK_RV(CKR_OK, C_DigestInit(session, &sha256));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED,
             C_DigestEncryptUpdate(session, plain, 16, place, &length));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED,
             C_DecryptDigestUpdate(session, sealed, 16, place, &length));
    check_digest("", 0);
    CHECK_RV(CKR_OK, C_EncryptInit(session, &ecb, aes));
    CHECK_RV(CKR_OK, C_DecryptInit(session, &ecb, aes));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED,
             C_DigestEncryptUpdate(session, plain, 16, place, &length));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED,
             C_SignEncryptUpdate(session, plain, 16, place, &length));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED,
             C_DecryptDigestUpdate(session, sealed, 16, place, &length));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED,
             C_DecryptVerifyUpdate(session, sealed, 16, place, &length));
    CHECK(fake.calls[CV_ENCRYPT] == 0 && fake.calls[CV_DECRYPT] == 0);
    CHECK_RV(CKR_OK, C_Encrypt(session, plain, 16, place, &length));
}

/* C_VerifySignatureInit's operation knows its own functions only. */
static void test_a_bound_verification_is_another(void)
{
    uint8_t right[32];
    CK_ULONG length = sizeof place;
    right_mac(right);
    CHECK_RV(CKR_OK, C_DecryptInit(session, &ecb, aes));
    CHECK_RV(CKR_OK, C_VerifySignatureInit(session, &hmac, mac, right, sizeof right));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED,
             C_DecryptVerifyUpdate(session, sealed, 16, place, &length));
    CHECK(fake.calls[CV_DECRYPT] == 0);
    CHECK_RV(CKR_OK, C_VerifySignature(session, plain, sizeof plain));
}

static void test_hostile_arguments(void)
{
    CK_ULONG length = sizeof place;
    begin(true, true, true, true);
    CHECK_RV(CKR_OK, C_DecryptInit(session, &ecb, aes));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_DigestEncryptUpdate(session, plain, 16, place, NULL));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_DigestEncryptUpdate(session, NULL, 16, place, &length));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_SignEncryptUpdate(session, plain, ~0UL, place, &length));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_DecryptVerifyUpdate(session, NULL, 16, place, &length));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_DecryptDigestUpdate(session, sealed, ~0UL, place, &length));
    CHECK_RV(CKR_SESSION_HANDLE_INVALID,
             C_DigestEncryptUpdate(0, plain, 16, place, &length));
    CHECK(fake.calls[CV_ENCRYPT] == 0 && fake.calls[CV_DECRYPT] == 0);
}

/* What a worker refuses ends the operation that asked it; the plaintext had been taken in. */
static void test_a_refusal_of_the_worker(void)
{
    CK_ULONG length = sizeof place;
    begin(true, true, false, false);
    fake.refuse[CV_ENCRYPT] = CKR_DEVICE_ERROR;
    CHECK_RV(CKR_DEVICE_ERROR, C_DigestEncryptUpdate(session, plain, 16, place, &length));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED,
             C_EncryptUpdate(session, plain, 16, place, &length));
    check_digest(plain, 16);
    begin(false, true, false, false);
    fake.refuse[CV_DECRYPT] = CKR_DEVICE_ERROR;
    CHECK_RV(CKR_DEVICE_ERROR, C_DecryptDigestUpdate(session, sealed, 16, place, &length));
    check_digest("", 0);
}

static void run(void (*test)(void))
{
    fake_reset();
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    session = fake_session(0);
    aes = fake_find(session, FAKE_AES);
    mac = fake_find(session, FAKE_MAC);
    test();
    CHECK_RV(CKR_OK, C_Finalize(NULL));
}

static void seal(void)
{
    CK_ULONG length = sizeof sealed;
    CHECK_RV(CKR_OK, C_EncryptInit(session, &ecb, aes));
    CHECK_RV(CKR_OK, C_Encrypt(session, plain, sizeof plain, sealed, &length));
}

int main(void)
{
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)(i * 131 + 7);
    run(seal);
    run(test_each_sees_the_plaintext);
    run(test_too_small_a_buffer);
    run(test_both_must_be_active);
    run(test_a_bound_verification_is_another);
    run(test_hostile_arguments);
    run(test_a_refusal_of_the_worker);
    return 0;
}
