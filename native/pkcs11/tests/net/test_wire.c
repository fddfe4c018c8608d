/* test_wire.c - the msgpack reader and writer, bound by bound. */
#define _GNU_SOURCE
#include <string.h>

#include "check.h"
#include "wire.h"

static cv_reader reading(const void *bytes, size_t length)
{
    cv_reader reader;
    cv_reader_init(&reader, bytes, length);
    return reader;
}

#define READ(text) reading(text, sizeof(text) - 1)

static void reads_every_width_of_integer(void)
{
    static const struct {
        const char *bytes;
        size_t length;
        uint64_t value;
    } rows[] = {
        { "\x00", 1, 0 },
        { "\x7f", 1, 127 },
        { "\xcc\xff", 2, 255 },
        { "\xcd\x12\x34", 3, 0x1234 },
        { "\xce\xff\xff\xff\xff", 5, UINT32_MAX },
        { "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9, UINT64_MAX },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cv_reader reader = reading(rows[i].bytes, rows[i].length);
        CHECK(cv_read_uint(&reader) == rows[i].value && !reader.broken);
        for (size_t cut = 0; cut < rows[i].length; cut++) {
            cv_reader short_reader = reading(rows[i].bytes, cut);
            CHECK(cv_read_uint(&short_reader) == 0 && short_reader.broken);
        }
    }
}

static void refuses_negative_integers_and_other_types(void)
{
    static const char types[] = "\xe0\xff\xd0\xd1\xd2\xd3\xc0\xc1\xc2\xca\xa1\x91\x81";
    for (size_t i = 0; i < sizeof types - 1; i++) {
        char bytes[10] = { types[i], 1 };
        cv_reader reader = reading(bytes, sizeof bytes);
        CHECK(cv_read_uint(&reader) == 0 && reader.broken);
    }
}

static void nil_is_consumed_only_if_it_is_there(void)
{
    cv_reader reader = READ("\xc0\x05");
    CHECK(cv_read_nil(&reader));
    CHECK(!cv_read_nil(&reader));
    CHECK(cv_read_uint(&reader) == 5 && !reader.broken);
    CHECK(!cv_read_nil(&reader));
}

static void reads_booleans_and_nothing_else(void)
{
    cv_reader reader = READ("\xc3\xc2\x01");
    CHECK(cv_read_bool(&reader));
    CHECK(!cv_read_bool(&reader) && !reader.broken);
    CHECK(!cv_read_bool(&reader) && reader.broken);
}

static void an_array_longer_than_the_frame_is_broken(void)
{
    cv_reader reader = READ("\x92\x01\x02");
    CHECK(cv_read_array(&reader) == 2 && !reader.broken);
    reader = READ("\x93\x01\x02");
    CHECK(cv_read_array(&reader) == 0 && reader.broken);
    reader = READ("\xdd\xff\xff\xff\xff\x01\x02");
    CHECK(cv_read_array(&reader) == 0 && reader.broken);
    reader = READ("\xdc\x00\x02\x01\x02");
    CHECK(cv_read_array(&reader) == 2 && !reader.broken);
}

static void reads_bin_and_str_of_every_width(void)
{
    static const char *const rows[] = {
        "\xa3" "abc", "\xc4\x03" "abc", "\xd9\x03" "abc", "\xc5\x00\x03" "abc",
        "\xda\x00\x03" "abc", "\xc6\x00\x00\x00\x03" "abc", "\xdb\x00\x00\x00\x03" "abc",
    };
    static const size_t heads[] = { 1, 2, 2, 3, 3, 5, 5 };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t length;
        cv_reader reader = reading(rows[i], heads[i] + 3);
        const uint8_t *bytes = cv_read_bin(&reader, &length);
        CHECK(length == 3 && memcmp(bytes, "abc", 3) == 0 && reader.at == reader.end);
        reader = reading(rows[i], heads[i] + 2);
        CHECK(cv_read_bin(&reader, &length) == NULL && length == 0 && reader.broken);
    }
}

static void a_declared_length_is_never_believed(void)
{
    size_t length;
    cv_reader reader = READ("\xc6\xff\xff\xff\xff" "abc");
    CHECK(cv_read_bin(&reader, &length) == NULL && length == 0 && reader.broken);
    reader = READ("\xc9\xff\xff\xff\xff\x01" "abc");
    cv_read_skip(&reader);
    CHECK(reader.broken);
}

static void a_broken_reader_stays_broken(void)
{
    size_t length;
    cv_reader reader = READ("\xc1\x05\xc3\x91");
    cv_read_skip(&reader);
    CHECK(reader.broken);
    CHECK(cv_read_uint(&reader) == 0 && !cv_read_bool(&reader) && cv_read_array(&reader) == 0);
    CHECK(cv_read_bin(&reader, &length) == NULL && !cv_read_nil(&reader));
    cv_read_skip(&reader);
    CHECK(reader.broken);
}

static void skips_one_value_of_any_type(void)
{
    static const struct {
        const char *bytes;
        size_t length;
    } rows[] = {
        { "\x05", 1 },
        { "\xff", 1 },
        { "\xc0", 1 },
        { "\xca\x01\x02\x03\x04", 5 },
        { "\xcb\x01\x02\x03\x04\x05\x06\x07\x08", 9 },
        { "\xd0\x01", 2 },
        { "\xd3\x01\x02\x03\x04\x05\x06\x07\x08", 9 },
        { "\xcf\x01\x02\x03\x04\x05\x06\x07\x08", 9 },
        { "\xd4\x01\x02", 3 },
        { "\xd8\x01" "0123456789abcdef", 18 },
        { "\xc7\x02\x01" "ab", 5 },
        { "\xc8\x00\x02\x01" "ab", 6 },
        { "\x82\xa1" "a\x01\xa1" "b\x92\x01\xc0", 9 },
        { "\xde\x00\x01\x01\x02", 5 },
        { "\xdc\x00\x02\x90\x80", 5 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cv_reader reader = reading(rows[i].bytes, rows[i].length);
        cv_read_skip(&reader);
        CHECK(!reader.broken && reader.at == reader.end);
        reader = reading(rows[i].bytes, rows[i].length - 1);
        cv_read_skip(&reader);
        CHECK(reader.broken || rows[i].length == 1);
    }
}

static void skip_stops_at_the_depth_limit(void)
{
    char bytes[CV_WIRE_MAX_DEPTH + 2];
    memset(bytes, '\x91', sizeof bytes);
    bytes[CV_WIRE_MAX_DEPTH] = 1;
    cv_reader reader = reading(bytes, CV_WIRE_MAX_DEPTH + 1);
    cv_read_skip(&reader);
    CHECK(!reader.broken);
    bytes[CV_WIRE_MAX_DEPTH] = '\x91';
    bytes[CV_WIRE_MAX_DEPTH + 1] = 1;
    reader = reading(bytes, CV_WIRE_MAX_DEPTH + 2);
    cv_read_skip(&reader);
    CHECK(reader.broken);
}

static void an_empty_reader_breaks_at_the_first_read(void)
{
    cv_reader reader = reading(NULL, 0);
    CHECK(!cv_read_nil(&reader) && !reader.broken);
    cv_read_skip(&reader);
    CHECK(reader.broken);
}

static void what_is_written_is_read_back(void)
{
    static uint8_t data[70000];
    static const size_t lengths[] = { 0, 1, 31, 255, 256, 65535, 65536, 70000 };
    static const uint64_t numbers[] = { 0, 127, 128, 255, 256, 65535, 65536, UINT32_MAX,
                                        UINT64_C(1) << 32, UINT64_MAX };
    cv_writer writer;
    cv_writer_init(&writer);
    cv_write_array(&writer, 20);
    for (size_t i = 0; i < 8; i++)
        cv_write_bin(&writer, data, lengths[i]);
    for (size_t i = 0; i < 10; i++)
        cv_write_uint(&writer, numbers[i]);
    cv_write_str(&writer, "a string of more than thirty-one characters");
    cv_write_bool(&writer, true);
    CHECK(!writer.failed);
    cv_reader reader = reading(writer.bytes, writer.length);
    size_t length;
    CHECK(cv_read_array(&reader) == 20);
    for (size_t i = 0; i < 8; i++)
        CHECK(cv_read_bin(&reader, &length) != NULL && length == lengths[i]);
    for (size_t i = 0; i < 10; i++)
        CHECK(cv_read_uint(&reader) == numbers[i]);
    CHECK(cv_read_bin(&reader, &length) != NULL && length == 43);
    CHECK(cv_read_bool(&reader) && reader.at == reader.end && !reader.broken);
    cv_writer_free(&writer);
    CHECK(writer.bytes == NULL && writer.length == 0);
}

static void array_heads_have_the_right_width(void)
{
    cv_writer writer;
    cv_writer_init(&writer);
    cv_write_array(&writer, 15);
    cv_write_array(&writer, 16);
    cv_write_array(&writer, 65536);
    CHECK(writer.length == 9 &&
          memcmp(writer.bytes, "\x9f\xdc\x00\x10\xdd\x00\x01\x00\x00", 9) == 0);
    cv_writer_free(&writer);
}

static void the_writer_stops_at_the_frame_limit(void)
{
    static uint8_t data[CV_WIRE_MAX_FRAME + 1];
    cv_writer writer;
    cv_writer_init(&writer);
    cv_write_array(&writer, 1);
    cv_write_bin(&writer, data, CV_WIRE_MAX_FRAME - 6);
    CHECK(!writer.failed && writer.length == CV_WIRE_MAX_FRAME);
    cv_write_nil(&writer);
    CHECK(writer.failed && writer.length == CV_WIRE_MAX_FRAME);
    cv_writer_free(&writer);
    cv_write_bin(&writer, data, sizeof data);
    CHECK(writer.failed);
    cv_write_uint(&writer, 1);
    CHECK(writer.length < 8);
    cv_writer_free(&writer);
}

static void a_cleared_writer_holds_nothing_and_begins_anew(void)
{
    cv_writer writer;
    cv_writer_init(&writer);
    cv_write_str(&writer, "secret");
    uint8_t *bytes = writer.bytes;
    size_t capacity = writer.capacity;
    cv_writer_clear(&writer, capacity);
    CHECK(writer.length == 0 && writer.bytes == bytes && writer.capacity == capacity);
    CHECK(memcmp(bytes, "\0\0\0\0\0\0\0", 7) == 0);
    cv_write_str(&writer, "secret");
    cv_writer_clear(&writer, capacity - 1);
    CHECK(writer.length == 0 && writer.bytes == NULL && writer.capacity == 0);
    cv_writer_free(&writer);
}

/* As a writer is left that found no memory, and one that ran past the bound. */
static void a_cleared_writer_has_not_failed(void)
{
    cv_writer broke = { .capacity = SIZE_MAX, .failed = true }, full;
    cv_writer_clear(&broke, SIZE_MAX);
    cv_write_str(&broke, "text");
    CHECK(!broke.failed && broke.length == 5);
    cv_writer_free(&broke);
    cv_writer_init(&full);
    cv_write_nil(&full);
    full.failed = true;
    cv_writer_clear(&full, SIZE_MAX);
    cv_write_nil(&full);
    CHECK(!full.failed && full.length == 1);
    cv_writer_free(&full);
}

static void null_with_length_zero_is_an_empty_bin(void)
{
    size_t length;
    cv_writer writer;
    cv_writer_init(&writer);
    cv_write_bin(&writer, NULL, 0);
    cv_write_raw(&writer, NULL, 0);
    CHECK(!writer.failed && writer.length == 2);
    cv_reader reader = reading(writer.bytes, writer.length);
    CHECK(cv_read_bin(&reader, &length) != NULL && length == 0 && !reader.broken);
    cv_writer_free(&writer);
}

int main(void)
{
    RUN(reads_every_width_of_integer);
    RUN(refuses_negative_integers_and_other_types);
    RUN(nil_is_consumed_only_if_it_is_there);
    RUN(reads_booleans_and_nothing_else);
    RUN(an_array_longer_than_the_frame_is_broken);
    RUN(reads_bin_and_str_of_every_width);
    RUN(a_declared_length_is_never_believed);
    RUN(a_broken_reader_stays_broken);
    RUN(skips_one_value_of_any_type);
    RUN(skip_stops_at_the_depth_limit);
    RUN(an_empty_reader_breaks_at_the_first_read);
    RUN(what_is_written_is_read_back);
    RUN(array_heads_have_the_right_width);
    RUN(the_writer_stops_at_the_frame_limit);
    RUN(a_cleared_writer_holds_nothing_and_begins_anew);
    RUN(a_cleared_writer_has_not_failed);
    RUN(null_with_length_zero_is_an_empty_bin);
    return check_report("test_wire");
}
