/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * A device that makes checkpoints loses power, or is killed, at any file call.
 * What a later start shows of the device is compared with a model of what may
 * be there, and what it shows of its checkpoint with what the device held when
 * that was cut.
 *
 * CRASH_STATES   how many states, 200 by default
 * CRASH_SEED     where to begin, 1 by default; a failure says its own
 */
#include "unit/test.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>

#include "base/log.h"
#include "base/number.h"
#include "base/workers.h"
#include "cache/device_parts.h"
#include "support/checkpoint_image.h"
#include "support/crash_states.h"
#include "support/device_model.h"
#include "support/fault_file.h"
#include "support/memory_store.h"
#include "support/workload.h"

enum {
    DEVICE_SIZE = 4 << 20,
    CHUNK_SIZE = 256 << 10,
    CHUNKS = DEVICE_SIZE / CHUNK_SIZE,
    JOURNAL_SIZE = 512 << 10,
    SEGMENT_SIZE = 64 << 10,
    BLOCK_CACHE_SIZE = 256 << 10,
    CHECKPOINTS = 6,
    STATES_PER_STORY = 50,
    BUG_STATES = 1000, /* until a deliberate bug must have been found */
};

static struct workers *workers, *fetchers;

static int open_device(const char *root, struct device **ret_device)
{
    static char cache[PATH_MAX]; /* outlives the device; one is open */
    struct device_options options = {
        .name = "crash",
        .cachedir = cache,
        .size = DEVICE_SIZE,
        .chunk_size = CHUNK_SIZE,
        .journal_size = JOURNAL_SIZE,
        .segment_size = SEGMENT_SIZE,
        .block_cache_size = BLOCK_CACHE_SIZE,
        .workers = workers,
        .fetchers = fetchers,
    };

    (void)snprintf(cache, sizeof(cache), "%s/cache", root);
    return device_open(&options, ret_device);
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

/* ---- a story ------------------------------------------------------------- */

/* A checkpoint of the story; its time is its place, from 1 on. */
struct told {
    unsigned char *content; /* of the device, at the cut */
    unsigned base;          /* the last one that was published before; or 0 */
    size_t begun, opened;   /* moments: asked for; answered */
    size_t ending, ended;   /* published or dropped; asked for, answered */
    bool is_published;
};

struct story {
    uint64_t seed;
    struct object_store *store; /* has whatever was uploaded ever */
    struct recording *recording;
    struct device_model *model;
    struct told checkpoints[CHECKPOINTS + 1];
    unsigned told;
    unsigned char *content;
    uint64_t counter; /* of objects */
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

struct cutter {
    struct device *device;
    uint64_t time_ns;
    int error;
};

static void *cut(void *context)
{
    struct cutter *cutter = context;

    cutter->error = device_checkpoint(cutter->device, cutter->time_ns);
    return NULL;
}

/* A page that is not in a chunk file yet, so that there is one to sync. */
static bool write_page(struct workload *work)
{
    unsigned char page[MODEL_PAGE];
    uint64_t offset =
        (crash_random(work->seed, ++work->steps) % (DEVICE_SIZE / MODEL_PAGE)) *
        MODEL_PAGE;
    struct device_request request = {
        .operation = DEVICE_WRITE,
        .offset = offset,
        .length = MODEL_PAGE,
        .data = page,
    };
    uint32_t number;

    model_next_group(work->model);
    number = model_begin(work->model, MODEL_WRITE, offset, MODEL_PAGE, false,
                         fault_record_position());
    model_fill(number, offset, page, MODEL_PAGE);
    if (device_run(work->device, &request) != 0)
        return false;
    model_answered(work->model, number, fault_record_position());
    model_next_group(work->model);
    return true;
}

/* Make a checkpoint, with writes while it is folded. */
static bool make_checkpoint(struct story *story, struct workload *work)
{
    struct fault_calls syncs = {FAULT_SYNC_DATA, "/chunk/", 1};
    struct told *told = &story->checkpoints[story->told + 1];
    struct cutter cutter = {work->device, story->told + 1, 0};
    pthread_t thread;
    bool good = true;

    told->base = 0;
    for (unsigned i = 1; i <= story->told; i++)
        told->base = story->checkpoints[i].is_published ? i : told->base;
    told->content = malloc(DEVICE_SIZE);
    if (told->content == NULL)
        abort();
    /* So that nothing is folded, and comes to the gate, before the cut. */
    good = device_destage(work->device) == 0;
    for (uint64_t i = story->seed % 9; good && i < 9; i++)
        good = write_page(work);
    if (!good || workload_read(work->device, work->seed, told->content) != 0)
        return false;
    told->begun = fault_record_position();
    told->ending = told->ended = SIZE_MAX;
    fault_gate_set(&syncs);
    if (pthread_create(&thread, NULL, cut, &cutter) != 0)
        abort();
    fault_gate_wait();
    /* Not more than the journal takes while nothing is folded. */
    for (unsigned i = 0; i < 8; i++)
        good = write_page(work) && good;
    fault_gate_open();
    (void)pthread_join(thread, NULL);
    told->opened = fault_record_position();
    story->told++;
    return (good && cutter.error == 0) ||
           say(story, "cannot cut", cutter.error);
}

/* Upload what is newer, and evict some of what may go. */
static bool make_room(struct workload *work, struct checkpoint_image *image,
                      uint64_t dice)
{
    uint64_t chunks[CHUNKS];
    uint64_t freed;
    size_t count = 0;

    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        if (crash_random(dice, chunk) % 2 == 0)
            chunks[count++] = chunk;
    }
    return checkpoint_image_upload_newest(image, dice) == 0 &&
           device_evict(work->device, chunks, count,
                        dice % 3 == 0 ? EVICT_FILE : EVICT_BLOCKS, &freed) == 0;
}

/* Upload, and publish or drop. */
static bool end_checkpoint(struct story *story, struct workload *work,
                           struct checkpoint_image *image)
{
    struct told *told = &story->checkpoints[story->told];
    uint64_t dice = crash_random(work->seed, ++work->steps);
    int error;

    error = checkpoint_image_upload(image, dice, false);
    if (error != 0)
        return say(story, "cannot upload", error);
    workload_run(work, 2);
    if (dice % 2 == 0 && device_destage(work->device) != 0)
        return false;
    if (dice / 8 % 2 == 0 && !make_room(work, image, dice))
        return say(story, "cannot make room", 0);
    told->is_published = dice / 2 % 4 != 0;
    if (told->is_published && checkpoint_image_upload(image, dice, true) != 0)
        return false;
    told->ending = fault_record_position();
    error = told->is_published ? checkpoint_image_publish(image)
                               : device_drop_checkpoint(work->device);
    told->ended = fault_record_position();
    return error == 0 || say(story, "cannot end a checkpoint", error);
}

/* The objects are there whatever happened; a claim, which a crash would take
 * back, there is not. */
static void begin_image(struct story *story, struct checkpoint_image *image,
                        struct device *device)
{
    checkpoint_image_begin(image, device, story->store);
    image->counter = story->counter += 1000; /* no name twice */
    device->reader.fetch = image->fetch;
}

static void end_image(struct checkpoint_image *image)
{
    image->device->reader.fetch = NULL;
    checkpoint_image_end(image);
}

static bool live(struct story *story, const char *root)
{
    struct workload work = {.seed = story->seed};
    struct checkpoint_image image;
    struct device *device;
    bool good = true;

    fault_record_begin(root);
    if (open_device(root, &device) != 0) {
        story->recording = fault_record_end();
        return say(story, "cannot open", 0);
    }
    story->model = model_new(DEVICE_SIZE, NULL, 1);
    work.device = device;
    work.model = story->model;
    begin_image(story, &image, device);
    /* Nothing but a fold may come to the gate of make_checkpoint. */
    device->reader.keep = NULL;
    for (unsigned i = 0; good && i < CHECKPOINTS; i++) {
        workload_run(&work, 4);
        good = make_checkpoint(story, &work);
        workload_run(&work, 3);
        good = good && end_checkpoint(story, &work, &image);
    }
    story->recording = fault_record_end();
    end_image(&image);
    if (work.failed > 0)
        good = false;
    if (device_close(device) != 0)
        good = false;
    return good || say(story, "cannot live", 0);
}

/* ---- a state ------------------------------------------------------------- */

/* Which checkpoint must be open, and which may be; 0: none. */
static bool phase_is_right(const struct story *story, uint64_t open,
                           size_t moment)
{
    for (unsigned i = 1; i <= story->told; i++) {
        const struct told *told = &story->checkpoints[i];

        if (told->opened <= moment && told->ending > moment && open != i)
            return say(story, "a checkpoint is lost", (int)i);
        if (told->ended <= moment && open == i)
            return say(story, "a checkpoint has ended, but is open", (int)i);
        if (told->begun > moment && open == i)
            return say(story, "a checkpoint is from the future", (int)i);
    }
    return true;
}

/* Chunks of which a checkpoint says nothing are those of the last image. */
static bool rest_is_right(struct story *story, const struct device *device,
                          const struct told *told)
{
    static const unsigned char zeros[CHUNK_SIZE];
    struct catalog *catalog = device_checkpoint_catalog(device);

    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        const unsigned char *base =
            told->base == 0
                ? zeros
                : story->checkpoints[told->base].content + chunk * CHUNK_SIZE;

        if (catalog_generation(catalog, chunk, NULL) != 0)
            continue;
        if (memcmp(told->content + chunk * CHUNK_SIZE, base, CHUNK_SIZE) != 0)
            return say(story, "a checkpoint says too little, of chunk",
                       (int)chunk);
        memcpy(story->content + chunk * CHUNK_SIZE, base, CHUNK_SIZE);
    }
    return memcmp(story->content, told->content, DEVICE_SIZE) == 0 ||
           say(story, "a checkpoint is not as it was cut", 0);
}

static bool checkpoint_is_right(struct story *story,
                                struct checkpoint_image *image)
{
    struct state_facts facts;
    int error;

    state_log_facts(device_state_log(image->device), &facts);
    if (facts.phase == CHECKPOINT_FOLDING)
        return say(story, "a checkpoint was not completed", 0);
    if (facts.phase == CHECKPOINT_NONE)
        return true;
    error = checkpoint_image_read_open(image, story->content);
    if (error != 0)
        return say(story, "a checkpoint cannot be read", error);
    return rest_is_right(story, image->device,
                         &story->checkpoints[facts.checkpoint_time_ns]);
}

/* The device and its checkpoint are of use. */
static bool works_on(struct story *story, struct device *device,
                     struct checkpoint_image *image, uint64_t seed)
{
    struct workload work = {
        .device = device,
        .model = model_new(DEVICE_SIZE, story->content, 1U << 30),
        .seed = seed,
    };
    struct state_facts facts;
    bool good;

    workload_run(&work, 3);
    good = work.failed == 0 && device_destage(device) == 0 &&
           checkpoint_is_right(story, image);
    state_log_facts(device_state_log(device), &facts);
    if (good && facts.phase == CHECKPOINT_OPEN)
        good = checkpoint_image_upload(image, seed, true) == 0 &&
               checkpoint_is_right(story, image) &&
               checkpoint_image_publish(image) == 0;
    good = good && device_checkpoint(device, 1) == 0 &&
           device_drop_checkpoint(device) == 0 &&
           workload_read(device, seed, story->content) == 0 &&
           model_check(work.model, story->content, MODEL_NO_CRASH, 0,
                       report_of(story));
    model_free(work.model);
    return good;
}

static bool examine(struct story *story, enum model_crash crash, size_t moment,
                    uint64_t seed, const char *root)
{
    struct checkpoint_image image;
    struct device *device;
    struct state_facts facts;
    bool good;
    int error = open_device(root, &device);

    if (error != 0)
        return say(story, "cannot open", error);
    begin_image(story, &image, device);
    good = workload_read(device, seed, story->content) == 0 &&
           model_check(story->model, story->content, crash, moment,
                       report_of(story));
    /* What was being folded is, whatever is asked first. */
    good = good && device_destage(device) == 0;
    state_log_facts(device_state_log(device), &facts);
    good = good &&
           phase_is_right(
               story,
               facts.phase == CHECKPOINT_NONE ? 0 : facts.checkpoint_time_ns,
               moment) &&
           checkpoint_is_right(story, &image);
    good = good && workload_read(device, seed, story->content) == 0 &&
           model_check(story->model, story->content, crash, moment,
                       report_of(story)) &&
           works_on(story, device, &image, seed);
    end_image(&image);
    if (device_close(device) != 0)
        good = false;
    return good;
}

static void tell(const struct story *story, enum model_crash crash,
                 size_t moment, uint64_t seed)
{
    if (story->expects_violations)
        return;
    printf("# CRASH_SEED=%" PRIu64 ": %s at %zu of %zu, state %" PRIu64 "\n",
           story->seed, crash == MODEL_KILL ? "kill" : "power cut", moment,
           story->recording->entries_count, seed);
    for (unsigned i = 1; i <= story->told; i++)
        printf("# checkpoint %u: begun %zu, open %zu, %s %zu to %zu\n", i,
               story->checkpoints[i].begun, story->checkpoints[i].opened,
               story->checkpoints[i].is_published ? "published" : "dropped",
               story->checkpoints[i].ending, story->checkpoints[i].ended);
    (void)fflush(stdout);
}

/* Any moment; as often one while a checkpoint begins or ends. */
static size_t choose_moment(const struct story *story, uint64_t dice)
{
    size_t count = story->recording->entries_count;
    const struct told *told = &story->checkpoints[1 + dice / 8 % story->told];
    size_t from = dice / 4 % 2 == 0 ? told->begun : told->ending;
    size_t to = dice / 4 % 2 == 0 ? told->opened : told->ended;

    if (dice % 2 == 0 || from > to || to > count)
        return dice / 64 % (count + 1);
    return from + dice / 64 % (to - from + 1);
}

static int compare_sizes(const void *a, const void *b)
{
    const size_t *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

static void cut_and_kill(struct story *story, unsigned states)
{
    struct crash_disk *disk = crash_disk_new(story->recording);
    size_t moments[STATES_PER_STORY];
    char root[PATH_MAX];

    for (unsigned i = 0; i < states; i++)
        moments[i] = choose_moment(story, crash_random(story->seed + 1, i));
    qsort(moments, states, sizeof(moments[0]), compare_sizes);
    for (unsigned i = 0; i < states && story->violations < 3; i++) {
        uint64_t seed = crash_random(story->seed + 2, i);
        bool is_kill = i % 5 == 4;
        enum model_crash crash = is_kill ? MODEL_KILL : MODEL_POWER_CUT;

        make_dir(root, sizeof(root), "state");
        if (is_kill) {
            struct crash_disk *killed = crash_disk_new(story->recording);

            crash_disk_advance(killed, moments[i]);
            crash_disk_kill(killed, seed, root);
            crash_disk_free(killed);
        } else {
            crash_disk_advance(disk, moments[i]);
            crash_disk_power_cut(disk, seed, root, NULL);
        }
        if (!examine(story, crash, moments[i], seed, root)) {
            story->violations++;
            tell(story, crash, moments[i], seed);
        }
    }
    crash_disk_free(disk);
}

static unsigned tell_story(uint64_t seed, bool expects_violations)
{
    struct story story = {
        .seed = seed,
        .store = memory_store_new(),
        .content = malloc(DEVICE_SIZE),
        .expects_violations = expects_violations,
    };
    char root[PATH_MAX], path[PATH_MAX];

    if (!story.content)
        abort();
    make_dir(root, sizeof(root), "life");
    make_dir(path, sizeof(path), "life/cache");
    if (live(&story, root))
        cut_and_kill(&story, STATES_PER_STORY);
    else
        story.violations++;
    recording_free(story.recording);
    model_free(story.model);
    for (unsigned i = 1; i <= CHECKPOINTS; i++)
        free(story.checkpoints[i].content);
    story.store->close(story.store);
    free(story.content);
    return story.violations;
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t value;

    return text && number_parse(text, 0, UINT32_MAX, &value) == 0 ? value
                                                                  : otherwise;
}

static void begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
    NEED(workers_start("worker", 2, &workers) == 0);
    NEED(workers_start("fetcher", 1, &fetchers) == 0);
}

static void end(void)
{
    workers_stop(workers);
    workers_stop(fetchers);
    fault_reset();
}

TEST("after a power cut or a kill a checkpoint is there or not, and if it is, "
     "it is what the device was at its cut")
{
    uint64_t states = number_of("CRASH_STATES", 200);
    uint64_t seed = number_of("CRASH_SEED", 1);
    unsigned violations = 0;

    begin();
    for (uint64_t done = 0; done < states && violations < 3; seed++) {
        violations += tell_story(seed, false);
        done += STATES_PER_STORY;
    }
    CHECK(violations == 0);
    end();
}

/* Break the device on purpose: these syncs do nothing. */
static bool finds(const struct fault_calls *calls)
{
    uint64_t seed = number_of("CRASH_SEED", 1);
    bool found = false;

    begin();
    for (unsigned done = 0; done < BUG_STATES && !found; seed++) {
        fault_swallow(calls);
        found = tell_story(seed, true) > 0;
        done += STATES_PER_STORY;
    }
    end();
    return found;
}

TEST("a device that does not sync its journal at a cut is found out")
{
    struct fault_calls calls = {FAULT_ANY_SYNC, "/journal/segment", 0};

    CHECK(finds(&calls));
}

TEST("a device that does not sync its state log is found out")
{
    struct fault_calls calls = {FAULT_ANY_SYNC, "/state/", 0};

    CHECK(finds(&calls));
}
