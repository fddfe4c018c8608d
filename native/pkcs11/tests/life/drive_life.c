/*
 * drive_life.c - an application that loads the module, and is careless in one way (tests/native).
 *
 *   drive_life MODULE LABEL SCENARIO [COPY]      the PIN is in TOKEN_PIN
 *
 * It ends with status 0 when the module kept its promises.  COPY is the module under another path.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "cryptoki.h"

#define THREADS 4
#define WARM 20 /* operations that each thread has done before something happens */
#define PATIENCE_S 90 /* longer than a call may take */

struct module {
    void *library;
    CK_FUNCTION_LIST *f;
    CK_SLOT_ID slot;
};

static const char *label, *pin;

/* ---------------------------------------------------------------- what an application does */

static void load(struct module *module, void *library)
{
    CK_C_GetFunctionList list;
    CHECK(library != NULL);
    module->library = library;
    *(void **)&list = dlsym(library, "C_GetFunctionList");
    CHECK(list != NULL);
    CHECK_RV(CKR_OK, list(&module->f));
}

static void find_slot(struct module *module)
{
    CK_SLOT_ID slots[64];
    CK_ULONG count = 64;
    CK_TOKEN_INFO info;
    CHECK_RV(CKR_OK, module->f->C_GetSlotList(CK_TRUE, slots, &count));
    for (CK_ULONG i = 0; i < count; i++) {
        CHECK_RV(CKR_OK, module->f->C_GetTokenInfo(slots[i], &info));
        if (memcmp(info.label, label, strlen(label)) == 0 && info.label[strlen(label)] == ' ') {
            module->slot = slots[i];
            return;
        }
    }
    CHECK(!"a slot of that label");
}

static CK_SESSION_HANDLE open_session(struct module *module)
{
    CK_SESSION_HANDLE session;
    CHECK_RV(CKR_OK, module->f->C_OpenSession(module->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION,
                                              NULL, NULL, &session));
    return session;
}

static void log_in(struct module *module, CK_SESSION_HANDLE session)
{
    CHECK_RV(CKR_OK, module->f->C_Login(session, CKU_USER, (CK_UTF8CHAR *)pin, strlen(pin)));
}

static CK_OBJECT_HANDLE make_key(struct module *module, CK_SESSION_HANDLE session)
{
    CK_MECHANISM generate = {CKM_AES_KEY_GEN, NULL, 0};
    CK_ULONG length = 16;
    CK_OBJECT_HANDLE key;
    CK_ATTRIBUTE template[] = {{CKA_VALUE_LEN, &length, sizeof length}};
    CHECK_RV(CKR_OK, module->f->C_GenerateKey(session, &generate, template, 1, &key));
    return key;
}

/* One operation that a worker has to do. */
static CK_RV encrypt(struct module *module, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    CK_MECHANISM ecb = {CKM_AES_ECB, NULL, 0};
    CK_BYTE block[16] = {0}, made[16];
    CK_ULONG length = sizeof made;
    CK_RV value = module->f->C_EncryptInit(session, &ecb, key);
    return value != CKR_OK ? value : module->f->C_Encrypt(session, block, 16, made, &length);
}

static void work(struct module *module)
{
    find_slot(module);
    CK_SESSION_HANDLE session = open_session(module);
    log_in(module, session);
    CK_OBJECT_HANDLE key = make_key(module, session);
    for (int i = 0; i < WARM; i++)
        CHECK_RV(CKR_OK, encrypt(module, session, key));
}

/* ---------------------------------------------------------------- busy threads */

struct crowd {
    struct module *module;
    CK_OBJECT_HANDLE key;
    CK_SESSION_HANDLE sessions[THREADS];
    pthread_t threads[THREADS];
    atomic_uint begun, done;
    atomic_bool over;
};

static void *be_busy(void *argument)
{
    struct crowd *crowd = argument;
    CK_SESSION_HANDLE session = crowd->sessions[atomic_fetch_add(&crowd->begun, 1)];
    CK_RV value = CKR_OK;
    while (!crowd->over && (value = encrypt(crowd->module, session, crowd->key)) == CKR_OK)
        atomic_fetch_add(&crowd->done, 1);
    CHECK(value == CKR_OK || value == CKR_CRYPTOKI_NOT_INITIALIZED ||
          value == CKR_SESSION_HANDLE_INVALID);
    return NULL;
}

static void await(const atomic_uint *counter, unsigned least)
{
    time_t end = time(NULL) + PATIENCE_S;
    while (*counter < least) {
        CHECK(time(NULL) < end);
        sched_yield();
    }
}

/* Threads that are in the middle of their work when this returns. */
static void start_crowd(struct crowd *crowd, struct module *module)
{
    find_slot(module);
    CK_SESSION_HANDLE session = open_session(module);
    log_in(module, session);
    crowd->module = module;
    crowd->key = make_key(module, session);
    for (unsigned i = 0; i < THREADS; i++)
        crowd->sessions[i] = open_session(module);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_create(&crowd->threads[i], NULL, be_busy, crowd) == 0);
    await(&crowd->done, THREADS * WARM);
}

static void end_crowd(struct crowd *crowd)
{
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(crowd->threads[i], NULL);
}

/* ---------------------------------------------------------------- two users of one module */

/* A library of the application's loads the module too and takes ALREADY_INITIALIZED for success, as the
 * standard advises; then the first one ends the module under its feet. */
static void two_users(struct module *first, const char *path)
{
    struct module second;
    load(&second, dlopen(path, RTLD_NOW));
    CHECK_RV(CKR_OK, first->f->C_Initialize(NULL));
    CHECK_RV(CKR_CRYPTOKI_ALREADY_INITIALIZED, second.f->C_Initialize(NULL));
    work(first);
    find_slot(&second);
    CK_SESSION_HANDLE session = open_session(&second);
    CK_OBJECT_HANDLE key = make_key(&second, session); /* logged in by the first */
    CHECK_RV(CKR_OK, encrypt(&second, session, key));
    CHECK_RV(CKR_OK, first->f->C_Finalize(NULL));
    dlclose(first->library);
    CHECK_RV(CKR_CRYPTOKI_NOT_INITIALIZED, encrypt(&second, session, key));
    CHECK_RV(CKR_OK, second.f->C_Initialize(NULL));
    work(&second);
    CHECK_RV(CKR_OK, second.f->C_Finalize(NULL));
    dlclose(second.library);
}

/* Two copies of the module know nothing of each other. */
static void two_copies(struct module *first, void *other)
{
    struct module second;
    struct crowd crowd = {0};
    load(&second, other);
    CHECK(second.f != first->f);
    CHECK_RV(CKR_OK, first->f->C_Initialize(NULL));
    CHECK_RV(CKR_OK, second.f->C_Initialize(NULL));
    start_crowd(&crowd, first);
    work(&second);
    CHECK_RV(CKR_OK, second.f->C_Finalize(NULL));
    unsigned before = crowd.done;
    await(&crowd.done, before + WARM);
    dlclose(second.library);
    await(&crowd.done, before + 2 * WARM);
    crowd.over = true;
    end_crowd(&crowd);
    CHECK_RV(CKR_OK, first->f->C_Finalize(NULL));
}

/* ---------------------------------------------------------------- dlclose */

static void close_while_busy(struct module *first, const char *path)
{
    struct crowd crowd = {0};
    struct module again, *module = &again;
    CHECK_RV(CKR_OK, first->f->C_Initialize(NULL));
    start_crowd(&crowd, first);
    dlclose(first->library);
    unsigned before = crowd.done;
    await(&crowd.done, before + WARM);
    load(module, dlopen(path, RTLD_NOW));
    CHECK_RV(CKR_CRYPTOKI_ALREADY_INITIALIZED, module->f->C_Initialize(NULL));
    CHECK_RV(CKR_OK, module->f->C_Finalize(NULL));
    end_crowd(&crowd);
    dlclose(module->library);
    load(module, dlopen(path, RTLD_NOW));
    CHECK_RV(CKR_OK, module->f->C_Initialize(NULL));
    work(module);
    CHECK_RV(CKR_OK, module->f->C_Finalize(NULL));
    dlclose(module->library);
}

/* ---------------------------------------------------------------- over and over */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SETTLED 10 /* rounds */
#define CLOSED 40
#define ENDED 40
#define GROWTH LONG_MAX /* a sanitizer keeps for a while what is freed; a leak it finds by itself */
#else
#define SETTLED 200
#define CLOSED 2000
#define ENDED 600
#define GROWTH (1L << 20)
#endif

/* How many more pthread keys the process can have: libraries that take one each time and never give
 * it back leave none in the end, and then no OpenSSL in the process works. */
static int take_keys(pthread_key_t keys[PTHREAD_KEYS_MAX])
{
    int taken = 0;
    while (taken < PTHREAD_KEYS_MAX && pthread_key_create(&keys[taken], NULL) == 0)
        taken++;
    return taken;
}

static int give_keys_back(pthread_key_t keys[PTHREAD_KEYS_MAX], int taken)
{
    for (int i = 0; i < taken; i++)
        CHECK(pthread_key_delete(keys[i]) == 0);
    return taken;
}

static int free_keys(void)
{
    pthread_key_t keys[PTHREAD_KEYS_MAX];
    return give_keys_back(keys, take_keys(keys));
}

static long resident(void)
{
    long whole, pages;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%ld %ld", &whole, &pages) == 2);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

/* Leaves something of OpenSSL's in the thread. */
static void live_once(struct module *module)
{
    CK_MECHANISM sha256 = {CKM_SHA256, NULL, 0};
    CK_BYTE digest[32], drawn[16];
    CK_ULONG length = sizeof digest;
    CHECK_RV(CKR_OK, module->f->C_Initialize(NULL));
    find_slot(module);
    CK_SESSION_HANDLE session = open_session(module);
    CHECK_RV(CKR_OK, module->f->C_GenerateRandom(session, drawn, sizeof drawn));
    CHECK_RV(CKR_OK, module->f->C_DigestInit(session, &sha256));
    CHECK_RV(CKR_OK, module->f->C_Digest(session, drawn, sizeof drawn, digest, &length));
    CHECK_RV(CKR_OK, module->f->C_Finalize(NULL));
}

/* In a thread that ends when the module has been closed. */
static void *load_and_close(void *path)
{
    struct module module;
    load(&module, dlopen(path, RTLD_NOW));
    live_once(&module);
    CHECK(dlclose(module.library) == 0);
    return NULL;
}

static void repeat(void *(*round)(void *), void *argument, int rounds)
{
    int keys = 0;
    long memory = 0;
    for (int i = 1; i <= rounds; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, round, argument) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        if (i == SETTLED) {
            keys = free_keys();
            memory = resident();
        }
    }
    CHECK(free_keys() == keys);
    CHECK(resident() - memory <= GROWTH);
}

static void close_again_and_again(struct module *module, char *path)
{
    CHECK(dlclose(module->library) == 0); /* or no later dlclose would be the last */
    repeat(load_and_close, path, CLOSED);
}

static void *initialise_and_finalise(void *module)
{
    live_once(module);
    return NULL;
}

static void end_again_and_again(struct module *module)
{
    repeat(initialise_and_finalise, module, ENDED);
}

/* ---------------------------------------------------------------- exit */

static struct crowd exiting;
static bool openssl_is_gone;

/* Registered before the module was loaded, so it runs after whatever that brought with it. */
static void last_handler(void)
{
    CK_SESSION_HANDLE session;
    CK_FUNCTION_LIST *f = exiting.module->f;
    CK_RV value = f->C_OpenSession(exiting.module->slot, CKF_SERIAL_SESSION, NULL, NULL, &session);
    CHECK(openssl_is_gone || value == CKR_OK);
    if (value == CKR_OK && !openssl_is_gone)
        CHECK_RV(CKR_OK, encrypt(exiting.module, session, exiting.key));
    CHECK_RV(CKR_OK, f->C_Finalize(NULL));
    end_crowd(&exiting);
}

static void *exit_from_here(void *argument)
{
    exit(argument == NULL ? 0 : 1);
}

static void exit_while_busy(struct module *module)
{
    pthread_t thread;
    CHECK_RV(CKR_OK, module->f->C_Initialize(NULL));
    start_crowd(&exiting, module);
    CHECK(pthread_create(&thread, NULL, exit_from_here, NULL) == 0);
    for (;;)
        pause();
}

static void exit_with_handlers(struct module *module)
{
    CHECK_RV(CKR_OK, module->f->C_Initialize(NULL));
    start_crowd(&exiting, module);
    exit(0);
}

/* ---------------------------------------------------------------- fork */

static int child_of_many(struct module *module)
{
    CK_SESSION_HANDLE session;
    if (module->f->C_OpenSession(module->slot, CKF_SERIAL_SESSION, NULL, NULL, &session) !=
        CKR_CRYPTOKI_NOT_INITIALIZED)
        return 2;
    CHECK_RV(CKR_OK, module->f->C_Initialize(NULL));
    work(module);
    CHECK_RV(CKR_OK, module->f->C_Finalize(NULL));
    return 0;
}

static void fork_while_busy(struct module *module)
{
    struct crowd crowd = {0};
    CHECK_RV(CKR_OK, module->f->C_Initialize(NULL));
    start_crowd(&crowd, module);
    for (int i = 0; i < 4; i++) {
        int status = 1;
        pid_t child = fork();
        if (child == 0)
            _exit(child_of_many(module));
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(status == 0);
    }
    unsigned before = crowd.done;
    await(&crowd.done, before + WARM);
    crowd.over = true;
    end_crowd(&crowd);
    CHECK_RV(CKR_OK, module->f->C_Finalize(NULL));
}

/* ---------------------------------------------------------------- many at once */

#define ROUNDS 6

struct race {
    struct module *module;
    pthread_barrier_t barrier;
    atomic_uint started[ROUNDS], stopped[ROUNDS];
};

static void *initialise_and_end(void *argument)
{
    struct race *race = argument;
    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&race->barrier);
        CK_RV value = race->module->f->C_Initialize(NULL);
        CHECK(value == CKR_OK || value == CKR_CRYPTOKI_ALREADY_INITIALIZED);
        race->started[round] += value == CKR_OK;
        pthread_barrier_wait(&race->barrier);
        CK_INFO info;
        CHECK_RV(CKR_OK, race->module->f->C_GetInfo(&info));
        pthread_barrier_wait(&race->barrier);
        value = race->module->f->C_Finalize(NULL);
        CHECK(value == CKR_OK || value == CKR_CRYPTOKI_NOT_INITIALIZED);
        race->stopped[round] += value == CKR_OK;
    }
    return NULL;
}

static void initialise_at_once(struct module *module)
{
    struct race race = {.module = module};
    pthread_t threads[THREADS];
    CHECK(pthread_barrier_init(&race.barrier, NULL, THREADS) == 0);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, initialise_and_end, &race) == 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int round = 0; round < ROUNDS; round++)
        CHECK(race.started[round] == 1 && race.stopped[round] == 1);
    pthread_barrier_destroy(&race.barrier);
}

#define SESSIONS 5000

static void many_sessions(struct module *module)
{
    static CK_SESSION_HANDLE sessions[SESSIONS];
    CK_TOKEN_INFO info;
    CK_SESSION_INFO own;
    CHECK_RV(CKR_OK, module->f->C_Initialize(NULL));
    find_slot(module);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < SESSIONS; i++)
            sessions[i] = open_session(module);
        CHECK_RV(CKR_OK, module->f->C_GetTokenInfo(module->slot, &info));
        CHECK(info.ulSessionCount == SESSIONS && info.ulRwSessionCount == SESSIONS);
        log_in(module, sessions[0]);
        CK_OBJECT_HANDLE key = make_key(module, sessions[1]);
        CHECK_RV(CKR_OK, encrypt(module, sessions[SESSIONS - 1], key));
        CHECK_RV(CKR_OK, module->f->C_GetSessionInfo(sessions[SESSIONS / 2], &own));
        CHECK(own.state == CKS_RW_USER_FUNCTIONS);
        for (int i = 0; i < SESSIONS; i += 2)
            CHECK_RV(CKR_OK, module->f->C_CloseSession(sessions[i]));
        CHECK_RV(CKR_SESSION_HANDLE_INVALID, module->f->C_GetSessionInfo(sessions[0], &own));
        CHECK_RV(CKR_OK, encrypt(module, sessions[SESSIONS - 1], key));
        CHECK_RV(CKR_OK, module->f->C_CloseAllSessions(module->slot));
        CHECK_RV(CKR_OK, module->f->C_GetTokenInfo(module->slot, &info));
        CHECK(info.ulSessionCount == 0 && info.ulRwSessionCount == 0);
    }
    CHECK_RV(CKR_OK, module->f->C_Finalize(NULL));
}

/* ---------------------------------------------------------------- scenarios */

int main(int count, char **arguments)
{
    struct module module = {0};
    CHECK(count >= 4);
    char *path = arguments[1], *scenario = arguments[3];
    label = arguments[2];
    pin = getenv("TOKEN_PIN");
    CHECK(pin != NULL);
    if (strcmp(scenario, "handlers") == 0 || strcmp(scenario, "handlers-after-openssl") == 0)
        CHECK(atexit(last_handler) == 0);
    openssl_is_gone = strcmp(scenario, "handlers-after-openssl") == 0;
    if (openssl_is_gone) /* the application's own use, which asks for its exit handler */
        CHECK(OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL) == 1);
    load(&module, dlopen(path, RTLD_NOW));
    if (strcmp(scenario, "users") == 0)
        two_users(&module, path);
    else if (strcmp(scenario, "copies") == 0)
        two_copies(&module, dlopen(arguments[4], RTLD_NOW));
    else if (strcmp(scenario, "close") == 0)
        close_while_busy(&module, path);
    else if (strcmp(scenario, "close-again") == 0)
        close_again_and_again(&module, path);
    else if (strcmp(scenario, "end-again") == 0)
        end_again_and_again(&module);
    else if (strcmp(scenario, "exit") == 0)
        exit_while_busy(&module);
    else if (openssl_is_gone || strcmp(scenario, "handlers") == 0)
        exit_with_handlers(&module);
    else if (strcmp(scenario, "fork") == 0)
        fork_while_busy(&module);
    else if (strcmp(scenario, "at-once") == 0)
        initialise_at_once(&module);
    else if (strcmp(scenario, "sessions") == 0)
        many_sessions(&module);
    else
        CHECK(!"a scenario of that name");
    return 0;
}
