/*
 * templates.h - attributes between the application's memory and the wire.
 *
 * On the wire a CK_ULONG is 8 bytes little endian; in memory it is what the machine has.  Which
 * attributes hold one is a table in templates.c; CKA_WRAP_TEMPLATE and its like hold attributes
 * again, one level deep; everything else is bytes.
 */
#ifndef CONCLAVE_TEMPLATES_H
#define CONCLAVE_TEMPLATES_H

#include <stdbool.h>

#include "cryptoki.h"
#include "wire.h"

#define CV_TEMPLATE_MAX 64        /* attributes a worker takes at once */
#define CV_INNER_MAX 32           /* attributes in CKA_WRAP_TEMPLATE and its like */
#define CV_ATTRIBUTE_MAX 65536    /* bytes of one */
#define CV_QUERY_MAX 1024         /* attributes that C_GetAttributeValue takes */

/* Checks pointers and lengths before anything of the template is used. */
CK_RV cv_template_check(const CK_ATTRIBUTE *template, CK_ULONG count);
/* Appends a checked template. */
CK_RV cv_template_put(const CK_ATTRIBUTE *template, CK_ULONG count, cv_writer *out);
/* The value of a CK_BBOOL in a checked template. */
bool cv_template_flag(const CK_ATTRIBUTE *template, CK_ULONG count, CK_ATTRIBUTE_TYPE type,
                      bool otherwise);

/* Is a wire value the one the application asks for? */
bool cv_attribute_equals(const CK_ATTRIBUTE *wanted, const uint8_t *value, size_t length);
/* Writes a wire value to where the application wants it, or only its length. */
CK_RV cv_attribute_give(CK_ATTRIBUTE *wanted, const uint8_t *value, size_t length);
/* Of two answers of C_GetAttributeValue, the one to report. */
CK_RV cv_attribute_worse(CK_RV one, CK_RV other);

#endif
