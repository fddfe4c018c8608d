/* objects.c - object management (PKCS#11 3.0, section 5.7), except for finding. */
#include "objects.h"

CK_RV cv_check_write(const struct cv_session *session, bool token)
{
    return token && !session->read_write ? CKR_SESSION_READ_ONLY : CKR_OK;
}

CK_RV cv_put_write_if(const struct cv_session *session, bool token, cv_writer *args)
{
    if (token)
        return cv_put_write(session->slot->cluster, args);
    cv_write_nil(args);
    return CKR_OK;
}

CK_RV cv_call_and_reply(struct cv_session *session, unsigned operation, struct cv_reply *reply)
{
    return cv_slot_call(session->slot, operation, &session->args, reply);
}

bool cv_read_object_result(cv_reader *reader, struct cv_object_result *result)
{
    size_t fields = cv_read_array(reader);
    if (fields < 3)
        return false;
    result->reference = cv_read_bin(reader, &result->reference_length);
    result->private = cv_read_bool(reader);
    result->attributes = reader->at;
    cv_read_skip(reader);
    result->attributes_length = (size_t)(reader->at - result->attributes);
    for (size_t i = 3; i < fields; i++)
        cv_read_skip(reader);
    return !reader->broken && result->reference_length >= CV_ID_BYTES;
}

CK_RV cv_keep_object(struct cv_session *session, bool token, cv_reader *reader,
                     CK_OBJECT_HANDLE *handle)
{
    struct cv_object_result result;
    if (!cv_read_object_result(reader, &result))
        return CKR_DEVICE_ERROR;
    if ((result.reference_length == CV_ID_BYTES) != token)
        return CKR_DEVICE_ERROR;
    if (token)
        return cv_object_of_token(session->slot, result.reference,
                                  result.private ? CV_PRIVATE : CV_PUBLIC, handle);
    return cv_object_of_session(session->slot, session->handle, &result, handle);
}

static CK_RV create_object(struct cv_session *session, const CK_ATTRIBUTE *template,
                           CK_ULONG count, CK_OBJECT_HANDLE *handle)
{
    struct cv_reply reply = {0};
    cv_writer *args = &session->args;
    CK_RV value = handle == NULL ? CKR_ARGUMENTS_BAD : cv_template_check(template, count);
    if (value != CKR_OK)
        return value;
    bool token = cv_template_flag(template, count, CKA_TOKEN, false);
    value = cv_check_write(session, token);
    if (value != CKR_OK)
        return value;
    cv_write_array(args, 3);
    cv_write_bin(args, session->slot->keyring, CV_ID_BYTES);
    value = cv_template_put(template, count, args);
    if (value == CKR_OK)
        value = cv_put_write_if(session, token, args);
    if (value == CKR_OK)
        value = cv_call_and_reply(session, CV_CREATE_OBJECT, &reply);
    if (value == CKR_OK)
        value = cv_keep_object(session, token, &reply.result, handle);
    cv_reply_free(&reply);
    return value;
}

/* Takes an object that may be used now; to be released in any case. */
static CK_RV take_object(struct cv_session *session, CK_OBJECT_HANDLE handle,
                         struct cv_object **object)
{
    CK_RV value = cv_object_take(session->slot, handle, object);
    return value == CKR_OK ? cv_object_check_login(*object) : value;
}

static CK_RV copy(struct cv_session *session, struct cv_object *object,
                  const CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *handle)
{
    struct cv_reply reply = {0};
    cv_writer *args = &session->args;
    bool token = cv_template_flag(template, count, CKA_TOKEN, object->session == 0);
    CK_RV value = cv_check_write(session, token);
    if (value == CKR_OK)
        value = cv_object_put_request(object, 4, args);
    if (value == CKR_OK)
        value = cv_template_put(template, count, args);
    if (value == CKR_OK)
        value = cv_put_write_if(session, token, args);
    if (value == CKR_OK)
        value = cv_call_and_reply(session, CV_COPY_OBJECT, &reply);
    if (value == CKR_OK)
        value = cv_keep_object(session, token, &reply.result, handle);
    cv_reply_free(&reply);
    return value;
}

static CK_RV copy_object(struct cv_session *session, CK_OBJECT_HANDLE handle,
                         const CK_ATTRIBUTE *template, CK_ULONG count,
                         CK_OBJECT_HANDLE *new_handle)
{
    struct cv_object *object = NULL;
    CK_RV value = new_handle == NULL ? CKR_ARGUMENTS_BAD : cv_template_check(template, count);
    if (value == CKR_OK)
        value = take_object(session, handle, &object);
    if (value == CKR_OK)
        value = copy(session, object, template, count, new_handle);
    cv_object_release(object);
    return value;
}

static CK_RV destroy_on_token(struct cv_session *session, struct cv_object *object)
{
    struct cv_reply reply = {0};
    CK_RV value = cv_check_write(session, true);
    if (value == CKR_OK)
        value = cv_object_put_request(object, 3, &session->args);
    if (value == CKR_OK)
        value = cv_put_write_if(session, true, &session->args);
    if (value == CKR_OK)
        value = cv_call_and_reply(session, CV_DESTROY_OBJECT, &reply);
    atomic_fetch_add(&session->slot->changes, 1);
    if (value == CKR_OK)
        cv_object_remove(object);
    cv_reply_free(&reply);
    return value;
}

static CK_RV destroy_object(struct cv_session *session, CK_OBJECT_HANDLE handle)
{
    struct cv_object *object = NULL;
    CK_RV value = take_object(session, handle, &object);
    if (value == CKR_OK && object->session == 0) {
        value = destroy_on_token(session, object);
    } else if (value == CKR_OK) {
        if (cv_object_flag(object, CKA_DESTROYABLE, true))
            cv_session_objects_drop(object);
        else
            value = CKR_ACTION_PROHIBITED;
    }
    cv_object_release(object);
    return value;
}

static CK_RV get_object_size(struct cv_session *session, CK_OBJECT_HANDLE handle, CK_ULONG *size)
{
    struct cv_reply reply = {0};
    struct cv_object *object = NULL;
    CK_RV value = size == NULL ? CKR_ARGUMENTS_BAD : take_object(session, handle, &object);
    if (value == CKR_OK)
        value = cv_object_put_request(object, 2, &session->args);
    if (value == CKR_OK)
        value = cv_call_and_reply(session, CV_OBJECT_SIZE, &reply);
    if (value == CKR_OK) {
        *size = cv_read_uint(&reply.result);
        value = reply.result.broken ? CKR_DEVICE_ERROR : CKR_OK;
    }
    cv_reply_free(&reply);
    cv_object_release(object);
    return value;
}

static CK_RV set_attributes(struct cv_session *session, struct cv_object *object,
                            const CK_ATTRIBUTE *template, CK_ULONG count)
{
    struct cv_reply reply = {0};
    struct cv_object_result result;
    bool token = object->session == 0;
    CK_RV value = cv_check_write(session, token);
    if (value == CKR_OK)
        value = cv_object_put_request(object, 4, &session->args);
    if (value == CKR_OK)
        value = cv_template_put(template, count, &session->args);
    if (value == CKR_OK)
        value = cv_put_write_if(session, token, &session->args);
    if (value == CKR_OK)
        value = cv_call_and_reply(session, CV_SET_ATTRIBUTES, &reply);
    atomic_fetch_add(&session->slot->changes, 1);
    if (value == CKR_OK && token)
        cv_object_forget_key_info(object);
    else if (value == CKR_OK)
        value = cv_read_object_result(&reply.result, &result) ? cv_object_replace(object, &result)
                                                              : CKR_DEVICE_ERROR;
    cv_reply_free(&reply);
    return value;
}

static CK_RV set_attribute_value(struct cv_session *session, CK_OBJECT_HANDLE handle,
                                 const CK_ATTRIBUTE *template, CK_ULONG count)
{
    struct cv_object *object = NULL;
    CK_RV value = template == NULL ? CKR_ARGUMENTS_BAD : cv_template_check(template, count);
    if (value == CKR_OK)
        value = take_object(session, handle, &object);
    if (value == CKR_OK)
        value = set_attributes(session, object, template, count);
    cv_object_release(object);
    return value;
}

CK_RV C_CreateObject(CK_SESSION_HANDLE handle, CK_ATTRIBUTE_PTR template, CK_ULONG count,
                     CK_OBJECT_HANDLE_PTR object)
{
    CV_IN_SESSION(handle, create_object(session, template, count, object));
}

CK_RV C_CopyObject(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR template,
                   CK_ULONG count, CK_OBJECT_HANDLE_PTR new_object)
{
    CV_IN_SESSION(handle, copy_object(session, object, template, count, new_object));
}

CK_RV C_DestroyObject(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object)
{
    CV_IN_SESSION(handle, destroy_object(session, object));
}

CK_RV C_GetObjectSize(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object, CK_ULONG_PTR size)
{
    CV_IN_SESSION(handle, get_object_size(session, object, size));
}

CK_RV C_SetAttributeValue(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object,
                          CK_ATTRIBUTE_PTR template, CK_ULONG count)
{
    CV_IN_SESSION(handle, set_attribute_value(session, object, template, count));
}
