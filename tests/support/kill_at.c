/*
 * kill_at.c - preloaded into a process, kills it at the durable call that CONCLAVE_KILL_AT counts.
 *
 * A durable call makes something last or gives it its name: fsync, fdatasync, rename.  They are
 * counted once the file that CONCLAVE_KILL_WHEN names exists.  The process dies before the call.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void count(void)
{
    static atomic_int calls;
    const char *at = getenv("CONCLAVE_KILL_AT");
    const char *when = getenv("CONCLAVE_KILL_WHEN");
    if (at == NULL || when == NULL || access(when, F_OK) != 0)
        return;
    if (atomic_fetch_add(&calls, 1) + 1 == atoi(at))
        raise(SIGKILL);
}

int fsync(int descriptor)
{
    count();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(descriptor);
}

int fdatasync(int descriptor)
{
    count();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(descriptor);
}

int rename(const char *from, const char *to)
{
    count();
    return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))(from, to);
}
