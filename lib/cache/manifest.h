/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * manifest - the pages that list, for an image, every chunk and its objects.
 *
 * A tree of two levels: leaves of 2048 consecutive chunks, and a root that
 * names the leaves.  A chunk without entry is a hole, a leaf without entry is
 * all holes.  A page is written once, under the epoch and nonce of the image
 * that it was made for, and later images name it again.
 *
 * Origins: an object, or a leaf, may be that of another device, of which this
 * one is a clone.  The number of an origin follows from the device's name and
 * is the same in every device; 0 is the device itself.  So whoever reads what
 * another device wrote - a leaf, the table of an object - has only to put that
 * device's number where it finds 0.
 *
 * Pure.  What does not decode to what it must be is -EBADMSG, and of a later
 * version -EPROTONOSUPPORT; one page has one form.
 */
#ifndef CACHE_MANIFEST_H
#define CACHE_MANIFEST_H

#include <stddef.h>
#include <stdint.h>

#include "cache/chunk_table.h"
#include "cache/device.h"

enum {
    MANIFEST_LEAF_CHUNKS = 2048,
    MANIFEST_LEAF_MAX = 2 << 20,  /* bytes of an encoded leaf */
    MANIFEST_ROOT_MAX = 64 << 20, /* and of a root: over 2 million leaves */
    MANIFEST_ORIGINS_MAX = 255,
};

/* The root of an image: where it is, and what it must be; size 0: none. */
struct root_ref {
    uint64_t epoch; /* epoch and nonce: those of its pages' keys */
    uint64_t nonce;
    uint32_t page;
    uint32_t size;
    uint32_t checksum; /* CRC-32C of all its bytes */
};

/* A chunk in an image; without objects: zeros that are no hole. */
struct image_entry {
    unsigned objects_count;                         /* 0 .. 16 */
    struct chunk_object objects[CHUNK_OBJECTS_MAX]; /* the newest is last */
};

/* ---- leaf --------------------------------------------------------------- */

struct manifest_leaf {
    uint64_t number; /* of chunks number * 2048 ... */
    unsigned count;  /* of chunks that have an entry */
    /* Of chunk i of the leaf: first[i] .. first[i + 1] - 1 in objects. */
    uint32_t first[MANIFEST_LEAF_CHUNKS + 1];
    uint8_t is_mapped[MANIFEST_LEAF_CHUNKS];
    struct chunk_object *objects; /* first[2048] of them */
};

/* Free what a decoded leaf, or one that was put together, points to. */
void manifest_leaf_done(struct manifest_leaf *leaf);

/*
 * Encode a leaf that has entries; *ret_data is for free().  Entries that
 * decode would refuse are a bug of ours.  -ENOMEM.
 */
int manifest_leaf_encode(const struct manifest_leaf *leaf, void **ret_data,
                         size_t *ret_size);

/* Decode and check; memory grows only with size.  Also -ENOMEM. */
int manifest_leaf_decode(const void *data, size_t size,
                         struct manifest_leaf *ret_leaf);

/* ---- root --------------------------------------------------------------- */

/* Where a leaf is, and what it must be. */
struct manifest_leaf_ref {
    uint64_t number;
    uint64_t epoch; /* epoch and nonce: those of its page's key */
    uint64_t nonce;
    uint32_t origin; /* whose page it is */
    uint32_t page;
    uint32_t size;
    uint32_t checksum; /* CRC-32C of all its bytes */
    uint16_t chunks;   /* that have an entry in it */
};

struct manifest_root {
    uint64_t epoch; /* of itself, as in its key */
    uint64_t nonce;
    uint64_t size; /* of the device, bytes */
    uint32_t chunk_size;
    uint64_t chunks;       /* the sum of those of the leaves */
    uint32_t leaves_count; /* in ascending order of their numbers */
    struct manifest_leaf_ref *leaves;
    uint32_t origins_count; /* in ascending order of their numbers */
    char (*origins)[DEVICE_NAME_MAX + 1];
};

/* Free what a root points to. */
void manifest_root_done(struct manifest_root *root);

/* As manifest_leaf_encode; -EFBIG: more leaves than a root has room for. */
int manifest_root_encode(const struct manifest_root *root, void **ret_data,
                         size_t *ret_size);

/* As manifest_leaf_decode. */
int manifest_root_decode(const void *data, size_t size,
                         struct manifest_root *ret_root);

/* Returns the number, not 0, of the device of that name as an origin. */
uint32_t manifest_origin(const char *device_name);

#endif
