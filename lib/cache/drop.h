/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * drop - a device ends: a tombstone is its last epoch, and all else that it
 * has in the bucket is deleted at once.
 *
 * A device of the same name can be made after that, and goes on counting; who
 * still has a cache directory of the old one is told that it was dropped.
 *
 * Threads: one at a time for each device, that of whoever has the lock of its
 * cache directory.  Locks: none.
 */
#ifndef CACHE_DROP_H
#define CACHE_DROP_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/epoch.h"

struct object_store;

struct drop_plan {
    struct object_store *store;
    const char *device_name;
    uint8_t cachedir_id[UUID_SIZE]; /* of who asks */
    const char *host;
    uint64_t time_ns; /* since 1970 */
    /* For a store that obeys no conditional put; as for epoch_create. */
    const struct epoch_pace *pace;
    /* Whether to end before all is deleted; NULL: never. */
    bool (*must_stop)(void *context);
    void *context;
};

/*
 * Drop the device; again, after an error, goes on where that one ended.
 *   -ENOENT    there is no such device in the bucket
 *   -EPERM     another cache directory writes it
 *   -EBUSY     a clone needs an image of it (logged), or somebody created an
 *              epoch at the same time
 *   -ENOTUNIQ  two hosts wrote it, and nobody took over yet
 *   others     of the store (logged); -ECANCELED: must_stop said so
 */
int drop_device(const struct drop_plan *plan);

#endif
