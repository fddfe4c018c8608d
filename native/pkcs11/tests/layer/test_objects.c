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

/* Reads a label as applications do: its length first. */
static void read_label(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object)
{
    char label[8] = "";
    CK_ATTRIBUTE row = {CKA_LABEL, NULL, 0};
    CHECK_RV(CKR_OK, C_GetAttributeValue(session, object, &row, 1));
    CHECK(row.ulValueLen == 5);
    row.pValue = label;
    CHECK_RV(CKR_OK, C_GetAttributeValue(session, object, &row, 1));
    CHECK(memcmp(label, "label", 5) == 0);
}

static CK_ULONG begin_search(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE handles[FAKE_OBJECTS])
{
    CK_ULONG found;
    CHECK_RV(CKR_OK, C_FindObjectsInit(session, NULL, 0));
    CHECK_RV(CKR_OK, C_FindObjects(session, handles, FAKE_OBJECTS, &found));
    return found;
}

static void test_attributes_come_with_what_a_search_found(void)
{
    CK_OBJECT_HANDLE handles[FAKE_OBJECTS], never_told;
    CK_SESSION_HANDLE session = fake_session(0);
    CHECK_RV(CKR_OK, C_Login(session, CKU_USER, pin, 8));
    never_told = fake_find(session, FAKE_KEM);
    fake.tells = true;
    CK_ULONG count = begin_search(session, handles);
    CHECK(count == FAKE_OBJECTS - 1);
    unsigned finds = fake.calls[CV_FIND], reads = fake.calls[CV_GET_ATTRIBUTES];
    for (CK_ULONG i = 0; i < count; i++)
        if (handles[i] != never_told)
            read_label(session, handles[i]);
    CHECK(fake.calls[CV_FIND] == finds + 1 && fake.calls[CV_GET_ATTRIBUTES] == reads);
    char bytes[8];
    CK_ATTRIBUTE rows[] = {{CKA_LABEL, bytes, 2}, {CKA_OWNER, bytes, 8}, {CKA_LABEL, bytes, 8}};
    CHECK_RV(CKR_BUFFER_TOO_SMALL, C_GetAttributeValue(session, handles[0], &rows[0], 1));
    CHECK_RV(CKR_ATTRIBUTE_TYPE_INVALID, C_GetAttributeValue(session, handles[0], &rows[1], 2));
    CHECK(rows[1].ulValueLen == CK_UNAVAILABLE_INFORMATION && rows[2].ulValueLen == 5);
    CHECK(fake.calls[CV_GET_ATTRIBUTES] == reads);
    /* What was not told is asked for, of objects that were not told of as well. */
    rows[0] = (CK_ATTRIBUTE){CKA_VALUE, bytes, 8};
    CHECK_RV(CKR_ATTRIBUTE_SENSITIVE, C_GetAttributeValue(session, handles[0], rows, 1));
    read_label(session, never_told);
    CHECK(fake.calls[CV_FIND] == finds + 1 && fake.calls[CV_GET_ATTRIBUTES] == reads + 3);
    CHECK_RV(CKR_OK, C_FindObjectsFinal(session));
    read_label(session, handles[0]);
    CHECK(fake.calls[CV_FIND] == finds + 1 && fake.calls[CV_GET_ATTRIBUTES] == reads + 5);
}

/* Nothing is shown that this process has changed since, or that a login or logout has. */
static void test_what_came_with_a_search_is_asked_for_again_after_a_change(void)
{
    CK_OBJECT_HANDLE handles[FAKE_OBJECTS];
    CK_SESSION_HANDLE session = fake_session(0), other = fake_session(CKF_RW_SESSION);
    CHECK_RV(CKR_OK, C_Login(session, CKU_USER, pin, 8));
    fake.tells = true;
    begin_search(session, handles);
    read_label(session, handles[0]);
    unsigned finds = fake.calls[CV_FIND], reads = fake.calls[CV_GET_ATTRIBUTES];
    CK_ATTRIBUTE change = {CKA_LABEL, "other", 5};
    CHECK_RV(CKR_OK, C_SetAttributeValue(other, handles[1], &change, 1));
    read_label(session, handles[0]);
    CHECK(fake.calls[CV_FIND] == finds + 1);
    CHECK_RV(CKR_OK, C_DestroyObject(other, handles[1]));
    read_label(session, handles[0]);
    CHECK(fake.calls[CV_FIND] == finds + 2 && fake.calls[CV_GET_ATTRIBUTES] == reads);
    CHECK_RV(CKR_OK, C_Logout(other));
    CHECK_RV(CKR_OK, C_Login(other, CKU_USER, pin, 8));
    read_label(session, fake_find(other, FAKE_AES));
    CHECK(fake.calls[CV_FIND] == finds + 4);
    CHECK_RV(CKR_OK, C_SessionCancel(session, CKF_FIND_OBJECTS));
    read_label(session, fake_find(other, FAKE_AES));
    CHECK(fake.calls[CV_FIND] == finds + 5 && fake.calls[CV_GET_ATTRIBUTES] == reads + 2);
}

/* A worker that knows nothing of it gives ids, and odd ones anything. */
static void test_a_search_that_brings_no_attributes_costs_one_request(void)
{
    static const uint8_t odd[][8] = {{0xc0}, {0x91, 0x92, 0xc4, 0x02, 'a', 'b', 0x90}, {0xdd, 0xff}};
    CK_OBJECT_HANDLE handles[FAKE_OBJECTS];
    CK_SESSION_HANDLE session = fake_session(0);
    for (size_t i = 0; i <= sizeof odd / sizeof *odd; i++) {
        CK_ULONG count = begin_search(session, handles);
        unsigned finds = fake.calls[CV_FIND], reads = fake.calls[CV_GET_ATTRIBUTES];
        if (i > 0) {
            fake.odd_answers = 1;
            fake.odd_length = sizeof odd[0];
            memcpy(fake.odd, odd[i - 1], sizeof odd[0]);
        }
        for (CK_ULONG k = 0; k < count; k++)
            read_label(session, handles[k]);
        CHECK(fake.calls[CV_FIND] == finds + 1);
        CHECK(fake.calls[CV_GET_ATTRIBUTES] == reads + 2 * count);
        CHECK_RV(CKR_OK, C_FindObjectsFinal(session));
    }
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
    run(test_attributes_come_with_what_a_search_found);
    run(test_what_came_with_a_search_is_asked_for_again_after_a_change);
    run(test_a_search_that_brings_no_attributes_costs_one_request);
    run(test_hostile_templates);
    run(test_many_handles);
    return 0;
}
