/*
 * module.c - the life of the module between C_Initialize and C_Finalize.
 *
 * Each call counts itself in and out, in one of a few counters so that threads do not fight for a
 * cache line.  C_Finalize first closes the gate, then wakes whoever waits for a worker, then
 * waits until everybody has left, and only then frees.
 */
#define _GNU_SOURCE
#include <time.h>

#include "nonces.h"
#include "state.h"

enum { STOPPED, RUNNING, STOPPING };

#define COUNTERS 16

struct counter {
    _Alignas(64) atomic_long inside;
};

static struct counter counters[COUNTERS];
static atomic_uint next_counter;
static _Thread_local unsigned my_counter; /* 0 until chosen, then 1 to COUNTERS */
static atomic_int phase = STOPPED;
static pthread_mutex_t lifecycle = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static bool may_create_threads;

static struct counter *counter_of_thread(void)
{
    if (my_counter == 0)
        my_counter = atomic_fetch_add(&next_counter, 1) % COUNTERS + 1;
    return &counters[my_counter - 1];
}

CK_RV cv_enter(void)
{
    struct counter *counter = counter_of_thread();
    atomic_fetch_add(&counter->inside, 1);
    if (atomic_load(&phase) == RUNNING && !cv_runtime_forked())
        return CKR_OK;
    atomic_fetch_sub(&counter->inside, 1);
    return CKR_CRYPTOKI_NOT_INITIALIZED;
}

void cv_leave(void)
{
    atomic_fetch_sub(&counter_of_thread()->inside, 1);
}

/* In a child nobody else is inside, and no other thread holds the lock: both may lie. */
static void after_fork(void)
{
    pthread_mutex_init(&lifecycle, NULL);
    for (size_t i = 0; i < COUNTERS; i++)
        atomic_store(&counters[i].inside, 0);
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, after_fork);
}

static void stop_parts(void)
{
    cv_tokens_stop();
    cv_events_stop();
    cv_sessions_stop();
    cv_objects_stop();
    cv_slots_stop();
    cv_offers_stop();
    cv_states_stop();
    cv_digests_stop();
}

static CK_RV start_parts(void)
{
    CK_RV value = cv_digests_start();
    if (value == CKR_OK)
        value = cv_nonces_start();
    if (value == CKR_OK)
        value = cv_states_start();
    if (value == CKR_OK)
        value = cv_events_start();
    if (value == CKR_OK)
        value = cv_offers_start(cv_cluster_count());
    if (value == CKR_OK)
        value = cv_slots_start();
    if (value == CKR_OK)
        value = cv_tokens_start(cv_cluster_count());
    if (value == CKR_OK)
        value = cv_objects_start();
    if (value == CKR_OK)
        value = cv_sessions_start();
    if (value != CKR_OK)
        stop_parts();
    return value;
}

/* What a parent had: its locks may be held by threads that do not exist here, so nothing of it
 * is touched or given back. */
static void abandon_parts(void)
{
    cv_tokens_abandon();
    cv_sessions_abandon();
    cv_objects_abandon();
    cv_slots_abandon();
    cv_offers_abandon();
    cv_states_abandon();
    cv_digests_abandon();
}

static CK_RV check_arguments(const CK_C_INITIALIZE_ARGS *arguments)
{
    may_create_threads = true;
    if (arguments == NULL)
        return CKR_OK;
    if (arguments->pReserved != NULL)
        return CKR_ARGUMENTS_BAD;
    int given = (arguments->CreateMutex != NULL) + (arguments->DestroyMutex != NULL) +
                (arguments->LockMutex != NULL) + (arguments->UnlockMutex != NULL);
    if (given != 0 && given != 4)
        return CKR_ARGUMENTS_BAD;
    if (given == 4 && !(arguments->flags & CKF_OS_LOCKING_OK))
        return CKR_CANT_LOCK;
    may_create_threads = !(arguments->flags & CKF_LIBRARY_CANT_CREATE_OS_THREADS);
    return CKR_OK;
}

CK_RV cv_module_start(CK_C_INITIALIZE_ARGS *arguments)
{
    pthread_once(&fork_once, watch_forks);
    pthread_mutex_lock(&lifecycle);
    CK_RV value = CKR_CRYPTOKI_ALREADY_INITIALIZED;
    if (atomic_load(&phase) != STOPPED && cv_runtime_forked()) {
        abandon_parts();
        atomic_store(&phase, STOPPED);
    }
    if (atomic_load(&phase) == STOPPED)
        value = check_arguments(arguments);
    if (value == CKR_OK)
        value = cv_runtime_start();
    if (value == CKR_OK && (value = start_parts()) != CKR_OK)
        cv_runtime_stop();
    if (value == CKR_OK)
        atomic_store(&phase, RUNNING);
    pthread_mutex_unlock(&lifecycle);
    return value;
}

static void wait_until_empty(void)
{
    const struct timespec pause = {.tv_nsec = 200000};
    for (size_t i = 0; i < COUNTERS; i++)
        while (atomic_load(&counters[i].inside) != 0)
            nanosleep(&pause, NULL);
}

CK_RV cv_module_stop(void)
{
    pthread_mutex_lock(&lifecycle);
    if (atomic_load(&phase) != RUNNING || cv_runtime_forked()) {
        pthread_mutex_unlock(&lifecycle);
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    }
    atomic_store(&phase, STOPPING);
    cv_events_wake();
    cv_runtime_stop();
    wait_until_empty();
    stop_parts();
    atomic_store(&phase, STOPPED);
    pthread_mutex_unlock(&lifecycle);
    return CKR_OK;
}

bool cv_module_may_create_threads(void)
{
    return may_create_threads;
}
