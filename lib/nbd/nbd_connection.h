/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_connection - a client's connection, from its socket to its end.
 *
 * Used by nbd_listener.c and nbd_server.c for sockets that were accepted, and
 * by nbd_server_restart.c for those that an earlier process has served.
 *
 * Locks: all take the server's, but those called ..._locked, which want it.
 */
#ifndef NBD_CONNECTION_H
#define NBD_CONNECTION_H

#include "base/mutex.h"
#include "nbd/nbd_server_parts.h"

struct nbd_session;

/* Make a connection of a socket, which belongs to it, also after -ENOMEM. */
int nbd_connection_new(struct nbd_server *server, int fd,
                       struct nbd_connection **ret_connection);

/* Close and free one that nobody knows; NULL does nothing. */
void nbd_connection_free(struct nbd_connection *connection);

/*
 * Make a connection of a socket, and enter it into the list, unless the server
 * stops (-ESHUTDOWN) or has too many (-EBUSY); -ENOMEM.  The socket belongs to
 * it, also after an error.
 */
int nbd_connection_admit(struct nbd_server *server, int fd,
                         struct nbd_connection **ret_connection);

/* Make a transmission for it, which goes on from its record if it has one. */
int nbd_connection_transmission(struct nbd_connection *connection,
                                const struct nbd_session *session,
                                struct nbd_transmission **ret_transmission);

/*
 * In the connection's thread, and when it has entered: serve it until it has
 * ended, and free the transmission.
 */
void nbd_connection_serve(struct nbd_connection *connection);

/* In the connection's thread, last: close the socket, and leave the list. */
void nbd_connection_leave(struct nbd_connection *connection);

/* Of one in the list: all of it, from the greeting to the close. */
void nbd_connection_run(struct nbd_connection *connection);

/*
 * Give one in the list a thread that runs it.  After an error it is in the list
 * no more, and the caller's to free.
 */
int nbd_connection_start(struct nbd_connection *connection);

/* The same of one that is not in the list yet, with a thread of run. */
int nbd_connection_start_locked(struct nbd_server *server,
                                struct nbd_connection *connection,
                                void *(*run)(void *connection))
    REQUIRES(server->lock);

/* Join the threads of connections that have ended, and free those. */
void nbd_connection_join_finished(struct nbd_server *server);

#endif
