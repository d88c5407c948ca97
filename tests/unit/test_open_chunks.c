/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/open_chunks.h"

#include "test.h"

enum { CHUNK_SIZE = 1 << 18 };

static struct chunk_table *table_of(uint64_t chunk, uint64_t generation)
{
    struct chunk_table *table = chunk_table_new(chunk, CHUNK_SIZE);

    if (table != NULL)
        table->generation = generation;
    return table;
}

static struct open_chunk *put(struct open_chunks *chunks, uint64_t chunk,
                              uint64_t generation)
{
    return open_chunks_put(chunks, chunk, NULL, table_of(chunk, generation));
}

TEST("a chunk is found in the generation that it is open in, and in no other")
{
    struct open_chunks *chunks;
    struct open_chunk *chunk;

    NEED(open_chunks_new(4, &chunks) == 0);
    CHECK(open_chunks_get(chunks, 7, 3) == NULL);
    open_chunk_release(chunks, put(chunks, 7, 3));
    chunk = open_chunks_get(chunks, 7, 3);
    CHECK(chunk != NULL && chunk->table->chunk == 7);
    open_chunk_release(chunks, chunk);
    CHECK(open_chunks_get(chunks, 7, 2) == NULL);
    CHECK(open_chunks_get(chunks, 7, 4) == NULL);
    CHECK(open_chunks_get(chunks, 8, 3) == NULL);
    open_chunks_free(chunks);
}

TEST("a new state takes the old one's place; who holds the old one keeps it")
{
    struct open_chunks *chunks;
    struct open_chunk *old;

    NEED(open_chunks_new(4, &chunks) == 0);
    old = put(chunks, 1, 10);
    open_chunk_release(chunks, put(chunks, 1, 11));
    CHECK(open_chunks_get(chunks, 1, 10) == NULL);
    CHECK(old->table->generation == 10);
    open_chunk_release(chunks, old);
    open_chunks_free(chunks);
}

TEST("a reader that comes late with an older state does not undo a newer one")
{
    struct open_chunks *chunks;
    struct open_chunk *late;
    struct open_chunk *newest;

    NEED(open_chunks_new(4, &chunks) == 0);
    open_chunk_release(chunks, put(chunks, 1, 11));
    late = put(chunks, 1, 10);
    CHECK(late != NULL && late->table->generation == 10);
    newest = open_chunks_get(chunks, 1, 11);
    CHECK(newest != NULL);
    open_chunk_release(chunks, late);
    open_chunk_release(chunks, newest);
    open_chunks_free(chunks);
}

TEST("a newer revision takes the place of an older one, and not the reverse")
{
    struct open_chunks *chunks;
    struct open_chunk *chunk;

    NEED(open_chunks_new(4, &chunks) == 0);
    for (uint32_t i = 0; i < 6; i++) {
        static const uint32_t revisions[] = {3, 2, 4, 4, 0, 5};
        struct chunk_table *table = table_of(1, 10);

        NEED(table != NULL);
        table->revision = revisions[i];
        chunk = open_chunks_put(chunks, 1, NULL, table);
        NEED(chunk != NULL);
        CHECK(chunk->table->revision == revisions[i]);
        open_chunk_release(chunks, chunk);
        chunk = open_chunks_get(chunks, 1, 10);
        NEED(chunk != NULL);
        CHECK(chunk->table->revision == (i < 2 ? 3U : i < 5 ? 4U : 5U));
        open_chunk_release(chunks, chunk);
    }
    /* The generation comes first. */
    open_chunk_release(chunks, put(chunks, 1, 11));
    CHECK(open_chunks_get(chunks, 1, 10) == NULL);
    open_chunks_free(chunks);
}

TEST("no more than max stay open, and the least recently used one leaves")
{
    struct open_chunks *chunks;

    NEED(open_chunks_new(3, &chunks) == 0);
    for (uint64_t chunk = 0; chunk < 3; chunk++)
        open_chunk_release(chunks, put(chunks, chunk, 1));
    open_chunk_release(chunks, open_chunks_get(chunks, 0, 1));
    open_chunk_release(chunks, put(chunks, 3, 1));
    for (uint64_t chunk = 0; chunk < 4; chunk++) {
        struct open_chunk *open = open_chunks_get(chunks, chunk, 1);

        CHECK((open != NULL) == (chunk != 1));
        open_chunk_release(chunks, open);
    }
    open_chunks_free(chunks);
}

TEST("a dropped chunk is not found; who holds it keeps it")
{
    struct open_chunks *chunks;
    struct open_chunk *held;

    NEED(open_chunks_new(3, &chunks) == 0);
    held = put(chunks, 5, 1);
    open_chunks_drop(chunks, 5);
    open_chunks_drop(chunks, 6);
    CHECK(open_chunks_get(chunks, 5, 1) == NULL);
    CHECK(held->table->chunk == 5);
    open_chunk_release(chunks, held);
    open_chunks_free(chunks);
}

TEST("thousands of chunks, one after the other, stay within the bound")
{
    struct open_chunks *chunks;
    unsigned found = 0;

    NEED(open_chunks_new(16, &chunks) == 0);
    for (uint64_t chunk = 0; chunk < 5000; chunk++)
        open_chunk_release(chunks, put(chunks, chunk * 37, chunk + 1));
    for (uint64_t chunk = 0; chunk < 5000; chunk++) {
        struct open_chunk *open =
            open_chunks_get(chunks, chunk * 37, chunk + 1);

        found += open != NULL ? 1 : 0;
        open_chunk_release(chunks, open);
    }
    CHECK(found == 16);
    open_chunks_free(chunks);
}

TEST("making room closes the oldest half, and no file that somebody holds")
{
    struct chunk_dir *dir;
    struct open_chunks *chunks;
    struct open_chunk *held;
    int cache_fd = open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    NEED(chunk_dir_open(cache_fd, "disk", CHUNK_SIZE, CHUNK_DIR_CREATE, &dir) ==
         0);
    NEED(open_chunks_new(8, &chunks) == 0);
    CHECK(!open_chunks_make_room(chunks));
    for (uint64_t chunk = 0; chunk < 4; chunk++) {
        struct chunk_file *file;

        NEED(chunk_file_create(dir, chunk, &file) == 0);
        open_chunk_release(
            chunks, open_chunks_put(chunks, chunk, file, table_of(chunk, 1)));
    }
    CHECK(open_chunks_make_room(chunks));
    CHECK(open_chunks_get(chunks, 1, 1) == NULL);
    held = open_chunks_get(chunks, 2, 1);
    CHECK(held != NULL);
    CHECK(open_chunks_make_room(chunks)); /* 3 */
    CHECK(!open_chunks_make_room(chunks));
    CHECK(held->file != NULL && open_chunks_get(chunks, 2, 1) == NULL);
    open_chunk_release(chunks, held);
    open_chunks_free(chunks);
    chunk_dir_close(dir);
    (void)close(cache_fd);
}
