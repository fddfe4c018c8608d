/* call.c - one call, as the PKCS#11 layer makes it: what goes in, and what each fault becomes. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "attempts.h"
#include "cluster.h"
#include "fault.h"
#include "link.h"
#include "moment.h"
#include "operations.h"
#include "rpc.h"
#include "runtime.h"
#include "tls.h"
#include "trace.h"

#define LONGEST_HEAD 16u /* array, id, operation and the ticket's own head */
#define LOOK_AGAIN CV_SECOND /* whether there is a member to write on */

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
    [CV_FAULT_IDENTITY] = { "the server's certificate does not lead to LNHServerCAFile; if it is "
                            "the cluster's, register this client again",
                            CKR_TOKEN_NOT_RECOGNIZED, CKR_DEVICE_ERROR },
    [CV_FAULT_REFUSED] = { "the member refused this client, which is unknown, revoked or "
                           "registered too many deletions of members ago; register this client again", CKR_UNABLE_TO_CONNECT,
                           CKR_DEVICE_ERROR },
    [CV_FAULT_PROTOCOL] = { "protocol error", CKR_TOKEN_NOT_RECOGNIZED, CKR_DEVICE_ERROR },
    [CV_FAULT_BROKEN] = { "connection lost", CKR_TOKEN_NOT_PRESENT, CKR_DEVICE_ERROR },
    [CV_FAULT_TIMEOUT] = { "no answer in time", CKR_TOKEN_NOT_PRESENT, CKR_DEVICE_ERROR },
    [CV_FAULT_STALE] = { "the member lives in an epoch that is over", CKR_DEVICE_ERROR,
                         CKR_DEVICE_ERROR },
    [CV_FAULT_BEHIND] = { "no member has the changes that this process has seen", CKR_DEVICE_ERROR,
                          CKR_DEVICE_ERROR },
    [CV_FAULT_NO_OTHER] = { "no other member", CKR_DEVICE_ERROR, CKR_DEVICE_ERROR },
};

const char *cv_fault_name(enum cv_fault fault)
{
    return faults[fault].name;
}

static CK_RV fault_value(cv_cluster *cluster, enum cv_fault fault)
{
    return cv_cluster_was_reached(cluster) ? faults[fault].reached : faults[fault].never_reached;
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

static CK_RV attempt(cv_cluster *cluster, const struct cv_request *request, cv_moment until,
                     bool alone, enum cv_retry retry, struct cv_reply *reply)
{
    enum cv_fault fault =
        cv_attempt(cluster, request, until, alone, retry == CV_RETRY_ALWAYS, reply);
    if (fault == CV_FAULT_NONE)
        return reply->value;
    cv_trace("cluster %02u: operation %u given up: %s", cv_cluster_index(cluster),
             request->operation, cv_fault_name(fault));
    return fault_value(cluster, fault);
}

static CK_RV call_within(cv_cluster *cluster, const struct cv_request *request, cv_moment time,
                         enum cv_retry retry, struct cv_reply *reply)
{
    cv_moment until = cv_now() + time;
    CK_RV value = CKR_CRYPTOKI_NOT_INITIALIZED;
    bool alone;
    if (cv_runtime_enter(&alone)) {
        if (cv_runtime_has(cluster))
            value = attempt(cluster, request, until, alone, retry, reply);
        cv_runtime_leave();
    }
    reply->value = value;
    return value;
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
    cv_reply_clear(reply);
    reply->value = check_request(&request, args);
    return reply->value == CKR_OK ? call_within(cluster, &request, cv_call_time, retry, reply)
                                  : reply->value;
}

/* Whether writing is impossible, as far as is known, and whether that was heard just now. */
static bool knows_read_only(cv_cluster *cluster, bool *fresh)
{
    bool alone;
    bool read_only = false;
    *fresh = true;
    if (!cv_runtime_enter(&alone))
        return false;
    if (cv_runtime_has(cluster)) {
        cv_moment heard;
        read_only = cv_cluster_read_only(cluster, &heard);
        *fresh = !read_only && cv_now() < heard + LOOK_AGAIN;
    }
    cv_runtime_leave();
    return read_only;
}

bool cv_read_only(cv_cluster *cluster)
{
    static const uint8_t no_arguments[1] = { 0x90 };
    struct cv_request ping = {
        .operation = CV_PING, .args = no_arguments, .args_length = 1, .prefers_writable = true
    };
    struct cv_reply reply;
    bool fresh;
    bool read_only = knows_read_only(cluster, &fresh);
    if (fresh)
        return read_only;
    cv_reply_clear(&reply);
    call_within(cluster, &ping, LOOK_AGAIN, CV_RETRY_ALWAYS, &reply);
    cv_reply_free(&reply);
    return knows_read_only(cluster, &fresh);
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
    CK_RV value = cv_call(cluster, CV_PING, NULL, 0, &args, CV_RETRY_ALWAYS, &reply);
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
