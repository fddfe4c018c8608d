/* calls.c - see calls.h. */
#include "calls.h"

#include "request.h"

uint32_t cv_calls_new_id(struct cv_calls *calls)
{
    do
        calls->last_id++;
    while (calls->last_id <= CV_MEMBERS_ID);
    return calls->last_id;
}

void cv_calls_enlist(struct cv_calls *calls, struct cv_pending *call)
{
    struct cv_pending **bucket = &calls->buckets[call->id % CV_BUCKETS];
    call->next_in_bucket = *bucket;
    *bucket = call;
    call->older = calls->newest;
    call->newer = NULL;
    if (calls->newest != NULL)
        calls->newest->newer = call;
    else
        calls->oldest = call;
    calls->newest = call;
}

void cv_calls_strike(struct cv_calls *calls, struct cv_pending *call)
{
    struct cv_pending **place = &calls->buckets[call->id % CV_BUCKETS];
    while (*place != call)
        place = &(*place)->next_in_bucket;
    *place = call->next_in_bucket;
    if (call->older != NULL)
        call->older->newer = call->newer;
    else
        calls->oldest = call->newer;
    if (call->newer != NULL)
        call->newer->older = call->older;
    else
        calls->newest = call->older;
}

struct cv_pending *cv_calls_find(struct cv_calls *calls, uint32_t id)
{
    struct cv_pending *call = calls->buckets[id % CV_BUCKETS];
    while (call != NULL && call->id != id)
        call = call->next_in_bucket;
    return call;
}
