/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memory_device - a device of cache/device.h in memory, for tests of lib/nbd.
 *
 * Linked in place of lib/cache/device.c.  A test says which requests it wants
 * to hold back, and finishes them from its own thread when it likes.
 * Threads: any.
 */
#ifndef SUPPORT_MEMORY_DEVICE_H
#define SUPPORT_MEMORY_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "cache/device.h"

enum { MEMORY_DEVICE_OPERATIONS = DEVICE_EXTENTS + 1 };

/*
 * Make a device of zeros; freed by device_close.  Past 16 GiB it has a size,
 * but no data: READ and WRITE get -EIO there.
 */
struct device *memory_device_new(uint64_t size);

/* To be set before it has connections. */
void memory_device_set_read_only(struct device *device, bool read_only);
void memory_device_set_write_through(struct device *device, bool write_through);

/* Be another incarnation from now on; it begins as number 1. */
void memory_device_set_incarnation(struct device *device, unsigned number);

/* Grow, at any time. */
void memory_device_grow(struct device *device, uint64_t size);

/* What the device holds, to look at while nothing is in flight. */
const unsigned char *memory_device_bytes(const struct device *device);

/* From now on, hold back requests of these operations (1 << operation). */
void memory_device_hold(struct device *device, unsigned operations);

/* Wait until count requests are held back. */
void memory_device_wait_held(struct device *device, size_t count);

/* Hold back no more, and finish in this thread, last first, what is held. */
void memory_device_release(struct device *device);

/* From now on, requests of this operation fail so; 0: they succeed again. */
void memory_device_fail(struct device *device, enum device_operation operation,
                        int error);

/* From now on, EXTENTS has this answer, whatever the range; count 0: none. */
void memory_device_set_extents(struct device *device,
                               const struct device_extent *extents,
                               size_t count);

/* What has been submitted since the device was made. */
struct memory_device_seen {
    size_t count[MEMORY_DEVICE_OPERATIONS];
    unsigned flags[MEMORY_DEVICE_OPERATIONS]; /* of the last one */
    uint64_t offset[MEMORY_DEVICE_OPERATIONS];
    uint64_t length[MEMORY_DEVICE_OPERATIONS];
    size_t largest_batch;
    size_t expelled; /* calls of device_expel */
    size_t canceled; /* requests that got -ECANCELED */
    size_t executed[MEMORY_DEVICE_OPERATIONS]; /* that had an effect */
};
struct memory_device_seen memory_device_seen(struct device *device);

#endif
