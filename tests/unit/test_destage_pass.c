/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include <errno.h>
#include <pthread.h>

#include "base/log.h"
#include "cache/destage_parts.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "support/checkpoint_image.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "support/memory_store.h"
#include "unit/test.h"

enum {
    MIB = 1 << 20,
    PAGE = CACHE_PAGE,
    CHUNK = 256 << 10,
    CHUNKS = 32,
    CACHESIZE = MIB,
};

static struct device_fixture disk;
static struct checkpoint_image image;

static bool begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    fixture_begin(&disk, test_dir(), false);
    disk.options.size = (uint64_t)CHUNKS * CHUNK;
    disk.options.cachesize = CACHESIZE;
    disk.options.store = memory_store_new();
    if (!CHECK(fixture_open(&disk) == 0))
        return false;
    checkpoint_image_begin(&image, disk.device, NULL);
    return true;
}

static void end(void)
{
    fault_reset();
    checkpoint_image_end(&image);
    fixture_end(&disk);
}

static bool put(uint64_t chunk, uint64_t seed)
{
    static unsigned char data[CHUNK];

    fixture_fill(data, CHUNK, seed);
    return fixture_write(&disk, chunk * CHUNK, data, CHUNK, 0) == 0;
}

static bool reads(uint64_t chunk, uint64_t seed)
{
    static unsigned char data[CHUNK], got[CHUNK];

    fixture_fill(data, CHUNK, seed);
    return fixture_read(&disk, chunk * CHUNK, got, CHUNK) == 0 &&
           memcmp(got, data, CHUNK) == 0;
}

/* Make room as an owner does. */
static void make_room(uint64_t round)
{
    uint64_t chunks[CHUNKS];
    uint64_t freed;

    for (size_t i = 0; i < CHUNKS; i++)
        chunks[i] = i;
    CHECK(checkpoint_image_upload_newest(&image, round) == 0);
    CHECK(device_evict(disk.device, chunks, CHUNKS, EVICT_FILE, &freed) == 0);
}

TEST("chunk files stay within cachesize, and what finds no room waits in the "
     "journal")
{
    uint64_t folded;
    uint64_t used;

    NEED(begin());
    for (uint64_t chunk = 0; chunk < 3; chunk++)
        CHECK(put(chunk, chunk));
    CHECK(device_destage(disk.device) == 0);
    for (uint64_t chunk = 3; chunk < 6; chunk++)
        CHECK(put(chunk, chunk));
    CHECK(device_destage(disk.device) == -ENOSPC);
    used = fixture_status(&disk).cache_used;
    folded = fixture_status(&disk).chunks_mapped;
    CHECK(folded >= 3 && folded < 6);
    /* One chunk more is let in than fits for sure. */
    CHECK(used <= CACHESIZE + CHUNK + 3 * chunk_table_encoded_max(CHUNK));
    for (uint64_t chunk = 0; chunk < 6; chunk++)
        CHECK(reads(chunk, chunk));
    /* Nobody takes the reserve for that: the disk is not full. */
    CHECK(cache_dir_release_reserve(disk.device->cache_dir));
    end();
}

TEST("what was trimmed makes room, though there is none")
{
    NEED(begin());
    for (uint64_t chunk = 0; chunk < 3; chunk++)
        CHECK(put(chunk, chunk));
    CHECK(device_destage(disk.device) == 0);
    for (uint64_t chunk = 3; chunk < 6; chunk++)
        CHECK(put(chunk, chunk));
    CHECK(device_destage(disk.device) == -ENOSPC);
    CHECK(fixture_trim(&disk, 0, 3 * CHUNK) == 0);
    (void)device_destage(disk.device);
    CHECK(device_destage(disk.device) == 0);
    for (uint64_t chunk = 3; chunk < 6; chunk++)
        CHECK(reads(chunk, chunk));
    CHECK(fixture_status(&disk).cache_used <= CACHESIZE);
    end();
}

static int adopt_nothing(void *context)
{
    bool *was_empty = context;

    *was_empty = page_index_is_empty(disk.device->index);
    return 0;
}

TEST("an adoption does not wait for room in the cache")
{
    bool was_empty = false;

    NEED(begin());
    for (uint64_t chunk = 0; chunk < 3; chunk++)
        CHECK(put(chunk, chunk));
    CHECK(device_destage(disk.device) == 0);
    for (uint64_t chunk = 3; chunk < 6; chunk++)
        CHECK(put(chunk, chunk));
    CHECK(device_destage(disk.device) == -ENOSPC);
    CHECK(device_adopt(disk.device, adopt_nothing, &was_empty) == 0);
    CHECK(was_empty);
    end();
}

static atomic_bool is_written;

static void *write_all(void *context)
{
    (void)context;
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        CHECK(put(chunk, chunk + 1));
    atomic_store(&is_written, true);
    return NULL;
}

TEST("a device many times its cache is written: it waits, and never fails")
{
    pthread_t writer;
    uint64_t round = 0;

    NEED(begin());
    CHECK(pthread_create(&writer, NULL, write_all, NULL) == 0);
    do {
        make_room(++round);
        CHECK(fixture_status(&disk).cache_used <= CACHESIZE + 2 * CHUNK);
    } while (!atomic_load(&is_written));
    CHECK(pthread_join(writer, NULL) == 0);
    while (device_destage(disk.device) == -ENOSPC)
        make_room(++round);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        CHECK(reads(chunk, chunk + 1));
    NEED(fixture_reopen(&disk) == 0);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        CHECK(reads(chunk, chunk + 1));
    end();
}
