/*
 * fuzz_frames.c - whatever a server may send: greeting, frames, answers.
 *
 * The first byte cuts the input into pieces of that size, as a network may; what is cut out of
 * the stream goes through the same code as in the module, which is why two of its files are
 * included here.
 */
#include "link.c"

#include "attempts.c"

#define HOLDS(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_answer(struct cv_answer *answer)
{
    struct cv_reply reply;
    if (!read_reply(answer, &reply)) {
        free(answer->bytes);
        answer->bytes = NULL;
        return;
    }
    const uint8_t *end = reply.storage + reply.storage_length;
    HOLDS(reply.ticket_length == 0 ||
          (reply.ticket > reply.storage && reply.ticket + reply.ticket_length <= end));
    HOLDS(reply.value == CKR_OK || cv_read_nil(&reply.result));
    cv_read_skip(&reply.result);
    HOLDS(!reply.result.broken || reply.value != CKR_OK);
    cv_reply_free(&reply);
    answer->bytes = NULL;
}

static enum cv_fault judge_told(void *context, struct cv_link *link, const struct cv_told *told)
{
    (void)context, (void)link;
    HOLDS(strlen(told->epoch.promoter) < sizeof told->epoch.promoter);
    return CV_FAULT_NONE;
}

static void judge_listed(void *context, struct cv_link *link, const uint8_t *body, size_t length)
{
    static struct cv_listing listing;
    (void)context, (void)link;
    if (!cv_listing_read(body, length, &listing))
        return;
    HOLDS(listing.count != 0 && listing.count <= CV_MOST_MEMBERS);
    for (size_t i = 0; i < listing.count; i++)
        HOLDS(listing.members[i].id[0] != '\0' && listing.members[i].standing <= CV_NOT_AUTHORIZED);
}

static bool take_frames(struct cv_link *link)
{
    struct delivery delivery;
    enum cv_fault fault;
    bool more;
    do {
        fault = cut_frames(link, &delivery, &more);
        for (size_t i = 0; i < delivery.count; i++)
            check_answer(&delivery.answers[i]);
    } while (fault == CV_FAULT_NONE && more);
    return fault == CV_FAULT_NONE;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cv_link link = { .listener = { judge_told, judge_listed, NULL } };
    struct cv_greeting greeting;
    if (size < 1)
        return 0;
    size_t piece = data[0] + 1u;
    data++, size--;
    if (cv_greeting_parse(data, size, &greeting))
        HOLDS(greeting.worker_index < greeting.worker_count);
    while (size != 0) {
        size_t count = size < piece ? size : piece;
        HOLDS(cv_buffer_append(&link.plain, data, count));
        data += count;
        size -= count;
        if (!take_frames(&link))
            break;
    }
    cv_buffer_free(&link.plain);
    return 0;
}
