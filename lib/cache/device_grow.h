/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device_grow - makes a device larger while it is served.
 *
 * Threads: one at a time, beside all requests and the owner.
 * Promise: what device_size tells survives a power cut.
 */
#ifndef CACHE_DEVICE_GROW_H
#define CACHE_DEVICE_GROW_H

#include <stdint.h>

struct device;

/*
 * Let the device have so many bytes, those that are new read as zeros; durable
 * on return.  Nothing happens if it has as many.  -EINVAL: it would shrink, or
 * cannot be so large (logged); another error: it has not grown, though a power
 * cut may leave the larger size.  The bucket is told by the next image.
 */
int device_grow(struct device *device, uint64_t size);

#endif
