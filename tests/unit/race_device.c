/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * Threads that meet in a device: writers, trims, readers, block status and
 * destage, with so small a journal that segments are recycled all the time.
 *
 * Each sector tells who wrote it, where, and for the how manieth time.
 */
#include "unit/test.h"

#include <pthread.h>

#include "base/log.h"
#include "base/workers.h"
#include "cache/device.h"
#include "support/crash_states.h"
#include "support/fault_file.h"

enum {
    PAGE = 4096,
    SECTOR = 512,
    DEVICE_SIZE = 1 << 20,
    CHUNK_SIZE = 256 << 10,
    JOURNAL_SIZE = 256 << 10,
    SEGMENT_SIZE = 64 << 10,
    BLOCK_CACHE_SIZE = 64 << 10,
    PAGES = DEVICE_SIZE / PAGE,
    ROUNDS = 400,
};

static struct workers *workers, *fetchers;

/* ---- a device ---- */

static int open_device(const char *root, struct device **ret_device)
{
    static char cache[PATH_MAX];
    struct device_options options = {
        .name = "race",
        .cachedir = cache,
        .size = DEVICE_SIZE,
        .chunk_size = CHUNK_SIZE,
        .journal_size = JOURNAL_SIZE,
        .segment_size = SEGMENT_SIZE,
        .block_cache_size = BLOCK_CACHE_SIZE,
        .workers = workers,
        .fetchers = fetchers,
    };

    (void)snprintf(cache, sizeof(cache), "%s", root);
    return device_open(&options, ret_device);
}

/* Open a new device; record: so that a kill can be played. */
static void begin(struct device **ret_device, bool record)
{
    static char root[PATH_MAX];

    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    if (snprintf(root, sizeof(root), "%s/cache", test_dir()) >=
            (int)sizeof(root) ||
        mkdir(root, 0700) < 0 || workers_start("worker", 2, &workers) != 0 ||
        workers_start("fetcher", 1, &fetchers) != 0)
        abort();
    if (record) {
        fault_skip_syncs(true);
        fault_record_begin(test_dir());
    }
    if (open_device(root, ret_device) != 0)
        abort();
}

static void end(struct device *device)
{
    CHECK(device_close(device) == 0);
    workers_stop(workers);
    workers_stop(fetchers);
    fault_reset();
}

static int run(struct device *device, enum device_operation operation,
               uint64_t offset, uint64_t length, void *data)
{
    struct device_request request = {
        .operation = operation,
        .offset = offset,
        .length = length,
        .data = data,
    };

    return device_run(device, &request);
}

/* ---- sectors that tell ---- */

struct stamp {
    uint32_t writer; /* from 1 */
    uint32_t version;
    uint64_t sector;
};

static void stamp(void *data, uint64_t offset, uint64_t length, uint32_t writer,
                  uint32_t version)
{
    for (uint64_t at = 0; at < length; at += SECTOR) {
        struct stamp stamp = {writer, version, (offset + at) / SECTOR};

        for (size_t i = 0; i < SECTOR; i += sizeof(stamp))
            memcpy((char *)data + at + i, &stamp, sizeof(stamp));
    }
}

/*
 * Read the stamp of the sector at offset.  Returns false if the sector is not
 * what one write left; zeros give writer 0.
 */
static bool read_stamp(const void *data, uint64_t offset,
                       struct stamp *ret_stamp)
{
    const char *bytes = data;

    memcpy(ret_stamp, bytes, sizeof(*ret_stamp));
    for (size_t i = 0; i < SECTOR; i += sizeof(*ret_stamp)) {
        if (memcmp(bytes + i, ret_stamp, sizeof(*ret_stamp)) != 0)
            return false;
    }
    return ret_stamp->writer == 0 ? ret_stamp->version == 0
                                  : ret_stamp->sector == offset / SECTOR;
}

/* ---- threads ---- */

struct actor {
    struct device *device;
    uint32_t number; /* from 1 */
    pthread_t thread;
    void *(*act)(void *actor);
};

static void act_all(struct device *device, struct actor actors[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        actors[i].device = device;
        actors[i].number = (uint32_t)i + 1;
        if (pthread_create(&actors[i].thread, NULL, actors[i].act,
                           &actors[i]) != 0)
            abort();
    }
    for (size_t i = 0; i < count; i++)
        CHECK(pthread_join(actors[i].thread, NULL) == 0);
}

static void *destage_again_and_again(void *argument)
{
    struct actor *actor = argument;

    for (int i = 0; i < ROUNDS / 20; i++)
        CHECK(device_destage(actor->device) == 0);
    return NULL;
}

/* ---- overlapping writes ---- */

static void *write_over_each_other(void *argument)
{
    struct actor *actor = argument;
    char *data = malloc(16 * PAGE);

    if (!data)
        abort();
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint64_t dice = crash_random(actor->number, i);
        uint64_t offset = dice % (DEVICE_SIZE / 4 / SECTOR) * SECTOR;
        uint64_t length = (1 + (dice >> 32) % (6 * PAGE / SECTOR)) * SECTOR;

        if (dice >> 60 == 0) {
            CHECK(run(actor->device, DEVICE_TRIM, offset, length, NULL) == 0);
        } else if (dice >> 60 == 1) {
            CHECK(run(actor->device, DEVICE_ZERO, offset, length, NULL) == 0);
        } else {
            stamp(data, offset, length, actor->number, i + 1);
            CHECK(run(actor->device, DEVICE_WRITE, offset, length, data) == 0);
        }
        if (dice >> 58 == 0)
            CHECK(run(actor->device, DEVICE_FLUSH, 0, 0, NULL) == 0);
    }
    free(data);
    return NULL;
}

static void check_untorn(const char *content)
{
    struct stamp stamp;

    for (uint64_t at = 0; at < DEVICE_SIZE; at += SECTOR)
        CHECK(read_stamp(content + at, at, &stamp));
}

TEST("writes, zeros and trims over each other, with flushes: the winner of "
     "each sector is the same after kill -9")
{
    struct actor actors[] = {
        {.act = write_over_each_other},
        {.act = write_over_each_other},
        {.act = write_over_each_other},
        {.act = destage_again_and_again},
    };
    char root[PATH_MAX], *before = malloc(DEVICE_SIZE);
    char *after = malloc(DEVICE_SIZE);
    struct recording *recording;
    struct crash_disk *disk;
    struct device *device;

    NEED(before && after);
    begin(&device, true);
    act_all(device, actors, sizeof(actors) / sizeof(actors[0]));
    CHECK(run(device, DEVICE_READ, 0, DEVICE_SIZE, before) == 0);
    recording = fault_record_end();
    check_untorn(before);

    CHECK(device_close(device) == 0);
    disk = crash_disk_new(recording);
    crash_disk_advance(disk, recording->entries_count);
    NEED(snprintf(root, sizeof(root), "%s/killed", test_dir()) <
         (int)sizeof(root));
    NEED(mkdir(root, 0700) == 0);
    crash_disk_kill(disk, 1, root);
    NEED(strlen(root) + sizeof("/cache") < sizeof(root));
    (void)strncat(root, "/cache", sizeof(root) - strlen(root) - 1);
    NEED(open_device(root, &device) == 0);
    CHECK(run(device, DEVICE_READ, 0, DEVICE_SIZE, after) == 0);
    CHECK(memcmp(before, after, DEVICE_SIZE) == 0);
    crash_disk_free(disk);
    recording_free(recording);
    free(before);
    free(after);
    end(device);
}

/* ---- readers of what is acknowledged ---- */

enum { WRITERS = 2 };

/* Per page: the newest version that was begun, and that was acknowledged. */
static atomic_uint begun[PAGES], acknowledged[PAGES];
static atomic_uint writers_left;

/* Each page has one writer, so that its newest version is known. */
static uint64_t page_of(uint32_t writer, uint64_t dice)
{
    return dice % (PAGES / WRITERS) * WRITERS + (writer - 1);
}

static void *write_versions(void *argument)
{
    struct actor *actor = argument;
    char data[PAGE];

    for (uint32_t i = 0; i < 4 * ROUNDS; i++) {
        uint64_t dice = crash_random(actor->number + 10, i);
        /* Half of all go to few pages. */
        uint64_t page =
            page_of(actor->number, dice & 1 ? dice >> 8 : (dice >> 8) % 8);
        unsigned version = atomic_load(&begun[page]) + 1;

        stamp(data, page * PAGE, PAGE, actor->number, version);
        atomic_store(&begun[page], version);
        CHECK(run(actor->device, DEVICE_WRITE, page * PAGE, PAGE, data) == 0);
        atomic_store(&acknowledged[page], version);
        if (dice >> 56 == 0)
            CHECK(run(actor->device, DEVICE_FLUSH, 0, 0, NULL) == 0);
    }
    atomic_fetch_sub(&writers_left, 1);
    return NULL;
}

/* What was acknowledged before a read began is there, or something newer. */
static void check_read(const char *data, uint64_t first, size_t count,
                       const unsigned least[])
{
    for (size_t i = 0; i < count; i++) {
        unsigned most = atomic_load(&begun[first + i]);

        for (uint64_t at = 0; at < PAGE; at += SECTOR) {
            uint64_t offset = (first + i) * PAGE + at;
            struct stamp stamp;

            CHECK(read_stamp(data + i * PAGE + at, offset, &stamp));
            CHECK(stamp.writer == 0 ||
                  stamp.writer == 1 + (first + i) % WRITERS);
            CHECK(stamp.version >= least[i] && stamp.version <= most);
        }
    }
}

static void *read_versions(void *argument)
{
    enum { MOST = 8 };
    struct actor *actor = argument;
    char *data = malloc((size_t)MOST * PAGE);
    unsigned least[MOST];

    if (!data)
        abort();
    for (uint64_t i = 0; atomic_load(&writers_left) > 0; i++) {
        uint64_t dice = crash_random(actor->number + 20, i);
        size_t count = 1 + (size_t)(dice % MOST);
        uint64_t first = (dice >> 8) % (dice & 16 ? PAGES - MOST : 2 * MOST);

        for (size_t k = 0; k < count; k++)
            least[k] = atomic_load(&acknowledged[first + k]);
        CHECK(run(actor->device, DEVICE_READ, first * PAGE, count * PAGE,
                  data) == 0);
        check_read(data, first, count, least);
    }
    free(data);
    return NULL;
}

/* Data that was acknowledged is never called a hole, or zero. */
static void *ask_for_extents(void *argument)
{
    struct actor *actor = argument;
    struct device_extent extents[64];

    for (uint64_t i = 0; atomic_load(&writers_left) > 0; i++) {
        static _Thread_local bool is_data[PAGES];
        struct device_request request = {
            .operation = DEVICE_EXTENTS,
            .length = DEVICE_SIZE,
            .extents = extents,
            .extents_max = 64,
        };
        uint64_t at = 0;

        for (size_t page = 0; page < PAGES; page++)
            is_data[page] = atomic_load(&acknowledged[page]) > 0;
        CHECK(device_run(actor->device, &request) == 0);
        CHECK(request.extents_count > 0);
        for (size_t k = 0; k < request.extents_count; k++) {
            uint64_t last = at + extents[k].length;

            for (; at < last && at < DEVICE_SIZE; at += PAGE)
                CHECK(extents[k].flags == 0 || !is_data[at / PAGE]);
        }
    }
    return NULL;
}

TEST("no read misses what was acknowledged before it began, and no extent "
     "calls it a hole, while destage and recycling go on")
{
    struct actor actors[] = {
        {.act = write_versions},  {.act = write_versions},
        {.act = read_versions},   {.act = read_versions},
        {.act = ask_for_extents}, {.act = destage_again_and_again},
    };
    struct device_status status;
    struct device *device;

    begin(&device, false);
    atomic_store(&writers_left, WRITERS);
    act_all(device, actors, sizeof(actors) / sizeof(actors[0]));
    device_status(device, &status);
    CHECK(status.passes > 0);
    end(device);
}

/* ---- parts of a page, and all of it ---- */

enum { SHARED_PAGES = 4 };

/* Write one sector of its own of each page, again and again. */
static void *write_sectors(void *argument)
{
    struct actor *actor = argument;
    char data[SECTOR];

    for (uint32_t i = 1; i <= ROUNDS; i++) {
        uint64_t offset = (uint64_t)(i % SHARED_PAGES) * PAGE +
                          (uint64_t)actor->number * SECTOR;

        stamp(data, offset, SECTOR, actor->number, i);
        CHECK(run(actor->device, DEVICE_WRITE, offset, SECTOR, data) == 0);
    }
    return NULL;
}

static void *write_whole_pages(void *argument)
{
    struct actor *actor = argument;
    char data[PAGE];

    for (uint32_t i = 1; i <= ROUNDS; i++) {
        uint64_t offset = (uint64_t)(i % SHARED_PAGES) * PAGE;

        stamp(data, offset, PAGE, actor->number, i);
        CHECK(run(actor->device, DEVICE_WRITE, offset, PAGE, data) == 0);
    }
    return NULL;
}

TEST("writes of parts of a page and of all of it do not undo each other")
{
    struct actor actors[] = {
        {.act = write_sectors},
        {.act = write_sectors},
        {.act = write_whole_pages},
        {.act = destage_again_and_again},
    };
    char data[SHARED_PAGES * PAGE];
    struct device *device;

    begin(&device, false);
    act_all(device, actors, sizeof(actors) / sizeof(actors[0]));
    CHECK(run(device, DEVICE_READ, 0, sizeof(data), data) == 0);
    for (uint64_t at = 0; at < sizeof(data); at += SECTOR) {
        uint32_t owner = (uint32_t)(at % PAGE / SECTOR);
        uint32_t page = (uint32_t)(at / PAGE);
        /* The last that each of them wrote to that page. */
        uint32_t last = ROUNDS - (ROUNDS + SHARED_PAGES - page) % SHARED_PAGES;
        struct stamp stamp;

        CHECK(read_stamp(data + at, at, &stamp));
        CHECK(stamp.version == last);
        CHECK(stamp.writer == 3 || (owner <= 2 && stamp.writer == owner));
    }
    end(device);
}

/* ---- stopped in the middle ---- */

/* A request that another thread answers. */
struct later {
    struct device_request request;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_done;
    int error;
    char data[PAGE];
};

static void answer_later(struct device_request *request, int error)
{
    struct later *later = (struct later *)(void *)request;

    (void)pthread_mutex_lock(&later->lock);
    later->is_done = true;
    later->error = error;
    (void)pthread_cond_broadcast(&later->changed);
    (void)pthread_mutex_unlock(&later->lock);
}

static struct later *later_write(uint64_t offset, uint64_t length,
                                 uint32_t writer)
{
    struct later *later = calloc(1, sizeof(*later));

    if (!later)
        abort();
    (void)pthread_mutex_init(&later->lock, NULL);
    (void)pthread_cond_init(&later->changed, NULL);
    later->request = (struct device_request){
        .operation = DEVICE_WRITE,
        .offset = offset,
        .length = length,
        .data = later->data,
        .done = answer_later,
    };
    stamp(later->data, offset, length, writer, 1);
    return later;
}

static int later_wait(struct later *later)
{
    int error;

    (void)pthread_mutex_lock(&later->lock);
    while (!later->is_done)
        (void)pthread_cond_wait(&later->changed, &later->lock);
    error = later->error;
    (void)pthread_mutex_unlock(&later->lock);
    return error;
}

static bool later_is_done(struct later *later)
{
    bool is_done;

    (void)pthread_mutex_lock(&later->lock);
    is_done = later->is_done;
    (void)pthread_mutex_unlock(&later->lock);
    return is_done;
}

static void later_free(struct later *later)
{
    (void)pthread_mutex_destroy(&later->lock);
    (void)pthread_cond_destroy(&later->changed);
    free(later);
}

struct submission {
    struct device *device;
    struct later *later;
    pthread_t thread;
};

static void *submit(void *argument)
{
    struct submission *submission = argument;
    struct device_request *request = &submission->later->request;

    device_submit(submission->device, &request, 1);
    return NULL;
}

static void submit_in_thread(struct submission *submission)
{
    if (pthread_create(&submission->thread, NULL, submit, submission) != 0)
        abort();
}

TEST("a part of a page that is written while its old content is being read "
     "does not undo a whole write that passes")
{
    struct fault_calls read_of_chunk = {FAULT_READ, "/chunk/", 1};
    struct submission part = {.later = later_write(SECTOR, SECTOR, 2)};
    char data[PAGE], root[PATH_MAX];
    struct device *device;
    struct stamp found;

    begin(&device, false);
    stamp(data, 0, PAGE, 1, 1);
    CHECK(run(device, DEVICE_WRITE, 0, PAGE, data) == 0);
    CHECK(device_destage(device) == 0);
    /* With nothing in memory the old content has to come from the file. */
    CHECK(device_close(device) == 0);
    NEED(snprintf(root, sizeof(root), "%s/cache", test_dir()) <
         (int)sizeof(root));
    NEED(open_device(root, &device) == 0);
    fault_gate_set(&read_of_chunk);
    part.device = device;
    submit_in_thread(&part);
    fault_gate_wait();
    stamp(data, 0, PAGE, 3, 7);
    CHECK(run(device, DEVICE_WRITE, 0, PAGE, data) == 0);
    CHECK(!later_is_done(part.later));
    fault_gate_open();
    CHECK(later_wait(part.later) == 0);
    CHECK(pthread_join(part.thread, NULL) == 0);
    CHECK(run(device, DEVICE_READ, 0, PAGE, data) == 0);
    for (uint64_t at = 0; at < PAGE; at += SECTOR) {
        CHECK(read_stamp(data + at, at, &found));
        CHECK(found.writer == (at == SECTOR ? 2 : 3));
    }
    later_free(part.later);
    end(device);
}

/* Open what a kill at this moment leaves, and read it. */
static void read_after_kill(const struct recording *recording, size_t cut,
                            char *content)
{
    struct crash_disk *disk = crash_disk_new(recording);
    char root[PATH_MAX], cache[PATH_MAX + 8];
    struct device *device;

    if (snprintf(root, sizeof(root), "%s/killed", test_dir()) >=
        (int)sizeof(root))
        abort();
    test_remove_tree(AT_FDCWD, root);
    NEED(mkdir(root, 0700) == 0);
    crash_disk_advance(disk, cut);
    crash_disk_kill(disk, 1, root);
    (void)snprintf(cache, sizeof(cache), "%s/cache", root);
    NEED(open_device(cache, &device) == 0);
    CHECK(run(device, DEVICE_READ, 0, DEVICE_SIZE, content) == 0);
    CHECK(device_close(device) == 0);
    crash_disk_free(disk);
}

TEST("nothing that is acknowledged while another append stands still in the "
     "middle is lost by kill -9")
{
    enum { OTHERS = 4 };
    struct fault_calls append = {FAULT_WRITE, "/journal/segment", 1};
    struct submission first = {.later = later_write(0, PAGE, 1)};
    struct submission others[OTHERS];
    char *content = malloc(DEVICE_SIZE);
    bool was_done[OTHERS];
    struct recording *recording;
    struct device *device;
    struct stamp found;
    size_t cut;

    NEED(content);
    begin(&device, true);
    fault_gate_set(&append);
    first.device = device;
    submit_in_thread(&first);
    fault_gate_wait();
    for (uint32_t i = 0; i < OTHERS; i++) {
        others[i] = (struct submission){
            .device = device,
            .later =
                later_write((uint64_t)(i + 1) * CHUNK_SIZE / 2, PAGE, i + 2),
        };
        submit_in_thread(&others[i]);
    }
    /* Whoever is answered now must be there now. */
    for (uint32_t i = 0; i < OTHERS; i++)
        was_done[i] = later_is_done(others[i].later);
    cut = fault_record_position();
    CHECK(!later_is_done(first.later));
    fault_gate_open();
    CHECK(later_wait(first.later) == 0);
    CHECK(pthread_join(first.thread, NULL) == 0);
    for (uint32_t i = 0; i < OTHERS; i++) {
        CHECK(later_wait(others[i].later) == 0);
        CHECK(pthread_join(others[i].thread, NULL) == 0);
    }
    recording = fault_record_end();
    end(device);

    NEED(workers_start("worker", 2, &workers) == 0);
    NEED(workers_start("fetcher", 1, &fetchers) == 0);
    read_after_kill(recording, cut, content);
    check_untorn(content);
    for (uint32_t i = 0; i < OTHERS; i++) {
        uint64_t at = (uint64_t)(i + 1) * CHUNK_SIZE / 2;

        CHECK(read_stamp(content + at, at, &found));
        CHECK(!was_done[i] || found.writer == i + 2);
    }
    read_after_kill(recording, recording->entries_count, content);
    CHECK(read_stamp(content, 0, &found) && found.writer == 1);
    for (uint32_t i = 0; i < OTHERS; i++) {
        uint64_t at = (uint64_t)(i + 1) * CHUNK_SIZE / 2;

        CHECK(read_stamp(content + at, at, &found) && found.writer == i + 2);
        later_free(others[i].later);
    }
    later_free(first.later);
    recording_free(recording);
    free(content);
    workers_stop(workers);
    workers_stop(fetchers);
}
