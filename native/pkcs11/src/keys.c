/* keys.c - generating, wrapping, unwrapping and deriving keys (PKCS#11 3.0, section 5.18). */
#include <string.h>

#include "keys.h"
#include "objects.h"
#include "operation.h"

#define CV_WRAPPED_MAX 65536

bool cv_makes_token(const struct cv_template *template)
{
    return cv_template_flag(template->attributes, template->count, CKA_TOKEN, false);
}

/* Begins the arguments: keyring, mechanism, parameter. */
static CK_RV put_mechanism(struct cv_session *session, const CK_MECHANISM *mechanism,
                           CK_FLAGS usage, size_t elements)
{
    struct cv_parameter facts;
    if (mechanism == NULL)
        return CKR_ARGUMENTS_BAD;
    const struct cv_mechanism *row = cv_mechanism_find(mechanism->mechanism);
    if (row == NULL || !(row->usage & usage))
        return CKR_MECHANISM_INVALID;
    cv_write_array(&session->args, elements);
    cv_write_bin(&session->args, session->slot->keyring, CV_ID_BYTES);
    cv_write_uint(&session->args, mechanism->mechanism);
    return cv_mechanism_put_parameter(row, mechanism, &session->args, &facts);
}

CK_RV cv_put_template(struct cv_session *session, const struct cv_template *template)
{
    CK_RV value = cv_template_check(template->attributes, template->count);
    if (value == CKR_OK)
        value = cv_check_write(session, cv_makes_token(template));
    if (value == CKR_OK)
        value = cv_template_put(template->attributes, template->count, &session->args);
    return value;
}

static CK_RV generate_key(struct cv_session *session, const CK_MECHANISM *mechanism,
                          struct cv_template template, CK_OBJECT_HANDLE *key)
{
    struct cv_reply reply = {0};
    CK_RV value = key == NULL ? CKR_ARGUMENTS_BAD
                              : put_mechanism(session, mechanism, CKF_GENERATE, 5);
    if (value == CKR_OK)
        value = cv_put_template(session, &template);
    if (value == CKR_OK)
        value = cv_put_write_if(session, cv_makes_token(&template), &session->args);
    if (value == CKR_OK)
        value = cv_call_and_reply(session, CV_GENERATE_KEY, &reply);
    if (value == CKR_OK)
        value = cv_keep_object(session, cv_makes_token(&template), &reply.result, key);
    cv_reply_free(&reply);
    return value;
}

struct pair {
    struct cv_template public_template, private_template;
    CK_OBJECT_HANDLE *public_key, *private_key;
};

static CK_RV keep_pair(struct cv_session *session, const struct pair *pair, cv_reader *result)
{
    CK_OBJECT_HANDLE public_key, private_key;
    if (cv_read_array(result) != 2)
        return CKR_DEVICE_ERROR;
    CK_RV value = cv_keep_object(session, cv_makes_token(&pair->public_template), result, &public_key);
    if (value == CKR_OK)
        value = cv_keep_object(session, cv_makes_token(&pair->private_template), result, &private_key);
    if (value == CKR_OK) {
        *pair->public_key = public_key;
        *pair->private_key = private_key;
    }
    return value;
}

static CK_RV generate_key_pair(struct cv_session *session, const CK_MECHANISM *mechanism,
                               const struct pair *pair)
{
    struct cv_reply reply = {0};
    bool token = false;
    CK_RV value = pair->public_key == NULL || pair->private_key == NULL
                      ? CKR_ARGUMENTS_BAD
                      : put_mechanism(session, mechanism, CKF_GENERATE_KEY_PAIR, 6);
    if (value == CKR_OK)
        value = cv_put_template(session, &pair->public_template);
    if (value == CKR_OK)
        value = cv_put_template(session, &pair->private_template);
    if (value == CKR_OK) {
        token = cv_makes_token(&pair->public_template) || cv_makes_token(&pair->private_template);
        value = cv_put_write_if(session, token, &session->args);
    }
    if (value == CKR_OK)
        value = cv_call_and_reply(session, CV_GENERATE_KEY_PAIR, &reply);
    if (value == CKR_OK)
        value = keep_pair(session, pair, &reply.result);
    cv_reply_free(&reply);
    return value;
}

static CK_RV of_handle(CK_RV value, CK_RV invalid)
{
    return value == CKR_OBJECT_HANDLE_INVALID ? invalid : value;
}

static CK_RV put_target(struct cv_session *session, CK_OBJECT_HANDLE handle)
{
    struct cv_object *object = NULL;
    CK_RV value = cv_object_take(session->slot, handle, &object);
    if (value == CKR_OK)
        value = cv_object_check_login(object);
    if (value == CKR_OK)
        value = cv_object_put_reference(object, &session->args);
    cv_object_release(object);
    return of_handle(value, CKR_KEY_HANDLE_INVALID);
}

/* Begins the arguments: keyring, reference of the key that is used, mechanism, parameter. */
static CK_RV put_use(struct cv_session *session, const CK_MECHANISM *mechanism, CK_FLAGS usage,
                     CK_OBJECT_HANDLE handle, size_t elements)
{
    struct cv_parameter facts;
    struct cv_object *object = NULL;
    const struct cv_mechanism *row;
    if (mechanism == NULL)
        return CKR_ARGUMENTS_BAD;
    row = cv_mechanism_find(mechanism->mechanism);
    if (row == NULL || !(row->usage & usage))
        return CKR_MECHANISM_INVALID;
    CK_RV value = cv_object_take(session->slot, handle, &object);
    if (value == CKR_OK)
        value = cv_object_check_login(object);
    if (value == CKR_OK)
        value = cv_object_put_request(object, elements, &session->args);
    cv_object_release(object);
    if (value != CKR_OK)
        return value;
    cv_write_uint(&session->args, mechanism->mechanism);
    value = cv_mechanism_put_parameter(row, mechanism, &session->args, &facts);
    if (value == CKR_OK && facts.has_second_key)
        value = put_target(session, facts.second_key);
    return value;
}

/* The length of a wrapped key follows from the key, which only the worker knows: it is asked for
 * a length too. */
CK_RV cv_wrap_key(struct cv_session *session, const CK_MECHANISM *mechanism,
                  CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key, struct cv_place out)
{
    struct cv_reply reply = {0};
    if (out.length == NULL)
        return CKR_ARGUMENTS_BAD;
    CK_RV value = put_use(session, mechanism, CKF_WRAP, wrapping, 5);
    value = of_handle(value, CKR_WRAPPING_KEY_HANDLE_INVALID);
    if (value == CKR_OK)
        value = put_target(session, key);
    if (value == CKR_OK)
        value = cv_call_and_reply(session, CV_WRAP_KEY, &reply);
    if (value == CKR_OK) {
        size_t length = 0;
        const uint8_t *wrapped = cv_read_bin(&reply.result, &length);
        value = reply.result.broken ? CKR_DEVICE_ERROR
                                    : cv_give(wrapped, length, out.bytes, out.length);
    }
    cv_reply_free(&reply);
    return value;
}

CK_RV cv_unwrap_key(struct cv_session *session, const CK_MECHANISM *mechanism,
                    CK_OBJECT_HANDLE unwrapping, struct cv_text wrapped,
                    struct cv_template template, CK_OBJECT_HANDLE *key)
{
    struct cv_reply reply = {0};
    if (key == NULL || cv_bad_input(wrapped.bytes, wrapped.length))
        return CKR_ARGUMENTS_BAD;
    if (wrapped.length > CV_WRAPPED_MAX)
        return CKR_WRAPPED_KEY_LEN_RANGE;
    CK_RV value = put_use(session, mechanism, CKF_UNWRAP, unwrapping, 7);
    value = of_handle(value, CKR_UNWRAPPING_KEY_HANDLE_INVALID);
    cv_write_bin(&session->args, wrapped.bytes, wrapped.length);
    if (value == CKR_OK)
        value = cv_put_template(session, &template);
    if (value == CKR_OK)
        value = cv_put_write_if(session, cv_makes_token(&template), &session->args);
    if (value == CKR_OK)
        value = cv_call_and_reply(session, CV_UNWRAP_KEY, &reply);
    if (value == CKR_OK)
        value = cv_keep_object(session, cv_makes_token(&template), &reply.result, key);
    cv_reply_free(&reply);
    return value;
}

static CK_RV derive_key(struct cv_session *session, const CK_MECHANISM *mechanism,
                        CK_OBJECT_HANDLE base, struct cv_template template, CK_OBJECT_HANDLE *key)
{
    struct cv_reply reply = {0};
    if (key == NULL)
        return CKR_ARGUMENTS_BAD;
    CK_RV value = put_use(session, mechanism, CKF_DERIVE, base, 6);
    value = of_handle(value, CKR_KEY_HANDLE_INVALID);
    if (value == CKR_OK)
        value = cv_put_template(session, &template);
    if (value == CKR_OK)
        value = cv_put_write_if(session, cv_makes_token(&template), &session->args);
    if (value == CKR_OK)
        value = cv_call_and_reply(session, CV_DERIVE_KEY, &reply);
    if (value == CKR_OK)
        value = cv_keep_object(session, cv_makes_token(&template), &reply.result, key);
    cv_reply_free(&reply);
    return value;
}

CK_RV C_GenerateKey(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism,
                    CK_ATTRIBUTE_PTR template, CK_ULONG count, CK_OBJECT_HANDLE_PTR key)
{
    CV_IN_SESSION(handle,
                  generate_key(session, mechanism, (struct cv_template){template, count}, key));
}

CK_RV C_GenerateKeyPair(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism,
                        CK_ATTRIBUTE_PTR public_template, CK_ULONG public_count,
                        CK_ATTRIBUTE_PTR private_template, CK_ULONG private_count,
                        CK_OBJECT_HANDLE_PTR public_key, CK_OBJECT_HANDLE_PTR private_key)
{
    const struct pair pair = {{public_template, public_count},
                              {private_template, private_count},
                              public_key,
                              private_key};
    CV_IN_SESSION(handle, generate_key_pair(session, mechanism, &pair));
}

CK_RV C_WrapKey(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE wrapping,
                CK_OBJECT_HANDLE key, CK_BYTE_PTR wrapped, CK_ULONG_PTR wrapped_length)
{
    CV_IN_SESSION(handle,
                  cv_wrap_key(session, mechanism, wrapping, key,
                              (struct cv_place){wrapped, wrapped_length}));
}

CK_RV C_UnwrapKey(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism,
                  CK_OBJECT_HANDLE unwrapping, CK_BYTE_PTR wrapped, CK_ULONG wrapped_length,
                  CK_ATTRIBUTE_PTR template, CK_ULONG count, CK_OBJECT_HANDLE_PTR key)
{
    CV_IN_SESSION(handle, cv_unwrap_key(session, mechanism, unwrapping,
                                        (struct cv_text){wrapped, wrapped_length},
                                        (struct cv_template){template, count}, key));
}

CK_RV C_DeriveKey(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE base,
                  CK_ATTRIBUTE_PTR template, CK_ULONG count, CK_OBJECT_HANDLE_PTR key)
{
    CV_IN_SESSION(handle, derive_key(session, mechanism, base,
                                     (struct cv_template){template, count}, key));
}
