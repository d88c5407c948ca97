/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/device_grow.h"

#include <inttypes.h>
#include <pthread.h>

#include "base/bytes.h"
#include "base/log.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "support/crash_states.h"
#include "support/fault_file.h"
#include "support/memory_store.h"
#include "support/upload_host.h"
#include "unit/test.h"

enum {
    KIB = 1 << 10,
    MIB = 1 << 20,
    SECTOR = DEVICE_SECTOR,
    PAGE = CACHE_PAGE,
    CHUNK = 256 * KIB,
    SMALL = 16 * MIB, /* as device_fixture makes it */
    LARGE = 64 * MIB,
};

static struct device_fixture disk;
static unsigned char data[CHUNK];
static unsigned char got[CHUNK];

/* Open a device in another directory than the last time. */
static bool begin(uint64_t size)
{
    static unsigned number;
    char dir[PATH_MAX];

    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    (void)snprintf(dir, sizeof(dir), "%s/%u", test_dir(), number++);
    if (!CHECK(mkdir(dir, 0700) == 0))
        return false;
    fixture_begin(&disk, dir, false);
    disk.options.size = size;
    return CHECK(fixture_open(&disk) == 0);
}

static void end(void)
{
    fault_reset();
    fixture_end(&disk);
}

static bool write_at(struct device_fixture *to, uint64_t offset, size_t size)
{
    fixture_fill(data, size, offset);
    return fixture_write(to, offset, data, size, 0) == 0;
}

static bool reads_at(struct device_fixture *from, uint64_t offset, size_t size)
{
    fixture_fill(data, size, offset);
    return fixture_read(from, offset, got, size) == 0 &&
           memcmp(got, data, size) == 0;
}

static bool zeros_at(struct device_fixture *from, uint64_t offset, size_t size)
{
    return fixture_read(from, offset, got, size) == 0 &&
           bytes_are_zero(got, size);
}

TEST("what is new can be used at once, reads as zeros, and outlives a crash")
{
    NEED(begin(SMALL));
    CHECK(write_at(&disk, SMALL - PAGE, PAGE));
    CHECK(!device_check_range(disk.device, SMALL, SECTOR));
    CHECK(device_grow(disk.device, LARGE) == 0);
    CHECK(device_size(disk.device) == LARGE);
    CHECK(device_check_range(disk.device, LARGE - SECTOR, SECTOR));
    CHECK(!device_check_range(disk.device, LARGE, SECTOR));
    CHECK(zeros_at(&disk, SMALL, CHUNK));
    CHECK(zeros_at(&disk, LARGE - CHUNK, CHUNK));
    CHECK(fixture_extent_at(&disk, LARGE - SECTOR) ==
          (DEVICE_EXTENT_HOLE | DEVICE_EXTENT_ZERO));
    CHECK(write_at(&disk, LARGE - CHUNK, CHUNK));
    CHECK(device_destage(disk.device) == 0);
    CHECK(write_at(&disk, SMALL + CHUNK, PAGE));
    disk.options.size = LARGE;
    NEED(CHECK(fixture_crash(&disk) == 0));
    CHECK(reads_at(&disk, SMALL - PAGE, PAGE));
    CHECK(reads_at(&disk, LARGE - CHUNK, CHUNK));
    CHECK(reads_at(&disk, SMALL + CHUNK, PAGE));
    CHECK(zeros_at(&disk, SMALL, CHUNK));
    end();
}

TEST("what has grown does not shrink, now or at the next start")
{
    NEED(begin(SMALL));
    CHECK(device_grow(disk.device, SMALL) == 0);
    CHECK(device_grow(disk.device, SMALL - SECTOR) == -EINVAL);
    CHECK(device_grow(disk.device, SMALL + 1) == -EINVAL);
    CHECK(device_grow(disk.device, (uint64_t)INT64_MAX + 1) == -EINVAL);
    CHECK(device_size(disk.device) == SMALL);
    CHECK(device_grow(disk.device, SMALL + SECTOR) == 0);
    CHECK(device_grow(disk.device, SMALL) == -EINVAL);
    CHECK(device_size(disk.device) == SMALL + SECTOR);
    CHECK(fixture_reopen(&disk) == -EINVAL);
    disk.options.size = SMALL + SECTOR;
    CHECK(fixture_open(&disk) == 0);
    end();
}

TEST("a device that is only read can be larger, too, and nothing is written")
{
    const struct fault_calls changes = {.kinds = FAULT_ANY_CHANGE, .nth = 1000};

    NEED(begin(SMALL));
    NEED(CHECK(fixture_close(&disk) == 0));
    disk.options.read_only = true;
    NEED(CHECK(fixture_open(&disk) == 0));
    fault_fail(&changes, -EIO, false, 0);
    CHECK(device_grow(disk.device, LARGE) == 0);
    CHECK(zeros_at(&disk, LARGE - CHUNK, CHUNK));
    CHECK(fault_count() == 0);
    end();
}

TEST("whatever call fails, the device is as large as before, and can grow then")
{
    for (unsigned long nth = 1;; nth++) {
        const struct fault_calls calls = {FAULT_ANY_CHANGE, "superblock", nth};
        unsigned long count;
        int error;

        NEED(begin(SMALL));
        fault_fail(&calls, -EIO, false, 0);
        error = device_grow(disk.device, LARGE);
        count = fault_count();
        fault_reset();
        CHECK(error == (count < nth ? 0 : -EIO));
        CHECK(device_size(disk.device) == (error == 0 ? LARGE : SMALL));
        CHECK(write_at(&disk, SMALL - PAGE, PAGE));
        CHECK(device_grow(disk.device, LARGE) == 0);
        CHECK(write_at(&disk, LARGE - PAGE, PAGE));
        disk.options.size = LARGE;
        CHECK(fixture_crash(&disk) == 0);
        CHECK(reads_at(&disk, LARGE - PAGE, PAGE));
        end();
        if (count < nth)
            break;
        CHECK(nth < 20);
    }
}

/* ---- power cuts ---------------------------------------------------------- */

/* When it was known that, in a recording. */
static struct {
    size_t grown, flushed;
} moments;

static struct recording *record_growth(void)
{
    fixture_begin(&disk, test_dir(), false);
    fault_record_begin(disk.cachedir);
    if (!CHECK(fixture_open(&disk) == 0))
        return fault_record_end();
    CHECK(write_at(&disk, SMALL - PAGE, PAGE));
    CHECK(device_grow(disk.device, LARGE) == 0);
    moments.grown = fault_record_position();
    CHECK(write_at(&disk, LARGE - PAGE, PAGE));
    CHECK(fixture_flush(&disk) == 0);
    moments.flushed = fault_record_position();
    CHECK(device_destage(disk.device) == 0);
    CHECK(fixture_close(&disk) == 0);
    return fault_record_end();
}

/* Returns whether what a power cut left is as it must be. */
static bool check_state(const char *dir, size_t cut)
{
    struct superblock superblock = {.size = 0};
    struct cache_dir *cache_dir = NULL;
    uint64_t size;
    bool is_well;

    (void)snprintf(disk.cachedir, sizeof(disk.cachedir), "%s", dir);
    if (cache_dir_open(dir, false, &cache_dir) != 0)
        return false;
    if (cache_dir_read_superblock(cache_dir, &superblock) != 0)
        superblock.incarnation = 0;
    cache_dir_close(cache_dir);
    size = superblock.size;
    if (superblock.incarnation == 0) /* it was never served */
        return cut < moments.grown;
    if (size != LARGE && (size != SMALL || cut >= moments.grown))
        return false;
    disk.options.size = size;
    if (fixture_open(&disk) != 0)
        return false;
    is_well = cut < moments.flushed || (reads_at(&disk, SMALL - PAGE, PAGE) &&
                                        reads_at(&disk, LARGE - PAGE, PAGE));
    return fixture_close(&disk) == 0 && is_well;
}

TEST("a power cut leaves the old size or the new, and the new once it was told")
{
    char after[PATH_MAX];
    struct recording *recording;
    struct crash_disk *crash;
    unsigned states = 0;

    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    (void)snprintf(after, sizeof(after), "%s/after", test_dir());
    recording = record_growth();
    crash = crash_disk_new(recording);
    for (size_t cut = 0; cut <= recording->entries_count; cut++) {
        crash_disk_advance(crash, cut);
        for (uint64_t seed = 0; seed < 3; seed++, states++) {
            test_remove_tree(AT_FDCWD, after);
            NEED(mkdir(after, 0700) == 0);
            crash_disk_power_cut(crash, crash_random(cut, seed), after, NULL);
            if (!CHECK(check_state(after, cut)))
                printf("# cut %zu, seed %" PRIu64 "\n", cut, seed);
        }
    }
    CHECK(states > 50 && moments.flushed > moments.grown);
    crash_disk_free(crash);
    recording_free(recording);
    end();
}

/* ---- a size that ends within a page -------------------------------------- */

/* DEVICE_ZERO from within the second page to the end, as it was then. */
static void *zero_to_old_end(void *context)
{
    (void)context;
    CHECK(fixture_zero(&disk, PAGE + SECTOR, SMALL - PAGE, 0) == 0);
    return NULL;
}

TEST("zeros up to the old end do not undo a write past it that was answered")
{
    const struct fault_calls reads = {FAULT_READ, "/chunk/", 1};
    pthread_t thread;

    fixture_begin(&disk, test_dir(), false);
    fault_reset();
    log_set_level(LOG_LEVEL_ERROR);
    disk.options.size = SMALL + SECTOR;
    disk.options.block_cache_size = 0;
    NEED(CHECK(fixture_open(&disk) == 0));
    CHECK(write_at(&disk, PAGE, PAGE));
    CHECK(device_destage(disk.device) == 0);
    /* It is planned, and has to read what it leaves of the second page. */
    fault_gate_set(&reads);
    NEED(pthread_create(&thread, NULL, zero_to_old_end, NULL) == 0);
    fault_gate_wait();
    CHECK(device_grow(disk.device, LARGE) == 0);
    CHECK(write_at(&disk, SMALL + SECTOR, SECTOR));
    fault_gate_open();
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(reads_at(&disk, SMALL + SECTOR, SECTOR));
    CHECK(zeros_at(&disk, SMALL, SECTOR));
    CHECK(zeros_at(&disk, SMALL + 2 * SECTOR, PAGE));
    CHECK(zeros_at(&disk, PAGE + SECTOR, CHUNK));
    /* What of the page is before them stays. */
    fixture_fill(data, PAGE, PAGE);
    CHECK(fixture_read(&disk, PAGE, got, SECTOR) == 0);
    CHECK(memcmp(got, data, SECTOR) == 0);
    end();
}

/* ---- the bucket ---------------------------------------------------------- */

/* A host of its own directory on the store. */
static void begin_host(struct upload_host *host, const char *name,
                       uint64_t size, struct object_store *store)
{
    char dir[PATH_MAX];

    (void)snprintf(dir, sizeof(dir), "%s/%s", test_dir(), name);
    if (mkdir(dir, 0700) != 0)
        abort();
    memset(host, 0, sizeof(*host));
    fixture_begin(&host->fixture, dir, false);
    host->fixture.options.size = size;
    host->fixture.options.store = store;
}

static void end_host(struct upload_host *host)
{
    (void)upload_host_close(host);
    host->fixture.options.store = NULL;
    fixture_end(&host->fixture);
}

TEST("the next image has the new size, and another host goes on with that")
{
    static struct upload_host first, second;
    struct object_store *store = memory_store_new();
    struct epoch_newest newest = {.count = 0};

    log_set_level(LOG_LEVEL_ERROR);
    begin_host(&first, "first", SMALL, store);
    NEED(CHECK(upload_host_open(&first) == 0));
    CHECK(write_at(&first.fixture, SMALL - CHUNK, CHUNK));
    CHECK(upload_host_finish(&first, 100) == 0);
    CHECK(device_grow(first.fixture.device, LARGE) == 0);
    CHECK(write_at(&first.fixture, LARGE - CHUNK, CHUNK));
    CHECK(upload_host_finish(&first, 200) == 0);
    CHECK(epoch_read_newest(store, "disk", 0, &newest) == 0);
    CHECK(newest.count == 1 && newest.records[0].size == LARGE);

    begin_host(&second, "second", SMALL, store);
    second.fixture.options.attach = DEVICE_ATTACH_TAKEOVER;
    CHECK(upload_host_open(&second) == -EINVAL);
    second.fixture.options.size = LARGE;
    CHECK(upload_host_open(&second) == 0);
    CHECK(reads_at(&second.fixture, SMALL - CHUNK, CHUNK));
    CHECK(reads_at(&second.fixture, LARGE - CHUNK, CHUNK));
    CHECK(zeros_at(&second.fixture, SMALL, CHUNK));
    end_host(&second);
    end_host(&first);
    store->close(store);
}

TEST("an end within a chunk moves while an image of it is being uploaded")
{
    enum { END = SMALL + 3 * SECTOR, NEW_END = SMALL + 9 * PAGE + SECTOR };
    static struct upload_host first, second;
    struct object_store *store = memory_store_new();
    bool is_new = false;
    uint64_t count;

    log_set_level(LOG_LEVEL_ERROR);
    begin_host(&first, "first", END, store);
    NEED(CHECK(upload_host_open(&first) == 0));
    CHECK(write_at(&first.fixture, END - SECTOR, SECTOR));
    CHECK(upload_host_checkpoint(&first, 100) == 0);
    CHECK(device_grow(first.fixture.device, NEW_END) == 0);
    CHECK(write_at(&first.fixture, END, SECTOR));
    CHECK(write_at(&first.fixture, NEW_END - SECTOR, SECTOR));
    CHECK(device_destage(first.fixture.device) == 0);
    first.fixture.options.size = NEW_END;
    NEED(CHECK(upload_host_crash(&first) == 0));
    CHECK(upload_host_upload(&first, LEASE_CHECKPOINT, 9, &count) == 0);
    CHECK(upload_host_publish(&first, &is_new) == 0 && is_new);

    /* The image is of before, in whichever size. */
    begin_host(&second, "second", NEW_END, store);
    second.fixture.options.attach = DEVICE_ATTACH_TAKEOVER;
    NEED(CHECK(upload_host_open(&second) == 0));
    CHECK(reads_at(&second.fixture, END - SECTOR, SECTOR));
    CHECK(zeros_at(&second.fixture, END, SECTOR));
    CHECK(zeros_at(&second.fixture, NEW_END - SECTOR, SECTOR));
    end_host(&second);

    CHECK(reads_at(&first.fixture, END - SECTOR, SECTOR));
    CHECK(reads_at(&first.fixture, END, SECTOR));
    CHECK(reads_at(&first.fixture, NEW_END - SECTOR, SECTOR));
    CHECK(zeros_at(&first.fixture, END + SECTOR, PAGE));
    end_host(&first);
    store->close(store);
}

TEST("a chunk that is new is evicted, and fetched again, as any other")
{
    static struct upload_host host;
    struct object_store *store = memory_store_new();
    uint64_t chunk = LARGE / CHUNK - 1, freed = 0;

    log_set_level(LOG_LEVEL_ERROR);
    begin_host(&host, "host", SMALL, store);
    NEED(CHECK(upload_host_open(&host) == 0));
    CHECK(device_grow(host.fixture.device, LARGE) == 0);
    CHECK(write_at(&host.fixture, LARGE - CHUNK, CHUNK));
    CHECK(upload_host_finish(&host, 100) == 0);
    CHECK(device_evict(host.fixture.device, &chunk, 1, EVICT_BLOCKS, &freed) ==
          0);
    CHECK(freed > 0);
    CHECK(reads_at(&host.fixture, LARGE - CHUNK, CHUNK));
    end_host(&host);
    store->close(store);
}
