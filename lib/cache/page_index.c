/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Three layers, the first that knows a page rules:
 *
 *   entries   a page in the journal: hashed by page, and in a list per chunk
 *   nodes     a chunk with entries, or with zeros that are no long run: two
 *             bitmaps, holes and other zeros
 *   runs      RUN_CHUNKS or more whole chunks of zeros: see page_runs.h
 *
 * A page has an entry or a bit or neither, never both.  What a node says is
 * newer than the run below it, as putting a run removes the nodes under it.
 * So forgetting an entry would bring the run back to light: page_index_drop
 * forgets either both, or none.
 */
#include "cache/page_index.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/mutex.h"
#include "cache/geometry.h"
#include "cache/page_runs.h"

enum {
    RUN_CHUNKS = 64, /* shorter zeros go to the nodes' bitmaps */
    NODES_MAX = 1 << 16,
    RUNS_MAX = 1 << 16,
    NODE_BUCKETS = 1 << 16,
    ENTRY_BUCKETS_MIN = 1 << 10,
    STAMPS = 1 << 13,
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

struct page_index {
    struct mutex lock;
    uint32_t pages_per_chunk;
    uint32_t zeros_words; /* of one bitmap */
    size_t pages_max;
    uint64_t seed; /* so that nobody can choose pages that collide */
    uint64_t latest GUARDED_BY(lock); /* the highest position put */

    struct pool entry_pool GUARDED_BY(lock);
    struct entry *entries GUARDED_BY(lock);
    uint32_t *entry_buckets GUARDED_BY(lock);
    uint32_t entry_mask;

    struct pool node_pool GUARDED_BY(lock);
    struct node *nodes GUARDED_BY(lock);
    uint32_t *node_buckets GUARDED_BY(lock);

    struct page_runs runs GUARDED_BY(lock);

    /* Relaxed order: they change under the lock that page_index_find takes,
     * so who read a stamp and then the page, sees it change with the page. */
    _Atomic uint64_t stamps[STAMPS];
    _Atomic uint64_t stamp_of_all;
};

/* ---- memory -------------------------------------------------------------- */

static void free_parts(struct page_index *index)
{
    for (size_t i = 1; index->nodes && i < index->node_pool.touched; i++)
        free(index->nodes[i].zeros);
    free(index->entries);
    free(index->entry_buckets);
    free(index->nodes);
    free(index->node_buckets);
    page_runs_done(&index->runs);
}

int page_index_new(uint32_t pages_per_chunk, size_t pages_max,
                   struct page_index **ret_index)
{
    struct page_index *index = calloc(1, sizeof(*index));
    size_t buckets = ENTRY_BUCKETS_MIN;

    assert(pages_per_chunk >= WORD_BITS &&
           (pages_per_chunk & (pages_per_chunk - 1)) == 0);
    if (!index)
        return -ENOMEM;
    while (buckets < pages_max && buckets < (size_t)1 << 31)
        buckets *= 2;
    index->pages_per_chunk = pages_per_chunk;
    index->zeros_words = pages_per_chunk / WORD_BITS;
    index->pages_max = pages_max;
    index->entry_mask = (uint32_t)(buckets - 1);
    /* Large and not touched: takes no memory yet. */
    index->entry_pool = (struct pool){.capacity = pages_max + 2, .touched = 1};
    index->node_pool = (struct pool){.capacity = 1024, .touched = 1};
    index->entries = malloc(index->entry_pool.capacity * sizeof(struct entry));
    index->nodes = malloc(index->node_pool.capacity * sizeof(struct node));
    index->entry_buckets = calloc(buckets, sizeof(uint32_t));
    index->node_buckets = calloc(NODE_BUCKETS, sizeof(uint32_t));
    if (!index->entries || !index->nodes || !index->entry_buckets ||
        !index->node_buckets ||
        getrandom(&index->seed, sizeof(index->seed), 0) !=
            (ssize_t)sizeof(index->seed)) {
        free_parts(index);
        free(index);
        return -ENOMEM;
    }
    mutex_init(&index->lock);
    *ret_index = index;
    return 0;
}

void page_index_free(struct page_index *index)
{
    if (!index)
        return;
    free_parts(index);
    mutex_done(&index->lock);
    free(index);
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

static int reserve_entries(struct page_index *index, uint64_t count)
{
    void *array = index->entries;
    int error =
        pool_reserve(&index->entry_pool, &array, sizeof(struct entry), count);

    index->entries = array;
    return error;
}

static int reserve_nodes(struct page_index *index, uint64_t count)
{
    void *array = index->nodes;
    int error =
        pool_reserve(&index->node_pool, &array, sizeof(struct node), count);

    index->nodes = array;
    return error;
}

/* ---- entries and nodes --------------------------------------------------- */

static uint64_t mix(const struct page_index *index, uint64_t value)
{
    value = (value ^ index->seed) * 0x9e3779b97f4a7c15U;
    value = (value ^ value >> 32) * 0xd6e8feb86659fd93U;
    return value ^ value >> 32;
}

static uint32_t *entry_bucket(const struct page_index *index, uint64_t page)
{
    uint64_t group = mix(index, page / PAGE_GROUP);

    return &index->entry_buckets[(group * PAGE_GROUP + page % PAGE_GROUP) &
                                 index->entry_mask];
}

static uint32_t *node_bucket(const struct page_index *index, uint64_t chunk)
{
    return &index->node_buckets[mix(index, chunk) % NODE_BUCKETS];
}

static struct entry *find_entry(const struct page_index *index, uint64_t page)
{
    uint32_t at = *entry_bucket(index, page);

    while (at != 0 && index->entries[at].page != page)
        at = index->entries[at].next_in_bucket;
    return at != 0 ? &index->entries[at] : NULL;
}

static struct node *find_node(const struct page_index *index, uint64_t chunk)
{
    uint32_t at = *node_bucket(index, chunk);

    while (at != 0 && index->nodes[at].chunk != chunk)
        at = index->nodes[at].next_in_bucket;
    return at != 0 ? &index->nodes[at] : NULL;
}

/* Returns the chunk's node, a new one if need be: it was reserved. */
static struct node *make_node(struct page_index *index, uint64_t chunk)
{
    struct node *node = find_node(index, chunk);
    uint32_t *bucket = node_bucket(index, chunk);
    uint32_t at = index->node_pool.first_free;

    if (node)
        return node;
    if (at != 0)
        index->node_pool.first_free = index->nodes[at].next_in_bucket;
    else
        at = (uint32_t)index->node_pool.touched++;
    index->node_pool.used++;
    index->nodes[at] = (struct node){
        .chunk = chunk,
        .entries_oldest = UINT64_MAX,
        .zeros_oldest = UINT64_MAX,
        .next_in_bucket = *bucket,
        .is_used = true,
    };
    *bucket = at;
    return &index->nodes[at];
}

static void add_entry(struct page_index *index, struct node *node,
                      uint64_t page, uint64_t position, uint32_t checksum)
{
    uint32_t *bucket = entry_bucket(index, page);
    uint32_t at = index->entry_pool.first_free;

    if (at != 0)
        index->entry_pool.first_free = index->entries[at].next_in_bucket;
    else
        at = (uint32_t)index->entry_pool.touched++;
    index->entry_pool.used++;
    index->entries[at] = (struct entry){
        .page = page,
        .position = position,
        .checksum = checksum,
        .next_in_bucket = *bucket,
        .next_in_node = node->first_entry,
    };
    if (node->first_entry != 0)
        index->entries[node->first_entry].previous_in_node = at;
    *bucket = at;
    node->first_entry = at;
    node->entries_count++;
}

static void remove_entry(struct page_index *index, struct node *node,
                         uint32_t at)
{
    struct entry *entry = &index->entries[at];
    uint32_t *link = entry_bucket(index, entry->page);

    while (*link != at)
        link = &index->entries[*link].next_in_bucket;
    *link = entry->next_in_bucket;
    if (entry->next_in_node != 0)
        index->entries[entry->next_in_node].previous_in_node =
            entry->previous_in_node;
    if (entry->previous_in_node != 0)
        index->entries[entry->previous_in_node].next_in_node =
            entry->next_in_node;
    else
        node->first_entry = entry->next_in_node;
    if (--node->entries_count == 0)
        node->entries_oldest = UINT64_MAX;
    entry->next_in_bucket = index->entry_pool.first_free;
    index->entry_pool.first_free = at;
    index->entry_pool.used--;
}

static void remove_node(struct page_index *index, struct node *node)
{
    uint32_t at = (uint32_t)(node - index->nodes);
    uint32_t *link = node_bucket(index, node->chunk);

    while (node->first_entry != 0)
        remove_entry(index, node, node->first_entry);
    while (*link != at)
        link = &index->nodes[*link].next_in_bucket;
    *link = node->next_in_bucket;
    free(node->zeros);
    node->zeros = NULL;
    node->is_used = false;
    node->next_in_bucket = index->node_pool.first_free;
    index->node_pool.first_free = at;
    index->node_pool.used--;
}

static void remove_node_if_empty(struct page_index *index, struct node *node)
{
    if (node->entries_count == 0 && node->zeros_count == 0)
        remove_node(index, node);
}

static uint64_t node_oldest(const struct node *node)
{
    return node->entries_oldest < node->zeros_oldest ? node->entries_oldest
                                                     : node->zeros_oldest;
}

/* ---- bits ---------------------------------------------------------------- */

static uint64_t *bitmap(const struct page_index *index, const struct node *node,
                        bool hole)
{
    return node->zeros + (hole ? 0 : index->zeros_words);
}

static enum page_kind zero_kind(bool hole)
{
    return hole ? PAGE_HOLE : PAGE_ZERO;
}

/* Returns what the node's bits say of its page number in_chunk. */
static enum page_kind bit_kind(const struct page_index *index,
                               const struct node *node, uint32_t in_chunk)
{
    uint32_t word = in_chunk / WORD_BITS;
    uint64_t bit = 1ULL << in_chunk % WORD_BITS;

    if (node->zeros_count == 0)
        return PAGE_ABSENT;
    if ((bitmap(index, node, true)[word] & bit) != 0)
        return PAGE_HOLE;
    return (bitmap(index, node, false)[word] & bit) != 0 ? PAGE_ZERO
                                                         : PAGE_ABSENT;
}

/* Change these bits of a word, in the one map on, in the other off. */
static void set_bits(struct page_index *index, struct node *node, uint32_t word,
                     uint64_t bits, enum page_kind kind)
{
    uint64_t *hole = &bitmap(index, node, true)[word];
    uint64_t *zero = &bitmap(index, node, false)[word];

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

static void set_range(struct page_index *index, struct node *node,
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
        set_bits(index, node, word, bits, kind);
    }
}

/* ---- runs ---------------------------------------------------------------- */

static enum page_kind run_kind(const struct page_run *run)
{
    return run ? zero_kind(run->hole) : PAGE_ABSENT;
}

/* What the nodes of chunks first .. end - 1 say is older than a run over it. */
static void remove_nodes(struct page_index *index, uint64_t first, uint64_t end)
{
    if (end - first < index->node_pool.used) {
        for (uint64_t chunk = first; chunk < end; chunk++) {
            struct node *node = find_node(index, chunk);

            if (node)
                remove_node(index, node);
        }
    } else {
        for (size_t i = 1; i < index->node_pool.touched; i++) {
            struct node *node = &index->nodes[i];

            if (node->is_used && node->chunk >= first && node->chunk < end)
                remove_node(index, node);
        }
    }
}

/* ---- put ----------------------------------------------------------------- */

bool page_index_has_room(struct page_index *index, uint64_t count)
{
    uint64_t nodes = count / index->pages_per_chunk + 2;
    bool has_room;

    if (count == 0) /* zeros of less than a run, at both ends of it */
        nodes = RUN_CHUNKS + 2;
    mutex_lock(&index->lock);
    has_room =
        (count == 0 || index->entry_pool.used + count <= index->pages_max) &&
        index->node_pool.used + nodes <= NODES_MAX &&
        index->runs.count + 2 <= RUNS_MAX;
    mutex_unlock(&index->lock);
    return has_room;
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

/* Pages of one chunk. */
static void put_in_chunk(struct page_index *index, uint64_t first,
                         uint32_t count, uint64_t position,
                         const uint32_t checksums[])
{
    struct node *node = make_node(index, first / index->pages_per_chunk);

    if (position < node->entries_oldest)
        node->entries_oldest = position;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t at = position + (uint64_t)i * CACHE_PAGE;
        struct entry *entry = find_entry(index, first + i);

        if (entry) {
            entry->position = at;
            entry->checksum = checksums[i];
        } else {
            add_entry(index, node, first + i, at, checksums[i]);
        }
    }
    if (node->zeros_count > 0)
        set_range(index, node, (uint32_t)(first % index->pages_per_chunk),
                  count, PAGE_ABSENT);
}

/* Returns how many of count pages, at least one, are in first's chunk. */
static uint32_t count_in_chunk(const struct page_index *index, uint64_t first,
                               uint64_t count)
{
    uint32_t rest =
        index->pages_per_chunk - (uint32_t)(first % index->pages_per_chunk);

    return count < rest ? (uint32_t)count : rest;
}

int page_index_put(struct page_index *index, uint64_t first, uint64_t count,
                   uint64_t position, const uint32_t checksums[])
{
    int error;

    if (count == 0)
        return 0;
    mutex_lock(&index->lock);
    error = reserve_entries(index, count);
    if (error == 0)
        error = reserve_nodes(index, count / index->pages_per_chunk + 2);
    if (error == 0) {
        index->latest = position + (count - 1) * CACHE_PAGE;
        for (uint64_t done = 0; done < count;) {
            uint32_t part = count_in_chunk(index, first + done, count - done);

            put_in_chunk(index, first + done, part,
                         position + done * CACHE_PAGE, checksums + done);
            done += part;
        }
        page_index_touch(index, first, count);
    }
    mutex_unlock(&index->lock);
    return error;
}

/* Pages of one chunk are zeros; its node and bits are there already. */
static void put_zero_in_chunk(struct page_index *index, uint64_t first,
                              uint32_t count, bool hole, uint64_t position)
{
    struct node *node = find_node(index, first / index->pages_per_chunk);

    assert(node && node->zeros);
    if (node->entries_count > count) {
        for (uint64_t page = first; page < first + count; page++) {
            struct entry *entry = find_entry(index, page);

            if (entry)
                remove_entry(index, node, (uint32_t)(entry - index->entries));
        }
    } else {
        for (uint32_t at = node->first_entry, next; at != 0; at = next) {
            next = index->entries[at].next_in_node;
            if (index->entries[at].page - first < count)
                remove_entry(index, node, at);
        }
    }
    set_range(index, node, (uint32_t)(first % index->pages_per_chunk), count,
              zero_kind(hole));
    if (position < node->zeros_oldest)
        node->zeros_oldest = position;
}

/* Have a node with bitmaps for each chunk of the pages first .. end - 1. */
static int reserve_zeros(struct page_index *index, uint64_t first, uint64_t end)
{
    int error = reserve_nodes(index, RUN_CHUNKS + 2);

    if (error != 0)
        return error;
    for (uint64_t page = first; page < end;
         page += count_in_chunk(index, page, end - page)) {
        struct node *node = make_node(index, page / index->pages_per_chunk);

        if (!node->zeros)
            node->zeros =
                calloc((size_t)index->zeros_words * 2, sizeof(uint64_t));
        if (!node->zeros) {
            remove_node_if_empty(index, node);
            return -ENOMEM;
        }
    }
    return 0;
}

static void put_zeros(struct page_index *index, uint64_t first, uint64_t end,
                      bool hole, uint64_t position)
{
    while (first < end) {
        uint32_t part = count_in_chunk(index, first, end - first);

        put_zero_in_chunk(index, first, part, hole, position);
        first += part;
    }
}

/* After -ENOMEM: nodes that were only just made say nothing. */
static void remove_empty(struct page_index *index, uint64_t first, uint64_t end)
{
    for (uint64_t page = first; page < end;
         page += count_in_chunk(index, page, end - page)) {
        struct node *node = find_node(index, page / index->pages_per_chunk);

        if (node)
            remove_node_if_empty(index, node);
    }
}

int page_index_put_zero(struct page_index *index, uint64_t first,
                        uint64_t count, bool hole, uint64_t position)
{
    uint64_t size = index->pages_per_chunk;
    uint64_t end = first + count;
    uint64_t run_first = first / size + (first % size != 0);
    uint64_t run_last = end / size;
    bool has_run = run_last > run_first && run_last - run_first >= RUN_CHUNKS;
    uint64_t left_end = has_run ? run_first * size : end;
    uint64_t right_first = has_run ? run_last * size : end;
    int error;

    if (count == 0)
        return 0;
    mutex_lock(&index->lock);
    error = page_runs_reserve(&index->runs, 2);
    if (error == 0)
        error = reserve_zeros(index, first, left_end);
    if (error == 0)
        error = reserve_zeros(index, right_first, end);
    if (error == 0) {
        index->latest = position;
        put_zeros(index, first, left_end, hole, position);
        put_zeros(index, right_first, end, hole, position);
        if (has_run) {
            remove_nodes(index, run_first, run_last);
            page_runs_put(&index->runs, run_first, run_last, hole, position);
        }
        page_index_touch(index, first, count);
    } else {
        remove_empty(index, first, left_end);
        remove_empty(index, right_first, end);
    }
    mutex_unlock(&index->lock);
    return error;
}

/* ---- look up ------------------------------------------------------------- */

static struct page_location locate(const struct page_index *index,
                                   const struct node *node,
                                   enum page_kind below, uint64_t page)
{
    struct page_location location = {.kind = below};

    if (node && node->entries_count > 0) {
        const struct entry *entry = find_entry(index, page);

        if (entry)
            return (struct page_location){
                .kind = PAGE_RECORD,
                .checksum = entry->checksum,
                .position = entry->position,
            };
    }
    if (node) {
        enum page_kind kind =
            bit_kind(index, node, (uint32_t)(page % index->pages_per_chunk));

        if (kind != PAGE_ABSENT)
            location.kind = kind;
    }
    return location;
}

void page_index_find(struct page_index *index, uint64_t first, uint64_t count,
                     struct page_location ret_locations[])
{
    mutex_lock(&index->lock);
    for (uint64_t done = 0; done < count;) {
        uint32_t part = count_in_chunk(index, first + done, count - done);
        uint64_t chunk = (first + done) / index->pages_per_chunk;
        const struct node *node = find_node(index, chunk);
        enum page_kind below = run_kind(page_runs_find(&index->runs, chunk));

        for (uint32_t i = 0; i < part; i++, done++)
            ret_locations[done] = locate(index, node, below, first + done);
    }
    mutex_unlock(&index->lock);
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
    const uint32_t pages = index->pages_per_chunk;
    const struct node *node;

    assert(pages > 0 && pages == set->pages_per_chunk);
    mutex_lock(&index->lock);
    node = find_node(index, chunk);
    set->latest = index->latest;
    set->run = run_kind(page_runs_find(&index->runs, chunk));
    for (uint32_t i = 0; i < pages; i++) {
        enum page_kind kind = node ? bit_kind(index, node, i) : PAGE_ABSENT;

        set->pages[i] = (struct page_location){
            .kind = kind != PAGE_ABSENT ? kind : set->run,
        };
    }
    for (uint32_t at = node ? node->first_entry : 0; at != 0;
         at = index->entries[at].next_in_node) {
        const struct entry *entry = &index->entries[at];

        set->pages[entry->page % pages] = (struct page_location){
            .kind = PAGE_RECORD,
            .checksum = entry->checksum,
            .position = entry->position,
        };
    }
    mutex_unlock(&index->lock);
    set->known = 0;
    for (uint32_t i = 0; i < set->pages_per_chunk; i++)
        set->known += set->pages[i].kind != PAGE_ABSENT;
}

/* ---- forget -------------------------------------------------------------- */

static void drop_entries(struct page_index *index, struct node *node,
                         const struct page_set *set)
{
    uint64_t oldest = UINT64_MAX;

    for (uint32_t at = node->first_entry, next; at != 0; at = next) {
        const struct entry *entry = &index->entries[at];
        const struct page_location *was =
            &set->pages[entry->page % index->pages_per_chunk];

        next = entry->next_in_node;
        if (was->kind == PAGE_RECORD && was->position == entry->position)
            remove_entry(index, node, at);
        else if (entry->position < oldest)
            oldest = entry->position;
    }
    node->entries_oldest = oldest;
}

static void drop_bits(struct page_index *index, struct node *node,
                      const struct page_set *set)
{
    for (uint32_t i = 0; i < index->pages_per_chunk && node->zeros_count > 0;
         i++) {
        enum page_kind kind = bit_kind(index, node, i);

        if (kind != PAGE_ABSENT && kind == set->pages[i].kind)
            set_bits(index, node, i / WORD_BITS, 1ULL << i % WORD_BITS,
                     PAGE_ABSENT);
    }
    /* A bit that is left was put after the set was collected. */
    if (node->zeros_count > 0 && node->zeros_oldest <= set->latest)
        node->zeros_oldest = set->latest + 1;
}

void page_index_drop(struct page_index *index, uint64_t chunk,
                     const struct page_set *set)
{
    const struct page_run *run;
    struct node *node;

    mutex_lock(&index->lock);
    run = page_runs_find(&index->runs, chunk);
    /* Entries that went would let the run, newer or not, show. */
    if (!run || (run_kind(run) == set->run && run->latest <= set->latest &&
                 page_runs_reserve(&index->runs, 1) == 0)) {
        node = find_node(index, chunk);
        if (node) {
            drop_entries(index, node, set);
            drop_bits(index, node, set);
            remove_node_if_empty(index, node);
        }
        if (run)
            page_runs_drop(&index->runs, chunk, chunk + 1,
                           set->run == PAGE_HOLE, set->latest);
    }
    mutex_unlock(&index->lock);
}

void page_index_drop_run(struct page_index *index, uint64_t first_chunk,
                         uint64_t count, bool hole, uint64_t latest)
{
    mutex_lock(&index->lock);
    /* Without the memory for one more they stay, and are told again. */
    if (page_runs_reserve(&index->runs, 1) == 0)
        page_runs_drop(&index->runs, first_chunk, first_chunk + count, hole,
                       latest);
    mutex_unlock(&index->lock);
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

size_t page_index_chunks(struct page_index *index, uint64_t before,
                         uint64_t from, uint64_t ret_chunks[], size_t max)
{
    size_t count = 0;

    mutex_lock(&index->lock);
    for (size_t i = 1; i < index->node_pool.touched; i++) {
        const struct node *node = &index->nodes[i];

        if (!node->is_used || node->chunk < from || node_oldest(node) >= before)
            continue;
        /* Keep the smallest max of them, the largest on top. */
        if (count < max) {
            ret_chunks[count] = node->chunk;
            heap_rise(ret_chunks, count++);
        } else if (max > 0 && node->chunk < ret_chunks[0]) {
            ret_chunks[0] = node->chunk;
            heap_sink(ret_chunks, count, 0);
        }
    }
    mutex_unlock(&index->lock);
    for (size_t left = count; left > 1; left--) {
        uint64_t largest = ret_chunks[0];

        ret_chunks[0] = ret_chunks[left - 1];
        ret_chunks[left - 1] = largest;
        heap_sink(ret_chunks, left - 1, 0);
    }
    return count;
}

size_t page_index_runs(struct page_index *index, uint64_t before, uint64_t from,
                       struct page_run ret_runs[], size_t max)
{
    size_t count;

    mutex_lock(&index->lock);
    count = page_runs_list(&index->runs, before, from, ret_runs, max);
    mutex_unlock(&index->lock);
    return count;
}

bool page_index_is_empty(struct page_index *index)
{
    bool is_empty;

    mutex_lock(&index->lock);
    is_empty = index->node_pool.used == 0 && index->runs.count == 0;
    mutex_unlock(&index->lock);
    return is_empty;
}
