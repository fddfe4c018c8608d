/*
 * cluster_inside.h - what the files of a cluster share: cluster.c (life, connecting), choice.c
 * (which member) and learning.c (what members tell).
 *
 * Order of locks: a cluster's, then a link's.  A link calls its listener with neither held.
 */
#ifndef CONCLAVE_CLUSTER_INSIDE_H
#define CONCLAVE_CLUSTER_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "cluster.h"
#include "member.h"
#include "tls.h"
#include "told.h"

#define CV_PLACES (CV_MOST_MEMBERS + 2u) /* a full list, and who is about to leave it */

struct cv_cluster {
    struct cv_cluster_config config;
    struct cv_surroundings *surroundings;
    _Atomic int64_t time_offset_ms; /* cluster time minus time since boot */
    _Atomic bool reached;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct cv_member members[CV_PLACES];
    unsigned places;             /* from the front; those behind have never been used */
    unsigned entry;              /* place of the configured member; always used */
    unsigned turn;               /* the place whose turn it is among equals */
    char group[CV_TOLD_GROUP];   /* of the entry member; empty while unknown */
    bool has_list;               /* a member's, not the file's */
    bool has_epoch;
    bool epoch_is_hint;          /* from the file only */
    struct cv_epoch epoch;       /* the highest seen */
    uint64_t position;           /* the highest seen in it */
    char *hints;                 /* the file's text as last read or written, or NULL */
    bool hinted;                 /* it names members */

    bool connecting;             /* somebody is; his alone are the credentials */
    struct cv_credentials credentials;
    uint64_t failed_rounds;      /* attempts to connect that came to nothing */
    _Atomic unsigned failures;   /* since the last answer; changed under the lock */
    enum cv_fault last_fault;
    cv_moment not_before;        /* of the next attempt, when nobody is connected */
    cv_moment last_contact;      /* of a greeting, or of the end of a link; 0 never */
    cv_moment first_failed;      /* 0: no attempt yet */
    unsigned overlaps;
    cv_moment probe_at;
};

/* --- choice.c; the lock is held --------------------------------------------------------------- */

struct cv_choice {
    struct cv_member *best; /* with a sound link; NULL: none */
    struct cv_link *link;
    unsigned load; /* calls under way at the link's worker */
    unsigned best_rank; /* lower is better */
    struct cv_member *better; /* without one, and worth an attempt; NULL: none */
    unsigned better_rank;
    bool any_suspect;
};

#define CV_RANK_DOUBTFUL 128u /* from here on: silent, or not authorized */

/* Judges all members for a wish; closes links that have failed. */
void cv_choose(struct cv_cluster *cluster, const struct cv_wish *wish, cv_moment now,
               struct cv_choice *choice);
/* Places of members without a link, best first; those to be spared after a failure too if
 * `all`.  Returns how many. */
size_t cv_candidates(struct cv_cluster *cluster, const struct cv_wish *wish, cv_moment now, bool all,
                     struct cv_member *candidates[CV_PLACES]);
/* Who should have one more link, given that `best` is busy; NULL: nobody. */
struct cv_member *cv_who_grows(struct cv_cluster *cluster, const struct cv_choice *choice,
                               const struct cv_wish *wish, cv_moment now);
/* Counts a failure of the whole cluster. */
void cv_cluster_failed(struct cv_cluster *cluster, enum cv_fault fault);

/* --- learning.c ------------------------------------------------------------------------------- */

/* What links call, with their member as the context. */
enum cv_fault cv_cluster_told(void *context, struct cv_link *link, const struct cv_told *told);
void cv_cluster_listed(void *context, struct cv_link *link, const uint8_t *body, size_t length);
/* Whose link a greeting has made it, if `dialled` was dialled, by its configured address or not;
 * the lock is held.  NULL: nobody's that has a place. */
struct cv_member *cv_member_greeted(struct cv_cluster *cluster, struct cv_member *dialled,
                                    bool configured, const char *id);
/* A free place, made ready, or NULL. */
struct cv_member *cv_take_place(struct cv_cluster *cluster);

/* --- hints.c ---------------------------------------------------------------------------------- */

/* Puts the members that the file of hints and `more` name into places. */
void cv_hints_load(struct cv_cluster *cluster, const char *more);
/* What the file should say, or NULL if it says so already; the lock is held.  To be given to
 * cv_hints_save, without the lock. */
char *cv_hints_text(struct cv_cluster *cluster);
void cv_hints_save(const struct cv_cluster *cluster, char *text);

#endif
