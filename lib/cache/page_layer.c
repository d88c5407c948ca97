/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Three kinds of knowledge, the first that has a page rules:
 *
 *   entries   a page in the journal: hashed by page, and in a list per chunk
 *   nodes     a chunk with entries, or with zeros that are no long run: two
 *             bitmaps, holes and other zeros
 *   runs      RUN_CHUNKS or more whole chunks of zeros: see page_runs.h
 *
 * A page has an entry or a bit or neither, never both.  What a node says is
 * newer than the run below it, as putting a run removes the nodes under it.
 * So forgetting an entry would bring the run back to light: page_layer_drop
 * forgets either both, or none.
 */
#include "cache/page_layer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/geometry.h"

enum {
    RUN_CHUNKS = PAGE_LAYER_RUN_CHUNKS,
    NODE_BUCKETS = 1 << 16,
    ENTRY_BUCKETS_MIN = 1 << 10,
    PAGE_GROUP = 16, /* neighbours whose buckets lie side by side */
    WORD_BITS = 64,
};

/* Entries and nodes are named by index; 0 is none. */
struct entry {
    uint64_t page;
    uint64_t position;
    uint32_t checksum;
    uint32_t next_in_bucket; /* or the next free one */
    uint32_t next_in_node;
    uint32_t previous_in_node;
};

struct node {
    uint64_t chunk;
    uint64_t entries_oldest; /* position, or a lower bound; none: MAX */
    uint64_t zeros_oldest;   /* the same for the bits */
    uint64_t *zeros;         /* holes, then other zeros; or NULL */
    uint32_t first_entry;
    uint32_t entries_count;
    uint32_t zeros_count;    /* bits set in both */
    uint32_t next_in_bucket; /* or the next free one */
    bool is_used;
};

/* An array that grows, with a list of those that were given back. */
struct pool {
    size_t capacity;
    size_t touched; /* below: used or in the free list */
    uint32_t first_free;
    size_t used;
};

struct page_layer {
    uint32_t pages_per_chunk;
    uint32_t zeros_words; /* of one bitmap */
    uint64_t seed;
    uint64_t latest;

    struct pool entry_pool;
    struct entry *entries;
    uint32_t *entry_buckets;
    uint32_t entry_mask;

    struct pool node_pool;
    struct node *nodes;
    uint32_t *node_buckets;

    struct page_runs runs;
};

/* ---- memory -------------------------------------------------------------- */

int page_layer_new(uint32_t pages_per_chunk, size_t pages_max, uint64_t seed,
                   struct page_layer **ret_layer)
{
    struct page_layer *layer = calloc(1, sizeof(*layer));
    size_t buckets = ENTRY_BUCKETS_MIN;

    assert(pages_per_chunk >= WORD_BITS &&
           (pages_per_chunk & (pages_per_chunk - 1)) == 0);
    if (!layer)
        return -ENOMEM;
    while (buckets < pages_max && buckets < (size_t)1 << 31)
        buckets *= 2;
    layer->pages_per_chunk = pages_per_chunk;
    layer->zeros_words = pages_per_chunk / WORD_BITS;
    layer->seed = seed;
    layer->entry_mask = (uint32_t)(buckets - 1);
    /* Large and not touched: takes no memory yet. */
    layer->entry_pool = (struct pool){.capacity = pages_max + 2, .touched = 1};
    layer->node_pool = (struct pool){.capacity = 1024, .touched = 1};
    layer->entries = malloc(layer->entry_pool.capacity * sizeof(struct entry));
    layer->nodes = malloc(layer->node_pool.capacity * sizeof(struct node));
    layer->entry_buckets = calloc(buckets, sizeof(uint32_t));
    layer->node_buckets = calloc(NODE_BUCKETS, sizeof(uint32_t));
    if (!layer->entries || !layer->nodes || !layer->entry_buckets ||
        !layer->node_buckets) {
        page_layer_free(layer);
        return -ENOMEM;
    }
    *ret_layer = layer;
    return 0;
}

void page_layer_free(struct page_layer *layer)
{
    if (!layer)
        return;
    for (size_t i = 1; layer->nodes && i < layer->node_pool.touched; i++)
        free(layer->nodes[i].zeros);
    free(layer->entries);
    free(layer->entry_buckets);
    free(layer->nodes);
    free(layer->node_buckets);
    page_runs_done(&layer->runs);
    free(layer);
}

/* Make sure that count more can be taken from the array. */
static int pool_reserve(struct pool *pool, void **array, size_t size,
                        uint64_t count)
{
    size_t wanted = pool->capacity;
    void *larger;

    if (count >= UINT32_MAX - pool->used)
        return -ENOMEM;
    while (wanted - 1 - pool->used < count)
        wanted *= 2;
    if (wanted == pool->capacity)
        return 0;
    larger = reallocarray(*array, wanted, size);
    if (!larger)
        return -ENOMEM;
    *array = larger;
    pool->capacity = wanted;
    return 0;
}

static int reserve_entries(struct page_layer *layer, uint64_t count)
{
    void *array = layer->entries;
    int error =
        pool_reserve(&layer->entry_pool, &array, sizeof(struct entry), count);

    layer->entries = array;
    return error;
}

static int reserve_nodes(struct page_layer *layer, uint64_t count)
{
    void *array = layer->nodes;
    int error =
        pool_reserve(&layer->node_pool, &array, sizeof(struct node), count);

    layer->nodes = array;
    return error;
}

/* ---- entries and nodes --------------------------------------------------- */

static uint64_t mix(const struct page_layer *layer, uint64_t value)
{
    value = (value ^ layer->seed) * 0x9e3779b97f4a7c15U;
    value = (value ^ value >> 32) * 0xd6e8feb86659fd93U;
    return value ^ value >> 32;
}

static uint32_t *entry_bucket(const struct page_layer *layer, uint64_t page)
{
    uint64_t group = mix(layer, page / PAGE_GROUP);

    return &layer->entry_buckets[(group * PAGE_GROUP + page % PAGE_GROUP) &
                                 layer->entry_mask];
}

static uint32_t *node_bucket(const struct page_layer *layer, uint64_t chunk)
{
    return &layer->node_buckets[mix(layer, chunk) % NODE_BUCKETS];
}

static struct entry *find_entry(const struct page_layer *layer, uint64_t page)
{
    uint32_t at = *entry_bucket(layer, page);

    while (at != 0 && layer->entries[at].page != page)
        at = layer->entries[at].next_in_bucket;
    return at != 0 ? &layer->entries[at] : NULL;
}

static struct node *find_node(const struct page_layer *layer, uint64_t chunk)
{
    uint32_t at = *node_bucket(layer, chunk);

    while (at != 0 && layer->nodes[at].chunk != chunk)
        at = layer->nodes[at].next_in_bucket;
    return at != 0 ? &layer->nodes[at] : NULL;
}

/* Returns the chunk's node, a new one if need be: it was reserved. */
static struct node *make_node(struct page_layer *layer, uint64_t chunk)
{
    struct node *node = find_node(layer, chunk);
    uint32_t *bucket = node_bucket(layer, chunk);
    uint32_t at = layer->node_pool.first_free;

    if (node)
        return node;
    if (at != 0)
        layer->node_pool.first_free = layer->nodes[at].next_in_bucket;
    else
        at = (uint32_t)layer->node_pool.touched++;
    layer->node_pool.used++;
    layer->nodes[at] = (struct node){
        .chunk = chunk,
        .entries_oldest = UINT64_MAX,
        .zeros_oldest = UINT64_MAX,
        .next_in_bucket = *bucket,
        .is_used = true,
    };
    *bucket = at;
    return &layer->nodes[at];
}

static void add_entry(struct page_layer *layer, struct node *node,
                      uint64_t page, uint64_t position, uint32_t checksum)
{
    uint32_t *bucket = entry_bucket(layer, page);
    uint32_t at = layer->entry_pool.first_free;

    if (at != 0)
        layer->entry_pool.first_free = layer->entries[at].next_in_bucket;
    else
        at = (uint32_t)layer->entry_pool.touched++;
    layer->entry_pool.used++;
    layer->entries[at] = (struct entry){
        .page = page,
        .position = position,
        .checksum = checksum,
        .next_in_bucket = *bucket,
        .next_in_node = node->first_entry,
    };
    if (node->first_entry != 0)
        layer->entries[node->first_entry].previous_in_node = at;
    *bucket = at;
    node->first_entry = at;
    node->entries_count++;
}

static void remove_entry(struct page_layer *layer, struct node *node,
                         uint32_t at)
{
    struct entry *entry = &layer->entries[at];
    uint32_t *link = entry_bucket(layer, entry->page);

    while (*link != at)
        link = &layer->entries[*link].next_in_bucket;
    *link = entry->next_in_bucket;
    if (entry->next_in_node != 0)
        layer->entries[entry->next_in_node].previous_in_node =
            entry->previous_in_node;
    if (entry->previous_in_node != 0)
        layer->entries[entry->previous_in_node].next_in_node =
            entry->next_in_node;
    else
        node->first_entry = entry->next_in_node;
    if (--node->entries_count == 0)
        node->entries_oldest = UINT64_MAX;
    entry->next_in_bucket = layer->entry_pool.first_free;
    layer->entry_pool.first_free = at;
    layer->entry_pool.used--;
}

static void remove_node(struct page_layer *layer, struct node *node)
{
    uint32_t at = (uint32_t)(node - layer->nodes);
    uint32_t *link = node_bucket(layer, node->chunk);

    while (node->first_entry != 0)
        remove_entry(layer, node, node->first_entry);
    while (*link != at)
        link = &layer->nodes[*link].next_in_bucket;
    *link = node->next_in_bucket;
    free(node->zeros);
    node->zeros = NULL;
    node->is_used = false;
    node->next_in_bucket = layer->node_pool.first_free;
    layer->node_pool.first_free = at;
    layer->node_pool.used--;
}

static void remove_node_if_empty(struct page_layer *layer, struct node *node)
{
    if (node->entries_count == 0 && node->zeros_count == 0)
        remove_node(layer, node);
}

static uint64_t node_oldest(const struct node *node)
{
    return node->entries_oldest < node->zeros_oldest ? node->entries_oldest
                                                     : node->zeros_oldest;
}

/* ---- bits ---------------------------------------------------------------- */

static uint64_t *bitmap(const struct page_layer *layer, const struct node *node,
                        bool hole)
{
    return node->zeros + (hole ? 0 : layer->zeros_words);
}

static enum page_kind zero_kind(bool hole)
{
    return hole ? PAGE_HOLE : PAGE_ZERO;
}

/* Returns what the node's bits say of its page number in_chunk. */
static enum page_kind bit_kind(const struct page_layer *layer,
                               const struct node *node, uint32_t in_chunk)
{
    uint32_t word = in_chunk / WORD_BITS;
    uint64_t bit = 1ULL << in_chunk % WORD_BITS;

    if (node->zeros_count == 0)
        return PAGE_ABSENT;
    if ((bitmap(layer, node, true)[word] & bit) != 0)
        return PAGE_HOLE;
    return (bitmap(layer, node, false)[word] & bit) != 0 ? PAGE_ZERO
                                                         : PAGE_ABSENT;
}

/* Change these bits of a word, in the one map on, in the other off. */
static void set_bits(struct page_layer *layer, struct node *node, uint32_t word,
                     uint64_t bits, enum page_kind kind)
{
    uint64_t *hole = &bitmap(layer, node, true)[word];
    uint64_t *zero = &bitmap(layer, node, false)[word];

    node->zeros_count -= (uint32_t)__builtin_popcountll((*hole | *zero) & bits);
    *hole &= ~bits;
    *zero &= ~bits;
    if (kind == PAGE_HOLE)
        *hole |= bits;
    if (kind == PAGE_ZERO)
        *zero |= bits;
    if (kind != PAGE_ABSENT)
        node->zeros_count += (uint32_t)__builtin_popcountll(bits);
    if (node->zeros_count == 0)
        node->zeros_oldest = UINT64_MAX;
}

static void set_range(struct page_layer *layer, struct node *node,
                      uint32_t first, uint32_t count, enum page_kind kind)
{
    uint32_t end = first + count;

    for (uint32_t word = first / WORD_BITS; word * WORD_BITS < end; word++) {
        uint32_t start = word * WORD_BITS;
        uint64_t bits = UINT64_MAX;

        if (first > start)
            bits &= UINT64_MAX << (first - start);
        if (end < start + WORD_BITS)
            bits &= UINT64_MAX >> (start + WORD_BITS - end);
        set_bits(layer, node, word, bits, kind);
    }
}

/* ---- runs ---------------------------------------------------------------- */

static enum page_kind run_kind(const struct page_run *run)
{
    return run ? zero_kind(run->hole) : PAGE_ABSENT;
}

/* What the nodes of chunks first .. end - 1 say is older than a run over it. */
static void remove_nodes(struct page_layer *layer, uint64_t first, uint64_t end)
{
    if (end - first < layer->node_pool.used) {
        for (uint64_t chunk = first; chunk < end; chunk++) {
            struct node *node = find_node(layer, chunk);

            if (node)
                remove_node(layer, node);
        }
    } else {
        for (size_t i = 1; i < layer->node_pool.touched; i++) {
            struct node *node = &layer->nodes[i];

            if (node->is_used && node->chunk >= first && node->chunk < end)
                remove_node(layer, node);
        }
    }
}

/* Pages of one chunk. */
static void put_in_chunk(struct page_layer *layer, uint64_t first,
                         uint32_t count, uint64_t position,
                         const uint32_t checksums[])
{
    struct node *node = make_node(layer, first / layer->pages_per_chunk);

    if (position < node->entries_oldest)
        node->entries_oldest = position;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t at = position + (uint64_t)i * CACHE_PAGE;
        struct entry *entry = find_entry(layer, first + i);

        if (entry) {
            entry->position = at;
            entry->checksum = checksums[i];
        } else {
            add_entry(layer, node, first + i, at, checksums[i]);
        }
    }
    if (node->zeros_count > 0)
        set_range(layer, node, (uint32_t)(first % layer->pages_per_chunk),
                  count, PAGE_ABSENT);
}

/* Returns how many of count pages, at least one, are in first's chunk. */
static uint32_t count_in_chunk(const struct page_layer *layer, uint64_t first,
                               uint64_t count)
{
    uint32_t rest =
        layer->pages_per_chunk - (uint32_t)(first % layer->pages_per_chunk);

    return count < rest ? (uint32_t)count : rest;
}

int page_layer_put(struct page_layer *layer, uint64_t first, uint64_t count,
                   uint64_t position, const uint32_t checksums[])
{
    int error;

    if (count == 0)
        return 0;
    error = reserve_entries(layer, count);
    if (error == 0)
        error = reserve_nodes(layer, count / layer->pages_per_chunk + 2);
    if (error == 0) {
        layer->latest = position + (count - 1) * CACHE_PAGE;
        for (uint64_t done = 0; done < count;) {
            uint32_t part = count_in_chunk(layer, first + done, count - done);

            put_in_chunk(layer, first + done, part,
                         position + done * CACHE_PAGE, checksums + done);
            done += part;
        }
    }
    return error;
}

/* Pages of one chunk are zeros; its node and bits are there already. */
static void put_zero_in_chunk(struct page_layer *layer, uint64_t first,
                              uint32_t count, bool hole, uint64_t position)
{
    struct node *node = find_node(layer, first / layer->pages_per_chunk);

    assert(node && node->zeros);
    if (node->entries_count > count) {
        for (uint64_t page = first; page < first + count; page++) {
            struct entry *entry = find_entry(layer, page);

            if (entry)
                remove_entry(layer, node, (uint32_t)(entry - layer->entries));
        }
    } else {
        for (uint32_t at = node->first_entry, next; at != 0; at = next) {
            next = layer->entries[at].next_in_node;
            if (layer->entries[at].page - first < count)
                remove_entry(layer, node, at);
        }
    }
    set_range(layer, node, (uint32_t)(first % layer->pages_per_chunk), count,
              zero_kind(hole));
    if (position < node->zeros_oldest)
        node->zeros_oldest = position;
}

/* Have a node with bitmaps for each chunk of the pages first .. end - 1. */
static int reserve_zeros(struct page_layer *layer, uint64_t first, uint64_t end)
{
    int error = reserve_nodes(layer, RUN_CHUNKS + 2);

    if (error != 0)
        return error;
    for (uint64_t page = first; page < end;
         page += count_in_chunk(layer, page, end - page)) {
        struct node *node = make_node(layer, page / layer->pages_per_chunk);

        if (!node->zeros)
            node->zeros =
                calloc((size_t)layer->zeros_words * 2, sizeof(uint64_t));
        if (!node->zeros) {
            remove_node_if_empty(layer, node);
            return -ENOMEM;
        }
    }
    return 0;
}

static void put_zeros(struct page_layer *layer, uint64_t first, uint64_t end,
                      bool hole, uint64_t position)
{
    while (first < end) {
        uint32_t part = count_in_chunk(layer, first, end - first);

        put_zero_in_chunk(layer, first, part, hole, position);
        first += part;
    }
}

/* After -ENOMEM: nodes that were only just made say nothing. */
static void remove_empty(struct page_layer *layer, uint64_t first, uint64_t end)
{
    for (uint64_t page = first; page < end;
         page += count_in_chunk(layer, page, end - page)) {
        struct node *node = find_node(layer, page / layer->pages_per_chunk);

        if (node)
            remove_node_if_empty(layer, node);
    }
}

int page_layer_put_zero(struct page_layer *layer, uint64_t first,
                        uint64_t count, bool hole, uint64_t position)
{
    uint64_t size = layer->pages_per_chunk;
    uint64_t end = first + count;
    uint64_t run_first = first / size + (first % size != 0);
    uint64_t run_last = end / size;
    bool has_run = run_last > run_first && run_last - run_first >= RUN_CHUNKS;
    uint64_t left_end = has_run ? run_first * size : end;
    uint64_t right_first = has_run ? run_last * size : end;
    int error;

    if (count == 0)
        return 0;
    error = page_runs_reserve(&layer->runs, 2);
    if (error == 0)
        error = reserve_zeros(layer, first, left_end);
    if (error == 0)
        error = reserve_zeros(layer, right_first, end);
    if (error == 0) {
        layer->latest = position;
        put_zeros(layer, first, left_end, hole, position);
        put_zeros(layer, right_first, end, hole, position);
        if (has_run) {
            remove_nodes(layer, run_first, run_last);
            page_runs_put(&layer->runs, run_first, run_last, hole, position);
        }
    } else {
        remove_empty(layer, first, left_end);
        remove_empty(layer, right_first, end);
    }
    return error;
}

/* ---- look up ------------------------------------------------------------- */

static struct page_location locate(const struct page_layer *layer,
                                   const struct node *node,
                                   enum page_kind below, uint64_t page)
{
    struct page_location location = {.kind = below};

    if (node && node->entries_count > 0) {
        const struct entry *entry = find_entry(layer, page);

        if (entry)
            return (struct page_location){
                .kind = PAGE_RECORD,
                .checksum = entry->checksum,
                .position = entry->position,
            };
    }
    if (node) {
        enum page_kind kind =
            bit_kind(layer, node, (uint32_t)(page % layer->pages_per_chunk));

        if (kind != PAGE_ABSENT)
            location.kind = kind;
    }
    return location;
}

void page_layer_find(const struct page_layer *layer, uint64_t first,
                     uint64_t count, struct page_location locations[])
{
    for (uint64_t done = 0; done < count;) {
        uint32_t part = count_in_chunk(layer, first + done, count - done);
        uint64_t chunk = (first + done) / layer->pages_per_chunk;
        const struct node *node = find_node(layer, chunk);
        enum page_kind below = run_kind(page_runs_find(&layer->runs, chunk));

        for (uint32_t i = 0; i < part; i++, done++) {
            if (locations[done].kind == PAGE_ABSENT)
                locations[done] = locate(layer, node, below, first + done);
        }
    }
}

void page_layer_collect(const struct page_layer *layer, uint64_t chunk,
                        struct page_set *set)
{
    const uint32_t pages = layer->pages_per_chunk;
    const struct node *node = find_node(layer, chunk);

    assert(pages > 0 && pages == set->pages_per_chunk);
    set->latest = layer->latest;
    set->run = run_kind(page_runs_find(&layer->runs, chunk));
    for (uint32_t i = 0; i < pages; i++) {
        enum page_kind kind = node ? bit_kind(layer, node, i) : PAGE_ABSENT;

        set->pages[i] = (struct page_location){
            .kind = kind != PAGE_ABSENT ? kind : set->run,
        };
    }
    for (uint32_t at = node ? node->first_entry : 0; at != 0;
         at = layer->entries[at].next_in_node) {
        const struct entry *entry = &layer->entries[at];

        set->pages[entry->page % pages] = (struct page_location){
            .kind = PAGE_RECORD,
            .checksum = entry->checksum,
            .position = entry->position,
        };
    }
}

/* ---- forget -------------------------------------------------------------- */

static void drop_entries(struct page_layer *layer, struct node *node,
                         const struct page_set *set)
{
    uint64_t oldest = UINT64_MAX;

    for (uint32_t at = node->first_entry, next; at != 0; at = next) {
        const struct entry *entry = &layer->entries[at];
        const struct page_location *was =
            &set->pages[entry->page % layer->pages_per_chunk];

        next = entry->next_in_node;
        if (was->kind == PAGE_RECORD && was->position == entry->position)
            remove_entry(layer, node, at);
        else if (entry->position < oldest)
            oldest = entry->position;
    }
    node->entries_oldest = oldest;
}

static void drop_bits(struct page_layer *layer, struct node *node,
                      const struct page_set *set)
{
    for (uint32_t i = 0; i < layer->pages_per_chunk && node->zeros_count > 0;
         i++) {
        enum page_kind kind = bit_kind(layer, node, i);

        if (kind != PAGE_ABSENT && kind == set->pages[i].kind)
            set_bits(layer, node, i / WORD_BITS, 1ULL << i % WORD_BITS,
                     PAGE_ABSENT);
    }
    /* A bit that is left was put after the set was collected. */
    if (node->zeros_count > 0 && node->zeros_oldest <= set->latest)
        node->zeros_oldest = set->latest + 1;
}

void page_layer_drop(struct page_layer *layer, uint64_t chunk,
                     const struct page_set *set)
{
    const struct page_run *run;
    struct node *node;

    run = page_runs_find(&layer->runs, chunk);
    /* Entries that went would let the run, newer or not, show. */
    if (!run || (run_kind(run) == set->run && run->latest <= set->latest &&
                 page_runs_reserve(&layer->runs, 1) == 0)) {
        node = find_node(layer, chunk);
        if (node) {
            drop_entries(layer, node, set);
            drop_bits(layer, node, set);
            remove_node_if_empty(layer, node);
        }
        if (run)
            page_runs_drop(&layer->runs, chunk, chunk + 1,
                           set->run == PAGE_HOLE, set->latest);
    }
}

void page_layer_drop_run(struct page_layer *layer, uint64_t first_chunk,
                         uint64_t count, bool hole, uint64_t latest)
{
    /* Without the memory for one more they stay, and are told again. */
    if (page_runs_reserve(&layer->runs, 1) == 0)
        page_runs_drop(&layer->runs, first_chunk, first_chunk + count, hole,
                       latest);
}

/* ---- lists --------------------------------------------------------------- */

/* Let the chunk at i of a heap, its largest first, sink to its place. */
static void heap_sink(uint64_t heap[], size_t count, size_t i)
{
    for (;;) {
        size_t largest = i;
        uint64_t chunk = heap[i];

        for (size_t child = 2 * i + 1; child <= 2 * i + 2; child++) {
            if (child < count && heap[child] > heap[largest])
                largest = child;
        }
        if (largest == i)
            return;
        heap[i] = heap[largest];
        heap[largest] = chunk;
        i = largest;
    }
}

static void heap_rise(uint64_t heap[], size_t i)
{
    while (i > 0 && heap[(i - 1) / 2] < heap[i]) {
        uint64_t chunk = heap[i];

        heap[i] = heap[(i - 1) / 2];
        heap[(i - 1) / 2] = chunk;
        i = (i - 1) / 2;
    }
}

void page_layer_add_chunks(const struct page_layer *layer,
                           const struct page_layer *except, uint64_t before,
                           uint64_t from, uint64_t heap[], size_t max,
                           size_t *count)
{
    for (size_t i = 1; i < layer->node_pool.touched; i++) {
        const struct node *node = &layer->nodes[i];

        if (!node->is_used || node->chunk < from ||
            node_oldest(node) >= before ||
            (except && find_node(except, node->chunk)))
            continue;
        /* Keep the smallest max of them, the largest on top. */
        if (*count < max) {
            heap[*count] = node->chunk;
            heap_rise(heap, (*count)++);
        } else if (max > 0 && node->chunk < heap[0]) {
            heap[0] = node->chunk;
            heap_sink(heap, *count, 0);
        }
    }
}

void page_layer_sort_chunks(uint64_t heap[], size_t count)
{
    for (size_t left = count; left > 1; left--) {
        uint64_t largest = heap[0];

        heap[0] = heap[left - 1];
        heap[left - 1] = largest;
        heap_sink(heap, left - 1, 0);
    }
}

const struct page_runs *page_layer_runs(const struct page_layer *layer)
{
    return &layer->runs;
}

bool page_layer_needs_before(const struct page_layer *layer, uint64_t position)
{
    for (size_t i = 1; i < layer->node_pool.touched; i++) {
        if (layer->nodes[i].is_used && node_oldest(&layer->nodes[i]) < position)
            return true;
    }
    for (size_t i = 0; i < layer->runs.count; i++) {
        if (layer->runs.array[i].position < position)
            return true;
    }
    return false;
}

uint32_t page_layer_records(const struct page_layer *layer, uint64_t chunk)
{
    const struct node *node = find_node(layer, chunk);

    return node ? node->entries_count : 0;
}

struct page_layer_use page_layer_use(const struct page_layer *layer)
{
    return (struct page_layer_use){
        .entries = layer->entry_pool.used,
        .nodes = layer->node_pool.used,
        .runs = layer->runs.count,
    };
}

bool page_layer_is_empty(const struct page_layer *layer)
{
    return layer->node_pool.used == 0 && layer->runs.count == 0;
}

uint64_t page_layer_latest(const struct page_layer *layer)
{
    return layer->latest;
}

void page_layer_set_latest(struct page_layer *layer, uint64_t latest)
{
    layer->latest = latest;
}

/* ---- merge --------------------------------------------------------------- */

/* Take the bits of old that neither bits nor entries of node contradict. */
static void merge_bits(struct page_layer *layer, struct node *node,
                       struct node *old)
{
    if (old->zeros_count == 0)
        return;
    for (uint32_t at = node->first_entry; at != 0;
         at = layer->entries[at].next_in_node) {
        uint32_t page =
            (uint32_t)(layer->entries[at].page % layer->pages_per_chunk);

        set_bits(layer, old, page / WORD_BITS, 1ULL << page % WORD_BITS,
                 PAGE_ABSENT);
    }
    if (old->zeros_count > 0 && old->zeros_oldest < node->zeros_oldest)
        node->zeros_oldest = old->zeros_oldest;
    if (!node->zeros) {
        node->zeros = old->zeros;
        node->zeros_count = old->zeros_count;
        old->zeros = NULL;
        old->zeros_count = 0;
        return;
    }
    for (uint32_t word = 0; word < layer->zeros_words; word++) {
        uint64_t known =
            bitmap(layer, node, true)[word] | bitmap(layer, node, false)[word];
        uint64_t holes = bitmap(layer, old, true)[word] & ~known;
        uint64_t zeros = bitmap(layer, old, false)[word] & ~known;

        set_bits(layer, node, word, holes, PAGE_HOLE);
        set_bits(layer, node, word, zeros, PAGE_ZERO);
    }
}

/* The same for entries; from: whose node old is. */
static void merge_entries(struct page_layer *layer, struct node *node,
                          const struct page_layer *from, const struct node *old)
{
    for (uint32_t at = old->first_entry; at != 0;
         at = from->entries[at].next_in_node) {
        const struct entry *entry = &from->entries[at];

        if (find_entry(layer, entry->page) ||
            bit_kind(layer, node,
                     (uint32_t)(entry->page % layer->pages_per_chunk)) !=
                PAGE_ABSENT)
            continue;
        add_entry(layer, node, entry->page, entry->position, entry->checksum);
        if (old->entries_oldest < node->entries_oldest)
            node->entries_oldest = old->entries_oldest;
    }
}

/* The runs of above over those of below. */
static void merge_runs(struct page_layer *above, struct page_layer *below)
{
    struct page_runs merged = below->runs;

    for (size_t i = 0; i < above->runs.count; i++)
        page_runs_put_run(&merged, &above->runs.array[i]);
    below->runs = above->runs;
    above->runs = merged;
}

int page_layer_merge(struct page_layer *above, struct page_layer *below)
{
    int error = reserve_entries(above, below->entry_pool.used);

    if (error == 0)
        error = reserve_nodes(above, below->node_pool.used);
    if (error == 0)
        error = page_runs_reserve(&below->runs, 2 * above->runs.count);
    if (error != 0)
        return error;
    for (size_t i = 1; i < below->node_pool.touched; i++) {
        struct node *old = &below->nodes[i];
        struct node *node;

        /* What a run above covers is void; a node above it is newer yet. */
        if (!old->is_used || page_runs_find(&above->runs, old->chunk))
            continue;
        node = make_node(above, old->chunk);
        merge_bits(above, node, old);
        merge_entries(above, node, below, old);
        remove_node_if_empty(above, node);
    }
    merge_runs(above, below);
    if (below->latest > above->latest)
        above->latest = below->latest;
    return 0;
}
