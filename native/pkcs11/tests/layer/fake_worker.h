/*
 * fake_worker.h - a worker in the test's own process, in place of the network side.
 *
 * It speaks docs/protocol.md through rpc.h and really encrypts and authenticates, so that what
 * the layer above sends can be judged by what comes back.  It is no model of a worker's rules.
 */
#ifndef CONCLAVE_FAKE_WORKER_H
#define CONCLAVE_FAKE_WORKER_H

#include "rpc.h"

enum { FAKE_AES = 1, FAKE_MAC, FAKE_RSA, FAKE_EC, FAKE_PRIVATE_AES, FAKE_KEM, FAKE_OBJECTS };

struct fake {
    bool read_only; /* no member takes changes */
    unsigned clusters;           /* each with `tokens` keyrings */
    unsigned tokens;
    bool dead[4];                /* clusters that answer nothing but an error */
    bool hung[4];                /* clusters that answer when the network side stops */
    unsigned calls[64];          /* by operation */
    CK_RV refuse[64];            /* answered in place of the operation, unless CKR_OK */
    bool keep_ticket;            /* a refusal brings the ticket back */
    char ticket[32];             /* the one that is valid */
    char next_ticket[32];        /* if not empty, the next answer brings it, and it is valid */
    unsigned long usage;         /* that KEY_INFO gives */
    bool readable;               /* secret keys show their value */
    bool tells;                  /* FIND gives attributes of objects that it is asked for */
    bool always_authenticate;    /* keys ask for the password before each use */
    unsigned long refused[3];    /* mechanism, usage, CK_RV: what it refuses all the same */
    unsigned long refused_count; /* so often the same one */
    unsigned odd_answers;        /* so many of the next answers are these bytes, and this value */
    CK_RV odd_value;
    uint8_t odd[256];
    size_t odd_length;
    void (*before)(unsigned operation); /* called with no lock held */
};
extern struct fake fake;

void fake_reset(void);
/* While other threads make calls: sets the number of keyrings, tells how often it was called. */
void fake_set_tokens(unsigned tokens);
unsigned fake_calls(unsigned operation);
/* Handle of one of the FAKE_ objects, which are labelled "1", "2", ... */
CK_OBJECT_HANDLE fake_find(CK_SESSION_HANDLE session, unsigned object);
CK_SESSION_HANDLE fake_session(CK_FLAGS flags);

#endif
