/*
 * handles.c - the table of object handles.
 *
 * A handle's low bits name one of 64 shards, each with its lock and two hash tables: by handle,
 * and for token objects by slot and object id, so that an object always gets the handle it had.
 * An object lives until the last operation that uses it has let go; once removed from the table
 * it is `gone` and cannot be used.
 *
 * Handles of private objects die at logout (PKCS#11, section 5.6, C_Logout).  They are not
 * searched for then: each remembers the slot's generation, and whoever meets an older one finds
 * out whether the object is private.
 */
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

#define SHARDS 64
#define FIRST_BUCKETS 64

struct shard {
    _Alignas(64) pthread_mutex_t mutex;
    struct cv_object **by_handle, **by_id;
    size_t buckets, count;
    uint64_t given; /* handles so far */
};

static struct shard *shards;
static atomic_uint next_shard;

static struct shard *shard_of(CK_OBJECT_HANDLE handle)
{
    return &shards[handle % SHARDS];
}

static struct shard *lock_shard(CK_OBJECT_HANDLE handle)
{
    struct shard *shard = shard_of(handle);
    pthread_mutex_lock(&shard->mutex);
    return shard;
}

static size_t handle_bucket(const struct shard *shard, CK_OBJECT_HANDLE handle)
{
    return (handle / SHARDS) & (shard->buckets - 1);
}

/* Object ids are random, so they are their own hash. */
static uint64_t hash_of_id(const struct cv_slot *slot, const uint8_t *id)
{
    uint64_t number;
    memcpy(&number, id, sizeof number);
    return number ^ ((uint64_t)slot->id * 0x9e3779b97f4a7c15u);
}

static size_t id_bucket(const struct shard *shard, const struct cv_slot *slot, const uint8_t *id)
{
    return (hash_of_id(slot, id) / SHARDS) & (shard->buckets - 1);
}

CK_RV cv_objects_start(void)
{
    shards = aligned_alloc(_Alignof(struct shard), SHARDS * sizeof *shards);
    if (shards == NULL)
        return CKR_HOST_MEMORY;
    memset(shards, 0, SHARDS * sizeof *shards);
    for (size_t i = 0; i < SHARDS; i++)
        pthread_mutex_init(&shards[i].mutex, NULL);
    return CKR_OK;
}

static void free_object(struct cv_object *object)
{
    if (object->attributes != NULL) /* may hold the value of an extractable key */
        OPENSSL_cleanse(object->attributes, object->attributes_length);
    free(object->attributes);
    free(object->blob);
    free(object->refusals);
    free(object);
}

void cv_objects_stop(void)
{
    for (size_t i = 0; shards != NULL && i < SHARDS; i++) {
        for (size_t bucket = 0; bucket < shards[i].buckets; bucket++)
            for (struct cv_object *object = shards[i].by_handle[bucket], *next; object != NULL;
                 object = next) {
                next = object->next_by_handle;
                free_object(object);
            }
        free(shards[i].by_handle);
        free(shards[i].by_id);
        pthread_mutex_destroy(&shards[i].mutex);
    }
    free(shards);
    shards = NULL;
}

void cv_objects_abandon(void)
{
    shards = NULL;
}

static void link_object(struct shard *shard, struct cv_object *object)
{
    struct cv_object **place = &shard->by_handle[handle_bucket(shard, object->handle)];
    object->next_by_handle = *place;
    *place = object;
    if (object->session != 0)
        return;
    place = &shard->by_id[id_bucket(shard, object->slot, object->id)];
    object->next_by_id = *place;
    *place = object;
}

static void unlink_object(struct shard *shard, struct cv_object *object)
{
    struct cv_object **place = &shard->by_handle[handle_bucket(shard, object->handle)];
    while (*place != object)
        place = &(*place)->next_by_handle;
    *place = object->next_by_handle;
    if (object->session != 0)
        return;
    place = &shard->by_id[id_bucket(shard, object->slot, object->id)];
    while (*place != object)
        place = &(*place)->next_by_id;
    *place = object->next_by_id;
}

static bool make_room(struct shard *shard)
{
    if (shard->count < shard->buckets)
        return true;
    size_t old_buckets = shard->buckets;
    size_t buckets = old_buckets != 0 ? 2 * old_buckets : FIRST_BUCKETS;
    struct cv_object **by_handle = calloc(buckets, sizeof *by_handle);
    struct cv_object **by_id = calloc(buckets, sizeof *by_id);
    if (by_handle == NULL || by_id == NULL) {
        free(by_handle);
        free(by_id);
        return false;
    }
    struct cv_object **old = shard->by_handle;
    free(shard->by_id);
    shard->by_handle = by_handle;
    shard->by_id = by_id;
    shard->buckets = buckets;
    for (size_t bucket = 0; bucket < old_buckets; bucket++)
        for (struct cv_object *object = old[bucket], *next; object != NULL; object = next) {
            next = object->next_by_handle;
            link_object(shard, object);
        }
    free(old);
    return true;
}

/* Under the shard's lock.  The table itself holds one reference. */
static struct cv_object *new_object(struct shard *shard, struct cv_slot *slot,
                                    CK_SESSION_HANDLE session)
{
    struct cv_object *object = make_room(shard) ? calloc(1, sizeof *object) : NULL;
    if (object == NULL)
        return NULL;
    object->handle = ++shard->given * SHARDS + (CK_OBJECT_HANDLE)(shard - shards);
    object->slot = slot;
    object->session = session;
    object->generation = atomic_load(&slot->generation);
    atomic_init(&object->references, 1);
    shard->count++;
    return object;
}

/* Under the shard's lock. */
static void remove_locked(struct shard *shard, struct cv_object *object)
{
    if (object->gone)
        return;
    unlink_object(shard, object);
    object->gone = true;
    shard->count--;
}

static struct cv_object *find_by_id(struct shard *shard, struct cv_slot *slot, const uint8_t *id)
{
    if (shard->buckets == 0)
        return NULL;
    struct cv_object *object = shard->by_id[id_bucket(shard, slot, id)];
    while (object != NULL &&
           (object->slot != slot || memcmp(object->id, id, CV_ID_BYTES) != 0))
        object = object->next_by_id;
    return object;
}

CK_RV cv_object_of_token(struct cv_slot *slot, const uint8_t *id, enum cv_privacy privacy,
                         CK_OBJECT_HANDLE *handle)
{
    struct shard *shard = lock_shard(hash_of_id(slot, id));
    struct cv_object *object = find_by_id(shard, slot, id), *void_one = NULL;
    if (object != NULL && object->privacy == CV_PRIVATE &&
        object->generation != atomic_load(&slot->generation)) {
        remove_locked(shard, object);
        void_one = object;
        object = NULL;
    }
    if (object == NULL) {
        object = new_object(shard, slot, 0);
        if (object != NULL) {
            memcpy(object->id, id, CV_ID_BYTES);
            link_object(shard, object);
        }
    }
    if (object != NULL) {
        object->generation = atomic_load(&slot->generation);
        if (privacy != CV_PRIVACY_UNKNOWN)
            object->privacy = privacy;
        *handle = object->handle;
    }
    pthread_mutex_unlock(&shard->mutex);
    if (void_one != NULL)
        cv_object_release(void_one);
    return object != NULL ? CKR_OK : CKR_HOST_MEMORY;
}

static uint8_t *copy_of(const uint8_t *bytes, size_t length)
{
    uint8_t *copy = malloc(length + 1);
    if (copy != NULL && length > 0)
        memcpy(copy, bytes, length);
    return copy;
}

/* Takes over blob and attributes of a result; on failure the object keeps what it had. */
static bool set_contents(struct cv_object *object, const struct cv_object_result *result)
{
    uint8_t *blob = copy_of(result->reference, result->reference_length);
    uint8_t *attributes = copy_of(result->attributes, result->attributes_length);
    if (blob == NULL || attributes == NULL) {
        free(blob);
        free(attributes);
        return false;
    }
    if (object->attributes != NULL)
        OPENSSL_cleanse(object->attributes, object->attributes_length);
    free(object->attributes);
    free(object->blob);
    object->blob = blob;
    object->blob_length = result->reference_length;
    object->attributes = attributes;
    object->attributes_length = result->attributes_length;
    object->privacy = result->private ? CV_PRIVATE : CV_PUBLIC;
    return true;
}

CK_RV cv_object_of_session(struct cv_slot *slot, CK_SESSION_HANDLE session,
                           const struct cv_object_result *result, CK_OBJECT_HANDLE *handle)
{
    struct shard *shard = lock_shard(atomic_fetch_add(&next_shard, 1));
    struct cv_object *object = new_object(shard, slot, session);
    if (object != NULL && set_contents(object, result)) {
        link_object(shard, object);
        *handle = object->handle;
        atomic_fetch_add(&object->references, 2); /* of the slot's list, and our own */
    } else if (object != NULL) {
        shard->count--;
        free_object(object);
        object = NULL;
    }
    pthread_mutex_unlock(&shard->mutex);
    if (object == NULL)
        return CKR_HOST_MEMORY;
    cv_session_objects_add(object);
    cv_object_release(object);
    return CKR_OK;
}

CK_RV cv_object_take(struct cv_slot *slot, CK_OBJECT_HANDLE handle, struct cv_object **object)
{
    *object = NULL;
    struct shard *shard = lock_shard(handle);
    struct cv_object *found =
        shard->buckets != 0 ? shard->by_handle[handle_bucket(shard, handle)] : NULL;
    while (found != NULL && found->handle != handle)
        found = found->next_by_handle;
    if (found != NULL && found->slot == slot) {
        atomic_fetch_add_explicit(&found->references, 1, memory_order_relaxed);
        *object = found;
    }
    pthread_mutex_unlock(&shard->mutex);
    return *object != NULL ? CKR_OK : CKR_OBJECT_HANDLE_INVALID;
}

void cv_object_release(struct cv_object *object)
{
    if (object != NULL && atomic_fetch_sub(&object->references, 1) == 1)
        free_object(object);
}

void cv_object_remove(struct cv_object *object)
{
    struct shard *shard = lock_shard(object->handle);
    bool was_there = !object->gone;
    remove_locked(shard, object);
    pthread_mutex_unlock(&shard->mutex);
    if (was_there)
        cv_object_release(object); /* the table's */
}

CK_RV cv_object_replace(struct cv_object *object, const struct cv_object_result *result)
{
    struct shard *shard = lock_shard(object->handle);
    bool done = set_contents(object, result);
    object->key_info_known = false;
    pthread_mutex_unlock(&shard->mutex);
    return done ? CKR_OK : CKR_HOST_MEMORY;
}

CK_RV cv_object_put_reference(struct cv_object *object, cv_writer *args)
{
    CK_RV value = CKR_OK;
    struct shard *shard = lock_shard(object->handle);
    if (object->gone)
        value = CKR_OBJECT_HANDLE_INVALID;
    else if (object->session == 0)
        cv_write_bin(args, object->id, CV_ID_BYTES);
    else
        cv_write_bin(args, object->blob, object->blob_length);
    pthread_mutex_unlock(&shard->mutex);
    return value;
}

void cv_object_lock(struct cv_object *object)
{
    lock_shard(object->handle);
}

void cv_object_unlock(struct cv_object *object)
{
    pthread_mutex_unlock(&shard_of(object->handle)->mutex);
}
