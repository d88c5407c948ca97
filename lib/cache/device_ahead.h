/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device_ahead - fetches what will be read soon, while nobody waits for it.
 *
 * Between readahead.c, which decides, and chunk_reader.c, which fetches: in
 * the device's fetchers, after all that somebody waits for.  What comes is in
 * memory, and kept in the chunk file as every block that was fetched.
 * Threads: any.  Locks: its own, a leaf.
 */
#ifndef CACHE_DEVICE_AHEAD_H
#define CACHE_DEVICE_AHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mutex.h"
#include "cache/readahead.h"

struct device;

struct device_ahead {
    struct mutex mutex;
    struct condition task_ended;
    struct readahead readahead GUARDED_BY(mutex);
    size_t tasks GUARDED_BY(mutex); /* that were submitted, and not ended */
    bool is_stopping GUARDED_BY(mutex);
};

/* Make device->ahead ready: options.readahead bytes; 0: it does nothing. */
void device_ahead_init(struct device *device);

/* The device has grown to what device_size says. */
void device_ahead_grow(struct device *device);

/* End what is going on, when no request is in flight, and free all. */
void device_ahead_done(struct device *device);

/* Return when nothing is being fetched ahead. */
void device_ahead_settle(struct device *device);

/* A read of these bytes has to wait for the bucket; it does so by itself. */
void device_ahead_missed(struct device *device, uint64_t offset,
                         uint64_t length);

/* A read of these bytes was served without the bucket.  Cheap. */
void device_ahead_served(struct device *device, uint64_t offset,
                         uint64_t length);

/*
 * These bytes will be asked for by the request that is being run, which works
 * its way to them from the front.
 */
void device_ahead_rest(struct device *device, uint64_t from, uint64_t to);

#endif
