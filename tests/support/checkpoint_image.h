/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * checkpoint_image - what the images in the bucket say of a device, as its
 * checkpoints are uploaded and published.
 *
 * It stands for the owner and the bucket's manifests: pending chunks are
 * uploaded by upload_chunk, an image is an epoch in the bucket, and its
 * content the catalog entries that it has here.
 *
 * A device without a store has no claim: then what it uploads and publishes is
 * known here alone.  Threads: one.
 */
#ifndef SUPPORT_CHECKPOINT_IMAGE_H
#define SUPPORT_CHECKPOINT_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/catalog.h"
#include "cache/device.h"

struct checkpoint_image {
    struct device *device;      /* may be changed when it was opened anew */
    struct object_store *store; /* the device's, or one apart */
    struct fetch *fetch;        /* NULL: the device's */
    uint64_t chunks;
    struct catalog_entry *entries; /* of the last published image */
    uint64_t counter;              /* of objects, and of images */
};

/*
 * Begin with an image of holes; free what it holds.  store: where objects go
 * if the device has none; it stays the caller's.
 */
void checkpoint_image_begin(struct checkpoint_image *image,
                            struct device *device, struct object_store *store);
void checkpoint_image_end(struct checkpoint_image *image);

/* Returns how many chunks of the open checkpoint are pending. */
uint64_t checkpoint_image_pending(struct checkpoint_image *image);

/*
 * Upload some of the pending chunks: those of which the seed says so, or all.
 * Returns the first error.
 */
int checkpoint_image_upload(struct checkpoint_image *image, uint64_t seed,
                            bool all);

/* Upload the newest states of chunks that the seed chooses, for eviction. */
int checkpoint_image_upload_newest(struct checkpoint_image *image,
                                   uint64_t seed);

/*
 * Publish the open checkpoint: -EBUSY if a chunk of it is pending, -ENOENT if
 * there is none.
 */
int checkpoint_image_publish(struct checkpoint_image *image);

/*
 * Read what the open checkpoint is to be: what is pending, from the pinned
 * state in the chunk's file, and all else from the bucket.  content has the
 * device's size rounded up to chunks.
 */
int checkpoint_image_read_open(struct checkpoint_image *image,
                               unsigned char *content);

/* Read the last published image, from the bucket alone. */
int checkpoint_image_read(struct checkpoint_image *image,
                          unsigned char *content);

#endif
