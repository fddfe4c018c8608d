/*
 * recover.c - signatures that bring their data along (PKCS#11 3.0, sections 5.13.5 and 5.15.5).
 *
 * They know one part only, and what may be recovered is as long as an RSA modulus at most.
 */
#include "operation.h"
#include "state.h"

static CK_RV use(struct cv_session *session, struct cv_operation *operation, unsigned number,
                 struct cv_text in, uint8_t *out, CK_ULONG *out_length)
{
    CK_RV value;
    if (operation->mechanism == NULL)
        return CKR_OPERATION_NOT_INITIALIZED;
    if (out_length == NULL || cv_bad_input(in.bytes, in.length))
        return cv_operation_end(operation, CKR_ARGUMENTS_BAD);
    size_t most = cv_mechanism_result_length(operation->mechanism, &operation->facts,
                                             operation->info.size_bits, false, 0);
    /* A signature is as long as the key; how long the data are shows only when they are there. */
    if ((out == NULL || number == CV_SIGN_RECOVER) &&
        cv_only_length(most, out, out_length, &value))
        return value;
    struct cv_use what = {.operation = number,
                          .mechanism = operation->mechanism->type,
                          .parameter = &operation->parameter,
                          .data = in.bytes,
                          .length = in.length};
    value = cv_use_key_and_give(session, operation, &what, out, out_length);
    if (value == CKR_DATA_LEN_RANGE && number == CV_VERIFY_RECOVER)
        value = CKR_SIGNATURE_LEN_RANGE;
    return cv_operation_end_unless(operation, value, false);
}

CK_RV C_SignRecoverInit(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key)
{
    CV_IN_SESSION(handle, cv_operation_begin(session, &session->sign_recover, CKF_SIGN_RECOVER,
                                             mechanism, key));
}

CK_RV C_SignRecover(CK_SESSION_HANDLE handle, CK_BYTE_PTR data, CK_ULONG length,
                    CK_BYTE_PTR signature, CK_ULONG_PTR signature_length)
{
    CV_IN_SESSION(handle, use(session, &session->sign_recover, CV_SIGN_RECOVER,
                              (struct cv_text){data, length}, signature, signature_length));
}

CK_RV C_VerifyRecoverInit(CK_SESSION_HANDLE handle, CK_MECHANISM_PTR mechanism,
                          CK_OBJECT_HANDLE key)
{
    CV_IN_SESSION(handle, cv_operation_begin(session, &session->verify_recover,
                                             CKF_VERIFY_RECOVER, mechanism, key));
}

CK_RV C_VerifyRecover(CK_SESSION_HANDLE handle, CK_BYTE_PTR signature, CK_ULONG length,
                      CK_BYTE_PTR data, CK_ULONG_PTR data_length)
{
    CV_IN_SESSION(handle, use(session, &session->verify_recover, CV_VERIFY_RECOVER,
                              (struct cv_text){signature, length}, data, data_length));
}
