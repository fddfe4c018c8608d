/*
 * slot_events.c - C_WaitForSlotEvent (PKCS#11 3.0, section 5.5.4): keyrings that come and go.
 *
 * Nobody tells the module of them, so whoever waits asks for the list of keyrings: all who wait
 * together once a second, however many they are and however often they call.
 */
#define _GNU_SOURCE
#include <time.h>

#include "state.h"

#define INTERVAL_SECONDS 1

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static pthread_cond_t changed;
static bool stopping;
static bool asking;         /* somebody asks for the list */
static struct timespec due; /* then it is asked for again */

CK_RV cv_events_start(void)
{
    pthread_condattr_t monotonic;
    pthread_mutex_init(&mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    stopping = asking = false;
    due = (struct timespec){0};
    return CKR_OK;
}

void cv_events_stop(void)
{
    pthread_cond_destroy(&changed);
    pthread_mutex_destroy(&mutex);
}

void cv_events_wake(void)
{
    pthread_mutex_lock(&mutex);
    stopping = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

static struct timespec in_seconds(time_t seconds)
{
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    moment.tv_sec += seconds;
    return moment;
}

static bool is_due(void)
{
    struct timespec now = in_seconds(0);
    return now.tv_sec > due.tv_sec || (now.tv_sec == due.tv_sec && now.tv_nsec >= due.tv_nsec);
}

/* Under the mutex, which it leaves meanwhile. */
static void ask(bool block)
{
    asking = true;
    pthread_mutex_unlock(&mutex);
    if (block)
        cv_tokens_refresh(); /* what it cannot reach keeps its slots, and is asked again */
    else
        cv_tokens_glance();
    pthread_mutex_lock(&mutex);
    asking = false;
    due = in_seconds(INTERVAL_SECONDS);
    pthread_cond_broadcast(&changed);
}

/* Under the mutex: until somebody's question is answered, or one is due. */
static void pause_until_due(void)
{
    struct timespec end = asking ? in_seconds(INTERVAL_SECONDS) : due;
    pthread_cond_timedwait(&changed, &mutex, &end);
}

static CK_RV wait_for_event(CK_FLAGS flags, CK_SLOT_ID *slot, const void *reserved)
{
    bool block = !(flags & CKF_DONT_BLOCK), found = false;
    if (slot == NULL || reserved != NULL)
        return CKR_ARGUMENTS_BAD;
    pthread_mutex_lock(&mutex);
    while (!stopping && !(found = cv_slots_take_event(slot))) {
        if (!asking && is_due())
            ask(block);
        else if (block)
            pause_until_due();
        else
            break;
    }
    bool stopped = stopping;
    pthread_mutex_unlock(&mutex);
    return found ? CKR_OK : stopped ? CKR_CRYPTOKI_NOT_INITIALIZED : CKR_NO_EVENT;
}

CK_RV C_WaitForSlotEvent(CK_FLAGS flags, CK_SLOT_ID_PTR slot, CK_VOID_PTR reserved)
{
    CV_GUARDED(wait_for_event(flags, slot, reserved));
}
