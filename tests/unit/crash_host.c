/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * A host is lost, with its cache directory, at any moment; what the bucket had
 * then is attached elsewhere, and must be the device exactly as it was at the
 * cut of the last image that was published.
 *
 * One thread writes, one request after the other, and all that it ever wrote
 * is known; so the state at a cut is that after some number of these requests,
 * and that number lies between what was answered when the checkpoint was asked
 * for and what was submitted when it was open.  Of the one that was in flight
 * at the cut, any part may be there, as after a power cut.
 *
 * The bucket is copied as a user would copy it while it is in use: epochs and
 * manifests first, and objects some requests later.
 *
 * CRASH_STATES   25 times as many as moments, 500 by default
 * CRASH_SEED     where to begin, 1 by default; a failure says its own
 */
#include "unit/test.h"

#include <inttypes.h>
#include <pthread.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/number.h"
#include "cache/state_log.h"
#include "support/crash_states.h"
#include "support/fault_file.h"
#include "support/lying_store.h"
#include "support/memory_store.h"
#include "support/moment_store.h"
#include "support/upload_host.h"

enum {
    DEVICE_SIZE = 4 << 20,
    CHUNKS = 16, /* of 256 KiB */
    SECTOR = 512,
    PAGE = 4096,
    PAGES = DEVICE_SIZE / PAGE,
    HOT = 32 << 10,
    WRITE_MAX = 96 << 10,
    WRITES_MAX = 4000,
    ROUNDS = 12,
    BURST = 50,  /* writes in a round */
    MOMENTS = 4, /* of a story */
};

/* ---- what is written ------------------------------------------------------
 */

enum kind { KIND_WRITE, KIND_ZERO, KIND_TRIM };

struct request {
    enum kind kind;
    uint64_t offset;
    uint64_t length;
};

/* A checkpoint: the cut lies after some number of requests in between. */
struct cut {
    uint64_t time_ns;
    size_t first, last;
};

struct story {
    uint64_t seed;
    uint64_t steps; /* of the dice */
    struct request *requests;
    atomic_size_t submitted, answered;
    size_t burst_end;
    struct cut cuts[ROUNDS + 2];
    unsigned cuts_count;
    bool is_open;                  /* a checkpoint is */
    _Atomic uint64_t published_ns; /* the cut of the last image */
    struct upload_host host;
    struct moment_store *moments;
    struct lying_store *lying; /* NULL: the store is honest */
};

static uint64_t roll(struct story *story, uint64_t below)
{
    return crash_random(story->seed, ++story->steps) % below;
}

/* The bytes that request number puts at offset, a multiple of 512. */
static void fill(size_t number, uint64_t offset, unsigned char *data,
                 uint64_t length)
{
    for (uint64_t i = 0; i < length; i += 8)
        put_le64(data + i, i % 64 == 0 ? crash_random(number + 1, offset + i)
                                       : number * 8191 + (offset + i) / 512);
}

/* Request number n of the story, wherever it is asked. */
static struct request request_at(const struct story *story, size_t n)
{
    uint64_t dice = crash_random(story->seed + 1000, n);
    uint64_t more = crash_random(story->seed + 2000, n);
    struct request request = {KIND_WRITE, 0, 0};

    /* Most go to a few pages, which each cut then has in another state. */
    if (dice % 4 != 0) {
        request.length = 512 * (1 + more % 16);
        request.offset = (dice >> 8) % ((HOT - 8192) / 512) * 512;
    } else {
        request.length = 512 * (1 + more % (WRITE_MAX / 512));
        request.offset = (dice >> 8) % ((DEVICE_SIZE - WRITE_MAX) / 512) * 512;
    }
    /* A part of a page would wait for the bucket, and may then fail. */
    if (story->lying != NULL) {
        request.offset = request.offset / PAGE * PAGE;
        request.length = (request.length + PAGE - 1) / PAGE * PAGE;
    }
    if (dice % 31 == 0)
        request.kind = KIND_ZERO;
    if (dice % 31 == 1) {
        request.kind = KIND_TRIM;
        request.offset = request.offset / 4096 * 4096;
        request.length = (more % 8 == 0 ? 64 : 1 + more % 16) * 4096;
        if (request.offset + request.length > DEVICE_SIZE)
            request.offset = DEVICE_SIZE - request.length;
    }
    return request;
}

static void apply(const struct story *story, size_t number,
                  unsigned char *content)
{
    const struct request *request = &story->requests[number];

    if (request->kind == KIND_WRITE)
        fill(number, request->offset, content + request->offset,
             request->length);
    else
        memset(content + request->offset, 0, request->length);
}

/*
 * Whether each sector is as before the request that is in flight, or as after
 * it, but for pages that could not be read.
 */
static bool is_either(const unsigned char *content, const unsigned char *before,
                      const unsigned char *after, const bool *is_lost)
{
    if (memcmp(content, before, DEVICE_SIZE) == 0)
        return true;
    for (size_t at = 0; at < DEVICE_SIZE; at += SECTOR) {
        if ((is_lost == NULL || !is_lost[at / PAGE]) &&
            memcmp(content + at, before + at, SECTOR) != 0 &&
            memcmp(content + at, after + at, SECTOR) != 0)
            return false;
    }
    return true;
}

/* Whether content is that after between first and last requests. */
static bool is_between(const struct story *story, const unsigned char *content,
                       const bool *is_lost, size_t first, size_t last)
{
    unsigned char *before = calloc(1, DEVICE_SIZE);
    unsigned char *after = calloc(1, DEVICE_SIZE);
    bool is_found = false;

    if (!CHECK(before != NULL && after != NULL))
        return false;
    for (size_t n = 0; n < first; n++) {
        apply(story, n, before);
        apply(story, n, after);
    }
    for (size_t n = first; n <= last && !is_found; n++) {
        if (n < last)
            apply(story, n, after);
        is_found = is_either(content, before, after, is_lost);
        if (n < last)
            apply(story, n, before);
    }
    free(before);
    free(after);
    return is_found;
}

static int run_request(struct story *story, size_t number)
{
    static unsigned char data[WRITE_MAX];
    const struct request *request = &story->requests[number];
    struct device_fixture *fixture = &story->host.fixture;

    switch (request->kind) {
    case KIND_WRITE:
        fill(number, request->offset, data, request->length);
        return fixture_write(fixture, request->offset, data, request->length,
                             0);
    case KIND_ZERO:
        return fixture_zero(fixture, request->offset, request->length, 0);
    case KIND_TRIM:
        return fixture_trim(fixture, request->offset, request->length);
    }
    return -EINVAL;
}

/* Write until the end of the burst. */
static void *write_burst(void *arg)
{
    struct story *story = arg;

    for (size_t n = atomic_load(&story->answered); n < story->burst_end; n++) {
        story->requests[n] = request_at(story, n);
        atomic_store(&story->submitted, n + 1);
        if (!CHECK(run_request(story, n) == 0))
            break;
        atomic_store(&story->answered, n + 1);
    }
    return NULL;
}

/* ---- the host that is lost ------------------------------------------------
 */

/* What an honest store never has fail; a lying one may. */
static bool went_well(const struct story *story, int error)
{
    if (error != 0 && !CHECK(story->lying != NULL))
        printf("# error %d\n", error);
    return error == 0;
}

static void begin_options(struct upload_host *host, const char *dir,
                          struct object_store *store)
{
    fixture_begin(&host->fixture, dir, false);
    host->fixture.options.size = DEVICE_SIZE;
    host->fixture.options.store = store;
    host->fixture.options.read_back_ns = 1;
}

/* Open, or go on after a kill; a lying store is asked until it is well. */
static bool open_host(struct story *story, bool is_kill)
{
    struct upload_host *host = &story->host;
    int error = -EAGAIN;

    for (unsigned i = 0; i < 100 && error != 0; i++) {
        if (host->fixture.device != NULL && is_kill)
            error = upload_host_crash(host);
        else if (CHECK(upload_host_close(host) == 0))
            error = upload_host_open(host);
        is_kill = false;
        if (error != 0 && !went_well(story, error) && story->lying == NULL)
            break;
        if (story->lying != NULL)
            (void)lying_store_land(story->lying, roll(story, 3));
    }
    return CHECK(error == 0);
}

static void cut(struct story *story)
{
    struct cut *cut = &story->cuts[story->cuts_count];

    cut->time_ns = 1000 + story->cuts_count;
    cut->first = atomic_load(&story->answered);
    /* Local alone: no lie keeps it from being made. */
    if (!CHECK(upload_host_checkpoint(&story->host, cut->time_ns) == 0))
        return;
    cut->last = atomic_load(&story->submitted);
    story->cuts_count++;
    story->is_open = true;
}

/* Some uploads, also of what should be evicted. */
static bool upload_some(struct story *story)
{
    struct upload_host *host = &story->host;
    uint64_t candidates[CHUNKS], count, max;
    bool is_well = true;

    if (roll(story, 2) == 0) {
        for (uint64_t i = 0; i < CHUNKS; i++)
            candidates[i] = (i * 7 + story->seed) % CHUNKS;
        CHECK(leases_set_candidates(host->leases, 0, 100, candidates, CHUNKS) ==
              0);
        is_well = went_well(story, upload_host_upload(host, LEASE_EVICTION,
                                                      roll(story, 4), &count));
    }
    max = roll(story, 2) == 0 ? UINT64_MAX : roll(story, CHUNKS);
    return is_well &&
           went_well(story,
                     upload_host_upload(host, LEASE_CHECKPOINT, max, &count));
}

static bool publish(struct story *story)
{
    struct lease_counts counts;
    bool is_new;
    int error;

    if (!story->is_open)
        return true;
    lease_count(story->host.leases, 0, 100, &counts);
    error = upload_host_publish(&story->host, &is_new);
    if (counts.waiting > 0)
        return CHECK(error == -EAGAIN);
    if (!went_well(story, error))
        return false;
    story->is_open = false;
    atomic_store(&story->published_ns,
                 story->cuts[story->cuts_count - 1].time_ns);
    return true;
}

/* What the device shows is what was written to it. */
static void check_own(struct story *story)
{
    unsigned char *content = malloc(DEVICE_SIZE);
    int error;

    if (!CHECK(content != NULL))
        return;
    do {
        error = upload_host_read(&story->host, content);
    } while (error != 0 && story->lying != NULL);
    CHECK(error == 0);
    CHECK(is_between(story, content, NULL, atomic_load(&story->answered),
                     atomic_load(&story->answered)));
    free(content);
}

/* Whether the checkpoint is still there after a restart. */
static void look_for_checkpoint(struct story *story)
{
    struct state_facts facts;

    state_log_facts(device_state_log(story->host.fixture.device), &facts);
    if (story->is_open && facts.phase == CHECKPOINT_NONE)
        atomic_store(&story->published_ns, facts.published_time_ns);
    story->is_open = facts.phase != CHECKPOINT_NONE;
}

static bool run_round(struct story *story)
{
    pthread_t writer;
    bool is_well;

    story->burst_end = atomic_load(&story->answered) + BURST;
    if (!CHECK(pthread_create(&writer, NULL, write_burst, story) == 0))
        return false;
    if (!story->is_open && roll(story, 4) != 0)
        cut(story);
    is_well = upload_some(story);
    (void)pthread_join(writer, NULL);
    if (is_well && roll(story, 2) == 0)
        CHECK(upload_host_evict(&story->host, story->steps,
                                roll(story, 2) == 0 ? EVICT_BLOCKS
                                                    : EVICT_FILE) == 0);
    is_well = is_well && publish(story);
    if (story->lying != NULL)
        (void)lying_store_land(story->lying, roll(story, 3));
    if (is_well && roll(story, 4) != 0)
        return true;
    /* A lying store has us pause; a new owner does not know of that. */
    if (!open_host(story, roll(story, 2) == 0))
        return false;
    look_for_checkpoint(story);
    if (roll(story, 3) == 0)
        check_own(story);
    return true;
}

/* ---- elsewhere ------------------------------------------------------------
 */

static const struct cut *find_cut(const struct story *story, uint64_t time_ns)
{
    for (unsigned i = 0; i < story->cuts_count; i++) {
        if (story->cuts[i].time_ns == time_ns)
            return &story->cuts[i];
    }
    return NULL;
}

/* Whether content is that of the image, but for what could not be read. */
static bool is_image(const struct story *story, const unsigned char *content,
                     const bool *is_lost, uint64_t time_ns)
{
    static const unsigned char zeros[DEVICE_SIZE];
    const struct cut *cut = find_cut(story, time_ns);

    if (time_ns == 0)
        return is_either(content, zeros, zeros, is_lost);
    return CHECK(cut != NULL) &&
           is_between(story, content, is_lost, cut->first, cut->last);
}

/* The newest image of a bucket; 0: there is none, or it cannot be read. */
static uint64_t newest_image(struct object_store *store)
{
    struct epoch_newest newest;

    if (epoch_read_newest(store, "disk", 0, &newest) != 0 || newest.count == 0)
        return 0;
    return newest.records[0].content_time_ns;
}

static bool begin_elsewhere(struct upload_host *host,
                            struct object_store *store, unsigned number)
{
    char dir[PATH_MAX];

    (void)snprintf(dir, sizeof(dir), "%s/elsewhere%u", test_dir(), number);
    if (!CHECK(mkdir(dir, 0700) == 0))
        return false;
    memset(host, 0, sizeof(*host));
    begin_options(host, dir, store);
    host->fixture.options.attach = DEVICE_ATTACH_TAKEOVER;
    return true;
}

/* It is a device like any other: written to, uploaded, evicted, read. */
static bool goes_on(struct upload_host *host, unsigned char *content,
                    unsigned char *room)
{
    const uint64_t offset = DEVICE_SIZE / 2;

    memset(content + offset, 0xe5, PAGE);
    return CHECK(fixture_write(&host->fixture, offset, content + offset, PAGE,
                               0) == 0) &&
           CHECK(upload_host_finish(host, 1) == 0) &&
           CHECK(upload_host_evict(host, 1, EVICT_FILE) == 0) &&
           CHECK(upload_host_read(host, room) == 0) &&
           CHECK(memcmp(content, room, DEVICE_SIZE) == 0);
}

/* Attach what is in the store in an empty directory: it must be the image. */
static bool is_exact_elsewhere(const struct story *story,
                               struct object_store *store, unsigned number,
                               uint64_t published_ns)
{
    unsigned char *content = malloc(DEVICE_SIZE), *room = malloc(DEVICE_SIZE);
    uint64_t time_ns = newest_image(store);
    struct upload_host host;
    bool is_right;

    /* What was published before the copy began is in it. */
    is_right = CHECK(content != NULL && room != NULL) &&
               begin_elsewhere(&host, store, number) &&
               CHECK(time_ns >= published_ns) &&
               CHECK(upload_host_open(&host) == 0) &&
               CHECK(upload_host_read(&host, content) == 0) &&
               CHECK(is_image(story, content, NULL, time_ns)) &&
               goes_on(&host, content, room);
    is_right = CHECK(upload_host_close(&host) == 0) && is_right;
    fixture_end(&host.fixture); /* and the store */
    free(content);
    free(room);
    return is_right;
}

/* ---- a bucket that spoils what it has -------------------------------------
 */

struct spoiling {
    struct object_store *from, *to;
    uint64_t seed;
    uint64_t keys;
};

/* object_store_each */
static int spoil_some(void *context, const char *key,
                      const struct object_info *info)
{
    struct spoiling *spoiling = context;
    unsigned char *data = malloc(info->size + 1);
    uint64_t dice = crash_random(spoiling->seed, ++spoiling->keys);

    if (!CHECK(data != NULL))
        return -ENOMEM;
    CHECK(spoiling->from->get(spoiling->from, key, 0, data, info->size,
                              OBJECT_BACKGROUND) == 0);
    if (dice % 8 == 0)
        data[(dice >> 8) % info->size] ^= (unsigned char)(1U << dice / 8 % 8);
    /* Now and then something is gone altogether. */
    if (dice % 23 != 1)
        CHECK(spoiling->to->put(spoiling->to, key, data, info->size, false) ==
              0);
    free(data);
    return 0;
}

/* Read all pages, one by one. */
static void read_pages(struct upload_host *host, unsigned char *content,
                       bool *is_lost)
{
    for (size_t page = 0; page < PAGES; page++) {
        int error = fixture_read(&host->fixture, page * PAGE,
                                 content + page * PAGE, PAGE);

        CHECK(error == 0 || error == -EIO);
        is_lost[page] = error != 0;
    }
}

/* What the store spoiled is an error; all else must be the image. */
static bool is_right_or_lost(const struct story *story,
                             struct object_store *store, unsigned number)
{
    struct object_store *spoiled = memory_store_new();
    struct spoiling spoiling = {store, spoiled, story->seed * 100 + number, 0};
    unsigned char *content = malloc(DEVICE_SIZE);
    bool *is_lost = calloc(PAGES, sizeof(*is_lost));
    struct upload_host host;
    bool is_right;

    is_right = CHECK(content != NULL && is_lost != NULL) &&
               CHECK(store->list(store, "", "", spoil_some, &spoiling) == 0) &&
               begin_elsewhere(&host, spoiled, number);
    store->close(store);
    if (is_right && upload_host_open(&host) == 0) {
        /* Which image that is, is told by what it was made of. */
        struct epoch_record record;

        read_pages(&host, content, is_lost);
        is_right =
            CHECK(claim_content(host.claim, &record) == 0) &&
            CHECK(is_image(story, content, is_lost, record.content_time_ns));
    }
    is_right = CHECK(upload_host_close(&host) == 0) && is_right;
    fixture_end(&host.fixture);
    free(content);
    free(is_lost);
    return is_right;
}

/* ---- stories --------------------------------------------------------------
 */

/* The store's requests of a story, guessed: where its moments lie. */
enum { REQUESTS = 150 };

static bool begin_story(struct story *story, uint64_t seed, unsigned lies)
{
    struct object_store *store;
    char dir[PATH_MAX];

    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true); /* the power stays on */
    memset(story, 0, sizeof(*story));
    story->seed = seed;
    story->requests = calloc(WRITES_MAX, sizeof(*story->requests));
    story->moments = moment_store_new(memory_store_new(), &story->published_ns);
    store = moment_store_of(story->moments);
    if (lies != 0) {
        story->lying = lying_store_new(store, seed);
        store = lying_store_of(story->lying);
    }
    for (unsigned i = 0; i < MOMENTS; i++) {
        uint64_t first = 1 + roll(story, REQUESTS);

        moment_store_plan(story->moments, first, first + roll(story, 20));
    }
    (void)snprintf(dir, sizeof(dir), "%s/host", test_dir());
    if (!CHECK(story->requests != NULL) || !CHECK(mkdir(dir, 0700) == 0))
        return false;
    begin_options(&story->host, dir, store);
    if (!open_host(story, false))
        return false;
    if (lies != 0)
        lying_store_tell(story->lying, lies, 6);
    return true;
}

/* The host is not lost after all: what was begun is finished. */
static void finish_story(struct story *story)
{
    if (story->lying != NULL)
        lying_store_tell(story->lying, 0, 1);
    if (!open_host(story, true))
        return;
    look_for_checkpoint(story);
    check_own(story);
    if (story->is_open && CHECK(upload_host_finish(&story->host, 0) == 0)) {
        story->is_open = false;
        atomic_store(&story->published_ns,
                     story->cuts[story->cuts_count - 1].time_ns);
    }
    cut(story);
    CHECK(upload_host_finish(&story->host, 0) == 0);
    atomic_store(&story->published_ns,
                 story->cuts[story->cuts_count - 1].time_ns);
    if (story->lying != NULL)
        (void)lying_store_land(story->lying, SIZE_MAX);
}

static void end_story(struct story *story)
{
    CHECK(upload_host_close(&story->host) == 0);
    fixture_end(&story->host.fixture); /* and the stores */
    free(story->requests);
    test_remove_tree(AT_FDCWD, test_dir());
    (void)mkdir(test_dir(), 0700);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t number;

    return text && number_parse(text, 1, UINT32_MAX, &number) == 0 ? number
                                                                   : otherwise;
}

/* Tell all stories, of so many moments. */
static void tell(unsigned lies, bool is_spoiled)
{
    uint64_t moments = from_environment("CRASH_STATES", 500) / 25;
    uint64_t seed = from_environment("CRASH_SEED", 1);
    static struct story story;

    for (uint64_t told = 0; told < moments; told += MOMENTS, seed++) {
        bool is_right = begin_story(&story, seed, lies);

        for (unsigned i = 0; i < ROUNDS && is_right; i++)
            is_right = run_round(&story);
        if (is_right)
            finish_story(&story);
        moment_store_finish(story.moments);
        for (unsigned i = 0; i < MOMENTS && is_right; i++) {
            uint64_t published_ns;
            struct object_store *copy =
                moment_store_take(story.moments, i, &published_ns);

            is_right = is_spoiled
                           ? is_right_or_lost(&story, copy, i)
                           : is_exact_elsewhere(&story, copy, i, published_ns);
        }
        end_story(&story);
        if (!is_right || atomic_load(&test_has_failed)) {
            printf("# CRASH_SEED=%" PRIu64 "\n", seed);
            return;
        }
    }
}

TEST("a host that is lost leaves the device as it was at the last image's cut")
{
    log_open("crash_host", LOG_TARGET_STDERR, LOG_LEVEL_ERROR);
    tell(0, false);
}

TEST("so it is if puts fail, lose their answer, land late, ignore conditions")
{
    tell(1U << LIE_FAILS | 1U << LIE_LOST | 1U << LIE_LATE |
             1U << LIE_OVERRULED,
         false);
}

TEST("what the bucket spoiled or lost is an error, and all else as it was")
{
    tell(0, true);
}
