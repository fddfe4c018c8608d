/* nonces.h - nonces that the module generates (PKCS#11 3.0, CK_GENERATOR_FUNCTION). */
#ifndef CONCLAVE_NONCES_H
#define CONCLAVE_NONCES_H

#include <stddef.h>
#include <stdint.h>

#include "cryptoki.h"

#define CV_NONCE_MAX 256 /* PKCS#11 3.0: ulIvLen is 1 to 256 */

struct cv_nonce {
    const uint8_t *bytes; /* the caller's: all of it, or its fixed bits */
    size_t length;
    size_t fixed_bits;
    CK_GENERATOR_FUNCTION generator;
};

CK_RV cv_nonces_start(void);
/* Writes `nonce->length` bytes to `out`; CKR_MECHANISM_PARAM_INVALID if it cannot be safe. */
CK_RV cv_nonce_make(const struct cv_nonce *nonce, uint8_t *out);

#endif
