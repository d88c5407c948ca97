/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * A journal alone, in small segments that are recycled all the time, loses
 * power or is killed at any file call: while it works, while it starts again,
 * and while it starts after that.  The replay must tell what was durable (or,
 * after a kill, what was acknowledged), and only a prefix beyond.
 *
 * CRASH_STATES   how many states, 200 by default
 * CRASH_SEED     where to begin, 1 by default; a failure says its own
 */
#include <inttypes.h>

#include "base/log.h"
#include "base/number.h"
#include "cache/journal.h"
#include "support/crash_states.h"
#include "support/fault_file.h"
#include "support/journal_story.h"
#include "unit/test.h"

enum {
    LIVES = 3,
    STEPS = 120, /* of a life */
    STATES_PER_STORY = 40,
    BUG_STATES = 2000, /* until a deliberate bug must have been found */
};

/* What was promised when the recording was that long. */
struct moment {
    size_t position;
    size_t placed;  /* records acknowledged */
    size_t durable; /* records flushed */
    uint64_t begin; /* what a state log would say */
};

/* From a start to a crash. */
struct life {
    struct recording *recording;
    struct story story; /* its lists, for the comparison */
    struct moment moments[STEPS + 2];
    size_t moments_count;
};

static uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t value = otherwise;

    if (text)
        (void)number_parse(text, 0, UINT32_MAX, &value);
    return value;
}

static void make_dir(char *path, const char *name)
{
    if (snprintf(path, PATH_MAX, "%s/%s", test_dir(), name) >= PATH_MAX)
        abort();
    test_remove_tree(AT_FDCWD, path);
    if (mkdir(path, 0700) != 0)
        abort();
}

static void note_moment(struct life *life)
{
    life->moments[life->moments_count++] = (struct moment){
        .position = fault_record_position(),
        .placed = life->story.appended_count,
        .durable = life->story.durable_count,
        .begin = life->story.options.begin,
    };
}

/* What was promised just before an entry of the recording. */
static struct moment promised(const struct life *life, size_t cut)
{
    struct moment last = life->moments[0];

    for (size_t i = 0; i < life->moments_count; i++) {
        if (life->moments[i].position <= cut)
            last = life->moments[i];
    }
    return last;
}

static void copy_lists(struct story *to, const struct story *from, size_t count)
{
    memcpy(to->appended, from->appended, count * sizeof(from->appended[0]));
    to->appended_count = count;
    to->next_value = from->next_value;
}

/* A random step.  Whatever is refused for space is left out. */
static void take_step(struct life *life, uint64_t random)
{
    struct story *story = &life->story;
    struct journal_fill fill;

    switch (random % 16) {
    case 0:
    case 1:
    case 2:
        (void)story_sync(story);
        break;
    case 3:
        (void)story_zero(story, random >> 8 & 1023, 1 + (random >> 20) % 5000,
                         (random >> 40 & 1) != 0);
        break;
    case 4:
        if (random >> 8 & 1)
            (void)journal_rotate(story->journal);
        break;
    case 5:
    case 6:
    case 7:
        /* As destage: sync, then the state log, then the journal. */
        journal_get_fill(story->journal, &fill);
        if (fill.newest - fill.begin < 2 || story_sync(story) != 0)
            break;
        story->options.begin =
            fill.begin + 1 + (random >> 8) % (fill.newest - fill.begin);
        note_moment(life);
        journal_retire(story->journal, story->options.begin);
        return;
    default:
        (void)story_write(story, random >> 8 & 1023, 1 + (random >> 20) % 5);
        break;
    }
    note_moment(life);
}

/*
 * Live in root.  after: the life before, and what it had promised; NULL: the
 * first.  Returns whether everything worked.
 */
static bool live(struct life *life, const char *root, uint64_t seed,
                 const struct life *after, const struct moment *was)
{
    struct story *story = &life->story;
    bool good;

    fault_record_begin(root);
    story_init(story, root);
    story->options.segment_size = 32 << 10;
    story->options.segments_max = 5 + (unsigned)(seed % 3);
    if (after) {
        copy_lists(story, &after->story, after->story.appended_count);
        story->options.begin = was->begin;
        story->durable_count = was->placed;
        /* Until this start is over, nothing new is promised. */
        life->moments[life->moments_count++] = *was;
        life->moments[0].position = 0;
    }
    good = story_open(story, !after) == 0;
    if (good && after) {
        size_t first = story_first_in(story, was->begin);

        good = story_replay_is_right(story, first);
        story_accept(story, first);
        story->durable_count = story->appended_count;
    }
    if (good) {
        note_moment(life);
        for (unsigned i = 0; i + 1 < STEPS; i++)
            take_step(life, crash_random(seed, i));
        good = atomic_load(&story->failures) == 0;
    }
    if (story->journal)
        good = story_close(story) == 0 && good;
    life->recording = fault_record_end();
    return good;
}

static void end_life(struct life *life)
{
    if (life->recording)
        recording_free(life->recording);
    if (life->story.appended)
        story_done(&life->story);
    memset(life, 0, sizeof(*life));
}

/* Open what is in root and compare it with what was promised. */
static bool state_is_right(const struct life *life, const struct moment *was,
                           size_t at_least, const char *root)
{
    static struct story story;
    size_t first;
    bool good;

    story_init(&story, root);
    story.options.segment_size = life->story.options.segment_size;
    story.options.segments_max = life->story.options.segments_max;
    story.options.begin = was->begin;
    copy_lists(&story, &life->story, life->story.appended_count);
    story.durable_count = at_least;
    good = story_open(&story, false) == 0;
    first = story_first_in(&story, was->begin);
    good = good && story_replay_is_right(&story, first);
    /* It goes on, and what it cut stays away. */
    if (good) {
        size_t count;

        story_accept(&story, first);
        story.durable_count = 0;
        (void)story_write(&story, 1, 1);
        good = story_close(&story) == 0 && story_open(&story, false) == 0;
        count = story.appended_count - first;
        good = good && story_replay_is_right(&story, first) &&
               story.replayed_count == count;
    }
    story_done(&story);
    return good;
}

/* How a failure is seen again. */
static bool report(const char *what, uint64_t seed, unsigned number, size_t cut,
                   const struct life *life)
{
    printf("# CRASH_SEED=%" PRIu64 ": %s in life %u at %zu of %zu\n", seed,
           what, number, cut, life->recording->entries_count);
    return false;
}

static bool cut_power(const struct life *life, struct crash_disk *disk,
                      size_t cut, uint64_t seed)
{
    struct moment was = promised(life, cut);
    char root[PATH_MAX];

    make_dir(root, "state");
    crash_disk_power_cut(disk, seed, root, NULL);
    return state_is_right(life, &was, was.durable, root);
}

/* Lose power count times in a life, at ascending moments. */
static bool cut_life(const struct life *life, struct crash_disk *disk,
                     size_t from, unsigned count, uint64_t seed,
                     unsigned number)
{
    size_t range = life->recording->entries_count - from;

    for (unsigned i = 0; i < count; i++) {
        size_t cut = from + range * i / count +
                     crash_random(seed, i) % (range / count + 1);

        if (cut > life->recording->entries_count)
            cut = life->recording->entries_count;
        crash_disk_advance(disk, cut);
        if (!cut_power(life, disk, cut, crash_random(seed, ~i)))
            return report("power cut", seed, number, cut, life);
    }
    return true;
}

/* Kill a life somewhere, after which the next one begins in root. */
static bool kill_life(const struct life *life, struct crash_disk *disk,
                      size_t from, uint64_t seed, unsigned number,
                      const char *root, struct moment *ret_was)
{
    size_t cut = from + seed % (life->recording->entries_count - from + 1);
    char copy[PATH_MAX];

    *ret_was = promised(life, cut);
    crash_disk_advance(disk, cut);
    crash_disk_kill(disk, seed, root);
    /* Looking at it must not change it. */
    make_dir(copy, "state");
    {
        struct story files = {.journal = NULL};

        story_init(&files, root);
        story_copy_files(&files, copy);
        story_done(&files);
    }
    if (!state_is_right(life, ret_was, ret_was->placed, copy))
        return report("kill", seed, number, cut, life);
    return true;
}

/* Wind a disk to a kill of every life before this one. */
static struct crash_disk *disk_of(const struct life lives[], unsigned number,
                                  const size_t kills[], const uint64_t seeds[])
{
    struct crash_disk *disk = crash_disk_new(lives[0].recording);

    for (unsigned i = 0; i < number; i++) {
        char root[PATH_MAX];

        make_dir(root, "wind");
        crash_disk_advance(disk, kills[i]);
        crash_disk_kill(disk, seeds[i], root);
        crash_disk_continue(disk, lives[i + 1].recording);
    }
    return disk;
}

static bool tell_story(uint64_t seed)
{
    static struct life lives[LIVES];
    size_t kills[LIVES] = {0};
    uint64_t seeds[LIVES] = {0};
    struct moment was = {.position = 0};
    char root[PATH_MAX];
    bool good = true;

    make_dir(root, "life");
    for (unsigned number = 0; number < LIVES && good; number++) {
        struct life *life = &lives[number];
        struct crash_disk *disk;
        size_t from;

        good = live(life, root, crash_random(seed, number),
                    number > 0 ? &lives[number - 1] : NULL, &was);
        if (!good) {
            (void)report("life", seed, number, 0, life);
            break;
        }
        /* An unfinished creation is begun again by whoever owns it. */
        from = number == 0 ? life->moments[0].position : 0;
        disk = disk_of(lives, number, kills, seeds);
        good = cut_life(life, disk, from, STATES_PER_STORY / LIVES,
                        seed + number, number);
        crash_disk_free(disk);
        if (!good)
            break;
        disk = disk_of(lives, number, kills, seeds);
        seeds[number] = crash_random(seed, 100 + number);
        kills[number] =
            from + seeds[number] % (life->recording->entries_count - from + 1);
        make_dir(root, number % 2 == 0 ? "life1" : "life2");
        good = kill_life(life, disk, from, seeds[number], number, root, &was);
        crash_disk_free(disk);
    }
    for (unsigned number = 0; number < LIVES; number++)
        end_life(&lives[number]);
    return good;
}

static void begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    /* States are written and read by the thousand. */
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    fault_skip_syncs(true);
}

TEST("whenever power or process go, also again and again, what was promised "
     "is replayed")
{
    uint64_t states = setting("CRASH_STATES", 200);
    uint64_t seed = setting("CRASH_SEED", 1);

    begin();
    for (uint64_t done = 0; done < states; done += STATES_PER_STORY, seed++) {
        if (!CHECK(tell_story(seed))) {
            printf("# the story of CRASH_SEED=%" PRIu64 "\n", seed);
            break;
        }
    }
    fault_reset();
}

TEST("a journal whose syncs do nothing is found out")
{
    struct fault_calls calls = {FAULT_SYNC_DATA, "/journal/segment", 0};
    bool is_found = false;

    begin();
    for (uint64_t seed = 1, done = 0; done < BUG_STATES && !is_found;
         done += STATES_PER_STORY, seed++) {
        fault_swallow(&calls);
        is_found = !tell_story(seed);
    }
    CHECK(is_found);
    fault_reset();
}
