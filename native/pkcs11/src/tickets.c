/*
 * tickets.c - logins of the application, one per slot, and the ticket that each has.
 *
 * Invariant: a ticket is in memory exactly while the slot's role is not CV_ROLE_NONE.  Whoever
 * ends a login takes the ticket away, moves the generation on (which voids the handles of
 * private objects) and wipes the private session objects, in that order.
 *
 * A ticket may change while calls that carry the old one are under way.  A renewed one is stored
 * only if the login and the ticket are those the call began with, save that the answer to a
 * change of password always wins.  A call that is told its ticket is void is repeated once if a
 * newer ticket has come; only a void ticket that is still the slot's ends the login.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "operations.h"
#include "state.h"

#define CHANGE_SECONDS 35 /* a little more than the deadline of a write */

struct ticket_copy {
    uint8_t bytes[CV_TICKET_MAX];
    size_t length; /* 0 when nobody is logged in */
    uint64_t version, generation;
};

static void copy_ticket(struct cv_slot *slot, struct ticket_copy *copy)
{
    pthread_mutex_lock(&slot->mutex);
    copy->length = slot->ticket_length;
    if (copy->length > 0)
        memcpy(copy->bytes, slot->ticket, copy->length);
    copy->version = slot->ticket_version;
    copy->generation = atomic_load(&slot->generation);
    pthread_mutex_unlock(&slot->mutex);
}

/* Under the slot's mutex. */
static void take_away(struct cv_slot *slot)
{
    if (slot->ticket != NULL)
        OPENSSL_clear_free(slot->ticket, slot->ticket_length);
    slot->ticket = NULL;
    slot->ticket_length = 0;
}

/* Under the slot's mutex.  Keeps the old ticket if there is no memory for the new one. */
static bool store(struct cv_slot *slot, const uint8_t *ticket, size_t length)
{
    if (length == 0 || length > CV_TICKET_MAX)
        return false;
    uint8_t *copy = OPENSSL_malloc(length);
    if (copy == NULL)
        return false;
    memcpy(copy, ticket, length);
    take_away(slot);
    slot->ticket = copy;
    slot->ticket_length = length;
    slot->ticket_version++;
    return true;
}

/* Under the slot's mutex. */
static void end_login(struct cv_slot *slot)
{
    take_away(slot);
    slot->role = CV_ROLE_NONE;
    atomic_fetch_add(&slot->generation, 1);
}

static void renew(struct cv_slot *slot, const struct ticket_copy *used, unsigned operation,
                  const struct cv_reply *reply)
{
    bool wins = operation == CV_SET_PIN || operation == CV_INIT_PIN;
    pthread_mutex_lock(&slot->mutex);
    if (used->generation == atomic_load(&slot->generation) &&
        (wins || used->version == slot->ticket_version))
        store(slot, reply->ticket, reply->ticket_length);
    pthread_mutex_unlock(&slot->mutex);
}

/* Under the slot's mutex: a password change that is under way will bring a ticket that is good. */
static void wait_for_change(struct cv_slot *slot)
{
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += CHANGE_SECONDS;
    while (slot->changing > 0)
        if (pthread_cond_timedwait(&slot->changed, &slot->mutex, &end) == ETIMEDOUT)
            return;
}

static void forget_private(struct cv_slot *slot)
{
    cv_session_objects_wipe_private(slot);
    cv_delivered_wipe(slot);
    cv_states_forget(slot);
}

/* The worker called the ticket void; true if there is a newer one to try. */
static bool replaced_or_void(struct cv_slot *slot, const struct ticket_copy *used,
                             unsigned operation)
{
    bool newer = false, ended = false;
    pthread_mutex_lock(&slot->mutex);
    if (operation != CV_SET_PIN && operation != CV_INIT_PIN)
        wait_for_change(slot);
    if (used->generation == atomic_load(&slot->generation)) {
        newer = used->version != slot->ticket_version;
        ended = !newer;
        if (ended)
            end_login(slot);
    }
    pthread_mutex_unlock(&slot->mutex);
    if (ended)
        forget_private(slot);
    return newer;
}

/* A worker that refuses a role, but not its ticket, gives the ticket back with the answer. */
static bool says_void(const struct ticket_copy *used, CK_RV value, const struct cv_reply *reply)
{
    return used->length > 0 && value == CKR_USER_NOT_LOGGED_IN && reply->ticket == NULL;
}

CK_RV cv_slot_call(struct cv_slot *slot, unsigned operation, const cv_writer *args,
                   struct cv_reply *reply)
{
    struct ticket_copy used;
    CK_RV value = CKR_HOST_MEMORY;
    memset(reply, 0, sizeof *reply);
    if (args->failed)
        return value;
    for (bool again = true, first = true; again; first = false) {
        copy_ticket(slot, &used);
        value = cv_call(slot->cluster, operation, used.length > 0 ? used.bytes : NULL, used.length,
                        args, CV_RETRY_ALWAYS, reply);
        if (used.length > 0 && reply->ticket != NULL)
            renew(slot, &used, operation, reply);
        again = says_void(&used, value, reply) && replaced_or_void(slot, &used, operation) && first;
        if (again)
            cv_reply_free(reply);
    }
    OPENSSL_cleanse(used.bytes, used.length);
    return value;
}

enum cv_role cv_slot_role(struct cv_slot *slot)
{
    pthread_mutex_lock(&slot->mutex);
    enum cv_role role = slot->role;
    pthread_mutex_unlock(&slot->mutex);
    return role;
}

static CK_RV check_login(struct cv_slot *slot, enum cv_role role)
{
    CK_RV value = CKR_OK;
    pthread_mutex_lock(&slot->mutex);
    if (slot->role == role)
        value = CKR_USER_ALREADY_LOGGED_IN;
    else if (slot->role != CV_ROLE_NONE)
        value = CKR_USER_ANOTHER_ALREADY_LOGGED_IN;
    else if (role == CV_ROLE_SO && slot->session_count > slot->read_write_count)
        value = CKR_SESSION_READ_ONLY_EXISTS;
    pthread_mutex_unlock(&slot->mutex);
    return value;
}

static CK_RV ask_login(struct cv_slot *slot, enum cv_role role, const uint8_t *pin, size_t length,
                       struct cv_reply *reply)
{
    uint8_t attempt[CV_ID_BYTES];
    CK_RV value = cv_random(attempt, sizeof attempt);
    if (value != CKR_OK)
        return value;
    cv_writer args;
    cv_writer_init(&args);
    cv_write_array(&args, 4);
    cv_write_bin(&args, slot->keyring, CV_ID_BYTES);
    cv_write_uint(&args, role);
    cv_write_bin(&args, pin, length);
    cv_write_bin(&args, attempt, sizeof attempt);
    value = args.failed ? CKR_HOST_MEMORY
                        : cv_call(slot->cluster, CV_LOGIN, NULL, 0, &args, CV_RETRY_ALWAYS, reply);
    cv_writer_free(&args);
    return value;
}

CK_RV cv_slot_login(struct cv_slot *slot, enum cv_role role, const uint8_t *pin, size_t length)
{
    pthread_mutex_lock(&slot->login_mutex);
    struct cv_reply reply = {0};
    CK_RV value = check_login(slot, role);
    if (value == CKR_OK)
        value = ask_login(slot, role, pin, length, &reply);
    if (value == CKR_OK) {
        pthread_mutex_lock(&slot->mutex);
        if (store(slot, reply.ticket, reply.ticket_length)) {
            slot->role = role;
            atomic_fetch_add(&slot->generation, 1);
        } else {
            value = CKR_DEVICE_ERROR;
        }
        pthread_mutex_unlock(&slot->mutex);
    }
    cv_reply_free(&reply);
    pthread_mutex_unlock(&slot->login_mutex);
    return value;
}

static void tell_logout(struct cv_slot *slot, const struct ticket_copy *last)
{
    struct cv_reply reply = {0};
    cv_writer args;
    cv_writer_init(&args);
    cv_write_array(&args, 0);
    if (!args.failed)
        cv_call(slot->cluster, CV_LOGOUT, last->bytes, last->length, &args, CV_RETRY_ALWAYS,
                &reply);
    cv_reply_free(&reply);
    cv_writer_free(&args);
}

/* Ends the login and gives the ticket it had, or nothing. */
static void part_with_ticket(struct cv_slot *slot, bool only_if_unused, struct ticket_copy *last)
{
    last->length = 0;
    pthread_mutex_lock(&slot->mutex);
    if (slot->role != CV_ROLE_NONE && !(only_if_unused && slot->session_count > 0)) {
        memcpy(last->bytes, slot->ticket, slot->ticket_length);
        last->length = slot->ticket_length;
        end_login(slot);
    }
    pthread_mutex_unlock(&slot->mutex);
}

CK_RV cv_slot_logout(struct cv_slot *slot, bool only_if_unused)
{
    struct ticket_copy last;
    pthread_mutex_lock(&slot->login_mutex);
    part_with_ticket(slot, only_if_unused, &last);
    if (last.length > 0) {
        forget_private(slot);
        tell_logout(slot, &last);
        OPENSSL_cleanse(last.bytes, last.length);
    }
    pthread_mutex_unlock(&slot->login_mutex);
    return last.length > 0 ? CKR_OK : CKR_USER_NOT_LOGGED_IN;
}

void cv_slot_wipe(struct cv_slot *slot)
{
    take_away(slot);
    slot->role = CV_ROLE_NONE;
}

void cv_slot_change_begins(struct cv_slot *slot)
{
    pthread_mutex_lock(&slot->login_mutex);
    pthread_mutex_lock(&slot->mutex);
    slot->changing++;
    pthread_mutex_unlock(&slot->mutex);
}

void cv_slot_change_ends(struct cv_slot *slot)
{
    pthread_mutex_lock(&slot->mutex);
    slot->changing--;
    pthread_cond_broadcast(&slot->changed);
    pthread_mutex_unlock(&slot->mutex);
    pthread_mutex_unlock(&slot->login_mutex);
}
