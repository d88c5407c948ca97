/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tls_client - the client's side of TLS for tests, and the certificates.
 */
#ifndef SUPPORT_TLS_CLIENT_H
#define SUPPORT_TLS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tls_client;

/*
 * Write ca-cert.pem, server-cert.pem, server-key.pem, client-cert.pem,
 * client-key.pem, other-cert.pem and other-key.pem (of a client that the
 * CA did not sign), and keys.psk (of "alice": 00 01 02 ... 1f) into dir.
 */
void tls_client_make_files(const char *dir);

struct tls_client_setup {
    const char *dir;         /* of the files */
    const char *certificate; /* "client" or "other" to show one, or NULL */
    bool psk;                /* be alice, instead of checking certificates */
    bool wrong_psk;          /* be alice with another key */
    const char *priority;    /* of GnuTLS, or NULL */
};

/*
 * Shake hands over a connected, blocking socket, which stays the caller's;
 * NULL if that fails.
 */
struct tls_client *tls_client_start(const struct tls_client_setup *options,
                                    int fd);

/* As send(2) and recv(2); recv also fails if the end was not announced. */
ssize_t tls_client_send(struct tls_client *client, const void *data,
                        size_t len);
ssize_t tls_client_receive(struct tls_client *client, void *data, size_t len);

/* Returns the name of the cipher in use: "AES-128-GCM". */
const char *tls_client_cipher(const struct tls_client *client);

/* Say good-bye; the server's answer is not waited for. */
void tls_client_bye(struct tls_client *client);

/* Ask for new keys (TLS 1.3). */
void tls_client_update_key(struct tls_client *client);

/* Free it, without a word to the server; NULL does nothing. */
void tls_client_free(struct tls_client *client);

#endif
