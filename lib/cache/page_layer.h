/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * page_layer - what the journal knows of pages, in one layer of page_index.
 *
 * Part of page_index.c.  Pure, but for memory; its owner locks.
 */
#ifndef CACHE_PAGE_LAYER_H
#define CACHE_PAGE_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/page_index.h"
#include "cache/page_runs.h"

struct page_layer;

/* pages_max: as of page_index_new; seed: so that nobody can choose pages that
 * collide. */
int page_layer_new(uint32_t pages_per_chunk, size_t pages_max, uint64_t seed,
                   struct page_layer **ret_layer);
void page_layer_free(struct page_layer *layer);

/* How much is in it. */
struct page_layer_use {
    uint64_t entries;
    uint64_t nodes;
    uint64_t runs;
};
enum {
    PAGE_LAYER_NODES_MAX = 1 << 16,
    PAGE_LAYER_RUNS_MAX = 1 << 16,
    PAGE_LAYER_RUN_CHUNKS = 64, /* shorter zeros are kept by chunk */
};
struct page_layer_use page_layer_use(const struct page_layer *layer);
bool page_layer_is_empty(const struct page_layer *layer);

/* The newest position put, or what was set. */
uint64_t page_layer_latest(const struct page_layer *layer);
void page_layer_set_latest(struct page_layer *layer, uint64_t latest);

/* See page_index_put and page_index_put_zero. */
int page_layer_put(struct page_layer *layer, uint64_t first, uint64_t count,
                   uint64_t position, const uint32_t checksums[]);
int page_layer_put_zero(struct page_layer *layer, uint64_t first,
                        uint64_t count, bool hole, uint64_t position);

/* Fill in those that are PAGE_ABSENT, and that it knows. */
void page_layer_find(const struct page_layer *layer, uint64_t first,
                     uint64_t count, struct page_location locations[]);

/* Fill in all of the set, but for known. */
void page_layer_collect(const struct page_layer *layer, uint64_t chunk,
                        struct page_set *set);

/* See page_index_drop and page_index_drop_run. */
void page_layer_drop(struct page_layer *layer, uint64_t chunk,
                     const struct page_set *set);
void page_layer_drop_run(struct page_layer *layer, uint64_t first_chunk,
                         uint64_t count, bool hole, uint64_t latest);

/*
 * Add chunks as page_index_chunks tells them, unless except knows them by more
 * than runs (or is NULL), to a heap of the smallest max; then sort it.
 */
void page_layer_add_chunks(const struct page_layer *layer,
                           const struct page_layer *except, uint64_t before,
                           uint64_t from, uint64_t heap[], size_t max,
                           size_t *count);
void page_layer_sort_chunks(uint64_t heap[], size_t count);

/* Returns the runs, in order. */
const struct page_runs *page_layer_runs(const struct page_layer *layer);

/* Returns whether a record before position is known. */
bool page_layer_needs_before(const struct page_layer *layer, uint64_t position);

/* Returns how many PAGE_RECORDs there are of a chunk. */
uint32_t page_layer_records(const struct page_layer *layer, uint64_t chunk);

/*
 * Take over what below knows and above does not know better; below is fit
 * only to be freed then.  -ENOMEM: nothing has changed.
 */
int page_layer_merge(struct page_layer *above, struct page_layer *below);

#endif
