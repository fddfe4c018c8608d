/*
 * wire.h - bounded msgpack, as much of it as docs/protocol.md uses.
 *
 * The reader never allocates, never reads past its end and never recurses deeper than
 * CV_WIRE_MAX_DEPTH: a declared length is believed only after it was compared with the bytes that
 * are there.  After the first mistake it is `broken`, and everything it gives is zero or empty.
 */
#ifndef CONCLAVE_WIRE_H
#define CONCLAVE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CV_WIRE_MAX_FRAME (1u << 20)
#define CV_WIRE_MAX_DEPTH 6

typedef struct cv_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool broken;
} cv_reader;

void cv_reader_init(cv_reader *reader, const uint8_t *bytes, size_t length);
bool cv_read_nil(cv_reader *reader);                 /* consumes nil and says so; else consumes nothing */
uint64_t cv_read_uint(cv_reader *reader);
bool cv_read_bool(cv_reader *reader);
size_t cv_read_array(cv_reader *reader);             /* number of elements, each at least one byte long */
const uint8_t *cv_read_bin(cv_reader *reader, size_t *length); /* bin or str; points into the frame */
void cv_read_skip(cv_reader *reader);                /* any one value */

typedef struct cv_writer {
    uint8_t *bytes;
    size_t length;
    size_t capacity;
    bool failed; /* out of memory or past CV_WIRE_MAX_FRAME; checked once, at the end */
} cv_writer;

void cv_writer_init(cv_writer *writer);
void cv_writer_free(cv_writer *writer); /* wipes first */
/* Wipes it and begins anew; memory of more than `keep` bytes is given back. */
void cv_writer_clear(cv_writer *writer, size_t keep);
void cv_write_nil(cv_writer *writer);
void cv_write_uint(cv_writer *writer, uint64_t value);
void cv_write_bool(cv_writer *writer, bool value);
void cv_write_array(cv_writer *writer, size_t count);
void cv_write_bin(cv_writer *writer, const void *bytes, size_t length);
void cv_write_str(cv_writer *writer, const char *text);
void cv_write_raw(cv_writer *writer, const uint8_t *bytes, size_t length);

#endif
