/*
 * digest.c - message digesting (PKCS#11 3.0, section 5.12): done here, no worker is asked but for
 * the value of a key.
 *
 * Since it is done here, only a key may be digested whose value the application could read as
 * well: no digest is worth that another one's value leaves the member.
 */
#include <openssl/crypto.h>
#include <stdlib.h>

#include "objects.h"
#include "operation.h"
#include "state.h"

void cv_digest_drop(struct cv_session *session)
{
    session->digest = NULL;
    if (session->digest_keyed)
        cv_digest_free(&session->digest_context);
    session->digest_keyed = false;
    session->digest_generation = 0;
}

static CK_RV end_digest(struct cv_session *session, CK_RV value)
{
    cv_digest_drop(session);
    return value;
}

bool cv_is_digesting(struct cv_session *session)
{
    if (session->digest_generation != 0 &&
        session->digest_generation != atomic_load(&session->slot->generation))
        cv_digest_drop(session);
    return session->digest != NULL;
}

static CK_RV digest_init(struct cv_session *session, const CK_MECHANISM *mechanism)
{
    if (mechanism == NULL)
        return !cv_is_digesting(session) ? CKR_ARGUMENTS_BAD : end_digest(session, CKR_OK);
    if (cv_is_digesting(session))
        return CKR_OPERATION_ACTIVE;
    const struct cv_mechanism *row = cv_mechanism_find(mechanism->mechanism);
    if (row == NULL || !(row->usage & CKF_DIGEST))
        return CKR_MECHANISM_INVALID;
    if (mechanism->ulParameterLen != 0)
        return CKR_MECHANISM_PARAM_INVALID;
    CK_RV value = cv_digest_begin(&session->digest_context, row->digest);
    if (value == CKR_OK) {
        session->digest = row;
        session->digest_multi_part = false;
    }
    return value;
}

CK_RV cv_digest_update(struct cv_session *session, const uint8_t *part, CK_ULONG length)
{
    if (!cv_is_digesting(session))
        return CKR_OPERATION_NOT_INITIALIZED;
    if (cv_bad_input(part, length))
        return end_digest(session, CKR_ARGUMENTS_BAD);
    session->digest_multi_part = true;
    CK_RV value = cv_digest_add(session->digest_context, part, length);
    return value == CKR_OK ? CKR_OK : end_digest(session, value);
}

static CK_RV digest_value(struct cv_session *session, struct cv_object *key, size_t length)
{
    uint8_t *bytes = malloc(length + 1);
    CK_ATTRIBUTE wanted = {CKA_VALUE, bytes, length};
    if (bytes == NULL)
        return CKR_HOST_MEMORY;
    CK_RV value = cv_attributes_answer(session, key, &wanted, 1);
    if (value == CKR_OK)
        value = cv_digest_add(session->digest_context, bytes, wanted.ulValueLen);
    OPENSSL_cleanse(bytes, length + 1);
    free(bytes);
    if (value == CKR_ATTRIBUTE_SENSITIVE || value == CKR_ATTRIBUTE_TYPE_INVALID)
        return CKR_KEY_INDIGESTIBLE;
    return value == CKR_BUFFER_TOO_SMALL ? CKR_DEVICE_ERROR : value;
}

/* A key that is refused has changed nothing, so the digest goes on. */
static CK_RV digest_key(struct cv_session *session, CK_OBJECT_HANDLE handle)
{
    struct cv_object *key = NULL;
    struct cv_key_info info;
    if (!cv_is_digesting(session))
        return CKR_OPERATION_NOT_INITIALIZED;
    if (cv_object_take(session->slot, handle, &key) != CKR_OK)
        return CKR_KEY_HANDLE_INVALID;
    CK_RV value = cv_object_check_login(key);
    if (value == CKR_OK)
        value = cv_object_learn_key(key, false, &info);
    if (value == CKR_OK && info.object_class != CKO_SECRET_KEY)
        value = CKR_KEY_INDIGESTIBLE;
    uint64_t generation = cv_object_is_private(key) ? atomic_load(&session->slot->generation) : 0;
    if (value == CKR_OK) {
        session->digest_keyed = true; /* a part of it may go in even if it fails */
        value = digest_value(session, key, (info.size_bits + 7) / 8);
    }
    if (value == CKR_OK) {
        session->digest_multi_part = true;
        if (generation != 0)
            session->digest_generation = generation;
    }
    cv_object_release(key);
    return value == CKR_OBJECT_HANDLE_INVALID ? CKR_KEY_HANDLE_INVALID : value;
}

static CK_RV finish(struct cv_session *session, uint8_t *out, CK_ULONG *out_length)
{
    uint8_t digest[CV_DIGEST_MAX];
    CK_RV value = cv_digest_end(session->digest_context, digest);
    if (value == CKR_OK)
        value = cv_give(digest, cv_digest_length(session->digest->digest), out, out_length);
    return end_digest(session, value);
}

static CK_RV digest_final(struct cv_session *session, uint8_t *out, CK_ULONG *out_length)
{
    CK_RV value;
    if (!cv_is_digesting(session))
        return CKR_OPERATION_NOT_INITIALIZED;
    if (out_length == NULL)
        return end_digest(session, CKR_ARGUMENTS_BAD);
    if (cv_only_length(cv_digest_length(session->digest->digest), out, out_length, &value))
        return value;
    return finish(session, out, out_length);
}

static CK_RV digest(struct cv_session *session, const uint8_t *data, CK_ULONG length,
                    uint8_t *out, CK_ULONG *out_length)
{
    CK_RV value;
    if (!cv_is_digesting(session))
        return CKR_OPERATION_NOT_INITIALIZED;
    if (session->digest_multi_part)
        return end_digest(session, CKR_OPERATION_ACTIVE);
    if (out_length == NULL || cv_bad_input(data, length))
        return end_digest(session, CKR_ARGUMENTS_BAD);
    if (cv_only_length(cv_digest_length(session->digest->digest), out, out_length, &value))
        return value;
    value = cv_digest_add(session->digest_context, data, length);
    return value == CKR_OK ? finish(session, out, out_length) : end_digest(session, value);
}

CK_RV C_DigestInit(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism)
{
    CV_IN_SESSION(handle, digest_init(session, mechanism));
}

CK_RV C_Digest(CK_SESSION_HANDLE handle, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR out,
               CK_ULONG_PTR out_length)
{
    CV_IN_SESSION(handle, digest(session, data, length, out, out_length));
}

CK_RV C_DigestUpdate(CK_SESSION_HANDLE handle, CK_BYTE_PTR part, CK_ULONG length)
{
    CV_IN_SESSION(handle, cv_digest_update(session, part, length));
}

CK_RV C_DigestKey(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE key)
{
    CV_IN_SESSION(handle, digest_key(session, key));
}

CK_RV C_DigestFinal(CK_SESSION_HANDLE handle, CK_BYTE_PTR out, CK_ULONG_PTR out_length)
{
    CV_IN_SESSION(handle, digest_final(session, out, out_length));
}
