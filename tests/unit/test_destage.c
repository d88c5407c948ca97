/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/destage.h"

#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "cache/destage_parts.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "unit/test.h"

enum {
    KIB = 1 << 10,
    MIB = 1 << 20,
    PAGE = CACHE_PAGE,
    BLOCK = CACHE_BLOCK,
    CHUNK = 256 * KIB,
    CHUNKS = 300,
};

static struct device_fixture disk;
static unsigned char data[CHUNK];
static unsigned char got[CHUNK];

static bool begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    fixture_begin(&disk, test_dir(), false);
    disk.options.size = (uint64_t)CHUNKS * CHUNK;
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

static bool reads(uint64_t offset, size_t size, uint64_t seed)
{
    fixture_fill(data, size, seed);
    return fixture_read(&disk, offset, got, size) == 0 &&
           memcmp(got, data, size) == 0;
}

static bool file_exists(uint64_t chunk)
{
    char path[PATH_MAX];

    fixture_chunk_path(&disk, chunk, path);
    return access(path, F_OK) == 0;
}

static bool reserve_exists(void)
{
    char path[PATH_MAX + 16];

    (void)snprintf(path, sizeof(path), "%s/reserve", disk.cachedir);
    return access(path, F_OK) == 0;
}

/* ---- passes -------------------------------------------------------------- */

TEST("hundreds of chunks are folded in one pass, and their segments are free")
{
    NEED(begin());
    disk.options.journal_size = 8 * MIB;
    NEED(fixture_reopen(&disk) == 0);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        CHECK(put(chunk * CHUNK + chunk % 16 * BLOCK, PAGE, chunk));
    CHECK(device_destage(disk.device) == 0);
    CHECK(fixture_status(&disk).passes == 1);
    CHECK(fixture_status(&disk).chunks_mapped == CHUNKS);
    CHECK(page_index_is_empty(disk.device->index));
    CHECK(fixture_status(&disk).journal_used < 64 * KIB);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        CHECK(reads(chunk * CHUNK + chunk % 16 * BLOCK, PAGE, chunk));
    NEED(fixture_reopen(&disk) == 0);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        CHECK(reads(chunk * CHUNK + chunk % 16 * BLOCK, PAGE, chunk));
    end();
}

/* What a destage of a test's own tells. */
struct told {
    struct mutex lock;
    struct condition changed;
    unsigned rooms;
    int failed;
    unsigned wakings;
    unsigned looks;
    bool is_to_write; /* at the next look */
};

static void tell_room(void *context)
{
    struct told *told = context;

    mutex_lock(&told->lock);
    told->rooms++;
    condition_broadcast(&told->changed);
    mutex_unlock(&told->lock);
}

static void tell_waking(void *context)
{
    struct told *told = context;

    mutex_lock(&told->lock);
    told->wakings++;
    condition_broadcast(&told->changed);
    mutex_unlock(&told->lock);
}

static void tell_failure(void *context, int error)
{
    struct told *told = context;

    mutex_lock(&told->lock);
    told->failed = error;
    mutex_unlock(&told->lock);
}

static void tell_cut(void *context, bool is_cut)
{
    (void)context;
    CHECK(!is_cut);
}

static void ignore(void *context)
{
    (void)context;
}

static void tell_look(void *context)
{
    struct told *told = context;
    bool is_to_write;

    mutex_lock(&told->lock);
    is_to_write = told->is_to_write;
    told->is_to_write = false;
    mutex_unlock(&told->lock);
    if (is_to_write)
        CHECK(put(0, PAGE, 1));
    mutex_lock(&told->lock);
    told->looks++;
    condition_broadcast(&told->changed);
    mutex_unlock(&told->lock);
}

static unsigned looks_of(struct told *told)
{
    unsigned looks;

    mutex_lock(&told->lock);
    looks = told->looks;
    mutex_unlock(&told->lock);
    return looks;
}

/* Put another destage in the place of the device's. */
static void replace_destage(struct told *told, uint64_t idle_ns)
{
    struct destage_options options = {
        .fold = &disk.device->fold,
        .chunk_dir = disk.device->chunk_dir,
        .state_log = disk.device->state_log,
        .cache_dir = disk.device->cache_dir,
        .idle_ns = idle_ns,
        .made_room = tell_room,
        .failed = tell_failure,
        .cut = tell_cut,
        .published = ignore,
        .looked = tell_look,
        .woke = tell_waking,
        .context = told,
    };

    destage_stop(disk.device->destage); /* it may be one that tells the same */
    *told = (struct told){.rooms = 0};
    mutex_init(&told->lock);
    condition_init(&told->changed);
    CHECK(destage_start(&options, &disk.device->destage) == 0);
}

static void wait_until_empty(struct told *told)
{
    mutex_lock(&told->lock);
    while (!page_index_is_empty(disk.device->index))
        condition_wait(&told->changed, &told->lock);
    mutex_unlock(&told->lock);
}

TEST("when nobody writes all is folded, also what is in the newest segment; "
     "then the disk is left alone")
{
    struct told told;
    uint64_t passes;
    uint64_t commits;

    NEED(begin());
    replace_destage(&told, 0);
    CHECK(put(0, PAGE, 1));
    CHECK(put(5 * CHUNK, BLOCK, 2));
    wait_until_empty(&told);
    CHECK(file_exists(0) && file_exists(5));
    CHECK(reads(0, PAGE, 1) && reads(5 * CHUNK, BLOCK, 2));
    /* Answered in order, so the pass that emptied the index has ended. */
    CHECK(device_destage(disk.device) == 0);
    passes = destage_passes(disk.device->destage);
    commits = state_log_last_commit(disk.device->state_log);
    for (unsigned i = 0; i < 10; i++)
        CHECK(device_destage(disk.device) == 0);
    CHECK(destage_passes(disk.device->destage) == passes + 10);
    CHECK(state_log_last_commit(disk.device->state_log) == commits);
    CHECK(told.failed == 0);
    end();
}

TEST("asleep, it is woken by what there is to fold, or to keep")
{
    static const struct object_id nowhere;
    struct chunk_block as_read = {.object_size = PAGE};
    struct destage *destage;
    struct told told;

    NEED(begin());
    replace_destage(&told, UINT64_MAX);
    destage = disk.device->destage;
    while (!destage_is_asleep(destage))
        (void)sched_yield();
    CHECK(told.wakings == 0);
    destage_keep(destage, 3, 0, &as_read, &nowhere, data);
    mutex_lock(&told.lock);
    while (told.wakings < 1)
        condition_wait(&told.changed, &told.lock);
    mutex_unlock(&told.lock);
    while (!destage_is_asleep(destage))
        (void)sched_yield();
    CHECK(atomic_load(&destage->blocks_size) == 0);
    CHECK(put(0, PAGE, 1));
    mutex_lock(&told.lock);
    while (told.wakings < 2)
        condition_wait(&told.changed, &told.lock);
    mutex_unlock(&told.lock);
    CHECK(!destage_is_asleep(destage));
    CHECK(device_destage(disk.device) == 0);
    while (!destage_is_asleep(destage))
        (void)sched_yield();
    CHECK(told.wakings == 2);
    end();
}

TEST("what comes while one that sleeps takes a look ends its sleep, and is "
     "told of")
{
    struct told told;
    unsigned looks;

    NEED(begin());
    replace_destage(&told, UINT64_MAX);
    while (!destage_is_asleep(disk.device->destage))
        (void)sched_yield();
    clock_set_for_tests(1); /* so that each look is due */
    CHECK(device_destage(disk.device) == 0);
    while (!destage_is_asleep(disk.device->destage))
        (void)sched_yield();
    mutex_lock(&told.lock);
    CHECK(told.wakings == 1);
    told.is_to_write = true;
    looks = told.looks;
    while (told.looks < looks + 5)
        condition_wait(&told.changed, &told.lock);
    CHECK(told.wakings == 2);
    mutex_unlock(&told.lock);
    clock_set_for_tests(0);
    end();
}

TEST("with something to fold it is never taken to be asleep")
{
    bool was_asleep = false;
    struct told told;

    NEED(begin());
    replace_destage(&told, UINT64_MAX);
    CHECK(put(0, PAGE, 1));
    clock_set_for_tests(1); /* so that each look is due */
    destage_kick(disk.device->destage);
    while (looks_of(&told) < 10000) {
        for (unsigned i = 0; i < 1000; i++)
            was_asleep |= destage_is_asleep(disk.device->destage);
    }
    CHECK(!was_asleep && told.wakings == 0);
    clock_set_for_tests(0);
    end();
}

TEST("a destage that is stopped answers who waits, or has answered")
{
    struct told told;

    NEED(begin());
    CHECK(put(0, PAGE, 1));
    for (unsigned i = 0; i < 20; i++)
        replace_destage(&told, UINT64_MAX);
    destage_stop(NULL);
    CHECK(device_destage(disk.device) == 0);
    CHECK(reads(0, PAGE, 1));
    end();
}

TEST("an index full of zeros makes room, though the journal is all but empty")
{
    enum { MANY = 70000 };
    struct device_fixture *fixture = &disk;

    NEED(begin());
    CHECK(fixture_close(fixture) == 0);
    fixture->options.size = (uint64_t)MANY * CHUNK;
    fixture->options.journal_size = 64 * MIB;
    fixture->options.segment_size = 16 * MIB;
    test_remove_tree(AT_FDCWD, fixture->cachedir);
    CHECK(mkdir(fixture->cachedir, 0700) == 0);
    NEED(fixture_open(fixture) == 0);
    for (uint64_t chunk = 0; chunk < MANY; chunk++) {
        if (!CHECK(fixture_trim(fixture, chunk * CHUNK, PAGE) == 0))
            break;
    }
    CHECK(device_destage(fixture->device) == 0);
    CHECK(page_index_is_empty(fixture->device->index));
    CHECK(fixture_status(fixture).chunks_mapped == 0);
    end();
}

/* ---- zeros --------------------------------------------------------------- */

TEST("a long run of zeros unmaps what is mapped, and makes no file; with "
     "NO_HOLE all of it is mapped as zeros")
{
    unsigned flags;

    NEED(begin());
    CHECK(put(10 * CHUNK, BLOCK, 1));
    CHECK(put(200 * CHUNK, BLOCK, 2));
    CHECK(device_destage(disk.device) == 0);
    CHECK(file_exists(10) && file_exists(200));
    CHECK(fixture_trim(&disk, CHUNK, 150 * CHUNK) == 0);
    CHECK(device_destage(disk.device) == 0);
    CHECK(!file_exists(10) && file_exists(200));
    CHECK(fixture_status(&disk).chunks_mapped == 1);
    CHECK(page_index_is_empty(disk.device->index));
    CHECK(fixture_zero(&disk, 0, disk.options.size, DEVICE_NO_HOLE) == 0);
    CHECK(put(7 * CHUNK + PAGE, PAGE, 3));
    CHECK(device_destage(disk.device) == 0);
    CHECK(page_index_is_empty(disk.device->index));
    CHECK(!file_exists(200) && file_exists(7));
    CHECK(fixture_status(&disk).chunks_mapped == CHUNKS);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        CHECK(catalog_generation(disk.device->catalog, chunk, &flags) != 0);
        CHECK(flags == (chunk == 7 ? CATALOG_FILE : CATALOG_ZERO));
    }
    CHECK(reads(7 * CHUNK + PAGE, PAGE, 3));
    NEED(fixture_reopen(&disk) == 0);
    CHECK(reads(7 * CHUNK + PAGE, PAGE, 3));
    CHECK(fixture_extent_at(&disk, 7 * CHUNK) == DEVICE_EXTENT_ZERO);
    CHECK(fixture_extent_at(&disk, 299 * CHUNK) == DEVICE_EXTENT_ZERO);
    end();
}

static void *destage_all_of(void *context)
{
    int *ret_error = context;

    *ret_error = device_destage(disk.device);
    return NULL;
}

TEST("what the index could not forget, as a run of zeros grew meanwhile, "
     "keeps its segment")
{
    struct fault_calls syncs = {FAULT_SYNC_DATA, "/chunk/", 1};
    pthread_t thread;
    int error = -EBUSY;

    NEED(begin());
    CHECK(fixture_trim(&disk, 0, 100 * CHUNK) == 0);
    CHECK(put(5 * CHUNK, PAGE, 1));
    fault_gate_set(&syncs);
    NEED(pthread_create(&thread, NULL, destage_all_of, &error) == 0);
    fault_gate_wait();
    CHECK(fixture_trim(&disk, 100 * CHUNK, 100 * CHUNK) == 0);
    fault_gate_open();
    CHECK(pthread_join(thread, NULL) == 0 && error == 0);
    fault_reset();
    fault_skip_syncs(true);
    /* All segments that may be used again are. */
    for (uint64_t i = 0; i < 3 * MIB / CHUNK; i++)
        CHECK(put((250 + i) * CHUNK, CHUNK, i));
    CHECK(reads(5 * CHUNK, PAGE, 1));
    CHECK(device_destage(disk.device) == 0);
    CHECK(reads(5 * CHUNK, PAGE, 1));
    CHECK(page_index_is_empty(disk.device->index));
    end();
}

/* ---- what is durable when ------------------------------------------------ */

/* Returns the node with that name's end, as created or found. */
static bool is_node(const struct recording *recording, unsigned node,
                    const char *part)
{
    if (recording->nodes[node].path != NULL)
        return strstr(recording->nodes[node].path, part) != NULL;
    for (size_t i = 0; i < recording->entries_count; i++) {
        const struct record_entry *entry = &recording->entries[i];

        if (entry->kind == RECORD_CREATE && entry->node == node)
            return strstr(entry->name, part) != NULL;
    }
    return false;
}

/*
 * Whether each write to a segment before moment `until`, but for headers, was
 * synced before the first write to the state log after it.
 */
static bool is_synced_before_commit(const struct recording *recording,
                                    size_t until, unsigned *ret_writes)
{
    *ret_writes = 0;
    for (size_t i = 0; i < until; i++) {
        const struct record_entry *write = &recording->entries[i];
        bool is_synced = false;

        if (write->kind != RECORD_WRITE || write->offset < PAGE ||
            !is_node(recording, write->node, "segment."))
            continue;
        (*ret_writes)++;
        for (size_t j = i + 1; j < recording->entries_count; j++) {
            const struct record_entry *after = &recording->entries[j];

            if (after->kind == RECORD_SYNC && after->node == write->node &&
                after->offset > i)
                is_synced = true;
            if (after->kind == RECORD_WRITE && j >= until &&
                is_node(recording, after->node, "log.") && !is_synced)
                return false;
        }
    }
    return true;
}

TEST("the journal is synced before what it says is in the state log, and "
     "before segments are given up for what supersedes them")
{
    for (unsigned kind = 0; kind < 2; kind++) {
        struct recording *recording;
        unsigned writes;
        size_t until;

        NEED(begin());
        CHECK(fixture_close(&disk) == 0);
        fault_record_begin(disk.cachedir);
        NEED(fixture_open(&disk) == 0);
        CHECK(put(3 * CHUNK, PAGE, 1));
        CHECK(fixture_flush(&disk) == 0);
        CHECK(fixture_flush(&disk) == 0);
        if (kind == 0) /* superseded by a record that is folded */
            CHECK(put(3 * CHUNK, PAGE, 2));
        else /* by one that needs no fold, as nothing is mapped */
            CHECK(fixture_trim(&disk, 0, 100 * CHUNK) == 0);
        until = fault_record_position();
        CHECK(device_destage(disk.device) == 0);
        CHECK(fixture_status(&disk).passes == 1);
        recording = fault_record_end();
        CHECK(is_synced_before_commit(recording, until, &writes));
        CHECK(writes >= 2);
        recording_free(recording);
        end();
        test_remove_tree(AT_FDCWD, test_dir());
        CHECK(mkdir(test_dir(), 0700) == 0);
    }
}

/* ---- errors -------------------------------------------------------------- */

TEST("on a full disk the records stay in the journal, the reserve is given "
     "up, and when there is space they are folded")
{
    struct fault_calls calls = {FAULT_WRITE, "/chunk/", 1};

    NEED(begin());
    CHECK(reserve_exists());
    CHECK(put(0, CHUNK, 1));
    fault_fail(&calls, -ENOSPC, true, 0);
    CHECK(device_destage(disk.device) == -ENOSPC);
    CHECK(!reserve_exists());
    CHECK(!fixture_status(&disk).failed);
    CHECK(fixture_status(&disk).chunks_mapped == 0);
    CHECK(reads(0, CHUNK, 1));
    CHECK(put(CHUNK, BLOCK, 2));
    CHECK(device_destage(disk.device) == -ENOSPC);
    NEED(fixture_crash(&disk) == 0);
    CHECK(reads(0, CHUNK, 1) && reads(CHUNK, BLOCK, 2));
    fault_reset();
    fault_skip_syncs(true);
    CHECK(device_destage(disk.device) == 0);
    CHECK(fixture_status(&disk).chunks_mapped == 2);
    CHECK(reads(0, CHUNK, 1) && reads(CHUNK, BLOCK, 2));
    end();
}

TEST("a quota that is used up is as a full disk: the reserve is given up, and "
     "made again when there is space")
{
    struct fault_calls calls = {FAULT_WRITE, "/chunk/", 1};

    NEED(begin());
    CHECK(put(0, CHUNK, 1));
    fault_fail(&calls, -EDQUOT, true, 0);
    CHECK(device_destage(disk.device) == -EDQUOT);
    CHECK(!reserve_exists());
    fault_reset();
    fault_skip_syncs(true);
    CHECK(device_destage(disk.device) == 0);
    CHECK(reserve_exists());
    CHECK(reads(0, CHUNK, 1));
    end();
}

TEST("one chunk that cannot be written does not keep the others from it")
{
    struct fault_calls calls = {FAULT_CREATE, "/0000000000000004", 1};

    NEED(begin());
    for (uint64_t chunk = 0; chunk < 10; chunk++)
        CHECK(put(chunk * CHUNK, BLOCK, chunk));
    fault_fail(&calls, -EIO, true, 0);
    CHECK(device_destage(disk.device) == -EIO);
    CHECK(fault_count() > 0);
    CHECK(fixture_status(&disk).chunks_mapped == 9);
    for (uint64_t chunk = 0; chunk < 10; chunk++)
        CHECK(reads(chunk * CHUNK, BLOCK, chunk));
    fault_reset();
    fault_skip_syncs(true);
    CHECK(device_destage(disk.device) == 0);
    CHECK(fixture_status(&disk).chunks_mapped == 10);
    for (uint64_t chunk = 0; chunk < 10; chunk++)
        CHECK(reads(chunk * CHUNK, BLOCK, chunk));
    end();
}

TEST("a state log without room fails no device; one that is lost does, and "
     "reads go on")
{
    struct fault_calls calls = {FAULT_WRITE, "/state/", 1};

    NEED(begin());
    CHECK(put(0, BLOCK, 1));
    fault_fail(&calls, -ENOSPC, true, 0);
    CHECK(device_destage(disk.device) == -ENOSPC);
    CHECK(!fixture_status(&disk).failed);
    CHECK(put(CHUNK, BLOCK, 2));
    fault_reset();
    fault_skip_syncs(true);
    CHECK(device_destage(disk.device) == 0);
    CHECK(put(2 * CHUNK, BLOCK, 3));
    fault_fail(&calls, -EIO, true, 0);
    CHECK(device_destage(disk.device) == -EIO);
    CHECK(fixture_status(&disk).failed);
    CHECK(!put(0, PAGE, 9));
    CHECK(fixture_flush(&disk) == -EIO);
    CHECK(reads(0, BLOCK, 1) && reads(CHUNK, BLOCK, 2) &&
          reads(2 * CHUNK, BLOCK, 3));
    fault_reset();
    fault_skip_syncs(true);
    (void)fixture_close(&disk);
    NEED(fixture_open(&disk) == 0);
    CHECK(reads(0, BLOCK, 1) && reads(CHUNK, BLOCK, 2) &&
          reads(2 * CHUNK, BLOCK, 3));
    end();
}

TEST("a state log that is lost by zeros of unmapped chunks fails the device "
     "too")
{
    struct fault_calls calls = {FAULT_WRITE, "/state/", 1};

    NEED(begin());
    CHECK(fixture_zero(&disk, 0, disk.options.size, DEVICE_NO_HOLE) == 0);
    fault_fail(&calls, -EIO, true, 0);
    CHECK(device_destage(disk.device) == -EIO);
    CHECK(fixture_status(&disk).failed);
    CHECK(fixture_flush(&disk) == -EIO);
    end();
}

TEST("a journal that cannot be synced fails the device, and nothing of it is "
     "committed")
{
    struct fault_calls calls = {FAULT_SYNC_DATA, "/journal/", 1};
    struct journal_fill fill;
    uint64_t commits;

    NEED(begin());
    CHECK(put(0, BLOCK, 1));
    journal_get_fill(disk.device->journal, &fill);
    CHECK(!fill.is_lost);
    commits = state_log_last_commit(disk.device->state_log);
    fault_fail(&calls, -EIO, true, 0);
    CHECK(device_destage(disk.device) == -EIO);
    CHECK(state_log_last_commit(disk.device->state_log) == commits);
    CHECK(reads(0, BLOCK, 1));
    CHECK(fixture_flush(&disk) == -EIO);
    journal_get_fill(disk.device->journal, &fill);
    CHECK(fill.is_lost);
    CHECK(fixture_close(&disk) == -EIO);
    fault_reset();
    fault_skip_syncs(true);
    NEED(fixture_open(&disk) == 0);
    CHECK(reads(0, BLOCK, 1));
    end();
}
