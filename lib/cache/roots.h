/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * roots - the images and catalogs of which everything must stay, and what they
 * name.
 *
 * Used by collect.c.  Memory: the roots of all images, one leaf at a time.
 * Threads: one.  Locks: none.  Errors of reading an image are logged.
 */
#ifndef CACHE_ROOTS_H
#define CACHE_ROOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/condemned.h"
#include "cache/manifest.h"

struct catalog;
struct image;
struct object_store;
struct roots;

/* device_name and store must outlive the roots. */
int roots_new(struct object_store *store, const char *device_name,
              struct roots **ret_roots);
void roots_free(struct roots *roots);

/* Add an image of the device; one that was added before counts once. */
int roots_add(struct roots *roots, const struct root_ref *root);

/*
 * Add the catalogs of the device and of the open checkpoint.  Objects may
 * move, while they are asked, from the first one to the second.
 */
void roots_add_catalogs(struct roots *roots, struct catalog *device,
                        struct catalog *checkpoint);

/* Returns the image of that root; NULL: it was not added. */
struct image *roots_find(const struct roots *roots,
                         const struct root_ref *root);

/* Returns the images: how many, and each. */
size_t roots_count(const struct roots *roots);
struct image *roots_image(const struct roots *roots, size_t index);

/* Returns whether a page is one of this device that an image has. */
bool roots_name_page(const struct roots *roots, uint64_t epoch, uint64_t nonce,
                     uint64_t page);

/* Returns whether an image has this very leaf. */
bool roots_name_leaf(const struct roots *roots,
                     const struct manifest_leaf_ref *ref);

/*
 * Tell which of these objects, sorted by condemned_compare and all of chunks
 * of one leaf, an image or a catalog names: is_named[i] becomes true, and is
 * left alone otherwise.
 */
int roots_mark(struct roots *roots, const struct condemned objects[],
               bool is_named[], size_t count);

#endif
