/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * A device and its owner do all that a device does in a bucket: claim, upload,
 * publish, evict, read what is cold, name images, drop and roll back to them,
 * condemn and delete, release.  At any file call the power goes, or the process
 * is killed, lives on and then loses power; the bucket is as it was then, and
 * what was under way may still come.
 *
 * The next start must show what the model says, go on with the checkpoint,
 * upload nothing again that was recorded, and publish what the device was at
 * the cut.  When it has then collected garbage, and evicted all it can, every
 * image that is kept and the device itself must be there, to the byte.
 *
 * CRASH_STATES   twice as many as there are states, 200 by default
 * CRASH_SEED     where to begin, 1 by default; a failure says its own
 */
#include "unit/test.h"

#include <inttypes.h>

#include "base/log.h"
#include "base/number.h"
#include "cache/catalog.h"
#include "cache/claim.h"
#include "cache/control_message.h"
#include "cache/owner.h"
#include "cache/snapshot.h"
#include "cache/state_log.h"
#include "support/bucket.h"
#include "support/crash_states.h"
#include "support/device_fixture.h"
#include "support/device_model.h"
#include "support/fault_file.h"
#include "support/timed_store.h"
#include "support/workload.h"

enum {
    DEVICE_SIZE = 4 << 20,
    CHUNK_SIZE = 256 << 10,
    CHUNKS = DEVICE_SIZE / CHUNK_SIZE,
    HOLDER = 7,
    ROUNDS = 6,
    CUTS_MAX = 64,
    ERAS_MAX = 16,
    UPLOADS_MAX = 4096,
    NAME_MAX_LEN = 32,
    STATES_PER_STORY = 25,
    BUG_STATES = 1000, /* until a deliberate bug must have been found */
};

/* ---- a host ---------------------------------------------------------------
 */

struct host {
    struct device_fixture fixture;
    struct owner *owner;
};

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
static void begin_host(struct host *host, const char *root,
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
    host->fixture.options.chunk_size = CHUNK_SIZE;
    host->fixture.options.journal_size = 512 << 10;
    host->fixture.options.block_cache_size = 256 << 10;
    host->fixture.options.cachesize = 64 << 20;
    host->fixture.options.store = store;
    host->fixture.options.read_back_ns = 1;
}

static int open_host(struct host *host)
{
    struct owner_options options = {
        .store = host->fixture.options.store,
        .limits = {.cachesize = host->fixture.options.cachesize,
                   .keep = 1,
                   .grace_ns = 1,
                   .uploads = 1},
    };
    int error = fixture_open(&host->fixture);

    options.device = host->fixture.device;
    return error != 0 ? error : owner_start(&options, &host->owner);
}

static int close_host(struct host *host)
{
    owner_stop(host->owner);
    host->owner = NULL;
    return fixture_close(&host->fixture);
}

/* Close it; the store goes on. */
static bool end_host(struct host *host)
{
    int error = close_host(host);

    host->fixture.options.store = NULL;
    fixture_end(&host->fixture);
    return error == 0;
}

/* Ask the owner.  Returns the negative errno of an answer "error". */
static int ask(struct host *host, struct control_message *request,
               struct control_message *ret_reply)
{
    uint64_t number = 0;
    int error = owner_handle(host->owner, request, HOLDER, ret_reply);

    control_message_clear(request);
    if (error != 0) {
        control_message_start_error(ret_reply, error, "%s", "");
        return error;
    }
    if (!control_message_is(ret_reply, "error"))
        return 0;
    (void)control_message_get_number(ret_reply, "errno", 1, 4096, &number);
    return -(int)number;
}

/* Ask with one key, and have the number of another one of the reply. */
static int ask_for(struct host *host, const char *verb, const char *key,
                   const char *value, const char *number, uint64_t *ret_number)
{
    struct control_message request, reply;
    int error;

    control_message_start(&request, verb);
    if (key != NULL)
        control_message_add(&request, key, value);
    error = ask(host, &request, &reply);
    if (error == 0 && number != NULL)
        error = control_message_get_number(&reply, number, 0, UINT64_MAX,
                                           ret_number);
    control_message_clear(&reply);
    return error;
}

static int tell(struct host *host, const char *verb, const char *name)
{
    return ask_for(host, verb, name != NULL ? "name" : NULL, name, NULL, NULL);
}

/* Take a lease.  Returns 1, 0 if there is none, or an error. */
static int take_lease(struct host *host, const char *purpose,
                      struct control_lease *ret_lease)
{
    struct control_message request, reply;
    int result;

    do {
        control_message_start(&request, "lease");
        control_message_add(&request, "purpose", purpose);
        result = ask(host, &request, &reply);
        if (result == 0 && control_message_is(&reply, "ok")) {
            result = control_lease_decode(&reply, ret_lease);
            result = result == 0 ? 1 : result;
        } else if (result == 0 && control_message_is(&reply, "wait")) {
            result = -EAGAIN;
        }
        control_message_clear(&reply);
    } while (result == -EAGAIN);
    return result;
}

static int do_lease(struct host *host, const struct control_lease *lease)
{
    struct device *device = host->fixture.device;
    struct upload_context context = {
        .device_name = device_name(device),
        .store = host->fixture.options.store,
        .fetch = device_fetch(device),
        .chunk_dir = device_chunk_dir(device),
        .chunk_size = device_chunk_size(device),
    };
    struct control_report report = {.lease = lease->lease};
    struct control_message request, reply;
    int error;

    report.error = upload_chunk(&context, &lease->work, &report.result);
    control_report_encode(&report, &request);
    error = ask(host, &request, &reply);
    control_message_clear(&reply);
    return report.error != 0 ? report.error : error;
}

static int evict(struct host *host, uint64_t seed, enum evict_depth depth)
{
    uint64_t chunks[CHUNKS], count = 0, freed;

    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        if (seed == 0 || crash_random(seed, chunk) % 2 == 0)
            chunks[count++] = chunk;
    }
    return device_evict(host->fixture.device, chunks, count, depth, &freed);
}

static struct state_facts facts_of(struct host *host)
{
    struct state_facts facts;

    state_log_facts(device_state_log(host->fixture.device), &facts);
    return facts;
}

/* ---- a life ---------------------------------------------------------------
 */

/* What the device was at a checkpoint's cut. */
struct cut {
    uint64_t time_ns;
    unsigned char *content;
    size_t begun, opened; /* moments: asked for; answered */
    size_t ending;        /* from here on it may be published, or dropped */
};

/* From a rollback to the next. */
struct era {
    struct device_model *model;
    unsigned char *base;
    size_t begun, ended; /* the rollback: asked for; answered */
};

/* An upload that was recorded. */
struct uploaded_state {
    uint64_t chunk, generation;
    size_t moment;
};

/* One process's life, or that of several after restarts in order. */
struct life {
    struct recording *recording;
    size_t opened; /* moment: it was open for the first time */
    struct cut cuts[CUTS_MAX];
    unsigned cuts_count;
    bool has_open_cut; /* the last one */
    struct era eras[ERAS_MAX];
    unsigned eras_count;
    struct uploaded_state uploads[UPLOADS_MAX];
    unsigned uploads_count;
};

struct story {
    uint64_t seed;
    struct object_store *store, *second_store;
    struct life first, second;
    size_t kill_cut; /* the moment of the first that the second follows */
    unsigned char *content, *other;
    unsigned names;
    unsigned violations;
    bool expects_violations; /* a deliberate bug: say nothing */
};

static FILE *report_of(const struct story *story)
{
    return story->expects_violations ? NULL : stdout;
}

static bool say(const struct story *story, const char *what, int64_t number)
{
    if (!story->expects_violations)
        printf("# %s (%" PRId64 ")\n", what, number);
    return false;
}

static bool went_well(const struct story *story, const char *what, int error)
{
    return error == 0 || say(story, what, error);
}

static unsigned char *copy_content(const unsigned char *content)
{
    unsigned char *copy = malloc(DEVICE_SIZE);

    if (copy == NULL)
        abort();
    memcpy(copy, content, DEVICE_SIZE);
    return copy;
}

static struct cut *find_cut(struct life *life, uint64_t time_ns)
{
    for (unsigned i = 0; i < life->cuts_count; i++) {
        if (life->cuts[i].time_ns == time_ns)
            return &life->cuts[i];
    }
    return NULL;
}

/* What a life does, and with what. */
struct worker {
    struct story *story;
    struct life *life;
    struct host *host;
    struct workload work;
    uint64_t steps;
};

static uint64_t roll(struct worker *worker, uint64_t below)
{
    return crash_random(worker->work.seed + 77, ++worker->steps) % below;
}

/* A new model begins, with the content that is there. */
static void begin_era(struct worker *worker, uint32_t first_number,
                      const unsigned char *base, size_t begun)
{
    struct era *era = &worker->life->eras[worker->life->eras_count++];

    if (worker->life->eras_count > ERAS_MAX)
        abort();
    era->model = model_new(DEVICE_SIZE, base, first_number);
    era->base = base != NULL ? copy_content(base) : NULL;
    era->begun = begun;
    era->ended = fault_record_position();
    worker->work.model = era->model;
}

/* The open checkpoint may be published from the moment on, if no chunk of it
 * is left. */
static bool note_ending(struct worker *worker, size_t moment)
{
    struct life *life = worker->life;
    uint64_t left = 0;
    size_t *ending;

    if (!life->has_open_cut)
        return true;
    if (!went_well(
            worker->story, "cannot ask for what is left",
            ask_for(worker->host, "progress", NULL, NULL, "left", &left)))
        return false;
    ending = &life->cuts[life->cuts_count - 1].ending;
    if (left > 0)
        *ending = SIZE_MAX;
    else if (*ending == SIZE_MAX)
        *ending = moment;
    return true;
}

static bool make_cut(struct worker *worker)
{
    struct life *life = worker->life;
    struct cut *cut = &life->cuts[life->cuts_count];
    struct story *story = worker->story;
    int error = workload_read(worker->host->fixture.device, worker->steps,
                              story->content);

    if (life->cuts_count == CUTS_MAX)
        abort();
    cut->begun = fault_record_position();
    if (error == 0)
        error = ask_for(worker->host, "checkpoint", NULL, NULL, "time_ns",
                        &cut->time_ns);
    cut->opened = fault_record_position();
    if (error != 0)
        return say(story, "cannot cut", error);
    if (cut->time_ns == 0) {
        /* All was in an image, or at once is. */
        struct epoch_record content;

        life->has_open_cut = false;
        if (tell(worker->host, "publish", NULL) != 0 ||
            claim_content(device_claim(worker->host->fixture.device),
                          &content) != 0)
            return say(story, "cannot cut", 0);
        cut->time_ns = content.content_time_ns;
        cut->ending = cut->begun;
    } else {
        life->has_open_cut = true;
    }
    if (find_cut(life, cut->time_ns) == NULL) { /* else it was found */
        cut->content = copy_content(story->content);
        life->cuts_count++;
    }
    return note_ending(worker, cut->begun);
}

/* After a start: go on with a checkpoint that is open. */
static bool join(struct worker *worker)
{
    worker->life->has_open_cut =
        facts_of(worker->host).phase != CHECKPOINT_NONE;
    return !worker->life->has_open_cut || make_cut(worker);
}

/* Whether somebody uploads what had been recorded already. */
static bool is_again(const struct life *life, const struct control_lease *lease,
                     size_t moment)
{
    for (unsigned i = 0; i < life->uploads_count; i++) {
        const struct uploaded_state *upload = &life->uploads[i];

        if (upload->chunk == lease->work.chunk &&
            upload->generation == lease->work.generation &&
            upload->moment <= moment)
            return true;
    }
    return false;
}

/* Upload some, and note when each was recorded. */
static bool upload(struct worker *worker, const char *purpose, uint64_t max)
{
    struct life *life = worker->life;
    struct control_lease lease;
    int result = 0;

    while (max-- > 0) {
        size_t begun = fault_record_position();

        result = take_lease(worker->host, purpose, &lease);
        if (result <= 0)
            break;
        if (is_again(life, &lease, SIZE_MAX))
            return say(worker->story, "uploaded again",
                       (int64_t)lease.work.chunk);
        result = do_lease(worker->host, &lease);
        if (result == -ESTALE && strcmp(purpose, "space") == 0) {
            result = 0; /* it was written to meanwhile */
            continue;
        }
        if (result != 0)
            break;
        if (life->uploads_count == UPLOADS_MAX)
            abort();
        life->uploads[life->uploads_count++] = (struct uploaded_state){
            lease.work.chunk, lease.work.generation, fault_record_position()};
        if (!note_ending(worker, begun))
            return false;
    }
    return went_well(worker->story, "cannot upload", result);
}

static bool publish(struct worker *worker)
{
    struct life *life = worker->life;
    uint64_t left = 0;

    if (!went_well(worker->story, "cannot publish",
                   ask_for(worker->host, "publish", NULL, NULL, "left", &left)))
        return false;
    life->has_open_cut = false;
    return left == 0 || say(worker->story, "not complete", (int64_t)left);
}

/* Some leave, cleaned for it or not, and some are read again. */
static bool evict_some(struct worker *worker)
{
    struct host *host = worker->host;
    struct control_message request, reply;
    unsigned char data[64 << 10];
    uint64_t reads = roll(worker, 6);
    int error = 0;

    if (roll(worker, 2) == 0) {
        error = evict(host, 1 + roll(worker, 1000),
                      roll(worker, 2) == 0 ? EVICT_BLOCKS : EVICT_FILE);
    } else {
        control_message_start(&request, "evict");
        control_message_add_number(&request, "above", 0);
        error = ask(host, &request, &reply);
        control_message_clear(&reply);
        if (error == 0 && !upload(worker, "space", roll(worker, 4)))
            return false;
    }
    while (error == 0 && reads-- > 0)
        error = fixture_read(&host->fixture,
                             roll(worker, DEVICE_SIZE / 4096 - 16) * 4096, data,
                             sizeof(data));
    return went_well(worker->story, "cannot evict and read", error);
}

/* The first snapshot, if there is one that was made by us. */
static int find_name(void *context, const struct snapshot *snapshot)
{
    struct snapshot *found = context;

    *found = *snapshot;
    return 1;
}

static bool first_snapshot(struct worker *worker, struct snapshot *ret_snapshot)
{
    return snapshot_list(worker->host->fixture.options.store, "disk", find_name,
                         ret_snapshot) == 1;
}

static bool name_image(struct worker *worker)
{
    char name[NAME_MAX_LEN];

    (void)snprintf(name, sizeof(name), "s%u", ++worker->story->names);
    return went_well(worker->story, "cannot name an image",
                     tell(worker->host, "snapshot", name));
}

static bool roll_back(struct worker *worker, const struct snapshot *snapshot)
{
    struct life *life = worker->life;
    struct control_message request, reply;
    const struct cut *cut = find_cut(life, snapshot->record.content_time_ns);
    uint32_t number = model_next_number(worker->work.model);
    size_t begun = fault_record_position();
    bool discard = life->has_open_cut || roll(worker, 2) == 0;
    int error;

    if (cut == NULL)
        return say(worker->story, "a snapshot of what was never cut", 0);
    if (life->has_open_cut && discard)
        life->cuts[life->cuts_count - 1].ending = begun;
    control_message_start(&request, "rollback");
    control_message_add(&request, "name", snapshot->name);
    if (discard)
        control_message_add_number(&request, "discard", 1);
    error = ask(worker->host, &request, &reply);
    control_message_clear(&reply);
    if (error == -ENOTEMPTY && !discard)
        return true;
    if (error != 0)
        return say(worker->story, "cannot roll back", error);
    life->has_open_cut = false;
    begin_era(worker, number, cut->content, begun);
    return true;
}

/* Something with images, besides making one. */
static bool tend_images(struct worker *worker)
{
    struct snapshot snapshot;
    uint64_t dice = roll(worker, 8);

    if (dice < 3)
        return name_image(worker);
    if (dice == 3)
        return went_well(worker->story, "cannot collect",
                         tell(worker->host, "collect", NULL));
    if (!first_snapshot(worker, &snapshot))
        return true;
    if (dice < 6)
        return went_well(worker->story, "cannot drop a snapshot",
                         tell(worker->host, "drop", snapshot.name));
    return roll_back(worker, &snapshot);
}

static bool restart(struct worker *worker)
{
    int error = close_host(worker->host);

    if (error == 0)
        error = open_host(worker->host);
    worker->work.device = worker->host->fixture.device;
    return went_well(worker->story, "cannot restart", error) && join(worker);
}

static bool do_round(struct worker *worker)
{
    bool is_good = true;

    workload_run(&worker->work, (unsigned)(1 + roll(worker, 3)));
    if (!worker->life->has_open_cut)
        is_good = make_cut(worker);
    is_good = is_good && upload(worker, "image", roll(worker, 6));
    workload_run(&worker->work, (unsigned)roll(worker, 3));
    is_good = is_good && evict_some(worker);
    if (is_good && roll(worker, 5) == 0)
        is_good = restart(worker);
    workload_run(&worker->work, (unsigned)roll(worker, 2));
    if (is_good && roll(worker, 5) != 0)
        is_good = upload(worker, "image", UINT64_MAX) && publish(worker);
    is_good = is_good && evict_some(worker);
    for (int i = 0; i < 2 && is_good && !worker->life->has_open_cut; i++)
        is_good = tend_images(worker);
    /* Only what is all in the bucket is released; a write claims again. */
    if (is_good && roll(worker, 4) == 0 &&
        tell(worker->host, "release", NULL) != 0 && roll(worker, 2) == 0)
        is_good = tell(worker->host, "collect", NULL) == 0;
    return is_good;
}

/* What an earlier life knows and this one rests on, as of a moment. */
static void inherit(struct life *life, const struct life *earlier, size_t cut)
{
    for (unsigned i = 0; i < earlier->cuts_count; i++) {
        struct cut *to = &life->cuts[life->cuts_count];

        if (earlier->cuts[i].begun > cut)
            break;
        *to = earlier->cuts[i];
        to->content = copy_content(to->content);
        to->begun = to->opened = to->ending = 0;
        life->cuts_count++;
    }
    for (unsigned i = 0; i < earlier->uploads_count; i++) {
        if (earlier->uploads[i].moment <= cut) {
            life->uploads[life->uploads_count] = earlier->uploads[i];
            life->uploads[life->uploads_count++].moment = 0;
        }
    }
}

static bool content_is_right(const struct story *story, const struct life *life,
                             const unsigned char *content,
                             enum model_crash crash, size_t moment);

/* Open root, work, and stop recording while it is open. */
static bool live(struct story *story, struct life *life, const char *root,
                 struct object_store *store)
{
    struct host host;
    struct worker worker = {.story = story, .life = life, .host = &host};
    uint32_t number = 1;
    bool is_good = true;

    worker.work.seed = story->seed * 2 + (life == &story->second);
    begin_host(&host, root, store);
    fault_record_begin(root);
    is_good = went_well(story, "cannot open", open_host(&host));
    life->opened = fault_record_position();
    worker.work.device = host.fixture.device;
    if (is_good && life == &story->second) {
        const struct life *first = &story->first;

        number = model_next_number(first->eras[first->eras_count - 1].model);
        is_good = workload_read(host.fixture.device, 1, story->content) == 0 &&
                  content_is_right(story, first, story->content, MODEL_KILL,
                                   story->kill_cut);
        is_good = is_good && join(&worker);
    }
    if (is_good)
        begin_era(&worker, number,
                  life == &story->second ? story->content : NULL, 0);
    for (unsigned i = 0; is_good && i < ROUNDS; i++)
        is_good = do_round(&worker);
    life->recording = fault_record_end();
    is_good = is_good && worker.work.failed == 0;
    return (end_host(&host) && is_good) || say(story, "cannot live", 0);
}

static void end_life(struct life *life)
{
    recording_free(life->recording);
    for (unsigned i = 0; i < life->cuts_count; i++)
        free(life->cuts[i].content);
    for (unsigned i = 0; i < life->eras_count; i++) {
        model_free(life->eras[i].model);
        free(life->eras[i].base);
    }
    memset(life, 0, sizeof(*life));
}

/* ---- a state --------------------------------------------------------------
 */

/* Whether the device may hold this, by the model; or by both, in between. */
static bool content_is_right(const struct story *story, const struct life *life,
                             const unsigned char *content,
                             enum model_crash crash, size_t moment)
{
    unsigned now = 0;

    for (unsigned i = 1; i < life->eras_count; i++)
        now = life->eras[i].begun <= moment ? i : now;
    if (now > 0 && moment < life->eras[now].ended) {
        if (memcmp(content, life->eras[now].base, DEVICE_SIZE) == 0)
            return true;
        now--;
    }
    return model_check(life->eras[now].model, content, crash, moment,
                       report_of(story));
}

/* A checkpoint that was open, and could not have ended, is there. */
static bool checkpoint_is_there(const struct story *story,
                                const struct life *life, struct host *host,
                                size_t moment)
{
    struct state_facts facts = facts_of(host);

    for (unsigned i = 0; i < life->cuts_count; i++) {
        const struct cut *cut = &life->cuts[i];

        if (cut->opened <= moment && moment < cut->ending &&
            (facts.phase == CHECKPOINT_NONE ||
             facts.checkpoint_time_ns != cut->time_ns))
            return say(story, "a checkpoint is lost", i);
    }
    return true;
}

/* An object_store's snapshots, each to be looked at. */
struct names {
    struct snapshot snapshots[CUTS_MAX];
    unsigned count;
};

static int add_name(void *context, const struct snapshot *snapshot)
{
    struct names *names = context;

    if (names->count == CUTS_MAX)
        return -E2BIG;
    names->snapshots[names->count++] = *snapshot;
    return 0;
}

/* Nothing that the newest image or a snapshot names is missing. */
static bool nothing_is_missing(const struct story *story,
                               struct object_store *store)
{
    struct epoch_newest newest;
    struct names names = {.count = 0};
    int error = epoch_read_newest(store, "disk", 0, &newest);

    if (error == 0)
        error = snapshot_list(store, "disk", add_name, &names);
    if (error != 0)
        return say(story, "cannot list images", error);
    if (newest.count > 0 && newest.records[0].root.size > 0 &&
        bucket_missing(store, "disk", &newest.records[0]) > 0)
        return say(story, "the newest image is not whole",
                   (int64_t)newest.records[0].epoch);
    for (unsigned i = 0; i < names.count; i++) {
        if (bucket_missing(store, "disk", &names.snapshots[i].record) > 0)
            return say(story, "a snapshot is not whole", i);
    }
    return true;
}

/* A snapshot, served from an empty directory, is what was cut. */
static bool snapshot_is_right(struct story *story, struct life *life,
                              struct object_store *store,
                              const struct snapshot *snapshot)
{
    const struct cut *cut = find_cut(life, snapshot->record.content_time_ns);
    char root[PATH_MAX], path[PATH_MAX];
    struct host host;
    int error;

    if (cut == NULL)
        return say(story, "a snapshot of what was never cut", 0);
    make_dir(root, sizeof(root), "elsewhere");
    make_dir(path, sizeof(path), "elsewhere/cache");
    begin_host(&host, root, store);
    host.fixture.options.name = "drill";
    host.fixture.options.image_device = "disk";
    host.fixture.options.image_name = snapshot->name;
    error = fixture_open(&host.fixture);
    if (error == 0)
        error = workload_read(host.fixture.device, 1, story->other);
    if (error == 0 && memcmp(story->other, cut->content, DEVICE_SIZE) != 0)
        error = -EBADMSG;
    return (end_host(&host) && error == 0) ||
           say(story, "a snapshot is not what was cut", error);
}

static bool snapshots_are_right(struct story *story, struct life *life,
                                struct object_store *store)
{
    struct names names = {.count = 0};
    bool is_right = snapshot_list(store, "disk", add_name, &names) == 0;

    for (unsigned i = 0; i < names.count && is_right; i++)
        is_right = snapshot_is_right(story, life, store, &names.snapshots[i]);
    return is_right;
}

/* Upload what is left, none of it twice, publish, and name the image. */
static bool finish_image(struct worker *worker, size_t moment, const char *name)
{
    struct story *story = worker->story;
    uint64_t left = 0;
    int result;

    for (;;) {
        struct control_lease lease;

        result = take_lease(worker->host, "image", &lease);
        if (result <= 0)
            break;
        if (is_again(worker->life, &lease, moment))
            return say(story, "what was recorded is uploaded again",
                       (int64_t)lease.work.chunk);
        result = do_lease(worker->host, &lease);
        if (result != 0)
            break;
    }
    if (result == 0)
        result = ask_for(worker->host, "publish", NULL, NULL, "left", &left);
    if (result == 0 && left > 0)
        result = -EAGAIN;
    if (result == 0)
        result = tell(worker->host, "snapshot", name);
    return went_well(story, "cannot finish an image", result);
}

/* What was begun goes on, and then it is a device like any other. */
static bool works_on(struct worker *worker, size_t moment)
{
    struct story *story = worker->story;
    struct host *host = worker->host;
    struct workload work = {
        .device = host->fixture.device,
        .model = model_new(DEVICE_SIZE, story->content, 1U << 30),
        .seed = moment,
    };
    bool is_good = true;

    if (facts_of(host).phase != CHECKPOINT_NONE)
        is_good = join(worker) && finish_image(worker, moment, "found");
    workload_run(&work, 2);
    is_good = is_good && work.failed == 0 && make_cut(worker) &&
              finish_image(worker, moment, "final") &&
              model_check(work.model, story->content, MODEL_NO_CRASH, 0,
                          report_of(story));
    model_free(work.model);
    return is_good;
}

/* After all that may be deleted is, and all that may leave has left. */
static bool is_all_there(struct worker *worker)
{
    struct story *story = worker->story;
    struct host *host = worker->host;
    int error = 0;

    for (unsigned i = 0; i < 3 && error == 0; i++)
        error = tell(host, "collect", NULL);
    if (error == 0)
        error = evict(host, 0, EVICT_FILE);
    if (error == 0 &&
        catalog_file_pages(device_catalog(host->fixture.device)) > 0)
        error = -EBUSY;
    if (error == 0)
        error = close_host(host); /* and with it what is in memory */
    if (error == 0)
        error = open_host(host);
    if (error == 0)
        error = workload_read(host->fixture.device, 2, story->other);
    if (error == 0 && memcmp(story->content, story->other, DEVICE_SIZE) != 0)
        error = -EBADMSG;
    return went_well(story, "not all is there", error) &&
           nothing_is_missing(story, host->fixture.options.store);
}

/* What is found in a state, life being what was cut at a moment. */
struct state {
    struct life *life;
    struct object_store *store;
    size_t moment;
    enum model_crash crash;
    bool is_between; /* requests to the bucket, before the next file call */
    uint64_t seed;
};

static bool examine(struct story *story, const struct state *state,
                    const char *root)
{
    struct life *life = state->life;
    size_t moment = state->moment;
    struct object_store *store =
        timed_store_at(state->store, moment, state->is_between, state->seed);
    struct host host;
    struct worker worker = {.story = story, .life = life, .host = &host};
    unsigned cuts = life->cuts_count;
    size_t ending = cuts > 0 ? life->cuts[cuts - 1].ending : 0;
    bool is_good;

    /* Until the second life was open nothing new was durable. */
    if (life == &story->second && moment < life->opened) {
        life = &story->first;
        moment = story->kill_cut;
    }
    begin_host(&host, root, store);
    is_good =
        nothing_is_missing(story, store) &&
        went_well(story, "cannot open", open_host(&host)) &&
        went_well(
            story, "cannot read",
            workload_read(host.fixture.device, state->seed, story->content)) &&
        content_is_right(story, life, story->content, state->crash, moment) &&
        checkpoint_is_there(story, life, &host, moment) &&
        works_on(&worker, state->moment) && is_all_there(&worker);
    is_good = end_host(&host) && is_good;
    is_good = is_good && snapshots_are_right(story, worker.life, store);
    store->close(store);
    /* What this one cut is forgotten. */
    life = worker.life;
    while (life->cuts_count > cuts)
        free(life->cuts[--life->cuts_count].content);
    if (cuts > 0)
        life->cuts[cuts - 1].ending = ending;
    return is_good;
}

static void judge(struct story *story, const struct state *state,
                  const char *root)
{
    const struct life *life = state->life;

    if (examine(story, state, root))
        return;
    story->violations++;
    if (story->expects_violations)
        return;
    printf("# CRASH_SEED=%" PRIu64 ": life %d, %s at %zu of %zu (open at %zu),"
           " state %" PRIu64 "\n",
           story->seed, life == &story->first ? 1 : 2,
           state->crash == MODEL_KILL ? "kill" : "power cut", state->moment,
           life->recording->entries_count, life->opened, state->seed);
    (void)fflush(stdout);
}

/* Any moment, or, as often, one near a sync, where mistakes are. */
static size_t choose_moment(const struct life *life, uint64_t dice)
{
    const struct recording *recording = life->recording;
    size_t at = dice / 4 % (recording->entries_count + 1);

    if (dice % 2 == 0)
        return at;
    while (at < recording->entries_count &&
           recording->entries[at].kind != RECORD_SYNC)
        at++;
    return at < recording->entries_count ? at + dice / 2 % 2 : at;
}

/*
 * Write into root what is left.  Between two requests to the bucket the next
 * file call cannot have begun.
 */
static void write_state(struct crash_disk *disk, const struct state *state,
                        const char *root)
{
    struct recording *recording = state->life->recording;
    size_t count = recording->entries_count;

    crash_disk_advance(disk, state->moment);
    if (state->is_between)
        recording->entries_count = state->moment;
    if (state->crash == MODEL_KILL)
        crash_disk_kill(disk, state->seed, root);
    else
        crash_disk_power_cut(disk, state->seed, root, NULL);
    recording->entries_count = count;
}

/* One state of the first life. */
static void crash_first(struct story *story, uint64_t seed, bool is_kill)
{
    struct crash_disk *disk = crash_disk_new(story->first.recording);
    struct state state = {
        .life = &story->first,
        .store = story->store,
        .moment = choose_moment(&story->first, crash_random(seed, 1)),
        .crash = is_kill ? MODEL_KILL : MODEL_POWER_CUT,
        .is_between = crash_random(seed, 2) % 2 == 0,
        .seed = seed,
    };
    char root[PATH_MAX];

    make_dir(root, sizeof(root), "state");
    write_state(disk, &state, root);
    crash_disk_free(disk);
    judge(story, &state, root);
}

static int compare_moments(const void *a, const void *b)
{
    const size_t *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

/* Kill the first life, live again, and cut the power some times. */
static void live_again(struct story *story, unsigned states)
{
    struct crash_disk *disk = crash_disk_new(story->first.recording);
    size_t moments[STATES_PER_STORY];
    char root[PATH_MAX];

    story->kill_cut =
        choose_moment(&story->first, crash_random(story->seed, 3));
    /* The device must have been made: see what is read of it first. */
    if (story->kill_cut < story->first.opened)
        story->kill_cut = story->first.opened;
    make_dir(root, sizeof(root), "second");
    crash_disk_advance(disk, story->kill_cut);
    crash_disk_kill(disk, story->seed, root);
    story->second_store =
        timed_store_at(story->store, story->kill_cut, false, story->seed);
    inherit(&story->second, &story->first, story->kill_cut);
    if (!live(story, &story->second, root, story->second_store)) {
        story->violations++;
        states = 0;
    } else {
        crash_disk_continue(disk, story->second.recording);
    }
    for (unsigned i = 0; i < states; i++)
        moments[i] =
            choose_moment(&story->second, crash_random(story->seed + 4, i));
    qsort(moments, states, sizeof(moments[0]), compare_moments);
    for (unsigned i = 0; i < states && story->violations == 0; i++) {
        struct state state = {
            .life = &story->second,
            .store = story->second_store,
            .moment = moments[i],
            .crash = MODEL_POWER_CUT,
            .is_between = i % 2 == 0,
            .seed = crash_random(story->seed + 5, i),
        };

        make_dir(root, sizeof(root), "state");
        write_state(disk, &state, root);
        judge(story, &state, root);
    }
    crash_disk_free(disk);
}

static unsigned tell_story(uint64_t seed, bool expects_violations)
{
    static struct story story;
    char root[PATH_MAX], path[PATH_MAX];

    memset(&story, 0, sizeof(story));
    story.seed = seed;
    story.store = timed_store_new();
    story.content = malloc(DEVICE_SIZE);
    story.other = malloc(DEVICE_SIZE);
    story.expects_violations = expects_violations;
    if (!story.content || !story.other)
        abort();
    make_dir(root, sizeof(root), "life");
    make_dir(path, sizeof(path), "life/cache");
    if (!live(&story, &story.first, root, story.store))
        story.violations++;
    for (unsigned i = 0; i < STATES_PER_STORY * 3 / 5 && story.violations == 0;
         i++)
        crash_first(&story, crash_random(seed + 2, i), i % 3 == 2);
    if (story.violations == 0)
        live_again(&story, STATES_PER_STORY * 2 / 5);
    if (story.violations > 0 && !expects_violations)
        printf("# CRASH_SEED=%" PRIu64 "\n", seed);
    end_life(&story.first);
    end_life(&story.second);
    story.store->close(story.store);
    if (story.second_store != NULL)
        story.second_store->close(story.second_store);
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
    log_open("crash_bucket", LOG_TARGET_STDERR, LOG_LEVEL_ERROR);
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    if (is_quiet && !freopen("/dev/null", "w", stderr))
        abort();
    fault_skip_syncs(true);
}

TEST("after a power cut or a kill at any file call nothing is lost here or in "
     "the bucket, and what was begun is finished, once")
{
    uint64_t states = number_of("CRASH_STATES", 200) / 2;
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

TEST("an owner that does not sync what it records is found out")
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
