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
    if (unproven)
        cv_member_failed(member);
    if (kept == 0 && member->suspected_at != 0) {
        member->suspected_at = 0;
        cv_member_failed(member);
    }
    return unproven;
}

/* --- links ----------------------------------------------------------------------------------- */

struct cv_link *cv_member_least_loaded(const struct cv_member *member, bool *failed)
{
    struct cv_link *best = NULL;
    unsigned best_load = 0;
    for (size_t i = 0; i < member->link_count; i++) {
        unsigned load = cv_link_load(member->links[i]);
        if (!cv_link_sound(member->links[i])) {
            *failed = true;
        } else if (best == NULL || load < best_load) {
            best = member->links[i];
            best_load = load;
        }
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

bool cv_member_has_worker(const struct cv_member *member, unsigned worker)
{
    for (size_t i = 0; i < member->link_count; i++) {
        if (cv_link_sound(member->links[i]) && cv_link_worker(member->links[i]) == worker)
            return true;
    }
    return false;
}

/* --- growth ---------------------------------------------------------------------------------- */

bool cv_member_may_grow(const struct cv_member *member, cv_moment now)
{
    unsigned wanted = member->worker_count != 0 ? member->worker_count : 1;
    return member->link_count < wanted && member->link_count < CV_MOST_LINKS &&
           now >= member->grow_not_before && (member->link_count != 0 || now >= member->not_before);
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
