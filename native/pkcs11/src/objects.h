/* objects.h - what object management and key generation have in common. */
#ifndef CONCLAVE_OBJECTS_H
#define CONCLAVE_OBJECTS_H

#include "operations.h"
#include "state.h"
#include "templates.h"

/* A token object needs a read/write session. */
CK_RV cv_check_write(const struct cv_session *session, bool token);
/* Appends the `write` of a call that changes token objects, or nil. */
CK_RV cv_put_write_if(const struct cv_session *session, bool token, cv_writer *args);
/* Calls with the session's arguments, and gives what is not there the name the caller knows. */
CK_RV cv_call_and_reply(struct cv_session *session, unsigned operation, struct cv_reply *reply);
/* Reads an *object result* and gives it a handle. */
CK_RV cv_keep_object(struct cv_session *session, bool token, cv_reader *result,
                     CK_OBJECT_HANDLE *handle);
/* C_GetAttributeValue for an object that the caller may see. */
CK_RV cv_attributes_answer(struct cv_session *session, struct cv_object *object,
                           CK_ATTRIBUTE *template, CK_ULONG count);
bool cv_read_object_result(cv_reader *reader, struct cv_object_result *result);

#endif
