/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * net - listening sockets, and the connections that they accept.
 *
 * Threads: any.  All descriptors are close-on-exec.
 */
#ifndef BASE_NET_H
#define BASE_NET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Listen on a Unix socket at path, with these permissions.  A socket that a
 * dead process left there is replaced; -EADDRINUSE if a live one answers or
 * the path is something else than a socket; -ENAMETOOLONG.  Two processes
 * that start at the same moment are kept apart by what they lock, not here.
 * Returns the descriptor.
 */
int net_listen_unix(const char *path, mode_t mode);

/*
 * Listen on a TCP port of address: a numeric one of IPv4 or IPv6, a name, or
 * NULL for all of this host; port 0 lets the kernel choose.  One descriptor
 * for each address found, at most max, is stored in fds; returns how many,
 * at least one, or the error of the first that failed (then none is open).
 */
int net_listen_tcp(const char *address, uint16_t port, int fds[], size_t max);

/*
 * Accept one connection, prepared as by net_prepare.  Returns its descriptor;
 * -EAGAIN if there is none, or it has gone already; -EMFILE, -ENFILE, -ENOMEM
 * or -ENOBUFS when there is one but no means to take it: try again later.
 * Anything else says that fd is no listening socket.
 */
int net_accept(int fd);

/*
 * Set what a connection should have: no delay of small segments, and probes
 * that find a dead peer.  Sockets other than TCP need none of it.
 */
void net_prepare(int fd);

/*
 * Write who is at the other end, for messages: "192.0.2.1:4711", or who once
 * connected, "unix (pid 4711)"; "unix" if that is not to be seen from here.
 */
void net_peer_name(int fd, char *name, size_t size);

#endif
