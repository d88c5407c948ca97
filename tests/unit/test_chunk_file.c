/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/chunk_file.h"

#include <errno.h>
#include <pthread.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "cache/block_codec.h"
#include "cache/geometry.h"
#include "support/fault_file.h"
#include "unit/test.h"

enum {
    CHUNK_SIZE = 4 << 20, /* 256 blocks */
    CHUNK = 0x5003,       /* 00000005/0000000000005003 */
};
static const char NAME[] = "chunk/00000005/0000000000005003";
static const char LOST[] = "chunk/00000005/0000000000005003.lost";
static const char UNFINISHED[] = "chunk/0000000000005003.new";

static int cache_fd = -1;
static struct chunk_dir *dir;
static unsigned char plain[CACHE_BLOCK];

/* ---- what the tests are made of ------------------------------------------ */

static bool open_dir(bool create)
{
    if (cache_fd < 0)
        cache_fd = open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return CHECK(chunk_dir_open(cache_fd, "disk", CHUNK_SIZE,
                                create ? CHUNK_DIR_CREATE : CHUNK_DIR_WRITE,
                                &dir) == 0);
}

static void close_dir(void)
{
    fault_reset();
    chunk_dir_close(dir);
    dir = NULL;
    (void)close(cache_fd);
    cache_fd = -1;
}

static bool exists(const char *name)
{
    return faccessat(cache_fd, name, F_OK, 0) == 0;
}

/* The plain pages of a block in a state; the second half is noise. */
static void fill(unsigned char *to, uint32_t block, unsigned state)
{
    uint64_t noise = block * 1000003U + state * 99991U + 1;

    memset(to, (int)(block + state), CACHE_BLOCK);
    for (size_t i = CACHE_BLOCK / 2; i < CACHE_BLOCK; i++) {
        noise = noise * 6364136223846793005U + 1442695040888963407U;
        to[i] = (unsigned char)(noise >> 56);
    }
}

/*
 * Do for the first count blocks what destage does: append them, and write
 * the table into the slot after the one that rules.
 */
static int fold(struct chunk_file *file, struct chunk_table *table,
                uint32_t count, unsigned state)
{
    static unsigned char run[256 * BLOCK_STORED_MAX];
    size_t used = 0;
    int error;

    table->data_end = (uint32_t)round_up(table->data_end, CACHE_PAGE);
    for (uint32_t i = 0; i < count; i++) {
        struct chunk_block *b = &table->blocks[i];
        struct block_stored stored;

        fill(plain, i, state);
        block_encode(plain, CACHE_BLOCK, run + used, &stored);
        *b = (struct chunk_block){
            .local_pages = ALL_PAGES,
            .codec = (uint8_t)stored.codec,
            .place = table->data_end + (uint32_t)used,
            .checksum = stored.checksum,
            .stored_size = stored.size,
        };
        used += stored.size;
    }
    error = chunk_file_write(file, run, used, table->data_end);
    if (error)
        return error;
    table->data_end += (uint32_t)used;
    table->slot = (table->slot + 1) % CHUNK_SLOTS;
    table->generation++;
    error = chunk_file_write_slot(file, table);
    return error ? error : chunk_file_sync(file);
}

/* A chunk's file, of generation 1, in slot 1, with blocks 0 to count - 1. */
static bool make_file(uint32_t count, struct chunk_file **ret_file,
                      struct chunk_table **ret_table)
{
    uint64_t chunk = CHUNK;

    *ret_table = chunk_table_new(CHUNK, CHUNK_SIZE);
    return CHECK(*ret_table != NULL) &&
           CHECK(chunk_file_create(dir, CHUNK, ret_file) == 0) &&
           CHECK(fold(*ret_file, *ret_table, count, 1) == 0) &&
           CHECK(chunk_dir_sync(dir, &chunk, 1) == 0);
}

static bool block_is(struct chunk_file *file, const struct chunk_table *table,
                     uint32_t block, unsigned state)
{
    unsigned char expected[CACHE_BLOCK];

    fill(expected, block, state);
    memset(plain, 0xa5, sizeof(plain));
    return chunk_file_read_block(file, table, block, plain, false) == 0 &&
           memcmp(plain, expected, CACHE_BLOCK) == 0;
}

static int table_result(struct chunk_file *file, uint64_t generation)
{
    struct chunk_table *table = NULL;
    int error = chunk_file_read_table(file, generation, 0, &table);

    CHECK((error == 0) == (table != NULL));
    CHECK(!table || table->generation == generation);
    chunk_table_release(table);
    return error;
}

/* Change a byte of the chunk's file, whoever has it open. */
static void damage(uint64_t at)
{
    int fd = openat(cache_fd, NAME, O_RDWR | O_CLOEXEC);
    char byte = 0;

    CHECK(pread(fd, &byte, 1, (off_t)at) == 1);
    byte ^= 0x40;
    CHECK(pwrite(fd, &byte, 1, (off_t)at) == 1);
    (void)close(fd);
}

static void fail_next(unsigned kinds, const char *path_part, int error)
{
    struct fault_calls calls = {kinds, path_part, 1};

    fault_fail(&calls, error, false, 0);
}

static size_t slot_size(void)
{
    return chunk_table_encoded_max(CHUNK_SIZE);
}

/* ---- the directory ------------------------------------------------------- */

TEST("the directory is made when that is asked for, and only then")
{
    cache_fd = open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(chunk_dir_open(cache_fd, "disk", CHUNK_SIZE, CHUNK_DIR_WRITE, &dir) ==
          -ENOENT);
    CHECK(!exists("chunk"));
    NEED(open_dir(true));
    CHECK(exists("chunk"));
    chunk_dir_close(dir);
    NEED(open_dir(true));
    chunk_dir_close(dir);
    NEED(open_dir(false));
    close_dir();
    chunk_dir_close(NULL);
}

TEST("opening the directory fails when any of its steps does, and then works")
{
    struct fault_calls all = {FAULT_ANY_CHANGE, NULL, 1};
    struct chunk_file *file;
    struct chunk_table *table;
    unsigned long steps = 0;

    NEED(open_dir(true));
    NEED(make_file(1, &file, &table));
    chunk_dir_close(dir);
    do {
        (void)close(openat(cache_fd, UNFINISHED, O_CREAT | O_WRONLY, 0600));
        all.nth = ++steps;
        fault_fail(&all, -EIO, false, 0);
        dir = NULL;
    } while (chunk_dir_open(cache_fd, "disk", CHUNK_SIZE, CHUNK_DIR_CREATE,
                            &dir) == -EIO);
    /* mkdir, unlink of the one left over, sync of shard, chunk, cachedir */
    CHECK(steps == 6 && dir != NULL);
    CHECK(!exists(UNFINISHED) && exists(NAME));
    chunk_file_release(file);
    chunk_table_release(table);
    close_dir();
}

TEST("what an unfinished rewrite left over is gone, and nothing else is")
{
    struct chunk_file *file;
    struct chunk_table *table;

    NEED(open_dir(true));
    NEED(make_file(1, &file, &table));
    chunk_file_release(file);
    chunk_table_release(table);
    (void)close(openat(cache_fd, UNFINISHED, O_CREAT | O_WRONLY, 0600));
    (void)close(openat(cache_fd, "chunk/note", O_CREAT | O_WRONLY, 0600));
    chunk_dir_close(dir);
    NEED(open_dir(false));
    CHECK(!exists(UNFINISHED));
    CHECK(exists("chunk/note") && exists(NAME));
    close_dir();
}

TEST("a directory that was new is synced with the one above it, once")
{
    struct fault_calls count = {FAULT_SYNC, NULL, 1000};
    uint64_t chunks[] = {CHUNK, 1, CHUNK + 1, 2, CHUNK};
    struct chunk_file *file;

    NEED(open_dir(true));
    fault_fail(&count, -EIO, false, 0);
    CHECK(chunk_dir_sync(dir, chunks, 0) == 0);
    CHECK(fault_count() == 0);
    for (size_t i = 0; i < 4; i++) {
        NEED(chunk_file_create(dir, chunks[i], &file) == 0);
        chunk_file_release(file);
    }
    CHECK(chunk_dir_sync(dir, chunks, 5) == 0);
    CHECK(fault_count() == 3);
    CHECK(chunk_dir_sync(dir, chunks, 5) == 0);
    CHECK(fault_count() == 5);
    close_dir();
}

TEST("a sync of directories that fails is told, and tried again")
{
    struct chunk_file *file;
    uint64_t chunk = CHUNK;

    NEED(open_dir(true));
    NEED(chunk_file_create(dir, CHUNK, &file) == 0);
    chunk_file_release(file);
    fail_next(FAULT_SYNC, "/chunk/00000005", -EIO);
    CHECK(chunk_dir_sync(dir, &chunk, 1) == -EIO);
    fail_next(FAULT_SYNC, "/chunk", -ENOSPC); /* also of the one below it */
    CHECK(chunk_dir_sync(dir, &chunk, 1) == -ENOSPC);
    fault_reset();
    struct fault_calls second = {FAULT_SYNC, "/chunk", 2};
    fault_fail(&second, -EIO, false, 0);
    CHECK(chunk_dir_sync(dir, &chunk, 1) == -EIO);
    fault_fail(&second, -EIO, false, 0);
    CHECK(chunk_dir_sync(dir, &chunk, 1) == -EIO);
    fault_reset();
    CHECK(chunk_dir_sync(dir, &chunk, 1) == 0);
    fail_next(FAULT_OPEN, "/00000005", -EMFILE);
    CHECK(chunk_dir_sync(dir, &chunk, 1) == -EMFILE);
    close_dir();
}

/* ---- files --------------------------------------------------------------- */

TEST("a chunk without file has none, may be removed, needs no directory")
{
    struct chunk_file *file = NULL;
    uint64_t chunk = CHUNK;

    NEED(open_dir(true));
    CHECK(chunk_file_open(dir, CHUNK, &file) == -ENOENT && file == NULL);
    CHECK(chunk_file_remove(dir, CHUNK) == 0);
    CHECK(chunk_dir_sync(dir, &chunk, 1) == 0);
    close_dir();
}

TEST("a file that is created takes the place of one left over")
{
    struct chunk_file *old, *new;
    struct chunk_table *table;

    NEED(open_dir(true));
    NEED(make_file(2, &old, &table));
    NEED(chunk_file_create(dir, CHUNK, &new) == 0);
    CHECK(table_result(new, 1) == -ESTALE);
    CHECK(table_result(old, 1) == 0);
    CHECK(block_is(old, table, 1, 1));
    chunk_file_release(new);
    chunk_file_release(old);
    chunk_table_release(table);
    close_dir();
}

TEST("a file that is set aside outlives its successor, the first one of all")
{
    struct chunk_file *file;
    struct stat first, kept;

    NEED(open_dir(true));
    CHECK(chunk_file_set_aside(dir, CHUNK) == 0); /* there is none */
    CHECK(!exists(LOST));
    for (unsigned i = 0; i < 3; i++) {
        NEED(chunk_file_create(dir, CHUNK, &file) == 0);
        chunk_file_release(file);
        if (i == 0)
            CHECK(fstatat(cache_fd, NAME, &first, 0) == 0);
        CHECK(chunk_file_set_aside(dir, CHUNK) == 0);
    }
    CHECK(fstatat(cache_fd, LOST, &kept, 0) == 0);
    CHECK(kept.st_ino == first.st_ino);
    CHECK(chunk_file_remove(dir, CHUNK) == 0);
    CHECK(!exists(NAME) && exists(LOST));
    close_dir();
}

TEST("setting a file aside tells what failed, unless the file system cannot")
{
    struct fault_calls calls = {FAULT_LINK, NULL, 1};
    struct chunk_file *file;

    NEED(open_dir(true));
    NEED(chunk_file_create(dir, CHUNK, &file) == 0);
    chunk_file_release(file);
    fault_fail(&calls, -ENOSPC, false, 0);
    CHECK(chunk_file_set_aside(dir, CHUNK) == -ENOSPC);
    fault_fail(&calls, -EPERM, false, 0);
    CHECK(chunk_file_set_aside(dir, CHUNK) == 0);
    CHECK(!exists(LOST));
    close_dir();
}

TEST("who has a file open can read it after its removal")
{
    struct chunk_file *file, *second;
    struct chunk_table *table;

    NEED(open_dir(true));
    NEED(make_file(3, &file, &table));
    CHECK(chunk_file_remove(dir, CHUNK) == 0);
    CHECK(!exists(NAME));
    CHECK(chunk_file_open(dir, CHUNK, &second) == -ENOENT);
    CHECK(chunk_file_hold(file) == file);
    chunk_file_release(file);
    CHECK(block_is(file, table, 2, 1));
    chunk_file_release(file);
    chunk_file_release(NULL);
    chunk_table_release(table);
    close_dir();
}

TEST("creating, opening and removing a file tell what failed")
{
    struct chunk_file *file = NULL;
    struct chunk_table *table;

    NEED(open_dir(true));
    fail_next(FAULT_MAKE_DIR, "/00000005", -ENOSPC);
    CHECK(chunk_file_create(dir, CHUNK, &file) == -ENOSPC);
    fail_next(FAULT_CREATE, NULL, -EMFILE);
    CHECK(chunk_file_create(dir, CHUNK, &file) == -EMFILE);
    CHECK(file == NULL);
    fault_reset();
    NEED(make_file(1, &file, &table));
    chunk_file_release(file);
    chunk_table_release(table);
    file = NULL;
    fail_next(FAULT_UNLINK, NULL, -EIO);
    CHECK(chunk_file_create(dir, CHUNK, &file) == -EIO);
    fail_next(FAULT_OPEN, NULL, -EMFILE);
    CHECK(chunk_file_open(dir, CHUNK, &file) == -EMFILE);
    fail_next(FAULT_UNLINK, NULL, -EIO);
    CHECK(chunk_file_remove(dir, CHUNK) == -EIO);
    CHECK(file == NULL && exists(NAME));
    close_dir();
}

/* ---- slots --------------------------------------------------------------- */

TEST("a file that was just created has no table of any generation")
{
    struct chunk_file *file;

    NEED(open_dir(true));
    NEED(chunk_file_create(dir, CHUNK, &file) == 0);
    CHECK(table_result(file, 0) == -ESTALE);
    CHECK(table_result(file, 1) == -ESTALE);
    chunk_file_release(file);
    close_dir();
}

TEST("tables are written to the slots in turn, and the last three are there")
{
    struct chunk_file *file, *again;
    struct chunk_table *table, *found;

    NEED(open_dir(true));
    NEED(make_file(4, &file, &table));
    CHECK(table_result(file, 1) == 0);
    CHECK(table_result(file, 2) == -ESTALE);
    NEED(fold(file, table, 2, 2) == 0);
    CHECK(table_result(file, 1) == 0 && table_result(file, 2) == 0);
    NEED(fold(file, table, 1, 3) == 0);
    CHECK(table_result(file, 1) == 0 && table_result(file, 2) == 0);
    NEED(fold(file, table, 1, 4) == 0);
    CHECK(table_result(file, 1) == -ESTALE);
    CHECK(table_result(file, 2) == 0 && table_result(file, 3) == 0);
    chunk_file_release(file);
    NEED(chunk_file_open(dir, CHUNK, &again) == 0);
    NEED(chunk_file_read_table(again, 4, 0, &found) == 0);
    CHECK(found->slot == 1);
    CHECK(block_is(again, found, 0, 4) && block_is(again, found, 1, 2));
    CHECK(block_is(again, found, 2, 1) && block_is(again, found, 3, 1));
    chunk_table_release(found);
    NEED(chunk_file_read_table(again, 2, 0, &found) == 0);
    CHECK(found->slot == 2);
    CHECK(block_is(again, found, 0, 2) && block_is(again, found, 1, 2));
    chunk_table_release(found);
    chunk_table_release(table);
    chunk_file_release(again);
    close_dir();
}

TEST("two revisions of a generation are two tables")
{
    struct chunk_file *file;
    struct chunk_table *table, *found;

    NEED(open_dir(true));
    NEED(make_file(4, &file, &table));
    table->slot = 2;
    table->revision = 7;
    table->blocks[3].local_pages = 0;
    CHECK(chunk_file_write_slot(file, table) == 0);
    NEED(chunk_file_read_table(file, 1, 0, &found) == 0);
    CHECK(found->slot == 1 && found->revision == 0);
    CHECK(found->blocks[3].local_pages == ALL_PAGES);
    chunk_table_release(found);
    NEED(chunk_file_read_table(file, 1, 7, &found) == 0);
    CHECK(found->slot == 2 && found->revision == 7);
    CHECK(found->blocks[3].local_pages == 0);
    chunk_table_release(found);
    CHECK(chunk_file_read_table(file, 1, 6, &found) == -ESTALE);
    chunk_table_release(table);
    chunk_file_release(file);
    close_dir();
}

TEST("the next table takes no slot that must stay, and that of one like it "
     "which a crash has left")
{
    struct chunk_file *file;
    struct chunk_table *table;
    struct fault_calls second = {FAULT_READ, NULL, 2};

    NEED(open_dir(true));
    NEED(make_file(4, &file, &table)); /* slot 1 */
    CHECK(chunk_file_choose_slot(file, 2, 0, 1U << 1) == 0);
    CHECK(chunk_file_choose_slot(file, 2, 0, 1U << 1 | 1U << 0) == 2);
    CHECK(chunk_file_choose_slot(file, 2, 0, 0) == 0);
    table->slot = 2;
    table->generation = 2;
    table->revision = 3;
    CHECK(chunk_file_write_slot(file, table) == 0);
    CHECK(chunk_file_choose_slot(file, 2, 3, 1U << 1) == 2);
    CHECK(chunk_file_choose_slot(file, 2, 4, 1U << 1) == 0);
    CHECK(chunk_file_choose_slot(file, 3, 3, 1U << 1) == 0);
    /* Also when it is torn: a later write of this one would make it whole. */
    damage(2 * slot_size() + 1000);
    CHECK(chunk_file_choose_slot(file, 2, 3, 1U << 1) == 2);
    /* What cannot be read may be it; what is it, is. */
    fault_fail(&second, -EIO, false, 0);
    CHECK(chunk_file_choose_slot(file, 2, 4, 1U << 1) == 2);
    fail_next(FAULT_READ, NULL, -EIO);
    CHECK(chunk_file_choose_slot(file, 2, 3, 1U << 1) == 2);
    chunk_table_release(table);
    chunk_file_release(file);
    close_dir();
}

TEST("what is appended without a table goes behind all that is there")
{
    struct chunk_file *file;
    struct chunk_table *table;
    uint32_t end;

    NEED(open_dir(true));
    NEED(chunk_file_create(dir, CHUNK, &file) == 0);
    CHECK(chunk_file_end(file, &end) == 0);
    CHECK(end == chunk_file_data_start(CHUNK_SIZE));
    chunk_file_release(file);
    NEED(make_file(4, &file, &table));
    CHECK(chunk_file_end(file, &end) == 0);
    CHECK(end == round_up(table->data_end, CACHE_PAGE));
    chunk_table_release(table);
    chunk_file_release(file);
    close_dir();
}

TEST("a slot torn in any of its pages leaves the other one")
{
    struct chunk_file *file;
    struct chunk_table *table;

    NEED(open_dir(true));
    NEED(make_file(60, &file, &table));
    NEED(fold(file, table, 60, 2) == 0); /* slot 2 */
    for (size_t at = 0; at < 1024; at += 100) {
        damage(2 * slot_size() + at);
        CHECK(table_result(file, 1) == 0);
        CHECK(table_result(file, 2) == -EBADMSG);
        CHECK(table_result(file, 3) == -EBADMSG);
        damage(2 * slot_size() + at);
    }
    CHECK(table_result(file, 2) == 0);
    damage(slot_size() + 64);
    CHECK(table_result(file, 1) == -EBADMSG);
    CHECK(table_result(file, 2) == 0);
    damage(2 * slot_size() + 10);
    CHECK(table_result(file, 2) == -EBADMSG);
    chunk_file_release(file);
    chunk_table_release(table);
    close_dir();
}

TEST("a file cut short in its slots has no table, one cut behind has")
{
    struct chunk_file *file;
    struct chunk_table *table;
    int fd;

    NEED(open_dir(true));
    NEED(make_file(60, &file, &table));
    fd = openat(cache_fd, NAME, O_RDWR | O_CLOEXEC);
    CHECK(ftruncate(fd, (off_t)(2 * slot_size())) == 0);
    CHECK(table_result(file, 1) == 0);
    CHECK(chunk_file_read_block(file, table, 5, plain, false) == -EBADMSG);
    CHECK(ftruncate(fd, (off_t)slot_size() + 100) == 0);
    CHECK(table_result(file, 1) == -EBADMSG);
    CHECK(ftruncate(fd, 0) == 0);
    CHECK(table_result(file, 1) == -ESTALE);
    (void)close(fd);
    chunk_file_release(file);
    chunk_table_release(table);
    close_dir();
}

TEST("the file of another chunk, or an object, has no table for this one")
{
    struct chunk_table *other = chunk_table_new(CHUNK + 1, CHUNK_SIZE);
    struct chunk_table *larger = chunk_table_new(CHUNK, 2 * CHUNK_SIZE);
    struct chunk_table *object = chunk_table_new(CHUNK, CHUNK_SIZE);
    unsigned char bytes[8192];
    struct chunk_file *file;
    int fd;

    NEED(open_dir(true));
    NEED(chunk_file_create(dir, CHUNK, &file) == 0);
    fd = openat(cache_fd, NAME, O_RDWR | O_CLOEXEC);
    object->objects_count = 1;
    object->data_end = 0;
    CHECK(pwrite(fd, bytes, chunk_table_encode(other, bytes), 0) == 4096);
    CHECK(table_result(file, 0) == -EBADMSG);
    CHECK(pwrite(fd, bytes, chunk_table_encode(larger, bytes), 0) == 4096);
    CHECK(table_result(file, 0) == -EBADMSG);
    CHECK(pwrite(fd, bytes, chunk_table_encode(object, bytes), 0) == 4096);
    CHECK(table_result(file, 0) == -EBADMSG);
    (void)close(fd);
    chunk_table_release(other);
    chunk_table_release(larger);
    chunk_table_release(object);
    chunk_file_release(file);
    close_dir();
}

TEST("a table of a later program is told, unless the other slot has it")
{
    struct chunk_table *table = chunk_table_new(CHUNK, CHUNK_SIZE);
    static const char later[] = "s3btable\2\0\0\0\0\0\0\0\0\20\0\0";
    unsigned char bytes[4096] = {0};
    struct chunk_file *file;
    uint32_t checksum;
    int fd;

    memcpy(bytes, later, sizeof(later));
    checksum = crc32c(crc32c(0, bytes, 20), bytes + 24, 4096 - 24);
    memcpy(bytes + 20, &checksum, sizeof(checksum));
    NEED(open_dir(true));
    NEED(chunk_file_create(dir, CHUNK, &file) == 0);
    fd = openat(cache_fd, NAME, O_RDWR | O_CLOEXEC);
    CHECK(pwrite(fd, bytes, 4096, 0) == 4096);
    CHECK(table_result(file, 9) == -EPROTONOSUPPORT);
    CHECK(pwrite(fd, "damaged", 7, (off_t)slot_size()) == 7);
    CHECK(table_result(file, 9) == -EPROTONOSUPPORT);
    table->slot = 1;
    table->generation = 9;
    CHECK(chunk_file_write_slot(file, table) == 0);
    CHECK(table_result(file, 9) == 0);
    (void)close(fd);
    chunk_table_release(table);
    chunk_file_release(file);
    close_dir();
}

TEST("a table is read while the other slot is being written")
{
    struct fault_calls write = {FAULT_WRITE, NAME, 1};
    struct chunk_file *file;
    struct chunk_table *table;

    NEED(open_dir(true));
    NEED(make_file(60, &file, &table));
    table->slot = 0;
    table->generation = 2;
    write.nth = 1;
    fault_fail(&write, -EIO, false, 512); /* torn after its first sector */
    CHECK(chunk_file_write_slot(file, table) == -EIO);
    CHECK(table_result(file, 1) == 0);
    CHECK(table_result(file, 2) == -EBADMSG);
    fault_reset();
    CHECK(chunk_file_write_slot(file, table) == 0);
    CHECK(table_result(file, 2) == 0);
    chunk_file_release(file);
    chunk_table_release(table);
    close_dir();
}

TEST("reading, writing and syncing tell what failed")
{
    struct chunk_file *file;
    struct chunk_table *table;

    NEED(open_dir(true));
    NEED(make_file(2, &file, &table));
    fail_next(FAULT_READ, NULL, -EIO);
    CHECK(table_result(file, 1) == -EIO);
    fail_next(FAULT_READ, NULL, -EIO);
    CHECK(chunk_file_read_block(file, table, 0, plain, false) == -EIO);
    fail_next(FAULT_WRITE, NULL, -ENOSPC);
    CHECK(fold(file, table, 1, 2) == -ENOSPC);
    fail_next(FAULT_SYNC_DATA, NULL, -EIO);
    CHECK(chunk_file_sync(file) == -EIO);
    fault_reset();
    CHECK(chunk_file_sync(file) == 0);
    chunk_file_release(file);
    chunk_table_release(table);
    close_dir();
}

/* ---- blocks -------------------------------------------------------------- */

TEST("pages of a block, raw or snappy, come back one after the other")
{
    unsigned char stored[BLOCK_STORED_MAX], expected[CACHE_BLOCK];
    struct chunk_file *file;
    struct chunk_table *table;

    NEED(open_dir(true));
    NEED(make_file(1, &file, &table));
    for (uint32_t i = 1; i < 9; i++) {
        struct chunk_block *b = &table->blocks[i];
        struct block_stored how;
        size_t size = (i + 1) / 2 * CACHE_PAGE;

        fill(expected, i, 1);
        if (i % 2 == 0)
            memset(expected, (int)i, sizeof(expected));
        else
            memmove(expected, expected + CACHE_BLOCK / 2, CACHE_BLOCK / 2);
        block_encode(expected, size, stored, &how);
        b->local_pages = (uint8_t)((1U << (i + 1) / 2) - 1);
        b->codec = (uint8_t)how.codec;
        b->stored_size = how.size;
        b->checksum = how.checksum;
        b->place = (uint32_t)round_up(table->data_end, CACHE_PAGE);
        table->data_end = b->place + how.size;
        CHECK(i % 2 == 1 || how.codec == BLOCK_SNAPPY);
        CHECK(i % 2 == 0 || i > 3 || how.codec == BLOCK_RAW);
        CHECK(chunk_file_write(file, stored, how.size, b->place) == 0);
        memset(plain, 0xa5, sizeof(plain));
        CHECK(chunk_file_read_block(file, table, i, plain, false) == 0);
        CHECK(memcmp(plain, expected, size) == 0);
        CHECK(size == CACHE_BLOCK || plain[size] == 0xa5);
    }
    chunk_file_release(file);
    chunk_table_release(table);
    close_dir();
}

/* Append these pages of content as what is stored of a block. */
static bool store_pages(struct chunk_file *file, struct chunk_table *table,
                        uint32_t block, unsigned pages,
                        const unsigned char *content)
{
    unsigned char stored[BLOCK_STORED_MAX], packed[CACHE_BLOCK];
    struct chunk_block *b = &table->blocks[block];
    struct block_stored how;
    size_t size = 0;

    for (unsigned page = 0; page < PAGES_PER_BLOCK; page++) {
        if ((pages & 1U << page) == 0)
            continue;
        memcpy(packed + size, content + page * CACHE_PAGE, CACHE_PAGE);
        size += CACHE_PAGE;
    }
    block_encode(packed, size, stored, &how);
    *b = (struct chunk_block){
        .local_pages = (uint8_t)pages,
        .codec = (uint8_t)how.codec,
        .place = (uint32_t)round_up(table->data_end, CACHE_PAGE),
        .checksum = how.checksum,
        .stored_size = how.size,
    };
    table->data_end = b->place + how.size;
    return chunk_file_write(file, stored, how.size, b->place) == 0;
}

/* An upload has made a whole block of it. */
static void make_whole(struct chunk_table *table, uint32_t block)
{
    struct chunk_block *b = &table->blocks[block];

    table->objects_count = 1;
    table->objects[0].table_size = 4096;
    b->zero_pages = ALL_PAGES & ~b->local_pages;
    b->local_pages = ALL_PAGES;
    b->base = BASE_OBJECT;
    b->object_size = CACHE_BLOCK;
    b->object_place = 4096;
}

TEST("a block of which some pages are zeros without bytes comes back whole")
{
    unsigned char expected[CACHE_BLOCK];
    struct chunk_file *file;
    struct chunk_table *table;

    NEED(open_dir(true));
    NEED(make_file(1, &file, &table));
    for (unsigned pages = 1; pages < ALL_PAGES; pages++) {
        for (uint32_t kind = 1; kind < 3; kind++) { /* noise, or not */
            fill(expected, kind, 1);
            for (unsigned page = 0; page < PAGES_PER_BLOCK; page++) {
                if ((pages & 1U << page) == 0)
                    memset(expected + page * CACHE_PAGE, 0, CACHE_PAGE);
            }
            NEED(store_pages(file, table, 1, pages, expected));
            make_whole(table, 1);
            memset(plain, 0xa5, sizeof(plain));
            CHECK(chunk_file_read_block(file, table, 1, plain, false) == 0);
            CHECK(memcmp(plain, expected, CACHE_BLOCK) == 0);
        }
    }
    damage(table->blocks[1].place);
    CHECK(chunk_file_read_block(file, table, 1, plain, false) == -EBADMSG);
    chunk_file_release(file);
    chunk_table_release(table);
    close_dir();
}

TEST("a damaged block is found, and no other is touched by it")
{
    struct chunk_file *file;
    struct chunk_table *table;

    NEED(open_dir(true));
    NEED(make_file(10, &file, &table));
    damage(table->blocks[4].place);
    CHECK(chunk_file_read_block(file, table, 4, plain, false) == -EBADMSG);
    damage(table->blocks[4].place);
    damage(table->blocks[4].place + table->blocks[4].stored_size - 1U);
    CHECK(chunk_file_read_block(file, table, 4, plain, false) == -EBADMSG);
    for (uint32_t i = 0; i < 10; i++)
        CHECK(i == 4 || block_is(file, table, i, 1));
    chunk_file_release(file);
    chunk_table_release(table);
    close_dir();
}

TEST("a block is read without waiting when it is in memory, or not at all")
{
    struct chunk_file *file;
    struct chunk_table *table;
    int error;

    NEED(open_dir(true));
    NEED(make_file(1, &file, &table));
    fail_next(FAULT_READ, NULL, -EAGAIN);
    CHECK(chunk_file_read_block(file, table, 0, plain, true) == -EAGAIN);
    fault_reset();
    /* tmpfs cannot tell what it holds; others have just been written to. */
    error = chunk_file_read_block(file, table, 0, plain, true);
    CHECK(error == 0 || error == -EAGAIN);
    CHECK(block_is(file, table, 0, 1));
    chunk_file_release(file);
    chunk_table_release(table);
    close_dir();
}

/* ---- rewrite ------------------------------------------------------------- */

TEST("a rewritten file has all blocks, their generation and no dead space")
{
    struct chunk_file *file, *new, *named;
    struct chunk_table *table, *packed, *found;
    uint64_t size = 0;
    struct stat status;

    NEED(open_dir(true));
    NEED(make_file(64, &file, &table));
    for (unsigned state = 2; state < 6; state++)
        NEED(fold(file, table, 64, state) == 0);
    NEED(fold(file, table, 1, 6) == 0);
    table->blocks[9].local_pages = 0;
    table->blocks[10].base = BASE_ZERO;
    table->blocks[11].damaged_pages = 3;
    NEED(chunk_file_rewrite(dir, file, table, NULL, &new, &packed, NULL) == 0);
    CHECK(packed->generation == table->generation && packed->slot == 0);
    CHECK(packed->data_end - chunk_file_data_start(CHUNK_SIZE) ==
          round_up(chunk_table_live_bytes(table), CACHE_PAGE));
    NEED(chunk_file_open(dir, CHUNK, &named) == 0);
    NEED(chunk_file_read_table(named, table->generation, 0, &found) == 0);
    for (uint32_t i = 0; i < 64; i++) {
        if (i != 9)
            CHECK(block_is(new, packed, i, i == 0 ? 6 : 5) &&
                  block_is(named, found, i, i == 0 ? 6 : 5));
        CHECK(found->blocks[i].base == table->blocks[i].base &&
              found->blocks[i].damaged_pages == table->blocks[i].damaged_pages);
    }
    CHECK(found->blocks[9].local_pages == 0);
    /* The old one is as it was for those who hold it. */
    CHECK(block_is(file, table, 63, 5));
    CHECK(fstatat(cache_fd, NAME, &status, 0) == 0);
    size = (uint64_t)status.st_size;
    CHECK(size <= packed->data_end);
    CHECK(!exists(UNFINISHED));
    /* It is written to as any other. */
    NEED(fold(new, packed, 2, 7) == 0);
    CHECK(packed->slot == 1 && table_result(named, packed->generation) == 0);
    CHECK(block_is(named, packed, 1, 7) && block_is(named, packed, 2, 5));
    CHECK(table_result(named, table->generation) == 0);
    chunk_file_release(file);
    chunk_file_release(new);
    chunk_file_release(named);
    chunk_table_release(table);
    chunk_table_release(packed);
    chunk_table_release(found);
    close_dir();
}

TEST("a rewrite copies more than it ever has in memory")
{
    struct chunk_file *file, *new;
    struct chunk_table *table, *packed;

    NEED(open_dir(true));
    NEED(make_file(256, &file, &table));
    NEED(fold(file, table, 100, 2) == 0);
    CHECK(chunk_table_live_bytes(table) > 2 << 20);
    NEED(chunk_file_rewrite(dir, file, table, NULL, &new, &packed, NULL) == 0);
    for (uint32_t i = 0; i < 256; i++)
        CHECK(block_is(new, packed, i, i < 100 ? 2 : 1));
    chunk_file_release(file);
    chunk_file_release(new);
    chunk_table_release(table);
    chunk_table_release(packed);
    close_dir();
}

TEST("a rewrite moves what the checkpoint wants too, and shared blocks once")
{
    struct chunk_file *file, *new, *named;
    struct chunk_table *table, *pinned, *packed, *packed_pinned, *found;
    uint64_t both;

    NEED(open_dir(true));
    NEED(make_file(64, &file, &table));
    pinned = chunk_table_copy(table);
    NEED(fold(file, table, 64, 2) == 0); /* nobody wants this one */
    for (uint32_t i = 20; i < 64; i++)
        table->blocks[i] = pinned->blocks[i];
    NEED(fold(file, table, 10, 3) == 0);
    table->revision = 4;
    table->blocks[40].local_pages = 0; /* in one of them only */
    pinned->blocks[41].local_pages = 0;
    both = chunk_table_live_bytes(table);
    for (uint32_t i = 0; i < 20; i++)
        both += pinned->blocks[i].stored_size;
    both += pinned->blocks[40].stored_size;
    NEED(chunk_file_rewrite(dir, file, table, pinned, &new, &packed,
                            &packed_pinned) == 0);
    CHECK(packed->slot == 0 && packed_pinned->slot == 1);
    CHECK(packed->data_end == packed_pinned->data_end);
    CHECK(packed->data_end - chunk_file_data_start(CHUNK_SIZE) ==
          round_up(both, CACHE_PAGE));
    CHECK(chunk_file_pages(packed, 2) ==
          2 + round_up(both, CACHE_PAGE) / CACHE_PAGE);
    NEED(chunk_file_open(dir, CHUNK, &named) == 0);
    NEED(chunk_file_read_table(named, table->generation, 4, &found) == 0);
    for (uint32_t i = 0; i < 64; i++) {
        if (i == 40)
            CHECK(found->blocks[i].local_pages == 0);
        else
            CHECK(block_is(named, found, i, i < 10 ? 3 : i < 20 ? 2 : 1));
    }
    chunk_table_release(found);
    NEED(chunk_file_read_table(named, 1, 0, &found) == 0);
    for (uint32_t i = 0; i < 64; i++) {
        if (i == 41)
            CHECK(found->blocks[i].local_pages == 0);
        else
            CHECK(block_is(named, found, i, 1));
    }
    CHECK(found->blocks[30].place == packed->blocks[30].place);
    chunk_table_release(found);
    chunk_file_release(file);
    chunk_file_release(new);
    chunk_file_release(named);
    chunk_table_release(table);
    chunk_table_release(pinned);
    chunk_table_release(packed);
    chunk_table_release(packed_pinned);
    close_dir();
}

TEST("what an upload has made a whole block of is moved once, and not lost to "
     "who has no object yet when it cannot be read")
{
    struct fault_calls reads = {FAULT_READ, NULL, 1};
    struct chunk_file *file, *new = NULL;
    struct chunk_table *table, *pinned, *packed = NULL, *packed_pinned = NULL;
    unsigned char content[CACHE_BLOCK];

    NEED(open_dir(true));
    NEED(make_file(0, &file, &table));
    fill(content, 1, 1);
    NEED(store_pages(file, table, 1, 5, content));
    pinned = chunk_table_copy(table);
    table->revision = 1;
    make_whole(table, 1);
    NEED(chunk_file_rewrite(dir, file, table, pinned, &new, &packed,
                            &packed_pinned) == 0);
    CHECK(packed->blocks[1].place == packed_pinned->blocks[1].place);
    CHECK(packed->blocks[1].zero_pages == 10);
    CHECK(packed_pinned->blocks[1].local_pages == 5);
    CHECK(packed->data_end - chunk_file_data_start(CHUNK_SIZE) ==
          round_up(packed->blocks[1].stored_size, CACHE_PAGE));
    chunk_file_release(new);
    chunk_table_release(packed);
    chunk_table_release(packed_pinned);

    fault_fail(&reads, -EIO, true, 0);
    CHECK(chunk_file_rewrite(dir, file, table, pinned, &new, &packed,
                             &packed_pinned) == -EIO);
    fault_reset();
    CHECK(!exists(LOST));
    chunk_file_release(file);
    chunk_table_release(table);
    chunk_table_release(pinned);
    close_dir();
}

TEST("a bad block that two tables share is lost to both, one of its own to "
     "that one")
{
    struct chunk_file *file, *new;
    struct chunk_table *table, *pinned, *packed, *packed_pinned;

    NEED(open_dir(true));
    NEED(make_file(6, &file, &table));
    pinned = chunk_table_copy(table);
    NEED(fold(file, table, 2, 2) == 0);
    damage(table->blocks[0].place);
    damage(pinned->blocks[1].place);
    damage(table->blocks[5].place);
    NEED(chunk_file_rewrite(dir, file, table, pinned, &new, &packed,
                            &packed_pinned) == 0);
    CHECK(packed->blocks[0].damaged_pages == ALL_PAGES);
    CHECK(packed_pinned->blocks[0].damaged_pages == 0);
    CHECK(block_is(new, packed_pinned, 0, 1));
    CHECK(packed->blocks[1].damaged_pages == 0 && block_is(new, packed, 1, 2));
    CHECK(packed_pinned->blocks[1].damaged_pages == ALL_PAGES);
    CHECK(packed->blocks[5].damaged_pages == ALL_PAGES);
    CHECK(packed_pinned->blocks[5].damaged_pages == ALL_PAGES);
    CHECK(packed_pinned->blocks[5].local_pages == 0);
    CHECK(exists(LOST));
    chunk_file_release(file);
    chunk_file_release(new);
    chunk_table_release(table);
    chunk_table_release(pinned);
    chunk_table_release(packed);
    chunk_table_release(packed_pinned);
    close_dir();
}

TEST("a bad block is lost in a rewrite, but not what an object has too")
{
    struct chunk_file *file, *new;
    struct chunk_table *table, *packed;

    NEED(open_dir(true));
    NEED(make_file(6, &file, &table));
    table->objects_count = 1;
    table->objects[0].table_size = 4096;
    for (uint32_t i = 2; i < 5; i++) {
        table->blocks[i].base = BASE_OBJECT;
        table->blocks[i].object_size = CACHE_BLOCK;
        table->blocks[i].object_place = 4096;
    }
    table->blocks[3].local_pages = 1; /* newer than the object */
    table->blocks[3].codec = BLOCK_RAW;
    table->blocks[3].stored_size = CACHE_PAGE;
    for (uint32_t i = 1; i < 4; i++)
        damage(table->blocks[i].place);
    NEED(chunk_file_rewrite(dir, file, table, NULL, &new, &packed, NULL) == 0);
    CHECK(block_is(new, packed, 0, 1) && block_is(new, packed, 5, 1));
    CHECK(packed->blocks[1].local_pages == 0);
    CHECK(packed->blocks[1].damaged_pages == ALL_PAGES);
    CHECK(packed->blocks[2].local_pages == 0);
    CHECK(packed->blocks[2].damaged_pages == 0);
    CHECK(packed->blocks[2].base == BASE_OBJECT);
    CHECK(packed->blocks[3].local_pages == 0);
    CHECK(packed->blocks[3].damaged_pages == 1);
    CHECK(packed->blocks[4].local_pages == ALL_PAGES);
    CHECK(block_is(new, packed, 4, 1));
    CHECK(table_result(new, 1) == 0);
    chunk_file_release(file);
    chunk_file_release(new);
    chunk_table_release(table);
    chunk_table_release(packed);
    close_dir();
}

TEST("a rewrite that fails at any step leaves the old file to be used")
{
    struct fault_calls all = {FAULT_ANY_CHANGE | FAULT_READ, NULL, 1};
    struct chunk_file *file, *new = NULL, *named;
    struct chunk_table *table, *packed = NULL;
    unsigned long last = 0;
    int error = -EIO;

    NEED(open_dir(true));
    NEED(make_file(4, &file, &table));
    while (error == -EIO) {
        all.nth = ++last;
        fault_fail(&all, -EIO, false, 4096);
        error = chunk_file_rewrite(dir, file, table, NULL, &new, &packed, NULL);
        fault_reset();
        if (!CHECK(error == 0 || error == -EIO) || error == 0)
            break;
        CHECK(new == NULL &&packed == NULL);
        CHECK(!exists(UNFINISHED));
        NEED(chunk_file_open(dir, CHUNK, &named) == 0);
        CHECK(table_result(named, 1) == 0 && block_is(file, table, 3, 1));
        chunk_file_release(named);
        /* unlink, create, 4 reads, blocks, table, sync, rename; then: */
        if (last == 11)
            break;
        CHECK(chunk_file_sync(file) == 0);
        CHECK(chunk_file_write(file, "x", 1, 1 << 20) == 0);
    }
    CHECK(last == 11);
    chunk_file_release(file);
    chunk_table_release(table);
    close_dir();
}

TEST("when nobody knows which file has the name nothing is written any more")
{
    struct chunk_file *file, *new = NULL, *named;
    struct chunk_table *table, *packed = NULL;

    NEED(open_dir(true));
    NEED(make_file(4, &file, &table));
    fail_next(FAULT_SYNC, "/00000005", -EIO);
    CHECK(chunk_file_rewrite(dir, file, table, NULL, &new, &packed, NULL) ==
          -EIO);
    CHECK(new == NULL &&packed == NULL);
    fault_reset();
    CHECK(fold(file, table, 1, 2) == -EIO);
    CHECK(chunk_file_write_slot(file, table) == -EIO);
    NEED(chunk_file_open(dir, CHUNK, &named) == 0);
    CHECK(fold(named, table, 1, 2) == -EIO);
    CHECK(chunk_file_rewrite(dir, file, table, NULL, &new, &packed, NULL) ==
          -EIO);
    CHECK(table_result(file, 1) == 0 && table_result(named, 1) == 0);
    chunk_file_release(file);
    chunk_file_release(named);
    chunk_table_release(table);
    chunk_dir_close(dir);

    /* Opened again, the directories are synced, and all goes on. */
    NEED(open_dir(false));
    NEED(chunk_file_open(dir, CHUNK, &named) == 0);
    NEED(chunk_file_read_table(named, 1, 0, &table) == 0);
    CHECK(fold(named, table, 1, 2) == 0);
    CHECK(table_result(named, 2) == 0 && block_is(named, table, 0, 2));
    chunk_file_release(named);
    chunk_table_release(table);
    close_dir();
}

TEST("an object's own block that cannot be read is given up in a rewrite")
{
    struct fault_calls second = {FAULT_READ, NULL, 2};
    struct chunk_file *file, *new;
    struct chunk_table *table, *packed;

    NEED(open_dir(true));
    NEED(make_file(2, &file, &table));
    table->objects_count = 1;
    table->objects[0].table_size = 4096;
    table->blocks[1].base = BASE_OBJECT;
    table->blocks[1].object_size = CACHE_BLOCK;
    table->blocks[1].object_place = 4096;
    fault_fail(&second, -EIO, false, 0);
    NEED(chunk_file_rewrite(dir, file, table, NULL, &new, &packed, NULL) == 0);
    CHECK(block_is(new, packed, 0, 1));
    CHECK(packed->blocks[1].local_pages == 0);
    CHECK(packed->blocks[1].damaged_pages == 0);
    chunk_file_release(file);
    chunk_file_release(new);
    chunk_table_release(table);
    chunk_table_release(packed);
    close_dir();
}

/* ---- many at once -------------------------------------------------------- */

struct maker {
    pthread_t thread;
    uint64_t first;
};

static void *make_files(void *argument)
{
    const struct maker *maker = argument;

    for (uint64_t i = 0; i < 64; i++) {
        uint64_t chunk = maker->first + i * 4096;
        struct chunk_file *file;

        if (!CHECK(chunk_file_create(dir, chunk, &file) == 0))
            continue;
        CHECK(chunk_dir_sync(dir, &chunk, 1) == 0);
        chunk_file_release(file);
    }
    return NULL;
}

TEST("threads that create files in the same new directories agree")
{
    struct maker makers[4];
    struct chunk_file *file;

    NEED(open_dir(true));
    for (unsigned i = 0; i < 4; i++) {
        makers[i].first = i;
        NEED(pthread_create(&makers[i].thread, NULL, make_files, &makers[i]) ==
             0);
    }
    for (unsigned i = 0; i < 4; i++)
        CHECK(pthread_join(makers[i].thread, NULL) == 0);
    for (uint64_t i = 0; i < 64; i++) {
        for (uint64_t k = 0; k < 4; k++) {
            if (CHECK(chunk_file_open(dir, k + i * 4096, &file) == 0))
                chunk_file_release(file);
        }
    }
    close_dir();
}
