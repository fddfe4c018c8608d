/* request.c - see request.h. */
#define _GNU_SOURCE
#include "request.h"

#include "connect.h"
#include "operations.h"
#include "wire.h"

#define SOFTWARE "conclave-pkcs11 0.1.0"

bool cv_request_put(struct cv_buffer *queued, uint32_t id, const struct cv_request *request)
{
    uint8_t space[48];
    uint8_t tail[9] = { 0xcf };
    size_t tail_length = request->least_position != 0 ? sizeof tail : 0;
    uint8_t *at = space + CV_FRAME_HEADER;
    for (int i = 0; i < 8; i++)
        tail[i + 1] = (uint8_t)(request->least_position >> (56 - 8 * i));
    *at++ = tail_length != 0 ? 0x95 : 0x94;
    *at++ = 0xce;
    for (int shift = 24; shift >= 0; shift -= 8)
        *at++ = (uint8_t)(id >> shift);
    *at++ = 0xcd;
    *at++ = (uint8_t)(request->operation >> 8);
    *at++ = (uint8_t)request->operation;
    if (request->ticket == NULL) {
        *at++ = 0xc0;
    } else {
        *at++ = 0xc5;
        *at++ = (uint8_t)(request->ticket_length >> 8);
        *at++ = (uint8_t)request->ticket_length;
    }
    size_t head = (size_t)(at - space);
    size_t ticket = request->ticket != NULL ? request->ticket_length : 0;
    size_t body = head - CV_FRAME_HEADER + ticket + request->args_length + tail_length;
    for (int i = 0; i < CV_FRAME_HEADER; i++)
        space[i] = (uint8_t)(body >> (24 - 8 * i));
    return cv_buffer_reserve(queued, CV_FRAME_HEADER + body) &&
           cv_buffer_append(queued, space, head) &&
           cv_buffer_append(queued, request->ticket, ticket) &&
           cv_buffer_append(queued, request->args, request->args_length) &&
           cv_buffer_append(queued, tail, tail_length);
}

bool cv_request_put_bare(struct cv_buffer *queued, uint32_t id, unsigned operation)
{
    static const uint8_t no_arguments[1] = { 0x90 };
    struct cv_request bare = { .operation = operation, .args = no_arguments, .args_length = 1 };
    return cv_request_put(queued, id, &bare);
}

bool cv_request_put_hello(struct cv_buffer *queued, const uint8_t process_id[16], bool direct)
{
    cv_writer args;
    cv_writer_init(&args);
    cv_write_array(&args, direct ? 2 : 3);
    cv_write_bin(&args, process_id, 16);
    cv_write_str(&args, SOFTWARE);
    if (!direct)
        cv_write_bool(&args, false); /* the member spreads for us */
    struct cv_request hello = {
        .operation = CV_HELLO, .args = args.bytes, .args_length = args.length
    };
    bool put = !args.failed && cv_request_put(queued, CV_HELLO_ID, &hello);
    cv_writer_free(&args);
    return put;
}
