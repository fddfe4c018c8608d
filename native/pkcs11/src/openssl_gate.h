/*
 * openssl_gate.h - no fork and no end of OpenSSL while a thread of ours is inside it.
 *
 * Invariant: when fork() copies the process, none of our threads holds a lock that OpenSSL keeps
 * for the whole process (error strings, run-once, threads' clean-up).  A child would wait for such
 * a lock for ever, even with a library context of its own.  So each stretch of code that calls
 * more of OpenSSL than work on memory enters here first, and fork() waits until all have left.
 *
 * When OPENSSL_cleanup() takes OpenSSL's own locks and methods away, because the process leaves
 * and the application asked for that, none of our threads is inside, and none enters any more.
 *
 * Each wait ends: a fork or the clean-up is never held up longer than GATE_TIME, nor is a caller,
 * whose lock an application's own fork handler may be waiting for.  Enter with a stream's lock
 * held or without one; never take such a lock inside.  What the application does in OpenSSL while
 * it forks, and what OpenSSL does when a thread ends, is out of our reach.
 */
#ifndef CONCLAVE_OPENSSL_GATE_H
#define CONCLAVE_OPENSSL_GATE_H

#include <stdbool.h>

/* Once in the life of a process, before the first entry.  False without memory for the handlers. */
bool cv_openssl_watch_forks(void);

/* Asks OpenSSL, once in the life of a process, to be told of its end.  The library this is in must
 * never be unloaded.  False without memory for the handler. */
bool cv_openssl_watch_end(void);

/* Brackets a stretch of OpenSSL's work; they nest within a thread.  Who is told false, because
 * OpenSSL is gone, must neither use it nor leave. */
bool cv_openssl_enter(void);
void cv_openssl_leave(void);

#endif
