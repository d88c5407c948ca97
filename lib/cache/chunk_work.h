/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chunk_work - what is asked of the destage thread, which alone changes chunk
 * files and what the state log says of chunks.
 */
#ifndef CACHE_CHUNK_WORK_H
#define CACHE_CHUNK_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/chunk_table.h"

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

/* A copy of a block that is not what the table says that names it. */
struct bad_copy {
    uint32_t block;
    bool is_in_bucket;          /* else in the chunk's file */
    struct chunk_block as_read; /* its entry in that table */
    struct object_id id;        /* is_in_bucket: of the object */
};

/* What of a chunk has turned out to be bad; all of it is the caller's. */
struct distrusted {
    uint64_t chunk;
    const struct bad_copy *copies;
    size_t count;
    /* The table of this object is bad, should it be the newest; or NULL. */
    const struct object_id *table_of;
};

#endif
