/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * A host that claims a device, uploads, evicts and publishes loses power, or
 * is killed, at any file call; the bucket is as it was then.  The next start
 * has all that it must have, finishes what was begun, and uploads nothing
 * again that was recorded; what it publishes then is attached elsewhere and is
 * the same device.
 *
 * CRASH_STATES   5 times as many as states, 500 by default
 * CRASH_SEED     where to begin, 1 by default; a failure says its own
 */
#include "unit/test.h"

#include <inttypes.h>

#include "base/log.h"
#include "base/number.h"
#include "cache/state_log.h"
#include "support/crash_states.h"
#include "support/device_model.h"
#include "support/fault_file.h"
#include "support/timed_store.h"
#include "support/upload_host.h"
#include "support/workload.h"

enum {
    DEVICE_SIZE = 4 << 20,
    CHUNKS = 16,
    IMAGES = 4,
    UPLOADS_MAX = IMAGES * CHUNKS,
    STATES_PER_STORY = 25,
    BUG_STATES = 1000, /* until a deliberate bug must have been found */
};

/* So many chunks of the checkpoint of that time were recorded by then. */
struct recorded {
    uint64_t time_ns;
    uint64_t left; /* chunks that still waited */
    size_t moment;
};

struct story {
    uint64_t seed;
    struct object_store *store;
    struct recording *recording;
    struct device_model *model;
    struct recorded recorded[UPLOADS_MAX];
    unsigned recorded_count;
    size_t published[IMAGES + 1]; /* moments, by time */
    unsigned char *content, *other;
    unsigned violations;
    bool expects_violations; /* a deliberate bug: say nothing */
};

static FILE *report_of(const struct story *story)
{
    return story->expects_violations ? NULL : stdout;
}

static bool say(const struct story *story, const char *what, int number)
{
    if (!story->expects_violations)
        printf("# %s (%d)\n", what, number);
    return false;
}

/* Remove a directory below test_dir(), and make it anew. */
static void make_dir(char *path, size_t size, const char *name)
{
    int len = snprintf(path, size, "%s/%s", test_dir(), name);

    if (len < 0 || (size_t)len >= size)
        abort();
    if (strstr(path, "/s3blkdev-test.") != NULL)
        test_remove_tree(AT_FDCWD, path);
    if (mkdir(path, 0700) < 0)
        abort();
}

/* A host whose cache directory is root/cache, which is there or not. */
static void begin_host(struct upload_host *host, const char *root,
                       struct object_store *store)
{
    static const char name[] = "/cache";
    char dir[PATH_MAX];
    size_t len = strlen(root);

    make_dir(dir, sizeof(dir), "host");
    memset(host, 0, sizeof(*host));
    fixture_begin(&host->fixture, dir, false);
    if (len + sizeof(name) > sizeof(host->fixture.cachedir))
        abort();
    memcpy(host->fixture.cachedir, root, len);
    memcpy(host->fixture.cachedir + len, name, sizeof(name));
    host->fixture.options.size = DEVICE_SIZE;
    host->fixture.options.journal_size = 512 << 10;
    host->fixture.options.store = store;
}

/* Close it; the store goes on. */
static bool end_host(struct upload_host *host)
{
    int error = upload_host_close(host);

    host->fixture.options.store = NULL;
    fixture_end(&host->fixture);
    return error == 0;
}

/* ---- a life ---------------------------------------------------------------
 */

static uint64_t left_of(struct upload_host *host)
{
    struct lease_counts counts;

    lease_count(host->leases, 0, 100, &counts);
    return counts.waiting;
}

/* Upload some, one after the other, and note when each was recorded. */
static int upload(struct story *story, struct upload_host *host,
                  uint64_t time_ns, uint64_t max)
{
    uint64_t count;
    int error;

    do {
        error = upload_host_upload(host, LEASE_CHECKPOINT, 1, &count);
        if (error == 0 && count == 1 && story->recorded_count < UPLOADS_MAX)
            story->recorded[story->recorded_count++] = (struct recorded){
                time_ns, left_of(host), fault_record_position()};
    } while (error == 0 && count == 1 && --max > 0);
    return error;
}

/* A checkpoint, with writes before and after all that becomes of it. */
static bool make_image(struct story *story, struct upload_host *host,
                       struct workload *work, uint64_t time_ns)
{
    uint64_t dice = crash_random(story->seed, time_ns);
    bool is_new;
    int error;

    workload_run(work, 3);
    error = upload_host_checkpoint(host, time_ns);
    if (error == 0)
        error = upload(story, host, time_ns, 1 + dice % 8);
    workload_run(work, 2);
    if (error == 0)
        error = upload_host_evict(host, dice, EVICT_BLOCKS);
    if (error == 0)
        error = upload(story, host, time_ns, UINT64_MAX);
    workload_run(work, 1);
    if (error == 0)
        error = upload_host_publish(host, &is_new);
    story->published[time_ns] = fault_record_position();
    if (error == 0)
        error = upload_host_evict(host, dice / 2, EVICT_FILE);
    return error == 0 || say(story, "cannot make an image", error);
}

static bool live(struct story *story, const char *root)
{
    struct upload_host host;
    struct workload work = {.seed = story->seed};
    bool is_good;

    begin_host(&host, root, story->store);
    fault_record_begin(root);
    is_good = upload_host_open(&host) == 0;
    story->model = model_new(DEVICE_SIZE, NULL, 1);
    work.device = host.fixture.device;
    work.model = story->model;
    for (uint64_t i = 1; is_good && i <= IMAGES; i++)
        is_good = make_image(story, &host, &work, i);
    story->recording = fault_record_end();
    is_good = is_good && work.failed == 0;
    return (end_host(&host) && is_good) || say(story, "cannot live", 0);
}

/* ---- a state --------------------------------------------------------------
 */

/* What was recorded or published is not asked for again. */
static bool progress_is_kept(const struct story *story,
                             struct upload_host *host, size_t moment)
{
    struct state_facts facts;

    state_log_facts(device_state_log(host->fixture.device), &facts);
    for (uint64_t i = 1; i <= IMAGES; i++) {
        if (story->published[i] != 0 && story->published[i] <= moment &&
            facts.published_time_ns < i)
            return say(story, "an image is forgotten", (int)i);
    }
    for (unsigned i = 0; i < story->recorded_count; i++) {
        const struct recorded *recorded = &story->recorded[i];

        if (recorded->moment <= moment && facts.phase == CHECKPOINT_OPEN &&
            facts.checkpoint_time_ns == recorded->time_ns &&
            left_of(host) > recorded->left)
            return say(story, "an upload is forgotten, left",
                       (int)recorded->left);
    }
    return true;
}

/* The device, published, is the same in an empty directory. */
static bool is_same_elsewhere(struct story *story, struct object_store *store)
{
    struct upload_host host;
    char root[PATH_MAX], path[PATH_MAX];
    bool is_same;

    make_dir(root, sizeof(root), "elsewhere");
    make_dir(path, sizeof(path), "elsewhere/cache");
    begin_host(&host, root, store);
    host.fixture.options.attach = DEVICE_ATTACH_TAKEOVER;
    is_same = upload_host_open(&host) == 0 &&
              upload_host_read(&host, story->other) == 0 &&
              memcmp(story->content, story->other, DEVICE_SIZE) == 0;
    return (end_host(&host) && is_same) ||
           say(story, "it is another device elsewhere", 0);
}

/* What was begun is finished, and a device like any other. */
static bool works_on(struct story *story, struct upload_host *host,
                     uint64_t seed)
{
    struct workload work = {
        .device = host->fixture.device,
        .model = model_new(DEVICE_SIZE, story->content, 1U << 30),
        .seed = seed,
    };
    struct state_facts facts;
    int error = 0;
    bool is_good;

    workload_run(&work, 2);
    state_log_facts(device_state_log(host->fixture.device), &facts);
    if (facts.phase == CHECKPOINT_OPEN)
        error = upload_host_finish(host, 0);
    if (error == 0)
        error = upload_host_finish(host, 1000);
    is_good = error == 0 || say(story, "cannot finish", error);
    is_good = is_good && work.failed == 0 &&
              upload_host_evict(host, seed, EVICT_FILE) == 0 &&
              upload_host_read(host, story->content) == 0 &&
              model_check(work.model, story->content, MODEL_NO_CRASH, 0,
                          report_of(story));
    model_free(work.model);
    return is_good;
}

static bool examine(struct story *story, enum model_crash crash, size_t moment,
                    uint64_t seed, const char *root)
{
    struct object_store *store =
        timed_store_at(story->store, moment, false, seed);
    struct upload_host host;
    bool is_good;
    int error;

    begin_host(&host, root, store);
    error = upload_host_open(&host);
    is_good = error == 0 || say(story, "cannot open", error);
    is_good = is_good && progress_is_kept(story, &host, moment) &&
              upload_host_read(&host, story->content) == 0 &&
              model_check(story->model, story->content, crash, moment,
                          report_of(story)) &&
              works_on(story, &host, seed);
    is_good = end_host(&host) && is_good;
    is_good = is_good && is_same_elsewhere(story, store);
    store->close(store);
    return is_good;
}

static void cut_and_kill(struct story *story)
{
    char root[PATH_MAX];

    for (unsigned i = 0; i < STATES_PER_STORY && story->violations < 3; i++) {
        struct crash_disk *disk = crash_disk_new(story->recording);
        uint64_t seed = crash_random(story->seed + 2, i);
        size_t moment = crash_random(story->seed + 1, i) %
                        (story->recording->entries_count + 1);
        bool is_kill = i % 3 == 2;

        make_dir(root, sizeof(root), "state");
        crash_disk_advance(disk, moment);
        if (is_kill)
            crash_disk_kill(disk, seed, root);
        else
            crash_disk_power_cut(disk, seed, root, NULL);
        crash_disk_free(disk);
        if (examine(story, is_kill ? MODEL_KILL : MODEL_POWER_CUT, moment, seed,
                    root))
            continue;
        story->violations++;
        if (!story->expects_violations)
            printf("# CRASH_SEED=%" PRIu64 ": %s at %zu of %zu, state %u\n",
                   story->seed, is_kill ? "kill" : "power cut", moment,
                   story->recording->entries_count, i);
    }
}

static unsigned tell_story(uint64_t seed, bool expects_violations)
{
    struct story story = {
        .seed = seed,
        .store = timed_store_new(),
        .content = malloc(DEVICE_SIZE),
        .other = malloc(DEVICE_SIZE),
        .expects_violations = expects_violations,
    };
    char root[PATH_MAX], path[PATH_MAX];

    if (!story.content || !story.other)
        abort();
    make_dir(root, sizeof(root), "life");
    make_dir(path, sizeof(path), "life/cache");
    if (live(&story, root))
        cut_and_kill(&story);
    else
        story.violations++;
    recording_free(story.recording);
    model_free(story.model);
    story.store->close(story.store);
    free(story.content);
    free(story.other);
    return story.violations;
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t value;

    return text && number_parse(text, 0, UINT32_MAX, &value) == 0 ? value
                                                                  : otherwise;
}

static void begin(bool is_quiet)
{
    log_open("crash_publish", LOG_TARGET_STDERR, LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    if (is_quiet && !freopen("/dev/null", "w", stderr))
        abort();
    fault_skip_syncs(true);
}

TEST("after a power cut or a kill the next start has what was recorded, "
     "finishes what was begun, and the bucket has the same device")
{
    uint64_t states = number_of("CRASH_STATES", 500) / 5;
    uint64_t seed = number_of("CRASH_SEED", 1);
    unsigned violations = 0;

    begin(false);
    for (uint64_t done = 0; done < states && violations < 3; seed++) {
        violations += tell_story(seed, false);
        done += STATES_PER_STORY;
    }
    CHECK(violations == 0);
    fault_reset();
}

TEST("a host that does not sync its state log is found out")
{
    struct fault_calls calls = {FAULT_ANY_SYNC, "/state/", 0};
    uint64_t seed = number_of("CRASH_SEED", 1);
    bool is_found = false;

    begin(true); /* what is said of damage is no news */
    for (unsigned done = 0; done < BUG_STATES && !is_found; seed++) {
        fault_swallow(&calls);
        is_found = tell_story(seed, true) > 0;
        done += STATES_PER_STORY;
    }
    CHECK(is_found);
    fault_reset();
}
