/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tls - streams by GnuTLS, the only file that knows it.
 *
 * Certificates, pre-shared keys, or both.  TLS 1.2 and 1.3; AES-GCM first
 * where the processor has it.  Threads: a context may be shared by any number
 * of them; a stream is used by one.
 */
#ifndef BASE_TLS_H
#define BASE_TLS_H

#include <stdbool.h>
#include <stdint.h>

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

/* Free what was loaded; no stream may use it any more.  NULL: nothing. */
void tls_free(struct tls_context *context);

/*
 * Shake hands as a server over the stream, which must have no bytes received
 * and not taken.  On success *stream is replaced by the TLS stream, to which
 * the plain one belongs; on failure *stream stays, and can only be closed.
 * -ETIMEDOUT past the deadline; -EPROTO: the peer's fault, logged.
 */
int tls_accept(struct tls_context *context, struct stream **stream,
               uint64_t deadline_ns);

#endif
