/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * A chunk is written to, cut, uploaded, evicted, kept and distrusted, and loses
 * power at any file call, or is killed, goes on, and then loses power.  A later
 * start must show what was written, and if it has a checkpoint that waits for
 * the chunk, that must be uploaded as it was at its cut.
 *
 * CRASH_STATES   how many states, 200 by default
 * CRASH_SEED     where to begin, 1 by default; a failure says its own
 */
#include "unit/test.h"

#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "base/number.h"
#include "base/workers.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "cache/upload.h"
#include "support/crash_states.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "support/memory_store.h"

enum {
    CHUNK_SIZE = 256 << 10,
    CHUNK = 1, /* the one that all is done to */
    PAGES = CHUNK_SIZE / CACHE_PAGE,
    STEPS = 40, /* of a life */
    CUTS_MAX = 2 * STEPS,
    STATES_PER_LIFE = 25,
    BUG_STATES = 1500, /* until a deliberate bug must have been found */
};

static struct workers *workers, *fetchers;

/* The chunk's pages: what each was filled from; 0: zeros. */
struct content {
    uint64_t pages[PAGES];
};

/* A step that wrote to the chunk. */
struct written {
    size_t begun, ended; /* moments of the recording */
    struct content after;
};

/* One process's life. */
struct life {
    uint64_t seed;
    struct recording *recording;
    size_t opened; /* the moment when device_open returned */
    struct written written[STEPS + 1];
    unsigned written_count;
};

struct story {
    uint64_t seed;
    struct object_store *store;        /* has whatever was put ever */
    struct content cuts[CUTS_MAX + 1]; /* by the time of the checkpoint */
    unsigned cuts_count;
    uint64_t counter; /* of objects */
    unsigned states;
    unsigned violations;
    bool expects_violations; /* a deliberate bug: say nothing */
};

static bool say(const struct story *story, const char *what, int number)
{
    if (!story->expects_violations)
        printf("# %s (%d)\n", what, number);
    return false;
}

/* ---- the device ---------------------------------------------------------- */

/* Objects are all of the bucket that it sees: nobody else has the device. */
static int open_device(const struct story *story, const char *root,
                       struct device **ret_device)
{
    static char cache[PATH_MAX]; /* outlives the device; one is open */
    struct device_options options = {
        .name = "crash",
        .cachedir = cache,
        .size = 4 * CHUNK_SIZE,
        .chunk_size = CHUNK_SIZE,
        .journal_size = 1 << 20,
        .segment_size = 64 << 10,
        .workers = workers,
        .fetchers = fetchers,
    };
    int error;

    (void)snprintf(cache, sizeof(cache), "%s/cache", root);
    error = device_open(&options, ret_device);
    if (error != 0)
        return error;
    error = fetch_new(story->store, "crash", &(*ret_device)->fetch);
    (*ret_device)->reader.fetch = (*ret_device)->fetch;
    return error;
}

static void fill(unsigned char *page, uint64_t from)
{
    if (from == 0)
        memset(page, 0, CACHE_PAGE);
    else
        fixture_fill(page, CACHE_PAGE, from);
}

static int request(struct device *device, enum device_operation operation,
                   uint64_t page, uint64_t count, unsigned char *data)
{
    struct device_request request = {
        .operation = operation,
        .offset = (uint64_t)CHUNK * CHUNK_SIZE + page * CACHE_PAGE,
        .length = count * CACHE_PAGE,
        .data = data,
    };

    return device_run(device, &request);
}

/* Read the chunk; each page must be that of one of the two. */
static bool reads(const struct story *story, struct device *device,
                  const struct content *one, const struct content *other,
                  struct content *ret_is)
{
    static unsigned char plain[CHUNK_SIZE], expected[CACHE_PAGE];
    int error = request(device, DEVICE_READ, 0, PAGES, plain);

    if (error != 0)
        return say(story, "cannot be read", error);
    for (unsigned page = 0; page < PAGES; page++) {
        const unsigned char *is = plain + (size_t)page * CACHE_PAGE;

        fill(expected, one->pages[page]);
        ret_is->pages[page] = one->pages[page];
        if (memcmp(is, expected, CACHE_PAGE) == 0)
            continue;
        fill(expected, other->pages[page]);
        ret_is->pages[page] = other->pages[page];
        if (memcmp(is, expected, CACHE_PAGE) != 0)
            return say(story, "has another page", (int)page);
    }
    return true;
}

static bool is_pending(const struct catalog_entry *entry)
{
    return entry->generation != 0 && !catalog_entry_is_clean(entry);
}

/* ---- uploads ---- */

struct compared {
    const struct content *content;
    bool seen[PAGES / PAGES_PER_BLOCK];
    bool is_right;
};

static void compare(void *context, uint32_t block, const void *stored,
                    const void *plain)
{
    struct compared *compared = context;
    unsigned char expected[CACHE_PAGE];

    (void)stored;
    compared->seen[block] = true;
    for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
        fill(expected, compared->content->pages[block * PAGES_PER_BLOCK + i]);
        if (memcmp((const unsigned char *)plain + i * CACHE_PAGE, expected,
                   CACHE_PAGE) != 0)
            compared->is_right = false;
    }
}

/* Whether the object, and those it is based on, have this content. */
static bool object_has(const struct story *story,
                       const struct chunk_table *table,
                       const struct content *content)
{
    struct compared compared = {.content = content, .is_right = true};
    uint32_t blocks[PAGES / PAGES_PER_BLOCK];
    struct fetch *fetch;
    size_t count = 0;

    if (fetch_new(story->store, "crash", &fetch) != 0)
        abort();
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        if (table->blocks[i].base == BASE_OBJECT)
            blocks[count++] = i;
    }
    if (fetch_blocks(fetch, table, blocks, count, OBJECT_BACKGROUND, compare,
                     &compared) != 0)
        compared.is_right = false;
    fetch_free(fetch);
    for (unsigned page = 0; page < PAGES; page++) {
        if (content->pages[page] != 0 && !compared.seen[page / PAGES_PER_BLOCK])
            compared.is_right = false;
    }
    return compared.is_right;
}

/* Upload a state, look at its object, and have it recorded. */
static bool upload(struct story *story, struct device *device,
                   const struct catalog_entry *entry,
                   const struct content *content)
{
    const struct upload_context context = {
        .device_name = "crash",
        .store = story->store,
        .fetch = device->fetch,
        .chunk_dir = device->chunk_dir,
        .chunk_size = CHUNK_SIZE,
    };
    const struct upload_work work = {
        .chunk = CHUNK,
        .generation = entry->generation,
        .revision = entry->revision,
        .id = {1, 2, ++story->counter},
    };
    struct uploaded uploaded = {
        .chunk = CHUNK,
        .generation = entry->generation,
        .revision = entry->revision,
    };
    struct uploaded *list[] = {&uploaded};
    struct upload_result result;
    int error = upload_chunk(&context, &work, &result);
    bool good;

    if (error != 0)
        return say(story, "cannot be uploaded", error);
    error = upload_decode_table(result.table, result.table_size, &work,
                                CHUNK_SIZE, &uploaded.table);
    free(result.table);
    if (error != 0)
        return say(story, "has no table", error);
    good = object_has(story, uploaded.table, content) ||
           say(story, "was not uploaded as it was", 0);
    error = device_uploaded(device, list, 1);
    chunk_table_release(uploaded.table);
    return good && ((error == 0 && uploaded.error == 0) ||
                    say(story, "is not recorded", uploaded.error));
}

/* Upload what the open checkpoint waits for, if it does. */
static bool upload_pinned(struct story *story, struct device *device)
{
    struct state_facts facts;
    struct catalog_entry entry;

    state_log_facts(device->state_log, &facts);
    catalog_get(device->checkpoint_catalog, CHUNK, &entry);
    if (facts.phase == CHECKPOINT_FOLDING)
        return say(story, "is still being folded", 0);
    if (facts.phase == CHECKPOINT_NONE || !is_pending(&entry))
        return true;
    return upload(story, device, &entry,
                  &story->cuts[facts.checkpoint_time_ns]);
}

/* ---- a life -------------------------------------------------------------- */

static const struct content *newest(const struct life *life)
{
    return &life->written[life->written_count - 1].after;
}

/* Write to some pages, and fold. */
static bool write_some(struct life *life, struct device *device,
                       uint64_t random)
{
    static unsigned char data[CHUNK_SIZE];
    struct written *next = &life->written[life->written_count];
    uint64_t page = random % PAGES;
    uint64_t count = 1 + random / PAGES % (random % 3 == 0 ? PAGES : 6);
    bool is_zero = random / 64 % 4 == 0;
    int error;

    if (random / 256 % 8 == 0) {
        page = 0;
        count = PAGES;
    }
    if (count > PAGES - page)
        count = PAGES - page;
    next->begun = fault_record_position();
    next->ended = SIZE_MAX;
    next->after = *newest(life);
    for (uint64_t i = 0; i < count; i++) {
        next->after.pages[page + i] = is_zero ? 0 : random + i + 1;
        fill(data + i * CACHE_PAGE, next->after.pages[page + i]);
    }
    life->written_count++;
    error = is_zero ? request(device, DEVICE_ZERO, page, count, NULL)
                    : request(device, DEVICE_WRITE, page, count, data);
    if (error == 0)
        error = device_destage(device);
    next->ended = fault_record_position();
    return error == 0;
}

static bool cut(struct story *story, const struct life *life,
                struct device *device)
{
    struct state_facts facts;

    state_log_facts(device->state_log, &facts);
    if (facts.phase != CHECKPOINT_NONE || story->cuts_count == CUTS_MAX)
        return true;
    story->cuts[++story->cuts_count] = *newest(life);
    return device_checkpoint(device, story->cuts_count) == 0;
}

static bool end_checkpoint(struct device *device, bool is_image)
{
    const uint8_t record[STATE_RECORD_SIZE] = {0};
    struct catalog_entry entry;
    int error;

    catalog_get(device->checkpoint_catalog, CHUNK, &entry);
    error = is_image && !is_pending(&entry) ? device_published(device, record)
                                            : device_drop_checkpoint(device);
    return error == 0 || error == -ENOENT;
}

static bool upload_newest(struct story *story, const struct life *life,
                          struct device *device)
{
    struct catalog_entry entry;

    catalog_get(device->catalog, CHUNK, &entry);
    return !is_pending(&entry) || upload(story, device, &entry, newest(life));
}

/* Do without copies of some blocks, as if they were bad: no content is lost. */
static bool distrust_some(struct device *device, uint64_t random)
{
    struct bad_copy copies[PAGES / PAGES_PER_BLOCK];
    struct distrusted what = {.chunk = CHUNK, .copies = copies};
    struct chunk_table *table;
    struct chunk_file *file;
    int error = chunk_reader_open_file(&device->reader, CHUNK, &file, &table);

    if (error != 0)
        return error == -ESTALE; /* it has no file */
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        const struct chunk_block *block = &table->blocks[i];

        if (block->base != BASE_OBJECT || (random >> i & 1) == 0)
            continue;
        copies[what.count++] = (struct bad_copy){
            .block = i,
            .is_in_bucket = (random >> (32 + i) & 1) != 0,
            .as_read = *block,
            .id = table->objects[block->object].id,
        };
    }
    if (random >> 60 == 0 && table->objects_count > 0)
        what.table_of = &table->objects[table->objects_count - 1].id;
    error = device_distrust(device, &what);
    chunk_table_release(table);
    chunk_file_release(file);
    return error == 0 || error == -ESTALE || error == -EBUSY;
}

static bool take_step(struct story *story, struct life *life,
                      struct device *device, uint64_t random)
{
    const uint64_t chunk = CHUNK;
    struct content is;
    uint64_t freed;

    switch (random % 13) {
    case 0:
    case 1:
    case 2:
    case 3:
        return write_some(life, device, crash_random(random, 1));
    case 4:
        return cut(story, life, device);
    case 5:
    case 6:
        return upload_pinned(story, device);
    case 7:
        return upload_newest(story, life, device);
    case 8:
        return device_evict(device, &chunk, 1, EVICT_BLOCKS, &freed) == 0;
    case 9:
        return device_evict(device, &chunk, 1, EVICT_FILE, &freed) == 0;
    case 10: /* what is fetched is kept, at the latest by the next job */
        return reads(story, device, newest(life), newest(life), &is);
    case 11:
        return distrust_some(device, crash_random(random, 2));
    default:
        return end_checkpoint(device, random / 16 % 2 == 0);
    }
}

/* Live in root, where the chunk may have either content; recorded. */
static bool live(struct story *story, struct life *life, const char *root,
                 const struct content *one, const struct content *other)
{
    struct device *device;
    bool good;
    int error;

    fault_record_begin(root);
    error = open_device(story, root, &device);
    life->opened = fault_record_position();
    if (error != 0) {
        life->recording = fault_record_end();
        return say(story, "cannot be opened", error);
    }
    life->written_count = 1;
    life->written[0] = (struct written){0, 0, *one};
    good = reads(story, device, one, other, &life->written[0].after) &&
           device_destage(device) == 0;
    for (unsigned i = 0; good && i < STEPS; i++)
        good = take_step(story, life, device, crash_random(life->seed, i));
    life->recording = fault_record_end();
    good = device_close(device) == 0 && good;
    return good;
}

/* The contents, of which a page may be of either, at a moment of a life. */
static void contents_at(const struct life *life, size_t moment,
                        const struct content **ret_one,
                        const struct content **ret_other)
{
    unsigned last = 0;

    while (last + 1 < life->written_count &&
           life->written[last + 1].ended <= moment)
        last++;
    *ret_one = *ret_other = &life->written[last].after;
    if (last + 1 < life->written_count &&
        life->written[last + 1].begun <= moment)
        *ret_other = &life->written[last + 1].after;
}

/* ---- what a later start sees --------------------------------------------- */

/* Whether all is right in root, and the chunk can be worked on. */
static bool looks_right(struct story *story, const char *root,
                        const struct content *one, const struct content *other,
                        uint64_t seed)
{
    struct life life = {.seed = seed, .written_count = 1};
    struct device *device;
    int error = open_device(story, root, &device);
    struct content *is = &life.written[0].after;
    bool good;

    if (error != 0)
        return say(story, "cannot be opened", error);
    good = reads(story, device, one, other, is) &&
           device_destage(device) == 0 && reads(story, device, is, is, is);
    /* Before or after more is done to the chunk. */
    if (good && seed % 2 == 0)
        good = upload_pinned(story, device);
    for (unsigned i = 0; good && i < 4; i++)
        good = take_step(story, &life, device, crash_random(seed, i));
    good = good && upload_pinned(story, device) &&
           upload_newest(story, &life, device) &&
           reads(story, device, newest(&life), newest(&life), is);
    return device_close(device) == 0 && good;
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

/*
 * Cut the power at moments of a life before end.  Until a life was open
 * nothing new was durable: the contents are those it began with.
 */
static void cut_power(struct story *story, struct crash_disk *disk,
                      const struct life *life, size_t end,
                      const struct content *one, const struct content *other)
{
    char root[PATH_MAX];

    for (uint64_t i = 0; i < STATES_PER_LIFE; i++) {
        size_t moment = end * i / STATES_PER_LIFE;
        uint64_t seed = crash_random(life->seed, 1000 + i);
        const struct content *a = one, *b = other;

        if (moment >= life->opened)
            contents_at(life, moment, &a, &b);
        crash_disk_advance(disk, moment);
        make_dir(root, sizeof(root), "state");
        crash_disk_power_cut(disk, seed, root, NULL);
        story->states++;
        if (looks_right(story, root, a, b, seed))
            continue;
        story->violations++;
        if (!story->expects_violations)
            printf("# CRASH_SEED=%" PRIu64 ": power cut %zu of %zu, state "
                   "%" PRIu64 "\n",
                   story->seed, moment, life->recording->entries_count, seed);
    }
}

static void tell_story(struct story *story)
{
    static const struct content nothing;
    static struct life first, second;
    const struct content *one, *other;
    struct crash_disk *disk;
    char root[PATH_MAX];
    size_t moment;

    first = (struct life){.seed = crash_random(story->seed, 1)};
    second = (struct life){.seed = crash_random(story->seed, 2)};
    story->store = memory_store_new();
    story->cuts_count = 0;
    make_dir(root, sizeof(root), "root");
    make_dir(root, sizeof(root), "root/cache");
    (void)snprintf(root, sizeof(root), "%s/root", test_dir());
    if (!live(story, &first, root, &nothing, &nothing)) {
        story->violations++;
        recording_free(first.recording);
        story->store->close(story->store);
        return;
    }
    disk = crash_disk_new(first.recording);
    moment = first.opened + crash_random(story->seed, 3) %
                                (first.recording->entries_count - first.opened);
    cut_power(story, disk, &first, moment, &nothing, &nothing);
    crash_disk_advance(disk, moment);
    contents_at(&first, moment, &one, &other);
    make_dir(root, sizeof(root), "root");
    crash_disk_kill(disk, story->seed, root);
    story->states++;
    if (live(story, &second, root, one, other)) {
        crash_disk_continue(disk, second.recording);
        cut_power(story, disk, &second, second.recording->entries_count, one,
                  other);
    } else {
        story->violations++;
    }
    if (story->violations > 0 && !story->expects_violations)
        printf("# CRASH_SEED=%" PRIu64 "\n", story->seed);
    crash_disk_free(disk);
    recording_free(first.recording);
    recording_free(second.recording);
    story->store->close(story->store);
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t value = otherwise;

    if (text)
        (void)number_parse(text, 0, UINT64_MAX, &value);
    return value;
}

static bool begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    return CHECK(workers_start("workers", 2, &workers) == 0) &&
           CHECK(workers_start("fetchers", 2, &fetchers) == 0);
}

static void end(void)
{
    fault_reset();
    workers_stop(workers);
    workers_stop(fetchers);
}

TEST("a chunk survives power cuts and kills in all that is done to it")
{
    uint64_t states = number_of("CRASH_STATES", 200);
    struct story story = {.seed = number_of("CRASH_SEED", 1)};

    NEED(begin());
    fault_skip_syncs(true);
    for (; story.states < states && story.violations == 0; story.seed++)
        tell_story(&story);
    CHECK(story.violations == 0);
    end();
}

/* Whether stories in which these syncs are not done are found out. */
static bool bug_is_found(const struct fault_calls *bug)
{
    struct story story = {.seed = 1, .expects_violations = true};

    if (!begin())
        return false;
    fault_skip_syncs(true);
    fault_swallow(bug);
    for (; story.states < BUG_STATES && story.violations == 0; story.seed++)
        tell_story(&story);
    end();
    return story.violations > 0;
}

TEST("a table that is not synced before the commit is found out")
{
    struct fault_calls calls = {FAULT_SYNC_DATA, "/chunk/", 1};

    CHECK(bug_is_found(&calls));
}

TEST("a name that is not synced before the commit is found out")
{
    struct fault_calls calls = {FAULT_SYNC, "/chunk/00000000", 1};

    CHECK(bug_is_found(&calls));
}
