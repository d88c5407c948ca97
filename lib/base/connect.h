/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * connect - a TCP connection to whichever of a host's addresses answers first.
 *
 * "Happy eyeballs", RFC 8305: IPv6 and IPv4 take turns; the next address is
 * tried when one has failed, or has not answered for 250 ms; the first that
 * answers wins and the others are closed.
 *
 * Threads: any.
 */
#ifndef BASE_CONNECT_H
#define BASE_CONNECT_H

#include <stddef.h>
#include <stdint.h>

#include "base/net_address.h"

enum { CONNECT_ADDRESSES_MAX = 32 }; /* more are not looked at */

enum { CONNECT_NOT_TRIED = 1 }; /* a result: there was no need to */

/*
 * Connect to one of count (at least one) addresses, of which the first is
 * tried first.  Returns the descriptor: close-on-exec, blocking, prepared as
 * by net_prepare.
 *
 * interrupt_fd, unless -1, ends the waiting with -ECANCELED as soon as it is
 * readable: an eventfd for instance.  results, unless NULL, has count entries:
 * 0 for the address that won, CONNECT_NOT_TRIED, or the error of that one;
 * -EINPROGRESS if it had not answered when another one did, or in time.
 *
 * -ETIMEDOUT past the deadline; the error of the first address if all failed:
 * -ECONNREFUSED, -EHOSTUNREACH, -ENETUNREACH ...; -EMFILE and the like.
 * *ret_failure tells them, each with its address.
 */
int connect_any(const struct net_address addresses[], size_t count,
                uint64_t deadline_ns, int interrupt_fd, int results[],
                struct net_failure *ret_failure);

#endif
