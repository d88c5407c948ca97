/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * catalog - per chunk that is not all holes: its generations, its objects.
 *
 * What the state log made durable, in memory; it is never changed by anybody
 * but the state log, and only after the change is durable.  Threads: any.
 * Locks: its own, a leaf; catalog_generation, catalog_next and catalog_count
 * take none, catalog_count_kinds for a few hundred chunks at a time.
 */
#ifndef CACHE_CATALOG_H
#define CACHE_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/chunk_table.h"

/* Generations are at most this: they share a word with the flags. */
#define CATALOG_GENERATION_MAX ((UINT64_C(1) << 56) - 1)

/*
 * ZERO and HOLE exclude each other, and the content is all that they say.
 * With one of them FILE means only that a file is still there, for a state
 * that the open checkpoint wants; without, that it has the ruling table.
 */
enum catalog_flags {
    CATALOG_FILE = 1 << 0, /* the chunk has a file */
    CATALOG_ZERO = 1 << 1, /* zeros, but not a hole */
    CATALOG_HOLE = 1 << 2, /* a hole, of which the last image does not know */
};

/*
 * A chunk that the catalog does not have is a hole, here and in the last
 * image: generation 0.
 *
 * The generation numbers the states of the content.  One state may be put in
 * other words (uploaded, evicted, fetched): the revision numbers these.
 *
 *   clean      uploaded_generation == generation, or ZERO, or HOLE
 *   published  published_generation == generation
 */
struct catalog_entry {
    uint64_t generation;           /* here, newest */
    uint32_t revision;             /* of the ruling table, in generation */
    uint64_t uploaded_generation;  /* of objects; 0: none */
    uint64_t published_generation; /* in the last image; 0: a hole there */
    uint32_t file_pages;           /* how much of the disk the file takes */
    unsigned flags;                /* of catalog_flags */
    unsigned objects_count;        /* 0, or those that its table needs */
    struct chunk_object objects[CHUNK_OBJECTS_MAX]; /* the newest is last */
};

/* Whether nothing of the chunk's content has to be uploaded.  In the catalog of
 * a checkpoint: ready; a chunk that is not is pending. */
static inline bool catalog_entry_is_clean(const struct catalog_entry *entry)
{
    return (entry->flags & (CATALOG_ZERO | CATALOG_HOLE)) != 0 ||
           entry->uploaded_generation == entry->generation;
}

struct catalog;

/* chunks_count: of the device.  Memory grows with mapped chunks only. */
int catalog_new(uint64_t chunks_count, struct catalog **ret_catalog);
void catalog_free(struct catalog *catalog);

/*
 * A file that takes no more pages than this has only the tables of a chunk.
 * To be said before the first entry is set; else it is 0.
 */
void catalog_set_table_pages(struct catalog *catalog, uint32_t pages);

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

/* Returns how many chunks have an entry. */
uint64_t catalog_count(struct catalog *catalog);

/* Returns how many of them are not clean, and how many are not published. */
uint64_t catalog_dirty(struct catalog *catalog);
uint64_t catalog_unpublished(struct catalog *catalog);

/* What the chunks of a range are; those that have no entry are holes. */
enum catalog_kind {
    CATALOG_KIND_ZERO,   /* zeros, without a file of theirs */
    CATALOG_KIND_REMOTE, /* clean, and its content only in the bucket */
    CATALOG_KIND_CLEAN,  /* in the bucket, and here at least in part */
    CATALOG_KIND_DIRTY,  /* not in the bucket as they are here */
    CATALOG_KINDS,
};

/*
 * Count all chunks by what they are; or those >= from and < end, quick also
 * for many chunks: most are counted by the hundred.
 */
void catalog_count_all_kinds(struct catalog *catalog,
                             uint64_t ret_counts[CATALOG_KINDS]);
void catalog_count_kinds(struct catalog *catalog, uint64_t from, uint64_t end,
                         uint64_t ret_counts[CATALOG_KINDS]);

/* Returns how many pages of the disk all files take, by their entries; and
 * those of chunks that are not clean. */
uint64_t catalog_file_pages(struct catalog *catalog);
uint64_t catalog_dirty_pages(struct catalog *catalog);

/*
 * Set a chunk's entry; generation 0 removes it.  For state_log.c.  -EINVAL:
 * past the end, a number is too large, or ZERO and HOLE; -ENOMEM.
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

/*
 * An image has the chunk in the state of this entry, which is the checkpoint's.
 * published_generation becomes its generation, 0 if it is a HOLE; and an entry
 * that is a HOLE, as the image says too, leaves unless it has a file.
 */
void catalog_publish(struct catalog *catalog, uint64_t chunk,
                     const struct catalog_entry *entry);

/* Remove all entries. */
void catalog_clear(struct catalog *catalog);

#endif
