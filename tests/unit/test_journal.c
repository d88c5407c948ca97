/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/journal.h"

#include <pthread.h>

#include "base/log.h"
#include "cache/geometry.h"
#include "cache/journal_segment.h"
#include "support/fault_file.h"
#include "support/journal_story.h"
#include "unit/test.h"

static struct story story;

static void prepare_story(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    fault_skip_syncs(true);
    story_init(&story, test_dir());
}

static void begin(void)
{
    prepare_story();
    CHECK(story_open(&story, true) == 0);
}

static void end(void)
{
    fault_reset();
    story_done(&story);
}

/* A second story that goes on where a kill would leave the first. */
static void fork_story(struct story *copy, const char *name)
{
    static char to[PATH_MAX];

    (void)snprintf(to, sizeof(to), "%s/%s", test_dir(), name);
    if (mkdir(to, 0700) != 0)
        abort();
    story_copy_files(&story, to);
    story_init(copy, to);
    copy->options.begin = story.options.begin;
    copy->options.segment_size = story.options.segment_size;
    memcpy(copy->appended, story.appended,
           story.appended_count * sizeof(story.appended[0]));
    copy->appended_count = story.appended_count;
    copy->durable_count = story.durable_count;
    copy->next_value = story.next_value;
}

static struct journal_fill fill_of(const struct story *of)
{
    struct journal_fill fill;

    journal_get_fill(of->journal, &fill);
    return fill;
}

TEST("what was appended is there after a close, and after a kill")
{
    static struct story copy;

    begin();
    for (uint64_t i = 1; i < 12; i++) {
        story_settle(&story);
        CHECK(story_write(&story, i * 10, 1 + i % 5) == 0);
        CHECK(story_zero(&story, i, i * i * 1000, i % 2 == 0) == 0);
    }
    fork_story(&copy, "killed");
    CHECK(story_open(&copy, false) == 0);
    CHECK(copy.replayed_count == 22);
    CHECK(story_replay_is_right(&copy, 0));
    story_done(&copy);
    CHECK(story_close(&story) == 0);
    CHECK(story_open(&story, false) == 0);
    CHECK(story.replayed_count == 22);
    CHECK(story_replay_is_right(&story, 0));
    end();
}

TEST("start after start, with and without records, finds all of them")
{
    begin();
    for (unsigned i = 0; i < 20; i++) {
        if (i % 3 != 1)
            CHECK(story_write(&story, i, 1 + i % 5) == 0);
        if (i % 4 == 0)
            CHECK(story_sync(&story) == 0);
        story_settle(&story); /* so that the start has a free segment */
        CHECK(story_close(&story) == 0);
        CHECK(story_open(&story, false) == 0);
        CHECK(story.replayed_count == story.appended_count);
        CHECK(story_replay_is_right(&story, 0));
        if (i % 5 == 4) {
            story_retire(&story);
            story.durable_count -= story.appended_count;
            story.appended_count = 0;
        }
        NEED(!atomic_load(&test_has_failed));
    }
    end();
}

TEST("an empty journal can be opened again and again")
{
    begin();
    for (unsigned i = 0; i < 20; i++) {
        CHECK(story_close(&story) == 0);
        CHECK(story_open(&story, false) == 0);
        CHECK(story.replayed_count == 0);
    }
    CHECK(story_write(&story, 1, 1) == 0);
    end();
}

TEST("a journal is not made over another, and not found where none is")
{
    static struct story none;
    static char empty[PATH_MAX];

    begin();
    CHECK(story_close(&story) == 0);
    CHECK(story_open(&story, true) == -EEXIST);
    (void)snprintf(empty, sizeof(empty), "%s/empty", test_dir());
    CHECK(mkdir(empty, 0700) == 0);
    story_init(&none, empty);
    CHECK(story_open(&none, false) == -ENXIO);
    (void)snprintf(empty, sizeof(empty), "%s/empty/journal", test_dir());
    CHECK(mkdir(empty, 0700) == 0);
    CHECK(story_open(&none, false) == -ENXIO);
    story_done(&none);
    CHECK(story_open(&story, false) == 0);
    end();
}

/* What a cut finds in the turn to append. */
struct found_cut {
    uint64_t position;
    uint64_t head;
    int answer;
};

static int find_cut(void *context, uint64_t position)
{
    struct found_cut *found = context;

    found->position = position;
    found->head = journal_head(story.journal);
    return found->answer;
}

TEST("a cut lies between what is placed and what will be")
{
    struct fault_calls writes = {FAULT_WRITE, "/journal/", 1};
    struct found_cut found = {.answer = 0};

    begin();
    for (uint64_t i = 0; i < 8; i++) {
        size_t before = story.appended_count;

        story_settle(&story);
        CHECK(story_write(&story, i * 10, 1) == 0);
        if (i % 3 == 0)
            CHECK(story_sync(&story) == 0);
        CHECK(journal_cut(story.journal, find_cut, &found) == 0);
        CHECK(found.position == found.head);
        CHECK(story.appended[before].position < found.position);
        before = story.appended_count;
        CHECK(story_write(&story, i, 1) == 0);
        CHECK(story.appended[before].position >= found.position);
    }
    found.answer = -EXDEV;
    CHECK(journal_cut(story.journal, find_cut, &found) == -EXDEV);
    story_settle(&story);
    fault_fail(&writes, -EIO, false, 0);
    CHECK(story_write(&story, 1, 1) == -EIO);
    found.position = 0;
    CHECK(journal_cut(story.journal, find_cut, &found) == -EIO);
    CHECK(found.position == 0);
    end();
}

TEST("parts of a page are read, and a page that is damaged is not")
{
    unsigned char expected[4096];
    unsigned char data[4096];
    const struct story_step *step = &story.appended[0];
    char path[PATH_MAX];
    int fd;

    begin();
    step = &story.appended[0];
    CHECK(story_write(&story, 1, 2) == 0);
    story_fill_page(step->value, 1, expected);
    CHECK(journal_read(story.journal, step->position + 4096, step->checksums[1],
                       0, data, 4096, false) == 0);
    CHECK(memcmp(data, expected, 4096) == 0);
    CHECK(journal_read(story.journal, step->position + 4096, step->checksums[1],
                       1000, data, 700, true) == 0);
    CHECK(memcmp(data, expected + 1000, 700) == 0);
    CHECK(journal_read(story.journal, step->position, step->checksums[0] ^ 1, 0,
                       data, 4096, false) == -EBADMSG);

    (void)snprintf(path, sizeof(path), "%s/journal/segment.0000", test_dir());
    fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(pwrite(fd, "!", 1, (off_t)(step->position % STORY_SEGMENT + 4095)) ==
          1);
    (void)close(fd);
    CHECK(journal_read(story.journal, step->position, step->checksums[0], 0,
                       data, 10, false) == -EBADMSG);
    CHECK(journal_read(story.journal, step->position + 4096, step->checksums[1],
                       0, data, 10, false) == 0);
    end();
}

TEST("a position in a segment that was recycled is stale, never other bytes")
{
    unsigned char data[4096];
    struct story_step step;
    unsigned stale = 0;

    begin();
    CHECK(story_write(&story, 1, 1) == 0);
    step = story.appended[0];
    for (unsigned i = 0; i < 300; i++) {
        int error;

        CHECK(story_write_patiently(&story, i, 4) == 0);
        error = journal_read(story.journal, step.position, step.checksums[0], 0,
                             data, 4096, false);
        CHECK(error == 0 || error == -ESTALE);
        stale += error == -ESTALE;
        CHECK(error != 0 || stale == 0);
    }
    CHECK(stale > 0);
    CHECK(journal_read(story.journal, 12345ULL << 40, 0, 0, data, 1, false) ==
          -ESTALE);
    end();
}

TEST("a full journal refuses, says when there is space, and goes on")
{
    unsigned spaces;
    struct journal_fill fill;
    int error;

    begin();
    do {
        story_settle(&story);
        error = story_write(&story, 1, 8);
    } while (error == 0);
    CHECK(error == -EAGAIN);
    fill = fill_of(&story);
    CHECK(fill.used > fill.capacity - 2 * 8 * 4096 - 8192);
    CHECK(fill.used <= fill.capacity);
    CHECK(fill.begin == 1 && fill.newest == STORY_SEGMENTS);
    CHECK(journal_rotate(story.journal) == -EAGAIN);
    spaces = atomic_load(&story.spaces);
    story_retire(&story);
    while (atomic_load(&story.spaces) == spaces)
        (void)usleep(100);
    CHECK(story_write(&story, 1, 8) == 0);
    CHECK(fill_of(&story).begin == fill.newest);
    end();
}

TEST("after a refusal for space, later pages of the call are refused too, but "
     "zeros take the place that is kept for them")
{
    unsigned char page[4096] = "x";
    struct journal_item large = {
        .kind = JOURNAL_PAGES,
        .count = 8,
        .pieces = {{page, 4096}, {page, 4096}, {page, 4096}},
        .pieces_count = 3,
    };
    struct journal_item small = {
        .kind = JOURNAL_PAGES,
        .count = 1,
        .pieces = {{page, 4096}},
        .pieces_count = 1,
    };
    struct journal_item zero = {.kind = JOURNAL_ZERO, .count = 1};
    struct journal_item *items[] = {&large, &small, &zero};
    static unsigned char content[8 * 4096];
    uint64_t value = 0;
    uint64_t end_position = 0;

    begin();
    large.pieces[0] = (struct iovec){content, sizeof(content)};
    large.pieces_count = 1;
    large.owner = small.owner = zero.owner = &value;
    do {
        story_settle(&story);
        journal_append(story.journal, items, 1, &end_position);
    } while (large.error == 0);
    CHECK(large.error == -EAGAIN);
    journal_append(story.journal, items, 2, &end_position);
    CHECK(large.error == -EAGAIN && small.error == -EAGAIN);
    CHECK(end_position == 0);
    journal_append(story.journal, items, 3, &end_position);
    CHECK(large.error == -EAGAIN && small.error == -EAGAIN);
    CHECK(zero.error == 0 && end_position != 0);
    end();
}

TEST("what admit refuses takes no place")
{
    uint64_t head;

    begin();
    CHECK(story_write(&story, 1, 1) == 0);
    head = journal_head(story.journal);
    story.refuse = -ECANCELED;
    CHECK(story_write(&story, 2, 1) == -ECANCELED);
    CHECK(journal_head(story.journal) == head);
    story.refuse = 0;
    CHECK(story_write(&story, 3, 1) == 0);
    CHECK(story_close(&story) == 0);
    CHECK(story_open(&story, false) == 0);
    CHECK(story.replayed_count == 2 && story_replay_is_right(&story, 0));
    end();
}

TEST("rotating ends a segment that has records, and only that")
{
    begin();
    CHECK(journal_rotate(story.journal) == 0);
    CHECK(fill_of(&story).newest == 1);
    for (uint64_t i = 1; i < 20; i++) {
        CHECK(story_write(&story, i, 1) == 0);
        CHECK(story_sync(&story) == 0);
        CHECK(journal_rotate(story.journal) == 0);
        CHECK(fill_of(&story).newest == i + 1);
        story_retire(&story);
        CHECK(fill_of(&story).begin == i + 1);
        CHECK(journal_head(story.journal) >=
              journal_segment_start(story.journal, i + 1));
        CHECK(journal_head(story.journal) <
              journal_segment_start(story.journal, i + 2));
    }
    CHECK(story_close(&story) == 0);
    CHECK(story_open(&story, false) == 0);
    CHECK(story.replayed_count == 0);
    end();
}

TEST("one call with more items than a write can take places all, in order")
{
    enum { COUNT = 3000 };
    static struct journal_item list[COUNT];
    static struct journal_item *items[COUNT];
    static unsigned char page[4096];
    uint64_t value = 0;
    uint64_t end_position = 0;

    prepare_story();
    story.options.segment_size = 1 << 20;
    story.options.segments_max = 30;
    CHECK(story_open(&story, true) == 0);
    for (unsigned i = 0; i < COUNT; i++) {
        list[i] = (struct journal_item){
            .kind = JOURNAL_PAGES,
            .page = i,
            .count = 1,
            .pieces = {{page, 1000}, {page, 2000}, {page, 1096}},
            .pieces_count = 3,
            .owner = &value,
        };
        items[i] = &list[i];
    }
    for (unsigned first = 0; first < COUNT;) {
        journal_append(story.journal, items + first, COUNT - first,
                       &end_position);
        while (first < COUNT && list[first].error == 0)
            first++;
        story_settle(&story);
    }
    CHECK(end_position == journal_head(story.journal));
    CHECK(story.appended_count == COUNT);
    CHECK(story_close(&story) == 0);
    CHECK(story_open(&story, false) == 0);
    CHECK(story.replayed_count == COUNT);
    for (unsigned i = 0; i < COUNT; i++)
        CHECK(story.replayed[i].page == i);
    CHECK(story_list_is_right(&story, 0));
    end();
}

/* ---- flushing ------------------------------------------------------------ */

struct flush {
    struct journal_waiter waiter; /* the first member */
    _Atomic int answer;           /* 1: none yet */
};

static void note_answer(struct journal_waiter *waiter, int error)
{
    atomic_store(&((struct flush *)waiter)->answer, error);
}

static void start_flush(struct flush *flush)
{
    atomic_store(&flush->answer, 1);
    flush->waiter.position = journal_head(story.journal);
    flush->waiter.done = note_answer;
    journal_when_durable(story.journal, &flush->waiter);
}

static int finish_flush(struct flush *flush)
{
    while (atomic_load(&flush->answer) == 1)
        (void)usleep(100);
    return atomic_load(&flush->answer);
}

TEST("what is durable already is answered at once, without a sync")
{
    struct fault_calls syncs = {.kinds = FAULT_ANY_SYNC, .nth = 1};
    struct flush flush;

    begin();
    CHECK(story_write(&story, 1, 1) == 0);
    CHECK(story_sync(&story) == 0);
    story_settle(&story);
    fault_fail(&syncs, -EIO, true, 0);
    start_flush(&flush);
    CHECK(atomic_load(&flush.answer) == 0);
    CHECK(story_sync(&story) == 0);
    CHECK(fault_count() == 0);
    end();
}

TEST("flushes that come during a sync share the next one")
{
    enum { COUNT = 50 };
    struct fault_calls syncs = {.kinds = FAULT_SYNC_DATA, .nth = 1};
    struct flush first;
    struct flush others[COUNT];

    begin();
    story_settle(&story);
    CHECK(story_write(&story, 1, 1) == 0);
    fault_gate_set(&syncs);
    start_flush(&first);
    fault_gate_wait();
    for (unsigned i = 0; i < COUNT; i++) {
        CHECK(story_write(&story, i, 1) == (i < 12 ? 0 : -EAGAIN) || i >= 12);
        start_flush(&others[i]);
    }
    CHECK(atomic_load(&first.answer) == 1);
    syncs.nth = ULONG_MAX;
    fault_fail(&syncs, -EIO, false, 0);
    fault_gate_open();
    CHECK(finish_flush(&first) == 0);
    for (unsigned i = 0; i < COUNT; i++)
        CHECK(finish_flush(&others[i]) == 0);
    /* One for each segment they lie in, and of the preparer's few. */
    CHECK(fault_count() < COUNT / 2);
    end();
}

TEST("a flush is answered before a write that came after it is durable")
{
    struct fault_calls syncs = {.kinds = FAULT_SYNC_DATA, .nth = 1};
    struct flush first;
    struct flush second;

    begin();
    story_settle(&story);
    CHECK(story_write(&story, 1, 1) == 0);
    fault_gate_set(&syncs);
    start_flush(&first);
    fault_gate_wait();
    /* A synced page is not written again: this one begins the next. */
    CHECK(story_write(&story, 2, 1) == 0);
    CHECK((story.appended[1].position - 72) % 4096 == 0);
    fault_gate_open();
    CHECK(finish_flush(&first) == 0);
    syncs.nth = 1;
    fault_fail(&syncs, -EIO, false, 0);
    start_flush(&second);
    CHECK(finish_flush(&second) == -EIO);
    end();
}

/* ---- a stopped appender -------------------------------------------------- */

static void *write_one(void *argument)
{
    struct journal_item item = {
        .kind = JOURNAL_ZERO,
        .page = *(const uint64_t *)argument,
        .count = 1,
        .owner = argument,
    };
    struct journal_item *items[] = {&item};
    uint64_t end_position;

    journal_append(story.journal, items, 1, &end_position);
    return item.error == 0 ? argument : NULL;
}

TEST("nobody is acknowledged past an appender that stopped in the middle")
{
    enum { THREADS = 6 };
    static struct story copy;
    struct fault_calls writes = {.kinds = FAULT_WRITE, .nth = 1};
    pthread_t threads[THREADS];
    uint64_t pages[THREADS];

    begin();
    CHECK(story_write(&story, 1, 1) == 0);
    story_settle(&story);
    fault_gate_set(&writes);
    for (unsigned i = 0; i < THREADS; i++) {
        pages[i] = 100 + i;
        CHECK(pthread_create(&threads[i], NULL, write_one, &pages[i]) == 0);
    }
    fault_gate_wait();
    /* Half of it is in the file; a kill now shows none of the others. */
    CHECK(story.appended_count == 1);
    fork_story(&copy, "killed");
    CHECK(story_open(&copy, false) == 0);
    CHECK(copy.replayed_count == 1 || copy.replayed_count == 2);
    CHECK(copy.replayed[0].page == 1);
    story_done(&copy);

    fault_gate_open();
    for (unsigned i = 0; i < THREADS; i++) {
        void *result;

        CHECK(pthread_join(threads[i], &result) == 0);
        CHECK(result == &pages[i]);
    }
    CHECK(story.appended_count == 1 + THREADS);
    CHECK(story_close(&story) == 0);
    CHECK(story_open(&story, false) == 0);
    CHECK(story.replayed_count == 1 + THREADS);
    CHECK(story_replay_is_right(&story, 0));
    end();
}

/* ---- failures ------------------------------------------------------------ */

TEST("after any write or sync that failed, all that was answered is there")
{
    for (unsigned long nth = 1; nth < 60; nth++) {
        struct fault_calls calls = {
            .kinds = FAULT_WRITE | FAULT_ANY_SYNC,
            .nth = nth,
        };
        bool has_failed = false;

        begin();
        fault_fail(&calls, nth % 2 == 0 ? -EIO : -ENOSPC, false,
                   (size_t)nth * 512);
        for (unsigned i = 0; i < 25; i++) {
            int error = story_write(&story, i, 1 + i % 7);

            has_failed = has_failed || error == -EIO;
            CHECK(error == 0 || error == -EAGAIN || error == -EIO);
            /* Final: nothing is written any more. */
            CHECK(!has_failed || error == -EIO);
            if (i % 3 == 0) {
                error = story_sync(&story);
                CHECK(error == 0 || error == -EIO);
                has_failed = has_failed || error != 0;
            }
        }
        if (has_failed)
            CHECK(story_sync(&story) == -EIO ||
                  story.durable_count == story.appended_count);
        CHECK((story_close(&story) == -EIO) == (story.failures == 1));
        CHECK(story.failures <= 1);
        fault_reset();
        fault_skip_syncs(true);
        CHECK(story_open(&story, false) == 0);
        CHECK(story_replay_is_right(&story, 0));
        end();
        test_remove_tree(AT_FDCWD, test_dir());
        CHECK(mkdir(test_dir(), 0700) == 0);
        NEED(!atomic_load(&test_has_failed));
    }
}

TEST("what was written before a failure can still be read")
{
    struct fault_calls calls = {.kinds = FAULT_WRITE, .nth = 1};
    unsigned char data[4096];

    begin();
    CHECK(story_write(&story, 1, 1) == 0);
    story_settle(&story);
    fault_fail(&calls, -EIO, true, 0);
    CHECK(story_write(&story, 2, 1) == -EIO);
    CHECK(journal_read(story.journal, story.appended[0].position,
                       story.appended[0].checksums[0], 0, data, 4096,
                       false) == 0);
    CHECK(story_write(&story, 3, 1) == -EIO);
    CHECK(journal_rotate(story.journal) == -EIO);
    end();
    CHECK(atomic_load(&story.failures) == 1);
}

TEST("a start that fails at any step loses nothing, and the next one works")
{
    unsigned long nth = 0;
    bool was_reached;

    begin();
    for (unsigned i = 0; i < 20; i++) {
        CHECK(story_write_patiently(&story, i, 1 + i % 7) == 0);
        CHECK(story_sync(&story) == 0);
    }
    CHECK(story_close(&story) == 0);
    do {
        struct fault_calls calls = {.kinds = FAULT_ANY_CHANGE, .nth = ++nth};
        size_t first = story_first_in(&story, story.options.begin);
        int error;

        fault_fail(&calls, -EIO, false, (size_t)(nth % 8) * 512);
        error = story_open(&story, false);
        if (error == 0)
            (void)story_close(&story);
        was_reached = fault_count() >= nth;
        fault_reset();
        fault_skip_syncs(true);
        CHECK(story_open(&story, false) == 0);
        CHECK(first + story.replayed_count == story.appended_count);
        CHECK(story_replay_is_right(&story, first));
        CHECK(story_close(&story) == 0);
        NEED(!atomic_load(&test_has_failed));
    } while (was_reached);
    CHECK(nth > 8);
    end();
}

TEST("a start writes again what nobody vouches for, and nothing else")
{
    struct fault_calls writes = {FAULT_WRITE, "segment", 1};
    static struct story copy;
    uint64_t written = 0;

    begin();
    for (unsigned i = 0; i < 3; i++)
        CHECK(story_write(&story, i, 2) == 0);
    CHECK(story_sync(&story) == 0);
    CHECK(story_write(&story, 3, 1) == 0); /* vouches for those before */
    CHECK(story_write(&story, 4, 1) == 0);
    fork_story(&copy, "killed");
    fault_fail(&writes, -EIO, true, 0);
    CHECK(story_open(&copy, false) == -EIO);
    writes.nth = 2; /* the header of the fresh segment */
    fault_fail(&writes, -EIO, true, 0);
    CHECK(story_open(&copy, false) == -EIO);
    fault_reset();
    fault_skip_syncs(true);
    fault_record_begin(test_dir());
    CHECK(story_open(&copy, false) == 0);
    {
        struct recording *recording = fault_record_end();

        for (size_t i = 0; i < recording->entries_count; i++) {
            const struct record_entry *entry = &recording->entries[i];
            uint64_t durable = copy.appended[3].position - 72;

            /* Neither headers nor a new file. */
            if (entry->kind != RECORD_WRITE || entry->offset == 0 ||
                !recording->nodes[entry->node].path)
                continue;
            CHECK(entry->offset >= durable % STORY_SEGMENT);
            written += entry->size;
        }
        recording_free(recording);
    }
    CHECK(written == 3 * 4096);
    CHECK(story_replay_is_right(&copy, 0) && copy.replayed_count == 5);
    story_done(&copy);
    end();
}

/* ---- space --------------------------------------------------------------- */

TEST("with the disk full the journal goes on with the segments it has")
{
    struct fault_calls calls = {.kinds = FAULT_CREATE, .nth = 1};
    struct journal_fill fill;

    begin();
    fault_fail(&calls, -ENOSPC, true, 0);
    for (unsigned i = 0; i < 100; i++)
        CHECK(story_write_patiently(&story, i, 3) == 0);
    fill = fill_of(&story);
    CHECK(fault_count() > 0);
    CHECK(fill.capacity == 4 * STORY_SEGMENT);
    CHECK(fill.used <= fill.capacity);
    CHECK(atomic_load(&story.failures) == 0);
    CHECK(story_close(&story) == 0);
    CHECK(story_open(&story, false) == 0);
    CHECK(story_replay_is_right(&story,
                                story_first_in(&story, story.options.begin)));
    end();
}

TEST("a start with every segment in use serves, and appends when one is free")
{
    static struct story copy;
    unsigned spaces;
    uint64_t used;
    int error;

    begin();
    do {
        story_settle(&story);
        error = story_write(&story, 1, 8);
    } while (error == 0);
    used = fill_of(&story).newest;
    CHECK(used == STORY_SEGMENTS);
    fork_story(&copy, "killed");
    for (unsigned starts = 0; starts < 3; starts++) {
        CHECK(story_open(&copy, false) == 0);
        CHECK(copy.replayed_count == copy.appended_count);
        CHECK(story_replay_is_right(&copy, 0));
        CHECK(fill_of(&copy).newest == used);
        CHECK(story_write(&copy, 1, 1) == -EAGAIN);
        CHECK(story_sync(&copy) == 0);
        CHECK(journal_rotate(copy.journal) == -EAGAIN);
        if (starts < 2)
            CHECK(story_close(&copy) == 0);
    }
    spaces = atomic_load(&copy.spaces);
    copy.options.begin = 2;
    journal_retire(copy.journal, 2);
    while (atomic_load(&copy.spaces) == spaces)
        (void)usleep(100);
    CHECK(story_write(&copy, 77, 1) == 0);
    CHECK(story_close(&copy) == 0);
    CHECK(story_open(&copy, false) == 0);
    CHECK(copy.replayed[copy.replayed_count - 1].page == 77);
    CHECK(story_replay_is_right(&copy, story_first_in(&copy, 2)));
    story_done(&copy);
    end();
}

TEST("a smaller journal gives files back, and keeps its segments' size")
{
    unsigned files = 0;

    begin();
    for (unsigned i = 0; i < 6; i++) {
        if (i == 5) /* the next one is in the first slot again */
            story_retire(&story);
        CHECK(story_write(&story, i, 8) == 0);
        CHECK(story_sync(&story) == 0);
        CHECK(journal_rotate(story.journal) == 0);
    }
    story_retire(&story);
    CHECK(story_write(&story, 99, 3) == 0);
    CHECK(story_close(&story) == 0);
    story.options.segment_size = STORY_SEGMENT / 2;
    story.options.segments_max = 8;
    CHECK(story_open(&story, false) == 0);
    CHECK(story.replayed_count == 1 && story.replayed[0].page == 99);
    CHECK(journal_segment_start(story.journal, 3) == 3 * STORY_SEGMENT);
    CHECK(fill_of(&story).capacity == 4 * STORY_SEGMENT);
    for (unsigned i = 0; i < 10; i++) {
        char path[PATH_MAX];

        (void)snprintf(path, sizeof(path), "%s/journal/segment.%04x",
                       test_dir(), i);
        files += access(path, F_OK) == 0;
    }
    CHECK(files == 4);
    CHECK(story_close(&story) == 0);
    story.options.segment_size = STORY_SEGMENT;
    story.options.segments_max = 40;
    CHECK(story_open(&story, false) == 0);
    CHECK(fill_of(&story).capacity == 40 * STORY_SEGMENT);
    end();
}

TEST("a file above a gap, which an unfinished removal left, is not used")
{
    char path[PATH_MAX];
    int error;
    int fd;

    begin();
    do {
        story_settle(&story);
        error = story_write(&story, 1, 8);
    } while (error == 0);
    CHECK(story_close(&story) == 0);
    (void)snprintf(path, sizeof(path), "%s/journal/segment.%04x", test_dir(),
                   STORY_SEGMENTS + 1U);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, STORY_SEGMENT) == 0 && close(fd) == 0);
    CHECK(story_open(&story, false) == 0);
    CHECK(access(path, F_OK) != 0);
    CHECK(story_write(&story, 1, 1) == -EAGAIN);
    CHECK(story_replay_is_right(&story, 0));
    CHECK(story_close(&story) == 0);
    CHECK(story_open(&story, false) == 0);
    CHECK(story.replayed_count == story.appended_count);
    end();
}

/* ---- marks and read-only ------------------------------------------------- */

/* Whether losing the head of that record is noticed, in a copy. */
static bool loss_is_noticed(size_t step, const char *name)
{
    static struct story copy;
    char path[PATH_MAX];
    int fd;
    int error;

    fork_story(&copy, name);
    for (unsigned slot = 0; slot < STORY_SEGMENTS; slot++) {
        struct journal_segment_header header;

        (void)snprintf(path, sizeof(path), "%s/%s/journal/segment.%04x",
                       test_dir(), name, slot);
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd >= 0 && journal_segment_read_header(fd, &header) == 0 &&
            header.number == story.appended[step].position / STORY_SEGMENT)
            CHECK(pwrite(fd, "lost", 4,
                         (off_t)(story.appended[step].position % STORY_SEGMENT -
                                 60)) == 4);
        if (fd >= 0)
            (void)close(fd);
    }
    error = story_open(&copy, false);
    story_done(&copy);
    return error == -EUCLEAN;
}

TEST("some time after the last flush a mark says how far the log is durable")
{
    uint64_t head;

    begin();
    CHECK(story_write(&story, 1, 1) == 0);
    CHECK(story_write(&story, 2, 1) == 0);
    CHECK(story_sync(&story) == 0);
    head = journal_head(story.journal);
    while (journal_head(story.journal) == head)
        (void)usleep(1000);
    CHECK(loss_is_noticed(1, "marked"));
    CHECK(journal_head(story.journal) <= round_up(head, 4096) + 4096);
    end();
}

TEST("a clean stop says how far the log is durable")
{
    begin();
    CHECK(story_write(&story, 1, 1) == 0);
    CHECK(story_write(&story, 2, 1) == 0);
    CHECK(story_close(&story) == 0);
    story.options.read_only = true;
    CHECK(story_open(&story, false) == 0);
    CHECK(story.replayed_count == 2);
    CHECK(story_close(&story) == 0);
    story.options.read_only = false;
    CHECK(story_open(&story, false) == 0);
    CHECK(loss_is_noticed(1, "stopped"));
    end();
}

TEST("read-only, nothing is written, and appends are refused")
{
    struct fault_calls calls = {.kinds = FAULT_ANY_CHANGE, .nth = 1};

    begin();
    CHECK(story_write(&story, 1, 1) == 0);
    CHECK(story_close(&story) == 0);
    fault_fail(&calls, -EROFS, true, 0);
    story.options.read_only = true;
    CHECK(story_open(&story, false) == 0);
    CHECK(story_replay_is_right(&story, 0) && story.replayed_count == 1);
    CHECK(story_write(&story, 2, 1) == -EROFS);
    CHECK(story_sync(&story) == 0);
    CHECK(journal_rotate(story.journal) == -EROFS);
    CHECK(story_close(&story) == 0);
    CHECK(fault_count() == 0);
    end();
}
