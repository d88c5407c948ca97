/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/device.h"

#include <inttypes.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mutex.h"
#include "cache/cache_dir.h"
#include "cache/epoch.h"
#include "cache/geometry.h"
#include "cache/use.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

enum {
    KIB = 1 << 10,
    MIB = 1 << 20,
    SECTOR = DEVICE_SECTOR,
    PAGE = CACHE_PAGE,
    BLOCK = CACHE_BLOCK,
    CHUNK = 256 * KIB,
};

static struct device_fixture disk;

/* What the device should hold, and of which pages it may say what. */
static unsigned char *image;
static unsigned char *got;
static bool *is_kept;  /* page: zeros by NO_HOLE, and never a hole */
static bool *was_hole; /* page: only ever trimmed, or not written at all */

static uint64_t pages_count(void)
{
    return (disk.options.size + PAGE - 1) / PAGE;
}

static void *must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static void begin(uint64_t size, bool apart)
{
    uint64_t pages = size / PAGE + 1;

    log_set_level(LOG_LEVEL_ERROR);
    /* What is synced when, the crash tests know. */
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    fixture_begin(&disk, test_dir(), apart);
    disk.options.size = size;
    image = must(calloc(1, size));
    got = must(calloc(1, size));
    is_kept = must(calloc(pages, sizeof(is_kept[0])));
    was_hole = must(calloc(pages, sizeof(was_hole[0])));
    memset(was_hole, true, pages);
}

static void end(void)
{
    fixture_end(&disk);
    free(image);
    free(got);
    free(is_kept);
    free(was_hole);
}

static bool reads_as_image(void)
{
    uint64_t size = disk.options.size;

    for (uint64_t at = 0; at < size; at += MIB) {
        uint64_t part = size - at < MIB ? size - at : MIB;

        if (!CHECK(fixture_read(&disk, at, got + at, part) == 0))
            return false;
        if (!CHECK(memcmp(got + at, image + at, part) == 0)) {
            for (uint64_t i = at; i < at + part; i++) {
                if (got[i] != image[i]) {
                    printf("# first difference at byte %" PRIu64 "\n", i);
                    return false;
                }
            }
        }
    }
    return true;
}

/* Ask for all extents in answers of few, and compare them with the image. */
static bool extents_are_true(void)
{
    uint64_t size = disk.options.size;
    uint64_t at = 0;

    while (at < size) {
        struct device_extent extents[5];
        struct device_request request = {
            .operation = DEVICE_EXTENTS,
            .offset = at,
            .length = size - at,
            .extents = extents,
            .extents_max = 5,
        };

        if (!CHECK(device_run(disk.device, &request) == 0) ||
            !CHECK(request.extents_count >= 1) ||
            !CHECK(request.extents_count <= 5))
            return false;
        for (size_t i = 0; i < request.extents_count; i++) {
            uint64_t until = at + extents[i].length;
            bool hole = (extents[i].flags & DEVICE_EXTENT_HOLE) != 0;
            bool zero = (extents[i].flags & DEVICE_EXTENT_ZERO) != 0;

            if (!CHECK(extents[i].length > 0) || !CHECK(until <= size) ||
                !CHECK(i == 0 || extents[i].flags != extents[i - 1].flags) ||
                !CHECK(zero || !hole) ||
                !CHECK(!zero || bytes_are_zero(image + at, until - at)))
                return false;
            for (uint64_t page = at / PAGE; page < (until + PAGE - 1) / PAGE;
                 page++) {
                if (!CHECK(!hole || !is_kept[page]) ||
                    !CHECK(!was_hole[page] || zero)) {
                    printf("# page %" PRIu64 "\n", page);
                    return false;
                }
            }
            at = until;
        }
    }
    return true;
}

static int put(uint64_t offset, uint64_t length, uint64_t seed, unsigned flags)
{
    unsigned char *data = must(malloc(length + 1));
    int error;

    fixture_fill(data, length, seed);
    error = fixture_write(&disk, offset, data, length, flags);
    if (error == 0 && length > 0) {
        memcpy(image + offset, data, length);
        for (uint64_t page = offset / PAGE;
             page <= (offset + length - 1) / PAGE; page++) {
            is_kept[page] = false;
            was_hole[page] = false;
        }
    }
    free(data);
    return error;
}

/* The pages that lie in the range; at the end of the device the last one. */
static void note_zeros(uint64_t offset, uint64_t length, bool keeps)
{
    uint64_t first = (offset + PAGE - 1) / PAGE;
    uint64_t last = offset + length == disk.options.size
                        ? pages_count()
                        : (offset + length) / PAGE;

    for (uint64_t page = first; page < last; page++) {
        is_kept[page] = keeps;
        was_hole[page] = !keeps;
    }
}

static int zero(uint64_t offset, uint64_t length, unsigned flags)
{
    int error = fixture_zero(&disk, offset, length, flags);

    if (error != 0 || length == 0)
        return error;
    memset(image + offset, 0, length);
    /* What is covered in part is said as data. */
    for (uint64_t page = offset / PAGE; page <= (offset + length - 1) / PAGE;
         page++) {
        is_kept[page] = false;
        was_hole[page] = false;
    }
    note_zeros(offset, length, (flags & DEVICE_NO_HOLE) != 0);
    return 0;
}

static int trim(uint64_t offset, uint64_t length)
{
    int error = fixture_trim(&disk, offset, length);
    uint64_t first = (offset + PAGE - 1) / PAGE;
    uint64_t last = offset + length == disk.options.size
                        ? pages_count()
                        : (offset + length) / PAGE;

    if (error != 0)
        return error;
    for (uint64_t page = first; page < last; page++) {
        uint64_t start = page * PAGE;
        uint64_t rest = disk.options.size - start;

        memset(image + start, 0, rest < PAGE ? rest : PAGE);
    }
    note_zeros(offset, length, false);
    return 0;
}

static uint64_t random_next(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return *state >> 24;
}

/* ---- the content --------------------------------------------------------- */

TEST("a new device reads as zeros and is one hole")
{
    struct device_extent extent;
    struct device_request request = {
        .operation = DEVICE_EXTENTS,
        .extents = &extent,
        .extents_max = 1,
    };

    begin(16 * MIB, false);
    NEED(fixture_open(&disk) == 0);
    reads_as_image();
    request.length = disk.options.size;
    CHECK(device_run(disk.device, &request) == 0);
    CHECK(request.extents_count == 1 && extent.length == disk.options.size &&
          extent.flags == (DEVICE_EXTENT_HOLE | DEVICE_EXTENT_ZERO));
    CHECK(strcmp(device_name(disk.device), "disk") == 0);
    CHECK(device_size(disk.device) == 16 * MIB);
    CHECK(device_chunk_size(disk.device) == CHUNK);
    CHECK(!device_is_read_only(disk.device));
    CHECK(device_has_volatile_cache(disk.device));
    end();
}

TEST("a range is inside the device or not, and nothing wraps")
{
    begin(16 * MIB, false);
    NEED(fixture_open(&disk) == 0);
    CHECK(device_check_range(disk.device, 0, 16 * MIB));
    CHECK(device_check_range(disk.device, 16 * MIB, 0));
    CHECK(device_check_range(disk.device, 16 * MIB - 1, 1));
    CHECK(!device_check_range(disk.device, 16 * MIB, 1));
    CHECK(!device_check_range(disk.device, 1, 16 * MIB));
    CHECK(!device_check_range(disk.device, UINT64_MAX, 2));
    CHECK(!device_check_range(disk.device, 2, UINT64_MAX));
    end();
}

/* Borders that matter, and the device's last byte. */
static const uint64_t borders[] = {
    0,     SECTOR,       PAGE,      3 * PAGE, BLOCK, CHUNK - BLOCK,
    CHUNK, CHUNK + PAGE, 2 * CHUNK,
};
enum { BORDERS = sizeof(borders) / sizeof(borders[0]) };

static void write_around_borders(void)
{
    static const int shifts[] = {-SECTOR, -1, 0, 1, SECTOR, PAGE - SECTOR};
    static const uint64_t lengths[] = {0,        1,     SECTOR,
                                       PAGE - 1, PAGE,  PAGE + 1,
                                       2 * PAGE, BLOCK, BLOCK + PAGE + SECTOR};
    uint64_t seed = 0;

    for (size_t b = 0; b < BORDERS + 1; b++) {
        uint64_t border = b < BORDERS ? borders[b] : disk.options.size;

        for (size_t s = 0; s < sizeof(shifts) / sizeof(shifts[0]); s++) {
            for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
                uint64_t offset = border + (uint64_t)(int64_t)shifts[s];
                uint64_t length = lengths[l];

                /* At the device's end: ranges that end there, too. */
                if (b == BORDERS && offset + length > disk.options.size)
                    offset = disk.options.size - length;
                if (!device_check_range(disk.device, offset, length))
                    continue;
                CHECK(put(offset, length, ++seed, 0) == 0);
                if (seed % 3 == 0)
                    CHECK(zero(offset + length / 2, length / 2,
                               seed % 2 ? DEVICE_NO_HOLE : 0) == 0);
                if (seed % 5 == 0)
                    CHECK(trim(offset, length) == 0);
            }
        }
    }
}

TEST("any alignment and length around pages, blocks, chunks and the end")
{
    begin(2 * CHUNK + 5 * BLOCK, false);
    NEED(fixture_open(&disk) == 0);
    write_around_borders();
    reads_as_image();
    extents_are_true();
    CHECK(device_destage(disk.device) == 0);
    reads_as_image();
    extents_are_true();
    NEED(fixture_reopen(&disk) == 0);
    reads_as_image();
    extents_are_true();
    end();
}

TEST("the same on a device whose size is no multiple of a page")
{
    begin(2 * CHUNK + 3 * BLOCK + 2 * PAGE + 3 * SECTOR, false);
    NEED(fixture_open(&disk) == 0);
    write_around_borders();
    reads_as_image();
    extents_are_true();
    CHECK(device_destage(disk.device) == 0);
    reads_as_image();
    extents_are_true();
    NEED(fixture_reopen(&disk) == 0);
    reads_as_image();
    extents_are_true();
    end();
}

TEST("reads of any alignment and length give their part")
{
    uint64_t state = 1;

    begin(3 * CHUNK, false);
    NEED(fixture_open(&disk) == 0);
    CHECK(put(PAGE, CHUNK, 1, 0) == 0);
    CHECK(device_destage(disk.device) == 0);
    CHECK(put(CHUNK - 2 * PAGE, 4 * PAGE, 2, 0) == 0);
    CHECK(put(2 * CHUNK - 3 * SECTOR, 6 * SECTOR, 3, 0) == 0);
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t offset = random_next(&state) % (3 * CHUNK);
        uint64_t most = i % 10 == 0 ? 3 * CHUNK : 3 * PAGE;
        uint64_t length = random_next(&state) % most;

        if (length > 3 * CHUNK - offset)
            length = 3 * CHUNK - offset;
        memset(got, 0xa5, 3 * CHUNK);
        if (!CHECK(fixture_read(&disk, offset, got + offset, length) == 0) ||
            !CHECK(memcmp(got + offset, image + offset, length) == 0) ||
            !CHECK(offset == 0 || got[offset - 1] == 0xa5) ||
            !CHECK(offset + length == 3 * CHUNK ||
                   got[offset + length] == 0xa5))
            break;
    }
    end();
}

/* Random requests, one after the other, with all that may come between. */
static void live_randomly(uint64_t seed, unsigned steps)
{
    uint64_t state = seed;

    for (unsigned i = 0; i < steps; i++) {
        uint64_t dice = random_next(&state) % 100;
        uint64_t unit = dice % 2 == 0 ? PAGE : SECTOR;
        uint64_t most = dice % 10 == 0 ? CHUNK + BLOCK : 5 * PAGE;
        uint64_t offset = random_next(&state) % disk.options.size / unit * unit;
        uint64_t length = random_next(&state) % most / unit * unit;
        int error = 0;

        if (length > disk.options.size - offset)
            length = disk.options.size - offset;
        if (dice < 60)
            error = put(offset, length, state, dice < 5 ? DEVICE_FUA : 0);
        else if (dice < 70)
            error = zero(offset, length, dice < 65 ? DEVICE_NO_HOLE : 0);
        else if (dice < 78)
            error =
                trim(offset, dice < 72 ? disk.options.size - offset : length);
        else if (dice < 84)
            error = fixture_flush(&disk);
        else if (dice < 88)
            error = device_destage(disk.device);
        else if (dice < 90)
            error = fixture_reopen(&disk);
        else if (dice < 91)
            error = fixture_crash(&disk);
        else if (dice < 92)
            error = fixture_prefetch(&disk, offset, length);
        else if (dice < 95)
            (void)(reads_as_image() && extents_are_true());
        else
            error = fixture_read(&disk, offset, got, length) != 0 ||
                            memcmp(got, image + offset, length) != 0
                        ? -EIO
                        : 0;
        if (!CHECK(error == 0)) {
            printf("# seed %" PRIu64 ", step %u, dice %" PRIu64 ", %" PRIu64
                   " at %" PRIu64 ": %d\n",
                   seed, i, dice, length, offset, error);
            return;
        }
    }
    (void)(reads_as_image() && extents_are_true());
}

TEST("whatever is written, destaged, reopened and killed, it reads as a plain "
     "image would")
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        begin((seed % 2 == 0 ? 4U : 2U) * (uint64_t)MIB + seed % 3 * SECTOR,
              seed == 3);
        disk.options.write_through = seed == 4;
        NEED(fixture_open(&disk) == 0);
        live_randomly(seed, 300);
        end();
        test_remove_tree(AT_FDCWD, test_dir());
        CHECK(mkdir(test_dir(), 0700) == 0);
    }
}

TEST("a journal so small that its segments recycle all the time")
{
    begin(2 * MIB, false);
    disk.options.journal_size = 256 * KIB;
    disk.options.block_cache_size = 64 * KIB;
    NEED(fixture_open(&disk) == 0);
    live_randomly(99, 300);
    end();
}

/* ---- many at once -------------------------------------------------------- */

/* Requests that are in flight together. */
struct crowd {
    struct mutex lock;
    struct condition answered;
    unsigned in_flight;
    unsigned failed;
    int last_error;
};

static void crowd_init(struct crowd *crowd)
{
    *crowd = (struct crowd){.in_flight = 0};
    mutex_init(&crowd->lock);
    condition_init(&crowd->answered);
}

static void crowd_answer(struct device_request *request, int error)
{
    struct crowd *crowd = request->caller;

    mutex_lock(&crowd->lock);
    if (error != 0) {
        crowd->failed++;
        crowd->last_error = error;
    }
    if (--crowd->in_flight == 0)
        condition_signal(&crowd->answered);
    mutex_unlock(&crowd->lock);
}

static void crowd_submit(struct crowd *crowd, struct device_request requests[],
                         size_t count)
{
    struct device_request **list = must(calloc(count, sizeof(list[0])));

    mutex_lock(&crowd->lock);
    crowd->in_flight += (unsigned)count;
    mutex_unlock(&crowd->lock);
    for (size_t i = 0; i < count; i++) {
        list[i] = &requests[i];
        requests[i].done = crowd_answer;
        requests[i].caller = crowd;
    }
    device_submit(disk.device, list, count);
    free(list);
}

static void crowd_wait(struct crowd *crowd)
{
    mutex_lock(&crowd->lock);
    while (crowd->in_flight > 0)
        condition_wait(&crowd->answered, &crowd->lock);
    mutex_unlock(&crowd->lock);
}

TEST("writes to different sectors of the same pages, at once, all stay")
{
    enum { SECTORS = 256 };
    struct device_request *requests =
        must(calloc(SECTORS, sizeof(requests[0])));
    struct crowd crowd;

    begin(MIB, false);
    NEED(fixture_open(&disk) == 0);
    crowd_init(&crowd);
    for (unsigned round = 0; round < 4; round++) {
        for (uint64_t i = 0; i < SECTORS; i++) {
            /* Neighbours come far apart, so that batches meet in pages. */
            uint64_t sector = i * 37 % SECTORS;

            fixture_fill(image + sector * SECTOR, SECTOR,
                         round * 1000 + sector);
            requests[i] = (struct device_request){
                .operation = DEVICE_WRITE,
                .offset = sector * SECTOR,
                .length = SECTOR,
                .data = image + sector * SECTOR,
            };
            was_hole[sector * SECTOR / PAGE] = false;
        }
        crowd_submit(&crowd, requests, SECTORS);
        crowd_wait(&crowd);
        CHECK(crowd.failed == 0);
        reads_as_image();
        if (round == 1)
            CHECK(device_destage(disk.device) == 0);
    }
    free(requests);
    end();
}

TEST("of overlapping writes at once, each page is that of one of them")
{
    enum { WRITES = 64, SPAN = 8 * PAGE };
    struct device_request requests[WRITES] = {{.operation = DEVICE_WRITE}};
    unsigned char *data = must(malloc((size_t)WRITES * SPAN));
    struct crowd crowd;

    begin(MIB, false);
    NEED(fixture_open(&disk) == 0);
    crowd_init(&crowd);
    for (unsigned i = 0; i < WRITES; i++) {
        memset(data + (size_t)i * SPAN, (int)i + 1, SPAN);
        requests[i] = (struct device_request){
            .operation = DEVICE_WRITE,
            .offset = (uint64_t)(i % 4) * PAGE,
            .length = SPAN,
            .data = data + (size_t)i * SPAN,
        };
    }
    crowd_submit(&crowd, requests, WRITES);
    crowd_wait(&crowd);
    CHECK(crowd.failed == 0);
    CHECK(fixture_read(&disk, 0, got, SPAN + 3 * PAGE) == 0);
    for (unsigned page = 0; page < 11; page++) {
        unsigned char first = got[page * PAGE];

        CHECK(first >= 1 && first <= WRITES);
        for (unsigned i = 0; i < PAGE; i++)
            CHECK(got[page * PAGE + i] == first);
    }
    free(data);
    end();
}

TEST("more than the journal holds is written at once, waits, and goes on")
{
    enum { WRITES = 96, SPAN = 64 * KIB };
    struct device_request *requests = must(calloc(WRITES, sizeof(requests[0])));
    struct crowd crowd;

    begin(8 * MIB, false);
    disk.options.journal_size = 256 * KIB;
    NEED(fixture_open(&disk) == 0);
    crowd_init(&crowd);
    for (uint64_t i = 0; i < WRITES; i++) {
        fixture_fill(image + i * SPAN, SPAN, i);
        requests[i] = (struct device_request){
            .operation = DEVICE_WRITE,
            .offset = i * SPAN,
            .length = SPAN,
            .data = image + i * SPAN,
        };
    }
    memset(was_hole, false, WRITES * SPAN / PAGE);
    crowd_submit(&crowd, requests, WRITES);
    crowd_wait(&crowd);
    CHECK(crowd.failed == 0);
    CHECK(fixture_status(&disk).passes > 0);
    CHECK(fixture_status(&disk).parked == 0);
    CHECK(fixture_status(&disk).user_written == (uint64_t)WRITES * SPAN);
    CHECK(fixture_status(&disk).cache_written > (uint64_t)WRITES * SPAN);
    reads_as_image();
    free(requests);
    end();
}

TEST("a request of a client that is gone, and has no place yet, is canceled")
{
    atomic_bool is_gone = false;
    unsigned char *data = must(calloc(1, 4 * MIB));
    struct device_request requests[2] = {{.operation = DEVICE_WRITE}};
    struct crowd crowd;

    begin(8 * MIB, false);
    NEED(fixture_open(&disk) == 0);
    crowd_init(&crowd);
    fixture_fill(data, PAGE, 1);
    for (unsigned i = 0; i < 2; i++)
        requests[i] = (struct device_request){
            .operation = DEVICE_WRITE,
            .offset = i * PAGE,
            .length = PAGE,
            .data = data,
            .client_is_gone = &is_gone,
        };
    crowd_submit(&crowd, requests, 1);
    crowd_wait(&crowd);
    CHECK(crowd.failed == 0);
    atomic_store(&is_gone, true);
    device_expel(disk.device);
    crowd_submit(&crowd, requests + 1, 1);
    crowd_wait(&crowd);
    CHECK(crowd.failed == 1 && crowd.last_error == -ECANCELED);
    CHECK(fixture_read(&disk, 0, got, 2 * PAGE) == 0);
    CHECK(memcmp(got, data, PAGE) == 0);
    CHECK(bytes_are_zero(got + PAGE, PAGE));
    free(data);
    end();
}

/* ---- zeros and holes ----------------------------------------------------- */

TEST("zeros with NO_HOLE are zeros and no hole, before and after destage and "
     "restart; without, and after a trim, a hole")
{
    const int hole = DEVICE_EXTENT_HOLE | DEVICE_EXTENT_ZERO;

    begin(64 * CHUNK, false);
    NEED(fixture_open(&disk) == 0);
    CHECK(put(0, 3 * CHUNK, 1, 0) == 0);
    CHECK(put(10 * CHUNK, CHUNK, 2, 0) == 0);
    CHECK(device_destage(disk.device) == 0);
    CHECK(zero(0, CHUNK, DEVICE_NO_HOLE) == 0);
    CHECK(zero(CHUNK, CHUNK, 0) == 0);
    CHECK(trim(2 * CHUNK, CHUNK) == 0);
    CHECK(zero(5 * CHUNK, CHUNK, DEVICE_NO_HOLE) == 0);
    CHECK(zero(10 * CHUNK + BLOCK, BLOCK, DEVICE_NO_HOLE) == 0);
    CHECK(zero(10 * CHUNK + 3 * BLOCK, BLOCK, 0) == 0);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(fixture_extent_at(&disk, 0) == DEVICE_EXTENT_ZERO);
        CHECK(fixture_extent_at(&disk, CHUNK) == hole);
        CHECK(fixture_extent_at(&disk, 2 * CHUNK) == hole);
        CHECK(fixture_extent_at(&disk, 5 * CHUNK) == DEVICE_EXTENT_ZERO);
        CHECK(fixture_extent_at(&disk, 6 * CHUNK) == hole);
        CHECK(fixture_extent_at(&disk, 10 * CHUNK) == 0);
        CHECK(fixture_extent_at(&disk, 10 * CHUNK + BLOCK) ==
              DEVICE_EXTENT_ZERO);
        CHECK(fixture_extent_at(&disk, 10 * CHUNK + 3 * BLOCK) == hole);
        extents_are_true();
        reads_as_image();
        if (i == 0)
            CHECK(device_destage(disk.device) == 0);
        else if (i == 1)
            NEED(fixture_reopen(&disk) == 0);
    }
    end();
}

TEST("all of a large device is trimmed, or zeroed with NO_HOLE, by one record")
{
    begin(200 * CHUNK, false);
    disk.options.journal_size = 256 * KIB;
    NEED(fixture_open(&disk) == 0);
    for (uint64_t at = 0; at < disk.options.size; at += 20 * CHUNK)
        CHECK(put(at + PAGE, BLOCK, at, 0) == 0);
    CHECK(device_destage(disk.device) == 0);
    CHECK(fixture_status(&disk).chunks_mapped == 10);
    CHECK(zero(0, disk.options.size, DEVICE_NO_HOLE) == 0);
    CHECK(put(CHUNK, PAGE, 7, 0) == 0);
    extents_are_true();
    reads_as_image();
    CHECK(device_destage(disk.device) == 0);
    CHECK(fixture_status(&disk).chunks_mapped == 200);
    extents_are_true();
    NEED(fixture_crash(&disk) == 0);
    extents_are_true();
    reads_as_image();
    CHECK(trim(0, disk.options.size) == 0);
    extents_are_true();
    NEED(fixture_crash(&disk) == 0);
    extents_are_true();
    CHECK(device_destage(disk.device) == 0);
    CHECK(fixture_status(&disk).chunks_mapped == 0);
    extents_are_true();
    reads_as_image();
    end();
}

TEST("extents: one when one is asked for, and no more than fit")
{
    struct device_extent extents[3];
    struct device_request request = {
        .operation = DEVICE_EXTENTS,
        .offset = PAGE / 2,
        .length = 2 * CHUNK,
        .extents = extents,
        .extents_max = 3,
    };

    begin(4 * CHUNK, false);
    NEED(fixture_open(&disk) == 0);
    for (uint64_t i = 0; i < 8; i++)
        CHECK(put(2 * i * PAGE, PAGE, i, 0) == 0);
    CHECK(device_run(disk.device, &request) == 0);
    CHECK(request.extents_count == 3);
    CHECK(extents[0].length == PAGE / 2 && extents[0].flags == 0);
    CHECK(extents[1].length == PAGE && extents[1].flags != 0);
    CHECK(extents[2].length == PAGE && extents[2].flags == 0);
    request.flags = DEVICE_ONE_EXTENT;
    CHECK(device_run(disk.device, &request) == 0);
    CHECK(request.extents_count == 1 && extents[0].length == PAGE / 2);
    request.offset = CHUNK;
    request.length = SECTOR;
    CHECK(device_run(disk.device, &request) == 0);
    CHECK(request.extents_count == 1 && extents[0].length == SECTOR);
    end();
}

/* ---- opening ------------------------------------------------------------- */

TEST("a device grows, and what is new reads as zeros; it never shrinks")
{
    begin(4 * CHUNK, false);
    disk.options.size = CHUNK + PAGE + SECTOR;
    NEED(fixture_open(&disk) == 0);
    CHECK(put(CHUNK, PAGE + SECTOR, 1, 0) == 0);
    CHECK(fixture_zero(&disk, CHUNK + PAGE, SECTOR, 0) == 0);
    CHECK(put(CHUNK + PAGE, SECTOR, 2, 0) == 0);
    CHECK(fixture_close(&disk) == 0);
    disk.options.size = 4 * CHUNK;
    NEED(fixture_open(&disk) == 0);
    reads_as_image();
    CHECK(put(4 * CHUNK - PAGE, PAGE, 3, 0) == 0);
    CHECK(device_destage(disk.device) == 0);
    reads_as_image();
    CHECK(fixture_close(&disk) == 0);
    log_set_level(LOG_LEVEL_ERROR);
    disk.options.size = 4 * CHUNK - SECTOR;
    CHECK(fixture_open(&disk) == -EINVAL);
    disk.options.size = 4 * CHUNK;
    CHECK(fixture_open(&disk) == 0);
    reads_as_image();
    end();
}

TEST("another chunk size, name or cache directory's journal is refused")
{
    begin(4 * CHUNK, false);
    NEED(fixture_open(&disk) == 0);
    CHECK(put(0, PAGE, 1, DEVICE_FUA) == 0);
    CHECK(fixture_close(&disk) == 0);
    disk.options.chunk_size = 2 * CHUNK;
    CHECK(fixture_open(&disk) == -EINVAL);
    disk.options.chunk_size = CHUNK;
    disk.options.name = "other";
    CHECK(fixture_open(&disk) == -EINVAL);
    disk.options.name = "disk";
    CHECK(fixture_open(&disk) == 0);
    reads_as_image();
    end();
}

TEST("sizes that cannot be are refused, and leave nothing behind")
{
    char path[PATH_MAX + 16];
    struct stat status;

    begin(4 * CHUNK, false);
    disk.options.size = 0;
    CHECK(fixture_open(&disk) == -EINVAL);
    disk.options.size = 1000;
    CHECK(fixture_open(&disk) == -EINVAL);
    disk.options.size = UINT64_C(1) << 63;
    CHECK(fixture_open(&disk) == -EINVAL);
    disk.options.size = 4 * CHUNK;
    disk.options.chunk_size = CHUNK + PAGE;
    CHECK(fixture_open(&disk) == -EINVAL);
    disk.options.chunk_size = DEVICE_CHUNK_SIZE_MIN / 2;
    CHECK(fixture_open(&disk) == -EINVAL);
    disk.options.chunk_size = DEVICE_CHUNK_SIZE_MAX * 2U;
    CHECK(fixture_open(&disk) == -EINVAL);
    disk.options.chunk_size = CHUNK;
    disk.options.segment_size = PAGE;
    CHECK(fixture_open(&disk) == -EINVAL);
    disk.options.segment_size = 64 * KIB + 1;
    CHECK(fixture_open(&disk) == -EINVAL);
    (void)snprintf(path, sizeof(path), "%s/superblock", disk.cachedir);
    CHECK(stat(path, &status) < 0 && errno == ENOENT);
    end();
}

TEST("a directory that a device has open is not opened again")
{
    struct device *second;

    begin(4 * CHUNK, false);
    NEED(fixture_open(&disk) == 0);
    CHECK(device_open(&disk.options, &second) == -EWOULDBLOCK);
    CHECK(put(0, PAGE, 1, 0) == 0);
    reads_as_image();
    end();
}

TEST("read-only, it is read, and nothing is written")
{
    unsigned char sector[SECTOR] = {1};

    begin(4 * CHUNK, false);
    disk.options.read_only = true;
    CHECK(fixture_open(&disk) == -ENXIO);
    disk.options.read_only = false;
    NEED(fixture_open(&disk) == 0);
    CHECK(put(0, CHUNK, 1, 0) == 0);
    CHECK(device_destage(disk.device) == 0);
    CHECK(put(CHUNK / 2, CHUNK, 2, 0) == 0);
    CHECK(zero(2 * CHUNK, CHUNK, DEVICE_NO_HOLE) == 0);
    disk.options.read_only = true;
    NEED(fixture_crash(&disk) == 0);
    CHECK(device_is_read_only(disk.device));
    reads_as_image();
    extents_are_true();
    CHECK(fixture_write(&disk, 0, sector, SECTOR, 0) == -EROFS);
    CHECK(fixture_zero(&disk, 0, SECTOR, 0) == -EROFS);
    CHECK(fixture_trim(&disk, 0, PAGE) == -EROFS);
    CHECK(fixture_flush(&disk) == 0);
    CHECK(fixture_status(&disk).cache_written == 0);
    device_expel(disk.device);
    CHECK(device_destage(disk.device) == 0);
    disk.options.read_only = false;
    NEED(fixture_reopen(&disk) == 0);
    reads_as_image();
    end();
}

TEST("with the journal in another directory; without it, it is refused, "
     "and if every user can write there")
{
    char saved[PATH_MAX];

    begin(4 * CHUNK, true);
    NEED(fixture_open(&disk) == 0);
    CHECK(put(0, CHUNK, 1, 0) == 0);
    NEED(fixture_crash(&disk) == 0);
    reads_as_image();
    CHECK(fixture_close(&disk) == 0);
    memcpy(saved, disk.journal_dir, sizeof(saved));
    (void)snprintf(disk.journal_dir, sizeof(disk.journal_dir), "%.200s/none",
                   disk.dir);
    CHECK(fixture_open(&disk) == -ENXIO);
    CHECK(mkdir(disk.journal_dir, 0700) == 0);
    CHECK(fixture_open(&disk) == -ENXIO);
    disk.journal_dir[0] = '\0';
    CHECK(fixture_open(&disk) == -ENXIO);
    memcpy(disk.journal_dir, saved, sizeof(saved));
    CHECK(chmod(disk.journal_dir, 0777) == 0);
    CHECK(fixture_open(&disk) == -EACCES);
    CHECK(chmod(disk.journal_dir, 0700) == 0);
    NEED(fixture_open(&disk) == 0);
    reads_as_image();
    end();
}

TEST("a directory with files, but without a superblock, is refused")
{
    char path[PATH_MAX + 16];

    begin(4 * CHUNK, false);
    NEED(fixture_open(&disk) == 0);
    CHECK(put(0, CHUNK, 1, 0) == 0);
    CHECK(fixture_close(&disk) == 0);
    (void)snprintf(path, sizeof(path), "%s/superblock", disk.cachedir);
    CHECK(unlink(path) == 0);
    CHECK(fixture_open(&disk) == -EUCLEAN);
    end();
}

/* Read the superblock of the closed device. */
static struct superblock superblock_of(void)
{
    struct superblock superblock = {.size = 0};
    struct cache_dir *dir;

    if (CHECK(cache_dir_open(disk.cachedir, false, &dir) == 0)) {
        CHECK(cache_dir_read_superblock(dir, &superblock) == 0);
        cache_dir_close(dir);
    }
    return superblock;
}

static void change_superblock(const struct superblock *superblock)
{
    struct cache_dir *dir;

    if (CHECK(cache_dir_open(disk.cachedir, false, &dir) == 0)) {
        CHECK(cache_dir_write_superblock(dir, superblock) == 0);
        cache_dir_close(dir);
    }
}

TEST("the incarnation grows when the host was restarted and the device was "
     "not closed, and only then")
{
    struct superblock superblock;

    begin(4 * CHUNK, false);
    NEED(fixture_open(&disk) == 0);
    CHECK(fixture_close(&disk) == 0);
    superblock = superblock_of();
    CHECK(superblock.incarnation == 1 && superblock.clean);
    NEED(fixture_open(&disk) == 0);
    NEED(fixture_crash(&disk) == 0);
    CHECK(fixture_close(&disk) == 0);
    superblock = superblock_of();
    CHECK(superblock.incarnation == 1 && superblock.clean);
    superblock.boot_id[3] ^= 1; /* another boot, closed in order */
    change_superblock(&superblock);
    NEED(fixture_open(&disk) == 0);
    CHECK(fixture_close(&disk) == 0);
    superblock = superblock_of();
    CHECK(superblock.incarnation == 1);
    superblock.boot_id[3] ^= 1;
    superblock.clean = false;
    change_superblock(&superblock);
    NEED(fixture_open(&disk) == 0);
    CHECK(fixture_close(&disk) == 0);
    superblock = superblock_of();
    CHECK(superblock.incarnation == 2 && superblock.clean);
    end();
}

TEST("what cannot be written is not the incarnation that was there before a "
     "power cut either")
{
    char text[DEVICE_INCARNATION_SIZE];
    struct superblock superblock;

    begin(4 * CHUNK, false);
    NEED(fixture_open(&disk) == 0);
    CHECK(fixture_close(&disk) == 0);
    superblock = superblock_of();
    superblock.boot_id[3] ^= 1;
    superblock.clean = false;
    change_superblock(&superblock);
    disk.options.read_only = true;
    NEED(fixture_open(&disk) == 0);
    device_incarnation(disk.device, text);
    CHECK(strcmp(strchr(text, '-'), "-2") == 0);
    CHECK(fixture_close(&disk) == 0);
    superblock = superblock_of();
    CHECK(superblock.incarnation == 1 && !superblock.clean);
    /* What may be written to next has the same content. */
    disk.options.read_only = false;
    NEED(fixture_open(&disk) == 0);
    device_incarnation(disk.device, text);
    CHECK(strcmp(strchr(text, '-'), "-2") == 0);
    CHECK(fixture_close(&disk) == 0);
    end();
}

TEST("the incarnation grows when the journal failed: the kernel may have lost "
     "what was answered and not synced")
{
    const struct fault_calls calls = {FAULT_SYNC_DATA, "/journal/", 1};
    struct superblock superblock;
    char page[4096];

    memset(page, 'f', sizeof(page));
    begin(4 * CHUNK, false);
    NEED(fixture_open(&disk) == 0);
    CHECK(fixture_write(&disk, 0, page, sizeof(page), 0) == 0);
    fault_fail(&calls, -EIO, false, 0);
    CHECK(fixture_flush(&disk) == -EIO);
    CHECK(fixture_close(&disk) != 0);
    fault_reset();
    NEED(fixture_open(&disk) == 0);
    CHECK(fixture_close(&disk) == 0);
    superblock = superblock_of();
    CHECK(superblock.incarnation == 2 && superblock.clean);
    end();
}

TEST("opened and closed time and again it does not run out of segments")
{
    begin(4 * CHUNK, false);
    disk.options.journal_size = 256 * KIB;
    NEED(fixture_open(&disk) == 0);
    for (unsigned i = 0; i < 40; i++) {
        if (i % 10 == 0)
            CHECK(put(i * PAGE, PAGE, i, 0) == 0);
        if (!CHECK((i % 3 == 0 ? fixture_crash(&disk)
                               : fixture_reopen(&disk)) == 0))
            break;
    }
    reads_as_image();
    CHECK(put(0, CHUNK, 99, 0) == 0);
    reads_as_image();
    end();
}

TEST("another journal size, next time, does not matter")
{
    static const uint64_t sizes[] = {4 * MIB, 256 * KIB, 16 * MIB, MIB};

    begin(4 * MIB, false);
    disk.options.segment_size = 0;
    NEED(fixture_open(&disk) == 0);
    for (unsigned i = 0; i < 4; i++) {
        CHECK(put(i * 100 * PAGE + SECTOR, MIB, i, 0) == 0);
        disk.options.journal_size = sizes[i];
        disk.options.segment_size = i == 2 ? 128 * KIB : 0;
        if (!CHECK(fixture_reopen(&disk) == 0))
            break;
        reads_as_image();
        CHECK(put(2 * MIB, MIB + MIB / 2, i, 0) == 0);
        CHECK(device_destage(disk.device) == 0);
        reads_as_image();
    }
    end();
}

/* ---- the store ----------------------------------------------------------- */

TEST("a new device claims its name in the store; an empty directory is not "
     "taken for it later")
{
    struct epoch_newest newest;
    struct epoch_record claim;
    char saved[PATH_MAX];

    begin(4 * CHUNK, false);
    disk.options.store = memory_store_new();
    NEED(fixture_open(&disk) == 0);
    CHECK(epoch_read_newest(disk.options.store, "disk", 0, &newest) == 0);
    claim = newest.records[0];
    CHECK(newest.count == 1 && claim.epoch == 1 && claim.kind == EPOCH_CLAIM &&
          claim.size == 4 * CHUNK && claim.chunk_size == CHUNK);
    CHECK(fixture_close(&disk) == 0);
    CHECK(memcmp(superblock_of().cachedir_id, claim.cachedir_id, UUID_SIZE) ==
          0);
    memcpy(saved, disk.cachedir, sizeof(saved));
    (void)snprintf(disk.cachedir, sizeof(disk.cachedir), "%.200s/unmounted",
                   disk.dir);
    CHECK(mkdir(disk.cachedir, 0700) == 0);
    CHECK(fixture_open(&disk) == -ENXIO);
    CHECK(fixture_open(&disk) == -ENXIO);
    memcpy(disk.cachedir, saved, sizeof(saved));
    CHECK(fixture_open(&disk) == 0);
    end();
}

TEST("without an answer of the store no device is made; later it is")
{
    struct fault_store *fault = fault_store_new(memory_store_new());

    begin(4 * CHUNK, false);
    disk.options.store = fault_store_of(fault);
    fault_store_plan(fault, STORE_LIST, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(fixture_open(&disk) == -EHOSTDOWN);
    fault_store_plan(fault, STORE_LIST, 2, 1, STORE_FAILS, -EIO);
    CHECK(fixture_open(&disk) == -EHOSTDOWN);
    fault_store_plan(fault, STORE_PUT, 1, 1, STORE_FAILS_AFTER, -EIO);
    CHECK(fixture_open(&disk) == -EIO);
    fault_store_clear(fault);
    NEED(fixture_open(&disk) == 0);
    CHECK(put(0, CHUNK, 1, 0) == 0);
    NEED(fixture_reopen(&disk) == 0);
    reads_as_image();
    end();
}

TEST("a device that another host made while ours was half made is not ours")
{
    struct fault_store *fault = fault_store_new(memory_store_new());
    struct epoch_record claim = {
        .kind = EPOCH_CLAIM,
        .epoch = 1,
        .nonce = 5,
        .size = 4 * CHUNK,
        .chunk_size = CHUNK,
        .host = "elsewhere",
    };

    enum epoch_outcome outcome;

    begin(4 * CHUNK, false);
    disk.options.store = fault_store_of(fault);
    fault_store_plan(fault, STORE_PUT, 1, 1, STORE_FAILS, -EIO);
    CHECK(fixture_open(&disk) == -EIO);
    CHECK(epoch_create(disk.options.store, "disk", &claim, NULL, &outcome) ==
          0);
    CHECK(outcome == EPOCH_OURS);
    CHECK(fixture_open(&disk) == -ENXIO);
    CHECK(fixture_open(&disk) == -ENXIO);
    end();
}

TEST("whatever step of its creation fails, the device is made later")
{
    for (unsigned long nth = 1;; nth++) {
        struct fault_calls calls = {FAULT_ANY_CHANGE, NULL, nth};
        unsigned long count;
        int error;

        begin(4 * CHUNK, nth % 2 == 0);
        disk.options.store = memory_store_new();
        fault_fail(&calls, -EIO, true, 512);
        error = fixture_open(&disk);
        count = fault_count();
        fault_reset();
        if (error == 0 && count < nth) { /* there is no such step */
            end();
            CHECK(nth > 30);
            return;
        }
        (void)fixture_close(&disk); /* it may have failed since */
        error = fixture_open(&disk);
        if (!CHECK(error == 0) || !CHECK(put(0, CHUNK, 1, 0) == 0) ||
            !CHECK(fixture_reopen(&disk) == 0)) {
            printf("# when call %lu failed\n", nth);
            end();
            return;
        }
        reads_as_image();
        end();
        test_remove_tree(AT_FDCWD, test_dir());
        CHECK(mkdir(test_dir(), 0700) == 0);
    }
}

/* ---- the rest ------------------------------------------------------------ */

TEST("a prefetch of any range succeeds and changes nothing")
{
    begin(4 * CHUNK + SECTOR, false);
    NEED(fixture_open(&disk) == 0);
    CHECK(put(0, 3 * CHUNK, 1, 0) == 0);
    CHECK(device_destage(disk.device) == 0);
    CHECK(fixture_prefetch(&disk, 0, disk.options.size) == 0);
    CHECK(fixture_prefetch(&disk, 4 * CHUNK, SECTOR) == 0);
    CHECK(fixture_prefetch(&disk, 5, 1) == 0);
    CHECK(fixture_prefetch(&disk, 5, 0) == 0);
    reads_as_image();
    end();
}

TEST("write-through: all is durable when answered, and nothing is announced")
{
    begin(4 * CHUNK, false);
    disk.options.write_through = true;
    NEED(fixture_open(&disk) == 0);
    CHECK(!device_has_volatile_cache(disk.device));
    CHECK(put(3, 2 * CHUNK, 1, 0) == 0);
    CHECK(trim(CHUNK, CHUNK) == 0);
    CHECK(zero(PAGE, CHUNK / 2, DEVICE_NO_HOLE) == 0);
    CHECK(fixture_flush(&disk) == 0);
    reads_as_image();
    end();
}

TEST("chunks are used by reads and writes of them, by nothing else, and that "
     "outlives a restart")
{
    begin(4 * CHUNK, false);
    NEED(fixture_open(&disk) == 0);
    for (uint64_t chunk = 0; chunk < 4; chunk++)
        CHECK(use_tick(device_use(disk.device), chunk) == 0);
    CHECK(put(CHUNK - PAGE, 2 * PAGE, 1, 0) == 0);
    CHECK(fixture_read(&disk, 2 * CHUNK, got, PAGE) == 0);
    CHECK(zero(3 * CHUNK, CHUNK, 0) == 0);
    CHECK(device_destage(disk.device) == 0);
    for (unsigned i = 0; i < 2; i++) {
        for (uint64_t chunk = 0; chunk < 4; chunk++)
            CHECK((use_tick(device_use(disk.device), chunk) != 0) ==
                  (chunk < 3));
        NEED(fixture_reopen(&disk) == 0);
    }
    end();
}

TEST("the status counts")
{
    struct device_status status;

    begin(4 * CHUNK, false);
    NEED(fixture_open(&disk) == 0);
    status = fixture_status(&disk);
    CHECK(!status.failed && status.user_written == 0 && status.passes == 0 &&
          status.chunks_mapped == 0 && status.damaged_reads == 0 &&
          status.parked == 0 && status.journal_size == MIB);
    CHECK(put(0, CHUNK + BLOCK, 1, 0) == 0);
    CHECK(zero(3 * CHUNK, CHUNK, 0) == 0);
    status = fixture_status(&disk);
    CHECK(status.user_written == CHUNK + BLOCK);
    CHECK(status.journal_used >= CHUNK + BLOCK);
    CHECK(status.cache_written >= CHUNK + BLOCK);
    CHECK(device_destage(disk.device) == 0);
    CHECK(fixture_status(&disk).passes >= 1);
    CHECK(fixture_status(&disk).chunks_mapped == 2);
    CHECK(fixture_status(&disk).journal_used < status.journal_used);
    CHECK(fixture_status(&disk).cache_written >
          status.cache_written + CHUNK + BLOCK);
    end();
}
