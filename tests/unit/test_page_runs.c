/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/page_runs.h"

#include "unit/test.h"

enum { CHUNKS = 200 };

static void put(struct page_runs *runs, uint64_t first, uint64_t end, bool hole,
                uint64_t position)
{
    CHECK(page_runs_reserve(runs, 2) == 0);
    page_runs_put(runs, first, end, hole, position);
}

static void drop(struct page_runs *runs, uint64_t first, uint64_t end,
                 bool hole, uint64_t latest)
{
    CHECK(page_runs_reserve(runs, 1) == 0);
    page_runs_drop(runs, first, end, hole, latest);
}

TEST("nothing is found where nothing is")
{
    struct page_runs runs = {.array = NULL};
    struct page_run run;

    CHECK(page_runs_find(&runs, 0) == NULL);
    CHECK(page_runs_list(&runs, UINT64_MAX, 0, &run, 1) == 0);
    drop(&runs, 0, UINT64_MAX, true, UINT64_MAX);
    page_runs_done(&runs);
}

TEST("a run is found at its first and its last chunk, not beside it")
{
    struct page_runs runs = {.array = NULL};

    put(&runs, 10, 20, true, 5);
    CHECK(page_runs_find(&runs, 9) == NULL);
    CHECK(page_runs_find(&runs, 10) != NULL);
    CHECK(page_runs_find(&runs, 19) != NULL);
    CHECK(page_runs_find(&runs, 20) == NULL);
    page_runs_done(&runs);
}

TEST("a run in the middle of another splits it, and again")
{
    struct page_runs runs = {.array = NULL};

    put(&runs, 0, 100, true, 5);
    put(&runs, 40, 60, false, 6);
    CHECK(runs.count == 3);
    put(&runs, 45, 50, true, 7);
    CHECK(runs.count == 5);
    CHECK(page_runs_find(&runs, 44)->hole == false);
    CHECK(page_runs_find(&runs, 45)->position == 7);
    CHECK(page_runs_find(&runs, 60)->position == 5);
    /* Over all of them: one. */
    put(&runs, 0, 100, false, 8);
    CHECK(runs.count == 1 && runs.array[0].position == 8);
    page_runs_done(&runs);
}

/* What each chunk is, one by one. */
struct model {
    bool is_run, hole;
    uint64_t position; /* of its record */
};

static struct model model[CHUNKS];

static bool is_as_the_model(const struct page_runs *runs)
{
    for (size_t i = 0; i + 1 < runs->count; i++) {
        const struct page_run *run = &runs->array[i];

        if (run->count == 0 ||
            run->first_chunk + run->count > run[1].first_chunk)
            return false;
    }
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        const struct page_run *run = page_runs_find(runs, chunk);

        if ((run != NULL) != model[chunk].is_run)
            return false;
        if (run && (run->hole != model[chunk].hole ||
                    run->position > model[chunk].position ||
                    run->latest < model[chunk].position))
            return false;
    }
    return true;
}

TEST("random runs, put and dropped, are what single chunks would be")
{
    uint64_t random = 42;

    for (unsigned story = 0; story < 200; story++) {
        struct page_runs runs = {.array = NULL};

        memset(model, 0, sizeof(model));
        for (uint64_t step = 1; step < 60; step++) {
            uint64_t first;
            uint64_t end;
            bool hole;

            random = random * 6364136223846793005U + 1442695040888963407U;
            first = (random >> 33) % CHUNKS;
            end = first + 1 + (random >> 41) % (CHUNKS - first);
            hole = (random >> 60 & 1) != 0;
            if ((random >> 61) % 3 != 0) {
                put(&runs, first, end, hole, step);
                for (uint64_t i = first; i < end; i++)
                    model[i] = (struct model){true, hole, step};
            } else {
                uint64_t latest = step - 1 - (random >> 50) % step;

                /* Whole runs decide, as they were before. */
                for (uint64_t i = first; i < end; i++) {
                    const struct page_run *run = page_runs_find(&runs, i);

                    if (run && run->hole == hole && run->latest <= latest)
                        model[i].is_run = false;
                }
                drop(&runs, first, end, hole, latest);
            }
            NEED(is_as_the_model(&runs));
        }
        page_runs_done(&runs);
    }
}

TEST("runs are told from a chunk on, the first cut there, old ones only")
{
    struct page_runs runs = {.array = NULL};
    struct page_run told[4];

    put(&runs, 0, 100, true, 5);
    put(&runs, 200, 300, true, 50);
    put(&runs, 400, 500, false, 6);
    CHECK(page_runs_list(&runs, UINT64_MAX, 0, told, 2) == 2);
    CHECK(page_runs_list(&runs, 50, 30, told, 4) == 2);
    CHECK(told[0].first_chunk == 30 && told[0].count == 70);
    CHECK(told[0].position == 5 && told[0].latest == 5);
    CHECK(told[1].first_chunk == 400 && !told[1].hole);
    page_runs_done(&runs);
}
