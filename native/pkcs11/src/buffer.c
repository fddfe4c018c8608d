/* buffer.c - see buffer.h. */
#define _GNU_SOURCE
#include "buffer.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 4096u

static bool grow(struct cv_buffer *buffer, size_t wanted)
{
    size_t capacity = buffer->capacity != 0 ? buffer->capacity : FIRST_CAPACITY;
    size_t length = cv_buffer_length(buffer);
    while (capacity < wanted)
        capacity *= 2;
    uint8_t *bytes = malloc(capacity);
    if (bytes == NULL)
        return false;
    if (length != 0) {
        memcpy(bytes, buffer->bytes + buffer->start, length);
        explicit_bzero(buffer->bytes + buffer->start, length);
    }
    free(buffer->bytes);
    *buffer = (struct cv_buffer){ .bytes = bytes, .end = length, .capacity = capacity };
    return true;
}

bool cv_buffer_reserve(struct cv_buffer *buffer, size_t count)
{
    size_t length = cv_buffer_length(buffer);
    if (buffer->capacity - buffer->end >= count)
        return true;
    if (buffer->capacity - length < count)
        return grow(buffer, length + count);
    memmove(buffer->bytes, buffer->bytes + buffer->start, length);
    size_t stale = buffer->end - length < length ? length : buffer->end - length;
    explicit_bzero(buffer->bytes + stale, buffer->end - stale);
    buffer->start = 0;
    buffer->end = length;
    return true;
}

bool cv_buffer_append(struct cv_buffer *buffer, const void *bytes, size_t count)
{
    if (count == 0)
        return true;
    if (!cv_buffer_reserve(buffer, count))
        return false;
    memcpy(buffer->bytes + buffer->end, bytes, count);
    buffer->end += count;
    return true;
}

void cv_buffer_consume(struct cv_buffer *buffer, size_t count)
{
    if (count != 0)
        explicit_bzero(buffer->bytes + buffer->start, count);
    buffer->start += count;
    if (buffer->start == buffer->end)
        buffer->start = buffer->end = 0;
}

void cv_buffer_free(struct cv_buffer *buffer)
{
    cv_buffer_consume(buffer, cv_buffer_length(buffer));
    free(buffer->bytes);
    *buffer = (struct cv_buffer){ 0 };
}
