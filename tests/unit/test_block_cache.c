/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/block_cache.h"

#include <errno.h>

#include "cache/geometry.h"
#include "unit/test.h"

static unsigned char plain[CACHE_BLOCK];
static unsigned char found[CACHE_BLOCK];

static bool yes(void *context)
{
    (void)context;
    return true;
}

static bool no(void *context)
{
    (*(unsigned *)context)++;
    return false;
}

static const void *block_of(uint64_t chunk, uint32_t block, unsigned state)
{
    memset(plain, (int)(chunk * 7 + block * 3 + state), sizeof(plain));
    memcpy(plain, &chunk, sizeof(chunk));
    memcpy(plain + 8, &block, sizeof(block));
    memcpy(plain + 12, &state, sizeof(state));
    memcpy(plain + CACHE_BLOCK - 8, &chunk, sizeof(chunk));
    return plain;
}

static void put(struct block_cache *cache, uint64_t chunk, uint32_t block,
                unsigned state)
{
    block_cache_put(cache, chunk, block, block_of(chunk, block, state), yes,
                    NULL);
}

/* Whether the block is there, and what it must be. */
static bool has(struct block_cache *cache, uint64_t chunk, uint32_t block,
                unsigned state)
{
    bool is_there =
        block_cache_get(cache, chunk, block, 0, found, sizeof(found));

    CHECK(block_cache_has(cache, chunk, block) == is_there);
    CHECK(!is_there ||
          memcmp(found, block_of(chunk, block, state), sizeof(found)) == 0);
    return is_there;
}

static struct block_cache *cache_of(size_t size)
{
    struct block_cache *cache = NULL;

    CHECK(block_cache_new(size, &cache) == 0);
    return cache;
}

TEST("a cache of no size caches nothing")
{
    for (size_t size = 0; size < CACHE_BLOCK; size += CACHE_BLOCK - 1) {
        struct block_cache *cache = cache_of(size);

        put(cache, 1, 2, 3);
        CHECK(!has(cache, 1, 2, 3));
        block_cache_update(cache, 1, 2, plain);
        block_cache_update(cache, 1, 2, NULL);
        block_cache_drop_chunk(cache, 1, 512);
        CHECK(!has(cache, 1, 2, 3));
        block_cache_free(cache);
    }
    block_cache_free(NULL);
}

TEST("a size of more blocks than can be counted is refused")
{
    struct block_cache *cache = NULL;

    CHECK(block_cache_new(SIZE_MAX, &cache) == -EINVAL);
    CHECK(block_cache_new((size_t)1 << 48, &cache) == -EINVAL);
    CHECK(cache == NULL);
}

TEST("what was put is there, in parts too; what was not is not")
{
    struct block_cache *cache = cache_of(1 << 20);
    unsigned char part[100];

    CHECK(!has(cache, 0, 0, 0));
    put(cache, 0, 0, 1);
    put(cache, UINT64_MAX, UINT32_MAX, 2);
    CHECK(has(cache, 0, 0, 1));
    CHECK(has(cache, UINT64_MAX, UINT32_MAX, 2));
    CHECK(!has(cache, 0, 1, 0) && !has(cache, 1, 0, 0));
    CHECK(block_cache_get(cache, 0, 0, CACHE_BLOCK - 100, part, 100));
    CHECK(memcmp(part,
                 (const unsigned char *)block_of(0, 0, 1) + CACHE_BLOCK - 100,
                 100) == 0);
    CHECK(block_cache_get(cache, 0, 0, CACHE_BLOCK, part, 0));
    put(cache, 0, 0, 3);
    CHECK(has(cache, 0, 0, 3));
    block_cache_free(cache);
}

TEST("a block that is not current is not put, and leaves what is there")
{
    struct block_cache *cache = cache_of(1 << 20);
    unsigned asked = 0;

    block_cache_put(cache, 5, 6, block_of(5, 6, 1), no, &asked);
    CHECK(asked == 1);
    CHECK(!has(cache, 5, 6, 1));
    put(cache, 5, 6, 2);
    block_cache_put(cache, 5, 6, block_of(5, 6, 1), no, &asked);
    CHECK(asked == 2);
    CHECK(has(cache, 5, 6, 2));
    block_cache_free(cache);
}

TEST("an update changes a block that is there, and brings in none")
{
    struct block_cache *cache = cache_of(1 << 20);

    block_cache_update(cache, 5, 6, block_of(5, 6, 1));
    CHECK(!has(cache, 5, 6, 1));
    put(cache, 5, 6, 1);
    put(cache, 5, 7, 1);
    block_cache_update(cache, 5, 6, block_of(5, 6, 2));
    CHECK(has(cache, 5, 6, 2) && has(cache, 5, 7, 1));
    block_cache_update(cache, 5, 6, NULL);
    CHECK(!has(cache, 5, 6, 2) && has(cache, 5, 7, 1));
    block_cache_update(cache, 5, 6, NULL);
    put(cache, 5, 6, 3);
    CHECK(has(cache, 5, 6, 3) && has(cache, 5, 7, 1));
    block_cache_free(cache);
}

TEST("a chunk is forgotten as a whole, and no other with it")
{
    struct block_cache *cache = cache_of(64 << 20);

    for (uint32_t block = 0; block < 512; block++) {
        put(cache, 10, block, 1);
        put(cache, 11, block, 1);
    }
    block_cache_drop_chunk(cache, 10, 512);
    for (uint32_t block = 0; block < 512; block++)
        CHECK(!has(cache, 10, block, 1) && has(cache, 11, block, 1));
    block_cache_free(cache);
}

static size_t count_of(struct block_cache *cache, uint32_t blocks)
{
    size_t count = 0;

    for (uint32_t block = 0; block < blocks; block++)
        count += has(cache, 9, block, 1);
    return count;
}

TEST("never more blocks are held than fit, and at the end as many")
{
    static const size_t sizes[] = {1, 2, 3, 63, 64, 65, 127, 130, 1000, 5000};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct block_cache *cache =
            cache_of(sizes[i] * CACHE_BLOCK + CACHE_BLOCK - 1);
        uint32_t blocks = (uint32_t)sizes[i] * 3;

        for (uint32_t block = 0; block < blocks; block++) {
            put(cache, 9, block, 1);
            CHECK(has(cache, 9, block, 1));
        }
        CHECK(count_of(cache, blocks) == sizes[i]);
        block_cache_drop_chunk(cache, 9, blocks);
        CHECK(count_of(cache, blocks) == 0);
        for (uint32_t block = blocks; block-- > 0;)
            put(cache, 9, block, 1);
        CHECK(count_of(cache, blocks) == sizes[i]);
        block_cache_free(cache);
    }
}

TEST("what is read again and again outlasts a long sequential read")
{
    struct block_cache *cache = cache_of(64 * CACHE_BLOCK);

    for (uint32_t block = 0; block < 16; block++)
        put(cache, 1, block, 1);
    for (uint32_t scanned = 0; scanned < 10000; scanned++) {
        put(cache, 2, scanned, 1);
        CHECK(has(cache, 1, scanned % 16, 1));
    }
    block_cache_free(cache);
}

TEST("a block that was not used leaves before one that was")
{
    struct block_cache *cache = cache_of(2 * CACHE_BLOCK);

    put(cache, 1, 1, 1);
    put(cache, 1, 2, 1);
    CHECK(has(cache, 1, 1, 1));
    put(cache, 1, 3, 1);
    CHECK(has(cache, 1, 1, 1));
    CHECK(!block_cache_has(cache, 1, 2));
    CHECK(block_cache_has(cache, 1, 3));
    block_cache_free(cache);
}

TEST("asking whether a block is there does not count as use")
{
    struct block_cache *cache = cache_of(2 * CACHE_BLOCK);

    put(cache, 1, 1, 1);
    put(cache, 1, 2, 1);
    CHECK(block_cache_has(cache, 1, 1));
    CHECK(block_cache_get(cache, 1, 2, 0, found, 1));
    put(cache, 1, 3, 1);
    CHECK(!block_cache_has(cache, 1, 1));
    CHECK(block_cache_has(cache, 1, 2));
    block_cache_free(cache);
}
