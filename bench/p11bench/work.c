/* work.c - one operation, and a thread that repeats and times it. */
#define _GNU_SOURCE
#include "p11bench.h"

#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/param_build.h>
#include <openssl/params.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>

pthread_barrier_t start_line;

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void remember(struct worker *w, CK_OBJECT_HANDLE h)
{
    if (w->n_made == w->cap_made) {
        w->cap_made = w->cap_made ? w->cap_made * 2 : 256;
        w->made = realloc(w->made, w->cap_made * sizeof *w->made);
        if (!w->made)
            die("out of memory");
    }
    w->made[w->n_made++] = h;
}

/* Prepares the next input: every operation has its own data, IV or label. */
static void prepare(struct worker *w)
{
    w->counter++;
    if (opt.size >= 16) {
        memcpy(w->data, &w->counter, 8);
        w->data[8] = (unsigned char)w->index;
        w->data[9] = (unsigned char)(w->index >> 8);
    }
    memset(w->iv, 0, sizeof w->iv);
    memcpy(w->iv, &w->counter, 8);
    w->iv[8] = (unsigned char)w->index;
    w->iv[9] = (unsigned char)(w->index >> 8);
    if (opt.op == OP_CREATE_AES)
        memcpy(w->aes, &w->counter, 8);
    if (opt.op == OP_FIND)
        w->find_id = (unsigned long)(next_random(&w->rng) % opt.objects);
}

static CK_RV sign_with(struct worker *w, CK_MECHANISM *m)
{
    CK_RV rv = p11->C_SignInit(w->session, m, w->key->priv);
    if (rv != CKR_OK)
        return rv;
    w->out_len = 1024;
    return p11->C_Sign(w->session, w->data, opt.size, w->out, &w->out_len);
}

/* One timed operation. */
static CK_RV one(struct worker *w)
{
    CK_MECHANISM m = { 0, NULL, 0 };
    CK_RV rv;
    char label[96];

    switch (opt.op) {
    case OP_RSA_SIGN:
        m.mechanism = CKM_SHA256_RSA_PKCS;
        return sign_with(w, &m);
    case OP_RSA_PSS: {
        CK_RSA_PKCS_PSS_PARAMS pss = { CKM_SHA256, CKG_MGF1_SHA256, 32 };
        m = (CK_MECHANISM){ CKM_SHA256_RSA_PKCS_PSS, &pss, sizeof pss };
        return sign_with(w, &m);
    }
    case OP_P256: case OP_P384:
        m.mechanism = CKM_ECDSA;
        return sign_with(w, &m);
    case OP_ED25519:
        m.mechanism = CKM_EDDSA;
        return sign_with(w, &m);
    case OP_GCM: {
        CK_GCM_PARAMS g = { .pIv = w->iv, .ulIvLen = 12, .ulIvBits = 96, .ulTagBits = GCM_TAG * 8 };
        m = (CK_MECHANISM){ CKM_AES_GCM, &g, sizeof g };
        rv = p11->C_EncryptInit(w->session, &m, w->key->priv);
        if (rv != CKR_OK)
            return rv;
        w->out_len = opt.size + 64;
        return p11->C_Encrypt(w->session, w->data, opt.size, w->out, &w->out_len);
    }
    case OP_CBC:
        m = (CK_MECHANISM){ CKM_AES_CBC, w->iv, 16 };
        rv = p11->C_EncryptInit(w->session, &m, w->key->priv);
        if (rv != CKR_OK)
            return rv;
        w->out_len = opt.size + 64;
        return p11->C_Encrypt(w->session, w->data, opt.size, w->out, &w->out_len);
    case OP_SHA256:
        m.mechanism = CKM_SHA256;
        rv = p11->C_DigestInit(w->session, &m);
        if (rv != CKR_OK)
            return rv;
        w->out_len = 64;
        return p11->C_Digest(w->session, w->data, opt.size, w->out, &w->out_len);
    case OP_KEYGEN_RSA: case OP_KEYGEN_P256:
        snprintf(label, sizeof label, "%s-%d-%" PRIu64, run_tag, w->index, w->counter);
        rv = generate_pair(w->session, opt.op, !opt.session_objects, label, &w->last_pub, &w->last_priv);
        if (rv == CKR_OK) {
            remember(w, w->last_pub);
            remember(w, w->last_priv);
        }
        return rv;
    case OP_CREATE_AES:
        snprintf(label, sizeof label, "%s-%d-%" PRIu64, run_tag, w->index, w->counter);
        rv = create_aes(w->session, !opt.session_objects, label, w->aes, &w->last_priv);
        if (rv == CKR_OK)
            remember(w, w->last_priv);
        return rv;
    case OP_FIND: {
        CK_OBJECT_HANDLE found[2];
        CK_ULONG n = 0;
        snprintf(label, sizeof label, "%s-f%08lu", run_tag, w->find_id);
        CK_ATTRIBUTE t = { CKA_LABEL, label, strlen(label) };
        rv = p11->C_FindObjectsInit(w->session, &t, 1);
        if (rv != CKR_OK)
            return rv;
        rv = p11->C_FindObjects(w->session, found, 2, &n);
        CK_RV rv2 = p11->C_FindObjectsFinal(w->session);
        if (rv != CKR_OK || rv2 != CKR_OK)
            return rv != CKR_OK ? rv : rv2;
        if (n != 1) {
            fprintf(stderr, "p11bench: find: %lu objects labelled %s, not 1\n", n, label);
            w->wrong++;
            return CKR_GENERAL_ERROR;
        }
        w->last_priv = found[0];
        return CKR_OK;
    }
    case OP_LOGIN:
        return p11->C_Login(w->session, CKU_USER, (CK_UTF8CHAR *)opt.pin, strlen(opt.pin));
    case OP_OPEN_SESSION: {
        CK_SESSION_HANDLE s;
        rv = p11->C_OpenSession(opt.slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s);
        return rv == CKR_OK ? p11->C_CloseSession(s) : rv;
    }
    }
    return CKR_FUNCTION_NOT_SUPPORTED;
}

static void between(struct worker *w)      /* what an operation needs before it, not timed */
{
    prepare(w);
    if (opt.op == OP_LOGIN)
        p11->C_Logout(w->session);
}

static bool step(struct worker *w, bool timed)
{
    between(w);
    uint64_t t0 = now_ns();
    CK_RV rv = one(w);
    uint64_t dt = now_ns() - t0;
    w->last_rv = rv;
    if (rv == CKR_OK) {
        if (timed)
            hist_add(&w->hist, dt);
        return true;
    }
    w->errors++;
    w->last_error = rv;
    if (!opt.keep_going)
        return false;
    usleep(1000);
    if (rv == CKR_SESSION_HANDLE_INVALID || rv == CKR_SESSION_CLOSED) {
        CK_SESSION_HANDLE s;
        if (p11->C_OpenSession(opt.slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s) == CKR_OK)
            w->session = s;
    } else if (rv == CKR_USER_NOT_LOGGED_IN) {
        p11->C_Login(w->session, CKU_USER, (CK_UTF8CHAR *)opt.pin, strlen(opt.pin));
    }
    return true;
}

static bool check_or_tell(struct worker *w, const char *which)
{
    if (check(w))
        return true;
    fprintf(stderr, "p11bench: %s: the %s result of thread %d is wrong\n", opt.op_name, which, w->index);
    w->wrong++;
    return false;
}

void *work(void *arg)
{
    struct worker *w = arg;
    bool alive = step(w, false);
    if (alive && w->errors == 0)
        alive = check_or_tell(w, "first");
    uint64_t end = now_ns() + (uint64_t)(opt.warmup * 1e9);
    while (alive && now_ns() < end && w->n_made < opt.max_created / 4)
        alive = step(w, false);
    pthread_barrier_wait(&start_line);
    uint64_t begin = now_ns();
    end = begin + (uint64_t)(opt.seconds * 1e9);
    while (alive && !atomic_load_explicit(&stop_all, memory_order_relaxed)) {
        alive = step(w, true);
        if (now_ns() >= end || w->n_made >= opt.max_created)
            break;
    }
    w->measured_ns = now_ns() - begin;
    pthread_barrier_wait(&start_line);
    if (!alive)
        atomic_store(&stop_all, true);
    else if (w->hist.n && w->last_rv == CKR_OK)
        check_or_tell(w, "last");
    return NULL;
}

double cpu_seconds(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)r.ru_utime.tv_sec + (double)r.ru_stime.tv_sec +
           1e-6 * (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}
