/*
 * call.c - one call: a request and its answer, whatever happens in between.
 *
 * A request goes out again, byte for byte the same but for its id, when its connection ends before
 * the answer: reads and operations with keys may be repeated, and what changes something carries
 * an idempotency key or an attempt id inside `args`.  A wrong password is an answer, so it is
 * never sent twice.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "cluster.h"
#include "fault.h"
#include "link.h"
#include "moment.h"
#include "rpc.h"
#include "runtime.h"
#include "tls.h"
#include "trace.h"

#define FIRST_BUSY_PAUSE (5 * CV_MILLISECOND)
#define LONGEST_BUSY_PAUSE (250 * CV_MILLISECOND)
#define LONGEST_HEAD 16u /* array, id, operation and the ticket's own head */
#define OPERATION_PING 1u
#define MOST_PROTOCOL_FAULTS 2u /* of one call; garbage is not a thing that passes */

cv_moment cv_call_time = 30 * CV_SECOND;

/* --- faults ---------------------------------------------------------------------------------- */

/* README.md has this table in words. */
static const struct {
    const char *name;
    CK_RV never_reached; /* no member of the cluster has ever greeted this process */
    CK_RV reached;
} faults[] = {
    [CV_FAULT_NONE] = { "no fault", CKR_OK, CKR_OK },
    [CV_FAULT_STOPPED] = { "stopped", CKR_CRYPTOKI_NOT_INITIALIZED, CKR_CRYPTOKI_NOT_INITIALIZED },
    [CV_FAULT_MEMORY] = { "out of memory", CKR_HOST_MEMORY, CKR_HOST_MEMORY },
    [CV_FAULT_CREDENTIALS] = { "the configuration or its files cannot be used",
                               CKR_UNABLE_TO_CONNECT, CKR_DEVICE_ERROR },
    [CV_FAULT_UNREACHABLE] = { "unreachable", CKR_TOKEN_NOT_PRESENT, CKR_DEVICE_ERROR },
    [CV_FAULT_IDENTITY] = { "the server's certificate is not that of the cluster",
                            CKR_TOKEN_NOT_RECOGNIZED, CKR_DEVICE_ERROR },
    [CV_FAULT_REFUSED] = { "the member refused this client", CKR_UNABLE_TO_CONNECT,
                           CKR_DEVICE_ERROR },
    [CV_FAULT_PROTOCOL] = { "protocol error", CKR_TOKEN_NOT_RECOGNIZED, CKR_DEVICE_ERROR },
    [CV_FAULT_BROKEN] = { "connection lost", CKR_TOKEN_NOT_PRESENT, CKR_DEVICE_ERROR },
    [CV_FAULT_TIMEOUT] = { "no answer in time", CKR_TOKEN_NOT_PRESENT, CKR_DEVICE_ERROR },
};

const char *cv_fault_name(enum cv_fault fault)
{
    return faults[fault].name;
}

static CK_RV fault_value(cv_cluster *cluster, enum cv_fault fault)
{
    return cv_cluster_was_reached(cluster) ? faults[fault].reached : faults[fault].never_reached;
}

/* --- answers --------------------------------------------------------------------------------- */

static const uint8_t nil[1] = { 0xc0 };

static void empty_reply(struct cv_reply *reply)
{
    memset(reply, 0, sizeof *reply);
    cv_reader_init(&reply->result, nil, sizeof nil);
}

/* Points `reply` at what the body holds.  False if that is no answer. */
static bool read_reply(const struct cv_answer *answer, struct cv_reply *reply)
{
    cv_reader reader;
    cv_reader_init(&reader, answer->bytes, answer->length);
    size_t elements = cv_read_array(&reader);
    cv_read_uint(&reader); /* the id, which brought it here */
    uint64_t value = cv_read_uint(&reader);
    empty_reply(reply);
    if (elements > 2) {
        const uint8_t *start = reader.at;
        cv_read_skip(&reader);
        if (value == CKR_OK)
            cv_reader_init(&reply->result, start, (size_t)(reader.at - start));
    }
    if (elements > 3 && !cv_read_nil(&reader))
        reply->ticket = cv_read_bin(&reader, &reply->ticket_length);
    for (size_t i = 4; i < elements && !reader.broken; i++)
        cv_read_skip(&reader);
    if (elements < 2 || reader.broken || reader.at != reader.end) {
        empty_reply(reply);
        return false;
    }
    reply->value = (CK_RV)value;
    reply->storage = answer->bytes;
    reply->storage_length = answer->length;
    return true;
}

void cv_reply_free(struct cv_reply *reply)
{
    if (reply->storage != NULL)
        explicit_bzero(reply->storage, reply->storage_length);
    free(reply->storage);
    empty_reply(reply);
}

/* --- attempts -------------------------------------------------------------------------------- */

struct attempt {
    cv_cluster *cluster;
    const struct cv_request *request;
    cv_moment until;
    bool alone;
    unsigned protocol_faults;
    struct cv_reply *reply;
};

/* Sends over `link` and waits.  A worker's refusal of HELLO is the answer to whatever was asked. */
static enum cv_fault send_over(const struct attempt *attempt, struct cv_link *link)
{
    struct cv_surroundings *surroundings = cv_cluster_surroundings(attempt->cluster);
    cv_moment patience = surroundings->receive_timeout_ms * CV_MILLISECOND;
    cv_moment until = cv_earlier(attempt->until, cv_now() + patience);
    struct cv_answer answer = { 0 };
    enum cv_fault fault = cv_link_call(link, attempt->request, until, attempt->alone, &answer);
    if (fault == CV_FAULT_NONE && !read_reply(&answer, attempt->reply)) {
        cv_trace("an answer is not of the protocol's shape");
        free(answer.bytes);
        cv_link_fail(link, CV_FAULT_PROTOCOL);
        return CV_FAULT_PROTOCOL;
    }
    if (fault == CV_FAULT_REFUSED && cv_link_refusal(link) != 0) {
        attempt->reply->value = (CK_RV)cv_link_refusal(link);
        return CV_FAULT_NONE;
    }
    return fault;
}

/* Whether the same request may do better on a fresh connection. */
static bool may_pass(struct attempt *attempt, enum cv_fault fault)
{
    if (fault == CV_FAULT_PROTOCOL && ++attempt->protocol_faults == MOST_PROTOCOL_FAULTS)
        return false;
    return (fault == CV_FAULT_BROKEN || fault == CV_FAULT_PROTOCOL || fault == CV_FAULT_TIMEOUT) &&
           cv_now() < attempt->until;
}

/* One attempt.  *again: it failed, and another is worth while.  A cluster that cannot be reached
 * is not: cv_cluster_acquire has waited for it as long as that makes sense. */
static enum cv_fault attempt_once(struct attempt *attempt, enum cv_retry retry, bool *again)
{
    struct cv_link *link;
    *again = false;
    enum cv_fault fault = cv_cluster_acquire(attempt->cluster, attempt->until, &link);
    if (fault != CV_FAULT_NONE)
        return fault;
    fault = send_over(attempt, link);
    cv_cluster_release(attempt->cluster, link, fault == CV_FAULT_NONE);
    *again = retry == CV_RETRY_ALWAYS && may_pass(attempt, fault);
    return fault;
}

/* Waits before asking a busy member again: half of `*pause` and a random part of the rest. */
static enum cv_fault pause_while_busy(const struct attempt *attempt, cv_moment *pause)
{
    uint8_t dice = 128;
    cv_tls_random(&dice, 1);
    cv_moment end = cv_now() + *pause / 2 + *pause * dice / 512;
    *pause = cv_earlier(*pause * 2, LONGEST_BUSY_PAUSE);
    if (end >= attempt->until)
        return CV_FAULT_TIMEOUT;
    return cv_cluster_pause(attempt->cluster, end) ? CV_FAULT_NONE : CV_FAULT_STOPPED;
}

/* Repeats until there is an answer, a fault that stays, or no time left. */
static CK_RV run(struct attempt *attempt, enum cv_retry retry)
{
    cv_moment pause = FIRST_BUSY_PAUSE;
    enum cv_fault fault;
    bool again;
    do {
        fault = attempt_once(attempt, retry, &again);
        if (fault == CV_FAULT_NONE) {
            if (attempt->reply->value != CV_RV_BUSY)
                return attempt->reply->value;
            cv_reply_free(attempt->reply);
            fault = pause_while_busy(attempt, &pause);
            again = fault == CV_FAULT_NONE;
        }
    } while (again);
    cv_trace("cluster %02u: operation %u given up: %s", cv_cluster_index(attempt->cluster),
             attempt->request->operation, cv_fault_name(fault));
    return fault_value(attempt->cluster, fault);
}

/* --- entry points ---------------------------------------------------------------------------- */

static CK_RV check_request(const struct cv_request *request, const cv_writer *args)
{
    if (args->failed)
        return args->capacity == SIZE_MAX ? CKR_HOST_MEMORY : CKR_DATA_LEN_RANGE;
    if (request->ticket_length > UINT16_MAX)
        return CKR_ARGUMENTS_BAD;
    if (LONGEST_HEAD + request->ticket_length + request->args_length > CV_WIRE_MAX_FRAME)
        return CKR_DATA_LEN_RANGE;
    return CKR_OK;
}

CK_RV cv_call(cv_cluster *cluster, unsigned operation, const uint8_t *ticket, size_t ticket_length,
              const cv_writer *args, enum cv_retry retry, struct cv_reply *reply)
{
    struct cv_request request = {
        .operation = operation,
        .ticket = ticket,
        .ticket_length = ticket_length,
        .args = args->bytes,
        .args_length = args->length,
    };
    struct attempt attempt = {
        .cluster = cluster, .request = &request, .until = cv_now() + cv_call_time, .reply = reply
    };
    empty_reply(reply);
    CK_RV value = check_request(&request, args);
    if (value == CKR_OK && !cv_runtime_enter(&attempt.alone)) {
        value = CKR_CRYPTOKI_NOT_INITIALIZED;
    } else if (value == CKR_OK) {
        value = cv_runtime_has(cluster) ? run(&attempt, retry) : CKR_CRYPTOKI_NOT_INITIALIZED;
        cv_runtime_leave();
    }
    reply->value = value;
    return value;
}

static bool knows_time(cv_cluster *cluster, int64_t *now_ms)
{
    bool alone;
    if (!cv_runtime_enter(&alone))
        return false;
    bool known = cv_runtime_has(cluster) && cv_cluster_time_ms(cluster, now_ms);
    cv_runtime_leave();
    return known;
}

/* Cluster time comes with the greeting, so somebody has to have connected. */
static CK_RV learn_cluster_time(cv_cluster *cluster, int64_t *now_ms)
{
    struct cv_reply reply;
    cv_writer args;
    if (knows_time(cluster, now_ms))
        return CKR_OK;
    cv_writer_init(&args);
    cv_write_array(&args, 0);
    CK_RV value = cv_call(cluster, OPERATION_PING, NULL, 0, &args, CV_RETRY_ALWAYS, &reply);
    cv_reply_free(&reply);
    cv_writer_free(&args);
    if (knows_time(cluster, now_ms))
        return CKR_OK;
    return value != CKR_OK ? value : CKR_DEVICE_ERROR;
}

CK_RV cv_put_write(cv_cluster *cluster, cv_writer *args)
{
    uint8_t key[16];
    int64_t now_ms;
    CK_RV value = cv_random(key, sizeof key);
    if (value == CKR_OK)
        value = learn_cluster_time(cluster, &now_ms);
    if (value != CKR_OK)
        return value;
    cv_write_array(args, 2);
    cv_write_bin(args, key, sizeof key);
    cv_write_uint(args, (uint64_t)(now_ms + cv_call_time / CV_MILLISECOND));
    return CKR_OK;
}
