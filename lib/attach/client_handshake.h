/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * client_handshake - NBD's handshake from the client's side, for a connection
 * that the kernel will have afterwards.
 *
 * Exactly the bytes of the handshake are received: the next one is the
 * kernel's.  No TLS, and simple replies, for the kernel knows no others.
 *
 * Threads: any.  Each wait ends at the deadline.
 */
#ifndef ATTACH_CLIENT_HANDSHAKE_H
#define ATTACH_CLIENT_HANDSHAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/net_address.h"
#include "base/stream.h"

/* Room for what tells one content of an export from another, and its end. */
enum { CLIENT_INCARNATION_SIZE = 128 };

/* What a server says of an export. */
struct client_export {
    uint64_t size;
    uint16_t flags;          /* of transmission */
    uint32_t block_size_min; /* 1 if it does not say */
};

/*
 * Choose the export; transmission follows.  In words in *ret_failure:
 *   -ENOENT        there is no such export
 *   -ENOTSUP       it wants TLS, or knows no GO
 *   -ESHUTDOWN     it is stopping
 *   -EPROTO        it is no NBD server, or says what cannot be
 *   -ETIMEDOUT, -EPIPE and those of the stream
 */
int client_handshake_go(struct stream *stream, const char *export_name,
                        uint64_t deadline_ns, struct client_export *ret_export,
                        struct net_failure *ret_failure);

/*
 * Ask for the export's incarnation, and end the connection.  "": the server
 * knows none.  Errors as above.
 */
int client_handshake_ask(struct stream *stream, const char *export_name,
                         uint64_t deadline_ns,
                         char ret_incarnation[CLIENT_INCARNATION_SIZE],
                         struct net_failure *ret_failure);

#endif
