/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * daemon_clients - the server between devices that open at any time and
 * clients that come from, and go to, other processes.
 *
 * A device may be opened, given up, and asked for its clients before there is
 * a server, and after it has been stopped; so they meet here, under a lock.
 *
 * Threads: one starts and ends; what is in the common_opening is for any.
 * Locks: its own, before those of the server.
 */
#ifndef DAEMON_CLIENTS_H
#define DAEMON_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/mutex.h"
#include "common.h"
#include "common_reload.h"

struct fd_store;
struct nbd_server;
struct tls_context;

struct daemon_clients {
    const struct config *config;
    struct common_resources *resources;
    struct common_reload *reload;
    struct fd_store *handed_over;
    struct mutex lock;
    struct nbd_server *server;         /* changed by the first thread, locked */
    size_t unresumed GUARDED_BY(lock); /* of handed_over, not the server's */
};

/* Begin; all that it points to is filled in, and outlives it. */
void daemon_clients_init(struct daemon_clients *clients);

/*
 * Fill in what devices are opened with.  is_single: there is one connection,
 * which would not wait for a device.
 */
void daemon_clients_opening(struct daemon_clients *clients, bool is_single,
                            struct common_opening *ret_opening);

/*
 * When the resources are open: start the server, which does not listen yet,
 * and go on with the connections that were handed over.  It holds tls, which
 * may be NULL.
 */
int daemon_clients_start(struct daemon_clients *clients,
                         struct tls_context *tls);

/*
 * End all connections.  hands_over: leave those that can go on to the next
 * process.  Another signal, at its descriptor, ends waiting for the store.
 * What was not answered in time is logged.
 */
void daemon_clients_stop(struct daemon_clients *clients, int signals,
                         bool hands_over);

/* When nobody serves a connection any more: free the server. */
void daemon_clients_free(struct daemon_clients *clients);

/* End, when no device is open any more. */
void daemon_clients_done(struct daemon_clients *clients);

#endif
