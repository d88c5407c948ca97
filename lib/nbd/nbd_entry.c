/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A client that is gone, or what can be known of it:  Before a connection
 * enters transmission, every other connection of its export is asked whether
 * its peer has hung up.  If so, what it sent and has no place in the journal
 * yet is dropped, and the rest is waited for.  A client that closed only its
 * own direction (of TCP, one that died looks the same) is given time to be
 * served to the end.  One that has other connections may ask there again what
 * it asked here, with nobody entering: as soon as it ends this one, it is
 * gone (nbd_connection.c).  Not known is what a network has cut off: such a
 * peer's requests, already received or still on their way, may take effect
 * after those of a client that came later.  Only the end of its connection, by
 * the probes of net_prepare, makes an end of that.
 */
#include "nbd/nbd_entry.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "cache/device.h"
#include "nbd/nbd_exports.h"
#include "nbd/nbd_server_parts.h"
#include "nbd/nbd_transmission.h"

enum { LEAVE_MS = 10000 }; /* for others to leave before a connection enters */

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
    return expel(server, other, clock_after_ms(LEAVE_MS));
}

int nbd_entry_wait(struct nbd_connection *self,
                   struct nbd_transmission *transmission)
{
    struct nbd_server *server = self->server;
    uint64_t deadline_ns = clock_after_ms(LEAVE_MS);
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
