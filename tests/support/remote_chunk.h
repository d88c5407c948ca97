/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * remote_chunk - chunks of an open device that are in the bucket, as an
 * upload would have left them.
 *
 * Threads: one.  After an error the process ends.
 */
#ifndef SUPPORT_REMOTE_CHUNK_H
#define SUPPORT_REMOTE_CHUNK_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/chunk_table.h"
#include "cache/device.h"

/*
 * Put an object with the blocks of plain, chunk_size bytes, that are not all
 * zeros, and tell its reference.  Objects differ by their counter.
 */
void remote_put(struct device *device, uint64_t chunk, uint64_t counter,
                const unsigned char *plain, struct chunk_object *ret_object);

/* Remove the object. */
void remote_delete(struct device *device, uint64_t chunk,
                   const struct chunk_object *object);

/* Have the chunk be in that object, and nowhere else. */
void remote_commit(struct device *device, uint64_t chunk,
                   const struct chunk_object *object);

/*
 * Have the first chunks of the device be in an object each, as the cache
 * directory tells: the objects are not made.
 */
void remote_commit_many(struct device *device, uint64_t chunks);

/*
 * Have the chunk be in that object, which has plain, and also in a chunk file,
 * unchanged.
 */
void remote_commit_resident(struct device *device, uint64_t chunk,
                            const struct chunk_object *object,
                            const unsigned char *plain);

#endif
