/* buffer.h - a growable run of bytes that is wiped before it is given back. */
#ifndef CONCLAVE_BUFFER_H
#define CONCLAVE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cv_buffer {
    uint8_t *bytes;
    size_t start; /* [start, end) is in use */
    size_t end;
    size_t capacity;
};

static inline size_t cv_buffer_length(const struct cv_buffer *buffer)
{
    return buffer->end - buffer->start;
}

/* Makes room for `count` more bytes behind `end`; moves what is in use to the front if it must. */
bool cv_buffer_reserve(struct cv_buffer *buffer, size_t count);
bool cv_buffer_append(struct cv_buffer *buffer, const void *bytes, size_t count);
/* Gives up `count` bytes at the front, wiped. */
void cv_buffer_consume(struct cv_buffer *buffer, size_t count);
void cv_buffer_free(struct cv_buffer *buffer);

#endif
