/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_server.h"

#include <assert.h>
#include <errno.h>
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
#include "base/tls.h"
#include "cache/device.h"
#include "nbd/nbd_connection.h"
#include "nbd/nbd_listener.h"
#include "nbd/nbd_memory.h"
#include "nbd/nbd_server_parts.h"
#include "nbd/nbd_transmission.h"

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

/* ---- connections -------------------------------------------------------- */

int nbd_server_serve(struct nbd_server *server, int fd)
{
    struct nbd_connection *connection;
    int error;

    net_prepare(fd);
    error = nbd_connection_admit(server, fd, &connection);
    if (error < 0)
        return error;
    nbd_connection_run(connection);
    nbd_connection_free(connection);
    return 0;
}

int nbd_server_listen(struct nbd_server *server, int fd)
{
    return nbd_listener_start(server, fd);
}

/* ---- stop --------------------------------------------------------------- */

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
    nbd_listener_join_all(server);
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
    nbd_connection_join_finished(server);
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
    uint64_t deadline_ns = clock_after_ms(deadline_ms);
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

/* ---- what it did, and does ----------------------------------------------- */

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
