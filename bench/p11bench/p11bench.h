/* p11bench.h - what the files of p11bench share. */
#ifndef P11BENCH_H
#define P11BENCH_H

#include <p11-kit/pkcs11.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VERSION "1.0"
#define MAX_THREADS 512
#define MAX_DATA (1u << 20)
#define GCM_TAG 16

enum op {
    OP_RSA_SIGN, OP_RSA_PSS, OP_P256, OP_P384, OP_ED25519, OP_GCM, OP_CBC, OP_SHA256,
    OP_KEYGEN_RSA, OP_KEYGEN_P256, OP_CREATE_AES, OP_FIND, OP_LOGIN, OP_OPEN_SESSION
};

struct op_name {
    const char *name;
    enum op op;
    size_t size;              /* bytes given to the operation, by default */
};

struct options {
    const char *module, *pin, *token_label, *op_name;
    enum op op;
    bool have_slot, session_objects, keep_going, wait;
    CK_SLOT_ID slot;
    int threads;
    double seconds, warmup;
    unsigned long objects, max_created;
    size_t size;
};

extern struct options opt;
extern CK_FUNCTION_LIST *p11;
extern CK_BBOOL ck_true, ck_false;
extern char run_tag[48]; /* start of the label of every object of this run */
extern atomic_bool stop_all;
extern atomic_ulong checks_openssl, checks_module;
extern pthread_barrier_t start_line;

/* histogram, about 1.5 % wide */
#define SUB 64
#define BUCKETS (SUB * 48)

struct hist {
    uint64_t n, sum, max;
    uint64_t bucket[BUCKETS];
};

struct key {
    CK_OBJECT_HANDLE priv, pub;    /* priv is the secret key for AES */
    EVP_PKEY *check;               /* the public half, outside the module */
    unsigned char aes[32];
    bool aes_known;
};

struct worker {
    pthread_t thread;
    int index;
    CK_SESSION_HANDLE session;
    const struct key *key;
    unsigned char *data, *out;       /* what goes in, what the last operation gave */
    CK_ULONG out_len;
    unsigned char iv[16];
    uint64_t counter, rng;
    CK_OBJECT_HANDLE *made;          /* objects made by create/keygen, removed at the end */
    size_t n_made, cap_made;
    unsigned char aes[32];
    CK_OBJECT_HANDLE last_pub, last_priv;
    unsigned long find_id;
    uint64_t errors, wrong, measured_ns;
    CK_RV last_error, last_rv;      /* last_rv: of the last operation, good or bad */
    struct hist hist;
};

/* common.c */
_Noreturn void die(const char *fmt, ...);
void must(CK_RV rv, const char *what);
uint64_t now_ns(void);
void hist_add(struct hist *h, uint64_t v);
double hist_quantile(const struct hist *h, double q);
void random_bytes(unsigned char *p, size_t n);

/* keys.c */
CK_RV get_bytes(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE_TYPE type, unsigned char *out, CK_ULONG *len);
EVP_PKEY *rsa_public(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE pub);
EVP_PKEY *ec_public(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE pub, enum op op);
CK_RV generate_pair(CK_SESSION_HANDLE s, enum op op, bool token, const char *label, CK_OBJECT_HANDLE *pub, CK_OBJECT_HANDLE *priv);
CK_RV create_aes(CK_SESSION_HANDLE s, bool token, const char *label, const unsigned char value[32], CK_OBJECT_HANDLE *out);
CK_RV generate_aes(CK_SESSION_HANDLE s, bool token, const char *label, CK_OBJECT_HANDLE *out);
void make_key(CK_SESSION_HANDLE s, enum op op, struct key *k);

/* work.c */
void *work(void *arg);
double cpu_seconds(void);

/* check.c */
bool check(struct worker *w);

#endif
