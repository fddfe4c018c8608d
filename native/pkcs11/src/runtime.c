/* runtime.c - see runtime.h and rpc.h. */
#define _GNU_SOURCE
#include "runtime.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "cluster.h"
#include "config.h"
#include "moment.h"
#include "openssl_gate.h"
#include "rpc.h"
#include "sockets.h"
#include "tls.h"
#include "trace.h"

#define PRESENT UINT32_C(0x434f4e43)
/* A caller who cannot be woken (in the resolver) holds up the stop no longer than this. */
#define STOP_TIME (10 * CV_SECOND)

struct instance {
    struct cv_surroundings surroundings;
    size_t cluster_count;
    struct cv_cluster *clusters[CV_CONFIG_MAX_CLUSTERS];
};

enum { STOPPED, RUNNING, STOPPING };

/* A caller counts itself first and looks at `state` then; the stop sets `state` first and looks at
 * `calls` then.  So one sees the other, and only who saw RUNNING looks at `running`. */
static _Atomic int state = STOPPED;
static _Atomic uint32_t calls; /* under way */
static struct instance *_Atomic running;
static uint8_t process_id[16];

/* --- fork ------------------------------------------------------------------------------------ */

/* Holds PRESENT; the kernel empties the page in every child, however it was made. */
static _Atomic uint32_t *fork_page;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void after_fork_in_child(void)
{
    cv_sockets_drop();
}

static void watch_forks(void)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return;
    if (madvise(page, size, MADV_WIPEONFORK) != 0 || !cv_openssl_watch_forks() ||
        pthread_atfork(NULL, NULL, after_fork_in_child) != 0) {
        munmap(page, size);
        return;
    }
    fork_page = page;
}

bool cv_runtime_forked(void)
{
    return atomic_load_explicit(&state, memory_order_relaxed) != STOPPED &&
           atomic_load_explicit(fork_page, memory_order_relaxed) != PRESENT;
}

/* Leaves the parent's instance where it is. */
static void abandon(void)
{
    struct instance *instance = atomic_exchange(&running, NULL);
    atomic_store(&state, STOPPED);
    atomic_store(&calls, 0);
    cv_sockets_drop(); /* a child made by clone() alone has run no fork handler */
    if (instance != NULL)
        close(instance->surroundings.stop_descriptor);
    cv_tls_abandon();
}

/* --- start ----------------------------------------------------------------------------------- */

static void free_instance(struct instance *instance)
{
    for (size_t i = 0; i < instance->cluster_count; i++)
        cv_cluster_free(instance->clusters[i]);
    if (instance->surroundings.stop_descriptor >= 0)
        close(instance->surroundings.stop_descriptor);
    free(instance);
}

static CK_RV fill_instance(struct instance *instance)
{
    struct cv_config *config = malloc(sizeof *config);
    struct cv_surroundings *surroundings = &instance->surroundings;
    CK_RV value = CKR_OK;
    if (config == NULL)
        return CKR_HOST_MEMORY;
    if (cv_config_read(config) == CV_CONFIG_UNREADABLE)
        value = CKR_GENERAL_ERROR;
    surroundings->receive_timeout_ms = config->receive_timeout_ms;
    surroundings->keep_alive = config->keep_alive;
    surroundings->direct = config->direct;
    surroundings->stop_descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (surroundings->stop_descriptor < 0 || getrandom(process_id, sizeof process_id, 0) != sizeof process_id)
        value = CKR_HOST_MEMORY;
    memcpy(surroundings->process_id, process_id, sizeof process_id);
    for (size_t i = 0; i < config->cluster_count && value == CKR_OK; i++) {
        const char *more = i == 0 ? secure_getenv("CONCLAVE_MEMBERS") : NULL;
        struct cv_cluster *cluster = cv_cluster_new(&config->clusters[i], surroundings, more);
        if (cluster == NULL)
            value = CKR_HOST_MEMORY;
        else
            instance->clusters[instance->cluster_count++] = cluster;
    }
    free(config);
    return value;
}

CK_RV cv_runtime_start(void)
{
    pthread_once(&fork_once, watch_forks);
    if (fork_page == NULL)
        return CKR_HOST_MEMORY;
    if (cv_runtime_forked())
        abandon();
    if (atomic_load(&state) != STOPPED)
        return CKR_CRYPTOKI_ALREADY_INITIALIZED;
    cv_trace_start();
    struct instance *instance = calloc(1, sizeof *instance);
    if (instance == NULL)
        return CKR_HOST_MEMORY;
    instance->surroundings.stop_descriptor = -1;
    CK_RV value = cv_tls_start() ? fill_instance(instance) : CKR_HOST_MEMORY;
    if (value != CKR_OK) {
        free_instance(instance);
        return value;
    }
    atomic_store(fork_page, PRESENT);
    atomic_store(&running, instance);
    atomic_store(&state, RUNNING);
    return CKR_OK;
}

/* --- stop ------------------------------------------------------------------------------------ */

/* Waits until no call is under way; false after STOP_TIME. */
static bool wait_for_callers(void)
{
    cv_moment until = cv_now() + STOP_TIME;
    uint32_t left;
    while ((left = atomic_load(&calls)) != 0) {
        if (cv_now() >= until)
            return false;
        cv_word_wait(&calls, left, until);
    }
    return true;
}

static void wake_callers(struct instance *instance)
{
    uint64_t one = 1;
    ssize_t written = write(instance->surroundings.stop_descriptor, &one, sizeof one);
    (void)written; /* an eventfd that is readable already does as well */
    for (size_t i = 0; i < instance->cluster_count; i++)
        cv_cluster_stop(instance->clusters[i]);
}

void cv_runtime_stop(void)
{
    if (cv_runtime_forked()) {
        abandon();
        return;
    }
    struct instance *instance = atomic_load(&running);
    if (atomic_load(&state) != RUNNING)
        return;
    atomic_store(&instance->surroundings.stopping, true);
    atomic_store(&state, STOPPING);
    if (atomic_load(&calls) != 0)
        wake_callers(instance);
    bool alone = wait_for_callers();
    atomic_store(&running, NULL);
    if (alone)
        free_instance(instance);
    else
        cv_trace("a caller did not leave in time; its memory is left behind");
    atomic_store(&state, STOPPED);
    cv_trace_stop();
}

/* --- callers --------------------------------------------------------------------------------- */

bool cv_runtime_enter(bool *alone)
{
    *alone = atomic_fetch_add(&calls, 1) == 0;
    if (atomic_load(&state) == RUNNING && !cv_runtime_forked())
        return true;
    cv_runtime_leave();
    return false;
}

void cv_runtime_leave(void)
{
    if (atomic_fetch_sub(&calls, 1) == 1 && atomic_load(&state) == STOPPING)
        cv_word_wake(&calls, INT_MAX);
}

bool cv_runtime_has(const cv_cluster *cluster)
{
    const struct instance *instance = atomic_load(&running);
    for (size_t i = 0; i < instance->cluster_count; i++) {
        if (instance->clusters[i] == cluster)
            return true;
    }
    return false;
}

size_t cv_cluster_count(void)
{
    bool alone;
    if (!cv_runtime_enter(&alone))
        return 0;
    size_t count = atomic_load(&running)->cluster_count;
    cv_runtime_leave();
    return count;
}

cv_cluster *cv_cluster_at(size_t index)
{
    bool alone;
    if (!cv_runtime_enter(&alone))
        return NULL;
    const struct instance *instance = atomic_load(&running);
    cv_cluster *cluster = index < instance->cluster_count ? instance->clusters[index] : NULL;
    cv_runtime_leave();
    return cluster;
}

const uint8_t *cv_process_id(void)
{
    return process_id;
}

CK_RV cv_random(uint8_t *out, size_t length)
{
    bool alone;
    if (!cv_runtime_enter(&alone))
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    bool drawn = cv_tls_random(out, length);
    cv_runtime_leave();
    return drawn ? CKR_OK : CKR_DEVICE_ERROR;
}
