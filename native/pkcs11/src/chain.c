/* chain.c - see chain.h. */
#include "chain.h"

#include <openssl/crypto.h>
#include <string.h>

__extension__ typedef unsigned __int128 counter_number;

struct span {
    const uint8_t *bytes;
    size_t length;
};

bool cv_chains(const struct cv_operation *operation)
{
    return operation->mechanism->parts >= CV_CHAIN_ECB;
}

static bool is_stream(const struct cv_operation *operation)
{
    return operation->mechanism->parts == CV_CHAIN_CTR;
}

size_t cv_chain_output(const struct cv_operation *operation, const struct cv_direction *direction,
                       size_t length)
{
    if (is_stream(operation))
        return length;
    size_t total = operation->pending_length + length;
    bool holds_back = direction->decrypting && operation->mechanism->parts == CV_CHAIN_CBC_PAD;
    if (holds_back && total > 0)
        total--;
    return total / CV_BLOCK * CV_BLOCK;
}

static void put_block(struct cv_operation *operation)
{
    cv_writer *out = &operation->parameter;
    cv_writer_clear(out, CV_KEPT_BUFFER);
    if (is_stream(operation)) {
        cv_write_array(out, 2);
        cv_write_uint(out, operation->facts.counter_bits);
    }
    if (operation->mechanism->parts == CV_CHAIN_ECB)
        cv_write_nil(out);
    else
        cv_write_bin(out, operation->facts.block, CV_BLOCK);
}

/* One round trip; what comes back must be as long as what went out. */
static CK_RV transform(struct cv_session *session, struct cv_operation *operation,
                       const struct cv_direction *direction, struct span data,
                       struct cv_reply *reply, const uint8_t **result)
{
    CK_MECHANISM_TYPE type = operation->mechanism->type;
    put_block(operation);
    struct cv_use use = {.operation = direction->operation,
                         .mechanism = type == CKM_AES_CBC_PAD ? CKM_AES_CBC : type,
                         .parameter = &operation->parameter,
                         .data = data.bytes,
                         .length = data.length};
    CK_RV value = cv_use_key(session, operation, &use, reply);
    if (value != CKR_OK)
        return value;
    size_t length;
    *result = cv_read_bin(&reply->result, &length);
    return reply->result.broken || length != data.length ? CKR_DEVICE_ERROR : CKR_OK;
}

/* Puts what was pending before a part; without anything pending the part itself is used. */
static CK_RV join(struct cv_operation *operation, const uint8_t *part, size_t length,
                  struct span *joined)
{
    *joined = (struct span){part, length};
    if (operation->pending_length == 0)
        return CKR_OK;
    cv_writer *buffer = &operation->collected;
    cv_writer_clear(buffer, CV_WIRE_MAX_FRAME);
    cv_write_raw(buffer, operation->pending, operation->pending_length);
    cv_write_raw(buffer, part, length);
    *joined = (struct span){buffer->bytes, buffer->length};
    return buffer->failed ? CKR_HOST_MEMORY : CKR_OK;
}

static void keep(struct cv_operation *operation, const uint8_t *bytes, size_t length)
{
    if (length > 0)
        memcpy(operation->pending + operation->pending_length, bytes, length);
    operation->pending_length += length;
}

/* Sends whole blocks and writes what comes back to `out`, which may lie over the data: whatever
 * of them is needed later is taken before. */
static CK_RV send_blocks(struct cv_session *session, struct cv_operation *operation,
                         const struct cv_direction *direction, struct span data, uint8_t *out)
{
    struct cv_reply reply = {0};
    const uint8_t *result = NULL;
    uint8_t last_in[CV_BLOCK];
    memcpy(last_in, data.bytes + data.length - CV_BLOCK, CV_BLOCK);
    CK_RV value = transform(session, operation, direction, data, &reply, &result);
    if (value == CKR_OK) {
        const uint8_t *last_out = result + data.length - CV_BLOCK;
        memcpy(operation->facts.block, direction->decrypting ? last_in : last_out, CV_BLOCK);
        memcpy(out, result, data.length);
    }
    OPENSSL_cleanse(last_in, sizeof last_in);
    cv_reply_free(&reply);
    return value;
}

static CK_RV update_blocks(struct cv_session *session, struct cv_operation *operation,
                           const struct cv_direction *direction, struct span in, uint8_t *out)
{
    size_t left = cv_chain_output(operation, direction, in.length);
    CK_RV value = CKR_OK;
    while (left > 0 && value == CKR_OK) {
        size_t now = left < CV_CHAIN_CHUNK ? left : CV_CHAIN_CHUNK;
        size_t held = operation->pending_length, taken = now - held;
        struct span data;
        value = join(operation, in.bytes, taken, &data);
        if (value != CKR_OK)
            return value;
        /* As much is read ahead as was pending, so that output never overtakes input. */
        size_t ahead = left > now ? held : in.length - taken;
        operation->pending_length = 0;
        keep(operation, in.bytes + taken, ahead);
        in = (struct span){in.bytes + taken + ahead, in.length - taken - ahead};
        value = send_blocks(session, operation, direction, data, out);
        out += now;
        left -= now;
    }
    if (value == CKR_OK)
        keep(operation, in.bytes, in.length);
    return value;
}

static counter_number counter_mask(const struct cv_operation *operation)
{
    unsigned bits = operation->facts.counter_bits;
    return bits >= 128 ? ~(counter_number)0 : ((counter_number)1 << bits) - 1;
}

static counter_number load_block(const uint8_t *block)
{
    counter_number number = 0;
    for (size_t i = 0; i < CV_BLOCK; i++)
        number = number << 8 | block[i];
    return number;
}

/* Moves the counter on.  Once it has come round it is spent: going on would use key stream
 * twice. */
static void advance(struct cv_operation *operation, size_t blocks)
{
    counter_number mask = counter_mask(operation), number = load_block(operation->facts.block);
    counter_number low = number & mask;
    if (blocks > mask - low)
        operation->counter_spent = true;
    number = (number & ~mask) | ((low + blocks) & mask);
    for (size_t i = CV_BLOCK; i-- > 0; number >>= 8)
        operation->facts.block[i] = (uint8_t)number;
}

/* Are there counter values for so many bytes more? */
static bool counter_lasts(const struct cv_operation *operation, size_t length)
{
    if (length == 0)
        return true;
    if (operation->counter_spent)
        return false;
    counter_number mask = counter_mask(operation);
    counter_number low = load_block(operation->facts.block) & mask;
    return (operation->pending_length + length - 1) / CV_BLOCK <= mask - low;
}

/* A counter needs no whole blocks: `pending_length` says how much of the block's key stream is
 * used, and that much of zeros goes before the data. */
static CK_RV update_stream(struct cv_session *session, struct cv_operation *operation,
                           const struct cv_direction *direction, struct span in, uint8_t *out)
{
    if (!counter_lasts(operation, in.length))
        return direction->length_error;
    CK_RV value = CKR_OK;
    memset(operation->pending, 0, sizeof operation->pending);
    while (in.length > 0 && value == CKR_OK) {
        size_t used = operation->pending_length;
        size_t now = in.length < CV_CHAIN_CHUNK ? in.length : CV_CHAIN_CHUNK;
        struct cv_reply reply = {0};
        const uint8_t *result = NULL;
        struct span data;
        value = join(operation, in.bytes, now, &data);
        if (value == CKR_OK)
            value = transform(session, operation, direction, data, &reply, &result);
        if (value == CKR_OK) {
            memcpy(out, result + used, now);
            advance(operation, (used + now) / CV_BLOCK);
            operation->pending_length = (used + now) % CV_BLOCK;
        }
        cv_reply_free(&reply);
        in = (struct span){in.bytes + now, in.length - now};
        out += now;
    }
    return value;
}

CK_RV cv_chain_update(struct cv_session *session, struct cv_operation *operation,
                      const struct cv_direction *direction, const uint8_t *in, size_t length,
                      uint8_t *out)
{
    struct span span = {in, length};
    return is_stream(operation) ? update_stream(session, operation, direction, span, out)
                                : update_blocks(session, operation, direction, span, out);
}

static CK_RV final_padded(struct cv_session *session, struct cv_operation *operation,
                          const struct cv_direction *direction, uint8_t *out,
                          CK_ULONG *out_length)
{
    struct cv_reply reply = {0};
    CK_RV value;
    if (direction->decrypting && operation->pending_length != CV_BLOCK)
        return direction->length_error;
    /* What comes out is exactly a block, or when decrypting at most that. */
    if (out == NULL || !direction->decrypting)
        if (cv_only_length(CV_BLOCK, out, out_length, &value))
            return value;
    put_block(operation);
    struct cv_use use = {.operation = direction->operation,
                         .mechanism = CKM_AES_CBC_PAD,
                         .parameter = &operation->parameter,
                         .data = operation->pending,
                         .length = operation->pending_length};
    value = cv_use_key(session, operation, &use, &reply);
    if (value == CKR_OK) {
        size_t length;
        const uint8_t *result = cv_read_bin(&reply.result, &length);
        value = reply.result.broken || length > CV_BLOCK
                    ? CKR_DEVICE_ERROR
                    : cv_give(result, length, out, out_length);
    }
    cv_reply_free(&reply);
    return value;
}

CK_RV cv_chain_final(struct cv_session *session, struct cv_operation *operation,
                     const struct cv_direction *direction, uint8_t *out, CK_ULONG *out_length)
{
    if (operation->mechanism->parts == CV_CHAIN_CBC_PAD)
        return final_padded(session, operation, direction, out, out_length);
    if (!is_stream(operation) && operation->pending_length > 0)
        return direction->length_error;
    *out_length = 0;
    return CKR_OK;
}
