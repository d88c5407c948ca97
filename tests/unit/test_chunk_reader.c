/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/chunk_reader.h"

#include <pthread.h>

#include "base/bytes.h"
#include "base/log.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "support/remote_chunk.h"
#include "unit/test.h"

enum {
    PAGE = CACHE_PAGE,
    BLOCK = CACHE_BLOCK,
    CHUNK = 256 << 10,
    REMOTE = 3, /* the chunk that is in the bucket */
    BLOCKS = CHUNK / BLOCK,
    HOLE_BLOCK = 5, /* of it, that is a hole there */
};

static const uint64_t AT = (uint64_t)REMOTE * CHUNK;

static struct device_fixture disk;
static struct fault_store *fault;
static struct chunk_object object;
static unsigned char plain[CHUNK]; /* of the chunk */
static unsigned char got[CHUNK];
static uint64_t not_asked; /* requests that were none for chunks */

/* Open a new device with a chunk that is in the bucket only. */
static bool begin(bool is_resident)
{
    log_set_level(LOG_LEVEL_ERROR);
    fault_skip_syncs(true);
    fixture_begin(&disk, test_dir(), false);
    fault = fault_store_new(memory_store_new());
    disk.options.store = fault_store_of(fault);
    if (!CHECK(fixture_open(&disk) == 0))
        return false;
    not_asked = fault_store_count(fault, STORE_GET);
    fixture_fill(plain, CHUNK, 42);
    memset(plain + HOLE_BLOCK * BLOCK, 0, BLOCK);
    memset(plain + 2 * PAGE, 0, PAGE);
    remote_put(disk.device, REMOTE, 1, plain, &object);
    if (is_resident)
        remote_commit_resident(disk.device, REMOTE, &object, plain);
    else
        remote_commit(disk.device, REMOTE, &object);
    return true;
}

static void end(void)
{
    fixture_end(&disk);
}

/* Returns how many requests for tables and blocks the store was sent. */
static uint64_t asked(void)
{
    return fault_store_count(fault, STORE_GET) - not_asked;
}

/* To attach a device takes requests of its own. */
static int reopen(void)
{
    uint64_t before = asked();
    int error = fixture_reopen(&disk);

    not_asked += asked() - before;
    return error;
}

static bool reads(uint64_t offset, size_t size)
{
    memset(got, 0xa5, size);
    return fixture_read(&disk, AT + offset, got, size) == 0 &&
           memcmp(got, plain + offset, size) == 0;
}

static int read_error(uint64_t offset, size_t size)
{
    return fixture_read(&disk, AT + offset, got, size);
}

static bool put(uint64_t offset, size_t size, uint64_t seed)
{
    fixture_fill(plain + offset, size, seed);
    return fixture_write(&disk, AT + offset, plain + offset, size, 0) == 0;
}

/* Change a byte of a block's stored bytes, or all of the slots. */
static void damage_file(uint32_t block, bool slots)
{
    struct chunk_file *file;
    struct chunk_table *table;
    char path[PATH_MAX];
    uint32_t place = 0;
    unsigned char byte;
    int fd;

    NEED(chunk_reader_open_file(&disk.device->reader, REMOTE, &file, &table) ==
         0);
    place = table->blocks[block].place + 7;
    chunk_file_release(file);
    chunk_table_release(table);
    fixture_chunk_path(&disk, REMOTE, path);
    fd = open(path, O_RDWR | O_CLOEXEC);
    NEED(fd >= 0);
    for (unsigned slot = 0; slots && slot < CHUNK_SLOTS; slot++) {
        off_t at = (off_t)(chunk_table_encoded_max(CHUNK) * slot + 40);

        CHECK(pwrite(fd, "damage", 6, at) == 6);
    }
    if (!slots) {
        CHECK(pread(fd, &byte, 1, place) == 1);
        byte ^= 0x10;
        CHECK(pwrite(fd, &byte, 1, place) == 1);
    }
    (void)close(fd);
}

/* ---- what is only in the bucket ------------------------------------------ */

TEST("a cold page costs one request for the table and one for its block, its "
     "neighbours nothing, all other blocks of the chunk one")
{
    NEED(begin(false));
    CHECK(reads(PAGE, PAGE));
    CHECK(asked() == 2);
    CHECK(reads(0, BLOCK));
    CHECK(asked() == 2);
    CHECK(reads(7 * BLOCK + 100, 200));
    CHECK(asked() == 3);
    CHECK(reads(HOLE_BLOCK * BLOCK, BLOCK));
    CHECK(asked() == 3);
    /* Blocks 1 to 15, among which 7 is small enough to be read again. */
    CHECK(reads(0, CHUNK));
    CHECK(asked() == 4);
    CHECK(reads(0, CHUNK));
    CHECK(asked() == 4);
    end();
}

TEST("with no more patience than for the disk, the bucket is not asked")
{
    NEED(begin(false));
    for (enum patience patience = PATIENCE_NONE; patience < PATIENCE_STORE;
         patience++)
        CHECK(chunk_reader_read(&disk.device->reader, REMOTE, 0, got, PAGE,
                                patience) == -EAGAIN);
    CHECK(asked() == 0);
    CHECK(chunk_reader_read(&disk.device->reader, REMOTE, 0, got, PAGE,
                            PATIENCE_STORE) == 0);
    /* Now it is in memory. */
    CHECK(chunk_reader_read(&disk.device->reader, REMOTE, PAGE, got, PAGE,
                            PATIENCE_NONE) == 0);
    CHECK(memcmp(got, plain + PAGE, PAGE) == 0);
    end();
}

TEST("extents of a chunk that was never fetched are data, and cost nothing; "
     "once its table is known its holes are told")
{
    NEED(begin(false));
    CHECK(fixture_extent_at(&disk, AT) == 0);
    CHECK(fixture_extent_at(&disk, AT + HOLE_BLOCK * BLOCK) == 0);
    CHECK(asked() == 0);
    CHECK(reads(0, PAGE));
    CHECK(fixture_extent_at(&disk, AT) == 0);
    CHECK(fixture_extent_at(&disk, AT + HOLE_BLOCK * BLOCK) ==
          (DEVICE_EXTENT_HOLE | DEVICE_EXTENT_ZERO));
    CHECK(asked() == 2);
    end();
}

TEST("a prefetch makes the reads after it free; it never fails")
{
    NEED(begin(false));
    CHECK(fixture_prefetch(&disk, AT, CHUNK) == 0);
    CHECK(asked() == 2);
    CHECK(reads(0, CHUNK));
    CHECK(asked() == 2);
    fault_store_plan(fault, STORE_GET, 1, 0, STORE_FAILS, -EIO);
    CHECK(fixture_prefetch(&disk, AT, CHUNK) == 0);
    end();
}

TEST("a missing object is an error, never zeros; so is one that differs")
{
    struct chunk_object other;

    NEED(begin(false));
    remote_delete(disk.device, REMOTE, &object);
    CHECK(read_error(0, PAGE) == -EIO);
    CHECK(read_error(HOLE_BLOCK * BLOCK, PAGE) == -EIO);
    CHECK(fixture_extent_at(&disk, AT) == 0);
    /* Another object's bytes under its key do not pass either. */
    fixture_fill(got, CHUNK, 1);
    remote_put(disk.device, REMOTE, 1, got, &other);
    CHECK(read_error(0, PAGE) == -EIO);
    remote_delete(disk.device, REMOTE, &object);
    remote_put(disk.device, REMOTE, 1, plain, &other);
    CHECK(reads(0, CHUNK));
    end();
}

TEST("an error of the store, of any kind, is passed on and not remembered")
{
    static const int errors[] = {-EIO,    -ETIMEDOUT, -EACCES,
                                 -ENOENT, -EAGAIN,    -ESTALE};

    NEED(begin(false));
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        fault_store_plan(fault, STORE_GET, 1, 0, STORE_FAILS, errors[i]);
        CHECK(read_error(0, PAGE) < 0);
    }
    fault_store_plan(fault, STORE_GET, 1, 0, STORE_CORRUPTS, 0);
    CHECK(read_error(0, PAGE) == -EIO);
    fault_store_plan(fault, STORE_GET, 1, 0, STORE_CUTS, 0);
    CHECK(read_error(0, PAGE) == -EIO);
    fault_store_clear(fault);
    CHECK(reads(0, CHUNK));
    end();
}

TEST("without a store a remote chunk is an error, and can be overwritten")
{
    struct object_store *store;

    NEED(begin(false));
    store = disk.options.store;
    CHECK(fixture_close(&disk) == 0);
    disk.options.store = NULL;
    NEED(fixture_open(&disk) == 0);
    CHECK(read_error(0, PAGE) == -EIO);
    CHECK(put(PAGE, PAGE, 9));
    CHECK(device_destage(disk.device) == 0);
    CHECK(reads(PAGE, PAGE));
    CHECK(read_error(0, PAGE) == -EIO);
    CHECK(fixture_close(&disk) == 0);
    disk.options.store = store;
    NEED(fixture_open(&disk) == 0);
    CHECK(reads(0, CHUNK));
    end();
}

static void *read_first_page(void *argument)
{
    (void)argument;
    CHECK(reads(0, PAGE));
    return NULL;
}

TEST("a table that was overtaken while it came is for nobody after that read")
{
    struct chunk_object second;
    struct state_change change = {.kind = STATE_CHUNK, .chunk = REMOTE};
    pthread_t reader;

    NEED(begin(false));
    remote_put(disk.device, REMOTE, 2, plain, &second);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_HOLDS, 0);
    CHECK(pthread_create(&reader, NULL, read_first_page, NULL) == 0);
    fault_store_wait_held(fault, 1);
    /* The same content is in another object now, as after an upload. */
    catalog_get(disk.device->catalog, REMOTE, &change.entry);
    change.entry.revision++;
    change.entry.objects[0] = second;
    CHECK(state_log_commit(disk.device->state_log, &change, 1) == 0);
    open_chunks_drop(disk.device->open_chunks, REMOTE);
    fault_store_release(fault);
    CHECK(pthread_join(reader, NULL) == 0);
    remote_delete(disk.device, REMOTE, &object);
    CHECK(reads(0, CHUNK));
    end();
}

/* ---- pages over a block in the bucket ------------------------------------ */

TEST("pages written to a remote chunk are taken, destaged and read while the "
     "store is away; the rest is merged when it is back")
{
    uint64_t used_before = 0;
    uint64_t used_after = 0;

    NEED(begin(false));
    fault_store_plan(fault, STORE_GET, 1, 0, STORE_FAILS, -ETIMEDOUT);
    CHECK(put(PAGE, PAGE, 1));
    CHECK(put(3 * BLOCK + 2 * PAGE, 2 * PAGE, 2));
    CHECK(fixture_zero(&disk, AT + 4 * BLOCK, PAGE, 0) == 0);
    memset(plain + 4 * BLOCK, 0, PAGE);
    CHECK(put(6 * BLOCK, BLOCK, 3));
    for (unsigned i = 0; i < 3; i++) {
        CHECK(reads(PAGE, PAGE));
        CHECK(reads(PAGE + 5, 100));
        CHECK(reads(3 * BLOCK + 2 * PAGE, 2 * PAGE));
        CHECK(reads(4 * BLOCK, PAGE));
        CHECK(reads(6 * BLOCK, BLOCK));
        CHECK(asked() == 0);
        if (i == 0) {
            used_before = fixture_status(&disk).journal_used;
            CHECK(device_destage(disk.device) == 0);
            used_after = fixture_status(&disk).journal_used;
        } else if (i == 1) {
            NEED(reopen() == 0);
        }
    }
    CHECK(used_after < used_before);
    CHECK(read_error(0, PAGE) == -ETIMEDOUT);
    CHECK(read_error(4 * BLOCK, 2 * PAGE) == -ETIMEDOUT);
    /* A part of a page needs the rest of it. */
    CHECK(fixture_write(&disk, AT + 100, plain, 10, 0) == -ETIMEDOUT);
    fault_store_clear(fault);
    CHECK(reads(0, CHUNK));
    CHECK(put(100, 10, 5));
    CHECK(device_destage(disk.device) == 0);
    CHECK(reads(0, CHUNK));
    NEED(reopen() == 0);
    CHECK(reads(0, CHUNK));
    end();
}

TEST("of a chunk that was written to before its table was known, the table is "
     "fetched once, not with each block")
{
    NEED(begin(false));
    CHECK(put(PAGE, PAGE, 1));
    CHECK(device_destage(disk.device) == 0);
    NEED(reopen() == 0);
    CHECK(fixture_extent_at(&disk, AT + HOLE_BLOCK * BLOCK) == 0);
    CHECK(reads(0, BLOCK));
    CHECK(asked() == 2);
    CHECK(reads(2 * BLOCK, BLOCK));
    CHECK(asked() == 3);
    CHECK(reads(HOLE_BLOCK * BLOCK, BLOCK));
    CHECK(reads(0, CHUNK));
    CHECK(asked() == 4);
    CHECK(fixture_extent_at(&disk, AT) == 0);
    CHECK(fixture_extent_at(&disk, AT + HOLE_BLOCK * BLOCK) ==
          (DEVICE_EXTENT_HOLE | DEVICE_EXTENT_ZERO));
    /* What was learned is not what the next state is built on. */
    CHECK(put(2 * BLOCK, PAGE, 2));
    CHECK(device_destage(disk.device) == 0);
    CHECK(reads(0, CHUNK));
    NEED(reopen() == 0);
    CHECK(reads(0, CHUNK));
    end();
}

TEST("pages written one pass after the other over a remote block add up")
{
    NEED(begin(false));
    for (unsigned page = 0; page < PAGES_PER_BLOCK; page++) {
        CHECK(put(2 * BLOCK + page * PAGE, PAGE, 100 + page));
        if (page % 2 == 0) {
            CHECK(fixture_zero(&disk, AT + 7 * BLOCK + page * PAGE, PAGE, 0) ==
                  0);
            memset(plain + 7 * BLOCK + page * PAGE, 0, PAGE);
        }
        CHECK(device_destage(disk.device) == 0);
        CHECK(reads(2 * BLOCK, BLOCK));
        CHECK(reads(7 * BLOCK, BLOCK));
    }
    NEED(reopen() == 0);
    fault_store_plan(fault, STORE_GET, 1, 0, STORE_FAILS, -EIO);
    CHECK(reads(2 * BLOCK, BLOCK));
    fault_store_clear(fault);
    CHECK(reads(0, CHUNK));
    end();
}

TEST("a remote chunk that is overwritten in whole, or trimmed, needs the "
     "bucket no more")
{
    struct chunk_object second;

    NEED(begin(false));
    remote_put(disk.device, REMOTE + 1, 2, plain, &second);
    remote_commit(disk.device, REMOTE + 1, &second);
    CHECK(put(0, CHUNK, 1));
    CHECK(fixture_trim(&disk, AT + CHUNK, CHUNK) == 0);
    CHECK(device_destage(disk.device) == 0);
    remote_delete(disk.device, REMOTE, &object);
    remote_delete(disk.device, REMOTE + 1, &second);
    NEED(reopen() == 0);
    CHECK(reads(0, CHUNK));
    CHECK(fixture_read(&disk, AT + CHUNK, got, CHUNK) == 0);
    CHECK(bytes_are_zero(got, CHUNK));
    CHECK(asked() == 0);
    CHECK(fixture_status(&disk).chunks_mapped == 1);
    end();
}

/* A chunk of which parts are everywhere, and a store that comes and goes. */
static void live_randomly(uint64_t seed, bool is_resident)
{
    uint64_t state = seed;

    for (unsigned step = 0; step < 300; step++) {
        uint64_t dice;
        uint64_t offset;
        size_t size;
        bool store_is_away;
        bool good = true;

        state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
        dice = (state >> 33) % 100;
        offset = (state >> 40) % CHUNK;
        size = 1 + (state >> 20) % (dice % 9 == 0 ? CHUNK : 3 * PAGE);
        store_is_away = (state >> 17) % 3 == 0;
        if (store_is_away) { /* whole pages need it not */
            offset = round_down(offset, PAGE);
            size = round_up(size, PAGE);
            fault_store_plan(fault, STORE_GET, 1, 0, STORE_FAILS, -EIO);
        }
        if (size > CHUNK - offset)
            size = CHUNK - offset;
        if (dice < 45) {
            good = put(offset, size, state);
        } else if (dice < 55) {
            good = fixture_zero(&disk, AT + offset, size,
                                dice < 50 ? DEVICE_NO_HOLE : 0) == 0;
            memset(plain + offset, 0, size);
        } else if (dice < 65) {
            good = device_destage(disk.device) == 0;
        } else if (dice < 68) {
            good = fixture_reopen(&disk) == 0;
        } else if (dice < 74) {
            int flags = fixture_extent_at(&disk, AT + offset / 512 * 512);

            good =
                flags >= 0 && ((flags & DEVICE_EXTENT_ZERO) == 0 ||
                               bytes_are_zero(plain + offset / 512 * 512, 512));
        } else {
            int error = fixture_read(&disk, AT + offset, got, size);

            good = error == 0 ? memcmp(got, plain + offset, size) == 0
                              : error == -EIO && store_is_away && !is_resident;
        }
        fault_store_clear(fault);
        if (!CHECK(good)) {
            printf("# seed %llu, step %u, dice %llu, %zu at %llu\n",
                   (unsigned long long)seed, step, (unsigned long long)dice,
                   size, (unsigned long long)offset);
            return;
        }
    }
    CHECK(reads(0, CHUNK));
    NEED(reopen() == 0);
    CHECK(reads(0, CHUNK));
}

TEST("a chunk in the bucket, whatever is written over it, reads as a plain "
     "image would, or is an error while the store is away")
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        bool is_resident = seed % 3 == 0;

        NEED(begin(is_resident));
        live_randomly(seed, is_resident);
        end();
        test_remove_tree(AT_FDCWD, test_dir());
        CHECK(mkdir(test_dir(), 0700) == 0);
    }
}

/* ---- damage -------------------------------------------------------------- */

TEST("a bad block that is unchanged since an object is fetched from there")
{
    NEED(begin(true));
    damage_file(3, false);
    CHECK(reads(0, BLOCK));
    CHECK(asked() == 1); /* that was to make the chunk's file */
    CHECK(reads(3 * BLOCK, BLOCK));
    CHECK(asked() == 2);
    CHECK(reads(0, CHUNK));
    CHECK(asked() == 2);
    /* A page written over it: the others still come from the object. */
    CHECK(put(3 * BLOCK + PAGE, PAGE, 1));
    CHECK(device_destage(disk.device) == 0);
    NEED(reopen() == 0);
    CHECK(reads(0, CHUNK));
    end();
}

TEST("a bad table, or a lost file, of a chunk that is all in an object is no "
     "loss")
{
    char path[PATH_MAX];

    for (unsigned i = 0; i < 2; i++) {
        NEED(begin(true));
        fixture_chunk_path(&disk, REMOTE, path);
        if (i == 0)
            damage_file(0, true);
        else
            CHECK(unlink(path) == 0);
        CHECK(reads(0, PAGE));
        NEED(reopen() == 0);
        CHECK(reads(0, CHUNK));
        CHECK(put(BLOCK + PAGE, PAGE, 1));
        CHECK(device_destage(disk.device) == 0);
        NEED(reopen() == 0);
        CHECK(reads(0, CHUNK));
        end();
        test_remove_tree(AT_FDCWD, test_dir());
        CHECK(mkdir(test_dir(), 0700) == 0);
    }
}

/* Whether of a block just these pages are lost, and of the chunk no other. */
static bool only_lost(uint32_t block, unsigned lost)
{
    for (uint32_t page = 0; page < CHUNK / PAGE; page++) {
        bool is_lost = page / PAGES_PER_BLOCK == block &&
                       (lost >> page % PAGES_PER_BLOCK & 1) != 0;

        if (is_lost ? !CHECK(read_error(page * PAGE, PAGE) == -EIO)
                    : !CHECK(reads(page * PAGE, PAGE))) {
            printf("# page %u\n", page);
            return false;
        }
    }
    return true;
}

TEST("a bad block that is nowhere else is an error until it is overwritten, "
     "page by page, through destage and restart")
{
    NEED(begin(false));
    CHECK(put(0, CHUNK, 1));
    CHECK(device_destage(disk.device) == 0);
    NEED(reopen() == 0);
    damage_file(2, false);
    only_lost(2, 0xf);
    CHECK(fixture_status(&disk).damaged_reads > 0);
    CHECK(!fixture_status(&disk).failed);
    CHECK(put(2 * BLOCK + PAGE, PAGE, 2));
    only_lost(2, 0xd);
    CHECK(device_destage(disk.device) == 0);
    only_lost(2, 0xd);
    CHECK(fixture_extent_at(&disk, AT + 2 * BLOCK) == 0);
    NEED(reopen() == 0);
    only_lost(2, 0xd);
    /* A part of a lost page cannot be written: the rest would be invented. */
    CHECK(fixture_write(&disk, AT + 2 * BLOCK + 512, plain, 512, 0) == -EIO);
    CHECK(fixture_zero(&disk, AT + 2 * BLOCK, PAGE, 0) == 0);
    memset(plain + 2 * BLOCK, 0, PAGE);
    CHECK(put(2 * BLOCK + 2 * PAGE, PAGE, 3));
    CHECK(device_destage(disk.device) == 0);
    only_lost(2, 0x8);
    CHECK(put(2 * BLOCK + 3 * PAGE, PAGE, 4));
    CHECK(device_destage(disk.device) == 0);
    NEED(reopen() == 0);
    only_lost(2, 0);
    end();
}

TEST("written pages over a remote block that go bad are lost, its others not")
{
    NEED(begin(false));
    CHECK(put(2 * BLOCK + PAGE, 2 * PAGE, 1));
    CHECK(device_destage(disk.device) == 0);
    NEED(reopen() == 0);
    damage_file(2, false);
    only_lost(2, 0x6);
    CHECK(put(2 * BLOCK + PAGE, PAGE, 2));
    CHECK(device_destage(disk.device) == 0);
    NEED(reopen() == 0);
    only_lost(2, 0x4);
    end();
}

TEST("a chunk whose table, or file, is lost is an error in whole until it is "
     "overwritten; other chunks are not")
{
    char path[PATH_MAX];

    for (unsigned i = 0; i < 2; i++) {
        NEED(begin(false));
        CHECK(put(0, CHUNK, 1));
        CHECK(fixture_write(&disk, 0, plain, CHUNK, 0) == 0);
        CHECK(device_destage(disk.device) == 0);
        NEED(reopen() == 0);
        fixture_chunk_path(&disk, REMOTE, path);
        if (i == 0)
            damage_file(0, true);
        else
            CHECK(unlink(path) == 0);
        NEED(reopen() == 0);
        CHECK(read_error(0, PAGE) == -EIO);
        CHECK(read_error(HOLE_BLOCK * BLOCK, PAGE) == -EIO);
        CHECK(fixture_extent_at(&disk, AT) == 0);
        CHECK(put(PAGE, PAGE, 2));
        CHECK(device_destage(disk.device) == 0);
        NEED(reopen() == 0);
        CHECK(reads(PAGE, PAGE));
        CHECK(read_error(0, PAGE) == -EIO);
        CHECK(read_error(7 * BLOCK, PAGE) == -EIO);
        CHECK(put(0, CHUNK, 3));
        CHECK(device_destage(disk.device) == 0);
        NEED(reopen() == 0);
        CHECK(reads(0, CHUNK));
        CHECK(fixture_read(&disk, 0, got, PAGE) == 0);
        end();
        test_remove_tree(AT_FDCWD, test_dir());
        CHECK(mkdir(test_dir(), 0700) == 0);
    }
}

TEST("a block enters memory only if its chunk is still what it was read from")
{
    struct open_chunk *open;
    unsigned flags;

    NEED(begin(false));
    CHECK(put(0, CHUNK, 1));
    CHECK(device_destage(disk.device) == 0);
    NEED(reopen() == 0);
    CHECK(!block_cache_has(disk.device->block_cache, REMOTE, 0));
    CHECK(chunk_reader_hold(&disk.device->reader, REMOTE, PATIENCE_DISK, &open,
                            &flags) == 0);
    NEED(open != NULL);
    CHECK(flags == CATALOG_FILE);
    CHECK(reads(0, PAGE));
    CHECK(block_cache_has(disk.device->block_cache, REMOTE, 0));
    CHECK(put(0, BLOCK, 2));
    CHECK(device_destage(disk.device) == 0);
    CHECK(!block_cache_has(disk.device->block_cache, REMOTE, 0));
    /* Who held the old state reads it still. */
    CHECK(chunk_file_read_block(open->file, open->table, 0, got, false) == 0);
    CHECK(memcmp(got, plain, BLOCK) != 0);
    open_chunk_release(disk.device->open_chunks, open);
    CHECK(reads(0, CHUNK));
    end();
}

/* ---- descriptors --------------------------------------------------------- */

TEST("without descriptors other chunks are closed; read and destage go on")
{
    struct fault_calls opens = {FAULT_OPEN, "/chunk/", 1};
    struct fault_calls creates = {FAULT_CREATE, "/chunk/", 1};

    NEED(begin(true));
    CHECK(fixture_write(&disk, 0, plain, PAGE, 0) == 0);
    CHECK(device_destage(disk.device) == 0);
    fault_fail(&opens, -EMFILE, false, 0);
    CHECK(reads(0, BLOCK)); /* chunk 0 is closed for it */
    CHECK(fault_count() > 1);
    fault_fail(&creates, -ENFILE, false, 0);
    CHECK(fixture_write(&disk, 5 * CHUNK, plain, PAGE, 0) == 0);
    CHECK(device_destage(disk.device) == 0);
    CHECK(fault_count() > 1);
    CHECK(fixture_read(&disk, 5 * CHUNK, got, PAGE) == 0);
    CHECK(memcmp(got, plain, PAGE) == 0);
    /* There is nothing to be closed: an error, and no loop. */
    while (open_chunks_make_room(disk.device->open_chunks))
        continue;
    fault_fail(&opens, -EMFILE, true, 0);
    CHECK(read_error(2 * BLOCK, BLOCK) == -EMFILE);
    fault_reset();
    CHECK(reads(2 * BLOCK, BLOCK));
    end();
}
