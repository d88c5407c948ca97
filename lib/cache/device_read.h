/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device_read - what a range of a device holds: the journal first, then what
 * is beneath it.
 *
 * Threads: any.  Locks: none of its own.  The order of the questions makes a
 * read right while others write and destage: what has left the index is in
 * the tables already.
 */
#ifndef CACHE_DEVICE_READ_H
#define CACHE_DEVICE_READ_H

#include "cache/device_parts.h"

/*
 * Read length bytes at offset.  *progress is how many are there already; it
 * advances, so that the call can be repeated with more patience after
 * -EAGAIN.  Pages that reach past the device's end read as they are stored.
 * -EIO: damaged (logged).
 */
int device_read_range(struct device *device, uint64_t offset, size_t length,
                      unsigned char *data, enum patience patience,
                      uint64_t *progress);

/*
 * Describe the range of an EXTENTS request (device.h).  Asks the bucket
 * nothing: what only it knows is told as data.  -EAGAIN with
 * PATIENCE_NONE, -EIO.
 */
int device_read_extents(struct device *device, struct device_request *request,
                        enum patience patience);

#endif
