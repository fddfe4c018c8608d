/*
 * authenticated_wrap.c - C_WrapKeyAuthenticated and C_UnwrapKeyAuthenticated (PKCS#11 3.2).
 *
 * They are C_WrapKey and C_UnwrapKey with AES-GCM or AES-CCM, whose associated data come as an
 * argument of their own, and whose nonce may be generated.  The tag follows the wrapped key.
 */
#include <string.h>

#include "keys.h"
#include "nonces.h"

/* What the kinds of parameters come to, and the mechanism that goes on. */
struct sealing {
    CK_MECHANISM mechanism;
    CK_GCM_PARAMS gcm;
    CV_CCM_PARAMS ccm;
    struct cv_nonce nonce;
    uint8_t *nonce_out;
    struct cv_text extra;
    uint8_t made[CV_NONCE_MAX];
};

static CK_RV read_gcm(const CK_MECHANISM *given, struct sealing *sealing)
{
    CK_GCM_WRAP_PARAMS wrap = {0};
    if (given->ulParameterLen == sizeof sealing->gcm) {
        CK_GCM_PARAMS gcm;
        memcpy(&gcm, given->pParameter, sizeof gcm);
        wrap = (CK_GCM_WRAP_PARAMS){gcm.pIv,  gcm.ulIvLen,  0,           CKG_NO_GENERATE,
                                    gcm.pAAD, gcm.ulAADLen, gcm.ulTagBits};
    } else if (given->ulParameterLen == sizeof wrap) {
        memcpy(&wrap, given->pParameter, sizeof wrap);
    } else {
        return CKR_MECHANISM_PARAM_INVALID;
    }
    sealing->nonce =
        (struct cv_nonce){wrap.pIv, wrap.ulIvLen, wrap.ulIvFixedBits, wrap.ivGenerator};
    sealing->nonce_out = wrap.pIv;
    sealing->extra = (struct cv_text){wrap.pAAD, wrap.ulAADLen};
    sealing->gcm.ulTagBits = wrap.ulTagBits;
    return CKR_OK;
}

static CK_RV read_ccm(const CK_MECHANISM *given, struct sealing *sealing)
{
    CK_CCM_WRAP_PARAMS wrap = {0};
    if (given->ulParameterLen == sizeof sealing->ccm) {
        CV_CCM_PARAMS ccm;
        memcpy(&ccm, given->pParameter, sizeof ccm);
        wrap = (CK_CCM_WRAP_PARAMS){ccm.ulDataLen,   ccm.pNonce, ccm.ulNonceLen, 0,
                                    CKG_NO_GENERATE, ccm.pAAD,   ccm.ulAADLen,   ccm.ulMACLen};
    } else if (given->ulParameterLen == sizeof wrap) {
        memcpy(&wrap, given->pParameter, sizeof wrap);
    } else {
        return CKR_MECHANISM_PARAM_INVALID;
    }
    sealing->nonce =
        (struct cv_nonce){wrap.pNonce, wrap.ulNonceLen, wrap.ulNonceFixedBits, wrap.nonceGenerator};
    sealing->nonce_out = wrap.pNonce;
    sealing->extra = (struct cv_text){wrap.pAAD, wrap.ulAADLen};
    sealing->ccm.ulDataLen = wrap.ulDataLen;
    sealing->ccm.ulMACLen = wrap.ulMACLen;
    return CKR_OK;
}

static CK_RV read_parameter(const CK_MECHANISM *given, struct sealing *sealing)
{
    memset(sealing, 0, sizeof *sealing);
    if (given == NULL || (given->pParameter == NULL && given->ulParameterLen != 0))
        return CKR_ARGUMENTS_BAD;
    if (given->mechanism != CKM_AES_GCM && given->mechanism != CKM_AES_CCM)
        return CKR_MECHANISM_INVALID;
    return given->mechanism == CKM_AES_GCM ? read_gcm(given, sealing) : read_ccm(given, sealing);
}

/* The associated data may stand in the parameter instead, but not in both places. */
static CK_RV prepare(const CK_MECHANISM *given, struct cv_text associated, bool wraps,
                     struct sealing *sealing)
{
    CK_RV value = read_parameter(given, sealing);
    if (value != CKR_OK)
        return value;
    if (cv_bad_input(associated.bytes, associated.length))
        return CKR_ARGUMENTS_BAD;
    if (associated.length > 0 && sealing->extra.length > 0)
        return CKR_MECHANISM_PARAM_INVALID;
    if (associated.length > 0)
        sealing->extra = associated;
    if (!wraps)
        sealing->nonce.generator = CKG_NO_GENERATE;
    value = cv_nonce_make(&sealing->nonce, sealing->made);
    uint8_t *extra = (uint8_t *)sealing->extra.bytes;
    sealing->ccm.pNonce = sealing->gcm.pIv = sealing->made;
    sealing->ccm.ulNonceLen = sealing->gcm.ulIvLen = sealing->nonce.length;
    sealing->ccm.pAAD = sealing->gcm.pAAD = extra;
    sealing->ccm.ulAADLen = sealing->gcm.ulAADLen = sealing->extra.length;
    sealing->mechanism =
        given->mechanism == CKM_AES_GCM
            ? (CK_MECHANISM){CKM_AES_GCM, &sealing->gcm, sizeof sealing->gcm}
            : (CK_MECHANISM){CKM_AES_CCM, &sealing->ccm, sizeof sealing->ccm};
    return value;
}

static CK_RV wrap(struct cv_session *session, const CK_MECHANISM *mechanism,
                  CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key, struct cv_text associated,
                  struct cv_place out)
{
    struct sealing sealing;
    CK_RV value = prepare(mechanism, associated, true, &sealing);
    if (value == CKR_OK)
        value = cv_wrap_key(session, &sealing.mechanism, wrapping, key, out);
    /* Whoever asks for a length keeps the nonce that he has. */
    if (value == CKR_OK && out.bytes != NULL && sealing.nonce.generator != CKG_NO_GENERATE)
        memcpy(sealing.nonce_out, sealing.made, sealing.nonce.length);
    return value;
}

static CK_RV unwrap(struct cv_session *session, const CK_MECHANISM *mechanism,
                    CK_OBJECT_HANDLE unwrapping, struct cv_text wrapped,
                    struct cv_template template, struct cv_text associated, CK_OBJECT_HANDLE *key)
{
    struct sealing sealing;
    CK_RV value = prepare(mechanism, associated, false, &sealing);
    return value == CKR_OK
               ? cv_unwrap_key(session, &sealing.mechanism, unwrapping, wrapped, template, key)
               : value;
}

CK_RV C_WrapKeyAuthenticated(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism,
                             CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key,
                             CK_BYTE_PTR associated, CK_ULONG associated_length,
                             CK_BYTE_PTR wrapped, CK_ULONG_PTR wrapped_length)
{
    CV_IN_SESSION(handle, wrap(session, mechanism, wrapping, key,
                               (struct cv_text){associated, associated_length},
                               (struct cv_place){wrapped, wrapped_length}));
}

CK_RV C_UnwrapKeyAuthenticated(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism,
                               CK_OBJECT_HANDLE unwrapping, CK_BYTE_PTR wrapped,
                               CK_ULONG wrapped_length, CK_ATTRIBUTE_PTR attributes,
                               CK_ULONG count, CK_BYTE_PTR associated, CK_ULONG associated_length,
                               CK_OBJECT_HANDLE_PTR key)
{
    CV_IN_SESSION(handle, unwrap(session, mechanism, unwrapping,
                                 (struct cv_text){wrapped, wrapped_length},
                                 (struct cv_template){attributes, count},
                                 (struct cv_text){associated, associated_length}, key));
}
