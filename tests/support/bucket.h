/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bucket - a device in a memory_store, as its owner would have left it there:
 * epochs, images and objects; without a cache directory.
 *
 * Threads: one.  After an error the process ends.
 */
#ifndef SUPPORT_BUCKET_H
#define SUPPORT_BUCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/catalog.h"
#include "cache/collect.h"
#include "cache/image.h"
#include "object_store.h"

enum {
    BUCKET_CHUNK_SIZE = 8 << 20,
    BUCKET_CHUNKS = 8192, /* of a device */
};

struct bucket {
    struct object_store *store; /* not owned */
    const char *name;           /* of the device */
    struct epoch_record own;    /* the newest epoch */
    uint64_t claim_epoch;       /* of the ids of new objects */
    uint64_t claim_nonce;
    uint64_t counter;
    uint64_t nonces;
    struct catalog *catalog;
    struct catalog *checkpoint;
};

/* Begin a device: its first epoch is a claim by cache directory `holder`. */
void bucket_init(struct bucket *bucket, struct object_store *store,
                 const char *name, uint8_t holder);
void bucket_done(struct bucket *bucket);

/* Create the next epoch, with the content of the newest. */
void bucket_epoch(struct bucket *bucket, enum epoch_kind kind, uint8_t holder);

/* Put an object of a chunk under the present claim, and name it. */
struct chunk_object bucket_upload(struct bucket *bucket, uint64_t chunk);

/* Returns whether the object is there. */
bool bucket_has(struct bucket *bucket, uint64_t chunk,
                const struct chunk_object *object);

/* Have the catalog's entry of a chunk need these; none: a hole. */
void bucket_need(struct catalog *catalog, uint64_t chunk,
                 const struct chunk_object objects[], unsigned count);

/* What a chunk is in the next image. */
struct image_change bucket_change(uint64_t chunk,
                                  const struct chunk_object objects[],
                                  unsigned count);
struct image_change bucket_trim(uint64_t chunk);

/* Publish the next image: the newest one with these changes. */
void bucket_publish(struct bucket *bucket, const struct image_change changes[],
                    size_t count);

/* Publish: each of these chunks has a new object, which *ret_objects tells. */
void bucket_write(struct bucket *bucket, const uint64_t chunks[], size_t count,
                  struct chunk_object ret_objects[]);

/*
 * Returns how many objects and pages the image of a record names that are not
 * there, whoever's they are.
 */
size_t bucket_missing(struct object_store *store, const char *name,
                      const struct epoch_record *record);

/* Returns how many keys begin with <device>/<rest>. */
size_t bucket_count(struct object_store *store, const char *name,
                    const char *rest);

/* Options for collect_run as this device's owner would give them. */
struct collect_options bucket_options(struct bucket *bucket, unsigned keep,
                                      uint64_t grace_ns);

#endif
