/*
 * tls.h - OpenSSL, kept to ourselves.
 *
 * The module has an OSSL_LIB_CTX of its own with the default provider loaded by name, so nothing
 * in it follows the application's openssl.cnf: no engine or provider configured there (which may
 * well be one that loads this very module) is ever asked for our TLS or random bytes.  We never
 * call OPENSSL_cleanup and ask for no exit handler: other threads may be inside a call at exit.
 * What the application asked for waits for them (openssl_gate.h).
 */
#ifndef CONCLAVE_TLS_H
#define CONCLAVE_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "config.h"
#include "fault.h"

/* Makes the library context at the first start of a process.  It is kept for good: every thread
 * that has drawn random bytes from it has a state in it, and OpenSSL clears that state when the
 * thread ends, which may be long after the stop.  The module is never unloaded, so the next start
 * finds it again, even after dlclose and dlopen.  Draws nothing: the first draw of a process reads
 * the application's openssl.cnf, as cv_tls_prepare does. */
bool cv_tls_start(void);
/* In a forked child: leaves the parent's context where it is, since its locks may be held by
 * threads that are gone.  The next start makes another. */
void cv_tls_abandon(void);
/* Our library context, for whoever hashes or draws random bytes; NULL before the start. */
OSSL_LIB_CTX *cv_tls_library(void);
bool cv_tls_random(uint8_t *out, size_t length);

/* Initialises libssl.  The first time this may load the application's openssl.cnf, which may
 * call the module again: no lock of ours may be held.  False inside such a call, which then must
 * not connect. */
bool cv_tls_prepare(void);

/* A client context for one cluster, rebuilt when one of its three files has changed. */
struct cv_credentials {
    SSL_CTX *context;
    struct stat files[3];
};

/* Brings `credentials` up to date.  A file that has become unreadable since (an application that
 * has dropped its privileges) leaves the context as it was. */
enum cv_fault cv_credentials_load(struct cv_credentials *credentials,
                                  const struct cv_cluster_config *config);
void cv_credentials_free(struct cv_credentials *credentials);

#endif
