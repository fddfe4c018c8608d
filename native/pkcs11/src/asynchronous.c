/*
 * asynchronous.c - asynchronous operations and validation flags (PKCS#11 3.2, sections 5.6 and 5.20).
 *
 * There are no asynchronous sessions: C_OpenSession refuses to open one, so no operation is ever
 * pending.  No validation is claimed.
 */
#include "state.h"

static CK_RV validation_flags(CK_SESSION_VALIDATION_FLAGS_TYPE type, CK_FLAGS *flags)
{
    if (type != CKS_LAST_VALIDATION_OK || flags == NULL)
        return CKR_ARGUMENTS_BAD;
    *flags = 0;
    return CKR_OK;
}

static CK_RV refuse(const CK_UTF8CHAR *function)
{
    return function == NULL ? CKR_ARGUMENTS_BAD : CKR_SESSION_ASYNC_NOT_SUPPORTED;
}

CK_RV C_GetSessionValidationFlags(CK_SESSION_HANDLE handle, CK_SESSION_VALIDATION_FLAGS_TYPE type,
                                  CK_FLAGS *flags)
{
    CV_IN_SESSION(handle, validation_flags(type, flags));
}

CK_RV C_AsyncComplete(CK_SESSION_HANDLE handle, CK_UTF8CHAR_PTR function, CK_ASYNC_DATA_PTR result)
{
    (void)result;
    CV_IN_SESSION(handle, refuse(function));
}

CK_RV C_AsyncGetID(CK_SESSION_HANDLE handle, CK_UTF8CHAR_PTR function, CK_ULONG_PTR id)
{
    (void)id;
    CV_IN_SESSION(handle, refuse(function));
}

CK_RV C_AsyncJoin(CK_SESSION_HANDLE handle, CK_UTF8CHAR_PTR function, CK_ULONG id,
                  CK_BYTE_PTR data, CK_ULONG length)
{
    (void)id;
    (void)data;
    (void)length;
    CV_IN_SESSION(handle, refuse(function));
}
