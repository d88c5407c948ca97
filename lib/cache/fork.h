/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fork - what a cache directory has becomes a device of its own in the bucket.
 *
 * For a host that lost the device to another one and still has what no image
 * holds.  All of it is copied, also what is only in the bucket: the new device
 * shares no object with the old one, of which the other host deletes what it
 * likes.
 *
 * Threads: one at a time for each device.  Locks: none.
 */
#ifndef CACHE_FORK_H
#define CACHE_FORK_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/epoch.h"

struct device;
struct object_store;

struct fork_plan {
    struct device *device; /* nobody writes to it */
    struct object_store *store;
    const char *name; /* of the new device */
    const char *host;
    uint64_t time_ns;              /* since 1970: of the content */
    bool key_has_nonce;            /* as in epoch_record */
    const struct epoch_pace *pace; /* as for epoch_create */
    /* Whether to end before all is done; NULL: never. */
    bool (*must_stop)(void *context);
    void *context;
};

/*
 * Fold what the journal has, upload all that is mapped, and create the new
 * device's first epoch, which is nobody's claim.  What cannot be read is
 * marked as damaged there, and logged.  *ret_record is that epoch.
 *   -EEXIST     there is a device of the new name, or came to be meanwhile
 *   -EINVAL     it is not a name for a device, or the old one's
 *   -ECANCELED  must_stop said so
 *   others      of the store, and of device_destage
 * After an error objects may be left below the new name, which nothing names.
 */
int fork_create(const struct fork_plan *plan, struct epoch_record *ret_record);

#endif
