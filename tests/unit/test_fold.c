/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/fold.h"

#include <sys/stat.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "cache/block_codec.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "unit/test.h"

enum {
    PAGE = CACHE_PAGE,
    BLOCK = CACHE_BLOCK,
    CHUNK = 256 << 10,
    HERE = 2, /* the chunk that is folded */
};

static const uint64_t AT = (uint64_t)HERE * CHUNK;

static struct device_fixture disk;
static unsigned char plain[CHUNK]; /* of the chunk */
static unsigned char got[CHUNK];

static bool begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    fixture_begin(&disk, test_dir(), false);
    memset(plain, 0, sizeof(plain));
    return CHECK(fixture_open(&disk) == 0);
}

static void end(void)
{
    fault_reset();
    fixture_end(&disk);
}

static bool reads(void)
{
    memset(got, 0xa5, sizeof(got));
    return fixture_read(&disk, AT, got, CHUNK) == 0 &&
           memcmp(got, plain, CHUNK) == 0;
}

static bool put(uint64_t offset, size_t size, uint64_t seed)
{
    fixture_fill(plain + offset, size, seed);
    return fixture_write(&disk, AT + offset, plain + offset, size, 0) == 0;
}

static bool zero(uint64_t offset, size_t size, unsigned flags)
{
    memset(plain + offset, 0, size);
    return fixture_zero(&disk, AT + offset, size, flags) == 0;
}

static bool destage(void)
{
    return device_destage(disk.device) == 0;
}

/* Returns the chunk's file, as stat tells; size -1 if there is none. */
static struct stat file_of(uint64_t chunk)
{
    struct stat status = {.st_size = -1};
    char path[PATH_MAX];

    fixture_chunk_path(&disk, chunk, path);
    if (stat(path, &status) < 0)
        status.st_size = -1;
    return status;
}

/* Returns how the table has a block. */
static struct chunk_block block_of(uint32_t block)
{
    struct chunk_block entry = {.base = 0xff};
    struct chunk_file *file;
    struct chunk_table *table;

    if (!CHECK(chunk_reader_open_file(&disk.device->reader, HERE, &file,
                                      &table) == 0))
        return entry;
    entry = table->blocks[block];
    chunk_file_release(file);
    chunk_table_release(table);
    return entry;
}

static unsigned flags_of(uint64_t chunk)
{
    unsigned flags;
    uint64_t generation =
        catalog_generation(disk.device->catalog, chunk, &flags);

    return generation == 0 ? 0 : flags;
}

TEST("a fold of what the journal does not know is nothing")
{
    struct fold fold = {.chunk = HERE};

    NEED(begin());
    fold_prepare(&disk.device->fold, &fold);
    CHECK(fold.error == 0 && fold.outcome == FOLD_NOTHING);
    fold_write_table(&disk.device->fold, &fold);
    CHECK(fold.error == 0);
    fold_done(&fold);
    CHECK(file_of(HERE).st_size < 0);
    end();
}

TEST("pages are kept as a part of their block, zeros take no place")
{
    struct chunk_block block;

    NEED(begin());
    CHECK(put(PAGE, 2 * PAGE, 1));
    CHECK(put(2 * BLOCK, BLOCK, 2));
    CHECK(zero(3 * BLOCK, BLOCK, 0));
    CHECK(destage());
    block = block_of(0);
    CHECK(block.base == BASE_HOLE && block.local_pages == 0x6 &&
          block.damaged_pages == 0 && block.codec == BLOCK_RAW &&
          block.stored_size == 2 * PAGE);
    block = block_of(2);
    CHECK(block.base == BASE_HOLE && block.local_pages == 0xf);
    block = block_of(3);
    CHECK(block.base == BASE_HOLE && block.local_pages == 0);
    CHECK(flags_of(HERE) == CATALOG_FILE);
    CHECK(reads());
    end();
}

TEST("a page written full of zeros takes no place either, and hides what was "
     "there")
{
    static const unsigned char zeros[PAGE];
    struct chunk_block block;

    NEED(begin());
    CHECK(put(0, BLOCK, 1));
    CHECK(destage());
    CHECK(fixture_write(&disk, AT + PAGE, zeros, PAGE, 0) == 0);
    memset(plain + PAGE, 0, PAGE);
    CHECK(destage());
    block = block_of(0);
    CHECK(block.base == BASE_HOLE && block.local_pages == 0xd);
    CHECK(reads());
    end();
}

TEST("zeros that are no hole stay so beside pages, until all is overwritten")
{
    NEED(begin());
    CHECK(zero(0, BLOCK, DEVICE_NO_HOLE));
    CHECK(put(PAGE, PAGE, 1));
    CHECK(destage());
    CHECK(block_of(0).base == BASE_ZERO && block_of(0).local_pages == 0x2);
    CHECK(put(2 * PAGE, PAGE, 1));
    CHECK(destage());
    CHECK(block_of(0).base == BASE_ZERO && block_of(0).local_pages == 0x6);
    CHECK(zero(0, BLOCK, 0));
    CHECK(put(BLOCK, PAGE, 1));
    CHECK(destage());
    CHECK(block_of(0).base == BASE_HOLE && block_of(0).local_pages == 0);
    CHECK(reads());
    end();
}

TEST("a chunk that became a hole loses its file, one that became zeros too, "
     "and the state log says which")
{
    NEED(begin());
    CHECK(put(0, CHUNK, 1));
    CHECK(fixture_write(&disk, 0, plain, CHUNK, 0) == 0);
    CHECK(destage());
    CHECK(file_of(HERE).st_size > CHUNK && file_of(0).st_size > CHUNK);
    CHECK(zero(0, CHUNK, 0));
    CHECK(fixture_zero(&disk, 0, CHUNK, DEVICE_NO_HOLE) == 0);
    CHECK(destage());
    CHECK(file_of(HERE).st_size < 0 && file_of(0).st_size < 0);
    CHECK(flags_of(HERE) == 0 && flags_of(0) == CATALOG_ZERO);
    CHECK(reads());
    CHECK(put(BLOCK, PAGE, 2));
    CHECK(fixture_write(&disk, BLOCK, plain + BLOCK, PAGE, 0) == 0);
    CHECK(destage());
    CHECK(flags_of(HERE) == CATALOG_FILE && flags_of(0) == CATALOG_FILE);
    CHECK(fixture_extent_at(&disk, AT) ==
          (DEVICE_EXTENT_HOLE | DEVICE_EXTENT_ZERO));
    CHECK(fixture_extent_at(&disk, 0) == DEVICE_EXTENT_ZERO);
    CHECK(reads());
    NEED(fixture_reopen(&disk) == 0);
    CHECK(reads());
    end();
}

TEST("a file with much dead space is rewritten: overwriting the same chunk "
     "again and again does not make it grow without end")
{
    off_t largest = 0;
    ino_t first;
    bool moved = false;

    NEED(begin());
    CHECK(put(0, CHUNK, 0));
    CHECK(destage());
    first = file_of(HERE).st_ino;
    for (uint64_t i = 1; i < 30; i++) {
        struct stat status;

        CHECK(put(i % 7 * PAGE, CHUNK - 7 * PAGE, i));
        CHECK(destage());
        status = file_of(HERE);
        if (status.st_size > largest)
            largest = status.st_size;
        moved = moved || status.st_ino != first;
    }
    CHECK(moved);
    CHECK(largest < 3 * CHUNK + (2 << 20));
    CHECK(reads());
    NEED(fixture_reopen(&disk) == 0);
    CHECK(reads());
    end();
}

TEST("when a rewrite fails the chunk stays where it is, and is whole")
{
    struct fault_calls calls = {FAULT_CREATE, ".new", 1};

    NEED(begin());
    CHECK(put(0, CHUNK, 0));
    CHECK(destage());
    fault_fail(&calls, -EIO, true, 0);
    for (uint64_t i = 1; i < 12; i++) {
        CHECK(put(i * PAGE, CHUNK - 15 * PAGE, i));
        CHECK(destage());
        CHECK(reads());
    }
    CHECK(fault_count() > 0);
    fault_reset();
    CHECK(put(0, PAGE, 99));
    CHECK(destage());
    CHECK(file_of(HERE).st_size < 2 * CHUNK);
    CHECK(reads());
    NEED(fixture_reopen(&disk) == 0);
    CHECK(reads());
    end();
}

TEST("a block that can never be read does not have its file grow without end")
{
    /* Of a destage: the table, then what the rewrite copies. */
    struct fault_calls calls = {FAULT_READ, "/chunk/", 2};
    char aside[PATH_MAX];
    bool is_lost = false;

    NEED(begin());
    CHECK(put(0, 2 * BLOCK, 0));
    CHECK(destage());
    fixture_chunk_path(&disk, HERE, aside);
    (void)strncat(aside, ".lost", sizeof(aside) - strlen(aside) - 1);
    for (uint64_t i = 1; i < 600 && !is_lost; i++) {
        CHECK(put(BLOCK, BLOCK, i));
        fault_fail(&calls, -EIO, true, 0);
        CHECK(destage());
        fault_reset();
        is_lost = access(aside, F_OK) == 0;
        CHECK(is_lost || block_of(0).damaged_pages == 0);
    }
    CHECK(is_lost);
    CHECK(file_of(HERE).st_size < 2 * CHUNK);
    CHECK(fixture_read(&disk, AT, got, PAGE) == -EIO);
    CHECK(fixture_read(&disk, AT + BLOCK, got, BLOCK) == 0);
    CHECK(memcmp(got, plain + BLOCK, BLOCK) == 0);
    end();
}

TEST("when its file cannot be synced, a chunk moves to a new one; nothing is "
     "lost")
{
    struct fault_calls calls = {FAULT_SYNC_DATA, "/chunk/", 1};
    ino_t first;

    NEED(begin());
    CHECK(put(0, CHUNK, 1));
    CHECK(destage());
    first = file_of(HERE).st_ino;
    CHECK(put(BLOCK, 3 * BLOCK, 2));
    fault_fail(&calls, -EIO, false, 0);
    CHECK(device_destage(disk.device) == -EIO);
    fault_reset();
    CHECK(!fixture_status(&disk).failed);
    CHECK(reads());
    CHECK(put(5 * BLOCK, PAGE, 3));
    CHECK(destage());
    CHECK(file_of(HERE).st_ino != first);
    CHECK(reads());
    NEED(fixture_crash(&disk) == 0);
    CHECK(reads());
    end();
}

TEST("a new file whose sync fails is made again")
{
    struct fault_calls calls = {FAULT_SYNC_DATA, "/chunk/", 1};

    NEED(begin());
    CHECK(put(0, CHUNK, 1));
    fault_fail(&calls, -EIO, false, 0);
    CHECK(device_destage(disk.device) == -EIO);
    CHECK(flags_of(HERE) == 0);
    CHECK(reads());
    CHECK(destage());
    CHECK(flags_of(HERE) == CATALOG_FILE);
    CHECK(reads());
    NEED(fixture_crash(&disk) == 0);
    CHECK(reads());
    end();
}

TEST("a disk that cannot read for a moment loses nothing; one that never can "
     "loses what is there, and no more")
{
    struct fault_calls calls = {FAULT_READ, "/chunk/", 1};

    NEED(begin());
    CHECK(put(0, CHUNK, 1));
    CHECK(destage());
    NEED(fixture_reopen(&disk) == 0);
    /* The table, then the block that the page is in. */
    for (calls.nth = 1; calls.nth <= 2; calls.nth++) {
        CHECK(put(BLOCK + PAGE, PAGE, calls.nth));
        fault_fail(&calls, -EIO, false, 0);
        CHECK(device_destage(disk.device) == -EIO);
        CHECK(fault_count() >= calls.nth);
        fault_reset();
        CHECK(destage());
        CHECK(block_of(1).damaged_pages == 0);
        CHECK(reads());
    }
    CHECK(put(BLOCK + PAGE, PAGE, 3));
    calls.nth = 2;
    fault_fail(&calls, -EIO, false, 0);
    CHECK(device_destage(disk.device) == -EIO);
    calls.nth = 3; /* in the rewrite, and then where it is */
    fault_fail(&calls, -EIO, true, 0);
    CHECK(destage());
    fault_reset();
    CHECK(block_of(1).damaged_pages == 0xd);
    CHECK(fixture_read(&disk, AT + BLOCK, got, PAGE) == -EIO);
    CHECK(fixture_read(&disk, AT + BLOCK + PAGE, got, PAGE) == 0);
    CHECK(memcmp(got, plain + BLOCK + PAGE, PAGE) == 0);
    CHECK(put(BLOCK, BLOCK, 4));
    CHECK(reads());
    CHECK(destage());
    NEED(fixture_reopen(&disk) == 0);
    CHECK(reads());
    end();
}

TEST("a file without a table that can be read is set aside, not thrown away")
{
    unsigned char slots[64] = "overwritten";
    char path[PATH_MAX];
    char aside[PATH_MAX + 8];
    struct stat damaged;
    struct stat kept;
    int fd;

    NEED(begin());
    CHECK(put(0, CHUNK, 1));
    CHECK(destage());
    NEED(fixture_close(&disk) == 0);
    fixture_chunk_path(&disk, HERE, path);
    (void)snprintf(aside, sizeof(aside), "%s.lost", path);
    fd = open(path, O_RDWR | O_CLOEXEC);
    NEED(fd >= 0);
    CHECK(pwrite(fd, slots, sizeof(slots), 0) == sizeof(slots));
    CHECK(fstat(fd, &damaged) == 0);
    (void)close(fd);
    NEED(fixture_open(&disk) == 0);
    CHECK(fixture_read(&disk, AT, got, PAGE) == -EIO);
    CHECK(put(BLOCK, PAGE, 2));
    CHECK(destage());
    CHECK(fixture_read(&disk, AT, got, PAGE) == -EIO);
    CHECK(fixture_read(&disk, AT + BLOCK, got, PAGE) == 0);
    CHECK(memcmp(got, plain + BLOCK, PAGE) == 0);
    CHECK(stat(aside, &kept) == 0 && kept.st_ino == damaged.st_ino);
    CHECK(file_of(HERE).st_ino != damaged.st_ino);
    end();
}

TEST("a want of descriptors is no reason to take for lost what cannot be read "
     "for a moment after it")
{
    struct fault_calls opens = {FAULT_OPEN, "/chunk/", 1};
    struct fault_calls reads_of = {FAULT_READ, "/chunk/", 2};

    NEED(begin());
    CHECK(put(0, CHUNK, 1));
    CHECK(destage());
    NEED(fixture_reopen(&disk) == 0);
    CHECK(put(BLOCK + PAGE, PAGE, 2));
    fault_fail(&opens, -EMFILE, true, 0);
    CHECK(device_destage(disk.device) == -EMFILE);
    fault_fail(&reads_of, -EIO, true, 0);
    CHECK(device_destage(disk.device) == -EIO);
    fault_reset();
    CHECK(destage());
    CHECK(block_of(1).damaged_pages == 0);
    CHECK(reads());
    end();
}

/* Change a byte of a page that is in the journal. */
static bool damage_journal(const unsigned char *page)
{
    static unsigned char segment[64 << 10];

    for (unsigned slot = 0; slot < 16; slot++) {
        char path[PATH_MAX + 32];
        ssize_t size;
        int fd;

        (void)snprintf(path, sizeof(path), "%s/journal/segment.%04x",
                       disk.cachedir, slot);
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            continue;
        size = pread(fd, segment, sizeof(segment), 0);
        for (ssize_t at = 0; at + PAGE <= size; at += 8) {
            if (memcmp(segment + at, page, PAGE) != 0)
                continue;
            CHECK(pwrite(fd, "?", 1, at + 100) == 1);
            (void)close(fd);
            return true;
        }
        (void)close(fd);
    }
    return false;
}

TEST("a page that is damaged in the journal is an error until it is "
     "overwritten, alone, and does not stop destage")
{
    NEED(begin());
    CHECK(put(0, 4 * BLOCK, 1));
    CHECK(damage_journal(plain + BLOCK + PAGE));
    for (unsigned i = 0; i < 3; i++) {
        CHECK(fixture_read(&disk, AT + BLOCK + PAGE, got, PAGE) == -EIO);
        CHECK(fixture_read(&disk, AT + BLOCK, got, PAGE) == 0);
        CHECK(memcmp(got, plain + BLOCK, PAGE) == 0);
        CHECK(fixture_read(&disk, AT + BLOCK + 2 * PAGE, got, 2 * PAGE) == 0);
        CHECK(memcmp(got, plain + BLOCK + 2 * PAGE, 2 * PAGE) == 0);
        CHECK(fixture_extent_at(&disk, AT + BLOCK + PAGE) == 0);
        if (i == 0)
            CHECK(destage());
        else if (i == 1)
            NEED(fixture_reopen(&disk) == 0);
    }
    CHECK(block_of(1).damaged_pages == 0x2);
    CHECK(put(BLOCK + PAGE, PAGE, 2));
    CHECK(reads());
    CHECK(destage());
    CHECK(block_of(1).damaged_pages == 0 && block_of(1).local_pages == 0xf);
    CHECK(reads());
    end();
}

TEST("the table of a later program is not touched, and its chunk's writes "
     "stay in the journal")
{
    unsigned char slot[PAGE];
    char path[PATH_MAX];
    uint32_t checksum;
    int fd;

    NEED(begin());
    CHECK(put(0, BLOCK, 1));
    CHECK(destage());
    CHECK(fixture_close(&disk) == 0);
    fixture_chunk_path(&disk, HERE, path);
    fd = open(path, O_RDWR | O_CLOEXEC);
    NEED(fd >= 0);
    for (off_t at = 0; at < 3 * PAGE; at += PAGE) {
        CHECK(pread(fd, slot, PAGE, at) == PAGE);
        if (bytes_are_zero(slot, PAGE))
            continue;
        put_le32(slot + 8, 2); /* its version; then its checksum */
        checksum = crc32c(0, slot, 20);
        checksum = crc32c(checksum, slot + 24, PAGE - 24);
        put_le32(slot + 20, checksum);
        CHECK(pwrite(fd, slot, PAGE, at) == PAGE);
    }
    NEED(fixture_open(&disk) == 0);
    CHECK(fixture_read(&disk, AT, got, PAGE) < 0);
    CHECK(put(PAGE, PAGE, 2));
    CHECK(device_destage(disk.device) == -EPROTONOSUPPORT);
    CHECK(device_destage(disk.device) == -EPROTONOSUPPORT);
    CHECK(fixture_read(&disk, AT + PAGE, got, PAGE) == 0);
    CHECK(memcmp(got, plain + PAGE, PAGE) == 0);
    /* Back in the hands of that program, all is there. */
    CHECK(fixture_close(&disk) == 0);
    for (off_t at = 0; at < 3 * PAGE; at += PAGE) {
        CHECK(pread(fd, slot, PAGE, at) == PAGE);
        if (bytes_are_zero(slot, PAGE))
            continue;
        put_le32(slot + 8, 1);
        checksum = crc32c(0, slot, 20);
        checksum = crc32c(checksum, slot + 24, PAGE - 24);
        put_le32(slot + 20, checksum);
        CHECK(pwrite(fd, slot, PAGE, at) == PAGE);
    }
    (void)close(fd);
    NEED(fixture_open(&disk) == 0);
    CHECK(reads());
    CHECK(destage());
    CHECK(reads());
    end();
}
