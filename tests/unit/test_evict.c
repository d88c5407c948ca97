/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/evict.h"

#include "base/clock.h"
#include "cache/catalog.h"
#include "cache/chunk_file.h"
#include "cache/lease.h"
#include "cache/use.h"
#include "unit/test.h"

enum { CHUNKS = 20000, CHUNK_SIZE = 8 << 20, FILE_PAGES = 1000 };

static const uint64_t SECOND = 1000000000;

struct fixture {
    int dirfd;
    struct catalog *catalog, *checkpoint;
    struct use *use;
    struct evict_from from;
};

static bool begin(struct fixture *fixture)
{
    memset(fixture, 0, sizeof(*fixture));
    clock_set_for_tests(SECOND);
    fixture->dirfd = open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!CHECK(catalog_new(CHUNKS, &fixture->catalog) == 0) ||
        !CHECK(catalog_new(CHUNKS, &fixture->checkpoint) == 0) ||
        !CHECK(use_open(fixture->dirfd, "disk", CHUNKS, &fixture->use) == 0))
        return false;
    fixture->from = (struct evict_from){
        .catalog = fixture->catalog,
        .checkpoint = fixture->checkpoint,
        .use = fixture->use,
        .chunk_size = CHUNK_SIZE,
        .stop_percent = 100,
    };
    return true;
}

static void end(struct fixture *fixture)
{
    use_close(fixture->use);
    catalog_free(fixture->checkpoint);
    catalog_free(fixture->catalog);
    (void)close(fixture->dirfd);
    clock_set_for_tests(0);
}

static void set(struct catalog *catalog, uint64_t chunk, uint64_t generation,
                uint64_t uploaded, unsigned flags, uint32_t pages)
{
    struct catalog_entry entry = {
        .generation = generation,
        .uploaded_generation = uploaded,
        .flags = flags,
        .file_pages = pages,
    };

    CHECK(catalog_set(catalog, chunk, &entry) == 0);
}

static void set_clean(struct fixture *fixture, uint64_t chunk)
{
    set(fixture->catalog, chunk, 5, 5, CATALOG_FILE, FILE_PAGES);
}

TEST("the least recently used go first, as many as fill the pages")
{
    static const uint64_t order[] = {70, 3, 19999, 500, 8};
    struct fixture fixture;
    uint64_t chunks[10], pages = 0;

    NEED(begin(&fixture));
    for (size_t i = 0; i < 5; i++)
        set_clean(&fixture, order[i]);
    set_clean(&fixture, 9); /* never used */
    for (size_t i = 0; i < 5; i++) {
        clock_set_for_tests(SECOND * (i + 2));
        use_touch(fixture.use, order[i]);
    }
    CHECK(evict_choose(&fixture.from, EVICT_BLOCKS, UINT64_MAX, chunks, 10,
                       &pages) == 6);
    CHECK(pages == 6 * FILE_PAGES && chunks[0] == 9);
    for (size_t i = 0; i < 5; i++)
        CHECK(chunks[i + 1] == order[i]);
    CHECK(evict_choose(&fixture.from, EVICT_BLOCKS, 2 * FILE_PAGES + 1, chunks,
                       10, &pages) == 3);
    CHECK(pages == 3 * FILE_PAGES && chunks[2] == 3);
    CHECK(evict_choose(&fixture.from, EVICT_BLOCKS, UINT64_MAX, chunks, 2,
                       &pages) == 2);
    CHECK(chunks[0] == 9 && chunks[1] == 70);
    CHECK(evict_choose(&fixture.from, EVICT_BLOCKS, 0, chunks, 10, &pages) ==
              0 &&
          pages == 0);
    CHECK(evict_choose(&fixture.from, EVICT_BLOCKS, 1, chunks, 0, &pages) == 0);
    end(&fixture);
}

TEST("without ticks they go in the order of the catalog")
{
    struct fixture fixture;
    uint64_t chunks[100], pages = 0;

    NEED(begin(&fixture));
    fixture.from.use = NULL;
    for (uint64_t i = 0; i < 1000; i++)
        set_clean(&fixture, 3 + i * 7919 % CHUNKS);
    CHECK(evict_choose(&fixture.from, EVICT_BLOCKS, UINT64_MAX, chunks, 100,
                       &pages) == 100);
    for (uint64_t i = 0, chunk = 0; i < 100; i++, chunk++) {
        CHECK(catalog_next(fixture.catalog, chunk, CHUNKS, &chunk));
        CHECK(chunks[i] == chunk);
    }
    end(&fixture);
}

TEST("of many, in any order of use, the right ones are chosen")
{
    struct fixture fixture;
    uint64_t chunks[300], pages = 0, random = 1;
    uint32_t last = 0, chosen = 0, before_last = 0;

    NEED(begin(&fixture));
    for (uint64_t i = 0; i < 3000; i++) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        clock_set_for_tests(SECOND * (1 + (random >> 33) % 5000));
        set_clean(&fixture, (random >> 20) % CHUNKS);
        use_touch(fixture.use, (random >> 20) % CHUNKS);
    }
    CHECK(evict_choose(&fixture.from, EVICT_BLOCKS, UINT64_MAX, chunks, 300,
                       &pages) == 300);
    for (size_t i = 0; i < 300; i++) {
        uint32_t tick = use_tick(fixture.use, chunks[i]);

        CHECK(tick > last || (tick == last && (i == 0 || /* in order */
                                               chunks[i] > chunks[i - 1])));
        last = tick;
    }
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        uint32_t tick = use_tick(fixture.use, chunk);

        chosen += tick > 0 && tick <= last;
        before_last += tick > 0 && tick < last;
    }
    CHECK(chosen >= 300 && before_last < 300);
    end(&fixture);
}

TEST("what the bucket does not have, or the checkpoint waits for, must stay")
{
    struct fixture fixture;
    uint64_t chunks[20], pages = 0;

    NEED(begin(&fixture));
    set(fixture.catalog, 1, 5, 4, CATALOG_FILE, 100); /* dirty */
    set(fixture.catalog, 2, 5, 0, CATALOG_FILE, 100); /* never uploaded */
    set_clean(&fixture, 3);
    set(fixture.checkpoint, 3, 4, 3, CATALOG_FILE, 0); /* waits for another */
    set_clean(&fixture, 4);
    set(fixture.checkpoint, 4, 5, 5, 0, 0); /* has all of it */
    set_clean(&fixture, 5);
    set(fixture.checkpoint, 5, 4, 0, CATALOG_HOLE, 0);
    set(fixture.catalog, 6, 5, 5, 0, 0);            /* has no file */
    set(fixture.catalog, 7, 5, 0, CATALOG_ZERO, 0); /* nor this one */
    set(fixture.catalog, 8, 5, 0, CATALOG_HOLE | CATALOG_FILE, 50);
    set(fixture.checkpoint, 8, 4, 3, CATALOG_FILE, 0);
    set(fixture.catalog, 9, 5, 0, CATALOG_ZERO | CATALOG_FILE, 50);
    CHECK(evict_choose(&fixture.from, EVICT_BLOCKS, UINT64_MAX, chunks, 20,
                       &pages) == 2);
    CHECK(chunks[0] == 4 && chunks[1] == 5);
    CHECK(evict_choose(&fixture.from, EVICT_FILE, UINT64_MAX, chunks, 20,
                       &pages) == 0);
    CHECK(evict_choose_dirty(&fixture.from, UINT64_MAX, chunks, 20, &pages) ==
          4);
    CHECK(chunks[0] == 1 && chunks[1] == 2 && chunks[2] == 3 && chunks[3] == 8);
    CHECK(pages == 100 + 100 + FILE_PAGES + 50);
    CHECK(evict_choose_dirty(&fixture.from, 150, chunks, 20, &pages) == 2);
    end(&fixture);
}

TEST("files that are hardly more than tables go apart")
{
    uint32_t slots = chunk_file_data_start(CHUNK_SIZE) / 4096;
    struct fixture fixture;
    uint64_t chunks[20], pages = 0;

    NEED(begin(&fixture));
    set(fixture.catalog, 1, 5, 5, CATALOG_FILE, slots);
    set(fixture.catalog, 2, 5, 5, CATALOG_FILE, slots + 1);
    set(fixture.catalog, 3, 5, 5, CATALOG_FILE, 1);
    CHECK(evict_choose(&fixture.from, EVICT_BLOCKS, UINT64_MAX, chunks, 20,
                       &pages) == 1);
    CHECK(chunks[0] == 2 && pages == slots + 1);
    CHECK(evict_choose(&fixture.from, EVICT_FILE, UINT64_MAX, chunks, 20,
                       &pages) == 2);
    CHECK(chunks[0] == 1 && chunks[1] == 3);
    end(&fixture);
}

TEST("hundredths divide the chunks among those who ask")
{
    struct fixture fixture;
    uint64_t chunks[1000], pages = 0;
    size_t sum = 0;

    NEED(begin(&fixture));
    for (uint64_t chunk = 0; chunk < 1000; chunk++)
        set_clean(&fixture, chunk);
    for (unsigned start = 0; start < 100; start += 25) {
        size_t count;

        fixture.from.start_percent = start;
        fixture.from.stop_percent = start + 25;
        count = evict_choose(&fixture.from, EVICT_BLOCKS, UINT64_MAX, chunks,
                             1000, &pages);
        for (size_t i = 0; i < count; i++)
            CHECK(lease_percent(chunks[i]) / 25 == start / 25);
        CHECK(count > 0);
        sum += count;
    }
    CHECK(sum == 1000);
    end(&fixture);
}
