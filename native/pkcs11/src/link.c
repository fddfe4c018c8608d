/* link.c - see link.h. */
#define _GNU_SOURCE
#include "link.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "trace.h"
#include "wire.h"

#define BUCKETS 64u /* power of two */
#define MOST_WAKES 32u /* answers handed over in one turn */
#define HELLO_ID 1u
#define HELLO_TIME (2 * CV_SECOND) /* for the socket's buffer to take it, which it does at once */
#define OPERATION_HELLO 0u
#define SOFTWARE "conclave-pkcs11 0.1.0"
/* Waking an idle processor costs about 45 us each way; an answer that usually comes within this
 * time is polled for instead. */
#define SPIN_TIME (100 * CV_MICROSECOND)
#define SPIN_IF_USUALLY_WITHIN (200 * CV_MICROSECOND)
/* Yielding for others' requests stops after so many yields that brought none, for so many writes:
 * where threads of the application keep the processors busy, a yield can cost milliseconds. */
#define FRUITLESS_YIELDS 4u
#define WRITES_WITHOUT_YIELD 64u
#define LONGEST_DELAY_NOTED CV_MILLISECOND /* one key generation says little about signatures */

enum { WAITING, APPOINTED, ANSWERED }; /* struct call's word */

/* One call under way; lives on its caller's stack. */
struct call {
    _Atomic uint32_t word;
    uint32_t id;
    struct call *next_in_bucket;
    struct call *older;
    struct call *newer;
    struct cv_answer answer;
    enum cv_fault fault;
};

struct cv_link {
    struct cv_stream *stream;
    unsigned worker;
    _Atomic unsigned holders;
    _Atomic unsigned load;
    _Atomic bool failed;         /* mirrors fault != NONE, for a look without the lock */
    _Atomic bool proven;         /* has answered a call */
    _Atomic uint64_t refusal;
    _Atomic int64_t last_heard;  /* moment of the last bytes that arrived */
    _Atomic int64_t usual_delay; /* moving average of the time a lone caller waited */

    pthread_mutex_t lock; /* guards what follows */
    enum cv_fault fault;
    uint32_t last_id;
    struct call *buckets[BUCKETS];
    struct call *oldest;
    struct call *newest;
    struct call *reader; /* the reader, or who has been appointed */
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

static uint32_t new_id(struct cv_link *link)
{
    do
        link->last_id++;
    while (link->last_id <= HELLO_ID);
    return link->last_id;
}

static void enlist(struct cv_link *link, struct call *call)
{
    struct call **bucket = &link->buckets[call->id % BUCKETS];
    call->next_in_bucket = *bucket;
    *bucket = call;
    call->older = link->newest;
    call->newer = NULL;
    if (link->newest != NULL)
        link->newest->newer = call;
    else
        link->oldest = call;
    link->newest = call;
}

static void strike(struct cv_link *link, struct call *call)
{
    struct call **place = &link->buckets[call->id % BUCKETS];
    while (*place != call)
        place = &(*place)->next_in_bucket;
    *place = call->next_in_bucket;
    if (call->older != NULL)
        call->older->newer = call->newer;
    else
        link->oldest = call->newer;
    if (call->newer != NULL)
        call->newer->older = call->older;
    else
        link->newest = call->older;
}

static struct call *find(struct cv_link *link, uint32_t id)
{
    struct call *call = link->buckets[id % BUCKETS];
    while (call != NULL && call->id != id)
        call = call->next_in_bucket;
    return call;
}

/* Publishes a call's end.  From here on the caller may return and its stack be reused; only the
 * address of its word is still used, to wake it. */
static _Atomic uint32_t *finish(struct call *call)
{
    atomic_store_explicit(&call->word, ANSWERED, memory_order_release);
    return &call->word;
}

static bool is_answered(struct call *call)
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
    while (link->oldest != NULL) {
        struct call *call = link->oldest;
        strike(link, call);
        call->fault = fault;
        cv_word_wake(finish(call), 1);
    }
}

/* Fills a vacancy of the reader's role.  Returns whom to wake, after unlocking, or NULL. */
static _Atomic uint32_t *appoint_locked(struct cv_link *link)
{
    bool writer_looks_after_it = link->writing && !link->stalled;
    if (link->reader != NULL || writer_looks_after_it || link->newest == NULL)
        return NULL;
    link->reader = link->newest;
    atomic_store_explicit(&link->reader->word, APPOINTED, memory_order_release);
    return &link->reader->word;
}

static void unlock_and_wake(struct cv_link *link, _Atomic uint32_t *sleeper)
{
    pthread_mutex_unlock(&link->lock);
    if (sleeper != NULL)
        cv_word_wake(sleeper, 1);
}

/* --- frames ---------------------------------------------------------------------------------- */

/* Appends a frame to `queued`; the lock is held. */
static bool queue_request(struct cv_link *link, uint32_t id, const struct cv_request *request)
{
    uint8_t space[48];
    uint8_t *at = space + CV_FRAME_HEADER;
    *at++ = 0x94;
    *at++ = 0xce;
    for (int shift = 24; shift >= 0; shift -= 8)
        *at++ = (uint8_t)(id >> shift);
    *at++ = 0xcd;
    *at++ = (uint8_t)(request->operation >> 8);
    *at++ = (uint8_t)request->operation;
    if (request->ticket == NULL) {
        *at++ = 0xc0;
    } else {
        *at++ = 0xc5;
        *at++ = (uint8_t)(request->ticket_length >> 8);
        *at++ = (uint8_t)request->ticket_length;
    }
    size_t head = (size_t)(at - space);
    size_t ticket = request->ticket != NULL ? request->ticket_length : 0;
    size_t body = head - CV_FRAME_HEADER + ticket + request->args_length;
    for (int i = 0; i < CV_FRAME_HEADER; i++)
        space[i] = (uint8_t)(body >> (24 - 8 * i));
    return cv_buffer_reserve(&link->queued, CV_FRAME_HEADER + body) &&
           cv_buffer_append(&link->queued, space, head) &&
           cv_buffer_append(&link->queued, request->ticket, ticket) &&
           cv_buffer_append(&link->queued, request->args, request->args_length);
}

static bool queue_hello(struct cv_link *link, const uint8_t process_id[16])
{
    cv_writer args;
    cv_writer_init(&args);
    cv_write_array(&args, 2);
    cv_write_bin(&args, process_id, 16);
    cv_write_str(&args, SOFTWARE);
    struct cv_request hello = {
        .operation = OPERATION_HELLO, .args = args.bytes, .args_length = args.length
    };
    bool queued = !args.failed && queue_request(link, HELLO_ID, &hello);
    cv_writer_free(&args);
    return queued;
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
                            const uint8_t process_id[16])
{
    struct cv_link *link = calloc(1, sizeof *link);
    if (link == NULL) {
        cv_stream_close(stream, false);
        return NULL;
    }
    link->stream = stream;
    link->worker = greeting->worker_index;
    atomic_init(&link->holders, 1);
    atomic_init(&link->last_heard, cv_now());
    link->last_id = HELLO_ID;
    pthread_mutex_init(&link->lock, NULL);
    if (!queue_hello(link, process_id)) {
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
    if (value == 0)
        return CV_FAULT_NONE;
    cv_trace("worker %u refused HELLO with 0x%08llx", link->worker, (unsigned long long)value);
    atomic_store(&link->refusal, value);
    return CV_FAULT_REFUSED;
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
    if (id == HELLO_ID)
        return take_hello(link, body, length);
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
static void hand_over(struct cv_link *link, struct delivery *delivery, const struct call *reader)
{
    _Atomic uint32_t *sleepers[MOST_WAKES];
    size_t count = 0;
    if (delivery->count == 0)
        return;
    atomic_store_explicit(&link->proven, true, memory_order_relaxed);
    pthread_mutex_lock(&link->lock);
    link->last_delivery = (unsigned)delivery->count;
    for (size_t i = 0; i < delivery->count; i++) {
        struct call *call = find(link, delivery->ids[i]);
        if (call == NULL)
            continue;
        strike(link, call);
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
static enum cv_fault deliver(struct cv_link *link, const struct call *reader)
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
static enum cv_fault read_until_answered(struct cv_link *link, struct call *call, cv_moment until,
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

/* The call is over time.  Silence since it was sent condemns the link, not just the call. */
static void give_up_locked(struct cv_link *link, struct call *call, cv_moment sent)
{
    if (is_answered(call))
        return;
    strike(link, call);
    call->fault = CV_FAULT_TIMEOUT;
    finish(call);
    if (link->reader == call)
        link->reader = NULL;
    if (atomic_load(&link->last_heard) < sent)
        fail_locked(link, CV_FAULT_TIMEOUT);
}

static void read_locked(struct cv_link *link, struct call *call, cv_moment sent, cv_moment until,
                        cv_moment spin_until)
{
    link->reader = call;
    pthread_mutex_unlock(&link->lock);
    enum cv_fault fault = read_until_answered(link, call, until, spin_until);
    pthread_mutex_lock(&link->lock);
    if (link->reader == call)
        link->reader = NULL;
    if (fault == CV_FAULT_TIMEOUT)
        give_up_locked(link, call, sent);
    else if (fault != CV_FAULT_NONE)
        fail_locked(link, fault);
}

/* Waits for the answer in whatever role.  Called with the lock held, returns without it. */
static void wait_locked(struct cv_link *link, struct call *call, cv_moment sent, cv_moment until,
                        cv_moment spin_until)
{
    while (!is_answered(call)) {
        if (link->reader == NULL || link->reader == call) {
            read_locked(link, call, sent, until, spin_until);
            continue;
        }
        pthread_mutex_unlock(&link->lock);
        cv_word_wait(&call->word, WAITING, until);
        if (is_answered(call))
            return; /* without ever having had a role: there is nothing to look after */
        bool over = cv_now() >= until;
        pthread_mutex_lock(&link->lock);
        if (over)
            give_up_locked(link, call, sent);
    }
    unlock_and_wake(link, appoint_locked(link));
}

/* --- one call -------------------------------------------------------------------------------- */

static bool several_processors(void)
{
    static _Atomic int known;
    int count = atomic_load_explicit(&known, memory_order_relaxed);
    cpu_set_t ours;
    if (count == 0) {
        count = sched_getaffinity(0, sizeof ours, &ours) == 0 ? CPU_COUNT(&ours) : 1;
        atomic_store_explicit(&known, count, memory_order_relaxed);
    }
    return count > 1;
}

/* Until when a lone caller polls; 0 if answers usually take too long for that. */
static cv_moment spin_end(struct cv_link *link, bool alone, cv_moment sent)
{
    if (!alone || !several_processors() ||
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

enum cv_fault cv_link_call(struct cv_link *link, const struct cv_request *request, cv_moment until,
                           bool alone, struct cv_answer *answer)
{
    struct call call = { .word = WAITING };
    cv_moment sent = cv_now();
    atomic_fetch_add_explicit(&link->load, 1, memory_order_relaxed);
    pthread_mutex_lock(&link->lock);
    call.fault = link->fault;
    call.id = new_id(link);
    if (call.fault == CV_FAULT_NONE && !queue_request(link, call.id, request))
        call.fault = CV_FAULT_MEMORY;
    if (call.fault == CV_FAULT_NONE) {
        enlist(link, &call);
        link->queued_calls++;
        if (!link->writing)
            write_locked(link, until);
        wait_locked(link, &call, sent, until, spin_end(link, alone, sent));
        if (alone && call.fault == CV_FAULT_NONE)
            note_delay(link, sent);
    } else {
        pthread_mutex_unlock(&link->lock);
    }
    atomic_fetch_sub_explicit(&link->load, 1, memory_order_relaxed);
    *answer = call.answer;
    return call.fault;
}
