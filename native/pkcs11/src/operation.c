/* operation.c - see operation.h. */
#include "operation.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

static void empty(cv_writer *writer)
{
    cv_writer_clear(writer, CV_KEPT_BUFFER);
}

CK_RV cv_operation_drop(struct cv_operation *operation, CK_RV value)
{
    operation->mechanism = NULL;
    cv_object_release(operation->key);
    operation->key = NULL;
    operation->multi_part = false;
    empty(&operation->parameter);
    empty(&operation->context);
    empty(&operation->collected);
    OPENSSL_cleanse(operation->pending, sizeof operation->pending);
    operation->pending_length = 0;
    operation->counter_spent = false;
    operation->bound = false;
    empty(&operation->signature);
    operation->of_messages = false;
    return value;
}

CK_RV cv_operation_finish(struct cv_operation *operation)
{
    return operation->mechanism == NULL ? CKR_OPERATION_NOT_INITIALIZED
                                        : cv_operation_drop(operation, CKR_OK);
}

CK_RV cv_operation_end(struct cv_operation *operation, CK_RV value)
{
    if (!operation->of_messages)
        return cv_operation_drop(operation, value);
    operation->multi_part = false;
    empty(&operation->context); /* the password was for one use */
    empty(&operation->collected);
    return value;
}

CK_RV cv_operation_end_unless(struct cv_operation *operation, CK_RV value, bool asked_length)
{
    if (value == CKR_BUFFER_TOO_SMALL || (value == CKR_OK && asked_length))
        return value;
    return cv_operation_end(operation, value);
}

void cv_operation_free(struct cv_operation *operation)
{
    cv_operation_drop(operation, CKR_OK);
    cv_writer_free(&operation->parameter);
    cv_writer_free(&operation->context);
    cv_writer_free(&operation->collected);
    cv_writer_free(&operation->signature);
    cv_digest_free(&operation->hash);
}

/* All of a session that use a key, and what C_SessionCancel calls them. */
static const struct {
    size_t place;
    CK_FLAGS flag;
} operations[] = {
#define ROW(name, flag) {offsetof(struct cv_session, name), flag}
    ROW(sign, CKF_SIGN),
    ROW(verify, CKF_VERIFY),
    ROW(encrypt, CKF_ENCRYPT),
    ROW(decrypt, CKF_DECRYPT),
    ROW(sign_recover, CKF_SIGN_RECOVER),
    ROW(verify_recover, CKF_VERIFY_RECOVER),
    ROW(message_sign, CKF_MESSAGE_SIGN),
    ROW(message_verify, CKF_MESSAGE_VERIFY),
    ROW(message_encrypt, CKF_MESSAGE_ENCRYPT),
    ROW(message_decrypt, CKF_MESSAGE_DECRYPT),
#undef ROW
};
#define OPERATIONS (sizeof operations / sizeof operations[0])

static struct cv_operation *operation_at(struct cv_session *session, size_t index)
{
    return (struct cv_operation *)((char *)session + operations[index].place);
}

bool cv_operations_use_keys(struct cv_session *session)
{
    for (size_t i = 0; i < OPERATIONS; i++)
        if (operation_at(session, i)->mechanism != NULL)
            return true;
    return false;
}

void cv_operations_end(struct cv_session *session, CK_FLAGS flags)
{
    for (size_t i = 0; i < OPERATIONS; i++)
        if (flags & operations[i].flag)
            cv_operation_drop(operation_at(session, i), CKR_OK);
    if (flags & CKF_DIGEST)
        cv_digest_drop(session);
}

void cv_operations_reset(struct cv_session *session)
{
    for (size_t i = 0; i < OPERATIONS; i++)
        cv_operation_free(operation_at(session, i));
    cv_digest_drop(session);
    session->find.active = false;
    cv_delivered_end(session);
    free(session->find.handles);
    session->find.handles = NULL;
}

CK_RV cv_operation_check(const struct cv_operation *operation, bool single)
{
    if (operation->mechanism == NULL)
        return CKR_OPERATION_NOT_INITIALIZED;
    return single && operation->multi_part ? CKR_OPERATION_ACTIVE : CKR_OK;
}

static CK_RV judge_key(const struct cv_operation *operation, const struct cv_mechanism *row,
                       CK_FLAGS usage)
{
    if (!cv_mechanism_fits(row, operation->info.key_type))
        return CKR_KEY_TYPE_INCONSISTENT;
    if (!(operation->info.usage & usage))
        return CKR_KEY_FUNCTION_NOT_PERMITTED;
    return cv_object_refusal(operation->key, row->type, usage);
}

/* What is remembered of a key may permit; only a fresh answer may forbid, since somebody else
 * may have changed the key. */
static CK_RV check_key(struct cv_operation *operation, const struct cv_mechanism *row,
                       CK_FLAGS usage)
{
    CK_RV value = cv_object_check_login(operation->key);
    if (value == CKR_OK)
        value = cv_object_learn_key(operation->key, false, &operation->info);
    if (value == CKR_OK && judge_key(operation, row, usage) != CKR_OK) {
        value = cv_object_learn_key(operation->key, true, &operation->info);
        if (value == CKR_OK)
            value = judge_key(operation, row, usage);
    }
    return value == CKR_OBJECT_HANDLE_INVALID ? CKR_KEY_HANDLE_INVALID : value;
}

CK_RV cv_take_parameter(struct cv_operation *operation, const struct cv_mechanism *row,
                        const CK_MECHANISM *mechanism)
{
    return cv_mechanism_put_parameter(row, mechanism, &operation->parameter, &operation->facts);
}

CK_RV cv_operation_begin(struct cv_session *session, struct cv_operation *operation,
                         CK_FLAGS usage, const CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    return cv_operation_begin_with(session, operation, usage, mechanism, key, cv_take_parameter);
}

CK_RV cv_operation_begin_with(struct cv_session *session, struct cv_operation *operation,
                              CK_FLAGS usage, const CK_MECHANISM *mechanism,
                              CK_OBJECT_HANDLE key, cv_parameter_taker *take)
{
    if (mechanism == NULL)
        return operation->mechanism == NULL ? CKR_ARGUMENTS_BAD
                                            : cv_operation_drop(operation, CKR_OK);
    if (operation->mechanism != NULL)
        return CKR_OPERATION_ACTIVE;
    const struct cv_mechanism *row = cv_mechanism_find(mechanism->mechanism);
    if (row == NULL || !(row->usage & usage))
        return CKR_MECHANISM_INVALID;
    if (cv_object_take(session->slot, key, &operation->key) != CKR_OK)
        return CKR_KEY_HANDLE_INVALID;
    CK_RV value = take(operation, row, mechanism);
    if (value == CKR_OK)
        value = check_key(operation, row, usage);
    if (value != CKR_OK)
        return cv_operation_end(operation, value);
    operation->mechanism = row;
    return CKR_OK;
}

CK_RV cv_message_begin(struct cv_session *session, struct cv_operation *operation, CK_FLAGS usage,
                       const CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key,
                       cv_parameter_taker *take)
{
    CK_RV value = cv_operation_begin_with(session, operation, usage, mechanism, key, take);
    operation->of_messages = operation->mechanism != NULL;
    return value;
}

CK_RV cv_operation_collect(struct cv_operation *operation, const uint8_t *data, size_t length)
{
    if (length > CV_DATA_MAX || operation->collected.length + length > CV_DATA_MAX)
        return CKR_DATA_LEN_RANGE;
    cv_write_raw(&operation->collected, data, length);
    return operation->collected.failed ? CKR_HOST_MEMORY : CKR_OK;
}

/* Is the use one that asks for the password each time? */
static bool needs_context(const struct cv_operation *operation, unsigned number)
{
    return operation->info.always_authenticate &&
           (number == CV_SIGN || number == CV_SIGN_RECOVER || number == CV_DECRYPT);
}

static size_t elements(unsigned operation, bool context)
{
    if (context)
        return 8;
    return operation == CV_VERIFY ? 7 : operation == CV_SIGN ? 6 : 5;
}

CK_RV cv_use_key(struct cv_session *session, struct cv_operation *operation,
                 const struct cv_use *use, struct cv_reply *reply)
{
    cv_writer *args = &session->args;
    cv_writer_clear(args, CV_WIRE_MAX_FRAME); /* it may be filled several times in one call */
    memset(reply, 0, sizeof *reply);
    if (use->length > CV_DATA_MAX)
        return CKR_DATA_LEN_RANGE;
    bool context = needs_context(operation, use->operation);
    if (context && operation->context.length == 0)
        return CKR_USER_NOT_LOGGED_IN;
    CK_RV value = cv_object_put_request(operation->key, elements(use->operation, context), args);
    if (value == CKR_OBJECT_HANDLE_INVALID)
        return CKR_KEY_HANDLE_INVALID;
    if (context) {
        cv_write_uint(args, use->operation);
        cv_write_bin(args, operation->context.bytes, operation->context.length);
    }
    cv_write_uint(args, use->mechanism);
    cv_write_raw(args, use->parameter->bytes, use->parameter->length);
    cv_write_bin(args, use->data, use->length);
    if (use->operation == CV_VERIFY)
        cv_write_bin(args, use->signature, use->signature_length);
    if (use->operation == CV_VERIFY || use->operation == CV_SIGN || context)
        cv_write_bool(args, use->prehashed);
    if (args->failed)
        return CKR_DATA_LEN_RANGE; /* with the key's blob it is too long for a frame */
    value = cv_slot_call(session->slot, context ? CV_USE_IN_CONTEXT : use->operation, args, reply);
    if (value == CKR_KEY_FUNCTION_NOT_PERMITTED || value == CKR_MECHANISM_INVALID ||
        value == CKR_KEY_SIZE_RANGE || value == CKR_CURVE_NOT_SUPPORTED)
        cv_object_forget_key_info(operation->key);
    return value == CKR_OBJECT_HANDLE_INVALID ? CKR_KEY_HANDLE_INVALID : value;
}

CK_RV cv_use_key_and_give(struct cv_session *session, struct cv_operation *operation,
                          const struct cv_use *use, uint8_t *out, CK_ULONG *out_length)
{
    struct cv_reply reply = {0};
    CK_RV value = cv_use_key(session, operation, use, &reply);
    if (value == CKR_OK) {
        size_t length;
        const uint8_t *result = cv_read_bin(&reply.result, &length);
        value = reply.result.broken ? CKR_DEVICE_ERROR : cv_give(result, length, out, out_length);
    }
    cv_reply_free(&reply);
    return value;
}

bool cv_only_length(size_t length, const uint8_t *out, CK_ULONG *out_length, CK_RV *value)
{
    *value = out == NULL ? CKR_OK : CKR_BUFFER_TOO_SMALL;
    if (out != NULL && *out_length >= length)
        return false;
    *out_length = length;
    return true;
}

CK_RV cv_give(const uint8_t *result, size_t length, uint8_t *out, CK_ULONG *out_length)
{
    CK_RV value;
    if (cv_only_length(length, out, out_length, &value))
        return value;
    if (length > 0)
        memcpy(out, result, length);
    *out_length = length;
    return CKR_OK;
}
