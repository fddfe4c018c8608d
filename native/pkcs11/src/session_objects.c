/*
 * session_objects.c - the session objects of a slot.
 *
 * They live here as sealed blobs.  All sessions of the application may use one, the session that
 * made it takes it along when it closes, and a logout takes the private ones.
 */
#include <stdlib.h>

#include "state.h"

/* Under the slot's mutex. */
static void unlink_object(struct cv_object *object)
{
    struct cv_slot *slot = object->slot;
    if (object->slot_previous != NULL)
        object->slot_previous->slot_next = object->slot_next;
    else
        slot->session_objects = object->slot_next;
    if (object->slot_next != NULL)
        object->slot_next->slot_previous = object->slot_previous;
    object->slot_next = object->slot_previous = NULL;
}

static bool is_linked(const struct cv_object *object)
{
    return object->slot_previous != NULL || object->slot->session_objects == object;
}

void cv_session_objects_add(struct cv_object *object)
{
    struct cv_slot *slot = object->slot;
    pthread_mutex_lock(&slot->mutex);
    object->slot_next = slot->session_objects;
    if (object->slot_next != NULL)
        object->slot_next->slot_previous = object;
    slot->session_objects = object;
    /* The login may have ended while the worker was making it. */
    bool late = slot->role == CV_ROLE_NONE && cv_object_is_private(object);
    pthread_mutex_unlock(&slot->mutex);
    if (late)
        cv_session_objects_drop(object);
}

void cv_session_objects_drop(struct cv_object *object)
{
    pthread_mutex_lock(&object->slot->mutex);
    bool linked = is_linked(object);
    if (linked)
        unlink_object(object);
    pthread_mutex_unlock(&object->slot->mutex);
    cv_object_remove(object);
    if (linked)
        cv_object_release(object); /* the list's */
}

static bool belongs_to(struct cv_object *object, CK_SESSION_HANDLE session)
{
    return session != 0 ? object->session == session : cv_object_is_private(object);
}

/* Drops what a session owns, or for session 0 all that is private. */
static void drop_matching(struct cv_slot *slot, CK_SESSION_HANDLE session)
{
    struct cv_object *dropped = NULL, *next;
    pthread_mutex_lock(&slot->mutex);
    for (struct cv_object *object = slot->session_objects; object != NULL; object = next) {
        next = object->slot_next;
        if (!belongs_to(object, session))
            continue;
        unlink_object(object);
        object->slot_next = dropped;
        dropped = object;
    }
    pthread_mutex_unlock(&slot->mutex);
    for (; dropped != NULL; dropped = next) {
        next = dropped->slot_next;
        dropped->slot_next = NULL;
        cv_object_remove(dropped);
        cv_object_release(dropped);
    }
}

void cv_session_objects_close(struct cv_slot *slot, CK_SESSION_HANDLE session)
{
    drop_matching(slot, session);
}

void cv_session_objects_wipe_private(struct cv_slot *slot)
{
    drop_matching(slot, 0);
}

CK_RV cv_session_objects_find(struct cv_slot *slot, const CK_ATTRIBUTE *template, CK_ULONG count,
                              CK_OBJECT_HANDLE **handles, size_t *found)
{
    CK_RV value = CKR_OK;
    size_t capacity = 0;
    *found = 0;
    *handles = NULL;
    pthread_mutex_lock(&slot->mutex);
    for (struct cv_object *object = slot->session_objects; object != NULL && value == CKR_OK;
         object = object->slot_next) {
        if (!cv_object_matches(object, template, count))
            continue;
        if (*found == capacity) {
            capacity = capacity != 0 ? 2 * capacity : 16;
            CK_OBJECT_HANDLE *larger = realloc(*handles, capacity * sizeof *larger);
            if (larger == NULL) {
                value = CKR_HOST_MEMORY;
                break;
            }
            *handles = larger;
        }
        (*handles)[(*found)++] = object->handle;
    }
    pthread_mutex_unlock(&slot->mutex);
    if (value != CKR_OK) {
        free(*handles);
        *handles = NULL;
        *found = 0;
    }
    return value;
}
