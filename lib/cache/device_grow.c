/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The order: room in memory, which nobody sees; the superblock, so that no
 * start finds a journal or state log that goes past the device's end; then
 * requests may use what is new.
 */
#include "cache/device_grow.h"

#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "cache/device_ahead.h"
#include "cache/device_parts.h"
#include "cache/device_superblock.h"

static bool is_allowed(const struct device *device, uint64_t size)
{
    if (size < device_size(device)) {
        log_error("%s: has %" PRIu64 " bytes and cannot shrink to %" PRIu64,
                  device->options.name, device_size(device), size);
        return false;
    }
    if (size > INT64_MAX || size % DEVICE_SECTOR != 0) {
        log_error("%s: a size of %" PRIu64 " bytes is not allowed",
                  device->options.name, size);
        return false;
    }
    return true;
}

static int make_room(struct device *device, uint64_t size)
{
    uint64_t chunks = device_parts_chunks(device, size);
    int error = catalog_grow(device->catalog, chunks);

    if (error == 0)
        error = catalog_grow(device->checkpoint_catalog, chunks);
    return error != 0 ? error : use_grow(device->use, chunks);
}

static void set_size(struct superblock *superblock, uint64_t size)
{
    superblock->size = size;
}

int device_grow(struct device *device, uint64_t size)
{
    uint64_t old_size = device_size(device);
    int error;

    if (!is_allowed(device, size))
        return -EINVAL;
    if (size == old_size)
        return 0;
    error = make_room(device, size);
    /* What is only read has no file of its own to say it. */
    if (error == 0 && !device->options.read_only)
        error = device_superblock_change(device, set_size, size);
    if (error != 0) {
        log_error("%s: cannot grow from %" PRIu64 " to %" PRIu64 " bytes: %s",
                  device->options.name, old_size, size, log_errno(error));
        return error;
    }
    atomic_store(&device->size, size);
    device_ahead_grow(device);
    log_info("%s: has grown from %" PRIu64 " to %" PRIu64 " bytes",
             device->options.name, old_size, size);
    return 0;
}
