/*
 * encapsulate.c - keys that two parties come to share (PKCS#11 3.2, sections 5.18.8 and 5.18.9).
 *
 * The operation begins and ends within one call, so it is none of the session's.
 */
#include <string.h>

#include "keys.h"
#include "objects.h"
#include "operation.h"

#define CIPHERTEXT_MAX 65536

/* Begins the arguments: keyring, reference, mechanism, parameter. */
static CK_RV put_use(struct cv_session *session, const struct cv_operation *use, size_t elements)
{
    CK_RV value = cv_object_put_request(use->key, elements, &session->args);
    cv_write_uint(&session->args, use->mechanism->type);
    cv_write_raw(&session->args, use->parameter.bytes, use->parameter.length);
    return value == CKR_OBJECT_HANDLE_INVALID ? CKR_KEY_HANDLE_INVALID : value;
}

/* Ends the arguments with template and write, and calls. */
static CK_RV call(struct cv_session *session, unsigned number, const struct cv_template *template,
                  struct cv_reply *reply)
{
    CK_RV value = cv_put_template(session, template); /* nothing is read of it before its check */
    if (value == CKR_OK)
        value = cv_put_write_if(session, cv_makes_token(template), &session->args);
    return value == CKR_OK ? cv_call_and_reply(session, number, reply) : value;
}

static CK_RV encapsulate_now(struct cv_session *session, const struct cv_operation *use,
                             const struct cv_template *template, struct cv_place out,
                             CK_OBJECT_HANDLE *key)
{
    struct cv_reply reply = {0};
    const uint8_t *ciphertext = NULL;
    size_t length = 0;
    CK_RV value = put_use(session, use, 6);
    if (value == CKR_OK)
        value = call(session, CV_ENCAPSULATE_KEY, template, &reply);
    if (value == CKR_OK) {
        bool two = cv_read_array(&reply.result) == 2;
        ciphertext = cv_read_bin(&reply.result, &length);
        if (!two || reply.result.broken || length > *out.length)
            value = CKR_DEVICE_ERROR;
    }
    if (value == CKR_OK)
        value = cv_keep_object(session, cv_makes_token(template), &reply.result, key);
    if (value == CKR_OK)
        value = cv_give(ciphertext, length, out.bytes, out.length);
    cv_reply_free(&reply);
    return value;
}

static CK_RV encapsulate(struct cv_session *session, const CK_MECHANISM *mechanism,
                         CK_OBJECT_HANDLE public_key, struct cv_template template,
                         struct cv_place out, CK_OBJECT_HANDLE *key)
{
    struct cv_operation use = {0};
    /* A length may be asked for without a place for the key. */
    if (mechanism == NULL || out.length == NULL || (key == NULL && out.bytes != NULL))
        return CKR_ARGUMENTS_BAD;
    CK_RV value = cv_operation_begin(session, &use, CKF_ENCAPSULATE, mechanism, public_key);
    if (value == CKR_OK) {
        size_t length = cv_mechanism_result_length(use.mechanism, &use.facts, use.info.size_bits,
                                                   false, 0);
        if (!cv_only_length(length, out.bytes, out.length, &value))
            value = encapsulate_now(session, &use, &template, out, key);
    }
    cv_operation_free(&use);
    return value;
}

static CK_RV decapsulate(struct cv_session *session, const CK_MECHANISM *mechanism,
                         CK_OBJECT_HANDLE private_key, struct cv_template template,
                         struct cv_text ciphertext, CK_OBJECT_HANDLE *key)
{
    struct cv_operation use = {0};
    struct cv_reply reply = {0};
    if (mechanism == NULL || key == NULL || ciphertext.bytes == NULL)
        return CKR_ARGUMENTS_BAD;
    if (ciphertext.length > CIPHERTEXT_MAX)
        return CKR_ENCRYPTED_DATA_LEN_RANGE;
    CK_RV value = cv_operation_begin(session, &use, CKF_DECAPSULATE, mechanism, private_key);
    if (value == CKR_OK)
        value = put_use(session, &use, 7);
    if (value == CKR_OK) {
        cv_write_bin(&session->args, ciphertext.bytes, ciphertext.length);
        value = call(session, CV_DECAPSULATE_KEY, &template, &reply);
    }
    if (value == CKR_OK)
        value = cv_keep_object(session, cv_makes_token(&template), &reply.result, key);
    cv_reply_free(&reply);
    cv_operation_free(&use);
    return value;
}

CK_RV C_EncapsulateKey(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism,
                       CK_OBJECT_HANDLE public_key, CK_ATTRIBUTE_PTR attributes, CK_ULONG count,
                       CK_BYTE_PTR ciphertext, CK_ULONG_PTR ciphertext_length,
                       CK_OBJECT_HANDLE_PTR key)
{
    CV_IN_SESSION(handle, encapsulate(session, mechanism, public_key,
                                      (struct cv_template){attributes, count},
                                      (struct cv_place){ciphertext, ciphertext_length}, key));
}

CK_RV C_DecapsulateKey(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism,
                       CK_OBJECT_HANDLE private_key, CK_ATTRIBUTE_PTR attributes, CK_ULONG count,
                       CK_BYTE_PTR ciphertext, CK_ULONG ciphertext_length,
                       CK_OBJECT_HANDLE_PTR key)
{
    CV_IN_SESSION(handle, decapsulate(session, mechanism, private_key,
                                      (struct cv_template){attributes, count},
                                      (struct cv_text){ciphertext, ciphertext_length}, key));
}
