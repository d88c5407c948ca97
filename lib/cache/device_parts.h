/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device_parts - what a device consists of: opened in order, closed in
 * reverse.
 *
 * For device.c, device_read.c and device_write.c only; others see device.h.
 */
#ifndef CACHE_DEVICE_PARTS_H
#define CACHE_DEVICE_PARTS_H

#include <stdatomic.h>

#include "cache/block_cache.h"
#include "cache/cache_dir.h"
#include "cache/catalog.h"
#include "cache/chunk_reader.h"
#include "cache/claim_decide.h"
#include "cache/destage.h"
#include "cache/device.h"
#include "cache/device_ahead.h"
#include "cache/device_rest.h"
#include "cache/fold.h"
#include "cache/journal.h"
#include "cache/page_index.h"
#include "cache/parking.h"
#include "cache/put_probe.h"
#include "cache/state_log.h"
#include "cache/unpublished.h"
#include "cache/use.h"

struct device {
    struct device_options options;
    _Atomic uint64_t size; /* bytes; options.size until it grows */
    struct superblock superblock;
    struct mutex superblock_mutex; /* see device_superblock.h */
    struct condition superblock_is_free;
    bool superblock_is_busy GUARDED_BY(superblock_mutex);
    atomic_bool has_failed;              /* writes and flushes get -EIO */
    atomic_int gate;                     /* of device_gate */
    struct mutex gate_mutex;             /* who changes the gate */
    bool is_shut GUARDED_BY(gate_mutex); /* by its owner */
    atomic_bool is_between;        /* it has no content of its own: -EIO */
    _Atomic uint64_t user_written; /* bytes */
    _Atomic uint64_t cold_reads;   /* that wait for the bucket, now */
    uint64_t use_saved_ns;         /* the destage thread's */
    struct unpublished unpublished;

    struct cache_dir *cache_dir;
    int journal_dirfd; /* -1: it is the cache directory */
    struct catalog *catalog;
    struct catalog *checkpoint_catalog; /* what the open one is to say */
    struct state_log *state_log;
    struct chunk_dir *chunk_dir;
    struct open_chunks *open_chunks;
    struct block_cache *block_cache;
    struct use *use;     /* NULL: read-only */
    struct fetch *fetch; /* NULL: no store */
    struct chunk_reader reader;
    struct device_ahead ahead;
    struct page_index *index;
    struct journal *journal;
    struct fold_device fold;
    uint64_t folded_position; /* of the journal: chunk files have what is
                                 before it */
    uint64_t replayed_cut;    /* FOLDING: position of the cut, until it is made
                                 again; else MAX */
    struct destage *destage;  /* NULL: read-only */
    struct put_probe own_probe;
    struct claim *claim;        /* NULL: read-only, or no store */
    bool lacks_origins;         /* of a clone; written in a turn of the claim */
    enum claim_action attached; /* what was decided at the start, */
    struct epoch_record attached_record; /* and by which record */
    struct parking *parking;             /* NULL: read-only */
    struct device_rest rest;
};

/* The callbacks of the parts; context is the device. */
struct device_callbacks {
    int (*admit)(void *context, struct journal_item *item);
    void (*placed)(void *context, struct journal_item *item);
    void (*made_room)(void *context);
    void (*failed)(void *context, int error);
    void (*cut)(void *context, bool is_cut);
    void (*published)(void *context);
    void (*looked)(void *context);
    void (*stirred)(void *context);
    void (*unpark)(void *context, struct device_request *requests);
    void (*expelled)(void *context, struct device_request *request);
};

/*
 * Open everything into *device, which is zero but for its options.  After an
 * error, device_parts_close has to be called all the same.
 */
int device_parts_open(struct device *device,
                      const struct device_callbacks *callbacks);

/* Returns how many chunks a device of that size has. */
uint64_t device_parts_chunks(const struct device *device, uint64_t size);

/*
 * Close what is open.  was_opened: the device had been opened wholly, so a
 * sync that succeeds makes it clean.  Returns the error of that sync.
 */
int device_parts_close(struct device *device, bool was_opened);

#endif
