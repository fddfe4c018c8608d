/* tls.c - see tls.h. */
#define _GNU_SOURCE
#include "tls.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <string.h>

#include "openssl_gate.h"
#include "trace.h"

#define EXPIRY_WARNING_DAYS 30

static OSSL_LIB_CTX *library;
static _Thread_local bool preparing;
static _Atomic bool prepared;

/* --- library context ------------------------------------------------------------------------ */

bool cv_tls_start(void)
{
    if (library != NULL)
        return true;
    if (!cv_openssl_enter())
        return false;
    OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
    if (cv_openssl_watch_end())
        library = OSSL_LIB_CTX_new();
    if (library != NULL && OSSL_PROVIDER_load(library, "default") == NULL) {
        OSSL_LIB_CTX_free(library);
        library = NULL;
    }
    cv_openssl_leave();
    return library != NULL;
}

void cv_tls_abandon(void)
{
    library = NULL;
}

OSSL_LIB_CTX *cv_tls_library(void)
{
    return library;
}

bool cv_tls_random(uint8_t *out, size_t length)
{
    if (library == NULL || !cv_openssl_enter())
        return false;
    bool drawn = RAND_bytes_ex(library, out, length, 0) == 1;
    cv_openssl_leave();
    return drawn;
}

bool cv_tls_prepare(void)
{
    if (atomic_load_explicit(&prepared, memory_order_acquire))
        return true;
    if (preparing)
        return false;
    if (!cv_openssl_enter())
        return false;
    preparing = true;
    OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, NULL);
    preparing = false;
    cv_openssl_leave();
    atomic_store_explicit(&prepared, true, memory_order_release);
    return true;
}

/* --- credentials ---------------------------------------------------------------------------- */

/* Without this OpenSSL would ask for a key's passphrase on the application's terminal. */
static int no_passphrase(char *buffer, int size, int writing, void *data)
{
    (void)buffer, (void)size, (void)writing, (void)data;
    return 0;
}

static bool trace_failure(const struct cv_cluster_config *config, const char *what, const char *path)
{
    char reason[160];
    ERR_error_string_n(ERR_peek_last_error(), reason, sizeof reason);
    cv_trace("cluster %02u: %s %s cannot be used: %s", config->index, what, path, reason);
    return false;
}

/* Says in the last 30 days when the certificate ends.  The host's clock decides on nothing else:
 * whether the certificate is accepted is for the members to say, by theirs (rule T1). */
static void trace_end(SSL_CTX *context, const struct cv_cluster_config *config)
{
    const X509 *own = SSL_CTX_get0_certificate(context);
    int days = 0, seconds = 0;
    if (own == NULL || ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(own)) != 1 ||
        days >= EXPIRY_WARNING_DAYS)
        return;
    if (days < 0 || seconds < 0)
        cv_trace("cluster %02u: client certificate %s has expired by this host's clock; renew it with"
                 " LNHClientRegistration.sh --renew %02u",
                 config->index, config->certificate, config->index);
    else
        cv_trace("cluster %02u: client certificate %s ends in %d days; renew it with"
                 " LNHClientRegistration.sh --renew %02u",
                 config->index, config->certificate, days, config->index);
}

static bool load_files(SSL_CTX *context, const struct cv_cluster_config *config)
{
    if (SSL_CTX_load_verify_file(context, config->authority) != 1)
        return trace_failure(config, "CA file", config->authority);
    if (SSL_CTX_use_certificate_chain_file(context, config->certificate) != 1)
        return trace_failure(config, "client certificate", config->certificate);
    if (SSL_CTX_use_PrivateKey_file(context, config->key, SSL_FILETYPE_PEM) != 1)
        return trace_failure(config, "client key", config->key);
    if (SSL_CTX_check_private_key(context) != 1)
        return trace_failure(config, "client key (not that of the certificate)", config->key);
    trace_end(context, config);
    return true;
}

/* The server is who LNHServerCN says: by a DNS name of the certificate or by its common name.
 * The host's clock has no say in it (rule T1). */
static bool demand_identity(SSL_CTX *context, const struct cv_cluster_config *config)
{
    X509_VERIFY_PARAM *rules = SSL_CTX_get0_param(context);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_WILDCARDS |
                                               X509_CHECK_FLAG_ALWAYS_CHECK_SUBJECT);
    return X509_VERIFY_PARAM_set_flags(rules, X509_V_FLAG_NO_CHECK_TIME) == 1 &&
           X509_VERIFY_PARAM_set1_host(rules, config->name, 0) == 1;
}

static SSL_CTX *new_context(const struct cv_cluster_config *config)
{
    SSL_CTX *context = SSL_CTX_new_ex(library, NULL, TLS_client_method());
    if (context == NULL)
        return NULL;
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_AUTO_RETRY | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) != 1 ||
        !demand_identity(context, config) || !load_files(context, config)) {
        SSL_CTX_free(context);
        return NULL;
    }
    return context;
}

static bool unchanged(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

enum cv_fault cv_credentials_load(struct cv_credentials *credentials,
                                  const struct cv_cluster_config *config)
{
    const char *paths[3] = { config->certificate, config->key, config->authority };
    struct stat files[3] = { 0 };
    bool same = credentials->context != NULL;
    for (size_t i = 0; i < 3; i++) {
        bool found = stat(paths[i], &files[i]) == 0;
        same = same && (!found || unchanged(&files[i], &credentials->files[i]));
    }
    if (same)
        return CV_FAULT_NONE;
    if (!cv_openssl_enter())
        return CV_FAULT_UNREACHABLE; /* nobody is, without OpenSSL; the files are not to blame */
    ERR_set_mark();
    SSL_CTX *context = new_context(config);
    ERR_pop_to_mark();
    if (context != NULL)
        SSL_CTX_free(credentials->context);
    cv_openssl_leave();
    if (context == NULL)
        return credentials->context != NULL ? CV_FAULT_NONE : CV_FAULT_CREDENTIALS;
    credentials->context = context;
    memcpy(credentials->files, files, sizeof files);
    return CV_FAULT_NONE;
}

void cv_credentials_free(struct cv_credentials *credentials)
{
    if (cv_openssl_enter()) {
        SSL_CTX_free(credentials->context);
        cv_openssl_leave();
    }
    credentials->context = NULL;
}
