/*
 * slot_table.c - the slots this process knows.
 *
 * A slot is never freed before C_Finalize, since sessions point to it: a keyring that is deleted
 * only stops being present.  The table itself is an array in the order of slot ids, so a slot is
 * found by halving, under a lock that readers share.
 */
#define _GNU_SOURCE
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct cv_slot **slots; /* by id */
static size_t slot_count, slot_capacity;
static struct cv_slot **retired; /* whose id went to another keyring */
static size_t retired_count;
static uint64_t lists;   /* learned so far */
static atomic_bool told; /* the application has had an answer that tells of slots */

CK_RV cv_slots_start(void)
{
    atomic_store(&told, false);
    pthread_rwlock_init(&lock, NULL);
    return CKR_OK;
}

static void free_slot(struct cv_slot *slot)
{
    cv_slot_wipe(slot);
    pthread_mutex_destroy(&slot->login_mutex);
    pthread_mutex_destroy(&slot->mutex);
    pthread_cond_destroy(&slot->changed);
    free(slot);
}

void cv_slots_stop(void)
{
    for (size_t i = 0; i < slot_count; i++)
        free_slot(slots[i]);
    for (size_t i = 0; i < retired_count; i++)
        free_slot(retired[i]);
    free(slots);
    free(retired);
    cv_slots_abandon();
}

void cv_slots_abandon(void)
{
    slots = retired = NULL;
    slot_count = slot_capacity = retired_count = 0;
}

/* The place of `id`, or where it belongs. */
static size_t place_of(CK_SLOT_ID id)
{
    size_t low = 0, high = slot_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (slots[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct cv_slot *lookup(CK_SLOT_ID id)
{
    pthread_rwlock_rdlock(&lock);
    size_t place = place_of(id);
    struct cv_slot *slot = place < slot_count && slots[place]->id == id ? slots[place] : NULL;
    pthread_rwlock_unlock(&lock);
    return slot;
}

CK_RV cv_slot_find(CK_SLOT_ID id, struct cv_slot **slot)
{
    *slot = lookup(id);
    if (*slot == NULL) {
        CK_RV value = cv_tokens_refresh();
        *slot = lookup(id);
        if (*slot == NULL)
            return value == CKR_OK ? CKR_SLOT_ID_INVALID : value;
    }
    return CKR_OK;
}

static bool is_present(struct cv_slot *slot)
{
    pthread_mutex_lock(&slot->mutex);
    bool present = slot->present;
    pthread_mutex_unlock(&slot->mutex);
    return present;
}

CK_RV cv_slots_ids(CK_SLOT_ID *ids, size_t capacity, size_t *count)
{
    *count = 0;
    pthread_rwlock_rdlock(&lock);
    for (size_t i = 0; i < slot_count; i++) {
        if (!is_present(slots[i]))
            continue;
        if (ids != NULL && *count < capacity)
            ids[*count] = slots[i]->id;
        ++*count;
    }
    pthread_rwlock_unlock(&lock);
    return ids != NULL && *count > capacity ? CKR_BUFFER_TOO_SMALL : CKR_OK;
}

static struct cv_slot *new_slot(size_t cluster_index, const struct cv_token *token)
{
    struct cv_slot *slot = calloc(1, sizeof *slot);
    if (slot == NULL)
        return NULL;
    slot->id = token->slot_id;
    slot->cluster = cv_cluster_at(cluster_index);
    slot->cluster_index = cluster_index;
    memcpy(slot->keyring, token->keyring, CV_ID_BYTES);
    slot->role = CV_ROLE_NONE;
    atomic_init(&slot->generation, 1);
    pthread_mutex_init(&slot->login_mutex, NULL);
    pthread_mutex_init(&slot->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&slot->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return slot;
}

void cv_slot_learn(struct cv_slot *slot, const struct cv_token *token)
{
    pthread_mutex_lock(&slot->mutex);
    memcpy(slot->label, token->label, sizeof slot->label);
    memcpy(slot->serial, token->serial, sizeof slot->serial);
    slot->flags = token->flags;
    slot->min_pin = token->min_pin;
    slot->max_pin = token->max_pin;
    slot->event |= !slot->present && atomic_load(&told);
    slot->present = true;
    pthread_mutex_unlock(&slot->mutex);
}

static void set_absent(struct cv_slot *slot)
{
    pthread_mutex_lock(&slot->mutex);
    slot->event |= slot->present && atomic_load(&told);
    slot->present = false;
    pthread_mutex_unlock(&slot->mutex);
}

/* A cluster that was made anew may give an old number to a new keyring. */
static bool retire(size_t place)
{
    struct cv_slot **larger = realloc(retired, (retired_count + 1) * sizeof *retired);
    if (larger == NULL)
        return false;
    retired = larger;
    set_absent(slots[place]);
    retired[retired_count++] = slots[place];
    memmove(&slots[place], &slots[place + 1], (slot_count - place - 1) * sizeof *slots);
    slot_count--;
    return true;
}

static bool insert(size_t place, struct cv_slot *slot)
{
    if (slot_count == slot_capacity) {
        size_t capacity = slot_capacity != 0 ? 2 * slot_capacity : 64;
        struct cv_slot **larger = realloc(slots, capacity * sizeof *slots);
        if (larger == NULL)
            return false;
        slots = larger;
        slot_capacity = capacity;
    }
    memmove(&slots[place + 1], &slots[place], (slot_count - place) * sizeof *slots);
    slots[place] = slot;
    slot_count++;
    return true;
}

static CK_RV learn_one(size_t cluster_index, const struct cv_token *token)
{
    size_t place = place_of(token->slot_id);
    if (place < slot_count && slots[place]->id == token->slot_id &&
        memcmp(slots[place]->keyring, token->keyring, CV_ID_BYTES) != 0 && !retire(place))
        return CKR_HOST_MEMORY;
    if (place == slot_count || slots[place]->id != token->slot_id) {
        struct cv_slot *slot = new_slot(cluster_index, token);
        if (slot == NULL)
            return CKR_HOST_MEMORY;
        if (!insert(place, slot)) {
            free_slot(slot);
            return CKR_HOST_MEMORY;
        }
    }
    slots[place]->list = lists;
    cv_slot_learn(slots[place], token);
    return CKR_OK;
}

/* Takes one cluster's whole list: what is not in it is present no more.  Nobody sees a slot absent
 * that is in it. */
CK_RV cv_slots_learn(size_t cluster_index, const struct cv_token *tokens, size_t count)
{
    CK_RV value = CKR_OK;
    pthread_rwlock_wrlock(&lock);
    lists++;
    for (size_t i = 0; i < count && value == CKR_OK; i++)
        value = learn_one(cluster_index, &tokens[i]);
    for (size_t i = 0; i < slot_count && value == CKR_OK; i++)
        if (slots[i]->cluster_index == cluster_index && slots[i]->list != lists)
            set_absent(slots[i]);
    pthread_rwlock_unlock(&lock);
    return value;
}

void cv_slots_told(void)
{
    atomic_store(&told, true);
}

static bool take_event(struct cv_slot *slot)
{
    pthread_mutex_lock(&slot->mutex);
    bool event = slot->event;
    slot->event = false;
    pthread_mutex_unlock(&slot->mutex);
    return event;
}

bool cv_slots_take_event(CK_SLOT_ID *id)
{
    bool taken = false;
    pthread_rwlock_rdlock(&lock);
    for (size_t i = 0; i < slot_count && !taken; i++) {
        taken = take_event(slots[i]);
        if (taken)
            *id = slots[i]->id;
    }
    pthread_rwlock_unlock(&lock);
    return taken;
}
