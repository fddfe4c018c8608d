/* keys.h - what the functions that make keys have in common. */
#ifndef CONCLAVE_KEYS_H
#define CONCLAVE_KEYS_H

#include "state.h"

struct cv_template {
    const CK_ATTRIBUTE *attributes;
    CK_ULONG count;
};

bool cv_makes_token(const struct cv_template *template);
/* Appends it to the session's arguments, if such an object may be made here. */
CK_RV cv_put_template(struct cv_session *session, const struct cv_template *template);

#endif
