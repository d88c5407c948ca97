/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * evict - which chunks leave the cache, and which have to be uploaded so that
 * they can: the least recently used first.
 *
 * A chunk may leave when its content is in the bucket and the open checkpoint
 * does not wait for it.  Blocks go before tables: a file that is hardly more
 * than its table saves a request of the next read, and costs little.
 *
 * Nothing is evicted here: who does (device_evict) looks again.  What is
 * chosen, and chosen again, is a matter of the moment; to have chosen one
 * chunk instead of another does no harm.
 *
 * Threads: any.  Locks: that of leases, for a moment.
 */
#ifndef CACHE_EVICT_H
#define CACHE_EVICT_H

#include <stddef.h>
#include <stdint.h>

#include "cache/chunk_work.h"

struct catalog;
struct leases;
struct use;

/* Of what is chosen. */
struct evict_from {
    struct catalog *catalog;    /* of the device */
    struct catalog *checkpoint; /* of the open checkpoint */
    const struct use *use;      /* NULL: in the order of the catalog */
    struct leases *leases;      /* see evict_choose_dirty */
    uint32_t chunk_size;
    unsigned start_percent; /* only chunks of these hundredths (lease.h): */
    unsigned stop_percent;  /* start <= lease_percent < stop; 0, 100: all */
};

/*
 * Choose chunks that may leave at this depth, until their files take this many
 * pages of the disk together, at most max, into chunks[]; the first one should
 * go first.  EVICT_BLOCKS: files with more than tables; EVICT_FILE: all others.
 * *ret_pages: what these files take, a little more than what would get free.
 * Returns how many; 0 also without memory.
 */
size_t evict_choose(const struct evict_from *from, enum evict_depth depth,
                    uint64_t pages, uint64_t chunks[], size_t max,
                    uint64_t *ret_pages);

/*
 * The same of those that cannot leave before they are uploaded: as candidates
 * for leases_set_candidates.  With leases, only such whose upload may begin
 * now (lease_may_begin).
 */
size_t evict_choose_dirty(const struct evict_from *from, uint64_t pages,
                          uint64_t chunks[], size_t max, uint64_t *ret_pages);

#endif
