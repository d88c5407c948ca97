/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_server - the exports, the connections, and the limits they share.
 *
 * A thread for each listening socket accepts (nbd_listener.c); a thread for
 * each connection (nbd_connection.c) shakes hands (nbd_handshake.c), waits for
 * clients that are gone (nbd_entry.c), and serves (nbd_transmission.c).
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
struct nbd_tally_sums;
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
    struct tls_context *tls;       /* or NULL: no TLS; it is held */
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

/* What of the options may change while the server runs. */
struct nbd_server_changes {
    struct tls_context *tls;
    bool tls_required;
    size_t max_connections;
    unsigned handshake_timeout_ms;
};

/*
 * Have these hold for whoever connects from now on.  -EINVAL: TLS is required,
 * and there is none; then nothing has changed.
 */
int nbd_server_change(struct nbd_server *server,
                      const struct nbd_server_changes *changes);

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

/*
 * Instead of nbd_server_stop, when a successor goes on: end all connections as
 * a stop does, but hand over those in transmission that are not over TLS.  Of
 * these no more is read; what cannot end within deadline_ms is neither run nor
 * answered, and travels with all that was received and not run, and all that
 * was answered and not sent.  For each of them
 *
 *   give(context, fd, record, record_len)
 *
 * is called, one after the other, in this thread.  It keeps a duplicate of
 * the socket, and a copy of the record; both are gone when it has returned.
 * An error of it is logged, and closes the connection.
 *
 * 0, or -ETIMEDOUT as nbd_server_stop, of those that were not handed over;
 * *ret_count is always how many were.
 */
int nbd_server_hand_over(struct nbd_server *server, unsigned deadline_ms,
                         int (*give)(void *context, int fd, const void *record,
                                     size_t record_len),
                         void *context, size_t *ret_count);

/*
 * In the successor, before it listens, and before the export is added that
 * the record names: go on with a connection that was handed over.  The socket
 * belongs to the server from now on, also after an error; the record is
 * copied.  Nothing is done before nbd_server_add_export adds its export, and
 * then before anybody else can enter it.  It is closed then if the client has
 * hung up, or the device is not the incarnation that the client knows.  As
 * long as it waits, a hand-over gives it on as it came.
 *
 * -EPROTO: the record is not whole, or none of ours (logged); -EEXIST: the
 * export was already added; -ESHUTDOWN; -ENOMEM.
 */
int nbd_server_resume(struct nbd_server *server, int fd, const void *record,
                      size_t record_len);

/*
 * Close what waits for an export that will not come: each connection of
 * nbd_server_resume for the name of which is_awaited says false.
 */
void nbd_server_close_waiting(struct nbd_server *server,
                              bool (*is_awaited)(void *context,
                                                 const char *name),
                              void *context);

/*
 * Free a server that was stopped or handed over, and from which every call has
 * returned.
 */
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
 * Tell what the clients of the export of that name did since the server
 * started.  Returns whether there is such an export.
 */
bool nbd_server_tally(struct nbd_server *server, const char *name,
                      struct nbd_tally_sums *ret_sums);

/*
 * Returns how many connections have chosen this export's device and have not
 * ended, or were handed over to us and wait for an export that has the
 * device's name.
 */
size_t nbd_server_attached(struct nbd_server *server,
                           const struct device *device);

#endif
