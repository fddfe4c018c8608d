/* connect.c - see connect.h. */
#define _GNU_SOURCE
#include "connect.h"

#include <poll.h>
#include <string.h>
#include <sys/un.h>

#include "trace.h"
#include "wire.h"

#define LEAST_ATTEMPTS 3u /* even if there is one address only */
#define MOST_ATTEMPTS 12u
#define HEDGE (300 * CV_MILLISECOND)
#define MOST_WORKERS 1024u

/* --- frames ---------------------------------------------------------------------------------- */

size_t cv_frame_length(const uint8_t *bytes, size_t length)
{
    if (length < CV_FRAME_HEADER)
        return 0;
    size_t body = (size_t)bytes[0] << 24 | (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3];
    if (body == 0 || body > CV_WIRE_MAX_FRAME)
        return CV_FRAME_BROKEN;
    return body;
}

bool cv_greeting_parse(const uint8_t *body, size_t length, struct cv_greeting *greeting)
{
    cv_reader reader;
    size_t magic_length;
    cv_reader_init(&reader, body, length);
    if (cv_read_array(&reader) < 9 || cv_read_uint(&reader) != 0)
        return false;
    const uint8_t *magic = cv_read_bin(&reader, &magic_length);
    if (magic_length != 8 || memcmp(magic, "conclave", 8) != 0 ||
        cv_read_uint(&reader) != CV_PROTOCOL_VERSION)
        return false;
    uint64_t index = cv_read_uint(&reader);
    uint64_t count = cv_read_uint(&reader);
    cv_read_skip(&reader); /* cluster id */
    cv_reader id = reader;
    if (!cv_told_text(&id, greeting->member_id, sizeof greeting->member_id))
        greeting->member_id[0] = '\0';
    cv_read_skip(&reader); /* member id */
    uint64_t time = cv_read_uint(&reader);
    greeting->authorized = cv_read_bool(&reader);
    if (reader.broken || count == 0 || count > MOST_WORKERS || index >= count || time > INT64_MAX / 2)
        return false;
    greeting->worker_index = (unsigned)index;
    greeting->worker_count = (unsigned)count;
    greeting->cluster_time_ms = (int64_t)time;
    return true;
}

/* --- one attempt ----------------------------------------------------------------------------- */

struct attempt {
    struct cv_target *target;
    struct cv_stream *stream; /* NULL: not started, or over */
    bool greeted;             /* the handshake is done; the greeting is awaited */
    short events;             /* what to poll for */
    struct cv_buffer plain;
    struct cv_greeting greeting;
};

/* The greeting, and nothing behind it: a worker speaks again only when it is asked. */
static enum cv_step read_greeting(struct attempt *attempt, enum cv_fault *fault)
{
    struct cv_buffer *plain = &attempt->plain;
    enum cv_step step = cv_stream_receive(attempt->stream, plain);
    if (step == CV_STEP_FAILED) {
        *fault = cv_stream_fault(attempt->stream);
        return step;
    }
    size_t length = cv_frame_length(plain->bytes + plain->start, cv_buffer_length(plain));
    if (length == 0 || (length != CV_FRAME_BROKEN &&
                        cv_buffer_length(plain) < CV_FRAME_HEADER + length))
        return CV_STEP_WANT_READ;
    if (length != CV_FRAME_BROKEN && cv_buffer_length(plain) == CV_FRAME_HEADER + length &&
        cv_greeting_parse(plain->bytes + plain->start + CV_FRAME_HEADER, length, &attempt->greeting))
        return CV_STEP_DONE;
    cv_trace("what answered does not greet as a Conclave worker of protocol %d", CV_PROTOCOL_VERSION);
    *fault = CV_FAULT_PROTOCOL;
    return CV_STEP_FAILED;
}

/* Whether the server has the key that the list of members promised. */
static bool is_expected(struct attempt *attempt)
{
    uint8_t key[CV_TOLD_KEY];
    if (attempt->target->key == NULL)
        return true;
    if (cv_stream_peer_key(attempt->stream, key) &&
        memcmp(key, attempt->target->key, sizeof key) == 0)
        return true;
    cv_trace("%s port %s: the server has another key than its member", attempt->target->host,
             attempt->target->port);
    return false;
}

static enum cv_step advance(struct attempt *attempt, enum cv_fault *fault)
{
    enum cv_step step = CV_STEP_DONE;
    if (!attempt->greeted) {
        step = cv_stream_handshake(attempt->stream);
        if (step == CV_STEP_FAILED)
            *fault = cv_stream_fault(attempt->stream);
        attempt->greeted = step == CV_STEP_DONE;
        if (attempt->greeted && !is_expected(attempt)) {
            *fault = CV_FAULT_IDENTITY;
            return CV_STEP_FAILED;
        }
    }
    if (step == CV_STEP_DONE)
        step = read_greeting(attempt, fault);
    attempt->events = step == CV_STEP_WANT_WRITE ? POLLOUT : POLLIN;
    return step;
}

static void end_attempt(struct attempt *attempt)
{
    cv_stream_close(attempt->stream, false);
    attempt->stream = NULL;
    cv_buffer_free(&attempt->plain);
}

/* A Unix socket's address, in the shape in which the resolver gives others. */
struct local_address {
    struct addrinfo info;
    struct sockaddr_un name;
};

static struct addrinfo *local_address(struct local_address *local, const char *path)
{
    local->name.sun_family = AF_UNIX;
    strncpy(local->name.sun_path, path, sizeof local->name.sun_path - 1);
    local->info.ai_family = AF_UNIX;
    local->info.ai_addr = (struct sockaddr *)&local->name;
    local->info.ai_addrlen = sizeof local->name;
    return &local->info;
}

static bool is_local(const struct cv_target *target)
{
    return strcmp(target->port, CV_LOCAL_PORT) == 0;
}

/* Numeric addresses are taken as they are; a name is asked of the resolver, in its time. */
static struct addrinfo *resolve(const struct cv_cluster_config *config,
                                const struct cv_target *target)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
    };
    struct addrinfo *addresses = NULL;
    if (getaddrinfo(target->host, target->port, &hints, &addresses) == 0)
        return addresses;
    hints.ai_flags = AI_NUMERICSERV;
    int error = getaddrinfo(target->host, target->port, &hints, &addresses);
    if (error != 0) {
        cv_trace("cluster %02u: %s: %s", config->index, target->host, gai_strerror(error));
        return NULL;
    }
    return addresses;
}

/* --- the race -------------------------------------------------------------------------------- */

struct race {
    const struct cv_connect_request *request;
    struct addrinfo *found[CV_MOST_TARGETS]; /* by target, once it was its turn */
    struct local_address local;
    size_t turn;                             /* target of the next attempt */
    const struct addrinfo *next;             /* its address; NULL: the first */
    bool all_tried;                          /* each address of each target once */
    struct attempt attempts[MOST_ATTEMPTS];
    size_t started;
    size_t running;
    cv_moment begun;
    enum cv_fault fault; /* the worst news so far */
};

static void next_target(struct race *race)
{
    race->next = NULL;
    race->turn = (race->turn + 1) % race->request->target_count;
    if (race->turn == 0)
        race->all_tried = true;
}

static void start_attempt(struct race *race)
{
    struct cv_target *target = &race->request->targets[race->turn];
    struct addrinfo **found = &race->found[race->turn];
    struct attempt *attempt = &race->attempts[race->started++];
    if (*found == NULL)
        *found = is_local(target) ? local_address(&race->local, target->host)
                                  : resolve(race->request->config, target);
    const struct addrinfo *address = race->next != NULL ? race->next : *found;
    attempt->target = target;
    attempt->events = POLLOUT;
    if (address != NULL)
        attempt->stream = cv_stream_open(race->request->context, address, race->request->keep_alive);
    if (attempt->stream != NULL)
        race->running++;
    else
        race->fault = CV_FAULT_UNREACHABLE;
    race->next = address != NULL ? address->ai_next : NULL;
    if (race->next == NULL)
        next_target(race);
}

static bool all_started(const struct race *race)
{
    return race->started == MOST_ATTEMPTS || (race->started >= LEAST_ATTEMPTS && race->all_tried);
}

/* The hedge is due, or an address has not been tried and nothing is running. */
static bool may_start(const struct race *race, cv_moment now)
{
    if (all_started(race))
        return false;
    if (race->running == 0)
        return !race->all_tried;
    return now >= race->begun + (cv_moment)race->started * HEDGE;
}

static cv_moment next_turn(const struct race *race)
{
    if (all_started(race))
        return race->request->until;
    return cv_earlier(race->request->until, race->begun + (cv_moment)race->started * HEDGE);
}

/* Waits until an attempt can go on, it is time for another, or all is over. */
static enum cv_fault wait_turn(struct race *race)
{
    struct pollfd ready[MOST_ATTEMPTS + 1] = {
        { .fd = race->request->stop_descriptor, .events = POLLIN },
    };
    for (size_t i = 0; i < MOST_ATTEMPTS; i++) {
        const struct attempt *attempt = &race->attempts[i];
        ready[i + 1].fd = attempt->stream != NULL ? cv_stream_socket(attempt->stream) : -1;
        ready[i + 1].events = attempt->events;
    }
    poll(ready, MOST_ATTEMPTS + 1, cv_poll_timeout(next_turn(race)));
    if (ready[0].revents != 0)
        return CV_FAULT_STOPPED;
    if (cv_now() >= race->request->until)
        return race->fault != CV_FAULT_NONE ? race->fault : CV_FAULT_TIMEOUT;
    return CV_FAULT_NONE;
}

/* Lets every attempt go on; the index of one that has been greeted, or MOST_ATTEMPTS. */
static size_t advance_all(struct race *race)
{
    for (size_t i = 0; i < race->started; i++) {
        if (race->attempts[i].stream == NULL)
            continue;
        enum cv_step step = advance(&race->attempts[i], &race->fault);
        if (step == CV_STEP_DONE)
            return i;
        if (step == CV_STEP_FAILED) {
            end_attempt(&race->attempts[i]);
            race->running--;
        }
    }
    return MOST_ATTEMPTS;
}

static enum cv_fault run_race(struct race *race, size_t *winner)
{
    for (;;) {
        while (may_start(race, cv_now()))
            start_attempt(race);
        if (race->running == 0)
            return race->fault;
        enum cv_fault fault = wait_turn(race);
        if (fault != CV_FAULT_NONE)
            return fault;
        *winner = advance_all(race);
        if (*winner != MOST_ATTEMPTS)
            return CV_FAULT_NONE;
    }
}

enum cv_fault cv_connect(const struct cv_connect_request *request, struct cv_stream **stream,
                         struct cv_greeting *greeting, size_t *target)
{
    struct race race = { .request = request, .begun = cv_now() };
    size_t winner = MOST_ATTEMPTS;
    enum cv_fault fault = run_race(&race, &winner);
    for (size_t i = 0; i < race.started; i++)
        race.attempts[i].target->failed = true;
    if (fault == CV_FAULT_NONE) {
        struct attempt *won = &race.attempts[winner];
        *stream = won->stream;
        *greeting = won->greeting;
        *target = (size_t)(won->target - request->targets);
        won->target->failed = false;
        won->stream = NULL;
    }
    for (size_t i = 0; i < race.started; i++)
        end_attempt(&race.attempts[i]);
    for (size_t i = 0; i < request->target_count; i++) {
        if (race.found[i] != NULL && race.found[i] != &race.local.info)
            freeaddrinfo(race.found[i]);
    }
    return fault;
}
