/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>

#include "base/log.h"
#include "cache/destage_parts.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "support/checkpoint_image.h"
#include "support/crash_states.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "support/memory_store.h"
#include "unit/test.h"

enum {
    KIB = 1 << 10,
    PAGE = CACHE_PAGE,
    CHUNK = 256 * KIB,
    CHUNKS = 140, /* so that a long run of zeros has room */
    SIZE = CHUNKS * CHUNK,
};

static struct device_fixture disk;
static struct checkpoint_image image;
static unsigned char *now;    /* what the device holds */
static unsigned char *at_cut; /* what it held at the last cut */
static unsigned char *got;

static bool begin(void)
{
    static unsigned devices; /* of this test */
    char dir[PATH_MAX + 16];

    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    (void)snprintf(dir, sizeof(dir), "%s/%u", test_dir(), ++devices);
    if (!CHECK(mkdir(dir, 0700) == 0))
        return false;
    fixture_begin(&disk, dir, false);
    disk.options.size = SIZE;
    disk.options.store = memory_store_new();
    now = calloc(1, SIZE);
    at_cut = calloc(1, SIZE);
    got = calloc(1, SIZE);
    if (!CHECK(now && at_cut && got) || !CHECK(fixture_open(&disk) == 0))
        return false;
    checkpoint_image_begin(&image, disk.device, NULL);
    return true;
}

static void end(void)
{
    fault_reset();
    checkpoint_image_end(&image);
    fixture_end(&disk);
    free(now);
    free(at_cut);
    free(got);
}

static enum checkpoint_phase phase(void)
{
    struct state_facts facts;

    state_log_facts(disk.device->state_log, &facts);
    return facts.phase;
}

static bool put(uint64_t offset, size_t size, uint64_t seed)
{
    fixture_fill(now + offset, size, seed);
    return fixture_write(&disk, offset, now + offset, size, 0) == 0;
}

static bool trim(uint64_t offset, size_t size)
{
    memset(now + offset, 0, size);
    return fixture_trim(&disk, offset, size) == 0;
}

static int cut(void)
{
    memcpy(at_cut, now, SIZE);
    return device_checkpoint(disk.device, 1000);
}

static bool device_is_right(void)
{
    return fixture_read(&disk, 0, got, SIZE) == 0 &&
           memcmp(got, now, SIZE) == 0;
}

static bool open_is_right(void)
{
    return checkpoint_image_read_open(&image, got) == 0 &&
           memcmp(got, at_cut, SIZE) == 0;
}

static bool image_is_right(void)
{
    return checkpoint_image_read(&image, got) == 0 &&
           memcmp(got, at_cut, SIZE) == 0;
}

static bool file_exists(uint64_t chunk)
{
    char path[PATH_MAX];

    fixture_chunk_path(&disk, chunk, path);
    return access(path, F_OK) == 0;
}

/* ---- one at a time ------------------------------------------------------- */

TEST("a checkpoint of nothing is open, and can be published")
{
    const uint8_t none[STATE_RECORD_SIZE] = {0};

    NEED(begin());
    CHECK(phase() == CHECKPOINT_NONE);
    CHECK(device_published(disk.device, none) == -ENOENT);
    CHECK(cut() == 0);
    CHECK(phase() == CHECKPOINT_OPEN);
    CHECK(cut() == -EALREADY);
    CHECK(catalog_count(disk.device->checkpoint_catalog) == 0);
    CHECK(checkpoint_image_publish(&image) == 0);
    CHECK(phase() == CHECKPOINT_NONE);
    CHECK(device_drop_checkpoint(disk.device) == 0);
    end();
}

TEST("a checkpoint is what was written before it, whatever comes then")
{
    NEED(begin());
    CHECK(put(0, 3 * PAGE, 1));
    CHECK(put(5 * CHUNK + 100, 2000, 2));
    CHECK(put(7 * CHUNK, CHUNK, 3));
    CHECK(device_destage(disk.device) == 0);
    CHECK(put(PAGE, PAGE, 4));
    CHECK(trim(7 * CHUNK, CHUNK));
    CHECK(put(9 * CHUNK, PAGE, 5));
    CHECK(cut() == 0);
    CHECK(checkpoint_image_pending(&image) == 3);
    CHECK(open_is_right());
    CHECK(put(2 * PAGE, PAGE, 6));
    CHECK(trim(9 * CHUNK, CHUNK));
    CHECK(put(7 * CHUNK, PAGE, 7));
    CHECK(put(20 * CHUNK, PAGE, 8));
    CHECK(open_is_right());
    CHECK(device_destage(disk.device) == 0);
    CHECK(open_is_right() && device_is_right());
    CHECK(put(2 * PAGE, PAGE, 9));
    CHECK(device_destage(disk.device) == 0);
    CHECK(open_is_right() && device_is_right());
    CHECK(fixture_reopen(&disk) == 0);
    image.device = disk.device;
    CHECK(phase() == CHECKPOINT_OPEN);
    CHECK(open_is_right() && device_is_right());
    CHECK(checkpoint_image_publish(&image) == -EBUSY);
    CHECK(checkpoint_image_upload(&image, 1, true) == 0);
    CHECK(open_is_right() && device_is_right());
    CHECK(checkpoint_image_publish(&image) == 0);
    CHECK(phase() == CHECKPOINT_NONE);
    CHECK(image_is_right() && device_is_right());
    /* The next one says only what has changed. */
    CHECK(cut() == 0);
    CHECK(catalog_count(disk.device->checkpoint_catalog) == 4);
    CHECK(checkpoint_image_upload(&image, 1, true) == 0);
    CHECK(checkpoint_image_publish(&image) == 0);
    CHECK(image_is_right());
    CHECK(catalog_unpublished(disk.device->catalog) == 0);
    CHECK(catalog_dirty(disk.device->catalog) == 0);
    end();
}

TEST("a file that only a checkpoint wants goes with it")
{
    NEED(begin());
    CHECK(put(0, PAGE, 1));
    CHECK(put(CHUNK, PAGE, 2));
    CHECK(cut() == 0);
    CHECK(trim(0, 2 * CHUNK));
    CHECK(device_destage(disk.device) == 0);
    CHECK(file_exists(0) && file_exists(1));
    CHECK(open_is_right());
    CHECK(device_drop_checkpoint(disk.device) == 0);
    CHECK(phase() == CHECKPOINT_NONE);
    CHECK(!file_exists(0) && !file_exists(1));
    CHECK(catalog_count(disk.device->catalog) == 0);
    CHECK(device_is_right());
    /* The same, with an upload in between, which frees one of them. */
    CHECK(put(0, PAGE, 1));
    CHECK(put(CHUNK, PAGE, 2));
    CHECK(cut() == 0);
    CHECK(trim(0, 2 * CHUNK));
    CHECK(device_destage(disk.device) == 0);
    CHECK(checkpoint_image_upload(&image, 1, true) == 0);
    CHECK(!file_exists(0) && !file_exists(1));
    CHECK(checkpoint_image_publish(&image) == 0);
    CHECK(image_is_right() && device_is_right());
    end();
}

TEST("a checkpoint that was dropped leaves the next one whole")
{
    NEED(begin());
    CHECK(put(0, 3 * PAGE, 1));
    CHECK(cut() == 0);
    CHECK(put(CHUNK, PAGE, 2));
    CHECK(device_drop_checkpoint(disk.device) == 0);
    CHECK(put(PAGE, PAGE, 3));
    CHECK(cut() == 0);
    CHECK(open_is_right());
    CHECK(checkpoint_image_upload(&image, 1, true) == 0);
    CHECK(checkpoint_image_publish(&image) == 0);
    CHECK(image_is_right() && device_is_right());
    end();
}

/* ---- while it is folded -------------------------------------------------- */

static void *checkpoint_of(void *context)
{
    int *ret_error = context;

    *ret_error = cut();
    return NULL;
}

TEST("what is written while a checkpoint is folded is not in it")
{
    struct fault_calls syncs = {FAULT_SYNC_DATA, "/chunk/", 1};
    pthread_t thread;
    int error = -EBUSY;

    NEED(begin());
    CHECK(put(0, 3 * PAGE, 1));
    CHECK(trim(2 * CHUNK, 100 * CHUNK));
    CHECK(put(5 * CHUNK, PAGE, 2));
    fault_gate_set(&syncs);
    NEED(pthread_create(&thread, NULL, checkpoint_of, &error) == 0);
    fault_gate_wait();
    CHECK(phase() == CHECKPOINT_FOLDING);
    CHECK(put(PAGE, PAGE, 3));
    CHECK(put(5 * CHUNK, PAGE, 4));
    CHECK(put(8 * CHUNK, PAGE, 5));
    CHECK(device_is_right());
    fault_gate_open();
    CHECK(pthread_join(thread, NULL) == 0 && error == 0);
    fault_reset();
    fault_skip_syncs(true);
    CHECK(open_is_right() && device_is_right());
    CHECK(device_destage(disk.device) == 0);
    CHECK(open_is_right() && device_is_right());
    CHECK(page_index_is_empty(disk.device->index));
    end();
}

/* As a crash would leave it that came before anything was folded. */
static bool begin_only(void)
{
    struct state_change change = {
        .kind = STATE_CHECKPOINT_BEGIN,
        .number = journal_head(disk.device->journal),
        .time_ns = 1000,
    };

    memcpy(at_cut, now, SIZE);
    return state_log_commit(disk.device->state_log, &change, 1) == 0;
}

static bool reopen(bool crash)
{
    int error = crash ? fixture_crash(&disk) : fixture_reopen(&disk);

    image.device = disk.device;
    return CHECK(error == 0);
}

TEST("a start completes a checkpoint that was being folded, as it was cut")
{
    NEED(begin());
    for (unsigned i = 0; i < 3; i++) {
        CHECK(put(0, 3 * PAGE, i + 1));
        CHECK(trim(2 * CHUNK, 100 * CHUNK));
        CHECK(put(5 * CHUNK, PAGE, i + 10));
        NEED(begin_only());
        if (i != 1) { /* or nothing is there behind the cut */
            CHECK(put(PAGE, PAGE, i + 20));
            CHECK(put(5 * CHUNK, PAGE, i + 30));
            CHECK(trim(0, PAGE));
        }
        NEED(reopen(i == 2));
        CHECK(device_is_right());
        CHECK(device_destage(disk.device) == 0);
        CHECK(phase() == CHECKPOINT_OPEN);
        CHECK(page_index_is_empty(disk.device->index));
        CHECK(open_is_right() && device_is_right());
        CHECK(checkpoint_image_upload(&image, 1, true) == 0);
        CHECK(checkpoint_image_publish(&image) == 0);
        CHECK(image_is_right() && device_is_right());
    }
    end();
}

/* Return when so many jobs wait. */
static void wait_for_jobs(unsigned wanted)
{
    struct destage *destage = disk.device->destage;
    unsigned count;

    do {
        (void)sched_yield();
        count = 0;
        mutex_lock(&destage->lock);
        for (const struct destage_job *job = destage->jobs; job != NULL;
             job = job->next)
            count++;
        mutex_unlock(&destage->lock);
    } while (count < wanted);
}

/* Ask for a checkpoint; tell what there is when that is answered. */
static void *phase_when_answered(void *context)
{
    enum checkpoint_phase *found = context;

    if (device_checkpoint(disk.device, 2000) == -EALREADY)
        *found = phase();
    return NULL;
}

TEST("who asks for a checkpoint while one is folded hears of it when it is "
     "open")
{
    struct fault_calls syncs = {FAULT_SYNC_DATA, "/chunk/", 1};
    enum checkpoint_phase found[2] = {CHECKPOINT_NONE, CHECKPOINT_NONE};
    pthread_t threads[2];

    NEED(begin());
    /* More than a batch, as jobs are run between batches. */
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        CHECK(put(chunk * CHUNK, PAGE, chunk));
    NEED(begin_only());
    fault_gate_set(&syncs);
    NEED(reopen(false));
    fault_gate_wait();
    for (unsigned i = 0; i < 2; i++)
        NEED(pthread_create(&threads[i], NULL, phase_when_answered,
                            &found[i]) == 0);
    wait_for_jobs(2);
    fault_gate_open();
    for (unsigned i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(found[i] == CHECKPOINT_OPEN);
    }
    CHECK(open_is_right() && device_is_right());
    end();
}

TEST("a checkpoint for which there is no room is given up, and nothing else")
{
    struct fault_calls writes = {FAULT_WRITE, "/chunk/", 1};

    NEED(begin());
    CHECK(put(0, 3 * PAGE, 1));
    fault_fail(&writes, -ENOSPC, true, 0);
    CHECK(cut() == -ENOSPC);
    CHECK(phase() == CHECKPOINT_NONE);
    CHECK(!page_index_is_cut(disk.device->index));
    CHECK(put(PAGE, PAGE, 2));
    CHECK(device_is_right());
    fault_reset();
    fault_skip_syncs(true);
    CHECK(device_destage(disk.device) == 0);
    CHECK(cut() == 0);
    CHECK(open_is_right() && device_is_right());
    end();
}

TEST("a chunk file that cannot be written for a moment delays a checkpoint")
{
    struct fault_calls syncs = {FAULT_SYNC_DATA, "/chunk/", 1};

    NEED(begin());
    CHECK(put(0, 3 * PAGE, 1));
    fault_fail(&syncs, -EIO, false, 0);
    CHECK(cut() == 0);
    CHECK(open_is_right() && device_is_right());
    end();
}

TEST("without a journal, or a state log, there is no checkpoint")
{
    struct fault_calls syncs = {FAULT_SYNC_DATA, "/journal/", 1};
    struct fault_calls writes = {FAULT_WRITE, "/state/", 1};

    NEED(begin());
    CHECK(put(0, 3 * PAGE, 1));
    fault_fail(&syncs, -EIO, true, 0);
    CHECK(cut() == -EIO);
    CHECK(device_is_right());
    CHECK(cut() == -EIO);
    end();

    NEED(begin());
    CHECK(put(0, 3 * PAGE, 1));
    fault_fail(&writes, -EIO, true, 0);
    CHECK(cut() == -EIO);
    CHECK(device_is_right());
    CHECK(cut() == -EIO);
    CHECK(device_drop_checkpoint(disk.device) == -EIO);
    end();
}

TEST("a drop while it is folded answers who waits for it")
{
    struct fault_calls syncs = {FAULT_SYNC_DATA, "/chunk/", 1};
    pthread_t thread;
    int error = -EBUSY;
    unsigned char *dropped = malloc(SIZE);

    NEED(begin());
    NEED(dropped != NULL);
    /* More than a batch, as jobs are run between batches. */
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        CHECK(put(chunk * CHUNK, PAGE, chunk));
    fault_gate_set(&syncs);
    NEED(pthread_create(&thread, NULL, checkpoint_of, &error) == 0);
    fault_gate_wait();
    CHECK(put(PAGE, PAGE, 1000));
    CHECK(put(0, PAGE, 1001));
    /* It comes during the first batch, or after the last. */
    fault_gate_open();
    CHECK(device_drop_checkpoint(disk.device) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(error == -ECANCELED || error == 0);
    fault_reset();
    fault_skip_syncs(true);
    CHECK(phase() == CHECKPOINT_NONE);
    CHECK(device_is_right());
    CHECK(cut() == 0);
    CHECK(open_is_right() && device_is_right());
    free(dropped);
    end();
}

TEST("since when writes are unpublished is known, also after a restart")
{
    uint64_t since_ns;

    NEED(begin());
    CHECK(fixture_status(&disk).unpublished_since_ns == 0);
    CHECK(put(0, PAGE, 1));
    since_ns = fixture_status(&disk).unpublished_since_ns;
    CHECK(since_ns != 0);
    CHECK(put(0, PAGE, 2));
    CHECK(fixture_status(&disk).unpublished_since_ns == since_ns);
    NEED(reopen(false));
    CHECK(fixture_status(&disk).unpublished_since_ns == since_ns);
    CHECK(cut() == 0);
    CHECK(fixture_status(&disk).unpublished_since_ns == since_ns);
    NEED(reopen(false));
    CHECK(fixture_status(&disk).unpublished_since_ns == since_ns);
    CHECK(checkpoint_image_upload(&image, 1, true) == 0);
    CHECK(checkpoint_image_publish(&image) == 0);
    CHECK(fixture_status(&disk).unpublished_since_ns == 0);
    NEED(reopen(false));
    CHECK(fixture_status(&disk).unpublished_since_ns == 0);
    CHECK(put(0, PAGE, 3));
    CHECK(fixture_status(&disk).unpublished_since_ns > since_ns);
    /* Not told younger than it is. */
    since_ns = fixture_status(&disk).unpublished_since_ns;
    NEED(reopen(true));
    CHECK(fixture_status(&disk).unpublished_since_ns <= since_ns);
    CHECK(fixture_status(&disk).unpublished_since_ns != 0);
    end();
}

/* ---- random -------------------------------------------------------------- */

static uint64_t seed;
static uint64_t dice;

static uint64_t below(uint64_t end)
{
    return crash_random(seed, dice++) % end;
}

static void random_request(void)
{
    uint64_t most = below(8) == 0 ? SIZE : 3 * CHUNK;
    uint64_t offset = below(SIZE / 512) * 512;
    uint64_t length = (1 + below(most / 512)) * 512;

    if (length > SIZE - offset)
        length = SIZE - offset;
    if (below(3) != 0) {
        if (length > 40 * KIB)
            length = 40 * KIB;
        CHECK(put(offset, length, dice));
    } else if (below(2) == 0) {
        memset(now + offset, 0, length);
        CHECK(fixture_zero(&disk, offset, length,
                           below(2) == 0 ? DEVICE_NO_HOLE : 0) == 0);
    } else {
        uint64_t first = round_up(offset, PAGE);
        uint64_t last = round_down(offset + length, PAGE);

        if (last > first)
            memset(now + first, 0, last - first);
        CHECK(fixture_trim(&disk, offset, length) == 0);
    }
}

static void random_evict(void)
{
    uint64_t chunks[CHUNKS];
    uint64_t freed;
    size_t count = 0;

    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        if (below(2) == 0)
            chunks[count++] = chunk;
    }
    CHECK(device_evict(disk.device, chunks, count,
                       below(2) == 0 ? EVICT_BLOCKS : EVICT_FILE, &freed) == 0);
}

/* What the owner does, and what happens to the device. */
static void random_event(bool *is_open)
{
    switch (below(12)) {
    case 0:
    case 1:
        CHECK(device_destage(disk.device) == 0);
        break;
    case 2:
        CHECK(fixture_flush(&disk) == 0);
        break;
    case 3:
    case 4:
        if (*is_open)
            break;
        *is_open = CHECK(cut() == 0);
        CHECK(open_is_right());
        break;
    case 5:
    case 6:
        if (*is_open)
            CHECK(checkpoint_image_upload(&image, dice, below(3) == 0) == 0);
        break;
    case 7:
        CHECK(checkpoint_image_upload_newest(&image, dice) == 0);
        break;
    case 8:
        random_evict();
        break;
    case 9:
        NEED(reopen(below(2) == 0));
        break;
    case 10:
        if (*is_open && checkpoint_image_pending(&image) == 0) {
            CHECK(open_is_right());
            CHECK(checkpoint_image_publish(&image) == 0);
            CHECK(image_is_right());
            *is_open = false;
        }
        break;
    default:
        if (!*is_open || below(4) != 0)
            break;
        CHECK(device_drop_checkpoint(disk.device) == 0);
        *is_open = false;
    }
}

TEST("random writes, zeros and trims, checkpoints, uploads, evictions and "
     "restarts: a checkpoint is what the device was at its cut")
{
    for (seed = 1; seed <= 12; seed++) {
        bool is_open = false;

        dice = 0;
        NEED(begin());
        for (unsigned step = 0; step < 120; step++) {
            for (uint64_t i = below(6); i > 0; i--)
                random_request();
            random_event(&is_open);
            if (step % 8 == 0 && is_open)
                CHECK(open_is_right());
            if (step % 8 == 4)
                CHECK(device_is_right());
            if (atomic_load(&test_has_failed)) {
                printf("# seed %" PRIu64 ", step %u\n", seed, step);
                break;
            }
        }
        if (is_open) {
            CHECK(open_is_right());
            CHECK(checkpoint_image_upload(&image, 1, true) == 0);
            CHECK(checkpoint_image_publish(&image) == 0);
            CHECK(image_is_right());
        }
        CHECK(device_is_right());
        end();
        NEED(!atomic_load(&test_has_failed));
    }
}
