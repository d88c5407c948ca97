/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * destage - journal to chunk files, in the background, so that segments can
 * be used again.
 *
 * Works in passes over the oldest segments: whatever the journal knows of the
 * chunks that have records there is folded (fold.h), many chunks at a time,
 * with one sync of the journal, one commit of the state log and the file
 * syncs side by side.  A pass runs when the journal or its index fills, when
 * nobody has written for a while, and when asked for.
 *
 * A pass that cannot go on (disk full, I/O error) leaves its records in the
 * journal and is tried again; if the state log is lost, the device is.
 */
#ifndef CACHE_DESTAGE_H
#define CACHE_DESTAGE_H

#include <stdint.h>

#include "cache/fold.h"

struct destage;

struct destage_options {
    struct fold_device *fold; /* and all that it points to */
    struct chunk_dir *chunk_dir;
    struct state_log *state_log;
    struct cache_dir *cache_dir; /* its reserve is given up for a full disk */
    uint64_t reserve_size;       /* bytes, and made again when there is room */
    uint64_t idle_ns;            /* without writes, after which to fold all */
    /* There may be room again; and: the state log is lost. */
    void (*made_room)(void *context);
    void (*failed)(void *context, int error);
    void *context;
};

/* Start the thread and its helpers. */
int destage_start(const struct destage_options *options,
                  struct destage **ret_destage);

/* End after the batch in hand; NULL does nothing. */
void destage_stop(struct destage *destage);

/* Have it look now: a write found no room, or the journal fills. Cheap. */
void destage_kick(struct destage *destage);

/*
 * Fold everything that the journal holds now.  Returns when that is done, or
 * with the error of the first pass that failed.
 */
int destage_all(struct destage *destage);

/* Returns how many passes were finished. */
uint64_t destage_passes(struct destage *destage);

#endif
