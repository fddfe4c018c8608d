/*
 * attempts.h - the attempts that a call consists of.
 *
 * A request goes out again, byte for byte the same but for its id and least log position, when its
 * connection ends before the answer, and to a second member when the first is silent: reads and
 * operations with keys may be repeated, and what changes something carries an idempotency key or
 * an attempt id inside `args`.  The first answer counts.  A wrong password is an answer, so it is
 * never sent twice.
 */
#ifndef CONCLAVE_ATTEMPTS_H
#define CONCLAVE_ATTEMPTS_H

#include "cluster.h"
#include "rpc.h"

/* Makes attempts until there is an answer, which `reply` then holds, or a fault that stays. */
enum cv_fault cv_attempt(struct cv_cluster *cluster, const struct cv_request *request,
                         cv_moment until, bool alone, bool repeatable, struct cv_reply *reply);
void cv_reply_clear(struct cv_reply *reply);

#endif
