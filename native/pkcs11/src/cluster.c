/* cluster.c - see cluster.h: life, connecting, and what callers ask for. */
#define _GNU_SOURCE
#include "cluster.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "cluster_inside.h"
#include "connect.h"
#include "trace.h"

#define CONNECT_TIME (5 * CV_SECOND)
/* How long callers go on reconnecting to a cluster that has just been lost. */
#define PATIENCE (30 * CV_SECOND)
/* The same of a new process, if the file of hints names members. */
#define PATIENCE_OF_NEW (10 * CV_SECOND)
/* What one caller spends on one more connection while there is one that serves, and while there is
 * only one in doubt. */
#define GROWTH_TIME (250 * CV_MILLISECOND)
#define RESCUE_TIME (700 * CV_MILLISECOND)
#define UNAUTHORIZED_TIME CV_SECOND
#define PROBE_PAUSE (100 * CV_MILLISECOND)
#define PING_PAUSE CV_SECOND
#define LONGEST_SUSPICION (10 * CV_SECOND) /* after it the links are given up */

/* --- life ------------------------------------------------------------------------------------ */

struct cv_cluster *cv_cluster_new(const struct cv_cluster_config *config,
                                  struct cv_surroundings *surroundings, const char *more_members)
{
    struct cv_cluster *cluster = calloc(1, sizeof *cluster);
    pthread_condattr_t attributes;
    if (cluster == NULL)
        return NULL;
    cluster->config = *config;
    cluster->surroundings = surroundings;
    pthread_mutex_init(&cluster->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&cluster->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    cv_take_place(cluster)->prefer_configured = true;
    cv_hints_load(cluster, more_members);
    return cluster;
}

void cv_cluster_stop(struct cv_cluster *cluster)
{
    pthread_mutex_lock(&cluster->lock);
    for (unsigned place = 0; place < cluster->places; place++) {
        struct cv_member *member = &cluster->members[place];
        for (size_t i = 0; i < member->link_count; i++)
            cv_link_fail(member->links[i], CV_FAULT_STOPPED);
    }
    pthread_cond_broadcast(&cluster->changed);
    pthread_mutex_unlock(&cluster->lock);
}

void cv_cluster_free(struct cv_cluster *cluster)
{
    for (unsigned place = 0; place < cluster->places; place++)
        cv_member_vacate(&cluster->members[place]);
    cv_credentials_free(&cluster->credentials);
    pthread_cond_destroy(&cluster->changed);
    pthread_mutex_destroy(&cluster->lock);
    free(cluster->hints);
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

/* --- connecting; `connecting` is ours ---------------------------------------------------------- */

/* The addresses to be dialled, and whose they are.  Copies: members may change meanwhile. */
struct dialling {
    size_t count;
    struct cv_target targets[CV_MOST_TARGETS];
    struct cv_listed facts[CV_MOST_TARGETS];
    unsigned places[CV_MOST_TARGETS];
    bool configured[CV_MOST_TARGETS];
};

static void add_target(struct cv_cluster *cluster, struct dialling *dialling,
                       const struct cv_member *member, bool configured)
{
    size_t at = dialling->count;
    if (at == CV_MOST_TARGETS || (!configured && member->facts.port[0] == '\0'))
        return;
    dialling->facts[at] = member->facts;
    dialling->places[at] = (unsigned)(member - cluster->members);
    dialling->configured[at] = configured;
    dialling->targets[at] = (struct cv_target){
        .host = configured ? cluster->config.host : dialling->facts[at].host,
        .port = configured ? cluster->config.port : dialling->facts[at].port,
        /* Behind the configured address there may be another member by now. */
        .key = member->proven && !configured ? dialling->facts[at].key : NULL,
    };
    dialling->count++;
}

/* The way to the entry member that stays on this host. */
static void add_socket(struct cv_cluster *cluster, struct dialling *dialling,
                       const struct cv_member *member)
{
    if (dialling->count == CV_MOST_TARGETS)
        return;
    add_target(cluster, dialling, member, true);
    dialling->targets[dialling->count - 1].host = cluster->config.socket;
    dialling->targets[dialling->count - 1].port = CV_LOCAL_PORT;
}

static void add_member(struct cv_cluster *cluster, struct dialling *dialling,
                       const struct cv_member *member)
{
    bool entry = member == &cluster->members[cluster->entry];
    bool same = entry && strcmp(cluster->config.host, member->facts.host) == 0 &&
                strcmp(cluster->config.port, member->facts.port) == 0;
    if (entry && cluster->config.socket[0] != '\0')
        add_socket(cluster, dialling, member);
    if (entry && (member->prefer_configured || same))
        add_target(cluster, dialling, member, true);
    if (!same)
        add_target(cluster, dialling, member, false);
    if (entry && !member->prefer_configured && !same)
        add_target(cluster, dialling, member, true);
}

static enum cv_fault dial(struct cv_cluster *cluster, struct dialling *dialling, cv_moment until,
                          struct cv_stream **stream, struct cv_greeting *greeting, size_t *target)
{
    if (cluster->config.fault != NULL)
        return CV_FAULT_CREDENTIALS;
    enum cv_fault fault = cv_credentials_load(&cluster->credentials, &cluster->config);
    if (fault != CV_FAULT_NONE)
        return fault;
    struct cv_connect_request request = {
        .config = &cluster->config,
        .targets = dialling->targets,
        .target_count = dialling->count,
        .context = cluster->credentials.context,
        .keep_alive = cluster->surroundings->keep_alive,
        .stop_descriptor = cluster->surroundings->stop_descriptor,
        .until = until,
    };
    fault = cv_connect(&request, stream, greeting, target);
    if (fault != CV_FAULT_NONE) {
        cv_trace("cluster %02u at %s port %s: %s", cluster->config.index, dialling->targets[0].host,
                 dialling->targets[0].port, cv_fault_name(fault));
        return fault;
    }
    cv_trace("cluster %02u: greeted by worker %u of %u at %s port %s", cluster->config.index,
             greeting->worker_index, greeting->worker_count, dialling->targets[*target].host,
             dialling->targets[*target].port);
    learn_time(cluster, greeting);
    return CV_FAULT_NONE;
}

/* Gives a greeted stream to its member, unless its worker has enough links; the lock is held. */
static enum cv_fault adopt(struct cv_cluster *cluster, const struct dialling *dialling,
                           size_t target, struct cv_stream *stream,
                           const struct cv_greeting *greeting, bool *added)
{
    struct cv_member *dialled = &cluster->members[dialling->places[target]];
    bool configured = dialling->configured[target];
    if (!dialled->used)
        dialled = &cluster->members[cluster->entry];
    struct cv_member *member = cv_member_greeted(cluster, dialled, configured, greeting->member_id);
    if (member != NULL) {
        bool lost = false;
        cv_member_drop_failed(member, &lost);
        member->worker_count = greeting->worker_count;
        member->prefer_configured = configured;
    }
    if (member == NULL || cv_member_has_enough(member, greeting->worker_index)) {
        cv_stream_close(stream, true);
        return CV_FAULT_NONE;
    }
    struct cv_listener listener = { cv_cluster_told, cv_cluster_listed, member };
    struct cv_link *link = cv_link_new(stream, greeting, cluster->surroundings->process_id,
                                       cluster->surroundings->direct, &listener);
    if (link == NULL)
        return CV_FAULT_MEMORY;
    cv_member_add(member, link);
    *added = true;
    return CV_FAULT_NONE;
}

/* Dials one of the members, whoever greets first; called and returns with the lock held. */
static enum cv_fault connect_locked(struct cv_cluster *cluster, struct cv_member **members,
                                    size_t count, cv_moment until, bool *added)
{
    struct dialling dialling = { 0 };
    struct cv_stream *stream = NULL;
    struct cv_greeting greeting;
    size_t target = 0;
    for (size_t i = 0; i < count; i++)
        add_member(cluster, &dialling, members[i]);
    *added = false;
    cluster->connecting = true;
    pthread_mutex_unlock(&cluster->lock);
    enum cv_fault fault = dial(cluster, &dialling, until, &stream, &greeting, &target);
    pthread_mutex_lock(&cluster->lock);
    cluster->connecting = false;
    for (size_t i = 0; i < dialling.count; i++) {
        struct cv_member *member = &cluster->members[dialling.places[i]];
        if (dialling.targets[i].failed && member->used && member->link_count == 0)
            cv_member_failed(member);
    }
    if (fault == CV_FAULT_NONE) {
        fault = adopt(cluster, &dialling, target, stream, &greeting, added);
        struct cv_member *dialled = &cluster->members[dialling.places[target]];
        if (dialled->used && dialled->link_count == 0)
            cv_member_failed(dialled); /* another answers there */
        cluster->last_contact = cv_now();
    }
    pthread_cond_broadcast(&cluster->changed);
    return fault;
}

/* --- acquiring; called and return with the lock held ------------------------------------------ */

/* One more link to a member that has some, or the first to one that is better than those there. */
static void extend_locked(struct cv_cluster *cluster, struct cv_member *member, cv_moment until)
{
    bool first = member->link_count == 0;
    bool added;
    connect_locked(cluster, &member, 1, until, &added);
    if (added)
        cluster->overlaps = 0;
    if (!first || added)
        cv_member_grew(member, added);
}

/* Spares those that were just found in an epoch that is over, if there are others: they would win
 * every race against members that are slow to greet.  *until: when one may be dialled again. */
static size_t without_stale(struct cv_member **members, size_t count, cv_moment now,
                            cv_moment *until)
{
    cv_moment end = *until;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (members[i]->stale && now < members[i]->not_before)
            end = cv_earlier(end, members[i]->not_before);
        else
            members[kept++] = members[i];
    }
    if (kept == 0)
        return count;
    cv_moment least = now + RESCUE_TIME;
    *until = cv_earlier(*until, end > least ? end : least);
    return kept;
}

/* Nobody is connected: dials all. */
static void reconnect_locked(struct cv_cluster *cluster, const struct cv_wish *wish, cv_moment until)
{
    struct cv_member *members[CV_PLACES];
    bool added;
    cv_moment now = cv_now();
    cv_moment end = cv_earlier(until, now + CONNECT_TIME);
    size_t count = cv_candidates(cluster, wish, now, true, members);
    count = without_stale(members, count, now, &end);
    enum cv_fault fault = connect_locked(cluster, members, count, end, &added);
    if (!added) {
        cluster->failed_rounds++;
        cv_cluster_failed(cluster, fault != CV_FAULT_NONE ? fault : CV_FAULT_UNREACHABLE);
    }
}

/* Dials those that are not to be passed over.  False: there are none. */
static bool dial_others_locked(struct cv_cluster *cluster, const struct cv_wish *wish,
                               cv_moment until)
{
    struct cv_member *members[CV_PLACES];
    bool added;
    size_t count = cv_candidates(cluster, wish, cv_now(), false, members);
    if (count == 0)
        return false;
    if (cluster->connecting)
        wait_for_change(cluster, until);
    else
        connect_locked(cluster, members, count, until, &added);
    return true;
}

/* Whether a caller who has seen a round fail should go on: only for a cluster that was there a
 * short while ago, be it for another process, and only if the reason may pass. */
static bool worth_waiting(const struct cv_cluster *cluster)
{
    bool may_pass = cluster->last_fault != CV_FAULT_CREDENTIALS &&
                    cluster->last_fault != CV_FAULT_IDENTITY &&
                    cluster->last_fault != CV_FAULT_REFUSED;
    cv_moment end = cluster->last_contact != 0 ? cluster->last_contact + PATIENCE
                    : cluster->hinted          ? cluster->first_failed + PATIENCE_OF_NEW
                                               : 0;
    return may_pass && cv_now() < end;
}

/* Looks whether members under suspicion have said something, and asks them to. */
static void probe_locked(struct cv_cluster *cluster, cv_moment now)
{
    cluster->probe_at = now + PROBE_PAUSE;
    for (unsigned place = 0; place < cluster->places; place++) {
        struct cv_member *member = &cluster->members[place];
        if (!cv_member_suspect(member) || member->link_count == 0)
            continue;
        struct cv_link *link = cv_link_hold(member->links[0]);
        bool ping = now >= member->pinged_at + PING_PAUSE;
        bool over = now >= member->suspected_at + LONGEST_SUSPICION;
        if (ping)
            member->pinged_at = now;
        for (size_t i = 0; over && i < member->link_count; i++)
            cv_link_fail(member->links[i], CV_FAULT_TIMEOUT);
        pthread_mutex_unlock(&cluster->lock);
        cv_link_probe(link, ping);
        cv_link_release(link);
        pthread_mutex_lock(&cluster->lock);
    }
}

/* Does what is to be done before the best link is taken.  False: nothing was. */
static bool improve_locked(struct cv_cluster *cluster, const struct cv_choice *choice,
                           const struct cv_wish *wish, cv_moment now, cv_moment until)
{
    if (choice->any_suspect && now >= cluster->probe_at) {
        probe_locked(cluster, now);
        return true;
    }
    if (cluster->connecting)
        return false;
    if (choice->better != NULL && choice->better_rank < choice->best_rank) {
        bool doubtful = choice->best_rank >= CV_RANK_DOUBTFUL;
        cv_moment end = now + (doubtful ? RESCUE_TIME : GROWTH_TIME);
        struct cv_wish others = { wish->write, wish->light, wish->avoid };
        if (doubtful)
            return dial_others_locked(cluster, &others, cv_earlier(until, end));
        extend_locked(cluster, choice->better, cv_earlier(until, end));
        return true;
    }
    struct cv_member *growing = cv_who_grows(cluster, choice, wish, now);
    if (growing == NULL)
        return false;
    extend_locked(cluster, growing, cv_earlier(until, now + GROWTH_TIME));
    return true;
}

static void fill_route(struct cv_cluster *cluster, const struct cv_choice *choice,
                       struct cv_route *route)
{
    const struct cv_member *member = choice->best;
    bool same = member->has_told && cluster->has_epoch &&
                cv_epoch_compare(&member->told.epoch, &cluster->epoch) == 0;
    route->link = cv_link_hold(choice->link);
    route->member = (unsigned)(member - cluster->members);
    route->lagging = member->has_told && !same && cluster->has_epoch;
    route->least_position =
        same && member->told.position >= cluster->position ? 0 : cluster->position;
    route->cut_off = !cv_member_read_write(member);
    route->others = cluster->places > 1;
    route->untold = route->others && cluster->has_epoch && !cv_link_told(choice->link);
}

static enum cv_fault acquire_locked(struct cv_cluster *cluster, const struct cv_wish *wish,
                                    cv_moment until, struct cv_route *route)
{
    uint64_t rounds_before = cluster->failed_rounds;
    while (!is_stopping(cluster)) {
        struct cv_choice choice;
        cv_moment now = cv_now();
        cv_choose(cluster, wish, now, &choice);
        if (choice.best != NULL) {
            if (improve_locked(cluster, &choice, wish, now, until))
                continue;
            fill_route(cluster, &choice, route);
            return CV_FAULT_NONE;
        }
        bool seen_failure = cluster->failed_rounds != rounds_before;
        if (now >= until)
            return seen_failure ? cluster->last_fault : CV_FAULT_TIMEOUT;
        if (wish->avoid != 0) {
            if (!dial_others_locked(cluster, wish, cv_earlier(until, now + RESCUE_TIME)))
                return CV_FAULT_NO_OTHER;
        } else if (cluster->connecting) {
            wait_for_change(cluster, until);
        } else if (seen_failure && !worth_waiting(cluster)) {
            return cluster->last_fault;
        } else if (cluster->failures != 0 && now < cluster->not_before) {
            wait_for_change(cluster, cv_earlier(until, cluster->not_before));
        } else {
            reconnect_locked(cluster, wish, until);
        }
    }
    return CV_FAULT_STOPPED;
}

enum cv_fault cv_cluster_acquire(struct cv_cluster *cluster, const struct cv_wish *wish,
                                 cv_moment until, struct cv_route *route)
{
    if (!cv_tls_prepare())
        return CV_FAULT_UNREACHABLE;
    pthread_mutex_lock(&cluster->lock);
    enum cv_fault fault = acquire_locked(cluster, wish, until, route);
    pthread_mutex_unlock(&cluster->lock);
    return fault;
}

void cv_cluster_release(struct cv_cluster *cluster, struct cv_route *route, bool answered)
{
    struct cv_member *member = &cluster->members[route->member];
    if (answered && (atomic_load_explicit(&cluster->failures, memory_order_relaxed) != 0 ||
                     atomic_load_explicit(&member->failures, memory_order_relaxed) != 0)) {
        pthread_mutex_lock(&cluster->lock);
        cluster->failures = 0;
        if (cv_member_has(member, route->link))
            member->failures = 0;
        pthread_mutex_unlock(&cluster->lock);
    }
    cv_link_release(route->link);
}

/* --- what calls find out ---------------------------------------------------------------------- */

void cv_cluster_suspect(struct cv_cluster *cluster, const struct cv_route *route, cv_moment sent)
{
    struct cv_member *member = &cluster->members[route->member];
    pthread_mutex_lock(&cluster->lock);
    if (cv_member_has(member, route->link) && cv_link_heard(route->link) <= sent &&
        member->suspected_at == 0) {
        member->suspected_at = cv_now();
        cv_trace("cluster %02u: member %s has fallen silent", cluster->config.index,
                 member->facts.id);
    }
    pthread_mutex_unlock(&cluster->lock);
}

void cv_cluster_unauthorized(struct cv_cluster *cluster, const struct cv_route *route)
{
    struct cv_member *member = &cluster->members[route->member];
    pthread_mutex_lock(&cluster->lock);
    if (cv_member_has(member, route->link))
        member->unauthorized_until = cv_now() + UNAUTHORIZED_TIME;
    pthread_mutex_unlock(&cluster->lock);
}

bool cv_cluster_read_only(struct cv_cluster *cluster, cv_moment *heard)
{
    struct cv_wish wish = { .write = true };
    struct cv_choice choice;
    *heard = 0;
    pthread_mutex_lock(&cluster->lock);
    cv_choose(cluster, &wish, cv_now(), &choice);
    bool read_only = choice.best == NULL ? atomic_load(&cluster->reached)
                                         : !cv_member_read_write(choice.best);
    if (choice.link != NULL)
        *heard = cv_link_heard(choice.link);
    pthread_mutex_unlock(&cluster->lock);
    return read_only;
}
