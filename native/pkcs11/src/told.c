/* told.c - see told.h. */
#include "told.h"

#include <stdio.h>
#include <string.h>

int cv_epoch_compare(const struct cv_epoch *a, const struct cv_epoch *b)
{
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return strcmp(a->promoter, b->promoter);
}

bool cv_told_text(cv_reader *reader, char *out, size_t size)
{
    size_t length;
    const uint8_t *text = cv_read_bin(reader, &length);
    out[0] = '\0';
    if (reader->broken || length == 0 || length >= size)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < ' ' || text[i] == 0x7f)
            return false;
    }
    memcpy(out, text, length);
    out[length] = '\0';
    return true;
}

bool cv_told_read(cv_reader *reader, struct cv_told *told)
{
    if (cv_read_array(reader) < 5)
        return false;
    told->epoch.number = cv_read_uint(reader);
    if (!cv_told_text(reader, told->epoch.promoter, sizeof told->epoch.promoter))
        return false;
    told->position = cv_read_uint(reader);
    told->members_version = cv_read_uint(reader);
    told->read_write = cv_read_bool(reader);
    return !reader->broken;
}

static bool read_member(cv_reader *reader, struct cv_listed *member)
{
    size_t elements = cv_read_array(reader);
    size_t key_length;
    if (elements < 6 || !cv_told_text(reader, member->id, sizeof member->id) ||
        !cv_told_text(reader, member->host, sizeof member->host))
        return false;
    uint64_t port = cv_read_uint(reader);
    if (port == 0 || port > 65535 ||
        !cv_told_text(reader, member->group, sizeof member->group))
        return false;
    snprintf(member->port, sizeof member->port, "%u", (unsigned)port);
    const uint8_t *key = cv_read_bin(reader, &key_length);
    if (reader->broken || key_length != sizeof member->key)
        return false;
    memcpy(member->key, key, sizeof member->key);
    uint64_t standing = cv_read_uint(reader);
    if (standing > CV_NOT_AUTHORIZED)
        return false;
    member->standing = (enum cv_standing)standing;
    for (size_t i = 6; i < elements; i++)
        cv_read_skip(reader);
    return !reader->broken;
}

bool cv_listing_read(const uint8_t *body, size_t length, struct cv_listing *listing)
{
    cv_reader reader;
    cv_reader_init(&reader, body, length);
    if (cv_read_array(&reader) < 3)
        return false;
    cv_read_uint(&reader); /* the id, which brought it here */
    if (cv_read_uint(&reader) != 0 || cv_read_array(&reader) < 3)
        return false;
    listing->version = cv_read_uint(&reader);
    listing->count = cv_read_array(&reader);
    if (reader.broken || listing->count == 0 || listing->count > CV_MOST_MEMBERS)
        return false;
    for (size_t i = 0; i < listing->count; i++) {
        if (!read_member(&reader, &listing->members[i]))
            return false;
    }
    return cv_told_text(&reader, listing->local_group, sizeof listing->local_group);
}
