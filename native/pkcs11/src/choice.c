/*
 * choice.c - which member a call goes to.
 *
 * Members are ranked, and among the best the one with the least loaded worker is taken:
 *
 *   LNHDirect 1, reads and cryptography: the entry member's group, then the others.
 *   LNHDirect 1, changes and logins: read-write members of the group, read-write members of other
 *     groups, then read-only ones, which refuse the change themselves or check the login.
 *   LNHDirect 0: the entry member; while it is out of reach the first of its group, then others.
 *
 * Members that the others do not see come behind, then those without authorization, then those
 * that have fallen silent.
 */
#define _GNU_SOURCE
#include <string.h>

#include "cluster_inside.h"

#define OVERLAPS_BEFORE_GROWTH 8u
#define OVERLAPS_BEFORE_PAIR 64u /* a second link to a worker pays less than the first */
#define RANK_STEP 16u /* room for the place, where equals are not to share */
#define UNAUTHORIZED (CV_RANK_DOUBTFUL / RANK_STEP)
#define SUSPECT (2 * UNAUTHORIZED)
#define NOT_SEEN 3u /* more than any difference below it */

static bool is_local(const struct cv_cluster *cluster, const struct cv_member *member)
{
    return cluster->group[0] == '\0' || member->facts.group[0] == '\0' ||
           strcmp(cluster->group, member->facts.group) == 0;
}

static unsigned rank_plain(const struct cv_cluster *cluster, const struct cv_member *member,
                           bool write)
{
    unsigned away = is_local(cluster, member) ? 0 : 1;
    if (!cluster->surroundings->direct)
        return member == &cluster->members[cluster->entry] ? 0 : 1 + away;
    return away + (write && !cv_member_read_write(member) ? 2 : 0);
}

static unsigned rank_of(struct cv_cluster *cluster, struct cv_member *member, bool write,
                        cv_moment now)
{
    bool linked = member->link_count != 0;
    bool unseen = !linked && (member->facts.standing == CV_NOT_VISIBLE ||
                              (cluster->has_list && !member->listed));
    bool unauthorized = member->unauthorized_until > now ||
                        (!linked && member->facts.standing == CV_NOT_AUTHORIZED);
    unsigned rank = rank_plain(cluster, member, write);
    if (unseen)
        rank += NOT_SEEN;
    if (unauthorized)
        rank += UNAUTHORIZED;
    if (member->suspected_at != 0 && cv_member_suspect(member))
        rank += SUSPECT;
    rank *= RANK_STEP;
    return cluster->surroundings->direct ? rank : rank + (unsigned)(member - cluster->members);
}

void cv_cluster_failed(struct cv_cluster *cluster, enum cv_fault fault)
{
    static const cv_moment first = 10 * CV_MILLISECOND, longest = 500 * CV_MILLISECOND;
    unsigned failures = cluster->failures;
    cv_moment backoff = first << (failures < 6 ? failures : 6);
    uint8_t dice = 128;
    cv_tls_random(&dice, 1);
    backoff = cv_earlier(backoff, longest);
    cluster->failures = failures + 1;
    cluster->last_fault = fault;
    cluster->not_before = cv_now() + backoff / 2 + backoff * dice / 256;
    if (cluster->first_failed == 0)
        cluster->first_failed = cv_now();
}

/* A link that has worked is replaced at once; one that never did counts as a failed attempt, or
 * a member that greets and hangs up would be dialled without end. */
static void drop_failed(struct cv_cluster *cluster, struct cv_member *member)
{
    bool lost = false;
    if (cv_member_drop_failed(member, &lost))
        cv_cluster_failed(cluster, CV_FAULT_BROKEN);
    if (lost)
        cluster->last_contact = cv_now();
}

static void weigh(struct cv_cluster *cluster, struct cv_member *member, const struct cv_wish *wish,
                  cv_moment now, struct cv_choice *choice)
{
    bool failed = false;
    unsigned load = 0;
    struct cv_link *link = cv_member_link(member, wish->light, &load, &failed);
    if (failed) {
        /* Another one may have failed since it was found the least loaded, and is freed here. */
        drop_failed(cluster, member);
        link = cv_member_link(member, wish->light, &load, &failed);
    }
    unsigned rank = rank_of(cluster, member, wish->write, now);
    choice->any_suspect = choice->any_suspect || member->suspected_at != 0;
    if (link == NULL) {
        if (now >= member->not_before && (choice->better == NULL || rank < choice->better_rank)) {
            choice->better = member;
            choice->better_rank = rank;
        }
    } else if (choice->best == NULL || rank < choice->best_rank ||
               (rank == choice->best_rank && load < choice->load)) {
        choice->best = member;
        choice->best_rank = rank;
        choice->link = link;
        choice->load = load;
    }
}

static bool is_avoided(const struct cv_wish *wish, unsigned place)
{
    return (wish->avoid >> place & 1u) != 0;
}

void cv_choose(struct cv_cluster *cluster, const struct cv_wish *wish, cv_moment now,
               struct cv_choice *choice)
{
    unsigned places = cluster->places;
    unsigned place = cluster->turn % places;
    *choice = (struct cv_choice){ 0 };
    for (unsigned i = 0; i < places; i++) {
        struct cv_member *member = &cluster->members[place];
        if (member->used && !is_avoided(wish, place))
            weigh(cluster, member, wish, now, choice);
        place = place + 1 == places ? 0 : place + 1;
    }
    /* The next among equals is the one behind this one, whoever else is in between. */
    if (choice->best != NULL)
        cluster->turn = (unsigned)(choice->best - cluster->members) + 1;
}

size_t cv_candidates(struct cv_cluster *cluster, const struct cv_wish *wish, cv_moment now, bool all,
                     struct cv_member *candidates[CV_PLACES])
{
    unsigned ranks[CV_PLACES];
    size_t count = 0;
    for (unsigned place = 0; place < cluster->places; place++) {
        struct cv_member *member = &cluster->members[place];
        if (!member->used || is_avoided(wish, place) || member->link_count != 0 ||
            (!all && now < member->not_before))
            continue;
        unsigned rank = rank_of(cluster, member, wish->write, now);
        size_t at = count++;
        /* Equals stay in the order of places, save that the configured one comes first. */
        for (; at != 0 && (rank < ranks[at - 1] ||
                           (rank == ranks[at - 1] && place == cluster->entry)); at--) {
            ranks[at] = ranks[at - 1];
            candidates[at] = candidates[at - 1];
        }
        ranks[at] = rank;
        candidates[at] = member;
    }
    return count;
}

struct cv_member *cv_who_grows(struct cv_cluster *cluster, const struct cv_choice *choice,
                               const struct cv_wish *wish, cv_moment now)
{
    struct cv_member *chosen = NULL;
    if (choice->load == 0 || cluster->connecting)
        return NULL;
    for (unsigned place = 0; place < cluster->places; place++) {
        struct cv_member *member = &cluster->members[place];
        if (member->used && !is_avoided(wish, place) && cv_member_may_grow(member, wish->light, now) &&
            (chosen == NULL || member->link_count < chosen->link_count) &&
            rank_of(cluster, member, wish->write, now) == choice->best_rank)
            chosen = member;
    }
    if (chosen == NULL)
        return NULL;
    unsigned enough = cv_member_is_spread(chosen) ? OVERLAPS_BEFORE_PAIR : OVERLAPS_BEFORE_GROWTH;
    return ++cluster->overlaps < enough ? NULL : chosen;
}
