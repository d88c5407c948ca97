/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device_image - a device that is a snapshot of another one, and only read.
 *
 * Nothing is claimed, and nothing written to the bucket: so any number of
 * hosts can do it, beside the one that writes that other device.  Its cache
 * directory is of its own, and belongs to that one image for good.
 *
 * For device_claim.c.  Threads: that which opens the device.
 */
#ifndef CACHE_DEVICE_IMAGE_H
#define CACHE_DEVICE_IMAGE_H

#include "cache/device_parts.h"

/*
 * As device_claim_ask_new and device_claim_attach, for a device whose options
 * name an image.  -ENXIO: there is no such snapshot, or the directory is of
 * another image or device; -EAGAIN: the store does not answer, and nothing is
 * here; others.  Logged.
 */
int device_image_ask_new(struct device *device);
int device_image_attach(struct device *device);

#endif
