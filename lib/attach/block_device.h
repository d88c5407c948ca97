/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * block_device - what /sys and /proc tell of an nbd device, and whether
 * somebody uses it.
 *
 * root is put in front of each path: "" but for tests.  Threads: any.
 */
#ifndef ATTACH_BLOCK_DEVICE_H
#define ATTACH_BLOCK_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/net_address.h"

enum { BLOCK_DEVICE_BACKEND_SIZE = 512 };

struct block_device {
    uint64_t size;
    bool is_read_only;
    /* What is asked of the server. */
    bool flushes, fua, trims;
    uint32_t attached_by; /* as block_device_attached_by tells */
    /* What the kernel was told when it was attached; "": nothing. */
    char backend[BLOCK_DEVICE_BACKEND_SIZE];
};

/*
 * Returns who attached nbd<index>: the number of a process, which may have
 * ended since; 0: it is not attached, though somebody may have it open.
 */
uint32_t block_device_attached_by(const char *root, uint32_t index);

/* Read what is known of nbd<index>; -ENOENT: there is no such device. */
int block_device_read(const char *root, uint32_t index,
                      struct block_device *ret_device);

/*
 * Check that nobody has the device, or a partition of it, mounted, as swap,
 * or in another device.  -EBUSY, and who does; -ENOENT: there is no such
 * device.
 */
int block_device_check_unused(const char *root, uint32_t index,
                              struct net_failure *ret_failure);

/*
 * Have the driver look each so many milliseconds after requests that were not
 * answered: one whose connection was replaced is sent again then.
 */
int block_device_set_timer(const char *root, uint32_t index, unsigned ms);

#endif
