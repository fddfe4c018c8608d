/* stream.c - see stream.h. */
#define _GNU_SOURCE
#include "stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "openssl_gate.h"
#include "sockets.h"
#include "tls.h"
#include "trace.h"

#define RECEIVE_BYTES (64u * 1024) /* asked of one recv() */
#define VANISHED_MS 10000 /* a host that acknowledges nothing for so long is gone */
#define KEEP_ALIVE_SECONDS 30
#define ENCRYPT_BYTES (256u * 1024) /* plaintext turned into ciphertext before one send() */

struct cv_stream {
    int socket;
    bool connected;
    bool drained; /* OpenSSL has had all of cipher_in; not yet after the handshake */
    enum cv_fault fault; /* of the receiving side and the handshake */
    pthread_mutex_t lock; /* ssl, and cipher_in and cipher_out while OpenSSL works on them */
    SSL *ssl;
    struct cv_buffer cipher_in;  /* received; filled by the receiver alone */
    struct cv_buffer cipher_out; /* to be sent; filled by OpenSSL */
    struct cv_buffer sending;    /* what the sender has taken out of cipher_out */
};

/* --- OpenSSL's end: a BIO over the two buffers ----------------------------------------------- */

static int bio_read(BIO *bio, char *out, int wanted)
{
    struct cv_stream *stream = BIO_get_data(bio);
    size_t length = cv_buffer_length(&stream->cipher_in);
    BIO_clear_retry_flags(bio);
    if (wanted <= 0)
        return 0;
    if (length == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if (length > (size_t)wanted)
        length = (size_t)wanted;
    memcpy(out, stream->cipher_in.bytes + stream->cipher_in.start, length);
    stream->cipher_in.start += length; /* ciphertext needs no wiping */
    if (stream->cipher_in.start == stream->cipher_in.end)
        stream->cipher_in.start = stream->cipher_in.end = 0;
    return (int)length;
}

static int bio_write(BIO *bio, const char *bytes, int length)
{
    struct cv_stream *stream = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (length < 0 || !cv_buffer_append(&stream->cipher_out, bytes, (size_t)length))
        return -1;
    return length;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

/* OpenSSL stopped because it has used up cipher_in, and for no other reason.  To be asked after a
 * call that failed, of which `expect_hunger` came first.  SSL_get_error() would look into the
 * application's error queue, SSL_want() stays SSL_READING when an alert ends the handshake. */
static bool is_hungry(const struct cv_stream *stream)
{
    return BIO_should_read(SSL_get_rbio(stream->ssl)) != 0;
}

static void expect_hunger(struct cv_stream *stream)
{
    BIO_clear_retry_flags(SSL_get_rbio(stream->ssl));
}

static pthread_once_t method_once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method;

static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "conclave");
    if (method != NULL && (BIO_meth_set_read(method, bio_read) != 1 ||
                           BIO_meth_set_write(method, bio_write) != 1 ||
                           BIO_meth_set_ctrl(method, bio_control) != 1)) {
        BIO_meth_free(method);
        method = NULL;
    }
}

/* Inside the gate. */
static bool attach_ssl(struct cv_stream *stream, SSL_CTX *context)
{
    pthread_once(&method_once, make_method);
    BIO *bio = method != NULL ? BIO_new_ex(cv_tls_library(), method) : NULL;
    stream->ssl = bio != NULL ? SSL_new(context) : NULL;
    if (stream->ssl == NULL) {
        BIO_free(bio);
        return false;
    }
    BIO_set_data(bio, stream);
    BIO_set_init(bio, 1);
    SSL_set_bio(stream->ssl, bio, bio);
    SSL_set_connect_state(stream->ssl);
    return true;
}

/* --- opening and closing --------------------------------------------------------------------- */

/* None of these is needed for a right answer, so nobody asks whether they were granted. */
static void set_option(int fd, int level, int option, int value)
{
    setsockopt(fd, level, option, &value, sizeof value);
}

static int open_socket(const struct addrinfo *address, bool keep_alive)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    cv_socket_opened(fd);
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, VANISHED_MS);
    if (keep_alive) {
        set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEP_ALIVE_SECONDS);
        set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEP_ALIVE_SECONDS / 3);
    }
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0 || errno == EINPROGRESS)
        return fd;
    cv_trace("no connection: %s", strerrorname_np(errno));
    cv_socket_close(fd);
    return -1;
}

struct cv_stream *cv_stream_open(SSL_CTX *context, const struct addrinfo *address, bool keep_alive)
{
    struct cv_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return NULL;
    pthread_mutex_init(&stream->lock, NULL);
    stream->socket = open_socket(address, keep_alive);
    bool attached = false;
    if (stream->socket >= 0 && cv_openssl_enter()) {
        attached = attach_ssl(stream, context);
        cv_openssl_leave();
    }
    if (!attached) {
        cv_stream_close(stream, false);
        return NULL;
    }
    return stream;
}

/* Inside the gate. */
static void say_goodbye(struct cv_stream *stream)
{
    ERR_set_mark();
    if (SSL_shutdown(stream->ssl) >= 0 && cv_buffer_length(&stream->cipher_out) != 0)
        (void)!send(stream->socket, stream->cipher_out.bytes + stream->cipher_out.start,
                    cv_buffer_length(&stream->cipher_out), MSG_NOSIGNAL | MSG_DONTWAIT);
    ERR_pop_to_mark();
}

void cv_stream_close(struct cv_stream *stream, bool polite)
{
    if (stream == NULL)
        return;
    if (stream->ssl != NULL && cv_openssl_enter()) {
        if (polite && stream->fault == CV_FAULT_NONE)
            say_goodbye(stream);
        SSL_free(stream->ssl);
        cv_openssl_leave();
    }
    if (stream->socket >= 0)
        cv_socket_close(stream->socket);
    cv_buffer_free(&stream->cipher_in);
    cv_buffer_free(&stream->cipher_out);
    cv_buffer_free(&stream->sending);
    pthread_mutex_destroy(&stream->lock);
    free(stream);
}

int cv_stream_socket(const struct cv_stream *stream)
{
    return stream->socket;
}

enum cv_fault cv_stream_fault(const struct cv_stream *stream)
{
    return stream->fault;
}

void cv_stream_cut(struct cv_stream *stream)
{
    shutdown(stream->socket, SHUT_RDWR);
}

static enum cv_step failed(struct cv_stream *stream, enum cv_fault fault)
{
    stream->fault = fault;
    return CV_STEP_FAILED;
}

/* --- why TLS failed -------------------------------------------------------------------------- */

/* Alerts by which a member says that it does not accept our certificate (RFC 8446, 6.2). */
static bool is_refusal(int alert)
{
    return (alert >= SSL_AD_BAD_CERTIFICATE && alert <= SSL_AD_CERTIFICATE_UNKNOWN) ||
           alert == SSL_AD_UNKNOWN_CA || alert == SSL_AD_ACCESS_DENIED ||
           alert == SSL_AD_DECRYPT_ERROR || /* a signature of ours does not verify */
           alert == TLS13_AD_CERTIFICATE_REQUIRED;
}

static enum cv_fault tls_fault(const struct cv_stream *stream)
{
    unsigned long error = ERR_peek_last_error();
    int reason = ERR_GET_REASON(error);
    long verdict = SSL_get_verify_result(stream->ssl);
    char text[160];
    ERR_error_string_n(error, text, sizeof text);
    cv_trace("TLS failed: %s (verification: %s)", text, X509_verify_cert_error_string(verdict));
    if (verdict != X509_V_OK)
        return CV_FAULT_IDENTITY;
    if (ERR_GET_LIB(error) != ERR_LIB_SSL)
        return CV_FAULT_BROKEN;
    if (reason >= SSL_AD_REASON_OFFSET)
        return is_refusal(reason - SSL_AD_REASON_OFFSET) ? CV_FAULT_REFUSED : CV_FAULT_PROTOCOL;
    return CV_FAULT_PROTOCOL;
}

/* --- bytes to and from the socket ------------------------------------------------------------ */

/* One recv() into cipher_in. */
static enum cv_step pull(struct cv_stream *stream)
{
    struct cv_buffer *in = &stream->cipher_in;
    if (!cv_buffer_reserve(in, RECEIVE_BYTES))
        return failed(stream, CV_FAULT_MEMORY);
    ssize_t got;
    do
        got = recv(stream->socket, in->bytes + in->end, in->capacity - in->end, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got > 0) {
        in->end += (size_t)got;
        return CV_STEP_DONE;
    }
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return CV_STEP_WANT_READ;
    return failed(stream, CV_FAULT_BROKEN);
}

/* Sends what it can of `sending`. */
static enum cv_step push(struct cv_stream *stream)
{
    struct cv_buffer *out = &stream->sending;
    while (cv_buffer_length(out) != 0) {
        ssize_t sent = send(stream->socket, out->bytes + out->start, cv_buffer_length(out),
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0)
            out->start += (size_t)sent;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return CV_STEP_WANT_WRITE;
        else if (errno != EINTR)
            return CV_STEP_FAILED;
    }
    out->start = out->end = 0;
    return CV_STEP_DONE;
}

/* Moves cipher_out, which OpenSSL may fill again, to `sending`, which must be empty. */
static void take_cipher(struct cv_stream *stream)
{
    struct cv_buffer empty = stream->sending;
    stream->sending = stream->cipher_out;
    stream->cipher_out = empty;
}

/* --- handshake ------------------------------------------------------------------------------- */

static enum cv_step finish_connect(struct cv_stream *stream)
{
    struct pollfd ready = { .fd = stream->socket, .events = POLLOUT };
    int error = 0;
    socklen_t length = sizeof error;
    if (poll(&ready, 1, 0) == 0)
        return CV_STEP_WANT_WRITE;
    if (getsockopt(stream->socket, SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error != 0) {
        cv_trace("no connection: %s", strerrorname_np(error));
        return failed(stream, CV_FAULT_UNREACHABLE);
    }
    stream->connected = true;
    return CV_STEP_DONE;
}

/* One turn: let OpenSSL work, send what it wrote.  WANT_READ: it needs more input. */
static enum cv_step turn_handshake(struct cv_stream *stream)
{
    if (!cv_openssl_enter())
        return failed(stream, CV_FAULT_BROKEN);
    ERR_set_mark();
    expect_hunger(stream);
    int result = SSL_do_handshake(stream->ssl);
    enum cv_fault fault = CV_FAULT_NONE;
    if (result != 1 && !is_hungry(stream))
        fault = tls_fault(stream);
    ERR_pop_to_mark();
    cv_openssl_leave();
    if (cv_buffer_length(&stream->sending) == 0)
        take_cipher(stream);
    enum cv_step sent = push(stream); /* an alert of ours, too */
    if (fault != CV_FAULT_NONE)
        return failed(stream, fault);
    if (sent == CV_STEP_FAILED)
        return failed(stream, CV_FAULT_BROKEN);
    if (sent == CV_STEP_WANT_WRITE)
        return sent;
    return result == 1 ? CV_STEP_DONE : CV_STEP_WANT_READ;
}

enum cv_step cv_stream_handshake(struct cv_stream *stream)
{
    if (!stream->connected) {
        enum cv_step step = finish_connect(stream);
        if (step != CV_STEP_DONE)
            return step;
    }
    for (;;) {
        enum cv_step step = turn_handshake(stream);
        if (step != CV_STEP_WANT_READ)
            return step;
        step = pull(stream);
        if (step != CV_STEP_DONE)
            return step;
    }
}

/* Inside the gate. */
static bool digest_peer_key(struct cv_stream *stream, uint8_t key[32])
{
    X509 *certificate = SSL_get1_peer_certificate(stream->ssl);
    unsigned char *encoded = NULL;
    int length = certificate != NULL ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &encoded) : 0;
    bool digested = length > 0 && EVP_Q_digest(cv_tls_library(), "SHA256", NULL, encoded,
                                               (size_t)length, key, NULL) == 1;
    OPENSSL_free(encoded);
    X509_free(certificate);
    return digested;
}

bool cv_stream_peer_key(struct cv_stream *stream, uint8_t key[32])
{
    if (!cv_openssl_enter())
        return false;
    ERR_set_mark();
    bool digested = digest_peer_key(stream, key);
    ERR_pop_to_mark();
    cv_openssl_leave();
    return digested;
}

/* --- receiving ------------------------------------------------------------------------------- */

/* Decrypts all of cipher_in; the lock is held. */
static enum cv_step decrypt(struct cv_stream *stream, struct cv_buffer *plain)
{
    enum cv_step step = CV_STEP_WANT_READ;
    if (!cv_openssl_enter())
        return failed(stream, CV_FAULT_BROKEN);
    ERR_set_mark();
    for (;;) {
        size_t got = 0;
        expect_hunger(stream);
        if (!cv_buffer_reserve(plain, SSL3_RT_MAX_PLAIN_LENGTH)) {
            step = failed(stream, CV_FAULT_MEMORY);
            break;
        }
        if (SSL_read_ex(stream->ssl, plain->bytes + plain->end, plain->capacity - plain->end,
                        &got) == 1) {
            plain->end += got;
            step = CV_STEP_DONE;
            continue;
        }
        if (is_hungry(stream))
            break;
        bool closed = (SSL_get_shutdown(stream->ssl) & SSL_RECEIVED_SHUTDOWN) != 0 &&
                      ERR_peek_last_error() == 0;
        step = failed(stream, closed ? CV_FAULT_BROKEN : tls_fault(stream));
        break;
    }
    ERR_pop_to_mark();
    cv_openssl_leave();
    return step;
}

enum cv_step cv_stream_receive(struct cv_stream *stream, struct cv_buffer *plain)
{
    enum cv_step step = pull(stream);
    if (step == CV_STEP_FAILED || (step == CV_STEP_WANT_READ && stream->drained))
        return step;
    pthread_mutex_lock(&stream->lock);
    step = decrypt(stream, plain);
    pthread_mutex_unlock(&stream->lock);
    stream->drained = true;
    return step;
}

enum cv_fault cv_stream_wait(struct cv_stream *stream, cv_moment until)
{
    struct pollfd ready = { .fd = stream->socket, .events = POLLIN };
    for (;;) {
        int timeout = cv_poll_timeout(until);
        int count = poll(&ready, 1, timeout);
        if (count > 0)
            return CV_FAULT_NONE;
        if (count == 0 && cv_now() >= until)
            return CV_FAULT_TIMEOUT;
        if (count < 0 && errno != EINTR)
            return CV_FAULT_BROKEN;
    }
}

/* --- sending --------------------------------------------------------------------------------- */

/* Encrypts up to ENCRYPT_BYTES of `plain` into cipher_out; the lock is held. */
static bool encrypt(struct cv_stream *stream, const struct cv_buffer *plain, size_t *written)
{
    size_t length = cv_buffer_length(plain);
    if (length > ENCRYPT_BYTES)
        length = ENCRYPT_BYTES;
    if (!cv_openssl_enter())
        return false;
    ERR_set_mark();
    bool encrypted = SSL_write_ex(stream->ssl, plain->bytes + plain->start, length, written) == 1;
    ERR_pop_to_mark();
    cv_openssl_leave();
    return encrypted;
}

/* Moves up to ENCRYPT_BYTES of `plain`, encrypted, to `sending`. */
static enum cv_fault load(struct cv_stream *stream, struct cv_buffer *plain)
{
    size_t written = 0;
    pthread_mutex_lock(&stream->lock);
    bool encrypted = encrypt(stream, plain, &written);
    take_cipher(stream);
    pthread_mutex_unlock(&stream->lock);
    cv_buffer_consume(plain, written);
    return encrypted ? CV_FAULT_NONE : CV_FAULT_BROKEN;
}

static enum cv_fault wait_writable(struct cv_stream *stream, cv_moment until)
{
    struct pollfd ready = { .fd = stream->socket, .events = POLLOUT };
    int count = poll(&ready, 1, cv_poll_timeout(until));
    if (count == 0 && cv_now() >= until)
        return CV_FAULT_TIMEOUT;
    return count < 0 && errno != EINTR ? CV_FAULT_BROKEN : CV_FAULT_NONE;
}

enum cv_fault cv_stream_send(struct cv_stream *stream, struct cv_buffer *plain, cv_moment until,
                             void (*stalled)(void *), void *argument)
{
    bool told = false;
    while (cv_buffer_length(plain) != 0) {
        enum cv_fault fault = load(stream, plain);
        if (fault != CV_FAULT_NONE)
            return fault;
        enum cv_step step;
        while ((step = push(stream)) == CV_STEP_WANT_WRITE) {
            if (!told)
                stalled(argument);
            told = true;
            fault = wait_writable(stream, until);
            if (fault != CV_FAULT_NONE)
                return fault;
        }
        if (step == CV_STEP_FAILED)
            return CV_FAULT_BROKEN;
    }
    return CV_FAULT_NONE;
}
