/*
 * not_supported.c - functions that this module does not have.
 *
 * Each still says first whether the module is initialised, as every other function does.
 */
#include "state.h"

static CK_RV refuse(void)
{
    CV_GUARDED(CKR_FUNCTION_NOT_SUPPORTED);
}

/* Legacy functions: the standard wants this answer of whoever does not run in parallel. */
static CK_RV refuse_parallel(void)
{
    CV_GUARDED(CKR_FUNCTION_NOT_PARALLEL);
}

/* The parameters of what follows are there for the prototypes alone. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

#define REFUSED(name, ...)   \
    CK_RV name(__VA_ARGS__) \
    {                        \
        return refuse();     \
    }

typedef CK_SESSION_HANDLE S;
typedef CK_OBJECT_HANDLE O;
typedef CK_MECHANISM_PTR M;
typedef CK_BYTE_PTR B;
typedef CK_ULONG N;
typedef CK_ULONG_PTR L;
typedef CK_ATTRIBUTE_PTR A;
typedef CK_VOID_PTR P;

REFUSED(C_WrapKeyAuthenticated, S s, M m, O w, O k, B a, N an, B o, L on)
REFUSED(C_UnwrapKeyAuthenticated, S s, M m, O u, B w, N wn, A t, N tn, B a, N an,
        CK_OBJECT_HANDLE_PTR o)

CK_RV C_GetFunctionStatus(CK_SESSION_HANDLE session)
{
    return refuse_parallel();
}

CK_RV C_CancelFunction(CK_SESSION_HANDLE session)
{
    return refuse_parallel();
}
