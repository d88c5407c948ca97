/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * publish - a checkpoint of which every chunk is in the bucket becomes the
 * device's newest image.
 *
 *   pages of the manifest        image_update, below a nonce of their own
 *   its root read back           image_open
 *   intent durable here          claim_publish
 *   epoch created, LIST beyond   claim_publish: the commit point
 *   recorded here                device_published, by claim's decided()
 *
 * Whatever of this a crash leaves is either an undecided epoch, which
 * claim_publish repeats with that same body until it is decided, or pages that
 * no epoch names, which are garbage; the next call begins again.
 *
 * Threads: one at a time, that of the owner.  Locks: none.
 */
#ifndef CACHE_PUBLISH_H
#define CACHE_PUBLISH_H

#include <stdbool.h>
#include <stdint.h>

struct claim;
struct device;
struct object_store;

/*
 * Make the open checkpoint an image.  One that changes nothing against the
 * last image is dropped without a request to the store, unless the device has
 * no image yet.  *ret_is_new: there is a new image.
 *   -EAGAIN   a chunk of it is not uploaded yet
 *   -ENOENT   there is no open checkpoint
 *   others    as image_update and claim_publish say; try again later
 */
int publish_checkpoint(struct device *device, struct object_store *store,
                       struct claim *claim, bool *ret_is_new);

#endif
