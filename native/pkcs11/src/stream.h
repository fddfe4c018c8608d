/*
 * stream.h - one TLS connection over a non-blocking socket.
 *
 * OpenSSL never touches the socket: it reads ciphertext from one buffer and writes it to another,
 * so that no system call is made while the lock of the SSL object is held, several records go out
 * with one send(), and no SIGPIPE reaches the application.
 *
 * Who may call what: one thread at a time may receive (cv_stream_receive), one at a time may send
 * (cv_stream_send); the two may overlap.  Nothing else may overlap with anything.
 */
#ifndef CONCLAVE_STREAM_H
#define CONCLAVE_STREAM_H

#include <netdb.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "fault.h"
#include "moment.h"

struct cv_stream;

/* What a non-blocking step came to. */
enum cv_step {
    CV_STEP_DONE,
    CV_STEP_WANT_READ,  /* poll for input, then again */
    CV_STEP_WANT_WRITE, /* poll for output, then again */
    CV_STEP_FAILED      /* cv_stream_fault says why */
};

/* Opens a socket and starts to connect; NULL if that failed at once. */
struct cv_stream *cv_stream_open(SSL_CTX *context, const struct addrinfo *address, bool keep_alive);
/* Wipes and closes.  `polite` sends close_notify, if that can be done without waiting. */
void cv_stream_close(struct cv_stream *stream, bool polite);

int cv_stream_socket(const struct cv_stream *stream);
enum cv_fault cv_stream_fault(const struct cv_stream *stream);

/* Goes on with TCP connect and TLS handshake. */
enum cv_step cv_stream_handshake(struct cv_stream *stream);

/* SHA-256 of the public key (SubjectPublicKeyInfo) that the peer proved to have. */
bool cv_stream_peer_key(struct cv_stream *stream, uint8_t key[32]);

/* Appends all plaintext that has arrived to `plain`, without waiting.  WANT_READ: nothing came. */
enum cv_step cv_stream_receive(struct cv_stream *stream, struct cv_buffer *plain);
/* Waits for input until `until`: DONE, or FAILED with CV_FAULT_TIMEOUT or CV_FAULT_BROKEN. */
enum cv_fault cv_stream_wait(struct cv_stream *stream, cv_moment until);

/* Encrypts and sends all of `plain`, waiting for the peer to take it until `until`, and consumes
 * it.  Calls `stalled(argument)` once before it waits. */
enum cv_fault cv_stream_send(struct cv_stream *stream, struct cv_buffer *plain, cv_moment until,
                             void (*stalled)(void *), void *argument);

/* Ends the connection under the feet of whoever is waiting in it. */
void cv_stream_cut(struct cv_stream *stream);

#endif
