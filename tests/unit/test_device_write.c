/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/device_write.h"

#include <pthread.h>
#include <sched.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mutex.h"
#include "cache/geometry.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "unit/test.h"

enum {
    KIB = 1 << 10,
    MIB = 1 << 20,
    SECTOR = DEVICE_SECTOR,
    PAGE = CACHE_PAGE,
    BLOCK = CACHE_BLOCK,
    CHUNK = 256 * KIB,
    MANY = 400,
};

static struct device_fixture disk;
static unsigned char *data;
static unsigned char *got;

/* Requests that are in flight together, and what became of each. */
static struct {
    struct mutex lock;
    struct condition answered;
    struct device_request requests[MANY];
    struct device_request *list[MANY];
    int errors[MANY];
    size_t answered_at[MANY]; /* moment of a recording */
    size_t count;
    size_t in_flight;
} crowd;

static bool begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    fixture_begin(&disk, test_dir(), false);
    data = malloc(DEVICE_REQUEST_MAX);
    got = malloc(DEVICE_REQUEST_MAX);
    mutex_init(&crowd.lock);
    condition_init(&crowd.answered);
    crowd.count = 0;
    crowd.in_flight = 0;
    return CHECK(data != NULL && got != NULL) &&
           CHECK(fixture_open(&disk) == 0);
}

static void end(void)
{
    fault_reset();
    fixture_end(&disk);
    free(data);
    free(got);
}

static void answer(struct device_request *request, int error)
{
    mutex_lock(&crowd.lock);
    crowd.errors[request - crowd.requests] = error;
    crowd.answered_at[request - crowd.requests] = fault_record_position();
    crowd.in_flight--;
    condition_broadcast(&crowd.answered);
    mutex_unlock(&crowd.lock);
}

/* Add a write to those that crowd_submit submits; its bytes are in data. */
static void crowd_add(uint64_t offset, size_t length, unsigned flags)
{
    struct device_request *request = &crowd.requests[crowd.count];

    *request = (struct device_request){
        .operation = DEVICE_WRITE,
        .flags = flags,
        .offset = offset,
        .length = length,
        .data = data + offset,
        .done = answer,
    };
    crowd.list[crowd.count] = request;
    crowd.errors[crowd.count++] = 1; /* none yet */
}

static void crowd_submit(void)
{
    crowd.in_flight = crowd.count;
    device_submit(disk.device, crowd.list, crowd.count);
}

static void crowd_wait(void)
{
    mutex_lock(&crowd.lock);
    while (crowd.in_flight > 0)
        condition_wait(&crowd.answered, &crowd.lock);
    mutex_unlock(&crowd.lock);
}

/* ---- what is appended ---------------------------------------------------- */

TEST("a write of the largest size, at an odd place, through a journal that is "
     "much smaller")
{
    NEED(begin());
    CHECK(fixture_close(&disk) == 0);
    disk.options.size = 80 * MIB;
    disk.options.journal_size = 4 * MIB;
    NEED(fixture_open(&disk) == 0);
    fixture_fill(data, DEVICE_REQUEST_MAX, 1);
    CHECK(fixture_write(&disk, CHUNK - SECTOR, data, DEVICE_REQUEST_MAX, 0) ==
          0);
    CHECK(fixture_read(&disk, CHUNK - SECTOR, got, DEVICE_REQUEST_MAX) == 0);
    CHECK(memcmp(got, data, DEVICE_REQUEST_MAX) == 0);
    CHECK(fixture_read(&disk, 0, got, CHUNK - SECTOR) == 0);
    CHECK(bytes_are_zero(got, CHUNK - SECTOR));
    CHECK(device_destage(disk.device) == 0);
    NEED(fixture_reopen(&disk) == 0);
    CHECK(fixture_read(&disk, CHUNK - SECTOR, got, DEVICE_REQUEST_MAX) == 0);
    CHECK(memcmp(got, data, DEVICE_REQUEST_MAX) == 0);
    end();
}

TEST("whole blocks of zeros are said, not stored; less than a block is stored")
{
    uint64_t written;

    NEED(begin());
    fixture_fill(data, CHUNK, 1);
    CHECK(fixture_write(&disk, 0, data, CHUNK, 0) == 0);
    CHECK(device_destage(disk.device) == 0);
    memset(data, 0, CHUNK);
    written = fixture_status(&disk).cache_written;
    CHECK(fixture_write(&disk, BLOCK, data, 8 * BLOCK, 0) == 0);
    CHECK(fixture_status(&disk).cache_written < written + 3 * PAGE);
    CHECK(fixture_extent_at(&disk, BLOCK) ==
          (DEVICE_EXTENT_HOLE | DEVICE_EXTENT_ZERO));
    CHECK(fixture_write(&disk, 10 * BLOCK, data, PAGE, 0) == 0);
    CHECK(fixture_extent_at(&disk, 10 * BLOCK) == 0);
    /* With edges that are not zeros around them. */
    CHECK(fixture_write(&disk, 11 * BLOCK - SECTOR, data, BLOCK, 0) == 0);
    CHECK(fixture_read(&disk, 0, got, CHUNK) == 0);
    fixture_fill(data, CHUNK, 1);
    memset(data + BLOCK, 0, 8 * BLOCK);
    memset(data + 10 * BLOCK, 0, PAGE);
    memset(data + 11 * BLOCK - SECTOR, 0, BLOCK);
    CHECK(memcmp(got, data, CHUNK) == 0);
    end();
}

TEST("zeros of a part of a page leave its rest, and a trim of less than a "
     "page does nothing")
{
    NEED(begin());
    fixture_fill(data, CHUNK, 1);
    CHECK(fixture_write(&disk, 0, data, CHUNK, 0) == 0);
    CHECK(fixture_zero(&disk, SECTOR, SECTOR, 0) == 0);
    memset(data + SECTOR, 0, SECTOR);
    CHECK(fixture_zero(&disk, PAGE + SECTOR, 3 * PAGE, DEVICE_NO_HOLE) == 0);
    memset(data + PAGE + SECTOR, 0, 3 * PAGE);
    CHECK(fixture_trim(&disk, 8 * PAGE + SECTOR, PAGE) == 0);
    CHECK(fixture_trim(&disk, 9 * PAGE + SECTOR, 2 * PAGE) == 0);
    memset(data + 10 * PAGE, 0, PAGE);
    CHECK(fixture_zero(&disk, 12 * PAGE + 7, 0, 0) == 0);
    CHECK(fixture_trim(&disk, 12 * PAGE + 7, 0) == 0);
    CHECK(fixture_write(&disk, 12 * PAGE + 7, data, 0, 0) == 0);
    CHECK(fixture_read(&disk, 0, got, CHUNK) == 0);
    CHECK(memcmp(got, data, CHUNK) == 0);
    end();
}

TEST("requests of nothing take no place in the journal")
{
    uint64_t head;

    NEED(begin());
    head = journal_head(disk.device->journal);
    CHECK(fixture_write(&disk, 100, data, 0, DEVICE_FUA) == 0);
    CHECK(fixture_zero(&disk, 100, 0, 0) == 0);
    CHECK(fixture_trim(&disk, 100, PAGE) == 0);
    CHECK(journal_head(disk.device->journal) == head);
    end();
}

/* ---- parts of pages ------------------------------------------------------ */

static void *write_sectors(void *context)
{
    uint64_t part = *(uint64_t *)context;
    bool good = true;

    for (unsigned round = 0; round < 200 && good; round++) {
        uint64_t offset = (round % 4) * PAGE + part * SECTOR;

        good = fixture_write(&disk, offset, data + offset, SECTOR, 0) == 0;
    }
    CHECK(good);
    return NULL;
}

TEST("threads that write different sectors of the same pages lose nothing, "
     "while those are destaged")
{
    pthread_t threads[8];
    uint64_t parts[8];

    NEED(begin());
    for (unsigned round = 0; round < 3; round++) {
        fixture_fill(data, 4 * PAGE, round + 1);
        for (unsigned i = 0; i < 8; i++) {
            parts[i] = i;
            NEED(pthread_create(&threads[i], NULL, write_sectors, &parts[i]) ==
                 0);
        }
        CHECK(device_destage(disk.device) == 0);
        for (unsigned i = 0; i < 8; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(fixture_read(&disk, 0, got, 4 * PAGE) == 0);
        CHECK(memcmp(got, data, 4 * PAGE) == 0);
    }
    end();
}

TEST("what was read of a page before another write took its place is read "
     "again")
{
    struct journal_item item = {.kind = JOURNAL_PAGES, .page = 3, .count = 1};
    uint64_t stamp;

    NEED(begin());
    stamp = page_index_stamp(disk.device->index, 3);
    CHECK(page_index_stamp(disk.device->index, 3) == stamp);
    fixture_fill(data, PAGE, 1);
    CHECK(fixture_write(&disk, 3 * PAGE, data, PAGE, 0) == 0);
    CHECK(page_index_stamp(disk.device->index, 3) != stamp);
    stamp = page_index_stamp(disk.device->index, 3);
    CHECK(fixture_trim(&disk, 0, 4 * CHUNK) == 0);
    CHECK(page_index_stamp(disk.device->index, 3) != stamp);
    /* By its place alone, before it is shown. */
    stamp = page_index_stamp(disk.device->index, 3);
    page_index_touch(disk.device->index, item.page, item.count);
    CHECK(page_index_stamp(disk.device->index, 3) != stamp);
    end();
}

/* ---- durability ---------------------------------------------------------- */

TEST("with FUA a write is answered after its sync, and with its error")
{
    struct fault_calls calls = {FAULT_SYNC_DATA, "/journal/", 1};

    NEED(begin());
    fixture_fill(data, PAGE, 1);
    CHECK(fixture_write(&disk, 0, data, PAGE, 0) == 0);
    fault_fail(&calls, -EIO, true, 0);
    CHECK(fixture_write(&disk, PAGE, data, PAGE, DEVICE_FUA) == -EIO);
    CHECK(fault_count() == 1);
    CHECK(fixture_status(&disk).failed);
    CHECK(fixture_write(&disk, PAGE, data, PAGE, 0) == -EIO);
    CHECK(fixture_trim(&disk, 0, PAGE) == -EIO);
    CHECK(fixture_flush(&disk) == -EIO);
    CHECK(fixture_read(&disk, 0, got, PAGE) == 0);
    CHECK(memcmp(got, data, PAGE) == 0);
    end();
}

/*
 * Whether the page at data was written, and the file then synced, before that
 * moment of the recording.
 */
static bool was_durable(const struct recording *recording,
                        const unsigned char *page, size_t moment)
{
    for (size_t i = 0; i < moment; i++) {
        const struct record_entry *write = &recording->entries[i];

        if (write->kind != RECORD_WRITE ||
            memmem(write->bytes, write->size, page, PAGE) == NULL)
            continue;
        for (size_t j = i + 1; j < moment; j++) {
            const struct record_entry *sync = &recording->entries[j];

            if (sync->kind == RECORD_SYNC && sync->node == write->node &&
                sync->offset > i)
                return true;
        }
    }
    return false;
}

TEST("FUA in a batch of which the rest finds no room waits for its own sync")
{
    struct recording *recording;

    NEED(begin());
    CHECK(fixture_close(&disk) == 0);
    disk.options.journal_size = 256 * KIB;
    fault_record_begin(disk.cachedir);
    NEED(fixture_open(&disk) == 0);
    fixture_fill(data, 8 * MIB, 1);
    /* More items than go into one append, and more bytes than there is room. */
    crowd_add(0, PAGE, DEVICE_FUA);
    crowd_add(CHUNK, 8 * MIB, 0);
    crowd_submit();
    crowd_wait();
    CHECK(crowd.errors[0] == 0 && crowd.errors[1] == 0);
    CHECK(fixture_close(&disk) == 0);
    recording = fault_record_end();
    CHECK(was_durable(recording, data, crowd.answered_at[0]));
    recording_free(recording);
    end();
}

TEST("flushes that are submitted with writes cover them")
{
    struct fault_calls calls = {FAULT_SYNC_DATA, "/journal/", 1};

    NEED(begin());
    fixture_fill(data, MIB, 1);
    crowd_add(0, PAGE, 0);
    crowd_add(0, 0, 0);
    crowd.requests[1].operation = DEVICE_FLUSH;
    crowd_add(2 * PAGE, PAGE, 0);
    fault_fail(&calls, -EIO, true, 0);
    crowd_submit();
    crowd_wait();
    CHECK(crowd.errors[0] == 0 && crowd.errors[2] == 0);
    CHECK(crowd.errors[1] == -EIO);
    end();
}

/* ---- waiting ------------------------------------------------------------- */

TEST("hundreds of writes that wait for room are all done, and none twice")
{
    NEED(begin());
    CHECK(fixture_close(&disk) == 0);
    disk.options.journal_size = 256 * KIB;
    NEED(fixture_open(&disk) == 0);
    fixture_fill(data, MANY * 2 * PAGE, 7);
    for (uint64_t i = 0; i < MANY; i++)
        crowd_add(i * 2 * PAGE, 2 * PAGE, i % 50 == 0 ? DEVICE_FUA : 0);
    crowd_submit();
    crowd_wait();
    for (uint64_t i = 0; i < MANY; i++)
        CHECK(crowd.errors[i] == 0);
    CHECK(fixture_read(&disk, 0, got, MANY * 2 * PAGE) == 0);
    CHECK(memcmp(got, data, MANY * 2 * PAGE) == 0);
    end();
}

static void wait_until_parked(uint64_t count)
{
    /* Now and then they are taken out, and find that there is no room. */
    while (fixture_status(&disk).parked < count)
        (void)sched_yield();
}

TEST("writes that wait for room when the state log is lost are answered with "
     "an error, as is who comes later")
{
    struct fault_calls writes = {FAULT_WRITE, "/chunk/", 1};
    struct fault_calls commits = {FAULT_WRITE, "/state/", 1};

    NEED(begin());
    CHECK(fixture_close(&disk) == 0);
    disk.options.journal_size = 256 * KIB;
    NEED(fixture_open(&disk) == 0);
    fault_fail(&writes, -ENOSPC, true, 0);
    fixture_fill(data, MANY * 2 * PAGE, 7);
    for (uint64_t i = 0; i < 100; i++)
        crowd_add(i * 2 * PAGE, 2 * PAGE, 0);
    crowd_submit();
    wait_until_parked(50);
    fault_reset();
    fault_skip_syncs(true);
    fault_fail(&commits, -EIO, true, 0);
    crowd_wait();
    CHECK(crowd.errors[99] == -EIO);
    CHECK(fixture_status(&disk).failed);
    CHECK(fixture_status(&disk).parked == 0);
    CHECK(fixture_write(&disk, 0, data, PAGE, 0) == -EIO);
    end();
}

TEST("on a full disk writes wait, and go on when there is space")
{
    struct fault_calls writes = {FAULT_WRITE, "/chunk/", 1};

    NEED(begin());
    CHECK(fixture_close(&disk) == 0);
    disk.options.journal_size = 256 * KIB;
    NEED(fixture_open(&disk) == 0);
    fault_fail(&writes, -ENOSPC, true, 0);
    fixture_fill(data, MANY * 2 * PAGE, 7);
    for (uint64_t i = 0; i < 100; i++)
        crowd_add(i * 2 * PAGE, 2 * PAGE, 0);
    crowd_submit();
    wait_until_parked(50);
    CHECK(fixture_read(&disk, 0, got, PAGE) == 0);
    fault_reset();
    fault_skip_syncs(true);
    crowd_wait();
    for (uint64_t i = 0; i < 100; i++)
        CHECK(crowd.errors[i] == 0);
    CHECK(fixture_read(&disk, 0, got, 100 * 2 * PAGE) == 0);
    CHECK(memcmp(got, data, 100 * 2 * PAGE) == 0);
    end();
}

TEST("on a full disk a trim behind writes that wait is done, and makes room")
{
    struct fault_calls writes = {FAULT_WRITE, "/chunk/", 1};
    const uint64_t mapped = 40 * CHUNK;

    NEED(begin());
    CHECK(fixture_close(&disk) == 0);
    disk.options.journal_size = 256 * KIB;
    NEED(fixture_open(&disk) == 0);
    fixture_fill(data, MANY * 2 * PAGE, 7);
    CHECK(fixture_write(&disk, mapped, data, PAGE, 0) == 0);
    CHECK(device_destage(disk.device) == 0);
    CHECK(fixture_status(&disk).chunks_mapped == 1);
    fault_fail(&writes, -ENOSPC, true, 0);
    for (uint64_t i = 0; i < 100; i++)
        crowd_add(i * 2 * PAGE, 2 * PAGE, 0);
    crowd_add(mapped, CHUNK, 0);
    crowd.requests[100].operation = DEVICE_TRIM;
    crowd_submit();
    wait_until_parked(50);
    while (fixture_status(&disk).chunks_mapped > 0)
        (void)sched_yield();
    CHECK(crowd.errors[100] == 0);
    fault_reset();
    fault_skip_syncs(true);
    crowd_wait();
    for (uint64_t i = 0; i < 100; i++)
        CHECK(crowd.errors[i] == 0);
    CHECK(fixture_read(&disk, 0, got, 100 * 2 * PAGE) == 0);
    CHECK(memcmp(got, data, 100 * 2 * PAGE) == 0);
    end();
}

TEST("a client that is gone takes its waiting writes with it, no others")
{
    struct fault_calls writes = {FAULT_WRITE, "/chunk/", 1};
    atomic_bool is_gone = false;

    NEED(begin());
    CHECK(fixture_close(&disk) == 0);
    disk.options.journal_size = 256 * KIB;
    NEED(fixture_open(&disk) == 0);
    fault_fail(&writes, -ENOSPC, true, 0);
    fixture_fill(data, MANY * 2 * PAGE, 7);
    for (uint64_t i = 0; i < 100; i++) {
        crowd_add(i * 2 * PAGE, 2 * PAGE, 0);
        if (i % 2 == 0)
            crowd.requests[i].client_is_gone = &is_gone;
    }
    crowd_submit();
    wait_until_parked(50);
    atomic_store(&is_gone, true);
    device_expel(disk.device);
    fault_reset();
    fault_skip_syncs(true);
    crowd_wait();
    for (uint64_t i = 0; i < 100; i++) {
        bool is_canceled = crowd.errors[i] == -ECANCELED;

        CHECK(crowd.errors[i] == 0 || (i % 2 == 0 && is_canceled));
        CHECK(fixture_read(&disk, i * 2 * PAGE, got, 2 * PAGE) == 0);
        CHECK(is_canceled ? bytes_are_zero(got, 2 * PAGE)
                          : memcmp(got, data + i * 2 * PAGE, 2 * PAGE) == 0);
    }
    CHECK(crowd.errors[98] == -ECANCELED && crowd.errors[99] == 0);
    end();
}

/* ---- the gate ------------------------------------------------------------ */

TEST("at a gate that is shut writes wait, reads and flushes go on")
{
    uint64_t head;

    NEED(begin());
    fixture_fill(data, MANY * 2 * PAGE, 7);
    CHECK(fixture_write(&disk, 0, data, PAGE, 0) == 0);
    device_set_gate(disk.device, DEVICE_GATE_WAIT);
    CHECK(fixture_status(&disk).gate == DEVICE_GATE_WAIT);
    head = journal_head(disk.device->journal);
    for (uint64_t i = 0; i < 10; i++)
        crowd_add(i * 2 * PAGE, 2 * PAGE, i % 2 == 0 ? DEVICE_FUA : 0);
    crowd_submit();
    wait_until_parked(10);
    CHECK(fixture_flush(&disk) == 0);
    CHECK(fixture_read(&disk, 0, got, PAGE) == 0);
    CHECK(memcmp(got, data, PAGE) == 0);
    CHECK(fixture_read(&disk, 2 * PAGE, got, PAGE) == 0);
    CHECK(bytes_are_zero(got, PAGE));
    /* Also when there is more room than before. */
    CHECK(device_destage(disk.device) == 0);
    wait_until_parked(10);
    CHECK(page_index_is_empty(disk.device->index));
    CHECK(journal_head(disk.device->journal) >= head);
    device_set_gate(disk.device, DEVICE_GATE_OPEN);
    crowd_wait();
    for (uint64_t i = 0; i < 10; i++)
        CHECK(crowd.errors[i] == 0);
    CHECK(fixture_read(&disk, 0, got, 20 * PAGE) == 0);
    CHECK(memcmp(got, data, 20 * PAGE) == 0);
    end();
}

TEST("fenced, who writes, waits or flushes gets an error, and who reads what "
     "is there")
{
    NEED(begin());
    fixture_fill(data, MANY * 2 * PAGE, 7);
    CHECK(fixture_write(&disk, 0, data, PAGE, 0) == 0);
    device_set_gate(disk.device, DEVICE_GATE_WAIT);
    for (uint64_t i = 1; i <= 10; i++)
        crowd_add(i * 2 * PAGE, 2 * PAGE, 0);
    crowd_submit();
    wait_until_parked(10);
    device_set_gate(disk.device, DEVICE_GATE_FENCED);
    crowd_wait();
    for (uint64_t i = 0; i < 10; i++)
        CHECK(crowd.errors[i] == -EIO);
    CHECK(fixture_write(&disk, 0, data + PAGE, PAGE, 0) == -EIO);
    CHECK(fixture_zero(&disk, 0, PAGE, 0) == -EIO);
    CHECK(fixture_trim(&disk, 0, PAGE) == -EIO);
    CHECK(fixture_flush(&disk) == -EIO);
    CHECK(fixture_read(&disk, 0, got, 4 * PAGE) == 0);
    CHECK(memcmp(got, data, PAGE) == 0);
    CHECK(bytes_are_zero(got + PAGE, 3 * PAGE));
    /* What was written before is not lost by it. */
    CHECK(device_destage(disk.device) == 0);
    device_set_gate(disk.device, DEVICE_GATE_OPEN);
    CHECK(fixture_write(&disk, PAGE, data + PAGE, PAGE, 0) == 0);
    CHECK(fixture_flush(&disk) == 0);
    CHECK(fixture_read(&disk, 0, got, 2 * PAGE) == 0);
    CHECK(memcmp(got, data, 2 * PAGE) == 0);
    end();
}

/* ---- a cache that is nearly full ----------------------------------------- */

TEST("as the room for chunk files ends, writes are slowed down")
{
    struct device_status status;
    uint64_t offset = 0;

    NEED(begin());
    CHECK(fixture_close(&disk) == 0);
    disk.options.cachesize = MIB;
    NEED(fixture_open(&disk) == 0);
    fixture_fill(data, 4 * MIB, 7);
    CHECK(fixture_write(&disk, offset, data, PAGE, 0) == 0);
    do {
        offset += offset < 3 * CHUNK ? CHUNK : BLOCK;
        CHECK(fixture_write(&disk, offset, data + offset,
                            offset < 3 * CHUNK ? CHUNK : BLOCK, 0) == 0);
        (void)device_destage(disk.device);
        status = fixture_status(&disk);
    } while (status.cache_used + MIB / 50 < status.cache_limit);
    crowd_add(3 * MIB, PAGE, 0);
    crowd_submit();
    crowd_wait();
    CHECK(crowd.errors[0] == 0);
    /* It was given a time to wait for. */
    CHECK(crowd.requests[0].due_ns > 1);
    end();
}

TEST("when chunk files may take more, what waited for room goes on")
{
    enum { WRITES = 100, SIZE = 8 * BLOCK };

    NEED(begin());
    CHECK(fixture_close(&disk) == 0);
    disk.options.cachesize = MIB / 2;
    NEED(fixture_open(&disk) == 0);
    fixture_fill(data, WRITES * SIZE, 7);
    for (size_t i = 0; i < WRITES; i++)
        crowd_add(i * SIZE, SIZE, 0);
    crowd_submit();
    /* More than journal and cache may hold together. */
    while (fixture_status(&disk).cache_used < MIB / 4 ||
           fixture_status(&disk).parked == 0)
        (void)sched_yield();
    device_set_cachesize(disk.device, 0);
    crowd_wait();
    for (size_t i = 0; i < WRITES; i++)
        CHECK(crowd.errors[i] == 0);
    CHECK(fixture_read(&disk, 0, got, WRITES * SIZE) == 0);
    CHECK(memcmp(got, data, WRITES * SIZE) == 0);
    end();
}

TEST("after a write to the journal failed, who wrote and who waits get an "
     "error")
{
    struct fault_calls calls = {FAULT_WRITE, "/journal/", 1};

    NEED(begin());
    fixture_fill(data, CHUNK, 7);
    CHECK(fixture_write(&disk, 0, data, CHUNK, 0) == 0);
    fault_fail(&calls, -EIO, false, 512);
    CHECK(fixture_write(&disk, CHUNK, data, PAGE, 0) == -EIO);
    CHECK(fixture_write(&disk, CHUNK, data, PAGE, 0) == -EIO);
    CHECK(fixture_flush(&disk) == -EIO);
    CHECK(fixture_read(&disk, 0, got, CHUNK) == 0);
    CHECK(memcmp(got, data, CHUNK) == 0);
    fault_reset();
    fault_skip_syncs(true);
    CHECK(fixture_close(&disk) != 0);
    NEED(fixture_open(&disk) == 0);
    CHECK(fixture_read(&disk, 0, got, CHUNK) == 0);
    CHECK(memcmp(got, data, CHUNK) == 0);
    CHECK(fixture_read(&disk, CHUNK, got, PAGE) == 0);
    end();
}
