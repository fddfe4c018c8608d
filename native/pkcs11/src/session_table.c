/*
 * session_table.c - session handles.
 *
 * Sessions stand in chunks that are never given back before C_Finalize, so a handle is looked up
 * without any lock: its low bits are a place, the rest says how often the place was used.  What
 * is found is valid once its own mutex is held and its handle still is the one looked for.
 */
#include <stdlib.h>
#include <string.h>

#include "operation.h"
#include "state.h"

#define INDEX_BITS 20
#define CHUNK_BITS 7
#define CHUNK (1u << CHUNK_BITS)
#define CHUNKS (1u << (INDEX_BITS - CHUNK_BITS))
#define PLACES (CHUNKS * CHUNK - 1)

static _Atomic(struct cv_session *) *chunks;
static pthread_mutex_t free_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct cv_session *free_sessions;
static atomic_uint used_places; /* places that exist; the mutex guards growth */

CK_RV cv_sessions_start(void)
{
    pthread_mutex_init(&free_mutex, NULL);
    chunks = calloc(CHUNKS, sizeof *chunks);
    return chunks != NULL ? CKR_OK : CKR_HOST_MEMORY;
}

static void give_back(struct cv_session *session)
{
    cv_operations_reset(session);
    cv_digest_free(&session->digest_context);
    cv_writer_free(&session->args);
}

void cv_sessions_stop(void)
{
    for (uint32_t i = 0; chunks != NULL && i < used_places; i++) {
        struct cv_session *session = &atomic_load(&chunks[i >> CHUNK_BITS])[i & (CHUNK - 1)];
        give_back(session);
        pthread_mutex_destroy(&session->mutex);
    }
    for (uint32_t i = 0; chunks != NULL && i < CHUNKS; i++)
        free(atomic_load(&chunks[i]));
    free(chunks);
    cv_sessions_abandon();
}

void cv_sessions_abandon(void)
{
    chunks = NULL;
    free_sessions = NULL;
    used_places = 0;
}

/* Under the free list's mutex. */
static struct cv_session *new_place(void)
{
    uint32_t place = atomic_load(&used_places);
    if (place == PLACES)
        return NULL;
    struct cv_session *chunk = atomic_load(&chunks[place >> CHUNK_BITS]);
    if (chunk == NULL) {
        chunk = calloc(CHUNK, sizeof *chunk);
        if (chunk == NULL)
            return NULL;
        atomic_store(&chunks[place >> CHUNK_BITS], chunk);
    }
    struct cv_session *session = &chunk[place & (CHUNK - 1)];
    pthread_mutex_init(&session->mutex, NULL);
    session->index = place + 1; /* so that no handle is 0 */
    atomic_store(&used_places, place + 1);
    return session;
}

static struct cv_session *take_place(void)
{
    pthread_mutex_lock(&free_mutex);
    struct cv_session *session = free_sessions;
    if (session != NULL)
        free_sessions = session->next_free;
    else
        session = new_place();
    pthread_mutex_unlock(&free_mutex);
    return session;
}

static void return_place(struct cv_session *session)
{
    pthread_mutex_lock(&free_mutex);
    session->next_free = free_sessions;
    free_sessions = session;
    pthread_mutex_unlock(&free_mutex);
}

/* Joins the slot's ring, if the rules allow it. */
static CK_RV join(struct cv_slot *slot, struct cv_session *session, bool read_write)
{
    CK_RV value = CKR_OK;
    pthread_mutex_lock(&slot->mutex);
    if (!slot->present)
        value = CKR_TOKEN_NOT_PRESENT;
    else if (!read_write && slot->role == CV_ROLE_SO)
        value = CKR_SESSION_READ_WRITE_SO_EXISTS;
    if (value == CKR_OK) {
        session->slot_handle = session->handle;
        session->slot_previous = NULL;
        session->slot_next = slot->sessions;
        if (slot->sessions != NULL)
            slot->sessions->slot_previous = session;
        slot->sessions = session;
        slot->session_count++;
        slot->read_write_count += read_write;
    }
    pthread_mutex_unlock(&slot->mutex);
    return value;
}

/* True if it was the last session of the slot. */
static bool quit(struct cv_session *session)
{
    struct cv_slot *slot = session->slot;
    pthread_mutex_lock(&slot->mutex);
    if (session->slot_previous != NULL)
        session->slot_previous->slot_next = session->slot_next;
    else
        slot->sessions = session->slot_next;
    if (session->slot_next != NULL)
        session->slot_next->slot_previous = session->slot_previous;
    slot->session_count--;
    slot->read_write_count -= session->read_write;
    bool last = slot->session_count == 0;
    pthread_mutex_unlock(&slot->mutex);
    return last;
}

CK_RV cv_session_open(struct cv_slot *slot, bool read_write, CK_SESSION_HANDLE *handle)
{
    struct cv_session *session = take_place();
    if (session == NULL)
        return CKR_SESSION_COUNT;
    pthread_mutex_lock(&session->mutex);
    session->handle = (session->uses++ << INDEX_BITS) | session->index;
    session->slot = slot;
    session->read_write = read_write;
    session->so_pin_expired = false;
    CK_RV value = join(slot, session, read_write);
    if (value == CKR_OK)
        *handle = session->handle;
    else
        session->handle = 0;
    pthread_mutex_unlock(&session->mutex);
    if (value != CKR_OK)
        return_place(session);
    return value;
}

CK_RV cv_session_enter(CK_SESSION_HANDLE handle, struct cv_session **session)
{
    CK_SESSION_HANDLE place = (handle & ((1u << INDEX_BITS) - 1)) - 1;
    if (place >= atomic_load(&used_places))
        return CKR_SESSION_HANDLE_INVALID;
    struct cv_session *found = &atomic_load(&chunks[place >> CHUNK_BITS])[place & (CHUNK - 1)];
    pthread_mutex_lock(&found->mutex);
    if (found->handle != handle) {
        pthread_mutex_unlock(&found->mutex);
        return CKR_SESSION_HANDLE_INVALID;
    }
    *session = found;
    return CKR_OK;
}

void cv_session_leave(struct cv_session *session)
{
    cv_writer_clear(&session->args, CV_KEPT_BUFFER);
    pthread_mutex_unlock(&session->mutex);
}

CK_RV cv_session_close(CK_SESSION_HANDLE handle)
{
    struct cv_session *session;
    CK_RV value = cv_session_enter(handle, &session);
    if (value != CKR_OK)
        return value;
    struct cv_slot *slot = session->slot;
    cv_operations_reset(session);
    session->handle = 0;
    bool last = quit(session);
    cv_session_leave(session);
    cv_session_objects_close(slot, handle);
    return_place(session);
    if (last)
        cv_slot_logout(slot, true);
    return CKR_OK;
}

CK_RV cv_sessions_close_all(struct cv_slot *slot)
{
    pthread_mutex_lock(&slot->mutex);
    size_t count = 0;
    CK_SESSION_HANDLE *handles = malloc((slot->session_count + 1) * sizeof *handles);
    for (struct cv_session *session = slot->sessions; handles != NULL && session != NULL;
         session = session->slot_next)
        handles[count++] = session->slot_handle;
    pthread_mutex_unlock(&slot->mutex);
    for (size_t i = 0; i < count; i++)
        cv_session_close(handles[i]);
    CK_RV value = handles != NULL ? CKR_OK : CKR_HOST_MEMORY;
    free(handles);
    return value;
}
