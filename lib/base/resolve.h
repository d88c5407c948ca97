/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * resolve - the addresses of a host name, remembered and looked up again.
 *
 * getaddrinfo blocks for as long as it likes, so each lookup has a thread of
 * its own, which nobody waits for past a deadline, not even resolver_free: a
 * thread that comes back after that frees what is left.  Names are looked up
 * again only while somebody asks for them.
 *
 * Threads: any.  Locks: its own, a leaf, not held during a lookup.
 */
#ifndef BASE_RESOLVE_H
#define BASE_RESOLVE_H

#include <stddef.h>
#include <stdint.h>

#include "base/net_address.h"

enum {
    RESOLVER_ADDRESSES_MAX = 32, /* of one name; more are left out */
    RESOLVER_NAMES_MAX = 32,     /* that one resolver remembers */
};

struct resolver;

/* Make one that looks a name up again when its addresses are that old. */
int resolver_new(uint64_t refresh_ns, struct resolver **ret_resolver);

/*
 * Find the addresses of a host, with this port, in the order in which they
 * are best tried; returns how many, at most max.  What was found before is
 * returned at once, while it is looked up again in the background, and is
 * kept when that fails; only the first time is waited for, to the deadline.
 * Numeric addresses (also "[::1]") and localhost with the names below it need
 * no lookup.  Errors, in words in *ret_failure:
 *   -EADDRNOTAVAIL  there is no such host, or it has no address
 *   -ETIMEDOUT      nobody told, to the deadline or at all
 *   -ECANCELED      after resolver_interrupt
 *   -ENOMEM, -EAGAIN, -EMFILE ... what this host lacks
 */
int resolver_addresses(struct resolver *resolver, const char *host,
                       uint16_t port, struct net_address addresses[],
                       size_t max, uint64_t deadline_ns,
                       struct net_failure *ret_failure);

/* End all waiting, now and from now on. */
void resolver_interrupt(struct resolver *resolver);

/* Free it; nobody may be inside it.  NULL does nothing. */
void resolver_free(struct resolver *resolver);

/*
 * For tests: what to call in getaddrinfo's place: store up to max addresses,
 * their number in *ret_count, and return 0, or one of netdb.h's EAI_ codes.
 */
typedef int resolver_lookup(void *context, const char *host,
                            struct net_address addresses[], size_t max,
                            size_t *ret_count);
void resolver_set_lookup_for_tests(struct resolver *resolver,
                                   resolver_lookup *lookup, void *context);

#endif
