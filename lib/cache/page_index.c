/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One or two layers (page_layer.h) under one lock.  Of a page, the upper one
 * rules if it knows it; the lower one does not change but by being folded.
 */
#include "cache/page_index.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/mutex.h"
#include "cache/page_layer.h"

enum { STAMPS = 1 << 13 };

struct page_index {
    struct mutex lock;
    uint32_t pages_per_chunk;
    size_t pages_max;
    uint64_t seed;
    struct page_layer *above GUARDED_BY(lock);
    struct page_layer *below GUARDED_BY(lock); /* NULL: there is one layer */

    /* Relaxed order: they change under the lock that page_index_find takes,
     * so who read a stamp and then the page, sees it change with the page. */
    _Atomic uint64_t stamps[STAMPS];
    _Atomic uint64_t stamp_of_all;
};

int page_index_new(uint32_t pages_per_chunk, size_t pages_max,
                   struct page_index **ret_index)
{
    struct page_index *index = calloc(1, sizeof(*index));
    int error = -ENOMEM;

    if (!index)
        return -ENOMEM;
    index->pages_per_chunk = pages_per_chunk;
    index->pages_max = pages_max;
    if (getrandom(&index->seed, sizeof(index->seed), 0) ==
        (ssize_t)sizeof(index->seed))
        error = page_layer_new(pages_per_chunk, pages_max, index->seed,
                               &index->above);
    if (error != 0) {
        free(index);
        return error;
    }
    mutex_init(&index->lock);
    *ret_index = index;
    return 0;
}

void page_index_free(struct page_index *index)
{
    if (!index)
        return;
    page_layer_free(index->above);
    page_layer_free(index->below);
    mutex_done(&index->lock);
    free(index);
}

/* ---- put ----------------------------------------------------------------- */

bool page_index_has_room(struct page_index *index, uint64_t count)
{
    uint64_t nodes = count / index->pages_per_chunk + 2;
    struct page_layer_use use;
    struct page_layer_use more = {.entries = 0};

    if (count == 0) /* zeros of less than a run, at both ends of it */
        nodes = PAGE_LAYER_RUN_CHUNKS + 2;
    mutex_lock(&index->lock);
    use = page_layer_use(index->above);
    if (index->below)
        more = page_layer_use(index->below);
    mutex_unlock(&index->lock);
    return (count == 0 ||
            use.entries + more.entries + count <= index->pages_max) &&
           use.nodes + more.nodes + nodes <= PAGE_LAYER_NODES_MAX &&
           use.runs + more.runs + 2 <= PAGE_LAYER_RUNS_MAX;
}

void page_index_touch(struct page_index *index, uint64_t first, uint64_t count)
{
    if (count >= STAMPS) {
        atomic_fetch_add_explicit(&index->stamp_of_all, 1,
                                  memory_order_relaxed);
        return;
    }
    for (uint64_t page = first; page < first + count; page++)
        atomic_fetch_add_explicit(&index->stamps[page % STAMPS], 1,
                                  memory_order_relaxed);
}

uint64_t page_index_stamp(struct page_index *index, uint64_t page)
{
    /* Both only grow, so the sum stands for the two. */
    return atomic_load(&index->stamps[page % STAMPS]) +
           atomic_load(&index->stamp_of_all);
}

int page_index_put(struct page_index *index, uint64_t first, uint64_t count,
                   uint64_t position, const uint32_t checksums[])
{
    int error;

    mutex_lock(&index->lock);
    error = page_layer_put(index->above, first, count, position, checksums);
    if (error == 0)
        page_index_touch(index, first, count);
    mutex_unlock(&index->lock);
    return error;
}

int page_index_put_zero(struct page_index *index, uint64_t first,
                        uint64_t count, bool hole, uint64_t position)
{
    int error;

    mutex_lock(&index->lock);
    error = page_layer_put_zero(index->above, first, count, hole, position);
    if (error == 0)
        page_index_touch(index, first, count);
    mutex_unlock(&index->lock);
    return error;
}

/* ---- look up ------------------------------------------------------------- */

void page_index_find(struct page_index *index, uint64_t first, uint64_t count,
                     struct page_location ret_locations[])
{
    memset(ret_locations, 0, (size_t)count * sizeof(ret_locations[0]));
    mutex_lock(&index->lock);
    page_layer_find(index->above, first, count, ret_locations);
    if (index->below)
        page_layer_find(index->below, first, count, ret_locations);
    mutex_unlock(&index->lock);
}

size_t page_index_known(struct page_index *index, uint64_t from,
                        uint64_t ret_chunks[], size_t max)
{
    size_t count = 0;

    mutex_lock(&index->lock);
    page_layer_add_chunks(index->above, NULL, UINT64_MAX, from, ret_chunks, max,
                          &count);
    if (index->below)
        page_layer_add_chunks(index->below, index->above, UINT64_MAX, from,
                              ret_chunks, max, &count);
    mutex_unlock(&index->lock);
    page_layer_sort_chunks(ret_chunks, count);
    return count;
}

/* What the runs of a layer say; *end, which they may move, is where the
 * answer ends. */
static enum page_kind look_at_run(const struct page_layer *layer, uint64_t from,
                                  uint64_t *end)
{
    struct page_run run;
    bool is_in;
    uint64_t border;

    if (page_runs_list(page_layer_runs(layer), UINT64_MAX, from, &run, 1) == 0)
        return PAGE_ABSENT;
    is_in = run.first_chunk == from;
    border = is_in ? from + run.count : run.first_chunk;
    if (border < *end)
        *end = border;
    if (!is_in)
        return PAGE_ABSENT;
    return run.hole ? PAGE_HOLE : PAGE_ZERO;
}

enum page_kind page_index_run(struct page_index *index, uint64_t from,
                              uint64_t *ret_end)
{
    enum page_kind kind;

    *ret_end = UINT64_MAX;
    mutex_lock(&index->lock);
    kind = look_at_run(index->above, from, ret_end);
    if (kind == PAGE_ABSENT && index->below)
        kind = look_at_run(index->below, from, ret_end);
    mutex_unlock(&index->lock);
    return kind;
}

/* ---- the folded layer ---------------------------------------------------- */

static struct page_layer *folded_locked(struct page_index *index)
{
    return index->below ? index->below : index->above;
}

struct page_set *page_set_new(const struct page_index *index)
{
    struct page_set *set =
        calloc(1, sizeof(*set) +
                      index->pages_per_chunk * sizeof(struct page_location));

    if (set)
        set->pages_per_chunk = index->pages_per_chunk;
    return set;
}

void page_index_collect(struct page_index *index, uint64_t chunk,
                        struct page_set *set)
{
    mutex_lock(&index->lock);
    page_layer_collect(folded_locked(index), chunk, set);
    mutex_unlock(&index->lock);
    set->known = 0;
    for (uint32_t i = 0; i < set->pages_per_chunk; i++)
        set->known += set->pages[i].kind != PAGE_ABSENT;
}

void page_index_drop(struct page_index *index, uint64_t chunk,
                     const struct page_set *set)
{
    mutex_lock(&index->lock);
    page_layer_drop(folded_locked(index), chunk, set);
    mutex_unlock(&index->lock);
}

void page_index_drop_run(struct page_index *index, uint64_t first_chunk,
                         uint64_t count, bool hole, uint64_t latest)
{
    mutex_lock(&index->lock);
    page_layer_drop_run(folded_locked(index), first_chunk, count, hole, latest);
    mutex_unlock(&index->lock);
}

size_t page_index_chunks(struct page_index *index, uint64_t before,
                         uint64_t from, uint64_t ret_chunks[], size_t max)
{
    size_t count = 0;

    mutex_lock(&index->lock);
    page_layer_add_chunks(folded_locked(index), NULL, before, from, ret_chunks,
                          max, &count);
    mutex_unlock(&index->lock);
    page_layer_sort_chunks(ret_chunks, count);
    return count;
}

size_t page_index_runs(struct page_index *index, uint64_t before, uint64_t from,
                       struct page_run ret_runs[], size_t max)
{
    size_t count;

    mutex_lock(&index->lock);
    count = page_runs_list(page_layer_runs(folded_locked(index)), before, from,
                           ret_runs, max);
    mutex_unlock(&index->lock);
    return count;
}

uint32_t page_index_records(struct page_index *index, uint64_t chunk)
{
    uint32_t count;

    mutex_lock(&index->lock);
    count = page_layer_records(folded_locked(index), chunk);
    mutex_unlock(&index->lock);
    return count;
}

bool page_index_needs_before(struct page_index *index, uint64_t position)
{
    bool needs;

    mutex_lock(&index->lock);
    needs = page_layer_needs_before(index->above, position) ||
            (index->below && page_layer_needs_before(index->below, position));
    mutex_unlock(&index->lock);
    return needs;
}

bool page_index_is_empty(struct page_index *index)
{
    bool is_empty;

    mutex_lock(&index->lock);
    is_empty = page_layer_is_empty(index->above) &&
               (!index->below || page_layer_is_empty(index->below));
    mutex_unlock(&index->lock);
    return is_empty;
}

/* ---- layers -------------------------------------------------------------- */

bool page_index_is_cut(struct page_index *index)
{
    bool is_cut;

    mutex_lock(&index->lock);
    is_cut = index->below != NULL;
    mutex_unlock(&index->lock);
    return is_cut;
}

bool page_index_is_folded(struct page_index *index)
{
    bool is_folded;

    mutex_lock(&index->lock);
    is_folded = !index->below || page_layer_is_empty(index->below);
    mutex_unlock(&index->lock);
    return is_folded;
}

int page_index_cut(struct page_index *index)
{
    struct page_layer *layer;
    int error = page_layer_new(index->pages_per_chunk, index->pages_max,
                               index->seed, &layer);

    if (error != 0)
        return error;
    mutex_lock(&index->lock);
    if (index->below) {
        error = -EALREADY;
    } else {
        page_layer_set_latest(layer, page_layer_latest(index->above));
        index->below = index->above;
        index->above = layer;
        layer = NULL;
    }
    mutex_unlock(&index->lock);
    page_layer_free(layer);
    return error;
}

int page_index_join(struct page_index *index)
{
    struct page_layer *layer;
    int error = 0;

    mutex_lock(&index->lock);
    layer = index->below;
    if (layer && !page_layer_is_empty(layer))
        error = page_layer_merge(index->above, layer);
    if (error == 0)
        index->below = NULL;
    mutex_unlock(&index->lock);
    if (error == 0)
        page_layer_free(layer);
    return error;
}
