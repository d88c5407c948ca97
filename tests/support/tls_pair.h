/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tls_pair - a TLS server's stream, and the client that it talks to, in one
 * test.
 */
#ifndef SUPPORT_TLS_PAIR_H
#define SUPPORT_TLS_PAIR_H

#include <stdbool.h>

#include "base/stream.h"
#include "base/tls.h"
#include "support/tls_client.h"

/* The client's side; set options before. */
struct tls_pair {
    struct tls_client_setup options;
    int fd;
    struct tls_client *client; /* NULL: it did not come about */
};

/* Make the files in dir, and a server's context of certificates and keys. */
struct tls_context *tls_pair_context(const char *dir, bool verify_peer);

/* Shake hands; returns the server's stream, NULL if it did not come about. */
struct stream *tls_pair_shake_hands(struct tls_context *context,
                                    struct tls_pair *pair);

/* End the client, without a word to the server. */
void tls_pair_hang_up(struct tls_pair *pair);

#endif
