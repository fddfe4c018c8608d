/*
 * link.h - one connection to a worker, shared by any number of callers.
 *
 * Invariant (no lost wake-up): while the link is sound and a registered call that is not set aside
 * has no answer, some thread is the reader, has been appointed and woken to be, or is the writer,
 * who looks after the vacancy before it leaves or waits.  Every change of these roles happens under
 * the lock.  A call is set aside while its caller waits for another member as well: that caller
 * comes back to read for itself.
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

#include "calls.h"
#include "connect.h"
#include "fault.h"
#include "moment.h"
#include "request.h"
#include "stream.h"
#include "told.h"

struct cv_link;

/* Who hears what answers tell of the cluster.  Both are called by the reader, without the lock,
 * before the answers that came behind are handed over. */
struct cv_listener {
    /* A fault ends the link. */
    enum cv_fault (*told)(void *context, struct cv_link *link, const struct cv_told *told);
    /* The answer to MEMBERS: a frame's body. */
    void (*listed)(void *context, struct cv_link *link, const uint8_t *body, size_t length);
    void *context;
};

/* Takes over a greeted stream and sends HELLO, whose answer is awaited by nobody: what follows may
 * follow at once, and a refusal ends the link.  `direct` is what LNHDirect says.  NULL, with the
 * stream closed, when there is no memory. */
struct cv_link *cv_link_new(struct cv_stream *stream, const struct cv_greeting *greeting,
                            const uint8_t process_id[16], bool direct,
                            const struct cv_listener *listener);
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

/* Whether HELLO has been answered, and with it the member's state been told. */
bool cv_link_told(const struct cv_link *link);
/* Moment at which something last arrived. */
cv_moment cv_link_heard(const struct cv_link *link);
/* Moment at which an answer, to whatever call, was last whole. */
cv_moment cv_link_answered(const struct cv_link *link);

/* Sends a request, which the peer must take until `write_until`, and waits for its answer until
 * `until`.  `alone`: nobody else in this process has a call under way, so that it may pay to poll
 * for a moment before sleeping.  True: the call is over, see its `answer` and `fault`.  False: its
 * answer is still awaited; cv_link_await waits on, cv_link_leave gives it up. */
bool cv_link_call(struct cv_link *link, const struct cv_request *request, cv_moment write_until,
                  cv_moment until, bool alone, struct cv_pending *call);
bool cv_link_await(struct cv_link *link, struct cv_pending *call, cv_moment until);
/* Ends a call, answered or not; an answer is thrown away. */
void cv_link_leave(struct cv_link *link, struct cv_pending *call);

/* Has MEMBERS asked along with whatever is sent next. */
void cv_link_ask_members(struct cv_link *link);
/* Takes in what has arrived, and with `ping` sends a PING that nobody waits for. */
void cv_link_probe(struct cv_link *link, bool ping);

/* Ends the link: every call under way, and every later one, gets `fault`. */
void cv_link_fail(struct cv_link *link, enum cv_fault fault);

#endif
