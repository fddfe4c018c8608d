/* slots.c - slot and token management (PKCS#11 3.0, section 5.5). */
#include <stdio.h>

#include "operations.h"
#include "state.h"
#include "text.h"

#define PIN_MAX 255 /* docs/protocol.md: the most a password may have */

/* The list is made anew when its length is asked for, so that the call which then fetches it
 * finds what it was told. */
static CK_RV get_slot_list(CK_SLOT_ID *list, CK_ULONG *count)
{
    size_t known = 0;
    if (count == NULL)
        return CKR_ARGUMENTS_BAD;
    cv_slots_ids(NULL, 0, &known);
    if (list == NULL || known == 0) {
        CK_RV value = cv_tokens_refresh();
        cv_slots_ids(NULL, 0, &known);
        /* Slots that were there before are still worth listing: their members may come back. */
        if (value != CKR_OK && known == 0)
            return value;
    }
    CK_RV value = cv_slots_ids(list, list != NULL ? *count : 0, &known);
    *count = known;
    return value;
}

static CK_RV get_slot_info(CK_SLOT_ID id, CK_SLOT_INFO *info)
{
    struct cv_slot *slot;
    char description[64];
    if (info == NULL)
        return CKR_ARGUMENTS_BAD;
    CK_RV value = cv_slot_find(id, &slot);
    if (value != CKR_OK)
        return value;
    memset(info, 0, sizeof *info);
    snprintf(description, sizeof description, "Conclave keyring slot %lu", id);
    cv_pad(info->slotDescription, sizeof info->slotDescription, description);
    cv_pad(info->manufacturerID, sizeof info->manufacturerID, CV_MANUFACTURER);
    pthread_mutex_lock(&slot->mutex);
    info->flags = slot->present ? CKF_TOKEN_PRESENT : 0;
    pthread_mutex_unlock(&slot->mutex);
    info->hardwareVersion = info->firmwareVersion =
        (CK_VERSION){CV_LIBRARY_MAJOR, CV_LIBRARY_MINOR};
    return CKR_OK;
}

/* Brings what is known of a token up to date. */
static CK_RV ask_token(struct cv_slot *slot)
{
    struct cv_reply reply = {0};
    struct cv_token token;
    cv_writer args;
    cv_writer_init(&args);
    cv_write_array(&args, 1);
    cv_write_bin(&args, slot->keyring, CV_ID_BYTES);
    CK_RV value = args.failed ? CKR_HOST_MEMORY
                              : cv_call(slot->cluster, CV_TOKEN_INFO, NULL, 0, &args,
                                        CV_RETRY_ALWAYS, &reply);
    cv_writer_free(&args);
    if (value == CKR_OK) {
        cv_read_array(&reply.result);
        if (cv_token_read(&reply.result, slot->cluster_index, &token))
            cv_slot_learn(slot, &token);
        else
            value = CKR_DEVICE_ERROR;
    }
    cv_reply_free(&reply);
    return value;
}

static CK_RV get_token_info(CK_SLOT_ID id, CK_TOKEN_INFO *info)
{
    struct cv_slot *slot;
    if (info == NULL)
        return CKR_ARGUMENTS_BAD;
    CK_RV value = cv_slot_find(id, &slot);
    if (value == CKR_OK)
        value = ask_token(slot);
    /* A member that waits for its authorization lists its keyrings; what it said then will do
     * to tell them apart, and whoever logs in learns the rest. */
    if (value != CKR_OK && value != CKR_KEYRING_NOT_AUTHORIZED)
        return value;
    /* A member says whether it takes changes itself; what counts is whether any does. */
    bool read_only = cv_read_only(slot->cluster);
    memset(info, 0, sizeof *info);
    cv_pad(info->manufacturerID, sizeof info->manufacturerID, CV_MANUFACTURER);
    cv_pad(info->model, sizeof info->model, "Keyring");
    cv_pad(info->utcTime, sizeof info->utcTime, "");
    pthread_mutex_lock(&slot->mutex);
    cv_pad(info->label, sizeof info->label, slot->label);
    cv_pad(info->serialNumber, sizeof info->serialNumber, slot->serial);
    info->flags = (slot->flags & ~(CK_FLAGS)CKF_WRITE_PROTECTED) |
                  (read_only ? CKF_WRITE_PROTECTED : 0);
    info->ulMinPinLen = slot->min_pin;
    info->ulMaxPinLen = slot->max_pin;
    info->ulSessionCount = slot->session_count;
    info->ulRwSessionCount = slot->read_write_count;
    pthread_mutex_unlock(&slot->mutex);
    info->ulMaxSessionCount = info->ulMaxRwSessionCount = CK_EFFECTIVELY_INFINITE;
    info->ulTotalPublicMemory = info->ulFreePublicMemory = CK_UNAVAILABLE_INFORMATION;
    info->ulTotalPrivateMemory = info->ulFreePrivateMemory = CK_UNAVAILABLE_INFORMATION;
    info->hardwareVersion = info->firmwareVersion =
        (CK_VERSION){CV_LIBRARY_MAJOR, CV_LIBRARY_MINOR};
    return CKR_OK;
}

static CK_RV offers_of(CK_SLOT_ID id, const struct cv_offer **offers, size_t *count)
{
    struct cv_slot *slot;
    CK_RV value = cv_slot_find(id, &slot);
    return value == CKR_OK ? cv_offers(slot->cluster_index, offers, count) : value;
}

static CK_RV get_mechanism_list(CK_SLOT_ID id, CK_MECHANISM_TYPE *list, CK_ULONG *count)
{
    const struct cv_offer *offers;
    size_t offered;
    if (count == NULL)
        return CKR_ARGUMENTS_BAD;
    CK_RV value = offers_of(id, &offers, &offered);
    if (value != CKR_OK)
        return value;
    CK_ULONG capacity = *count;
    *count = offered;
    if (list == NULL)
        return CKR_OK;
    if (capacity < offered)
        return CKR_BUFFER_TOO_SMALL;
    for (size_t i = 0; i < offered; i++)
        list[i] = offers[i].type;
    return CKR_OK;
}

static CK_RV get_mechanism_info(CK_SLOT_ID id, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
    const struct cv_offer *offers;
    size_t offered;
    if (info == NULL)
        return CKR_ARGUMENTS_BAD;
    CK_RV value = offers_of(id, &offers, &offered);
    if (value != CKR_OK)
        return value;
    for (size_t i = 0; i < offered; i++)
        if (offers[i].type == type) {
            *info = offers[i].info;
            return CKR_OK;
        }
    return CKR_MECHANISM_INVALID;
}

/* Invalid UTF-8 would make the worker refuse the frame, and with it the connection. */
static bool is_utf8(const uint8_t *text, size_t length)
{
    for (size_t i = 0; i < length;) {
        uint8_t first = text[i];
        size_t more = first < 0x80 ? 0 : first >= 0xc2 && first < 0xe0 ? 1
                    : (first & 0xf0) == 0xe0 ? 2 : first >= 0xf0 && first < 0xf5 ? 3 : length;
        if (more >= length - i)
            return false;
        if ((first == 0xe0 && text[i + 1] < 0xa0) || (first == 0xed && text[i + 1] > 0x9f) ||
            (first == 0xf0 && text[i + 1] < 0x90) || (first == 0xf4 && text[i + 1] > 0x8f))
            return false;
        for (size_t k = 1; k <= more; k++)
            if ((text[i + k] & 0xc0) != 0x80)
                return false;
        i += more + 1;
    }
    return true;
}

static CK_RV ask_init(struct cv_slot *slot, const uint8_t *pin, CK_ULONG pin_length,
                      const char *label)
{
    struct cv_reply reply = {0};
    cv_writer args;
    cv_writer_init(&args);
    cv_write_array(&args, 4);
    cv_write_bin(&args, slot->keyring, CV_ID_BYTES);
    cv_write_bin(&args, pin, pin_length);
    cv_write_str(&args, label);
    CK_RV value = cv_put_write(slot->cluster, &args);
    if (value == CKR_OK && args.failed)
        value = CKR_HOST_MEMORY;
    if (value == CKR_OK)
        value = cv_call(slot->cluster, CV_INIT_TOKEN, NULL, 0, &args, CV_RETRY_ALWAYS, &reply);
    cv_writer_free(&args);
    cv_reply_free(&reply);
    return value;
}

static CK_RV init_token(CK_SLOT_ID id, const uint8_t *pin, CK_ULONG pin_length,
                        const uint8_t *label)
{
    struct cv_slot *slot;
    char text[33] = {0};
    if (pin == NULL || label == NULL)
        return CKR_ARGUMENTS_BAD;
    if (pin_length > PIN_MAX)
        return CKR_PIN_LEN_RANGE;
    memcpy(text, label, 32);
    size_t length = 32;
    while (length > 0 && text[length - 1] == ' ')
        text[--length] = 0;
    if (strlen(text) != length || !is_utf8((const uint8_t *)text, length))
        return CKR_ARGUMENTS_BAD;
    CK_RV value = cv_slot_find(id, &slot);
    if (value != CKR_OK)
        return value;
    pthread_mutex_lock(&slot->mutex);
    bool used = slot->session_count > 0;
    pthread_mutex_unlock(&slot->mutex);
    if (used)
        return CKR_SESSION_EXISTS;
    value = ask_init(slot, pin, pin_length, text);
    if (value == CKR_OK)
        ask_token(slot); /* its label and flags have changed; if it fails, the next asks */
    return value;
}

CK_RV C_GetSlotList(CK_BBOOL token_present, CK_SLOT_ID_PTR list, CK_ULONG_PTR count)
{
    (void)token_present; /* a slot is there because its token is */
    CV_GUARDED(get_slot_list(list, count));
}

CK_RV C_GetSlotInfo(CK_SLOT_ID id, CK_SLOT_INFO_PTR info)
{
    CV_GUARDED(get_slot_info(id, info));
}

CK_RV C_GetTokenInfo(CK_SLOT_ID id, CK_TOKEN_INFO_PTR info)
{
    CV_GUARDED(get_token_info(id, info));
}

CK_RV C_GetMechanismList(CK_SLOT_ID id, CK_MECHANISM_TYPE_PTR list, CK_ULONG_PTR count)
{
    CV_GUARDED(get_mechanism_list(id, list, count));
}

CK_RV C_GetMechanismInfo(CK_SLOT_ID id, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO_PTR info)
{
    CV_GUARDED(get_mechanism_info(id, type, info));
}

CK_RV C_InitToken(CK_SLOT_ID id, CK_UTF8CHAR_PTR pin, CK_ULONG pin_length, CK_UTF8CHAR_PTR label)
{
    CV_GUARDED(init_token(id, pin, pin_length, label));
}
