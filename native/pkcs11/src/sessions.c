/* sessions.c - sessions, logins and passwords (PKCS#11 3.0, sections 5.5 and 5.6). */
#include <string.h>

#include "operation.h"
#include "state.h"

#define PIN_MAX 255 /* docs/protocol.md: the most a password may have */

static CK_RV open_session(CK_SLOT_ID id, CK_FLAGS flags, CK_SESSION_HANDLE *handle)
{
    struct cv_slot *slot;
    if (handle == NULL)
        return CKR_ARGUMENTS_BAD;
    if (!(flags & CKF_SERIAL_SESSION))
        return CKR_SESSION_PARALLEL_NOT_SUPPORTED;
    if (flags & CKF_ASYNC_SESSION)
        return CKR_SESSION_ASYNC_NOT_SUPPORTED;
    CK_RV value = cv_slot_find(id, &slot);
    return value == CKR_OK ? cv_session_open(slot, (flags & CKF_RW_SESSION) != 0, handle) : value;
}

static CK_RV close_all_sessions(CK_SLOT_ID id)
{
    struct cv_slot *slot;
    CK_RV value = cv_slot_find(id, &slot);
    return value == CKR_OK ? cv_sessions_close_all(slot) : value;
}

static CK_STATE state_of(const struct cv_session *session)
{
    switch (cv_slot_role(session->slot)) {
    case CV_ROLE_SO:
        return CKS_RW_SO_FUNCTIONS;
    case CV_ROLE_USER:
        return session->read_write ? CKS_RW_USER_FUNCTIONS : CKS_RO_USER_FUNCTIONS;
    default:
        return session->read_write ? CKS_RW_PUBLIC_SESSION : CKS_RO_PUBLIC_SESSION;
    }
}

/* While no member takes changes, a read/write session is no better than a read-only one.  The
 * standard has no read-only state for the SO. */
static CK_STATE shown_state(struct cv_session *session)
{
    CK_STATE state = state_of(session);
    if ((state == CKS_RW_PUBLIC_SESSION || state == CKS_RW_USER_FUNCTIONS) &&
        cv_read_only(session->slot->cluster))
        return state == CKS_RW_PUBLIC_SESSION ? CKS_RO_PUBLIC_SESSION : CKS_RO_USER_FUNCTIONS;
    return state;
}

static CK_RV get_session_info(struct cv_session *session, CK_SESSION_INFO *info)
{
    if (info == NULL)
        return CKR_ARGUMENTS_BAD;
    info->slotID = session->slot->id;
    info->state = shown_state(session);
    info->flags = CKF_SERIAL_SESSION | (session->read_write ? CKF_RW_SESSION : 0);
    info->ulDeviceError = 0;
    return CKR_OK;
}

static CK_RV login(struct cv_session *session, CK_USER_TYPE user, const uint8_t *pin,
                   CK_ULONG length)
{
    if (user != CKU_SO && user != CKU_USER && user != CKU_CONTEXT_SPECIFIC)
        return CKR_USER_TYPE_INVALID;
    if (pin == NULL) /* there is no other way to prove oneself */
        return CKR_ARGUMENTS_BAD;
    if (length > PIN_MAX)
        return CKR_PIN_LEN_RANGE;
    if (user == CKU_CONTEXT_SPECIFIC)
        return cv_context_login(session, pin, length);
    CK_RV value = cv_slot_login(session->slot, (enum cv_role)user, pin, length);
    session->so_pin_expired = user == CKU_SO && value == CKR_PIN_EXPIRED;
    return value;
}

/* A keyring has one user for each role, whose names are those that LunaCM has for them. */
static bool is_name_of(CK_USER_TYPE user, const uint8_t *name, CK_ULONG length)
{
    return length == 2 && memcmp(name, user == CKU_SO ? "po" : "co", 2) == 0;
}

static CK_RV login_user(struct cv_session *session, CK_USER_TYPE user, struct cv_text pin,
                        struct cv_text name)
{
    if (name.bytes == NULL && name.length > 0)
        return CKR_ARGUMENTS_BAD;
    if (name.length > 0 && !is_name_of(user, name.bytes, name.length))
        return CKR_ARGUMENTS_BAD;
    return login(session, user, pin.bytes, pin.length);
}

static CK_RV init_pin(struct cv_session *session, const uint8_t *pin, CK_ULONG length)
{
    struct cv_slot *slot = session->slot;
    struct cv_reply reply = {0};
    if (cv_slot_role(slot) != CV_ROLE_SO)
        return CKR_USER_NOT_LOGGED_IN;
    if (pin == NULL)
        return CKR_ARGUMENTS_BAD;
    if (length > PIN_MAX)
        return CKR_PIN_LEN_RANGE;
    cv_writer *args = &session->args;
    cv_write_array(args, 3);
    cv_write_bin(args, slot->keyring, CV_ID_BYTES);
    cv_write_bin(args, pin, length);
    CK_RV value = cv_put_write(slot->cluster, args);
    if (value == CKR_OK) {
        cv_slot_change_begins(slot);
        value = cv_slot_call(slot, CV_INIT_PIN, args, &reply);
        cv_slot_change_ends(slot);
    }
    cv_reply_free(&reply);
    return value;
}

/* The standard's rule is: the PIN of whoever is logged in, else the user's.  A keyring whose
 * first SO password must be changed has no user yet, so there it is the SO's. */
static enum cv_role role_to_change(struct cv_session *session)
{
    enum cv_role role = cv_slot_role(session->slot);
    if (role != CV_ROLE_NONE)
        return role;
    pthread_mutex_lock(&session->slot->mutex);
    CK_FLAGS flags = session->slot->flags;
    pthread_mutex_unlock(&session->slot->mutex);
    bool first = (flags & CKF_SO_PIN_TO_BE_CHANGED) && !(flags & CKF_USER_PIN_INITIALIZED);
    return session->so_pin_expired || first ? CV_ROLE_SO : CV_ROLE_USER;
}

static CK_RV ask_set_pin(struct cv_session *session, enum cv_role role)
{
    struct cv_slot *slot = session->slot;
    struct cv_reply reply = {0};
    cv_slot_change_begins(slot);
    CK_RV value = cv_slot_call(slot, CV_SET_PIN, &session->args, &reply);
    cv_slot_change_ends(slot);
    cv_reply_free(&reply);
    if (value == CKR_OK && role == CV_ROLE_SO) {
        session->so_pin_expired = false;
        pthread_mutex_lock(&slot->mutex);
        slot->flags &= ~CKF_SO_PIN_TO_BE_CHANGED;
        pthread_mutex_unlock(&slot->mutex);
    }
    return value;
}

static CK_RV set_pin(struct cv_session *session, const uint8_t *old, CK_ULONG old_length,
                     const uint8_t *new, CK_ULONG new_length)
{
    if (old == NULL || new == NULL)
        return CKR_ARGUMENTS_BAD;
    if (!session->read_write)
        return CKR_SESSION_READ_ONLY;
    if (old_length > PIN_MAX || new_length > PIN_MAX)
        return CKR_PIN_LEN_RANGE;
    enum cv_role role = role_to_change(session);
    cv_writer *args = &session->args;
    cv_write_array(args, 5);
    cv_write_bin(args, session->slot->keyring, CV_ID_BYTES);
    cv_write_uint(args, role);
    cv_write_bin(args, old, old_length);
    cv_write_bin(args, new, new_length);
    CK_RV value = cv_put_write(session->slot->cluster, args);
    return value == CKR_OK ? ask_set_pin(session, role) : value;
}

static CK_RV cancel(struct cv_session *session, CK_FLAGS flags)
{
    cv_operations_end(session, flags);
    if (flags & CKF_FIND_OBJECTS) {
        session->find.active = false;
        cv_delivered_end(session);
    }
    return CKR_OK;
}

CK_RV C_OpenSession(CK_SLOT_ID id, CK_FLAGS flags, CK_VOID_PTR application, CK_NOTIFY notify,
                    CK_SESSION_HANDLE_PTR handle)
{
    (void)application; /* there is nothing to notify of */
    (void)notify;
    CV_GUARDED(open_session(id, flags, handle));
}

CK_RV C_CloseSession(CK_SESSION_HANDLE handle)
{
    CV_GUARDED(cv_session_close(handle));
}

CK_RV C_CloseAllSessions(CK_SLOT_ID id)
{
    CV_GUARDED(close_all_sessions(id));
}

CK_RV C_GetSessionInfo(CK_SESSION_HANDLE handle, CK_SESSION_INFO_PTR info)
{
    CV_IN_SESSION(handle, get_session_info(session, info));
}

CK_RV C_SessionCancel(CK_SESSION_HANDLE handle, CK_FLAGS flags)
{
    CV_IN_SESSION(handle, cancel(session, flags));
}

CK_RV C_Login(CK_SESSION_HANDLE handle, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG length)
{
    CV_IN_SESSION(handle, login(session, user, pin, length));
}

CK_RV C_LoginUser(CK_SESSION_HANDLE handle, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin,
                  CK_ULONG pin_length, CK_UTF8CHAR_PTR name, CK_ULONG name_length)
{
    CV_IN_SESSION(handle, login_user(session, user, (struct cv_text){pin, pin_length},
                                     (struct cv_text){name, name_length}));
}

CK_RV C_Logout(CK_SESSION_HANDLE handle)
{
    CV_IN_SESSION(handle, cv_slot_logout(session->slot, false));
}

CK_RV C_InitPIN(CK_SESSION_HANDLE handle, CK_UTF8CHAR_PTR pin, CK_ULONG length)
{
    CV_IN_SESSION(handle, init_pin(session, pin, length));
}

CK_RV C_SetPIN(CK_SESSION_HANDLE handle, CK_UTF8CHAR_PTR old, CK_ULONG old_length,
               CK_UTF8CHAR_PTR new, CK_ULONG new_length)
{
    CV_IN_SESSION(handle, set_pin(session, old, old_length, new, new_length));
}
