/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * block_cache - a bounded number of plain blocks in memory.
 *
 * A block here is what chunk file and object say, without the journal; one
 * with damaged pages is never put here.  When it is full, a block leaves that
 * was not used since the last look at it (CLOCK), so that one long sequential
 * read does not drive out what is read again and again.  Threads: any.
 * Locks: its own, of which only the validity check of block_cache_put calls
 * out.
 */
#ifndef CACHE_BLOCK_CACHE_H
#define CACHE_BLOCK_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block_cache;

/*
 * size: bytes of plain blocks, never exceeded; less than one block caches
 * nothing.  Memory is taken as it is needed.
 */
int block_cache_new(size_t size, struct block_cache **ret_cache);

/* Free the cache, which nobody uses any more; NULL does nothing. */
void block_cache_free(struct block_cache *cache);

/*
 * Copy size bytes at offset inside a block of a chunk, if it is here.
 * Returns whether it was.
 */
bool block_cache_get(struct block_cache *cache, uint64_t chunk, uint32_t block,
                     size_t offset, void *data, size_t size);

/* Returns whether the block is here, without counting it as used. */
bool block_cache_has(struct block_cache *cache, uint64_t chunk, uint32_t block);

/*
 * Keep a copy of a plain block, replacing an older one, if is_current(context)
 * says, under the lock that block_cache_update takes too, that the block was
 * read from the chunk's newest state.
 */
void block_cache_put(struct block_cache *cache, uint64_t chunk, uint32_t block,
                     const void *plain, bool (*is_current)(void *context),
                     void *context);

/*
 * The block changed to this; plain NULL: it is no longer known.  An absent
 * block stays absent.
 */
void block_cache_update(struct block_cache *cache, uint64_t chunk,
                        uint32_t block, const void *plain);

/* Forget all blocks of a chunk. */
void block_cache_drop_chunk(struct block_cache *cache, uint64_t chunk,
                            uint32_t blocks_count);

#endif
