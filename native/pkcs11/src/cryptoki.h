/*
 * cryptoki.h - PKCS#11 as this module speaks it.
 *
 * p11-kit's header gives version 2.40; what follows adds the names of 3.0 and 3.2 that it lacks, and
 * the Luna vendor codes that a Conclave worker answers.  Everything is guarded, so that a later
 * p11-kit which brings a name wins.
 *
 * Exported: the declarations below carry default visibility, everything else in the module is
 * hidden (-fvisibility=hidden).
 */
#ifndef CONCLAVE_CRYPTOKI_H
#define CONCLAVE_CRYPTOKI_H

#pragma GCC visibility push(default)
#include <p11-kit/pkcs11.h>

/* --- functions and interfaces of 3.0 ------------------------------------------------------- */

#ifndef CKF_INTERFACE_FORK_SAFE
#define CKF_INTERFACE_FORK_SAFE 0x00000001UL

typedef struct CK_INTERFACE {
    CK_UTF8CHAR *pInterfaceName;
    CK_VOID_PTR pFunctionList;
    CK_FLAGS flags;
} CK_INTERFACE;
typedef CK_INTERFACE *CK_INTERFACE_PTR;
typedef CK_INTERFACE_PTR *CK_INTERFACE_PTR_PTR;

#define CV_DECLARE(name, args)     \
    typedef CK_RV(*CK_##name) args; \
    CK_RV name args

CV_DECLARE(C_GetInterfaceList, (CK_INTERFACE_PTR interfaces, CK_ULONG_PTR count));
CV_DECLARE(C_GetInterface, (CK_UTF8CHAR_PTR name, CK_VERSION_PTR version,
                            CK_INTERFACE_PTR_PTR interface, CK_FLAGS flags));
CV_DECLARE(C_LoginUser, (CK_SESSION_HANDLE session, CK_USER_TYPE user_type, CK_UTF8CHAR_PTR pin,
                         CK_ULONG pin_length, CK_UTF8CHAR_PTR user_name,
                         CK_ULONG user_name_length));
CV_DECLARE(C_SessionCancel, (CK_SESSION_HANDLE session, CK_FLAGS flags));

CV_DECLARE(C_MessageEncryptInit, (CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism,
                                  CK_OBJECT_HANDLE key));
CV_DECLARE(C_EncryptMessage, (CK_SESSION_HANDLE session, CK_VOID_PTR parameter,
                              CK_ULONG parameter_length, CK_BYTE_PTR associated_data,
                              CK_ULONG associated_data_length, CK_BYTE_PTR plaintext,
                              CK_ULONG plaintext_length, CK_BYTE_PTR ciphertext,
                              CK_ULONG_PTR ciphertext_length));
CV_DECLARE(C_EncryptMessageBegin, (CK_SESSION_HANDLE session, CK_VOID_PTR parameter,
                                   CK_ULONG parameter_length, CK_BYTE_PTR associated_data,
                                   CK_ULONG associated_data_length));
CV_DECLARE(C_EncryptMessageNext, (CK_SESSION_HANDLE session, CK_VOID_PTR parameter,
                                  CK_ULONG parameter_length, CK_BYTE_PTR plaintext_part,
                                  CK_ULONG plaintext_part_length, CK_BYTE_PTR ciphertext_part,
                                  CK_ULONG_PTR ciphertext_part_length, CK_FLAGS flags));
CV_DECLARE(C_MessageEncryptFinal, (CK_SESSION_HANDLE session));

CV_DECLARE(C_MessageDecryptInit, (CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism,
                                  CK_OBJECT_HANDLE key));
CV_DECLARE(C_DecryptMessage, (CK_SESSION_HANDLE session, CK_VOID_PTR parameter,
                              CK_ULONG parameter_length, CK_BYTE_PTR associated_data,
                              CK_ULONG associated_data_length, CK_BYTE_PTR ciphertext,
                              CK_ULONG ciphertext_length, CK_BYTE_PTR plaintext,
                              CK_ULONG_PTR plaintext_length));
CV_DECLARE(C_DecryptMessageBegin, (CK_SESSION_HANDLE session, CK_VOID_PTR parameter,
                                   CK_ULONG parameter_length, CK_BYTE_PTR associated_data,
                                   CK_ULONG associated_data_length));
CV_DECLARE(C_DecryptMessageNext, (CK_SESSION_HANDLE session, CK_VOID_PTR parameter,
                                  CK_ULONG parameter_length, CK_BYTE_PTR ciphertext_part,
                                  CK_ULONG ciphertext_part_length, CK_BYTE_PTR plaintext_part,
                                  CK_ULONG_PTR plaintext_part_length, CK_FLAGS flags));
CV_DECLARE(C_MessageDecryptFinal, (CK_SESSION_HANDLE session));

CV_DECLARE(C_MessageSignInit, (CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism,
                               CK_OBJECT_HANDLE key));
CV_DECLARE(C_SignMessage, (CK_SESSION_HANDLE session, CK_VOID_PTR parameter,
                           CK_ULONG parameter_length, CK_BYTE_PTR data, CK_ULONG data_length,
                           CK_BYTE_PTR signature, CK_ULONG_PTR signature_length));
CV_DECLARE(C_SignMessageBegin, (CK_SESSION_HANDLE session, CK_VOID_PTR parameter,
                                CK_ULONG parameter_length));
CV_DECLARE(C_SignMessageNext, (CK_SESSION_HANDLE session, CK_VOID_PTR parameter,
                               CK_ULONG parameter_length, CK_BYTE_PTR data_part,
                               CK_ULONG data_part_length, CK_BYTE_PTR signature,
                               CK_ULONG_PTR signature_length));
CV_DECLARE(C_MessageSignFinal, (CK_SESSION_HANDLE session));

CV_DECLARE(C_MessageVerifyInit, (CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism,
                                 CK_OBJECT_HANDLE key));
CV_DECLARE(C_VerifyMessage, (CK_SESSION_HANDLE session, CK_VOID_PTR parameter,
                             CK_ULONG parameter_length, CK_BYTE_PTR data, CK_ULONG data_length,
                             CK_BYTE_PTR signature, CK_ULONG signature_length));
CV_DECLARE(C_VerifyMessageBegin, (CK_SESSION_HANDLE session, CK_VOID_PTR parameter,
                                  CK_ULONG parameter_length));
CV_DECLARE(C_VerifyMessageNext, (CK_SESSION_HANDLE session, CK_VOID_PTR parameter,
                                 CK_ULONG parameter_length, CK_BYTE_PTR data_part,
                                 CK_ULONG data_part_length, CK_BYTE_PTR signature,
                                 CK_ULONG signature_length));
CV_DECLARE(C_MessageVerifyFinal, (CK_SESSION_HANDLE session));
#undef CV_DECLARE

/* PKCS#11 3.0, section 3.3: the 2.40 list, then these 24 in this order. */
#define CV_FUNCTIONS_2_40(X)                                                                      \
    X(C_Initialize) X(C_Finalize) X(C_GetInfo) X(C_GetFunctionList) X(C_GetSlotList)              \
    X(C_GetSlotInfo) X(C_GetTokenInfo) X(C_GetMechanismList) X(C_GetMechanismInfo) X(C_InitToken) \
    X(C_InitPIN) X(C_SetPIN) X(C_OpenSession) X(C_CloseSession) X(C_CloseAllSessions)             \
    X(C_GetSessionInfo) X(C_GetOperationState) X(C_SetOperationState) X(C_Login) X(C_Logout)      \
    X(C_CreateObject) X(C_CopyObject) X(C_DestroyObject) X(C_GetObjectSize)                       \
    X(C_GetAttributeValue) X(C_SetAttributeValue) X(C_FindObjectsInit) X(C_FindObjects)           \
    X(C_FindObjectsFinal) X(C_EncryptInit) X(C_Encrypt) X(C_EncryptUpdate) X(C_EncryptFinal)      \
    X(C_DecryptInit) X(C_Decrypt) X(C_DecryptUpdate) X(C_DecryptFinal) X(C_DigestInit)            \
    X(C_Digest) X(C_DigestUpdate) X(C_DigestKey) X(C_DigestFinal) X(C_SignInit) X(C_Sign)         \
    X(C_SignUpdate) X(C_SignFinal) X(C_SignRecoverInit) X(C_SignRecover) X(C_VerifyInit)          \
    X(C_Verify) X(C_VerifyUpdate) X(C_VerifyFinal) X(C_VerifyRecoverInit) X(C_VerifyRecover)      \
    X(C_DigestEncryptUpdate) X(C_DecryptDigestUpdate) X(C_SignEncryptUpdate)                      \
    X(C_DecryptVerifyUpdate) X(C_GenerateKey) X(C_GenerateKeyPair) X(C_WrapKey) X(C_UnwrapKey)    \
    X(C_DeriveKey) X(C_SeedRandom) X(C_GenerateRandom) X(C_GetFunctionStatus) X(C_CancelFunction) \
    X(C_WaitForSlotEvent)
#define CV_FUNCTIONS_3_0(X)                                                                       \
    X(C_GetInterfaceList) X(C_GetInterface) X(C_LoginUser) X(C_SessionCancel)                     \
    X(C_MessageEncryptInit) X(C_EncryptMessage) X(C_EncryptMessageBegin) X(C_EncryptMessageNext)  \
    X(C_MessageEncryptFinal) X(C_MessageDecryptInit) X(C_DecryptMessage)                          \
    X(C_DecryptMessageBegin) X(C_DecryptMessageNext) X(C_MessageDecryptFinal)                     \
    X(C_MessageSignInit) X(C_SignMessage) X(C_SignMessageBegin) X(C_SignMessageNext)              \
    X(C_MessageSignFinal) X(C_MessageVerifyInit) X(C_VerifyMessage) X(C_VerifyMessageBegin)       \
    X(C_VerifyMessageNext) X(C_MessageVerifyFinal)

#define CV_MEMBER(name) CK_##name name;
typedef struct CK_FUNCTION_LIST_3_0 {
    CK_VERSION version;
    CV_FUNCTIONS_2_40(CV_MEMBER)
    CV_FUNCTIONS_3_0(CV_MEMBER)
} CK_FUNCTION_LIST_3_0;
#undef CV_MEMBER
typedef CK_FUNCTION_LIST_3_0 *CK_FUNCTION_LIST_3_0_PTR;
typedef CK_FUNCTION_LIST_3_0_PTR *CK_FUNCTION_LIST_3_0_PTR_PTR;

typedef CK_ULONG CK_EC_KDF_TYPE;

typedef struct CK_EDDSA_PARAMS {
    CK_BBOOL phFlag;
    CK_ULONG ulContextDataLen;
    CK_BYTE_PTR pContextData;
} CK_EDDSA_PARAMS;
typedef CK_EDDSA_PARAMS *CK_EDDSA_PARAMS_PTR;
#endif /* CKF_INTERFACE_FORK_SAFE */

#include "cryptoki_3_2.h"

#ifndef CKM_HKDF_DERIVE
#define CKM_HKDF_DERIVE 0x0000402AUL
#define CKM_HKDF_DATA 0x0000402BUL
#define CKM_HKDF_KEY_GEN 0x0000402CUL
#define CKF_HKDF_SALT_NULL 0x00000001UL
#define CKF_HKDF_SALT_DATA 0x00000002UL
#define CKF_HKDF_SALT_KEY 0x00000004UL

typedef struct CK_HKDF_PARAMS {
    CK_BBOOL bExtract;
    CK_BBOOL bExpand;
    CK_MECHANISM_TYPE prfHashMechanism;
    CK_ULONG ulSaltType;
    CK_BYTE_PTR pSalt;
    CK_ULONG ulSaltLen;
    CK_OBJECT_HANDLE hSaltKey;
    CK_BYTE_PTR pInfo;
    CK_ULONG ulInfoLen;
} CK_HKDF_PARAMS;
typedef CK_HKDF_PARAMS *CK_HKDF_PARAMS_PTR;
#endif

#ifndef CKM_SP800_108_COUNTER_KDF
#define CKM_SP800_108_COUNTER_KDF 0x000003ACUL
#define CK_SP800_108_ITERATION_VARIABLE 0x00000001UL
#define CK_SP800_108_DKM_LENGTH 0x00000003UL
#define CK_SP800_108_BYTE_ARRAY 0x00000004UL

typedef struct CK_SP800_108_COUNTER_FORMAT {
    CK_BBOOL bLittleEndian;
    CK_ULONG ulWidthInBits;
} CK_SP800_108_COUNTER_FORMAT;

typedef struct CK_SP800_108_DKM_LENGTH_FORMAT {
    CK_ULONG dkmLengthMethod;
    CK_BBOOL bLittleEndian;
    CK_ULONG ulWidthInBits;
} CK_SP800_108_DKM_LENGTH_FORMAT;

typedef struct CK_PRF_DATA_PARAM {
    CK_ULONG type;
    CK_VOID_PTR pValue;
    CK_ULONG ulValueLen;
} CK_PRF_DATA_PARAM;

typedef struct CK_SP800_108_KDF_PARAMS {
    CK_MECHANISM_TYPE prfType;
    CK_ULONG ulNumberOfDataParams;
    CK_PRF_DATA_PARAM *pDataParams;
    CK_ULONG ulAdditionalDerivedKeys;
    CK_VOID_PTR pAdditionalDerivedKeys;
} CK_SP800_108_KDF_PARAMS;
#endif

#ifndef CKM_SP800_108_FEEDBACK_KDF
#define CKM_SP800_108_FEEDBACK_KDF 0x000003ADUL
#define CKM_SP800_108_DOUBLE_PIPELINE_KDF 0x000003AEUL
#endif
#ifndef CK_SP800_108_COUNTER
#define CK_SP800_108_COUNTER 0x00000002UL
#endif

/* CK_SP800_108_FEEDBACK_KDF_PARAMS, whose name not every header has. */
typedef struct CV_SP800_108_FEEDBACK_KDF_PARAMS {
    CK_MECHANISM_TYPE prfType;
    CK_ULONG ulNumberOfDataParams;
    CK_PRF_DATA_PARAM *pDataParams;
    CK_ULONG ulIVLen;
    CK_BYTE_PTR pIV;
    CK_ULONG ulAdditionalDerivedKeys;
    CK_VOID_PTR pAdditionalDerivedKeys;
} CV_SP800_108_FEEDBACK_KDF_PARAMS;

#ifndef CKM_SHA3_256_KEY_DERIVATION
#define CKM_SHA3_256_KEY_DERIVATION 0x00000397UL
#define CKM_SHA3_224_KEY_DERIVATION 0x00000398UL
#define CKM_SHA3_384_KEY_DERIVATION 0x00000399UL
#define CKM_SHA3_512_KEY_DERIVATION 0x0000039AUL
#define CKM_SHAKE_128_KEY_DERIVATION 0x0000039BUL
#define CKM_SHAKE_256_KEY_DERIVATION 0x0000039CUL
#endif

#ifndef CKZ_SALT_SPECIFIED
#define CKZ_SALT_SPECIFIED 0x00000001UL
#endif

/* CK_PKCS5_PBKD2_PARAMS2, whose name not every header has. */
typedef struct CV_PKCS5_PBKD2_PARAMS2 {
    CK_ULONG saltSource;
    CK_VOID_PTR pSaltSourceData;
    CK_ULONG ulSaltSourceDataLen;
    CK_ULONG iterations;
    CK_ULONG prf;
    CK_VOID_PTR pPrfData;
    CK_ULONG ulPrfDataLen;
    CK_UTF8CHAR_PTR pPassword;
    CK_ULONG ulPasswordLen;
} CV_PKCS5_PBKD2_PARAMS2;

#ifndef CKM_AES_KEY_WRAP_KWP
#define CKM_AES_KEY_WRAP_KWP 0x0000210BUL

typedef struct CK_RSA_AES_KEY_WRAP_PARAMS {
    CK_ULONG ulAESKeyBits;
    CK_RSA_PKCS_OAEP_PARAMS *pOAEPParams;
} CK_RSA_AES_KEY_WRAP_PARAMS;
typedef CK_RSA_AES_KEY_WRAP_PARAMS *CK_RSA_AES_KEY_WRAP_PARAMS_PTR;
#endif

#pragma GCC visibility pop

/* --- constants of 2.40 and 3.0 that p11-kit 0.24 lacks ------------------------------------- */

#ifndef CK_UNAVAILABLE_INFORMATION
#define CK_UNAVAILABLE_INFORMATION (~0UL)
#endif
#ifndef CKF_USER_FRIENDLY_OTP
#define CKF_USER_FRIENDLY_OTP 0x00000020UL
#endif
#ifndef CKF_MESSAGE_ENCRYPT
#define CKF_MESSAGE_ENCRYPT 0x00000002UL
#define CKF_MESSAGE_DECRYPT 0x00000004UL
#define CKF_MESSAGE_SIGN 0x00000008UL
#define CKF_MESSAGE_VERIFY 0x00000010UL
#define CKF_MULTI_MESSAGE 0x00000020UL
#define CKF_FIND_OBJECTS 0x00000040UL
#endif
#ifndef CKF_END_OF_MESSAGE
#define CKF_END_OF_MESSAGE 0x00000001UL
#endif
#ifndef CKF_EC_OID
#define CKF_EC_OID 0x00800000UL
#endif
#ifndef CKF_EC_F_2M
#define CKF_EC_F_2M 0x00200000UL
#endif
#ifndef CKF_EC_ECPARAMETERS
#define CKF_EC_ECPARAMETERS 0x00400000UL
#endif
#ifndef CKF_EC_CURVENAME
#define CKF_EC_CURVENAME 0x04000000UL
#endif
#ifndef CKF_ERROR_STATE
#define CKF_ERROR_STATE 0x01000000UL
#endif
#ifndef CKO_PROFILE
#define CKO_PROFILE 0x00000009UL
#endif
#ifndef CKP_BASELINE_PROVIDER
#define CKP_INVALID_ID 0x00000000UL
#define CKP_BASELINE_PROVIDER 0x00000001UL
#define CKP_EXTENDED_PROVIDER 0x00000002UL
#define CKP_AUTHENTICATION_TOKEN 0x00000003UL
#define CKP_PUBLIC_CERTIFICATES_TOKEN 0x00000004UL
#endif
#ifndef CKA_PROFILE_ID
#define CKA_PROFILE_ID 0x00000601UL
#endif
#ifndef CKA_UNIQUE_ID
#define CKA_UNIQUE_ID 0x00000004UL
#endif
#ifndef CKK_EC_MONTGOMERY
#define CKK_EC_MONTGOMERY 0x00000041UL
#endif
#ifndef CKK_SHA3_224_HMAC
#define CKK_SHA3_224_HMAC 0x00000036UL
#define CKK_SHA3_256_HMAC 0x00000037UL
#define CKK_SHA3_384_HMAC 0x00000038UL
#define CKK_SHA3_512_HMAC 0x00000039UL
#endif
#ifndef CKK_CHACHA20
#define CKK_CHACHA20 0x00000033UL
#endif
/* p11-kit 0.24 has the mechanism without its parameter. */
typedef struct CV_CCM_PARAMS {
    CK_ULONG ulDataLen;
    CK_BYTE_PTR pNonce;
    CK_ULONG ulNonceLen;
    CK_BYTE_PTR pAAD;
    CK_ULONG ulAADLen;
    CK_ULONG ulMACLen;
} CV_CCM_PARAMS;
#ifndef CKM_SHA_1_KEY_GEN /* of 3.0; p11-kit 0.24 lacks them */
#define CKM_SHA_1_KEY_GEN 0x4003UL
#define CKM_SHA224_KEY_GEN 0x4004UL
#define CKM_SHA256_KEY_GEN 0x4005UL
#define CKM_SHA384_KEY_GEN 0x4006UL
#define CKM_SHA512_KEY_GEN 0x4007UL
#endif
#ifndef CKM_SHA512_224_KEY_GEN
#define CKM_SHA512_224_KEY_GEN 0x4008UL
#define CKM_SHA512_256_KEY_GEN 0x4009UL
#endif
#ifndef CKK_SHA512_224_HMAC
#define CKK_SHA512_224_HMAC 0x00000043UL
#define CKK_SHA512_256_HMAC 0x00000044UL
#endif
#ifndef CKM_SHA3_224_KEY_GEN
#define CKM_SHA3_256_KEY_GEN 0x02b3UL
#define CKM_SHA3_224_KEY_GEN 0x02b8UL
#define CKM_SHA3_384_KEY_GEN 0x02c3UL
#define CKM_SHA3_512_KEY_GEN 0x02d3UL
#endif
#ifndef CKK_ML_DSA /* of 3.2 */
#define CKK_ML_KEM 0x00000049UL
#define CKK_ML_DSA 0x0000004aUL
#define CKM_ML_KEM_KEY_PAIR_GEN 0x0000000fUL
#define CKM_ML_DSA_KEY_PAIR_GEN 0x0000001cUL
#define CKM_ML_DSA 0x0000001dUL
#define CKA_PARAMETER_SET 0x0000061dUL
#define CKA_SEED 0x00000637UL
#define CKH_HEDGE_PREFERRED 0x00000000UL

typedef struct CK_SIGN_ADDITIONAL_CONTEXT {
    CK_ULONG hedgeVariant;
    CK_BYTE_PTR pContext;
    CK_ULONG ulContextLen;
} CK_SIGN_ADDITIONAL_CONTEXT;
#endif
#ifndef CKK_AES_XTS
#define CKK_AES_XTS 0x00000035UL
#endif
#ifndef CKM_AES_XTS
#define CKM_AES_XTS 0x00001071UL
#define CKM_AES_XTS_KEY_GEN 0x00001072UL
#endif
#ifndef CKM_CHACHA20_POLY1305
#define CKM_CHACHA20_KEY_GEN 0x00001225UL
#define CKM_CHACHA20_POLY1305 0x00004021UL

typedef struct CK_SALSA20_CHACHA20_POLY1305_PARAMS {
    CK_BYTE_PTR pNonce;
    CK_ULONG ulNonceLen;
    CK_BYTE_PTR pAAD;
    CK_ULONG ulAADLen;
} CK_SALSA20_CHACHA20_POLY1305_PARAMS;
#endif
#ifndef CKK_HKDF
#define CKK_HKDF 0x00000042UL
#endif
#ifndef CKM_EC_MONTGOMERY_KEY_PAIR_GEN
#define CKM_EC_MONTGOMERY_KEY_PAIR_GEN 0x00001056UL
#endif
#ifndef CKM_ECDSA_SHA3_224
#define CKM_ECDSA_SHA3_224 0x00001047UL
#define CKM_ECDSA_SHA3_256 0x00001048UL
#define CKM_ECDSA_SHA3_384 0x00001049UL
#define CKM_ECDSA_SHA3_512 0x0000104AUL
#endif
#ifndef CKM_SHA3_256
#define CKM_SHA3_256 0x000002B0UL
#define CKM_SHA3_256_HMAC 0x000002B1UL
#define CKM_SHA3_256_HMAC_GENERAL 0x000002B2UL
#define CKM_SHA3_224 0x000002B5UL
#define CKM_SHA3_224_HMAC 0x000002B6UL
#define CKM_SHA3_224_HMAC_GENERAL 0x000002B7UL
#define CKM_SHA3_384 0x000002C0UL
#define CKM_SHA3_384_HMAC 0x000002C1UL
#define CKM_SHA3_384_HMAC_GENERAL 0x000002C2UL
#define CKM_SHA3_512 0x000002D0UL
#define CKM_SHA3_512_HMAC 0x000002D1UL
#define CKM_SHA3_512_HMAC_GENERAL 0x000002D2UL
#endif
#ifndef CKM_SHA3_256_RSA_PKCS
#define CKM_SHA3_256_RSA_PKCS 0x00000060UL
#define CKM_SHA3_384_RSA_PKCS 0x00000061UL
#define CKM_SHA3_512_RSA_PKCS 0x00000062UL
#define CKM_SHA3_256_RSA_PKCS_PSS 0x00000063UL
#define CKM_SHA3_384_RSA_PKCS_PSS 0x00000064UL
#define CKM_SHA3_512_RSA_PKCS_PSS 0x00000065UL
#define CKM_SHA3_224_RSA_PKCS 0x00000066UL
#define CKM_SHA3_224_RSA_PKCS_PSS 0x00000067UL
#endif
#ifndef CKG_MGF1_SHA3_224
#define CKG_MGF1_SHA3_224 0x00000006UL
#define CKG_MGF1_SHA3_256 0x00000007UL
#define CKG_MGF1_SHA3_384 0x00000008UL
#define CKG_MGF1_SHA3_512 0x00000009UL
#endif
#ifndef CKR_OPERATION_CANCEL_FAILED
#define CKR_TOKEN_RESOURCE_EXCEEDED 0x00000201UL
#define CKR_OPERATION_CANCEL_FAILED 0x00000202UL
#endif
#ifndef CKR_AEAD_DECRYPT_FAILED
#define CKR_AEAD_DECRYPT_FAILED 0x00000042UL
#endif

/* --- Luna vendor values, as conclave.errors.Ckr has them ------------------------------------ */

#define CKR_USER_LOCKED_OUT 0x80000007UL
#define CKR_MAX_OBJECT_COUNT_EXCEEDED 0x8000001BUL
#define CKR_UNABLE_TO_CONNECT 0x8000001FUL
#define CKR_TIMEOUT 0x80000024UL
#define CKR_CLOCK_NOT_IN_SYNC 0x80000124UL
#define CKR_KEYRING_NOT_FOUND 0x80000306UL
#define CKR_KEYRING_NOT_AUTHORIZED 0x80000307UL

/* Wire only, never returned to an application: nothing was done, try again after a pause. */
#define CV_RV_BUSY 0xC0000001UL

#endif
