/*
 * chain.h - block ciphers over parts, with a worker that keeps no state.
 *
 * The state that goes from part to part is here: the block that comes next (IV or counter), and
 * the bytes that do not fill a block yet.  CBC with padding works as CBC until its last block;
 * when it decrypts, a whole block is held back, since it may be that last one.
 */
#ifndef CONCLAVE_CHAIN_H
#define CONCLAVE_CHAIN_H

#include "operation.h"

struct cv_direction {
    unsigned operation; /* CV_ENCRYPT or CV_DECRYPT */
    bool decrypting;
    CK_RV length_error;
};

#define CV_CHAIN_CHUNK (256u * 1024u) /* sent at once */

bool cv_chains(const struct cv_operation *operation);
/* How many bytes come out when `length` go in now. */
size_t cv_chain_output(const struct cv_operation *operation, const struct cv_direction *direction,
                       size_t length);
/* Takes a part and gives cv_chain_output() bytes; `out` may be `in`. */
CK_RV cv_chain_update(struct cv_session *session, struct cv_operation *operation,
                      const struct cv_direction *direction, const uint8_t *in, size_t length,
                      uint8_t *out);
CK_RV cv_chain_final(struct cv_session *session, struct cv_operation *operation,
                     const struct cv_direction *direction, uint8_t *out, CK_ULONG *out_length);

#endif
