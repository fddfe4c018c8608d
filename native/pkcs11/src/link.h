/*
 * link.h - one connection to a worker, shared by any number of callers.
 *
 * Invariant (no lost wake-up): while the link is sound and a registered call has no answer, some
 * thread is the reader, has been appointed and woken to be, or is the writer, who looks after the
 * vacancy before it leaves or waits.  Every change of these roles happens under the lock.
 *
 * Callers append their frames to one outgoing buffer.  Whoever finds nobody writing becomes the
 * writer and sends until the buffer is empty, so what others append meanwhile leaves in one
 * record.  Then it waits for its answer: the first to wait is the reader, the others sleep.  The
 * reader hands every answer that arrives to its caller, and when its own has come it appoints
 * another.  The one appointed is the caller who came last: its answer is likely to come last.
 */
#ifndef CONCLAVE_LINK_H
#define CONCLAVE_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "connect.h"
#include "fault.h"
#include "moment.h"
#include "stream.h"

struct cv_link;

/* What a caller sends: a request without its id. */
struct cv_request {
    unsigned operation;
    const uint8_t *ticket; /* NULL: nil */
    size_t ticket_length;
    const uint8_t *args; /* one msgpack array */
    size_t args_length;
};

/* The body of an answer, to be freed by the caller. */
struct cv_answer {
    uint8_t *bytes;
    size_t length;
};

/* Takes over a greeted stream and sends HELLO, whose answer is awaited by nobody: what follows may
 * follow at once, and a refusal ends the link.  NULL, with the stream closed, when there is no
 * memory. */
struct cv_link *cv_link_new(struct cv_stream *stream, const struct cv_greeting *greeting,
                            const uint8_t process_id[16]);
struct cv_link *cv_link_hold(struct cv_link *link);
void cv_link_release(struct cv_link *link); /* the last one closes */

unsigned cv_link_worker(const struct cv_link *link);
/* Calls under way.  A hint: it may have changed by now. */
unsigned cv_link_load(const struct cv_link *link);
/* False once the link has failed; it never works again. */
bool cv_link_sound(const struct cv_link *link);
/* Whether any call on it has ever been answered. */
bool cv_link_proven(const struct cv_link *link);
/* The CK_RV with which the worker refused HELLO, 0 if it did not. */
uint64_t cv_link_refusal(const struct cv_link *link);

/* Sends a request and waits for its answer until `until`.  `alone`: nobody else in this process
 * has a call under way, so that it may pay to poll for a moment before sleeping. */
enum cv_fault cv_link_call(struct cv_link *link, const struct cv_request *request, cv_moment until,
                           bool alone, struct cv_answer *answer);

/* Ends the link: every call under way, and every later one, gets `fault`. */
void cv_link_fail(struct cv_link *link, enum cv_fault fault);

#endif
