/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * page_runs - long runs of chunks that are zeros, in order, none overlapping.
 *
 * Part of page_layer.c.  Pure, but for memory; its owner locks.
 */
#ifndef CACHE_PAGE_RUNS_H
#define CACHE_PAGE_RUNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/page_index.h"

/* All zero when there are none. */
struct page_runs {
    struct page_run *array;
    size_t count;
    size_t capacity;
};

/* Free what they hold. */
void page_runs_done(struct page_runs *runs);

/*
 * Make sure of the memory for this many more: page_runs_put needs 2,
 * page_runs_drop 1.  -ENOMEM.
 */
int page_runs_reserve(struct page_runs *runs, size_t more);

/* Returns the run that a chunk is in, or NULL. */
const struct page_run *page_runs_find(const struct page_runs *runs,
                                      uint64_t chunk);

/*
 * Chunks first .. end - 1 are zeros, as said by the record at position,
 * whatever was said before.  Runs that touch and are of a kind become one.
 */
void page_runs_put(struct page_runs *runs, uint64_t first, uint64_t end,
                   bool hole, uint64_t position);

/* The same, with what an older run says; it must not be one of runs. */
void page_runs_put_run(struct page_runs *runs, const struct page_run *run);

/* See page_index_drop_run; chunks first .. end - 1. */
void page_runs_drop(struct page_runs *runs, uint64_t first, uint64_t end,
                    bool hole, uint64_t latest);

/* See page_index_runs. */
size_t page_runs_list(const struct page_runs *runs, uint64_t before,
                      uint64_t from, struct page_run ret_runs[], size_t max);

#endif
