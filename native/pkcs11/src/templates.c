/* templates.c - see templates.h. */
#include "templates.h"

#include <string.h>

#define WIRE_ULONG 8

static const CK_ATTRIBUTE_TYPE numbers[] = {
    CKA_CLASS,           CKA_CERTIFICATE_TYPE,   CKA_CERTIFICATE_CATEGORY,
    CKA_KEY_TYPE,        CKA_MODULUS_BITS,       CKA_VALUE_BITS,
    CKA_VALUE_LEN,       CKA_KEY_GEN_MECHANISM,  CKA_PRIME_BITS,
    CKA_SUB_PRIME_BITS,  CKA_HW_FEATURE_TYPE,    CKA_MECHANISM_TYPE,
    CKA_PARAMETER_SET,   CKA_PROFILE_ID,      CKA_AUTH_PIN_FLAGS,     CKA_ALLOWED_MECHANISMS,
    CKA_JAVA_MIDP_SECURITY_DOMAIN, CKA_NAME_HASH_ALGORITHM,
};

static bool is_number(CK_ATTRIBUTE_TYPE type)
{
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (numbers[i] == type)
            return true;
    return false;
}

/* Written with or without leading zeros, it is the same number. */
static bool is_big_integer(CK_ATTRIBUTE_TYPE type)
{
    return (type >= CKA_MODULUS && type <= CKA_COEFFICIENT && type != CKA_MODULUS_BITS) ||
           (type >= CKA_PRIME && type <= CKA_BASE);
}

static void skip_zeros(const uint8_t **bytes, size_t *length)
{
    while (*length > 0 && **bytes == 0) {
        ++*bytes;
        --*length;
    }
}

/* A template inside a template, which goes on the wire as the array that it is. */
static bool is_template(CK_ATTRIBUTE_TYPE type)
{
    return type == CKA_WRAP_TEMPLATE || type == CKA_UNWRAP_TEMPLATE ||
           type == CKA_DERIVE_TEMPLATE || type == CKA_ENCAPSULATE_TEMPLATE ||
           type == CKA_DECAPSULATE_TEMPLATE;
}

/* Other arrays may be of anything: their pointers mean nothing to a worker. */
static bool holds_pointers(CK_ATTRIBUTE_TYPE type)
{
    return (type & CKF_ARRAY_ATTRIBUTE) != 0 && type != CKA_ALLOWED_MECHANISMS &&
           !is_template(type);
}

static CK_RV check_one(const CK_ATTRIBUTE *attribute)
{
    if (attribute->pValue == NULL && attribute->ulValueLen > 0)
        return CKR_ARGUMENTS_BAD;
    if (attribute->ulValueLen == CK_UNAVAILABLE_INFORMATION)
        return CKR_ARGUMENTS_BAD;
    if (attribute->ulValueLen > CV_ATTRIBUTE_MAX)
        return CKR_ATTRIBUTE_VALUE_INVALID;
    if (holds_pointers(attribute->type))
        return CKR_ATTRIBUTE_TYPE_INVALID;
    if (is_number(attribute->type) && attribute->ulValueLen % sizeof(CK_ULONG) != 0)
        return CKR_ATTRIBUTE_VALUE_INVALID;
    return CKR_OK;
}

static CK_RV check_inner(const CK_ATTRIBUTE *attribute)
{
    const CK_ATTRIBUTE *inner = attribute->pValue;
    size_t count = attribute->ulValueLen / sizeof *inner;
    if (attribute->ulValueLen % sizeof *inner != 0 || count > CV_INNER_MAX)
        return CKR_ATTRIBUTE_VALUE_INVALID;
    for (size_t i = 0; i < count; i++) {
        CK_RV value = is_template(inner[i].type) ? CKR_ATTRIBUTE_TYPE_INVALID
                                                 : check_one(&inner[i]);
        if (value != CKR_OK)
            return value;
    }
    return CKR_OK;
}

CK_RV cv_template_check(const CK_ATTRIBUTE *template, CK_ULONG count)
{
    if (count > CV_TEMPLATE_MAX || (template == NULL && count > 0))
        return CKR_ARGUMENTS_BAD;
    for (CK_ULONG i = 0; i < count; i++) {
        CK_RV value = check_one(&template[i]);
        if (value == CKR_OK && is_template(template[i].type))
            value = check_inner(&template[i]);
        if (value != CKR_OK)
            return value;
    }
    return CKR_OK;
}

static void number_to_wire(const uint8_t *memory, uint8_t *wire)
{
    CK_ULONG number;
    memcpy(&number, memory, sizeof number);
    for (size_t i = 0; i < WIRE_ULONG; i++)
        wire[i] = i < sizeof number ? (uint8_t)(number >> (8 * i)) : 0;
}

static CK_ULONG number_from_wire(const uint8_t *wire)
{
    uint64_t number = 0;
    for (size_t i = WIRE_ULONG; i-- > 0;)
        number = number << 8 | wire[i];
    return (CK_ULONG)number;
}

static void put_numbers(const CK_ATTRIBUTE *attribute, cv_writer *out)
{
    uint8_t wire[WIRE_ULONG * CV_TEMPLATE_MAX];
    size_t count = attribute->ulValueLen / sizeof(CK_ULONG);
    if (count > CV_TEMPLATE_MAX) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < count; i++)
        number_to_wire((const uint8_t *)attribute->pValue + i * sizeof(CK_ULONG),
                       wire + i * WIRE_ULONG);
    cv_write_bin(out, wire, count * WIRE_ULONG);
}

static void put_plain(const CK_ATTRIBUTE *attribute, cv_writer *out)
{
    cv_write_array(out, 2);
    cv_write_uint(out, attribute->type);
    if (is_number(attribute->type))
        put_numbers(attribute, out);
    else
        cv_write_bin(out, attribute->pValue, attribute->ulValueLen);
}

static void put_inner(const CK_ATTRIBUTE *attribute, cv_writer *out)
{
    const CK_ATTRIBUTE *inner = attribute->pValue;
    size_t count = attribute->ulValueLen / sizeof *inner;
    cv_writer array;
    cv_writer_init(&array);
    cv_write_array(&array, count);
    for (size_t i = 0; i < count; i++)
        put_plain(&inner[i], &array);
    cv_write_array(out, 2);
    cv_write_uint(out, attribute->type);
    cv_write_bin(out, array.bytes, array.length);
    out->failed = out->failed || array.failed;
    cv_writer_free(&array);
}

CK_RV cv_template_put(const CK_ATTRIBUTE *template, CK_ULONG count, cv_writer *out)
{
    cv_write_array(out, count);
    for (CK_ULONG i = 0; i < count; i++) {
        if (is_template(template[i].type))
            put_inner(&template[i], out);
        else
            put_plain(&template[i], out);
    }
    return out->failed ? CKR_ATTRIBUTE_VALUE_INVALID : CKR_OK;
}

bool cv_template_flag(const CK_ATTRIBUTE *template, CK_ULONG count, CK_ATTRIBUTE_TYPE type,
                      bool otherwise)
{
    for (CK_ULONG i = 0; i < count; i++)
        if (template[i].type == type && template[i].ulValueLen == sizeof(CK_BBOOL))
            return *(const CK_BBOOL *)template[i].pValue != CK_FALSE;
    return otherwise;
}

/* One element of a template inside a template: its type and its value. */
static const uint8_t *read_inner(cv_reader *array, CK_ATTRIBUTE_TYPE *type, size_t *length)
{
    if (cv_read_array(array) != 2)
        array->broken = true;
    *type = cv_read_uint(array);
    return cv_read_bin(array, length);
}

static bool inner_equals(const CK_ATTRIBUTE *wanted, const uint8_t *value, size_t length)
{
    const CK_ATTRIBUTE *inner = wanted->pValue;
    size_t count = wanted->ulValueLen / sizeof *inner, inner_length;
    cv_reader array;
    cv_reader_init(&array, value, length);
    if (cv_read_array(&array) != count)
        return false;
    for (size_t i = 0; i < count; i++) {
        CK_ATTRIBUTE_TYPE type;
        const uint8_t *held = read_inner(&array, &type, &inner_length);
        if (array.broken || type != inner[i].type ||
            !cv_attribute_equals(&inner[i], held, inner_length))
            return false;
    }
    return !array.broken;
}

bool cv_attribute_equals(const CK_ATTRIBUTE *wanted, const uint8_t *value, size_t length)
{
    if (is_template(wanted->type))
        return inner_equals(wanted, value, length);
    if (!is_number(wanted->type)) {
        const uint8_t *bytes = wanted->pValue;
        size_t wanted_length = wanted->ulValueLen;
        if (is_big_integer(wanted->type)) {
            skip_zeros(&bytes, &wanted_length);
            skip_zeros(&value, &length);
        }
        return wanted_length == length && (length == 0 || memcmp(bytes, value, length) == 0);
    }
    size_t count = wanted->ulValueLen / sizeof(CK_ULONG);
    if (count * WIRE_ULONG != length)
        return false;
    for (size_t i = 0; i < count; i++) {
        CK_ULONG number;
        memcpy(&number, (const uint8_t *)wanted->pValue + i * sizeof number, sizeof number);
        if (number != number_from_wire(value + i * WIRE_ULONG))
            return false;
    }
    return true;
}

static CK_RV give_bytes(CK_ATTRIBUTE *wanted, const void *value, size_t length)
{
    CK_ULONG room = wanted->ulValueLen;
    wanted->ulValueLen = length;
    if (wanted->pValue == NULL)
        return CKR_OK;
    if (room < length) {
        wanted->ulValueLen = CK_UNAVAILABLE_INFORMATION;
        return CKR_BUFFER_TOO_SMALL;
    }
    if (length > 0)
        memcpy(wanted->pValue, value, length);
    return CKR_OK;
}

static CK_RV give_plain(CK_ATTRIBUTE *wanted, const uint8_t *value, size_t length)
{
    CK_ULONG memory[CV_TEMPLATE_MAX];
    if (!is_number(wanted->type) || length % WIRE_ULONG != 0 ||
        length / WIRE_ULONG > CV_TEMPLATE_MAX)
        return give_bytes(wanted, value, length);
    for (size_t i = 0; i < length / WIRE_ULONG; i++)
        memory[i] = number_from_wire(value + i * WIRE_ULONG);
    return give_bytes(wanted, memory, length / WIRE_ULONG * sizeof(CK_ULONG));
}

/* PKCS#11, C_GetAttributeValue: the types inside are set, and each value has room of its own. */
static CK_RV give_inner(CK_ATTRIBUTE *wanted, const uint8_t *value, size_t length)
{
    CK_ATTRIBUTE *inner = wanted->pValue;
    CK_ULONG room = wanted->ulValueLen;
    CK_RV worst = CKR_OK;
    cv_reader array;
    cv_reader_init(&array, value, length);
    size_t count = cv_read_array(&array), inner_length;
    wanted->ulValueLen = count * sizeof *inner;
    if (inner == NULL)
        return array.broken ? CKR_DEVICE_ERROR : CKR_OK;
    if (room < wanted->ulValueLen) {
        wanted->ulValueLen = CK_UNAVAILABLE_INFORMATION;
        return CKR_BUFFER_TOO_SMALL;
    }
    for (size_t i = 0; i < count; i++) {
        CK_ATTRIBUTE_TYPE type;
        const uint8_t *held = read_inner(&array, &type, &inner_length);
        if (array.broken)
            return CKR_DEVICE_ERROR;
        inner[i].type = type;
        worst = cv_attribute_worse(worst, give_plain(&inner[i], held, inner_length));
    }
    return array.broken ? CKR_DEVICE_ERROR : worst;
}

CK_RV cv_attribute_give(CK_ATTRIBUTE *wanted, const uint8_t *value, size_t length)
{
    return is_template(wanted->type) ? give_inner(wanted, value, length)
                                     : give_plain(wanted, value, length);
}

static int rank(CK_RV value)
{
    switch (value) {
    case CKR_OK:
        return 0;
    case CKR_BUFFER_TOO_SMALL:
        return 1;
    case CKR_ATTRIBUTE_TYPE_INVALID:
        return 2;
    case CKR_ATTRIBUTE_SENSITIVE:
        return 3;
    default:
        return 4;
    }
}

CK_RV cv_attribute_worse(CK_RV one, CK_RV other)
{
    return rank(other) > rank(one) ? other : one;
}
