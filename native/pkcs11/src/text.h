/* text.h - the fixed, blank-padded fields of the information structures. */
#ifndef CONCLAVE_TEXT_H
#define CONCLAVE_TEXT_H

#include <string.h>

#include "cryptoki.h"

#define CV_MANUFACTURER "Conclave"
#define CV_LIBRARY_MAJOR 0
#define CV_LIBRARY_MINOR 1

static inline void cv_pad(CK_UTF8CHAR *field, size_t size, const char *text)
{
    size_t length = strlen(text);
    memset(field, ' ', size);
    memcpy(field, text, length < size ? length : size);
}

#endif
