/*
 * operation_state.c - saving and restoring digests (PKCS#11 3.0, sections 5.6.6 and 5.6.7).
 *
 * What the application gets is no state but the name of one, which is kept here: nothing that it
 * changes can do harm, and of a key that was digested nothing shows.  The price: a state is good
 * in this process alone, until C_Finalize, and of very many the oldest are forgotten.
 *
 * Operations that use a key are not saved: most of what they have is at a worker, or is data.
 */
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "operation.h"
#include "state.h"

#define KEPT 4096u

static const uint8_t mark[8] = "CVdigst1";

struct name {
    uint8_t mark[sizeof mark];
    uint8_t id[CV_ID_BYTES];
};

struct kept {
    uint8_t id[CV_ID_BYTES];
    const struct cv_mechanism *digest; /* NULL while free */
    bool multi_part;
    bool keyed;
    const struct cv_slot *slot; /* whose private key went into it; NULL: nobody's */
    uint64_t generation;        /* of that slot's login */
    void *context;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static struct kept *kept;
static size_t next; /* the place of the oldest, or one that is free */

CK_RV cv_states_start(void)
{
    pthread_mutex_init(&mutex, NULL);
    kept = calloc(KEPT, sizeof *kept);
    return kept != NULL ? CKR_OK : CKR_HOST_MEMORY;
}

void cv_states_stop(void)
{
    for (size_t i = 0; kept != NULL && i < KEPT; i++)
        cv_digest_free(&kept[i].context);
    free(kept);
    cv_states_abandon();
}

void cv_states_abandon(void)
{
    kept = NULL;
    next = 0;
}

static CK_RV keep(const struct cv_session *session, const uint8_t *id)
{
    pthread_mutex_lock(&mutex);
    struct kept *place = &kept[next];
    place->digest = NULL;
    CK_RV value = cv_digest_copy(&place->context, session->digest_context);
    if (value == CKR_OK) {
        memcpy(place->id, id, CV_ID_BYTES);
        place->digest = session->digest;
        place->multi_part = session->digest_multi_part;
        place->keyed = session->digest_keyed;
        place->generation = session->digest_generation;
        place->slot = place->generation != 0 ? session->slot : NULL;
        next = (next + 1) % KEPT;
    }
    pthread_mutex_unlock(&mutex);
    return value;
}

static CK_RV save(struct cv_session *session, uint8_t *out, CK_ULONG *length)
{
    struct name name;
    CK_RV value;
    if (length == NULL)
        return CKR_ARGUMENTS_BAD;
    if (cv_operations_use_keys(session))
        return CKR_STATE_UNSAVEABLE;
    if (!cv_is_digesting(session))
        return CKR_OPERATION_NOT_INITIALIZED;
    if (cv_only_length(sizeof name, out, length, &value))
        return value;
    memcpy(name.mark, mark, sizeof mark);
    value = cv_random(name.id, sizeof name.id);
    if (value == CKR_OK)
        value = keep(session, name.id);
    return value == CKR_OK ? cv_give((const uint8_t *)&name, sizeof name, out, length) : value;
}

void cv_states_forget(struct cv_slot *slot)
{
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; kept != NULL && i < KEPT; i++)
        if (kept[i].digest != NULL && kept[i].slot == slot) {
            kept[i].digest = NULL;
            cv_digest_free(&kept[i].context);
        }
    pthread_mutex_unlock(&mutex);
}

/* Whether the login that could read what went into it goes on, and is the session's. */
static bool is_usable(const struct kept *state, const struct cv_slot *slot)
{
    return state->slot == NULL ||
           (state->slot == slot && state->generation == atomic_load(&slot->generation));
}

/* Takes a copy of what goes by the name. */
static CK_RV look_up(const struct name *name, const struct cv_slot *slot, struct kept *copy)
{
    CK_RV value = CKR_SAVED_STATE_INVALID;
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < KEPT && value == CKR_SAVED_STATE_INVALID; i++)
        if (kept[i].digest != NULL && is_usable(&kept[i], slot) &&
            CRYPTO_memcmp(kept[i].id, name->id, CV_ID_BYTES) == 0) {
            *copy = kept[i];
            copy->context = NULL;
            value = cv_digest_copy(&copy->context, kept[i].context);
        }
    pthread_mutex_unlock(&mutex);
    return value;
}

/* What is restored takes the place of whatever the session was doing. */
static CK_RV restore(struct cv_session *session, const uint8_t *state, CK_ULONG length,
                     bool brings_keys)
{
    struct name name;
    struct kept copy = {0};
    if (state == NULL)
        return CKR_ARGUMENTS_BAD;
    if (length != sizeof name || memcmp(state, mark, sizeof mark) != 0)
        return CKR_SAVED_STATE_INVALID;
    memcpy(&name, state, sizeof name);
    CK_RV value = look_up(&name, session->slot, &copy);
    if (value == CKR_OK && brings_keys)
        value = CKR_KEY_NOT_NEEDED;
    if (value != CKR_OK) {
        cv_digest_free(&copy.context);
        return value;
    }
    cv_operations_end(session, ~(CK_FLAGS)0);
    cv_digest_free(&session->digest_context);
    session->digest_context = copy.context;
    session->digest = copy.digest;
    session->digest_multi_part = copy.multi_part;
    session->digest_keyed = copy.keyed;
    session->digest_generation = copy.generation;
    return CKR_OK;
}

CK_RV C_GetOperationState(CK_SESSION_HANDLE handle, CK_BYTE_PTR state, CK_ULONG_PTR length)
{
    CV_IN_SESSION(handle, save(session, state, length));
}

CK_RV C_SetOperationState(CK_SESSION_HANDLE handle, CK_BYTE_PTR state, CK_ULONG length,
                          CK_OBJECT_HANDLE encryption_key, CK_OBJECT_HANDLE authentication_key)
{
    CV_IN_SESSION(handle, restore(session, state, length,
                                  encryption_key != 0 || authentication_key != 0));
}
