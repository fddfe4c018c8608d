/* test_greeting.c - frame lengths, greetings and the buffer they arrive in. */
#define _GNU_SOURCE
#include <string.h>

#include "buffer.h"
#include "check.h"
#include "connect.h"
#include "wire.h"

static void put_greeting(cv_writer *writer, const char *magic, uint64_t version, uint64_t index,
                         uint64_t count)
{
    cv_writer_free(writer);
    cv_write_array(writer, 9);
    cv_write_uint(writer, 0);
    cv_write_str(writer, magic);
    cv_write_uint(writer, version);
    cv_write_uint(writer, index);
    cv_write_uint(writer, count);
    cv_write_str(writer, "cluster");
    cv_write_str(writer, "member");
    cv_write_uint(writer, 1700000000000);
    cv_write_bool(writer, true);
}

static bool accepts(const cv_writer *writer)
{
    struct cv_greeting greeting;
    return cv_greeting_parse(writer->bytes, writer->length, &greeting);
}

static void a_greeting_tells_worker_and_time(void)
{
    cv_writer writer = { 0 };
    struct cv_greeting greeting;
    put_greeting(&writer, "conclave", 1, 2, 4);
    CHECK(cv_greeting_parse(writer.bytes, writer.length, &greeting));
    CHECK(greeting.worker_index == 2 && greeting.worker_count == 4);
    CHECK(greeting.cluster_time_ms == 1700000000000 && greeting.authorized);
    for (size_t cut = 0; cut < writer.length; cut++)
        CHECK(!cv_greeting_parse(writer.bytes, cut, &greeting));
    cv_writer_free(&writer);
}

static void a_greeting_of_anything_else_is_refused(void)
{
    cv_writer writer = { 0 };
    put_greeting(&writer, "conclavf", 1, 0, 1);
    CHECK(!accepts(&writer));
    put_greeting(&writer, "conclav", 1, 0, 1);
    CHECK(!accepts(&writer));
    put_greeting(&writer, "conclave", 2, 0, 1);
    CHECK(!accepts(&writer));
    put_greeting(&writer, "conclave", 1, 1, 1);
    CHECK(!accepts(&writer));
    put_greeting(&writer, "conclave", 1, 0, 0);
    CHECK(!accepts(&writer));
    put_greeting(&writer, "conclave", 1, 0, UINT64_MAX);
    CHECK(!accepts(&writer));
    cv_writer_free(&writer);
}

static void frame_lengths_are_bounded(void)
{
    CHECK(cv_frame_length((const uint8_t *)"\0\0\0", 3) == 0);
    CHECK(cv_frame_length((const uint8_t *)"\0\0\0\1", 4) == 1);
    CHECK(cv_frame_length((const uint8_t *)"\0\x10\0\0", 4) == CV_WIRE_MAX_FRAME);
    CHECK(cv_frame_length((const uint8_t *)"\0\x10\0\1", 4) == CV_FRAME_BROKEN);
    CHECK(cv_frame_length((const uint8_t *)"\xff\xff\xff\xff", 4) == CV_FRAME_BROKEN);
    CHECK(cv_frame_length((const uint8_t *)"\0\0\0\0", 4) == CV_FRAME_BROKEN);
}

/* Appends and consumes at random and compares with a plain array. */
static void a_buffer_keeps_its_bytes_in_order(void)
{
    struct cv_buffer buffer = { 0 };
    uint8_t written = 0, expected = 0;
    unsigned state = 12345;
    for (int round = 0; round < 20000; round++) {
        state = state * 1103515245u + 12345u;
        size_t count = (state >> 16) % 700;
        if (state & 0x8000u) {
            uint8_t bytes[700];
            for (size_t i = 0; i < count; i++)
                bytes[i] = written++;
            CHECK(cv_buffer_append(&buffer, bytes, count));
        } else {
            if (count > cv_buffer_length(&buffer))
                count = cv_buffer_length(&buffer);
            for (size_t i = 0; i < count; i++)
                CHECK(buffer.bytes[buffer.start + i] == expected++);
            cv_buffer_consume(&buffer, count);
        }
    }
    cv_buffer_free(&buffer);
}

static void what_a_buffer_gives_up_is_wiped(void)
{
    static const uint8_t zeros[64];
    struct cv_buffer buffer = { 0 };
    uint8_t secret[64];
    memset(secret, 0x5a, sizeof secret);
    CHECK(cv_buffer_append(&buffer, secret, sizeof secret));
    CHECK(cv_buffer_append(&buffer, secret, sizeof secret));
    cv_buffer_consume(&buffer, sizeof secret);
    CHECK(memcmp(buffer.bytes, zeros, sizeof zeros) == 0);
    /* Moving what is left to the front leaves no copy behind. */
    CHECK(cv_buffer_reserve(&buffer, buffer.capacity - sizeof secret));
    CHECK(buffer.start == 0 && memcmp(buffer.bytes, secret, sizeof secret) == 0);
    CHECK(memcmp(buffer.bytes + sizeof secret, zeros, sizeof zeros) == 0);
    cv_buffer_free(&buffer);
}

int main(void)
{
    RUN(a_greeting_tells_worker_and_time);
    RUN(a_greeting_of_anything_else_is_refused);
    RUN(frame_lengths_are_bounded);
    RUN(a_buffer_keeps_its_bytes_in_order);
    RUN(what_a_buffer_gives_up_is_wiped);
    return check_report("test_greeting");
}
