/*
 * member.h - one member of a cluster: its address, what it told, its links.
 *
 * Everything here is guarded by its cluster's lock, which the caller of each function holds.
 */
#ifndef CONCLAVE_MEMBER_H
#define CONCLAVE_MEMBER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fault.h"
#include "link.h"
#include "moment.h"
#include "told.h"

#define CV_MOST_LINKS 64u

struct cv_cluster;

struct cv_member {
    struct cv_cluster *cluster;
    bool used;   /* the place is taken */
    bool listed; /* the last list had it, be it a member's or the file's of hints */
    bool proven; /* the list came from a member, so the key must be right */
    struct cv_listed facts; /* of the list; id alone if a greeting told it */
    bool prefer_configured; /* the entry member's configured address, before the listed one */

    bool has_told; /* over a link that may be gone by now */
    struct cv_told told;
    bool stale; /* when last heard it lived in an epoch that is over */
    bool has_list; /* its own, of list_version */
    uint64_t list_version;

    struct cv_link *links[CV_MOST_LINKS];
    uint8_t firsts[CV_MOST_LINKS]; /* of each link: the place of the first to the same worker */
    size_t link_count;
    unsigned worker_count; /* 0 until it has greeted */

    cv_moment suspected_at; /* silent with requests outstanding; 0: not */
    cv_moment pinged_at;
    cv_moment unauthorized_until;
    _Atomic unsigned failures; /* since the last answer */
    cv_moment not_before;      /* of the next attempt to connect, while others serve */
    unsigned growth_tries;     /* in vain, since the last pause */
    cv_moment growth_pause;
    cv_moment grow_not_before;
};

/* Makes a place ready for a member of whom nothing is known. */
void cv_member_take(struct cv_member *member, struct cv_cluster *cluster);
/* Lets go of its links, whose calls go on to their end, and empties the place. */
void cv_member_vacate(struct cv_member *member);

/* Counts a failure to connect; the next attempt waits twice as long. */
void cv_member_failed(struct cv_member *member);
/* Closes links that have failed.  Returns whether one of them had never answered a call;
 * *lost: one had. */
bool cv_member_drop_failed(struct cv_member *member, bool *lost);
/* The link that a call should take, or NULL; *load: the calls under way at its worker.  *failed:
 * some are not sound. */
struct cv_link *cv_member_link(const struct cv_member *member, bool light, unsigned *load, bool *failed);
bool cv_member_has(const struct cv_member *member, const struct cv_link *link);
/* Whether a link to this worker would be one too many. */
bool cv_member_has_enough(const struct cv_member *member, unsigned worker);
void cv_member_add(struct cv_member *member, struct cv_link *link);

/* Whether it may have one more link now; second ones are for light calls. */
bool cv_member_may_grow(const struct cv_member *member, bool light, cv_moment now);
/* Whether every worker has a link. */
bool cv_member_is_spread(const struct cv_member *member);
void cv_member_grew(struct cv_member *member, bool grown);

/* Whether it is under suspicion; ends that as soon as it was heard. */
bool cv_member_suspect(struct cv_member *member);
bool cv_member_read_write(const struct cv_member *member);

#endif
