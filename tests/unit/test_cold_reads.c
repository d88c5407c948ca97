/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * How many requests a cold device takes, as the store counts them.
 */
#include "unit/test.h"

#include <pthread.h>
#include <sched.h>

#include "base/log.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "support/remote_chunk.h"

enum {
    MIB = 1 << 20,
    PAGE = CACHE_PAGE,
    BLOCK = CACHE_BLOCK,
    CHUNK = 8 * MIB,
    CHUNKS = 3,
    EVERY = 16, /* one block of so many has data */
    READS = 24, /* for each chunk; of more it would be fetched whole */
};

static struct device_fixture disk;
static struct fault_store *fault;
static unsigned char plain[CHUNK]; /* of every chunk */
static uint64_t not_asked;

static uint64_t asked(void)
{
    return fault_store_count(fault, STORE_GET) - not_asked;
}

static bool opens(void)
{
    uint64_t before = fault_store_count(fault, STORE_GET);

    if (!CHECK(fixture_open(&disk) == 0))
        return false;
    not_asked += fault_store_count(fault, STORE_GET) - before;
    return true;
}

/* Open a device as large as they come by default, with all in the bucket. */
static bool begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    fault_skip_syncs(true);
    fixture_begin(&disk, test_dir(), false);
    fault = fault_store_new(memory_store_new());
    not_asked = 0;
    disk.options.store = fault_store_of(fault);
    disk.options.size = CHUNKS * CHUNK;
    disk.options.chunk_size = CHUNK;
    disk.options.block_cache_size = (size_t)256 * MIB;
    disk.options.readahead = (size_t)64 * MIB;
    if (!opens())
        return false;
    memset(plain, 0, sizeof(plain));
    for (size_t at = 0; at < CHUNK; at += (size_t)EVERY * BLOCK)
        fixture_fill(plain + at, BLOCK, at);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        struct chunk_object object;

        remote_put(disk.device, chunk, chunk + 1, plain, &object);
        remote_commit(disk.device, chunk, &object);
    }
    return true;
}

static bool reads(uint64_t offset, size_t size)
{
    static unsigned char got[CHUNK];

    memset(got, 0xa5, size);
    return fixture_read(&disk, offset, got, size) == 0 &&
           memcmp(got, plain + offset % CHUNK, size) == 0;
}

/* The place of the i-th random read: a page of a block with data. */
static uint64_t place_of(uint64_t i)
{
    uint64_t chunk = i % CHUNKS;
    uint64_t block = i / CHUNKS * 11 % (CHUNK / BLOCK / EVERY) * EVERY;

    return chunk * CHUNK + block * BLOCK + i % PAGES_PER_BLOCK * PAGE;
}

static uint64_t bytes_asked(void)
{
    struct fetch_counts counts;

    fetch_get_counts(disk.device->fetch, &counts);
    return counts.bytes;
}

TEST("a cold random read of 4 KiB is one request for its block, and one for "
     "the table of each chunk that was never read")
{
    NEED(begin());
    for (uint64_t i = 0; i < (uint64_t)READS * CHUNKS; i++) {
        uint64_t requests = asked();
        uint64_t bytes = bytes_asked();

        CHECK(reads(place_of(i), PAGE));
        device_ahead_settle(disk.device);
        if (i < CHUNKS) {
            CHECK(asked() == requests + 2);
        } else {
            CHECK(asked() == requests + 1);
            CHECK(bytes_asked() <= bytes + BLOCK);
        }
    }
    fixture_end(&disk);
}

/* Return when all chunks have a file. */
static void wait_for_files(void)
{
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        unsigned flags = 0;

        for (;;) {
            (void)catalog_generation(disk.device->catalog, chunk, &flags);
            if ((flags & CATALOG_FILE) != 0)
                break;
            (void)sched_yield();
        }
    }
}

TEST("a table outlives the eviction of its blocks: one request for each read, "
     "also after a restart")
{
    static const uint64_t chunks[CHUNKS] = {0, 1, 2};
    uint64_t pages_freed;

    NEED(begin());
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        CHECK(reads(chunk * CHUNK, PAGE));
    wait_for_files();
    NEED(device_evict(disk.device, chunks, CHUNKS, EVICT_BLOCKS,
                      &pages_freed) == 0);
    CHECK(fixture_close(&disk) == 0);
    NEED(opens());
    for (uint64_t i = 0; i < (uint64_t)READS * CHUNKS; i++) {
        uint64_t requests = asked();

        CHECK(reads(place_of(i), PAGE));
        device_ahead_settle(disk.device);
        CHECK(asked() == requests + 1);
    }
    fixture_end(&disk);
}

TEST("what was fetched once is kept: after a restart it is read from here")
{
    NEED(begin());
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        CHECK(reads(chunk * CHUNK, PAGE));
    wait_for_files();
    CHECK(fixture_close(&disk) == 0);
    NEED(opens());
    fault_store_plan(fault, STORE_GET, 1, 0, STORE_FAILS, -EIO);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        CHECK(reads(chunk * CHUNK, BLOCK));
    fault_store_clear(fault);
    fixture_end(&disk);
}

TEST("a cold read of many blocks is one request for all of a megabyte")
{
    uint64_t requests;

    NEED(begin());
    /* Of the holes in between the object has nothing. */
    CHECK(reads(0, MIB));
    CHECK(asked() == 2);
    requests = asked();
    CHECK(reads(5 * MIB, MIB));
    CHECK(asked() == requests + 1);
    fixture_end(&disk);
}

TEST("whole pages written to a cold chunk make no request, nor does their "
     "destaging, nor that they are read again")
{
    static unsigned char data[CHUNK / 2];

    NEED(begin());
    fixture_fill(data, sizeof(data), 5);
    CHECK(fixture_write(&disk, CHUNK + 3 * PAGE, data, PAGE, 0) == 0);
    CHECK(fixture_write(&disk, CHUNK + 8 * BLOCK, data, BLOCK, 0) == 0);
    CHECK(fixture_write(&disk, 2 * CHUNK, data, sizeof(data), 0) == 0);
    CHECK(fixture_trim(&disk, 3 * PAGE, 5 * PAGE) == 0);
    CHECK(fixture_zero(&disk, 2 * MIB, MIB, DEVICE_NO_HOLE) == 0);
    CHECK(fixture_flush(&disk) == 0);
    CHECK(device_destage(disk.device) == 0);
    CHECK(fixture_read(&disk, CHUNK + 8 * BLOCK, plain, BLOCK) == 0);
    CHECK(memcmp(plain, data, BLOCK) == 0);
    CHECK(asked() == 0);
    fixture_end(&disk);
}

/* A read whose end is another's. */
struct cold_read {
    pthread_t thread;
    uint64_t offset;
    int error;
};

static void *read_cold(void *argument)
{
    struct cold_read *read = argument;
    unsigned char byte;

    read->error = fixture_read(&disk, read->offset, &byte, 1);
    return NULL;
}

TEST("a device whose store does not answer is closed when the store is "
     "interrupted, and its reads are not said to have failed")
{
    struct cold_read cold[CHUNKS];

    NEED(begin());
    fault_store_plan(fault, STORE_GET, 1, 0, STORE_HOLDS, 0);
    for (unsigned i = 0; i < CHUNKS; i++) {
        cold[i] = (struct cold_read){.offset = (uint64_t)i * CHUNK};
        CHECK(pthread_create(&cold[i].thread, NULL, read_cold, &cold[i]) == 0);
    }
    fault_store_wait_held(fault, 1);
    disk.options.store->interrupt(disk.options.store);
    for (unsigned i = 0; i < CHUNKS; i++) {
        CHECK(pthread_join(cold[i].thread, NULL) == 0);
        CHECK(cold[i].error == -ECANCELED);
    }
    CHECK(fixture_prefetch(&disk, 0, CHUNK) == 0);
    CHECK(fixture_close(&disk) == 0);
    fixture_end(&disk);
    fault_skip_syncs(false);
}
