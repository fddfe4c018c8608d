/* test_digests.c - digests of keys, and digests that are saved and restored. */
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "fake_worker.h"
#include "operations.h"
#include "state.h"

#define STATE 24

static CK_MECHANISM sha256 = {CKM_SHA256, NULL, 0}, sha3 = {CKM_SHA3_512, NULL, 0},
                    ecb = {CKM_AES_ECB, NULL, 0}, ecdsa = {CKM_ECDSA, NULL, 0};
static CK_SESSION_HANDLE session;
static uint8_t data[1000];
static const uint8_t key[32] = "0123456789abcdef0123456789abcde"; /* what the worker gives */

static void check_digest(CK_SESSION_HANDLE where, const EVP_MD *kind, const void *expected,
                         size_t length)
{
    uint8_t right[64], made[64];
    unsigned right_length;
    CK_ULONG made_length = sizeof made;
    EVP_Digest(expected, length, right, &right_length, kind, NULL);
    CHECK_RV(CKR_OK, C_DigestFinal(where, made, &made_length));
    CHECK(made_length == right_length && memcmp(made, right, right_length) == 0);
}

static void test_digest_of_a_key(void)
{
    uint8_t text[64];
    CK_ULONG length = sizeof text;
    CK_OBJECT_HANDLE mac = fake_find(session, FAKE_MAC);
    fake.readable = true;
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_DigestKey(session, mac));
    CHECK_RV(CKR_OK, C_DigestInit(session, &sha256));
    CHECK_RV(CKR_OK, C_DigestUpdate(session, (CK_BYTE_PTR) "before", 6));
    CHECK_RV(CKR_OK, C_DigestKey(session, mac));
    CHECK_RV(CKR_OK, C_DigestUpdate(session, (CK_BYTE_PTR) "after", 5));
    memcpy(text, "before", 6);
    memcpy(text + 6, key, 32);
    memcpy(text + 38, "after", 5);
    check_digest(session, EVP_sha256(), text, 43);
    CHECK_RV(CKR_OK, C_DigestInit(session, &sha256));
    CHECK_RV(CKR_OK, C_DigestKey(session, mac));
    CHECK_RV(CKR_OPERATION_ACTIVE, C_Digest(session, data, 1, text, &length));
}

/* What is refused takes no part, and the digest goes on without it. */
static void test_keys_that_are_not_digested(void)
{
    CHECK_RV(CKR_OK, C_DigestInit(session, &sha256));
    CHECK_RV(CKR_OK, C_DigestUpdate(session, data, 10));
    CHECK_RV(CKR_KEY_INDIGESTIBLE, C_DigestKey(session, fake_find(session, FAKE_MAC)));
    fake.readable = true;
    unsigned asked = fake.calls[CV_GET_ATTRIBUTES];
    CHECK_RV(CKR_KEY_INDIGESTIBLE, C_DigestKey(session, fake_find(session, FAKE_RSA)));
    CHECK_RV(CKR_KEY_HANDLE_INVALID, C_DigestKey(session, 0));
    CHECK_RV(CKR_KEY_HANDLE_INVALID, C_DigestKey(session, ~0UL));
    CHECK(fake.calls[CV_GET_ATTRIBUTES] == asked);
    CHECK_RV(CKR_SESSION_HANDLE_INVALID, C_DigestKey(0, 1));
    fake.refuse[CV_GET_ATTRIBUTES] = CKR_DEVICE_ERROR;
    CHECK_RV(CKR_DEVICE_ERROR, C_DigestKey(session, fake_find(session, FAKE_MAC)));
    fake.refuse[CV_GET_ATTRIBUTES] = CKR_OK;
    check_digest(session, EVP_sha256(), data, 10);
}

static void save(CK_SESSION_HANDLE where, uint8_t *state)
{
    CK_ULONG length = 0;
    CHECK_RV(CKR_OK, C_GetOperationState(where, NULL, &length));
    CHECK(length == STATE);
    length = STATE - 1;
    CHECK_RV(CKR_BUFFER_TOO_SMALL, C_GetOperationState(where, state, &length));
    CHECK(length == STATE);
    CHECK_RV(CKR_OK, C_GetOperationState(where, state, &length));
}

static void check_saved(CK_MECHANISM *mechanism, const EVP_MD *kind)
{
    uint8_t state[STATE];
    CK_SESSION_HANDLE source = fake_session(0);
    CHECK_RV(CKR_OK, C_DigestInit(source, mechanism));
    CHECK_RV(CKR_OK, C_DigestUpdate(source, data, 300));
    save(source, state);
    CHECK_RV(CKR_OK, C_DigestUpdate(source, data + 300, 1));
    check_digest(source, kind, data, 301);
    CHECK_RV(CKR_OK, C_CloseSession(source));
    CK_SESSION_HANDLE fresh = fake_session(0);
    CK_ULONG length = 0;
    CHECK_RV(CKR_OK, C_SetOperationState(fresh, state, STATE, 0, 0));
    CHECK_RV(CKR_OPERATION_ACTIVE, C_Digest(fresh, data, 1, NULL, &length)); /* parts came */
    for (CK_ULONG more = 0; more < 700; more += 350) { /* as often as one likes, and elsewhere */
        CHECK_RV(CKR_OK, C_SetOperationState(session, state, STATE, 0, 0));
        CHECK_RV(CKR_OK, C_DigestUpdate(session, data + 300, more));
        check_digest(session, kind, data, 300 + more);
    }
}

static void test_saved_digests(void)
{
    uint8_t state[STATE], made[32], right[32];
    CK_ULONG length = sizeof made;
    check_saved(&sha256, EVP_sha256());
    check_saved(&sha3, EVP_sha3_512());
    CHECK_RV(CKR_OK, C_DigestInit(session, &sha256)); /* nothing came yet: one part will do */
    save(session, state);
    CHECK_RV(CKR_OK, C_DigestInit(session, NULL));
    CHECK_RV(CKR_OK, C_SetOperationState(session, state, STATE, 0, 0));
    CHECK_RV(CKR_OK, C_Digest(session, data, 50, made, &length));
    EVP_Digest(data, 50, right, NULL, EVP_sha256(), NULL);
    CHECK(memcmp(made, right, 32) == 0);
}

/* What was made of a private key ends with the login that could read it. */
static void test_digests_of_private_keys_end_with_the_login(void)
{
    uint8_t state[STATE], made[32];
    CK_ULONG length = sizeof made;
    CK_SESSION_HANDLE other = fake_session(0);
    fake.readable = true;
    CHECK_RV(CKR_OK, C_Login(session, CKU_USER, (CK_UTF8CHAR_PTR) "password", 8));
    CHECK_RV(CKR_OK, C_DigestInit(session, &sha256));
    CHECK_RV(CKR_OK, C_DigestKey(session, fake_find(session, FAKE_PRIVATE_AES)));
    save(session, state);
    CHECK_RV(CKR_OK, C_SetOperationState(other, state, STATE, 0, 0));
    CHECK_RV(CKR_OK, C_Logout(session));
    CHECK_RV(CKR_SAVED_STATE_INVALID, C_SetOperationState(session, state, STATE, 0, 0));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_DigestFinal(session, made, &length));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_GetOperationState(other, state, &length));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_DigestUpdate(other, data, 5));
}

static bool keeps_a_digest(void)
{
    struct cv_session *inside;
    CHECK_RV(CKR_OK, cv_session_enter(session, &inside));
    bool keeps = inside->digest_context != NULL;
    cv_session_leave(inside);
    return keeps;
}

/* Memory is kept from one digest to the next, but not what was made of a key. */
static void test_nothing_of_a_key_stays_behind(void)
{
    uint8_t made[32];
    fake.readable = true;
    for (unsigned end = 0; end < 4; end++) {
        CK_ULONG length = sizeof made;
        CHECK_RV(CKR_OK, C_DigestInit(session, &sha256));
        CHECK_RV(CKR_OK, C_DigestKey(session, fake_find(session, FAKE_MAC)));
        CHECK(keeps_a_digest());
        if (end == 0)
            CHECK_RV(CKR_OK, C_DigestFinal(session, made, &length));
        else if (end == 1)
            CHECK_RV(CKR_OK, C_DigestInit(session, NULL));
        else if (end == 2)
            CHECK_RV(CKR_OK, C_SessionCancel(session, CKF_DIGEST));
        else
            CHECK_RV(CKR_ARGUMENTS_BAD, C_DigestUpdate(session, NULL, 1));
        CHECK(!keeps_a_digest());
    }
    CK_ULONG length = sizeof made;
    CHECK_RV(CKR_OK, C_DigestInit(session, &sha256));
    CHECK_RV(CKR_OK, C_Digest(session, data, 9, made, &length));
    CHECK(keeps_a_digest());
}

static void test_states_that_are_not_saved(void)
{
    uint8_t state[STATE];
    CK_ULONG length = STATE;
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_GetOperationState(session, state, &length));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_GetOperationState(session, state, NULL));
    CHECK_RV(CKR_OK, C_EncryptInit(session, &ecb, fake_find(session, FAKE_AES)));
    CHECK_RV(CKR_STATE_UNSAVEABLE, C_GetOperationState(session, NULL, &length));
    CHECK_RV(CKR_OK, C_DigestInit(session, &sha256)); /* the two of them are one state */
    CHECK_RV(CKR_STATE_UNSAVEABLE, C_GetOperationState(session, state, &length));
    CHECK_RV(CKR_OK, C_EncryptInit(session, NULL, 0));
    CHECK_RV(CKR_OK, C_GetOperationState(session, state, &length));
}

static void test_states_that_are_not_restored(void)
{
    uint8_t state[STATE], forged[STATE];
    CHECK_RV(CKR_OK, C_DigestInit(session, &sha256));
    CHECK_RV(CKR_OK, C_DigestUpdate(session, data, 20));
    save(session, state);
    CHECK_RV(CKR_ARGUMENTS_BAD, C_SetOperationState(session, NULL, STATE, 0, 0));
    for (unsigned i = 0; i < 8 * STATE; i++) { /* every bit counts */
        memcpy(forged, state, STATE);
        forged[i / 8] ^= (uint8_t)(1 << i % 8);
        CHECK_RV(CKR_SAVED_STATE_INVALID, C_SetOperationState(session, forged, STATE, 0, 0));
    }
    memset(forged, 0, STATE);
    CHECK_RV(CKR_SAVED_STATE_INVALID, C_SetOperationState(session, forged, STATE, 0, 0));
    memcpy(forged, state, 8); /* an id of zeros, as that of a place that is free */
    CHECK_RV(CKR_SAVED_STATE_INVALID, C_SetOperationState(session, forged, STATE, 0, 0));
    CHECK_RV(CKR_SAVED_STATE_INVALID, C_SetOperationState(session, state, STATE - 1, 0, 0));
    CHECK_RV(CKR_SAVED_STATE_INVALID, C_SetOperationState(session, state, ~0UL, 0, 0));
    CHECK_RV(CKR_KEY_NOT_NEEDED, C_SetOperationState(session, state, STATE, 5, 0));
    CHECK_RV(CKR_KEY_NOT_NEEDED, C_SetOperationState(session, state, STATE, 0, 5));
    CHECK_RV(CKR_OK, C_DigestUpdate(session, data + 20, 1)); /* none of it did any harm */
    check_digest(session, EVP_sha256(), data, 21);
    CHECK_RV(CKR_OK, C_SignInit(session, &ecdsa, fake_find(session, FAKE_EC)));
    CHECK_RV(CKR_OK, C_SetOperationState(session, state, STATE, 0, 0)); /* in place of it */
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_SignUpdate(session, data, 1));
    check_digest(session, EVP_sha256(), data, 20);
    CHECK_RV(CKR_OK, C_Finalize(NULL));
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    session = fake_session(0);
    CHECK_RV(CKR_SAVED_STATE_INVALID, C_SetOperationState(session, state, STATE, 0, 0));
}

/* Of more than are kept the oldest goes first. */
static void test_many_states(void)
{
    uint8_t first[STATE], second[STATE], last[STATE];
    CK_ULONG length = STATE;
    CHECK_RV(CKR_OK, C_DigestInit(session, &sha256));
    CHECK_RV(CKR_OK, C_GetOperationState(session, first, &length));
    CHECK_RV(CKR_OK, C_GetOperationState(session, second, &length));
    for (unsigned i = 2; i < 4096; i++)
        CHECK_RV(CKR_OK, C_GetOperationState(session, last, &length));
    CHECK_RV(CKR_OK, C_SetOperationState(session, first, STATE, 0, 0));
    CHECK_RV(CKR_OK, C_GetOperationState(session, last, &length));
    CHECK_RV(CKR_SAVED_STATE_INVALID, C_SetOperationState(session, first, STATE, 0, 0));
    CHECK_RV(CKR_OK, C_SetOperationState(session, second, STATE, 0, 0));
    CHECK_RV(CKR_OK, C_SetOperationState(session, last, STATE, 0, 0));
}

static void test_a_child_has_no_state_of_its_parent(void)
{
    uint8_t state[STATE];
    CHECK_RV(CKR_OK, C_DigestInit(session, &sha256));
    save(session, state);
    pid_t child = fork();
    if (child == 0) {
        CHECK_RV(CKR_OK, C_Initialize(NULL));
        CHECK_RV(CKR_SAVED_STATE_INVALID,
                 C_SetOperationState(fake_session(0), state, STATE, 0, 0));
        CHECK_RV(CKR_OK, C_Finalize(NULL));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK_RV(CKR_OK, C_SetOperationState(session, state, STATE, 0, 0));
}

static void *save_and_restore(void *unused)
{
    (void)unused;
    uint8_t state[STATE], right[32], made[32];
    CK_SESSION_HANDLE mine = fake_session(0);
    EVP_Digest(data, 100, right, NULL, EVP_sha256(), NULL);
    for (unsigned i = 0; i < 300; i++) {
        CK_ULONG length = STATE;
        CHECK_RV(CKR_OK, C_DigestInit(mine, &sha256));
        CHECK_RV(CKR_OK, C_DigestUpdate(mine, data, 60));
        CHECK_RV(CKR_OK, C_GetOperationState(mine, state, &length));
        CHECK_RV(CKR_OK, C_SetOperationState(mine, state, STATE, 0, 0));
        CHECK_RV(CKR_OK, C_DigestUpdate(mine, data + 60, 40));
        length = sizeof made;
        CHECK_RV(CKR_OK, C_DigestFinal(mine, made, &length));
        CHECK(memcmp(made, right, 32) == 0);
    }
    return NULL;
}

static void test_together(void)
{
    pthread_t threads[4];
    for (unsigned i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, save_and_restore, NULL) == 0);
    for (unsigned i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static void run(void (*test)(void))
{
    fake_reset();
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    session = fake_session(0);
    test();
    CHECK_RV(CKR_OK, C_Finalize(NULL));
}

int main(void)
{
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 131 + i / 251);
    run(test_digest_of_a_key);
    run(test_keys_that_are_not_digested);
    run(test_saved_digests);
    run(test_digests_of_private_keys_end_with_the_login);
    run(test_nothing_of_a_key_stays_behind);
    run(test_states_that_are_not_saved);
    run(test_states_that_are_not_restored);
    run(test_many_states);
    run(test_a_child_has_no_state_of_its_parent);
    run(test_together);
    return 0;
}
