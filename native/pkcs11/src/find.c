/*
 * find.c - finding objects (PKCS#11 3.0, section 5.7.7).
 *
 * Token objects are found by the worker, session objects here.  The result is kept as handles,
 * so that what C_FindObjects gives is what there was at C_FindObjectsInit.
 */
#include <stdlib.h>

#include "objects.h"

#define MOST_FOUND 16384 /* docs/protocol.md */

static CK_RV append(struct cv_find *find, cv_reader *result, struct cv_slot *slot,
                    enum cv_privacy privacy)
{
    size_t count = cv_read_array(result);
    if (result->broken || count > MOST_FOUND)
        return CKR_DEVICE_ERROR;
    CK_OBJECT_HANDLE *larger = realloc(find->handles, (find->count + count + 1) * sizeof *larger);
    if (larger == NULL)
        return CKR_HOST_MEMORY;
    find->handles = larger;
    for (size_t i = 0; i < count; i++) {
        size_t length;
        const uint8_t *id = cv_read_bin(result, &length);
        if (result->broken || length != CV_ID_BYTES)
            return CKR_DEVICE_ERROR;
        CK_RV value = cv_object_of_token(slot, id, privacy, &find->handles[find->count]);
        if (value != CKR_OK)
            return value;
        find->count++;
    }
    return CKR_OK;
}

static CK_RV find_on_token(struct cv_session *session, const CK_ATTRIBUTE *template,
                           CK_ULONG count)
{
    struct cv_slot *slot = session->slot;
    struct cv_reply reply = {0};
    cv_writer *args = &session->args;
    cv_write_array(args, 3);
    cv_write_bin(args, slot->keyring, CV_ID_BYTES);
    CK_RV value = cv_template_put(template, count, args);
    cv_write_uint(args, MOST_FOUND);
    /* Whoever is not logged in is shown public objects only. */
    enum cv_privacy privacy =
        cv_slot_role(slot) == CV_ROLE_NONE ? CV_PUBLIC : CV_PRIVACY_UNKNOWN;
    uint64_t generation = atomic_load(&slot->generation);
    if (value == CKR_OK)
        value = cv_call_and_reply(session, CV_FIND, &reply);
    if (generation != atomic_load(&slot->generation))
        privacy = CV_PRIVACY_UNKNOWN;
    if (value == CKR_OK)
        value = append(&session->find, &reply.result, slot, privacy);
    cv_reply_free(&reply);
    return value;
}

static CK_RV find_init(struct cv_session *session, const CK_ATTRIBUTE *template, CK_ULONG count)
{
    struct cv_find *find = &session->find;
    if (find->active)
        return CKR_OPERATION_ACTIVE;
    CK_RV value = cv_template_check(template, count);
    if (value != CKR_OK)
        return value;
    bool on_token = cv_template_flag(template, count, CKA_TOKEN, true);
    bool in_session = !cv_template_flag(template, count, CKA_TOKEN, false);
    cv_delivered_end(session);
    free(find->handles);
    *find = (struct cv_find){0};
    if (in_session)
        value = cv_session_objects_find(session->slot, template, count, &find->handles,
                                        &find->count);
    if (value == CKR_OK && on_token)
        value = find_on_token(session, template, count);
    find->active = value == CKR_OK;
    return value;
}

static CK_RV find_next(struct cv_session *session, CK_OBJECT_HANDLE *handles, CK_ULONG most,
                       CK_ULONG *count)
{
    struct cv_find *find = &session->find;
    if (!find->active)
        return CKR_OPERATION_NOT_INITIALIZED;
    if (count == NULL || (handles == NULL && most > 0))
        return CKR_ARGUMENTS_BAD;
    for (*count = 0; *count < most && find->next < find->count; ++*count)
        handles[*count] = find->handles[find->next++];
    return CKR_OK;
}

static CK_RV find_final(struct cv_session *session)
{
    if (!session->find.active)
        return CKR_OPERATION_NOT_INITIALIZED;
    session->find.active = false;
    cv_delivered_end(session);
    return CKR_OK;
}

CK_RV C_FindObjectsInit(CK_SESSION_HANDLE handle, CK_ATTRIBUTE_PTR template, CK_ULONG count)
{
    CV_IN_SESSION(handle, find_init(session, template, count));
}

CK_RV C_FindObjects(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE_PTR objects, CK_ULONG most,
                    CK_ULONG_PTR count)
{
    CV_IN_SESSION(handle, find_next(session, objects, most, count));
}

CK_RV C_FindObjectsFinal(CK_SESSION_HANDLE handle)
{
    CV_IN_SESSION(handle, find_final(session));
}
