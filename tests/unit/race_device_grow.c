/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * A device grows while threads write, trim and read up to wherever its end is
 * by then, also within a page, and while limits change.
 */
#include "unit/test.h"

#include <pthread.h>

#include "base/log.h"
#include "cache/device_grow.h"
#include "support/crash_states.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"

enum {
    SECTOR = DEVICE_SECTOR,
    CHUNK = 256 << 10,
    WRITERS = 3,
    STEPS = 60,
};

static const uint64_t FIRST_SIZE = (4 << 20) + SECTOR;
static struct device_fixture disk;
static atomic_bool is_over;

/* Sectors of a stretch, by which one thread alone knows what is there. */
static bool is_mine(uint64_t sector, unsigned thread)
{
    return sector % WRITERS == thread;
}

/* Write to the last sectors that there are, and read them again. */
static void *use_end(void *context)
{
    unsigned thread = *(const unsigned *)context;
    unsigned char sent[SECTOR], got[SECTOR];

    for (uint64_t round = 1; !atomic_load(&is_over); round++) {
        uint64_t sectors = device_size(disk.device) / SECTOR;
        uint64_t sector = sectors - 1 - crash_random(thread, round) % 40;

        if (!is_mine(sector, thread))
            continue;
        fixture_fill(sent, SECTOR, round * WRITERS + thread);
        CHECK(fixture_write(&disk, sector * SECTOR, sent, SECTOR, 0) == 0);
        CHECK(fixture_read(&disk, sector * SECTOR, got, SECTOR) == 0);
        CHECK(memcmp(sent, got, SECTOR) == 0);
    }
    return NULL;
}

/* Zeros that end within a page, in front of what the others use. */
static void *zero_end(void *context)
{
    (void)context;
    while (!atomic_load(&is_over)) {
        CHECK(
            fixture_zero(&disk, CHUNK + SECTOR,
                         FIRST_SIZE - CHUNK - SECTOR - (40 + WRITERS) * SECTOR,
                         0) == 0);
        CHECK(fixture_trim(&disk, 0, CHUNK) == 0);
    }
    return NULL;
}

TEST("a device that grows under requests keeps what was answered")
{
    pthread_t writers[WRITERS], zeroer;
    unsigned numbers[WRITERS];
    uint64_t size = FIRST_SIZE;

    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    fixture_begin(&disk, test_dir(), false);
    disk.options.size = size;
    NEED(fixture_open(&disk) == 0);
    for (unsigned i = 0; i < WRITERS; i++) {
        numbers[i] = i;
        NEED(pthread_create(&writers[i], NULL, use_end, &numbers[i]) == 0);
    }
    NEED(pthread_create(&zeroer, NULL, zero_end, NULL) == 0);
    for (uint64_t step = 1; step <= STEPS; step++) {
        size += (1 + crash_random(7, step) % 2000) * SECTOR;
        CHECK(device_grow(disk.device, size) == 0);
        CHECK(device_size(disk.device) == size);
        device_set_cachesize(disk.device, step % 3 == 0 ? 0 : step << 20);
        if (step % 10 == 0)
            CHECK(device_destage(disk.device) == 0);
    }
    atomic_store(&is_over, true);
    for (unsigned i = 0; i < WRITERS; i++)
        CHECK(pthread_join(writers[i], NULL) == 0);
    CHECK(pthread_join(zeroer, NULL) == 0);
    disk.options.size = size;
    CHECK(fixture_crash(&disk) == 0);
    CHECK(device_size(disk.device) == size);
    fixture_end(&disk);
    fault_reset();
}
