/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Why no request is lost, or run twice.  A request that the device carried out
 * has an answer, and the answer was sent or is in the record; one that the
 * device gave back was not carried out, and is in the record; what is not in
 * the device when the record is made never comes to be.  Of the record and its
 * socket only one process makes use, and this one has ended its own use of
 * both before they are given away.
 */
#include "nbd/nbd_server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/stream.h"
#include "cache/device.h"
#include "nbd/nbd_connection.h"
#include "nbd/nbd_entry.h"
#include "nbd/nbd_exports.h"
#include "nbd/nbd_server_parts.h"

/* ---- the one that ends -------------------------------------------------- */

/* Over TLS, what the peer knows of the stream is known to no successor. */
static bool travels(const struct nbd_connection *connection)
{
    return !connection->stream->one_thread;
}

/* Whether no thread but its own may look at what is to be handed over. */
static bool is_settled(const struct nbd_connection *connection)
{
    return connection->is_paused && connection->holders == 0;
}

/* Wait until all that are left can be handed over; false past the deadline. */
static bool wait_settled_locked(struct nbd_server *server, uint64_t deadline_ns)
    REQUIRES(server->lock)
{
    for (;;) {
        size_t settled = 0;

        for (const struct nbd_connection *connection = server->connections;
             connection; connection = connection->next)
            settled += is_settled(connection);
        /* One that was unlisted is counted until it is closed. */
        if (settled == server->connections_count)
            return true;
        if (!condition_wait_until(&server->changed, &server->lock, deadline_ns))
            return false;
    }
}

/* Past the deadline: what has no place in a journal gets none. */
static void expel_all_locked(struct nbd_server *server) REQUIRES(server->lock)
{
    for (struct nbd_connection *connection = server->connections; connection;
         connection = connection->next) {
        if (!connection->transmission)
            (void)shutdown(connection->fd, SHUT_RDWR);
        else if (travels(connection))
            nbd_transmission_expel(connection->transmission);
        else {
            nbd_transmission_drop(connection->transmission);
            server->is_late = true;
        }
    }
}

struct giving {
    int (*give)(void *context, int fd, const void *record, size_t record_len);
    void *context;
    size_t count;
};

static void give_away(struct giving *giving,
                      const struct nbd_connection *connection, const char *name,
                      const uint8_t *record, size_t record_len)
{
    int error =
        giving->give(giving->context, connection->fd, record, record_len);

    if (error < 0)
        log_error("%s: %s cannot be handed over, and is closed: %s", name,
                  connection->peer, log_errno(error));
    else
        giving->count++;
}

static void give_paused(struct giving *giving,
                        const struct nbd_connection *connection)
{
    AUTO_FREE uint8_t *record = NULL;
    size_t record_len;
    int error =
        nbd_transmission_record(connection->transmission, &record, &record_len);

    if (error < 0)
        log_error("%s: %s cannot be handed over, and is closed: %s",
                  connection->export->name, connection->peer, log_errno(error));
    else
        give_away(giving, connection, connection->export->name, record,
                  record_len);
}

/* Returns one that is paused and was not handed over, or NULL. */
static struct nbd_connection *next_paused(struct nbd_server *server)
{
    struct nbd_connection *connection;

    mutex_lock(&server->lock);
    connection = server->connections;
    while (connection && (!connection->is_paused || connection->is_handed_over))
        connection = connection->next;
    mutex_unlock(&server->lock);
    return connection;
}

/* Each stays in the list, for its thread waits. */
static void give_all_paused(struct nbd_server *server, struct giving *giving)
{
    struct nbd_connection *connection;

    while ((connection = next_paused(server)) != NULL) {
        /* Unless who came in its place made an end of it just now. */
        if (!connection->is_ended)
            give_paused(giving, connection);
        mutex_lock(&server->lock);
        connection->is_handed_over = true;
        condition_broadcast(&server->changed);
        mutex_unlock(&server->lock);
    }
}

/* Take the first that waits for its export out of the list; or NULL. */
static struct nbd_connection *take_waiting(struct nbd_server *server)
{
    struct nbd_connection *connection;

    mutex_lock(&server->lock);
    connection = server->waiting;
    if (connection)
        server->waiting = connection->next;
    mutex_unlock(&server->lock);
    return connection;
}

static void give_all_waiting(struct nbd_server *server, struct giving *giving)
{
    struct nbd_connection *connection;

    while ((connection = take_waiting(server)) != NULL) {
        give_away(giving, connection, connection->record.name,
                  connection->record_bytes, connection->record_len);
        nbd_connection_free(connection);
    }
}

int nbd_server_hand_over(struct nbd_server *server, unsigned deadline_ms,
                         int (*give)(void *context, int fd, const void *record,
                                     size_t record_len),
                         void *context, size_t *ret_count)
{
    uint64_t deadline_ns = clock_after_ms(deadline_ms);
    struct giving giving = {.give = give, .context = context};
    bool is_late;

    nbd_server_begin_stop(server, deadline_ns, travels);
    mutex_lock(&server->lock);
    is_late = !wait_settled_locked(server, deadline_ns);
    if (is_late)
        expel_all_locked(server);
    mutex_unlock(&server->lock);
    if (is_late) {
        nbd_server_expel_all(server);
        mutex_lock(&server->lock);
        while (!wait_settled_locked(server, UINT64_MAX))
            ;
        mutex_unlock(&server->lock);
    }
    give_all_paused(server, &giving);
    give_all_waiting(server, &giving);
    nbd_server_wait_for_none(server);
    mutex_lock(&server->lock);
    is_late = server->is_late;
    mutex_unlock(&server->lock);
    *ret_count = giving.count;
    return is_late ? -ETIMEDOUT : 0;
}

/* ---- the one that goes on ----------------------------------------------- */

/* Have the connection its own copy of the record. */
static int read_record(struct nbd_connection *connection, const void *record,
                       size_t record_len)
{
    int error;

    connection->record_bytes = malloc(record_len > 0 ? record_len : 1);
    if (!connection->record_bytes)
        return -ENOMEM;
    if (record_len > 0)
        memcpy(connection->record_bytes, record, record_len);
    connection->record_len = record_len;
    error = nbd_record_read(connection->record_bytes, record_len,
                            &connection->record);
    if (error < 0)
        log_error("%s: what came with the connection is no whole record of "
                  "it: it is closed",
                  connection->peer);
    return error;
}

int nbd_server_resume(struct nbd_server *server, int fd, const void *record,
                      size_t record_len)
{
    struct nbd_connection *connection;
    struct nbd_string name;
    int error = nbd_connection_new(server, fd, &connection);

    if (error < 0)
        return error;
    error = read_record(connection, record, record_len);
    mutex_lock(&server->lock);
    if (error == 0 && atomic_load(&server->is_stopping))
        error = -ESHUTDOWN;
    if (error == 0) {
        name = (struct nbd_string){connection->record.name,
                                   strlen(connection->record.name)};
        if (nbd_exports_find(server->exports, name))
            error = -EEXIST;
    }
    if (error == 0) {
        connection->next = server->waiting;
        server->waiting = connection;
    }
    mutex_unlock(&server->lock);
    if (error < 0)
        nbd_connection_free(connection);
    return error;
}

static void *resumed_thread(void *argument)
{
    struct nbd_connection *connection = argument;

    nbd_connection_serve(connection);
    nbd_connection_leave(connection);
    return NULL;
}

/* Returns why the client cannot go on, in words; or NULL. */
static const char *why_not(const struct nbd_connection *connection,
                           const struct nbd_export *export)
{
    char incarnation[DEVICE_INCARNATION_SIZE];

    device_incarnation(export->device, incarnation);
    if (strcmp(incarnation, connection->record.incarnation) != 0)
        return "the device is not what the client knows any more";
    if (nbd_peer_state(connection->fd, connection->record.is_leaving) ==
        NBD_PEER_GONE)
        return "the client has hung up";
    return NULL;
}

/* Go on with one; -ECONNABORTED, -ENOMEM and others: it is not served. */
static int go_on_locked(struct nbd_server *server,
                        struct nbd_connection *connection,
                        const struct nbd_export *export) REQUIRES(server->lock)
{
    const struct nbd_session session = {
        .export = export,
        .structured = connection->record.structured,
        .extended = connection->record.extended,
        .block_status = connection->record.block_status,
        .is_durable = connection->record.is_durable,
    };
    struct nbd_transmission *transmission;
    const char *why = why_not(connection, export);
    int error;

    if (why) {
        log_warning("%s: %s is closed: %s", export->name, connection->peer,
                    why);
        return -ECONNABORTED;
    }
    error = nbd_connection_transmission(connection, &session, &transmission);
    if (error == 0) {
        connection->export = export;
        connection->transmission = transmission;
        error = nbd_connection_start_locked(server, connection, resumed_thread);
        if (error < 0)
            nbd_transmission_free(transmission);
    }
    if (error < 0)
        log_error("%s: %s is closed: %s", export->name, connection->peer,
                  log_errno(error));
    return error;
}

void nbd_server_continue_locked(struct nbd_server *server,
                                const struct nbd_export *export)
{
    struct nbd_connection **at = &server->waiting;

    while (*at) {
        struct nbd_connection *connection = *at;

        if (strcmp(connection->record.name, export->name) != 0) {
            at = &connection->next;
            continue;
        }
        *at = connection->next;
        if (go_on_locked(server, connection, export) < 0)
            nbd_connection_free(connection);
    }
}

void nbd_server_close_waiting(struct nbd_server *server,
                              bool (*is_awaited)(void *context,
                                                 const char *name),
                              void *context)
{
    struct nbd_connection **at;

    mutex_lock(&server->lock);
    at = &server->waiting;
    while (*at) {
        struct nbd_connection *connection = *at;

        if (is_awaited(context, connection->record.name)) {
            at = &connection->next;
            continue;
        }
        *at = connection->next;
        log_warning("%s: %s is closed: the device is not served",
                    connection->record.name, connection->peer);
        nbd_connection_free(connection);
    }
    mutex_unlock(&server->lock);
}
