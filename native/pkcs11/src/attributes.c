/*
 * attributes.c - C_GetAttributeValue (PKCS#11 3.0, section 5.7.5).
 *
 * Every attribute of the template is answered, also after one could not be; the result tells of
 * the worst.  What is known of a session object, or came with what a search found, is answered
 * here, everything else by a worker.
 */
#include <stdlib.h>

#include "objects.h"

struct query {
    CK_ATTRIBUTE *template;
    CK_ULONG asked[CV_TEMPLATE_MAX]; /* places in the template that a worker is asked for */
    size_t count;
    CK_RV worst;
};

static void note(struct query *query, CK_ULONG place, CK_RV value)
{
    if (value != CKR_OK)
        query->template[place].ulValueLen = CK_UNAVAILABLE_INFORMATION;
    query->worst = cv_attribute_worse(query->worst, value);
}

/* One element of the answer: [type, CK_RV, value or nil]. */
static bool read_answer(struct query *query, size_t number, cv_reader *result)
{
    CK_ULONG place = query->asked[number];
    size_t length = 0, fields = cv_read_array(result);
    const uint8_t *bytes = NULL;
    if (fields < 2 || cv_read_uint(result) != query->template[place].type)
        return false;
    CK_RV value = cv_read_uint(result);
    if (fields >= 3 && !cv_read_nil(result))
        bytes = cv_read_bin(result, &length);
    if (result->broken || (value == CKR_OK && bytes == NULL))
        return false;
    if (value == CKR_OK)
        value = cv_attribute_give(&query->template[place], bytes, length);
    note(query, place, value);
    return true;
}

static CK_RV ask(struct cv_session *session, struct cv_object *object, struct query *query)
{
    struct cv_reply reply = {0};
    cv_writer *args = &session->args;
    if (query->count == 0)
        return CKR_OK;
    cv_writer_clear(args, CV_KEPT_BUFFER);
    CK_RV value = cv_object_put_request(object, 3, args);
    cv_write_array(args, query->count);
    for (size_t i = 0; i < query->count; i++)
        cv_write_uint(args, query->template[query->asked[i]].type);
    if (value == CKR_OK)
        value = cv_call_and_reply(session, CV_GET_ATTRIBUTES, &reply);
    if (value == CKR_OK && cv_read_array(&reply.result) != query->count)
        value = CKR_DEVICE_ERROR;
    for (size_t i = 0; i < query->count && value == CKR_OK; i++)
        if (!read_answer(query, i, &reply.result))
            value = CKR_DEVICE_ERROR;
    query->count = 0;
    cv_reply_free(&reply);
    return value;
}

CK_RV cv_attributes_answer(struct cv_session *session, struct cv_object *object,
                           CK_ATTRIBUTE *template, CK_ULONG count)
{
    struct query query = {.template = template, .worst = CKR_OK};
    CK_RV value = CKR_OK, answer;
    for (CK_ULONG i = 0; i < count && value == CKR_OK; i++) {
        if (object->session != 0 ? cv_object_give_attribute(object, &template[i], &answer)
                                 : cv_delivered_give(session, object, &template[i], &answer)) {
            note(&query, i, answer);
            continue;
        }
        query.asked[query.count++] = i;
        if (query.count == CV_TEMPLATE_MAX)
            value = ask(session, object, &query);
    }
    if (value == CKR_OK)
        value = ask(session, object, &query);
    return value == CKR_OK ? query.worst : value;
}

static CK_RV get_attribute_value(struct cv_session *session, CK_OBJECT_HANDLE handle,
                                 CK_ATTRIBUTE *template, CK_ULONG count)
{
    struct cv_object *object = NULL;
    if (template == NULL || count > CV_QUERY_MAX)
        return CKR_ARGUMENTS_BAD;
    CK_RV value = cv_object_take(session->slot, handle, &object);
    if (value == CKR_OK)
        value = cv_object_check_login(object);
    if (value == CKR_OK)
        value = cv_attributes_answer(session, object, template, count);
    cv_object_release(object);
    return value;
}

CK_RV C_GetAttributeValue(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object,
                          CK_ATTRIBUTE_PTR template, CK_ULONG count)
{
    CV_IN_SESSION(handle, get_attribute_value(session, object, template, count));
}
