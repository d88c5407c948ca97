/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tls - streams by GnuTLS, which only this module knows; servers, clients.
 *
 * Servers: certificates, pre-shared keys, or both.  TLS 1.2 and 1.3; AES-GCM
 * first where the processor has it.
 *
 * A TLS stream's receive returns 0 only when the peer announced the end;
 * -ECONNABORTED when the connection ended without that, so that what came may
 * have been cut off; -EPROTO when what came was no proper TLS.
 *
 * Threads: a context may be shared by any number of them; a stream is used by
 * one at a time.  Locks: a client's context has one for its tickets, a leaf.
 */
#ifndef BASE_TLS_H
#define BASE_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/net_address.h"
#include "base/stream.h"

struct tls_context;

struct tls_server_options {
    /* With ca-cert.pem, server-cert.pem and server-key.pem, or NULL. */
    const char *certificates_dir;
    /* Lines "name:hexadecimal key", as psktool writes them, or NULL. */
    const char *psk_file;
    /* The client must show a certificate that ca-cert.pem signed: no more is
     * checked, not its name.  A client with a pre-shared key shows none. */
    bool verify_peer;
};

/*
 * Load what a server shows and accepts.  At least one of the two sources must
 * be given; verify_peer needs certificates.  -ENOENT, -EACCES, -EINVAL: the
 * file and what is wrong with it are logged.
 */
int tls_server_new(const struct tls_server_options *options,
                   struct tls_context **ret_context);

/*
 * Give up a context; what was loaded is freed when nobody holds it any more:
 * who made it, who called tls_hold, and its streams.  NULL: nothing.
 */
void tls_free(struct tls_context *context);

/* Returns the context, or NULL, which is freed one tls_free later. */
struct tls_context *tls_hold(struct tls_context *context);

/*
 * Shake hands as a server over the stream, which must have no bytes received
 * and not taken.  On success *stream is replaced by the TLS stream, to which
 * the plain one belongs; on failure *stream stays, and can only be closed.
 * -ETIMEDOUT past the deadline; -EPROTO: the peer's fault, logged.
 */
int tls_accept(struct tls_context *context, struct stream **stream,
               uint64_t deadline_ns);

struct tls_client_options {
    const char *ca_file; /* whom to trust; NULL: whom this system trusts */
    bool is_insecure;    /* trust everybody, whatever the name */
};

/*
 * Load whom a client trusts, once for many connections: that takes some time.
 * -ENOENT, -EACCES, -EINVAL: the file and what is wrong with it are logged.
 */
int tls_client_new(const struct tls_client_options *options,
                   struct tls_context **ret_context);

/*
 * Shake hands as a client over the stream of a fresh connection, to speak
 * HTTP/1.1.  name is the host's, or its numeric address: the certificate must
 * have it, and unless it is an address the server is told it.  The context
 * keeps what lets later handshakes with that name be short.
 *
 * On success *stream is replaced as by tls_accept.  Errors, in words in
 * *ret_failure; nothing is logged:
 *   -EKEYREJECTED  the certificate: not trusted, expired, not valid yet, or
 *                  for other names (which ones is told)
 *   -EPROTO        the peer speaks no TLS, or none that we do, or refuses us
 *   -ETIMEDOUT     past the deadline
 *   -ECONNABORTED  the connection was closed during the handshake
 *   -ECONNRESET and others of the plain stream
 */
int tls_connect(struct tls_context *context, const char *name,
                struct stream **stream, uint64_t deadline_ns,
                struct net_failure *ret_failure);

#endif
