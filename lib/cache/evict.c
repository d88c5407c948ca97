/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/evict.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/auto.h"
#include "cache/catalog.h"
#include "cache/chunk_file.h"
#include "cache/geometry.h"
#include "cache/lease.h"
#include "cache/use.h"

/* What is looked for. */
enum kind {
    KIND_BLOCKS, /* clean, with blocks */
    KIND_TABLES, /* clean, without */
    KIND_DIRTY,
};

struct candidate {
    uint64_t chunk;
    uint32_t tick;
    uint32_t pages;
};

/* The least recently used so far; in a heap, the most recent on top. */
struct candidates {
    struct candidate *list;
    size_t count, max;
};

/* Whether a goes before b. */
static bool goes_before(const struct candidate *a, const struct candidate *b)
{
    return a->tick != b->tick ? a->tick < b->tick : a->chunk < b->chunk;
}

static void swap(struct candidate *a, struct candidate *b)
{
    struct candidate c = *a;

    *a = *b;
    *b = c;
}

static void sift_up(struct candidate *list, size_t i)
{
    while (i > 0 && goes_before(&list[(i - 1) / 2], &list[i])) {
        swap(&list[(i - 1) / 2], &list[i]);
        i = (i - 1) / 2;
    }
}

static void sift_down(struct candidate *list, size_t count, size_t i)
{
    for (;;) {
        size_t last = i;

        for (size_t child = 2 * i + 1; child <= 2 * i + 2; child++) {
            if (child < count && goes_before(&list[last], &list[child]))
                last = child;
        }
        if (last == i)
            return;
        swap(&list[last], &list[i]);
        i = last;
    }
}

static void add(struct candidates *candidates,
                const struct candidate *candidate)
{
    struct candidate *list = candidates->list;

    if (candidates->count < candidates->max) {
        list[candidates->count] = *candidate;
        sift_up(list, candidates->count++);
    } else if (goes_before(candidate, &list[0])) {
        list[0] = *candidate;
        sift_down(list, candidates->count, 0);
    }
}

/* Put the list into the order in which they go. */
static void sort(struct candidates *candidates)
{
    for (size_t count = candidates->count; count > 1; count--) {
        swap(&candidates->list[0], &candidates->list[count - 1]);
        sift_down(candidates->list, count - 1, 0);
    }
}

/* Whether the chunk, which has this entry, is of the kind. */
static bool is_of_kind(const struct evict_from *from, enum kind kind,
                       uint64_t chunk, const struct catalog_entry *entry)
{
    uint32_t slots_pages = chunk_file_data_start(from->chunk_size) / CACHE_PAGE;
    struct catalog_entry wanted;
    bool must_stay;

    /* A file of zeros is there for the checkpoint alone, and goes with it. */
    if ((entry->flags & CATALOG_FILE) == 0)
        return false;
    catalog_get(from->checkpoint, chunk, &wanted);
    must_stay =
        !catalog_entry_is_clean(entry) || !catalog_entry_is_clean(&wanted);
    if (kind == KIND_DIRTY)
        return must_stay &&
               (!from->leases || lease_may_begin(from->leases, chunk));
    if (must_stay)
        return false;
    if ((entry->flags & (CATALOG_ZERO | CATALOG_HOLE)) != 0)
        return false;
    return (kind == KIND_BLOCKS) == (entry->file_pages > slots_pages);
}

static void collect(const struct evict_from *from, enum kind kind,
                    struct candidates *candidates)
{
    struct catalog_entry entry;
    uint64_t chunk = 0;

    for (; catalog_next(from->catalog, chunk, UINT64_MAX, &chunk); chunk++) {
        struct candidate candidate = {.chunk = chunk};

        if (!lease_is_in_part(chunk, from->start_percent, from->stop_percent))
            continue;
        catalog_get(from->catalog, chunk, &entry);
        if (!is_of_kind(from, kind, chunk, &entry))
            continue;
        candidate.tick = use_tick(from->use, chunk);
        candidate.pages = entry.file_pages;
        add(candidates, &candidate);
    }
}

static size_t choose(const struct evict_from *from, enum kind kind,
                     uint64_t pages, uint64_t chunks[], size_t max,
                     uint64_t *ret_pages)
{
    AUTO_FREE struct candidate *list = calloc(max + 1, sizeof(list[0]));
    struct candidates candidates = {list, 0, max};
    size_t count = 0;

    *ret_pages = 0;
    if (!list || max == 0)
        return 0;
    collect(from, kind, &candidates);
    sort(&candidates);
    while (count < candidates.count && *ret_pages < pages) {
        chunks[count] = list[count].chunk;
        *ret_pages += list[count].pages;
        count++;
    }
    return count;
}

size_t evict_choose(const struct evict_from *from, enum evict_depth depth,
                    uint64_t pages, uint64_t chunks[], size_t max,
                    uint64_t *ret_pages)
{
    return choose(from, depth == EVICT_BLOCKS ? KIND_BLOCKS : KIND_TABLES,
                  pages, chunks, max, ret_pages);
}

size_t evict_choose_dirty(const struct evict_from *from, uint64_t pages,
                          uint64_t chunks[], size_t max, uint64_t *ret_pages)
{
    return choose(from, KIND_DIRTY, pages, chunks, max, ret_pages);
}
