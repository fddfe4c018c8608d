/*
 * sockets.h - the sockets this process has open, so that a forked child can drop them.
 *
 * A child of fork() shares its parent's TLS connections.  One byte from it would ruin them, so it
 * never speaks on them: it only closes its copies, with close(), from the fork handler.
 */
#ifndef CONCLAVE_SOCKETS_H
#define CONCLAVE_SOCKETS_H

/* Remembers an open socket.  Beyond the bound of the table it is not remembered, and a child
 * keeps its copy open until exec, which harms nobody. */
void cv_socket_opened(int fd);
void cv_socket_close(int fd);
/* In a child, between fork and anything else: closes what the parent had open. */
void cv_sockets_drop(void);

#endif
