/*
 * hints.c - the members as last told, in a file beside the client's certificate.
 *
 * Hints only: they say where to look when the configured member cannot be reached, and whom to
 * prefer.  Whoever answers there proves by TLS to be the cluster, and what members tell replaces
 * them.  So the file may be absent, old or garbage, and a directory that cannot be written to is
 * no fault.  It holds no key hash: a stale one would lock out a member that was set up anew.
 *
 *   epoch NUMBER PROMOTER
 *   entry ADDRESS PORT ID GROUP     the configured address, and the member last seen behind it
 *   member ID ADDRESS PORT STANDING GROUP
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster_inside.h"
#include "trace.h"

#define MOST_BYTES 16384u

/* --- reading ---------------------------------------------------------------------------------- */

static bool path_of(const struct cv_cluster *cluster, const char *ending, char path[PATH_MAX])
{
    int length = snprintf(path, PATH_MAX, "%s.members%s", cluster->config.certificate, ending);
    return cluster->config.certificate[0] != '\0' && length < PATH_MAX;
}

static char *read_file(const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *text = NULL;
    if (fd < 0)
        return NULL;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size < (off_t)MOST_BYTES)
        text = calloc(1, MOST_BYTES);
    if (text != NULL && read(fd, text, MOST_BYTES - 1) < 0) {
        free(text);
        text = NULL;
    }
    close(fd);
    return text;
}

static bool same_place(const char *host, const char *port, const struct cv_listed *facts)
{
    return strcmp(host, facts->host) == 0 && strcmp(port, facts->port) == 0;
}

/* Whether a text read from a line is fit to be kept: it went through no decoder. */
static bool is_clean(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return false;
    }
    return true;
}

static void load_member(struct cv_cluster *cluster, const char *line)
{
    struct cv_listed facts = { .standing = CV_READ_WRITE };
    unsigned standing, port;
    if (sscanf(line, "member %63s %255s %u %u %131[^\n]", facts.id, facts.host, &port, &standing,
               facts.group) != 5 ||
        port == 0 || port > 65535 || standing > CV_NOT_AUTHORIZED || !is_clean(facts.group) ||
        !is_clean(facts.id) || !is_clean(facts.host))
        return;
    snprintf(facts.port, sizeof facts.port, "%u", port);
    struct cv_member *entry = &cluster->members[cluster->entry];
    struct cv_member *member =
        strcmp(entry->facts.id, facts.id) == 0 ? entry : cv_take_place(cluster);
    if (member == NULL)
        return;
    member->facts = facts;
    member->listed = true;
    cluster->hinted = true;
    if (member == entry)
        memcpy(cluster->group, facts.group, sizeof cluster->group);
}

static void load_line(struct cv_cluster *cluster, const char *line)
{
    struct cv_member *entry = &cluster->members[cluster->entry];
    struct cv_epoch epoch;
    char host[256], port[6], id[CV_TOLD_ID], group[CV_TOLD_GROUP];
    if (sscanf(line, "epoch %" SCNu64 " %63s", &epoch.number, epoch.promoter) == 2) {
        cluster->epoch = epoch;
        cluster->has_epoch = cluster->epoch_is_hint = true;
    } else if (sscanf(line, "entry %255s %5s %63s %131[^\n]", host, port, id, group) == 4) {
        /* If another address was configured since, who is behind it is unknown. */
        if (strcmp(host, cluster->config.host) == 0 && strcmp(port, cluster->config.port) == 0 &&
            is_clean(id) && is_clean(group)) {
            memcpy(entry->facts.id, id, sizeof id);
            memcpy(cluster->group, group, sizeof group);
        }
    } else {
        load_member(cluster, line);
    }
}

static void load_address(struct cv_cluster *cluster, const char *text, size_t length)
{
    char host[256], port[6];
    if (cv_config_address(text, length, host, port) != NULL) {
        cv_trace("CONCLAVE_MEMBERS: each member must be ADDRESS:PORT, with a port of 1 to 65535");
        return;
    }
    if (strcmp(host, cluster->config.host) == 0 && strcmp(port, cluster->config.port) == 0)
        return;
    for (unsigned place = 0; place < cluster->places; place++) {
        if (same_place(host, port, &cluster->members[place].facts))
            return;
    }
    struct cv_member *member = cv_take_place(cluster);
    if (member == NULL)
        return;
    memcpy(member->facts.host, host, sizeof host);
    memcpy(member->facts.port, port, sizeof port);
}

void cv_hints_load(struct cv_cluster *cluster, const char *more)
{
    char path[PATH_MAX];
    cluster->hints = path_of(cluster, "", path) ? read_file(path) : NULL;
    for (const char *line = cluster->hints; line != NULL && *line != '\0';) {
        const char *end = strchrnul(line, '\n');
        load_line(cluster, line);
        line = *end != '\0' ? end + 1 : end;
    }
    while (more != NULL && *more != '\0') {
        const char *end = strchrnul(more, ',');
        load_address(cluster, more, (size_t)(end - more));
        more = *end != '\0' ? end + 1 : end;
    }
}

/* --- writing ---------------------------------------------------------------------------------- */

static void print_hints(const struct cv_cluster *cluster, FILE *out)
{
    const struct cv_listed *entry = &cluster->members[cluster->entry].facts;
    fputs("# Conclave: the members of a cluster as last told. Hints only; may be deleted.\n", out);
    if (cluster->has_epoch && strchr(cluster->epoch.promoter, ' ') == NULL)
        fprintf(out, "epoch %" PRIu64 " %s\n", cluster->epoch.number, cluster->epoch.promoter);
    if (entry->id[0] != '\0' && strchr(entry->id, ' ') == NULL)
        fprintf(out, "entry %s %s %s %s\n", cluster->config.host, cluster->config.port, entry->id,
                cluster->group);
    for (unsigned place = 0; place < cluster->places; place++) {
        const struct cv_member *member = &cluster->members[place];
        const struct cv_listed *facts = &member->facts;
        if (member->used && member->listed && strpbrk(facts->id, " ") == NULL &&
            strpbrk(facts->host, " ") == NULL)
            fprintf(out, "member %s %s %s %u %s\n", facts->id, facts->host, facts->port,
                    (unsigned)facts->standing, facts->group);
    }
}

char *cv_hints_text(struct cv_cluster *cluster)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return NULL;
    print_hints(cluster, out);
    if (fclose(out) != 0 ||
        (cluster->hints != NULL && text != NULL && strcmp(cluster->hints, text) == 0)) {
        free(text);
        return NULL;
    }
    char *kept = text != NULL ? strdup(text) : NULL;
    if (kept != NULL) {
        free(cluster->hints);
        cluster->hints = kept;
    }
    return text;
}

static bool write_whole(int fd, const char *text)
{
    size_t left = strlen(text);
    while (left != 0) {
        ssize_t written = write(fd, text, left);
        if (written <= 0)
            return false;
        text += written;
        left -= (size_t)written;
    }
    return true;
}

void cv_hints_save(const struct cv_cluster *cluster, char *text)
{
    static _Atomic unsigned files;
    char ending[48], path[PATH_MAX], draft[PATH_MAX];
    snprintf(ending, sizeof ending, ".%d-%u", (int)getpid(), atomic_fetch_add(&files, 1));
    if (text != NULL && getauxval(AT_SECURE) == 0 && path_of(cluster, "", path) &&
        path_of(cluster, ending, draft)) {
        int fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd >= 0) {
            bool written = write_whole(fd, text);
            if (close(fd) != 0 || !written || rename(draft, path) != 0)
                unlink(draft);
        }
    }
    free(text);
}
