/*
 * legacy.c - functions from the time when calls could run in parallel (PKCS#11 3.0, section 5.21).
 *
 * The standard wants this answer of whoever does not run in parallel.
 */
#include "state.h"

static CK_RV refuse(void)
{
    CV_GUARDED(CKR_FUNCTION_NOT_PARALLEL);
}

CK_RV C_GetFunctionStatus(CK_SESSION_HANDLE session)
{
    (void)session;
    return refuse();
}

CK_RV C_CancelFunction(CK_SESSION_HANDLE session)
{
    (void)session;
    return refuse();
}
