/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_target - where the connections of an endpoint lead, and the way there:
 * lookup, connect, TLS.
 *
 * A target does not change; who uses it holds it.  What it learns of its
 * addresses it keeps.
 *
 * Threads: any.  Locks: its own, a leaf, never held across the network.
 */
#ifndef S3_S3_TARGET_H
#define S3_S3_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/net_address.h"
#include "base/resolve.h"
#include "base/stream.h"
#include "base/tls.h"

struct s3_target;

/*
 * Make a target that is held once; tls_name NULL: without TLS.  NULL: there
 * is no memory.
 */
struct s3_target *s3_target_new(const char *host, uint16_t port,
                                const char *tls_name);

/* Hold it once more; returns it.  Release it; the last frees it.  NULL: no. */
struct s3_target *s3_target_hold(struct s3_target *target);
void s3_target_release(struct s3_target *target);

/* Returns whether its connections are to speak TLS. */
bool s3_target_is_tls(const struct s3_target *target);

/*
 * Returns for how long an idle connection to it is worth keeping: the servers
 * of AWS close theirs earlier than others do.
 */
uint64_t s3_target_idle_ns(const struct s3_target *target);

/*
 * Connect, without TLS, to one of its addresses, which is told.  Returns the
 * descriptor, or an error of resolver_addresses or connect_any.
 */
int s3_target_connect(struct s3_target *target, struct resolver *resolver,
                      int interrupt_fd, uint64_t deadline_ns,
                      struct net_address *ret_address,
                      struct net_failure *ret_failure);

/* Begin TLS on the stream of such a connection, as tls_connect does. */
int s3_target_secure(struct s3_target *target, struct tls_context *context,
                     const struct net_address *address, struct stream **stream,
                     uint64_t deadline_ns, struct net_failure *ret_failure);

#endif
