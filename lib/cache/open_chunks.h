/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * open_chunks - a bounded number of chunks whose file is open and whose table
 * is in memory; the least recently used ones leave.
 *
 * An open chunk never changes: a new state, or a rewritten file, takes its
 * place, and who holds the old one goes on reading from it.
 * Threads: any.  Locks: its own, a leaf.
 */
#ifndef CACHE_OPEN_CHUNKS_H
#define CACHE_OPEN_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/chunk_file.h"
#include "cache/chunk_table.h"

struct open_chunk {
    uint64_t chunk;
    struct chunk_file *file; /* NULL: all of it is remote */
    struct chunk_table *table;

    /* open_chunks' own */
    unsigned references;
    struct open_chunk *hash_next;
    struct open_chunk *newer;
    struct open_chunk *older;
};

struct open_chunks;

/* max: how many stay open though nobody holds them. */
int open_chunks_new(size_t max, struct open_chunks **ret_chunks);
/* Nothing may be held any more.  NULL does nothing. */
void open_chunks_free(struct open_chunks *chunks);

/*
 * Returns the chunk, held, if it is open in that generation; else NULL.  It
 * may be an older revision: that has the same content.
 */
struct open_chunk *open_chunks_get(struct open_chunks *chunks, uint64_t chunk,
                                   uint64_t generation);

/*
 * Make file and table, whose references are taken over, the open chunk in
 * place of an older one.  Returns it, held; NULL without memory (then the
 * references were dropped).  One of an older generation, or revision, than
 * what is open is returned, but not kept.
 */
struct open_chunk *open_chunks_put(struct open_chunks *chunks, uint64_t chunk,
                                   struct chunk_file *file,
                                   struct chunk_table *table);

/* The chunk has no table any more. */
void open_chunks_drop(struct open_chunks *chunks, uint64_t chunk);

/*
 * The process has no descriptors left: close half of what is open, the least
 * recently used first.  Returns whether that gave any back.
 */
bool open_chunks_make_room(struct open_chunks *chunks);

/* Give back what get or put returned; NULL does nothing. */
void open_chunk_release(struct open_chunks *chunks, struct open_chunk *chunk);

#endif
