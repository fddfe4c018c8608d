/*
 * connect.h - from an address to a connection whose greeting has been read.
 *
 * A process that was stopped still has its kernel accept connections, so an attempt that has not
 * finished after 300 ms gets a rival, to the next target if there are several; the first to be
 * greeted wins and the others are closed.
 */
#ifndef CONCLAVE_CONNECT_H
#define CONCLAVE_CONNECT_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "fault.h"
#include "moment.h"
#include "stream.h"
#include "told.h"

#define CV_PROTOCOL_VERSION 1
#define CV_FRAME_HEADER 4

struct cv_greeting {
    unsigned worker_index;
    unsigned worker_count;
    int64_t cluster_time_ms;
    bool authorized;
    char member_id[CV_TOLD_ID]; /* empty if it is none that we can keep */
};

#define CV_MOST_TARGETS (CV_MOST_MEMBERS + 2) /* the entry member may be reached in three ways */

#define CV_LOCAL_PORT "local"

struct cv_target {
    const char *host; /* or the path of a Unix socket: at most one of the targets is one */
    const char *port; /* CV_LOCAL_PORT for a Unix socket */
    const uint8_t *key; /* SHA-256 of the public key the server must have; NULL: any */
    bool failed;        /* out: tried in vain, or overtaken by another */
};

struct cv_connect_request {
    const struct cv_cluster_config *config;
    struct cv_target *targets; /* in the order to be tried */
    size_t target_count;
    SSL_CTX *context;
    bool keep_alive;
    int stop_descriptor; /* readable when everybody has to leave */
    cv_moment until;
};

/* Gives an open stream, its greeting and the target that sent it, or says why not. */
enum cv_fault cv_connect(const struct cv_connect_request *request, struct cv_stream **stream,
                         struct cv_greeting *greeting, size_t *target);

/* Reads a greeting frame's body; false if it is none of a version we speak. */
bool cv_greeting_parse(const uint8_t *body, size_t length, struct cv_greeting *greeting);

/* Finds a frame at the front of `bytes`: its body's length, 0 if more must come, or
 * CV_FRAME_BROKEN if no frame starts so. */
#define CV_FRAME_BROKEN SIZE_MAX
size_t cv_frame_length(const uint8_t *bytes, size_t length);

#endif
