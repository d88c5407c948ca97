/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A connection is in the server's list from before its thread starts until
 * its socket is about to be closed; so whoever holds the lock may use the
 * descriptors of all that are in the list.  Whoever needs a connection longer
 * than that counts as one of its holders, and it waits for them.
 */
#include "nbd/nbd_connection.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/net.h"
#include "base/stream.h"
#include "base/thread.h"
#include "base/tls.h"
#include "nbd/nbd_entry.h"
#include "nbd/nbd_exports.h"
#include "nbd/nbd_handshake.h"
#include "nbd/nbd_server_parts.h"
#include "nbd/nbd_transmission.h"

enum {
    DRAIN_MS = 30000, /* for the last replies of a client that leaves */
    STALL_MS = 30000, /* without progress while others need the memory */
};

/* ---- in and out of the list --------------------------------------------- */

int nbd_connection_new(struct nbd_server *server, int fd,
                       struct nbd_connection **ret_connection)
{
    struct nbd_connection *connection = calloc(1, sizeof(*connection));
    int error;

    if (!connection) {
        (void)close(fd);
        return -ENOMEM;
    }
    connection->server = server;
    connection->fd = fd;
    net_peer_name(fd, connection->peer, sizeof(connection->peer));
    error = stream_open(fd, &connection->stream);
    if (error < 0) {
        free(connection);
        return error;
    }
    *ret_connection = connection;
    return 0;
}

void nbd_connection_free(struct nbd_connection *connection)
{
    if (!connection)
        return;
    stream_close(connection->stream);
    free(connection->record_bytes);
    free(connection);
}

static void list_locked(struct nbd_server *server,
                        struct nbd_connection *connection)
    REQUIRES(server->lock)
{
    server->connections_total++;
    server->connections_count++;
    connection->next = server->connections;
    server->connections = connection;
}

/* Take the connection out of the list; its descriptor is nobody's then. */
static void unlist_locked(struct nbd_server *server,
                          const struct nbd_connection *connection)
    REQUIRES(server->lock)
{
    struct nbd_connection **at = &server->connections;

    while (*at != connection)
        at = &(*at)->next;
    *at = connection->next;
}

int nbd_connection_admit(struct nbd_server *server, int fd,
                         struct nbd_connection **ret_connection)
{
    struct nbd_connection *connection;
    int error = nbd_connection_new(server, fd, &connection);

    if (error < 0)
        return error;
    mutex_lock(&server->lock);
    if (atomic_load(&server->is_stopping)) {
        error = -ESHUTDOWN;
    } else if (server->connections_count >= server->options.max_connections) {
        error = -EBUSY;
        server->connections_refused++;
    } else {
        list_locked(server, connection);
    }
    mutex_unlock(&server->lock);
    if (error < 0) {
        nbd_connection_free(connection);
        return error;
    }
    *ret_connection = connection;
    return 0;
}

/* ---- its life ----------------------------------------------------------- */

/*
 * nbd_transmission_options.is_given_up: the kernel, for one, ends a connection
 * that takes too long, and asks again over another one that it has.  Over TCP
 * that looks as if it only said no more.
 */
static bool is_given_up(void *context)
{
    const struct nbd_connection *connection = context;
    struct nbd_server *server = connection->server;
    bool has_other = false;

    if (nbd_peer_state(connection->fd, false) == NBD_PEER_GONE)
        return true;
    mutex_lock(&server->lock);
    for (const struct nbd_connection *other = server->connections; other;
         other = other->next)
        has_other |= other != connection && other->transmission &&
                     other->export == connection->export && !other->is_ended;
    mutex_unlock(&server->lock);
    return has_other;
}

int nbd_connection_transmission(struct nbd_connection *connection,
                                const struct nbd_session *session,
                                struct nbd_transmission **ret_transmission)
{
    const struct nbd_transmission_options options = {
        .stream = connection->stream,
        .session = *session,
        .memory = nbd_exports_memory(session->export),
        .tally = &connection->tally,
        .drain_ms = DRAIN_MS,
        .stall_ms = STALL_MS,
        .is_given_up = is_given_up,
        .context = connection,
        .carried = connection->record_bytes ? &connection->record : NULL,
        .carried_bytes = connection->record_bytes,
    };
    int error = nbd_transmission_new(&options, ret_transmission);

    if (error == 0)
        connection->record_bytes = NULL;
    return error;
}

/* Wait for the thread that hands it over; see nbd_server_hand_over. */
static void wait_to_be_handed_over(struct nbd_connection *connection)
{
    struct nbd_server *server = connection->server;

    mutex_lock(&server->lock);
    connection->is_paused = true;
    condition_broadcast(&server->changed);
    while (!connection->is_handed_over)
        condition_wait(&server->changed, &server->lock);
    mutex_unlock(&server->lock);
}

/* Nobody counts on the connection any more, when it returns. */
static void end(struct nbd_connection *connection, bool is_late)
{
    struct nbd_server *server = connection->server;

    mutex_lock(&server->lock);
    server->is_late |= is_late && atomic_load(&server->is_stopping);
    connection->is_ended = true;
    condition_broadcast(&server->changed);
    while (connection->holders > 0)
        condition_wait(&server->changed, &server->lock);
    connection->transmission = NULL;
    nbd_tally_move(&connection->tally, nbd_exports_tally(connection->export));
    mutex_unlock(&server->lock);
}

void nbd_connection_serve(struct nbd_connection *connection)
{
    struct nbd_transmission *transmission = connection->transmission;
    const char *name = connection->export->name;
    int result;

    log_debug("%s: %s enters", name, connection->peer);
    result = nbd_transmission_run(transmission);
    log_debug("%s: %s has left", name, connection->peer);
    if (result == NBD_TRANSMISSION_PAUSED)
        wait_to_be_handed_over(connection);
    end(connection, result == -ETIMEDOUT);
    nbd_transmission_free(transmission);
}

void nbd_connection_leave(struct nbd_connection *connection)
{
    struct nbd_server *server = connection->server;

    mutex_lock(&server->lock);
    unlist_locked(server, connection);
    mutex_unlock(&server->lock);
    stream_close(connection->stream);
    connection->stream = NULL;
    mutex_lock(&server->lock);
    server->connections_count--;
    if (connection->has_thread) {
        connection->next = server->finished;
        server->finished = connection;
    }
    condition_broadcast(&server->changed);
    mutex_unlock(&server->lock);
}

static void transmit(struct nbd_connection *connection,
                     const struct nbd_session *session)
{
    struct nbd_server *server = connection->server;
    struct nbd_transmission *transmission = NULL;
    int error = nbd_connection_transmission(connection, session, &transmission);

    mutex_lock(&server->lock);
    connection->export = session->export;
    mutex_unlock(&server->lock);
    if (error == 0)
        error = nbd_entry_wait(connection, transmission);
    if (error == 0) {
        nbd_connection_serve(connection);
        return;
    }
    end(connection, error == -ETIMEDOUT);
    nbd_transmission_free(transmission);
}

void nbd_connection_run(struct nbd_connection *connection)
{
    struct nbd_server *server = connection->server;
    struct nbd_handshake_options options = {
        .exports = server->exports,
        .stopping = &server->is_stopping,
    };
    struct nbd_session session;
    int error;

    mutex_lock(&server->lock);
    options.tls = tls_hold(server->options.tls);
    options.tls_required = server->options.tls_required;
    options.deadline_ns = clock_after_ms(server->options.handshake_timeout_ms);
    mutex_unlock(&server->lock);
    error = nbd_handshake(&options, &connection->stream, &session);
    tls_free(options.tls);
    if (error == 0)
        transmit(connection, &session);
    else
        log_debug("%s: handshake ended: %s", connection->peer,
                  log_errno(error));
    nbd_connection_leave(connection);
}

/* ---- its thread --------------------------------------------------------- */

/*
 * Give a connection in the list a thread, or take it out.  Under the lock, so
 * that nobody joins a thread not yet known.
 */
static int start_listed_locked(struct nbd_server *server,
                               struct nbd_connection *connection,
                               void *(*run)(void *connection))
    REQUIRES(server->lock)
{
    int error;

    connection->has_thread = true;
    error =
        thread_start("nbd-connection", run, connection, &connection->thread);
    if (error < 0) {
        unlist_locked(server, connection);
        server->connections_count--;
        condition_broadcast(&server->changed);
    }
    return error;
}

static void *connection_thread(void *argument)
{
    nbd_connection_run(argument);
    return NULL;
}

int nbd_connection_start(struct nbd_connection *connection)
{
    struct nbd_server *server = connection->server;
    int error;

    mutex_lock(&server->lock);
    error = start_listed_locked(server, connection, connection_thread);
    mutex_unlock(&server->lock);
    return error;
}

int nbd_connection_start_locked(struct nbd_server *server,
                                struct nbd_connection *connection,
                                void *(*run)(void *connection))
{
    list_locked(server, connection);
    return start_listed_locked(server, connection, run);
}

void nbd_connection_join_finished(struct nbd_server *server)
{
    struct nbd_connection *finished;

    mutex_lock(&server->lock);
    finished = server->finished;
    server->finished = NULL;
    mutex_unlock(&server->lock);
    while (finished) {
        struct nbd_connection *connection = finished;

        finished = connection->next;
        (void)pthread_join(connection->thread, NULL);
        nbd_connection_free(connection);
    }
}
