/* sign.c - signing, MACs and their verification (PKCS#11 3.2, sections 5.13 and 5.15). */
#include "operation.h"
#include "state.h"

static size_t signature_length(const struct cv_operation *operation)
{
    return cv_mechanism_result_length(operation->mechanism, &operation->facts,
                                      operation->info.size_bits, false, 0);
}

static CK_RV hash_whole(struct cv_operation *operation, struct cv_text *data, uint8_t *digest)
{
    CK_RV value = cv_digest_begin(&operation->hash, operation->mechanism->digest);
    if (value == CKR_OK)
        value = cv_digest_add(operation->hash, data->bytes, data->length);
    if (value == CKR_OK)
        value = cv_digest_end(operation->hash, digest);
    *data = (struct cv_text){digest, cv_digest_length(operation->mechanism->digest)};
    return value;
}

static CK_RV hash_parts(struct cv_operation *operation, struct cv_text *data, uint8_t *digest)
{
    CK_RV value = CKR_OK;
    if (!operation->multi_part) /* no part ever came: the digest of nothing */
        value = cv_digest_begin(&operation->hash, operation->mechanism->digest);
    if (value == CKR_OK)
        value = cv_digest_end(operation->hash, digest);
    *data = (struct cv_text){digest, cv_digest_length(operation->mechanism->digest)};
    return value;
}

/* What goes out for the data: themselves, or their digest. */
static CK_RV prepare(struct cv_operation *operation, bool whole, struct cv_text *data,
                     uint8_t *digest)
{
    if (operation->mechanism->parts == CV_HASH)
        return whole ? hash_whole(operation, data, digest) : hash_parts(operation, data, digest);
    if (!whole)
        *data = (struct cv_text){operation->collected.bytes, operation->collected.length};
    return CKR_OK;
}

static struct cv_use use_of(const struct cv_operation *operation, unsigned number,
                            struct cv_text data)
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

static CK_RV sign_now(struct cv_session *session, struct cv_operation *operation, bool whole,
                      struct cv_text data, struct cv_place out)
{
    uint8_t digest[CV_DIGEST_MAX];
    CK_RV value = prepare(operation, whole, &data, digest);
    if (value != CKR_OK)
        return value;
    struct cv_use use = use_of(operation, CV_SIGN, data);
    return cv_use_key_and_give(session, operation, &use, out.bytes, out.length);
}

CK_RV cv_sign(struct cv_session *session, struct cv_operation *operation, bool whole,
              struct cv_text data, struct cv_place out)
{
    CK_RV value = cv_operation_check(operation, whole);
    if (value == CKR_OPERATION_NOT_INITIALIZED)
        return value;
    if (value == CKR_OK && (out.length == NULL || cv_bad_input(data.bytes, data.length)))
        value = CKR_ARGUMENTS_BAD;
    if (value != CKR_OK)
        return cv_operation_end(operation, value);
    /* Known beforehand, so asking for it costs no round trip and takes nothing away. */
    if (cv_only_length(signature_length(operation), out.bytes, out.length, &value))
        return value;
    value = sign_now(session, operation, whole, data, out);
    /* A signature longer than foreseen: the hash is spent, so a second try could not succeed. */
    if (value == CKR_BUFFER_TOO_SMALL && !whole)
        value = CKR_FUNCTION_FAILED;
    return cv_operation_end_unless(operation, value, false);
}

CK_RV cv_verify(struct cv_session *session, struct cv_operation *operation, bool whole,
                struct cv_text data, struct cv_text signature)
{
    CK_RV value = cv_operation_check(operation, whole);
    if (value == CKR_OPERATION_NOT_INITIALIZED)
        return value;
    if (value == CKR_OK && (cv_bad_input(data.bytes, data.length) || signature.bytes == NULL))
        value = CKR_ARGUMENTS_BAD;
    if (value == CKR_OK && signature.length > CV_SIGNATURE_MAX)
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

/* C_VerifyInit's and C_VerifySignatureInit's operations are one kind, but not one another's. */
static CK_RV check_bound(const struct cv_operation *operation, bool bound)
{
    return operation->bound == bound ? CKR_OK : CKR_OPERATION_NOT_INITIALIZED;
}

static CK_RV verify(struct cv_session *session, bool whole, struct cv_text data,
                    struct cv_text signature)
{
    CK_RV value = check_bound(&session->verify, false);
    return value == CKR_OK ? cv_verify(session, &session->verify, whole, data, signature) : value;
}

static CK_RV verify_add(struct cv_operation *operation, bool bound, const uint8_t *part,
                        CK_ULONG length)
{
    CK_RV value = check_bound(operation, bound);
    return value == CKR_OK ? cv_sign_add(operation, part, length) : value;
}

static CK_RV verify_signature_init(struct cv_session *session, const CK_MECHANISM *mechanism,
                                   CK_OBJECT_HANDLE key, struct cv_text signature)
{
    struct cv_operation *operation = &session->verify;
    if (mechanism != NULL && operation->mechanism == NULL && signature.bytes == NULL)
        return CKR_ARGUMENTS_BAD;
    CK_RV value = cv_operation_begin(session, operation, CKF_VERIFY, mechanism, key);
    if (value != CKR_OK || operation->mechanism == NULL)
        return value;
    operation->bound = true;
    if (signature.length > CV_SIGNATURE_MAX)
        return cv_operation_end(operation, CKR_SIGNATURE_LEN_RANGE);
    cv_write_raw(&operation->signature, signature.bytes, signature.length);
    return operation->signature.failed ? cv_operation_end(operation, CKR_HOST_MEMORY) : CKR_OK;
}

static CK_RV verify_signature(struct cv_session *session, bool whole, struct cv_text data)
{
    struct cv_operation *operation = &session->verify;
    CK_RV value = check_bound(operation, true);
    /* A signature of no bytes has never had memory of its own. */
    const uint8_t *bytes = operation->signature.length > 0 ? operation->signature.bytes
                                                           : (const uint8_t *)"";
    struct cv_text signature = {bytes, operation->signature.length};
    return value == CKR_OK ? cv_verify(session, operation, whole, data, signature) : value;
}

CK_RV C_SignInit(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key)
{
    CV_IN_SESSION(handle, cv_operation_begin(session, &session->sign, CKF_SIGN, mechanism, key));
}

CK_RV C_Sign(CK_SESSION_HANDLE handle, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR signature,
             CK_ULONG_PTR signature_length)
{
    CV_IN_SESSION(handle, cv_sign(session, &session->sign, true, (struct cv_text){data, length},
                                  (struct cv_place){signature, signature_length}));
}

CK_RV C_SignUpdate(CK_SESSION_HANDLE handle, CK_BYTE_PTR part, CK_ULONG length)
{
    CV_IN_SESSION(handle, cv_sign_add(&session->sign, part, length));
}

CK_RV C_SignFinal(CK_SESSION_HANDLE handle, CK_BYTE_PTR signature, CK_ULONG_PTR signature_length)
{
    CV_IN_SESSION(handle, cv_sign(session, &session->sign, false, (struct cv_text){NULL, 0},
                                  (struct cv_place){signature, signature_length}));
}

CK_RV C_VerifyInit(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key)
{
    CV_IN_SESSION(handle,
                  cv_operation_begin(session, &session->verify, CKF_VERIFY, mechanism, key));
}

CK_RV C_Verify(CK_SESSION_HANDLE handle, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR signature,
               CK_ULONG signature_length)
{
    CV_IN_SESSION(handle, verify(session, true, (struct cv_text){data, length},
                                 (struct cv_text){signature, signature_length}));
}

CK_RV C_VerifyUpdate(CK_SESSION_HANDLE handle, CK_BYTE_PTR part, CK_ULONG length)
{
    CV_IN_SESSION(handle, verify_add(&session->verify, false, part, length));
}

CK_RV C_VerifyFinal(CK_SESSION_HANDLE handle, CK_BYTE_PTR signature, CK_ULONG signature_length)
{
    CV_IN_SESSION(handle, verify(session, false, (struct cv_text){NULL, 0},
                                 (struct cv_text){signature, signature_length}));
}

CK_RV C_VerifySignatureInit(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism,
                            CK_OBJECT_HANDLE key, CK_BYTE_PTR signature, CK_ULONG signature_length)
{
    CV_IN_SESSION(handle, verify_signature_init(session, mechanism, key,
                                                (struct cv_text){signature, signature_length}));
}

CK_RV C_VerifySignature(CK_SESSION_HANDLE handle, CK_BYTE_PTR data, CK_ULONG length)
{
    CV_IN_SESSION(handle, verify_signature(session, true, (struct cv_text){data, length}));
}

CK_RV C_VerifySignatureUpdate(CK_SESSION_HANDLE handle, CK_BYTE_PTR part, CK_ULONG length)
{
    CV_IN_SESSION(handle, verify_add(&session->verify, true, part, length));
}

CK_RV C_VerifySignatureFinal(CK_SESSION_HANDLE handle)
{
    CV_IN_SESSION(handle, verify_signature(session, false, (struct cv_text){NULL, 0}));
}
