/*
 * cluster.h - the connections to one cluster.
 *
 * One connection at first; when calls keep overlapping, one more at a time until every worker has
 * one.  The greeting says which worker a connection fell on; one to a worker that has one already
 * is closed again.  Only callers do all this: the module has no threads of its own.
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
    int stop_descriptor; /* an eventfd, readable from cv_runtime_stop on */
    _Atomic bool stopping;
    uint8_t process_id[16];
};

struct cv_cluster *cv_cluster_new(const struct cv_cluster_config *config,
                                  struct cv_surroundings *surroundings);
/* Ends every call under way with CV_FAULT_STOPPED; to be called once `stopping` is set. */
void cv_cluster_stop(struct cv_cluster *cluster);
void cv_cluster_free(struct cv_cluster *cluster);

struct cv_surroundings *cv_cluster_surroundings(const struct cv_cluster *cluster);
unsigned cv_cluster_index(const struct cv_cluster *cluster);

/* Gives the least loaded sound link, connecting if there is none; held for the caller. */
enum cv_fault cv_cluster_acquire(struct cv_cluster *cluster, cv_moment until,
                                 struct cv_link **link);
/* Gives a link back.  `answered`: the call on it has had its answer. */
void cv_cluster_release(struct cv_cluster *cluster, struct cv_link *link, bool answered);

/* Whether any connection has ever been greeted. */
bool cv_cluster_was_reached(struct cv_cluster *cluster);

/* Sleeps until `until`; false if the runtime is stopped meanwhile. */
bool cv_cluster_pause(struct cv_cluster *cluster, cv_moment until);

/* Cluster time now; false while no greeting has told it. */
bool cv_cluster_time_ms(struct cv_cluster *cluster, int64_t *now_ms);

#endif
