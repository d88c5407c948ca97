/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * Reads from a store that lies: right data or an error, never other data.
 */
#include "unit/test.h"

#include "base/log.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "support/lying_store.h"
#include "support/memory_store.h"
#include "support/remote_chunk.h"

enum {
    KIB = 1 << 10,
    PAGE = CACHE_PAGE,
    CHUNK = 256 * KIB,
    CHUNKS = 8,
    SIZE = CHUNKS * CHUNK,
    STEPS = 600,
    READ_LIES = 1 << LIE_FAILS | 1 << LIE_DENIED | 1 << LIE_CHANGED |
                1 << LIE_SHORT | 1 << LIE_EMPTY,
};

static struct device_fixture disk;
static struct lying_store *lying;
static unsigned char plain[SIZE]; /* what the device must have */
static unsigned char got[SIZE];
static uint64_t lots;

static uint64_t draw(uint64_t end)
{
    lots = lots * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (lots >> 33) % end;
}

/* Open a device of which all is in the bucket. */
static bool begin(uint64_t seed)
{
    log_set_level(LOG_LEVEL_ERROR);
    fault_skip_syncs(true);
    fixture_begin(&disk, test_dir(), false);
    lying = lying_store_new(memory_store_new(), seed);
    lots = seed;
    disk.options.store = lying_store_of(lying);
    disk.options.block_cache_size = SIZE / 4;
    disk.options.readahead = 2 * CHUNK;
    if (!CHECK(fixture_open(&disk) == 0))
        return false;
    fixture_fill(plain, SIZE, seed);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        unsigned char *data = plain + chunk * CHUNK;
        struct chunk_object object;

        memset(data + draw(CHUNK - PAGE), 0, draw(4 * PAGE) % PAGE);
        memset(data + draw(CHUNK / 2), 0, draw(CHUNK / 2));
        remote_put(disk.device, chunk, chunk + 1, data, &object);
        remote_commit(disk.device, chunk, &object);
    }
    return true;
}

static void end(void)
{
    fixture_end(&disk);
    test_remove_tree(AT_FDCWD, test_dir());
    CHECK(mkdir(test_dir(), 0700) == 0);
}

/* Read some of it.  Returns the error; data that is there is right. */
static int read_somewhere(void)
{
    size_t size = 1 + draw(draw(4) == 0 ? 2 * CHUNK : 2 * PAGE);
    uint64_t offset = draw(SIZE - size);
    int error;

    memset(got, 0xa5, size);
    error = fixture_read(&disk, offset, got, size);
    CHECK(error != 0 || memcmp(got, plain + offset, size) == 0);
    return error;
}

/* Put pages over what is there, whole ones and others, or take them away. */
static void write_somewhere(void)
{
    uint64_t offset = draw(SIZE - 4 * PAGE);
    size_t size = 1 + draw(4 * PAGE);

    if (draw(3) > 0) {
        offset = offset / PAGE * PAGE;
        size = (size + PAGE - 1) / PAGE * PAGE;
    }
    fixture_fill(got, size, lots);
    if (draw(5) == 0)
        memset(got, 0, size);
    /* A part of a page needs the rest of it, and may fail for that. */
    if (fixture_write(&disk, offset, got, size, 0) == 0)
        memcpy(plain + offset, got, size);
    else
        CHECK(offset % PAGE != 0 || size % PAGE != 0);
}

/* Whether a read, now that the store is honest again, gives all of it. */
static bool all_is_right(void)
{
    return fixture_read(&disk, 0, got, SIZE) == 0 &&
           memcmp(got, plain, SIZE) == 0;
}

static void live(uint64_t seed, unsigned lies, unsigned one_in)
{
    unsigned errors = 0;

    NEED(begin(seed));
    lying_store_tell(lying, lies, one_in);
    for (unsigned step = 0; step < STEPS; step++) {
        uint64_t lot = draw(100);

        if (lot < 70) {
            int error = read_somewhere();

            /* Of -EAGAIN or such nobody outside would know what to think. */
            CHECK(error == 0 || error == -EIO || error == -ETIMEDOUT);
            errors += error != 0;
        } else if (lot < 88) {
            write_somewhere();
        } else if (lot < 93) {
            CHECK(fixture_prefetch(&disk, draw(SIZE / 2), draw(SIZE / 2)) == 0);
        } else if (lot < 97) {
            CHECK(device_destage(disk.device) == 0);
        } else {
            lying_store_tell(lying, lies, 0); /* it may be needed to attach */
            NEED(fixture_reopen(&disk) == 0);
            lying_store_tell(lying, lies, one_in);
        }
    }
    CHECK(errors > 0); /* or it was no test */
    for (enum lie lie = 0; lie < LIES; lie++)
        CHECK((lies >> lie & 1) == 0 || lying_store_told(lying, lie) > 0);
    lying_store_tell(lying, lies, 0);
    CHECK(all_is_right());
    NEED(fixture_reopen(&disk) == 0);
    CHECK(all_is_right());
    end();
}

TEST("a store that fails, now and then or nearly always")
{
    live(1, 1 << LIE_FAILS, 3);
    live(2, 1 << LIE_FAILS, 1);
}

TEST("a store that denies what it has")
{
    live(3, 1 << LIE_DENIED, 3);
    live(4, 1 << LIE_DENIED, 1);
}

TEST("a store that gives a changed byte")
{
    live(5, 1 << LIE_CHANGED, 3);
    live(6, 1 << LIE_CHANGED, 1);
}

TEST("a store whose answers end in zeros, or are zeros")
{
    live(7, 1 << LIE_SHORT, 3);
    live(8, 1 << LIE_EMPTY, 3);
    live(9, 1 << LIE_SHORT | 1 << LIE_EMPTY, 1);
}

TEST("a store that does all of this")
{
    for (uint64_t seed = 10; seed < 16; seed++)
        live(seed, READ_LIES, (unsigned)(1 + seed % 3));
}

TEST("each missing or wrong object is an alarm, a silent store is none")
{
    struct fetch_counts counts;

    NEED(begin(20));
    lying_store_tell(lying, 1 << LIE_FAILS, 1);
    CHECK(fixture_read(&disk, 0, got, PAGE) != 0);
    fetch_get_counts(disk.device->fetch, &counts);
    CHECK(counts.requests > 0 && counts.alarms == 0);
    lying_store_tell(lying, 1 << LIE_DENIED, 1);
    CHECK(fixture_read(&disk, 0, got, PAGE) == -EIO);
    fetch_get_counts(disk.device->fetch, &counts);
    CHECK(counts.alarms == 1);
    lying_store_tell(lying, 1 << LIE_CHANGED, 1);
    CHECK(fixture_read(&disk, 0, got, PAGE) == -EIO);
    fetch_get_counts(disk.device->fetch, &counts);
    CHECK(counts.alarms == 2);
    end();
}
