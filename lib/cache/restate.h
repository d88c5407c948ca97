/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * restate - the same content of a chunk in other words: it was uploaded, it
 * leaves the disk, blocks of it came back, or copies of them are bad.
 *
 * Used by destage.c, in the steps of a fold and in batches like those, but
 * nothing of it needs the journal:
 *
 *   restate_prepare      decides whether it is still wanted, and makes the
 *                        next revision; appends, or moves, what it must
 *   restate_write_table  writes that into a slot that nobody wants, and syncs
 *   (directories synced, if name_changed; then the state log)
 *   restate_install      shows it to readers, and removes what is void
 *
 * A chunk is in one fold or restate at a time.
 */
#ifndef CACHE_RESTATE_H
#define CACHE_RESTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/chunk_work.h"
#include "cache/fold.h"

enum restate_kind {
    /*
     * Its object is in the bucket.  What is unchanged since then has its base
     * in that object, and the open checkpoint has its object if it was waiting
     * for that state.  Whatever cannot be done of the first does not keep the
     * second from being recorded.  -ESTALE: neither wants it.
     */
    RESTATE_UPLOADED,
    /*
     * Its blocks, or the whole file, go.  -EBUSY: it may not, as not all of it
     * is in the bucket, or the checkpoint waits for it; -ENOENT: it has no
     * file.  Without room for the table the file goes, whatever the depth.
     */
    RESTATE_EVICT,
    /*
     * Blocks that were fetched are kept in the file, which may have to be
     * made.  Those that are not the base of their block, or have a page here,
     * are left out.  -ESTALE: none is left; -EBUSY: the checkpoint waits for
     * the chunk.
     */
    RESTATE_KEEP,
    /*
     * Copies of blocks are bad.  Those in the file go, if the block is in an
     * object too; those in an object are not referred to any more, if all of
     * the block is here.  The latter, and a bad table of the newest object,
     * make it a new state, which no image has: so it is uploaded again, under
     * a new object id.  What has no second copy stays as it is.  -ESTALE:
     * nothing is to be done; -EBUSY: the checkpoint waits for the chunk.
     */
    RESTATE_DISTRUST,
};

/* A block as it is in an object. */
struct restate_block {
    uint32_t block;
    struct chunk_block as_read; /* its table entry; only of the base */
    struct object_id id;        /* of the object that as_read names */
    const void *stored;         /* as_read.object_size bytes; the caller's */
};

struct restate {
    uint64_t chunk;
    enum restate_kind kind;
    const struct uploaded *uploaded;    /* RESTATE_UPLOADED; the caller's */
    enum evict_depth depth;             /* RESTATE_EVICT */
    const struct restate_block *blocks; /* RESTATE_KEEP; the caller's */
    size_t blocks_count;
    const struct distrusted *distrusted; /* RESTATE_DISTRUST; the caller's */

    int error;            /* of the step that went wrong; else 0 */
    bool name_changed;    /* created: sync the directory */
    uint32_t pages_freed; /* of the disk, once it is installed */

    /* restate's own */
    struct catalog_entry before;
    struct catalog_entry after;
    struct catalog_entry checkpoint; /* the entry there will be */
    bool changes_chunk;
    bool changes_checkpoint;
    bool writes_table;
    struct chunk_file *file;
    struct chunk_table *table; /* the next revision; NULL: the chunk has no
                                  table of its own any more, or keeps it */
};

/* The steps; restate->error tells the result of the first two. */
void restate_prepare(struct fold_device *device, struct restate *restate);
void restate_write_table(struct fold_device *device, struct restate *restate);

/*
 * Fill in what the state log must say, one commit with all of it.  Returns
 * how many changes that is, 1 or 2.  Not after an error.
 */
size_t restate_describe(const struct restate *restate,
                        struct state_change changes[FOLD_CHANGES_MAX]);

/* After the commit. */
void restate_install(struct fold_device *device, struct restate *restate);

/* Free what it holds, whatever became of it; not what is the caller's. */
void restate_done(struct restate *restate);

#endif
