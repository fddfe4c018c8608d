/* trace.c - see trace.h. */
#define _GNU_SOURCE
#include "trace.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 512

static _Atomic int trace_fd = -1;

void cv_trace_start(void)
{
    const char *path = secure_getenv("CONCLAVE_PKCS11_TRACE");
    if (path == NULL || *path == '\0' || atomic_load(&trace_fd) >= 0)
        return;
    int fd = strcmp(path, "-") == 0
                 ? fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)
                 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    atomic_store(&trace_fd, fd);
}

void cv_trace_stop(void)
{
    int fd = atomic_exchange(&trace_fd, -1);
    if (fd >= 0)
        close(fd);
}

void cv_trace(const char *format, ...)
{
    int fd = atomic_load_explicit(&trace_fd, memory_order_relaxed);
    if (fd < 0)
        return;
    char line[LINE_BYTES];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int used = snprintf(line, sizeof line, "%lld.%03ld conclave-pkcs11[%d] ", (long long)now.tv_sec,
                        now.tv_nsec / 1000000, (int)getpid());
    va_list arguments;
    va_start(arguments, format);
    int more = vsnprintf(line + used, sizeof line - (size_t)used - 1, format, arguments);
    va_end(arguments);
    size_t length = (size_t)used + (more > 0 ? (size_t)more : 0);
    if (length > sizeof line - 2)
        length = sizeof line - 2;
    line[length] = '\n';
    ssize_t written = write(fd, line, length + 1); /* a lost line of trace changes nothing */
    (void)written;
}
