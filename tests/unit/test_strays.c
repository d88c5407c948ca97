/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/strays.h"

#include "cache/catalog.h"
#include "cache/chunk_file.h"
#include "support/fault_file.h"
#include "unit/test.h"

enum { CHUNKS = 10000, CHUNK_SIZE = 256 << 10, STEP = 10 };

struct fixture {
    int dirfd;
    struct chunk_dir *dir;
    struct catalog *catalog;
};

/* Every STEP-th chunk has a file; every second of these has an entry. */
static bool begin(struct fixture *fixture)
{
    struct catalog_entry entry = {.generation = 1, .flags = CATALOG_FILE};

    fault_reset();
    fault_skip_syncs(true);
    fixture->dirfd = open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!CHECK(catalog_new(CHUNKS, &fixture->catalog) == 0) ||
        !CHECK(chunk_dir_open(fixture->dirfd, "disk", CHUNK_SIZE,
                              CHUNK_DIR_CREATE, &fixture->dir) == 0))
        return false;
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk += STEP) {
        struct chunk_file *file = NULL;

        CHECK(chunk_file_create(fixture->dir, chunk, &file) == 0);
        chunk_file_release(file);
        entry.flags = chunk % (2 * STEP) == 0 ? CATALOG_FILE : 0;
        if (chunk % (3 * STEP) == 0 || entry.flags != 0)
            CHECK(catalog_set(fixture->catalog, chunk, &entry) == 0);
    }
    return true;
}

static void end(struct fixture *fixture)
{
    chunk_dir_close(fixture->dir);
    catalog_free(fixture->catalog);
    (void)close(fixture->dirfd);
}

static int count(void *context, uint64_t chunk)
{
    CHECK(chunk % (2 * STEP) == 0);
    ++*(uint64_t *)context;
    return 0;
}

TEST("files without an entry, or whose entry has none, go; the others stay")
{
    struct fixture fixture;
    uint64_t removed = 0, left = 0;

    NEED(begin(&fixture));
    CHECK(strays_remove(fixture.dir, fixture.catalog, &removed) == 0);
    CHECK(removed == CHUNKS / STEP / 2);
    CHECK(chunk_dir_each(fixture.dir, count, &left) == 0);
    CHECK(left == CHUNKS / STEP / 2);
    CHECK(strays_remove(fixture.dir, fixture.catalog, &removed) == 0);
    CHECK(removed == 0);
    end(&fixture);
}

TEST("what is no chunk's file is left alone")
{
    static const char *const names[] = {
        "chunk/00000000/000000000000000a.lost", /* set aside */
        "chunk/00000000/00000000000000A0",
        "chunk/00000000/a",
        "chunk/00000000/0000000000001000", /* of another directory */
        "chunk/00000000/000000000000000a.txt",
        "chunk/0",
        "chunk/lost+found",
        "chunk/00000009",
    };
    enum { COUNT = sizeof(names) / sizeof(names[0]) };
    struct fixture fixture;
    uint64_t removed = 0;

    NEED(begin(&fixture));
    for (size_t i = 0; i < COUNT; i++) {
        int fd =
            openat(fixture.dirfd, names[i], O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        CHECK(fd >= 0);
        (void)close(fd);
    }
    CHECK(strays_remove(fixture.dir, fixture.catalog, &removed) == 0);
    CHECK(removed == CHUNKS / STEP / 2);
    for (size_t i = 0; i < COUNT; i++)
        CHECK(faccessat(fixture.dirfd, names[i], F_OK, 0) == 0);
    end(&fixture);
}

TEST("what cannot be removed stays, what cannot be synced is told")
{
    struct fixture fixture;
    uint64_t removed = 0;

    NEED(begin(&fixture));
    fault_fail(&(struct fault_calls){.kinds = FAULT_UNLINK, .nth = 5}, -EIO,
               false, 0);
    CHECK(strays_remove(fixture.dir, fixture.catalog, &removed) == 0);
    CHECK(removed == CHUNKS / STEP / 2 - 1);
    fault_fail(&(struct fault_calls){.kinds = FAULT_SYNC, .nth = 1}, -EIO,
               false, 0);
    CHECK(strays_remove(fixture.dir, fixture.catalog, &removed) == -EIO);
    CHECK(removed == 1);
    fault_reset();
    end(&fixture);
}
