/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_server_parts - what a server consists of.
 *
 * For nbd_server.c and nbd_server_restart.c only; others see nbd_server.h.
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

/* Make a connection of a socket, which belongs to it, also after -ENOMEM. */
int nbd_connection_new(struct nbd_server *server, int fd,
                       struct nbd_connection **ret_connection);

/* Close and free one that nobody knows; NULL does nothing. */
void nbd_connection_free(struct nbd_connection *connection);

/* Make a transmission for it, which goes on from its record if it has one. */
int nbd_connection_transmission(struct nbd_connection *connection,
                                const struct nbd_session *session,
                                struct nbd_transmission **ret_transmission);

/* Enter it into the list, and give it a thread that goes on with run. */
int nbd_server_start_thread_locked(struct nbd_server *server,
                                   struct nbd_connection *connection,
                                   void *(*run)(void *connection))
    REQUIRES(server->lock);

/*
 * In the connection's thread, and when it has entered: serve it until it has
 * ended, and free the transmission.
 */
void nbd_connection_serve(struct nbd_connection *connection);

/* In the connection's thread, last: close the socket, and leave the list. */
void nbd_connection_leave(struct nbd_connection *connection);

enum nbd_peer_state { NBD_PEER_PRESENT, NBD_PEER_HALF_CLOSED, NBD_PEER_GONE };

/* What is known of the peer at the socket; is_leaving: it has said so. */
enum nbd_peer_state nbd_peer_state(int fd, bool is_leaving);

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
