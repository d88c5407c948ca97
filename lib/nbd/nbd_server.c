/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A connection is in the server's list from before its thread starts until
 * its socket is about to be closed; so whoever holds the lock may use the
 * descriptors of all that are in the list.  Whoever needs a connection longer
 * than that counts as one of its holders, and it waits for them.
 *
 * A client that is gone, or what can be known of it:  Before a connection
 * enters transmission, every other connection of its export is asked whether
 * its peer has hung up.  If so, what it sent and has no place in the journal
 * yet is dropped, and the rest is waited for.  A client that closed only its
 * own direction (of TCP, one that died looks the same) is given time to be
 * served to the end.  Not known is what a network has cut off: such a peer's
 * requests, already received or still on their way, may take effect after
 * those of a client that came later.  Only the end of its connection, by the
 * probes of net_prepare, makes an end of that.
 */
#include "nbd/nbd_server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/net.h"
#include "base/stream.h"
#include "base/thread.h"
#include "base/tls.h"
#include "cache/device.h"
#include "nbd/nbd_handshake.h"
#include "nbd/nbd_memory.h"
#include "nbd/nbd_server_parts.h"
#include "nbd/nbd_transmission.h"

enum {
    DRAIN_MS = 30000,  /* for the last replies of a client that leaves */
    STALL_MS = 30000,  /* without progress while others need the memory */
    LEAVE_MS = 10000,  /* for others to leave before a connection enters */
    NO_MEANS_MS = 100, /* between attempts when there are no descriptors */
};

struct nbd_listener {
    struct nbd_server *server;
    struct nbd_listener *next;
    pthread_t thread;
    int fd;
};

static uint64_t deadline_after_ms(unsigned ms)
{
    return clock_monotonic_ns() + (uint64_t)ms * 1000000U;
}

/* ---- start -------------------------------------------------------------- */

static int add_exports(struct nbd_server *server)
{
    const struct nbd_server_options *options = &server->options;
    int error = nbd_exports_new(options->default_name, options->memory_max,
                                &server->exports);

    for (size_t i = 0; i < options->exports_count && error == 0; i++)
        error = nbd_exports_add(server->exports, &options->exports[i]);
    return error;
}

int nbd_server_start(const struct nbd_server_options *options,
                     struct nbd_server **ret_server)
{
    struct nbd_server *server;
    int error;

    if (options->tls_required && !options->tls)
        return -EINVAL;
    server = calloc(1, sizeof(*server));
    if (!server)
        return -ENOMEM;
    server->options = *options;
    (void)tls_hold(server->options.tls);
    if (server->options.max_connections == 0)
        server->options.max_connections = NBD_SERVER_MAX_CONNECTIONS;
    if (server->options.handshake_timeout_ms == 0)
        server->options.handshake_timeout_ms = NBD_SERVER_HANDSHAKE_MS;
    if (server->options.memory_max == 0)
        server->options.memory_max = NBD_SERVER_MEMORY_MAX;
    mutex_init(&server->lock);
    condition_init(&server->changed);
    server->stop_fd = eventfd(0, EFD_CLOEXEC);
    error = server->stop_fd < 0 ? -errno : add_exports(server);
    if (error < 0) {
        nbd_server_free(server);
        return error;
    }
    *ret_server = server;
    return 0;
}

void nbd_server_free(struct nbd_server *server)
{
    if (!server)
        return;
    assert(!server->connections && !server->waiting && !server->listeners &&
           !server->finished);
    nbd_exports_free(server->exports);
    tls_free(server->options.tls);
    if (server->stop_fd >= 0)
        (void)close(server->stop_fd);
    condition_done(&server->changed);
    mutex_done(&server->lock);
    free(server);
}

int nbd_server_change(struct nbd_server *server,
                      const struct nbd_server_changes *changes)
{
    struct nbd_server_options *options = &server->options;
    struct tls_context *old_tls;

    if (changes->tls_required && !changes->tls)
        return -EINVAL;
    mutex_lock(&server->lock);
    old_tls = options->tls;
    options->tls = tls_hold(changes->tls);
    options->tls_required = changes->tls_required;
    options->max_connections = changes->max_connections;
    options->handshake_timeout_ms = changes->handshake_timeout_ms;
    mutex_unlock(&server->lock);
    tls_free(old_tls);
    return 0;
}

int nbd_server_add_export(struct nbd_server *server,
                          const struct nbd_export *export)
{
    int error;

    /* Under the lock, so that a stop, which drops what waits in devices,
     * knows all of them. */
    mutex_lock(&server->lock);
    error = atomic_load(&server->is_stopping)
                ? -ESHUTDOWN
                : nbd_exports_add(server->exports, export);
    /* Who chooses it already cannot enter before we let go of the lock. */
    if (error == 0)
        nbd_server_continue_locked(
            server, nbd_exports_find(server->exports,
                                     (struct nbd_string){
                                         export->name, strlen(export->name)}));
    mutex_unlock(&server->lock);
    return error;
}

/* ---- entering transmission ---------------------------------------------- */

enum nbd_peer_state nbd_peer_state(int fd, bool is_leaving)
{
    struct pollfd polled = {.fd = fd, .events = POLLRDHUP};

    if (poll(&polled, 1, 0) <= 0)
        return NBD_PEER_PRESENT;
    if (is_leaving)
        return NBD_PEER_HALF_CLOSED;
    return (polled.revents & (POLLHUP | POLLERR)) != 0 ? NBD_PEER_GONE
                                                       : NBD_PEER_HALF_CLOSED;
}

static void release_locked(struct nbd_server *server,
                           struct nbd_connection *connection)
    REQUIRES(server->lock)
{
    connection->holders--;
    condition_broadcast(&server->changed);
}

/* Find, and hold, another connection of the export whose peer is so. */
static struct nbd_connection *
hold_other_locked(struct nbd_server *server, const struct nbd_connection *self,
                  enum nbd_peer_state state) REQUIRES(server->lock)
{
    for (struct nbd_connection *other = server->connections; other;
         other = other->next) {
        if (other != self && other->export == self->export &&
            other->transmission && !other->is_ended &&
            nbd_peer_state(other->fd, nbd_transmission_is_leaving(
                                          other->transmission)) == state) {
            other->holders++;
            return other;
        }
    }
    return NULL;
}

/*
 * Make an end of another connection whose client is gone, and wait until
 * nothing of it can change the device.  Takes over the caller's hold.
 */
static int expel(struct nbd_server *server, struct nbd_connection *other,
                 uint64_t deadline_ns)
{
    int error;

    if (nbd_transmission_has_writes(other->transmission))
        log_info("%s: the client %s is gone, with writes in flight",
                 other->export->name, other->peer);
    nbd_transmission_drop(other->transmission);
    device_expel(other->export->device);
    error = nbd_transmission_wait_writes(other->transmission, deadline_ns);
    mutex_lock(&server->lock);
    other->is_ended = true; /* as far as the next who enters is concerned */
    release_locked(server, other);
    mutex_unlock(&server->lock);
    return error;
}

/*
 * Wait for a connection that nothing more comes from to be served to the end;
 * past the deadline it counts as gone.
 */
static int outlive(struct nbd_server *server, struct nbd_connection *other,
                   uint64_t deadline_ns)
{
    bool is_in_time = true;

    mutex_lock(&server->lock);
    while (!other->is_ended && !atomic_load(&server->is_stopping) && is_in_time)
        is_in_time =
            condition_wait_until(&server->changed, &server->lock, deadline_ns);
    if (other->is_ended || atomic_load(&server->is_stopping)) {
        release_locked(server, other);
        mutex_unlock(&server->lock);
        return 0;
    }
    mutex_unlock(&server->lock);
    return expel(server, other, deadline_after_ms(LEAVE_MS));
}

/* Let the connection's requests begin, after those of who is gone. */
static int enter(struct nbd_connection *self,
                 struct nbd_transmission *transmission)
{
    struct nbd_server *server = self->server;
    uint64_t deadline_ns = deadline_after_ms(LEAVE_MS);
    int error = 0;

    mutex_lock(&server->lock);
    while (error == 0 && !atomic_load(&server->is_stopping)) {
        struct nbd_connection *other =
            hold_other_locked(server, self, NBD_PEER_GONE);
        bool is_gone = other != NULL;

        if (!other)
            other = hold_other_locked(server, self, NBD_PEER_HALF_CLOSED);
        if (!other) {
            self->transmission = transmission;
            break;
        }
        mutex_unlock(&server->lock);
        error = is_gone ? expel(server, other, deadline_ns)
                        : outlive(server, other, deadline_ns);
        mutex_lock(&server->lock);
    }
    if (error == 0 && !self->transmission)
        error = -ESHUTDOWN;
    mutex_unlock(&server->lock);
    if (error == -ETIMEDOUT)
        log_warning("%s: %s is refused: writes of a client that is gone do "
                    "not end",
                    self->export->name, self->peer);
    return error;
}

/* ---- one connection ----------------------------------------------------- */

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
        error = enter(connection, transmission);
    if (error == 0) {
        nbd_connection_serve(connection);
        return;
    }
    end(connection, error == -ETIMEDOUT);
    nbd_transmission_free(transmission);
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

/* From the greeting to the close of the socket. */
static void serve(struct nbd_connection *connection)
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
    options.deadline_ns =
        deadline_after_ms(server->options.handshake_timeout_ms);
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

/*
 * Enter a connected socket into the list, or close it: -ESHUTDOWN, -EBUSY,
 * -ENOMEM.
 */
static int admit(struct nbd_server *server, int fd,
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

int nbd_server_serve(struct nbd_server *server, int fd)
{
    struct nbd_connection *connection;
    int error;

    net_prepare(fd);
    error = admit(server, fd, &connection);
    if (error < 0)
        return error;
    serve(connection);
    nbd_connection_free(connection);
    return 0;
}

/* ---- threads ------------------------------------------------------------ */

static void *connection_thread(void *argument)
{
    serve(argument);
    return NULL;
}

/* Join the threads of connections that have ended. */
static void join_finished(struct nbd_server *server)
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

static void log_refusal(const char *why)
{
    static struct log_limit limit;
    uint64_t left_out;

    if (log_limit_allows(&limit, &left_out))
        log_warning("a connection is refused: %s (%llu more not shown)", why,
                    (unsigned long long)left_out);
}

/*
 * Give a connection in the list a thread, or take it out.  Under the lock, so
 * that nobody joins a thread not yet known.
 */
static int start_thread_locked(struct nbd_server *server,
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

int nbd_server_start_thread_locked(struct nbd_server *server,
                                   struct nbd_connection *connection,
                                   void *(*run)(void *connection))
{
    list_locked(server, connection);
    return start_thread_locked(server, connection, run);
}

/* Give an accepted socket a thread, or close it. */
static void start_connection(struct nbd_server *server, int fd)
{
    struct nbd_connection *connection;
    int error = admit(server, fd, &connection);

    if (error == -EBUSY)
        log_refusal("there are as many as maxconnections allows");
    if (error < 0)
        return;
    mutex_lock(&server->lock);
    error = start_thread_locked(server, connection, connection_thread);
    mutex_unlock(&server->lock);
    if (error < 0) {
        log_refusal(log_errno(error));
        nbd_connection_free(connection);
    }
}

static void *listener_thread(void *argument)
{
    struct nbd_listener *listener = argument;
    struct nbd_server *server = listener->server;
    struct pollfd polled[2] = {
        {.fd = server->stop_fd, .events = POLLIN},
        {.fd = listener->fd, .events = POLLIN},
    };

    while (!atomic_load(&server->is_stopping)) {
        int fd;

        if (poll(polled, 2, -1) < 0 || polled[0].revents != 0)
            continue;
        join_finished(server);
        fd = net_accept(listener->fd);
        if (fd >= 0) {
            start_connection(server, fd);
        } else if (fd != -EAGAIN) {
            /* The connection stays where it is until there are means. */
            log_refusal(log_errno(fd));
            (void)poll(polled, 1, NO_MEANS_MS);
        }
    }
    return NULL;
}

int nbd_server_listen(struct nbd_server *server, int fd)
{
    struct nbd_listener *listener = calloc(1, sizeof(*listener));
    int error = -ENOMEM;

    /* A connection that goes between poll and accept must not block us. */
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        error = -errno;
        free(listener);
        listener = NULL;
    }
    if (listener) {
        listener->server = server;
        listener->fd = fd;
        mutex_lock(&server->lock);
        error = atomic_load(&server->is_stopping)
                    ? -ESHUTDOWN
                    : thread_start("nbd-listener", listener_thread, listener,
                                   &listener->thread);
        if (error == 0) {
            listener->next = server->listeners;
            server->listeners = listener;
        }
        mutex_unlock(&server->lock);
    }
    if (error < 0) {
        (void)close(fd);
        free(listener);
    }
    return error;
}

/* ---- stop --------------------------------------------------------------- */

static void join_listeners(struct nbd_server *server)
{
    struct nbd_listener *listeners;

    mutex_lock(&server->lock);
    listeners = server->listeners;
    server->listeners = NULL;
    mutex_unlock(&server->lock);
    while (listeners) {
        struct nbd_listener *listener = listeners;

        listeners = listener->next;
        (void)pthread_join(listener->thread, NULL);
        (void)close(listener->fd);
        free(listener);
    }
}

/* Wait until no connection is left; false past the deadline. */
static bool wait_for_none_locked(struct nbd_server *server,
                                 uint64_t deadline_ns) REQUIRES(server->lock)
{
    bool is_in_time = true;

    while (server->connections_count > 0 && is_in_time)
        is_in_time =
            condition_wait_until(&server->changed, &server->lock, deadline_ns);
    return server->connections_count == 0;
}

/* Past the deadline: what still has no place in a journal gets none. */
static void drop_all_locked(struct nbd_server *server) REQUIRES(server->lock)
{
    for (struct nbd_connection *connection = server->connections; connection;
         connection = connection->next) {
        if (connection->transmission)
            nbd_transmission_drop(connection->transmission);
        else
            (void)shutdown(connection->fd, SHUT_RDWR);
    }
}

void nbd_server_begin_stop(
    struct nbd_server *server, uint64_t deadline_ns,
    bool (*travels)(const struct nbd_connection *connection))
{
    const uint64_t one = 1;

    mutex_lock(&server->lock);
    atomic_store(&server->is_stopping, true);
    for (struct nbd_connection *connection = server->connections; connection;
         connection = connection->next) {
        if (!connection->transmission)
            (void)shutdown(connection->fd, SHUT_RD);
        else if (travels(connection))
            nbd_transmission_hand_over(connection->transmission);
        else
            nbd_transmission_stop(connection->transmission, deadline_ns);
    }
    condition_broadcast(&server->changed);
    mutex_unlock(&server->lock);
    if (write(server->stop_fd, &one, sizeof(one)) < 0)
        log_error("cannot wake the listeners: %s", log_errno(-errno));
    join_listeners(server);
}

void nbd_server_expel_all(struct nbd_server *server)
{
    const struct nbd_export *export = NULL;

    while ((export = nbd_exports_next(server->exports, export)) != NULL)
        device_expel(export->device);
    if (server->options.late)
        server->options.late(server->options.late_context);
}

void nbd_server_wait_for_none(struct nbd_server *server)
{
    mutex_lock(&server->lock);
    while (!wait_for_none_locked(server, UINT64_MAX))
        ;
    mutex_unlock(&server->lock);
    join_finished(server);
}

static bool none_travels(const struct nbd_connection *connection)
{
    (void)connection;
    return false;
}

static bool none_is_awaited(void *context, const char *name)
{
    (void)context;
    (void)name;
    return false;
}

int nbd_server_stop(struct nbd_server *server, unsigned deadline_ms)
{
    uint64_t deadline_ns = deadline_after_ms(deadline_ms);
    bool is_in_time, is_late;

    nbd_server_begin_stop(server, deadline_ns, none_travels);
    nbd_server_close_waiting(server, none_is_awaited, NULL);
    mutex_lock(&server->lock);
    is_in_time = wait_for_none_locked(server, deadline_ns);
    if (!is_in_time)
        drop_all_locked(server);
    mutex_unlock(&server->lock);
    if (!is_in_time)
        nbd_server_expel_all(server);
    nbd_server_wait_for_none(server);
    mutex_lock(&server->lock);
    is_late = server->is_late;
    mutex_unlock(&server->lock);
    return is_in_time && !is_late ? 0 : -ETIMEDOUT;
}

/* Add up what an export's clients did. */
static void add_up_locked(struct nbd_server *server,
                          const struct nbd_export *export,
                          struct nbd_tally_sums *sums) REQUIRES(server->lock)
{
    nbd_tally_add(nbd_exports_tally(export), sums);
    for (struct nbd_connection *connection = server->connections; connection;
         connection = connection->next) {
        if (connection->export == export)
            nbd_tally_add(&connection->tally, sums);
    }
}

void nbd_server_status(struct nbd_server *server,
                       struct nbd_server_status *ret_status)
{
    struct nbd_server_status status = {.connections = 0};
    struct nbd_tally_sums sums = {.in_flight = 0};
    const struct nbd_export *export = NULL;

    mutex_lock(&server->lock);
    while ((export = nbd_exports_next(server->exports, export)) != NULL) {
        add_up_locked(server, export, &sums);
        status.memory_used += nbd_memory_used(nbd_exports_memory(export));
    }
    status.connections = server->connections_count;
    for (const struct nbd_connection *connection = server->waiting; connection;
         connection = connection->next)
        status.connections++;
    status.connections_total = server->connections_total;
    status.connections_refused = server->connections_refused;
    mutex_unlock(&server->lock);
    status.requests = nbd_tally_requests(&sums);
    status.errors = nbd_tally_errors(&sums);
    status.bytes_read = sums.bytes_read;
    status.bytes_written = sums.bytes_written;
    *ret_status = status;
}

bool nbd_server_tally(struct nbd_server *server, const char *name,
                      struct nbd_tally_sums *ret_sums)
{
    const struct nbd_export *export = nbd_exports_find(
        server->exports, (struct nbd_string){name, strlen(name)});

    if (!export)
        return false;
    *ret_sums = (struct nbd_tally_sums){.in_flight = 0};
    mutex_lock(&server->lock);
    add_up_locked(server, export, ret_sums);
    mutex_unlock(&server->lock);
    return true;
}

size_t nbd_server_attached(struct nbd_server *server,
                           const struct device *device)
{
    size_t count = 0;

    mutex_lock(&server->lock);
    for (const struct nbd_connection *connection = server->connections;
         connection; connection = connection->next)
        count += connection->export && connection->export->device == device &&
                 !connection->is_ended;
    for (const struct nbd_connection *connection = server->waiting; connection;
         connection = connection->next)
        count += strcmp(connection->record.name, device_name(device)) == 0;
    mutex_unlock(&server->lock);
    return count;
}
