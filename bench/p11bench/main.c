/*
 * p11bench - throughput and latency of one operation of any PKCS#11 module.
 *
 * The module is opened with dlopen; every thread has its own session.  Results
 * are checked with OpenSSL, outside the module, so that a module that answers
 * fast but wrongly is reported as an error and never as a score.
 *
 * Build:  cc -std=c11 -O2 -Wall -Wextra -pthread \
 *            $(pkg-config --cflags p11-kit-1) -o p11bench *.c -lcrypto -ldl -lm
 */
#define _GNU_SOURCE
#include "p11bench.h"

#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
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

static const struct op_name op_names[] = {
    { "rsa2048-sign", OP_RSA_SIGN, 32 },      { "rsa2048-pss-sign", OP_RSA_PSS, 32 },
    { "p256-sign", OP_P256, 32 },             { "p384-sign", OP_P384, 48 },
    { "ed25519-sign", OP_ED25519, 32 },       { "aes-gcm-1k", OP_GCM, 1024 },
    { "aes-cbc-16k", OP_CBC, 16384 },         { "sha256", OP_SHA256, 1024 },
    { "keygen-rsa2048", OP_KEYGEN_RSA, 0 },   { "keygen-p256", OP_KEYGEN_P256, 0 },
    { "create-aes", OP_CREATE_AES, 0 },       { "find", OP_FIND, 0 },
    { "login", OP_LOGIN, 0 },                 { "open-session", OP_OPEN_SESSION, 0 },
};
#define N_OPS (sizeof op_names / sizeof op_names[0])

struct options opt = { .threads = 1, .seconds = 3, .warmup = 0.3, .objects = 1000, .max_created = 20000 };

static void usage(FILE *f)
{
    fprintf(f,
            "usage: p11bench --module FILE --op OP [options]\n"
            "  --pin PIN | --pin-env NAME   user PIN, or the environment variable that holds it\n"
            "  --slot ID | --token-label L  which token (default: the first one with a token)\n"
            "  --threads N                  sessions working at once (1)\n"
            "  --seconds S                  measured time (3), after --warmup S (0.3)\n"
            "  --size BYTES                 data per operation, where OP takes data\n"
            "  --objects N                  objects on the token for the op find (1000)\n"
            "  --max-created N              most objects one thread makes in create/keygen (20000)\n"
            "  --session-objects            make session objects, not token objects\n"
            "  --wait                       once ready say so, and begin at the end of standard input\n"
            "  --keep-going                 count failed operations and go on (failover tests)\n"
            "SIGINT ends the measured time.\n"
            "OP:");
    for (size_t i = 0; i < N_OPS; i++)
        fprintf(f, " %s", op_names[i].name);
    fputc('\n', f);
}

static unsigned long to_number(const char *text, const char *what, unsigned long max)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(text, &end, 0);
    if (errno || end == text || *end || v > max || text[0] == '-')
        die("%s: not a number in range: %s", what, text);
    return v;
}

static double to_seconds(const char *text, const char *what)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= 0 && v <= 3600))
        die("%s: not a time in seconds: %s", what, text);
    return v;
}

static void parse(int argc, char **argv)
{
    enum { MODULE = 1, PIN, PIN_ENV, SLOT, LABEL, OP, THREADS, SECONDS, WARMUP, SIZE, OBJECTS, CREATED,
           SESSION_OBJECTS, KEEP_GOING, WAIT, HELP, VERS };
    static const struct option longs[] = {
        { "module", 1, NULL, MODULE }, { "pin", 1, NULL, PIN }, { "pin-env", 1, NULL, PIN_ENV },
        { "slot", 1, NULL, SLOT }, { "token-label", 1, NULL, LABEL }, { "op", 1, NULL, OP },
        { "threads", 1, NULL, THREADS }, { "seconds", 1, NULL, SECONDS }, { "warmup", 1, NULL, WARMUP },
        { "size", 1, NULL, SIZE }, { "objects", 1, NULL, OBJECTS }, { "max-created", 1, NULL, CREATED },
        { "session-objects", 0, NULL, SESSION_OBJECTS }, { "keep-going", 0, NULL, KEEP_GOING },
        { "wait", 0, NULL, WAIT }, { "help", 0, NULL, HELP }, { "version", 0, NULL, VERS }, { NULL, 0, NULL, 0 },
    };
    bool have_size = false;
    int c;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case MODULE: opt.module = optarg; break;
        case PIN: opt.pin = optarg; break;
        case PIN_ENV:
            opt.pin = getenv(optarg);
            if (!opt.pin)
                die("the environment variable %s is not set", optarg);
            break;
        case SLOT: opt.slot = to_number(optarg, "--slot", ~0ul); opt.have_slot = true; break;
        case LABEL: opt.token_label = optarg; break;
        case OP: opt.op_name = optarg; break;
        case THREADS: opt.threads = (int)to_number(optarg, "--threads", MAX_THREADS); break;
        case SECONDS: opt.seconds = to_seconds(optarg, "--seconds"); break;
        case WARMUP: opt.warmup = to_seconds(optarg, "--warmup"); break;
        case SIZE: opt.size = to_number(optarg, "--size", MAX_DATA); have_size = true; break;
        case OBJECTS: opt.objects = to_number(optarg, "--objects", 10000000); break;
        case CREATED: opt.max_created = to_number(optarg, "--max-created", 10000000); break;
        case SESSION_OBJECTS: opt.session_objects = true; break;
        case KEEP_GOING: opt.keep_going = true; break;
        case WAIT: opt.wait = true; break;
        case HELP: usage(stdout); exit(0);
        case VERS: puts("p11bench " VERSION); exit(0);
        default: usage(stderr); exit(2);
        }
    }
    if (!opt.module || !opt.op_name || optind != argc) {
        usage(stderr);
        exit(2);
    }
    size_t i = 0;
    while (i < N_OPS && strcmp(op_names[i].name, opt.op_name) != 0)
        i++;
    if (i == N_OPS)
        die("no such op: %s", opt.op_name);
    opt.op = op_names[i].op;
    if (!have_size)
        opt.size = op_names[i].size;
    if (opt.op == OP_CBC && opt.size % 16)
        die("--size must be a multiple of 16 for AES-CBC");
    if ((opt.op == OP_P256 || opt.op == OP_P384) && opt.size > op_names[i].size)
        die("--size is at most %zu for %s", op_names[i].size, opt.op_name);
    if (opt.threads < 1 || opt.objects < 1 || opt.max_created < 4)
        die("--threads, --objects and --max-created must be positive");
    if (opt.op == OP_LOGIN && opt.threads != 1)
        die("login is a state of the whole process: use --threads 1, and several processes for more");
    if (opt.op == OP_LOGIN && !opt.pin)
        die("the op login needs --pin");
}

static void choose_slot(char token_name[33])
{
    CK_ULONG n = 0;
    must(p11->C_GetSlotList(CK_TRUE, NULL, &n), "C_GetSlotList");
    CK_SLOT_ID *ids = calloc(n + 1, sizeof *ids);
    if (!ids)
        die("out of memory");
    must(p11->C_GetSlotList(CK_TRUE, ids, &n), "C_GetSlotList");
    for (CK_ULONG i = 0; i < n; i++) {
        CK_TOKEN_INFO t;
        if (p11->C_GetTokenInfo(ids[i], &t) != CKR_OK)
            continue;
        memcpy(token_name, t.label, 32);
        token_name[32] = 0;
        for (int j = 31; j >= 0 && token_name[j] == ' '; j--)
            token_name[j] = 0;
        bool hit = opt.have_slot ? ids[i] == opt.slot
                 : opt.token_label ? strcmp(token_name, opt.token_label) == 0
                                   : (t.flags & CKF_TOKEN_INITIALIZED) != 0;
        if (hit) {
            opt.slot = ids[i];
            free(ids);
            return;
        }
    }
    die("no such token");
}

static void json_string(const char *name, const char *s)
{
    printf("\"%s\": \"", name);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            printf("\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            printf("\\u%04x", *s);
        else
            putchar(*s);
    }
    printf("\", ");
}

/* Processes that are to work at the same time are started by whoever closes their input. */
static void wait_for_start(void)
{
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF)
        ;
}

static void end_early(int number)
{
    (void)number;
    atomic_store(&stop_all, true);
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    signal(SIGINT, end_early);
    snprintf(run_tag, sizeof run_tag, "p11bench-%d-%08" PRIx64, (int)getpid(), now_ns() & 0xffffffffu);

    void *lib = dlopen(opt.module, RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        die("%s", dlerror());
    CK_C_GetFunctionList get_list;
    *(void **)&get_list = dlsym(lib, "C_GetFunctionList");
    if (!get_list)
        die("%s is no PKCS#11 module", opt.module);
    must(get_list(&p11), "C_GetFunctionList");
    CK_C_INITIALIZE_ARGS args = { .flags = CKF_OS_LOCKING_OK };
    must(p11->C_Initialize(&args), "C_Initialize");

    char token_name[33] = "";
    choose_slot(token_name);
    CK_SESSION_HANDLE main_session;
    must(p11->C_OpenSession(opt.slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &main_session),
         "C_OpenSession");
    if (opt.op == OP_LOGIN) {          /* a wrong PIN must be refused, once */
        char bad[64];
        snprintf(bad, sizeof bad, "%.40s-wrong", opt.pin);
        if (p11->C_Login(main_session, CKU_USER, (CK_UTF8CHAR *)bad, strlen(bad)) == CKR_OK)
            die("the module takes a wrong PIN");
    }
    if (opt.pin) {
        CK_RV rv = p11->C_Login(main_session, CKU_USER, (CK_UTF8CHAR *)opt.pin, strlen(opt.pin));
        if (rv != CKR_USER_ALREADY_LOGGED_IN)
            must(rv, "C_Login");
    }

    struct key key;
    make_key(main_session, opt.op, &key);
    CK_OBJECT_HANDLE *found = NULL;
    if (opt.op == OP_FIND) {
        found = calloc(opt.objects, sizeof *found);
        if (!found)
            die("out of memory");
        for (unsigned long i = 0; i < opt.objects; i++) {
            char label[96];
            unsigned char value[32];
            random_bytes(value, sizeof value);
            snprintf(label, sizeof label, "%s-f%08lu", run_tag, i);
            if (create_aes(main_session, !opt.session_objects, label, value, &found[i]) != CKR_OK)
                must(generate_aes(main_session, !opt.session_objects, label, &found[i]),
                     "making the objects to find");
        }
    }

    struct worker *ws = calloc((size_t)opt.threads, sizeof *ws);
    if (!ws)
        die("out of memory");
    pthread_barrier_init(&start_line, NULL, (unsigned)opt.threads + 1);
    for (int i = 0; i < opt.threads; i++) {
        struct worker *w = &ws[i];
        w->index = i;
        w->key = &key;
        w->data = malloc(opt.size + 64);
        w->out = malloc(opt.size + 1024);
        if (!w->data || !w->out)
            die("out of memory");
        for (size_t j = 0; j < opt.size; j += 256)
            random_bytes(w->data + j, opt.size - j < 256 ? opt.size - j : 256);
        random_bytes(w->aes, sizeof w->aes);
        random_bytes((unsigned char *)&w->rng, sizeof w->rng);
        w->rng |= 1;
        must(p11->C_OpenSession(opt.slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &w->session),
             "C_OpenSession");
    }
    for (int i = 0; i < opt.threads; i++)
        if (pthread_create(&ws[i].thread, NULL, work, &ws[i]) != 0)
            die("pthread_create failed");

    if (opt.wait)
        wait_for_start();
    pthread_barrier_wait(&start_line);
    double cpu0 = cpu_seconds();
    uint64_t t0 = now_ns();
    pthread_barrier_wait(&start_line);
    double elapsed = (double)(now_ns() - t0) * 1e-9, cpu = cpu_seconds() - cpu0;

    struct hist *all = calloc(1, sizeof *all);
    if (!all)
        die("out of memory");
    uint64_t errors = 0, wrong = 0;
    CK_RV last_error = CKR_OK;
    double rate = 0;
    for (int i = 0; i < opt.threads; i++) {
        pthread_join(ws[i].thread, NULL);
        struct hist *h = &ws[i].hist;
        all->n += h->n;
        all->sum += h->sum;
        if (h->max > all->max)
            all->max = h->max;
        for (unsigned b = 0; b < BUCKETS; b++)
            all->bucket[b] += h->bucket[b];
        errors += ws[i].errors;
        wrong += ws[i].wrong;
        if (ws[i].last_error != CKR_OK)
            last_error = ws[i].last_error;
        if (ws[i].measured_ns)
            rate += (double)h->n * 1e9 / (double)ws[i].measured_ns;
    }
    if (opt.op == OP_LOGIN && all->sum)      /* the logout between two logins is not counted */
        rate = (double)all->n * 1e9 / (double)all->sum;

    for (int i = 0; i < opt.threads; i++)
        for (size_t j = 0; j < ws[i].n_made; j++)
            p11->C_DestroyObject(main_session, ws[i].made[j]);
    for (unsigned long i = 0; found && i < opt.objects; i++)
        p11->C_DestroyObject(main_session, found[i]);
    if (key.pub)
        p11->C_DestroyObject(main_session, key.pub);
    if (key.priv)
        p11->C_DestroyObject(main_session, key.priv);
    p11->C_Finalize(NULL);

    unsigned long co = atomic_load(&checks_openssl), cm = atomic_load(&checks_module);
    bool good = all->n > 0 && co + cm > 0 && wrong == 0 && (errors == 0 || opt.keep_going);
    printf("{");
    json_string("op", opt.op_name);
    json_string("token", token_name);
    printf("\"threads\": %d, \"size\": %zu, ", opt.threads, opt.size);
    if (opt.op == OP_FIND)
        printf("\"objects\": %lu, ", opt.objects);
    printf("\"seconds\": %.3f, \"ops\": %" PRIu64 ", \"ops_per_s\": %.1f, ", elapsed, all->n, rate);
    printf("\"mean_us\": %.2f, \"p50_us\": %.2f, \"p95_us\": %.2f, \"p99_us\": %.2f, \"max_us\": %.1f, ",
           all->n ? (double)all->sum / (double)all->n * 1e-3 : 0.0, hist_quantile(all, 0.50) * 1e-3,
           hist_quantile(all, 0.95) * 1e-3, hist_quantile(all, 0.99) * 1e-3, (double)all->max * 1e-3);
    printf("\"client_cpu_us_per_op\": %.2f, ", all->n ? cpu * 1e6 / (double)all->n : 0.0);
    printf("\"errors\": %" PRIu64 ", \"last_error\": \"0x%lx\", \"wrong_results\": %" PRIu64 ", ", errors,
           last_error, wrong);
    printf("\"checked_by_openssl\": %lu, \"checked_by_module\": %lu, \"ok\": %s}\n", co, cm,
           good ? "true" : "false");
    return good ? 0 : 1;
}
