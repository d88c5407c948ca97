/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_server - the exports, the connections, and the limits they share.
 *
 * A thread for each listening socket accepts; a thread for each connection
 * shakes hands (nbd_handshake.c) and then serves (nbd_transmission.c).
 *
 * Threads: any.
 */
#ifndef NBD_SERVER_H
#define NBD_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbd/nbd_exports.h"

struct device;
struct nbd_server;
struct tls_context;

enum {
    NBD_SERVER_MAX_CONNECTIONS = 100,  /* default of max_connections */
    NBD_SERVER_HANDSHAKE_MS = 10000,   /* default of handshake_timeout_ms */
    NBD_SERVER_MEMORY_MAX = 512 << 20, /* default of memory_max */
};

struct nbd_server_options {
    const struct nbd_export *exports; /* to begin with; copied */
    size_t exports_count;
    const char *default_name;      /* what "" is; NULL: the first export */
    struct tls_context *tls;       /* or NULL: no TLS */
    bool tls_required;             /* nothing is told without TLS */
    size_t max_connections;        /* 0: the default */
    unsigned handshake_timeout_ms; /* for all of it; 0: the default */
    /*
     * Bytes of data in requests and replies, all connections together, above
     * the 1 MiB that each connection has of its own.  Every export has the
     * same part of it, but at least 64 MiB.  0: the default.
     */
    size_t memory_max;
    /*
     * Called by nbd_server_stop if its deadline is over, after the connections
     * were broken off: requests that wait must come back soon from then on.
     * NULL: they do by themselves.
     */
    void (*late)(void *context);
    void *late_context;
};

/*
 * Make a server that does not listen yet.  What the options and exports point
 * to must outlive it.  Errors as of nbd_server_add_export; -EINVAL: TLS is
 * required, and there is none.
 */
int nbd_server_start(const struct nbd_server_options *options,
                     struct nbd_server **ret_server);

/*
 * Serve one more export from now on; it is copied.  -EINVAL: its name is too
 * long or no UTF-8; -EEXIST: there is one of that name; -ESHUTDOWN: the server
 * has been stopped.
 */
int nbd_server_add_export(struct nbd_server *server,
                          const struct nbd_export *export);

/*
 * Accept connections on a listening socket, which belongs to the server from
 * now on, also after an error.
 */
int nbd_server_listen(struct nbd_server *server, int fd);

/*
 * Serve one connected socket, which belongs to the server from now on, in
 * this thread; returns when the connection has ended and is closed.
 * -ESHUTDOWN: the server has been stopped; -EBUSY: too many connections.
 */
int nbd_server_serve(struct nbd_server *server, int fd);

/*
 * Accept no more, read no more requests, answer those that are running, and
 * close everything; returns when all threads have ended.  What could not be
 * answered within deadline_ms is dropped: -ETIMEDOUT then.  Once.
 *
 * A request that was not read is neither run nor answered, and so a client
 * that connects again repeats it.
 */
int nbd_server_stop(struct nbd_server *server, unsigned deadline_ms);

/* Free a server that was stopped, and from which every call has returned. */
void nbd_server_free(struct nbd_server *server);

/* What the server did and does, at one moment. */
struct nbd_server_status {
    size_t connections;           /* open now, also those shaking hands */
    uint64_t connections_total;   /* accepted since the start */
    uint64_t connections_refused; /* closed at once: there were too many */
    uint64_t requests;            /* answered */
    uint64_t errors;              /* of them, with an error */
    uint64_t bytes_read;          /* by clients */
    uint64_t bytes_written;
    size_t memory_used; /* of memory_max, now */
};
void nbd_server_status(struct nbd_server *server,
                       struct nbd_server_status *ret_status);

/*
 * Returns how many connections have chosen this export's device and have not
 * ended.
 */
size_t nbd_server_attached(struct nbd_server *server,
                           const struct device *device);

#endif
