/* cluster.c - see cluster.h. */
#define _GNU_SOURCE
#include "cluster.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "connect.h"
#include "tls.h"
#include "trace.h"

#define MOST_LINKS 64u
#define CONNECT_TIME (5 * CV_SECOND)
/* How long callers go on reconnecting to a cluster that has just been lost. */
#define PATIENCE (30 * CV_SECOND)
#define FIRST_BACKOFF (10 * CV_MILLISECOND)
#define LONGEST_BACKOFF (500 * CV_MILLISECOND)
/* One more connection: after so many overlapping calls, one caller spends at most this time on
 * it.  If it falls on a worker that has one already, another caller tries a moment later; after so
 * many tries in vain there is a pause, which doubles. */
#define OVERLAPS_BEFORE_GROWTH 8u
#define GROWTH_TIME (250 * CV_MILLISECOND)
#define GROWTH_TRIES 6u
#define GROWTH_MOMENT (2 * CV_MILLISECOND)
#define FIRST_GROWTH_PAUSE (100 * CV_MILLISECOND)
#define LONGEST_GROWTH_PAUSE (10 * CV_SECOND)

struct cv_cluster {
    struct cv_cluster_config config;
    struct cv_surroundings *surroundings;
    _Atomic int64_t time_offset_ms; /* cluster time minus time since boot */
    _Atomic bool reached;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct cv_link *links[MOST_LINKS];
    size_t link_count;
    unsigned worker_count;
    bool connecting;                    /* somebody is; his alone are the credentials */
    struct cv_credentials credentials;
    uint64_t failed_rounds;             /* attempts to connect that came to nothing */
    _Atomic unsigned failures;          /* since the last answer; changed under the lock */
    enum cv_fault last_fault;
    cv_moment not_before;               /* of the next attempt */
    cv_moment last_contact;             /* of a greeting, or of the end of a link; 0 never */
    unsigned overlaps;
    unsigned growth_tries;              /* in vain, since the last pause */
    cv_moment growth_pause;
    cv_moment grow_not_before;
};

/* --- life ------------------------------------------------------------------------------------ */

struct cv_cluster *cv_cluster_new(const struct cv_cluster_config *config,
                                  struct cv_surroundings *surroundings)
{
    struct cv_cluster *cluster = calloc(1, sizeof *cluster);
    pthread_condattr_t attributes;
    if (cluster == NULL)
        return NULL;
    cluster->config = *config;
    cluster->surroundings = surroundings;
    cluster->growth_pause = FIRST_GROWTH_PAUSE;
    pthread_mutex_init(&cluster->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&cluster->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return cluster;
}

void cv_cluster_stop(struct cv_cluster *cluster)
{
    pthread_mutex_lock(&cluster->lock);
    for (size_t i = 0; i < cluster->link_count; i++)
        cv_link_fail(cluster->links[i], CV_FAULT_STOPPED);
    pthread_cond_broadcast(&cluster->changed);
    pthread_mutex_unlock(&cluster->lock);
}

void cv_cluster_free(struct cv_cluster *cluster)
{
    for (size_t i = 0; i < cluster->link_count; i++)
        cv_link_release(cluster->links[i]);
    cv_credentials_free(&cluster->credentials);
    pthread_cond_destroy(&cluster->changed);
    pthread_mutex_destroy(&cluster->lock);
    free(cluster);
}

struct cv_surroundings *cv_cluster_surroundings(const struct cv_cluster *cluster)
{
    return cluster->surroundings;
}

unsigned cv_cluster_index(const struct cv_cluster *cluster)
{
    return cluster->config.index;
}

bool cv_cluster_was_reached(struct cv_cluster *cluster)
{
    return atomic_load(&cluster->reached);
}

static bool is_stopping(const struct cv_cluster *cluster)
{
    return atomic_load(&cluster->surroundings->stopping);
}

/* --- time ------------------------------------------------------------------------------------ */

static void learn_time(struct cv_cluster *cluster, const struct cv_greeting *greeting)
{
    atomic_store(&cluster->time_offset_ms, greeting->cluster_time_ms - cv_boot_time_ms());
    atomic_store(&cluster->reached, true);
}

bool cv_cluster_time_ms(struct cv_cluster *cluster, int64_t *now_ms)
{
    *now_ms = cv_boot_time_ms() + atomic_load(&cluster->time_offset_ms);
    return atomic_load(&cluster->reached);
}

bool cv_cluster_pause(struct cv_cluster *cluster, cv_moment until)
{
    struct pollfd stop = { .fd = cluster->surroundings->stop_descriptor, .events = POLLIN };
    while (!is_stopping(cluster) && cv_now() < until)
        poll(&stop, 1, cv_poll_timeout(until));
    return !is_stopping(cluster);
}

/* Waits for a change of the cluster; the lock is held. */
static void wait_for_change(struct cv_cluster *cluster, cv_moment until)
{
    struct timespec end = { .tv_sec = until / CV_SECOND, .tv_nsec = until % CV_SECOND };
    pthread_cond_timedwait(&cluster->changed, &cluster->lock, &end);
}

/* --- links; the lock is held ----------------------------------------------------------------- */

/* Counts a failure; the next attempt waits twice as long, give or take a half. */
static void note_failure(struct cv_cluster *cluster, enum cv_fault fault)
{
    unsigned failures = cluster->failures;
    cv_moment backoff = FIRST_BACKOFF << (failures < 6 ? failures : 6);
    uint8_t dice = 128;
    cv_tls_random(&dice, 1);
    backoff = cv_earlier(backoff, LONGEST_BACKOFF);
    cluster->failures = failures + 1;
    cluster->last_fault = fault;
    cluster->not_before = cv_now() + backoff / 2 + backoff * dice / 256;
}

/* A link that has worked is replaced at once; one that never did counts as a failed attempt, or
 * a member that greets and hangs up would be dialled without end. */
static void drop_failed_links(struct cv_cluster *cluster)
{
    size_t kept = 0;
    for (size_t i = 0; i < cluster->link_count; i++) {
        struct cv_link *link = cluster->links[i];
        if (cv_link_sound(link)) {
            cluster->links[kept++] = link;
            continue;
        }
        if (cv_link_proven(link))
            cluster->last_contact = cv_now();
        else
            note_failure(cluster, CV_FAULT_BROKEN);
        cv_link_release(link);
    }
    cluster->link_count = kept;
}

static struct cv_link *least_loaded(struct cv_cluster *cluster)
{
    struct cv_link *best = NULL;
    unsigned best_load = 0;
    bool any_failed = false;
    for (size_t i = 0; i < cluster->link_count; i++) {
        unsigned load = cv_link_load(cluster->links[i]);
        if (!cv_link_sound(cluster->links[i])) {
            any_failed = true;
        } else if (best == NULL || load < best_load) {
            best = cluster->links[i];
            best_load = load;
        }
    }
    if (any_failed)
        drop_failed_links(cluster);
    return best;
}

static bool has_link_to(const struct cv_cluster *cluster, unsigned worker)
{
    for (size_t i = 0; i < cluster->link_count; i++) {
        if (cv_link_sound(cluster->links[i]) && cv_link_worker(cluster->links[i]) == worker)
            return true;
    }
    return false;
}

/* The best link is busy, has been several times, and a worker is left that we are not linked to. */
static bool should_grow(struct cv_cluster *cluster, const struct cv_link *best)
{
    if (cv_link_load(best) == 0 || cluster->connecting || cluster->link_count == MOST_LINKS ||
        cluster->link_count >= cluster->worker_count)
        return false;
    if (++cluster->overlaps < OVERLAPS_BEFORE_GROWTH)
        return false;
    return cv_now() >= cluster->grow_not_before;
}

/* --- connecting; `connecting` is ours, the lock is not held ----------------------------------- */

static enum cv_fault connect_once(struct cv_cluster *cluster, cv_moment until,
                                  struct cv_stream **stream, struct cv_greeting *greeting)
{
    if (cluster->config.fault != NULL)
        return CV_FAULT_CREDENTIALS;
    enum cv_fault fault = cv_credentials_load(&cluster->credentials, &cluster->config);
    if (fault != CV_FAULT_NONE)
        return fault;
    struct cv_connect_request request = {
        .config = &cluster->config,
        .context = cluster->credentials.context,
        .keep_alive = cluster->surroundings->keep_alive,
        .stop_descriptor = cluster->surroundings->stop_descriptor,
        .until = until,
    };
    fault = cv_connect(&request, stream, greeting);
    if (fault != CV_FAULT_NONE) {
        cv_trace("cluster %02u at %s port %s: %s", cluster->config.index, cluster->config.host,
                 cluster->config.port, cv_fault_name(fault));
        return fault;
    }
    cv_trace("cluster %02u: greeted by worker %u of %u", cluster->config.index,
             greeting->worker_index, greeting->worker_count);
    learn_time(cluster, greeting);
    return CV_FAULT_NONE;
}

/* Adds a connection, unless its worker has one.  Takes the lock itself. */
static enum cv_fault add_link(struct cv_cluster *cluster, struct cv_stream *stream,
                              const struct cv_greeting *greeting, bool *added)
{
    struct cv_link *link = cv_link_new(stream, greeting, cluster->surroundings->process_id);
    *added = false;
    if (link == NULL)
        return CV_FAULT_MEMORY;
    pthread_mutex_lock(&cluster->lock);
    drop_failed_links(cluster);
    cluster->worker_count = greeting->worker_count;
    if (cluster->link_count < MOST_LINKS && !has_link_to(cluster, greeting->worker_index)) {
        cluster->links[cluster->link_count++] = cv_link_hold(link);
        *added = true;
    }
    pthread_mutex_unlock(&cluster->lock);
    cv_link_release(link);
    return CV_FAULT_NONE;
}

/* The first connection, or the first after all were lost. */
static enum cv_fault reconnect(struct cv_cluster *cluster, cv_moment until)
{
    struct cv_stream *stream = NULL;
    struct cv_greeting greeting;
    bool added;
    enum cv_fault fault =
        connect_once(cluster, cv_earlier(until, cv_now() + CONNECT_TIME), &stream, &greeting);
    return fault != CV_FAULT_NONE ? fault : add_link(cluster, stream, &greeting, &added);
}

/* One more connection, to a worker that has none.  False: not this time. */
static bool grow(struct cv_cluster *cluster, cv_moment until)
{
    struct cv_stream *stream = NULL;
    struct cv_greeting greeting;
    bool added = false;
    until = cv_earlier(until, cv_now() + GROWTH_TIME);
    return connect_once(cluster, until, &stream, &greeting) == CV_FAULT_NONE &&
           add_link(cluster, stream, &greeting, &added) == CV_FAULT_NONE && added;
}

/* --- acquiring; called and return with the lock held ------------------------------------------ */

static void grow_locked(struct cv_cluster *cluster, cv_moment until)
{
    cluster->connecting = true;
    pthread_mutex_unlock(&cluster->lock);
    bool grown = grow(cluster, until);
    pthread_mutex_lock(&cluster->lock);
    cluster->connecting = false;
    if (grown) {
        cluster->overlaps = cluster->growth_tries = 0;
        cluster->growth_pause = FIRST_GROWTH_PAUSE;
    } else if (++cluster->growth_tries < GROWTH_TRIES) {
        cluster->grow_not_before = cv_now() + GROWTH_MOMENT;
    } else {
        cluster->overlaps = cluster->growth_tries = 0;
        cluster->grow_not_before = cv_now() + cluster->growth_pause;
        cluster->growth_pause = cv_earlier(2 * cluster->growth_pause, LONGEST_GROWTH_PAUSE);
    }
    pthread_cond_broadcast(&cluster->changed);
}

static void reconnect_locked(struct cv_cluster *cluster, cv_moment until)
{
    cluster->connecting = true;
    pthread_mutex_unlock(&cluster->lock);
    enum cv_fault fault = reconnect(cluster, until);
    pthread_mutex_lock(&cluster->lock);
    cluster->connecting = false;
    if (fault != CV_FAULT_NONE) {
        cluster->failed_rounds++;
        note_failure(cluster, fault);
    } else {
        cluster->last_contact = cv_now();
    }
    pthread_cond_broadcast(&cluster->changed);
}

/* Whether a caller who has seen a round fail should go on: only for a cluster that was there a
 * short while ago, and only if the reason may pass. */
static bool worth_waiting(const struct cv_cluster *cluster)
{
    bool may_pass = cluster->last_fault != CV_FAULT_CREDENTIALS &&
                    cluster->last_fault != CV_FAULT_IDENTITY &&
                    cluster->last_fault != CV_FAULT_REFUSED;
    return may_pass && cluster->last_contact != 0 && cv_now() < cluster->last_contact + PATIENCE;
}

static enum cv_fault acquire_locked(struct cv_cluster *cluster, cv_moment until,
                                    struct cv_link **link)
{
    uint64_t rounds_before = cluster->failed_rounds;
    while (!is_stopping(cluster)) {
        struct cv_link *best = least_loaded(cluster);
        if (best != NULL) {
            if (should_grow(cluster, best)) {
                grow_locked(cluster, until);
                continue;
            }
            *link = cv_link_hold(best);
            return CV_FAULT_NONE;
        }
        cv_moment now = cv_now();
        bool seen_failure = cluster->failed_rounds != rounds_before;
        if (now >= until)
            return seen_failure ? cluster->last_fault : CV_FAULT_TIMEOUT;
        if (cluster->connecting)
            wait_for_change(cluster, until);
        else if (seen_failure && !worth_waiting(cluster))
            return cluster->last_fault;
        else if (cluster->failures != 0 && now < cluster->not_before)
            wait_for_change(cluster, cv_earlier(until, cluster->not_before));
        else
            reconnect_locked(cluster, until);
    }
    return CV_FAULT_STOPPED;
}

enum cv_fault cv_cluster_acquire(struct cv_cluster *cluster, cv_moment until, struct cv_link **link)
{
    if (!cv_tls_prepare())
        return CV_FAULT_UNREACHABLE;
    pthread_mutex_lock(&cluster->lock);
    enum cv_fault fault = acquire_locked(cluster, until, link);
    pthread_mutex_unlock(&cluster->lock);
    return fault;
}

void cv_cluster_release(struct cv_cluster *cluster, struct cv_link *link, bool answered)
{
    cv_link_release(link);
    if (!answered || atomic_load_explicit(&cluster->failures, memory_order_relaxed) == 0)
        return;
    pthread_mutex_lock(&cluster->lock);
    cluster->failures = 0;
    pthread_mutex_unlock(&cluster->lock);
}
