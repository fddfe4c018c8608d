/*
 * message_sign.c - signing and verifying messages (PKCS#11 3.0, sections 5.14 and 5.16).
 *
 * Every mechanism that signs, signs messages: one key and one mechanism for as many as wanted.
 * What a mechanism is told, it is told at the beginning; no message has a parameter of its own, so
 * AES-GMAC signs none: its nonce may not serve twice.
 */
#include "operation.h"
#include "state.h"

static CK_RV take_parameter(struct cv_operation *operation, const struct cv_mechanism *row,
                            const CK_MECHANISM *given)
{
    return cv_mechanism_signs_messages(row) ? cv_take_parameter(operation, row, given)
                                            : CKR_MECHANISM_INVALID;
}

static CK_RV check_begin(const struct cv_operation *operation, CK_ULONG parameter_length)
{
    CK_RV value = cv_operation_check(operation, true);
    return value == CKR_OK && parameter_length != 0 ? CKR_MECHANISM_PARAM_INVALID : value;
}

static CK_RV check_next(const struct cv_operation *operation, CK_ULONG parameter_length,
                        struct cv_text part)
{
    if (operation->mechanism == NULL || !operation->multi_part)
        return CKR_OPERATION_NOT_INITIALIZED;
    if (parameter_length != 0)
        return CKR_MECHANISM_PARAM_INVALID;
    return cv_bad_input(part.bytes, part.length) ? CKR_ARGUMENTS_BAD : CKR_OK;
}

static CK_RV first_part(struct cv_operation *operation, CK_ULONG parameter_length)
{
    CK_RV value = check_begin(operation, parameter_length);
    return value == CKR_OK ? cv_sign_add(operation, NULL, 0) : value;
}

static CK_RV sign_whole(struct cv_session *session, CK_ULONG parameter_length,
                        struct cv_text data, struct cv_place out)
{
    struct cv_operation *operation = &session->message_sign;
    CK_RV value = check_begin(operation, parameter_length);
    return value == CKR_OK ? cv_sign(session, operation, true, data, out) : value;
}

/* The last part is the one with a length for the signature.  A length that is asked for and a
 * buffer that is too small are told before the part is taken in. */
static CK_RV sign_next(struct cv_session *session, CK_ULONG parameter_length, struct cv_text part,
                       struct cv_place out)
{
    struct cv_operation *operation = &session->message_sign;
    CK_RV value = check_next(operation, parameter_length, part);
    if (value != CKR_OK)
        return value;
    if (out.length == NULL)
        return out.bytes != NULL ? CKR_ARGUMENTS_BAD
                                 : cv_sign_add(operation, part.bytes, part.length);
    size_t length = cv_mechanism_result_length(operation->mechanism, &operation->facts,
                                               operation->info.size_bits, false, 0);
    if (cv_only_length(length, out.bytes, out.length, &value))
        return value;
    value = cv_sign_add(operation, part.bytes, part.length);
    return value == CKR_OK ? cv_sign(session, operation, false, (struct cv_text){NULL, 0}, out)
                           : value;
}

static CK_RV verify_whole(struct cv_session *session, CK_ULONG parameter_length,
                          struct cv_text data, struct cv_text signature)
{
    struct cv_operation *operation = &session->message_verify;
    CK_RV value = check_begin(operation, parameter_length);
    return value == CKR_OK ? cv_verify(session, operation, true, data, signature) : value;
}

/* The last part is the one with a signature. */
static CK_RV verify_next(struct cv_session *session, CK_ULONG parameter_length,
                         struct cv_text part, struct cv_text signature)
{
    struct cv_operation *operation = &session->message_verify;
    CK_RV value = check_next(operation, parameter_length, part);
    if (value == CKR_OK && signature.bytes == NULL && signature.length != 0)
        return CKR_ARGUMENTS_BAD;
    if (value == CKR_OK)
        value = cv_sign_add(operation, part.bytes, part.length);
    if (value != CKR_OK || signature.bytes == NULL)
        return value;
    return cv_verify(session, operation, false, (struct cv_text){NULL, 0}, signature);
}

CK_RV C_MessageSignInit(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key)
{
    CV_IN_SESSION(handle, cv_message_begin(session, &session->message_sign, CKF_SIGN, mechanism,
                                           key, take_parameter));
}

CK_RV C_SignMessage(CK_SESSION_HANDLE handle, CK_VOID_PTR parameter, CK_ULONG parameter_length,
                    CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR signature,
                    CK_ULONG_PTR signature_length)
{
    (void)parameter;
    CV_IN_SESSION(handle, sign_whole(session, parameter_length, (struct cv_text){data, length},
                                     (struct cv_place){signature, signature_length}));
}

CK_RV C_SignMessageBegin(CK_SESSION_HANDLE handle, CK_VOID_PTR parameter,
                         CK_ULONG parameter_length)
{
    (void)parameter;
    CV_IN_SESSION(handle, first_part(&session->message_sign, parameter_length));
}

CK_RV C_SignMessageNext(CK_SESSION_HANDLE handle, CK_VOID_PTR parameter, CK_ULONG parameter_length,
                        CK_BYTE_PTR part, CK_ULONG length, CK_BYTE_PTR signature,
                        CK_ULONG_PTR signature_length)
{
    (void)parameter;
    CV_IN_SESSION(handle, sign_next(session, parameter_length, (struct cv_text){part, length},
                                    (struct cv_place){signature, signature_length}));
}

CK_RV C_MessageSignFinal(CK_SESSION_HANDLE handle)
{
    CV_IN_SESSION(handle, cv_operation_finish(&session->message_sign));
}

CK_RV C_MessageVerifyInit(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism,
                          CK_OBJECT_HANDLE key)
{
    CV_IN_SESSION(handle, cv_message_begin(session, &session->message_verify, CKF_VERIFY,
                                           mechanism, key, take_parameter));
}

CK_RV C_VerifyMessage(CK_SESSION_HANDLE handle, CK_VOID_PTR parameter, CK_ULONG parameter_length,
                      CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR signature,
                      CK_ULONG signature_length)
{
    (void)parameter;
    CV_IN_SESSION(handle, verify_whole(session, parameter_length, (struct cv_text){data, length},
                                       (struct cv_text){signature, signature_length}));
}

CK_RV C_VerifyMessageBegin(CK_SESSION_HANDLE handle, CK_VOID_PTR parameter,
                           CK_ULONG parameter_length)
{
    (void)parameter;
    CV_IN_SESSION(handle, first_part(&session->message_verify, parameter_length));
}

CK_RV C_VerifyMessageNext(CK_SESSION_HANDLE handle, CK_VOID_PTR parameter,
                          CK_ULONG parameter_length, CK_BYTE_PTR part, CK_ULONG length,
                          CK_BYTE_PTR signature, CK_ULONG signature_length)
{
    (void)parameter;
    CV_IN_SESSION(handle, verify_next(session, parameter_length, (struct cv_text){part, length},
                                      (struct cv_text){signature, signature_length}));
}

CK_RV C_MessageVerifyFinal(CK_SESSION_HANDLE handle)
{
    CV_IN_SESSION(handle, cv_operation_finish(&session->message_verify));
}
