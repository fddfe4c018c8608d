/* openssl_gate.c - see openssl_gate.h. */
#define _GNU_SOURCE
#include "openssl_gate.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "moment.h"

#define GATE_TIME CV_SECOND

/* Who enters counts itself first and looks at `forking` then; who forks sets `forking` first and
 * looks at `inside` then.  So one sees the other. */
static _Atomic uint32_t inside;  /* threads */
static _Atomic uint32_t forking; /* threads between the two fork handlers */
static _Thread_local unsigned depth;

static void step_out(void)
{
    if (atomic_fetch_sub(&inside, 1) == 1 && atomic_load(&forking) != 0)
        cv_word_wake(&inside, INT_MAX);
}

void cv_openssl_enter(void)
{
    uint32_t forks;
    cv_moment until = 0;
    if (depth++ != 0)
        return;
    atomic_fetch_add(&inside, 1);
    while ((forks = atomic_load(&forking)) != 0) {
        if (until == 0)
            until = cv_now() + GATE_TIME;
        else if (cv_now() >= until)
            return;
        step_out();
        cv_word_wait(&forking, forks, until);
        atomic_fetch_add(&inside, 1);
    }
}

void cv_openssl_leave(void)
{
    if (--depth == 0)
        step_out();
}

static void before_fork(void)
{
    uint32_t ourselves = depth != 0 ? 1 : 0;
    uint32_t others;
    cv_moment until = cv_now() + GATE_TIME;
    depth++; /* what a later handler calls passes the gate */
    atomic_fetch_add(&forking, 1);
    while ((others = atomic_load(&inside)) > ourselves && cv_now() < until)
        cv_word_wait(&inside, others, until);
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
