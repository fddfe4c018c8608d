/* test_messages.c - encryption and signatures of messages, whole and in parts. */
#include <string.h>

#include "check.h"
#include "fake_worker.h"
#include "operations.h"

#define BIG (900u * 1024u)

static uint8_t iv[12] = "a first iv..", tag[16], extra[20] = "associated data";
static CK_GCM_MESSAGE_PARAMS gcm = {iv, 12, 0, CKG_NO_GENERATE, tag, 128};
static CK_MECHANISM aead = {CKM_AES_GCM, NULL, 0}, cbc = {CKM_AES_CBC, iv, 12};
static CK_MECHANISM hashed = {CKM_SHA256_RSA_PKCS, NULL, 0}, hmac = {CKM_SHA256_HMAC, NULL, 0};
static CK_MECHANISM gmac = {CKM_AES_GMAC, iv, 12};
static uint8_t data[BIG], sealed[BIG], opened[BIG];
static CK_SESSION_HANDLE session;
static CK_OBJECT_HANDLE aes, mac, rsa;

static CK_RV seal(size_t length, CK_ULONG room)
{
    return C_EncryptMessage(session, &gcm, sizeof gcm, extra, sizeof extra, data, length, sealed,
                            &room);
}

static CK_RV open_it(size_t length, CK_ULONG room)
{
    return C_DecryptMessage(session, &gcm, sizeof gcm, extra, sizeof extra, sealed, length, opened,
                            &room);
}

static CK_RV next(bool encrypts, const uint8_t *part, size_t length, uint8_t *out, CK_ULONG *room,
                  CK_FLAGS flags)
{
    uint8_t *in = (uint8_t *)part;
    return encrypts
               ? C_EncryptMessageNext(session, &gcm, sizeof gcm, in, length, out, room, flags)
               : C_DecryptMessageNext(session, &gcm, sizeof gcm, in, length, out, room, flags);
}

static void begin(void)
{
    CHECK_RV(CKR_OK, C_MessageEncryptInit(session, &aead, aes));
    CHECK_RV(CKR_OK, C_MessageDecryptInit(session, &aead, aes));
}

/* What a message gives is what one piece of data gives, the tag apart. */
static void test_whole_messages(void)
{
    CK_GCM_PARAMS plain = {iv, 12, 96, extra, sizeof extra, 128};
    CK_MECHANISM one = {CKM_AES_GCM, &plain, sizeof plain};
    begin();
    for (size_t length = 0; length < 50; length += 7) {
        CK_ULONG room = sizeof opened;
        CHECK_RV(CKR_OK, seal(length, length));
        CHECK_RV(CKR_OK, C_EncryptInit(session, &one, aes));
        CHECK_RV(CKR_OK, C_Encrypt(session, data, length, opened, &room));
        CHECK(room == length + 16 && memcmp(opened, sealed, length) == 0);
        CHECK(memcmp(opened + length, tag, 16) == 0);
        CHECK_RV(CKR_OK, open_it(length, length));
        CHECK(memcmp(opened, data, length) == 0);
    }
    CHECK_RV(CKR_OK, seal(BIG, BIG));
    CHECK_RV(CKR_OK, open_it(BIG, BIG));
    CHECK(memcmp(opened, data, BIG) == 0);
    tag[3] ^= 1;
    CHECK_RV(CKR_AEAD_DECRYPT_FAILED, open_it(BIG, BIG));
    tag[3] ^= 1;
    extra[0] ^= 1;
    CHECK_RV(CKR_AEAD_DECRYPT_FAILED, open_it(BIG, BIG));
    extra[0] ^= 1;
    CHECK_RV(CKR_OK, open_it(BIG, BIG)); /* a wrong message ends itself alone */
    CHECK_RV(CKR_OK, C_MessageEncryptFinal(session));
    CHECK_RV(CKR_OK, C_MessageDecryptFinal(session));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, seal(5, 5));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_MessageEncryptFinal(session));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_MessageDecryptFinal(session));
}

static void send_parts(bool encrypts, const uint8_t *in, uint8_t *out, size_t length)
{
    CK_ULONG room = length;
    for (unsigned i = 0; i < 3; i++) {
        room = length;
        CHECK_RV(CKR_OK, next(encrypts, in + 100 * i, 100, out, &room, 0));
        CHECK(room == 0);
    }
    CK_FLAGS end = CKF_END_OF_MESSAGE;
    CHECK_RV(CKR_OK, next(encrypts, in + 300, length - 300, NULL, &room, end));
    CHECK(room == length);
    room--;
    CHECK_RV(CKR_BUFFER_TOO_SMALL, next(encrypts, in + 300, length - 300, out, &room, end));
    CHECK(room == length);
    CHECK_RV(CKR_OK, next(encrypts, in + 300, length - 300, out, &room, end));
    CHECK(room == length);
}

/* Nothing to be given out is no reason to believe a tag, nor to make none. */
static void test_empty_messages_without_a_place(void)
{
    static const uint8_t none[16];
    CK_ULONG room = 0;
    begin();
    memset(tag, 0, 16);
    CHECK_RV(CKR_OK,
             C_EncryptMessage(session, &gcm, sizeof gcm, extra, 20, NULL, 0, NULL, &room));
    CHECK(room == 0 && memcmp(tag, none, 16) != 0);
    CHECK_RV(CKR_OK,
             C_DecryptMessage(session, &gcm, sizeof gcm, extra, 20, NULL, 0, NULL, &room));
    tag[3] ^= 1;
    CHECK_RV(CKR_AEAD_DECRYPT_FAILED,
             C_DecryptMessage(session, &gcm, sizeof gcm, extra, 20, NULL, 0, NULL, &room));
    CHECK_RV(CKR_OK, C_DecryptMessageBegin(session, &gcm, sizeof gcm, extra, 20));
    CHECK_RV(CKR_AEAD_DECRYPT_FAILED, next(false, NULL, 0, NULL, &room, CKF_END_OF_MESSAGE));
}

static void test_messages_in_parts(void)
{
    uint8_t expected[500], expected_tag[16];
    begin();
    CHECK_RV(CKR_OK, seal(500, 500));
    memcpy(expected, sealed, 500);
    memcpy(expected_tag, tag, 16);
    memset(tag, 0, 16);
    for (unsigned round = 0; round < 2; round++) {
        CHECK_RV(CKR_OK,
                 C_EncryptMessageBegin(session, &gcm, sizeof gcm, extra, sizeof extra));
        CHECK_RV(CKR_OPERATION_ACTIVE, seal(5, 5)); /* and takes nothing away */
        CHECK_RV(CKR_OPERATION_ACTIVE,
                 C_EncryptMessageBegin(session, &gcm, sizeof gcm, extra, sizeof extra));
        send_parts(true, data, sealed, 500);
        CHECK(memcmp(sealed, expected, 500) == 0 && memcmp(tag, expected_tag, 16) == 0);
        CHECK_RV(CKR_OK,
                 C_DecryptMessageBegin(session, &gcm, sizeof gcm, extra, sizeof extra));
        send_parts(false, sealed, opened, 500);
        CHECK(memcmp(opened, data, 500) == 0);
    }
    CK_ULONG room = 500;
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, next(true, data, 5, sealed, &room, 0));
    CHECK_RV(CKR_OK, C_DecryptMessageBegin(session, &gcm, sizeof gcm, extra, sizeof extra));
    tag[0] ^= 1;
    CHECK_RV(CKR_AEAD_DECRYPT_FAILED,
             next(false, sealed, 500, opened, &room, CKF_END_OF_MESSAGE));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, next(false, sealed, 5, opened, &room, 0));
    CHECK_RV(CKR_OK, seal(500, 500));
    CHECK_RV(CKR_OK, open_it(500, 500));
}

static void test_lengths_of_messages(void)
{
    CK_ULONG room = 0;
    begin();
    CHECK_RV(CKR_OK, C_EncryptMessage(session, &gcm, sizeof gcm, NULL, 0, data, 40, NULL, &room));
    CHECK(room == 40);
    gcm.ivGenerator = CKG_GENERATE_COUNTER;
    uint8_t before[12];
    memcpy(before, iv, 12);
    CHECK_RV(CKR_BUFFER_TOO_SMALL, seal(40, 39));
    CHECK(memcmp(before, iv, 12) == 0 && fake.calls[CV_ENCRYPT] == 0);
    gcm.ivGenerator = CKG_NO_GENERATE;
    CHECK_RV(CKR_OK, seal(40, 40));
    CHECK_RV(CKR_BUFFER_TOO_SMALL, open_it(40, 39));
    CHECK_RV(CKR_OK, open_it(40, 40));
    CHECK_RV(CKR_DATA_LEN_RANGE, seal(1UL << 40, 40));
    CHECK_RV(CKR_ENCRYPTED_DATA_LEN_RANGE, open_it(1UL << 40, 40));
    CHECK_RV(CKR_OK, C_EncryptMessageBegin(session, &gcm, sizeof gcm, NULL, 0));
    room = BIG;
    CHECK_RV(CKR_OK, next(true, data, BIG, sealed, &room, 0));
    room = BIG;
    CHECK_RV(CKR_DATA_LEN_RANGE, next(true, data, BIG, sealed, &room, 0));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, next(true, data, 5, sealed, &room, 0));
}

static void generate(CK_GENERATOR_FUNCTION generator, CK_ULONG fixed_bits, uint8_t *made)
{
    gcm.ivGenerator = generator;
    gcm.ulIvFixedBits = fixed_bits;
    memcpy(iv, "a first iv..", 12);
    CHECK_RV(CKR_OK, seal(5, 5));
    memcpy(made, iv, 12);
    gcm.ivGenerator = CKG_NO_GENERATE; /* it is the one that was used */
    CHECK_RV(CKR_OK, open_it(5, 5));
    CHECK(memcmp(opened, data, 5) == 0);
}

static void test_generated_nonces(void)
{
    static const CK_GENERATOR_FUNCTION generators[] = {CKG_GENERATE, CKG_GENERATE_COUNTER,
                                                       CKG_GENERATE_RANDOM};
    uint8_t one[12], other[12];
    begin();
    for (unsigned i = 0; i < 3; i++) {
        generate(generators[i], 0, one);
        generate(generators[i], 0, other);
        CHECK(memcmp(one, other, 12) != 0 && memcmp(one, "a first iv..", 12) != 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        generate(generators[i], 29, one);
        generate(generators[i], 29, other);
        CHECK(memcmp(one, "a f", 3) == 0 && (one[3] ^ 'i') < 8);
        CHECK(memcmp(one + 4, other + 4, 8) != 0);
        CHECK((uint8_t)(one[11] + 1) == other[11]); /* a counter indeed */
    }
    gcm.ivGenerator = CKG_GENERATE_RANDOM;
    gcm.ulIvFixedBits = 1; /* fewer than 96 bits would be left to chance */
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, seal(5, 5));
    gcm.ivGenerator = CKG_GENERATE_COUNTER;
    gcm.ulIvFixedBits = 33;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, seal(5, 5));
    gcm.ulIvFixedBits = ~0UL;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, seal(5, 5));
    gcm.ulIvFixedBits = 0;
    gcm.ivGenerator = CKG_GENERATE_COUNTER_XOR;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, seal(5, 5));
    gcm.ivGenerator = CKG_GENERATE; /* who decrypts generates nothing */
    memcpy(one, iv, 12);
    CHECK_RV(CKR_OK, open_it(5, 5));
    CHECK(memcmp(one, iv, 12) == 0);
    CHECK_RV(CKR_OK, C_EncryptMessageBegin(session, &gcm, sizeof gcm, extra, sizeof extra));
    CHECK(memcmp(one, iv, 12) != 0); /* told at the beginning */
    gcm.ivGenerator = CKG_NO_GENERATE;
}

static void test_two_sessions_share_no_nonce(void)
{
    CK_SESSION_HANDLE first = session, second = fake_session(0);
    uint8_t one[12], other[12];
    begin();
    generate(CKG_GENERATE_COUNTER, 32, one);
    session = second;
    begin();
    generate(CKG_GENERATE_COUNTER, 32, other);
    CHECK(memcmp(one, other, 12) != 0);
    session = first;
    CHECK_RV(CKR_OK, C_MessageEncryptInit(session, NULL, 0));
    CHECK_RV(CKR_OK, C_MessageEncryptInit(session, &aead, aes));
    generate(CKG_GENERATE_COUNTER, 32, one);
    CHECK(memcmp(one, other, 12) != 0);
}

static void test_hostile_messages(void)
{
    CK_ULONG room = sizeof sealed;
    CK_MECHANISM with = {CKM_AES_GCM, &gcm, sizeof gcm}, wrong = {CKM_AES_GCM, &gcm, 3};
    CHECK_RV(CKR_ARGUMENTS_BAD, C_MessageEncryptInit(session, NULL, aes));
    CHECK_RV(CKR_MECHANISM_INVALID, C_MessageEncryptInit(session, &cbc, aes));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, C_MessageEncryptInit(session, &wrong, aes));
    wrong.pParameter = NULL;
    CHECK_RV(CKR_ARGUMENTS_BAD, C_MessageEncryptInit(session, &wrong, aes));
    CHECK_RV(CKR_KEY_HANDLE_INVALID, C_MessageEncryptInit(session, &aead, 0));
    CHECK_RV(CKR_KEY_TYPE_INCONSISTENT, C_MessageEncryptInit(session, &aead, rsa));
    CHECK_RV(CKR_OK, C_MessageEncryptInit(session, &with, aes));
    CHECK_RV(CKR_OPERATION_ACTIVE, C_MessageEncryptInit(session, &aead, aes));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID,
             C_EncryptMessage(session, NULL, 0, NULL, 0, data, 5, sealed, &room));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID,
             C_EncryptMessage(session, &gcm, ~0UL, NULL, 0, data, 5, sealed, &room));
    CHECK_RV(CKR_ARGUMENTS_BAD,
             C_EncryptMessage(session, &gcm, sizeof gcm, NULL, 5, data, 5, sealed, &room));
    CHECK_RV(CKR_ARGUMENTS_BAD,
             C_EncryptMessage(session, &gcm, sizeof gcm, extra, ~0UL, data, 5, sealed, &room));
    CHECK_RV(CKR_ARGUMENTS_BAD,
             C_EncryptMessage(session, &gcm, sizeof gcm, NULL, 0, NULL, 5, sealed, &room));
    CHECK_RV(CKR_ARGUMENTS_BAD,
             C_EncryptMessage(session, &gcm, sizeof gcm, NULL, 0, data, 5, sealed, NULL));
    CK_GCM_MESSAGE_PARAMS good = gcm;
    gcm.pTag = NULL;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, seal(5, 5));
    gcm = good;
    gcm.pIv = NULL;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, seal(5, 5));
    gcm = good;
    gcm.ulIvLen = 257;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, seal(5, 5));
    gcm = good;
    gcm.ulTagBits = 136;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, seal(5, 5));
    gcm = good;
    CHECK_RV(CKR_OK, C_EncryptMessageBegin(session, &gcm, sizeof gcm, NULL, 0));
    CHECK_RV(CKR_ARGUMENTS_BAD, next(true, NULL, 5, sealed, &room, 0));
    CHECK_RV(CKR_ARGUMENTS_BAD, next(true, data, 5, sealed, NULL, 0));
    CHECK_RV(CKR_ARGUMENTS_BAD, next(true, data, 5, sealed, &room, 2));
    gcm.ulTagBits = 96; /* not what it was */
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, next(true, data, 5, sealed, &room, 1));
    gcm = good;
    CHECK_RV(CKR_OK, next(true, data, 5, sealed, &room, 1));
    CHECK(room == 5);
    CHECK_RV(CKR_OK, C_MessageDecryptInit(session, &aead, aes));
    CHECK_RV(CKR_AEAD_DECRYPT_FAILED, open_it(0, 0));
}

static void test_cancelling(void)
{
    CK_ULONG room = 32;
    uint8_t made[32];
    begin();
    CHECK_RV(CKR_OK, C_MessageSignInit(session, &hmac, mac));
    CHECK_RV(CKR_OK, C_MessageVerifyInit(session, &hmac, mac));
    CHECK_RV(CKR_OK, C_EncryptMessageBegin(session, &gcm, sizeof gcm, NULL, 0));
    CHECK_RV(CKR_OK, C_SignMessageBegin(session, NULL, 0));
    CHECK_RV(CKR_OK, C_SessionCancel(session, CKF_MESSAGE_ENCRYPT | CKF_MESSAGE_SIGN));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, next(true, data, 5, sealed, &room, 0));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED,
             C_SignMessage(session, NULL, 0, data, 5, made, &room));
    CHECK_RV(CKR_OK, C_VerifyMessageBegin(session, NULL, 0));
    CHECK_RV(CKR_OK, C_DecryptMessageBegin(session, &gcm, sizeof gcm, NULL, 0));
    CHECK_RV(CKR_OK, C_SessionCancel(session, CKF_MESSAGE_DECRYPT | CKF_MESSAGE_VERIFY));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_MessageDecryptFinal(session));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_MessageVerifyFinal(session));
    begin(); /* and whoever forgets to end them loses no memory */
    CHECK_RV(CKR_OK, C_MessageSignInit(session, &hashed, rsa));
    CHECK_RV(CKR_OK, C_SignMessageBegin(session, NULL, 0));
}

static void check_signature(CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key, CK_ULONG length)
{
    uint8_t made[256], again[256];
    CK_ULONG room = 0;
    CHECK_RV(CKR_OK, C_MessageSignInit(session, mechanism, key));
    CHECK_RV(CKR_OK, C_MessageVerifyInit(session, mechanism, key));
    for (size_t size = 1; size < 1000; size += 333) {
        CHECK_RV(CKR_OK, C_SignMessage(session, NULL, 0, data, size, NULL, &room));
        CHECK(room == length);
        room--;
        CHECK_RV(CKR_BUFFER_TOO_SMALL, C_SignMessage(session, NULL, 0, data, size, made, &room));
        CHECK_RV(CKR_OK, C_SignMessage(session, NULL, 0, data, size, made, &room));
        CHECK_RV(CKR_OK, C_VerifyMessage(session, NULL, 0, data, size, made, length));
        CHECK_RV(CKR_SIGNATURE_INVALID,
                 C_VerifyMessage(session, NULL, 0, data + 1, size, made, length));
        CHECK_RV(CKR_OK, C_SignMessageBegin(session, NULL, 0));
        CHECK_RV(CKR_OPERATION_ACTIVE, C_SignMessageBegin(session, NULL, 0));
        CHECK_RV(CKR_OPERATION_ACTIVE, C_SignMessage(session, NULL, 0, data, 5, again, &room));
        CHECK_RV(CKR_OK, C_SignMessageNext(session, NULL, 0, data, size - 1, NULL, NULL));
        CHECK_RV(CKR_OK, C_SignMessageNext(session, NULL, 0, data + size - 1, 1, NULL, &room));
        CHECK(room == length);
        CHECK_RV(CKR_OK, C_SignMessageNext(session, NULL, 0, data + size - 1, 1, again, &room));
        CHECK(memcmp(made, again, length) == 0);
        CHECK_RV(CKR_OK, C_VerifyMessageBegin(session, NULL, 0));
        CHECK_RV(CKR_OPERATION_ACTIVE,
                 C_VerifyMessage(session, NULL, 0, data, 5, made, length));
        CHECK_RV(CKR_OK, C_VerifyMessageNext(session, NULL, 0, data, 1, NULL, 0));
        CHECK_RV(CKR_OK,
                 C_VerifyMessageNext(session, NULL, 0, data + 1, size - 1, made, length));
        CHECK_RV(CKR_OPERATION_NOT_INITIALIZED,
                 C_VerifyMessageNext(session, NULL, 0, data, 1, made, length));
    }
    CHECK_RV(CKR_OK, C_MessageSignFinal(session));
    CHECK_RV(CKR_OK, C_MessageVerifyFinal(session));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_MessageSignFinal(session));
}

static void test_signatures(void)
{
    uint8_t made[256];
    CK_ULONG room = sizeof made;
    check_signature(&hashed, rsa, 256);
    check_signature(&hmac, mac, 32);
    CHECK_RV(CKR_MECHANISM_INVALID, C_MessageSignInit(session, &gmac, aes)); /* one nonce for all */
    CHECK_RV(CKR_MECHANISM_INVALID, C_MessageVerifyInit(session, &gmac, aes));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_SignMessageBegin(session, NULL, 0));
    CHECK_RV(CKR_MECHANISM_INVALID, C_MessageSignInit(session, &aead, aes));
    CHECK_RV(CKR_OK, C_MessageSignInit(session, &hmac, mac));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, C_SignMessage(session, iv, 12, data, 5, made, &room));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, C_SignMessageBegin(session, iv, 12));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_SignMessage(session, NULL, 0, NULL, 5, made, &room));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_SignMessage(session, NULL, 0, data, 5, made, NULL));
    CHECK_RV(CKR_OK, C_SignMessageBegin(session, NULL, 0));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_SignMessageNext(session, NULL, 0, data, 5, made, NULL));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_SignMessageNext(session, NULL, 0, data, ~0UL, NULL, NULL));
    CHECK_RV(CKR_OK, C_SignMessageNext(session, NULL, 0, NULL, 0, made, &room));
    CHECK_RV(CKR_OK, C_MessageVerifyInit(session, &hmac, mac));
    CHECK_RV(CKR_OK, C_VerifyMessage(session, NULL, 0, NULL, 0, made, 32));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_VerifyMessage(session, NULL, 0, data, 5, NULL, 32));
    CHECK_RV(CKR_SIGNATURE_LEN_RANGE, C_VerifyMessage(session, NULL, 0, data, 5, made, ~0UL));
    CHECK_RV(CKR_OK, C_VerifyMessageBegin(session, NULL, 0));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_VerifyMessageNext(session, NULL, 0, data, 5, NULL, 32));
    CHECK_RV(CKR_SESSION_HANDLE_INVALID, C_MessageVerifyFinal(0));
}

static void test_flags(void)
{
    CK_MECHANISM_INFO info;
    CK_FLAGS wanted = CKF_MESSAGE_ENCRYPT | CKF_MESSAGE_DECRYPT | CKF_MULTI_MESSAGE;
    CHECK_RV(CKR_OK, C_GetMechanismInfo(0, CKM_AES_GCM, &info));
    CHECK(info.flags == (wanted | CKF_ENCRYPT | CKF_DECRYPT));
}

static void run(void (*test)(void))
{
    fake_reset();
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    session = fake_session(0);
    aes = fake_find(session, FAKE_AES);
    mac = fake_find(session, FAKE_MAC);
    rsa = fake_find(session, FAKE_RSA);
    test();
    CHECK_RV(CKR_OK, C_Finalize(NULL));
    CHECK_RV(CKR_CRYPTOKI_NOT_INITIALIZED, C_MessageEncryptFinal(session));
}

int main(void)
{
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 131 + i / 251);
    run(test_whole_messages);
    run(test_empty_messages_without_a_place);
    run(test_messages_in_parts);
    run(test_lengths_of_messages);
    run(test_generated_nonces);
    run(test_two_sessions_share_no_nonce);
    run(test_hostile_messages);
    run(test_cancelling);
    run(test_signatures);
    run(test_flags);
    return 0;
}
