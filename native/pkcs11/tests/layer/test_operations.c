/* test_operations.c - signing, ciphers and digests, whole and in parts. */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "check.h"
#include "fake_worker.h"
#include "operations.h"

#define BIG (900u * 1024u)

static uint8_t iv[16] = "an initial block";
static CK_AES_CTR_PARAMS counter = {.ulCounterBits = 64, .cb = "\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0"};
static CK_GCM_PARAMS gcm = {.pIv = iv, .ulIvLen = 12, .ulTagBits = 128};
static CK_MECHANISM ecb = {CKM_AES_ECB, NULL, 0}, cbc = {CKM_AES_CBC, iv, 16},
                    cbc_pad = {CKM_AES_CBC_PAD, iv, 16},
                    ctr = {CKM_AES_CTR, &counter, sizeof counter},
                    aead = {CKM_AES_GCM, &gcm, sizeof gcm};
static uint8_t data[BIG], whole[BIG + 64], parts[BIG + 64];
static CK_SESSION_HANDLE session;
static CK_OBJECT_HANDLE aes, mac, rsa, ec;

static size_t encrypt_whole(CK_MECHANISM *mechanism, size_t length)
{
    CK_ULONG out_length = sizeof whole;
    CHECK_RV(CKR_OK, C_EncryptInit(session, mechanism, aes));
    CHECK_RV(CKR_OK, C_Encrypt(session, data, length, whole, &out_length));
    return out_length;
}

/* In parts of the given sizes, over and over; in place, since the standard allows it. */
static size_t crypt_parts(bool encrypt, size_t length, const size_t *sizes)
{
    size_t in = 0, out = 0;
    static uint8_t place[BIG + 64];
    for (size_t i = 0; in < length; i = sizes[i + 1] == 0 ? 0 : i + 1) {
        size_t now = sizes[i] < length - in ? sizes[i] : length - in;
        CK_ULONG given = sizeof place;
        memcpy(place, parts + in, now);
        CHECK_RV(CKR_OK, encrypt ? C_EncryptUpdate(session, place, now, place, &given)
                                 : C_DecryptUpdate(session, place, now, place, &given));
        CHECK(out + given <= in + now + 16);
        memcpy(parts + out, place, given);
        out += given;
        in += now;
    }
    CK_ULONG given = sizeof parts - out;
    CHECK_RV(CKR_OK, encrypt ? C_EncryptFinal(session, parts + out, &given)
                             : C_DecryptFinal(session, parts + out, &given));
    return out + given;
}

static void check_cipher(CK_MECHANISM *mechanism, size_t length, const size_t *sizes)
{
    size_t expected = encrypt_whole(mechanism, length);
    CHECK_RV(CKR_OK, C_EncryptInit(session, mechanism, aes));
    memcpy(parts, data, length);
    CHECK(crypt_parts(true, length, sizes) == expected);
    CHECK(memcmp(parts, whole, expected) == 0);
    CHECK_RV(CKR_OK, C_DecryptInit(session, mechanism, aes));
    CHECK(crypt_parts(false, expected, sizes) == length);
    CHECK(memcmp(parts, data, length) == 0);
    CHECK_RV(CKR_OK, C_DecryptInit(session, mechanism, aes));
    CK_ULONG plain = expected; /* in place */
    CHECK_RV(CKR_OK, C_Decrypt(session, whole, expected, whole, &plain));
    CHECK(plain == length && memcmp(whole, data, length) == 0);
}

static void test_ciphers(void)
{
    const size_t odd[] = {1, 15, 16, 17, 31, 100, 0}, large[] = {300007, 5, 0};
    for (size_t length = 0; length < 100; length++) {
        if (length % 16 == 0) {
            check_cipher(&ecb, length, odd);
            check_cipher(&cbc, length, odd);
        }
        check_cipher(&cbc_pad, length, odd);
        check_cipher(&ctr, length, odd);
        check_cipher(&aead, length, odd);
    }
    check_cipher(&cbc, BIG - BIG % 16, large);
    check_cipher(&cbc_pad, BIG - 3, large);
    check_cipher(&ctr, BIG - 3, large);
    check_cipher(&aead, BIG - 3, large);
}

static void test_lengths(void)
{
    CK_ULONG length = 0;
    CHECK_RV(CKR_OK, C_EncryptInit(session, &cbc_pad, aes));
    CHECK_RV(CKR_OK, C_Encrypt(session, data, 16, NULL, &length));
    CHECK(length == 32);
    length = 31;
    CHECK_RV(CKR_BUFFER_TOO_SMALL, C_Encrypt(session, data, 16, whole, &length));
    CHECK(length == 32 && fake.calls[CV_ENCRYPT] == 0); /* no round trip for a length */
    CHECK_RV(CKR_OK, C_Encrypt(session, data, 16, whole, &length));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_Encrypt(session, data, 16, whole, &length));
    CHECK_RV(CKR_OK, C_DecryptInit(session, &cbc_pad, aes));
    length = 3; /* how long the plaintext is shows only when it is there */
    CHECK_RV(CKR_BUFFER_TOO_SMALL, C_Decrypt(session, whole, 32, parts, &length));
    CHECK(length == 16);
    CHECK_RV(CKR_OK, C_Decrypt(session, whole, 32, parts, &length));
    CHECK_RV(CKR_OK, C_EncryptInit(session, &cbc, aes));
    CHECK_RV(CKR_DATA_LEN_RANGE, C_Encrypt(session, data, 15, whole, &length));
    CHECK_RV(CKR_OK, C_DecryptInit(session, &cbc, aes));
    CHECK_RV(CKR_ENCRYPTED_DATA_LEN_RANGE, C_Decrypt(session, data, 15, whole, &length));
    CHECK_RV(CKR_OK, C_DecryptInit(session, &aead, aes));
    CHECK_RV(CKR_ENCRYPTED_DATA_LEN_RANGE, C_Decrypt(session, data, 15, whole, &length));
    CHECK_RV(CKR_OK, C_EncryptInit(session, &cbc, aes));
    CHECK_RV(CKR_OK, C_EncryptUpdate(session, data, 15, whole, &length));
    CHECK(length == 0);
    length = sizeof whole;
    CHECK_RV(CKR_OPERATION_ACTIVE, C_Encrypt(session, data, 16, whole, &length));
    CHECK_RV(CKR_OK, C_EncryptInit(session, &cbc, aes));
    CHECK_RV(CKR_OK, C_EncryptUpdate(session, data, 15, whole, &length));
    CHECK_RV(CKR_DATA_LEN_RANGE, C_EncryptFinal(session, whole, &length));
}

static void test_counter_runs_out(void)
{
    counter.ulCounterBits = 8; /* 256 blocks, begun at 0xf0 */
    counter.cb[15] = 0xf0;
    CK_ULONG length = sizeof whole;
    CHECK_RV(CKR_OK, C_EncryptInit(session, &ctr, aes));
    CHECK_RV(CKR_OK, C_EncryptUpdate(session, data, 250, whole, &length));
    length = sizeof whole;
    CHECK_RV(CKR_OK, C_EncryptUpdate(session, data, 6, whole, &length));
    length = sizeof whole;
    CHECK_RV(CKR_DATA_LEN_RANGE, C_EncryptUpdate(session, data, 1, whole, &length));
    counter.ulCounterBits = 64;
}

static void test_hostile_arguments(void)
{
    CK_ULONG length = sizeof whole;
    CK_MECHANISM unknown = {CKM_DES_CBC, iv, 8}, hash = {CKM_SHA256, NULL, 0};
    CHECK_RV(CKR_ARGUMENTS_BAD, C_EncryptInit(session, NULL, aes));
    CHECK_RV(CKR_MECHANISM_INVALID, C_EncryptInit(session, &unknown, aes));
    CHECK_RV(CKR_MECHANISM_INVALID, C_SignInit(session, &cbc, aes));
    CHECK_RV(CKR_KEY_HANDLE_INVALID, C_EncryptInit(session, &cbc, 0));
    CHECK_RV(CKR_KEY_TYPE_INCONSISTENT, C_EncryptInit(session, &cbc, rsa));
    CHECK_RV(CKR_SESSION_HANDLE_INVALID, C_EncryptInit(0, &cbc, aes));
    CHECK_RV(CKR_OK, C_EncryptInit(session, &cbc, aes));
    CHECK_RV(CKR_OPERATION_ACTIVE, C_EncryptInit(session, &cbc, aes));
    CHECK_RV(CKR_OK, C_EncryptInit(session, NULL, 0)); /* ends it */
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_Encrypt(session, data, 16, whole, &length));
    CHECK_RV(CKR_OK, C_EncryptInit(session, &cbc, aes));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_Encrypt(session, NULL, 16, whole, &length));
    CHECK_RV(CKR_OK, C_EncryptInit(session, &cbc, aes));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_Encrypt(session, data, ~0UL, whole, &length));
    CHECK_RV(CKR_OK, C_EncryptInit(session, &cbc, aes));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_EncryptUpdate(session, data, ~0UL - 15, whole, &length));
    CHECK_RV(CKR_OK, C_EncryptInit(session, &cbc, aes));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_Encrypt(session, data, 16, whole, NULL));
    CHECK_RV(CKR_OK, C_EncryptInit(session, &aead, aes));
    CHECK_RV(CKR_DATA_LEN_RANGE, C_Encrypt(session, data, 1UL << 40, whole, &length));
    CHECK_RV(CKR_OK, C_DigestInit(session, &hash));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_Digest(session, data, ~0UL, whole, &length));
    CHECK_RV(CKR_OK, C_SignInit(session, &(CK_MECHANISM){CKM_ECDSA_SHA256, NULL, 0}, ec));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_Sign(session, NULL, 5, whole, &length));
    CHECK_RV(CKR_OK, C_VerifyInit(session, &(CK_MECHANISM){CKM_ECDSA_SHA256, NULL, 0}, ec));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_Verify(session, data, 5, NULL, 132));
    CHECK_RV(CKR_OK, C_VerifyInit(session, &(CK_MECHANISM){CKM_ECDSA_SHA256, NULL, 0}, ec));
    CHECK_RV(CKR_SIGNATURE_LEN_RANGE, C_Verify(session, data, 5, whole, ~0UL));
}

static void test_hashed_signature(void)
{
    CK_MECHANISM mechanism = {CKM_SHA256_RSA_PKCS, NULL, 0};
    uint8_t one[256], other[256], digest[32];
    CK_ULONG length = 0;
    EVP_Digest(data, 1000, digest, NULL, EVP_sha256(), NULL);
    CHECK_RV(CKR_OK, C_SignInit(session, &mechanism, rsa));
    CHECK_RV(CKR_OK, C_Sign(session, data, 1000, NULL, &length));
    CHECK(length == 256);
    length = 255;
    CHECK_RV(CKR_BUFFER_TOO_SMALL, C_Sign(session, data, 1000, one, &length));
    CHECK(fake.calls[CV_SIGN] == 0);
    CHECK_RV(CKR_OK, C_Sign(session, data, 1000, one, &length));
    CHECK(one[0] == 1 && memcmp(one + 1, digest, 32) == 0); /* prehashed, the digest went out */
    CHECK_RV(CKR_OK, C_SignInit(session, &mechanism, rsa));
    CHECK_RV(CKR_OK, C_SignUpdate(session, data, 400));
    CHECK_RV(CKR_OK, C_SignUpdate(session, NULL, 0));
    CHECK_RV(CKR_OK, C_SignUpdate(session, data + 400, 600));
    CHECK_RV(CKR_OK, C_SignFinal(session, NULL, &length));
    CHECK_RV(CKR_OK, C_SignFinal(session, other, &length));
    CHECK(memcmp(one, other, 256) == 0);
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_SignFinal(session, other, &length));
    CHECK_RV(CKR_OK, C_VerifyInit(session, &mechanism, rsa));
    CHECK_RV(CKR_OK, C_Verify(session, data, 1000, one, 256));
    CHECK_RV(CKR_OK, C_VerifyInit(session, &mechanism, rsa));
    CHECK_RV(CKR_OK, C_VerifyUpdate(session, data, 1000));
    CHECK_RV(CKR_OK, C_VerifyFinal(session, one, 256));
    one[100] ^= 1;
    CHECK_RV(CKR_OK, C_VerifyInit(session, &mechanism, rsa));
    CHECK_RV(CKR_SIGNATURE_INVALID, C_Verify(session, data, 1000, one, 256));
    CHECK_RV(CKR_OK, C_VerifyInit(session, &mechanism, rsa));
    CHECK_RV(CKR_SIGNATURE_LEN_RANGE, C_Verify(session, data, 1000, one, 255));
}

static void test_collected_mac(void)
{
    CK_MECHANISM mechanism = {CKM_SHA256_HMAC, NULL, 0};
    uint8_t expected[32], made[32];
    CK_ULONG length = sizeof made;
    HMAC(EVP_sha256(), "0123456789abcdef0123456789abcde", 32, data, 1000, expected, NULL);
    CHECK_RV(CKR_OK, C_SignInit(session, &mechanism, mac));
    for (unsigned i = 0; i < 10; i++)
        CHECK_RV(CKR_OK, C_SignUpdate(session, data + 100 * i, 100));
    CHECK_RV(CKR_OK, C_SignFinal(session, made, &length));
    CHECK(length == 32 && memcmp(made, expected, 32) == 0);
    CHECK_RV(CKR_OK, C_SignInit(session, &mechanism, mac));
    CHECK_RV(CKR_OK, C_SignUpdate(session, data, BIG));
    CHECK_RV(CKR_DATA_LEN_RANGE, C_SignUpdate(session, data, BIG));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_SignFinal(session, made, &length));
    /* Raw mechanisms have no parts in the standard; collecting them harms nobody. */
    CHECK_RV(CKR_OK, C_SignInit(session, &(CK_MECHANISM){CKM_ECDSA, NULL, 0}, ec));
    CHECK_RV(CKR_OK, C_SignUpdate(session, data, 32));
    length = sizeof whole;
    CHECK_RV(CKR_OK, C_SignFinal(session, whole, &length));
    CHECK(length == 132);
}

/* A remembered "no" is asked again; a remembered "yes" costs nothing. */
static void test_key_info(void)
{
    CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};
    uint8_t made[132];
    CK_ULONG length = sizeof made;
    fake.usage = CKF_VERIFY;
    CHECK_RV(CKR_KEY_FUNCTION_NOT_PERMITTED, C_SignInit(session, &mechanism, ec));
    fake.usage = CKF_SIGN;
    CHECK_RV(CKR_OK, C_SignInit(session, &mechanism, ec));
    CHECK_RV(CKR_OK, C_Sign(session, data, 32, made, &length));
    unsigned asked = fake.calls[CV_KEY_INFO], signatures = fake.calls[CV_SIGN];
    for (unsigned i = 0; i < 10; i++) {
        CHECK_RV(CKR_OK, C_SignInit(session, &mechanism, ec));
        CHECK_RV(CKR_OK, C_Sign(session, data, 32, made, &length));
    }
    CHECK(fake.calls[CV_KEY_INFO] == asked && fake.calls[CV_SIGN] == signatures + 10);
}

/* What the worker would refuse in C_Sign comes in C_SignInit, and costs nothing where it is not. */
static void test_refusals(void)
{
    CK_MECHANISM raw = {CKM_ECDSA, NULL, 0}, hashed = {CKM_ECDSA_SHA256, NULL, 0};
    const unsigned long refusal[] = {CKM_ECDSA_SHA256, CKF_SIGN, CKR_KEY_SIZE_RANGE};
    uint8_t made[132];
    CK_ULONG length = sizeof made;
    memcpy(fake.refused, refusal, sizeof refusal);
    fake.refused_count = 2;
    CHECK_RV(CKR_KEY_SIZE_RANGE, C_SignInit(session, &hashed, ec));
    unsigned asked = fake.calls[CV_KEY_INFO];
    CHECK_RV(CKR_OK, C_VerifyInit(session, &hashed, ec));
    CHECK_RV(CKR_OK, C_SignInit(session, &raw, ec));
    CHECK_RV(CKR_OK, C_Sign(session, data, 32, made, &length));
    CHECK(fake.calls[CV_KEY_INFO] == asked);
    fake.refused_count = 0; /* a setting was changed: what was remembered does not forbid */
    CHECK_RV(CKR_OK, C_SignInit(session, &hashed, ec));
    CHECK(fake.calls[CV_KEY_INFO] == asked + 1);
}

static void test_hostile_refusals(void)
{
    CK_MECHANISM hashed = {CKM_ECDSA_SHA256, NULL, 0};
    const unsigned long nothing[] = {CKM_ECDSA_SHA256, CKF_SIGN, CKR_OK};
    fake.refused_count = 257;
    CHECK_RV(CKR_DEVICE_ERROR, C_SignInit(session, &hashed, ec));
    memcpy(fake.refused, nothing, sizeof nothing);
    fake.refused_count = 1;
    CHECK_RV(CKR_DEVICE_ERROR, C_SignInit(session, &hashed, ec));
    fake.refused_count = 0;
    CHECK_RV(CKR_OK, C_SignInit(session, &hashed, ec));
}

static void test_digest(void)
{
    CK_MECHANISM mechanism = {CKM_SHA512, NULL, 0};
    uint8_t expected[64], made[64];
    CK_ULONG length = 0;
    EVP_Digest(data, 1000, expected, NULL, EVP_sha512(), NULL);
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_DigestFinal(session, made, &length));
    CHECK_RV(CKR_OK, C_DigestInit(session, &mechanism));
    CHECK_RV(CKR_OPERATION_ACTIVE, C_DigestInit(session, &mechanism));
    CHECK_RV(CKR_BUFFER_TOO_SMALL, C_Digest(session, data, 1000, made, &length));
    CHECK(length == 64);
    CHECK_RV(CKR_OK, C_Digest(session, data, 1000, made, &length));
    CHECK(memcmp(made, expected, 64) == 0);
    CHECK_RV(CKR_OK, C_DigestInit(session, &mechanism));
    CHECK_RV(CKR_OK, C_DigestUpdate(session, data, 999));
    CHECK_RV(CKR_OK, C_DigestUpdate(session, data + 999, 1));
    CHECK_RV(CKR_OK, C_DigestFinal(session, NULL, &length));
    CHECK_RV(CKR_OK, C_DigestFinal(session, made, &length));
    CHECK(memcmp(made, expected, 64) == 0);
    CHECK_RV(CKR_OK, C_DigestInit(session, &mechanism));
    CHECK_RV(CKR_OK, C_SessionCancel(session, CKF_DIGEST));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_DigestUpdate(session, data, 1));
}

static void test_random(void)
{
    memset(whole, 7, 200000);
    CHECK_RV(CKR_OK, C_GenerateRandom(session, whole, 150000));
    CHECK(whole[0] == 0 && whole[149999] == 0 && whole[150000] == 7);
    CHECK(fake.calls[CV_RANDOM] == 3);
    CHECK_RV(CKR_ARGUMENTS_BAD, C_GenerateRandom(session, NULL, 5));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_GenerateRandom(session, whole, ~0UL));
    CHECK_RV(CKR_RANDOM_SEED_NOT_SUPPORTED, C_SeedRandom(session, whole, 5));
}

static void run(void (*test)(void))
{
    fake_reset();
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    session = fake_session(0);
    aes = fake_find(session, FAKE_AES);
    mac = fake_find(session, FAKE_MAC);
    rsa = fake_find(session, FAKE_RSA);
    ec = fake_find(session, FAKE_EC);
    test();
    CHECK_RV(CKR_OK, C_Finalize(NULL));
}

int main(void)
{
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 131 + i / 251);
    run(test_ciphers);
    run(test_lengths);
    run(test_counter_runs_out);
    run(test_hostile_arguments);
    run(test_hashed_signature);
    run(test_refusals);
    run(test_hostile_refusals);
    run(test_collected_mac);
    run(test_key_info);
    run(test_digest);
    run(test_random);
    return 0;
}
