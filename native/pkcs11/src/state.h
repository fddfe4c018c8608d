/*
 * state.h - what the PKCS#11 layer keeps in memory, and what guards it.
 *
 * Slots and sessions live in memory that is not given back before C_Finalize, so a pointer to one
 * is good for the whole of a call.  Objects are counted.  Nothing that every call passes is
 * locked for all of the process: a call takes its session's mutex (nobody else wants it, the
 * standard gives a session to one thread at a time), its slot's for the copy of a ticket and, in
 * C_xInit, that of one of 64 shards of the object table.
 *
 * Order of locks: session, login (of a slot), slot, shard.  The tables' own locks are leaves, as
 * are the slot's and the shards': no call to a worker is made under them.
 */
#ifndef CONCLAVE_STATE_H
#define CONCLAVE_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mechanisms.h"
#include "rpc.h"

#define CV_ID_BYTES 16
#define CV_TICKET_MAX 2048
#define CV_DATA_MAX ((1u << 20) - 4096) /* docs/protocol.md: the most that is collected */
#define CV_KEPT_BUFFER 65536 /* larger ones are given back after the call or the operation */

/* ---------------------------------------------------------------- slots */

enum cv_role { CV_ROLE_SO = 0, CV_ROLE_USER = 1, CV_ROLE_NONE = 2 }; /* first two as CKU_ */

struct cv_session;
struct cv_object;
struct cv_delivered;

struct cv_slot {
    /* Fixed once the slot is in the table. */
    CK_SLOT_ID id;
    cv_cluster *cluster;
    size_t cluster_index;
    uint8_t keyring[CV_ID_BYTES];

    pthread_mutex_t login_mutex; /* one login, logout or password change at a time */
    uint64_t list; /* the last one that has it; guarded by the table's lock */

    pthread_mutex_t mutex; /* guards the rest */
    bool present;
    bool event; /* its keyring came or went, and C_WaitForSlotEvent has not said so */
    char label[33];
    char serial[17];
    CK_FLAGS flags;
    CK_ULONG min_pin, max_pin;

    enum cv_role role;
    uint8_t *ticket;
    size_t ticket_length;
    uint64_t ticket_version;         /* grows whenever the ticket is replaced */
    atomic_uint_fast64_t generation; /* grows at login and logout: older private handles are void */
    unsigned changing;               /* password changes whose answer is awaited */
    pthread_cond_t changed;

    struct cv_session *sessions; /* a list through slot_next, slot_previous */
    CK_ULONG session_count, read_write_count;
    struct cv_object *session_objects; /* a list through slot_next, slot_previous */
    struct cv_delivered *delivered;    /* a list through next, previous */
    atomic_uint_fast64_t changes;      /* of token objects, by this process */
};

/* slot_table.c */
CK_RV cv_slots_start(void);
void cv_slots_stop(void);
void cv_slots_abandon(void);
CK_RV cv_slot_find(CK_SLOT_ID id, struct cv_slot **slot); /* asks the workers if it is unknown */
CK_RV cv_slots_ids(CK_SLOT_ID *ids, size_t capacity, size_t *count);

struct cv_token {
    CK_SLOT_ID slot_id;
    const uint8_t *keyring;
    char label[33];
    char serial[17];
    CK_FLAGS flags;
    CK_ULONG min_pin, max_pin;
};
CK_RV cv_slots_learn(size_t cluster_index, const struct cv_token *tokens, size_t count);
void cv_slot_learn(struct cv_slot *slot, const struct cv_token *token);
/* What comes and goes from now on is an event: the application knows of what was there. */
void cv_slots_told(void);
/* Gives a slot with an event, which it then has no more. */
bool cv_slots_take_event(CK_SLOT_ID *id);

/* token_list.c */
CK_RV cv_tokens_start(size_t clusters);
void cv_tokens_stop(void); /* after cv_runtime_stop: waits for the threads that ask */
void cv_tokens_abandon(void);
CK_RV cv_tokens_refresh(void); /* asks all clusters at once; a dead one delays no other */
/* Asks too, but waits a quarter of a second at most, if it may create threads. */
void cv_tokens_glance(void);
bool cv_token_read(cv_reader *reader, size_t cluster_index, struct cv_token *token);

/* mechanism_list.c: what the workers of a cluster offer, asked for once. */
struct cv_offer {
    CK_MECHANISM_TYPE type;
    CK_MECHANISM_INFO info;
};
CK_RV cv_offers_start(size_t clusters);
void cv_offers_stop(void);
void cv_offers_abandon(void);
CK_RV cv_offers(size_t cluster_index, const struct cv_offer **offers, size_t *count);

/* ---------------------------------------------------------------- tickets.c */

/* cv_call with the slot's ticket: stores a renewed one, forgets a void one. */
CK_RV cv_slot_call(struct cv_slot *slot, unsigned operation, const cv_writer *args,
                   struct cv_reply *reply);
CK_RV cv_slot_login(struct cv_slot *slot, enum cv_role role, const uint8_t *pin, size_t length);
/* Wipes first, then tells the member, best effort. */
CK_RV cv_slot_logout(struct cv_slot *slot, bool only_if_unused);
enum cv_role cv_slot_role(struct cv_slot *slot);
void cv_slot_wipe(struct cv_slot *slot);
/* Between these two, a call that finds its ticket void waits for the new one. */
void cv_slot_change_begins(struct cv_slot *slot);
void cv_slot_change_ends(struct cv_slot *slot);

/* ---------------------------------------------------------------- objects (handles.c) */

struct cv_key_info {
    CK_OBJECT_CLASS object_class;
    CK_KEY_TYPE key_type;
    CK_ULONG size_bits;
    CK_FLAGS usage;
    bool always_authenticate;
};

/* What the key's usage permits and the worker refuses all the same. */
struct cv_refusal {
    CK_MECHANISM_TYPE mechanism;
    CK_FLAGS usage;
    CK_RV value;
};

enum cv_privacy { CV_PRIVACY_UNKNOWN, CV_PUBLIC, CV_PRIVATE };

struct cv_object {
    /* Fixed. */
    CK_OBJECT_HANDLE handle;
    struct cv_slot *slot;
    uint8_t id[CV_ID_BYTES];   /* of a token object */
    CK_SESSION_HANDLE session; /* that owns it; 0 for a token object */

    atomic_uint references;

    /* Guarded by the shard of the handle. */
    bool gone;
    enum cv_privacy privacy;
    uint64_t generation; /* of the slot, when the handle was given */
    bool key_info_known;
    struct cv_key_info key_info;
    struct cv_refusal *refusals;
    size_t refusal_count;
    uint8_t *blob; /* of a session object */
    size_t blob_length;
    uint8_t *attributes; /* of a session object: a template as msgpack, as the worker sent it */
    size_t attributes_length;
    struct cv_object *next_by_handle, *next_by_id;

    /* Guarded by the slot's mutex. */
    struct cv_object *slot_next, *slot_previous;
};

/* What a worker says of a new object: the parts of an *object result*, pointing into the reply. */
struct cv_object_result {
    const uint8_t *reference;
    size_t reference_length;
    bool private;
    const uint8_t *attributes;
    size_t attributes_length;
};

CK_RV cv_objects_start(void);
void cv_objects_stop(void);
void cv_objects_abandon(void);
/* Gives the handle of a token object, always the same one while it may be used. */
CK_RV cv_object_of_token(struct cv_slot *slot, const uint8_t *id, enum cv_privacy privacy,
                         CK_OBJECT_HANDLE *handle);
CK_RV cv_object_of_session(struct cv_slot *slot, CK_SESSION_HANDLE session,
                           const struct cv_object_result *result, CK_OBJECT_HANDLE *handle);
/* Counts one reference more; CKR_OBJECT_HANDLE_INVALID if there is none such on this slot. */
CK_RV cv_object_take(struct cv_slot *slot, CK_OBJECT_HANDLE handle, struct cv_object **object);
void cv_object_release(struct cv_object *object);
void cv_object_remove(struct cv_object *object);
CK_RV cv_object_replace(struct cv_object *object, const struct cv_object_result *result);
CK_RV cv_object_put_reference(struct cv_object *object, cv_writer *args);
void cv_object_lock(struct cv_object *object); /* its shard */
void cv_object_unlock(struct cv_object *object);

/* object_facts.c: what is remembered of an object, and what it takes to use it. */
void cv_object_forget_key_info(struct cv_object *object);
/* May the handle be used under the login of today?  CKR_OBJECT_HANDLE_INVALID if it is one of a
 * private object from before a logout. */
CK_RV cv_object_check_login(struct cv_object *object);
/* KEY_INFO, remembered; `fresh` asks the worker in any case. */
CK_RV cv_object_learn_key(struct cv_object *object, bool fresh, struct cv_key_info *info);
/* What a worker said it refuses of what the key's usage permits: CKR_OK if nothing. */
CK_RV cv_object_refusal(struct cv_object *object, CK_MECHANISM_TYPE mechanism, CK_FLAGS usage);
bool cv_object_matches(struct cv_object *object, const CK_ATTRIBUTE *template, CK_ULONG count);
bool cv_object_is_private(struct cv_object *object);
/* Answers from what is known of a session object; false if the attribute is not. */
bool cv_object_give_attribute(struct cv_object *object, CK_ATTRIBUTE *wanted, CK_RV *answer);
/* Begins arguments: an array of `elements`, the keyring and the object's reference. */
CK_RV cv_object_put_request(struct cv_object *object, size_t elements, cv_writer *args);
/* A CK_BBOOL of a session object. */
bool cv_object_flag(struct cv_object *object, CK_ATTRIBUTE_TYPE type, bool otherwise);

/* session_objects.c */
void cv_session_objects_add(struct cv_object *object);
void cv_session_objects_drop(struct cv_object *object);
void cv_session_objects_close(struct cv_slot *slot, CK_SESSION_HANDLE session);
void cv_session_objects_wipe_private(struct cv_slot *slot);
CK_RV cv_session_objects_find(struct cv_slot *slot, const CK_ATTRIBUTE *template, CK_ULONG count,
                              CK_OBJECT_HANDLE **handles, size_t *found);

/* ---------------------------------------------------------------- sessions (session_table.c) */

struct cv_operation {
    const struct cv_mechanism *mechanism; /* NULL when no operation is active */
    struct cv_object *key;
    struct cv_key_info info;
    cv_writer parameter; /* as the wire has it */
    cv_writer context;   /* what C_Login as CKU_CONTEXT_SPECIFIC brought; empty before */
    struct cv_parameter facts;
    bool multi_part;
    void *hash;         /* EVP_MD_CTX, kept from one operation to the next */
    cv_writer collected; /* data of a multi-part operation that the worker does in one */
    uint8_t pending[CV_BLOCK];
    size_t pending_length;
    bool counter_spent;
    bool bound;          /* C_VerifySignatureInit's, with the signature that it gave */
    cv_writer signature;
    bool of_messages; /* one of the C_MessageXInit functions': it goes from message to message */
};

struct cv_find {
    bool active;
    CK_OBJECT_HANDLE *handles;
    size_t count, next;
    struct cv_delivered *delivered; /* attributes of some of them, or NULL */
};

struct cv_session {
    pthread_mutex_t mutex;
    CK_SESSION_HANDLE handle; /* 0 while free */
    struct cv_slot *slot;
    bool read_write;
    bool so_pin_expired; /* C_Login as SO said so: the next C_SetPIN is the SO's */
    cv_writer args;      /* kept from one call to the next */
    struct cv_operation sign, verify, encrypt, decrypt, sign_recover, verify_recover;
    struct cv_operation message_sign, message_verify, message_encrypt, message_decrypt;
    const struct cv_mechanism *digest; /* NULL when no digest is active */
    bool digest_multi_part;
    bool digest_keyed; /* a key went into it */
    uint64_t digest_generation; /* of the login that may read the private key in it; 0: none */
    void *digest_context;
    struct cv_find find;

    struct cv_session *slot_next, *slot_previous; /* these guarded by the slot's mutex */
    CK_SESSION_HANDLE slot_handle;

    uint32_t index; /* of its place, from 1 */
    uint64_t uses; /* how often this place was given, part of the handle */
    struct cv_session *next_free;
};

CK_RV cv_sessions_start(void);
void cv_sessions_stop(void);
void cv_sessions_abandon(void);
CK_RV cv_session_open(struct cv_slot *slot, bool read_write, CK_SESSION_HANDLE *handle);
CK_RV cv_session_close(CK_SESSION_HANDLE handle);
CK_RV cv_sessions_close_all(struct cv_slot *slot);
CK_RV cv_session_enter(CK_SESSION_HANDLE handle, struct cv_session **session);
void cv_session_leave(struct cv_session *session);

/* delivered.c: attributes of what an active search found. */
/* Answers for one attribute, if it is of a token object that the session's search found. */
bool cv_delivered_give(struct cv_session *session, struct cv_object *object, CK_ATTRIBUTE *wanted,
                       CK_RV *answer);
void cv_delivered_end(struct cv_session *session); /* with the search */
void cv_delivered_wipe(struct cv_slot *slot);      /* those of all its sessions */

/* slot_events.c */
CK_RV cv_events_start(void);
void cv_events_stop(void);
void cv_events_wake(void); /* ends all waiting, for good */

/* operation_state.c: what C_GetOperationState has saved. */
/* Forgets the saved digests of a slot's private keys. */
void cv_states_forget(struct cv_slot *slot);
CK_RV cv_states_start(void);
void cv_states_stop(void);
void cv_states_abandon(void);

/* ---------------------------------------------------------------- module.c */

CK_RV cv_module_start(CK_C_INITIALIZE_ARGS *arguments);
CK_RV cv_module_stop(void);
bool cv_module_may_create_threads(void);
CK_RV cv_enter(void);
void cv_leave(void);

/* Every exported function is one of these two around its inner function. */
#define CV_GUARDED(call)          \
    do {                          \
        CK_RV value = cv_enter(); \
        if (value != CKR_OK)      \
            return value;         \
        value = (call);           \
        cv_leave();               \
        return value;             \
    } while (0)

#define CV_IN_SESSION(handle, call)                       \
    do {                                                  \
        struct cv_session *session = NULL;                \
        CK_RV value = cv_enter();                         \
        if (value != CKR_OK)                              \
            return value;                                 \
        value = cv_session_enter((handle), &session);     \
        if (value == CKR_OK) {                            \
            value = (call);                               \
            cv_session_leave(session);                    \
        }                                                 \
        cv_leave();                                       \
        return value;                                     \
    } while (0)

#endif
