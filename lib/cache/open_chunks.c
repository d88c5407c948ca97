/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/open_chunks.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/mutex.h"

/*
 * A chunk in the table has one reference for that, and is in the list; one
 * that was replaced lives on for its holders only.
 */
struct open_chunks {
    struct mutex lock;
    size_t max;
    size_t count;
    size_t buckets_mask;
    struct open_chunk *newest;
    struct open_chunk *oldest;
    struct open_chunk *buckets[];
};

int open_chunks_new(size_t max, struct open_chunks **ret_chunks)
{
    struct open_chunks *chunks;
    size_t buckets = 16;

    while (buckets < max)
        buckets *= 2;
    chunks = calloc(1, sizeof(*chunks) + buckets * sizeof(chunks->buckets[0]));
    if (chunks == NULL)
        return -ENOMEM;
    mutex_init(&chunks->lock);
    chunks->max = max;
    chunks->buckets_mask = buckets - 1;
    *ret_chunks = chunks;
    return 0;
}

static struct open_chunk **bucket_of(struct open_chunks *chunks, uint64_t chunk)
{
    uint64_t hash = chunk * UINT64_C(0x9e3779b97f4a7c15);

    return &chunks->buckets[(hash >> 32) & chunks->buckets_mask];
}

static void list_remove(struct open_chunks *chunks, struct open_chunk *chunk)
{
    if (chunk->newer != NULL)
        chunk->newer->older = chunk->older;
    else
        chunks->newest = chunk->older;
    if (chunk->older != NULL)
        chunk->older->newer = chunk->newer;
    else
        chunks->oldest = chunk->newer;
    chunk->newer = NULL;
    chunk->older = NULL;
}

static void list_insert_newest(struct open_chunks *chunks,
                               struct open_chunk *chunk)
{
    chunk->older = chunks->newest;
    if (chunks->newest != NULL)
        chunks->newest->newer = chunk;
    else
        chunks->oldest = chunk;
    chunks->newest = chunk;
}

/*
 * Drop a reference.  Returns the chunk if that was the last one: to be freed
 * outside of the lock, as closing a file may take long.
 */
static struct open_chunk *release_locked(struct open_chunk *chunk)
{
    assert(chunk->references > 0);
    return --chunk->references == 0 ? chunk : NULL;
}

static void free_chunk(struct open_chunk *chunk)
{
    if (chunk == NULL)
        return;
    chunk_file_release(chunk->file);
    chunk_table_release(chunk->table);
    free(chunk);
}

/* Take the chunk out of the table; the caller drops the table's reference. */
static void forget_locked(struct open_chunks *chunks, struct open_chunk *chunk)
{
    struct open_chunk **link = bucket_of(chunks, chunk->chunk);

    while (*link != chunk)
        link = &(*link)->hash_next;
    *link = chunk->hash_next;
    list_remove(chunks, chunk);
    chunks->count--;
}

static struct open_chunk *find_locked(struct open_chunks *chunks,
                                      uint64_t number)
{
    struct open_chunk *chunk = *bucket_of(chunks, number);

    while (chunk != NULL && chunk->chunk != number)
        chunk = chunk->hash_next;
    return chunk;
}

void open_chunks_free(struct open_chunks *chunks)
{
    if (chunks == NULL)
        return;
    while (chunks->oldest != NULL) {
        struct open_chunk *chunk = chunks->oldest;

        assert(chunk->references == 1);
        forget_locked(chunks, chunk);
        free_chunk(chunk);
    }
    mutex_done(&chunks->lock);
    free(chunks);
}

struct open_chunk *open_chunks_get(struct open_chunks *chunks, uint64_t number,
                                   uint64_t generation)
{
    struct open_chunk *chunk;

    mutex_lock(&chunks->lock);
    chunk = find_locked(chunks, number);
    if (chunk != NULL && chunk->table->generation != generation)
        chunk = NULL;
    if (chunk != NULL) {
        chunk->references++;
        if (chunks->newest != chunk) {
            list_remove(chunks, chunk);
            list_insert_newest(chunks, chunk);
        }
    }
    mutex_unlock(&chunks->lock);
    return chunk;
}

/* Whether one table is of an older state, or says it in older words. */
static bool is_older(const struct chunk_table *table,
                     const struct chunk_table *than)
{
    return table->generation < than->generation ||
           (table->generation == than->generation &&
            table->revision < than->revision);
}

/* Returns what fell out and has to be freed: at most one. */
static struct open_chunk *insert_locked(struct open_chunks *chunks,
                                        struct open_chunk *chunk)
{
    struct open_chunk **bucket = bucket_of(chunks, chunk->chunk);
    struct open_chunk *oldest;

    chunk->references++;
    chunk->hash_next = *bucket;
    *bucket = chunk;
    list_insert_newest(chunks, chunk);
    if (++chunks->count <= chunks->max)
        return NULL;
    oldest = chunks->oldest;
    forget_locked(chunks, oldest);
    return release_locked(oldest);
}

struct open_chunk *open_chunks_put(struct open_chunks *chunks, uint64_t number,
                                   struct chunk_file *file,
                                   struct chunk_table *table)
{
    struct open_chunk *chunk = calloc(1, sizeof(*chunk));
    struct open_chunk *replaced = NULL;
    struct open_chunk *fallen = NULL;
    struct open_chunk *present;

    if (chunk == NULL) {
        chunk_file_release(file);
        chunk_table_release(table);
        return NULL;
    }
    chunk->chunk = number;
    chunk->file = file;
    chunk->table = table;
    chunk->references = 1;

    mutex_lock(&chunks->lock);
    present = find_locked(chunks, number);
    if (present == NULL || !is_older(table, present->table)) {
        if (present != NULL) {
            forget_locked(chunks, present);
            replaced = release_locked(present);
        }
        fallen = insert_locked(chunks, chunk);
    }
    mutex_unlock(&chunks->lock);

    assert(fallen != chunk); /* its caller has a reference */
    free_chunk(replaced);
    free_chunk(fallen);
    return chunk;
}

void open_chunks_drop(struct open_chunks *chunks, uint64_t number)
{
    struct open_chunk *dropped = NULL;
    struct open_chunk *chunk;

    mutex_lock(&chunks->lock);
    chunk = find_locked(chunks, number);
    if (chunk != NULL) {
        forget_locked(chunks, chunk);
        dropped = release_locked(chunk);
    }
    mutex_unlock(&chunks->lock);
    free_chunk(dropped);
}

/* Take the oldest out.  Returns it if it has to be freed. */
static struct open_chunk *take_oldest(struct open_chunks *chunks)
{
    struct open_chunk *oldest;

    mutex_lock(&chunks->lock);
    oldest = chunks->oldest;
    if (oldest != NULL) {
        forget_locked(chunks, oldest);
        oldest = release_locked(oldest);
    }
    mutex_unlock(&chunks->lock);
    return oldest;
}

bool open_chunks_make_room(struct open_chunks *chunks)
{
    bool has_closed = false;
    size_t left;

    mutex_lock(&chunks->lock);
    left = (chunks->count + 1) / 2;
    mutex_unlock(&chunks->lock);
    for (; left > 0; left--) {
        struct open_chunk *chunk = take_oldest(chunks);

        has_closed = has_closed || (chunk != NULL && chunk->file != NULL);
        free_chunk(chunk);
    }
    return has_closed;
}

void open_chunk_release(struct open_chunks *chunks, struct open_chunk *chunk)
{
    struct open_chunk *dropped;

    if (chunk == NULL)
        return;
    mutex_lock(&chunks->lock);
    dropped = release_locked(chunk);
    mutex_unlock(&chunks->lock);
    free_chunk(dropped);
}
