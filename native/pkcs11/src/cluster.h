/*
 * cluster.h - the connections to the members of one cluster, and which of them a call takes.
 *
 * One connection at first, to the configured member, from whose answers the others are learned;
 * when calls keep overlapping, one more at a time until every worker of every member that shares
 * the load has one.  Only callers do all this: the module has no threads of its own.
 *
 * Light calls (AES, MACs, searches) go to one worker over two links, as long as they are few: while
 * it serves what came over one of them, the callers of the other get their answers and ask again.
 * The worker is never idle then and never competes with another for a processor, which saves a
 * third of the processor time that a call costs; a heavy one (a signature) goes to the worker that
 * has least to do.
 *
 * A member is known by the index of its place, which stays as long as a call lasts.
 */
#ifndef CONCLAVE_CLUSTER_H
#define CONCLAVE_CLUSTER_H

#include "config.h"
#include "fault.h"
#include "link.h"
#include "moment.h"
#include "rpc.h"

/* What the clusters of a process share. */
struct cv_surroundings {
    unsigned receive_timeout_ms;
    bool keep_alive;
    bool direct;         /* LNHDirect */
    int stop_descriptor; /* an eventfd, readable from cv_runtime_stop on */
    _Atomic bool stopping;
    uint8_t process_id[16];
};

/* `more_members`: HOST:PORT,... to be tried besides the configured one, or NULL. */
struct cv_cluster *cv_cluster_new(const struct cv_cluster_config *config,
                                  struct cv_surroundings *surroundings, const char *more_members);
/* Ends every call under way with CV_FAULT_STOPPED; to be called once `stopping` is set. */
void cv_cluster_stop(struct cv_cluster *cluster);
void cv_cluster_free(struct cv_cluster *cluster);

struct cv_surroundings *cv_cluster_surroundings(const struct cv_cluster *cluster);
unsigned cv_cluster_index(const struct cv_cluster *cluster);

/* What a call needs of a member. */
struct cv_wish {
    bool write;     /* it changes something, so that a read-write member is better */
    bool light;     /* it costs a worker little more than reading it does */
    unsigned avoid; /* bits of members to be passed over */
};

/* How a call goes out. */
struct cv_route {
    struct cv_link *link; /* held for the caller */
    unsigned member;
    uint64_t least_position; /* to be sent with the request; 0: no need */
    bool lagging; /* it was last heard in an epoch that is over: look again after its answer */
    bool untold;  /* its epoch is unknown: nothing may be asked of it before HELLO is answered */
    bool cut_off; /* it takes no changes at present, and may serve less for it */
    bool others;  /* there are other members */
};

/* Gives the best route, connecting if there is none.  With members to be passed over it does not
 * wait for any: CV_FAULT_NO_OTHER if no other can be had. */
enum cv_fault cv_cluster_acquire(struct cv_cluster *cluster, const struct cv_wish *wish,
                                 cv_moment until, struct cv_route *route);
/* Gives a route back.  `answered`: the call on it has had its answer. */
void cv_cluster_release(struct cv_cluster *cluster, struct cv_route *route, bool answered);

/* The member has said nothing since `sent`: others are preferred until it does. */
void cv_cluster_suspect(struct cv_cluster *cluster, const struct cv_route *route, cv_moment sent);
/* The member serves no keyring for want of its authorization: others are preferred for a while. */
void cv_cluster_unauthorized(struct cv_cluster *cluster, const struct cv_route *route);
/* After an answer over a lagging route: whether the member still lives in an epoch that is over. */
bool cv_cluster_is_stale(struct cv_cluster *cluster, const struct cv_route *route);
/* Every member that can be reached seems to be of an epoch before one that only the file of hints
 * tells of: believes the members, if there are no others or these were `waited` for.  False if
 * it does not, or the epoch is known from a member. */
bool cv_cluster_doubt_hints(struct cv_cluster *cluster, bool waited);

/* Whether the members, as they were last heard, leave none to write on.  `*since`: when any
 * of them was last heard. */
bool cv_cluster_read_only(struct cv_cluster *cluster, cv_moment *heard);

/* Whether any connection has ever been greeted. */
bool cv_cluster_was_reached(struct cv_cluster *cluster);

/* Sleeps until `until`; false if the runtime is stopped meanwhile. */
bool cv_cluster_pause(struct cv_cluster *cluster, cv_moment until);

/* Cluster time now; false while no greeting has told it. */
bool cv_cluster_time_ms(struct cv_cluster *cluster, int64_t *now_ms);

#endif
