/* fake_objects.c - the objects of the worker in the test's process. */
#include "fake_objects.h"

#include <stdio.h>
#include <string.h>

#include "fake_worker.h"

static unsigned blobs; /* given so far */

static void put_id(cv_writer *out, unsigned object)
{
    uint8_t id[16] = {0};
    id[0] = (uint8_t)object;
    cv_write_bin(out, id, sizeof id);
}

bool fake_is_private(unsigned object)
{
    return object == FAKE_PRIVATE_AES;
}

/* Finds by label, or everything. */
/* Attributes of the objects that are named, but of the last one. */
static CK_RV tell(cv_reader *args, bool logged_in, cv_writer *out)
{
    static const CK_ATTRIBUTE_TYPE types[] = {CKA_LABEL, CKA_KEY_TYPE, CKA_OWNER};
    unsigned told[FAKE_OBJECTS], count = 0;
    size_t named = cv_read_array(args), length;
    for (size_t i = 0; i < named; i++) {
        unsigned object = fake_object_of(cv_read_bin(args, &length), 16);
        if (object != FAKE_KEM && (logged_in || !fake_is_private(object)))
            told[count++] = object;
    }
    cv_write_array(out, count);
    for (unsigned i = 0; i < count; i++) {
        cv_writer asked;
        cv_reader reader;
        cv_writer_init(&asked);
        cv_write_array(&asked, sizeof types / sizeof *types);
        for (size_t k = 0; k < sizeof types / sizeof *types; k++)
            cv_write_uint(&asked, types[k]);
        cv_reader_init(&reader, asked.bytes, asked.length);
        cv_write_array(out, 2);
        put_id(out, told[i]);
        fake_get_attributes(told[i], &reader, out);
        cv_writer_free(&asked);
    }
    return CKR_OK;
}

CK_RV fake_match(cv_reader *args, bool logged_in, cv_writer *out)
{
    size_t count = cv_read_array(args), length;
    unsigned wanted = 0, found = 0;
    for (size_t i = 0; i < count; i++) {
        cv_read_array(args);
        bool label = cv_read_uint(args) == CKA_LABEL;
        const uint8_t *value = cv_read_bin(args, &length);
        if (label && length > 0)
            wanted = *value - '0';
    }
    cv_read_uint(args);
    if (fake.tells && args->at < args->end)
        return tell(args, logged_in, out);
    for (unsigned i = 1; i < FAKE_OBJECTS; i++)
        found += (wanted == 0 || wanted == i) && (logged_in || !fake_is_private(i));
    cv_write_array(out, found);
    for (unsigned i = 1; i < FAKE_OBJECTS; i++)
        if ((wanted == 0 || wanted == i) && (logged_in || !fake_is_private(i)))
            put_id(out, i);
    return CKR_OK;
}

unsigned fake_object_of(const uint8_t *reference, size_t length)
{
    return length == 16 ? reference[0] : length > 16 ? FAKE_AES : 0;
}

CK_RV fake_key_info(unsigned object, cv_writer *out)
{
    static const struct { CK_KEY_TYPE type; unsigned bits; } keys[] = {
        [FAKE_AES] = {CKK_AES, 256},  [FAKE_MAC] = {CKK_GENERIC_SECRET, 256},
        [FAKE_RSA] = {CKK_RSA, 2048}, [FAKE_EC] = {CKK_EC, 521},
        [FAKE_PRIVATE_AES] = {CKK_AES, 128}, [FAKE_KEM] = {CKK_ML_KEM, 8 * 1184},
    };
    if (object == 0 || object >= FAKE_OBJECTS)
        return CKR_OBJECT_HANDLE_INVALID;
    cv_write_array(out, fake.refused_count > 0 ? 7 : 6);
    bool secret = object != FAKE_RSA && object != FAKE_EC;
    cv_write_uint(out, secret ? CKO_SECRET_KEY : CKO_PRIVATE_KEY);
    cv_write_uint(out, keys[object].type);
    cv_write_uint(out, keys[object].bits);
    cv_write_uint(out, fake.usage);
    cv_write_bool(out, fake_is_private(object));
    cv_write_bool(out, fake.always_authenticate);
    if (fake.refused_count > 0)
        cv_write_array(out, fake.refused_count);
    for (size_t i = 0; i < fake.refused_count; i++) {
        cv_write_array(out, 3);
        for (size_t j = 0; j < 3; j++)
            cv_write_uint(out, fake.refused[j]);
    }
    return CKR_OK;
}

const uint8_t fake_key_bytes[32] = "0123456789abcdef0123456789abcde";

CK_RV fake_get_attributes(unsigned object, cv_reader *args, cv_writer *out)
{
    uint8_t number[8] = {0x1f, 0};
    uint8_t private = fake_is_private(object);
    size_t count = cv_read_array(args);
    cv_write_array(out, count);
    for (size_t i = 0; i < count; i++) {
        uint64_t type = cv_read_uint(args);
        cv_write_array(out, 3);
        cv_write_uint(out, type);
        bool hidden = type == CKA_VALUE && !fake.readable;
        cv_write_uint(out, hidden              ? CKR_ATTRIBUTE_SENSITIVE
                           : type == CKA_OWNER ? CKR_ATTRIBUTE_TYPE_INVALID
                                               : CKR_OK);
        if (hidden || type == CKA_OWNER)
            cv_write_nil(out);
        else if (type == CKA_VALUE)
            cv_write_bin(out, fake_key_bytes,
                         object == FAKE_PRIVATE_AES ? 16 : sizeof fake_key_bytes);
        else if (type == CKA_KEY_TYPE)
            cv_write_bin(out, number, sizeof number);
        else if (type == CKA_PRIVATE)
            cv_write_bin(out, &private, 1);
        else
            cv_write_bin(out, "label", 5);
    }
    return CKR_OK;
}

/* A session object's blob says nothing; its attributes are the template it was made with. */
CK_RV fake_create(cv_reader *args, cv_writer *out)
{
    const uint8_t *template = args->at;
    cv_reader ahead = *args;
    size_t length, count = cv_read_array(&ahead);
    bool token = false, private = false;
    for (size_t i = 0; i < count; i++) {
        cv_read_array(&ahead);
        uint64_t type = cv_read_uint(&ahead);
        const uint8_t *value = cv_read_bin(&ahead, &length);
        token |= type == CKA_TOKEN && length == 1 && *value;
        private |= type == CKA_PRIVATE && length == 1 && *value;
    }
    char blob[40];
    snprintf(blob, sizeof blob, "blob of a session object %u", ++blobs);
    cv_write_array(out, 3);
    if (token)
        put_id(out, 100 + blobs);
    else
        cv_write_bin(out, blob, strlen(blob));
    cv_write_bool(out, private);
    cv_write_raw(out, template, (size_t)(ahead.at - template));
    *args = ahead;
    return CKR_OK;
}
