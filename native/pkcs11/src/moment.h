/*
 * moment.h - monotonic time in nanoseconds, and waiting on a word.
 *
 * Every wait in the module ends at a moment; there is no wait without one.
 */
#ifndef CONCLAVE_MOMENT_H
#define CONCLAVE_MOMENT_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef int64_t cv_moment; /* CLOCK_MONOTONIC, nanoseconds */

#define CV_MICROSECOND INT64_C(1000)
#define CV_MILLISECOND INT64_C(1000000)
#define CV_SECOND INT64_C(1000000000)

cv_moment cv_now(void);
/* Milliseconds since boot, sleep included: what cluster time is counted on. */
int64_t cv_boot_time_ms(void);
/* Time until `moment` as poll() wants it: rounded up, 0 when it has passed. */
int cv_poll_timeout(cv_moment moment);
/* Whether this process may run on more than one processor. */
bool cv_several_processors(void);
static inline cv_moment cv_earlier(cv_moment a, cv_moment b)
{
    return a < b ? a : b;
}

/* Sleeps while *word is `expected`, until woken or `until`; may also return for no reason. */
void cv_word_wait(_Atomic uint32_t *word, uint32_t expected, cv_moment until);
/* Wakes sleepers.  The word is only used as an address: its owner may be gone already. */
void cv_word_wake(_Atomic uint32_t *word, int how_many);

#endif
