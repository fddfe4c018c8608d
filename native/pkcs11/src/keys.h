/* keys.h - what the functions that make keys have in common. */
#ifndef CONCLAVE_KEYS_H
#define CONCLAVE_KEYS_H

#include "operation.h"
#include "state.h"

struct cv_template {
    const CK_ATTRIBUTE *attributes;
    CK_ULONG count;
};

bool cv_makes_token(const struct cv_template *template);
/* Appends it to the session's arguments, if such an object may be made here. */
CK_RV cv_put_template(struct cv_session *session, const struct cv_template *template);

/* C_WrapKey and C_UnwrapKey. */
CK_RV cv_wrap_key(struct cv_session *session, const CK_MECHANISM *mechanism,
                  CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key, struct cv_place out);
CK_RV cv_unwrap_key(struct cv_session *session, const CK_MECHANISM *mechanism,
                    CK_OBJECT_HANDLE unwrapping, struct cv_text wrapped,
                    struct cv_template template, CK_OBJECT_HANDLE *key);

#endif
