/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device_superblock - changes what the superblock says while the device is
 * open.
 *
 * Threads: any.  Locks: its own, a leaf, for the turn to write: so the newest
 * on disk is the newest in memory.  Who only reads size or incarnation takes
 * none.
 * Promise: a change is durable before anybody sees it.
 */
#ifndef CACHE_DEVICE_SUPERBLOCK_H
#define CACHE_DEVICE_SUPERBLOCK_H

#include <stdint.h>

struct device;
struct superblock;

/*
 * Have change(superblock, value) made, which touches size or incarnation, and
 * nothing else.  -EROFS: the device is read-only; another error, which is
 * logged: nothing has changed here, and the next start may see either.
 */
int device_superblock_change(struct device *device,
                             void (*change)(struct superblock *superblock,
                                            uint64_t value),
                             uint64_t value);

#endif
