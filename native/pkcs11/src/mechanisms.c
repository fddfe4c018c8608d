/* mechanisms.c - the table of mechanisms, and how their parameters go on the wire. */
#include "mechanisms.h"

#include "derive_parameters.h"
#include "nonces.h"

#include <string.h>

#define ASSOCIATED_MAX ((1u << 20) - 8192) /* leaves room in a frame */
#define LABEL_MAX 65536

static CK_RV put_none(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                      struct cv_parameter *facts)
{
    (void)row;
    (void)facts;
    if (given->ulParameterLen != 0)
        return CKR_MECHANISM_PARAM_INVALID;
    cv_write_nil(out);
    return CKR_OK;
}

static CK_RV put_pss(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                     struct cv_parameter *facts)
{
    (void)row;
    (void)facts;
    CK_RSA_PKCS_PSS_PARAMS pss;
    if (given->ulParameterLen != sizeof pss)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&pss, given->pParameter, sizeof pss);
    if (pss.sLen > 1024)
        return CKR_MECHANISM_PARAM_INVALID;
    cv_write_array(out, 3);
    cv_write_uint(out, pss.hashAlg);
    cv_write_uint(out, pss.mgf);
    cv_write_uint(out, pss.sLen);
    return CKR_OK;
}

static CK_RV put_oaep(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                      struct cv_parameter *facts)
{
    (void)row;
    (void)facts;
    CK_RSA_PKCS_OAEP_PARAMS oaep;
    if (given->ulParameterLen != sizeof oaep)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&oaep, given->pParameter, sizeof oaep);
    if (oaep.ulSourceDataLen > LABEL_MAX || (oaep.pSourceData == NULL && oaep.ulSourceDataLen > 0))
        return CKR_MECHANISM_PARAM_INVALID;
    /* Source 0 is what callers without a label often leave there. */
    if (oaep.source != CKZ_DATA_SPECIFIED && (oaep.source != 0 || oaep.ulSourceDataLen > 0))
        return CKR_MECHANISM_PARAM_INVALID;
    cv_write_array(out, 3);
    cv_write_uint(out, oaep.hashAlg);
    cv_write_uint(out, oaep.mgf);
    cv_write_bin(out, oaep.pSourceData, oaep.ulSourceDataLen);
    return CKR_OK;
}

/* The wrapping of a passing AES key, which wraps the key. */
static CK_RV put_rsa_aes(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                         struct cv_parameter *facts)
{
    CK_RSA_AES_KEY_WRAP_PARAMS both;
    if (given->ulParameterLen != sizeof both)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&both, given->pParameter, sizeof both);
    if (both.pOAEPParams == NULL)
        return CKR_MECHANISM_PARAM_INVALID;
    CK_MECHANISM oaep = {CKM_RSA_PKCS_OAEP, both.pOAEPParams, sizeof *both.pOAEPParams};
    cv_write_array(out, 2);
    cv_write_uint(out, both.ulAESKeyBits);
    return put_oaep(row, &oaep, out, facts);
}

/* The worker knows the only initial values there are. */
static CK_RV put_initial_value(const struct cv_mechanism *row, const CK_MECHANISM *given,
                               cv_writer *out, struct cv_parameter *facts)
{
    (void)row;
    (void)facts;
    if (given->ulParameterLen > CV_BLOCK)
        return CKR_MECHANISM_PARAM_INVALID;
    if (given->pParameter == NULL)
        cv_write_nil(out);
    else
        cv_write_bin(out, given->pParameter, given->ulParameterLen);
    return CKR_OK;
}

/* Prehash and context need a hash inside the signature, which the worker's library lacks. */
static CK_RV put_eddsa(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                       struct cv_parameter *facts)
{
    (void)row;
    (void)facts;
    CK_EDDSA_PARAMS eddsa;
    if (given->ulParameterLen != 0) {
        if (given->ulParameterLen != sizeof eddsa)
            return CKR_MECHANISM_PARAM_INVALID;
        memcpy(&eddsa, given->pParameter, sizeof eddsa);
        if (eddsa.phFlag != CK_FALSE || eddsa.ulContextDataLen != 0)
            return CKR_MECHANISM_PARAM_INVALID;
    }
    cv_write_nil(out);
    return CKR_OK;
}

static CK_RV put_context(const struct cv_mechanism *row, const CK_MECHANISM *given,
                         cv_writer *out, struct cv_parameter *facts)
{
    CK_SIGN_ADDITIONAL_CONTEXT extra;
    if (given->ulParameterLen == 0)
        return put_none(row, given, out, facts);
    if (given->ulParameterLen != sizeof extra)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&extra, given->pParameter, sizeof extra);
    if (extra.ulContextLen > 255 || (extra.pContext == NULL && extra.ulContextLen > 0))
        return CKR_MECHANISM_PARAM_INVALID;
    cv_write_array(out, 2);
    cv_write_uint(out, extra.hedgeVariant);
    cv_write_bin(out, extra.pContext, extra.ulContextLen);
    return CKR_OK;
}

static CK_RV put_iv(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                    struct cv_parameter *facts)
{
    (void)row;
    if (given->ulParameterLen != CV_BLOCK)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(facts->block, given->pParameter, CV_BLOCK);
    cv_write_bin(out, facts->block, CV_BLOCK);
    return CKR_OK;
}

static CK_RV put_des_iv(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                        struct cv_parameter *facts)
{
    (void)row;
    (void)facts;
    if (given->ulParameterLen != 8)
        return CKR_MECHANISM_PARAM_INVALID;
    cv_write_bin(out, given->pParameter, given->ulParameterLen);
    return CKR_OK;
}

static CK_RV put_counter(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                         struct cv_parameter *facts)
{
    (void)row;
    CK_AES_CTR_PARAMS counter;
    if (given->ulParameterLen != sizeof counter)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&counter, given->pParameter, sizeof counter);
    if (counter.ulCounterBits < 1 || counter.ulCounterBits > 8 * CV_BLOCK)
        return CKR_MECHANISM_PARAM_INVALID;
    facts->counter_bits = (unsigned)counter.ulCounterBits;
    memcpy(facts->block, counter.cb, CV_BLOCK);
    cv_write_array(out, 2);
    cv_write_uint(out, facts->counter_bits);
    cv_write_bin(out, facts->block, CV_BLOCK);
    return CKR_OK;
}

static CK_RV put_gcm(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                     struct cv_parameter *facts)
{
    (void)row;
    CK_GCM_PARAMS gcm;
    if (given->ulParameterLen != sizeof gcm)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&gcm, given->pParameter, sizeof gcm);
    if (gcm.pIv == NULL || gcm.ulIvLen < 1 || gcm.ulIvLen > CV_NONCE_MAX)
        return CKR_MECHANISM_PARAM_INVALID;
    if (gcm.ulAADLen > ASSOCIATED_MAX || (gcm.pAAD == NULL && gcm.ulAADLen > 0))
        return CKR_MECHANISM_PARAM_INVALID;
    if (gcm.ulTagBits < 32 || gcm.ulTagBits > 128 || gcm.ulTagBits % 8 != 0)
        return CKR_MECHANISM_PARAM_INVALID;
    facts->result_bytes = gcm.ulTagBits / 8;
    cv_write_array(out, 3);
    cv_write_bin(out, gcm.pIv, gcm.ulIvLen);
    cv_write_bin(out, gcm.pAAD, gcm.ulAADLen);
    cv_write_uint(out, gcm.ulTagBits);
    return CKR_OK;
}

static CK_RV put_ccm(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                     struct cv_parameter *facts)
{
    (void)row;
    CV_CCM_PARAMS ccm;
    if (given->ulParameterLen != sizeof ccm)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&ccm, given->pParameter, sizeof ccm);
    if (ccm.pNonce == NULL || ccm.ulNonceLen < 7 || ccm.ulNonceLen > 13)
        return CKR_MECHANISM_PARAM_INVALID;
    if (ccm.ulAADLen > ASSOCIATED_MAX || (ccm.pAAD == NULL && ccm.ulAADLen > 0))
        return CKR_MECHANISM_PARAM_INVALID;
    if (ccm.ulMACLen < 4 || ccm.ulMACLen > CV_BLOCK || ccm.ulMACLen % 2 != 0)
        return CKR_MECHANISM_PARAM_INVALID;
    facts->result_bytes = ccm.ulMACLen;
    cv_write_array(out, 4);
    cv_write_uint(out, ccm.ulDataLen);
    cv_write_bin(out, ccm.pNonce, ccm.ulNonceLen);
    cv_write_bin(out, ccm.pAAD, ccm.ulAADLen);
    cv_write_uint(out, ccm.ulMACLen);
    return CKR_OK;
}

/* 2.40 has a bare nonce of 12 bytes and a tag of 16, 3.2 the parameter of GCM. */
static CK_RV put_gmac(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                      struct cv_parameter *facts)
{
    if (given->ulParameterLen != 12)
        return put_gcm(row, given, out, facts);
    facts->result_bytes = CV_BLOCK;
    cv_write_array(out, 3);
    cv_write_bin(out, given->pParameter, given->ulParameterLen);
    cv_write_bin(out, NULL, 0);
    cv_write_uint(out, 8 * CV_BLOCK);
    return CKR_OK;
}

static CK_RV put_chacha(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                        struct cv_parameter *facts)
{
    (void)row;
    CK_SALSA20_CHACHA20_POLY1305_PARAMS chacha;
    if (given->ulParameterLen != sizeof chacha)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&chacha, given->pParameter, sizeof chacha);
    if (chacha.pNonce == NULL || chacha.ulNonceLen != 12)
        return CKR_MECHANISM_PARAM_INVALID;
    if (chacha.ulAADLen > ASSOCIATED_MAX || (chacha.pAAD == NULL && chacha.ulAADLen > 0))
        return CKR_MECHANISM_PARAM_INVALID;
    facts->result_bytes = CV_BLOCK;
    cv_write_array(out, 2);
    cv_write_bin(out, chacha.pNonce, chacha.ulNonceLen);
    cv_write_bin(out, chacha.pAAD, chacha.ulAADLen);
    return CKR_OK;
}

static CK_RV put_mac_length(const struct cv_mechanism *row, const CK_MECHANISM *given,
                            cv_writer *out, struct cv_parameter *facts)
{
    CK_ULONG length;
    if (given->ulParameterLen != sizeof length)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&length, given->pParameter, sizeof length);
    size_t most = row->digest == CV_NO_DIGEST ? CV_BLOCK : cv_digest_length(row->digest);
    if (length < 1 || length > most)
        return CKR_MECHANISM_PARAM_INVALID;
    facts->result_bytes = length;
    cv_write_uint(out, length);
    return CKR_OK;
}

#define SIGNS (CKF_SIGN | CKF_VERIFY)
#define CIPHERS (CKF_ENCRYPT | CKF_DECRYPT)
#define WRAPS (CKF_WRAP | CKF_UNWRAP)
#define RECOVERS (CKF_SIGN_RECOVER | CKF_VERIFY_RECOVER)

#define RSA_HASHED(name, hash)                                                           \
    {CKM_##name##_RSA_PKCS, SIGNS, CV_RSA, put_none, CV_HASH, CV_LENGTH_MODULUS, hash}
#define PSS_HASHED(name, hash)                                                           \
    {CKM_##name##_RSA_PKCS_PSS, SIGNS, CV_RSA, put_pss, CV_HASH, CV_LENGTH_MODULUS, hash}
#define ECDSA_HASHED(name, hash)                                                         \
    {CKM_ECDSA_##name, SIGNS, CV_EC, put_none, CV_HASH, CV_LENGTH_TWICE, hash}
#define DIGEST(name, hash)                                                               \
    {CKM_##name, CKF_DIGEST, CV_ANY_KEY, put_none, CV_HASH, CV_LENGTH_DIGEST, hash}
#define MAC(name, hash)                                                                  \
    DIGEST(name, hash),                                                                  \
    {CKM_##name##_HMAC, SIGNS, CV_MAC, put_none, CV_COLLECT, CV_LENGTH_DIGEST, hash},    \
    {CKM_##name##_HMAC_GENERAL, SIGNS, CV_MAC, put_mac_length, CV_COLLECT,               \
     CV_LENGTH_PARAMETER, hash}
#define DERIVES(name, put)                                                               \
    {name, CKF_DERIVE, CV_ANY_KEY, put, CV_COLLECT, CV_LENGTH_DATA, CV_NO_DIGEST}
#define HASH_DERIVES(name) DERIVES(CKM_##name##_KEY_DERIVATION, put_none)
#define GENERATES(name, flag)                                                            \
    {name, flag, CV_ANY_KEY, put_none, CV_COLLECT, CV_LENGTH_DATA, CV_NO_DIGEST}

static const struct cv_mechanism table[] = {
    {CKM_RSA_PKCS, SIGNS | RECOVERS | CIPHERS | WRAPS, CV_RSA, put_none, CV_COLLECT,
     CV_LENGTH_MODULUS, 0},
    {CKM_RSA_X_509, SIGNS | RECOVERS | CIPHERS, CV_RSA, put_none, CV_COLLECT, CV_LENGTH_MODULUS, 0},
    {CKM_RSA_PKCS_OAEP, CIPHERS | WRAPS, CV_RSA, put_oaep, CV_COLLECT, CV_LENGTH_MODULUS, 0},
    {CKM_RSA_PKCS_PSS, SIGNS, CV_RSA, put_pss, CV_COLLECT, CV_LENGTH_MODULUS, 0},
    RSA_HASHED(SHA1, CV_SHA_1),
    RSA_HASHED(SHA224, CV_SHA_224),
    RSA_HASHED(SHA256, CV_SHA_256),
    RSA_HASHED(SHA384, CV_SHA_384),
    RSA_HASHED(SHA512, CV_SHA_512),
    RSA_HASHED(SHA3_224, CV_SHA3_224),
    RSA_HASHED(SHA3_256, CV_SHA3_256),
    RSA_HASHED(SHA3_384, CV_SHA3_384),
    RSA_HASHED(SHA3_512, CV_SHA3_512),
    PSS_HASHED(SHA1, CV_SHA_1),
    PSS_HASHED(SHA224, CV_SHA_224),
    PSS_HASHED(SHA256, CV_SHA_256),
    PSS_HASHED(SHA384, CV_SHA_384),
    PSS_HASHED(SHA512, CV_SHA_512),
    PSS_HASHED(SHA3_224, CV_SHA3_224),
    PSS_HASHED(SHA3_256, CV_SHA3_256),
    PSS_HASHED(SHA3_384, CV_SHA3_384),
    PSS_HASHED(SHA3_512, CV_SHA3_512),
    {CKM_ECDSA, SIGNS, CV_EC, put_none, CV_COLLECT, CV_LENGTH_TWICE, 0},
    ECDSA_HASHED(SHA1, CV_SHA_1),
    ECDSA_HASHED(SHA224, CV_SHA_224),
    ECDSA_HASHED(SHA256, CV_SHA_256),
    ECDSA_HASHED(SHA384, CV_SHA_384),
    ECDSA_HASHED(SHA512, CV_SHA_512),
    ECDSA_HASHED(SHA3_224, CV_SHA3_224),
    ECDSA_HASHED(SHA3_256, CV_SHA3_256),
    ECDSA_HASHED(SHA3_384, CV_SHA3_384),
    ECDSA_HASHED(SHA3_512, CV_SHA3_512),
    {CKM_EDDSA, SIGNS, CV_EDWARDS, put_eddsa, CV_COLLECT, CV_LENGTH_EDWARDS, 0},
    {CKM_ML_DSA, SIGNS, CV_ML_DSA, put_context, CV_COLLECT, CV_LENGTH_ML_DSA, 0},
    {CKM_ML_KEM, CKF_ENCAPSULATE | CKF_DECAPSULATE, CV_ML_KEM, put_none, CV_COLLECT,
     CV_LENGTH_ML_KEM, 0},
    {CKM_AES_ECB, CIPHERS, CV_AES, put_none, CV_CHAIN_ECB, CV_LENGTH_DATA, 0},
    {CKM_AES_CBC, CIPHERS, CV_AES, put_iv, CV_CHAIN_CBC, CV_LENGTH_DATA, 0},
    {CKM_AES_CBC_PAD, CIPHERS | WRAPS, CV_AES, put_iv, CV_CHAIN_CBC_PAD, CV_LENGTH_PADDED, 0},
    {CKM_AES_CTR, CIPHERS, CV_AES, put_counter, CV_CHAIN_CTR, CV_LENGTH_DATA, 0},
    {CKM_AES_GCM, CIPHERS | WRAPS, CV_AES, put_gcm, CV_COLLECT, CV_LENGTH_TAGGED, 0},
    {CKM_AES_KEY_WRAP, CIPHERS | WRAPS, CV_AES, put_initial_value, CV_COLLECT, CV_LENGTH_WRAPPED, 0},
    {CKM_AES_KEY_WRAP_KWP, CIPHERS | WRAPS, CV_AES, put_initial_value, CV_COLLECT,
     CV_LENGTH_WRAPPED, 0},
    {CKM_RSA_AES_KEY_WRAP, WRAPS, CV_RSA, put_rsa_aes, CV_COLLECT, CV_LENGTH_DATA, 0},
    {CKM_AES_CCM, CIPHERS | WRAPS, CV_AES, put_ccm, CV_COLLECT, CV_LENGTH_TAGGED, 0},
    {CKM_AES_CMAC, SIGNS, CV_AES, put_none, CV_COLLECT, CV_LENGTH_BLOCK, 0},
    {CKM_AES_CMAC_GENERAL, SIGNS, CV_AES, put_mac_length, CV_COLLECT, CV_LENGTH_PARAMETER, 0},
    {CKM_AES_GMAC, SIGNS, CV_AES, put_gmac, CV_COLLECT, CV_LENGTH_PARAMETER, 0},
    {CKM_AES_XTS, CIPHERS, CV_AES_XTS, put_iv, CV_COLLECT, CV_LENGTH_DATA, 0},
    {CKM_CHACHA20_POLY1305, CIPHERS, CV_CHACHA20, put_chacha, CV_COLLECT, CV_LENGTH_TAGGED, 0},
    {CKM_DES3_ECB, CKF_DECRYPT, CV_DES3, put_none, CV_COLLECT, CV_LENGTH_DATA, 0},
    {CKM_DES3_CBC, CKF_DECRYPT, CV_DES3, put_des_iv, CV_COLLECT, CV_LENGTH_DATA, 0},
    {CKM_DES3_CBC_PAD, CKF_DECRYPT, CV_DES3, put_des_iv, CV_COLLECT, CV_LENGTH_PADDED, 0},
    {CKM_DES3_CMAC, CKF_VERIFY, CV_DES3, put_none, CV_COLLECT, CV_LENGTH_DATA, 0},
    MAC(SHA_1, CV_SHA_1),
    MAC(SHA224, CV_SHA_224),
    MAC(SHA256, CV_SHA_256),
    MAC(SHA384, CV_SHA_384),
    MAC(SHA512, CV_SHA_512),
    MAC(SHA3_224, CV_SHA3_224),
    MAC(SHA3_256, CV_SHA3_256),
    MAC(SHA3_384, CV_SHA3_384),
    MAC(SHA3_512, CV_SHA3_512),
    MAC(SHA512_224, CV_SHA_512_224),
    MAC(SHA512_256, CV_SHA_512_256),
    DERIVES(CKM_ECDH1_DERIVE, cv_put_ecdh),
    DERIVES(CKM_DH_PKCS_DERIVE, cv_put_number),
    DERIVES(CKM_ECDH1_COFACTOR_DERIVE, cv_put_ecdh),
    DERIVES(CKM_HKDF_DERIVE, cv_put_hkdf),
    DERIVES(CKM_HKDF_DATA, cv_put_hkdf),
    DERIVES(CKM_SP800_108_COUNTER_KDF, cv_put_counter_kdf),
    DERIVES(CKM_SP800_108_FEEDBACK_KDF, cv_put_feedback_kdf),
    DERIVES(CKM_SP800_108_DOUBLE_PIPELINE_KDF, cv_put_counter_kdf),
    HASH_DERIVES(SHA1),
    HASH_DERIVES(SHA224),
    HASH_DERIVES(SHA256),
    HASH_DERIVES(SHA384),
    HASH_DERIVES(SHA512),
    HASH_DERIVES(SHA3_224),
    HASH_DERIVES(SHA3_256),
    HASH_DERIVES(SHA3_384),
    HASH_DERIVES(SHA3_512),
    HASH_DERIVES(SHAKE_128),
    HASH_DERIVES(SHAKE_256),
    DERIVES(CKM_CONCATENATE_BASE_AND_KEY, cv_put_other_key),
    DERIVES(CKM_CONCATENATE_BASE_AND_DATA, cv_put_text),
    DERIVES(CKM_CONCATENATE_DATA_AND_BASE, cv_put_text),
    DERIVES(CKM_XOR_BASE_AND_DATA, cv_put_text),
    DERIVES(CKM_EXTRACT_KEY_FROM_KEY, cv_put_first_bit),
    GENERATES(CKM_AES_KEY_GEN, CKF_GENERATE),
    GENERATES(CKM_AES_XTS_KEY_GEN, CKF_GENERATE),
    GENERATES(CKM_CHACHA20_KEY_GEN, CKF_GENERATE),
    GENERATES(CKM_GENERIC_SECRET_KEY_GEN, CKF_GENERATE),
    GENERATES(CKM_HKDF_KEY_GEN, CKF_GENERATE),
    {CKM_PKCS5_PBKD2, CKF_GENERATE, CV_ANY_KEY, cv_put_pbkdf2, CV_COLLECT, CV_LENGTH_DATA, 0},
    GENERATES(CKM_SHA_1_KEY_GEN, CKF_GENERATE),
    GENERATES(CKM_SHA224_KEY_GEN, CKF_GENERATE),
    GENERATES(CKM_SHA256_KEY_GEN, CKF_GENERATE),
    GENERATES(CKM_SHA384_KEY_GEN, CKF_GENERATE),
    GENERATES(CKM_SHA512_KEY_GEN, CKF_GENERATE),
    GENERATES(CKM_SHA512_224_KEY_GEN, CKF_GENERATE),
    GENERATES(CKM_SHA512_256_KEY_GEN, CKF_GENERATE),
    GENERATES(CKM_SHA3_224_KEY_GEN, CKF_GENERATE),
    GENERATES(CKM_SHA3_256_KEY_GEN, CKF_GENERATE),
    GENERATES(CKM_SHA3_384_KEY_GEN, CKF_GENERATE),
    GENERATES(CKM_SHA3_512_KEY_GEN, CKF_GENERATE),
    GENERATES(CKM_RSA_PKCS_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR),
    GENERATES(CKM_EC_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR),
    GENERATES(CKM_EC_EDWARDS_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR),
    GENERATES(CKM_EC_MONTGOMERY_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR),
    GENERATES(CKM_DH_PKCS_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR),
    GENERATES(CKM_ML_DSA_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR),
    GENERATES(CKM_ML_KEM_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR),
};

const struct cv_mechanism *cv_mechanism_find(CK_MECHANISM_TYPE type)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].type == type)
            return &table[i];
    return NULL;
}

bool cv_mechanism_signs_messages(const struct cv_mechanism *row)
{
    return row->type != CKM_AES_GMAC;
}

bool cv_mechanism_fits(const struct cv_mechanism *row, CK_KEY_TYPE key_type)
{
    switch (row->family) {
    case CV_ANY_KEY:
        return true;
    case CV_RSA:
        return key_type == CKK_RSA;
    case CV_EC:
        return key_type == CKK_EC;
    case CV_EDWARDS:
        return key_type == CKK_EC_EDWARDS;
    case CV_AES:
        return key_type == CKK_AES;
    case CV_AES_XTS:
        return key_type == CKK_AES_XTS;
    case CV_ML_DSA:
        return key_type == CKK_ML_DSA;
    case CV_ML_KEM:
        return key_type == CKK_ML_KEM;
    case CV_DES3:
        return key_type == CKK_DES3;
    case CV_CHACHA20:
        return key_type == CKK_CHACHA20;
    case CV_MAC:
        return key_type == CKK_GENERIC_SECRET || key_type == CKK_SHA_1_HMAC ||
               (key_type >= CKK_SHA256_HMAC && key_type <= CKK_SHA224_HMAC) ||
               key_type == CKK_SHA512_224_HMAC || key_type == CKK_SHA512_256_HMAC ||
               (key_type >= CKK_SHA3_224_HMAC && key_type <= CKK_SHA3_512_HMAC);
    }
    return false;
}

CK_RV cv_mechanism_put_parameter(const struct cv_mechanism *row, const CK_MECHANISM *given,
                                 cv_writer *out, struct cv_parameter *facts)
{
    memset(facts, 0, sizeof *facts);
    if (given->pParameter == NULL && given->ulParameterLen != 0)
        return CKR_ARGUMENTS_BAD;
    CK_RV value = row->put_parameter(row, given, out, facts);
    if (value == CKR_OK && out->failed)
        return CKR_HOST_MEMORY;
    return value;
}

static size_t ml_dsa_length(CK_ULONG public_key_bits)
{
    switch (public_key_bits / 8) {
    case 1312:
        return 2420;
    case 1952:
        return 3309;
    default:
        return 4627;
    }
}

size_t cv_mechanism_result_length(const struct cv_mechanism *row, const struct cv_parameter *facts,
                                  CK_ULONG bits, bool decrypting, size_t data_length)
{
    switch (row->length) {
    case CV_LENGTH_MODULUS:
        return (bits + 7) / 8;
    case CV_LENGTH_TWICE:
        return 2 * ((bits + 7) / 8);
    case CV_LENGTH_EDWARDS:
        return bits > 255 ? 114 : 64;
    case CV_LENGTH_ML_DSA:
        return ml_dsa_length(bits);
    case CV_LENGTH_ML_KEM:
        return bits / 8 == 1184 ? 1088 : 1568;
    case CV_LENGTH_DIGEST:
        return cv_digest_length(row->digest);
    case CV_LENGTH_BLOCK:
        return CV_BLOCK;
    case CV_LENGTH_PARAMETER:
        return facts->result_bytes;
    case CV_LENGTH_DATA:
        return data_length;
    case CV_LENGTH_PADDED:
        return decrypting ? data_length : (data_length / CV_BLOCK + 1) * CV_BLOCK;
    case CV_LENGTH_WRAPPED:
        return decrypting ? data_length : (data_length + 15) / 8 * 8;
    case CV_LENGTH_TAGGED:
        if (!decrypting)
            return data_length + facts->result_bytes;
        return data_length < facts->result_bytes ? 0 : data_length - facts->result_bytes;
    }
    return 0;
}
