/* link.c - see link.h. */
#define _GNU_SOURCE
#include "link.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "operations.h"
#include "request.h"
#include "trace.h"
#include "wire.h"

#define MOST_WAKES 32u /* answers handed over in one turn */
#define HELLO_TIME (2 * CV_SECOND) /* for the socket's buffer to take it, which it does at once */
#define PING_TIME CV_MILLISECOND /* for the socket's buffer to take it */
/* Waking an idle processor costs about 45 us each way; an answer that usually comes within this
 * time is polled for instead. */
#define SPIN_TIME (100 * CV_MICROSECOND)
#define SPIN_IF_USUALLY_WITHIN (200 * CV_MICROSECOND)
/* Yielding for others' requests stops after so many yields that brought none, for so many writes:
 * where threads of the application keep the processors busy, a yield can cost milliseconds. */
#define FRUITLESS_YIELDS 4u
#define WRITES_WITHOUT_YIELD 64u
#define LONGEST_DELAY_NOTED CV_MILLISECOND /* one key generation says little about signatures */

enum { WAITING, APPOINTED, ANSWERED }; /* a call's word */

struct cv_link {
    struct cv_stream *stream;
    struct cv_listener listener;
    unsigned worker;
    _Atomic unsigned holders;
    _Atomic unsigned load;
    _Atomic bool failed;         /* mirrors fault != NONE, for a look without the lock */
    _Atomic bool proven;         /* has answered a call */
    _Atomic bool told;           /* has answered HELLO */
    _Atomic uint64_t refusal;
    _Atomic int64_t last_heard;  /* moment of the last bytes that arrived */
    _Atomic int64_t last_whole;  /* moment of the last bytes that made a frame whole */
    _Atomic int64_t usual_delay; /* moving average of the time a lone caller waited */

    pthread_mutex_t lock; /* guards what follows */
    enum cv_fault fault;
    struct cv_calls calls;
    struct cv_pending *reader; /* the reader, or who has been appointed */
    bool asking; /* for the members */
    bool writing;
    bool stalled; /* the writer sleeps until the peer takes more */
    struct cv_buffer queued; /* frames to send */
    unsigned queued_calls;
    unsigned last_delivery;   /* how many answers came together */
    unsigned fruitless_yields;
    unsigned writes_without_yield;

    struct cv_buffer sending; /* the writer's */
    struct cv_buffer plain;   /* the reader's */
};

/* --- registered calls; the lock is held ------------------------------------------------------ */

/* Publishes a call's end.  From here on the caller may return and its stack be reused; only the
 * address of its word is still used, to wake it. */
static _Atomic uint32_t *finish(struct cv_pending *call)
{
    atomic_store_explicit(&call->word, ANSWERED, memory_order_release);
    return &call->word;
}

static bool is_answered(struct cv_pending *call)
{
    return atomic_load_explicit(&call->word, memory_order_acquire) == ANSWERED;
}

/* Ends the link; the reader and the writer notice when their socket does. */
static void fail_locked(struct cv_link *link, enum cv_fault fault)
{
    if (link->fault != CV_FAULT_NONE)
        return;
    link->fault = fault;
    atomic_store(&link->failed, true);
    link->reader = NULL;
    cv_stream_cut(link->stream);
    while (link->calls.oldest != NULL) {
        struct cv_pending *call = link->calls.oldest;
        cv_calls_strike(&link->calls, call);
        call->fault = fault;
        cv_word_wake(finish(call), 1);
    }
}

/* Fills a vacancy of the reader's role.  Returns whom to wake, after unlocking, or NULL. */
static _Atomic uint32_t *appoint_locked(struct cv_link *link)
{
    bool writer_looks_after_it = link->writing && !link->stalled;
    struct cv_pending *next = link->calls.newest;
    while (next != NULL && next->aside)
        next = next->older;
    if (link->reader != NULL || writer_looks_after_it || next == NULL)
        return NULL;
    link->reader = next;
    atomic_store_explicit(&link->reader->word, APPOINTED, memory_order_release);
    return &link->reader->word;
}

static void unlock_and_wake(struct cv_link *link, _Atomic uint32_t *sleeper)
{
    pthread_mutex_unlock(&link->lock);
    if (sleeper != NULL)
        cv_word_wake(sleeper, 1);
}

/* --- life ------------------------------------------------------------------------------------ */

struct cv_link *cv_link_hold(struct cv_link *link)
{
    atomic_fetch_add(&link->holders, 1);
    return link;
}

void cv_link_release(struct cv_link *link)
{
    if (atomic_fetch_sub(&link->holders, 1) != 1)
        return;
    cv_stream_close(link->stream, !atomic_load(&link->failed));
    cv_buffer_free(&link->queued);
    cv_buffer_free(&link->sending);
    cv_buffer_free(&link->plain);
    pthread_mutex_destroy(&link->lock);
    free(link);
}

unsigned cv_link_worker(const struct cv_link *link)
{
    return link->worker;
}

unsigned cv_link_load(const struct cv_link *link)
{
    return atomic_load_explicit(&link->load, memory_order_relaxed);
}

bool cv_link_sound(const struct cv_link *link)
{
    return !atomic_load_explicit(&link->failed, memory_order_relaxed);
}

bool cv_link_proven(const struct cv_link *link)
{
    return atomic_load_explicit(&link->proven, memory_order_relaxed);
}

uint64_t cv_link_refusal(const struct cv_link *link)
{
    return atomic_load(&link->refusal);
}

bool cv_link_told(const struct cv_link *link)
{
    return atomic_load(&link->told);
}

cv_moment cv_link_heard(const struct cv_link *link)
{
    return atomic_load_explicit(&link->last_heard, memory_order_relaxed);
}

cv_moment cv_link_answered(const struct cv_link *link)
{
    return atomic_load_explicit(&link->last_whole, memory_order_relaxed);
}

void cv_link_fail(struct cv_link *link, enum cv_fault fault)
{
    pthread_mutex_lock(&link->lock);
    fail_locked(link, fault);
    pthread_mutex_unlock(&link->lock);
}

/* --- writing --------------------------------------------------------------------------------- */

/* The peer takes nothing for now: the writer will sleep, so somebody else has to read. */
static void writer_stalls(void *argument)
{
    struct cv_link *link = argument;
    pthread_mutex_lock(&link->lock);
    link->stalled = true;
    unlock_and_wake(link, appoint_locked(link));
}

/* Callers who were answered together mostly ask again together: lets them queue their requests
 * before the first of them sends, since one batch costs both sides little more than one request. */
static void gather_locked(struct cv_link *link)
{
    unsigned before = link->queued_calls;
    if (before >= link->last_delivery)
        return;
    if (link->fruitless_yields >= FRUITLESS_YIELDS) {
        if (++link->writes_without_yield < WRITES_WITHOUT_YIELD)
            return;
        link->writes_without_yield = 0;
    }
    pthread_mutex_unlock(&link->lock);
    sched_yield();
    pthread_mutex_lock(&link->lock);
    link->fruitless_yields = link->queued_calls > before ? 0 : link->fruitless_yields + 1;
}

/* Sends what is queued until nothing is.  Called and returns with the lock held. */
static void write_locked(struct cv_link *link, cv_moment until)
{
    link->writing = true;
    gather_locked(link);
    while (cv_buffer_length(&link->queued) != 0 && link->fault == CV_FAULT_NONE) {
        struct cv_buffer batch = link->queued;
        link->queued = link->sending;
        link->sending = batch;
        link->queued_calls = 0;
        pthread_mutex_unlock(&link->lock);
        enum cv_fault fault =
            cv_stream_send(link->stream, &link->sending, until, writer_stalls, link);
        pthread_mutex_lock(&link->lock);
        link->stalled = false;
        if (fault != CV_FAULT_NONE)
            fail_locked(link, fault);
    }
    link->writing = false;
}

/* --- birth, with the first thing written ------------------------------------------------------ */

struct cv_link *cv_link_new(struct cv_stream *stream, const struct cv_greeting *greeting,
                            const uint8_t process_id[16], bool direct,
                            const struct cv_listener *listener)
{
    struct cv_link *link = calloc(1, sizeof *link);
    if (link == NULL) {
        cv_stream_close(stream, false);
        return NULL;
    }
    link->stream = stream;
    link->listener = *listener;
    link->worker = greeting->worker_index;
    atomic_init(&link->holders, 1);
    atomic_init(&link->last_heard, cv_now());
    atomic_init(&link->last_whole, atomic_load(&link->last_heard));
    pthread_mutex_init(&link->lock, NULL);
    if (!cv_request_put_hello(&link->queued, process_id, direct)) {
        cv_link_release(link);
        return NULL;
    }
    pthread_mutex_lock(&link->lock);
    write_locked(link, cv_now() + HELLO_TIME);
    pthread_mutex_unlock(&link->lock);
    return link;
}

/* --- reading --------------------------------------------------------------------------------- */

/* Answers that have been cut out of the stream and not yet been handed over. */
struct delivery {
    size_t count;
    uint32_t ids[MOST_WAKES];
    struct cv_answer answers[MOST_WAKES];
};

/* The worker's word on HELLO, which nobody waits for: only a refusal matters. */
static enum cv_fault take_hello(struct cv_link *link, const uint8_t *body, size_t length)
{
    cv_reader reader;
    cv_reader_init(&reader, body, length);
    size_t count = cv_read_array(&reader);
    cv_read_uint(&reader);
    uint64_t value = cv_read_uint(&reader);
    if (count < 2 || reader.broken)
        return CV_FAULT_PROTOCOL;
    atomic_store(&link->told, true);
    if (value == 0)
        return CV_FAULT_NONE;
    cv_trace("worker %u refused HELLO with 0x%08llx", link->worker, (unsigned long long)value);
    atomic_store(&link->refusal, value);
    return CV_FAULT_REFUSED;
}

/* The fifth element, `reader` being behind the first.  What is none of our shape is passed over,
 * as every element that nobody knows. */
static enum cv_fault take_told(struct cv_link *link, const cv_reader *reader)
{
    cv_reader ahead = *reader;
    struct cv_told told;
    for (int i = 0; i < 3; i++)
        cv_read_skip(&ahead); /* value, result, ticket */
    return cv_told_read(&ahead, &told) ? link->listener.told(link->listener.context, link, &told)
                                       : CV_FAULT_NONE;
}

static void take_members(struct cv_link *link, const uint8_t *body, size_t length)
{
    pthread_mutex_lock(&link->lock);
    link->asking = false;
    pthread_mutex_unlock(&link->lock);
    link->listener.listed(link->listener.context, link, body, length);
}

static enum cv_fault cut_frame(struct cv_link *link, const uint8_t *body, size_t length,
                               struct delivery *delivery)
{
    cv_reader reader;
    cv_reader_init(&reader, body, length);
    size_t elements = cv_read_array(&reader);
    uint64_t id = cv_read_uint(&reader);
    if (reader.broken || elements < 2 || id == 0 || id > UINT32_MAX)
        return CV_FAULT_PROTOCOL;
    atomic_store_explicit(&link->last_whole, cv_link_heard(link), memory_order_relaxed);
    if (elements > 4) {
        enum cv_fault fault = take_told(link, &reader);
        if (fault != CV_FAULT_NONE)
            return fault;
    }
    if (id == CV_HELLO_ID)
        return take_hello(link, body, length);
    if (id == CV_MEMBERS_ID) {
        take_members(link, body, length);
        return CV_FAULT_NONE;
    }
    uint8_t *bytes = malloc(length);
    if (bytes == NULL)
        return CV_FAULT_MEMORY;
    memcpy(bytes, body, length);
    delivery->ids[delivery->count] = (uint32_t)id;
    delivery->answers[delivery->count++] = (struct cv_answer){ bytes, length };
    return CV_FAULT_NONE;
}

/* Cuts whole frames out of `plain`, as many as a delivery holds.  *more: some are left. */
static enum cv_fault cut_frames(struct cv_link *link, struct delivery *delivery, bool *more)
{
    struct cv_buffer *plain = &link->plain;
    enum cv_fault fault = CV_FAULT_NONE;
    delivery->count = 0;
    *more = false;
    while (fault == CV_FAULT_NONE) {
        size_t body = cv_frame_length(plain->bytes + plain->start, cv_buffer_length(plain));
        if (body == CV_FRAME_BROKEN)
            return CV_FAULT_PROTOCOL;
        if (body == 0 || cv_buffer_length(plain) < CV_FRAME_HEADER + body)
            break;
        *more = delivery->count == MOST_WAKES;
        if (*more)
            break;
        fault = cut_frame(link, plain->bytes + plain->start + CV_FRAME_HEADER, body, delivery);
        cv_buffer_consume(plain, CV_FRAME_HEADER + body);
    }
    return fault;
}

/* Gives every answer to its caller and wakes them, all but the reader.  An answer that nobody
 * waits for belongs to a call that ran out of time. */
static void hand_over(struct cv_link *link, struct delivery *delivery, const struct cv_pending *reader)
{
    _Atomic uint32_t *sleepers[MOST_WAKES];
    size_t count = 0;
    if (delivery->count == 0)
        return;
    atomic_store_explicit(&link->proven, true, memory_order_relaxed);
    pthread_mutex_lock(&link->lock);
    link->last_delivery = (unsigned)delivery->count;
    for (size_t i = 0; i < delivery->count; i++) {
        struct cv_pending *call = cv_calls_find(&link->calls, delivery->ids[i]);
        if (call == NULL)
            continue;
        cv_calls_strike(&link->calls, call);
        call->answer = delivery->answers[i];
        delivery->answers[i].bytes = NULL;
        _Atomic uint32_t *word = finish(call);
        if (call != reader)
            sleepers[count++] = word;
    }
    pthread_mutex_unlock(&link->lock);
    for (size_t i = 0; i < count; i++)
        cv_word_wake(sleepers[i], 1);
    for (size_t i = 0; i < delivery->count; i++)
        free(delivery->answers[i].bytes);
}

/* Hands over all whole frames that have been received. */
static enum cv_fault deliver(struct cv_link *link, const struct cv_pending *reader)
{
    struct delivery delivery;
    enum cv_fault fault;
    bool more;
    do {
        fault = cut_frames(link, &delivery, &more);
        hand_over(link, &delivery, reader);
    } while (fault == CV_FAULT_NONE && more);
    return fault;
}

/* Reads and hands over until the reader's own answer is there. */
static enum cv_fault read_until_answered(struct cv_link *link, struct cv_pending *call, cv_moment until,
                                         cv_moment spin_until)
{
    while (!is_answered(call)) {
        enum cv_step step = cv_stream_receive(link->stream, &link->plain);
        enum cv_fault fault = CV_FAULT_NONE;
        if (step == CV_STEP_DONE) {
            atomic_store_explicit(&link->last_heard, cv_now(), memory_order_relaxed);
            fault = deliver(link, call);
        } else if (step == CV_STEP_FAILED) {
            fault = cv_stream_fault(link->stream);
        } else if (spin_until != 0 && cv_now() < spin_until) {
            sched_yield(); /* the worker may share this processor */
        } else {
            fault = cv_stream_wait(link->stream, until);
        }
        if (fault != CV_FAULT_NONE)
            return fault;
    }
    return CV_FAULT_NONE;
}

/* --- waiting --------------------------------------------------------------------------------- */

/* The caller turns to something else: the call stays, but somebody else has to read. */
static void set_aside_locked(struct cv_link *link, struct cv_pending *call)
{
    if (is_answered(call))
        return;
    call->aside = true;
    if (link->reader == call)
        link->reader = NULL;
    atomic_store_explicit(&call->word, WAITING, memory_order_relaxed);
}

static void read_locked(struct cv_link *link, struct cv_pending *call, cv_moment until,
                        cv_moment spin_until)
{
    link->reader = call;
    pthread_mutex_unlock(&link->lock);
    enum cv_fault fault = read_until_answered(link, call, until, spin_until);
    pthread_mutex_lock(&link->lock);
    if (link->reader == call)
        link->reader = NULL;
    if (fault == CV_FAULT_TIMEOUT)
        set_aside_locked(link, call);
    else if (fault != CV_FAULT_NONE)
        fail_locked(link, fault);
}

/* Waits for the answer in whatever role, or until the call is set aside.  Called with the lock
 * held, returns without it. */
static void wait_locked(struct cv_link *link, struct cv_pending *call, cv_moment until,
                        cv_moment spin_until)
{
    while (!is_answered(call) && !call->aside) {
        if (link->reader == NULL || link->reader == call) {
            read_locked(link, call, until, spin_until);
            continue;
        }
        pthread_mutex_unlock(&link->lock);
        cv_word_wait(&call->word, WAITING, until);
        if (is_answered(call))
            return; /* without ever having had a role: there is nothing to look after */
        bool over = cv_now() >= until;
        pthread_mutex_lock(&link->lock);
        if (over)
            set_aside_locked(link, call);
    }
    unlock_and_wake(link, appoint_locked(link));
}

/* --- one call -------------------------------------------------------------------------------- */

/* Until when a lone caller polls; 0 if answers usually take too long for that. */
static cv_moment spin_end(struct cv_link *link, bool alone, cv_moment sent)
{
    if (!alone || !cv_several_processors() ||
        atomic_load_explicit(&link->usual_delay, memory_order_relaxed) > SPIN_IF_USUALLY_WITHIN)
        return 0;
    return sent + SPIN_TIME;
}

static void note_delay(struct cv_link *link, cv_moment sent)
{
    int64_t usual = atomic_load_explicit(&link->usual_delay, memory_order_relaxed);
    usual += (cv_earlier(cv_now() - sent, LONGEST_DELAY_NOTED) - usual) / 8;
    atomic_store_explicit(&link->usual_delay, usual, memory_order_relaxed);
}

/* The call is over: its caller counts no longer. */
static void settle(struct cv_link *link, const struct cv_pending *call)
{
    if (call->alone && call->fault == CV_FAULT_NONE)
        note_delay(link, call->sent);
    atomic_fetch_sub_explicit(&link->load, 1, memory_order_relaxed);
}

bool cv_link_call(struct cv_link *link, const struct cv_request *request, cv_moment write_until,
                  cv_moment until, bool alone, struct cv_pending *call)
{
    *call = (struct cv_pending){ .word = WAITING, .alone = alone, .sent = cv_now() };
    atomic_fetch_add_explicit(&link->load, 1, memory_order_relaxed);
    pthread_mutex_lock(&link->lock);
    call->fault = link->fault;
    call->id = cv_calls_new_id(&link->calls);
    if (call->fault == CV_FAULT_NONE && !cv_request_put(&link->queued, call->id, request))
        call->fault = CV_FAULT_MEMORY;
    if (call->fault == CV_FAULT_NONE) {
        cv_calls_enlist(&link->calls, call);
        link->queued_calls++;
        if (!link->writing)
            write_locked(link, write_until);
        wait_locked(link, call, until, spin_end(link, alone, call->sent));
        if (!is_answered(call))
            return false;
    } else {
        pthread_mutex_unlock(&link->lock);
        finish(call);
    }
    settle(link, call);
    return true;
}

bool cv_link_await(struct cv_link *link, struct cv_pending *call, cv_moment until)
{
    pthread_mutex_lock(&link->lock);
    call->aside = false;
    wait_locked(link, call, until, 0);
    if (!is_answered(call))
        return false;
    settle(link, call);
    return true;
}

void cv_link_leave(struct cv_link *link, struct cv_pending *call)
{
    pthread_mutex_lock(&link->lock);
    if (!is_answered(call)) {
        cv_calls_strike(&link->calls, call);
        call->fault = CV_FAULT_TIMEOUT;
        finish(call);
    }
    pthread_mutex_unlock(&link->lock);
    free(call->answer.bytes);
    call->answer = (struct cv_answer){ 0 };
    call->alone = false;
    settle(link, call);
}

/* --- what is sent besides calls -------------------------------------------------------------- */

void cv_link_ask_members(struct cv_link *link)
{
    pthread_mutex_lock(&link->lock);
    if (!link->asking && link->fault == CV_FAULT_NONE)
        link->asking = cv_request_put_bare(&link->queued, CV_MEMBERS_ID, CV_MEMBERS);
    pthread_mutex_unlock(&link->lock);
}

/* Reads once, without waiting, if nobody reads. */
static void glance_locked(struct cv_link *link)
{
    struct cv_pending nobody = { .word = WAITING, .aside = true };
    if (link->reader != NULL || link->fault != CV_FAULT_NONE)
        return;
    link->reader = &nobody;
    pthread_mutex_unlock(&link->lock);
    enum cv_fault fault = CV_FAULT_NONE;
    enum cv_step step = cv_stream_receive(link->stream, &link->plain);
    if (step == CV_STEP_DONE) {
        atomic_store_explicit(&link->last_heard, cv_now(), memory_order_relaxed);
        fault = deliver(link, &nobody);
    } else if (step == CV_STEP_FAILED) {
        fault = cv_stream_fault(link->stream);
    }
    pthread_mutex_lock(&link->lock);
    if (link->reader == &nobody)
        link->reader = NULL;
    if (fault != CV_FAULT_NONE)
        fail_locked(link, fault);
}

void cv_link_probe(struct cv_link *link, bool ping)
{
    pthread_mutex_lock(&link->lock);
    if (ping && link->fault == CV_FAULT_NONE) {
        if (!cv_request_put_bare(&link->queued, cv_calls_new_id(&link->calls), CV_PING))
            fail_locked(link, CV_FAULT_MEMORY);
        if (!link->writing)
            write_locked(link, cv_now() + PING_TIME);
    }
    glance_locked(link);
    unlock_and_wake(link, appoint_locked(link));
}
