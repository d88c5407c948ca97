/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scrub - read what a device has, here and in the bucket; tell what is bad,
 * and what needs it; and repair what has a good copy.
 *
 * Chunk by chunk, in steps of about a second, that remember where they ended.
 * Looked at are the objects of the newest image, and the blocks in chunk
 * files.  What looks bad is looked at once more while nothing else changes the
 * device's history; then
 *
 *   bad in its file, good in an object   dropped here
 *   bad in an object, all of it here     uploaded again: the next image has it
 *                                        under a new object id
 *   a damaged file, all in objects       removed
 *   not what the device has any more     left: the next image has it no more
 *   no good copy                         left: reads are EIO until it is
 *                                        written
 *
 * A file is read as the kernel has it, so what was used lately may come from
 * memory and not from the disk.
 *
 * Threads: one at a time.  Locks: none.
 */
#ifndef CACHE_SCRUB_H
#define CACHE_SCRUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct device;
struct epoch_record;
struct object_store;
struct scrub;

struct scrub_options {
    struct device *device;
    struct object_store *store;
    /* Tell the newest record of ours: claim_content. */
    int (*content)(void *context, struct epoch_record *ret_record);
    /* Keep others from publishing and collecting, and no longer. */
    int (*begin)(void *context);
    void (*end)(void *context);
    /* Be the one who writes the device; within begin and end. */
    int (*claim)(void *context);
    /* Return after so long; -ECANCELED at once when the device is closed. */
    int (*wait)(void *context, uint64_t ns);
    void *context;
};

/* options is copied; what it points to must outlive the scrub.  -ENOMEM. */
int scrub_new(const struct scrub_options *options, struct scrub **ret_scrub);
void scrub_free(struct scrub *scrub);

/* What is asked of a step. */
struct scrub_request {
    bool restart;    /* from the beginning, not where the last one ended */
    bool is_local;   /* only what is here */
    unsigned sample; /* percent of the blocks, 1 .. 100 */
    uint64_t rate;   /* bytes a second; 0: no limit */
};

struct scrub_result {
    bool is_done;      /* it came to the end */
    uint64_t position; /* chunks that are behind it, */
    uint64_t chunks;   /* of so many */
    /* Of this step: */
    uint64_t objects, blocks, bytes; /* that were read */
    uint64_t bad;                    /* blocks, tables, pages of the image */
    uint64_t repaired;               /* of these */
    char *text; /* lines, for free(); NULL: nothing is bad */
    size_t text_size;
};

/*
 * Go on for about a second, and at least by a chunk.  After an error what was
 * done is remembered all the same: -ECANCELED, of the store (logged), -ENOMEM.
 */
int scrub_step(struct scrub *scrub, const struct scrub_request *request,
               struct scrub_result *ret_result);

#endif
