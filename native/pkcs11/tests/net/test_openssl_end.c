/* test_openssl_end.c - OPENSSL_cleanup waits for who is inside the gate and lets nobody in again. */
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "check.h"
#include "openssl_gate.h"

static atomic_bool inside, ending, left;
static pthread_t worker;

static void *work_until_the_end(void *argument)
{
    uint8_t drawn[16];
    CHECK(cv_openssl_enter());
    atomic_store(&inside, true);
    while (!atomic_load(&ending))
        (void)!RAND_bytes(drawn, sizeof drawn);
    for (unsigned i = 0; i < 100; i++) /* OpenSSL may refuse by now, and must not crash */
        (void)!RAND_bytes(drawn, sizeof drawn);
    OPENSSL_thread_stop(); /* later, nobody would free what this thread drew with */
    atomic_store(&left, true);
    cv_openssl_leave();
    return argument;
}

/* OpenSSL calls its handlers in the reverse order of their registration. */
static void first_of_openssl(void)
{
    atomic_store(&ending, true);
}

static void last_of_openssl(void)
{
    CHECK(atomic_load(&left));
}

static void after_openssl(void)
{
    CHECK(pthread_join(worker, NULL) == 0);
    CHECK(!cv_openssl_enter());
    check_report("test_openssl_end");
}

int main(void)
{
    check_name = "the_end_of_openssl_waits_for_who_is_inside";
    CHECK(atexit(after_openssl) == 0);
    CHECK(OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL) == 1);
    CHECK(OPENSSL_atexit(last_of_openssl) == 1);
    CHECK(cv_openssl_watch_end());
    CHECK(OPENSSL_atexit(first_of_openssl) == 1);
    CHECK(cv_openssl_enter() && cv_openssl_enter());
    cv_openssl_leave();
    cv_openssl_leave();
    CHECK(pthread_create(&worker, NULL, work_until_the_end, NULL) == 0);
    while (!atomic_load(&inside))
        sched_yield();
    CHECK(cv_openssl_enter()); /* who leaves the process from inside is not waited for */
    exit(0);
}
