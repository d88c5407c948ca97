/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fold - what the journal knows of one chunk becomes the chunk's next state.
 *
 * Used by destage.c, which decides what is synced when:
 *
 *   fold_prepare     collects the pages, reads what of the old state they do
 *                    not cover, and appends the new blocks to the chunk file
 *   (journal synced) now no record that was folded can be taken by a power
 *                    cut, although older ones that it superseded are retired
 *   fold_write_table writes the new table into a slot that is free, and syncs
 *   (directories synced, then the state log)
 *   fold_install     shows the new state to readers, then empties the index
 *
 * Nothing here needs the bucket: of a block that is only there, the pages
 * that were written are kept as a part of it.  Nor does a checkpoint that
 * waits for a chunk: its state stays in the file beside the next ones.
 */
#ifndef CACHE_FOLD_H
#define CACHE_FOLD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cache/chunk_reader.h"
#include "cache/journal.h"
#include "cache/page_index.h"
#include "cache/state_log.h"

/* Of the device, for all folds; everything outlives them. */
struct fold_device {
    const char *device_name;
    struct chunk_reader *reader;
    struct catalog *checkpoint; /* of the open one; empty if there is none */
    struct page_index *index;
    struct journal *journal;
    _Atomic uint64_t generation; /* the last one given out */
    _Atomic uint64_t written;    /* bytes, to chunk files */
};

enum fold_outcome {
    FOLD_NOTHING, /* the index knew nothing of it */
    FOLD_FILE,    /* the chunk has a file with a table */
    FOLD_HOLE,    /* all holes: no table */
    FOLD_ZERO,    /* all zeros, but no hole: no table */
};

struct fold {
    uint64_t chunk;
    bool failed_before; /* so leave the old file behind, and what cannot be
                           read of it counts as lost */
    bool zeros_only;    /* there is no room for more: else leave it alone */
    int error;          /* of the step that went wrong; else 0 */

    enum fold_outcome outcome;
    struct page_set *set;
    struct catalog_entry before;
    struct catalog_entry checkpoint; /* the entry there */
    bool is_pinned; /* the file has a state that the checkpoint wants */
    unsigned taken; /* slots of the file that must stay, a mask */
    unsigned slots; /* how many are written, with the next one */
    struct chunk_file *file;
    struct chunk_table *table;
    bool name_changed; /* created, rewritten: sync the directory */
};

/* The steps; fold->error tells the result of the first two. */
void fold_prepare(struct fold_device *device, struct fold *fold);
void fold_write_table(struct fold_device *device, struct fold *fold);

/* The most changes that one chunk needs in a commit. */
enum { FOLD_CHANGES_MAX = 2 };

/*
 * Fill in what the state log must say.  Returns how many changes that is, 0
 * if what it says already is right.  Not after an error.
 */
size_t fold_describe(const struct fold *fold,
                     struct state_change changes[FOLD_CHANGES_MAX]);

/* After the commit. */
void fold_install(struct fold_device *device, struct fold *fold);

/* Free what the fold holds, whatever became of it. */
void fold_done(struct fold *fold);

#endif
