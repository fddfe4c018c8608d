/*
 * drive_calls.c - the network side under the command of a test (tests/native).
 *
 * Reads commands, one a line, from standard input and answers each with one line of JSON:
 *
 *   start | stop                      cv_runtime_start, cv_runtime_stop
 *   call OPERATION ARGS [TICKET]      one cv_call on cluster 0; ARGS and TICKET in hex
 *   write                             cv_put_write
 *   readonly                          cv_read_only on cluster 0
 *   stress THREADS CALLS BYTES        echo calls of random sizes up to BYTES, each one verified
 *   encrypt THREADS CALLS MECHANISM  the same, as requests that name this mechanism
 *   storm THREADS MILLISECONDS        as stress, while the runtime is stopped and started again
 *   forks THREADS FORKS               as stress, while children are forked which call for themselves
 *   cancels THREADS ROUNDS            one call a round is answered late, the others are given up
 *   linger                            forks a child that does nothing at all; says its process id
 *
 * CV_CALL_TIME_MS shortens the deadline of calls.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attempts.h"
#include "moment.h"
#include "rpc.h"
#include "runtime.h"

#define OPERATION_ECHO 40u
#define MOST_THREADS 512

/* --- hex ------------------------------------------------------------------------------------- */

static void print_hex(const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        printf("%02x", bytes[i]);
}

static unsigned nibble(char digit)
{
    return digit <= '9' ? (unsigned)(digit - '0') : (unsigned)(digit - 'a') + 10;
}

static uint8_t *parse_hex(const char *text, size_t *length)
{
    *length = strlen(text) / 2;
    uint8_t *bytes = malloc(*length + 1);
    for (size_t i = 0; i < *length; i++)
        bytes[i] = (uint8_t)(nibble(text[2 * i]) << 4 | nibble(text[2 * i + 1]));
    return bytes;
}

/* --- single commands ------------------------------------------------------------------------- */

static void command_start(void)
{
    CK_RV value = cv_runtime_start();
    printf("{\"value\": %lu, \"clusters\": %zu}\n", value, cv_cluster_count());
}

static void command_call(unsigned operation, const char *args_hex, const char *ticket_hex)
{
    struct cv_reply reply;
    cv_writer args;
    size_t length, ticket_length = 0;
    uint8_t *raw = parse_hex(args_hex, &length);
    uint8_t *ticket = *ticket_hex != '\0' ? parse_hex(ticket_hex, &ticket_length) : NULL;
    cv_writer_init(&args);
    cv_write_raw(&args, raw, length);
    cv_moment begun = cv_now();
    CK_RV value = cv_call(cv_cluster_at(0), operation, ticket, ticket_length, &args,
                          CV_RETRY_ALWAYS, &reply);
    printf("{\"value\": %lu, \"milliseconds\": %" PRId64 ", \"result\": \"", value,
           (cv_now() - begun) / CV_MILLISECOND);
    print_hex(reply.result.at, (size_t)(reply.result.end - reply.result.at));
    printf("\", \"ticket\": \"");
    print_hex(reply.ticket, reply.ticket_length);
    printf("\"}\n");
    cv_reply_free(&reply);
    cv_writer_free(&args);
    free(raw);
    free(ticket);
}

static void command_write(void)
{
    cv_writer args;
    cv_writer_init(&args);
    CK_RV value = cv_put_write(cv_cluster_at(0), &args);
    printf("{\"value\": %lu, \"result\": \"", value);
    print_hex(args.bytes, args.length);
    printf("\"}\n");
    cv_writer_free(&args);
}

/* --- echo calls ------------------------------------------------------------------------------ */

struct load {
    unsigned calls;
    size_t bytes;
    unsigned mechanism; /* 0: the request names none */
    _Atomic bool over;
    _Atomic uint64_t good;
    _Atomic uint64_t wrong;
    _Atomic uint64_t stopped;
    _Atomic uint64_t failed;
    _Atomic uint64_t last_failure;
    _Atomic int64_t slowest;
};

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static bool echoes(const struct cv_reply *reply, const cv_writer *args)
{
    size_t length = (size_t)(reply->result.end - reply->result.at);
    return length == args->length && memcmp(reply->result.at, args->bytes, length) == 0;
}

static void note_time(struct load *load, int64_t spent)
{
    int64_t slowest = atomic_load(&load->slowest);
    while (spent > slowest && !atomic_compare_exchange_weak(&load->slowest, &slowest, spent))
        ;
}

static CK_RV echo_once(struct load *load, uint32_t *state, uint8_t *scratch)
{
    struct cv_reply reply;
    cv_writer args;
    size_t length = load->bytes != 0 ? next_random(state) % load->bytes + 1 : 0;
    for (size_t i = 0; i < length && i < 64; i++)
        scratch[i] = (uint8_t)next_random(state);
    cv_writer_init(&args);
    cv_write_array(&args, load->mechanism != 0 ? 4 : 1);
    if (load->mechanism != 0) {
        cv_write_nil(&args);
        cv_write_nil(&args);
        cv_write_uint(&args, load->mechanism);
    }
    cv_write_bin(&args, scratch, length);
    cv_moment begun = cv_now();
    CK_RV value =
        cv_call(cv_cluster_at(0), OPERATION_ECHO, NULL, 0, &args, CV_RETRY_ALWAYS, &reply);
    note_time(load, cv_now() - begun);
    if (value == CKR_OK)
        atomic_fetch_add(echoes(&reply, &args) ? &load->good : &load->wrong, 1);
    cv_reply_free(&reply);
    cv_writer_free(&args);
    return value;
}

static void *run_load(void *argument)
{
    struct load *load = argument;
    static _Atomic uint32_t seeds = 1;
    uint32_t state = atomic_fetch_add(&seeds, 77777);
    uint8_t *scratch = calloc(1, load->bytes + 64);
    for (unsigned i = 0; (load->calls == 0 || i < load->calls) && !atomic_load(&load->over); i++) {
        CK_RV value = echo_once(load, &state, scratch);
        if (value == CKR_CRYPTOKI_NOT_INITIALIZED) {
            atomic_fetch_add(&load->stopped, 1);
            sched_yield();
        } else if (value != CKR_OK) {
            atomic_fetch_add(&load->failed, 1);
            atomic_store(&load->last_failure, value);
        }
    }
    free(scratch);
    return NULL;
}

static size_t start_threads(pthread_t *threads, size_t count, struct load *load)
{
    for (size_t i = 0; i < count; i++) {
        if (pthread_create(&threads[i], NULL, run_load, load) != 0)
            return i;
    }
    return count;
}

static void report(struct load *load, cv_moment begun, const char *more)
{
    double seconds = (double)(cv_now() - begun) / (double)CV_SECOND;
    printf("{\"good\": %" PRIu64 ", \"wrong\": %" PRIu64 ", \"failed\": %" PRIu64
           ", \"stopped\": %" PRIu64 ", \"last_failure\": %" PRIu64
           ", \"slowest_us\": %" PRId64 ", \"rate\": %.0f%s}\n",
           atomic_load(&load->good), atomic_load(&load->wrong), atomic_load(&load->failed),
           atomic_load(&load->stopped), atomic_load(&load->last_failure),
           atomic_load(&load->slowest) / CV_MICROSECOND,
           (double)atomic_load(&load->good) / seconds, more);
}

static void command_stress(size_t count, unsigned calls, size_t bytes, unsigned mechanism)
{
    pthread_t threads[MOST_THREADS];
    struct load load = { .calls = calls, .bytes = bytes, .mechanism = mechanism };
    cv_moment begun = cv_now();
    count = start_threads(threads, count, &load);
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    report(&load, begun, "");
}

/* --- calls given up at random moments --------------------------------------------------------- */

#define OPERATION_DELAY 60000u /* of the test server: answers after so many milliseconds */
#define DELAY_MS 6
#define LONGEST_PATIENCE (4 * CV_MILLISECOND)

struct round {
    struct load *load;
    pthread_barrier_t *barrier;
    unsigned threads, number;
};

/* One call, below the repetitions of cv_call, that is given up after `patience`. */
static enum cv_fault call_with_patience(struct load *load, unsigned operation, const cv_writer *args,
                                        cv_moment patience)
{
    struct cv_reply reply;
    bool alone;
    struct cv_request request = { .operation = operation, .args = args->bytes,
                                  .args_length = args->length };
    enum cv_fault fault = CV_FAULT_STOPPED;
    cv_reply_clear(&reply);
    if (cv_runtime_enter(&alone)) {
        fault = cv_attempt(cv_cluster_at(0), &request, cv_now() + patience, alone, true, &reply);
        cv_runtime_leave();
    }
    if (fault == CV_FAULT_NONE)
        atomic_fetch_add(echoes(&reply, args) ? &load->good : &load->wrong, 1);
    cv_reply_free(&reply);
    return fault;
}

/* In each round one thread's answer comes late and is waited for, while the others give up after a
 * moment each: whoever of them was the reader has to leave that to the patient one, since nobody
 * else comes. */
static void *run_impatient(void *argument)
{
    struct round *mine = argument;
    struct load *load = mine->load;
    uint32_t state = mine->number * 77777 + 1;
    for (unsigned i = 0; i < load->calls; i++) {
        bool patient = i % mine->threads == mine->number;
        cv_moment patience = patient ? cv_call_time : next_random(&state) % LONGEST_PATIENCE;
        cv_writer args;
        cv_writer_init(&args);
        cv_write_array(&args, 1);
        cv_write_uint(&args, patient ? DELAY_MS : next_random(&state));
        pthread_barrier_wait(mine->barrier);
        cv_moment begun = cv_now();
        enum cv_fault fault = call_with_patience(
            load, patient ? OPERATION_DELAY : OPERATION_ECHO, &args, patience);
        note_time(load, cv_now() - begun - (patient ? 0 : patience));
        if (fault == CV_FAULT_TIMEOUT && !patient)
            atomic_fetch_add(&load->stopped, 1);
        else if (fault != CV_FAULT_NONE)
            atomic_fetch_add(&load->failed, 1);
        cv_writer_free(&args);
    }
    return NULL;
}

static void command_cancels(size_t count, unsigned rounds)
{
    pthread_t threads[MOST_THREADS];
    struct round each[MOST_THREADS];
    pthread_barrier_t barrier;
    struct load load = { .calls = rounds };
    cv_moment begun = cv_now();
    pthread_barrier_init(&barrier, NULL, (unsigned)count);
    for (size_t i = 0; i < count; i++) {
        each[i] = (struct round){ &load, &barrier, (unsigned)count, (unsigned)i };
        if (pthread_create(&threads[i], NULL, run_impatient, &each[i]) != 0)
            abort(); /* the others wait for it */
    }
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
    report(&load, begun, "");
}

/* --- stop and start under load --------------------------------------------------------------- */

static void command_storm(size_t count, int64_t milliseconds)
{
    pthread_t threads[MOST_THREADS];
    struct load load = { .bytes = 200 };
    cv_moment begun = cv_now(), slowest_stop = 0;
    char more[96];
    unsigned rounds = 0;
    while (cv_now() < begun + milliseconds * CV_MILLISECOND) {
        atomic_store(&load.over, false);
        size_t started = start_threads(threads, count, &load);
        usleep((useconds_t)(1000 + rounds * 7919 % 20000));
        cv_moment stopping = cv_now();
        cv_runtime_stop();
        if (cv_now() - stopping > slowest_stop)
            slowest_stop = cv_now() - stopping;
        /* A caller may hold a cluster of the stopped runtime no longer than its call. */
        atomic_store(&load.over, true);
        for (size_t i = 0; i < started; i++)
            pthread_join(threads[i], NULL);
        cv_runtime_start();
        rounds++;
    }
    snprintf(more, sizeof more, ", \"rounds\": %u, \"slowest_stop_us\": %" PRId64, rounds,
             slowest_stop / CV_MICROSECOND);
    report(&load, begun, more);
}

/* --- fork under load ------------------------------------------------------------------------- */

/* What a child must find: the parent's runtime is not its own, and one of its own works. */
static int child_verdict(void)
{
    struct load load = { .calls = 3, .bytes = 100 };
    uint8_t parents_id[16];
    memcpy(parents_id, cv_process_id(), 16);
    if (!cv_runtime_forked())
        return 1;
    if (echo_once(&load, &(uint32_t){ 1 }, (uint8_t[200]){ 0 }) != CKR_CRYPTOKI_NOT_INITIALIZED)
        return 2;
    if (cv_runtime_start() != CKR_OK || cv_runtime_forked())
        return 3;
    if (memcmp(parents_id, cv_process_id(), 16) == 0)
        return 4;
    run_load(&load);
    cv_runtime_stop();
    return atomic_load(&load.good) == 3 ? 0 : 5;
}

static void command_forks(size_t count, unsigned forks)
{
    pthread_t threads[MOST_THREADS];
    struct load load = { .bytes = 200 };
    cv_moment begun = cv_now();
    char more[96];
    unsigned bad = 0;
    int last = 0;
    count = start_threads(threads, count, &load);
    for (unsigned i = 0; i < forks; i++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0)
            _exit(child_verdict());
        int status = 0;
        waitpid(child, &status, 0);
        if (status != 0) {
            bad++;
            last = status;
        }
    }
    atomic_store(&load.over, true);
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    snprintf(more, sizeof more, ", \"bad_children\": %u, \"last_status\": %d", bad, last);
    report(&load, begun, more);
}

static void command_linger(void)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    printf("{\"child\": %d}\n", (int)child);
}

/* --- commands -------------------------------------------------------------------------------- */

static void obey(char *line)
{
    char *save = NULL;
    char *word = strtok_r(line, " \n", &save);
    char *arguments[3] = { "", "", "" };
    for (size_t i = 0; i < 3; i++) {
        char *argument = strtok_r(NULL, " \n", &save);
        if (argument == NULL)
            break;
        arguments[i] = argument;
    }
    size_t first = strtoul(arguments[0], NULL, 10);
    unsigned second = (unsigned)strtoul(arguments[1], NULL, 10);
    if (strcmp(word, "start") == 0)
        command_start();
    else if (strcmp(word, "stop") == 0)
        cv_runtime_stop(), printf("{}\n");
    else if (strcmp(word, "call") == 0)
        command_call((unsigned)first, arguments[1], arguments[2]);
    else if (strcmp(word, "write") == 0)
        command_write();
    else if (strcmp(word, "readonly") == 0)
        printf("{\"read_only\": %s}\n", cv_read_only(cv_cluster_at(0)) ? "true" : "false");
    else if (strcmp(word, "stress") == 0)
        command_stress(first, second, strtoul(arguments[2], NULL, 10), 0);
    else if (strcmp(word, "encrypt") == 0)
        command_stress(first, second, 100, (unsigned)strtoul(arguments[2], NULL, 10));
    else if (strcmp(word, "cancels") == 0)
        command_cancels(first, second);
    else if (strcmp(word, "storm") == 0)
        command_storm(first, second);
    else if (strcmp(word, "forks") == 0)
        command_forks(first, second);
    else if (strcmp(word, "linger") == 0)
        command_linger();
    else
        printf("{\"error\": \"unknown command\"}\n");
    fflush(stdout);
}

int main(void)
{
    const char *call_time = getenv("CV_CALL_TIME_MS");
    char *line = NULL;
    size_t size = 0;
    if (call_time != NULL)
        cv_call_time = strtol(call_time, NULL, 10) * CV_MILLISECOND;
    while (getline(&line, &size, stdin) > 1)
        obey(line);
    free(line);
    return 0;
}
