/*
 * nonces.c - see nonces.h.
 *
 * A nonce that comes twice under one key gives the key's protection away.  The counter is one for
 * the whole process, so no two sessions get the same number, and begins at random, so two
 * processes with the same key and the same fixed bits do not either.
 */
#include "nonces.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>

#include "rpc.h"

#define COUNTER_BITS_LEAST 64 /* fewer could come round, or meet another process's */
#define RANDOM_BITS_LEAST 96  /* NIST SP 800-38D, section 8.2.2 */

__extension__ typedef unsigned __int128 counter_number;

static counter_number first;
static atomic_uint_fast64_t drawn;

/* The kernel's random bytes: OpenSSL's first draw reads the application's openssl.cnf, and an engine
 * in it may call the C_Initialize that waits for this one. */
CK_RV cv_nonces_start(void)
{
    atomic_store(&drawn, 0);
    return getrandom(&first, sizeof first, 0) == sizeof first ? CKR_OK : CKR_DEVICE_ERROR;
}

/* The number's bytes, the least significant last. */
static void put_counter(uint8_t *out, size_t length)
{
    counter_number number = first + atomic_fetch_add(&drawn, 1);
    memset(out, 0, length);
    for (size_t i = length; i-- > 0; number >>= 8)
        out[i] = (uint8_t)number;
}

/* Replaces all but the leading `fixed_bits` by those of `fresh`. */
static void merge(uint8_t *out, const uint8_t *fresh, size_t length, size_t fixed_bits)
{
    for (size_t i = 0; i < length; i++) {
        size_t kept = fixed_bits <= 8 * i ? 0 : fixed_bits - 8 * i;
        uint8_t mask = kept >= 8 ? 0 : (uint8_t)(0xff >> kept);
        out[i] = (uint8_t)((out[i] & ~mask) | (fresh[i] & mask));
    }
}

CK_RV cv_nonce_make(const struct cv_nonce *nonce, uint8_t *out)
{
    uint8_t fresh[CV_NONCE_MAX];
    CK_RV value = CKR_OK;
    if (nonce->bytes == NULL || nonce->length < 1 || nonce->length > CV_NONCE_MAX)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(out, nonce->bytes, nonce->length);
    if (nonce->generator == CKG_NO_GENERATE)
        return CKR_OK;
    if (nonce->fixed_bits > 8 * nonce->length)
        return CKR_MECHANISM_PARAM_INVALID;
    size_t bits = 8 * nonce->length - nonce->fixed_bits;
    if (nonce->generator == CKG_GENERATE_RANDOM && bits >= RANDOM_BITS_LEAST)
        value = cv_random(fresh, nonce->length);
    else if ((nonce->generator == CKG_GENERATE || nonce->generator == CKG_GENERATE_COUNTER) &&
             bits >= COUNTER_BITS_LEAST)
        put_counter(fresh, nonce->length);
    else
        return CKR_MECHANISM_PARAM_INVALID;
    if (value == CKR_OK)
        merge(out, fresh, nonce->length, nonce->fixed_bits);
    return value;
}
