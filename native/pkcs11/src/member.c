/* member.c - see member.h. */
#define _GNU_SOURCE
#include "member.h"

#include <string.h>

#include "tls.h"

#define FIRST_BACKOFF (250 * CV_MILLISECOND)
#define LONGEST_BACKOFF (4 * CV_SECOND)
/* One more link that falls on a worker that has one already: another caller tries a moment later;
 * after so many tries in vain there is a pause, which doubles. */
#define GROWTH_TRIES 6u
#define GROWTH_MOMENT (2 * CV_MILLISECOND)
#define FIRST_GROWTH_PAUSE (100 * CV_MILLISECOND)
#define LONGEST_GROWTH_PAUSE (10 * CV_SECOND)
/* Light calls under way at one worker before the next is given some: two batches of eight. */
#define PACKED_CALLS 16u

void cv_member_take(struct cv_member *member, struct cv_cluster *cluster)
{
    memset(member, 0, sizeof *member);
    member->cluster = cluster;
    member->used = true;
    member->growth_pause = FIRST_GROWTH_PAUSE;
}

void cv_member_vacate(struct cv_member *member)
{
    for (size_t i = 0; i < member->link_count; i++)
        cv_link_release(member->links[i]);
    memset(member, 0, sizeof *member);
}

/* --- failures -------------------------------------------------------------------------------- */

void cv_member_failed(struct cv_member *member)
{
    unsigned failures = member->failures;
    cv_moment backoff = FIRST_BACKOFF << (failures < 4 ? failures : 4);
    uint8_t dice = 128;
    cv_tls_random(&dice, 1);
    backoff = cv_earlier(backoff, LONGEST_BACKOFF);
    member->failures = failures + 1;
    member->not_before = cv_now() + backoff / 2 + backoff * dice / 512;
}

static void note_first(struct cv_member *member, size_t place)
{
    size_t first = 0;
    while (cv_link_worker(member->links[first]) != cv_link_worker(member->links[place]))
        first++;
    member->firsts[place] = (uint8_t)first;
}

bool cv_member_drop_failed(struct cv_member *member, bool *lost)
{
    size_t kept = 0;
    bool unproven = false;
    for (size_t i = 0; i < member->link_count; i++) {
        struct cv_link *link = member->links[i];
        if (cv_link_sound(link)) {
            member->links[kept++] = link;
            continue;
        }
        if (cv_link_proven(link))
            *lost = true;
        else
            unproven = true;
        cv_link_release(link);
    }
    member->link_count = kept;
    for (size_t i = 0; i < kept; i++)
        note_first(member, i);
    if (unproven)
        cv_member_failed(member);
    if (kept == 0 && member->suspected_at != 0) {
        member->suspected_at = 0;
        cv_member_failed(member);
    }
    return unproven;
}

/* --- links ----------------------------------------------------------------------------------- */

/* What is under way at each worker, at the place of its first link. */
struct workers {
    unsigned loads[CV_MOST_LINKS];
    bool paired[CV_MOST_LINKS];
};

static bool count_loads(const struct cv_member *member, struct workers *workers)
{
    bool failed = false;
    for (size_t i = 0; i < member->link_count; i++) {
        size_t first = member->firsts[i];
        failed = failed || !cv_link_sound(member->links[i]);
        workers->loads[i] = 0;
        workers->paired[i] = false;
        workers->loads[first] += cv_link_load(member->links[i]);
        workers->paired[first] = first != i;
    }
    return failed;
}

/* The place of the first link to the worker that a call should go to. */
static size_t choose_worker(const struct cv_member *member, const struct workers *workers, bool light)
{
    size_t best = 0;
    for (size_t i = 0; i < member->link_count; i++) {
        if (member->firsts[i] != i)
            continue;
        if (light && workers->paired[i] && workers->loads[i] < PACKED_CALLS)
            return i;
        if (workers->loads[i] < workers->loads[best])
            best = i;
    }
    return best;
}

struct cv_link *cv_member_link(const struct cv_member *member, bool light, unsigned *load, bool *failed)
{
    struct workers workers;
    *failed = count_loads(member, &workers);
    if (*failed || member->link_count == 0)
        return NULL;
    size_t first = choose_worker(member, &workers, light);
    struct cv_link *best = member->links[first];
    *load = workers.loads[first];
    for (size_t i = first + 1; light && i < member->link_count; i++) {
        if (member->firsts[i] == first && cv_link_load(member->links[i]) < cv_link_load(best))
            best = member->links[i];
    }
    return best;
}

bool cv_member_has(const struct cv_member *member, const struct cv_link *link)
{
    for (size_t i = 0; i < member->link_count; i++) {
        if (member->links[i] == link)
            return true;
    }
    return false;
}

void cv_member_add(struct cv_member *member, struct cv_link *link)
{
    member->links[member->link_count] = link;
    note_first(member, member->link_count++);
}

/* --- growth ---------------------------------------------------------------------------------- */

static unsigned workers_known(const struct cv_member *member)
{
    return member->worker_count != 0 ? member->worker_count : 1;
}

bool cv_member_is_spread(const struct cv_member *member)
{
    return member->link_count >= workers_known(member);
}

bool cv_member_has_enough(const struct cv_member *member, unsigned worker)
{
    unsigned links = 0;
    for (size_t i = 0; i < member->link_count; i++) {
        if (cv_link_sound(member->links[i]) && cv_link_worker(member->links[i]) == worker)
            links++;
    }
    return member->link_count == CV_MOST_LINKS || links >= (cv_member_is_spread(member) ? 2u : 1u);
}

/* Whether every worker that has two links has its fill of light calls. */
static bool wants_pair(const struct cv_member *member)
{
    struct workers workers;
    if (count_loads(member, &workers) || member->link_count >= 2 * workers_known(member))
        return false;
    size_t chosen = choose_worker(member, &workers, true);
    return !workers.paired[chosen] || workers.loads[chosen] >= PACKED_CALLS;
}

bool cv_member_may_grow(const struct cv_member *member, bool light, cv_moment now)
{
    return member->link_count < CV_MOST_LINKS && now >= member->grow_not_before &&
           (member->link_count != 0 || now >= member->not_before) &&
           (!cv_member_is_spread(member) || (light && wants_pair(member)));
}

void cv_member_grew(struct cv_member *member, bool grown)
{
    if (grown) {
        member->growth_tries = 0;
        member->growth_pause = FIRST_GROWTH_PAUSE;
    } else if (++member->growth_tries < GROWTH_TRIES) {
        member->grow_not_before = cv_now() + GROWTH_MOMENT;
    } else {
        member->growth_tries = 0;
        member->grow_not_before = cv_now() + member->growth_pause;
        member->growth_pause = cv_earlier(2 * member->growth_pause, LONGEST_GROWTH_PAUSE);
    }
}

/* --- what is known of it --------------------------------------------------------------------- */

bool cv_member_suspect(struct cv_member *member)
{
    for (size_t i = 0; i < member->link_count && member->suspected_at != 0; i++) {
        if (cv_link_heard(member->links[i]) > member->suspected_at)
            member->suspected_at = 0;
    }
    return member->suspected_at != 0;
}

bool cv_member_read_write(const struct cv_member *member)
{
    if (member->link_count != 0 && member->has_told)
        return member->told.read_write;
    return !member->listed || member->facts.standing == CV_READ_WRITE;
}
