/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scrub_chunk - look at the copies of one chunk's blocks: those in its file,
 * and those in the objects that the newest image names.
 *
 * For scrub.c, which decides what is done about what is bad.  Nothing is
 * changed here.  Threads: one.  Locks: none.
 */
#ifndef CACHE_SCRUB_CHUNK_H
#define CACHE_SCRUB_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cache/catalog.h"
#include "cache/image.h"
#include "cache/object_check.h"

struct chunk_file;
struct device;

/* How to look; all of it outlives the look. */
struct scrub_how {
    struct device *device;
    struct object_store *store;
    bool is_local;   /* in the bucket only what is bad here */
    unsigned sample; /* percent of the blocks, 1 .. 100 */
    uint64_t seed;   /* which ones */
    /*
     * Called before so many bytes are read: waits as long as others need the
     * line or the disk, and as it should be slow.  -ECANCELED.
     */
    int (*pace)(void *context, size_t size, bool is_in_bucket);
    void *context;
};

/* What is bad about a block. */
enum scrub_flags {
    SCRUB_BASE = 1 << 0,    /* its bytes in the object of the image */
    SCRUB_COPY = 1 << 1,    /* its pages in the chunk's file */
    SCRUB_OWN = 1 << 2,     /* and the bytes in the object of that file's
                               table are bad too, or there is none */
    SCRUB_EARLIER = 1 << 3, /* pages of it were lost earlier */
    SCRUB_WANTED = 1 << 4,  /* for scrub_chunk.c: to be looked at */
    SCRUB_SEEN = 1 << 5,    /* the same: its copy was looked at */
};

/* What was found. */
struct scrub_chunk {
    uint64_t chunk;
    struct catalog_entry entry; /* here and now */
    bool has_content;           /* by that entry: it is not all zeros */
    bool has_file;
    struct chunk_file *file;   /* and the table that rules in it; NULL: there */
    struct chunk_table *local; /* is none, or it cannot be read: */
    int local_error;           /* -EBADMSG: it is damaged */
    bool has_image;            /* the image has objects of it: */
    struct image_entry image;
    enum object_state table_state; /* of the newest object's table */
    struct chunk_table *remote;    /* that table; NULL: it is bad */
    /* Which table tells what is in the objects: remote, or local if that is
     * of the same object; NULL: none. */
    const struct chunk_table *bases;
    enum object_state states[CHUNK_OBJECTS_MAX]; /* of the objects of bases */
    uint8_t *flags;                              /* of each block */
    uint32_t blocks_count;
    bool is_bad; /* anything of it */

    /* How much was read. */
    uint64_t objects, blocks, bytes;
};

/*
 * Look at a chunk; image is NULL if the newest image has no objects of it, or
 * nobody knows.  Errors are those that say nothing of the chunk: of the store,
 * of pace, of memory.  scrub_chunk_done frees, whatever became of it.
 */
int scrub_chunk_look(const struct scrub_how *how, uint64_t chunk,
                     const struct image_entry *image,
                     struct scrub_chunk *ret_chunk);
void scrub_chunk_done(struct scrub_chunk *chunk);

/* Returns the newest object that an image entry, or the catalog, names. */
const struct chunk_object *
scrub_newest_of_image(const struct scrub_chunk *chunk);
const struct chunk_object *scrub_newest_here(const struct scrub_chunk *chunk);

/* Write whose the objects of that origin are.  -ENOENT: unknown. */
int scrub_origin_name(const struct scrub_how *how, uint32_t origin,
                      char name[DEVICE_NAME_MAX + 1]);

#endif
