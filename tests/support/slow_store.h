/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slow_store - an object_store around another one, as far away and on as
 * narrow a line as a benchmark wants.
 *
 * Every call takes its latency; bytes that are got or put then pass a line
 * that all calls share.  Threads: any.  Locks: its own, a leaf.
 */
#ifndef SUPPORT_SLOW_STORE_H
#define SUPPORT_SLOW_STORE_H

#include <stdint.h>

#include "object_store.h"

/*
 * Wrap inner, which is closed with it.  bytes_per_s 0: the line has no limit.
 * Never NULL.
 */
struct object_store *slow_store_new(struct object_store *inner,
                                    uint64_t latency_ns, uint64_t bytes_per_s);

#endif
