/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scrub_place - how far a scrub has come, in the file `scrub` of the cache
 * directory.
 *
 * The file is replaced whole.  To lose it does no harm: then a scrub begins
 * anew.  Threads: one.
 */
#ifndef CACHE_SCRUB_PLACE_H
#define CACHE_SCRUB_PLACE_H

#include <stdbool.h>
#include <stdint.h>

struct scrub_place {
    bool is_local;     /* of a scrub of what is here alone */
    uint64_t chunk;    /* the first one that is not done */
    uint64_t seed;     /* which blocks a sample has */
    uint64_t began_ns; /* since 1970 */
};

enum { SCRUB_PLACE_SIZE = 64 };

/* Encode; decode and check (pure): -EBADMSG, and nothing is written. */
void scrub_place_encode(const struct scrub_place *place,
                        uint8_t data[SCRUB_PLACE_SIZE]);
int scrub_place_decode(const uint8_t data[SCRUB_PLACE_SIZE],
                       struct scrub_place *ret_place);

/* Read the file.  -ENOENT: there is none; -EBADMSG: it is of no use. */
int scrub_place_load(int cache_dirfd, struct scrub_place *ret_place);

/* Replace the file, or remove it. */
int scrub_place_save(int cache_dirfd, const struct scrub_place *place);
int scrub_place_remove(int cache_dirfd);

#endif
