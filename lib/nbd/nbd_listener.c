/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_listener.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mutex.h"
#include "base/net.h"
#include "base/thread.h"
#include "nbd/nbd_connection.h"
#include "nbd/nbd_server_parts.h"

enum { NO_MEANS_MS = 100 }; /* between attempts when there are no descriptors */

struct nbd_listener {
    struct nbd_server *server;
    struct nbd_listener *next;
    pthread_t thread;
    int fd;
};

static void log_refusal(const char *why)
{
    static struct log_limit limit;
    uint64_t left_out;

    if (log_limit_allows(&limit, &left_out))
        log_warning("a connection is refused: %s (%llu more not shown)", why,
                    (unsigned long long)left_out);
}

/* Give an accepted socket a thread, or close it. */
static void start_connection(struct nbd_server *server, int fd)
{
    struct nbd_connection *connection;
    int error = nbd_connection_admit(server, fd, &connection);

    if (error == -EBUSY)
        log_refusal("there are as many as maxconnections allows");
    if (error < 0)
        return;
    error = nbd_connection_start(connection);
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
        nbd_connection_join_finished(server);
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

int nbd_listener_start(struct nbd_server *server, int fd)
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

void nbd_listener_join_all(struct nbd_server *server)
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
