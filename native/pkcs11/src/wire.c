/* wire.c - see wire.h. */
#define _GNU_SOURCE
#include "wire.h"

#include <stdlib.h>
#include <string.h>

/* --- reader --------------------------------------------------------------------------------- */

void cv_reader_init(cv_reader *reader, const uint8_t *bytes, size_t length)
{
    reader->at = bytes;
    reader->end = length != 0 ? bytes + length : bytes;
    reader->broken = false;
}

static size_t bytes_left(const cv_reader *reader)
{
    return (size_t)(reader->end - reader->at);
}

static uint64_t broken(cv_reader *reader)
{
    reader->broken = true;
    reader->at = reader->end;
    return 0;
}

/* Takes `count` bytes, or none and breaks. */
static const uint8_t *take(cv_reader *reader, uint64_t count)
{
    const uint8_t *bytes = reader->at;
    if (count > bytes_left(reader)) {
        broken(reader);
        return NULL;
    }
    if (count != 0)
        reader->at += count;
    return bytes;
}

/* Takes a big-endian number of `width` bytes. */
static uint64_t take_number(cv_reader *reader, size_t width)
{
    const uint8_t *bytes = take(reader, width);
    uint64_t number = 0;
    for (size_t i = 0; bytes != NULL && i < width; i++)
        number = number << 8 | bytes[i];
    return number;
}

/* Takes a type byte; 0xc1, which msgpack never uses, stands for "nothing left". */
static uint8_t take_type(cv_reader *reader)
{
    const uint8_t *byte = take(reader, 1);
    return byte != NULL ? *byte : 0xc1;
}

bool cv_read_nil(cv_reader *reader)
{
    if (bytes_left(reader) == 0 || *reader->at != 0xc0)
        return false;
    reader->at++;
    return true;
}

uint64_t cv_read_uint(cv_reader *reader)
{
    uint8_t type = take_type(reader);
    if (type < 0x80)
        return type;
    if (type >= 0xcc && type <= 0xcf)
        return take_number(reader, (size_t)1 << (type - 0xcc));
    return broken(reader);
}

bool cv_read_bool(cv_reader *reader)
{
    uint8_t type = take_type(reader);
    if (type != 0xc2 && type != 0xc3)
        return broken(reader) != 0;
    return type == 0xc3;
}

size_t cv_read_array(cv_reader *reader)
{
    uint8_t type = take_type(reader);
    uint64_t count;
    if (type >= 0x90 && type <= 0x9f)
        count = type & 0x0fu;
    else if (type == 0xdc || type == 0xdd)
        count = take_number(reader, type == 0xdc ? 2 : 4);
    else
        return (size_t)broken(reader);
    if (count > bytes_left(reader))
        return (size_t)broken(reader);
    return (size_t)count;
}

/* The length that follows a bin or str type byte; breaks on any other type. */
static uint64_t take_bin_length(cv_reader *reader, uint8_t type)
{
    if (type >= 0xa0 && type <= 0xbf)
        return type & 0x1fu;
    if (type >= 0xc4 && type <= 0xc6)
        return take_number(reader, (size_t)1 << (type - 0xc4));
    if (type >= 0xd9 && type <= 0xdb)
        return take_number(reader, (size_t)1 << (type - 0xd9));
    return broken(reader);
}

const uint8_t *cv_read_bin(cv_reader *reader, size_t *length)
{
    uint64_t count = take_bin_length(reader, take_type(reader));
    const uint8_t *bytes = take(reader, count);
    if (reader->broken) {
        *length = 0;
        return NULL;
    }
    *length = (size_t)count;
    return bytes;
}

/* Skips what follows a type byte that is neither array nor map. */
static void skip_scalar(cv_reader *reader, uint8_t type)
{
    if (type < 0x80 || type >= 0xe0 || type == 0xc0 || type == 0xc2 || type == 0xc3)
        return; /* small integers, nil, booleans */
    if (type >= 0xca && type <= 0xcb)
        take(reader, type == 0xca ? 4 : 8); /* floats */
    else if (type >= 0xcc && type <= 0xd3)
        take(reader, (size_t)1 << ((type - 0xcc) & 3)); /* integers */
    else if (type >= 0xc7 && type <= 0xc9)
        take(reader, take_number(reader, (size_t)1 << (type - 0xc7)) + 1); /* extensions */
    else if (type >= 0xd4 && type <= 0xd8)
        take(reader, ((size_t)1 << (type - 0xd4)) + 1);
    else
        take(reader, take_bin_length(reader, type));
}

/* Number of values inside an array or map whose type byte was taken; -1 for all other types. */
static int64_t take_children(cv_reader *reader, uint8_t type)
{
    uint64_t count;
    if (type >= 0x80 && type <= 0x8f)
        count = 2u * (type & 0x0fu);
    else if (type >= 0x90 && type <= 0x9f)
        count = type & 0x0fu;
    else if (type == 0xdc || type == 0xdd)
        count = take_number(reader, type == 0xdc ? 2 : 4);
    else if (type == 0xde || type == 0xdf)
        count = 2 * take_number(reader, type == 0xde ? 2 : 4);
    else
        return -1;
    if (count > bytes_left(reader))
        return (int64_t)broken(reader);
    return (int64_t)count;
}

void cv_read_skip(cv_reader *reader)
{
    uint64_t left[CV_WIRE_MAX_DEPTH + 1]; /* values still to skip at each depth */
    size_t depth = 0;
    left[0] = 1;
    while (!reader->broken) {
        if (left[depth] == 0) {
            if (depth == 0)
                return;
            depth--;
            continue;
        }
        left[depth]--;
        uint8_t type = take_type(reader);
        int64_t children = take_children(reader, type);
        if (children < 0)
            skip_scalar(reader, type);
        else if (depth == CV_WIRE_MAX_DEPTH)
            broken(reader);
        else
            left[++depth] = (uint64_t)children;
    }
}

/* --- writer --------------------------------------------------------------------------------- */

#define FIRST_CAPACITY 256u

void cv_writer_init(cv_writer *writer)
{
    *writer = (cv_writer){ 0 };
}

void cv_writer_free(cv_writer *writer)
{
    if (writer->bytes != NULL)
        explicit_bzero(writer->bytes, writer->length);
    free(writer->bytes);
    cv_writer_init(writer);
}

void cv_writer_clear(cv_writer *writer, size_t keep)
{
    if (writer->length != 0)
        explicit_bzero(writer->bytes, writer->length);
    writer->length = 0;
    writer->failed = false;
    if (writer->bytes == NULL || writer->capacity > keep)
        cv_writer_free(writer);
}

/* Makes room by copying, never by realloc: what stays behind may hold a password. */
static bool grow(cv_writer *writer, size_t wanted)
{
    size_t capacity = writer->capacity != 0 ? writer->capacity : FIRST_CAPACITY;
    while (capacity < wanted)
        capacity *= 2;
    uint8_t *bytes = malloc(capacity);
    if (bytes == NULL)
        return false;
    if (writer->length != 0) {
        memcpy(bytes, writer->bytes, writer->length);
        explicit_bzero(writer->bytes, writer->length);
    }
    free(writer->bytes);
    writer->bytes = bytes;
    writer->capacity = capacity;
    return true;
}

/* The next `count` bytes to fill, or NULL once the writer has failed.  A writer that ran out of
 * memory has the capacity SIZE_MAX and no bytes; one that ran past the bound has not. */
static uint8_t *extend(cv_writer *writer, size_t count)
{
    if (writer->failed)
        return NULL;
    if (count > CV_WIRE_MAX_FRAME || writer->length + count > CV_WIRE_MAX_FRAME) {
        writer->failed = true;
        return NULL;
    }
    if (writer->length + count > writer->capacity && !grow(writer, writer->length + count)) {
        cv_writer_free(writer);
        writer->capacity = SIZE_MAX;
        writer->failed = true;
        return NULL;
    }
    uint8_t *at = writer->bytes + writer->length;
    writer->length += count;
    return at;
}

static void put_byte(cv_writer *writer, uint8_t byte)
{
    uint8_t *at = extend(writer, 1);
    if (at != NULL)
        *at = byte;
}

/* A type byte and a big-endian number of `width` bytes. */
static void put_number(cv_writer *writer, uint8_t type, uint64_t number, size_t width)
{
    uint8_t *at = extend(writer, 1 + width);
    if (at == NULL)
        return;
    *at++ = type;
    for (size_t i = 0; i < width; i++)
        at[i] = (uint8_t)(number >> (8 * (width - 1 - i)));
}

void cv_write_nil(cv_writer *writer)
{
    put_byte(writer, 0xc0);
}

void cv_write_bool(cv_writer *writer, bool value)
{
    put_byte(writer, value ? 0xc3 : 0xc2);
}

void cv_write_uint(cv_writer *writer, uint64_t value)
{
    if (value < 0x80)
        put_byte(writer, (uint8_t)value);
    else if (value <= UINT8_MAX)
        put_number(writer, 0xcc, value, 1);
    else if (value <= UINT16_MAX)
        put_number(writer, 0xcd, value, 2);
    else if (value <= UINT32_MAX)
        put_number(writer, 0xce, value, 4);
    else
        put_number(writer, 0xcf, value, 8);
}

void cv_write_array(cv_writer *writer, size_t count)
{
    if (count < 16)
        put_byte(writer, (uint8_t)(0x90 | count));
    else if (count <= UINT16_MAX)
        put_number(writer, 0xdc, count, 2);
    else if (count <= UINT32_MAX)
        put_number(writer, 0xdd, count, 4);
    else
        writer->failed = true;
}

void cv_write_raw(cv_writer *writer, const uint8_t *bytes, size_t length)
{
    uint8_t *at = length != 0 ? extend(writer, length) : NULL;
    if (at != NULL)
        memcpy(at, bytes, length);
}

void cv_write_bin(cv_writer *writer, const void *bytes, size_t length)
{
    if (length <= UINT8_MAX)
        put_number(writer, 0xc4, length, 1);
    else if (length <= UINT16_MAX)
        put_number(writer, 0xc5, length, 2);
    else if (length <= CV_WIRE_MAX_FRAME)
        put_number(writer, 0xc6, length, 4);
    else
        writer->failed = true;
    cv_write_raw(writer, bytes, length);
}

void cv_write_str(cv_writer *writer, const char *text)
{
    size_t length = strlen(text);
    if (length < 32)
        put_byte(writer, (uint8_t)(0xa0 | length));
    else if (length <= UINT8_MAX)
        put_number(writer, 0xd9, length, 1);
    else if (length <= UINT16_MAX)
        put_number(writer, 0xda, length, 2);
    else
        writer->failed = true;
    cv_write_raw(writer, (const uint8_t *)text, length);
}
