/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/device_read.h"

#include <pthread.h>

#include "base/bytes.h"
#include "base/log.h"
#include "cache/geometry.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "unit/test.h"

enum {
    KIB = 1 << 10,
    PAGE = CACHE_PAGE,
    BLOCK = CACHE_BLOCK,
    CHUNK = 256 * KIB,
    HOLE = DEVICE_EXTENT_HOLE | DEVICE_EXTENT_ZERO,
    EXTENTS = 64,
};

static struct device_fixture disk;
static unsigned char data[2 * CHUNK];
static unsigned char got[2 * CHUNK];

static bool begin(uint64_t size)
{
    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    fixture_begin(&disk, test_dir(), false);
    disk.options.size = size;
    return CHECK(fixture_open(&disk) == 0);
}

static void end(void)
{
    fault_reset();
    fixture_end(&disk);
}

static bool put(uint64_t offset, size_t size, uint64_t seed)
{
    fixture_fill(data, size, seed);
    return fixture_write(&disk, offset, data, size, 0) == 0;
}

/* ---- ranges -------------------------------------------------------------- */

TEST("a read goes on where it stopped for lack of patience")
{
    uint64_t progress = 0;
    int error;

    NEED(begin(8 * CHUNK));
    CHECK(put(CHUNK, CHUNK, 1));
    CHECK(device_destage(disk.device) == 0);
    NEED(fixture_reopen(&disk) == 0);
    memset(got, 0xa5, sizeof(got));
    /* The first is a hole, of the second the table has to be read. */
    error = device_read_range(disk.device, 0, 2 * CHUNK, got, PATIENCE_NONE,
                              &progress);
    CHECK(error == -EAGAIN && progress == CHUNK);
    CHECK(got[CHUNK] == 0xa5);
    CHECK(bytes_are_zero(got, CHUNK));
    got[0] = 1; /* is not read again */
    CHECK(device_read_range(disk.device, 0, 2 * CHUNK, got, PATIENCE_DISK,
                            &progress) == 0);
    CHECK(progress == 2 * CHUNK && got[0] == 1);
    fixture_fill(data, CHUNK, 1);
    CHECK(memcmp(got + CHUNK, data, CHUNK) == 0);
    end();
}

TEST("the newest of journal, memory and file is read, page by page")
{
    NEED(begin(4 * CHUNK));
    CHECK(put(0, CHUNK, 1));
    CHECK(device_destage(disk.device) == 0);
    CHECK(fixture_read(&disk, 0, got, CHUNK) == 0); /* into memory */
    for (uint64_t page = 0; page < CHUNK / PAGE; page += 3)
        CHECK(put(page * PAGE, PAGE, 100 + page));
    for (uint64_t page = 1; page < CHUNK / PAGE; page += 6)
        CHECK(fixture_trim(&disk, page * PAGE, PAGE) == 0);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(fixture_read(&disk, 0, got, CHUNK) == 0);
        for (uint64_t page = 0; page < CHUNK / PAGE; page++) {
            fixture_fill(data, CHUNK, 1);
            memmove(data, data + page * PAGE, PAGE);
            if (page % 3 == 0)
                fixture_fill(data, PAGE, 100 + page);
            else if (page % 6 == 1)
                memset(data, 0, PAGE);
            CHECK(memcmp(got + page * PAGE, data, PAGE) == 0);
        }
        if (i == 0)
            CHECK(device_destage(disk.device) == 0);
        else if (i == 1)
            NEED(fixture_reopen(&disk) == 0);
    }
    end();
}

/* ---- extents ------------------------------------------------------------- */

static struct device_extent extents[EXTENTS];

static size_t ask(uint64_t offset, uint64_t length)
{
    struct device_request request = {
        .operation = DEVICE_EXTENTS,
        .offset = offset,
        .length = length,
        .extents = extents,
        .extents_max = EXTENTS,
    };

    return device_run(disk.device, &request) == 0 ? request.extents_count : 0;
}

static bool is_extent(size_t i, uint64_t length, uint32_t flags)
{
    if (extents[i].length == length && extents[i].flags == flags)
        return true;
    printf("# extent %zu: %llu bytes, flags %u\n", i,
           (unsigned long long)extents[i].length, extents[i].flags);
    return false;
}

TEST("extents of a device with nearly nothing on it: gaps are passed over in "
     "one step")
{
    const uint64_t size = (uint64_t)CHUNK << 22; /* 1 TiB */
    const uint64_t middle = size / 2;

    NEED(begin(size));
    CHECK(ask(0, size) == 1 && is_extent(0, size, HOLE));
    CHECK(put(middle + PAGE, PAGE, 1));
    for (unsigned i = 0; i < 2; i++) {
        CHECK(ask(0, size) == 3 && is_extent(0, middle + PAGE, HOLE) &&
              is_extent(1, PAGE, 0) &&
              is_extent(2, size - middle - 2 * PAGE, HOLE));
        CHECK(ask(middle + PAGE + 100, 50) == 1 && is_extent(0, 50, 0));
        CHECK(device_destage(disk.device) == 0);
    }
    /* A run of zeros that are no hole, in the journal. */
    CHECK(fixture_zero(&disk, size / 4, 100 * CHUNK, DEVICE_NO_HOLE) == 0);
    CHECK(ask(0, size) == 5 && is_extent(0, size / 4, HOLE) &&
          is_extent(1, 100 * CHUNK, DEVICE_EXTENT_ZERO));
    CHECK(ask(size / 4 + CHUNK / 2, 200 * CHUNK) == 2 &&
          is_extent(0, 99 * CHUNK + CHUNK / 2, DEVICE_EXTENT_ZERO) &&
          is_extent(1, 100 * CHUNK + CHUNK / 2, HOLE));
    CHECK(fixture_trim(&disk, 0, size) == 0);
    CHECK(ask(0, size) == 1 && is_extent(0, size, HOLE));
    end();
}

TEST("extents of more chunks than are looked up at once")
{
    uint64_t covered = 0;
    uint64_t at = 0;
    size_t count;

    NEED(begin(700 * CHUNK));
    disk.options.journal_size = 16 << 20;
    NEED(fixture_reopen(&disk) == 0);
    for (uint64_t chunk = 0; chunk < 700; chunk += 2)
        CHECK(put(chunk * CHUNK + PAGE, PAGE, chunk));
    while ((count = ask(at, 700 * CHUNK - at)) > 0) {
        for (size_t i = 0; i < count; i++) {
            bool is_data = at % (2 * CHUNK) == PAGE;

            CHECK(extents[i].flags == (is_data ? 0 : HOLE));
            CHECK(!is_data || extents[i].length == PAGE);
            covered += is_data;
            at += extents[i].length;
        }
        if (at == 700 * CHUNK)
            break;
    }
    CHECK(covered == 350);
    end();
}

TEST("what is damaged, or nobody can tell of, is data")
{
    struct fault_calls reads = {FAULT_READ, "/chunk/", 1};

    NEED(begin(4 * CHUNK));
    CHECK(put(0, BLOCK, 1));
    CHECK(device_destage(disk.device) == 0);
    NEED(fixture_reopen(&disk) == 0);
    fault_fail(&reads, -EIO, true, 0);
    CHECK(ask(0, 2 * CHUNK) == 2 && is_extent(0, CHUNK, 0) &&
          is_extent(1, CHUNK, HOLE));
    fault_reset();
    fault_skip_syncs(true);
    CHECK(ask(0, 2 * CHUNK) == 2 && is_extent(0, BLOCK, 0));
    end();
}

/* ---- while others write -------------------------------------------------- */

enum {
    PAGES = 160, /* of the device that is read while it is written */
    READERS = 3,
    ROUNDS = 60,
};

static atomic_bool is_over;
static _Atomic uint32_t answered[PAGES]; /* version, the last answered */

static void fill_page(unsigned char *page, uint32_t version)
{
    for (size_t i = 0; i < PAGE; i += sizeof(version))
        memcpy(page + i, &version, sizeof(version));
}

/* Returns the page's version, or UINT32_MAX if it is a mixture. */
static uint32_t version_of(const unsigned char *page)
{
    uint32_t version;

    memcpy(&version, page, sizeof(version));
    for (size_t i = 0; i < PAGE; i += sizeof(version)) {
        if (memcmp(page + i, &version, sizeof(version)) != 0)
            return UINT32_MAX;
    }
    return version;
}

static void *read_pages(void *context)
{
    unsigned char *buffer = malloc(8 * PAGE);
    uint64_t state = *(uint64_t *)context;
    bool good = buffer != NULL;

    while (good && !atomic_load(&is_over)) {
        uint32_t before[8];
        uint64_t first;
        size_t count;

        state = state * UINT64_C(6364136223846793005) + 1;
        first = (state >> 33) % PAGES;
        count = 1 + (state >> 50) % 8;
        if (count > PAGES - first)
            count = PAGES - first;
        for (size_t i = 0; i < count; i++)
            before[i] = atomic_load(&answered[first + i]);
        good =
            CHECK(fixture_read(&disk, first * PAGE, buffer, count * PAGE) == 0);
        for (size_t i = 0; i < count && good; i++) {
            uint32_t version = version_of(buffer + i * PAGE);

            /* No older than what was answered before it was asked for. */
            good = CHECK(version != UINT32_MAX) && CHECK(version >= before[i]);
        }
    }
    free(buffer);
    return NULL;
}

TEST("who reads while pages are written, destaged and recycled sees each page "
     "whole, and never an older one than was answered")
{
    pthread_t readers[READERS];
    uint64_t seeds[READERS];

    atomic_store(&is_over, false);
    for (unsigned page = 0; page < PAGES; page++)
        atomic_store(&answered[page], 0);
    NEED(begin(PAGES * PAGE));
    CHECK(fixture_close(&disk) == 0);
    disk.options.journal_size = 256 * KIB;
    disk.options.block_cache_size = 128 * KIB;
    NEED(fixture_open(&disk) == 0);
    for (unsigned i = 0; i < READERS; i++) {
        seeds[i] = i + 1;
        NEED(pthread_create(&readers[i], NULL, read_pages, &seeds[i]) == 0);
    }
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        for (uint64_t page = round % 3; page < PAGES; page += 1 + round % 5) {
            unsigned char content[PAGE];

            fill_page(content, round);
            if (!CHECK(fixture_write(&disk, page * PAGE, content, PAGE, 0) ==
                       0))
                break;
            atomic_store(&answered[page], round);
        }
        if (round % 8 == 0)
            CHECK(device_destage(disk.device) == 0);
    }
    atomic_store(&is_over, true);
    for (unsigned i = 0; i < READERS; i++)
        CHECK(pthread_join(readers[i], NULL) == 0);
    CHECK(fixture_status(&disk).passes >= ROUNDS / 8);
    CHECK(fixture_status(&disk).damaged_reads == 0);
    end();
}
