/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One puts, in the order of positions, as the turn to append does; others
 * find, collect and drop.  A page's content, here its position, never goes
 * back, and what was taken from the index is where it was folded to.
 */
#include <pthread.h>

#include "cache/page_index.h"
#include "unit/test.h"

enum { PER_CHUNK = 64, CHUNKS = 80, PAGES = PER_CHUNK * CHUNKS, ROUNDS = 3000 };

static struct page_index *the_index;
static atomic_bool is_over;
/* What destage folded; only grows, as its sets are newer and newer. */
static _Atomic uint64_t folded[PAGES];

static void *put_all(void *argument)
{
    static uint32_t checksums[256];
    uint64_t position = 4096;
    uint64_t random = 88172645463325252U;

    (void)argument;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t first;
        uint64_t count;

        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        first = random % PAGES;
        count = 1 + (random >> 20) % 200;
        if (count > PAGES - first)
            count = PAGES - first;
        page_index_touch(the_index, first, count);
        if (round % 16 == 15)
            CHECK(page_index_put_zero(the_index, 0, PAGES, round % 32 == 15,
                                      position) == 0);
        else if (round % 4 == 3)
            CHECK(page_index_put_zero(the_index, first, count, true,
                                      position) == 0);
        else
            CHECK(page_index_put(the_index, first, count, position,
                                 checksums) == 0);
        position += 256 * 4096;
        if (round % 64 == 63 && !page_index_is_cut(the_index))
            CHECK(page_index_cut(the_index) == 0);
    }
    return NULL;
}

/* One page's record: from the index, or where it was folded to. */
static void *find_all(void *argument)
{
    static _Thread_local uint64_t seen[PAGES];
    uint64_t page = (uint64_t)(uintptr_t)argument;

    while (!atomic_load(&is_over)) {
        struct page_location location;
        uint64_t stamp;

        page = (page * 29 + 7) % PAGES;
        stamp = page_index_stamp(the_index, page);
        page_index_find(the_index, page, 1, &location);
        if (location.kind == PAGE_ABSENT) {
            /* Folded before it was dropped. */
            uint64_t now = atomic_load(&folded[page]);

            CHECK(now >= seen[page]);
        } else if (location.kind == PAGE_RECORD) {
            CHECK(location.position >= seen[page]);
            seen[page] = location.position;
            /* While the stamp is the same, so is the page. */
            if (page_index_stamp(the_index, page) == stamp) {
                struct page_location again;

                page_index_find(the_index, page, 1, &again);
                CHECK(page_index_stamp(the_index, page) != stamp ||
                      again.kind == PAGE_ABSENT ||
                      again.position == location.position);
            }
        }
    }
    return NULL;
}

static void *fold_all(void *argument)
{
    struct page_set *set = page_set_new(the_index);
    uint64_t chunks[16];

    (void)argument;
    do {
        size_t count = page_index_chunks(the_index, UINT64_MAX, 0, chunks, 16);
        struct page_run run;

        for (size_t i = 0; i < count; i++) {
            page_index_collect(the_index, chunks[i], set);
            for (uint32_t page = 0; page < PER_CHUNK; page++) {
                if (set->pages[page].kind != PAGE_ABSENT)
                    atomic_store(&folded[chunks[i] * PER_CHUNK + page],
                                 set->latest);
            }
            page_index_drop(the_index, chunks[i], set);
        }
        if (page_index_runs(the_index, UINT64_MAX, 0, &run, 1) == 1) {
            for (uint64_t page = run.first_chunk * PER_CHUNK;
                 page < (run.first_chunk + run.count) * PER_CHUNK; page++) {
                if (atomic_load(&folded[page]) < run.latest)
                    atomic_store(&folded[page], run.latest);
            }
            page_index_drop_run(the_index, run.first_chunk, run.count, run.hole,
                                run.latest);
        }
        /* Also where there is something left to be taken over. */
        if (page_index_is_folded(the_index) || count > 8)
            CHECK(page_index_join(the_index) == 0);
    } while (!atomic_load(&is_over) || !page_index_is_empty(the_index));
    free(set);
    return NULL;
}

TEST("finding, putting and folding at once never shows an older page")
{
    pthread_t putter;
    pthread_t finders[2];
    pthread_t folder;

    NEED(page_index_new(PER_CHUNK, PAGES, &the_index) == 0);
    CHECK(pthread_create(&folder, NULL, fold_all, NULL) == 0);
    for (uintptr_t i = 0; i < 2; i++)
        CHECK(pthread_create(&finders[i], NULL, find_all, (void *)i) == 0);
    CHECK(pthread_create(&putter, NULL, put_all, NULL) == 0);
    CHECK(pthread_join(putter, NULL) == 0);
    atomic_store(&is_over, true);
    CHECK(pthread_join(folder, NULL) == 0);
    for (size_t i = 0; i < 2; i++)
        CHECK(pthread_join(finders[i], NULL) == 0);
    CHECK(page_index_is_empty(the_index));
    page_index_free(the_index);
}
