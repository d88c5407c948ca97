/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scrub_repair - tell what is bad of a chunk and what needs it, and do what
 * can be done.
 *
 * For scrub.c, with the turn to change the device's history.  Threads: one.
 */
#ifndef CACHE_SCRUB_REPAIR_H
#define CACHE_SCRUB_REPAIR_H

#include <stdint.h>
#include <stdio.h>

struct scrub_chunk;
struct scrub_how;

struct scrub_repair {
    const struct scrub_how *how;
    int (*claim)(void *context); /* as of struct scrub_options */
    void *context;
    FILE *text; /* gets the lines */

    /* Sums of all chunks: blocks, tables; and those of them that are good
     * again, or in the next image. */
    uint64_t bad, repaired;
};

/*
 * Repair a chunk that scrub_chunk_look found bad.  What cannot be done is told
 * and no error.  -ENOMEM, -ECANCELED.
 */
int scrub_repair(struct scrub_repair *repair, const struct scrub_chunk *chunk);

#endif
