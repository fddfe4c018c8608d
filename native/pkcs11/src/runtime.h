/*
 * runtime.h - the one running instance of the network side.
 *
 * Life: stopped -> cv_runtime_start -> running -> cv_runtime_stop -> stopped.  A forked child
 * inherits memory and sockets of an instance whose threads are gone: whatever lock they held
 * stays locked for ever.  So a child touches nothing of it; it closes the sockets and, when it
 * starts, begins anew and leaves the old memory where it is.
 */
#ifndef CONCLAVE_RUNTIME_H
#define CONCLAVE_RUNTIME_H

#include <stdbool.h>

#include "moment.h"
#include "rpc.h"

/* How long a call may take with all its repetitions.  Tests shorten it. */
extern cv_moment cv_call_time;

/* Brackets every call: between the two the clusters stay.  False when not running.
 * `*alone`: no other call is under way in this process. */
bool cv_runtime_enter(bool *alone);
void cv_runtime_leave(void);

/* Between the two: whether a cluster is one of this instance, and not of one that was stopped. */
bool cv_runtime_has(const cv_cluster *cluster);

#endif
