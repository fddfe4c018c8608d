/*
 * token_list.c - asking the workers which keyrings there are.
 *
 * With several clusters each is asked by a thread of its own, and after a grace period those that
 * have not answered are left behind: their threads go on and their lists come in later.  One that
 * was left behind or failed the last time is waited for but briefly, so that a dead cluster
 * delays the others once and not always.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "state.h"
#include "operations.h"

#define PAGE 1000u           /* keyrings asked for at once; a worker may give fewer */
#define MOST_TOKENS 1000000u /* a bound against a worker that never ends its list */
#define GRACE_MS 2000  /* for a cluster that answered the last time, or was never asked */
#define SUSPECT_MS 250 /* for one that did not, as long as there is another */
#define SLOTS_PER_CLUSTER 10000u /* keyring numbers of one cluster that keep slot ids short */

/* The numbers of the first cluster are the slot ids; another cluster's follow in steps.  A number
 * past its step moves to a range of its own, so that no two keyrings ever share an id. */
static CK_SLOT_ID slot_id(size_t cluster_index, uint64_t number)
{
    if (number < SLOTS_PER_CLUSTER || cv_cluster_count() <= 1)
        return number + SLOTS_PER_CLUSTER * cluster_index;
    return number + 100000000u * (cluster_index + 1);
}

static void copy_text(char *out, size_t size, const uint8_t *text, size_t length)
{
    memset(out, 0, size);
    memcpy(out, text, length < size - 1 ? length : size - 1);
}

bool cv_token_read(cv_reader *reader, size_t cluster_index, struct cv_token *token)
{
    size_t length, fields = cv_read_array(reader);
    if (fields < 7)
        return false;
    token->slot_id = slot_id(cluster_index, cv_read_uint(reader));
    token->keyring = cv_read_bin(reader, &length);
    if (reader->broken || length != CV_ID_BYTES)
        return false;
    const uint8_t *text = cv_read_bin(reader, &length);
    if (reader->broken)
        return false;
    copy_text(token->label, sizeof token->label, text, length);
    text = cv_read_bin(reader, &length);
    if (reader->broken)
        return false;
    copy_text(token->serial, sizeof token->serial, text, length);
    token->flags = cv_read_uint(reader);
    token->min_pin = cv_read_uint(reader);
    token->max_pin = cv_read_uint(reader);
    for (size_t i = 7; i < fields; i++)
        cv_read_skip(reader);
    return !reader->broken;
}

/* Tokens with the replies that their keyring ids point into. */
struct token_list {
    struct cv_token *tokens;
    size_t count;
    struct cv_reply *pages;
    size_t page_count;
};

static void free_list(struct token_list *list)
{
    for (size_t i = 0; i < list->page_count; i++)
        cv_reply_free(&list->pages[i]);
    free(list->pages);
    free(list->tokens);
}

static CK_RV read_page(struct token_list *list, size_t cluster_index, cv_reader *result,
                       uint64_t *next)
{
    size_t count = cv_read_array(result);
    if (result->broken || list->count + count > MOST_TOKENS)
        return CKR_DEVICE_ERROR;
    struct cv_token *larger = realloc(list->tokens, (list->count + count + 1) * sizeof *larger);
    if (larger == NULL)
        return CKR_HOST_MEMORY;
    list->tokens = larger;
    for (size_t i = 0; i < count; i++) {
        cv_reader ahead = *result;
        cv_read_array(&ahead);
        uint64_t number = cv_read_uint(&ahead);
        if (number < *next || !cv_token_read(result, cluster_index, &list->tokens[list->count]))
            return CKR_DEVICE_ERROR;
        *next = number + 1;
        list->count++;
    }
    return CKR_OK;
}

/* Asks for one page; `*more` says whether there was anything on it. */
static CK_RV ask_page(struct token_list *list, size_t cluster_index, uint64_t *next, bool *more)
{
    struct cv_reply *larger = realloc(list->pages, (list->page_count + 1) * sizeof *larger);
    if (larger == NULL)
        return CKR_HOST_MEMORY;
    list->pages = larger;
    struct cv_reply *reply = &list->pages[list->page_count++];
    memset(reply, 0, sizeof *reply);
    cv_writer args;
    cv_writer_init(&args);
    cv_write_array(&args, 2);
    cv_write_uint(&args, *next);
    cv_write_uint(&args, PAGE);
    CK_RV value = CKR_HOST_MEMORY;
    if (!args.failed)
        value = cv_call(cv_cluster_at(cluster_index), CV_LIST_TOKENS, NULL, 0, &args,
                        CV_RETRY_ALWAYS, reply);
    cv_writer_free(&args);
    size_t before = list->count;
    if (value == CKR_OK)
        value = read_page(list, cluster_index, &reply->result, next);
    *more = list->count > before;
    return value;
}

/* One per cluster.  Threads are joined, not detached: C_Finalize must not return while one runs
 * code that dlclose may take away. */
struct asker {
    pthread_t thread;
    size_t cluster_index;
    bool started, running;
    bool suspect;   /* it failed the last time, or was left behind */
    uint64_t taken; /* the number of the list that was taken last */
    CK_RV answer;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t answered;
static struct asker *askers;
static size_t asker_count;
static atomic_uint_fast64_t asked; /* lists so far */

CK_RV cv_tokens_start(size_t clusters)
{
    askers = calloc(clusters + 1, sizeof *askers);
    if (askers == NULL)
        return CKR_HOST_MEMORY;
    asker_count = clusters;
    pthread_mutex_init(&mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&answered, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return CKR_OK;
}

void cv_tokens_stop(void)
{
    for (size_t i = 0; i < asker_count; i++)
        if (askers[i].started)
            pthread_join(askers[i].thread, NULL);
    free(askers);
    cv_tokens_abandon();
}

void cv_tokens_abandon(void)
{
    askers = NULL;
    asker_count = 0;
}

/* Takes a list unless one that was asked for later is there already: it might lack what that
 * one has. */
static CK_RV take_list(size_t cluster_index, uint64_t number, const struct token_list *list)
{
    CK_RV value = CKR_OK;
    pthread_mutex_lock(&mutex);
    if (number > askers[cluster_index].taken) {
        value = cv_slots_learn(cluster_index, list->tokens, list->count);
        askers[cluster_index].taken = number;
    }
    pthread_mutex_unlock(&mutex);
    return value;
}

static CK_RV ask_cluster(size_t cluster_index)
{
    struct token_list list = {0};
    uint64_t next = 0, number = atomic_fetch_add(&asked, 1) + 1;
    bool more = true;
    CK_RV value = CKR_OK;
    while (value == CKR_OK && more)
        value = ask_page(&list, cluster_index, &next, &more);
    if (value == CKR_OK)
        value = take_list(cluster_index, number, &list);
    free_list(&list);
    return value;
}

static void *run_asker(void *argument)
{
    struct asker *asker = argument;
    CK_RV value = ask_cluster(asker->cluster_index);
    pthread_mutex_lock(&mutex);
    asker->answer = value;
    asker->running = false;
    asker->suspect = value != CKR_OK;
    pthread_cond_broadcast(&answered);
    pthread_mutex_unlock(&mutex);
    return NULL;
}

/* Under the mutex.  One that still waits for a dead cluster is not joined by another. */
static void start_asker(size_t cluster_index)
{
    struct asker *asker = &askers[cluster_index];
    if (asker->running)
        return;
    if (asker->started)
        pthread_join(asker->thread, NULL);
    asker->cluster_index = cluster_index;
    asker->running = true;
    asker->started = pthread_create(&asker->thread, NULL, run_asker, asker) == 0;
    if (!asker->started) {
        asker->running = false;
        asker->answer = CKR_HOST_MEMORY;
    }
}

/* Under the mutex. */
static size_t still_running(bool also_suspects)
{
    size_t count = 0;
    for (size_t i = 0; i < asker_count; i++)
        count += askers[i].running && (also_suspects || !askers[i].suspect);
    return count;
}

/* Under the mutex: waits, until so many milliseconds after `start` at most. */
static void wait_for_askers(const struct timespec *start, long patience_ms, bool also_suspects)
{
    struct timespec end = *start;
    end.tv_sec += patience_ms / 1000;
    end.tv_nsec += patience_ms % 1000 * 1000000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_sec++;
        end.tv_nsec -= 1000000000;
    }
    while (still_running(also_suspects) > 0)
        if (pthread_cond_timedwait(&answered, &mutex, &end) == ETIMEDOUT)
            return;
}

static CK_RV ask_at_once(void)
{
    struct timespec start;
    CK_RV value = CKR_TIMEOUT;
    clock_gettime(CLOCK_MONOTONIC, &start);
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < asker_count; i++)
        start_asker(i);
    bool only_suspects = still_running(false) == 0;
    wait_for_askers(&start, GRACE_MS, false);
    wait_for_askers(&start, only_suspects ? GRACE_MS : SUSPECT_MS, true);
    for (size_t i = 0; i < asker_count; i++) {
        askers[i].suspect |= askers[i].running;
        if (!askers[i].running && value != CKR_OK)
            value = askers[i].answer;
    }
    pthread_mutex_unlock(&mutex);
    return value;
}

static CK_RV ask_in_turn(void)
{
    size_t clusters = cv_cluster_count();
    CK_RV worst = CKR_OK;
    bool any_good = clusters == 0;
    for (size_t i = 0; i < clusters; i++) {
        CK_RV value = ask_cluster(i);
        if (value == CKR_OK)
            any_good = true;
        else
            worst = value;
    }
    return any_good ? CKR_OK : worst;
}

CK_RV cv_tokens_refresh(void)
{
    bool at_once = cv_cluster_count() > 1 && cv_module_may_create_threads();
    CK_RV value = at_once ? ask_at_once() : ask_in_turn();
    cv_slots_told();
    return value;
}

void cv_tokens_glance(void)
{
    struct timespec start;
    if (!cv_module_may_create_threads()) {
        cv_tokens_refresh();
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &start);
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < asker_count; i++)
        start_asker(i);
    wait_for_askers(&start, SUSPECT_MS, true);
    bool all = still_running(true) == 0;
    pthread_mutex_unlock(&mutex);
    if (all)
        cv_slots_told();
}
