/* crypt.c - encryption and decryption (PKCS#11 3.0, sections 5.8 and 5.10). */
#include "chain.h"
#include "operation.h"
#include "state.h"

static const struct cv_direction encrypting = {CV_ENCRYPT, false, CKR_DATA_LEN_RANGE};
static const struct cv_direction decrypting = {CV_DECRYPT, true, CKR_ENCRYPTED_DATA_LEN_RANGE};

static struct cv_operation *operation_of(struct cv_session *session,
                                         const struct cv_direction *direction)
{
    return direction->decrypting ? &session->decrypt : &session->encrypt;
}

static size_t result_length(const struct cv_operation *operation,
                            const struct cv_direction *direction, size_t length)
{
    return cv_mechanism_result_length(operation->mechanism, &operation->facts,
                                      operation->info.size_bits, direction->decrypting, length);
}

/* Does the length of the result follow from that of the data? */
static bool is_exact(const struct cv_operation *operation, const struct cv_direction *direction)
{
    return !direction->decrypting || (operation->mechanism->length != CV_LENGTH_PADDED &&
                                      operation->mechanism->length != CV_LENGTH_WRAPPED &&
                                      operation->mechanism->length != CV_LENGTH_MODULUS);
}

static bool length_is_wrong(const struct cv_operation *operation,
                            const struct cv_direction *direction, size_t length)
{
    switch (operation->mechanism->parts) {
    case CV_CHAIN_ECB:
    case CV_CHAIN_CBC:
        return length % CV_BLOCK != 0;
    case CV_CHAIN_CBC_PAD:
        return direction->decrypting && (length == 0 || length % CV_BLOCK != 0);
    default:
        return operation->mechanism->length == CV_LENGTH_TAGGED && direction->decrypting &&
               length < operation->facts.result_bytes;
    }
}

/* Everything in one round trip. */
static CK_RV crypt_at_once(struct cv_session *session, const struct cv_direction *direction,
                           struct cv_text in, struct cv_place out)
{
    struct cv_operation *operation = operation_of(session, direction);
    struct cv_use use = {.operation = direction->operation,
                         .mechanism = operation->mechanism->type,
                         .parameter = &operation->parameter,
                         .data = in.bytes,
                         .length = in.length};
    CK_RV value = cv_use_key_and_give(session, operation, &use, out.bytes, out.length);
    return value == CKR_DATA_LEN_RANGE ? direction->length_error : value;
}

/* More than fits a frame, of a mechanism that can be chained. */
static CK_RV crypt_in_chunks(struct cv_session *session, const struct cv_direction *direction,
                             struct cv_text in, struct cv_place out)
{
    struct cv_operation *operation = operation_of(session, direction);
    size_t done = cv_chain_output(operation, direction, in.length);
    CK_RV value =
        cv_chain_update(session, operation, direction, in.bytes, in.length, out.bytes);
    if (value != CKR_OK)
        return value;
    CK_ULONG rest = *out.length - done;
    value = cv_chain_final(session, operation, direction, out.bytes + done, &rest);
    *out.length = done + rest;
    return value == CKR_BUFFER_TOO_SMALL ? CKR_FUNCTION_FAILED : value;
}

/* The whole of the data, be it from C_Encrypt or collected from parts. */
static CK_RV crypt_whole(struct cv_session *session, const struct cv_direction *direction,
                         struct cv_text in, struct cv_place out)
{
    struct cv_operation *operation = operation_of(session, direction);
    CK_RV value;
    bool chunks = cv_chains(operation) && in.length > CV_CHAIN_CHUNK;
    if (length_is_wrong(operation, direction, in.length))
        return direction->length_error;
    if (!chunks && in.length > CV_DATA_MAX)
        return direction->length_error;
    /* Who proved himself for one use must not spend it on a buffer that is too small. */
    bool once = operation->info.always_authenticate;
    if (out.bytes == NULL || is_exact(operation, direction) || chunks || once)
        if (cv_only_length(result_length(operation, direction, in.length), out.bytes, out.length,
                           &value))
            return value;
    return chunks ? crypt_in_chunks(session, direction, in, out)
                  : crypt_at_once(session, direction, in, out);
}

static CK_RV crypt_single(struct cv_session *session, const struct cv_direction *direction,
                          struct cv_text in, struct cv_place out)
{
    struct cv_operation *operation = operation_of(session, direction);
    CK_RV value = cv_operation_check(operation, true);
    if (value == CKR_OPERATION_NOT_INITIALIZED)
        return value;
    if (value == CKR_OK && (out.length == NULL || cv_bad_input(in.bytes, in.length)))
        value = CKR_ARGUMENTS_BAD;
    if (value == CKR_OK)
        value = crypt_whole(session, direction, in, out);
    return cv_operation_end_unless(operation, value, out.bytes == NULL);
}

static CK_RV crypt_update(struct cv_session *session, const struct cv_direction *direction,
                          struct cv_text part, struct cv_place out)
{
    struct cv_operation *operation = operation_of(session, direction);
    CK_RV value = cv_operation_check(operation, false);
    if (value != CKR_OK)
        return value;
    if (out.length == NULL || cv_bad_input(part.bytes, part.length))
        return cv_operation_end(operation, CKR_ARGUMENTS_BAD);
    operation->multi_part = true;
    size_t produced =
        cv_chains(operation) ? cv_chain_output(operation, direction, part.length) : 0;
    if (cv_only_length(produced, out.bytes, out.length, &value))
        return value;
    if (cv_chains(operation))
        value = cv_chain_update(session, operation, direction, part.bytes, part.length,
                                out.bytes);
    else
        value = cv_operation_collect(operation, part.bytes, part.length);
    if (value != CKR_OK)
        return cv_operation_end(operation,
                                value == CKR_DATA_LEN_RANGE ? direction->length_error : value);
    *out.length = produced;
    return CKR_OK;
}

CK_RV cv_crypt_update(struct cv_session *session, bool decrypt, const uint8_t *part,
                      CK_ULONG length, uint8_t *out, CK_ULONG *out_length)
{
    return crypt_update(session, decrypt ? &decrypting : &encrypting, (struct cv_text){part, length},
                        (struct cv_place){out, out_length});
}

static CK_RV crypt_final(struct cv_session *session, const struct cv_direction *direction,
                         struct cv_place out)
{
    struct cv_operation *operation = operation_of(session, direction);
    CK_RV value = cv_operation_check(operation, false);
    if (value != CKR_OK)
        return value;
    if (out.length == NULL)
        return cv_operation_end(operation, CKR_ARGUMENTS_BAD);
    if (cv_chains(operation)) {
        value = cv_chain_final(session, operation, direction, out.bytes, out.length);
    } else {
        struct cv_text all = {operation->collected.bytes, operation->collected.length};
        value = crypt_whole(session, direction, all, out);
    }
    return cv_operation_end_unless(operation, value, out.bytes == NULL);
}

CK_RV C_EncryptInit(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key)
{
    CV_IN_SESSION(handle,
                  cv_operation_begin(session, &session->encrypt, CKF_ENCRYPT, mechanism, key));
}

CK_RV C_Encrypt(CK_SESSION_HANDLE handle, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR out,
                CK_ULONG_PTR out_length)
{
    CV_IN_SESSION(handle, crypt_single(session, &encrypting, (struct cv_text){data, length},
                                       (struct cv_place){out, out_length}));
}

CK_RV C_EncryptUpdate(CK_SESSION_HANDLE handle, CK_BYTE_PTR part, CK_ULONG length, CK_BYTE_PTR out,
                      CK_ULONG_PTR out_length)
{
    CV_IN_SESSION(handle, crypt_update(session, &encrypting, (struct cv_text){part, length},
                                       (struct cv_place){out, out_length}));
}

CK_RV C_EncryptFinal(CK_SESSION_HANDLE handle, CK_BYTE_PTR out, CK_ULONG_PTR out_length)
{
    CV_IN_SESSION(handle, crypt_final(session, &encrypting, (struct cv_place){out, out_length}));
}

CK_RV C_DecryptInit(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key)
{
    CV_IN_SESSION(handle,
                  cv_operation_begin(session, &session->decrypt, CKF_DECRYPT, mechanism, key));
}

CK_RV C_Decrypt(CK_SESSION_HANDLE handle, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR out,
                CK_ULONG_PTR out_length)
{
    CV_IN_SESSION(handle, crypt_single(session, &decrypting, (struct cv_text){data, length},
                                       (struct cv_place){out, out_length}));
}

CK_RV C_DecryptUpdate(CK_SESSION_HANDLE handle, CK_BYTE_PTR part, CK_ULONG length, CK_BYTE_PTR out,
                      CK_ULONG_PTR out_length)
{
    CV_IN_SESSION(handle, crypt_update(session, &decrypting, (struct cv_text){part, length},
                                       (struct cv_place){out, out_length}));
}

CK_RV C_DecryptFinal(CK_SESSION_HANDLE handle, CK_BYTE_PTR out, CK_ULONG_PTR out_length)
{
    CV_IN_SESSION(handle, crypt_final(session, &decrypting, (struct cv_place){out, out_length}));
}
