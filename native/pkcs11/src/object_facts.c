/*
 * object_facts.c - what is remembered of an object, and what it takes to use it.
 *
 * KEY_INFO is remembered for each handle, so that C_xInit needs no worker.  It may have been
 * changed by somebody else: what it permits is checked again by the worker anyway, and what it
 * forbids is believed only when it is fresh (operation.c).
 */
#include <stdlib.h>

#include "operations.h"
#include "state.h"
#include "templates.h"

#define KEY_INFO_FIELDS 6 /* before the refusals */
#define MOST_REFUSALS 256

bool cv_object_is_private(struct cv_object *object)
{
    cv_object_lock(object);
    bool private = object->privacy == CV_PRIVATE;
    cv_object_unlock(object);
    return private;
}

/* One attribute of a session object; what is given points into it.  Under the object's lock. */
static bool find_attribute(struct cv_object *object, CK_ATTRIBUTE_TYPE type, const uint8_t **value,
                           size_t *length)
{
    cv_reader reader;
    cv_reader_init(&reader, object->attributes, object->attributes_length);
    size_t count = cv_read_array(&reader);
    for (size_t i = 0; i < count && !reader.broken; i++) {
        if (cv_read_array(&reader) != 2)
            return false;
        bool wanted = cv_read_uint(&reader) == type;
        *value = cv_read_bin(&reader, length);
        if (wanted && !reader.broken)
            return true;
    }
    return false;
}

bool cv_object_flag(struct cv_object *object, CK_ATTRIBUTE_TYPE type, bool otherwise)
{
    const uint8_t *value;
    size_t length;
    cv_object_lock(object);
    if (find_attribute(object, type, &value, &length) && length == 1)
        otherwise = *value != CK_FALSE;
    cv_object_unlock(object);
    return otherwise;
}

bool cv_object_give_attribute(struct cv_object *object, CK_ATTRIBUTE *wanted, CK_RV *answer)
{
    const uint8_t *value;
    size_t length;
    cv_object_lock(object);
    bool found = find_attribute(object, wanted->type, &value, &length);
    if (found)
        *answer = cv_attribute_give(wanted, value, length);
    cv_object_unlock(object);
    return found;
}

bool cv_object_matches(struct cv_object *object, const CK_ATTRIBUTE *template, CK_ULONG count)
{
    const uint8_t *value;
    size_t length;
    cv_object_lock(object);
    bool matches = !object->gone;
    for (CK_ULONG i = 0; i < count && matches; i++)
        matches = find_attribute(object, template[i].type, &value, &length) &&
                  cv_attribute_equals(&template[i], value, length);
    cv_object_unlock(object);
    return matches;
}

CK_RV cv_object_put_request(struct cv_object *object, size_t elements, cv_writer *args)
{
    cv_write_array(args, elements);
    cv_write_bin(args, object->slot->keyring, CV_ID_BYTES);
    return cv_object_put_reference(object, args);
}

/* Asks whether a token object is private: 1, 0, or an error. */
static CK_RV ask_privacy(struct cv_object *object, enum cv_privacy *privacy)
{
    struct cv_reply reply = {0};
    cv_writer args;
    cv_writer_init(&args);
    CK_RV value = cv_object_put_request(object, 3, &args);
    cv_write_array(&args, 1);
    cv_write_uint(&args, CKA_PRIVATE);
    if (value == CKR_OK)
        value = cv_slot_call(object->slot, CV_GET_ATTRIBUTES, &args, &reply);
    cv_writer_free(&args);
    if (value == CKR_OK) {
        size_t length = 0;
        const uint8_t *flag = NULL;
        if (cv_read_array(&reply.result) == 1 && cv_read_array(&reply.result) >= 3) {
            cv_read_uint(&reply.result);
            if (cv_read_uint(&reply.result) == CKR_OK)
                flag = cv_read_bin(&reply.result, &length);
        }
        *privacy = flag != NULL && length == 1 && *flag == CK_FALSE ? CV_PUBLIC : CV_PRIVATE;
    }
    cv_reply_free(&reply);
    return value;
}

CK_RV cv_object_check_login(struct cv_object *object)
{
    cv_object_lock(object);
    enum cv_privacy privacy = object->privacy;
    bool old = object->session == 0 && privacy != CV_PUBLIC &&
               object->generation != atomic_load(&object->slot->generation);
    cv_object_unlock(object);
    if (!old)
        return CKR_OK;
    if (privacy == CV_PRIVACY_UNKNOWN) {
        CK_RV value = ask_privacy(object, &privacy);
        if (value != CKR_OK)
            return value;
        cv_object_lock(object);
        object->privacy = privacy;
        cv_object_unlock(object);
    }
    return privacy == CV_PUBLIC ? CKR_OK : CKR_OBJECT_HANDLE_INVALID;
}

static bool recall_key(struct cv_object *object, struct cv_key_info *info)
{
    cv_object_lock(object);
    bool known = object->key_info_known;
    *info = object->key_info;
    cv_object_unlock(object);
    return known;
}

/* Of an older worker there are none. */
static bool read_refusals(cv_reader *result, size_t fields, struct cv_refusal **refusals,
                          size_t *count)
{
    *refusals = NULL;
    *count = fields > KEY_INFO_FIELDS ? cv_read_array(result) : 0;
    if (*count > MOST_REFUSALS || result->broken)
        return false;
    if (*count > 0 && (*refusals = calloc(*count, sizeof **refusals)) == NULL)
        return false;
    for (size_t i = 0; i < *count; i++) {
        struct cv_refusal *one = &(*refusals)[i];
        if (cv_read_array(result) != 3)
            result->broken = true;
        one->mechanism = cv_read_uint(result);
        one->usage = cv_read_uint(result);
        one->value = cv_read_uint(result);
        /* CKR_OK would be no refusal, and is what "none" is told by. */
        if (one->value == CKR_OK)
            result->broken = true;
    }
    return !result->broken;
}

CK_RV cv_object_refusal(struct cv_object *object, CK_MECHANISM_TYPE mechanism, CK_FLAGS usage)
{
    CK_RV value = CKR_OK;
    cv_object_lock(object);
    for (size_t i = 0; i < object->refusal_count && value == CKR_OK; i++)
        if (object->refusals[i].mechanism == mechanism && (object->refusals[i].usage & usage) != 0)
            value = object->refusals[i].value;
    cv_object_unlock(object);
    return value;
}

static void remember_key(struct cv_object *object, const struct cv_key_info *info, bool private,
                         struct cv_refusal *refusals, size_t refusal_count)
{
    cv_object_lock(object);
    free(object->refusals);
    object->refusals = refusals;
    object->refusal_count = refusal_count;
    object->key_info = *info;
    object->key_info_known = true;
    object->privacy = private ? CV_PRIVATE : CV_PUBLIC;
    cv_object_unlock(object);
}

void cv_object_forget_key_info(struct cv_object *object)
{
    cv_object_lock(object);
    object->key_info_known = false;
    cv_object_unlock(object);
}

CK_RV cv_object_learn_key(struct cv_object *object, bool fresh, struct cv_key_info *info)
{
    if (!fresh && recall_key(object, info))
        return CKR_OK;
    struct cv_reply reply = {0};
    cv_writer args;
    cv_writer_init(&args);
    CK_RV value = cv_object_put_request(object, 2, &args);
    if (value == CKR_OK)
        value = cv_slot_call(object->slot, CV_KEY_INFO, &args, &reply);
    cv_writer_free(&args);
    if (value == CKR_OK) {
        struct cv_refusal *refusals;
        size_t count, fields = cv_read_array(&reply.result);
        info->object_class = cv_read_uint(&reply.result);
        info->key_type = cv_read_uint(&reply.result);
        info->size_bits = cv_read_uint(&reply.result);
        info->usage = cv_read_uint(&reply.result);
        bool private = cv_read_bool(&reply.result);
        info->always_authenticate = cv_read_bool(&reply.result);
        bool read = read_refusals(&reply.result, fields, &refusals, &count);
        if (!read || info->size_bits > 8 * CV_ATTRIBUTE_MAX) {
            free(refusals);
            value = CKR_DEVICE_ERROR;
        } else {
            remember_key(object, info, private, refusals, count);
        }
    }
    cv_reply_free(&reply);
    return value == CKR_OBJECT_HANDLE_INVALID ? CKR_KEY_HANDLE_INVALID : value;
}
