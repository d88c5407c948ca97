/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/device_superblock.h"

#include <errno.h>

#include "cache/device_parts.h"

int device_superblock_change(struct device *device,
                             void (*change)(struct superblock *superblock,
                                            uint64_t value),
                             uint64_t value)
{
    struct superblock superblock;
    int error;

    if (device->options.read_only)
        return -EROFS;
    mutex_lock(&device->superblock_mutex);
    superblock = device->superblock;
    change(&superblock, value);
    error = cache_dir_write_superblock(device->cache_dir, &superblock);
    if (error == 0) {
        atomic_store(&device->superblock.incarnation, superblock.incarnation);
        atomic_store(&device->superblock.size, superblock.size);
    }
    mutex_unlock(&device->superblock_mutex);
    return error;
}
