/* sign.c - signing, MACs and their verification (PKCS#11 3.0, sections 5.13 and 5.15). */
#include "operation.h"
#include "state.h"

/* Lengths beyond this are no signature's; it keeps sums of lengths from overflowing. */
#define SIGNATURE_MAX 65536

struct text {
    const uint8_t *bytes;
    size_t length;
};

static size_t signature_length(const struct cv_operation *operation)
{
    return cv_mechanism_result_length(operation->mechanism, &operation->facts,
                                      operation->info.size_bits, false, 0);
}

static CK_RV hash_whole(struct cv_operation *operation, struct text *data, uint8_t *digest)
{
    CK_RV value = cv_digest_begin(&operation->hash, operation->mechanism->digest);
    if (value == CKR_OK)
        value = cv_digest_add(operation->hash, data->bytes, data->length);
    if (value == CKR_OK)
        value = cv_digest_end(operation->hash, digest);
    *data = (struct text){digest, cv_digest_length(operation->mechanism->digest)};
    return value;
}

static CK_RV hash_parts(struct cv_operation *operation, struct text *data, uint8_t *digest)
{
    CK_RV value = CKR_OK;
    if (!operation->multi_part) /* no part ever came: the digest of nothing */
        value = cv_digest_begin(&operation->hash, operation->mechanism->digest);
    if (value == CKR_OK)
        value = cv_digest_end(operation->hash, digest);
    *data = (struct text){digest, cv_digest_length(operation->mechanism->digest)};
    return value;
}

/* What goes out for the data: themselves, or their digest. */
static CK_RV prepare(struct cv_operation *operation, bool whole, struct text *data,
                     uint8_t *digest)
{
    if (operation->mechanism->parts == CV_HASH)
        return whole ? hash_whole(operation, data, digest) : hash_parts(operation, data, digest);
    if (!whole)
        *data = (struct text){operation->collected.bytes, operation->collected.length};
    return CKR_OK;
}

static struct cv_use use_of(const struct cv_operation *operation, unsigned number,
                            struct text data)
{
    return (struct cv_use){.operation = number,
                           .mechanism = operation->mechanism->type,
                           .parameter = &operation->parameter,
                           .data = data.bytes,
                           .length = data.length,
                           .prehashed = operation->mechanism->parts == CV_HASH};
}

CK_RV cv_sign_add(struct cv_operation *operation, const uint8_t *part, CK_ULONG length)
{
    CK_RV value = cv_operation_check(operation, false);
    if (value != CKR_OK)
        return value;
    if (cv_bad_input(part, length))
        return cv_operation_end(operation, CKR_ARGUMENTS_BAD);
    if (operation->mechanism->parts == CV_HASH) {
        if (!operation->multi_part)
            value = cv_digest_begin(&operation->hash, operation->mechanism->digest);
        if (value == CKR_OK)
            value = cv_digest_add(operation->hash, part, length);
    } else {
        value = cv_operation_collect(operation, part, length);
    }
    operation->multi_part = true;
    return value == CKR_OK ? CKR_OK : cv_operation_end(operation, value);
}

static CK_RV sign_now(struct cv_session *session, bool whole, struct text data, uint8_t *out,
                      CK_ULONG *out_length)
{
    struct cv_operation *operation = &session->sign;
    uint8_t digest[CV_DIGEST_MAX];
    CK_RV value = prepare(operation, whole, &data, digest);
    if (value != CKR_OK)
        return value;
    struct cv_use use = use_of(operation, CV_SIGN, data);
    return cv_use_key_and_give(session, operation, &use, out, out_length);
}

static CK_RV sign(struct cv_session *session, bool whole, struct text data, uint8_t *out,
                  CK_ULONG *out_length)
{
    struct cv_operation *operation = &session->sign;
    CK_RV value = cv_operation_check(operation, whole);
    if (value == CKR_OPERATION_NOT_INITIALIZED)
        return value;
    if (value == CKR_OK && (out_length == NULL || cv_bad_input(data.bytes, data.length)))
        value = CKR_ARGUMENTS_BAD;
    if (value != CKR_OK)
        return cv_operation_end(operation, value);
    /* Known beforehand, so asking for it costs no round trip and takes nothing away. */
    if (cv_only_length(signature_length(operation), out, out_length, &value))
        return value;
    value = sign_now(session, whole, data, out, out_length);
    /* A signature longer than foreseen: the hash is spent, so a second try could not succeed. */
    if (value == CKR_BUFFER_TOO_SMALL && !whole)
        value = CKR_FUNCTION_FAILED;
    return cv_operation_end_unless(operation, value, false);
}

static CK_RV verify(struct cv_session *session, bool whole, struct text data,
                    struct text signature)
{
    struct cv_operation *operation = &session->verify;
    CK_RV value = cv_operation_check(operation, whole);
    if (value == CKR_OPERATION_NOT_INITIALIZED)
        return value;
    if (value == CKR_OK && (cv_bad_input(data.bytes, data.length) || signature.bytes == NULL))
        value = CKR_ARGUMENTS_BAD;
    if (value == CKR_OK && signature.length > SIGNATURE_MAX)
        value = CKR_SIGNATURE_LEN_RANGE;
    uint8_t digest[CV_DIGEST_MAX];
    struct cv_reply reply = {0};
    if (value == CKR_OK)
        value = prepare(operation, whole, &data, digest);
    if (value == CKR_OK) {
        struct cv_use use = use_of(operation, CV_VERIFY, data);
        use.signature = signature.bytes;
        use.signature_length = signature.length;
        value = cv_use_key(session, operation, &use, &reply);
    }
    cv_reply_free(&reply);
    return cv_operation_end(operation, value);
}

CK_RV C_SignInit(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key)
{
    CV_IN_SESSION(handle, cv_operation_begin(session, &session->sign, CKF_SIGN, mechanism, key));
}

CK_RV C_Sign(CK_SESSION_HANDLE handle, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR signature,
             CK_ULONG_PTR signature_length)
{
    CV_IN_SESSION(handle, sign(session, true, (struct text){data, length}, signature,
                               signature_length));
}

CK_RV C_SignUpdate(CK_SESSION_HANDLE handle, CK_BYTE_PTR part, CK_ULONG length)
{
    CV_IN_SESSION(handle, cv_sign_add(&session->sign, part, length));
}

CK_RV C_SignFinal(CK_SESSION_HANDLE handle, CK_BYTE_PTR signature, CK_ULONG_PTR signature_length)
{
    CV_IN_SESSION(handle, sign(session, false, (struct text){NULL, 0}, signature,
                               signature_length));
}

CK_RV C_VerifyInit(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key)
{
    CV_IN_SESSION(handle,
                  cv_operation_begin(session, &session->verify, CKF_VERIFY, mechanism, key));
}

CK_RV C_Verify(CK_SESSION_HANDLE handle, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR signature,
               CK_ULONG signature_length)
{
    CV_IN_SESSION(handle, verify(session, true, (struct text){data, length},
                                 (struct text){signature, signature_length}));
}

CK_RV C_VerifyUpdate(CK_SESSION_HANDLE handle, CK_BYTE_PTR part, CK_ULONG length)
{
    CV_IN_SESSION(handle, cv_sign_add(&session->verify, part, length));
}

CK_RV C_VerifyFinal(CK_SESSION_HANDLE handle, CK_BYTE_PTR signature, CK_ULONG signature_length)
{
    CV_IN_SESSION(handle, verify(session, false, (struct text){NULL, 0},
                                 (struct text){signature, signature_length}));
}
