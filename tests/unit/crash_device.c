/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * A device under a random workload loses power, or is killed, at any file
 * call; after a kill it runs again and then loses power.  What a later start
 * shows is compared with a model of what may be there.
 *
 * CRASH_STATES   how many states, 200 by default
 * CRASH_SEED     where to begin, 1 by default; a failure says its own
 */
#include "unit/test.h"

#include <inttypes.h>

#include "base/log.h"
#include "base/number.h"
#include "base/workers.h"
#include "cache/device.h"
#include "support/crash_states.h"
#include "support/device_model.h"
#include "support/fault_file.h"
#include "support/memory_store.h"
#include "support/workload.h"

enum {
    DEVICE_SIZE = 4 << 20,
    CHUNK_SIZE = 256 << 10,
    JOURNAL_SIZE = 512 << 10,
    SEGMENT_SIZE = 64 << 10,
    BLOCK_CACHE_SIZE = 256 << 10,
    GROUPS = 60,            /* of one run of the workload */
    STATES_PER_STORY = 100, /* with two recordings */
    BUG_STATES = 1500,      /* until a deliberate bug must have been found */
};

static struct workers *workers, *fetchers;

/* ---- a store whose content at any moment is known ---- */

enum { OBJECTS_MAX = 64 };

/* What was put, and when that had begun and ended. */
struct object {
    char key[OBJECT_KEY_MAX + 1];
    unsigned char *data;
    size_t len, begin, end;
};

struct kept_store {
    struct object_store store;
    struct object_store *inner;
    struct object objects[OBJECTS_MAX];
    size_t count;
};

static struct kept_store *kept(struct object_store *store)
{
    return (struct kept_store *)(void *)store;
}

static int kept_get(struct object_store *store, const char *key,
                    uint64_t offset, void *data, size_t len,
                    enum object_urgency urgency)
{
    return kept(store)->inner->get(kept(store)->inner, key, offset, data, len,
                                   urgency);
}

static int kept_put(struct object_store *store, const char *key,
                    const void *data, size_t len, bool if_absent)
{
    struct kept_store *to = kept(store);
    size_t begin = fault_record_position();
    int error = to->inner->put(to->inner, key, data, len, if_absent);

    if (error == 0 && to->count < OBJECTS_MAX) {
        struct object *object = &to->objects[to->count++];

        (void)snprintf(object->key, sizeof(object->key), "%s", key);
        object->data = malloc(len);
        if (!object->data)
            abort();
        memcpy(object->data, data, len);
        object->len = len;
        object->begin = begin;
        object->end = fault_record_position();
    }
    return error;
}

static int kept_head(struct object_store *store, const char *key,
                     struct object_info *ret_info)
{
    return kept(store)->inner->head(kept(store)->inner, key, ret_info);
}

static int kept_delete(struct object_store *store, const char *const keys[],
                       size_t count)
{
    return kept(store)->inner->delete (kept(store)->inner, keys, count);
}

static int kept_list(struct object_store *store, const char *prefix,
                     const char *after, object_store_each *each, void *context)
{
    return kept(store)->inner->list(kept(store)->inner, prefix, after, each,
                                    context);
}

static void kept_interrupt(struct object_store *store)
{
    struct object_store *inner = kept(store)->inner;

    inner->interrupt(inner);
}

static char *kept_describe(struct object_store *store)
{
    struct object_store *inner = kept(store)->inner;

    return inner->describe(inner);
}

static void kept_close(struct object_store *store)
{
    struct kept_store *to = kept(store);

    for (size_t i = 0; i < to->count; i++)
        free(to->objects[i].data);
    to->inner->close(to->inner);
    free(to);
}

/*
 * Returns a new store with what another held at cut (NULL: empty); what was
 * under way then is there or not, by the seed.
 */
static struct object_store *store_at(struct object_store *other, size_t cut,
                                     uint64_t seed)
{
    struct kept_store *new = calloc(1, sizeof(*new));

    if (!new)
        abort();
    new->store = (struct object_store){
        .get = kept_get,
        .put = kept_put,
        .head = kept_head,
        .delete = kept_delete,
        .list = kept_list,
        .interrupt = kept_interrupt,
        .describe = kept_describe,
        .close = kept_close,
    };
    new->inner = memory_store_new();
    for (size_t i = 0; other && i < kept(other)->count; i++) {
        const struct object *object = &kept(other)->objects[i];

        if (object->end <= cut ||
            (object->begin <= cut && crash_random(seed, i) % 2)) {
            CHECK(new->inner->put(new->inner, object->key, object->data,
                                  object->len, false) == 0);
            new->objects[new->count] = *object;
            new->objects[new->count].data = malloc(object->len);
            if (!new->objects[new->count].data)
                abort();
            memcpy(new->objects[new->count].data, object->data, object->len);
            new->objects[new->count].begin = 0;
            new->objects[new->count].end = 0;
            new->count++;
        }
    }
    return &new->store;
}

/* ---- a device ---- */

/* How the device of a story is set up; the same all through it. */
struct setup {
    uint64_t seed;
    bool write_through;
    bool apart; /* journal in a directory of its own */
};

static int open_device(const struct setup *setup, const char *root,
                       struct object_store *store, struct device **ret_device)
{
    /* They must outlive the device; one at a time is open. */
    static char cache[PATH_MAX], journal[PATH_MAX];
    struct device_options options = {
        .name = "crash",
        .cachedir = cache,
        .journal_dir = setup->apart ? journal : NULL,
        .size = DEVICE_SIZE,
        .chunk_size = CHUNK_SIZE,
        .journal_size = JOURNAL_SIZE,
        .segment_size = SEGMENT_SIZE,
        .block_cache_size = BLOCK_CACHE_SIZE,
        .write_through = setup->write_through,
        .store = store,
        .workers = workers,
        .fetchers = fetchers,
    };

    (void)snprintf(cache, sizeof(cache), "%s/cache", root);
    (void)snprintf(journal, sizeof(journal), "%s/journal", root);
    return device_open(&options, ret_device);
}

/* Remove a directory below test_dir(). */
static void remove_dir(const char *path)
{
    if (strstr(path, "/s3blkdev-test.") != NULL)
        test_remove_tree(AT_FDCWD, path);
}

static void make_dir(char *path, size_t size, const char *name)
{
    (void)snprintf(path, size, "%s/%s", test_dir(), name);
    remove_dir(path);
    if (mkdir(path, 0700) < 0)
        abort();
}

/* ---- a story ---- */

/* One process's life: what it did to the disk and what it answered. */
struct life {
    struct recording *recording;
    struct device_model *model;
    unsigned groups; /* of requests */
    size_t opened;   /* the moment when device_open returned */
};

struct story {
    struct setup setup;
    struct object_store *store;
    struct life first, second;
    size_t kill_cut; /* the moment of the first that the second follows */
    unsigned char *content;
    unsigned violations;
    bool expects_violations; /* a deliberate bug: say nothing */
};

/* A state under examination, for messages. */
struct state {
    const struct life *life; /* which was cut */
    enum model_crash crash;
    size_t cut;
    uint64_t seed;
};

static FILE *report_of(const struct story *story)
{
    return story->expects_violations ? NULL : stdout;
}

/* A stream that is never shown: the model and others want one. */
static FILE *report_or_null(const struct story *story)
{
    static FILE *null;

    if (!story->expects_violations)
        return stdout;
    if (!null)
        null = fopen("/dev/null", "we");
    if (!null)
        abort();
    return null;
}

/*
 * Live: open the device in root, work, and stop recording while it is open.
 * A second life first looks at what the first has left.
 */
static bool live(struct story *story, struct life *life, const char *root,
                 uint32_t first_number)
{
    struct workload work = {
        .seed = crash_random(story->setup.seed, first_number + 1),
    };
    struct device *device;
    bool good = true;
    int error;

    fault_record_begin(root);
    error = open_device(&story->setup, root, story->store, &device);
    life->opened = fault_record_position();
    if (error != 0) {
        (void)fprintf(report_or_null(story), "# cannot open: %d\n", error);
        life->recording = fault_record_end();
        return false;
    }
    if (life == &story->second) {
        good = workload_read(device, work.seed, story->content) == 0 &&
               model_check(story->first.model, story->content, MODEL_KILL,
                           story->kill_cut, report_of(story));
        life->model = model_new(DEVICE_SIZE, story->content, first_number);
    } else {
        life->model = model_new(DEVICE_SIZE, NULL, first_number);
    }
    work.device = device;
    work.model = life->model;
    workload_run(&work, life->groups / 2);
    /* A restart in order, once in four. */
    if (work.seed % 4 == 0 &&
        (device_close(device) != 0 ||
         open_device(&story->setup, root, story->store, &device) != 0)) {
        life->recording = fault_record_end();
        return false;
    }
    work.device = device;
    workload_run(&work, life->groups - life->groups / 2);
    life->recording = fault_record_end();
    if (work.failed > 0)
        good = false;
    if (device_close(device) != 0)
        good = false;
    return good;
}

/* Read the device, compare with the model, and look at its extents. */
static bool looks_right(struct story *story, struct device *device,
                        const struct device_model *model,
                        enum model_crash crash, size_t cut, uint64_t seed)
{
    int error = workload_read(device, seed, story->content);

    if (error != 0) {
        (void)fprintf(report_or_null(story), "# cannot read: %d\n", error);
        return false;
    }
    return model_check(model, story->content, crash, cut, report_of(story)) &&
           workload_check_extents(device, story->content,
                                  report_or_null(story));
}

/* What was found must also stay, and the device must be of use. */
static bool works_on(struct story *story, struct device *device,
                     const struct state *state, const char *root,
                     struct object_store *store)
{
    struct workload work = {
        .device = device,
        .model = model_new(DEVICE_SIZE, story->content, 1U << 30),
        .seed = state->seed,
    };
    bool good = true;

    /* A journal that is found nearly full makes writes wait. */
    if (state->seed % 4 != 0)
        good = device_destage(device) == 0;
    workload_run(&work, 2);
    good = workload_flush(&work) == 0 && work.failed == 0 && good;
    good = device_close(device) == 0 && good;
    if (good && open_device(&story->setup, root, store, &device) == 0) {
        good = looks_right(story, device, work.model, MODEL_NO_CRASH, 0,
                           state->seed + 1);
        good = device_close(device) == 0 && good;
    } else {
        good = false;
    }
    model_free(work.model);
    return good;
}

/* Open the state in root and compare it with what may be there. */
static bool examine(struct story *story, const struct state *state,
                    const char *root)
{
    const struct life *life = state->life;
    enum model_crash crash = state->crash;
    size_t cut = state->cut;
    struct object_store *store;
    struct device *device;
    bool good;
    int error;

    store = store_at(story->store, life == &story->first ? cut : SIZE_MAX,
                     state->seed);
    error = open_device(&story->setup, root, store, &device);
    if (error != 0) {
        (void)fprintf(report_or_null(story), "# cannot open: %d\n", error);
        store->close(store);
        return false;
    }
    /* Until the second life was open nothing new was durable. */
    if (life == &story->second && cut < life->opened) {
        life = &story->first;
        cut = story->kill_cut;
    }
    good = looks_right(story, device, life->model, crash, cut, state->seed);
    if (good)
        good = works_on(story, device, state, root, store);
    else
        (void)device_close(device);
    store->close(store);
    return good;
}

/* Say how to see a failure again, and keep its state. */
static void tell(const struct story *story, const struct crash_disk *disk,
                 const struct state *state)
{
    char kept_state[] = "/tmp/s3blkdev-crash.XXXXXX";

    if (story->expects_violations || !mkdtemp(kept_state))
        return;
    printf("# CRASH_SEED=%" PRIu64 "%s%s: %s, life %d, %s at %zu of %zu, "
           "state %" PRIu64 ", kept in %s\n",
           story->setup.seed,
           story->setup.write_through ? ", writethrough" : "",
           story->setup.apart ? ", journal apart" : "",
           state->crash == MODEL_KILL ? "kill" : "power cut",
           state->life == &story->first ? 1 : 2,
           state->cut < state->life->opened ? "opening" : "working", state->cut,
           state->life->recording->entries_count, state->seed, kept_state);
    if (state->crash != MODEL_KILL)
        crash_disk_power_cut(disk, state->seed, kept_state, stdout);
    (void)fflush(stdout);
}

/* Cut the power at some moment of a life. */
static void cut_power(struct story *story, struct crash_disk *disk,
                      const struct life *life, size_t cut, uint64_t seed)
{
    struct state state = {life, MODEL_POWER_CUT, cut, seed};
    char root[PATH_MAX];

    make_dir(root, sizeof(root), "state");
    crash_disk_advance(disk, cut);
    crash_disk_power_cut(disk, seed, root, NULL);
    if (!examine(story, &state, root)) {
        story->violations++;
        tell(story, disk, &state);
    }
}

/*
 * Choose a moment from first on: anywhere, or, as often, just before or after
 * something that orders others, where the mistakes are.
 */
static size_t choose_moment(const struct recording *recording, size_t first,
                            uint64_t dice)
{
    size_t count = recording->entries_count, borders = 0, wanted;

    for (size_t i = first; i < count; i++)
        borders += recording->entries[i].kind != RECORD_WRITE;
    if (dice % 2 == 0 || borders == 0)
        return first + dice / 4 % (count - first + 1);
    wanted = dice / 4 % borders;
    for (size_t i = first; i < count; i++) {
        if (recording->entries[i].kind != RECORD_WRITE && wanted-- == 0)
            return i + dice / 2 % 2;
    }
    return count;
}

static int compare_sizes(const void *a, const void *b)
{
    const size_t *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

/* Cut the power count times in a life, at moments that the seed chooses. */
static void cut_life(struct story *story, struct crash_disk *disk,
                     const struct life *life, unsigned count, uint64_t seed)
{
    size_t *cuts = calloc(count, sizeof(*cuts));

    if (!cuts)
        abort();
    for (unsigned i = 0; i < count; i++)
        cuts[i] = life->groups > 0
                      ? choose_moment(life->recording, 0, crash_random(seed, i))
                      : life->recording->entries_count;
    qsort(cuts, count, sizeof(*cuts), compare_sizes);
    for (unsigned i = 0; i < count && story->violations < 3; i++)
        cut_power(story, disk, life, cuts[i], crash_random(seed, ~i));
    free(cuts);
}

/* Kill the first life somewhere and see what is left. */
static void kill_once(struct story *story, uint64_t seed)
{
    struct state state = {&story->first, MODEL_KILL, 0, seed};
    struct crash_disk *disk = crash_disk_new(story->first.recording);
    char root[PATH_MAX];

    state.cut = choose_moment(story->first.recording, 0, crash_random(seed, 1));
    make_dir(root, sizeof(root), "state");
    crash_disk_advance(disk, state.cut);
    crash_disk_kill(disk, seed, root);
    if (!examine(story, &state, root)) {
        story->violations++;
        tell(story, disk, &state);
    }
    crash_disk_free(disk);
}

static void begin_story(struct story *story, uint64_t seed)
{
    char root[PATH_MAX], path[PATH_MAX];

    *story = (struct story){
        .setup =
            {
                .seed = seed,
                .write_through = crash_random(seed, 1) % 5 == 0,
                .apart = crash_random(seed, 2) % 3 == 0,
            },
        .store = store_at(NULL, 0, 0),
        .content = malloc(DEVICE_SIZE),
    };
    if (!story->content)
        abort();
    make_dir(root, sizeof(root), "first");
    make_dir(path, sizeof(path), "first/cache");
    make_dir(path, sizeof(path), "first/journal");
}

static void end_story(struct story *story)
{
    recording_free(story->first.recording);
    recording_free(story->second.recording);
    model_free(story->first.model);
    model_free(story->second.model);
    story->store->close(story->store);
    free(story->content);
}

/*
 * Kill the first life somewhere, live on for so many groups, and cut the
 * power.
 */
static void live_again(struct story *story, uint64_t seed, unsigned groups,
                       unsigned states)
{
    struct crash_disk *disk = crash_disk_new(story->first.recording);
    char root[PATH_MAX];

    recording_free(story->second.recording);
    model_free(story->second.model);
    story->second = (struct life){.groups = groups};
    story->kill_cut =
        choose_moment(story->first.recording, story->first.opened, seed);
    crash_disk_advance(disk, story->kill_cut);
    make_dir(root, sizeof(root), "second");
    crash_disk_kill(disk, seed, root);
    if (live(story, &story->second, root,
             model_next_number(story->first.model))) {
        crash_disk_continue(disk, story->second.recording);
        cut_life(story, disk, &story->second, states, seed + 1);
    } else {
        story->violations++;
    }
    crash_disk_free(disk);
}

/* Live, cut, kill, live again, cut. */
static void tell_story(struct story *story, unsigned states)
{
    struct crash_disk *disk;
    char root[PATH_MAX];

    (void)snprintf(root, sizeof(root), "%s/first", test_dir());
    story->first.groups = GROUPS;
    if (!live(story, &story->first, root, 1)) {
        story->violations++;
        return;
    }
    disk = crash_disk_new(story->first.recording);
    cut_life(story, disk, &story->first, states / 2, story->setup.seed + 1);
    crash_disk_free(disk);
    for (unsigned i = 0; i < states / 10 && story->violations < 3; i++)
        kill_once(story, crash_random(story->setup.seed, 100 + i));
    /* Lives that do nothing but begin have to make durable what they find. */
    for (unsigned i = 0; i < states / 20 && story->violations == 0; i++)
        live_again(story, crash_random(story->setup.seed, 200 + i), 0, 3);
    if (story->violations == 0)
        live_again(story, crash_random(story->setup.seed, 3), GROUPS,
                   states / 4);
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
    /* States are written and read by the thousand. */
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

TEST("after a power cut, a kill, or a kill and a power cut, what was flushed "
     "is there, nothing is torn and nothing invented")
{
    uint64_t states = number_of("CRASH_STATES", 200);
    uint64_t seed = number_of("CRASH_SEED", 1);
    unsigned violations = 0;

    begin();
    for (uint64_t done = 0; done < states && violations < 3; seed++) {
        struct story story;

        begin_story(&story, seed);
        tell_story(&story, STATES_PER_STORY);
        violations += story.violations;
        if (story.violations > 0)
            printf("# CRASH_SEED=%" PRIu64 ": %u violations\n", seed,
                   story.violations);
        end_story(&story);
        done += STATES_PER_STORY;
    }
    CHECK(violations == 0);
    end();
}

/*
 * Break the device on purpose: these syncs do nothing.  Returns whether the
 * checker found out.
 */
static bool finds(const struct fault_calls *calls)
{
    uint64_t seed = number_of("CRASH_SEED", 1);
    bool found = false;

    begin();
    log_set_level(LOG_LEVEL_ERROR);
    for (unsigned done = 0; done < BUG_STATES && !found; seed++) {
        struct story story;

        begin_story(&story, seed);
        story.expects_violations = true;
        fault_swallow(calls);
        tell_story(&story, STATES_PER_STORY);
        found = story.violations > 0;
        end_story(&story);
        done += STATES_PER_STORY;
    }
    end();
    return found;
}

TEST("a device that does not sync its journal is found out")
{
    struct fault_calls calls = {FAULT_ANY_SYNC, "/journal/segment", 0};

    CHECK(finds(&calls));
}

TEST("a device that does not sync chunk files before the state log is found "
     "out")
{
    struct fault_calls calls = {FAULT_SYNC_DATA, "/chunk/", 0};

    CHECK(finds(&calls));
}

TEST("a device that does not sync its state log is found out")
{
    struct fault_calls calls = {FAULT_ANY_SYNC, "/state/", 0};

    CHECK(finds(&calls));
}

TEST("a device that does not sync the directories of its chunk files is found "
     "out")
{
    struct fault_calls calls = {FAULT_SYNC, "/chunk/", 0};

    CHECK(finds(&calls));
}
