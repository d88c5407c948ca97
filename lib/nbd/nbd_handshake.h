/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_handshake - from a fresh connection to a chosen export.
 *
 * Fixed newstyle only.  What a client can make the server do here is bounded:
 * by one deadline, in options, in bytes, and in memory.
 *
 * Threads: one a connection.
 */
#ifndef NBD_HANDSHAKE_H
#define NBD_HANDSHAKE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nbd_export;
struct nbd_exports;
struct stream;
struct tls_context;

/*
 * The longest data of a READ or WRITE that clients are told of.  Longer ones
 * are served too, up to DEVICE_REQUEST_MAX: Linux sends 32 MiB at most.
 */
enum { NBD_PAYLOAD_ADVERTISED = 32 << 20 };

/* The number by which block status of base:allocation is known. */
enum { NBD_CONTEXT_ALLOCATION = 1 };

struct nbd_handshake_options {
    struct nbd_exports *exports;
    struct tls_context *tls; /* or NULL */
    bool tls_required;
    /* Set by the server that stops: options get ERR_SHUTDOWN from then on. */
    const atomic_bool *stopping;
    uint64_t deadline_ns;
};

/* What was agreed upon. */
struct nbd_session {
    const struct nbd_export *export;
    bool structured;   /* replies in chunks; always when extended */
    bool extended;     /* 32-byte headers */
    bool block_status; /* base:allocation was selected for this export */
    /* The client was told of no cache, and so asks for no flush: whatever the
     * device is by now, what it writes is durable when it is answered. */
    bool is_durable;
};

/*
 * Greet, and answer options until the client has chosen an export.  *stream
 * is replaced by a TLS stream when the client starts TLS.
 *
 * 0: transmission follows.  Else the connection is to be closed:
 * -ECONNABORTED: the client said so; -EPROTO: it broke the protocol or asked
 * for what it cannot have without an answer; -ETIMEDOUT; -ESHUTDOWN; others
 * from the stream.
 */
int nbd_handshake(const struct nbd_handshake_options *options,
                  struct stream **stream, struct nbd_session *ret_session);

#endif
