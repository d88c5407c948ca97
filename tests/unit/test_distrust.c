/* SPDX-License-Identifier: BSD-2-Clause */
/* links: memory_store device_fixture remote_chunk */
/*
 * What becomes of a chunk of which a copy is bad: see RESTATE_DISTRUST.
 */
#include "cache/chunk_work.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cache/catalog.h"
#include "cache/chunk_reader.h"
#include "cache/geometry.h"
#include "support/device_fixture.h"
#include "support/memory_store.h"
#include "support/remote_chunk.h"
#include "unit/test.h"

enum { CHUNK = 256 << 10, NUMBER = 3 };

static struct device_fixture fixture;
static unsigned char plain[CHUNK], back[CHUNK];
static struct chunk_object object;

/* A device with a chunk that is here and in the bucket. */
static bool begin(void)
{
    fixture_begin(&fixture, test_dir(), false);
    fixture.options.store = memory_store_new();
    fixture_fill(plain, sizeof(plain), 1);
    if (!CHECK(fixture_open(&fixture) == 0))
        return false;
    remote_put(fixture.device, NUMBER, 1, plain, &object);
    remote_commit_resident(fixture.device, NUMBER, &object, plain);
    return true;
}

static struct catalog_entry entry_now(void)
{
    struct catalog_entry entry;

    catalog_get(device_catalog(fixture.device), NUMBER, &entry);
    return entry;
}

/* A copy of a block, as the table of the chunk's file names it. */
static struct bad_copy copy_of(uint32_t block, bool is_in_bucket)
{
    struct bad_copy copy = {.block = block, .is_in_bucket = is_in_bucket};
    struct chunk_table *table;
    struct chunk_file *file;

    if (!CHECK(chunk_reader_open_file(device_reader(fixture.device), NUMBER,
                                      &file, &table) == 0))
        return copy;
    copy.as_read = table->blocks[block];
    copy.id = object.id;
    chunk_table_release(table);
    chunk_file_release(file);
    return copy;
}

static int distrust(const struct bad_copy *copies, size_t count)
{
    const struct distrusted what = {
        .chunk = NUMBER,
        .copies = copies,
        .count = count,
    };

    return device_distrust(fixture.device, &what);
}

static bool reads_well(void)
{
    return fixture_read(&fixture, (uint64_t)NUMBER * CHUNK, back, CHUNK) == 0 &&
           memcmp(back, plain, CHUNK) == 0;
}

TEST("without its bad object a chunk is one that no image has, and reads on")
{
    struct catalog_entry before, after;
    struct bad_copy bad;

    if (!begin())
        return;
    before = entry_now();
    bad = copy_of(5, true);
    CHECK(distrust(&bad, 1) == 0);
    after = entry_now();
    CHECK(after.generation > before.generation && after.revision == 0);
    CHECK(!catalog_entry_is_clean(&after));
    CHECK(fixture_status(&fixture).unpublished_since_ns != 0);
    CHECK(copy_of(5, true).as_read.base == BASE_HOLE);
    CHECK(copy_of(6, true).as_read.base == BASE_OBJECT);
    /* Said twice, nothing is left to be done. */
    CHECK(distrust(&bad, 1) == -ESTALE);
    CHECK(reads_well());
    CHECK(fixture_crash(&fixture) == 0);
    CHECK(entry_now().generation == after.generation);
    CHECK(reads_well());
    fixture_end(&fixture);
}

TEST(
    "without its bad copy here a chunk is as it was, and comes from the bucket")
{
    struct catalog_entry before, after;
    struct bad_copy bad;

    if (!begin())
        return;
    before = entry_now();
    bad = copy_of(5, false);
    CHECK(distrust(&bad, 1) == 0);
    after = entry_now();
    CHECK(after.generation == before.generation &&
          after.revision == before.revision + 1);
    CHECK(catalog_entry_is_clean(&after));
    CHECK(copy_of(5, false).as_read.local_pages == 0);
    CHECK(reads_well());
    fixture_end(&fixture);
}

TEST("a bad table of its object alone makes a chunk be uploaded again")
{
    struct distrusted what = {.chunk = NUMBER, .table_of = &object.id};
    struct catalog_entry before;

    if (!begin())
        return;
    before = entry_now();
    CHECK(device_distrust(fixture.device, &what) == 0);
    CHECK(entry_now().generation > before.generation);
    CHECK(copy_of(5, true).as_read.base == BASE_OBJECT);
    CHECK(reads_well());
    fixture_end(&fixture);
}

TEST("of another object's table nothing follows")
{
    struct object_id other = {1, 2, 99};
    struct distrusted what = {.chunk = NUMBER, .table_of = &other};

    if (!begin())
        return;
    CHECK(device_distrust(fixture.device, &what) == -ESTALE);
    fixture_end(&fixture);
}

TEST("a chunk that the open checkpoint waits for is left alone")
{
    unsigned char page[CACHE_PAGE];
    struct bad_copy bad;

    if (!begin())
        return;
    fixture_fill(page, sizeof(page), 7);
    CHECK(fixture_write(&fixture, (uint64_t)NUMBER * CHUNK, page, sizeof(page),
                        0) == 0);
    CHECK(device_checkpoint(fixture.device, 1000) == 0);
    bad = copy_of(5, true);
    CHECK(distrust(&bad, 1) == -EBUSY);
    CHECK(device_drop_checkpoint(fixture.device) == 0);
    CHECK(distrust(&bad, 1) == 0);
    memcpy(plain, page, sizeof(page));
    CHECK(reads_well());
    fixture_end(&fixture);
}

TEST("a chunk that is only in the bucket has no other copy")
{
    struct bad_copy bad;

    if (!begin())
        return;
    bad = copy_of(5, true);
    remote_commit(fixture.device, NUMBER, &object);
    CHECK(distrust(&bad, 1) == -ESTALE);
    fixture_end(&fixture);
}
