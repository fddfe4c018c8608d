/* test_sessions.c - slots, sessions, logins and tickets, against a worker in this process. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "fake_worker.h"
#include "operations.h"

static CK_UTF8CHAR pin[] = "password";

static CK_STATE state_of(CK_SESSION_HANDLE session)
{
    CK_SESSION_INFO info;
    CHECK_RV(CKR_OK, C_GetSessionInfo(session, &info));
    return info.state;
}

static void test_life(void)
{
    CK_INFO info;
    CK_C_INITIALIZE_ARGS arguments = {.pReserved = &info};
    CHECK_RV(CKR_CRYPTOKI_NOT_INITIALIZED, C_GetInfo(&info));
    CHECK_RV(CKR_CRYPTOKI_NOT_INITIALIZED, C_WrapKey(0, NULL, 0, 0, NULL, NULL));
    CHECK_RV(CKR_CRYPTOKI_NOT_INITIALIZED, C_Finalize(NULL));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_Initialize(&arguments));
    arguments = (CK_C_INITIALIZE_ARGS){.LockMutex = (CK_LOCKMUTEX)test_life};
    CHECK_RV(CKR_ARGUMENTS_BAD, C_Initialize(&arguments));
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    CHECK_RV(CKR_CRYPTOKI_ALREADY_INITIALIZED, C_Initialize(NULL));
    CHECK_RV(CKR_OK, C_GetInfo(&info));
    CHECK(info.cryptokiVersion.major == 3);
    CHECK_RV(CKR_ARGUMENTS_BAD, C_GetInfo(NULL));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_Finalize(&info));
    CHECK_RV(CKR_OK, C_Finalize(NULL));
}

static void test_interfaces(void)
{
    CK_ULONG count = 0;
    CK_INTERFACE list[3], *found;
    CK_VERSION version = {2, 40};
    CHECK_RV(CKR_ARGUMENTS_BAD, C_GetInterfaceList(NULL, NULL));
    CHECK_RV(CKR_OK, C_GetInterfaceList(NULL, &count));
    CHECK(count == 3);
    count = 1;
    CHECK_RV(CKR_BUFFER_TOO_SMALL, C_GetInterfaceList(list, &count));
    CHECK_RV(CKR_OK, C_GetInterfaceList(list, &count));
    CHECK_RV(CKR_OK, C_GetInterface(NULL, NULL, &found, 0));
    CK_FUNCTION_LIST_3_2 *newest = found->pFunctionList;
    CHECK(newest->version.major == 3 && newest->version.minor == 2);
    CHECK(newest->C_Sign == C_Sign && newest->C_MessageVerifyFinal == C_MessageVerifyFinal);
    CHECK(newest->C_EncapsulateKey == C_EncapsulateKey);
    CHECK(newest->C_UnwrapKeyAuthenticated == C_UnwrapKeyAuthenticated);
    version = (CK_VERSION){3, 0};
    CHECK_RV(CKR_OK, C_GetInterface(NULL, &version, &found, 0));
    CK_FUNCTION_LIST_3_0 *older = found->pFunctionList;
    CHECK(older->version.major == 3 && older->version.minor == 0);
    CHECK(older->C_MessageVerifyFinal == C_MessageVerifyFinal);
    version = (CK_VERSION){2, 40};
    CHECK_RV(CKR_OK, C_GetInterface((CK_UTF8CHAR_PTR) "PKCS 11", &version, &found, 0));
    CHECK(((CK_VERSION *)found->pFunctionList)->major == 2);
    CHECK_RV(CKR_FUNCTION_FAILED, C_GetInterface((CK_UTF8CHAR_PTR) "Vendor", NULL, &found, 0));
    version = (CK_VERSION){3, 1};
    CHECK_RV(CKR_FUNCTION_FAILED, C_GetInterface(NULL, &version, &found, 0));
    CHECK_RV(CKR_FUNCTION_FAILED, C_GetInterface(NULL, NULL, &found, CKF_INTERFACE_FORK_SAFE));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_GetInterface(NULL, NULL, NULL, 0));
}

static void test_slots(void)
{
    CK_ULONG count = 0;
    CK_SLOT_ID ids[20];
    CK_SLOT_INFO slot;
    CK_TOKEN_INFO token;
    fake.tokens = 7; /* more than the worker gives at once */
    CHECK_RV(CKR_ARGUMENTS_BAD, C_GetSlotList(CK_TRUE, NULL, NULL));
    CHECK_RV(CKR_OK, C_GetSlotList(CK_TRUE, NULL, &count));
    CHECK(count == 7);
    fake.tokens = 9; /* not seen before the length is asked for again */
    count = 3;
    CHECK_RV(CKR_BUFFER_TOO_SMALL, C_GetSlotList(CK_TRUE, ids, &count));
    CHECK(count == 7);
    CHECK_RV(CKR_OK, C_GetSlotList(CK_TRUE, ids, &count));
    CHECK(count == 7 && ids[6] == 6);
    CHECK_RV(CKR_OK, C_GetSlotInfo(6, &slot));
    CHECK(slot.flags == CKF_TOKEN_PRESENT);
    CHECK_RV(CKR_OK, C_GetTokenInfo(6, &token));
    CHECK(memcmp(token.label, "token 6                         ", 32) == 0);
    CHECK_RV(CKR_OK, C_GetSlotInfo(8, &slot)); /* unknown until now */
    CHECK_RV(CKR_SLOT_ID_INVALID, C_GetSlotInfo(99, &slot));
    fake.tokens = 2;
    CHECK_RV(CKR_OK, C_GetSlotList(CK_TRUE, NULL, &count));
    CHECK(count == 2);
    CK_SESSION_HANDLE session;
    CHECK_RV(CKR_TOKEN_NOT_PRESENT, C_OpenSession(6, CKF_SERIAL_SESSION, NULL, NULL, &session));
}


static void test_dead_cluster(void)
{
    CK_ULONG count = 20;
    CK_SLOT_ID ids[20];
    fake.clusters = 3;
    fake.dead[1] = true;
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    CHECK_RV(CKR_OK, C_GetSlotList(CK_TRUE, NULL, &count));
    CHECK_RV(CKR_OK, C_GetSlotList(CK_TRUE, ids, &count));
    CHECK(count == 4 && ids[1] == 1 && ids[2] == 20000 && ids[3] == 20001);
    fake.dead[0] = fake.dead[2] = true;
    CHECK_RV(CKR_OK, C_GetSlotList(CK_TRUE, NULL, &count));
    CHECK(count == 4); /* known ones stay listed */
    CHECK_RV(CKR_OK, C_Finalize(NULL));
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    CHECK_RV(CKR_DEVICE_ERROR, C_GetSlotList(CK_TRUE, NULL, &count));
    CHECK_RV(CKR_OK, C_Finalize(NULL));
}

static long milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A cluster that hangs delays the first list by a bounded time, and the next ones hardly. */
static void test_hung_cluster(void)
{
    CK_ULONG count;
    fake_reset();
    fake.clusters = 3;
    fake.hung[1] = true;
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    long start = milliseconds();
    CHECK_RV(CKR_OK, C_GetSlotList(CK_TRUE, NULL, &count));
    CHECK(count == 4);
    CHECK(milliseconds() - start < 3000);
    start = milliseconds();
    for (unsigned i = 0; i < 3; i++)
        CHECK_RV(CKR_OK, C_GetSlotList(CK_TRUE, NULL, &count));
    CHECK(milliseconds() - start < 1500);
    CHECK_RV(CKR_OK, C_Finalize(NULL)); /* wakes the thread that asks, and waits for it */
}

static void test_mechanisms(void)
{
    CK_ULONG count = 5;
    CK_MECHANISM_TYPE types[5];
    CK_MECHANISM_INFO info;
    CHECK_RV(CKR_OK, C_GetMechanismList(0, types, &count));
    CHECK(count == 1 && types[0] == CKM_AES_GCM);
    CHECK_RV(CKR_OK, C_GetMechanismInfo(0, CKM_AES_GCM, &info));
    CHECK(info.ulMaxKeySize == 32);
    CHECK_RV(CKR_MECHANISM_INVALID, C_GetMechanismInfo(0, CKM_DES_CBC, &info));
    CHECK(fake.calls[CV_MECHANISMS] == 1);
}

static void test_session_handles(void)
{
    CK_SESSION_HANDLE handles[1000], again;
    CK_SESSION_INFO info;
    for (unsigned i = 0; i < 1000; i++)
        handles[i] = fake_session(i % 2 ? CKF_RW_SESSION : 0);
    CHECK_RV(CKR_OK, C_CloseSession(handles[10]));
    CHECK_RV(CKR_SESSION_HANDLE_INVALID, C_CloseSession(handles[10]));
    again = fake_session(0);
    CHECK(again != handles[10]); /* the place is used again, the handle is not */
    CHECK_RV(CKR_SESSION_HANDLE_INVALID, C_GetSessionInfo(handles[10], &info));
    CHECK_RV(CKR_SESSION_HANDLE_INVALID, C_GetSessionInfo(0, &info));
    CHECK_RV(CKR_SESSION_HANDLE_INVALID, C_GetSessionInfo(~0UL, &info));
    CHECK_RV(CKR_SESSION_HANDLE_INVALID, C_GetSessionInfo(5000, &info));
    CHECK_RV(CKR_SESSION_PARALLEL_NOT_SUPPORTED, C_OpenSession(0, 0, NULL, NULL, &again));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_OpenSession(0, CKF_SERIAL_SESSION, NULL, NULL, NULL));
    CHECK_RV(CKR_OK, C_CloseAllSessions(0));
    CHECK_RV(CKR_SESSION_HANDLE_INVALID, C_GetSessionInfo(handles[999], &info));
}

static void test_login_rules(void)
{
    CK_SESSION_HANDLE reader = fake_session(0), writer = fake_session(CKF_RW_SESSION), third;
    CHECK_RV(CKR_USER_TYPE_INVALID, C_Login(writer, 7, pin, 8));
    CHECK_RV(CKR_OPERATION_NOT_INITIALIZED, C_Login(writer, CKU_CONTEXT_SPECIFIC, pin, 8));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_Login(writer, CKU_USER, NULL, 8));
    CHECK_RV(CKR_PIN_LEN_RANGE, C_Login(writer, CKU_USER, pin, 1000000));
    CHECK(fake.calls[CV_LOGIN] == 0);
    CHECK_RV(CKR_SESSION_READ_ONLY_EXISTS, C_Login(writer, CKU_SO, pin, 8));
    CHECK_RV(CKR_OK, C_Login(reader, CKU_USER, pin, 8));
    CHECK(state_of(reader) == CKS_RO_USER_FUNCTIONS && state_of(writer) == CKS_RW_USER_FUNCTIONS);
    CHECK_RV(CKR_USER_ALREADY_LOGGED_IN, C_Login(writer, CKU_USER, pin, 8));
    CHECK_RV(CKR_USER_ANOTHER_ALREADY_LOGGED_IN, C_Login(writer, CKU_SO, pin, 8));
    CHECK_RV(CKR_USER_NOT_LOGGED_IN, C_InitPIN(writer, pin, 8));
    CHECK_RV(CKR_OK, C_CloseSession(reader));
    CHECK_RV(CKR_OK, C_Logout(writer));
    CHECK_RV(CKR_USER_NOT_LOGGED_IN, C_Logout(writer));
    CHECK(fake.calls[CV_LOGOUT] == 1);
    CHECK_RV(CKR_OK, C_Login(writer, CKU_SO, pin, 8));
    CHECK(state_of(writer) == CKS_RW_SO_FUNCTIONS);
    CHECK_RV(CKR_SESSION_READ_WRITE_SO_EXISTS,
             C_OpenSession(0, CKF_SERIAL_SESSION, NULL, NULL, &third));
    CHECK_RV(CKR_SESSION_EXISTS, C_InitToken(0, pin, 8, (CK_UTF8CHAR_PTR) "label 67890123456789012345678901"));
    CHECK_RV(CKR_OK, C_CloseSession(writer)); /* the last one logs out */
    CHECK(fake.calls[CV_LOGOUT] == 2);
    writer = fake_session(CKF_RW_SESSION);
    CHECK(state_of(writer) == CKS_RW_PUBLIC_SESSION);
    fake.refuse[CV_LOGIN] = CKR_PIN_INCORRECT;
    unsigned before = fake.calls[CV_LOGIN];
    CHECK_RV(CKR_PIN_INCORRECT, C_Login(writer, CKU_USER, pin, 8));
    CHECK(fake.calls[CV_LOGIN] == before + 1); /* never tried twice */
    C_CloseAllSessions(0);
}

/* A keyring has one user for each role: LunaCM's name of it, or none, is right. */
static void test_login_by_name(void)
{
    CK_SESSION_HANDLE session = fake_session(CKF_RW_SESSION);
    CK_UTF8CHAR co[] = "co", po[] = "po", other[] = "cox";
    CHECK_RV(CKR_ARGUMENTS_BAD, C_LoginUser(session, CKU_USER, pin, 8, po, 2));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_LoginUser(session, CKU_SO, pin, 8, co, 2));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_LoginUser(session, CKU_USER, pin, 8, other, 3));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_LoginUser(session, CKU_USER, pin, 8, NULL, 2));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_LoginUser(session, CKU_USER, NULL, 0, co, 2));
    CHECK_RV(CKR_USER_TYPE_INVALID, C_LoginUser(session, 7, pin, 8, NULL, 0));
    CHECK_RV(CKR_SESSION_HANDLE_INVALID, C_LoginUser(0, CKU_USER, pin, 8, co, 2));
    CHECK(fake.calls[CV_LOGIN] == 0);
    CHECK_RV(CKR_OK, C_LoginUser(session, CKU_USER, pin, 8, co, 2));
    CHECK(state_of(session) == CKS_RW_USER_FUNCTIONS);
    CHECK_RV(CKR_USER_ALREADY_LOGGED_IN, C_LoginUser(session, CKU_USER, pin, 8, NULL, 0));
    CHECK_RV(CKR_OK, C_Logout(session));
    CHECK_RV(CKR_OK, C_LoginUser(session, CKU_USER, pin, 8, NULL, 0));
    CHECK_RV(CKR_OK, C_Logout(session));
    CHECK_RV(CKR_OK, C_LoginUser(session, CKU_SO, pin, 8, po, 2));
    CHECK(state_of(session) == CKS_RW_SO_FUNCTIONS);
    CHECK_RV(CKR_OK, C_CloseSession(session));
}

static void test_tickets(void)
{
    CK_SESSION_HANDLE session = fake_session(CKF_RW_SESSION);
    CHECK_RV(CKR_OK, C_Login(session, CKU_USER, pin, 8));
    strcpy(fake.next_ticket, "renewed"); /* by any answer */
    fake_find(session, FAKE_AES);
    fake_find(session, FAKE_AES); /* carries the new one, or it would be refused */
    fake.refuse[CV_FIND] = CKR_USER_NOT_LOGGED_IN;
    fake.keep_ticket = true; /* the role is refused, the ticket is not */
    CHECK_RV(CKR_USER_NOT_LOGGED_IN, C_FindObjectsInit(session, NULL, 0));
    CHECK(state_of(session) == CKS_RW_USER_FUNCTIONS);
    fake.keep_ticket = false;
    unsigned before = fake.calls[CV_FIND];
    CHECK_RV(CKR_USER_NOT_LOGGED_IN, C_FindObjectsInit(session, NULL, 0));
    CHECK(fake.calls[CV_FIND] == before + 1);
    CHECK(state_of(session) == CKS_RW_PUBLIC_SESSION); /* void: forgotten */
    fake.refuse[CV_FIND] = CKR_OK;
    CHECK_RV(CKR_OK, C_Login(session, CKU_USER, pin, 8));
    strcpy(fake.next_ticket, "of the new password");
    CHECK_RV(CKR_OK, C_SetPIN(session, pin, 8, pin, 8));
    fake_find(session, FAKE_AES);
    C_CloseAllSessions(0);
}

/* A call under way when the password changes is repeated with the new ticket. */
static CK_SESSION_HANDLE changing;
static unsigned finds;

static void change_meanwhile(unsigned operation)
{
    if (operation != CV_FIND || ++finds != 1)
        return;
    strcpy(fake.next_ticket, "changed meanwhile");
    CHECK_RV(CKR_OK, C_SetPIN(changing, pin, 8, pin, 8));
}

static void test_ticket_changes_under_way(void)
{
    CK_SESSION_HANDLE session = fake_session(CKF_RW_SESSION);
    changing = fake_session(CKF_RW_SESSION);
    CHECK_RV(CKR_OK, C_Login(session, CKU_USER, pin, 8));
    fake.before = change_meanwhile;
    fake_find(session, FAKE_AES);
    CHECK(finds == 2);
    CHECK(state_of(session) == CKS_RW_USER_FUNCTIONS);
    C_CloseAllSessions(0);
}

static void test_pins(void)
{
    CK_SESSION_HANDLE reader = fake_session(0), writer = fake_session(CKF_RW_SESSION);
    CHECK_RV(CKR_SESSION_READ_ONLY, C_SetPIN(reader, pin, 8, pin, 8));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_SetPIN(writer, NULL, 0, pin, 8));
    CHECK_RV(CKR_PIN_LEN_RANGE, C_SetPIN(writer, pin, 8, pin, 4000));
    C_CloseSession(reader);
    CHECK_RV(CKR_OK, C_Login(writer, CKU_SO, pin, 8));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_InitPIN(writer, NULL, 8));
    CHECK_RV(CKR_OK, C_InitPIN(writer, pin, 8));
    C_CloseAllSessions(0);
    CHECK_RV(CKR_ARGUMENTS_BAD, C_InitToken(0, pin, 8, NULL));
    CHECK_RV(CKR_ARGUMENTS_BAD,
             C_InitToken(0, pin, 8, (CK_UTF8CHAR_PTR) "no UTF-8 \xff 3456789012345678901234567"));
    CHECK_RV(CKR_OK,
             C_InitToken(0, pin, 8, (CK_UTF8CHAR_PTR) "na\xc3\xafve                          "));
}

static void test_fork(void)
{
    CK_SESSION_HANDLE session = fake_session(0);
    pid_t child = fork();
    if (child == 0) {
        CK_SESSION_INFO info;
        CHECK_RV(CKR_CRYPTOKI_NOT_INITIALIZED, C_GetSessionInfo(session, &info));
        CHECK_RV(CKR_CRYPTOKI_NOT_INITIALIZED, C_Finalize(NULL));
        CHECK_RV(CKR_OK, C_Initialize(NULL));
        CHECK_RV(CKR_SESSION_HANDLE_INVALID, C_GetSessionInfo(session, &info));
        fake_session(0);
        CHECK_RV(CKR_OK, C_Finalize(NULL));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CK_SESSION_INFO info;
    CHECK_RV(CKR_OK, C_GetSessionInfo(session, &info));
    C_CloseAllSessions(0);
}

static CK_FLAGS token_flags(void)
{
    CK_TOKEN_INFO token;
    CHECK_RV(CKR_OK, C_GetTokenInfo(0, &token));
    return token.flags;
}

/* While no member takes changes, sessions and tokens show it; the SO has no read-only state. */
static void test_read_only_members(void)
{
    CK_SESSION_HANDLE writer = fake_session(CKF_RW_SESSION);
    CHECK(!(token_flags() & CKF_WRITE_PROTECTED));
    fake.read_only = true;
    CHECK(token_flags() & CKF_WRITE_PROTECTED);
    CHECK(state_of(writer) == CKS_RO_PUBLIC_SESSION);
    CHECK_RV(CKR_OK, C_Login(writer, CKU_USER, pin, 8));
    CHECK(state_of(writer) == CKS_RO_USER_FUNCTIONS);
    fake.read_only = false;
    CHECK(state_of(writer) == CKS_RW_USER_FUNCTIONS);
    CHECK(!(token_flags() & CKF_WRITE_PROTECTED));
    CHECK_RV(CKR_OK, C_Logout(writer));
    CHECK_RV(CKR_OK, C_Login(writer, CKU_SO, pin, 8));
    fake.read_only = true;
    CHECK(state_of(writer) == CKS_RW_SO_FUNCTIONS);
    C_CloseAllSessions(0);
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
    fake_reset();
    test_life();
    test_interfaces();
    test_dead_cluster();
    test_hung_cluster();
    run(test_slots);
    run(test_mechanisms);
    run(test_session_handles);
    run(test_login_rules);
    run(test_login_by_name);
    run(test_read_only_members);
    run(test_tickets);
    run(test_ticket_changes_under_way);
    run(test_pins);
    run(test_fork);
    return 0;
}
