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


REFUSED(C_MessageEncryptInit, S s, M m, O key)
REFUSED(C_EncryptMessage, S s, P p, N pn, B a, N an, B d, N n, B o, L on)
REFUSED(C_EncryptMessageBegin, S s, P p, N pn, B a, N an)
REFUSED(C_EncryptMessageNext, S s, P p, N pn, B d, N n, B o, L on, CK_FLAGS f)
REFUSED(C_MessageEncryptFinal, S s)
REFUSED(C_MessageDecryptInit, S s, M m, O key)
REFUSED(C_DecryptMessage, S s, P p, N pn, B a, N an, B d, N n, B o, L on)
REFUSED(C_DecryptMessageBegin, S s, P p, N pn, B a, N an)
REFUSED(C_DecryptMessageNext, S s, P p, N pn, B d, N n, B o, L on, CK_FLAGS f)
REFUSED(C_MessageDecryptFinal, S s)
REFUSED(C_MessageSignInit, S s, M m, O key)
REFUSED(C_SignMessage, S s, P p, N pn, B d, N n, B o, L on)
REFUSED(C_SignMessageBegin, S s, P p, N pn)
REFUSED(C_SignMessageNext, S s, P p, N pn, B d, N n, B o, L on)
REFUSED(C_MessageSignFinal, S s)
REFUSED(C_MessageVerifyInit, S s, M m, O key)
REFUSED(C_VerifyMessage, S s, P p, N pn, B d, N n, B o, N on)
REFUSED(C_VerifyMessageBegin, S s, P p, N pn)
REFUSED(C_VerifyMessageNext, S s, P p, N pn, B d, N n, B o, N on)
REFUSED(C_MessageVerifyFinal, S s)

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
