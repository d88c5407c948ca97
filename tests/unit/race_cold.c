/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * Threads that meet where blocks come from the bucket: readers in a row and
 * here and there, prefetches, reading ahead, blocks that are kept, chunks that
 * are evicted meanwhile, and writes beside all of it.
 *
 * What is written is what was there: so each read knows what it must get.
 */
#include "unit/test.h"

#include <pthread.h>

#include "base/auto.h"
#include "base/log.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "support/memory_store.h"
#include "support/remote_chunk.h"

enum {
    KIB = 1 << 10,
    PAGE = CACHE_PAGE,
    CHUNK = 256 * KIB,
    CHUNKS = 16,
    WRITTEN = 4, /* the first of them are written to, and so never evicted */
    SIZE = CHUNKS * CHUNK,
    READERS = 4,
    ROUNDS = 300,
};

static struct device_fixture disk;
static unsigned char plain[SIZE];
static atomic_bool is_over;
static _Atomic uint64_t freed; /* pages, by eviction */

/* Each thread's own lots. */
struct thread {
    pthread_t thread;
    uint64_t lots;
};

static uint64_t draw(struct thread *thread, uint64_t end)
{
    thread->lots =
        thread->lots * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (thread->lots >> 33) % end;
}

static void read_right(uint64_t offset, size_t size)
{
    AUTO_FREE unsigned char *got = malloc(size);

    NEED(got != NULL);
    CHECK(fixture_read(&disk, offset, got, size) == 0 &&
          memcmp(got, plain + offset, size) == 0);
}

static void *read_on(void *argument)
{
    struct thread *thread = argument;

    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t offset = draw(thread, SIZE);
        uint64_t lot = draw(thread, 10);
        size_t size = 1 + draw(thread, 8 * PAGE);

        if (size > SIZE - offset)
            size = SIZE - offset;
        if (lot < 6) {
            read_right(offset, size);
        } else if (lot < 9) { /* in a row */
            for (unsigned i = 0; i < 12 && offset + size <= SIZE; i++) {
                read_right(offset, size);
                offset += size;
            }
        } else {
            CHECK(fixture_prefetch(&disk, offset, size) == 0);
        }
    }
    return NULL;
}

static void *write_on(void *argument)
{
    struct thread *thread = argument;

    while (!atomic_load(&is_over)) {
        uint64_t offset = draw(thread, WRITTEN * CHUNK - 4 * PAGE);
        size_t size = 1 + draw(thread, 4 * PAGE);

        CHECK(fixture_write(&disk, offset, plain + offset, size, 0) == 0);
        if (draw(thread, 20) == 0)
            CHECK(device_destage(disk.device) == 0);
    }
    return NULL;
}

static void *evict_on(void *argument)
{
    struct thread *thread = argument;

    while (!atomic_load(&is_over)) {
        uint64_t chunks[2] = {draw(thread, CHUNKS), draw(thread, CHUNKS)};
        uint64_t pages_freed;

        CHECK(device_evict(disk.device, chunks, chunks[0] == chunks[1] ? 1 : 2,
                           draw(thread, 2) == 0 ? EVICT_BLOCKS : EVICT_FILE,
                           &pages_freed) == 0);
        atomic_fetch_add(&freed, pages_freed);
    }
    return NULL;
}

static bool begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    fixture_begin(&disk, test_dir(), false);
    disk.options.store = memory_store_new();
    disk.options.block_cache_size = (size_t)2 * CHUNK;
    disk.options.readahead = CHUNK;
    if (!CHECK(fixture_open(&disk) == 0))
        return false;
    fixture_fill(plain, SIZE, 9);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        struct chunk_object object;

        memset(plain + chunk * CHUNK + 5 * PAGE, 0, 11 * PAGE);
        remote_put(disk.device, chunk, chunk + 1, plain + chunk * CHUNK,
                   &object);
        remote_commit(disk.device, chunk, &object);
    }
    return true;
}

TEST("reads are right while blocks come, are kept, and go again")
{
    struct thread readers[READERS], writer = {.lots = 77},
                                    evictor = {.lots = 5};

    NEED(begin());
    atomic_store(&is_over, false);
    for (unsigned i = 0; i < READERS; i++) {
        readers[i].lots = i + 100;
        CHECK(pthread_create(&readers[i].thread, NULL, read_on, &readers[i]) ==
              0);
    }
    CHECK(pthread_create(&writer.thread, NULL, write_on, &writer) == 0);
    CHECK(pthread_create(&evictor.thread, NULL, evict_on, &evictor) == 0);
    for (unsigned i = 0; i < READERS; i++)
        CHECK(pthread_join(readers[i].thread, NULL) == 0);
    atomic_store(&is_over, true);
    CHECK(pthread_join(writer.thread, NULL) == 0);
    CHECK(pthread_join(evictor.thread, NULL) == 0);
    CHECK(atomic_load(&freed) > 0); /* of what had been kept */
    NEED(fixture_reopen(&disk) == 0);
    read_right(0, SIZE);
    fixture_end(&disk);
}
