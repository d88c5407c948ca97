/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_routes - which of a host's addresses is tried first (pure).
 *
 * They are used in turn; one that failed comes after all others for a while.
 * Threads: who has it, under a lock of his.
 */
#ifndef S3_S3_ROUTES_H
#define S3_S3_ROUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/net_address.h"

enum { S3_ROUTES_MAX = 32 };

/* All zero is a good beginning. */
struct s3_routes {
    size_t turn;
    size_t resting_count;
    struct {
        struct net_address address;
        uint64_t until_ns;
    } resting[S3_ROUTES_MAX]; /* the oldest goes for a new one */
};

/*
 * Put count addresses, at most S3_ROUTES_MAX of them, into the order in which
 * they are to be tried now.  The kind of the first (IPv4 or IPv6) stays that
 * of the first, unless all of it rest.
 */
void s3_routes_order(struct s3_routes *routes, struct net_address addresses[],
                     size_t count, uint64_t now_ns);

/* Learn that an address works, or that it does not. */
void s3_routes_learn(struct s3_routes *routes,
                     const struct net_address *address, bool works,
                     uint64_t now_ns);

#endif
