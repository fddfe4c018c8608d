/*
 * mechanisms.h - what the module must know of a mechanism.
 *
 * A mechanism is a row of the table in mechanisms.c: how its parameter goes on the wire, what is
 * done here when data come in parts, and how long the result is.  Everything else about it is
 * the worker's business.
 */
#ifndef CONCLAVE_MECHANISMS_H
#define CONCLAVE_MECHANISMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cryptoki.h"
#include "wire.h"

#define CV_BLOCK 16
#define CV_DIGEST_MAX 64

enum cv_digest {
    CV_NO_DIGEST,
    CV_SHA_1,
    CV_SHA_224,
    CV_SHA_256,
    CV_SHA_384,
    CV_SHA_512,
    CV_SHA_512_224,
    CV_SHA_512_256,
    CV_SHA3_224,
    CV_SHA3_256,
    CV_SHA3_384,
    CV_SHA3_512
};

enum cv_parts {
    CV_COLLECT, /* parts are kept here and sent as one */
    CV_HASH,    /* parts are hashed here, the digest is sent */
    CV_CHAIN_ECB,
    CV_CHAIN_CBC,
    CV_CHAIN_CBC_PAD,
    CV_CHAIN_CTR
};

enum cv_length {
    CV_LENGTH_MODULUS,    /* of the key, rounded up to bytes */
    CV_LENGTH_TWICE,      /* two numbers of the key's size */
    CV_LENGTH_EDWARDS,    /* of Ed25519 or Ed448 (RFC 8032) */
    CV_LENGTH_ML_DSA,     /* of ML-DSA with a public key of this size (FIPS 204, table 2) */
    CV_LENGTH_ML_KEM,     /* of a ciphertext for a public key of this size (FIPS 203, table 3) */
    CV_LENGTH_DIGEST,     /* of the digest */
    CV_LENGTH_BLOCK,      /* of a block of AES */
    CV_LENGTH_PARAMETER,  /* the parameter says it */
    CV_LENGTH_DATA,       /* of the data */
    CV_LENGTH_PADDED,     /* of the data, padded to blocks */
    CV_LENGTH_WRAPPED,    /* of the data, filled up to groups of 8 bytes, and one group more */
    CV_LENGTH_TAGGED      /* of the data and the tag that the parameter names */
};

enum cv_family { CV_ANY_KEY, CV_RSA, CV_EC, CV_EDWARDS, CV_AES, CV_AES_XTS, CV_CHACHA20, CV_ML_DSA, CV_ML_KEM, CV_DES3, CV_MAC };

/* What the module itself needs from a parameter. */
struct cv_parameter {
    uint8_t block[CV_BLOCK]; /* IV or counter block */
    unsigned counter_bits;
    size_t result_bytes; /* length of a tag or of a shortened MAC */
    bool has_second_key; /* whose reference is still to be appended: C_DeriveKey */
    CK_OBJECT_HANDLE second_key;
};

struct cv_mechanism {
    CK_MECHANISM_TYPE type;
    CK_FLAGS usage; /* CKF_SIGN, CKF_ENCRYPT, ...: as CK_MECHANISM_INFO has them */
    enum cv_family family;
    CK_RV (*put_parameter)(const struct cv_mechanism *row, const CK_MECHANISM *given,
                           cv_writer *out, struct cv_parameter *facts);
    enum cv_parts parts;
    enum cv_length length;
    enum cv_digest digest;
};

const struct cv_mechanism *cv_mechanism_find(CK_MECHANISM_TYPE type);
/* Whether it signs messages: not if all would have the nonce that is told at the beginning. */
bool cv_mechanism_signs_messages(const struct cv_mechanism *row);
bool cv_mechanism_fits(const struct cv_mechanism *row, CK_KEY_TYPE key_type);
/* Appends the parameter to `out` as docs/protocol.md has it; CKR_MECHANISM_PARAM_INVALID. */
CK_RV cv_mechanism_put_parameter(const struct cv_mechanism *row, const CK_MECHANISM *given,
                                 cv_writer *out, struct cv_parameter *facts);
/* The length of a result, or the most it can be (decryption); `bits` is the key's size. */
size_t cv_mechanism_result_length(const struct cv_mechanism *row, const struct cv_parameter *facts,
                                  CK_ULONG bits, bool decrypting, size_t data_length);
size_t cv_digest_length(enum cv_digest digest);

/* digests.c: in an OpenSSL library context of our own, so that a provider which the application
 * loads (one that may call this very module) is never asked. */
CK_RV cv_digests_start(void);
void cv_digests_stop(void);
void cv_digests_abandon(void);
CK_RV cv_digest_begin(void **context, enum cv_digest digest);
CK_RV cv_digest_add(void *context, const void *data, size_t length);
CK_RV cv_digest_end(void *context, uint8_t *out);
/* Makes `*to`, which may be NULL or in use, go on where `from` is. */
CK_RV cv_digest_copy(void **to, const void *from);
void cv_digest_free(void **context);

#endif
