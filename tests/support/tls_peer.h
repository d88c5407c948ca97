/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tls_peer - a TLS server on a port of 127.0.0.1, as odd as a test wants it.
 *
 * Threads: one that accepts, and one for each connection, which serves it by
 * the test's function.  Without one it sends back all that it receives, and
 * announces the end when the client has.
 */
#ifndef SUPPORT_TLS_PEER_H
#define SUPPORT_TLS_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/net_address.h"
#include "base/stream.h"
#include "base/tls.h"
#include "support/certificates.h"

struct tls_peer;
struct tls_peer_connection;

/* Serve a connection after the handshake; it is closed on return. */
typedef void tls_peer_serve(void *context,
                            struct tls_peer_connection *connection);

struct tls_peer_setup {
    struct certificate_setup certificate;
    bool is_signed_by_other; /* not by the authority of ca-cert.pem */
    const char *priority;    /* of GnuTLS; NULL: "NORMAL" */
    bool gives_tickets;
    tls_peer_serve *serve; /* or NULL */
    void *context;
};

/*
 * Write ca-cert.pem, whom a client is to trust, into dir, and listen.  Never
 * NULL.
 */
struct tls_peer *tls_peer_start(const char *dir,
                                const struct tls_peer_setup *setup);

/* Close all connections, wait for those that serve them, and free it. */
void tls_peer_stop(struct tls_peer *peer);

/* Returns the port. */
uint16_t tls_peer_port(const struct tls_peer *peer);

/* Returns how many handshakes succeeded, and how many of them were short. */
unsigned tls_peer_handshakes(const struct tls_peer *peer);
unsigned tls_peer_resumed(const struct tls_peer *peer);

/*
 * Write the protocol that was chosen last ("http/1.1"), and the host's name
 * that a client told last; or "".
 */
void tls_peer_protocol(struct tls_peer *peer, char protocol[32]);
void tls_peer_name(struct tls_peer *peer, char name[256]);

/* ---- for clients -------------------------------------------------------- */

/* Make a client's context that trusts dir's ca-cert.pem, or everybody. */
struct tls_context *tls_peer_client(const char *dir, bool is_insecure);

/* Connect to a port of this host, in plain. */
struct stream *tls_peer_plain(uint16_t port);

/* Connect to the peer, and shake hands.  NULL: *ret_failure tells why. */
struct stream *tls_peer_meet(const struct tls_peer *peer,
                             struct tls_context *context, const char *name,
                             struct net_failure *ret_failure);

/* Send some bytes to a peer that echoes; returns whether they come back. */
bool tls_peer_echoes(struct stream *stream);

/* ---- for those that serve ----------------------------------------------- */

/* As send(2), all of it, and recv(2): 0 at the end, announced or not. */
bool tls_peer_send(struct tls_peer_connection *connection, const void *data,
                   size_t len);
size_t tls_peer_receive(struct tls_peer_connection *connection, void *data,
                        size_t len);

/* Give a ticket now (TLS 1.3); announce the end. */
void tls_peer_give_ticket(struct tls_peer_connection *connection);
void tls_peer_bye(struct tls_peer_connection *connection);

/* Returns the socket, to do something else with. */
int tls_peer_fd(const struct tls_peer_connection *connection);

#endif
