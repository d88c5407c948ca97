/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_entry - a client's requests begin after those of clients that are gone.
 *
 * Called by nbd_connection.c when the handshake has chosen an export.
 * Threads: the connection's own.  Locks: takes the server's.
 */
#ifndef NBD_ENTRY_H
#define NBD_ENTRY_H

#include <stdbool.h>

struct nbd_connection;
struct nbd_transmission;

enum nbd_peer_state { NBD_PEER_PRESENT, NBD_PEER_HALF_CLOSED, NBD_PEER_GONE };

/* What is known of the peer at the socket; is_leaving: it has said so. */
enum nbd_peer_state nbd_peer_state(int fd, bool is_leaving);

/*
 * Wait until no request of a client of this export that is gone can take
 * effect any more; then the connection has entered, with this transmission.
 * -ETIMEDOUT: such requests do not end (logged); -ESHUTDOWN.
 */
int nbd_entry_wait(struct nbd_connection *self,
                   struct nbd_transmission *transmission);

#endif
