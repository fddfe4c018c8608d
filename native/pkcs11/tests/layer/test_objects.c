/* test_objects.c - handles, session objects, attributes and finding. */
#include <string.h>

#include "check.h"
#include "fake_worker.h"
#include "operations.h"

static CK_UTF8CHAR pin[] = "password";
static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

static CK_ULONG count_found(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template, CK_ULONG length)
{
    CK_OBJECT_HANDLE handles[64];
    CK_ULONG found, total = 0;
    CHECK_RV(CKR_OK, C_FindObjectsInit(session, template, length));
    CHECK_RV(CKR_OPERATION_ACTIVE, C_FindObjectsInit(session, template, length));
    do {
        CHECK_RV(CKR_OK, C_FindObjects(session, handles, 2, &found));
        total += found;
    } while (found > 0);
    CHECK_RV(CKR_OK, C_FindObjectsFinal(session));
    return total;
}

static CK_OBJECT_HANDLE make(CK_SESSION_HANDLE session, const char *label, CK_BBOOL private)
{
    CK_OBJECT_HANDLE handle;
    CK_ATTRIBUTE template[] = {{CKA_LABEL, (void *)label, strlen(label)},
                               {CKA_TOKEN, &no, 1},
                               {CKA_PRIVATE, &private, 1}};
    CHECK_RV(CKR_OK, C_CreateObject(session, template, 3, &handle));
    return handle;
}

static void test_handles_are_stable(void)
{
    CK_SESSION_HANDLE one = fake_session(0), two = fake_session(CKF_RW_SESSION);
    CK_OBJECT_HANDLE handle = fake_find(one, FAKE_AES);
    CHECK(handle != 0 && fake_find(two, FAKE_AES) == handle);
    CK_ULONG size;
    CHECK_RV(CKR_OK, C_GetObjectSize(two, handle, &size));
    CHECK(size == 1234);
    CHECK_RV(CKR_OBJECT_HANDLE_INVALID, C_GetObjectSize(two, handle + 1, &size));
    CHECK_RV(CKR_OBJECT_HANDLE_INVALID, C_GetObjectSize(two, 0, &size));
    CHECK_RV(CKR_OBJECT_HANDLE_INVALID, C_GetObjectSize(two, ~0UL, &size));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_GetObjectSize(two, handle, NULL));
    CHECK_RV(CKR_SESSION_READ_ONLY, C_DestroyObject(one, handle));
    CHECK_RV(CKR_OK, C_DestroyObject(two, handle));
    CHECK_RV(CKR_OBJECT_HANDLE_INVALID, C_GetObjectSize(two, handle, &size));
    CHECK(fake_find(one, FAKE_AES) != handle);
    CK_SESSION_HANDLE elsewhere;
    CHECK_RV(CKR_OK, C_OpenSession(1, CKF_SERIAL_SESSION, NULL, NULL, &elsewhere));
    CHECK_RV(CKR_OBJECT_HANDLE_INVALID,
             C_GetObjectSize(elsewhere, fake_find(one, FAKE_AES), &size));
}

/* A handle of a private object dies at logout; one of a public object does not. */
static void test_logout_voids_private_handles(void)
{
    CK_SESSION_HANDLE session = fake_session(CKF_RW_SESSION);
    CK_ULONG size;
    CHECK_RV(CKR_OK, C_Login(session, CKU_USER, pin, 8));
    CK_OBJECT_HANDLE private = fake_find(session, FAKE_PRIVATE_AES);
    CK_OBJECT_HANDLE public = fake_find(session, FAKE_AES);
    CHECK_RV(CKR_OK, C_Logout(session));
    CHECK_RV(CKR_OK, C_GetObjectSize(session, public, &size)); /* had to be asked */
    unsigned asked = fake.calls[CV_GET_ATTRIBUTES];
    CHECK_RV(CKR_OK, C_GetObjectSize(session, public, &size)); /* is known now */
    CHECK(fake.calls[CV_GET_ATTRIBUTES] == asked);
    CHECK_RV(CKR_OK, C_Login(session, CKU_USER, pin, 8));
    CHECK_RV(CKR_OBJECT_HANDLE_INVALID, C_GetObjectSize(session, private, &size));
    CHECK_RV(CKR_OBJECT_HANDLE_INVALID, C_GetObjectSize(session, private, &size));
    CK_OBJECT_HANDLE again = fake_find(session, FAKE_PRIVATE_AES);
    CHECK(again != private);
    CHECK_RV(CKR_OK, C_GetObjectSize(session, again, &size));
}

static void test_session_objects(void)
{
    CK_SESSION_HANDLE one = fake_session(0), two = fake_session(0);
    CK_ATTRIBUTE label = {CKA_LABEL, "mine", 4}, on_token = {CKA_TOKEN, &yes, 1};
    CK_ATTRIBUTE in_session = {CKA_TOKEN, &no, 1};
    CK_ULONG size;
    CHECK_RV(CKR_OK, C_Login(one, CKU_USER, pin, 8));
    CK_OBJECT_HANDLE handle = make(one, "mine", CK_FALSE);
    CK_OBJECT_HANDLE private = make(one, "secret", CK_TRUE);
    make(two, "mine", CK_FALSE);
    CHECK(count_found(two, &label, 1) == 2);
    CHECK(count_found(two, &in_session, 1) == 3);
    CHECK(count_found(two, &on_token, 1) == FAKE_OBJECTS - 1);
    CHECK_RV(CKR_OK, C_GetObjectSize(two, handle, &size));
    CHECK_RV(CKR_OK, C_Logout(two));
    CHECK_RV(CKR_OBJECT_HANDLE_INVALID, C_GetObjectSize(one, private, &size));
    CHECK_RV(CKR_OK, C_GetObjectSize(two, handle, &size));
    CHECK_RV(CKR_OK, C_CloseSession(one)); /* takes its objects along */
    CHECK_RV(CKR_OBJECT_HANDLE_INVALID, C_GetObjectSize(two, handle, &size));
    CHECK(count_found(two, &in_session, 1) == 1);
}

static void test_session_object_attributes(void)
{
    CK_SESSION_HANDLE session = fake_session(0);
    CK_OBJECT_HANDLE handle = make(session, "short", CK_FALSE), copy;
    char label[32];
    CK_ATTRIBUTE query = {CKA_LABEL, label, sizeof label};
    CHECK_RV(CKR_OK, C_GetAttributeValue(session, handle, &query, 1));
    CHECK(query.ulValueLen == 5 && memcmp(label, "short", 5) == 0);
    CHECK(fake.calls[CV_GET_ATTRIBUTES] == 0); /* answered here */
    CK_ATTRIBUTE change[] = {{CKA_LABEL, "a longer one", 12}, {CKA_DESTROYABLE, &no, 1}};
    CHECK_RV(CKR_OK, C_SetAttributeValue(session, handle, change, 2));
    query.ulValueLen = sizeof label;
    CHECK_RV(CKR_OK, C_GetAttributeValue(session, handle, &query, 1));
    CHECK(query.ulValueLen == 12);
    CHECK_RV(CKR_ACTION_PROHIBITED, C_DestroyObject(session, handle));
    CHECK_RV(CKR_OK, C_CopyObject(session, handle, change, 1, &copy));
    CHECK(copy != handle);
    CHECK_RV(CKR_OK, C_DestroyObject(session, copy));
    CHECK_RV(CKR_OBJECT_HANDLE_INVALID, C_DestroyObject(session, copy));
}

static void test_attributes(void)
{
    CK_SESSION_HANDLE session = fake_session(0);
    CK_OBJECT_HANDLE handle = fake_find(session, FAKE_AES);
    CK_KEY_TYPE type = 0;
    char label[2], value[32];
    CK_ATTRIBUTE query[] = {{CKA_VALUE, value, sizeof value},
                            {CKA_KEY_TYPE, &type, sizeof type},
                            {CKA_LABEL, label, sizeof label},
                            {CKA_OWNER, NULL, 0}};
    CHECK_RV(CKR_ATTRIBUTE_SENSITIVE, C_GetAttributeValue(session, handle, query, 4));
    CHECK(query[0].ulValueLen == CK_UNAVAILABLE_INFORMATION);
    CHECK(type == CKK_AES && query[1].ulValueLen == sizeof type);
    CHECK(query[2].ulValueLen == CK_UNAVAILABLE_INFORMATION);
    CHECK(query[3].ulValueLen == CK_UNAVAILABLE_INFORMATION);
    query[2].pValue = NULL;
    CHECK_RV(CKR_OK, C_GetAttributeValue(session, handle, &query[2], 1));
    CHECK(query[2].ulValueLen == 5);
    CHECK_RV(CKR_ARGUMENTS_BAD, C_GetAttributeValue(session, handle, NULL, 1));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_GetAttributeValue(session, handle, query, ~0UL));
    CK_ATTRIBUTE many[100];
    for (unsigned i = 0; i < 100; i++)
        many[i] = (CK_ATTRIBUTE){CKA_LABEL, NULL, 0};
    CHECK_RV(CKR_OK, C_GetAttributeValue(session, handle, many, 100)); /* in two requests */
    CHECK(many[99].ulValueLen == 5);
}

static void test_hostile_templates(void)
{
    CK_SESSION_HANDLE session = fake_session(CKF_RW_SESSION);
    CK_OBJECT_HANDLE handle, other;
    CK_MECHANISM generate = {CKM_AES_KEY_GEN, NULL, 0};
    CK_ATTRIBUTE bad = {CKA_LABEL, NULL, 9}, good = {CKA_LABEL, "x", 1};
    CHECK_RV(CKR_ARGUMENTS_BAD, C_CreateObject(session, &bad, 1, &handle));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_CreateObject(session, &good, ~0UL, &handle));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_CreateObject(session, &good, 1, NULL));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_CreateObject(session, NULL, 1, &handle));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_FindObjectsInit(session, NULL, 3));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_FindObjectsFinal(session));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_GenerateKey(session, NULL, &good, 1, &handle));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_GenerateKey(session, &generate, &good, 1, NULL));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_GenerateKey(session, &generate, &good, 1UL << 60, &handle));
    CHECK_RV(CKR_MECHANISM_INVALID,
             C_GenerateKeyPair(session, &generate, &good, 1, &good, 1, &handle, &other));
    CHECK_RV(CKR_OK, C_GenerateKey(session, &generate, &good, 1, &handle));
    CK_ATTRIBUTE token = {CKA_TOKEN, &yes, 1};
    CHECK_RV(CKR_SESSION_READ_ONLY, C_GenerateKey(fake_session(0), &generate, &token, 1, &handle));
}

static void test_many_handles(void)
{
    CK_SESSION_HANDLE session = fake_session(0);
    static CK_OBJECT_HANDLE handles[20000];
    CK_ULONG size;
    for (unsigned i = 0; i < 20000; i++)
        handles[i] = make(session, "many", CK_FALSE);
    for (unsigned i = 0; i < 20000; i += 7)
        CHECK_RV(CKR_OK, C_DestroyObject(session, handles[i]));
    for (unsigned i = 0; i < 20000; i += 111)
        CHECK_RV(i % 7 ? CKR_OK : CKR_OBJECT_HANDLE_INVALID,
                 C_GetObjectSize(session, handles[i], &size));
}

static void run(void (*test)(void))
{
    fake_reset();
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    test();
    CHECK_RV(CKR_OK, C_Finalize(NULL));
}

int main(void)
{
    run(test_handles_are_stable);
    run(test_logout_voids_private_handles);
    run(test_session_objects);
    run(test_session_object_attributes);
    run(test_attributes);
    run(test_hostile_templates);
    run(test_many_handles);
    return 0;
}
