/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_server_parts - what a server consists of.
 *
 * For nbd_server.c, nbd_server_restart.c, nbd_listener.c, nbd_connection.c and
 * nbd_entry.c only; others see nbd_server.h.
 */
#ifndef NBD_SERVER_PARTS_H
#define NBD_SERVER_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/mutex.h"
#include "nbd/nbd_record.h"
#include "nbd/nbd_server.h"
#include "nbd/nbd_tally.h"
#include "nbd/nbd_transmission.h"

struct stream;

enum { NBD_SERVER_PEER_NAME_MAX = 80 };

struct nbd_connection {
    struct nbd_server *server;
    struct nbd_connection *next;
    struct stream *stream;
    int fd; /* of the stream: to poll and to shut down */
    pthread_t thread;
    bool has_thread; /* else it is served by its caller's */
    char peer[NBD_SERVER_PEER_NAME_MAX];
    /* Of one that was handed over to us: until its transmission is made. */
    uint8_t *record_bytes;
    size_t record_len;
    struct nbd_record record; /* lies in the bytes */
    struct nbd_tally tally;   /* until it ends, then with its export */
    /* Under the server's lock. */
    const struct nbd_export *export;       /* since it was chosen */
    struct nbd_transmission *transmission; /* since it entered */
    unsigned holders;
    bool is_ended;
    bool is_paused;      /* its thread waits for it to be handed over */
    bool is_handed_over; /* or could not be: the thread may go on */
};

struct nbd_server {
    struct nbd_server_options options;
    struct nbd_exports *exports;
    int stop_fd;             /* readable, for all listeners, once it stops */
    atomic_bool is_stopping; /* also changed under the lock */

    struct mutex lock;
    struct condition changed; /* a connection ended, paused, lost a holder */
    struct nbd_connection *connections GUARDED_BY(lock);
    struct nbd_connection *waiting GUARDED_BY(lock);  /* for their exports */
    struct nbd_connection *finished GUARDED_BY(lock); /* threads to join */
    struct nbd_listener *listeners GUARDED_BY(lock);
    size_t connections_count GUARDED_BY(lock);
    bool is_late GUARDED_BY(lock); /* a stop left requests unanswered */
    uint64_t connections_total GUARDED_BY(lock);
    uint64_t connections_refused GUARDED_BY(lock);
};

/*
 * Have no connection accepted, no request read, and all of them end by the
 * deadline; those for which travels says so are handed over instead.  Returns
 * when no listener is left.
 */
void nbd_server_begin_stop(struct nbd_server *server, uint64_t deadline_ns,
                           bool (*travels)(const struct nbd_connection *));

/* Past the deadline: have come back what waits in devices. */
void nbd_server_expel_all(struct nbd_server *server);

/* Wait until no connection is left, and join all threads. */
void nbd_server_wait_for_none(struct nbd_server *server);

/* Have the connections go on that wait for this export. */
void nbd_server_continue_locked(struct nbd_server *server,
                                const struct nbd_export *export)
    REQUIRES(server->lock);

#endif
