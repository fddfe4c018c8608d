/* moment.c - see moment.h. */
#define _GNU_SOURCE
#include "moment.h"

#include <linux/futex.h>
#include <sched.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

cv_moment cv_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * CV_SECOND + now.tv_nsec;
}

int64_t cv_boot_time_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (now.tv_sec * CV_SECOND + now.tv_nsec) / CV_MILLISECOND;
}

int cv_poll_timeout(cv_moment moment)
{
    cv_moment left = moment - cv_now();
    if (left <= 0)
        return 0;
    left = (left + CV_MILLISECOND - 1) / CV_MILLISECOND;
    return left < INT_MAX ? (int)left : INT_MAX;
}

bool cv_several_processors(void)
{
    static _Atomic int known;
    int count = atomic_load_explicit(&known, memory_order_relaxed);
    cpu_set_t ours;
    if (count == 0) {
        count = sched_getaffinity(0, sizeof ours, &ours) == 0 ? CPU_COUNT(&ours) : 1;
        atomic_store_explicit(&known, count, memory_order_relaxed);
    }
    return count > 1;
}

void cv_word_wait(_Atomic uint32_t *word, uint32_t expected, cv_moment until)
{
    /* FUTEX_WAIT_BITSET takes an absolute CLOCK_MONOTONIC time. */
    struct timespec end = { .tv_sec = until / CV_SECOND, .tv_nsec = until % CV_SECOND };
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected, &end, NULL,
            FUTEX_BITSET_MATCH_ANY);
}

void cv_word_wake(_Atomic uint32_t *word, int how_many)
{
    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, how_many, NULL, NULL, 0);
}
