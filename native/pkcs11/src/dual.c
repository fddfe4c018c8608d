/*
 * dual.c - two operations in one call (PKCS#11 3.0, section 5.16).
 *
 * Both go on with the same part, or neither: a length that is asked for and a buffer that is too
 * small are told before anything is taken in.
 */
#include "operation.h"
#include "state.h"

enum direction { ENCRYPTING, DECRYPTING };

typedef CK_RV (*taker)(struct cv_session *session, const uint8_t *part, CK_ULONG length);

static CK_RV take_digest(struct cv_session *session, const uint8_t *part, CK_ULONG length)
{
    return cv_digest_update(session, part, length);
}

static CK_RV take_sign(struct cv_session *session, const uint8_t *part, CK_ULONG length)
{
    return cv_sign_add(&session->sign, part, length);
}

static CK_RV take_verify(struct cv_session *session, const uint8_t *part, CK_ULONG length)
{
    return cv_sign_add(&session->verify, part, length);
}

static CK_RV check_taker(struct cv_session *session, taker take)
{
    if (take == take_digest)
        return cv_is_digesting(session) ? CKR_OK : CKR_OPERATION_NOT_INITIALIZED;
    if (take == take_verify && session->verify.bound) /* C_VerifySignatureInit's */
        return CKR_OPERATION_NOT_INITIALIZED;
    return cv_operation_check(take == take_sign ? &session->sign : &session->verify, false);
}

static CK_RV update(struct cv_session *session, enum direction direction, taker take,
                    const uint8_t *part, CK_ULONG length, uint8_t *out, CK_ULONG *out_length)
{
    bool decrypting = direction == DECRYPTING;
    const struct cv_operation *operation = decrypting ? &session->decrypt : &session->encrypt;
    CK_ULONG needed = 0;
    CK_RV value = check_taker(session, take);
    if (value == CKR_OK)
        value = cv_operation_check(operation, false);
    if (value != CKR_OK)
        return value;
    if (out_length == NULL || cv_bad_input(part, length))
        return CKR_ARGUMENTS_BAD;
    value = cv_crypt_update(session, decrypting, part, length, NULL, &needed);
    if (value != CKR_OK || cv_only_length(needed, out, out_length, &value))
        return value;
    /* The plaintext is what is digested or signed; it may lie where the ciphertext goes. */
    value = decrypting ? CKR_OK : take(session, part, length);
    if (value == CKR_OK)
        value = cv_crypt_update(session, decrypting, part, length, out, out_length);
    if (value == CKR_OK && decrypting)
        value = take(session, out, *out_length);
    return value;
}

CK_RV C_DigestEncryptUpdate(CK_SESSION_HANDLE handle, CK_BYTE_PTR part, CK_ULONG length,
                            CK_BYTE_PTR out, CK_ULONG_PTR out_length)
{
    CV_IN_SESSION(handle,
                  update(session, ENCRYPTING, take_digest, part, length, out, out_length));
}

CK_RV C_DecryptDigestUpdate(CK_SESSION_HANDLE handle, CK_BYTE_PTR part, CK_ULONG length,
                            CK_BYTE_PTR out, CK_ULONG_PTR out_length)
{
    CV_IN_SESSION(handle,
                  update(session, DECRYPTING, take_digest, part, length, out, out_length));
}

CK_RV C_SignEncryptUpdate(CK_SESSION_HANDLE handle, CK_BYTE_PTR part, CK_ULONG length,
                          CK_BYTE_PTR out, CK_ULONG_PTR out_length)
{
    CV_IN_SESSION(handle, update(session, ENCRYPTING, take_sign, part, length, out, out_length));
}

CK_RV C_DecryptVerifyUpdate(CK_SESSION_HANDLE handle, CK_BYTE_PTR part, CK_ULONG length,
                            CK_BYTE_PTR out, CK_ULONG_PTR out_length)
{
    CV_IN_SESSION(handle,
                  update(session, DECRYPTING, take_verify, part, length, out, out_length));
}
