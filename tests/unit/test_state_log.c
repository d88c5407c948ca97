/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/state_log.h"

#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "cache/cache_dir.h"
#include "cache/state_record.h"
#include "support/crash_states.h"
#include "support/fault_file.h"
#include "unit/test.h"

/* ---- a state, and what it must be ---------------------------------------- */

enum { CHUNKS = 1500, CHANGES_MAX = 200 };

/* What the state must be after a commit. */
struct model {
    uint64_t commit, journal_begin, last_generation;
    struct catalog_entry entries[CHUNKS];
    struct catalog_entry checkpoint[CHUNKS];
    struct state_facts facts;
};

struct state {
    struct cache_dir *dir;
    struct catalog *catalog, *checkpoint;
    struct state_log *log;
};

static uint64_t random_state;

static uint64_t next_random(uint64_t below)
{
    random_state = random_state * 6364136223846793005U + 1442695040888963407U;
    return (random_state >> 33) % below;
}

static void close_state(struct state *state)
{
    state_log_close(state->log);
    catalog_free(state->checkpoint);
    catalog_free(state->catalog);
    cache_dir_close(state->dir);
    memset(state, 0, sizeof(*state));
}

/* Open the state below path.  Returns what state_log_open said. */
static int open_state_at(const char *path, struct state *state, bool create,
                         bool read_only)
{
    int error;

    memset(state, 0, sizeof(*state));
    error = cache_dir_open(path, false, &state->dir);
    if (error == 0)
        error = catalog_new(CHUNKS, &state->catalog);
    if (error == 0)
        error = catalog_new(CHUNKS, &state->checkpoint);
    if (error == 0)
        error = state_log_open(state->dir, state->catalog, state->checkpoint,
                               create, read_only, &state->log);
    if (error < 0)
        close_state(state);
    return error;
}

static int open_state(struct state *state)
{
    return open_state_at(test_dir(), state, false, false);
}

static int write_superblock(const char *path, uint8_t id)
{
    struct superblock superblock = {.chunk_size = 8 << 20, .size = 1 << 30};
    struct cache_dir *dir = NULL;
    int error = cache_dir_open(path, false, &dir);

    memset(superblock.cachedir_id, id, UUID_SIZE);
    if (error == 0)
        error = cache_dir_write_superblock(dir, &superblock);
    cache_dir_close(dir);
    return error;
}

/* Begin an empty state; syncs are not done, which nothing here can see. */
static bool begin_state(struct state *state, struct model *model)
{
    fault_reset();
    fault_skip_syncs(true);
    random_state = 1;
    if (model)
        memset(model, 0, sizeof(*model));
    return CHECK(write_superblock(test_dir(), 1) == 0) &&
           CHECK(open_state_at(test_dir(), state, true, false) == 0);
}

static struct catalog_entry random_entry(uint64_t generation)
{
    struct catalog_entry entry;

    memset(&entry, 0, sizeof(entry));
    entry.generation = generation;
    entry.flags = (unsigned)next_random(6);
    entry.revision = (uint32_t)random_state;
    entry.published_generation = next_random(generation + 1);
    entry.file_pages = (uint32_t)next_random(5000);
    entry.objects_count = (unsigned)next_random(4);
    if (next_random(50) == 0)
        entry.objects_count = CHUNK_OBJECTS_MAX;
    if (entry.objects_count > 0)
        entry.uploaded_generation = next_random(generation + 1);
    for (unsigned i = 0; i < entry.objects_count; i++) {
        entry.objects[i].id.epoch = next_random(1000);
        entry.objects[i].id.nonce = random_state;
        entry.objects[i].id.counter = random_state * 3;
        entry.objects[i].origin = (uint32_t)next_random(3);
        entry.objects[i].table_size = 4096;
        entry.objects[i].table_checksum = (uint32_t)random_state;
    }
    return entry;
}

static void fill_record(uint8_t record[STATE_RECORD_SIZE])
{
    memset(record, (int)next_random(256), STATE_RECORD_SIZE);
}

/* The model's chunks of the checkpoint become what the image says. */
static void publish_model(struct model *model)
{
    for (size_t chunk = 0; chunk < CHUNKS; chunk++) {
        struct catalog_entry *entry = &model->entries[chunk];
        const struct catalog_entry *said = &model->checkpoint[chunk];
        bool is_hole = (said->flags & CATALOG_HOLE) != 0;

        if (said->generation == 0 || entry->generation == 0)
            continue;
        entry->published_generation = is_hole ? 0 : said->generation;
        if (is_hole && entry->flags == CATALOG_HOLE)
            memset(entry, 0, sizeof(*entry));
    }
}

/* The next step of a checkpoint, mostly another chunk of it. */
static void change_checkpoint(struct state_change *change, struct model *model)
{
    struct state_facts *facts = &model->facts;

    if (facts->phase == CHECKPOINT_NONE) {
        change->kind = STATE_CHECKPOINT_BEGIN;
        change->number = facts->checkpoint_position = next_random(1 << 30);
        change->time_ns = facts->checkpoint_time_ns = next_random(1 << 30);
        facts->phase = CHECKPOINT_FOLDING;
    } else if (next_random(5) > 0) {
        change->kind = STATE_CHECKPOINT_CHUNK;
        change->chunk = next_random(CHUNKS);
        if (next_random(5) > 0)
            change->entry = random_entry(1 + next_random(99));
        model->checkpoint[change->chunk] = change->entry;
        if (change->entry.generation > model->last_generation)
            model->last_generation = change->entry.generation;
    } else if (facts->phase == CHECKPOINT_FOLDING) {
        change->kind = STATE_CHECKPOINT_OPEN;
        facts->phase = CHECKPOINT_OPEN;
        facts->folded_position = facts->checkpoint_position;
    } else {
        bool is_published = next_random(3) > 0;

        change->kind = is_published ? STATE_CHECKPOINT_PUBLISHED
                                    : STATE_CHECKPOINT_DROPPED;
        if (is_published) {
            publish_model(model);
            facts->published_time_ns = facts->checkpoint_time_ns;
        }
        memset(model->checkpoint, 0, sizeof(model->checkpoint));
        facts->phase = CHECKPOINT_NONE;
        facts->checkpoint_position = facts->checkpoint_time_ns = 0;
    }
}

static void change_epoch(struct state_change *change, struct model *model)
{
    struct state_facts *facts = &model->facts;

    if (!facts->has_intent) {
        change->kind = STATE_EPOCH_INTENT;
        fill_record(change->record);
        memcpy(facts->intent, change->record, STATE_RECORD_SIZE);
        facts->has_intent = true;
        return;
    }
    change->kind = next_random(2) == 0 ? STATE_EPOCH_VOID : STATE_EPOCH_DECIDED;
    if (change->kind == STATE_EPOCH_DECIDED) {
        fill_record(change->record);
        memcpy(facts->epoch, change->record, STATE_RECORD_SIZE);
        facts->has_epoch = true;
    }
    memset(facts->intent, 0, STATE_RECORD_SIZE);
    facts->has_intent = false;
}

static void change_adoption(struct state_change *change, struct model *model)
{
    struct state_facts *facts = &model->facts;

    if (!facts->must_adopt) {
        change->kind = STATE_ADOPT;
        fill_record(change->record);
        memcpy(facts->adopt, change->record, STATE_RECORD_SIZE);
    } else {
        change->kind = STATE_ADOPTED;
        change->time_ns = facts->published_time_ns = next_random(1 << 30);
        memset(facts->adopt, 0, STATE_RECORD_SIZE);
    }
    facts->must_adopt = !facts->must_adopt;
}

/* A change of something else than a chunk or the begin of the journal. */
static void change_besides(struct state_change *change, struct model *model)
{
    uint64_t what = next_random(8);

    if (what == 0) {
        change->kind = STATE_COUNTER;
        change->number = model->facts.counter += next_random(1024);
    } else if (what == 1) {
        change_epoch(change, model);
    } else if (what == 2) {
        change_adoption(change, model);
    } else {
        change_checkpoint(change, model);
    }
}

/*
 * Commit count random changes.  The model is what it is to become, whether
 * that succeeds or not.
 */
static int commit_random(struct state *state, struct model *model, size_t count)
{
    struct state_change *changes = calloc(count + 1, sizeof(*changes));
    int error;

    CHECK(changes);
    for (size_t i = 0; i < count; i++) {
        uint64_t kind = next_random(10);

        if (next_random(4) == 0) {
            change_besides(&changes[i], model);
            continue;
        }
        changes[i].kind = kind == 0 ? STATE_JOURNAL_BEGIN : STATE_CHUNK;
        if (kind == 0) {
            changes[i].number = ++model->journal_begin;
            continue;
        }
        changes[i].chunk = next_random(CHUNKS);
        if (kind > 3)
            changes[i].entry = random_entry(++model->last_generation);
        model->entries[changes[i].chunk] = changes[i].entry;
    }
    model->commit++;
    error = state_log_commit(state->log, changes, count);
    free(changes);
    return error;
}

static bool entries_are_equal(const struct catalog_entry *a,
                              const struct catalog_entry *b)
{
    bool are_equal = a->generation == b->generation && a->flags == b->flags &&
                     a->uploaded_generation == b->uploaded_generation &&
                     a->revision == b->revision &&
                     a->published_generation == b->published_generation &&
                     a->file_pages == b->file_pages &&
                     a->objects_count == b->objects_count;

    for (unsigned i = 0; are_equal && i < a->objects_count; i++) {
        const struct chunk_object *x = &a->objects[i], *y = &b->objects[i];

        are_equal = x->id.epoch == y->id.epoch && x->id.nonce == y->id.nonce &&
                    x->id.counter == y->id.counter && x->origin == y->origin &&
                    x->table_size == y->table_size &&
                    x->table_checksum == y->table_checksum;
    }
    return are_equal;
}

static bool facts_are_equal(const struct state_facts *a,
                            const struct state_facts *b)
{
    return a->phase == b->phase &&
           a->checkpoint_position == b->checkpoint_position &&
           a->checkpoint_time_ns == b->checkpoint_time_ns &&
           a->folded_position == b->folded_position &&
           a->published_time_ns == b->published_time_ns &&
           a->counter == b->counter && a->has_epoch == b->has_epoch &&
           a->has_intent == b->has_intent && a->must_adopt == b->must_adopt &&
           memcmp(a->epoch, b->epoch, STATE_RECORD_SIZE) == 0 &&
           memcmp(a->intent, b->intent, STATE_RECORD_SIZE) == 0 &&
           memcmp(a->adopt, b->adopt, STATE_RECORD_SIZE) == 0;
}

static bool state_is(const struct state *state, const struct model *model)
{
    uint64_t mapped = 0, in_checkpoint = 0;
    struct state_facts facts;

    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        struct catalog_entry entry;

        catalog_get(state->catalog, chunk, &entry);
        if (!entries_are_equal(&entry, &model->entries[chunk]))
            return false;
        mapped += entry.generation > 0;
        catalog_get(state->checkpoint, chunk, &entry);
        if (!entries_are_equal(&entry, &model->checkpoint[chunk]))
            return false;
        in_checkpoint += entry.generation > 0;
    }
    state_log_facts(state->log, &facts);
    return facts_are_equal(&facts, &model->facts) &&
           catalog_count(state->catalog) == mapped &&
           catalog_count(state->checkpoint) == in_checkpoint &&
           state_log_last_commit(state->log) == model->commit &&
           state_log_journal_begin(state->log) == model->journal_begin &&
           state_log_last_generation(state->log) == model->last_generation;
}

/* Open, compare, close.  Returns what opening said; -EBADE: it differs. */
static int check_state(const struct model *model, bool read_only)
{
    struct state state;
    int error = open_state_at(test_dir(), &state, false, read_only);

    if (error == 0 && !state_is(&state, model))
        error = -EBADE;
    close_state(&state);
    return error;
}

/* ---- its files ----------------------------------------------------------- */

/* A file of the state, in memory. */
struct image {
    char name[64];
    size_t size;
    unsigned char *bytes;
};

static int open_file(const char *name, int flags)
{
    char path[PATH_MAX + 80];

    (void)snprintf(path, sizeof(path), "%s/state/%s", test_dir(), name);
    return open(path, flags | O_CLOEXEC, 0600);
}

static bool file_exists(const char *name)
{
    int fd = open_file(name, O_RDONLY);

    return fd >= 0 && close(fd) == 0;
}

static void save_image(const char *name, const struct image *image)
{
    int fd = open_file(name, O_WRONLY | O_CREAT | O_TRUNC);

    CHECK(fd >= 0);
    CHECK(pwrite(fd, image->bytes, image->size, 0) == (ssize_t)image->size);
    CHECK(close(fd) == 0);
}

static struct image load_image(const char *kind, uint64_t number)
{
    struct image image = {.size = 0};
    struct stat status;
    int fd;

    (void)snprintf(image.name, sizeof(image.name), "%s.%016" PRIx64, kind,
                   number);
    fd = open_file(image.name, O_RDONLY);
    if (!CHECK(fd >= 0) || !CHECK(fstat(fd, &status) == 0))
        return image;
    image.size = (size_t)status.st_size;
    image.bytes = malloc(image.size + 4096);
    CHECK(image.bytes &&
          pread(fd, image.bytes, image.size, 0) == status.st_size);
    (void)close(fd);
    return image;
}

static void remove_file(const char *name)
{
    char path[PATH_MAX + 80];

    (void)snprintf(path, sizeof(path), "%s/state/%s", test_dir(), name);
    CHECK(unlink(path) == 0);
}

/* Change one byte of the file in place. */
static void poke(const struct image *image, size_t at, unsigned char value)
{
    int fd = open_file(image->name, O_WRONLY);

    CHECK(fd >= 0 && pwrite(fd, &value, 1, (off_t)at) == 1);
    (void)close(fd);
}

/* Recompute the checksum of a file's first page. */
static void seal_header(struct image *image)
{
    put_le32(image->bytes + STATE_PAGE - 4,
             crc32c(0, image->bytes, STATE_PAGE - 4));
}

/* Make the snapshots and logs 2 and 3, with commits in each of the logs. */
static bool make_history(struct state *state, struct model *model,
                         struct model *before_last)
{
    if (!begin_state(state, model))
        return false;
    for (unsigned i = 0; i < 9; i++) {
        if (i == 3 || i == 6)
            CHECK(state_log_snapshot(state->log) == 0);
        if (before_last)
            *before_last = *model;
        CHECK(commit_random(state, model, 60) == 0);
    }
    return CHECK(state_is(state, model)) &&
           CHECK(!file_exists("log.0000000000000001")) &&
           CHECK(!file_exists("catalog.0000000000000001"));
}

/* ---- what is committed is there ------------------------------------------ */

TEST("a state that was begun is empty, now and after opening it again")
{
    static struct model model;
    struct state state;

    NEED(begin_state(&state, &model));
    CHECK(state_is(&state, &model));
    close_state(&state);
    CHECK(check_state(&model, false) == 0);
    CHECK(check_state(&model, true) == 0);
}

TEST("without a state there is none, unless it may be begun")
{
    static struct model model;
    struct state state;

    CHECK(open_state(&state) == -ENOENT); /* no superblock either */
    CHECK(write_superblock(test_dir(), 1) == 0);
    CHECK(open_state(&state) == -ENOENT);
    CHECK(open_state_at(test_dir(), &state, false, true) == -ENOENT);
    CHECK(open_state_at(test_dir(), &state, true, true) == -ENOENT);
    CHECK(open_state_at(test_dir(), &state, true, false) == 0);
    memset(&model, 0, sizeof(model));
    CHECK(commit_random(&state, &model, 10) == 0);
    close_state(&state);
    /* What is there is opened, not begun again. */
    CHECK(open_state_at(test_dir(), &state, true, false) == 0);
    CHECK(state_is(&state, &model));
    close_state(&state);
}

TEST("commits of any kind and size are there after opening again")
{
    static struct model model;
    struct state state;

    NEED(begin_state(&state, &model));
    CHECK(commit_random(&state, &model, 0) == 0);
    CHECK(commit_random(&state, &model, 1) == 0);
    CHECK(commit_random(&state, &model, 3000) == 0);
    CHECK(state_is(&state, &model));
    close_state(&state);
    CHECK(check_state(&model, false) == 0);
    CHECK(check_state(&model, true) == 0);
}

TEST("random commits, snapshots and openings agree with a model")
{
    static struct model model;
    struct state state;
    unsigned openings = 0;

    NEED(begin_state(&state, &model));
    for (unsigned i = 0; i < 400; i++) {
        uint64_t what = next_random(20);

        if (what == 0) {
            CHECK(state_log_snapshot(state.log) == 0);
        } else if (what < 3) {
            CHECK(state_is(&state, &model));
            close_state(&state);
            NEED(open_state(&state) == 0);
            CHECK(state_is(&state, &model));
            openings++;
        } else {
            CHECK(commit_random(&state, &model, next_random(CHANGES_MAX)) == 0);
        }
    }
    CHECK(openings > 10);
    CHECK(state_log_written(state.log) > 0);
    close_state(&state);
    CHECK(check_state(&model, false) == 0);
}

TEST("full logs follow each other, and two snapshots are kept")
{
    static struct model model;
    struct image image;
    struct state state;
    unsigned snapshots = 0, logs = 0, newest = 0;

    NEED(begin_state(&state, &model));
    /* 100 KB or so a commit, 1 MiB a log. */
    for (unsigned i = 0; i < 60; i++)
        CHECK(commit_random(&state, &model, 1500) == 0);
    for (unsigned i = 1; i < 30; i++) {
        char name[64];

        (void)snprintf(name, sizeof(name), "catalog.%016x", i);
        snapshots += file_exists(name);
        (void)snprintf(name, sizeof(name), "log.%016x", i);
        logs += file_exists(name);
        newest = file_exists(name) ? i : newest;
    }
    CHECK(snapshots == 2 && logs == 2);
    CHECK(!file_exists("log.new") && !file_exists("catalog.new"));
    CHECK(!file_exists("log.0000000000000003"));
    close_state(&state);
    CHECK(check_state(&model, false) == 0);
    image = load_image("log", newest);
    CHECK(image.size == 1 << 20);
    free(image.bytes);
}

TEST("a commit larger than a log makes the next log larger")
{
    enum { MANY = 60000 };
    struct state_change *changes = calloc(MANY, sizeof(*changes));
    static struct model model;
    struct state state;

    NEED(changes && begin_state(&state, &model));
    CHECK(commit_random(&state, &model, 50) == 0);
    for (size_t i = 0; i < MANY; i++) {
        struct catalog_entry *entry = &changes[i].entry;

        changes[i].kind = STATE_CHUNK;
        changes[i].chunk = i % CHUNKS;
        entry->generation = ++model.last_generation;
        entry->flags = CATALOG_FILE;
        model.entries[i % CHUNKS] = *entry;
    }
    model.commit++;
    CHECK(state_log_commit(state.log, changes, MANY) == 0);
    free(changes);
    CHECK(commit_random(&state, &model, 50) == 0);
    close_state(&state);
    CHECK(check_state(&model, true) == 0);
    CHECK(check_state(&model, false) == 0);
}

TEST("the highest generation is remembered when its chunk is a hole again")
{
    struct state_change change = {.kind = STATE_CHUNK, .chunk = 3};
    struct state state;

    NEED(begin_state(&state, NULL));
    change.entry.generation = 77;
    CHECK(state_log_commit(state.log, &change, 1) == 0);
    change.entry.generation = 0;
    CHECK(state_log_commit(state.log, &change, 1) == 0);
    close_state(&state);
    NEED(open_state(&state) == 0);
    CHECK(state_log_last_generation(state.log) == 77);
    CHECK(state_log_snapshot(state.log) == 0);
    close_state(&state);
    NEED(open_state(&state) == 0);
    CHECK(state_log_last_generation(state.log) == 77);
    CHECK(catalog_count(state.catalog) == 0);
    close_state(&state);
}

TEST("a snapshot without a commit since the last one writes nothing")
{
    static struct model model;
    struct state state;
    uint64_t written;

    NEED(begin_state(&state, &model));
    CHECK(commit_random(&state, &model, 5) == 0);
    CHECK(state_log_snapshot(state.log) == 0);
    written = state_log_written(state.log);
    CHECK(state_log_snapshot(state.log) == 0);
    CHECK(state_log_written(state.log) == written);
    close_state(&state);
}

TEST("a chunk past the end is refused, and the log goes on")
{
    static struct model model;
    struct state_change changes[2] = {{.kind = STATE_CHUNK, .chunk = 1},
                                      {.kind = STATE_CHUNK, .chunk = CHUNKS}};
    struct state state;

    NEED(begin_state(&state, &model));
    changes[0].entry = changes[1].entry = random_entry(9);
    CHECK(state_log_commit(state.log, changes, 2) == -EINVAL);
    CHECK(state_is(&state, &model));
    CHECK(commit_random(&state, &model, 5) == 0);
    close_state(&state);
    CHECK(check_state(&model, false) == 0);
}

TEST("a device that grew keeps its state, one that shrank is damaged")
{
    struct state_change change = {.kind = STATE_CHUNK, .chunk = CHUNKS - 1};
    struct state state;
    struct catalog *catalog = NULL, *checkpoint = NULL;

    NEED(begin_state(&state, NULL));
    change.entry = random_entry(9);
    CHECK(state_log_commit(state.log, &change, 1) == 0);
    for (int with_snapshot = 0; with_snapshot < 2; with_snapshot++) {
        if (with_snapshot)
            CHECK(state_log_snapshot(state.log) == 0);
        close_state(&state);
        NEED(cache_dir_open(test_dir(), false, &state.dir) == 0);
        CHECK(catalog_new(CHUNKS - 1, &catalog) == 0);
        CHECK(catalog_new(CHUNKS - 1, &checkpoint) == 0);
        CHECK(state_log_open(state.dir, catalog, checkpoint, false, false,
                             &state.log) == -EUCLEAN);
        catalog_free(checkpoint);
        catalog_free(catalog);
        CHECK(catalog_new(CHUNKS * 3, &state.catalog) == 0);
        CHECK(catalog_new(CHUNKS * 3, &state.checkpoint) == 0);
        CHECK(state_log_open(state.dir, state.catalog, state.checkpoint, false,
                             false, &state.log) == 0);
        CHECK(catalog_generation(state.catalog, CHUNKS - 1, NULL) == 9);
    }
    close_state(&state);
}

TEST("a change that makes no sense now is refused, with all beside it")
{
    static struct model model;
    struct state_change changes[3];
    struct state state;

    memset(changes, 0, sizeof(changes));
    changes[0].kind = STATE_CHUNK;
    changes[0].entry.generation = 7;
    changes[1].kind = STATE_CHECKPOINT_BEGIN;
    changes[2].kind = STATE_CHECKPOINT_PUBLISHED;
    NEED(begin_state(&state, &model));
    CHECK(state_log_commit(state.log, changes, 3) == -EINVAL);
    CHECK(state_is(&state, &model));
    changes[2].kind = STATE_CHECKPOINT_OPEN;
    CHECK(state_log_commit(state.log, changes, 3) == 0);
    model.commit = 1;
    model.last_generation = 7;
    model.entries[0].generation = 7;
    model.facts.phase = CHECKPOINT_OPEN;
    CHECK(state_is(&state, &model));
    close_state(&state);
    CHECK(check_state(&model, false) == 0);
}

enum { COMMITTERS = 4, COMMITS_EACH = 200 };

struct committer {
    struct state_log *log;
    uint64_t chunk; /* the one that it commits, again and again */
};

static void *commit_again_and_again(void *argument)
{
    struct committer *committer = argument;
    struct state_change change = {.kind = STATE_CHUNK,
                                  .chunk = committer->chunk};
    struct state_facts facts;

    for (uint64_t i = 1; i <= COMMITS_EACH; i++) {
        change.entry.generation = i;
        CHECK(state_log_commit(committer->log, &change, 1) == 0);
        if (i % 50 == 0)
            CHECK(state_log_snapshot(committer->log) == 0);
        state_log_facts(committer->log, &facts);
        CHECK(facts.phase == CHECKPOINT_NONE);
    }
    return NULL;
}

TEST("many threads commit, each commit is there once, after opening again too")
{
    static struct model model;
    struct committer committers[COMMITTERS];
    pthread_t threads[COMMITTERS];
    struct state state;

    NEED(begin_state(&state, &model));
    for (size_t i = 0; i < COMMITTERS; i++) {
        committers[i] = (struct committer){state.log, i};
        NEED(pthread_create(&threads[i], NULL, commit_again_and_again,
                            &committers[i]) == 0);
        model.entries[i].generation = COMMITS_EACH;
    }
    for (size_t i = 0; i < COMMITTERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    model.commit = COMMITTERS * COMMITS_EACH;
    model.last_generation = COMMITS_EACH;
    CHECK(state_is(&state, &model));
    close_state(&state);
    CHECK(check_state(&model, false) == 0);
}

TEST("who only reads changes no byte and cannot commit")
{
    static struct model model;
    struct image before[4], after[4];
    struct state state;
    static const char *const kinds[] = {"log", "log", "catalog", "catalog"};

    NEED(make_history(&state, &model, NULL));
    close_state(&state);
    for (size_t i = 0; i < 4; i++)
        before[i] = load_image(kinds[i], 2 + i % 2);
    poke(&before[1], before[1].size - 1, 1); /* a torn tail */
    poke(&before[3], before[3].size - 1, 1); /* a damaged snapshot */
    before[1].bytes[before[1].size - 1] = 1;
    before[3].bytes[before[3].size - 1] = 1;
    CHECK(open_state_at(test_dir(), &state, false, true) == 0);
    fault_fail(&(struct fault_calls){.kinds = FAULT_ANY_CHANGE, .nth = 1}, -EIO,
               true, 0);
    CHECK(state_is(&state, &model));
    CHECK(state_log_commit(state.log, NULL, 0) == -EROFS);
    CHECK(state_log_snapshot(state.log) == -EROFS);
    close_state(&state);
    CHECK(fault_count() == 0);
    for (size_t i = 0; i < 4; i++) {
        after[i] = load_image(kinds[i], 2 + i % 2);
        CHECK(after[i].size == before[i].size &&
              memcmp(after[i].bytes, before[i].bytes, after[i].size) == 0);
        free(before[i].bytes);
        free(after[i].bytes);
    }
    CHECK(!file_exists("log.0000000000000004"));
}

/* ---- torn commits -------------------------------------------------------- */

/* Where the groups of the log begin, one after the other; the end is last. */
static size_t find_groups(const struct image *image, size_t offsets[16])
{
    struct state_header header;
    struct state_group group;
    size_t count = 0, at = STATE_PAGE;

    CHECK(state_header_decode(image->bytes, STATE_FILE_LOG, &header) == 0);
    while (count < 15 &&
           state_group_decode(image->bytes + at, &header, &group) == 0) {
        offsets[count++] = at;
        at += state_group_file_size(group.size);
    }
    offsets[count] = at;
    return count;
}

TEST("a commit that is torn anywhere is cut off, and the next one takes over")
{
    static struct model model, before_last, next;
    struct state state;
    struct image image;
    size_t groups[16], count;

    NEED(make_history(&state, &model, &before_last));
    close_state(&state);
    image = load_image("log", 3);
    count = find_groups(&image, groups);
    NEED(count == 3);
    NEED(groups[3] - groups[2] >= (size_t)2 * STATE_PAGE);
    for (size_t sector = groups[2]; sector < groups[3]; sector += 512) {
        struct image torn = image;

        if (bytes_are_zero(image.bytes + sector, 512))
            continue;
        torn.bytes = malloc(image.size);
        memcpy(torn.bytes, image.bytes, image.size);
        memset(torn.bytes + sector, 0, 512);
        save_image(image.name, &torn);
        NEED(open_state(&state) == 0);
        CHECK(state_is(&state, &before_last));
        next = before_last;
        CHECK(commit_random(&state, &next, 1) == 0); /* shorter */
        close_state(&state);
        CHECK(check_state(&next, false) == 0);
        CHECK(open_state(&state) == 0);
        CHECK(commit_random(&state, &next, 2) == 0);
        close_state(&state);
        CHECK(check_state(&next, true) == 0);
        free(torn.bytes);
    }
    free(image.bytes);
}

TEST("nothing is overwritten before the first commit after a torn one")
{
    static struct model model, before_last;
    struct state state;
    struct image image, after;
    size_t groups[16];

    NEED(make_history(&state, &model, &before_last));
    close_state(&state);
    image = load_image("log", 3);
    NEED(find_groups(&image, groups) == 3);
    image.bytes[groups[2] + 70] ^= 1;
    save_image(image.name, &image);
    CHECK(check_state(&before_last, false) == 0);
    after = load_image("log", 3);
    CHECK(memcmp(image.bytes, after.bytes, image.size) == 0);
    /* So who knows better can still put it right. */
    image.bytes[groups[2] + 70] ^= 1;
    save_image(image.name, &image);
    CHECK(check_state(&model, false) == 0);
    free(image.bytes);
    free(after.bytes);
}

TEST("a damaged commit in front of another, even a torn one, is damage")
{
    static struct model model;
    struct state state;
    struct image image;
    size_t groups[16];

    NEED(make_history(&state, &model, NULL));
    close_state(&state);
    image = load_image("log", 3);
    NEED(find_groups(&image, groups) == 3);
    poke(&image, groups[1] + 100, image.bytes[groups[1] + 100] ^ 4);
    CHECK(open_state(&state) == -EUCLEAN);
    CHECK(open_state_at(test_dir(), &state, false, true) == -EUCLEAN);
    /* The last group is torn besides: its head is evidence enough. */
    poke(&image, groups[2] + 100, image.bytes[groups[2] + 100] ^ 4);
    CHECK(open_state(&state) == -EUCLEAN);
    free(image.bytes);
}

/* ---- damage -------------------------------------------------------------- */

TEST("any byte changed in the newest log never gives a wrong state")
{
    static struct model model, before_last;
    struct state state;
    struct image image;
    size_t groups[16], wrong = 0;

    NEED(make_history(&state, &model, &before_last));
    close_state(&state);
    image = load_image("log", 3);
    NEED(find_groups(&image, groups) == 3);
    for (size_t at = 0; at < image.size;
         at += at < groups[3] + 8192 ? 7 : 40009) {
        poke(&image, at, image.bytes[at] ^ (unsigned char)(1U << at % 8));
        if (at < groups[2])
            wrong += open_state_at(test_dir(), &state, false, true) != -EUCLEAN;
        else
            wrong +=
                check_state(at < groups[3] ? &before_last : &model, true) != 0;
        poke(&image, at, image.bytes[at]);
    }
    CHECK(wrong == 0);
    CHECK(check_state(&model, false) == 0);
    free(image.bytes);
}

TEST("any byte changed in the newest snapshot leaves the state as it was")
{
    static struct model model;
    struct state state;
    struct image image;
    size_t wrong = 0;

    NEED(make_history(&state, &model, NULL));
    close_state(&state);
    image = load_image("catalog", 3);
    for (size_t at = 0; at < image.size; at += at < 3 * STATE_PAGE ? 13 : 101) {
        poke(&image, at, image.bytes[at] ^ (unsigned char)(1U << at % 8));
        wrong += check_state(&model, true) != 0;
        poke(&image, at, image.bytes[at]);
    }
    CHECK(wrong == 0);
    free(image.bytes);
}

TEST("any byte changed in the older snapshot and log does not matter")
{
    static struct model model;
    struct state state;
    struct image images[2];

    NEED(make_history(&state, &model, NULL));
    close_state(&state);
    images[0] = load_image("catalog", 2);
    images[1] = load_image("log", 2);
    for (size_t i = 0; i < 2; i++) {
        for (size_t at = 0; at < 4 * STATE_PAGE; at += 1009) {
            poke(&images[i], at, (unsigned char)~images[i].bytes[at]);
            CHECK(check_state(&model, true) == 0);
        }
        free(images[i].bytes);
    }
}

TEST("a damaged or lost newest snapshot is replaced at once")
{
    static struct model model;

    for (int is_lost = 0; is_lost < 2; is_lost++) {
        struct state state;
        struct image image, fresh;

        NEED(make_history(&state, &model, NULL));
        close_state(&state);
        image = load_image("catalog", 3);
        if (is_lost)
            remove_file(image.name);
        else
            poke(&image, 5000, (unsigned char)~image.bytes[5000]);
        NEED(open_state(&state) == 0);
        CHECK(state_is(&state, &model));
        /* The good one before it is kept beside the new one. */
        CHECK(file_exists("catalog.0000000000000002"));
        CHECK(file_exists("catalog.0000000000000004"));
        CHECK(commit_random(&state, &model, 20) == 0);
        close_state(&state);
        CHECK(check_state(&model, false) == 0);
        /* And is good enough for the loss of the new one. */
        fresh = load_image("catalog", 4);
        poke(&fresh, 0, (unsigned char)~fresh.bytes[0]);
        CHECK(check_state(&model, true) == 0);
        CHECK(check_state(&model, false) == 0);
        free(fresh.bytes);
        free(image.bytes);
        test_remove_tree(AT_FDCWD, test_dir());
        CHECK(mkdir(test_dir(), 0700) == 0);
    }
}

TEST("the first snapshot can be done without: the log has it all")
{
    static struct model model;
    struct state state;
    struct image image;

    NEED(begin_state(&state, &model));
    CHECK(commit_random(&state, &model, 50) == 0);
    close_state(&state);
    image = load_image("catalog", 1);
    poke(&image, 4100, 1);
    CHECK(check_state(&model, true) == 0);
    remove_file(image.name);
    CHECK(check_state(&model, true) == 0);
    CHECK(check_state(&model, false) == 0);
    CHECK(check_state(&model, false) == 0);
    free(image.bytes);
}

TEST("with both snapshots damaged the state is, and not empty")
{
    static struct model model;
    struct state state;
    struct image images[2];

    NEED(make_history(&state, &model, NULL));
    close_state(&state);
    for (size_t i = 0; i < 2; i++) {
        images[i] = load_image("catalog", 2 + i);
        poke(&images[i], 5000, (unsigned char)~images[i].bytes[5000]);
    }
    CHECK(open_state(&state) == -EUCLEAN);
    CHECK(open_state_at(test_dir(), &state, true, false) == -EUCLEAN);
    for (size_t i = 0; i < 2; i++) {
        remove_file(images[i].name);
        free(images[i].bytes);
    }
    CHECK(open_state_at(test_dir(), &state, true, false) == -EUCLEAN);
}

TEST("a missing log is damage, unless nothing that is read needs it")
{
    static struct model model;
    struct state state;
    struct image log2, log3, catalog3;

    NEED(make_history(&state, &model, NULL));
    close_state(&state);
    log2 = load_image("log", 2);
    log3 = load_image("log", 3);
    catalog3 = load_image("catalog", 3);
    remove_file(log2.name);
    CHECK(check_state(&model, true) == 0);
    poke(&catalog3, 5000, (unsigned char)~catalog3.bytes[5000]);
    CHECK(open_state(&state) == -EUCLEAN);
    save_image(log2.name, &log2);
    CHECK(check_state(&model, true) == 0);
    remove_file(log3.name);
    CHECK(open_state(&state) == -EUCLEAN);
    save_image(catalog3.name, &catalog3);
    CHECK(open_state(&state) == -EUCLEAN);
    free(log2.bytes);
    free(log3.bytes);
    free(catalog3.bytes);
}

TEST("a log that was cut or lengthened is damage")
{
    static struct model model;
    struct state state;
    struct image image;
    size_t whole;

    NEED(make_history(&state, &model, NULL));
    close_state(&state);
    image = load_image("log", 3);
    whole = image.size;
    for (size_t i = 0; i < 7; i++) {
        const size_t sizes[] = {0,         1,         4095,        4096,
                                whole / 2, whole - 1, whole + 4096};

        image.size = sizes[i];
        if (image.size > whole)
            memset(image.bytes + whole, 0, image.size - whole);
        save_image(image.name, &image);
        CHECK(open_state(&state) == -EUCLEAN);
    }
    image.size = whole;
    save_image(image.name, &image);
    CHECK(check_state(&model, false) == 0);
    free(image.bytes);
}

TEST("a snapshot that was cut or lengthened counts as damaged")
{
    static struct model model;
    struct state state;
    struct image image;
    size_t whole;

    NEED(make_history(&state, &model, NULL));
    close_state(&state);
    image = load_image("catalog", 3);
    whole = image.size;
    for (size_t i = 0; i < 8; i++) {
        const size_t sizes[] = {0,    1,         4095,      4096,
                                8192, whole / 2, whole - 1, whole + 4096};

        image.size = sizes[i];
        save_image(image.name, &image);
        CHECK(check_state(&model, true) == 0);
    }
    free(image.bytes);
}

TEST("files that were swapped or renamed are told apart")
{
    static struct model model;
    struct state state;
    struct image log2, log3, catalog2, catalog3;

    NEED(make_history(&state, &model, NULL));
    close_state(&state);
    log2 = load_image("log", 2);
    log3 = load_image("log", 3);
    catalog2 = load_image("catalog", 2);
    catalog3 = load_image("catalog", 3);
    save_image(log2.name, &log3);
    save_image(log3.name, &log2);
    CHECK(open_state(&state) == -EUCLEAN);
    save_image(log2.name, &log2);
    save_image(log3.name, &log3);
    save_image(catalog3.name, &catalog2); /* an old one under a new name */
    CHECK(check_state(&model, true) == 0);
    save_image(catalog3.name, &log3);
    CHECK(check_state(&model, true) == 0);
    save_image(log3.name, &catalog3);
    CHECK(open_state(&state) == -EUCLEAN);
    free(log2.bytes);
    free(log3.bytes);
    free(catalog2.bytes);
    free(catalog3.bytes);
}

TEST("files of another cache directory, or of another history, are refused")
{
    static struct model model;
    struct state state;
    struct image log3, catalog3;

    NEED(make_history(&state, &model, NULL));
    close_state(&state);
    log3 = load_image("log", 3);
    catalog3 = load_image("catalog", 3);
    test_remove_tree(AT_FDCWD, test_dir());
    CHECK(mkdir(test_dir(), 0700) == 0);
    NEED(make_history(&state, &model, NULL));
    close_state(&state);
    save_image(log3.name, &log3);
    CHECK(open_state(&state) == -EUCLEAN);
    save_image(catalog3.name, &catalog3); /* the pair fits together */
    CHECK(open_state(&state) == 0);
    close_state(&state);
    CHECK(write_superblock(test_dir(), 2) == 0);
    CHECK(open_state(&state) == -EUCLEAN);
    free(log3.bytes);
    free(catalog3.bytes);
}

TEST("a snapshot or log of a later version is refused, never passed over")
{
    static struct model model;
    struct state state;
    struct image log3, catalog3;

    NEED(make_history(&state, &model, NULL));
    close_state(&state);
    log3 = load_image("log", 3);
    catalog3 = load_image("catalog", 3);
    for (size_t at = 8; at <= 12; at += 4) {
        log3.bytes[at] ^= 2;
        seal_header(&log3);
        save_image(log3.name, &log3);
        CHECK(open_state(&state) == -EPROTONOSUPPORT);
        log3.bytes[at] ^= 2;
        seal_header(&log3);
        save_image(log3.name, &log3);
        catalog3.bytes[at] ^= 2;
        seal_header(&catalog3);
        save_image(catalog3.name, &catalog3);
        CHECK(open_state(&state) == -EPROTONOSUPPORT);
        catalog3.bytes[at] ^= 2;
        seal_header(&catalog3);
        save_image(catalog3.name, &catalog3);
    }
    CHECK(check_state(&model, false) == 0);
    free(log3.bytes);
    free(catalog3.bytes);
}

TEST("an empty log without a snapshot is void, as a cut between two steps")
{
    static struct model model;
    struct state state;
    struct image log3;
    size_t groups[16];

    NEED(begin_state(&state, &model));
    CHECK(commit_random(&state, &model, 60) == 0);
    CHECK(state_log_snapshot(state.log) == 0);
    CHECK(commit_random(&state, &model, 60) == 0);
    CHECK(state_log_snapshot(state.log) == 0);
    close_state(&state);
    remove_file("catalog.0000000000000003");
    CHECK(check_state(&model, true) == 0);
    log3 = load_image("log", 3);
    NEED(open_state(&state) == 0);
    CHECK(state_is(&state, &model));
    CHECK(!file_exists(log3.name));
    CHECK(commit_random(&state, &model, 60) == 0);
    close_state(&state);
    CHECK(check_state(&model, true) == 0);
    /* Prepared once more, but a full disk was in the way: commits go on. */
    save_image(log3.name, &log3);
    CHECK(check_state(&model, true) == 0);
    remove_file(log3.name);
    free(log3.bytes);

    /* It says which commits there were: they may not be lost unseen. */
    NEED(open_state(&state) == 0);
    CHECK(state_log_snapshot(state.log) == 0);
    close_state(&state);
    remove_file("catalog.0000000000000003");
    log3 = load_image("log", 2);
    CHECK(find_groups(&log3, groups) == 2);
    poke(&log3, groups[1] + 80, (unsigned char)~log3.bytes[groups[1] + 80]);
    CHECK(open_state(&state) == -EUCLEAN);
    free(log3.bytes);
}

TEST("what an interrupted snapshot left over is removed")
{
    static struct model model;
    struct state state;
    struct image junk = {.size = 5, .bytes = (unsigned char[]){1, 2, 3, 4, 5}};

    NEED(make_history(&state, &model, NULL));
    close_state(&state);
    save_image("log.new", &junk);
    save_image("catalog.new", &junk);
    save_image("log.000000000000000", &junk); /* none of ours */
    save_image("log.000000000000000G", &junk);
    save_image("log.0000000000000000", &junk);
    CHECK(check_state(&model, false) == 0);
    CHECK(!file_exists("log.new") && !file_exists("catalog.new"));
}

/* ---- full disks ---------------------------------------------------------- */

static void fill_disk(void)
{
    fault_fail(&(struct fault_calls){.kinds = FAULT_CREATE,
                                     .path_part = ".new",
                                     .nth = 1},
               -ENOSPC, true, 0);
}

TEST("on a full disk commits go on to the end of the log, and later again")
{
    static struct model model, next;
    struct state state;
    unsigned commits = 0;
    int error;

    NEED(begin_state(&state, &model));
    CHECK(commit_random(&state, &model, 500) == 0);
    CHECK(cache_dir_keep_reserve(state.dir, 8192) == 0);
    fill_disk();
    for (;;) {
        next = model;
        error = commit_random(&state, &next, 500);
        if (error < 0)
            break;
        model = next;
        commits++;
    }
    CHECK(error == -ENOSPC);
    CHECK(commits >= 10);
    CHECK(!cache_dir_release_reserve(state.dir)); /* given up for this */
    CHECK(state_is(&state, &model));
    /* Small ones may still fit; every one that succeeded is there. */
    fault_reset();
    fault_skip_syncs(true);
    CHECK(commit_random(&state, &model, 1000) == 0);
    close_state(&state);
    CHECK(check_state(&model, false) == 0);
}

TEST("the reserve is given up for a snapshot before anything fails")
{
    static struct model model;
    struct state state;

    NEED(begin_state(&state, &model));
    CHECK(commit_random(&state, &model, 50) == 0);
    CHECK(cache_dir_keep_reserve(state.dir, 8192) == 0);
    fault_fail(&(struct fault_calls){.kinds = FAULT_WRITE,
                                     .path_part = "log.new",
                                     .nth = 2},
               -ENOSPC, false, 512);
    CHECK(state_log_snapshot(state.log) == 0);
    CHECK(!cache_dir_release_reserve(state.dir));
    CHECK(state_is(&state, &model));
    close_state(&state);
    CHECK(check_state(&model, false) == 0);
    CHECK(file_exists("catalog.0000000000000002"));
}

TEST("a commit that finds no room in the log's own blocks may be repeated")
{
    static struct model model, next;
    struct state state;

    NEED(begin_state(&state, &model));
    CHECK(commit_random(&state, &model, 50) == 0);
    for (unsigned i = 0; i < 2; i++) {
        fault_fail(&(struct fault_calls){.kinds = FAULT_WRITE,
                                         .path_part = "log.0",
                                         .nth = 1},
                   -ENOSPC, i == 0, 4096);
        next = model;
        CHECK(commit_random(&state, &next, 300) == -ENOSPC);
        CHECK(state_is(&state, &model));
        fault_reset();
        fault_skip_syncs(true);
        CHECK(check_state(&model, true) == -EWOULDBLOCK);
        CHECK(commit_random(&state, &model, 10 * i) == 0);
    }
    close_state(&state);
    CHECK(check_state(&model, false) == 0);
}

TEST("a full disk and a damaged snapshot together are no reason to stop")
{
    static struct model model;
    struct state state;
    struct image image;

    NEED(make_history(&state, &model, NULL));
    close_state(&state);
    image = load_image("catalog", 3);
    poke(&image, 5000, (unsigned char)~image.bytes[5000]);
    for (unsigned i = 0; i < 3; i++) {
        fill_disk();
        NEED(open_state(&state) == 0);
        CHECK(state_is(&state, &model));
        CHECK(commit_random(&state, &model, 20) == 0);
        close_state(&state);
    }
    fault_reset();
    fault_skip_syncs(true);
    CHECK(!file_exists("catalog.0000000000000004"));
    CHECK(check_state(&model, false) == 0);
    CHECK(file_exists("catalog.0000000000000004"));
    free(image.bytes);
}

TEST("the reserve is given up for the log's own blocks, and for what was torn")
{
    static struct model model, next;
    struct fault_calls calls = {
        .kinds = FAULT_WRITE, .path_part = "log.0", .nth = 1};
    struct state state;

    NEED(begin_state(&state, &model));
    fault_fail(&calls, -ENOSPC, false, 512);
    next = model;
    CHECK(commit_random(&state, &next, 300) == -ENOSPC); /* no reserve */
    for (unsigned i = 0; i < 2; i++) {
        fault_reset();
        fault_skip_syncs(true);
        CHECK(cache_dir_keep_reserve(state.dir, 8192) == 0);
        /* First the zeros over what was torn find no room, then a group. */
        fault_fail(&calls, -EDQUOT, false, 512);
        CHECK(commit_random(&state, &model, 30) == 0);
        CHECK(!cache_dir_release_reserve(state.dir));
        CHECK(state_is(&state, &model));
    }
    fault_reset();
    fault_skip_syncs(true);
    close_state(&state);
    CHECK(check_state(&model, false) == 0);
}

/* ---- errors -------------------------------------------------------------- */

/*
 * Open or begin the state, commit and make snapshots, until an error.  *acked
 * is the last commit that succeeded; history[n] what n commits make.
 */
static int work(struct model *history, size_t commits, struct model **ret_acked)
{
    struct state state;
    int error = open_state_at(test_dir(), &state, true, false);

    *ret_acked = history;
    for (size_t i = 0; error == 0 && i < commits; i++) {
        history[i + 1] = history[i];
        error = commit_random(&state, &history[i + 1], 40);
        if (error == 0)
            *ret_acked = &history[i + 1];
        else
            CHECK(state_is(&state, &history[i]));
        if (error < 0 && error != -ENOSPC && error != -ENOMEM)
            CHECK(state_log_commit(state.log, NULL, 0) == error);
        if (error == 0 && i % 3 == 1)
            error = state_log_snapshot(state.log);
    }
    close_state(&state);
    return error;
}

/* Have each call of the work fail once. */
static void fail_each_call(unsigned kinds, int with)
{
    enum { COMMITS = 6 };
    struct model *history = calloc(COMMITS + 1, sizeof(*history)), *acked;
    unsigned failures = 0;

    NEED(history);
    for (unsigned long nth = 1;; nth++) {
        struct state state;
        unsigned long count;
        int error;

        NEED(begin_state(&state, history));
        close_state(&state);
        fault_fail(&(struct fault_calls){.kinds = kinds,
                                         .path_part = "state",
                                         .nth = nth},
                   with, false, 512);
        error = work(history, COMMITS, &acked);
        count = fault_count();
        failures += error < 0;
        fault_reset();
        fault_skip_syncs(true);
        NEED(open_state(&state) == 0);
        /* What failed may have become durable all the same. */
        if (error < 0 && acked < history + COMMITS &&
            state_is(&state, acked + 1))
            acked++;
        CHECK(state_is(&state, acked));
        CHECK(commit_random(&state, acked, 5) == 0);
        close_state(&state);
        test_remove_tree(AT_FDCWD, test_dir());
        CHECK(mkdir(test_dir(), 0700) == 0);
        if (count < nth)
            break;
    }
    CHECK(failures > 0);
    free(history);
}

TEST("whichever write, sync or rename fails, no acknowledged commit is lost")
{
    fail_each_call(FAULT_ANY_CHANGE, -EIO);
}

TEST("whichever call finds the disk full, no acknowledged commit is lost")
{
    fail_each_call(FAULT_ANY_CHANGE, -ENOSPC);
}

TEST("whichever read or open fails, nothing is taken for absent or torn")
{
    fail_each_call(FAULT_OPEN | FAULT_READ, -EIO);
}

TEST("an error while a state is begun leaves none, or an empty one")
{
    static struct model empty;
    struct state state;

    fault_reset();
    for (unsigned long nth = 1;; nth++) {
        unsigned long count;
        int error;

        CHECK(write_superblock(test_dir(), 1) == 0);
        fault_fail(&(struct fault_calls){.kinds = FAULT_ANY_CHANGE, .nth = nth},
                   -EIO, false, 0);
        fault_skip_syncs(true);
        error = open_state_at(test_dir(), &state, true, false);
        close_state(&state);
        count = fault_count();
        fault_reset();
        fault_skip_syncs(true);
        if (error < 0) {
            error = open_state(&state);
            CHECK(error == 0 || error == -ENOENT);
            close_state(&state);
        }
        NEED(open_state_at(test_dir(), &state, true, false) == 0);
        CHECK(state_is(&state, &empty));
        close_state(&state);
        test_remove_tree(AT_FDCWD, test_dir());
        CHECK(mkdir(test_dir(), 0700) == 0);
        if (count < nth)
            break;
    }
}

/* ---- crashes ------------------------------------------------------------- */

enum { CRASH_COMMITS = 10, CRASH_STATES = 60 };

struct crash_run {
    struct model history[CRASH_COMMITS + 1];
    size_t acked_at[CRASH_COMMITS + 1]; /* position of the recording */
    size_t count;                       /* of commits */
};

/* Work at path, from history[from] on, and note when commits were durable. */
static void run_recorded(const char *path, struct crash_run *run, size_t from,
                         size_t end)
{
    struct state state;

    CHECK(from > 0 || write_superblock(path, 1) == 0);
    NEED(open_state_at(path, &state, from == 0, false) == 0);
    run->acked_at[from] = fault_record_position();
    for (size_t i = from; i < end; i++) {
        run->history[i + 1] = run->history[i];
        if (i % 4 == 2)
            CHECK(state_log_snapshot(state.log) == 0);
        CHECK(commit_random(&state, &run->history[i + 1], 30 + i * 7) == 0);
        run->acked_at[i + 1] = fault_record_position();
    }
    run->count = end;
    close_state(&state);
}

/* Whether the state at path is what acked commits, or one more, made. */
static bool recovers(const char *path, const struct crash_run *run,
                     size_t acked, size_t *ret_commits)
{
    struct state state;
    bool is_right = false;

    if (open_state_at(path, &state, false, false) < 0)
        return false;
    *ret_commits = state_log_last_commit(state.log);
    if (*ret_commits >= acked && *ret_commits <= acked + 1 &&
        *ret_commits <= CRASH_COMMITS)
        is_right = state_is(&state, &run->history[*ret_commits]);
    close_state(&state);
    return is_right;
}

/* How many commits were durable before entry cut. */
static size_t commits_before(const struct crash_run *run, size_t cut)
{
    size_t count = 0;

    while (count < run->count && run->acked_at[count + 1] <= cut)
        count++;
    return count;
}

static void make_root(char path[PATH_MAX], const char *name)
{
    (void)snprintf(path, PATH_MAX, "%s/%s", test_dir(), name);
    test_remove_tree(AT_FDCWD, path);
    CHECK(mkdir(path, 0700) == 0);
}

/*
 * Cut the power at CRASH_STATES moments of a run, whose syncs of this kind
 * only pretend.  Returns after how many the state is not what it must be.
 */
static unsigned count_lost_states(const struct fault_calls *pretended)
{
    static struct crash_run run;
    char root[PATH_MAX], after[PATH_MAX];
    struct recording *recording;
    unsigned lost = 0;

    memset(&run, 0, sizeof(run));
    fault_reset();
    fault_skip_syncs(true);
    random_state = 3;
    make_root(root, "root");
    fault_record_begin(root);
    run_recorded(root, &run, 0, 1); /* begun in order */
    if (pretended)
        fault_swallow(pretended);
    run_recorded(root, &run, 1, CRASH_COMMITS);
    recording = fault_record_end();
    fault_reset();
    fault_skip_syncs(true);
    for (unsigned i = 0; i < CRASH_STATES; i++) {
        size_t cut = run.acked_at[1] +
                     crash_random(i, 1) %
                         (recording->entries_count + 1 - run.acked_at[1]);
        struct crash_disk *disk = crash_disk_new(recording);
        size_t commits;

        crash_disk_advance(disk, cut);
        make_root(after, "after");
        crash_disk_power_cut(disk, i, after, NULL);
        lost += !recovers(after, &run, commits_before(&run, cut), &commits);
        crash_disk_free(disk);
    }
    recording_free(recording);
    return lost;
}

TEST("a power cut at any moment leaves every acknowledged commit")
{
    CHECK(count_lost_states(NULL) == 0);
}

TEST("without a sync of the log, new or in use, or of names, commits are lost")
{
    static const struct fault_calls syncs[] = {
        {.kinds = FAULT_SYNC_DATA, .path_part = "log.0"},
        {.kinds = FAULT_SYNC_DATA, .path_part = "log.new"},
        {.kinds = FAULT_SYNC, .path_part = "state"},
    };

    for (size_t i = 0; i < sizeof(syncs) / sizeof(syncs[0]); i++)
        CHECK(count_lost_states(&syncs[i]) > 0);
}

TEST("a kill, a new start and then a power cut leave them too")
{
    static struct crash_run run, second;
    char root[PATH_MAX], killed[PATH_MAX], after[PATH_MAX];
    struct recording *recording, *next;

    memset(&run, 0, sizeof(run));
    fault_reset();
    fault_skip_syncs(true);
    random_state = 4;
    make_root(root, "root");
    fault_record_begin(root);
    run_recorded(root, &run, 0, CRASH_COMMITS / 2);
    recording = fault_record_end();
    for (unsigned i = 0; i < CRASH_STATES; i++) {
        size_t span = recording->entries_count + 1 - run.acked_at[0];
        size_t cut = run.acked_at[0] + crash_random(i, 2) % span, commits;
        struct crash_disk *disk = crash_disk_new(recording);

        crash_disk_advance(disk, cut);
        make_root(killed, "killed");
        crash_disk_kill(disk, i, killed);
        fault_record_begin(killed);
        second = run;
        /* The next process finds them, and what it finds is durable. */
        CHECK(recovers(killed, &run, commits_before(&run, cut), &commits));
        run_recorded(killed, &second, commits, commits + 2);
        next = fault_record_end();
        crash_disk_continue(disk, next);
        span = next->entries_count + 1 - second.acked_at[commits];
        cut = second.acked_at[commits] + crash_random(i, 3) % span;
        crash_disk_advance(disk, cut);
        make_root(after, "after");
        crash_disk_power_cut(disk, i, after, NULL);
        while (commits < second.count && second.acked_at[commits + 1] <= cut)
            commits++;
        CHECK(recovers(after, &second, commits, &commits));
        crash_disk_free(disk);
        recording_free(next);
    }
    recording_free(recording);
}

/* ---- size ---------------------------------------------------------------- */

static uint64_t file_bytes(const char *path)
{
    char name[PATH_MAX];
    struct dirent *entry;
    uint64_t bytes = 0;
    struct stat status;
    DIR *dir;

    (void)snprintf(name, sizeof(name), "%s/state", path);
    dir = opendir(name);
    while (dir && (entry = readdir(dir)) != NULL) {
        if (fstatat(dirfd(dir), entry->d_name, &status, 0) == 0 &&
            S_ISREG(status.st_mode))
            bytes += (uint64_t)status.st_size;
    }
    if (dir)
        (void)closedir(dir);
    return bytes;
}

static void measure(size_t chunks)
{
    enum { PASS = 4096 };
    struct state_change *changes = calloc(PASS, sizeof(*changes));
    struct state state = {0};
    uint64_t start, open_ns, after_snapshot_ns, generation = 0;

    fault_reset();
    NEED(changes && write_superblock(test_dir(), 1) == 0);
    for (unsigned opens = 0; opens < 3; opens++) {
        start = clock_monotonic_ns();
        CHECK(cache_dir_open(test_dir(), false, &state.dir) == 0);
        CHECK(catalog_new(chunks, &state.catalog) == 0);
        CHECK(catalog_new(chunks, &state.checkpoint) == 0);
        NEED(state_log_open(state.dir, state.catalog, state.checkpoint,
                            opens == 0, false, &state.log) == 0);
        open_ns = clock_monotonic_ns() - start;
        if (opens == 1) {
            printf("# %zu chunks: opened in %.0f ms, %.1f MB on disk\n", chunks,
                   (double)open_ns / 1e6, (double)file_bytes(test_dir()) / 1e6);
        }
        start = clock_monotonic_ns();
        for (size_t chunk = 0; opens == 0 && chunk < chunks;) {
            size_t count = 0;

            while (count < PASS && chunk < chunks) {
                changes[count].kind = STATE_CHUNK;
                changes[count].chunk = chunk++;
                changes[count].entry.flags = CATALOG_FILE;
                changes[count++].entry.generation = ++generation;
            }
            CHECK(state_log_commit(state.log, changes, count) == 0);
        }
        if (opens == 0)
            printf("# %zu chunks: committed in %.0f ms, %.1f MB written\n",
                   chunks, (double)(clock_monotonic_ns() - start) / 1e6,
                   (double)state_log_written(state.log) / 1e6);
        CHECK(catalog_count(state.catalog) == chunks);
        CHECK(state_log_last_generation(state.log) == chunks);
        start = clock_monotonic_ns();
        CHECK(state_log_snapshot(state.log) == 0);
        after_snapshot_ns = clock_monotonic_ns() - start;
        if (opens == 0)
            printf("# %zu chunks: a snapshot took %.0f ms\n", chunks,
                   (double)after_snapshot_ns / 1e6);
        close_state(&state);
    }
    free(changes);
}

TEST("100,000 chunks are committed, opened and opened again")
{
    measure(100000);
}

TEST("1,300,000 chunks are committed, opened and opened again")
{
    measure(1300000);
}
