/* random.c - random numbers (PKCS#11 3.0, section 5.19): a worker's, not this process's. */
#include <string.h>

#include "operation.h"
#include "state.h"

#define AT_ONCE 65536

static CK_RV ask(struct cv_session *session, uint8_t *out, size_t length)
{
    struct cv_reply reply = {0};
    cv_writer *args = &session->args;
    cv_writer_clear(args, CV_KEPT_BUFFER);
    cv_write_array(args, 1);
    cv_write_uint(args, length);
    CK_RV value = args->failed ? CKR_HOST_MEMORY
                               : cv_call(session->slot->cluster, CV_RANDOM, NULL, 0, args,
                                         CV_RETRY_ALWAYS, &reply);
    if (value == CKR_OK) {
        size_t given;
        const uint8_t *bytes = cv_read_bin(&reply.result, &given);
        if (reply.result.broken || given != length)
            value = CKR_DEVICE_ERROR;
        else
            memcpy(out, bytes, length);
    }
    cv_reply_free(&reply);
    return value;
}

static CK_RV generate_random(struct cv_session *session, uint8_t *out, CK_ULONG length)
{
    CK_RV value = CKR_OK;
    if (cv_bad_input(out, length))
        return CKR_ARGUMENTS_BAD;
    while (length > 0 && value == CKR_OK) {
        size_t now = length < AT_ONCE ? length : AT_ONCE;
        value = ask(session, out, now);
        out += now;
        length -= now;
    }
    return value;
}

CK_RV C_SeedRandom(CK_SESSION_HANDLE handle, CK_BYTE_PTR seed, CK_ULONG length)
{
    (void)seed;
    (void)length;
    CV_IN_SESSION(handle, CKR_RANDOM_SEED_NOT_SUPPORTED);
}

CK_RV C_GenerateRandom(CK_SESSION_HANDLE handle, CK_BYTE_PTR out, CK_ULONG length)
{
    CV_IN_SESSION(handle, generate_random(session, out, length));
}
