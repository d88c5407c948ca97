/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The cache is cut into shards, each with its own lock, places for blocks,
 * hash chains over them, and a hand that goes round them (CLOCK): a place
 * whose block was used since the hand came by is passed over once, the next
 * one that was not is taken for the new block.
 *
 * All memory is reserved at the start and touched at first use: the kernel
 * gives it when it is written to.  So nothing is allocated while the cache is
 * in use, and it cannot fail.  Places get their room, for good, in the order
 * in which they are first used, whatever their shard: so that large pages,
 * which are quicker to take and to read at random, take no more than is
 * needed.
 *
 * A place is in one of three states: never touched; free, in the list of free
 * places; or holding a block, in one hash chain.  The hand moves only when all
 * of a shard's places hold blocks.
 */
#include "cache/block_cache.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mutex.h"
#include "cache/geometry.h"

enum {
    SHARDS_MAX = 64,
    /* A smaller shard would throw out blocks while others have room. */
    SHARD_BLOCKS_MIN = 64,
    NOWHERE = 0, /* places and chains count from 1, so that zeros are empty */
};

struct place {
    uint64_t chunk;
    uint32_t block;
    uint32_t next; /* in the hash chain, or in the list of free places */
    uint32_t room; /* for the data; its own from the first use on */
    bool is_used;  /* since the hand came by */
};

struct shard {
    struct mutex mutex;
    uint32_t count;   /* of places; all below is GUARDED_BY(mutex) */
    uint32_t touched; /* places 1 .. touched were used at least once */
    uint32_t free;
    uint32_t hand;
    uint32_t chains_mask;
    uint32_t *chains;
    struct place *places; /* [1 .. count] */
} __attribute__((aligned(64)));

struct block_cache {
    uint32_t shards_count; /* a power of two, or 0: caches nothing */
    size_t data_size;
    unsigned char *data;
    _Atomic uint32_t rooms_taken;
    struct shard shards[SHARDS_MAX];
};

/* ---- making -------------------------------------------------------------- */

static int shard_init(struct shard *shard, uint32_t count)
{
    uint32_t chains = 1;

    while (chains < count)
        chains *= 2;
    mutex_init(&shard->mutex);
    shard->count = count;
    shard->chains_mask = chains - 1;
    shard->chains = calloc(chains, sizeof(*shard->chains));
    shard->places = calloc((size_t)count + 1, sizeof(*shard->places));
    return shard->chains && shard->places ? 0 : -ENOMEM;
}

static int init_shards(struct block_cache *cache, uint64_t blocks)
{
    uint64_t done = 0;
    uint32_t shards = SHARDS_MAX;

    while (shards > 1 && blocks / shards < SHARD_BLOCKS_MIN)
        shards /= 2;
    for (uint32_t i = 0; i < shards; i++) {
        uint64_t end = blocks * (i + 1) / shards;
        int error;

        cache->shards_count = i + 1;
        error = shard_init(&cache->shards[i], (uint32_t)(end - done));
        if (error)
            return error;
        done = end;
    }
    return 0;
}

int block_cache_new(size_t size, struct block_cache **ret_cache)
{
    uint64_t blocks = size / CACHE_BLOCK;
    struct block_cache *cache;
    int error = 0;

    if (blocks >= UINT32_MAX)
        return -EINVAL;
    cache = aligned_alloc(_Alignof(struct block_cache), sizeof(*cache));
    if (!cache)
        return -ENOMEM;
    memset(cache, 0, sizeof(*cache));
    if (blocks > 0) {
        size_t data_size = blocks * CACHE_BLOCK;
        void *data = mmap(NULL, data_size, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (data == MAP_FAILED) {
            error = -errno;
        } else {
            /* Only a wish: without it all works as well. */
            (void)madvise(data, data_size, MADV_HUGEPAGE);
            cache->data = data;
            cache->data_size = data_size;
            error = init_shards(cache, blocks);
        }
    }
    if (error) {
        block_cache_free(cache);
        return error;
    }
    *ret_cache = cache;
    return 0;
}

void block_cache_free(struct block_cache *cache)
{
    if (!cache)
        return;
    for (uint32_t i = 0; i < cache->shards_count; i++) {
        mutex_done(&cache->shards[i].mutex);
        free(cache->shards[i].chains);
        free(cache->shards[i].places);
    }
    if (cache->data)
        (void)munmap(cache->data, cache->data_size);
    free(cache);
}

/* ---- finding ------------------------------------------------------------- */

/* Spreads neighbouring blocks of neighbouring chunks over all 64 bits. */
static uint64_t hash_of(uint64_t chunk, uint32_t block)
{
    uint64_t hash = chunk * 0x9e3779b97f4a7c15U + block;

    hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93U;
    hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93U;
    return hash ^ hash >> 32;
}

/*
 * Returns NULL if the cache caches nothing.  Shard and chain come from
 * different bits, so that all chains are used.
 */
static struct shard *shard_of(struct block_cache *cache, uint64_t hash)
{
    if (cache->shards_count == 0)
        return NULL;
    return &cache->shards[(hash >> 56) & (cache->shards_count - 1)];
}

static uint32_t *chain_of(struct shard *shard, uint64_t hash)
{
    return &shard->chains[hash & shard->chains_mask];
}

/* Returns what points to the block's place, or to the end of its chain. */
static uint32_t *find_locked(struct shard *shard, uint64_t hash, uint64_t chunk,
                             uint32_t block) REQUIRES(shard->mutex)
{
    uint32_t *link = chain_of(shard, hash);

    while (*link != NOWHERE) {
        const struct place *place = &shard->places[*link];

        if (place->chunk == chunk && place->block == block)
            break;
        link = &shard->places[*link].next;
    }
    return link;
}

static unsigned char *data_of(const struct block_cache *cache,
                              const struct place *place)
{
    return cache->data + (size_t)place->room * CACHE_BLOCK;
}

/* Forget the block in the place that *link points to. */
static void drop_locked(struct shard *shard, uint32_t *link)
    REQUIRES(shard->mutex)
{
    uint32_t index = *link;
    struct place *place = &shard->places[index];

    *link = place->next;
    place->next = shard->free;
    shard->free = index;
}

/* Forget the next block that was not used for a while. */
static void evict_locked(struct shard *shard) REQUIRES(shard->mutex)
{
    for (;;) {
        struct place *place;

        shard->hand = shard->hand % shard->count + 1;
        place = &shard->places[shard->hand];
        if (!place->is_used) {
            uint64_t hash = hash_of(place->chunk, place->block);

            drop_locked(shard,
                        find_locked(shard, hash, place->chunk, place->block));
            return;
        }
        place->is_used = false;
    }
}

/* Returns a place that was never used, with a room that is its own now. */
static uint32_t touch_place_locked(struct block_cache *cache,
                                   struct shard *shard) REQUIRES(shard->mutex)
{
    struct place *place = &shard->places[++shard->touched];

    /* Relaxed: only that it is nobody else's matters. */
    place->room =
        atomic_fetch_add_explicit(&cache->rooms_taken, 1, memory_order_relaxed);
    return shard->touched;
}

/* Returns a place for a new block, off all lists. */
static uint32_t take_place_locked(struct block_cache *cache,
                                  struct shard *shard) REQUIRES(shard->mutex)
{
    uint32_t index;

    if (shard->free == NOWHERE && shard->touched < shard->count)
        return touch_place_locked(cache, shard);
    if (shard->free == NOWHERE)
        evict_locked(shard);
    index = shard->free;
    shard->free = shard->places[index].next;
    return index;
}

/* ---- the calls ----------------------------------------------------------- */

bool block_cache_get(struct block_cache *cache, uint64_t chunk, uint32_t block,
                     size_t offset, void *data, size_t size)
{
    uint64_t hash = hash_of(chunk, block);
    struct shard *shard = shard_of(cache, hash);
    uint32_t index;

    assert(offset <= CACHE_BLOCK && size <= CACHE_BLOCK - offset);
    if (!shard)
        return false;
    mutex_lock(&shard->mutex);
    index = *find_locked(shard, hash, chunk, block);
    if (index != NOWHERE) {
        shard->places[index].is_used = true;
        memcpy(data, data_of(cache, &shard->places[index]) + offset, size);
    }
    mutex_unlock(&shard->mutex);
    return index != NOWHERE;
}

bool block_cache_has(struct block_cache *cache, uint64_t chunk, uint32_t block)
{
    uint64_t hash = hash_of(chunk, block);
    struct shard *shard = shard_of(cache, hash);
    bool has;

    if (!shard)
        return false;
    mutex_lock(&shard->mutex);
    has = *find_locked(shard, hash, chunk, block) != NOWHERE;
    mutex_unlock(&shard->mutex);
    return has;
}

static void put_locked(struct block_cache *cache, struct shard *shard,
                       uint64_t chunk, uint32_t block, const void *plain)
    REQUIRES(shard->mutex)
{
    uint64_t hash = hash_of(chunk, block);
    uint32_t index = *find_locked(shard, hash, chunk, block);
    struct place *place;

    if (index == NOWHERE) {
        uint32_t *chain = chain_of(shard, hash);

        index = take_place_locked(cache, shard);
        place = &shard->places[index];
        place->chunk = chunk;
        place->block = block;
        place->next = *chain;
        place->is_used = false;
        *chain = index;
    }
    memcpy(data_of(cache, &shard->places[index]), plain, CACHE_BLOCK);
}

void block_cache_put(struct block_cache *cache, uint64_t chunk, uint32_t block,
                     const void *plain, bool (*is_current)(void *context),
                     void *context)
{
    uint64_t hash = hash_of(chunk, block);
    struct shard *shard = shard_of(cache, hash);

    if (!shard)
        return;
    mutex_lock(&shard->mutex);
    if (is_current(context))
        put_locked(cache, shard, chunk, block, plain);
    mutex_unlock(&shard->mutex);
}

void block_cache_update(struct block_cache *cache, uint64_t chunk,
                        uint32_t block, const void *plain)
{
    uint64_t hash = hash_of(chunk, block);
    struct shard *shard = shard_of(cache, hash);
    uint32_t *link;

    if (!shard)
        return;
    mutex_lock(&shard->mutex);
    link = find_locked(shard, hash, chunk, block);
    if (*link != NOWHERE && plain)
        memcpy(data_of(cache, &shard->places[*link]), plain, CACHE_BLOCK);
    else if (*link != NOWHERE)
        drop_locked(shard, link);
    mutex_unlock(&shard->mutex);
}

void block_cache_drop_chunk(struct block_cache *cache, uint64_t chunk,
                            uint32_t blocks_count)
{
    for (uint32_t block = 0; block < blocks_count; block++)
        block_cache_update(cache, chunk, block, NULL);
}
