/* test_threads.c - many threads, one module: for the thread and address sanitizers above all. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "check.h"
#include "fake_worker.h"

#define THREADS 10
#define ROUNDS 300

static CK_UTF8CHAR pin[] = "password";
static CK_SESSION_HANDLE shared;
static atomic_bool stopped;

static void *sign_and_find(void *argument)
{
    (void)argument;
    CK_MECHANISM mechanism = {CKM_ECDSA_SHA256, NULL, 0};
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint8_t made[132];
        CK_ULONG length = sizeof made;
        CK_SESSION_HANDLE session = fake_session(CKF_RW_SESSION);
        CK_OBJECT_HANDLE key = fake_find(session, FAKE_EC);
        CHECK_RV(CKR_OK, C_SignInit(session, &mechanism, key));
        CHECK_RV(CKR_OK, C_Sign(session, made, 32, made, &length));
        CHECK_RV(CKR_OK, C_CloseSession(session));
    }
    return NULL;
}

/* Logs in and out all the time; what the others do with private objects may fail, not crash. */
static void *log_in_and_out(void *argument)
{
    CK_SESSION_HANDLE session = *(CK_SESSION_HANDLE *)argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        CK_RV value = C_Login(session, CKU_USER, pin, 8);
        CHECK(value == CKR_OK || value == CKR_USER_ALREADY_LOGGED_IN);
        value = C_Logout(session);
        CHECK(value == CKR_OK || value == CKR_USER_NOT_LOGGED_IN);
    }
    return NULL;
}

static void *use_session_objects(void *argument)
{
    (void)argument;
    CK_BBOOL private = CK_TRUE;
    CK_ATTRIBUTE template[] = {{CKA_LABEL, "x", 1}, {CKA_PRIVATE, &private, 1}};
    CK_MECHANISM mechanism = {CKM_AES_ECB, NULL, 0};
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint8_t block[16] = {0};
        CK_ULONG length = sizeof block;
        CK_OBJECT_HANDLE handle = 0;
        CK_SESSION_HANDLE session = fake_session(0);
        private = i % 2 == 0;
        CHECK_RV(CKR_OK, C_CreateObject(session, template, 2, &handle));
        if (C_EncryptInit(session, &mechanism, handle) == CKR_OK)
            C_Encrypt(session, block, 16, block, &length);
        if (i % 3 == 0)
            C_DestroyObject(session, handle);
        CHECK_RV(CKR_OK, C_CloseSession(session));
    }
    return NULL;
}

/* A login or logout elsewhere may take what was found, and its attributes, at any moment. */
static void *read_what_was_found(void *argument)
{
    (void)argument;
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE on_token = {CKA_TOKEN, &yes, 1};
    for (unsigned i = 0; i < ROUNDS; i++) {
        CK_OBJECT_HANDLE handles[FAKE_OBJECTS];
        CK_ULONG count = 0;
        CK_SESSION_HANDLE session = fake_session(0);
        if (C_FindObjectsInit(session, &on_token, 1) == CKR_OK)
            CHECK_RV(CKR_OK, C_FindObjects(session, handles, FAKE_OBJECTS, &count));
        for (CK_ULONG k = 0; k < count; k++) {
            char label[8];
            CK_ATTRIBUTE row = {CKA_LABEL, label, sizeof label};
            if (C_GetAttributeValue(session, handles[k], &row, 1) == CKR_OK)
                CHECK(row.ulValueLen == 5 && memcmp(label, "label", 5) == 0);
        }
        CHECK_RV(CKR_OK, C_CloseSession(session));
    }
    return NULL;
}

static void test_together(void)
{
    pthread_t threads[THREADS];
    shared = fake_session(0); /* keeps the login from ending with somebody's last session */
    for (unsigned i = 0; i < THREADS; i++) {
        void *(*body)(void *) = i < 4   ? sign_and_find
                                : i < 6 ? use_session_objects
                                : i < 8 ? read_what_was_found
                                        : log_in_and_out;
        CHECK(pthread_create(&threads[i], NULL, body, &shared) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void *call_until_stopped(void *argument)
{
    (void)argument;
    CK_RV value = CKR_OK;
    while (value == CKR_OK || !stopped) {
        CK_SESSION_HANDLE session;
        CK_ULONG count;
        value = C_OpenSession(0, CKF_SERIAL_SESSION, NULL, NULL, &session);
        if (value == CKR_OK)
            value = C_FindObjectsInit(session, NULL, 0);
        if (value == CKR_OK)
            value = C_GetSlotList(CK_TRUE, NULL, &count);
        CHECK(value == CKR_OK || value == CKR_CRYPTOKI_NOT_INITIALIZED);
    }
    return NULL;
}

static void test_finalize_under_way(void)
{
    pthread_t threads[THREADS];
    stopped = false;
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, call_until_stopped, NULL) == 0);
    for (unsigned i = 0; i < 20; i++) {
        CHECK_RV(CKR_OK, C_Finalize(NULL));
        CHECK_RV(CKR_OK, C_Initialize(NULL));
    }
    CHECK_RV(CKR_OK, C_Finalize(NULL));
    stopped = true;
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_RV(CKR_OK, C_Initialize(NULL));
}

int main(void)
{
    fake_reset();
    fake.tells = true;
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    test_together();
    test_finalize_under_way();
    CHECK_RV(CKR_OK, C_Finalize(NULL));
    return 0;
}
