/*
 * rpc.h - what the PKCS#11 layer knows of the network.
 *
 * One call is one request and its answer, whatever happens below: connecting, spreading over
 * workers, waiting, retrying what may be retried (docs/protocol.md, column "retry"), moving to
 * another member, surviving fork.  Every call ends within its deadline with a CK_RV.
 *
 * Threads: every function may be called by any number of threads, save cv_runtime_start and
 * cv_runtime_stop, which the PKCS#11 layer serialises.
 */
#ifndef CONCLAVE_RPC_H
#define CONCLAVE_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cryptoki.h" /* CK_RV and friends: p11-kit's header plus what 3.x adds */
#include "wire.h"     /* cv_writer, cv_reader: bounded msgpack */

typedef struct cv_cluster cv_cluster;

/* Reads Chrystoki.conf (ChrystokiConfigurationPath names its directory) and prepares, without
 * connecting, the clusters it lists.  An absent file is CKR_OK with no cluster. */
CK_RV cv_runtime_start(void);

/* Wakes every waiting caller with CKR_CRYPTOKI_NOT_INITIALIZED, closes connections, frees all. */
void cv_runtime_stop(void);

/* To be called by the PKCS#11 layer's entry points: true in a child of fork() that has not
 * called cv_runtime_start itself. */
bool cv_runtime_forked(void);

size_t cv_cluster_count(void);
cv_cluster *cv_cluster_at(size_t index);

struct cv_reply {
    CK_RV value;        /* the worker's CK_RV, or the one a local fault maps to */
    cv_reader result;   /* positioned at `result`; reads nothing but nil when value is not OK */
    const uint8_t *ticket; /* renewed ticket, NULL if none */
    size_t ticket_length;
    uint8_t *storage;   /* owns what result and ticket point into */
    size_t storage_length;
};

/* How a call may be repeated when its connection breaks before the answer. */
enum cv_retry {
    CV_RETRY_ALWAYS, /* reads, operations with keys, and everything that carries its own key */
    CV_RETRY_NEVER   /* nothing at present; kept so that each call says which it is */
};

/* Sends `operation` with `args` (one complete msgpack array) and waits for the answer.
 * Returns reply->value.  cv_reply_free wipes and frees, and may be called on a zeroed reply. */
CK_RV cv_call(cv_cluster *cluster, unsigned operation, const uint8_t *ticket, size_t ticket_length,
              const cv_writer *args, enum cv_retry retry, struct cv_reply *reply);
void cv_reply_free(struct cv_reply *reply);

/* Whether no member can be reached that takes changes: what sessions and tokens then show.  May
 * ask one, for a second at most, if what is known is older than a second. */
bool cv_read_only(cv_cluster *cluster);

/* Appends a fresh `write`: [random key, deadline in cluster time].  CKR_DEVICE_ERROR if no
 * member has answered yet and cluster time is unknown (it connects first to learn it). */
CK_RV cv_put_write(cv_cluster *cluster, cv_writer *args);

/* 16 random bytes of this process, sent in HELLO; new after fork. */
const uint8_t *cv_process_id(void);

/* RAND_bytes of our own OpenSSL library context. */
CK_RV cv_random(uint8_t *out, size_t length);

#endif
