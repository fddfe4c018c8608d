/*
 * told.h - what answers tell of the cluster: the state element, and the list of members.
 *
 * Ids, addresses and groups are kept as the text that came; none holds a control character, so
 * they can be written to a file of lines.
 */
#ifndef CONCLAVE_TOLD_H
#define CONCLAVE_TOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

#define CV_MOST_MEMBERS 8u
#define CV_TOLD_ID 64
#define CV_TOLD_GROUP 132
#define CV_TOLD_KEY 32

/* Ordered by number, then by the id of the member that opened it. */
struct cv_epoch {
    uint64_t number;
    char promoter[CV_TOLD_ID];
};

/* The fifth element of an answer. */
struct cv_told {
    struct cv_epoch epoch;
    uint64_t position;        /* of the log, as far as the member has it */
    uint64_t members_version; /* of the list it would answer MEMBERS with */
    bool read_write;
};

enum cv_standing { CV_READ_WRITE, CV_READ_ONLY, CV_NOT_VISIBLE, CV_NOT_AUTHORIZED };

struct cv_listed {
    char id[CV_TOLD_ID];
    char host[256];
    char port[6];
    char group[CV_TOLD_GROUP];
    uint8_t key[CV_TOLD_KEY]; /* SHA-256 of its public key */
    enum cv_standing standing;
};

struct cv_listing {
    uint64_t version;
    size_t count;
    struct cv_listed members[CV_MOST_MEMBERS];
    char local_group[CV_TOLD_GROUP];
};

int cv_epoch_compare(const struct cv_epoch *a, const struct cv_epoch *b);

/* Copies text without control characters into `out`; false if there is none or it does not fit. */
bool cv_told_text(cv_reader *reader, char *out, size_t size);
/* Reads a state element; false, and nothing said, if it is not of that shape. */
bool cv_told_read(cv_reader *reader, struct cv_told *told);
/* Reads the answer to MEMBERS, a whole frame's body. */
bool cv_listing_read(const uint8_t *body, size_t length, struct cv_listing *listing);

#endif
