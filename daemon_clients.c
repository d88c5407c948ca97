/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon_clients.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/fd_store.h"
#include "base/log.h"
#include "cache/device.h"
#include "common_status.h"
#include "nbd/nbd_server.h"
#include "nbd/nbd_tally.h"
#include "object_store.h"

enum {
    STOP_DEADLINE_MS = 10000,  /* for requests in flight at the end */
    STORE_DEADLINE_MS = 30000, /* for the store, from then on */
    /* The same if clients wait for the next process. */
    HAND_OVER_DEADLINE_MS = 1000,
    HAND_OVER_STORE_DEADLINE_MS = 1000,
};

void daemon_clients_init(struct daemon_clients *clients)
{
    mutex_init(&clients->lock);
}

void daemon_clients_done(struct daemon_clients *clients)
{
    mutex_done(&clients->lock);
}

/* ---- what owners and devices ask ---------------------------------------- */

/* Tell an owner how many clients its device has. */
static uint64_t count_connections(void *context, const struct device *device)
{
    struct daemon_clients *clients = context;
    size_t count = 0;

    mutex_lock(&clients->lock);
    count = clients->unresumed; /* any of them may have it */
    if (clients->server)
        count = nbd_server_attached(clients->server, device);
    mutex_unlock(&clients->lock);
    return count;
}

/* Tell what the clients of a device did. */
static void tell_clients(void *context, const struct device *device,
                         struct control_message *status)
{
    struct daemon_clients *clients = context;
    struct nbd_tally_sums sums;
    bool is_known = false;

    mutex_lock(&clients->lock);
    if (clients->server)
        is_known =
            nbd_server_tally(clients->server, device_name(device), &sums);
    mutex_unlock(&clients->lock);
    if (is_known)
        common_tell_clients(&sums, status);
}

/* Serve an open device to clients; the server is there. */
static int export_device(struct nbd_server *server,
                         const struct common_device *device)
{
    const struct nbd_export export = {
        .device = device->device,
        .name = device->config->name,
        .description = device->config->description,
        .read_only = device->config->read_only,
    };
    int error = nbd_server_add_export(server, &export);

    /* It was opened while the server started: both have seen that. */
    return error == -EEXIST ? 0 : error;
}

/*
 * common_opening.opened: a server that is not there yet takes all that are
 * open when it starts; one that is stopped takes no more.
 */
static void export_late(void *context, struct common_device *device)
{
    struct daemon_clients *clients = context;
    int error = 0;

    common_reload_opened(clients->reload, device);
    mutex_lock(&clients->lock);
    if (clients->server)
        error = export_device(clients->server, device);
    mutex_unlock(&clients->lock);
    if (error && error != -ESHUTDOWN)
        log_error("%s: cannot be served: %s", device->config->name,
                  log_errno(error));
}

/* Whether a device of that name is served, or will be when it can. */
static bool is_awaited(void *context, const char *name)
{
    const struct daemon_clients *clients = context;
    struct common_resources *resources = clients->resources;
    bool is_found = false;

    mutex_lock(&resources->places_lock);
    for (size_t i = 0; i < resources->devices_count && !is_found; i++) {
        const struct common_device *device = &resources->devices[i];

        is_found = atomic_load(&device->state) != COMMON_DEVICE_LEFT_OUT &&
                   strcmp(device->config->name, name) == 0;
    }
    mutex_unlock(&resources->places_lock);
    return is_found;
}

/* common_opening.left_out: nobody goes on waiting for it. */
static void give_up(void *context, struct common_device *device)
{
    struct daemon_clients *clients = context;

    (void)device;
    mutex_lock(&clients->lock);
    if (clients->server)
        nbd_server_close_waiting(clients->server, is_awaited, clients);
    mutex_unlock(&clients->lock);
}

/* Let owners ask the server or, with NULL, none.  Returns the one before. */
static struct nbd_server *exchange_server(struct daemon_clients *clients,
                                          struct nbd_server *server)
{
    struct nbd_server *old;

    mutex_lock(&clients->lock);
    old = clients->server;
    clients->server = server;
    clients->unresumed = 0;
    mutex_unlock(&clients->lock);
    return old;
}

void daemon_clients_opening(struct daemon_clients *clients, bool is_single,
                            struct common_opening *ret_opening)
{
    size_t pairs = clients->handed_over->pairs_count;

    *ret_opening = (struct common_opening){
        .connections = count_connections,
        .tell_clients = tell_clients,
        .opened = is_single ? NULL : export_late,
        .left_out = give_up,
        .is_urgent = pairs > 0,
        .context = clients,
    };
    mutex_lock(&clients->lock);
    clients->unresumed = pairs;
    mutex_unlock(&clients->lock);
}

/* ---- start -------------------------------------------------------------- */

/* Requests that wait for the store must come back. */
static void interrupt_store(void *context)
{
    struct daemon_clients *clients = context;

    clients->resources->store->interrupt(clients->resources->store);
}

/* For fd_store_resume. */
static int resume_connection(void *context, int fd, const void *record,
                             size_t len)
{
    return nbd_server_resume(context, fd, record, len);
}

/* Go on with what the process before left, before anybody else can come. */
static void resume_connections(struct daemon_clients *clients,
                               struct nbd_server *server)
{
    size_t count = clients->handed_over->pairs_count;
    size_t resumed =
        fd_store_resume(clients->handed_over, resume_connection, server);

    if (count > 0)
        log_info("connections of the process before: %zu, resumed: %zu", count,
                 resumed);
}

int daemon_clients_start(struct daemon_clients *clients,
                         struct tls_context *tls)
{
    const struct common_resources *resources = clients->resources;
    const struct nbd_server_options options = {
        /* As long as it is not there, no other takes its place. */
        .default_name = resources->devices[0].config->name,
        .tls = tls,
        .tls_required = clients->config->tls == CONFIG_TLS_REQUIRED,
        .max_connections = clients->config->max_connections,
        .handshake_timeout_ms = clients->config->handshake_timeout_ms,
        .late = interrupt_store,
        .late_context = clients,
    };
    struct nbd_server *server;
    int error = nbd_server_start(&options, &server);

    if (error)
        return error;
    resume_connections(clients, server);
    (void)exchange_server(clients, server);
    for (size_t i = 0; i < resources->devices_count && !error; i++) {
        const struct common_device *device = &resources->devices[i];

        if (atomic_load(&device->state) == COMMON_DEVICE_OPEN)
            error = export_device(server, device);
    }
    nbd_server_close_waiting(server, is_awaited, clients);
    return error;
}

/* ---- end ---------------------------------------------------------------- */

/* For nbd_server_hand_over. */
static int leave_connection(void *context, int fd, const void *record,
                            size_t len)
{
    return fd_store_put(context, fd, record, len);
}

/*
 * End all connections, but leave those that can go on to the next process; if
 * there are any, closing is to be quick.
 */
static int hand_over(struct daemon_clients *clients, int signals)
{
    size_t count;
    int error;

    /* Of what has clients nothing is changed in the bucket in between. */
    for (size_t i = 0; i < clients->resources->devices_count; i++) {
        struct common_device *device = &clients->resources->devices[i];

        /* Clients may wait for one that is not open; it may be just now. */
        device->stays =
            atomic_load(&device->state) != COMMON_DEVICE_OPEN ||
            nbd_server_attached(clients->server, device->device) > 0;
    }
    error =
        nbd_server_hand_over(clients->server, HAND_OVER_DEADLINE_MS,
                             leave_connection, clients->handed_over, &count);
    log_info("connections left to the next process: %zu", count);
    common_limit_closing(clients->resources, signals,
                         count > 0 ? HAND_OVER_STORE_DEADLINE_MS
                                   : STORE_DEADLINE_MS);
    return error;
}

/* End all connections, with time for what is in flight. */
static int end_connections(struct daemon_clients *clients, int signals)
{
    common_limit_closing(clients->resources, signals, STORE_DEADLINE_MS);
    return nbd_server_stop(clients->server, STOP_DEADLINE_MS);
}

void daemon_clients_stop(struct daemon_clients *clients, int signals,
                         bool hands_over)
{
    int error = 0;

    if (!clients->server)
        common_limit_closing(clients->resources, signals, STORE_DEADLINE_MS);
    else if (hands_over)
        error = hand_over(clients, signals);
    else
        error = end_connections(clients, signals);
    if (error)
        log_warning("some requests were not answered: %s", log_errno(error));
}

void daemon_clients_free(struct daemon_clients *clients)
{
    if (clients->server)
        nbd_server_free(exchange_server(clients, NULL));
}
