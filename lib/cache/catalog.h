/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * catalog - per chunk that is not all holes: its generations, its objects.
 *
 * What the state log made durable, in memory; it is never changed by anybody
 * but the state log, and only after the change is durable.  Threads: any.
 * Locks: its own, a leaf; catalog_generation, catalog_next and catalog_count
 * take none.
 */
#ifndef CACHE_CATALOG_H
#define CACHE_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/chunk_table.h"

/* Generations are at most this: they share a word with the flags. */
#define CATALOG_GENERATION_MAX ((UINT64_C(1) << 56) - 1)

enum catalog_flags {
    CATALOG_FILE = 1 << 0, /* a chunk file has the table of this generation */
    CATALOG_ZERO = 1 << 1, /* no file, no object: zeros, but not a hole */
};

/* A chunk that the catalog does not have is a hole: generation 0. */
struct catalog_entry {
    uint64_t generation;          /* here, newest; 0: a hole */
    uint64_t uploaded_generation; /* of objects; 0: none */
    unsigned flags;               /* of catalog_flags */
    unsigned objects_count;       /* 0, or those that its table needs */
    struct chunk_object objects[CHUNK_OBJECTS_MAX]; /* the newest is last */
};

struct catalog;

/* chunks_count: of the device.  Memory grows with mapped chunks only. */
int catalog_new(uint64_t chunks_count, struct catalog **ret_catalog);
void catalog_free(struct catalog *catalog);

/* The device grew; a smaller count than before changes nothing. */
int catalog_grow(struct catalog *catalog, uint64_t chunks_count);

/* Tell a chunk's entry; all zero for a hole. */
void catalog_get(struct catalog *catalog, uint64_t chunk,
                 struct catalog_entry *ret_entry);

/* Returns only the generation, and flags unless NULL; 0 for a hole. */
uint64_t catalog_generation(struct catalog *catalog, uint64_t chunk,
                            unsigned *ret_flags);

/*
 * Tell the first mapped chunk that is >= from and < end.  Returns whether
 * there is one.  Quick also over a long way without any.
 */
bool catalog_next(struct catalog *catalog, uint64_t from, uint64_t end,
                  uint64_t *ret_chunk);

/* Returns how many chunks are mapped. */
uint64_t catalog_count(struct catalog *catalog);

/*
 * Set a chunk's entry; generation 0 removes it.  For state_log.c.  -EINVAL:
 * past the end, or a number is too large; -ENOMEM.
 */
int catalog_set(struct catalog *catalog, uint64_t chunk,
                const struct catalog_entry *entry);

/*
 * The same in two steps, of which only the first can fail, so that nothing is
 * in the way of applying what has become durable.  *ret_objects, which may be
 * NULL, goes to catalog_apply with the same entry, or to free().
 */
int catalog_prepare(struct catalog *catalog, uint64_t chunk,
                    const struct catalog_entry *entry,
                    struct chunk_object **ret_objects);
void catalog_apply(struct catalog *catalog, uint64_t chunk,
                   const struct catalog_entry *entry,
                   struct chunk_object *objects);

#endif
