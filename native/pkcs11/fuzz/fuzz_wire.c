/*
 * fuzz_wire.c - the msgpack reader under any sequence of reads over any bytes.
 *
 * The first byte says how many of the following choose what is read; the rest is the message.
 * Whatever happens, the reader stays inside, gives pointers inside, and stays broken once it is.
 */
#include <stdlib.h>
#include <string.h>

#include "wire.h"

#define HOLDS(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_one(cv_reader *reader, uint8_t choice, const uint8_t *start)
{
    const uint8_t *before = reader->at;
    bool was_broken = reader->broken;
    size_t length = 0, count = 0;
    const uint8_t *bytes = NULL;
    switch (choice % 6) {
    case 0:
        cv_read_nil(reader);
        break;
    case 1:
        count = (size_t)cv_read_uint(reader);
        HOLDS(!was_broken || count == 0);
        break;
    case 2:
        HOLDS(!cv_read_bool(reader) || !was_broken);
        break;
    case 3:
        count = cv_read_array(reader);
        HOLDS(count <= (size_t)(reader->end - reader->at));
        break;
    case 4:
        bytes = cv_read_bin(reader, &length);
        HOLDS(length == 0 || (bytes >= start && bytes + length <= reader->end));
        break;
    default:
        cv_read_skip(reader);
    }
    HOLDS(reader->at >= before && reader->at <= reader->end);
    HOLDS(!was_broken || reader->broken);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size < 1u + data[0])
        return 0;
    size_t choices = data[0];
    size_t length = size - 1 - choices;
    uint8_t *message = malloc(length); /* exactly as long, so that ASan sees a byte beyond */
    if (length != 0 && message == NULL)
        return 0;
    if (length != 0)
        memcpy(message, data + 1 + choices, length);
    cv_reader reader;
    cv_reader_init(&reader, message, length);
    for (size_t i = 0; i < choices; i++)
        read_one(&reader, data[1 + i], message);
    while (!reader.broken && reader.at != reader.end)
        cv_read_skip(&reader);
    free(message);
    return 0;
}
