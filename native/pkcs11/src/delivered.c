/*
 * delivered.c - attributes of what a search found, fetched for many objects at once.
 *
 * Applications list a token by a search, and read each object's attributes one by one, twice
 * each, before it ends.  The first such read asks for all attributes of that object and those that
 * the search gives after it; the others are answered from there while the search is active.  What
 * is shown is what there was at most half a second ago, and never older than a change by this
 * process or a login or logout.
 *
 * Invariant: a delivery with attributes is in its slot's list, so that a logout wipes it.  Values
 * of secret and private keys never are in one: the worker leaves them out.
 */
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "moment.h"
#include "objects.h"

#define MOST_OBJECTS 64u /* docs/protocol.md */
#define GOOD_FOR (CV_SECOND / 2)

struct cv_delivered {
    struct cv_slot *slot;
    CK_OBJECT_HANDLE handles[MOST_OBJECTS]; /* of those that were asked for */
    size_t count;
    uint64_t generation, changes; /* of the slot, when they were */
    cv_moment good_until;

    /* Guarded by the slot's mutex. */
    uint8_t *bytes; /* the worker's answer; NULL once wiped, or without a use */
    size_t length;
    size_t places[MOST_OBJECTS]; /* where an object's attributes begin in it; 0: nowhere */
    struct cv_delivered *next, *previous;
};

/* --- life ------------------------------------------------------------------------------------ */

/* Under the slot's mutex. */
static void wipe(struct cv_delivered *delivered)
{
    if (delivered->bytes == NULL)
        return;
    OPENSSL_cleanse(delivered->bytes, delivered->length);
    free(delivered->bytes);
    delivered->bytes = NULL;
    if (delivered->previous != NULL)
        delivered->previous->next = delivered->next;
    else
        delivered->slot->delivered = delivered->next;
    if (delivered->next != NULL)
        delivered->next->previous = delivered->previous;
}

void cv_delivered_end(struct cv_session *session)
{
    struct cv_delivered *delivered = session->find.delivered;
    if (delivered == NULL)
        return;
    pthread_mutex_lock(&delivered->slot->mutex);
    wipe(delivered);
    pthread_mutex_unlock(&delivered->slot->mutex);
    free(delivered);
    session->find.delivered = NULL;
}

void cv_delivered_wipe(struct cv_slot *slot)
{
    pthread_mutex_lock(&slot->mutex);
    while (slot->delivered != NULL)
        wipe(slot->delivered);
    pthread_mutex_unlock(&slot->mutex);
}

/* Takes the answer over, unless the login has changed meanwhile; under the slot's mutex. */
static void keep(struct cv_delivered *delivered, uint8_t *bytes, size_t length)
{
    struct cv_slot *slot = delivered->slot;
    delivered->bytes = bytes;
    delivered->length = length;
    delivered->previous = NULL;
    delivered->next = slot->delivered;
    if (delivered->next != NULL)
        delivered->next->previous = delivered;
    slot->delivered = delivered;
    if (delivered->generation != atomic_load(&slot->generation))
        wipe(delivered);
}

/* --- asking ---------------------------------------------------------------------------------- */

/* Appends the ids of the objects that the search gives from `first` on. */
static void put_wanted(struct cv_session *session, struct cv_delivered *delivered, size_t first,
                       uint8_t ids[MOST_OBJECTS][CV_ID_BYTES])
{
    const struct cv_find *find = &session->find;
    for (size_t i = first; i < find->count && delivered->count < MOST_OBJECTS; i++) {
        struct cv_object *object = NULL;
        if (cv_object_take(session->slot, find->handles[i], &object) == CKR_OK &&
            object->session == 0) {
            memcpy(ids[delivered->count], object->id, CV_ID_BYTES);
            delivered->handles[delivered->count++] = object->handle;
        }
        cv_object_release(object);
    }
    cv_writer *args = &session->args;
    cv_writer_clear(args, CV_KEPT_BUFFER);
    cv_write_array(args, 4);
    cv_write_bin(args, session->slot->keyring, CV_ID_BYTES);
    cv_write_array(args, 0);
    cv_write_uint(args, 1); /* all that a worker gives that knows nothing of this */
    cv_write_array(args, delivered->count);
    for (size_t i = 0; i < delivered->count; i++)
        cv_write_bin(args, ids[i], CV_ID_BYTES);
}

/* Finds the objects in an answer, `[[id, attributes], ...]` in the order in which they were asked
 * for; some may be absent. */
static void find_places(struct cv_delivered *delivered, const uint8_t *bytes, size_t length,
                        uint8_t ids[MOST_OBJECTS][CV_ID_BYTES])
{
    cv_reader reader;
    cv_reader_init(&reader, bytes, length);
    size_t told = cv_read_array(&reader), asked = 0, id_length;
    for (size_t i = 0; i < told && cv_read_array(&reader) == 2; i++) {
        const uint8_t *id = cv_read_bin(&reader, &id_length);
        while (asked < delivered->count && !reader.broken && id_length == CV_ID_BYTES &&
               memcmp(ids[asked], id, CV_ID_BYTES) != 0)
            asked++;
        if (reader.broken || id_length != CV_ID_BYTES || asked == delivered->count)
            return;
        size_t place = (size_t)(reader.at - bytes);
        cv_read_skip(&reader);
        if (reader.broken)
            return;
        delivered->places[asked++] = place;
    }
}

static void take_answer(struct cv_delivered *delivered, const cv_reader *result,
                        uint8_t ids[MOST_OBJECTS][CV_ID_BYTES])
{
    size_t length = (size_t)(result->end - result->at);
    uint8_t *bytes = malloc(length + 1);
    if (bytes == NULL)
        return;
    memcpy(bytes, result->at, length);
    find_places(delivered, bytes, length, ids);
    pthread_mutex_lock(&delivered->slot->mutex);
    keep(delivered, bytes, length);
    pthread_mutex_unlock(&delivered->slot->mutex);
}

/* Asks for an object of the active search and those behind it; false if it is none of them. */
static bool fetch(struct cv_session *session, CK_OBJECT_HANDLE handle)
{
    uint8_t ids[MOST_OBJECTS][CV_ID_BYTES];
    const struct cv_find *find = &session->find;
    struct cv_reply reply = {0};
    size_t first = 0;
    while (first < find->count && find->handles[first] != handle)
        first++;
    cv_delivered_end(session);
    struct cv_delivered *delivered = first < find->count ? calloc(1, sizeof *delivered) : NULL;
    if (delivered == NULL)
        return false;
    delivered->slot = session->slot;
    delivered->generation = atomic_load(&session->slot->generation);
    delivered->changes = atomic_load(&session->slot->changes);
    delivered->good_until = cv_now() + GOOD_FOR;
    session->find.delivered = delivered;
    put_wanted(session, delivered, first, ids);
    if (cv_call_and_reply(session, CV_FIND, &reply) == CKR_OK)
        take_answer(delivered, &reply.result, ids);
    cv_reply_free(&reply);
    return true;
}

/* --- answering ------------------------------------------------------------------------------- */

static bool covers(const struct cv_delivered *delivered, CK_OBJECT_HANDLE handle, size_t *at)
{
    if (delivered == NULL || cv_now() >= delivered->good_until ||
        delivered->generation != atomic_load(&delivered->slot->generation) ||
        delivered->changes != atomic_load(&delivered->slot->changes))
        return false;
    for (*at = 0; *at < delivered->count; ++*at)
        if (delivered->handles[*at] == handle)
            return true;
    return false;
}

/* One attribute, as GET_ATTRIBUTES has it: [type, CK_RV, value or nil]; under the slot's mutex. */
static bool give(const struct cv_delivered *delivered, size_t at, CK_ATTRIBUTE *wanted, CK_RV *answer)
{
    cv_reader reader;
    if (delivered->bytes == NULL || delivered->places[at] == 0)
        return false;
    cv_reader_init(&reader, delivered->bytes + delivered->places[at],
                   delivered->length - delivered->places[at]);
    size_t count = cv_read_array(&reader), length = 0;
    for (size_t i = 0; i < count && cv_read_array(&reader) == 3; i++) {
        bool found = cv_read_uint(&reader) == wanted->type && !reader.broken;
        *answer = cv_read_uint(&reader);
        const uint8_t *value = cv_read_nil(&reader) ? NULL : cv_read_bin(&reader, &length);
        if (reader.broken || (found && *answer == CKR_OK && value == NULL))
            return false;
        if (found && *answer == CKR_OK)
            *answer = cv_attribute_give(wanted, value, length);
        if (found)
            return true;
    }
    return false;
}

bool cv_delivered_give(struct cv_session *session, struct cv_object *object, CK_ATTRIBUTE *wanted,
                       CK_RV *answer)
{
    size_t at = 0;
    if (!session->find.active || object->session != 0)
        return false;
    if (!covers(session->find.delivered, object->handle, &at) &&
        !(fetch(session, object->handle) && covers(session->find.delivered, object->handle, &at)))
        return false;
    pthread_mutex_lock(&session->slot->mutex);
    bool given = give(session->find.delivered, at, wanted, answer);
    pthread_mutex_unlock(&session->slot->mutex);
    return given;
}
