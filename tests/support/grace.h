/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * grace - the device "disk" in a bucket whose clock stands until a test moves
 * it, and what its owner and others do there: collections, clones.
 *
 * Threads: one.  What must go well, and does not, ends the process.
 */
#ifndef SUPPORT_GRACE_H
#define SUPPORT_GRACE_H

#include "cache/collect.h"
#include "support/bucket.h"
#include "support/fault_store.h"

/* Cache directories. */
enum { GRACE_HERE = 1, GRACE_THERE = 2 };

#define GRACE_HOUR (UINT64_C(3600) * 1000 * 1000 * 1000)
#define GRACE_TIME (24 * GRACE_HOUR)

struct grace {
    struct object_store *memory;
    struct fault_store *fault; /* around memory; that of bucket */
    struct bucket bucket;
    uint64_t now_ns;              /* by the store's clock */
    struct collect_counts counts; /* of the last collection */
};

/* Begin with an epoch, a claim; end. */
void grace_begin(struct grace *grace);
void grace_end(struct grace *grace);

/* Let so much time pass. */
void grace_pass(struct grace *grace, uint64_t ns);

/* collect_run, with GRACE_TIME. */
int grace_collect(struct grace *grace, unsigned keep);

/* Condemn, and delete when the time has come: all of it. */
void grace_collect_all(struct grace *grace, unsigned keep);

/* Returns how many objects of chunks there are. */
size_t grace_objects(struct grace *grace);

/* Returns how much of what an image names is not there. */
size_t grace_missing(struct grace *grace, const struct epoch_record *record);

/* clone_create of a snapshot, or of the newest image (NULL), to that name. */
int grace_clone(struct object_store *store, const char *snapshot,
                const char *name, struct epoch_record *ret_record);

/* Drop a clone: its tombstone stays. */
void grace_drop_clone(struct object_store *store, const char *name,
                      const struct epoch_record *first);

/*
 * Begin, with four images of three chunks in three leaves, the first of which
 * is the snapshot "named": 7 objects, of which 6 are of the first and the last
 * image, 3 of the last.
 */
void grace_begin_history(struct grace *grace);

#endif
