/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/device_ahead.h"

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
#include "unit/test.h"

enum {
    KIB = 1 << 10,
    MIB = 1 << 20,
    BLOCK = CACHE_BLOCK,
    CHUNK = 256 * KIB,
    CHUNKS = 32, /* that are in the bucket, from the start of the device */
    SIZE = CHUNKS * CHUNK,
};

static struct device_fixture disk;
static struct fault_store *fault;
static unsigned char plain[SIZE]; /* what the device has */
static unsigned char got[SIZE];
static uint64_t not_asked;

/* Open a device of which all is in the bucket, and nothing here. */
static bool begin(size_t readahead)
{
    log_set_level(LOG_LEVEL_ERROR);
    fault_skip_syncs(true);
    fixture_begin(&disk, test_dir(), false);
    fault = fault_store_new(memory_store_new());
    disk.options.store = fault_store_of(fault);
    disk.options.block_cache_size = (size_t)2 * SIZE;
    disk.options.readahead = readahead;
    if (!CHECK(fixture_open(&disk) == 0))
        return false;
    fixture_fill(plain, SIZE, 77);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        struct chunk_object object;

        remote_put(disk.device, chunk, chunk + 1, plain + chunk * CHUNK,
                   &object);
        remote_commit(disk.device, chunk, &object);
    }
    not_asked = fault_store_count(fault, STORE_GET);
    return true;
}

static void end(void)
{
    fixture_end(&disk);
}

static uint64_t asked(void)
{
    return fault_store_count(fault, STORE_GET) - not_asked;
}

static bool reads(uint64_t offset, size_t size)
{
    memset(got + offset, 0xa5, size);
    return fixture_read(&disk, offset, got + offset, size) == 0 &&
           memcmp(got + offset, plain + offset, size) == 0;
}

static size_t tasks(void)
{
    struct device_ahead *ahead = &disk.device->ahead;
    size_t count;

    mutex_lock(&ahead->mutex);
    count = ahead->tasks;
    mutex_unlock(&ahead->mutex);
    return count;
}

/*
 * Read on, block by block, until more is fetched ahead, whose first request
 * is held.  Returns where it is.
 */
static uint64_t read_until_held(uint64_t at)
{
    for (unsigned i = 0; i < 8; i++, at += BLOCK) {
        CHECK(reads(at, BLOCK));
        device_ahead_settle(disk.device);
    }
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_HOLDS, 0);
    for (; tasks() == 0 && at < SIZE / 2; at += BLOCK)
        CHECK(reads(at, BLOCK));
    fault_store_wait_held(fault, 1);
    return at;
}

TEST("reads that follow each other are served from what was fetched ahead")
{
    NEED(begin(2 * MIB));
    for (uint64_t at = 0; at < SIZE; at += BLOCK) {
        CHECK(reads(at, BLOCK));
        device_ahead_settle(disk.device);
    }
    /* A table for each chunk, and never a block alone but at the start. */
    CHECK(asked() < CHUNKS * 5);
    end();
}

TEST("nothing is fetched ahead if there is no memory for it")
{
    NEED(begin(0));
    for (uint64_t at = 0; at < SIZE / 4; at += BLOCK)
        CHECK(reads(at, BLOCK));
    CHECK(tasks() == 0);
    CHECK(asked() == SIZE / 4 / BLOCK + CHUNKS / 4);
    end();
}

TEST("nothing is fetched ahead of reads here and there")
{
    NEED(begin(2 * MIB));
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        CHECK(reads((chunk * 13 + 5) % CHUNKS * CHUNK + 3 * BLOCK, 4 * KIB));
        CHECK(tasks() == 0);
    }
    CHECK(asked() == 2 * CHUNKS);
    end();
}

TEST("a read that somebody waits for does not wait for what is ahead")
{
    NEED(begin(2 * MIB));
    (void)read_until_held(0);
    CHECK(reads(SIZE - CHUNK, 4 * KIB));
    CHECK(reads(SIZE - 3 * CHUNK, 2 * BLOCK));
    CHECK(tasks() > 0);
    fault_store_clear(fault);
    device_ahead_settle(disk.device);
    end();
}

static void *read_there(void *argument)
{
    const uint64_t *at = argument;

    CHECK(reads(*at, BLOCK));
    return NULL;
}

TEST("a read of what is on its way waits for that, and does not ask again")
{
    pthread_t reader;
    uint64_t before;
    uint64_t at;

    NEED(begin(2 * MIB));
    at = read_until_held(0);
    while (block_cache_has(disk.device->block_cache, at / CHUNK,
                           (uint32_t)(at % CHUNK / BLOCK)))
        at += BLOCK;
    before = asked();
    CHECK(pthread_create(&reader, NULL, read_there, &at) == 0);
    while (fetch_waiting(disk.device->fetch) == 0)
        (void)sched_yield();
    CHECK(asked() == before);
    /* It waits for the bucket; what is fetched ahead waits for nobody. */
    CHECK(fixture_status(&disk).cold_reads == 1);
    fault_store_clear(fault);
    CHECK(pthread_join(reader, NULL) == 0);
    CHECK(fixture_status(&disk).cold_reads == 0);
    device_ahead_settle(disk.device);
    end();
}

TEST("what cannot be fetched ahead is an error for nobody, and is read later")
{
    uint64_t at = 0;

    NEED(begin(2 * MIB));
    for (; at < 8 * BLOCK; at += BLOCK) {
        CHECK(reads(at, BLOCK));
        device_ahead_settle(disk.device);
    }
    for (; at < SIZE / 2; at += BLOCK) {
        fault_store_plan(fault, STORE_GET, 1, 0, STORE_FAILS, -ETIMEDOUT);
        (void)fixture_read(&disk, at, got, BLOCK);
        device_ahead_settle(disk.device);
        fault_store_clear(fault);
        CHECK(reads(at, BLOCK));
        device_ahead_settle(disk.device);
    }
    end();
}

TEST("a chunk out of which blocks miss again and again is fetched whole")
{
    uint64_t before;

    NEED(begin(2 * MIB));
    for (unsigned i = 0; i < 4; i++) /* backwards: no stream */
        CHECK(reads(5 * CHUNK - BLOCK - i * (uint64_t)2 * BLOCK, 4 * KIB));
    device_ahead_settle(disk.device);
    before = asked();
    CHECK(reads(4 * CHUNK, CHUNK));
    CHECK(asked() == before);
    end();
}

static void *read_half(void *argument)
{
    (void)argument;
    CHECK(reads(0, SIZE / 2));
    return NULL;
}

TEST("of a long read, the rest is fetched while its start is")
{
    pthread_t reader;

    NEED(begin(SIZE));
    fault_store_plan(fault, STORE_GET, 1, 0, STORE_HOLDS, 0);
    CHECK(pthread_create(&reader, NULL, read_half, NULL) == 0);
    fault_store_wait_held(fault, 2); /* of two chunks: nobody asks twice */
    fault_store_clear(fault);
    CHECK(pthread_join(reader, NULL) == 0);
    device_ahead_settle(disk.device);
    end();
}

TEST("a prefetch makes all of it free, by few requests")
{
    uint64_t before;

    NEED(begin(SIZE));
    CHECK(fixture_prefetch(&disk, 0, SIZE / 2) == 0);
    device_ahead_settle(disk.device);
    before = asked();
    CHECK(before <= CHUNKS / 2 * 5);
    CHECK(reads(0, SIZE / 2));
    device_ahead_settle(disk.device);
    CHECK(asked() == before);
    end();
}

static void *close_disk(void *argument)
{
    (void)argument;
    CHECK(fixture_close(&disk) == 0);
    return NULL;
}

TEST("who closes the device waits for the request that is out, and no other")
{
    struct device_ahead *ahead;
    bool is_stopping = false;
    pthread_t closer;
    uint64_t before;

    NEED(begin(2 * MIB));
    (void)read_until_held(0);
    ahead = &disk.device->ahead;
    before = asked();
    CHECK(pthread_create(&closer, NULL, close_disk, NULL) == 0);
    while (!is_stopping) {
        (void)sched_yield();
        mutex_lock(&ahead->mutex);
        is_stopping = ahead->is_stopping;
        mutex_unlock(&ahead->mutex);
    }
    fault_store_release(fault);
    CHECK(pthread_join(closer, NULL) == 0);
    /* The one that was held may have been for a table, before its blocks. */
    CHECK(asked() <= before + 1);
    end();
}
