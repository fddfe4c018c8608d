/* attempts.c - see attempts.h. */
#define _GNU_SOURCE
#include "attempts.h"

#include <stdlib.h>
#include <string.h>

#include "operations.h"
#include "tls.h"
#include "trace.h"

#define RV_BEHIND 0xC0000002ul /* wire only: the member's log is not that far; nothing was done */
#define RV_STALE 0xC0000003ul  /* here only: the member lives in an epoch that is over */
#define FIRST_PAUSE (5 * CV_MILLISECOND)
#define LONGEST_PAUSE (250 * CV_MILLISECOND)
#define MOST_PROTOCOL_FAULTS 2u /* of one call; garbage is not a thing that passes */
#define MOST_TRIES 3u           /* under way at once */
/* How long a member may be silent before another is asked as well, and how long it may leave one
 * call unanswered while it answers others. */
#define HEDGE CV_SECOND
#define HEDGE_OF_LOGIN (1500 * CV_MILLISECOND)
#define HEDGE_OF_CHANGE (2 * CV_SECOND)
#define LONGEST_HEDGE (5 * CV_SECOND)
#define LEAST_WRITE_TIME (2 * CV_SECOND) /* for the peer to take the request */
#define SLICE (20 * CV_MILLISECOND) /* of waiting for one of several */
#define CONDEMNING_SILENCE (2 * CV_SECOND)
#define NOBODY_ELSE_PAUSE (500 * CV_MILLISECOND)
#define LONGEST_BUSY (2 * CV_SECOND) /* then another member is asked */
#define LONGEST_DOUBT (5 * CV_SECOND) /* then the epoch of the file of hints is doubted */
/* While no member has what this process has seen: a primary that went on alone and was lost then
 * is deleted meanwhile, by which a new epoch begins. */
#define LONGEST_BEHIND (15 * CV_SECOND)

/* --- answers --------------------------------------------------------------------------------- */

static const uint8_t nil[1] = { 0xc0 };

void cv_reply_clear(struct cv_reply *reply)
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
    cv_reply_clear(reply);
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
        cv_reply_clear(reply);
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
    cv_reply_clear(reply);
}

/* --- which requests change something ---------------------------------------------------------- */

/* Whether the last argument, `write`, is not nil. */
static bool has_write(const struct cv_request *request)
{
    cv_reader reader;
    cv_reader_init(&reader, request->args, request->args_length);
    size_t count = cv_read_array(&reader);
    for (size_t i = 1; i < count; i++)
        cv_read_skip(&reader);
    return count != 0 && !cv_read_nil(&reader) && !reader.broken;
}

/* A login that was refused may be tried again: it does not matter whether another was done. */
static bool is_login(const struct cv_request *request)
{
    return request->operation == CV_LOGIN || request->operation == CV_CONTEXT_LOGIN;
}

/* Whether it is better sent to a read-write member. */
static bool is_change(const struct cv_request *request)
{
    switch (request->operation) {
    case CV_LOGIN:
    case CV_CONTEXT_LOGIN:
    case CV_SET_PIN:
    case CV_INIT_PIN:
    case CV_INIT_TOKEN:
    case CV_DESTROY_OBJECT:
        return true;
    case CV_SET_ATTRIBUTES:
    case CV_CREATE_OBJECT:
    case CV_COPY_OBJECT:
    case CV_GENERATE_KEY:
    case CV_GENERATE_KEY_PAIR:
    case CV_UNWRAP_KEY:
    case CV_DERIVE_KEY:
    case CV_ENCAPSULATE_KEY:
    case CV_DECAPSULATE_KEY:
        return has_write(request);
    default:
        return request->prefers_writable;
    }
}

/* How long a healthy member may take over it. */
static cv_moment hedge_of(const struct cv_request *request, bool change)
{
    if (is_login(request))
        return HEDGE_OF_LOGIN;
    bool generates =
        request->operation == CV_GENERATE_KEY || request->operation == CV_GENERATE_KEY_PAIR;
    return change || generates ? HEDGE_OF_CHANGE : HEDGE;
}

/* --- attempts -------------------------------------------------------------------------------- */

struct try {
    struct cv_route route;
    struct cv_pending call;
    bool sent;
    cv_moment until; /* by which one attempt is given up */
};

struct attempts {
    struct cv_cluster *cluster;
    struct cv_request request;
    struct cv_wish wish;
    cv_moment begun;
    cv_moment until;
    cv_moment hedge;
    cv_moment pause;
    cv_moment busy_since; /* 0: not */
    bool alone;
    bool repeatable;
    bool changes;     /* something, so that it matters whether it was done */
    bool may_be_done; /* it was sent, and its connection ended without an answer */
    unsigned protocol_faults;
    struct cv_reply *reply;
    CK_RV refusal; /* the last answer by which a member passed the call on; 0: none */
    size_t count;  /* of tries under way, the newest last */
    struct try tries[MOST_TRIES];
};

/* Forgets a try; the others keep their places, since links point at their calls. */
static void close_try(struct attempts *attempts, struct try *try, bool answered)
{
    cv_cluster_release(attempts->cluster, &try->route, answered);
    try->route.link = NULL;
    while (attempts->count != 0 && attempts->tries[attempts->count - 1].route.link == NULL)
        attempts->count--;
}

static void close_all(struct attempts *attempts)
{
    for (size_t i = MOST_TRIES; i-- != 0;) {
        struct try *try = &attempts->tries[i];
        if (i >= attempts->count || try->route.link == NULL)
            continue;
        cv_link_leave(try->route.link, &try->call);
        close_try(attempts, try, false);
    }
}

static unsigned members_asked(const struct attempts *attempts)
{
    unsigned members = 0;
    for (size_t i = 0; i < attempts->count; i++) {
        if (attempts->tries[i].route.link != NULL)
            members |= 1u << attempts->tries[i].route.member;
    }
    return members;
}

/* Whether the change may have been done, whatever the others say. */
static bool is_unsettled(const struct attempts *attempts)
{
    return attempts->may_be_done || (attempts->changes && attempts->count > 1);
}

/* What a try has come to. */
enum verdict {
    VERDICT_FINAL, /* the answer, or a fault that stays */
    VERDICT_AGAIN, /* worth another try */
    VERDICT_PAUSE  /* the same, after a pause */
};

/* Whether a member has asked for patience: it will do what one without authorization cannot. */
static bool is_awaited(const struct attempts *attempts)
{
    return attempts->refusal == RV_BEHIND || attempts->refusal == RV_STALE ||
           attempts->refusal == CV_RV_BUSY;
}

/* An answer by which the member says that another, or later the same, may do better. */
static enum verdict judge_answer(struct attempts *attempts, const struct cv_route *route)
{
    unsigned bit = 1u << route->member;
    cv_moment now = cv_now();
    switch (attempts->reply->value) {
    case CV_RV_BUSY:
        if (attempts->busy_since == 0)
            attempts->busy_since = now;
        else if (now > attempts->busy_since + LONGEST_BUSY && route->others)
            attempts->wish.avoid |= bit;
        attempts->refusal = CV_RV_BUSY;
        return VERDICT_PAUSE;
    case CKR_KEYRING_NOT_AUTHORIZED:
        cv_cluster_unauthorized(attempts->cluster, route);
        if (is_awaited(attempts)) {
            attempts->wish.avoid |= bit;
            return VERDICT_AGAIN;
        }
        break;
    case CKR_TOKEN_WRITE_PROTECTED:
        if (!attempts->wish.write ||
            (!cv_cluster_surroundings(attempts->cluster)->direct && !is_unsettled(attempts)))
            return VERDICT_FINAL;
        break;
    case RV_BEHIND:
        break;
    case CKR_DEVICE_ERROR: /* cut off for longer than `read-only-limit` allows, perhaps */
        if (attempts->wish.write || !route->cut_off)
            return VERDICT_FINAL;
        break;
    default:
        return VERDICT_FINAL;
    }
    if (!route->others && attempts->reply->value != RV_BEHIND && !is_unsettled(attempts))
        return VERDICT_FINAL;
    attempts->wish.avoid |= bit;
    attempts->refusal = attempts->reply->value;
    return VERDICT_AGAIN;
}

/* A fault: whether the same request may do better on another connection. */
static enum verdict judge_fault(struct attempts *attempts, const struct try *try,
                                enum cv_fault fault)
{
    if (fault == CV_FAULT_PROTOCOL && ++attempts->protocol_faults == MOST_PROTOCOL_FAULTS)
        return VERDICT_FINAL;
    if (fault == CV_FAULT_STALE || fault == CV_FAULT_BROKEN || fault == CV_FAULT_PROTOCOL ||
        fault == CV_FAULT_TIMEOUT)
        attempts->may_be_done = attempts->may_be_done || (try->sent && attempts->changes);
    if (fault == CV_FAULT_STALE) {
        attempts->wish.avoid |= 1u << try->route.member;
        attempts->refusal = RV_STALE;
        return VERDICT_AGAIN;
    }
    if (fault != CV_FAULT_BROKEN && fault != CV_FAULT_PROTOCOL && fault != CV_FAULT_TIMEOUT)
        return VERDICT_FINAL;
    return attempts->repeatable && cv_now() < attempts->until ? VERDICT_AGAIN : VERDICT_FINAL;
}

/* A worker's refusal of HELLO is the answer to whatever was asked. */
static enum verdict judge(struct attempts *attempts, struct try *try, enum cv_fault *fault)
{
    struct cv_link *link = try->route.link;
    *fault = try->call.fault;
    if (*fault == CV_FAULT_NONE && !read_reply(&try->call.answer, attempts->reply)) {
        cv_trace("an answer is not of the protocol's shape");
        free(try->call.answer.bytes);
        cv_link_fail(link, CV_FAULT_PROTOCOL);
        *fault = CV_FAULT_PROTOCOL;
    } else if (*fault == CV_FAULT_REFUSED && cv_link_refusal(link) != 0) {
        attempts->reply->value = (CK_RV)cv_link_refusal(link);
        *fault = CV_FAULT_NONE;
    }
    if (*fault == CV_FAULT_NONE && try->route.lagging &&
        cv_cluster_is_stale(attempts->cluster, &try->route)) {
        cv_reply_free(attempts->reply);
        *fault = CV_FAULT_STALE;
    }
    return *fault == CV_FAULT_NONE ? judge_answer(attempts, &try->route)
                                   : judge_fault(attempts, try, *fault);
}

/* Has HELLO answered, so that a member of an epoch that is over is asked for nothing.  False: the
 * try is over. */
static bool greet(struct attempts *attempts, struct try *try)
{
    static const uint8_t no_arguments[1] = { 0x90 };
    struct cv_request ping = { .operation = CV_PING, .args = no_arguments, .args_length = 1 };
    cv_moment until = cv_earlier(attempts->until, cv_now() + HEDGE);
    if (!cv_link_call(try->route.link, &ping, until, until, attempts->alone, &try->call)) {
        cv_cluster_suspect(attempts->cluster, &try->route, try->call.sent);
        cv_link_leave(try->route.link, &try->call);
    }
    free(try->call.answer.bytes);
    try->call.answer = (struct cv_answer){ 0 };
    return try->call.fault == CV_FAULT_NONE;
}

/* Sends to one more member and waits for it until another should be asked.  True: it is over. */
static bool send_try(struct attempts *attempts, struct try *try)
{
    cv_moment now = cv_now();
    cv_moment patience =
        cv_cluster_surroundings(attempts->cluster)->receive_timeout_ms * CV_MILLISECOND;
    try->sent = !try->route.untold || greet(attempts, try);
    if (!try->sent)
        return true;
    attempts->request.least_position = try->route.least_position;
    try->until = cv_earlier(attempts->until, now + patience);
    cv_moment until = try->until, write_until = try->until;
    if (try->route.others && attempts->repeatable) {
        until = cv_earlier(until, now + (attempts->count > 1 ? SLICE : attempts->hedge));
        write_until = cv_earlier(write_until, now + LEAST_WRITE_TIME);
    }
    return cv_link_call(try->route.link, &attempts->request, write_until, until, attempts->alone,
                        &try->call);
}

/* One attempt is over time.  A long time without any whole answer condemns the link, not just the
 * call: bytes that only trickle would keep every later call waiting behind them. */
static void expire(const struct attempts *attempts, struct try *try)
{
    cv_moment patience =
        cv_cluster_surroundings(attempts->cluster)->receive_timeout_ms * CV_MILLISECOND;
    bool long_enough = cv_now() >= try->call.sent + cv_earlier(patience, CONDEMNING_SILENCE);
    if (long_enough && cv_link_answered(try->route.link) < try->call.sent)
        cv_link_fail(try->route.link, CV_FAULT_TIMEOUT);
    cv_link_leave(try->route.link, &try->call);
    try->call.fault = CV_FAULT_TIMEOUT;
}

/* Whether another member should be asked as well. */
static bool hedge_is_due(const struct attempts *attempts, cv_moment now)
{
    const struct try *newest = &attempts->tries[attempts->count - 1];
    cv_moment heard = cv_link_heard(newest->route.link);
    cv_moment sent = newest->call.sent;
    cv_moment silent_since = heard > sent ? heard : sent;
    return attempts->repeatable && newest->route.others && attempts->count < MOST_TRIES &&
           (now >= silent_since + attempts->hedge || now >= sent + LONGEST_HEDGE);
}

/* Waits a moment for the tries under way.  One that is over, or NULL. */
static struct try *watch(struct attempts *attempts)
{
    cv_moment now = cv_now();
    for (size_t i = attempts->count; i-- != 0;) {
        struct try *try = &attempts->tries[i];
        if (try->route.link == NULL)
            continue;
        bool newest = i + 1 == attempts->count;
        if (cv_link_await(try->route.link, &try->call, newest ? now + SLICE : now))
            return try;
        if (cv_now() >= try->until) {
            expire(attempts, try);
            return try;
        }
    }
    return NULL;
}

/* Asks one more member, if one is to be had.  *over: the try that has ended already. */
static enum cv_fault launch(struct attempts *attempts, struct try **over)
{
    struct cv_wish wish = attempts->wish;
    struct try *try = &attempts->tries[attempts->count];
    wish.avoid |= members_asked(attempts);
    enum cv_fault fault =
        cv_cluster_acquire(attempts->cluster, &wish, attempts->until, &try->route);
    if (fault != CV_FAULT_NONE) {
        try->route.link = NULL;
        return fault;
    }
    attempts->count++;
    if (send_try(attempts, try))
        *over = try;
    return CV_FAULT_NONE;
}

static void suspect_silent(struct attempts *attempts)
{
    for (size_t i = 0; i < attempts->count; i++) {
        const struct try *try = &attempts->tries[i];
        if (try->route.link != NULL)
            cv_cluster_suspect(attempts->cluster, &try->route, try->call.sent);
    }
}

/* Waits until a try is over, asking others when the newest is silent. */
static struct try *await_any(struct attempts *attempts)
{
    struct try *over = NULL;
    cv_moment not_before = 0;
    while (over == NULL) {
        cv_moment now = cv_now();
        if (now >= not_before && hedge_is_due(attempts, now)) {
            suspect_silent(attempts);
            if (launch(attempts, &over) != CV_FAULT_NONE)
                not_before = cv_now() + NOBODY_ELSE_PAUSE;
        } else {
            over = watch(attempts);
        }
    }
    return over;
}

/* Waits before the members are asked again: half of `pause` and a random part of the rest. */
static enum cv_fault rest(struct attempts *attempts)
{
    uint8_t dice = 128;
    cv_tls_random(&dice, 1);
    cv_moment end = cv_now() + attempts->pause / 2 + attempts->pause * dice / 512;
    attempts->pause = cv_earlier(attempts->pause * 2, LONGEST_PAUSE);
    if (end >= attempts->until)
        return CV_FAULT_TIMEOUT;
    return cv_cluster_pause(attempts->cluster, end) ? CV_FAULT_NONE : CV_FAULT_STOPPED;
}

/* All members passed the call on.  NONE: try them again; else the end, with the answer that
 * counts if *answered. */
static enum cv_fault all_passed(struct attempts *attempts, bool *answered)
{
    CK_RV refusal = attempts->refusal;
    attempts->wish.avoid = 0;
    attempts->refusal = 0;
    *answered = !attempts->may_be_done && (refusal == CKR_KEYRING_NOT_AUTHORIZED ||
                                           refusal == CKR_TOKEN_WRITE_PROTECTED ||
                                           refusal == CKR_DEVICE_ERROR);
    if (*answered) {
        attempts->reply->value = refusal;
        return CV_FAULT_TIMEOUT;
    }
    cv_moment waited = cv_now() - attempts->begun;
    if (refusal == RV_STALE && cv_cluster_doubt_hints(attempts->cluster, waited > LONGEST_DOUBT))
        return CV_FAULT_NONE;
    if (refusal == RV_BEHIND && waited > LONGEST_BEHIND)
        return CV_FAULT_BEHIND;
    return rest(attempts);
}

/* Nobody could be asked.  AGAIN: somebody may be now. */
static enum verdict judge_lack(struct attempts *attempts, enum cv_fault *fault)
{
    bool answered = false;
    if (*fault != CV_FAULT_NO_OTHER)
        return VERDICT_FINAL;
    *fault = all_passed(attempts, &answered);
    if (*fault == CV_FAULT_NONE)
        return VERDICT_AGAIN;
    if (answered)
        *fault = CV_FAULT_NONE;
    return VERDICT_FINAL;
}

/* One round: a try, and what it came to. */
static enum verdict run_round(struct attempts *attempts, enum cv_fault *fault)
{
    struct try *over = NULL;
    if (attempts->count == 0) {
        *fault = launch(attempts, &over);
        if (*fault != CV_FAULT_NONE)
            return judge_lack(attempts, fault);
    }
    if (over == NULL)
        over = await_any(attempts);
    enum verdict verdict = judge(attempts, over, fault);
    close_try(attempts, over, *fault == CV_FAULT_NONE);
    return verdict;
}

enum cv_fault cv_attempt(struct cv_cluster *cluster, const struct cv_request *request,
                         cv_moment until, bool alone, bool repeatable, struct cv_reply *reply)
{
    struct attempts attempts;
    enum cv_fault fault = CV_FAULT_NONE;
    enum verdict verdict;
    attempts.cluster = cluster;
    attempts.request = *request;
    attempts.wish = (struct cv_wish){ .write = is_change(request), .light = cv_request_is_light(request) };
    attempts.begun = 0;
    attempts.until = until;
    attempts.hedge = hedge_of(request, attempts.wish.write);
    attempts.pause = FIRST_PAUSE;
    attempts.busy_since = 0;
    attempts.alone = alone;
    attempts.repeatable = repeatable;
    attempts.changes = attempts.wish.write && !is_login(request);
    attempts.may_be_done = false;
    attempts.protocol_faults = 0;
    attempts.reply = reply;
    attempts.refusal = 0;
    attempts.count = 0;
    while ((verdict = run_round(&attempts, &fault)) != VERDICT_FINAL) {
        if (attempts.begun == 0)
            attempts.begun = cv_now();
        cv_reply_free(reply);
        if (verdict == VERDICT_PAUSE && (fault = rest(&attempts)) != CV_FAULT_NONE)
            break;
    }
    close_all(&attempts);
    return fault;
}
