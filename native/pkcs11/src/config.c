/* config.c - see config.h. */
#define _GNU_SOURCE
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trace.h"

#define SECTION "LunaSA Client"

struct span {
    const char *at;
    size_t length;
};

/* --- text ----------------------------------------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct span trimmed(struct span text)
{
    while (text.length != 0 && is_blank(text.at[0])) {
        text.at++;
        text.length--;
    }
    while (text.length != 0 && is_blank(text.at[text.length - 1]))
        text.length--;
    return text;
}

static bool equals(struct span text, const char *word)
{
    return text.length == strlen(word) && memcmp(text.at, word, text.length) == 0;
}

/* Copies into a buffer of `size`; false, and an empty buffer, if it does not fit or holds a NUL. */
static bool copied(struct span text, char *out, size_t size)
{
    out[0] = '\0';
    if (text.length >= size || memchr(text.at, '\0', text.length) != NULL)
        return false;
    memcpy(out, text.at, text.length);
    out[text.length] = '\0';
    return true;
}

/* A decimal number of at most nine digits. */
static bool decimal(struct span text, unsigned *number)
{
    *number = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] < '0' || text.at[i] > '9' || i == 9)
            return false;
        *number = *number * 10 + (unsigned)(text.at[i] - '0');
    }
    return text.length != 0;
}

/* --- entries -------------------------------------------------------------------------------- */

struct parse {
    const char *source; /* what faults are said of */
    struct cv_config *config; /* its clusters lie by index, with gaps, until gather() */
    bool named[CV_CONFIG_MAX_CLUSTERS];
    bool inside; /* section "LunaSA Client" */
};

const char *cv_config_address(const char *text, size_t length, char out_host[256], char out_port[6])
{
    const char *colon = memrchr(text, ':', length);
    if (colon == NULL)
        return "LNHServer must be ADDRESS:PORT";
    struct span host = { text, (size_t)(colon - text) };
    struct span port = { colon + 1, length - host.length - 1 };
    unsigned number;
    if (host.length >= 2 && host.at[0] == '[' && host.at[host.length - 1] == ']')
        host = (struct span){ host.at + 1, host.length - 2 };
    if (!decimal(port, &number) || number == 0 || number > 65535)
        return "the port of LNHServer must be 1 to 65535";
    if (host.length == 0 || !copied(host, out_host, 256))
        return "the address of LNHServer must have 1 to 255 characters";
    snprintf(out_port, 6, "%u", number);
    return NULL;
}

/* `key` without the two digits at its end, and those as a number below ten. */
static bool indexed(struct span *key, unsigned *index)
{
    unsigned number;
    if (key->length < 2)
        return false;
    struct span digits = { key->at + key->length - 2, 2 };
    if (!decimal(digits, &number) || number >= CV_CONFIG_MAX_CLUSTERS)
        return false;
    key->length -= 2;
    *index = number;
    return true;
}

static void set_cluster_entry(struct parse *parse, struct span key, struct span value)
{
    unsigned index;
    if (!indexed(&key, &index))
        return;
    struct cv_cluster_config *cluster = &parse->config->clusters[index];
    bool fits = true;
    if (equals(key, "LNHServer")) {
        parse->named[index] = true;
        const char *fault = cv_config_address(value.at, value.length, cluster->host, cluster->port);
        if (fault != NULL)
            cluster->fault = fault;
    } else if (equals(key, "LNHServerClientCert")) {
        fits = copied(value, cluster->certificate, sizeof cluster->certificate);
    } else if (equals(key, "LNHServerClientKey")) {
        fits = copied(value, cluster->key, sizeof cluster->key);
    } else if (equals(key, "LNHServerCAFile")) {
        fits = copied(value, cluster->authority, sizeof cluster->authority);
    } else if (equals(key, "LNHServerCN")) {
        fits = copied(value, cluster->name, sizeof cluster->name);
    } else if (equals(key, "LNHServerSocket")) {
        fits = copied(value, cluster->socket, sizeof cluster->socket);
    }
    if (!fits)
        cluster->fault = "an LNHServer entry is too long";
}

static void set_entry(struct parse *parse, struct span key, struct span value)
{
    unsigned number;
    if (equals(key, "ReceiveTimeout")) {
        if (decimal(value, &number) && number != 0)
            parse->config->receive_timeout_ms = number;
        else
            cv_trace("%s: ReceiveTimeout must be a number of milliseconds above 0", parse->source);
    } else if (equals(key, "TCPKeepAlive")) {
        parse->config->keep_alive = !equals(value, "0");
    } else if (equals(key, "LNHDirect")) {
        parse->config->direct = !equals(value, "0");
    } else if (key.length > 9 && memcmp(key.at, "LNHServer", 9) == 0) {
        set_cluster_entry(parse, key, value);
    }
}

/* --- lines ---------------------------------------------------------------------------------- */

/* `Name = {`, `key = value;`, `}`, a comment, or nothing. */
static void parse_line(struct parse *parse, struct span line)
{
    line = trimmed(line);
    if (line.length == 0 || line.at[0] == '#')
        return;
    if (line.at[0] == '}') {
        parse->inside = false;
        return;
    }
    const char *sign = memchr(line.at, '=', line.length);
    if (sign == NULL)
        return;
    struct span key = trimmed((struct span){ line.at, (size_t)(sign - line.at) });
    struct span value = { sign + 1, line.length - (size_t)(sign + 1 - line.at) };
    value = trimmed(value);
    if (equals(value, "{")) {
        parse->inside = equals(key, SECTION);
        return;
    }
    /* No value holds a semicolon; what follows it can only be a comment. */
    const char *end = memchr(value.at, ';', value.length);
    if (end != NULL)
        value = trimmed((struct span){ value.at, (size_t)(end - value.at) });
    if (parse->inside)
        set_entry(parse, key, value);
}

/* Moves the clusters that have an LNHServer entry together, and finds what they lack. */
static void gather(struct parse *parse)
{
    struct cv_config *config = parse->config;
    for (unsigned index = 0; index < CV_CONFIG_MAX_CLUSTERS; index++) {
        if (!parse->named[index])
            continue;
        struct cv_cluster_config *cluster = &config->clusters[config->cluster_count++];
        if (cluster != &config->clusters[index])
            *cluster = config->clusters[index];
        cluster->index = index;
        if (cluster->name[0] == '\0')
            strcpy(cluster->name, CV_CONFIG_DEFAULT_NAME);
        if (cluster->fault == NULL &&
            (cluster->certificate[0] == '\0' || cluster->key[0] == '\0' || cluster->authority[0] == '\0'))
            cluster->fault = "LNHServerClientCert, LNHServerClientKey and LNHServerCAFile are needed";
        if (cluster->fault != NULL)
            cv_trace("%s: cluster %02u cannot be used: %s", parse->source, index, cluster->fault);
    }
}

void cv_config_parse(const char *text, size_t length, struct cv_config *config)
{
    struct parse parse = { .source = "Chrystoki.conf", .config = config };
    memset(config, 0, sizeof *config);
    config->receive_timeout_ms = CV_CONFIG_DEFAULT_RECEIVE_TIMEOUT_MS;
    config->keep_alive = true;
    config->direct = true;
    while (length != 0) {
        const char *end = memchr(text, '\n', length);
        size_t used = end != NULL ? (size_t)(end - text) + 1 : length;
        parse_line(&parse, (struct span){ text, used });
        text += used;
        length -= used;
    }
    gather(&parse);
}

/* --- file ----------------------------------------------------------------------------------- */

/* Reads a whole regular file of at most CV_CONFIG_MAX_BYTES; NULL with errno set otherwise. */
static char *read_all(int fd, size_t *length)
{
    struct stat status;
    *length = 0;
    if (fstat(fd, &status) != 0)
        return NULL;
    if (!S_ISREG(status.st_mode) || status.st_size > (off_t)CV_CONFIG_MAX_BYTES) {
        errno = EFBIG;
        return NULL;
    }
    char *text = malloc((size_t)status.st_size + 1);
    while (text != NULL && *length < (size_t)status.st_size) {
        ssize_t got = read(fd, text + *length, (size_t)status.st_size - *length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        *length += (size_t)got;
    }
    return text;
}

static enum cv_config_outcome read_file(const char *path, struct cv_config *config)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? CV_CONFIG_ABSENT : CV_CONFIG_UNREADABLE;
    size_t length;
    char *text = read_all(fd, &length);
    int reason = errno;
    close(fd);
    errno = reason;
    if (text == NULL)
        return CV_CONFIG_UNREADABLE;
    cv_config_parse(text, length, config);
    free(text);
    return CV_CONFIG_READ;
}

/* The one cluster that CONCLAVE_SERVER names, for hosts without a place to write a file to. */
static void read_environment(struct cv_config *config)
{
    static const char *const entries[][2] = {
        { "CONCLAVE_SERVER", "LNHServer00" },
        { "CONCLAVE_CLIENT_CERT_FILE", "LNHServerClientCert00" },
        { "CONCLAVE_CLIENT_KEY_FILE", "LNHServerClientKey00" },
        { "CONCLAVE_CA_FILE", "LNHServerCAFile00" },
        { "CONCLAVE_SERVER_CN", "LNHServerCN00" },
        { "CONCLAVE_SERVER_SOCKET", "LNHServerSocket00" },
        { "CONCLAVE_RECEIVE_TIMEOUT", "ReceiveTimeout" },
        { "CONCLAVE_TCP_KEEPALIVE", "TCPKeepAlive" },
        { "CONCLAVE_LNH_DIRECT", "LNHDirect" },
    };
    struct parse parse = { .source = "CONCLAVE_SERVER and its like", .config = config };
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        const char *value = secure_getenv(entries[i][0]);
        const char *key = entries[i][1];
        if (value != NULL && *value != '\0')
            set_entry(&parse, (struct span){ key, strlen(key) },
                      trimmed((struct span){ value, strlen(value) }));
    }
    gather(&parse);
}

enum cv_config_outcome cv_config_read(struct cv_config *config)
{
    const char *server = secure_getenv("CONCLAVE_SERVER");
    const char *directory = secure_getenv("ChrystokiConfigurationPath");
    char path[PATH_MAX];
    cv_config_parse("", 0, config);
    if (server != NULL && *server != '\0') {
        read_environment(config);
        return CV_CONFIG_READ;
    }
    if (directory == NULL || *directory == '\0')
        directory = "/etc";
    int length = snprintf(path, sizeof path, "%s/Chrystoki.conf", directory);
    if (length < 0 || (size_t)length >= sizeof path)
        return CV_CONFIG_UNREADABLE;
    enum cv_config_outcome outcome = read_file(path, config);
    if (outcome == CV_CONFIG_UNREADABLE)
        cv_trace("%s cannot be read: %s", path, strerrorname_np(errno));
    return outcome;
}
