/* openssl_gate.c - see openssl_gate.h. */
#define _GNU_SOURCE
#include "openssl_gate.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "moment.h"

#define GATE_TIME CV_SECOND

/* Who enters counts itself first and looks at `gone` and `forking` then; who ends OpenSSL or forks
 * sets its word first and looks at `inside` then.  So one sees the other. */
static _Atomic uint32_t inside;  /* threads */
static _Atomic uint32_t forking; /* threads between the two fork handlers */
static _Atomic bool gone;        /* OPENSSL_cleanup has begun */
static _Atomic bool watched;     /* it will tell us */
static _Thread_local unsigned depth;

static void step_out(void)
{
    if (atomic_fetch_sub(&inside, 1) == 1 && (atomic_load(&forking) != 0 || atomic_load(&gone)))
        cv_word_wake(&inside, INT_MAX);
}

static void wait_for_others(void)
{
    uint32_t ourselves = depth != 0 ? 1 : 0;
    uint32_t others;
    cv_moment until = cv_now() + GATE_TIME;
    while ((others = atomic_load(&inside)) > ourselves && cv_now() < until)
        cv_word_wait(&inside, others, until);
}

static bool pass(void)
{
    if (!atomic_load(&gone))
        return true;
    depth--;
    step_out();
    return false;
}

bool cv_openssl_enter(void)
{
    uint32_t forks;
    cv_moment until = 0;
    if (depth != 0 && atomic_load(&gone))
        return false; /* it left the process from inside, or is being waited for */
    if (depth++ != 0)
        return true;
    atomic_fetch_add(&inside, 1);
    while ((forks = atomic_load(&forking)) != 0) {
        if (until == 0)
            until = cv_now() + GATE_TIME;
        else if (cv_now() >= until)
            break;
        step_out();
        cv_word_wait(&forking, forks, until);
        atomic_fetch_add(&inside, 1);
    }
    return pass();
}

void cv_openssl_leave(void)
{
    if (--depth == 0)
        step_out();
}

static void before_fork(void)
{
    atomic_fetch_add(&forking, 1);
    wait_for_others();
    depth++; /* what a later handler calls passes the gate */
}

static void after_fork_in_parent(void)
{
    depth--;
    if (atomic_fetch_sub(&forking, 1) == 1)
        cv_word_wake(&forking, INT_MAX);
}

static void after_fork_in_child(void)
{
    depth--;
    atomic_store(&forking, 0);
    atomic_store(&inside, depth != 0 ? 1 : 0);
}

bool cv_openssl_watch_forks(void)
{
    return pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) == 0;
}

/* The first thing OPENSSL_cleanup does. */
static void before_end(void)
{
    atomic_store(&gone, true);
    wait_for_others();
}

bool cv_openssl_watch_end(void)
{
    if (!atomic_load(&watched))
        atomic_store(&watched, OPENSSL_atexit(before_end) == 1);
    return atomic_load(&watched);
}
