/* request.h - requests as frames. */
#ifndef CONCLAVE_REQUEST_H
#define CONCLAVE_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"

#define CV_HELLO_ID 1u
#define CV_MEMBERS_ID 2u /* the last that has a meaning of its own */

/* What a caller sends: a request without its id. */
struct cv_request {
    unsigned operation;
    const uint8_t *ticket; /* NULL: nil */
    size_t ticket_length;
    const uint8_t *args; /* one msgpack array */
    size_t args_length;
    uint64_t least_position; /* that the member's log must have; 0: not said */
    bool prefers_writable;   /* asked of a member that changes could be asked of */
};

/* Whether it costs a worker little more than reading it does. */
bool cv_request_is_light(const struct cv_request *request);

/* Each appends one frame; false if there is no memory. */
bool cv_request_put(struct cv_buffer *queued, uint32_t id, const struct cv_request *request);
bool cv_request_put_bare(struct cv_buffer *queued, uint32_t id, unsigned operation);
bool cv_request_put_hello(struct cv_buffer *queued, const uint8_t process_id[16], bool direct);

#endif
