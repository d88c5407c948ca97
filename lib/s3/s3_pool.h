/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_pool - connections to the endpoints: made, lent, taken back, used again.
 *
 * Used by s3_store's attempts.  A connection that comes back is lent again,
 * the one used last first, until it is too old, was used too often or was
 * idle too long.  One that has something to read while nobody uses it (the
 * peer has closed it, or talks out of turn) is closed, never lent.
 *
 * All addresses of a host are used in turn; one that failed, or answered
 * later than another, comes last for a while.
 *
 * Threads: any.  Locks: its own, a leaf, never held across the network.
 */
#ifndef S3_S3_POOL_H
#define S3_S3_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/net_address.h"
#include "base/resolve.h"
#include "base/stream.h"
#include "base/tls.h"

struct s3_pool;
struct s3_connection;

/* Where connections of one endpoint lead; the strings are copied. */
struct s3_pool_endpoint {
    const char *host; /* to look up and connect to: a name or an address */
    uint16_t port;
    const char *tls_name; /* that the certificate must have; NULL: no TLS */
};

struct s3_pool_options {
    const struct s3_pool_endpoint *endpoints; /* copied */
    size_t endpoint_count;
    struct tls_context *tls;   /* for endpoints with a tls_name, else NULL */
    struct resolver *resolver; /* both must outlive the pool */
    uint64_t requests_max;     /* of one connection; 0: any number */
    uint64_t idle_ns;          /* 0: 4 s for amazonaws.com, 12 s for others */
    uint64_t lifetime_ns;      /* 0: 5 minutes */
    uint64_t connect_ns; /* the longest lookup, connect and TLS together */
};

/* Make a pool without connections. */
int s3_pool_new(const struct s3_pool_options *options,
                struct s3_pool **ret_pool);

/*
 * Lend a connection to the endpoint of that index: an idle one unless
 * is_fresh, else a new one, made within connect_ns and the deadline.  The
 * caller gives it back by s3_pool_return.  Errors, in words in *ret_failure
 * (without the endpoint's name): those of resolver_addresses, connect_any and
 * tls_connect; -ECANCELED after s3_pool_interrupt.
 */
int s3_pool_borrow(struct s3_pool *pool, size_t endpoint, bool is_fresh,
                   uint64_t deadline_ns, struct s3_connection **ret_connection,
                   struct net_failure *ret_failure);

/*
 * Take a connection back, each time after one request.  is_reusable: its
 * answer was read to the end and the peer did not say that it closes.  Else
 * it is closed.
 */
void s3_pool_return(struct s3_pool *pool, struct s3_connection *connection,
                    bool is_reusable);

/* Returns the stream of a borrowed connection, which stays the pool's. */
struct stream *s3_connection_stream(const struct s3_connection *connection);

/* Returns whether it has served a request before. */
bool s3_connection_is_reused(const struct s3_connection *connection);

/*
 * End all waiting in a borrowed connection, which is not used again.  Any
 * thread, as long as the borrower has not begun to return it.
 */
void s3_connection_shutdown(struct s3_connection *connection);

/*
 * From now on connect this endpoint elsewhere, as after a redirect to another
 * region.  Idle connections are closed, borrowed ones when they come back.
 */
int s3_pool_redirect(struct s3_pool *pool, size_t endpoint,
                     const struct s3_pool_endpoint *to);

/*
 * Close connections that were idle too long.  Borrowing and returning do so
 * too: for a thread that looks after a pool that nobody uses.
 */
void s3_pool_tidy(struct s3_pool *pool);

/*
 * End all that goes on: lookups (of everybody who uses this resolver),
 * connects, handshakes, exchanges.  Borrowing fails from now on.
 */
void s3_pool_interrupt(struct s3_pool *pool);

/* Close all; every connection must have been returned.  NULL does nothing. */
void s3_pool_free(struct s3_pool *pool);

#endif
