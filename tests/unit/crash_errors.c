/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * A device on a disk that fails: the n-th write, sync or other change gives
 * an error, for every n of a short workload.  Then the power goes, or the
 * process is killed.  Nothing that was acknowledged as durable may be lost,
 * nothing may be wrong, and the device must say what has become of it.
 */
#include "unit/test.h"

#include <inttypes.h>

#include "base/log.h"
#include "base/workers.h"
#include "cache/device.h"
#include "support/crash_states.h"
#include "support/device_model.h"
#include "support/fault_file.h"
#include "support/workload.h"

enum {
    DEVICE_SIZE = 2 << 20,
    CHUNK_SIZE = 256 << 10,
    JOURNAL_SIZE = 512 << 10,
    SEGMENT_SIZE = 64 << 10,
    BLOCK_CACHE_SIZE = 128 << 10,
    GROUPS = 5, /* before the device is told to destage, and after it */
    STATES = 3, /* of power cuts for each n */
};

static struct workers *workers, *fetchers;
static unsigned char content[DEVICE_SIZE];

static int open_device(const char *root, struct device **ret_device)
{
    static char cache[PATH_MAX];
    struct device_options options = {
        .name = "errors",
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

static void make_dir(char *path, size_t size, const char *name)
{
    if (snprintf(path, size, "%s/%s", test_dir(), name) >= (int)size)
        abort();
    if (strstr(path, "/s3blkdev-test.") != NULL)
        test_remove_tree(AT_FDCWD, path);
    if (mkdir(path, 0700) < 0)
        abort();
}

/* What fails. */
struct trouble {
    struct fault_calls calls;
    int error;
    bool forever;
    size_t torn_bytes;
};

/*
 * Look at a device that has had its trouble, before it is closed.  Returns
 * whether it says that it has failed.
 */
static bool check_manners(struct workload *work, bool has_hit)
{
    char page[MODEL_PAGE] = {1};
    struct device_request request = {
        .operation = DEVICE_WRITE,
        .length = sizeof(page),
        .data = page,
        .flags = DEVICE_FUA,
    };
    struct device_status status;

    /* Only a device that says so refuses anything; another thread says it. */
    do {
        device_status(work->device, &status);
    } while (!status.failed && work->failed > 0);
    CHECK(has_hit || !status.failed);
    if (status.failed) {
        CHECK(device_run(work->device, &request) == -EIO);
        request = (struct device_request){.operation = DEVICE_FLUSH};
        CHECK(device_run(work->device, &request) == -EIO);
    }
    /* What it acknowledged it can still read, whatever has failed. */
    CHECK(workload_read(work->device, work->seed, content) == 0);
    CHECK(model_check(work->model, content, MODEL_NO_CRASH,
                      fault_record_position(), stdout));
    return status.failed;
}

static void check_state(const struct device_model *model, const char *root,
                        enum model_crash crash, size_t cut, uint64_t seed)
{
    struct device *device;

    if (!CHECK(open_device(root, &device) == 0))
        return;
    CHECK(workload_read(device, seed, content) == 0);
    CHECK(model_check(model, content, crash, cut, stdout));
    CHECK(workload_check_extents(device, content, stdout));
    CHECK(device_close(device) == 0);
}

/* What crashes leave, after the trouble. */
static void check_crashes(const struct recording *recording,
                          const struct device_model *model, size_t created)
{
    size_t count = recording->entries_count;
    struct crash_disk *disk = crash_disk_new(recording);
    char root[PATH_MAX];

    for (uint64_t seed = 0; seed < STATES; seed++) {
        /* The last two at the end of all, where most is known. */
        size_t cut =
            seed == 0 ? created + crash_random(count, 0) % (count - created + 1)
                      : count;

        make_dir(root, sizeof(root), "state");
        crash_disk_advance(disk, cut);
        crash_disk_power_cut(disk, seed, root, NULL);
        check_state(model, root, MODEL_POWER_CUT, cut, seed);
    }
    make_dir(root, sizeof(root), "state");
    crash_disk_kill(disk, 1, root);
    check_state(model, root, MODEL_KILL, count, 1);
    crash_disk_free(disk);
}

/*
 * Live with the n-th call failing.  Returns whether it was reached: then
 * there may be one more.  *ret_failed: whether the device is lost.
 */
static bool live(const struct trouble *trouble, unsigned long nth,
                 bool *ret_failed)
{
    struct device_model *model = model_new(DEVICE_SIZE, NULL, 1);
    struct workload work = {.model = model, .seed = 7};
    struct fault_calls calls = trouble->calls;
    struct recording *recording;
    char root[PATH_MAX];
    size_t created;
    bool has_hit;

    make_dir(root, sizeof(root), "live");
    fault_skip_syncs(true);
    fault_record_begin(root);
    if (!CHECK(open_device(root, &work.device) == 0)) {
        recording_free(fault_record_end());
        model_free(model);
        return false;
    }
    created = fault_record_position();
    calls.nth = nth;
    fault_fail(&calls, trouble->error, trouble->forever, trouble->torn_bytes);
    workload_run(&work, GROUPS);
    (void)workload_flush(&work);
    (void)device_destage(work.device);
    workload_run(&work, GROUPS);
    (void)workload_flush(&work);
    (void)device_destage(work.device);
    has_hit = fault_count() >= nth;
    *ret_failed = check_manners(&work, has_hit);
    recording = fault_record_end();
    fault_reset();
    fault_skip_syncs(true);
    (void)device_close(work.device);
    check_crashes(recording, model, created);
    recording_free(recording);
    model_free(model);
    return has_hit;
}

/*
 * The trouble, at every n that there is.  Returns after how many of them the
 * device was lost.
 */
static unsigned live_with(const struct trouble *trouble)
{
    unsigned long nth = 0;
    unsigned lost = 0;
    bool more = true;

    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    if (workers_start("worker", 2, &workers) != 0 ||
        workers_start("fetcher", 1, &fetchers) != 0)
        abort();
    while (more && !atomic_load(&test_has_failed)) {
        bool is_lost = false;

        nth++;
        more = live(trouble, nth, &is_lost);
        lost += is_lost;
    }
    if (atomic_load(&test_has_failed))
        printf("# it was number %lu\n", nth);
    CHECK(nth > 1);
    workers_stop(workers);
    workers_stop(fetchers);
    fault_reset();
    return lost;
}

TEST("a journal write that fails, torn, is the end of writing, and no more")
{
    CHECK(live_with(&(struct trouble){
              .calls = {FAULT_WRITE, "/journal/segment", 0},
              .error = -EIO,
              .torn_bytes = 6 * 512,
          }) > 0);
}

TEST("a journal that cannot be synced is lost, and never trusted again")
{
    CHECK(live_with(&(struct trouble){
              .calls = {FAULT_ANY_SYNC, "/journal/segment", 0},
              .error = -EIO,
          }) > 0);
}

TEST("a chunk file that cannot be written, once, is written again elsewhere")
{
    CHECK(live_with(&(struct trouble){
              .calls = {FAULT_WRITE | FAULT_CREATE, "/chunk/", 0},
              .error = -EIO,
              .torn_bytes = 512,
          }) == 0);
}

TEST("a chunk file that has no room, once, costs nothing but time")
{
    CHECK(
        live_with(&(struct trouble){
            .calls = {FAULT_WRITE | FAULT_CREATE | FAULT_MAKE_DIR, "/chunk", 0},
            .error = -ENOSPC,
            .torn_bytes = 4096,
        }) == 0);
}

TEST("a chunk file, or its directory, that cannot be synced is not trusted")
{
    CHECK(live_with(&(struct trouble){
              .calls = {FAULT_ANY_SYNC, "/chunk", 0},
              .error = -EIO,
          }) == 0);
}

TEST("a state log that cannot be written or synced ends writing")
{
    CHECK(live_with(&(struct trouble){
              .calls = {FAULT_WRITE | FAULT_ANY_SYNC, "/state/log", 0},
              .error = -EIO,
              .torn_bytes = 1024,
          }) > 0);
}
