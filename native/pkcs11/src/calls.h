/* calls.h - the calls under way on one link, by id and by age. */
#ifndef CONCLAVE_CALLS_H
#define CONCLAVE_CALLS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fault.h"
#include "moment.h"

#define CV_BUCKETS 64u /* power of two */

/* The body of an answer, to be freed by the caller. */
struct cv_answer {
    uint8_t *bytes;
    size_t length;
};

/* One call under way; lives on its caller's stack, at one place from cv_link_call until it is
 * over or cv_link_leave has been called.  Only link.c looks inside. */
struct cv_pending {
    _Atomic uint32_t word;
    uint32_t id;
    bool aside; /* its caller looks after something else and must not be made the reader */
    bool alone;
    cv_moment sent;
    struct cv_pending *next_in_bucket;
    struct cv_pending *older;
    struct cv_pending *newer;
    struct cv_answer answer;
    enum cv_fault fault;
};

/* Zeroed: empty. */
struct cv_calls {
    uint32_t last_id;
    struct cv_pending *buckets[CV_BUCKETS];
    struct cv_pending *oldest;
    struct cv_pending *newest;
};

uint32_t cv_calls_new_id(struct cv_calls *calls);
void cv_calls_enlist(struct cv_calls *calls, struct cv_pending *call);
void cv_calls_strike(struct cv_calls *calls, struct cv_pending *call);
struct cv_pending *cv_calls_find(struct cv_calls *calls, uint32_t id); /* NULL if there is none */

#endif
