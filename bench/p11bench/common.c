/* common.c - errors, the clock, and a histogram about 1.5 % wide. */
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

CK_FUNCTION_LIST *p11;
CK_BBOOL ck_true = CK_TRUE, ck_false = CK_FALSE;
char run_tag[48];
atomic_bool stop_all;
atomic_ulong checks_openssl, checks_module;

_Noreturn void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("p11bench: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

void must(CK_RV rv, const char *what)
{
    if (rv != CKR_OK)
        die("%s: 0x%lx", what, rv);
}

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static unsigned bucket_of(uint64_t v)
{
    if (v < SUB)
        return (unsigned)v;
    unsigned shift = 63u - (unsigned)__builtin_clzll(v) - 6u;      /* v >> shift in [64,128) */
    unsigned i = (shift + 1) * SUB + (unsigned)((v >> shift) - SUB);
    return i < BUCKETS ? i : BUCKETS - 1;
}

static double bucket_mid(unsigned i)
{
    if (i < SUB)
        return i;
    unsigned shift = i / SUB - 1;
    return ((double)(i % SUB + SUB) + 0.5) * (double)(1ull << shift);
}

void hist_add(struct hist *h, uint64_t v)
{
    h->n++;
    h->sum += v;
    if (v > h->max)
        h->max = v;
    h->bucket[bucket_of(v)]++;
}

double hist_quantile(const struct hist *h, double q)
{
    uint64_t want = (uint64_t)(q * (double)h->n), seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen > want)
            return bucket_mid(i);
    }
    return (double)h->max;
}

void random_bytes(unsigned char *p, size_t n)
{
    if (getentropy(p, n) != 0)
        die("getentropy: %s", strerror(errno));
}
