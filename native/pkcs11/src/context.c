/*
 * context.c - C_Login as CKU_CONTEXT_SPECIFIC (PKCS#11 3.0, section 5.6.8): the password for one
 * use of a key with CKA_ALWAYS_AUTHENTICATE.
 *
 * What it brings belongs to the operation that was begun, and is spent by the request that ends
 * it; a request that is sent again, since no answer came, is the same use.
 */
#include "operation.h"
#include "state.h"

struct asking {
    struct cv_operation *operation;
    unsigned number;
};

/* The operation that waits for a password, or else one that may have it anew. */
static struct asking asking_operation(struct cv_session *session)
{
    const struct asking all[] = {{&session->sign, CV_SIGN},
                                 {&session->message_sign, CV_SIGN},
                                 {&session->decrypt, CV_DECRYPT},
                                 {&session->sign_recover, CV_SIGN_RECOVER}};
    struct asking found = {NULL, 0};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const struct cv_operation *operation = all[i].operation;
        if (operation->mechanism == NULL || !operation->info.always_authenticate)
            continue;
        if (operation->context.length == 0)
            return all[i];
        found = all[i];
    }
    return found;
}

static CK_RV keep(struct cv_operation *operation, cv_reader *result)
{
    size_t length;
    const uint8_t *context = cv_read_bin(result, &length);
    if (result->broken || length == 0)
        return CKR_DEVICE_ERROR;
    cv_writer_clear(&operation->context, CV_KEPT_BUFFER);
    cv_write_raw(&operation->context, context, length);
    return operation->context.failed ? CKR_HOST_MEMORY : CKR_OK;
}

CK_RV cv_context_login(struct cv_session *session, const uint8_t *pin, size_t length)
{
    struct asking asking = asking_operation(session);
    struct cv_reply reply = {0};
    uint8_t attempt[CV_ID_BYTES];
    cv_writer *args = &session->args;
    if (asking.operation == NULL)
        return CKR_OPERATION_NOT_INITIALIZED;
    CK_RV value = cv_random(attempt, sizeof attempt);
    if (value == CKR_OK)
        value = cv_object_put_request(asking.operation->key, 5, args);
    if (value == CKR_OK) {
        cv_write_uint(args, asking.number);
        cv_write_bin(args, pin, length);
        cv_write_bin(args, attempt, sizeof attempt);
        value = cv_slot_call(session->slot, CV_CONTEXT_LOGIN, args, &reply);
    }
    if (value == CKR_OK)
        value = keep(asking.operation, &reply.result);
    cv_reply_free(&reply);
    return value == CKR_OBJECT_HANDLE_INVALID ? CKR_KEY_HANDLE_INVALID : value;
}
