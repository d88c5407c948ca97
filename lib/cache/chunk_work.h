/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chunk_work - what is asked of the destage thread, which alone changes chunk
 * files and what the state log says of chunks.
 */
#ifndef CACHE_CHUNK_WORK_H
#define CACHE_CHUNK_WORK_H

#include <stdbool.h>
#include <stdint.h>

struct chunk_table;

/* An object that is in the bucket now, whole. */
struct uploaded {
    uint64_t chunk;
    uint64_t generation;       /* of the table that was read and uploaded */
    uint32_t revision;         /* of the same */
    struct chunk_table *table; /* the object's, complete; the caller's */
    bool for_checkpoint;       /* read from the checkpoint's pinned table; else
                                  from the newest, for eviction */
    /*
     * The answer.  0: recorded, durably; -ESTALE: nobody wants it any more,
     * the object is garbage; any other: not recorded, may be said again.
     */
    int error;
};

enum evict_depth {
    EVICT_BLOCKS, /* the table stays, so that a read knows where to ask */
    EVICT_FILE,   /* all of it goes */
};

#endif
