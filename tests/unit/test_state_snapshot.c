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

/* A catalog in which every step-th chunk is mapped, some with objects. */
static struct catalog *make_catalog(uint64_t step)
{
    struct catalog_entry entry = {.flags = CATALOG_FILE};
    struct catalog *catalog = NULL;

    if (!CHECK(catalog_new(CHUNKS, &catalog) == 0))
        return NULL;
    for (uint64_t chunk = 0; step > 0 && chunk < CHUNKS; chunk += step) {
        entry.generation = chunk + 1;
        entry.objects_count = chunk % 100 == 0 ? CHUNK_OBJECTS_MAX : 0;
        entry.objects[CHUNK_OBJECTS_MAX - 1].id.counter = chunk;
        CHECK(catalog_set(catalog, chunk, &entry) == 0);
    }
    return catalog;
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

TEST("a catalog comes back from its snapshot, empty, sparse or full")
{
    static const uint64_t steps[] = {0, 70000, 1000, 3, 1};
    int dirfd = open_test_dir();

    for (size_t i = 0; i < 5; i++) {
        struct catalog *catalog = make_catalog(steps[i]);
        struct catalog *found = make_catalog(0);
        struct state_header read_header = {.size = 0};
        struct stat status;
        uint64_t size = 0;

        NEED(catalog && found);
        CHECK(state_snapshot_write(dirfd, "snapshot", &header, catalog,
                                   &size) == 0);
        CHECK(fstatat(dirfd, "snapshot", &status, 0) == 0);
        CHECK((uint64_t)status.st_size == size);
        CHECK(state_snapshot_read(dirfd, "snapshot", true, found,
                                  &read_header) == 0);
        CHECK(read_header.number == 3 && read_header.salt == 4 &&
              read_header.commit == 5 && read_header.journal_begin == 6 &&
              read_header.last_generation == CHUNKS);
        CHECK(catalogs_are_equal(catalog, found));
        catalog_free(catalog);
        catalog_free(found);
    }
    (void)close(dirfd);
}

TEST("an entry past the end, or above the last generation, is refused")
{
    int dirfd = open_test_dir();
    struct catalog *catalog = make_catalog(1), *small = NULL, *found;
    struct state_header lying = header, read_header;
    uint64_t size;

    NEED(catalog);
    CHECK(state_snapshot_write(dirfd, "good", &header, catalog, &size) == 0);
    CHECK(catalog_new(CHUNKS - 1, &small) == 0);
    CHECK(state_snapshot_read(dirfd, "good", true, small, &read_header) ==
          -EINVAL);
    lying.last_generation = CHUNKS - 1;
    CHECK(state_snapshot_write(dirfd, "lying", &lying, catalog, &size) == 0);
    found = make_catalog(0);
    CHECK(state_snapshot_read(dirfd, "lying", true, found, &read_header) ==
          -EBADMSG);
    catalog_free(catalog);
    catalog_free(found);
    catalog_free(small);
    (void)close(dirfd);
}

TEST("whatever write, sync or read fails is told, and a missing file is")
{
    static const unsigned kinds[] = {FAULT_CREATE, FAULT_WRITE,
                                     FAULT_SYNC_DATA};
    int dirfd = open_test_dir();
    struct catalog *catalog = make_catalog(1), *found = make_catalog(0);
    struct state_header read_header;
    unsigned long writes = 0;
    uint64_t size = 0;

    NEED(catalog && found);
    CHECK(state_snapshot_read(dirfd, "absent", false, found, &read_header) ==
          -ENOENT);
    for (size_t i = 0; i < 3; i++) {
        unsigned long nth = 1;

        for (;; nth++) {
            struct fault_calls calls = {.kinds = kinds[i], .nth = nth};
            int error;

            fault_fail(&calls, -ENOSPC, false, 512);
            error = state_snapshot_write(dirfd, "snapshot", &header, catalog,
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
        CHECK(state_snapshot_read(dirfd, "snapshot", false, found,
                                  &read_header) == -EIO);
        catalog_free(found);
        found = make_catalog(0);
    }
    fault_reset();
    CHECK(state_snapshot_read(dirfd, "snapshot", false, found, &read_header) ==
          0);
    CHECK(catalogs_are_equal(catalog, found));
    catalog_free(catalog);
    catalog_free(found);
    (void)close(dirfd);
}
