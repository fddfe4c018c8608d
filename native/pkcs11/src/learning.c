/*
 * learning.c - what members tell: epoch, log position, and who the members are.
 *
 * Invariant: no answer of a member is taken that lives in a lower epoch than the highest a member
 * has told this process.  A higher epoch holds all that is left of the lower ones, so the log
 * position counts within its epoch.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "cluster_inside.h"
#include "trace.h"

/* --- places; the lock is held ----------------------------------------------------------------- */

static struct cv_member *find_id(struct cv_cluster *cluster, const char *id)
{
    for (unsigned place = 0; place < cluster->places; place++) {
        struct cv_member *member = &cluster->members[place];
        if (member->used && strcmp(member->facts.id, id) == 0)
            return member;
    }
    return NULL;
}

struct cv_member *cv_take_place(struct cv_cluster *cluster)
{
    for (unsigned place = 0; place < CV_PLACES; place++) {
        struct cv_member *member = &cluster->members[place];
        if (member->used)
            continue;
        cv_member_take(member, cluster);
        if (place >= cluster->places)
            cluster->places = place + 1;
        return member;
    }
    return NULL;
}

/* Makes another place that of the configured address. */
static void move_entry(struct cv_cluster *cluster, struct cv_member *to)
{
    struct cv_member *from = &cluster->members[cluster->entry];
    if (from == to)
        return;
    cluster->entry = (unsigned)(to - cluster->members);
    to->prefer_configured = true;
    if (!from->listed)
        cv_member_vacate(from);
    if (to->listed)
        memcpy(cluster->group, to->facts.group, sizeof cluster->group);
}

struct cv_member *cv_member_greeted(struct cv_cluster *cluster, struct cv_member *dialled,
                                    bool configured, const char *id)
{
    if (id[0] == '\0' || strcmp(dialled->facts.id, id) == 0)
        return dialled;
    struct cv_member *known = find_id(cluster, id);
    if (known == NULL && dialled->facts.id[0] == '\0') {
        memcpy(dialled->facts.id, id, strlen(id) + 1);
        return dialled;
    }
    if (known == NULL) {
        known = cv_take_place(cluster);
        if (known == NULL)
            return NULL;
        memcpy(known->facts.id, id, strlen(id) + 1);
    }
    if (configured)
        move_entry(cluster, known);
    else if (dialled->facts.id[0] == '\0')
        cv_member_vacate(dialled);
    return known;
}

/* --- the state element ------------------------------------------------------------------------ */

/* Takes over what a member of the present epoch, or of a later one, has told. */
static void take_told(struct cv_cluster *cluster, struct cv_member *member,
                      const struct cv_told *told, int order)
{
    bool same = member->has_told && cv_epoch_compare(&told->epoch, &member->told.epoch) == 0;
    uint64_t before = same ? member->told.position : 0;
    if (order > 0) {
        cluster->epoch = told->epoch;
        cluster->position = 0;
    }
    cluster->has_epoch = true;
    cluster->epoch_is_hint = false;
    member->told = *told;
    member->has_told = true;
    member->stale = false;
    if (before > member->told.position)
        member->told.position = before;
    if (told->position > cluster->position)
        cluster->position = told->position;
}

enum cv_fault cv_cluster_told(void *context, struct cv_link *link, const struct cv_told *told)
{
    struct cv_member *member = context;
    struct cv_cluster *cluster = member->cluster;
    char *text = NULL;
    pthread_mutex_lock(&cluster->lock);
    bool present = cv_member_has(member, link);
    int order = cluster->has_epoch ? cv_epoch_compare(&told->epoch, &cluster->epoch) : 1;
    if (present && order >= 0) {
        take_told(cluster, member, told, order);
        if (!member->has_list || member->list_version != told->members_version)
            cv_link_ask_members(link);
        if (order > 0 && cluster->has_list)
            text = cv_hints_text(cluster);
    } else if (present) {
        member->stale = true;
        cv_member_failed(member);
    }
    uint64_t highest = cluster->epoch.number;
    pthread_mutex_unlock(&cluster->lock);
    cv_hints_save(cluster, text);
    if (order >= 0)
        return CV_FAULT_NONE;
    cv_trace("cluster %02u: a member of epoch %llu is refused, since one of %llu was seen",
             cluster->config.index, (unsigned long long)told->epoch.number,
             (unsigned long long)highest);
    return CV_FAULT_STALE;
}

static bool lags(const struct cv_cluster *cluster, const struct cv_member *member)
{
    return member->has_told && cluster->has_epoch &&
           cv_epoch_compare(&member->told.epoch, &cluster->epoch) < 0;
}

bool cv_cluster_is_stale(struct cv_cluster *cluster, const struct cv_route *route)
{
    struct cv_member *member = &cluster->members[route->member];
    pthread_mutex_lock(&cluster->lock);
    bool stale = cv_member_has(member, route->link) && lags(cluster, member);
    if (stale) {
        member->stale = true;
        cv_member_failed(member);
        cv_link_fail(route->link, CV_FAULT_STALE);
    }
    pthread_mutex_unlock(&cluster->lock);
    return stale;
}

/* Whether one that is known may yet turn out to live in the present epoch. */
static bool any_unheard(const struct cv_cluster *cluster)
{
    for (unsigned place = 0; place < cluster->places; place++) {
        const struct cv_member *member = &cluster->members[place];
        if (member->used && !member->stale)
            return true;
    }
    return false;
}

bool cv_cluster_doubt_hints(struct cv_cluster *cluster, bool waited)
{
    pthread_mutex_lock(&cluster->lock);
    bool doubtful =
        cluster->has_epoch && cluster->epoch_is_hint && (waited || !any_unheard(cluster));
    if (doubtful) {
        cluster->has_epoch = false;
        for (unsigned place = 0; place < cluster->places; place++)
            cluster->members[place].stale = false;
    }
    pthread_mutex_unlock(&cluster->lock);
    return doubtful;
}

/* --- the list --------------------------------------------------------------------------------- */

static void take_member(struct cv_cluster *cluster, const struct cv_listed *listed)
{
    struct cv_member *member = find_id(cluster, listed->id);
    if (member == NULL)
        member = cv_take_place(cluster);
    if (member == NULL)
        return;
    bool moved = member->facts.port[0] != '\0' && (strcmp(member->facts.host, listed->host) != 0 ||
                                                   strcmp(member->facts.port, listed->port) != 0);
    if (moved) {
        member->prefer_configured = false;
        member->not_before = 0;
    }
    member->facts = *listed;
    member->listed = member->proven = true;
}

static void take_list(struct cv_cluster *cluster, const struct cv_listing *listing)
{
    struct cv_member *entry = &cluster->members[cluster->entry];
    for (unsigned place = 0; place < cluster->places; place++)
        cluster->members[place].listed = false;
    for (size_t i = 0; i < listing->count; i++)
        take_member(cluster, &listing->members[i]);
    for (unsigned place = 0; place < cluster->places; place++) {
        struct cv_member *member = &cluster->members[place];
        if (member->used && !member->listed && member != entry)
            cv_member_vacate(member);
    }
    if (entry->listed)
        memcpy(cluster->group, entry->facts.group, sizeof cluster->group);
    else if (cluster->group[0] == '\0')
        memcpy(cluster->group, listing->local_group, sizeof cluster->group);
    cluster->has_list = true;
    pthread_cond_broadcast(&cluster->changed);
}

void cv_cluster_listed(void *context, struct cv_link *link, const uint8_t *body, size_t length)
{
    struct cv_member *member = context;
    struct cv_cluster *cluster = member->cluster;
    struct cv_listing *listing = malloc(sizeof *listing);
    char *text = NULL;
    if (listing != NULL && cv_listing_read(body, length, listing)) {
        pthread_mutex_lock(&cluster->lock);
        if (cv_member_has(member, link) && !lags(cluster, member)) {
            member->has_list = true;
            member->list_version = listing->version;
            take_list(cluster, listing);
            text = cv_hints_text(cluster);
        }
        pthread_mutex_unlock(&cluster->lock);
        cv_hints_save(cluster, text);
    } else {
        cv_trace("cluster %02u: a list of members is of no use", cluster->config.index);
    }
    free(listing);
}
