/*
 * config.h - Chrystoki.conf: which clusters this client was registered with.
 *
 * The file is a row of sections, `Name = {`, then `key = value;` lines, then `}`.  Only section
 * "LunaSA Client" matters here; whatever else stands in the file is somebody else's and is passed
 * over.  An entry that belongs to us and breaks a rule spoils its own cluster, never the others:
 * the cluster is listed with `fault` set.
 */
#ifndef CONCLAVE_CONFIG_H
#define CONCLAVE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CV_CONFIG_MAX_BYTES (1u << 20)
#define CV_CONFIG_MAX_CLUSTERS 10
#define CV_CONFIG_MAX_VALUE 1024
#define CV_CONFIG_MAX_SOCKET 108 /* sun_path, its final zero included */
#define CV_CONFIG_DEFAULT_RECEIVE_TIMEOUT_MS 20000
#define CV_CONFIG_DEFAULT_NAME "lnh.thalesgroup.com"

struct cv_cluster_config {
    unsigned index;                  /* the ## of its entries, 0 to 9 */
    char host[256];                  /* address or host name */
    char port[6];                    /* decimal, 1 to 65535 */
    char socket[CV_CONFIG_MAX_SOCKET]; /* the entry member's Unix socket, if it is on this host */
    char certificate[CV_CONFIG_MAX_VALUE];
    char key[CV_CONFIG_MAX_VALUE];
    char authority[CV_CONFIG_MAX_VALUE];
    char name[256];                  /* what the server's certificate must be called */
    const char *fault;               /* NULL, or which rule its entries break */
};

struct cv_config {
    unsigned receive_timeout_ms;
    bool keep_alive;
    bool direct; /* LNHDirect: members that were learned are connected to and share the load */
    size_t cluster_count;
    struct cv_cluster_config clusters[CV_CONFIG_MAX_CLUSTERS]; /* by index, without gaps */
};

enum cv_config_outcome { CV_CONFIG_READ, CV_CONFIG_ABSENT, CV_CONFIG_UNREADABLE };

/* Reads ADDRESS:PORT, an IPv6 address in brackets; NULL, or which rule it breaks. */
const char *cv_config_address(const char *text, size_t length, char host[256], char port[6]);

/* Parses `length` bytes; never fails, since a line nobody understands is not ours. */
void cv_config_parse(const char *text, size_t length, struct cv_config *config);

/* Reads DIRECTORY/Chrystoki.conf, DIRECTORY being ChrystokiConfigurationPath or /etc; or no file,
 * if CONCLAVE_SERVER names a cluster.  Neither variable counts in a set-user-id program. */
enum cv_config_outcome cv_config_read(struct cv_config *config);

#endif
