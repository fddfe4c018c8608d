/*
 * cryptoki_3_2.h - what PKCS#11 3.2 adds to 3.0: functions, their list, parameters; and those of
 * messages, which are of 3.0.
 *
 * Included by cryptoki.h; guarded like everything there, so that a later p11-kit wins.
 */
#ifndef CONCLAVE_CRYPTOKI_3_2_H
#define CONCLAVE_CRYPTOKI_3_2_H

#ifndef CKG_GENERATE /* of 3.0 */
#define CKG_NO_GENERATE 0x00000000UL
#define CKG_GENERATE 0x00000001UL
#define CKG_GENERATE_COUNTER 0x00000002UL
#define CKG_GENERATE_RANDOM 0x00000003UL
#define CKG_GENERATE_COUNTER_XOR 0x00000004UL

typedef CK_ULONG CK_GENERATOR_FUNCTION;

typedef struct CK_GCM_MESSAGE_PARAMS {
    CK_BYTE_PTR pIv;
    CK_ULONG ulIvLen;
    CK_ULONG ulIvFixedBits;
    CK_GENERATOR_FUNCTION ivGenerator;
    CK_BYTE_PTR pTag;
    CK_ULONG ulTagBits;
} CK_GCM_MESSAGE_PARAMS;

typedef struct CK_CCM_MESSAGE_PARAMS {
    CK_ULONG ulDataLen;
    CK_BYTE_PTR pNonce;
    CK_ULONG ulNonceLen;
    CK_ULONG ulNonceFixedBits;
    CK_GENERATOR_FUNCTION nonceGenerator;
    CK_BYTE_PTR pMAC;
    CK_ULONG ulMACLen;
} CK_CCM_MESSAGE_PARAMS;

typedef struct CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS {
    CK_BYTE_PTR pNonce;
    CK_ULONG ulNonceLen;
    CK_BYTE_PTR pTag;
} CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS;
#endif

#ifndef CKF_ENCAPSULATE
#define CKF_ENCAPSULATE 0x10000000UL
#define CKF_DECAPSULATE 0x20000000UL
#define CKA_ENCAPSULATE 0x00000633UL
#define CKA_DECAPSULATE 0x00000634UL
#define CKA_ENCAPSULATE_TEMPLATE 0x0000062AUL
#define CKA_DECAPSULATE_TEMPLATE 0x0000062BUL
#define CKM_ML_KEM 0x00000017UL
#define CKF_ASYNC_SESSION 0x00000008UL
#define CKR_SESSION_ASYNC_NOT_SUPPORTED 0x00000205UL

typedef struct CK_GCM_WRAP_PARAMS {
    CK_BYTE_PTR pIv;
    CK_ULONG ulIvLen;
    CK_ULONG ulIvFixedBits;
    CK_GENERATOR_FUNCTION ivGenerator;
    CK_BYTE_PTR pAAD;
    CK_ULONG ulAADLen;
    CK_ULONG ulTagBits;
} CK_GCM_WRAP_PARAMS;

typedef struct CK_CCM_WRAP_PARAMS {
    CK_ULONG ulDataLen;
    CK_BYTE_PTR pNonce;
    CK_ULONG ulNonceLen;
    CK_ULONG ulNonceFixedBits;
    CK_GENERATOR_FUNCTION nonceGenerator;
    CK_BYTE_PTR pAAD;
    CK_ULONG ulAADLen;
    CK_ULONG ulMACLen;
} CK_CCM_WRAP_PARAMS;

typedef CK_ULONG CK_SESSION_VALIDATION_FLAGS_TYPE;
#define CKS_LAST_VALIDATION_OK 0x00000001UL

typedef struct CK_ASYNC_DATA {
    CK_ULONG ulVersion;
    CK_BYTE_PTR pValue;
    CK_ULONG ulValue;
    CK_OBJECT_HANDLE hObject;
    CK_OBJECT_HANDLE hAdditionalObject;
} CK_ASYNC_DATA;
typedef CK_ASYNC_DATA *CK_ASYNC_DATA_PTR;

#define CV_DECLARE(name, args)     \
    typedef CK_RV(*CK_##name) args; \
    CK_RV name args

CV_DECLARE(C_EncapsulateKey, (CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism,
                              CK_OBJECT_HANDLE public_key, CK_ATTRIBUTE_PTR attributes,
                              CK_ULONG count, CK_BYTE_PTR ciphertext,
                              CK_ULONG_PTR ciphertext_length, CK_OBJECT_HANDLE_PTR key));
CV_DECLARE(C_DecapsulateKey, (CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism,
                              CK_OBJECT_HANDLE private_key, CK_ATTRIBUTE_PTR attributes,
                              CK_ULONG count, CK_BYTE_PTR ciphertext, CK_ULONG ciphertext_length,
                              CK_OBJECT_HANDLE_PTR key));
CV_DECLARE(C_VerifySignatureInit, (CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism,
                                   CK_OBJECT_HANDLE key, CK_BYTE_PTR signature,
                                   CK_ULONG signature_length));
CV_DECLARE(C_VerifySignature, (CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length));
CV_DECLARE(C_VerifySignatureUpdate, (CK_SESSION_HANDLE session, CK_BYTE_PTR part,
                                     CK_ULONG length));
CV_DECLARE(C_VerifySignatureFinal, (CK_SESSION_HANDLE session));
CV_DECLARE(C_GetSessionValidationFlags, (CK_SESSION_HANDLE session,
                                         CK_SESSION_VALIDATION_FLAGS_TYPE type,
                                         CK_FLAGS * flags));
CV_DECLARE(C_AsyncComplete, (CK_SESSION_HANDLE session, CK_UTF8CHAR_PTR function,
                             CK_ASYNC_DATA_PTR result));
CV_DECLARE(C_AsyncGetID, (CK_SESSION_HANDLE session, CK_UTF8CHAR_PTR function, CK_ULONG_PTR id));
CV_DECLARE(C_AsyncJoin, (CK_SESSION_HANDLE session, CK_UTF8CHAR_PTR function, CK_ULONG id,
                         CK_BYTE_PTR data, CK_ULONG length));
CV_DECLARE(C_WrapKeyAuthenticated, (CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism,
                                    CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key,
                                    CK_BYTE_PTR associated_data, CK_ULONG associated_data_length,
                                    CK_BYTE_PTR wrapped, CK_ULONG_PTR wrapped_length));
CV_DECLARE(C_UnwrapKeyAuthenticated, (CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism,
                                      CK_OBJECT_HANDLE unwrapping, CK_BYTE_PTR wrapped,
                                      CK_ULONG wrapped_length, CK_ATTRIBUTE_PTR attributes,
                                      CK_ULONG count, CK_BYTE_PTR associated_data,
                                      CK_ULONG associated_data_length, CK_OBJECT_HANDLE_PTR key));
#undef CV_DECLARE

/* PKCS#11 3.2: the 3.0 list, then these 12 in this order. */
#define CV_FUNCTIONS_3_2(X)                                                                       \
    X(C_EncapsulateKey) X(C_DecapsulateKey) X(C_VerifySignatureInit) X(C_VerifySignature)         \
    X(C_VerifySignatureUpdate) X(C_VerifySignatureFinal) X(C_GetSessionValidationFlags)           \
    X(C_AsyncComplete) X(C_AsyncGetID) X(C_AsyncJoin) X(C_WrapKeyAuthenticated)                   \
    X(C_UnwrapKeyAuthenticated)

#define CV_MEMBER(name) CK_##name name;
typedef struct CK_FUNCTION_LIST_3_2 {
    CK_VERSION version;
    CV_FUNCTIONS_2_40(CV_MEMBER)
    CV_FUNCTIONS_3_0(CV_MEMBER)
    CV_FUNCTIONS_3_2(CV_MEMBER)
} CK_FUNCTION_LIST_3_2;
#undef CV_MEMBER
#endif /* CKF_ENCAPSULATE */

#endif
