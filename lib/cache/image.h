/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * image - a point-in-time state of a device in the bucket: read it, and write
 * the next one, of which only what changed is written.
 *
 *   <device>/manifest/<epoch, 16 hex>-<nonce, 16 hex>/<page, 8 hex>
 *
 * Memory: the root, and the leaf that was read last.  Everything that is read
 * is verified; what is missing or damaged is -EIO (logged, with the key),
 * never a hole; of a later version: -EPROTONOSUPPORT; other errors of the
 * store are logged and passed on.
 *
 * Threads: one at a time for each image.  Locks: none.
 */
#ifndef CACHE_IMAGE_H
#define CACHE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/manifest.h"

struct image;
struct object_store;

/*
 * Read the root of an image; one request.  store must outlive the image; what
 * else is given is copied.
 */
int image_open(struct object_store *store, const char *device_name,
               const struct root_ref *root, struct image **ret_image);
void image_close(struct image *image);

/* Returns what its root says; valid until it is closed. */
const struct manifest_root *image_root(const struct image *image);

/* Returns how to find the image again. */
const struct root_ref *image_root_ref(const struct image *image);

/*
 * Tell the first chunk >= from that has an entry, and the entry.  Returns 1,
 * or 0 if there is none, or an error.  In ascending order each leaf is read
 * once.  ret_entry may be NULL.
 */
int image_next(struct image *image, uint64_t from, uint64_t *ret_chunk,
               struct image_entry *ret_entry);

/* Tell the entry of a chunk.  Returns 1, or 0 if it is a hole, or an error. */
int image_get(struct image *image, uint64_t chunk,
              struct image_entry *ret_entry);

/*
 * Leaves, for who needs whole ones.  image_next_leaf tells the number of the
 * first leaf >= from that has entries; returns whether there is one.
 * image_leaf_ref returns where the leaf of a number is; NULL: it has no entry.
 * image_read_leaf reads it: good until the next call; 1, 0, or an error.
 * image_forget_leaf frees the memory of the one that was read last.
 */
bool image_next_leaf(const struct image *image, uint64_t from,
                     uint64_t *ret_number);
const struct manifest_leaf_ref *image_leaf_ref(const struct image *image,
                                               uint64_t number);
int image_read_leaf(struct image *image, uint64_t number,
                    const struct manifest_leaf **ret_leaf);
void image_forget_leaf(struct image *image);

/* ---- the next image ----------------------------------------------------- */

/* What a chunk is to be from now on. */
struct image_change {
    uint64_t chunk;
    bool is_hole; /* it is to have no entry */
    struct image_entry entry;
};

/*
 * Tell the next change; chunks must ascend.  Returns 1, or 0 after the last
 * one, or an error, with which image_update then ends.  It must not use base.
 */
typedef int image_changes(void *context, struct image_change *ret_change);

struct image_update {
    struct object_store *store;
    const char *device_name;
    struct image *base;  /* the image before, of this device; NULL: none */
    uint64_t size;       /* of the device, not below that of base */
    uint32_t chunk_size; /* that of base */
    /* Of the pages' keys: a random nonce for each call, so that no page is
     * ever written twice.  The epoch is what the image is hoped to become. */
    uint64_t epoch;
    uint64_t nonce;
    image_changes *next;
    void *context;
};

/*
 * Write the pages of base with these changes: the leaves that are not the
 * same as before, then the root, all durable on return.  Nothing that exists
 * is changed, so an error leaves nothing but garbage.  If nothing differs from
 * base, nothing is written and *ret_root is that of base.
 *   -EINVAL  a size is wrong, or a change does not ascend or lies past the end
 *   -EFBIG   too many leaves for a root
 */
int image_update(const struct image_update *update, struct root_ref *ret_root);

/*
 * Write the root of an image of device_name, of which nothing is there yet,
 * that has the content of source, an image of another device: one page.  It
 * names source's pages and objects, which must be pinned.  -EMLINK: too deep a
 * line of clones; -EEXIST: two devices' origin numbers are the same: the clone
 * needs another name.
 */
int image_clone(struct image *source, const char *device_name, uint64_t epoch,
                uint64_t nonce, struct root_ref *ret_root);

/* Room for the key of a page, and its terminator. */
enum { IMAGE_KEY_MAX = DEVICE_NAME_MAX + 10 + 16 + 1 + 16 + 1 + 8 + 1 };

/* Write the key of a page of a manifest. */
void image_page_key(const char *device_name, uint64_t epoch, uint64_t nonce,
                    uint32_t page, char key[IMAGE_KEY_MAX]);

#endif
