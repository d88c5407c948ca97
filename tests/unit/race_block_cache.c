/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What destage and readers do with the cache at once: a writer commits the
 * next state of a block and then updates the cache; readers that began before
 * put what they had read.  No block of a state older than the one that is
 * committed may be found afterwards.
 */
#include "cache/block_cache.h"

#include <pthread.h>

#include "cache/geometry.h"
#include "unit/test.h"

enum {
    THREADS = 4,
    BLOCKS = 8,
    ROUNDS = 3000,
};

static struct block_cache *cache;
static _Atomic unsigned versions[BLOCKS]; /* committed */

struct reading {
    uint32_t block;
    unsigned version;
};

static bool is_current(void *context)
{
    const struct reading *reading = context;

    return atomic_load(&versions[reading->block]) == reading->version;
}

static void fill(unsigned char *plain, unsigned version)
{
    for (size_t i = 0; i < CACHE_BLOCK; i += sizeof(version))
        memcpy(plain + i, &version, sizeof(version));
}

/* Whether all of it is of one version, at least the oldest that may be. */
static bool is_whole(const unsigned char *plain, unsigned oldest)
{
    unsigned first, other;

    memcpy(&first, plain, sizeof(first));
    for (size_t i = 0; i < CACHE_BLOCK; i += sizeof(other)) {
        memcpy(&other, plain + i, sizeof(other));
        if (other != first)
            return false;
    }
    return first >= oldest;
}

static void *read_blocks(void *unused)
{
    unsigned char plain[CACHE_BLOCK];

    (void)unused;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct reading reading = {.block = i % BLOCKS};

        /*
         * An update comes after its commit, so what is found may be one
         * behind what is committed, but not two.
         */
        reading.version = atomic_load(&versions[reading.block]);
        if (block_cache_get(cache, 1, reading.block, 0, plain, sizeof(plain))) {
            CHECK(
                is_whole(plain, reading.version > 0 ? reading.version - 1 : 0));
            continue;
        }
        fill(plain, reading.version);
        block_cache_put(cache, 1, reading.block, plain, is_current, &reading);
    }
    return NULL;
}

static void *write_blocks(void *unused)
{
    unsigned char plain[CACHE_BLOCK];

    (void)unused;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint32_t block = i % BLOCKS;
        unsigned version = atomic_fetch_add(&versions[block], 1) + 1;

        fill(plain, version);
        block_cache_update(cache, 1, block, i % 3 == 0 ? NULL : plain);
        /* Nobody else writes this block: from here on it is never older. */
        if (block_cache_get(cache, 1, block, 0, plain, sizeof(plain)))
            CHECK(is_whole(plain, version));
    }
    return NULL;
}

static void *fill_up(void *unused)
{
    static unsigned char zeros[CACHE_BLOCK];
    struct reading reading = {.block = 0, .version = 0};

    (void)unused;
    for (unsigned i = 0; i < ROUNDS; i++) {
        reading.version = atomic_load(&versions[0]);
        block_cache_put(cache, 2, i % 50, zeros, is_current, &reading);
        if (i % 100 == 0)
            block_cache_drop_chunk(cache, 2, 50);
    }
    return NULL;
}

static void run_all(size_t cache_blocks)
{
    pthread_t threads[THREADS + 2];

    NEED(block_cache_new(cache_blocks * CACHE_BLOCK, &cache) == 0);
    for (size_t i = 0; i < BLOCKS; i++)
        atomic_store(&versions[i], 0);
    for (size_t i = 0; i < THREADS; i++)
        NEED(pthread_create(&threads[i], NULL, read_blocks, NULL) == 0);
    NEED(pthread_create(&threads[THREADS], NULL, write_blocks, NULL) == 0);
    NEED(pthread_create(&threads[THREADS + 1], NULL, fill_up, NULL) == 0);
    for (size_t i = 0; i < THREADS + 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    block_cache_free(cache);
}

TEST("no older state is found once a newer one was updated, in a large cache")
{
    run_all(4096);
}

TEST("no older state is found once a newer one was updated, in a tiny cache")
{
    run_all(5);
}
