/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_listener - a listening socket, and the thread that accepts from it.
 *
 * Locks: takes the server's.
 */
#ifndef NBD_LISTENER_H
#define NBD_LISTENER_H

struct nbd_server;

/*
 * Accept connections on a listening socket, which belongs to the server from
 * now on, also after an error.  -ESHUTDOWN: the server has been stopped.
 */
int nbd_listener_start(struct nbd_server *server, int fd);

/* Of a server that stops: wait for the listeners' threads, close the sockets.
 */
void nbd_listener_join_all(struct nbd_server *server);

#endif
