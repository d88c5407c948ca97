/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * The files that a journal leaves are changed, byte by byte, and replayed
 * without opening the journal, so that they stay as they are.
 */
#include "cache/journal_replay.h"

#include "base/bytes.h"
#include "base/log.h"
#include "cache/journal_segment.h"
#include "support/fault_file.h"
#include "support/journal_story.h"
#include "unit/test.h"

enum { SLOTS = 16, SECTOR = 512, HEADER = JOURNAL_HEADER_SIZE };

/* The files of a story, as they were at some moment. */
struct files {
    struct story story;
    struct journal_found_slot slots[SLOTS];
    unsigned count;
    uint64_t durable; /* position */
    size_t first;     /* of the records that are still needed */
};

static struct files files;

/* Take the files as a kill now would leave them. */
static void take_files(void)
{
    static char to[PATH_MAX];
    int dirfd;

    (void)snprintf(to, sizeof(to), "%s/copy", test_dir());
    test_remove_tree(AT_FDCWD, to);
    if (mkdir(to, 0700) != 0)
        abort();
    story_copy_files(&files.story, to);
    (void)snprintf(to, sizeof(to), "%s/copy/journal", test_dir());
    dirfd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (unsigned i = 0; i < SLOTS; i++) {
        char name[JOURNAL_SEGMENT_NAME];

        journal_segment_name(i, name);
        files.slots[i] = (struct journal_found_slot){
            .fd = openat(dirfd, name, O_RDWR | O_CLOEXEC),
        };
        if (files.slots[i].fd >= 0)
            files.count = i + 1;
    }
    (void)close(dirfd);
    files.first = story_first_in(&files.story, files.story.options.begin);
    for (unsigned i = 0; i < files.count; i++)
        (void)journal_segment_read_header(files.slots[i].fd,
                                          &files.slots[i].header);
}

static void begin(void)
{
    memset(&files, 0, sizeof(files));
    log_set_level(LOG_LEVEL_ERROR);
    fault_skip_syncs(true);
    story_init(&files.story, test_dir());
    CHECK(story_open(&files.story, true) == 0);
}

static void end(void)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        if (files.slots[i].fd >= 0)
            (void)close(files.slots[i].fd);
    }
    fault_reset();
    story_done(&files.story);
}

/* Replay the files; what is there already, as found, is forgotten. */
static int replay_as(const struct journal_options *options,
                     struct journal_found *ret_found)
{
    int error;

    for (unsigned i = 0; i < files.count; i++)
        files.slots[i].has_header = false;
    files.story.replayed_count = 0;
    error = journal_replay(options, files.slots, files.count, ret_found);
    return error;
}

static int replay(void)
{
    struct journal_found found;
    int error = replay_as(&files.story.options, &found);

    if (error == 0)
        journal_replay_done(&found);
    return error;
}

/* The slot that a segment is in. */
static unsigned slot_of(uint64_t number)
{
    for (unsigned i = 0; i < files.count; i++) {
        if (files.slots[i].header.number == number)
            return i;
    }
    return 0;
}

static int fd_at(uint64_t position)
{
    return files.slots[slot_of(position / STORY_SEGMENT)].fd;
}

static unsigned char get_byte(int fd, uint64_t offset)
{
    unsigned char byte = 0;

    if (pread(fd, &byte, 1, (off_t)offset) != 1)
        abort();
    return byte;
}

static void set_byte(int fd, uint64_t offset, unsigned char byte)
{
    if (pwrite(fd, &byte, 1, (off_t)offset) != 1)
        abort();
}

/* Change the byte at an offset of a file, replay, change it back. */
static int replay_with_flip(int fd, uint64_t offset)
{
    unsigned char byte = get_byte(fd, offset);
    int error;

    set_byte(fd, offset, byte ^ 0x40);
    error = replay();
    set_byte(fd, offset, byte);
    return error;
}

/* A few records of every kind, durable, then some that are not. */
static void write_some(void)
{
    struct story *story = &files.story;

    CHECK(story_write(story, 1, 1) == 0);
    CHECK(story_write(story, 7, 3) == 0);
    CHECK(story_zero(story, 100, 1000000, true) == 0);
    CHECK(story_sync(story) == 0);
    CHECK(story_write(story, 1, 2) == 0);
    CHECK(story_zero(story, 3, 1, false) == 0);
    CHECK(story_sync(story) == 0);
    CHECK(story_write(story, 9, 1) == 0); /* vouches for all before */
    CHECK(story_write(story, 10, 1) == 0);
    CHECK(story_zero(story, 11, 5, false) == 0);
    CHECK(story_write(story, 12, 2) == 0);
}

static uint64_t position_of(size_t step)
{
    return files.story.appended[step].position;
}

/* Where the head of the record begins. */
static uint64_t head_of(size_t step)
{
    const struct story_step *at = &files.story.appended[step];
    struct journal_record record = {.kind = at->kind, .count = at->count};

    return at->kind == JOURNAL_PAGES
               ? at->position - journal_record_head_size(&record)
               : at->position;
}

TEST("what was appended is told, in order")
{
    struct journal_found found;

    begin();
    write_some();
    take_files();
    CHECK(replay_as(&files.story.options, &found) == 0);
    CHECK(files.story.replayed_count == 9);
    CHECK(story_list_is_right(&files.story, 0));
    CHECK(found.last == 1 && found.begin == 1 && found.log_count == 1);
    CHECK(found.known_commit == 4711 && found.segment_size == STORY_SEGMENT);
    CHECK(found.end == position_of(8) + 2 * 4096);
    journal_replay_done(&found);
    end();
}

TEST("a tail torn at any sector is cut there, never in what was durable")
{
    static unsigned char saved[STORY_SEGMENT];
    uint64_t durable;
    int fd;

    begin();
    write_some();
    take_files();
    fd = fd_at(position_of(0));
    CHECK(pread(fd, saved, sizeof(saved), 0) == sizeof(saved));
    durable = head_of(5) % STORY_SEGMENT; /* on a page of its own */
    CHECK(durable % 4096 == 0);
    for (uint64_t cut = durable; cut < sizeof(saved); cut += SECTOR) {
        static unsigned char lost[STORY_SEGMENT];

        CHECK(pwrite(fd, lost, sizeof(lost) - cut, (off_t)cut) > 0);
        CHECK(replay() == 0);
        CHECK(story_list_is_right(&files.story, 0));
        CHECK(files.story.replayed_count < 9 ||
              cut >= (position_of(8) + 8192) % STORY_SEGMENT);
        CHECK(pwrite(fd, saved, sizeof(saved), 0) == sizeof(saved));
    }
    /* Any one sector of it lost: nothing from there on. */
    for (uint64_t at = durable; at < (position_of(8) + 8192) % STORY_SEGMENT;
         at += SECTOR) {
        unsigned char junk[SECTOR];

        memset(junk, 0x5a, sizeof(junk));
        CHECK(pwrite(fd, junk, sizeof(junk), (off_t)at) == SECTOR);
        CHECK(replay() == 0);
        CHECK(story_list_is_right(&files.story, 0));
        CHECK(files.story.replayed_count < 9);
        CHECK(pwrite(fd, saved, sizeof(saved), 0) == sizeof(saved));
    }
    end();
}

TEST("any byte changed in records that nobody vouched for cuts them")
{
    uint64_t from;
    uint64_t to;

    begin();
    write_some();
    take_files();
    from = head_of(5);
    to = position_of(8) + 2 * 4096;
    for (uint64_t at = from; at < to; at += at % 4096 < 700 ? 1 : 61) {
        CHECK(replay_with_flip(fd_at(at), at % STORY_SEGMENT) == 0);
        NEED(story_list_is_right(&files.story, 0));
        /* Gaps and paddings aside, all of it is some record. */
        CHECK(files.story.replayed_count < 9);
    }
    end();
}

TEST("a byte changed in what was durable is an error, or a damaged page")
{
    struct story *story = &files.story;

    begin();
    write_some();
    take_files();
    for (size_t step = 0; step < 5; step++) {
        const struct story_step *at = &story->appended[step];
        uint64_t size = at->kind == JOURNAL_PAGES ? at->count * 4096 : 64;

        for (uint64_t i = head_of(step); i < at->position; i++)
            CHECK(replay_with_flip(fd_at(i), i % STORY_SEGMENT) == -EUCLEAN);
        for (uint64_t i = 0; i < size; i += 97) {
            int error = replay_with_flip(fd_at(at->position),
                                         (at->position + i) % STORY_SEGMENT);

            /* A page that is damaged is told all the same: it is not old. */
            CHECK(error == (at->kind == JOURNAL_PAGES ? 0 : -EUCLEAN));
            if (error == 0)
                CHECK(files.story.replayed_count == 9);
        }
    }
    CHECK(replay() == 0);
    end();
}

TEST("any byte changed in the header of any segment is an error")
{
    struct journal_found found;
    uint64_t reached = 0;

    begin();
    write_some();
    CHECK(journal_rotate(files.story.journal) == 0);
    CHECK(story_write(&files.story, 1, 1) == 0);
    take_files();
    for (unsigned slot = 0; slot < files.count; slot++) {
        for (uint64_t at = 0; at < HEADER; at += at < 600 ? 1 : 31) {
            int error = replay_with_flip(files.slots[slot].fd, at);

            CHECK(error == -EUCLEAN);
            reached++;
        }
    }
    CHECK(reached > 2000);
    CHECK(replay_as(&files.story.options, &found) == 0);
    journal_replay_done(&found);
    end();
}

/* Fill some segments, all of it synced but the last record. */
static void write_segments(unsigned segments)
{
    struct story *story = &files.story;
    struct journal_fill fill;

    do {
        CHECK(story_write_patiently(story, 5, 6) == 0);
        if (story->appended_count % 2 == 0)
            CHECK(story_sync(story) == 0);
        journal_get_fill(story->journal, &fill);
    } while (fill.newest < fill.begin + segments - 1 &&
             atomic_load(&test_has_failed) == 0);
    CHECK(story_write(story, 6, 1) == 0);
    CHECK(story_sync(story) == 0);
    CHECK(story_write(story, 7, 1) == 0);
}

TEST("a segment that is missing is an error, whichever of the log it is")
{
    begin();
    write_segments(3);
    take_files();
    CHECK(replay() == 0);
    CHECK(files.story.replayed_count == files.story.appended_count);
    for (uint64_t number = 1; number <= 4; number++) {
        unsigned slot = slot_of(number);
        int fd = files.slots[slot].fd;

        CHECK(files.slots[slot].header.number == number);
        files.slots[slot].fd = -1;
        CHECK(replay() == -ENXIO);
        files.slots[slot].fd = fd;
    }
    end();
}

TEST("a segment that lost its whole header is an error")
{
    static unsigned char zeros[HEADER];
    unsigned char saved[HEADER];

    begin();
    write_segments(3);
    take_files();
    for (uint64_t number = 1; number <= 3; number++) {
        int fd = files.slots[slot_of(number)].fd;

        CHECK(pread(fd, saved, HEADER, 0) == HEADER);
        CHECK(pwrite(fd, zeros, HEADER, 0) == HEADER);
        CHECK(replay() == -ENXIO);
        CHECK(pwrite(fd, saved, HEADER, 0) == HEADER);
    }
    CHECK(replay() == 0);
    end();
}

TEST("segments that were swapped are found by what they are")
{
    int fd;

    begin();
    write_segments(3);
    take_files();
    fd = files.slots[0].fd;
    files.slots[0].fd = files.slots[2].fd;
    files.slots[2].fd = files.slots[3].fd;
    files.slots[3].fd = fd;
    CHECK(replay() == 0);
    CHECK(story_list_is_right(&files.story, 0));
    CHECK(files.story.replayed_count == files.story.appended_count);
    end();
}

TEST("a segment that is there twice, or cut short, is an error")
{
    static unsigned char data[STORY_SEGMENT];
    static unsigned char saved[STORY_SEGMENT];
    int from;
    int to;

    begin();
    write_segments(3);
    take_files();
    from = files.slots[slot_of(1)].fd;
    to = files.slots[slot_of(4)].fd;
    CHECK(pread(from, data, sizeof(data), 0) == sizeof(data));
    CHECK(pread(to, saved, sizeof(saved), 0) == sizeof(saved));
    CHECK(pwrite(to, data, sizeof(data), 0) == sizeof(data));
    CHECK(replay() == -EUCLEAN);
    CHECK(pwrite(to, saved, sizeof(saved), 0) == sizeof(saved));
    CHECK(replay() == 0);
    for (off_t size = STORY_SEGMENT - 1; size > 0; size /= 2) {
        CHECK(ftruncate(from, size) == 0);
        CHECK(replay() == -EUCLEAN);
    }
    end();
}

TEST("bytes that cannot be read are no torn tail")
{
    struct fault_calls calls = {.kinds = FAULT_READ, .nth = 1};
    unsigned long reads;

    begin();
    write_some();
    take_files();
    fault_fail(&calls, -EIO, false, 0);
    calls.nth = ULONG_MAX;
    fault_fail(&calls, -EIO, false, 0);
    CHECK(replay() == 0);
    reads = fault_count();
    /* Once, and then they can; or never again. */
    for (unsigned long nth = files.count + 1; nth <= reads; nth++) {
        int error;

        calls.nth = nth;
        fault_fail(&calls, -EIO, false, 0);
        CHECK(replay() == 0);
        CHECK(story_list_is_right(&files.story, 0));
        CHECK(files.story.replayed_count == 9);
        fault_fail(&calls, -EIO, true, 0);
        error = replay();
        CHECK(error == -EIO || error == -EUCLEAN);
    }
    calls.nth = 1;
    fault_fail(&calls, -EIO, true, 0);
    CHECK(replay() == -EIO);
    end();
}

TEST("a journal of another cache directory is refused, and so is another's")
{
    struct journal_options options;
    struct journal_found found;

    begin();
    write_some();
    take_files();
    options = files.story.options;
    options.cachedir_id[3] ^= 1;
    CHECK(replay_as(&options, &found) == -ENXIO);
    options = files.story.options;
    options.journal_id[15] ^= 1;
    CHECK(replay_as(&options, &found) == -ENXIO);
    options.read_only = true;
    CHECK(replay_as(&options, &found) == 0);
    CHECK(files.story.replayed_count == 0 && found.log_count == 0);
    journal_replay_done(&found);
    end();
}

TEST("without a segment, or without any header, there is no journal")
{
    struct journal_found found;
    static unsigned char zeros[HEADER];

    begin();
    take_files();
    CHECK(journal_replay(&files.story.options, files.slots, 0, &found) ==
          -ENXIO);
    for (unsigned i = 0; i < files.count; i++)
        CHECK(pwrite(files.slots[i].fd, zeros, HEADER, 0) == HEADER);
    CHECK(replay() == -EUCLEAN);
    end();
}

TEST("a state log that is ahead of all segments is an error")
{
    struct journal_options options;
    struct journal_found found;

    begin();
    write_some();
    take_files();
    options = files.story.options;
    options.begin = 100;
    CHECK(replay_as(&options, &found) == -ENXIO);
    end();
}

TEST("only what is sure is served read-only after damage")
{
    struct journal_options options;
    struct journal_found found;

    begin();
    write_some();
    take_files();
    options = files.story.options;
    options.read_only = true;
    set_byte(fd_at(head_of(3)), head_of(3) % STORY_SEGMENT, 0xee);
    CHECK(replay_as(&files.story.options, &found) == -EUCLEAN);
    CHECK(replay_as(&options, &found) == 0);
    files.story.durable_count = 3;
    CHECK(files.story.replayed_count == 3);
    CHECK(story_list_is_right(&files.story, 0));
    journal_replay_done(&found);
    end();
}

TEST("what a missing segment held is not skipped, also when read-only")
{
    struct journal_options options;
    struct journal_found found;

    begin();
    write_segments(3);
    take_files();
    options = files.story.options;
    options.read_only = true;
    (void)close(files.slots[slot_of(2)].fd);
    files.slots[slot_of(2)].fd = -1;
    CHECK(replay_as(&options, &found) == 0);
    files.story.durable_count = 0;
    CHECK(files.story.replayed_count > 0);
    CHECK(story_list_is_right(&files.story, 0));
    CHECK(files.story.replayed_count == story_first_in(&files.story, 2));
    journal_replay_done(&found);
    end();
}

static void ignore_waiter(struct journal_waiter *waiter, int error)
{
    (void)error;
    free(waiter);
}

TEST("a record lost in front of a page border is noticed")
{
    struct fault_calls syncs = {.kinds = FAULT_SYNC_DATA, .nth = 1};
    struct journal_waiter *waiter = calloc(1, sizeof(*waiter));
    struct story *story = &files.story;

    begin();
    CHECK(story_write(story, 1, 1) == 0);
    CHECK(story_sync(story) == 0);
    CHECK(story_write(story, 2, 1) == 0);
    CHECK(story_zero(story, 3, 1, true) == 0);
    /* A sync begins; before it ends, one more goes to the next page. */
    story_settle(story);
    fault_gate_set(&syncs);
    waiter->position = journal_head(story->journal);
    waiter->done = ignore_waiter;
    journal_when_durable(story->journal, waiter);
    fault_gate_wait();
    CHECK(story_write(story, 4, 1) == 0);
    fault_gate_open();
    take_files();
    CHECK(head_of(3) % 4096 == 0 && head_of(3) > position_of(2) + 64);
    CHECK(replay() == 0);
    CHECK(story->replayed_count == 4);
    CHECK(replay_with_flip(fd_at(head_of(2)), head_of(2) % STORY_SEGMENT + 9) ==
          0);
    CHECK(story->replayed_count == 2);
    CHECK(story_list_is_right(story, 0));
    end();
}

TEST("a record of a later version is refused, not cut")
{
    struct journal_record record = {.kind = (enum journal_kind)77};
    unsigned char head[JOURNAL_HEAD_MAX];
    const struct journal_segment_header *header;

    begin();
    write_some();
    take_files();
    header = &files.slots[slot_of(1)].header;
    record.position = position_of(8) + 2 * 4096;
    journal_record_encode(&record, NULL, header->salt, head);
    CHECK(pwrite(fd_at(record.position), head, 64,
                 (off_t)(record.position % STORY_SEGMENT)) == 64);
    CHECK(replay() == -EPROTONOSUPPORT);
    end();
}

TEST("payload that looks like records, and old records, are none")
{
    struct story *story = &files.story;
    struct journal_segment_header old;
    struct journal_fill fill;
    int fd;

    /* Through all slots more than once: each is full of old records. */
    begin();
    for (unsigned i = 0; i < 4 * STORY_SEGMENTS * 7; i++) {
        CHECK(story_write_patiently(story, i, 2) == 0);
        CHECK(story_sync(story) == 0);
    }
    journal_get_fill(story->journal, &fill);
    CHECK(fill.newest > 2 * STORY_SEGMENTS);
    take_files();
    CHECK(replay() == 0);
    CHECK(story_list_is_right(story, files.first));
    CHECK(files.first + story->replayed_count == story->appended_count);

    /* The body of the newest one, but for its header, from another slot. */
    fd = files.slots[slot_of(fill.newest)].fd;
    for (unsigned slot = 0; slot < files.count; slot++) {
        static unsigned char body[STORY_SEGMENT - HEADER];

        if (files.slots[slot].header.number == fill.newest)
            continue;
        CHECK(pread(files.slots[slot].fd, body, sizeof(body), HEADER) ==
              sizeof(body));
        CHECK(pwrite(fd, body, sizeof(body), HEADER) == sizeof(body));
        (void)replay();
        CHECK(story->replayed_count <= story_first_in(story, fill.newest));
    }
    /* Records that are right in everything but the salt. */
    old = files.slots[slot_of(fill.newest)].header;
    for (uint64_t at = HEADER; at < STORY_SEGMENT; at += 64) {
        struct journal_record record = {
            .kind = JOURNAL_ZERO,
            .page = 1,
            .count = 1,
            .position = fill.newest * STORY_SEGMENT + at,
            .durable = fill.newest * STORY_SEGMENT + at,
        };
        unsigned char head[64];

        journal_record_encode(&record, NULL, old.salt + 1, head);
        CHECK(pwrite(fd, head, 64, (off_t)at) == 64);
    }
    (void)replay();
    CHECK(story->replayed_count <= story_first_in(story, fill.newest));
    end();
}

TEST("an END without a segment after it is an error")
{
    struct journal_record last = {.kind = JOURNAL_END};
    unsigned char head[64];

    begin();
    write_some();
    take_files();
    last.position = position_of(8) + 2 * 4096;
    journal_record_encode(&last, NULL, files.slots[slot_of(1)].header.salt,
                          head);
    CHECK(pwrite(fd_at(last.position), head, 64,
                 (off_t)(last.position % STORY_SEGMENT)) == 64);
    /* With the prepared one the log goes on there. */
    CHECK(replay() == 0);
    for (unsigned slot = 0; slot < files.count; slot++) {
        static unsigned char zeros[HEADER];

        if (files.slots[slot].header.number > 1)
            CHECK(pwrite(files.slots[slot].fd, zeros, HEADER, 0) == HEADER);
    }
    CHECK(replay() == -ENXIO);
    end();
}
