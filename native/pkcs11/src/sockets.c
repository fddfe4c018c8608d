/* sockets.c - see sockets.h. */
#include "sockets.h"

#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#define MOST_SOCKETS 256

static _Atomic int open_sockets[MOST_SOCKETS]; /* fd + 1; 0 is a free place */

void cv_socket_opened(int fd)
{
    for (size_t i = 0; i < MOST_SOCKETS; i++) {
        int expected = 0;
        if (atomic_compare_exchange_strong(&open_sockets[i], &expected, fd + 1))
            return;
    }
}

/* Forgets first and closes then: the other way round, a child forked in between could close a
 * descriptor that belongs to the application by now. */
void cv_socket_close(int fd)
{
    for (size_t i = 0; i < MOST_SOCKETS; i++) {
        int expected = fd + 1;
        if (atomic_compare_exchange_strong(&open_sockets[i], &expected, 0))
            break;
    }
    close(fd);
}

void cv_sockets_drop(void)
{
    for (size_t i = 0; i < MOST_SOCKETS; i++) {
        int fd = atomic_exchange(&open_sockets[i], 0) - 1;
        if (fd >= 0)
            close(fd);
    }
}
