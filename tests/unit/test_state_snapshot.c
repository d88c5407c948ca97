/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/state_snapshot.h"

#include "support/fault_file.h"
#include "unit/test.h"

enum { CHUNKS = 100000 };

static const struct state_header header = {
    .kind = STATE_FILE_SNAPSHOT,
    .number = 3,
    .salt = 4,
    .commit = 5,
    .journal_begin = 6,
    .last_generation = CHUNKS,
};

static int open_test_dir(void)
{
    fault_reset();
    fault_skip_syncs(true);
    return open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Catalogs in which every step-th chunk has an entry, some with objects. */
static struct catalog *make_catalog(uint64_t chunks, uint64_t step)
{
    struct catalog_entry entry = {.flags = CATALOG_FILE};
    struct catalog *catalog = NULL;

    if (!CHECK(catalog_new(chunks, &catalog) == 0))
        return NULL;
    for (uint64_t chunk = 0; step > 0 && chunk < chunks; chunk += step) {
        entry.generation = chunk + 1;
        entry.objects_count = chunk % 100 == 0 ? CHUNK_OBJECTS_MAX : 0;
        entry.objects[CHUNK_OBJECTS_MAX - 1].id.counter = chunk;
        CHECK(catalog_set(catalog, chunk, &entry) == 0);
    }
    return catalog;
}

static bool make_contents(struct state_contents *contents, uint64_t chunks,
                          uint64_t step, uint64_t checkpoint_step)
{
    memset(contents, 0, sizeof(*contents));
    contents->catalog = make_catalog(chunks, step);
    contents->checkpoint = make_catalog(chunks, checkpoint_step);
    contents->facts.phase = CHECKPOINT_OPEN;
    return contents->catalog && contents->checkpoint;
}

static void free_contents(struct state_contents *contents)
{
    catalog_free(contents->catalog);
    catalog_free(contents->checkpoint);
}

static bool catalogs_are_equal(struct catalog *a, struct catalog *b)
{
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        struct catalog_entry x, y;

        catalog_get(a, chunk, &x);
        catalog_get(b, chunk, &y);
        if (x.generation != y.generation || x.flags != y.flags ||
            x.objects_count != y.objects_count ||
            x.objects[CHUNK_OBJECTS_MAX - 1].id.counter !=
                y.objects[CHUNK_OBJECTS_MAX - 1].id.counter)
            return false;
    }
    return catalog_count(a) == catalog_count(b);
}

static bool are_equal(const struct state_contents *a,
                      const struct state_contents *b)
{
    return catalogs_are_equal(a->catalog, b->catalog) &&
           catalogs_are_equal(a->checkpoint, b->checkpoint);
}

TEST("contents come back from their snapshot, empty, sparse or full")
{
    static const uint64_t steps[] = {0, 70000, 1000, 3, 1, 0, 1};
    enum { COUNT = sizeof(steps) / sizeof(steps[0]) };
    int dirfd = open_test_dir();

    for (size_t i = 0; i < COUNT; i++) {
        struct state_contents contents, found;
        struct state_header read_header = {.size = 0};
        struct stat status;
        uint64_t size = 0;

        NEED(make_contents(&contents, CHUNKS, steps[i], steps[COUNT - 1 - i]));
        NEED(make_contents(&found, CHUNKS, 0, 0));
        contents.facts.counter = 7;
        contents.facts.has_epoch = true;
        contents.facts.epoch[100] = 8;
        CHECK(state_snapshot_write(dirfd, "snapshot", &header, &contents,
                                   &size) == 0);
        CHECK(fstatat(dirfd, "snapshot", &status, 0) == 0);
        CHECK((uint64_t)status.st_size == size);
        CHECK(state_snapshot_read(dirfd, "snapshot", true, &found,
                                  &read_header) == 0);
        CHECK(read_header.number == 3 && read_header.salt == 4 &&
              found.numbers.commit == 5 && found.numbers.journal_begin == 6 &&
              found.numbers.last_generation == CHUNKS);
        CHECK(found.facts.counter == 7 && found.facts.has_epoch &&
              !found.facts.has_intent && found.facts.epoch[100] == 8);
        CHECK(are_equal(&contents, &found));
        free_contents(&contents);
        free_contents(&found);
    }
    (void)close(dirfd);
}

TEST("chunks of a checkpoint that is not there are damage")
{
    int dirfd = open_test_dir();
    struct state_contents contents, found;
    struct state_header read_header;
    uint64_t size;

    NEED(make_contents(&contents, CHUNKS, 1000, 5000));
    NEED(make_contents(&found, CHUNKS, 0, 0));
    contents.facts.phase = CHECKPOINT_NONE;
    CHECK(state_snapshot_write(dirfd, "lying", &header, &contents, &size) == 0);
    CHECK(state_snapshot_read(dirfd, "lying", true, &found, &read_header) ==
          -EBADMSG);
    free_contents(&contents);
    free_contents(&found);
    (void)close(dirfd);
}

TEST("an entry past the end, or above the last generation, is refused")
{
    int dirfd = open_test_dir();

    for (uint64_t step = 0; step < 2; step++) {
        struct state_contents contents, small, found;
        struct state_header lying = header, read_header;
        uint64_t size;

        NEED(make_contents(&contents, CHUNKS, step, 1 - step));
        NEED(make_contents(&small, CHUNKS - 1, 0, 0));
        NEED(make_contents(&found, CHUNKS, 0, 0));
        CHECK(state_snapshot_write(dirfd, "good", &header, &contents, &size) ==
              0);
        CHECK(state_snapshot_read(dirfd, "good", true, &small, &read_header) ==
              -EINVAL);
        lying.last_generation = CHUNKS - 1;
        CHECK(state_snapshot_write(dirfd, "lying", &lying, &contents, &size) ==
              0);
        CHECK(state_snapshot_read(dirfd, "lying", true, &found, &read_header) ==
              -EBADMSG);
        free_contents(&contents);
        free_contents(&small);
        free_contents(&found);
    }
    (void)close(dirfd);
}

TEST("whatever write, sync or read fails is told, and a missing file is")
{
    static const unsigned kinds[] = {FAULT_CREATE, FAULT_WRITE,
                                     FAULT_SYNC_DATA};
    int dirfd = open_test_dir();
    struct state_contents contents, found;
    struct state_header read_header;
    unsigned long writes = 0;
    uint64_t size = 0;

    NEED(make_contents(&contents, CHUNKS, 1, 1000));
    NEED(make_contents(&found, CHUNKS, 0, 0));
    CHECK(state_snapshot_read(dirfd, "absent", false, &found, &read_header) ==
          -ENOENT);
    for (size_t i = 0; i < 3; i++) {
        unsigned long nth = 1;

        for (;; nth++) {
            struct fault_calls calls = {.kinds = kinds[i], .nth = nth};
            int error;

            fault_fail(&calls, -ENOSPC, false, 512);
            error = state_snapshot_write(dirfd, "snapshot", &header, &contents,
                                         &size);
            if (fault_count() < nth)
                break;
            CHECK(error == -ENOSPC);
        }
        writes += nth - 1;
    }
    CHECK(writes > 40); /* sheets, and what is around them */
    for (unsigned long nth = 1; nth < 5; nth++) {
        struct fault_calls calls = {.kinds = FAULT_READ, .nth = nth};

        fault_fail(&calls, -EIO, false, 0);
        CHECK(state_snapshot_read(dirfd, "snapshot", false, &found,
                                  &read_header) == -EIO);
        state_contents_clear(&found);
    }
    fault_reset();
    CHECK(state_snapshot_read(dirfd, "snapshot", false, &found, &read_header) ==
          0);
    CHECK(are_equal(&contents, &found));
    free_contents(&contents);
    free_contents(&found);
    (void)close(dirfd);
}
