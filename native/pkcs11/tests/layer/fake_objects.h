/* fake_objects.h - what the worker in the test's process answers of its objects. */
#ifndef CONCLAVE_FAKE_OBJECTS_H
#define CONCLAVE_FAKE_OBJECTS_H

#include "rpc.h"

extern const uint8_t fake_key_bytes[32]; /* of every secret key */

bool fake_is_private(unsigned object);
unsigned fake_object_of(const uint8_t *reference, size_t length);
CK_RV fake_match(cv_reader *args, bool logged_in, cv_writer *out);
CK_RV fake_key_info(unsigned object, cv_writer *out);
CK_RV fake_get_attributes(unsigned object, cv_reader *args, cv_writer *out);
CK_RV fake_create(cv_reader *args, cv_writer *out);

#endif
