/* test_slot_events.c - keyrings that come and go while somebody waits for it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "fake_worker.h"
#include "operations.h"

static sem_t reached, go_on;
static pthread_t main_thread;

static CK_SLOT_ID event(CK_FLAGS flags)
{
    CK_SLOT_ID slot = ~0UL;
    CHECK_RV(CKR_OK, C_WaitForSlotEvent(flags, &slot, NULL));
    return slot;
}

static void no_event(void)
{
    CK_SLOT_ID slot;
    CHECK_RV(CKR_NO_EVENT, C_WaitForSlotEvent(CKF_DONT_BLOCK, &slot, NULL));
}

static CK_ULONG count_slots(void)
{
    CK_ULONG count;
    CHECK_RV(CKR_OK, C_GetSlotList(CK_TRUE, NULL, &count));
    return count;
}

static long milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void test_keyrings_come_and_go(void)
{
    CK_SLOT_ID slot;
    CK_SLOT_INFO info;
    CHECK_RV(CKR_ARGUMENTS_BAD, C_WaitForSlotEvent(CKF_DONT_BLOCK, NULL, NULL));
    CHECK_RV(CKR_ARGUMENTS_BAD, C_WaitForSlotEvent(CKF_DONT_BLOCK, &slot, &info));
    no_event(); /* what is there at first is no event */
    fake_set_tokens(3);
    CHECK(event(0) == 2);
    CHECK_RV(CKR_OK, C_GetSlotInfo(2, &info));
    CHECK(info.flags & CKF_TOKEN_PRESENT);
    no_event();
    fake_set_tokens(1);
    CHECK(event(0) == 1 && event(0) == 2);
    CHECK_RV(CKR_OK, C_GetSlotInfo(2, &info));
    CHECK(!(info.flags & CKF_TOKEN_PRESENT));
    no_event();
}

/* Whoever asks for the list in between takes no event away. */
static void test_the_list_leaves_events(void)
{
    CHECK(count_slots() == 2);
    fake_set_tokens(3);
    CHECK(count_slots() == 3);
    CHECK(event(CKF_DONT_BLOCK) == 2);
    no_event();
}

/* Calls without end cost one list a second. */
static void test_the_interval_is_bounded(void)
{
    long start = milliseconds();
    no_event();
    unsigned before = fake_calls(CV_LIST_TOKENS);
    for (unsigned i = 0; i < 20000; i++)
        no_event();
    unsigned lists = (fake_calls(CV_LIST_TOKENS) - before) / 2; /* a page, and an empty one */
    CHECK(lists <= (unsigned long)(milliseconds() - start) / 1000 + 1);
}

static void *wait_in_vain(void *unused)
{
    (void)unused;
    CK_SLOT_ID slot;
    CHECK_RV(CKR_CRYPTOKI_NOT_INITIALIZED, C_WaitForSlotEvent(0, &slot, NULL));
    return NULL;
}

static void tell(unsigned operation)
{
    if (operation == CV_LIST_TOKENS)
        sem_post(&reached);
}

static void finalize_while_waiting(unsigned lists)
{
    pthread_t threads[3];
    fake.before = tell;
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    for (unsigned i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, wait_in_vain, NULL) == 0);
    for (unsigned i = 0; i < lists; i++)
        sem_wait(&reached);
    CHECK_RV(CKR_OK, C_Finalize(NULL));
    for (unsigned i = 0; i < 3; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CK_SLOT_ID slot;
    CHECK_RV(CKR_CRYPTOKI_NOT_INITIALIZED, C_WaitForSlotEvent(0, &slot, NULL));
}

static void test_finalize_ends_waiting(void)
{
    fake_reset();
    finalize_while_waiting(2); /* for the next list */
    fake_reset();
    fake.hung[0] = true;
    finalize_while_waiting(1); /* for an answer */
}

static void test_a_hung_cluster(void)
{
    long start = milliseconds();
    fake.hung[0] = true;
    for (unsigned i = 0; i < 5; i++)
        no_event();
    CHECK(milliseconds() - start < 3000);
}

/* The others of a dead cluster keep their slots, and events. */
static void test_a_dead_cluster(void)
{
    CK_ULONG count = 0;
    fake_reset();
    fake.clusters = 2;
    fake.dead[0] = true;
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    CHECK(count_slots() == 2);
    fake_set_tokens(3);
    CHECK(event(0) == 10002);
    fake.dead[0] = false; /* nobody asks meanwhile: all that wait have returned */
    for (unsigned i = 0; i < 3; i++)
        CHECK(event(0) == i);
    CHECK_RV(CKR_OK, C_GetSlotList(CK_TRUE, NULL, &count));
    CHECK(count == 6);
    CHECK_RV(CKR_OK, C_Finalize(NULL));
}

static atomic_uint pages;

/* Holds the second page of a list that another thread asks for. */
static void hold_second_page(unsigned operation)
{
    if (operation == CV_LIST_TOKENS && !pthread_equal(pthread_self(), main_thread) &&
        atomic_fetch_add(&pages, 1) == 1) {
        sem_post(&reached);
        sem_wait(&go_on);
    }
}

/* A list that was asked for earlier and comes later brings nothing back. */
static void test_an_old_list_is_dropped(void)
{
    CHECK(count_slots() == 2);
    fake_set_tokens(3);
    main_thread = pthread_self();
    fake.before = hold_second_page;
    no_event(); /* the list is under way */
    sem_wait(&reached);
    fake_set_tokens(2);
    CHECK(count_slots() == 2);
    sem_post(&go_on);
    unsigned before = atomic_load(&pages);
    while (atomic_load(&pages) == before) { /* the next list is asked for: the old one is over */
        no_event();
        sched_yield();
    }
    no_event();
    CHECK(count_slots() == 2);
}

static atomic_bool enough;

static void *list_slots(void *unused)
{
    (void)unused;
    while (!atomic_load(&enough))
        count_slots();
    return NULL;
}

static void test_a_slot_is_never_gone_for_a_moment(void)
{
    pthread_t lister;
    CK_SESSION_HANDLE session;
    fake.tokens = 90;
    CHECK(count_slots() == 90);
    atomic_store(&enough, false);
    CHECK(pthread_create(&lister, NULL, list_slots, NULL) == 0);
    for (unsigned i = 0; i < 20000; i++) {
        CHECK_RV(CKR_OK, C_OpenSession(89, CKF_SERIAL_SESSION, NULL, NULL, &session));
        CHECK_RV(CKR_OK, C_CloseSession(session));
    }
    atomic_store(&enough, true);
    CHECK(pthread_join(lister, NULL) == 0);
    no_event();
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
    sem_init(&reached, 0, 0);
    sem_init(&go_on, 0, 0);
    run(test_keyrings_come_and_go);
    run(test_the_list_leaves_events);
    run(test_the_interval_is_bounded);
    test_finalize_ends_waiting();
    run(test_a_hung_cluster);
    test_a_dead_cluster();
    run(test_an_old_list_is_dropped);
    run(test_a_slot_is_never_gone_for_a_moment);
    return 0;
}
