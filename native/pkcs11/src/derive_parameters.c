/* derive_parameters.c - see derive_parameters.h. */
#include "derive_parameters.h"

#include <string.h>

#define TEXT_MAX 65536
#define COUNTER_PARTS_MAX 16

static bool bad_text(const void *text, CK_ULONG length)
{
    return length > TEXT_MAX || (text == NULL && length > 0);
}

CK_RV cv_put_ecdh(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                  struct cv_parameter *facts)
{
    (void)row;
    (void)facts;
    CK_ECDH1_DERIVE_PARAMS ecdh;
    if (given->ulParameterLen != sizeof ecdh)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&ecdh, given->pParameter, sizeof ecdh);
    if (bad_text(ecdh.pSharedData, ecdh.ulSharedDataLen) ||
        bad_text(ecdh.pPublicData, ecdh.ulPublicDataLen))
        return CKR_MECHANISM_PARAM_INVALID;
    cv_write_array(out, 3);
    cv_write_uint(out, ecdh.kdf);
    cv_write_bin(out, ecdh.pSharedData, ecdh.ulSharedDataLen);
    cv_write_bin(out, ecdh.pPublicData, ecdh.ulPublicDataLen);
    return CKR_OK;
}

/* The parameter is the other's public value itself. */
CK_RV cv_put_number(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                    struct cv_parameter *facts)
{
    (void)row;
    (void)facts;
    if (given->ulParameterLen == 0 || bad_text(given->pParameter, given->ulParameterLen))
        return CKR_MECHANISM_PARAM_INVALID;
    cv_write_bin(out, given->pParameter, given->ulParameterLen);
    return CKR_OK;
}

CK_RV cv_put_hkdf(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                  struct cv_parameter *facts)
{
    (void)row;
    CK_HKDF_PARAMS hkdf;
    if (given->ulParameterLen != sizeof hkdf)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&hkdf, given->pParameter, sizeof hkdf);
    bool data = hkdf.ulSaltType == CKF_HKDF_SALT_DATA;
    if (bad_text(hkdf.pInfo, hkdf.ulInfoLen) || (data && bad_text(hkdf.pSalt, hkdf.ulSaltLen)))
        return CKR_MECHANISM_PARAM_INVALID;
    cv_write_array(out, 6);
    cv_write_bool(out, hkdf.bExtract != CK_FALSE);
    cv_write_bool(out, hkdf.bExpand != CK_FALSE);
    cv_write_uint(out, hkdf.prfHashMechanism);
    cv_write_uint(out, hkdf.ulSaltType);
    cv_write_bin(out, hkdf.pInfo, hkdf.ulInfoLen);
    facts->has_second_key = hkdf.bExtract != CK_FALSE && hkdf.ulSaltType == CKF_HKDF_SALT_KEY;
    facts->second_key = hkdf.hSaltKey;
    if (!facts->has_second_key)
        cv_write_bin(out, hkdf.pSalt, data ? hkdf.ulSaltLen : 0);
    return CKR_OK;
}

/* CK_PKCS5_PBKD2_PARAMS of 2.20 has the same size, with a pointer for the password's length: as a
 * number that is far too large. */
CK_RV cv_put_pbkdf2(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                    struct cv_parameter *facts)
{
    (void)row;
    (void)facts;
    CV_PKCS5_PBKD2_PARAMS2 pbkdf2;
    if (given->ulParameterLen != sizeof pbkdf2)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&pbkdf2, given->pParameter, sizeof pbkdf2);
    if (pbkdf2.saltSource != CKZ_SALT_SPECIFIED || pbkdf2.ulPrfDataLen != 0 ||
        bad_text(pbkdf2.pSaltSourceData, pbkdf2.ulSaltSourceDataLen) ||
        bad_text(pbkdf2.pPassword, pbkdf2.ulPasswordLen))
        return CKR_MECHANISM_PARAM_INVALID;
    cv_write_array(out, 4);
    cv_write_uint(out, pbkdf2.prf);
    cv_write_uint(out, pbkdf2.iterations);
    cv_write_bin(out, pbkdf2.pSaltSourceData, pbkdf2.ulSaltSourceDataLen);
    cv_write_bin(out, pbkdf2.pPassword, pbkdf2.ulPasswordLen);
    return CKR_OK;
}

/* In the counter mode the iteration variable is the counter; in the others it is what is chained,
 * without a format, and the counter a kind of its own. */
static bool put_kdf_part(const CK_PRF_DATA_PARAM *part, bool chained, cv_writer *out)
{
    CK_SP800_108_DKM_LENGTH_FORMAT format = {0};
    const uint8_t *bytes = part->pValue;
    CK_ULONG length = part->ulValueLen;
    if (bad_text(bytes, length))
        return false;
    if (chained && part->type == CK_SP800_108_ITERATION_VARIABLE) {
        if (length != 0)
            return false;
    } else if (part->type == (chained ? CK_SP800_108_COUNTER : CK_SP800_108_ITERATION_VARIABLE)) {
        CK_SP800_108_COUNTER_FORMAT counter;
        if (length != sizeof counter)
            return false;
        memcpy(&counter, bytes, sizeof counter);
        format.bLittleEndian = counter.bLittleEndian;
        format.ulWidthInBits = counter.ulWidthInBits;
    } else if (part->type == CK_SP800_108_DKM_LENGTH) {
        if (length != sizeof format)
            return false;
        memcpy(&format, bytes, sizeof format);
    } else if (part->type != CK_SP800_108_BYTE_ARRAY) {
        return false;
    }
    cv_write_array(out, 5);
    cv_write_uint(out, part->type);
    cv_write_bin(out, bytes, part->type == CK_SP800_108_BYTE_ARRAY ? length : 0);
    cv_write_uint(out, format.ulWidthInBits);
    cv_write_bool(out, format.bLittleEndian != CK_FALSE);
    cv_write_uint(out, format.dkmLengthMethod);
    return true;
}

static CK_RV put_kdf_parts(const CK_PRF_DATA_PARAM *parts, CK_ULONG count, bool chained,
                           cv_writer *out)
{
    if (count > COUNTER_PARTS_MAX || parts == NULL)
        return CKR_MECHANISM_PARAM_INVALID;
    cv_write_array(out, count);
    for (CK_ULONG i = 0; i < count; i++)
        if (!put_kdf_part(&parts[i], chained, out))
            return CKR_MECHANISM_PARAM_INVALID;
    return CKR_OK;
}

CK_RV cv_put_counter_kdf(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                         struct cv_parameter *facts)
{
    (void)facts;
    CK_SP800_108_KDF_PARAMS kdf;
    if (given->ulParameterLen != sizeof kdf)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&kdf, given->pParameter, sizeof kdf);
    if (kdf.ulAdditionalDerivedKeys != 0)
        return CKR_MECHANISM_PARAM_INVALID;
    cv_write_array(out, 2);
    cv_write_uint(out, kdf.prfType);
    return put_kdf_parts(kdf.pDataParams, kdf.ulNumberOfDataParams,
                         row->type == CKM_SP800_108_DOUBLE_PIPELINE_KDF, out);
}

CK_RV cv_put_feedback_kdf(const struct cv_mechanism *row, const CK_MECHANISM *given,
                          cv_writer *out, struct cv_parameter *facts)
{
    (void)row;
    (void)facts;
    CV_SP800_108_FEEDBACK_KDF_PARAMS kdf;
    if (given->ulParameterLen != sizeof kdf)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&kdf, given->pParameter, sizeof kdf);
    if (kdf.ulAdditionalDerivedKeys != 0 || bad_text(kdf.pIV, kdf.ulIVLen))
        return CKR_MECHANISM_PARAM_INVALID;
    cv_write_array(out, 3);
    cv_write_uint(out, kdf.prfType);
    CK_RV value = put_kdf_parts(kdf.pDataParams, kdf.ulNumberOfDataParams, true, out);
    cv_write_bin(out, kdf.pIV, kdf.ulIVLen);
    return value;
}

CK_RV cv_put_other_key(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                       struct cv_parameter *facts)
{
    (void)row;
    (void)out;
    if (given->ulParameterLen != sizeof facts->second_key)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&facts->second_key, given->pParameter, sizeof facts->second_key);
    facts->has_second_key = true;
    return CKR_OK;
}

CK_RV cv_put_text(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                  struct cv_parameter *facts)
{
    (void)row;
    (void)facts;
    CK_KEY_DERIVATION_STRING_DATA text;
    if (given->ulParameterLen != sizeof text)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&text, given->pParameter, sizeof text);
    if (bad_text(text.pData, text.ulLen))
        return CKR_MECHANISM_PARAM_INVALID;
    cv_write_bin(out, text.pData, text.ulLen);
    return CKR_OK;
}

CK_RV cv_put_first_bit(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                       struct cv_parameter *facts)
{
    (void)row;
    (void)facts;
    CK_ULONG bit;
    if (given->ulParameterLen != sizeof bit)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&bit, given->pParameter, sizeof bit);
    cv_write_uint(out, bit);
    return CKR_OK;
}
