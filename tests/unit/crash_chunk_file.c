/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * A chunk is folded, put in other words, pinned, rewritten and removed as
 * destage does it, and loses power at any file call, or is killed, goes on,
 * and then loses power.  At any of these moments the file must have the state
 * that was committed last, and the one that was pinned last, with all their
 * blocks.  A commit, the state log's work, takes no time here: it is durable
 * at its moment.
 *
 * CRASH_STATES   how many states, 200 by default
 * CRASH_SEED     where to begin, 1 by default; a failure says its own
 */
#include "unit/test.h"

#include <inttypes.h>

#include "base/file.h"
#include "base/number.h"
#include "cache/block_codec.h"
#include "cache/chunk_file.h"
#include "cache/geometry.h"
#include "support/crash_states.h"
#include "support/fault_file.h"

enum {
    CHUNK_SIZE = 256 << 10,
    BLOCKS = CHUNK_SIZE / CACHE_BLOCK,
    CHUNK = 77, /* in chunk/00000000 */
    OPERATIONS = 12,
    STATES_PER_LIFE = 20,
    BUG_STORIES = 100, /* until a deliberate bug must have been found */
};

/* A state of the chunk, as the state log names it. */
struct state {
    uint64_t generation; /* 0: a hole; none is pinned */
    uint32_t revision;
    uint64_t content[BLOCKS];
};

/* What was committed, and the moment of the recording when that was. */
struct commit {
    size_t position;
    struct state now;
    struct state pinned;
};

/* One process's life with the chunk. */
struct life {
    uint64_t seed;
    bool only_folds;
    struct recording *recording;
    struct commit commits[OPERATIONS + 1];
    size_t commits_count;

    int cache_fd;
    struct chunk_dir *dir;
    struct chunk_file *file; /* NULL: the chunk is a hole */
    struct chunk_table *table;
    struct chunk_table *pinned; /* NULL: none is, or it is table */
    uint64_t generation;        /* the highest ever used */
};

static unsigned char plain[CACHE_BLOCK], expected[CACHE_BLOCK];

/* ---- what destage does --------------------------------------------------- */

static void fill(unsigned char *to, uint64_t content)
{
    memset(to, (int)content, CACHE_BLOCK);
    for (unsigned i = 0; i < 200; i++)
        to[i * 80] = (unsigned char)crash_random(content, i);
}

static struct commit *last_commit(struct life *life)
{
    return &life->commits[life->commits_count - 1];
}

/* Begin the next commit as a copy of the last one. */
static struct commit *next_commit(struct life *life)
{
    struct commit *next = &life->commits[life->commits_count];

    *next = *last_commit(life);
    return next;
}

static void commit(struct life *life)
{
    life->commits[life->commits_count].position = fault_record_position();
    life->commits_count++;
}

/* Write the table, of the state that comes next, where it may. */
static bool write_table(struct life *life, struct chunk_table *table,
                        const struct commit *next)
{
    unsigned taken =
        last_commit(life)->now.generation == 0 ? 0 : 1U << life->table->slot;

    if (life->pinned)
        taken |= 1U << life->pinned->slot;
    table->generation = next->now.generation;
    table->revision = next->now.revision;
    table->slot = chunk_file_choose_slot(life->file, table->generation,
                                         table->revision, taken);
    return chunk_file_write_slot(life->file, table) == 0 &&
           chunk_file_sync(life->file) == 0;
}

/* Append new content for some blocks. */
static bool append_blocks(struct life *life, struct chunk_table *table,
                          struct state *now, uint64_t random)
{
    static unsigned char run[BLOCKS * BLOCK_STORED_MAX];
    uint32_t place = (uint32_t)round_up(table->data_end, CACHE_PAGE);
    size_t used = 0;

    for (uint32_t i = 0; i < BLOCKS; i++) {
        struct block_stored how;

        if (crash_random(random, i) % 4 != 0)
            continue;
        now->content[i] = crash_random(random, i);
        fill(plain, now->content[i]);
        block_encode(plain, CACHE_BLOCK, run + used, &how);
        table->blocks[i] = (struct chunk_block){
            .local_pages = ALL_PAGES,
            .codec = (uint8_t)how.codec,
            .place = place + (uint32_t)used,
            .checksum = how.checksum,
            .stored_size = how.size,
        };
        used += how.size;
    }
    table->data_end = place + (uint32_t)used;
    return chunk_file_write(life->file, run, used, place) == 0;
}

/* The table rules now. */
static void take_table(struct life *life, struct chunk_table *table)
{
    chunk_table_release(life->table);
    life->table = table;
}

static bool fold(struct life *life, uint64_t random)
{
    struct commit *next = next_commit(life);
    uint64_t chunk = CHUNK;
    bool is_new = !life->file;
    struct chunk_table *table;

    if (is_new && chunk_file_create(life->dir, CHUNK, &life->file) != 0)
        return false;
    table = life->table ? chunk_table_copy(life->table)
                        : chunk_table_new(CHUNK, CHUNK_SIZE);
    if (!table)
        abort();
    next->now.generation = ++life->generation;
    next->now.revision = 0;
    if (!append_blocks(life, table, &next->now, random) ||
        !write_table(life, table, next) ||
        (is_new && chunk_dir_sync(life->dir, &chunk, 1) != 0)) {
        chunk_table_release(table);
        return false;
    }
    take_table(life, table);
    commit(life);
    return true;
}

/* The same content under the next revision, unless that one is pinned. */
static bool restate(struct life *life)
{
    struct commit *next = next_commit(life);
    struct chunk_table *table;

    if (next->now.generation == next->pinned.generation)
        return true;
    table = chunk_table_copy(life->table);
    if (!table)
        abort();
    next->now.revision++;
    if (!write_table(life, table, next)) {
        chunk_table_release(table);
        return false;
    }
    take_table(life, table);
    commit(life);
    return true;
}

/* The checkpoint wants what rules now, or nothing any more. */
static void pin(struct life *life, bool on)
{
    struct commit *next = next_commit(life);

    next->pinned = on ? next->now : (struct state){.generation = 0};
    chunk_table_release(life->pinned);
    life->pinned = on ? chunk_table_hold(life->table) : NULL;
    commit(life);
}

static bool rewrite(struct life *life)
{
    const struct commit *now = last_commit(life);
    bool is_other =
        life->pinned && (now->now.generation != now->pinned.generation ||
                         now->now.revision != now->pinned.revision);
    struct chunk_file *file;
    struct chunk_table *table;
    struct chunk_table *pinned = NULL;

    if (chunk_file_rewrite(life->dir, life->file, life->table,
                           is_other ? life->pinned : NULL, &file, &table,
                           &pinned) != 0)
        return false;
    chunk_file_release(life->file);
    life->file = file;
    take_table(life, table);
    if (life->pinned) {
        chunk_table_release(life->pinned);
        life->pinned = is_other ? pinned : chunk_table_hold(table);
    }
    return true;
}

static void forget_file(struct life *life)
{
    chunk_file_release(life->file);
    chunk_table_release(life->table);
    chunk_table_release(life->pinned);
    life->file = NULL;
    life->table = NULL;
    life->pinned = NULL;
}

static bool remove_chunk(struct life *life)
{
    *next_commit(life) = (struct commit){.position = 0};
    commit(life);
    forget_file(life);
    return chunk_file_remove(life->dir, CHUNK) == 0;
}

/* ---- a life -------------------------------------------------------------- */

/* Open what is in root, where this commit rules. */
static bool open_life(struct life *life, const char *root,
                      const struct commit *ruling)
{
    int error;

    life->commits[0] = *ruling;
    life->commits[0].position = 0;
    life->commits_count = 1;
    life->generation = ruling->now.generation;
    life->cache_fd = file_open(AT_FDCWD, root, O_RDONLY | O_DIRECTORY, 0);
    if (life->cache_fd < 0 ||
        chunk_dir_open(life->cache_fd, "crash", CHUNK_SIZE, CHUNK_DIR_CREATE,
                       &life->dir) != 0)
        return false;
    if (ruling->now.generation == 0)
        return true;
    error = chunk_file_open(life->dir, CHUNK, &life->file);
    if (error == 0)
        error = chunk_file_read_table(life->file, ruling->now.generation,
                                      ruling->now.revision, &life->table);
    if (error == 0 && ruling->pinned.generation != 0)
        error = chunk_file_read_table(life->file, ruling->pinned.generation,
                                      ruling->pinned.revision, &life->pinned);
    return error == 0;
}

static void close_life(struct life *life)
{
    forget_file(life);
    chunk_dir_close(life->dir);
    life->dir = NULL;
    (void)file_close(life->cache_fd);
}

static bool run_life(struct life *life)
{
    for (unsigned i = 0; i < OPERATIONS; i++) {
        uint64_t random = crash_random(life->seed, i);
        unsigned what = life->only_folds ? 0 : (unsigned)(random % 16);
        bool good = true;

        if (!life->file || what < 7)
            good = fold(life, random);
        else if (what < 10)
            good = rewrite(life);
        else if (what < 12)
            good = restate(life);
        else if (what < 15)
            pin(life, what < 14);
        else
            good = remove_chunk(life);
        if (!good)
            return false;
    }
    return true;
}

/* The commit that rules when the recording is cut there. */
static const struct commit *ruling_at(const struct life *life, size_t cut)
{
    size_t last = 0;

    while (last + 1 < life->commits_count &&
           life->commits[last + 1].position <= cut)
        last++;
    return &life->commits[last];
}

/* ---- what a later start sees --------------------------------------------- */

static bool state_is_right(struct life *life, const struct state *state,
                           const struct chunk_table *table)
{
    for (uint32_t i = 0; i < BLOCKS && state->generation != 0; i++) {
        bool is_here = table->blocks[i].local_pages != 0;

        if (is_here != (state->content[i] != 0))
            return false;
        if (!is_here)
            continue;
        fill(expected, state->content[i]);
        if (chunk_file_read_block(life->file, table, i, plain, false) != 0 ||
            memcmp(plain, expected, CACHE_BLOCK) != 0)
            return false;
    }
    return true;
}

static bool content_is_right(struct life *life)
{
    const struct commit *now = last_commit(life);

    return state_is_right(life, &now->now, life->table) &&
           state_is_right(life, &now->pinned, life->pinned);
}

/* Whether all is right in root, and the chunk can be worked on. */
static bool looks_right(const char *root, const struct commit *ruling,
                        uint64_t seed)
{
    struct life life = {.seed = seed};
    bool good =
        open_life(&life, root, ruling) && content_is_right(&life) &&
        faccessat(life.cache_fd, "chunk/000000000000004d.new", F_OK, 0) != 0 &&
        run_life(&life) && content_is_right(&life);

    close_life(&life);
    return good;
}

/* ---- a story: a life, and another one after a kill ----------------------- */

struct story {
    uint64_t seed;
    const struct fault_calls *bug; /* syncs that are not done; or NULL */
    bool second_only; /* the bug: in a second life, which only folds */
    unsigned violations;
    unsigned states;
};

static void make_dir(char *path, size_t size, const char *name)
{
    if (snprintf(path, size, "%s/%s", test_dir(), name) >= (int)size)
        abort();
    if (strstr(path, "/s3blkdev-test.") != NULL)
        test_remove_tree(AT_FDCWD, path);
    if (mkdir(path, 0700) < 0)
        abort();
}

/* Cut the power at random moments of a life. */
static void cut_power(struct story *story, struct crash_disk *disk,
                      const struct life *life, size_t begin, size_t end)
{
    char root[PATH_MAX];

    for (uint64_t i = 0; i < STATES_PER_LIFE && begin < end; i++) {
        size_t cut = begin + (end - begin) * i / STATES_PER_LIFE;
        uint64_t seed = crash_random(story->seed, 1000 + i);

        crash_disk_advance(disk, cut);
        make_dir(root, sizeof(root), "state");
        crash_disk_power_cut(disk, seed, root, NULL);
        story->states++;
        if (looks_right(root, ruling_at(life, cut), seed))
            continue;
        story->violations++;
        if (!story->bug)
            printf("# CRASH_SEED=%" PRIu64 ": power cut %zu of %zu, state "
                   "%" PRIu64 "\n",
                   story->seed, cut, life->recording->entries_count, seed);
    }
}

/* Live on in root, where this commit rules.  Returns whether all went well. */
static bool live(struct life *life, const char *root,
                 const struct commit *ruling)
{
    bool good;

    fault_record_begin(root);
    good = open_life(life, root, ruling) && content_is_right(life) &&
           run_life(life);
    life->recording = fault_record_end();
    close_life(life);
    return good;
}

static void set_bug(const struct story *story, bool on)
{
    fault_reset();
    fault_skip_syncs(true);
    if (story->bug && on)
        fault_swallow(story->bug);
}

/* What happens after the process was killed with this commit in force. */
static void go_on(struct story *story, struct crash_disk *disk,
                  const struct commit *ruling)
{
    struct life life = {.seed = crash_random(story->seed, 2),
                        .only_folds = story->second_only};
    char root[PATH_MAX];

    make_dir(root, sizeof(root), "root");
    crash_disk_kill(disk, story->seed, root);
    set_bug(story, true);
    if (live(&life, root, ruling)) {
        crash_disk_continue(disk, life.recording);
        cut_power(story, disk, &life, 0, life.recording->entries_count);
    } else {
        story->violations++;
    }
    crash_disk_free(disk);
    recording_free(life.recording);
}

static void tell_story(struct story *story)
{
    static const struct commit nothing;
    struct life life = {.seed = crash_random(story->seed, 1)};
    const struct commit *ruling;
    char root[PATH_MAX];
    struct crash_disk *disk;
    size_t kill_cut;

    make_dir(root, sizeof(root), "root");
    set_bug(story, !story->second_only);
    NEED(live(&life, root, &nothing));
    disk = crash_disk_new(life.recording);
    kill_cut = crash_random(story->seed, 3) % life.recording->entries_count;
    ruling = ruling_at(&life, kill_cut);
    cut_power(story, disk, &life, 0, kill_cut);
    crash_disk_advance(disk, kill_cut);
    if (story->second_only && ruling->now.generation == 0)
        crash_disk_free(disk); /* it could not only fold */
    else
        go_on(story, disk, ruling);
    recording_free(life.recording);
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t value = otherwise;

    if (text)
        (void)number_parse(text, 0, UINT64_MAX, &value);
    return value;
}

TEST("a chunk survives power cuts and kills in folds, rewrites and removals")
{
    uint64_t states = number_of("CRASH_STATES", 200);
    struct story story = {.seed = number_of("CRASH_SEED", 1)};

    for (; story.states < states && story.violations == 0; story.seed++)
        tell_story(&story);
    CHECK(story.violations == 0);
    fault_reset();
}

/* Whether stories with this bug are found out. */
static bool bug_is_found(const struct fault_calls *bug, bool second_only)
{
    struct story story = {.bug = bug, .second_only = second_only};

    for (story.seed = 1; story.seed < BUG_STORIES && story.violations == 0;
         story.seed++)
        tell_story(&story);
    fault_reset();
    return story.violations > 0;
}

TEST("a file that is not synced before the commit is found out")
{
    struct fault_calls calls = {FAULT_SYNC_DATA, "/chunk/", 1};

    CHECK(bug_is_found(&calls, false));
}

TEST("a name that is not synced before the commit is found out")
{
    struct fault_calls calls = {FAULT_SYNC, "/chunk/00000000", 1};

    CHECK(bug_is_found(&calls, false));
}

TEST("a name that is not synced by the start after a kill is found out")
{
    struct fault_calls calls = {FAULT_SYNC, "/chunk/00000000", 1};

    CHECK(bug_is_found(&calls, true));
}
