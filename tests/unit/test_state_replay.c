/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/state_replay.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "unit/test.h"

/* What whole files do is in test_state_log; here is what no writer writes. */

enum { PAGES = 8, CHUNKS = 100 };

static const uint8_t id[UUID_SIZE] = {1, 2, 3};
static const char NAME[] = "log.0000000000000005";

static struct state_header header;
static unsigned char file[PAGES * STATE_PAGE];

static void begin_file(void)
{
    header = (struct state_header){
        .kind = STATE_FILE_LOG,
        .number = 5,
        .salt = 6,
        .commit = 10,
        .size = sizeof(file),
    };
    memcpy(header.cachedir_id, id, UUID_SIZE);
    memset(file, 0, sizeof(file));
    state_header_encode(&header, file);
}

/* Put a group with one change at a page, with heads and checksums right. */
static void put_group(size_t page, struct state_group group,
                      const struct state_change *change)
{
    unsigned char *head = file + page * STATE_PAGE;

    group.size += state_change_encode(change, head + STATE_GROUP_HEAD);
    group.checksum = crc32c(state_seed(&header), head + STATE_GROUP_HEAD,
                            STATE_PAGE - STATE_GROUP_HEAD);
    state_group_encode(&group, &header, head);
}

static struct state_change make_change(uint64_t chunk, uint64_t generation)
{
    struct state_change change;

    memset(&change, 0, sizeof(change));
    change.kind = STATE_CHUNK;
    change.chunk = chunk;
    change.entry.generation = generation;
    return change;
}

/* Write the file and replay it; what became of it is in the results. */
static int run(struct state_replay *replay, struct state_numbers *ret_numbers,
               uint64_t *ret_mapped)
{
    struct state_contents contents = {.numbers.commit = 10};
    int error, dirfd = open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct state_files files = {dirfd, "cache"};
    int fd =
        openat(dirfd, NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    CHECK(fd >= 0 && write(fd, file, sizeof(file)) == sizeof(file));
    (void)close(fd);
    CHECK(catalog_new(CHUNKS, &contents.catalog) == 0);
    CHECK(catalog_new(CHUNKS, &contents.checkpoint) == 0);
    error = state_replay_open(&files, 5, id, true, replay);
    if (error == 0) {
        error = state_replay_run(replay, false, &contents);
        (void)close(replay->fd);
    }
    *ret_mapped = catalog_count(contents.catalog);
    ret_numbers->commit = contents.numbers.commit;
    ret_numbers->last_generation = contents.numbers.last_generation;
    catalog_free(contents.checkpoint);
    catalog_free(contents.catalog);
    (void)close(dirfd);
    return error;
}

static int run_quietly(void)
{
    struct state_replay replay;
    struct state_numbers numbers;
    uint64_t mapped;

    return run(&replay, &numbers, &mapped);
}

TEST("groups one after the other are applied, up to the zeros behind them")
{
    struct state_change change = make_change(3, 7);
    struct state_replay replay;
    struct state_numbers numbers;
    uint64_t mapped = 0;

    begin_file();
    put_group(1, (struct state_group){.commit = 11, .count = 1}, &change);
    change = make_change(4, 5);
    put_group(2, (struct state_group){.commit = 12, .count = 1}, &change);
    CHECK(run(&replay, &numbers, &mapped) == 0);
    CHECK(mapped == 2 && numbers.commit == 12);
    CHECK(numbers.last_generation == 7);
    CHECK(replay.end == (uint64_t)3 * STATE_PAGE);
    CHECK(replay.torn_end == replay.end);
}

TEST("a log that is full to its last page is read to its end")
{
    struct state_replay replay;
    struct state_numbers numbers;
    uint64_t mapped = 0;

    begin_file();
    for (size_t page = 1; page < PAGES; page++) {
        struct state_change change = make_change(page, page);

        put_group(page, (struct state_group){.commit = 10 + page, .count = 1},
                  &change);
    }
    CHECK(run(&replay, &numbers, &mapped) == 0);
    CHECK(mapped == PAGES - 1 && replay.end == sizeof(file));
}

TEST("the end of what was torn is told, wherever it lies")
{
    struct state_replay replay;
    struct state_numbers numbers;
    uint64_t mapped;

    for (size_t page = 1; page < PAGES; page++) {
        begin_file();
        file[page * STATE_PAGE + 4095] = 1;
        CHECK(run(&replay, &numbers, &mapped) == 0);
        CHECK(replay.end == STATE_PAGE);
        CHECK(replay.torn_end == (page + 1) * STATE_PAGE);
    }
}

TEST("a commit out of its turn is damage, early, late or again")
{
    static const uint64_t commits[] = {0, 10, 12, UINT64_MAX};
    struct state_change change = make_change(3, 7);

    for (size_t i = 0; i < 4; i++) {
        begin_file();
        put_group(1, (struct state_group){.commit = commits[i], .count = 1},
                  &change);
        CHECK(run_quietly() == -EUCLEAN);
    }
    begin_file();
    header.commit = 9;
    state_header_encode(&header, file);
    CHECK(run_quietly() == -EUCLEAN);
}

TEST("a group that lies about its size or number is damage, not a crash")
{
    struct state_change change = make_change(3, 7);
    static const struct state_group lies[] = {
        {.commit = 11, .count = 1, .size = UINT64_MAX - 28},
        {.commit = 11, .count = 1, .size = UINT64_MAX / 2},
        {.commit = 11, .count = 1, .size = sizeof(file)},
        {.commit = 11, .count = 1, .size = 1}, /* half a change follows */
        {.commit = 11, .count = 2},
        {.commit = 11, .count = 0},
    };

    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        begin_file();
        put_group(1, lies[i], &change);
        CHECK(run_quietly() == -EUCLEAN);
    }
}

TEST("a whole group with a change that makes no sense is damage")
{
    struct state_change change = make_change(CHUNKS, 7); /* past the end */

    begin_file();
    put_group(1, (struct state_group){.commit = 11, .count = 1}, &change);
    CHECK(run_quietly() == -EUCLEAN);
    begin_file();
    change = make_change(1, CATALOG_GENERATION_MAX + 1);
    put_group(1, (struct state_group){.commit = 11, .count = 1}, &change);
    CHECK(run_quietly() == -EUCLEAN);
    begin_file();
    change = make_change(1, 1);
    file[STATE_PAGE + 200] = 1; /* behind the changes, under the checksum */
    put_group(1, (struct state_group){.commit = 11, .count = 1}, &change);
    CHECK(run_quietly() == -EUCLEAN);
    /* An end of what was not begun. */
    begin_file();
    change = (struct state_change){.kind = STATE_CHECKPOINT_PUBLISHED};
    put_group(1, (struct state_group){.commit = 11, .count = 1}, &change);
    CHECK(run_quietly() == -EUCLEAN);
}

TEST("the head of any later group says that one before it is damaged")
{
    struct state_change change = make_change(3, 7);

    for (size_t page = 2; page < PAGES; page++) {
        begin_file();
        put_group(page, (struct state_group){.commit = 12, .count = 1},
                  &change);
        CHECK(run_quietly() == -EUCLEAN);
        /* Of another file, or no head at all: what was torn. */
        file[page * STATE_PAGE + 8] ^= 1;
        CHECK(run_quietly() == 0);
    }
}

TEST("a log without a byte behind its header is empty, any other is not")
{
    struct state_replay replay;
    struct state_numbers numbers;
    uint64_t mapped;
    bool is_empty = false;

    begin_file();
    CHECK(run(&replay, &numbers, &mapped) == 0);
    for (int i = 0; i < 2; i++) {
        int dirfd = open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct state_files files = {dirfd, "cache"};

        NEED(state_replay_open(&files, 5, id, true, &replay) == 0);
        CHECK(state_replay_is_empty(&replay, &is_empty) == 0);
        CHECK(is_empty == (i == 0));
        (void)close(replay.fd);
        (void)close(dirfd);
        file[sizeof(file) - 1] = 1;
        CHECK(run(&replay, &numbers, &mapped) == 0);
    }
}
