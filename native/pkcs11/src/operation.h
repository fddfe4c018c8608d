/* operation.h - what signing, verifying, encrypting and decrypting have in common. */
#ifndef CONCLAVE_OPERATION_H
#define CONCLAVE_OPERATION_H

#include "operations.h"
#include "state.h"

/* Lengths beyond this are no signature's; it keeps sums of lengths from overflowing. */
#define CV_SIGNATURE_MAX 65536

/* Bytes that are read, and where bytes go with the length that the caller gave. */
struct cv_text {
    const uint8_t *bytes;
    size_t length;
};

struct cv_place {
    uint8_t *bytes;
    CK_ULONG *length;
};

/* Data that cannot be there: no pointer, or more than any memory holds. */
static inline bool cv_bad_input(const void *data, CK_ULONG length)
{
    return (data == NULL && length > 0) || length > SIZE_MAX / 2;
}

/* C_xInit: checks mechanism, parameter and key, and makes the operation active.  A mechanism of
 * NULL ends one that is (PKCS#11 3.0, section 5.8). */
CK_RV cv_operation_begin(struct cv_session *session, struct cv_operation *operation,
                         CK_FLAGS usage, const CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key);
/* The same with another way to take the mechanism's parameter. */
typedef CK_RV cv_parameter_taker(struct cv_operation *operation, const struct cv_mechanism *row,
                                 const CK_MECHANISM *mechanism);
cv_parameter_taker cv_take_parameter; /* the usual way */
CK_RV cv_operation_begin_with(struct cv_session *session, struct cv_operation *operation,
                              CK_FLAGS usage, const CK_MECHANISM *mechanism,
                              CK_OBJECT_HANDLE key, cv_parameter_taker *take);
/* C_MessageXInit: the same for as many messages as wanted. */
CK_RV cv_message_begin(struct cv_session *session, struct cv_operation *operation, CK_FLAGS usage,
                       const CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key,
                       cv_parameter_taker *take);
/* Ends it and passes `value` on: `return cv_operation_end(operation, value)`.  Of an operation on
 * messages only the message ends. */
CK_RV cv_operation_end(struct cv_operation *operation, CK_RV value);
/* Ends it unless the standard says that the caller may try again: a length was asked for, or
 * the buffer was too small. */
CK_RV cv_operation_end_unless(struct cv_operation *operation, CK_RV value, bool asked_length);
/* The checks with which each function of an operation begins.  `single` tells C_Sign and its like
 * from those of a multi-part operation. */
CK_RV cv_operation_check(const struct cv_operation *operation, bool single);
/* Ends it, whatever it is. */
CK_RV cv_operation_drop(struct cv_operation *operation, CK_RV value);
/* What the C_MessageXFinal functions do. */
CK_RV cv_operation_finish(struct cv_operation *operation);
/* Ends it and gives its memory back. */
void cv_operation_free(struct cv_operation *operation);
/* Is one active that uses a key? */
bool cv_operations_use_keys(struct cv_session *session);
/* Ends those that the flags name, as C_SessionCancel has them; a search is none. */
void cv_operations_end(struct cv_session *session, CK_FLAGS flags);
/* Ends all and a search too, and gives their memory back. */
void cv_operations_reset(struct cv_session *session);

/* Signs or verifies in one operation: `whole` tells data in one call from parts that were added.
 * A length that is asked for and a buffer that is too small take nothing away. */
CK_RV cv_sign(struct cv_session *session, struct cv_operation *operation, bool whole,
              struct cv_text data, struct cv_place out);
CK_RV cv_verify(struct cv_session *session, struct cv_operation *operation, bool whole,
                struct cv_text data, struct cv_text signature);

/* C_Login as CKU_CONTEXT_SPECIFIC: proves the password for the operation that asks for it. */
CK_RV cv_context_login(struct cv_session *session, const uint8_t *pin, size_t length);

/* Keeps a part of data that go out as one; CKR_DATA_LEN_RANGE beyond CV_DATA_MAX. */
CK_RV cv_operation_collect(struct cv_operation *operation, const uint8_t *data, size_t length);

/* Whether there is a digest: one of a private key ends with the login that could read the key. */
bool cv_is_digesting(struct cv_session *session);
/* Ends the session's digest; nothing of a key stays behind. */
void cv_digest_drop(struct cv_session *session);

/* The update functions of each operation, for calls that go on with two at once. */
CK_RV cv_digest_update(struct cv_session *session, const uint8_t *part, CK_ULONG length);
CK_RV cv_sign_add(struct cv_operation *operation, const uint8_t *part, CK_ULONG length);
CK_RV cv_crypt_update(struct cv_session *session, bool decrypt, const uint8_t *part,
                      CK_ULONG length, uint8_t *out, CK_ULONG *out_length);

/* What is sent: data under a mechanism, a signature if it is to be verified. */
struct cv_use {
    unsigned operation; /* CV_SIGN, CV_VERIFY, CV_ENCRYPT, CV_DECRYPT or a CV_x_RECOVER */
    CK_MECHANISM_TYPE mechanism;
    const cv_writer *parameter;
    const uint8_t *data;
    size_t length;
    const uint8_t *signature;
    size_t signature_length;
    bool prehashed;
};

/* One round trip.  The reply is to be freed. */
CK_RV cv_use_key(struct cv_session *session, struct cv_operation *operation,
                 const struct cv_use *use, struct cv_reply *reply);
/* The same where the answer is what the caller wants: gives it as cv_give does. */
CK_RV cv_use_key_and_give(struct cv_session *session, struct cv_operation *operation,
                          const struct cv_use *use, uint8_t *out, CK_ULONG *out_length);

/* Gives a result as the standard wants it (section 5.2): with `out` NULL its length only, with
 * too small a buffer the length and CKR_BUFFER_TOO_SMALL. */
CK_RV cv_give(const uint8_t *result, size_t length, uint8_t *out, CK_ULONG *out_length);
/* The same before there is a result: true if there is nothing to do now but return `*value`. */
bool cv_only_length(size_t length, const uint8_t *out, CK_ULONG *out_length, CK_RV *value);

#endif
