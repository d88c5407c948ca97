/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sync_image - upload what changed, until it is an image.
 *
 * Threads: one.
 */
#ifndef SYNC_IMAGE_H
#define SYNC_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "sync_run.h"

/* An image that was asked for. */
struct sync_image {
    bool joined; /* it was begun before we asked */
    bool is_made;
    bool may_be_later; /* it failed for want of an answer of the store */
    uint64_t epoch;
};

/*
 * Work on the checkpoint of the device of the open session until it is an
 * image, or time is up.  *ret_image: without one there was nothing to publish,
 * or it is not done.
 */
int sync_make_image(struct sync *sync, const struct config_device *device,
                    struct sync_image *ret_image);

/* Do it for all devices that the command means, for as long as it says. */
int sync_upload_devices(struct sync *sync);

#endif
