/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/page_runs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY_AT_FIRST = 16 };

void page_runs_done(struct page_runs *runs)
{
    free(runs->array);
    *runs = (struct page_runs){.array = NULL};
}

int page_runs_reserve(struct page_runs *runs, size_t more)
{
    size_t wanted = runs->capacity ? runs->capacity : CAPACITY_AT_FIRST;
    struct page_run *larger;

    while (wanted - runs->count < more)
        wanted *= 2;
    if (wanted == runs->capacity)
        return 0;
    larger = reallocarray(runs->array, wanted, sizeof(*larger));
    if (!larger)
        return -ENOMEM;
    runs->array = larger;
    runs->capacity = wanted;
    return 0;
}

static uint64_t run_end(const struct page_run *run)
{
    return run->first_chunk + run->count;
}

/* Returns the index of the first run that ends after chunk. */
static size_t first_after(const struct page_runs *runs, uint64_t chunk)
{
    size_t low = 0;
    size_t high = runs->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (run_end(&runs->array[middle]) <= chunk)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct page_run *page_runs_find(const struct page_runs *runs,
                                      uint64_t chunk)
{
    size_t at;

    if (runs->count == 0)
        return NULL;
    at = first_after(runs, chunk);
    return at < runs->count && runs->array[at].first_chunk <= chunk
               ? &runs->array[at]
               : NULL;
}

static void insert(struct page_runs *runs, size_t at,
                   const struct page_run *run)
{
    memmove(&runs->array[at + 1], &runs->array[at],
            (runs->count - at) * sizeof(*run));
    runs->array[at] = *run;
    runs->count++;
}

static void remove_some(struct page_runs *runs, size_t at, size_t count)
{
    memmove(&runs->array[at], &runs->array[at + count],
            (runs->count - at - count) * sizeof(runs->array[0]));
    runs->count -= count;
}

/*
 * Cut chunks first .. end - 1 out of a run; room for one more was reserved.
 * Returns how many pieces are left of it.
 */
static size_t cut(struct page_runs *runs, size_t at, uint64_t first,
                  uint64_t end)
{
    struct page_run *run = &runs->array[at];
    struct page_run right = *run;
    bool has_left = run->first_chunk < first;
    bool has_right = run_end(run) > end;

    if (has_right) {
        right.count = run_end(run) - end;
        right.first_chunk = end;
    }
    if (has_left)
        run->count = first - run->first_chunk;
    if (has_left && has_right)
        insert(runs, at + 1, &right);
    else if (has_right)
        *run = right;
    else if (!has_left)
        remove_some(runs, at, 1);
    return (size_t)has_left + (size_t)has_right;
}

/* If the runs at and at + 1 touch and say the same, make them one. */
static void join(struct page_runs *runs, size_t at)
{
    struct page_run *run = &runs->array[at];
    const struct page_run *next = run + 1;

    if (at + 1 >= runs->count || run_end(run) != next->first_chunk ||
        run->hole != next->hole)
        return;
    run->count += next->count;
    if (next->position < run->position)
        run->position = next->position;
    if (next->latest > run->latest)
        run->latest = next->latest;
    remove_some(runs, at + 1, 1);
}

void page_runs_put_run(struct page_runs *runs, const struct page_run *run)
{
    uint64_t first = run->first_chunk;
    uint64_t end = run_end(run);
    size_t at = first_after(runs, first);

    while (at < runs->count && runs->array[at].first_chunk < end) {
        size_t covered = at;

        /* Those covered in full go in one move: there may be many. */
        while (covered < runs->count &&
               runs->array[covered].first_chunk >= first &&
               run_end(&runs->array[covered]) <= end)
            covered++;
        if (covered > at)
            remove_some(runs, at, covered - at);
        else
            at += cut(runs, at, first, end);
    }
    at = first_after(runs, first);
    insert(runs, at, run);
    join(runs, at);
    if (at > 0)
        join(runs, at - 1);
}

void page_runs_put(struct page_runs *runs, uint64_t first, uint64_t end,
                   bool hole, uint64_t position)
{
    struct page_run run = {
        .first_chunk = first,
        .count = end - first,
        .position = position,
        .latest = position,
        .hole = hole,
    };

    page_runs_put_run(runs, &run);
}

void page_runs_drop(struct page_runs *runs, uint64_t first, uint64_t end,
                    bool hole, uint64_t latest)
{
    size_t at = first_after(runs, first);

    while (at < runs->count && runs->array[at].first_chunk < end) {
        const struct page_run *run = &runs->array[at];

        if (run->hole == hole && run->latest <= latest)
            at += cut(runs, at, first, end);
        else
            at++;
    }
}

size_t page_runs_list(const struct page_runs *runs, uint64_t before,
                      uint64_t from, struct page_run ret_runs[], size_t max)
{
    size_t count = 0;

    for (size_t i = first_after(runs, from); i < runs->count && count < max;
         i++) {
        struct page_run run = runs->array[i];

        if (run.position >= before)
            continue;
        if (run.first_chunk < from) {
            run.count = run_end(&run) - from;
            run.first_chunk = from;
        }
        ret_runs[count++] = run;
    }
    return count;
}
