/* mechanism_list.c - what the workers of each cluster offer: asked for once, then kept. */
#include <stdlib.h>

#include "operations.h"
#include "state.h"

#define MOST_OFFERS 1024

struct offer_list {
    pthread_mutex_t mutex;
    struct cv_offer *offers; /* NULL until asked; never changes afterwards */
    size_t count;
};

static struct offer_list *lists;
static size_t list_count;

CK_RV cv_offers_start(size_t clusters)
{
    lists = calloc(clusters + 1, sizeof *lists);
    if (lists == NULL)
        return CKR_HOST_MEMORY;
    list_count = clusters;
    for (size_t i = 0; i < clusters; i++)
        pthread_mutex_init(&lists[i].mutex, NULL);
    return CKR_OK;
}

void cv_offers_stop(void)
{
    for (size_t i = 0; i < list_count; i++) {
        pthread_mutex_destroy(&lists[i].mutex);
        free(lists[i].offers);
    }
    free(lists);
    cv_offers_abandon();
}

void cv_offers_abandon(void)
{
    lists = NULL;
    list_count = 0;
}

/* What the module does with messages, where the worker does it with data. */
static CK_FLAGS message_flags(CK_MECHANISM_TYPE type, CK_FLAGS flags)
{
    const struct cv_mechanism *row = cv_mechanism_find(type);
    CK_FLAGS more = 0;
    if (row == NULL)
        return 0;
    bool signs = cv_mechanism_signs_messages(row);
    if (signs && (flags & row->usage & CKF_SIGN))
        more |= CKF_MESSAGE_SIGN;
    if (signs && (flags & row->usage & CKF_VERIFY))
        more |= CKF_MESSAGE_VERIFY;
    if (row->length == CV_LENGTH_TAGGED && (flags & CKF_ENCRYPT))
        more |= CKF_MESSAGE_ENCRYPT;
    if (row->length == CV_LENGTH_TAGGED && (flags & CKF_DECRYPT))
        more |= CKF_MESSAGE_DECRYPT;
    return more != 0 ? more | CKF_MULTI_MESSAGE : 0;
}

static CK_RV read_offers(cv_reader *result, struct offer_list *list)
{
    size_t count = cv_read_array(result);
    if (result->broken || count > MOST_OFFERS)
        return CKR_DEVICE_ERROR;
    struct cv_offer *offers = calloc(count + 1, sizeof *offers);
    if (offers == NULL)
        return CKR_HOST_MEMORY;
    for (size_t i = 0; i < count; i++) {
        size_t fields = cv_read_array(result);
        offers[i].type = cv_read_uint(result);
        offers[i].info.ulMinKeySize = cv_read_uint(result);
        offers[i].info.ulMaxKeySize = cv_read_uint(result);
        offers[i].info.flags = cv_read_uint(result);
        offers[i].info.flags |= message_flags(offers[i].type, offers[i].info.flags);
        for (size_t field = 4; field < fields; field++)
            cv_read_skip(result);
    }
    if (result->broken) {
        free(offers);
        return CKR_DEVICE_ERROR;
    }
    list->offers = offers;
    list->count = count;
    return CKR_OK;
}

static CK_RV ask(size_t cluster_index, struct offer_list *list)
{
    struct cv_reply reply = {0};
    cv_writer args;
    cv_writer_init(&args);
    cv_write_array(&args, 0);
    CK_RV value = args.failed ? CKR_HOST_MEMORY
                              : cv_call(cv_cluster_at(cluster_index), CV_MECHANISMS, NULL, 0,
                                        &args, CV_RETRY_ALWAYS, &reply);
    if (value == CKR_OK)
        value = read_offers(&reply.result, list);
    cv_reply_free(&reply);
    cv_writer_free(&args);
    return value;
}

CK_RV cv_offers(size_t cluster_index, const struct cv_offer **offers, size_t *count)
{
    struct offer_list *list = &lists[cluster_index];
    CK_RV value = CKR_OK;
    pthread_mutex_lock(&list->mutex);
    if (list->offers == NULL)
        value = ask(cluster_index, list);
    *offers = list->offers;
    *count = list->count;
    pthread_mutex_unlock(&list->mutex);
    return value;
}
