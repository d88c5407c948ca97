/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tls_parts - what the files of tls share, and nobody else sees.
 *
 * tls.c has the streams, tls_server.c and tls_client.c the two ways to begin
 * one, tls_reason.c the words for what went wrong.
 */
#ifndef BASE_TLS_PARTS_H
#define BASE_TLS_PARTS_H

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/net_address.h"
#include "base/stream.h"
#include "base/tls.h"
#include "base/tls_tickets.h"

enum {
    TLS_RECORD_MAX = 16384, /* the most that one record holds */
    /* GnuTLS asks for a record's head, then for the rest: eight are had from
     * the socket at once, which saves most of the system calls. */
    TLS_INCOMING = 131072,
    TLS_FIRST_BYTES = 16, /* of the peer, kept to tell who does not know TLS */
};

struct tls_context {
    _Atomic unsigned holders;                      /* besides who made it */
    gnutls_certificate_credentials_t certificates; /* or NULL */
    gnutls_priority_t priority;
    /* Of servers: */
    gnutls_psk_server_credentials_t keys; /* or NULL */
    bool verify_peer;
    /* Of clients: */
    bool is_insecure;
    char *trusts; /* whom, for messages */
    struct tls_tickets *tickets;
};

struct tls_stream {
    struct stream stream; /* first: the functions get a pointer to it */
    struct tls_context *context;
    struct stream *plain;
    gnutls_session_t session;
    int error; /* of the plain stream, behind a GNUTLS_E_PUSH/PULL_ERROR */
    /* Of clients: whose certificate is asked for, and where a ticket that the
     * server gives is put, NULL once it has been. */
    char *name;
    struct tls_tickets *tickets;
    /* A record that GnuTLS took and could not send yet: its length, or 0. */
    size_t unsent_len;
    /* What was received and not yet handed to GnuTLS. */
    size_t incoming_at, incoming_end;
    size_t first_len;
    unsigned char first[TLS_FIRST_BYTES];
    unsigned char record[TLS_RECORD_MAX]; /* small pieces, put together */
    unsigned char incoming[TLS_INCOMING];
};

/* Returns whether AES-GCM is faster than ChaCha20 on this processor. */
bool tls_processor_has_aes(void);

/*
 * Begin a session with GnuTLS's flags and the context's priorities over the
 * plain stream, which still belongs to the caller; it holds the context.
 * NULL: no memory.
 */
struct tls_stream *tls_stream_new(struct tls_context *context,
                                  struct stream *plain, unsigned flags);

/* Free it without the plain stream. */
void tls_stream_drop(struct tls_stream *tls);

/*
 * Shake hands.  On failure *ret_code is what GnuTLS said, and the peer was
 * told why, if it is still there.
 */
int tls_stream_handshake(struct tls_stream *tls, uint64_t deadline_ns,
                         int *ret_code);

/*
 * Tell in words why a client's handshake failed: by error, behind it code;
 * tls is NULL if there was no memory for it.
 */
void tls_reason(const struct tls_context *context, const struct tls_stream *tls,
                int error, int code, struct net_failure *ret_failure);

#endif
