/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scratch - room for the blocks that a thread has in hand.
 *
 * Too large for a stack.  Not thread-local variables either: those are there,
 * and cleared, in each thread from its start, and most threads of a device
 * never touch a block.  Threads: any; each has its own.  Locks: none.
 */
#ifndef CACHE_SCRATCH_H
#define CACHE_SCRATCH_H

#include "cache/block_codec.h"
#include "cache/geometry.h"

/* Each is for one function, named by it, and of no meaning to others. */
struct scratch {
    unsigned char fold_block[CACHE_BLOCK];
    unsigned char fold_take_old_pages[CACHE_BLOCK];
    unsigned char fold_store_pages[BLOCK_STORED_MAX];
    unsigned char fetch_deliver_block[CACHE_BLOCK];
    unsigned char reader_read_local[CACHE_BLOCK];
    unsigned char reader_place_base[CACHE_BLOCK];
    unsigned char reader_read_part[CACHE_BLOCK];
};

/*
 * Returns that of the calling thread, which has it until it ends; NULL: there
 * is no memory for it.
 */
struct scratch *scratch_get(void);

#endif
