/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/device_superblock.h"

#include <errno.h>

#include "cache/device_parts.h"

static void begin_turn(struct device *device)
{
    mutex_lock(&device->superblock_mutex);
    while (device->superblock_is_busy)
        condition_wait(&device->superblock_is_free, &device->superblock_mutex);
    device->superblock_is_busy = true;
    mutex_unlock(&device->superblock_mutex);
}

static void end_turn(struct device *device)
{
    mutex_lock(&device->superblock_mutex);
    device->superblock_is_busy = false;
    condition_signal(&device->superblock_is_free);
    mutex_unlock(&device->superblock_mutex);
}

int device_superblock_change(struct device *device,
                             void (*change)(struct superblock *superblock,
                                            uint64_t value),
                             uint64_t value)
{
    struct superblock superblock;
    int error;

    if (device->options.read_only)
        return -EROFS;
    begin_turn(device);
    superblock = device->superblock;
    change(&superblock, value);
    error = cache_dir_write_superblock(device->cache_dir, &superblock);
    if (error == 0) {
        atomic_store(&device->superblock.incarnation, superblock.incarnation);
        atomic_store(&device->superblock.size, superblock.size);
    }
    end_turn(device);
    return error;
}
