/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * common_device - one device with all that belongs to it: it is opened, owned
 * towards the bucket, asked over its control socket, and closed in reverse.
 *
 * Threads: a device is opened by one at a time, and closed when none opens it.
 */
#ifndef COMMON_DEVICE_H
#define COMMON_DEVICE_H

#include <stdbool.h>

#include "cache/control_message.h"
#include "common.h"

/*
 * Open a device that is not, and all that belongs to it.  Returns 0 or a
 * negative errno: then nothing of it is open.  Its state is the caller's.
 */
int common_device_open(struct common_device *device);

/*
 * Close an open device, and say so in its state first.  releases: if
 * everything is published, it is marked as released.  Returns its error.
 */
int common_device_close(struct common_device *device, bool releases);

/*
 * Have an open device obey what a configuration says of it now: it grows, and
 * other limits hold.  What cannot be is logged, and stays as it is.
 */
void common_device_change(struct common_device *device,
                          const struct config *config,
                          const struct config_device *section);

/*
 * Begin an answer to "status" with what is known of a device in any state, but
 * for what the store says of itself.
 */
void common_device_describe(const struct common_device *device,
                            struct control_message *ret_status);

#endif
