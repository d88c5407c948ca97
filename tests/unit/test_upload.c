/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/upload.h"

#include <errno.h>

#include "base/bytes.h"
#include "cache/block_codec.h"
#include "cache/device.h"
#include "cache/geometry.h"
#include "support/crash_states.h"
#include "support/fault_file.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

enum { CHUNK = 0x77 };

/*
 * One chunk of a device: what it holds, and its file, which is written to as
 * destage does it.
 */
static uint32_t chunk_size, blocks;
static unsigned char *model;    /* what the chunk holds */
static unsigned char *lost;     /* pages that it does not, for each block */
static struct chunk_dir *dir;   /* of the writer */
static struct chunk_file *file; /* the chunk's */
static struct chunk_table *table;
static uint64_t counter;
static struct fault_store *fault;
static struct object_store *store;
static struct fetch *fetch;
static struct upload_context context;

static bool begin(uint32_t size)
{
    int fd = open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_ok;

    chunk_size = size;
    blocks = size / CACHE_BLOCK;
    model = calloc(1, size);
    lost = calloc(1, blocks);
    table = chunk_table_new(CHUNK, size);
    fault = fault_store_new(memory_store_new());
    store = fault_store_of(fault);
    counter = 0;
    is_ok =
        CHECK(model != NULL && lost != NULL && table != NULL) &&
        CHECK(fetch_new(store, "disk", &fetch) == 0) &&
        CHECK(chunk_dir_open(fd, "disk", size, CHUNK_DIR_CREATE, &dir) == 0) &&
        CHECK(chunk_file_create(dir, CHUNK, &file) == 0);
    context = (struct upload_context){
        .device_name = "disk",
        .store = store,
        .fetch = fetch,
        .chunk_size = size,
    };
    /* As another process would. */
    is_ok = is_ok && CHECK(chunk_dir_open(fd, "disk", size, CHUNK_DIR_READ,
                                          &context.chunk_dir) == 0);
    (void)close(fd);
    return is_ok;
}

static void end(void)
{
    fault_reset();
    chunk_file_release(file);
    file = NULL;
    chunk_dir_close(dir);
    chunk_dir_close(context.chunk_dir);
    dir = context.chunk_dir = NULL;
    chunk_table_release(table);
    fetch_free(fetch);
    store->close(store);
    free(model);
    free(lost);
}

/* The table of the file is the next state of the chunk. */
static bool write_state(void)
{
    table->generation++;
    table->slot = (table->slot + 1) % CHUNK_SLOTS;
    return CHECK(chunk_file_write_slot(file, table) == 0);
}

/* Store these pages of the model as the local ones of a block. */
static bool store_pages(uint32_t block, unsigned pages)
{
    struct chunk_block *entry = &table->blocks[block];
    unsigned char plain[CACHE_BLOCK], stored[BLOCK_STORED_MAX];
    struct block_stored how;
    size_t size = 0;

    for (unsigned page = 0; page < PAGES_PER_BLOCK; page++) {
        if ((pages >> page & 1) == 0)
            continue;
        memcpy(plain + size,
               model + (size_t)block * CACHE_BLOCK + page * CACHE_PAGE,
               CACHE_PAGE);
        size += CACHE_PAGE;
    }
    entry->local_pages = (uint8_t)pages;
    entry->zero_pages = 0;
    if (pages == 0)
        return true;
    block_encode(plain, size, stored, &how);
    table->data_end = (uint32_t)round_up(table->data_end, CACHE_PAGE);
    entry->codec = (uint8_t)how.codec;
    entry->stored_size = how.size;
    entry->checksum = how.checksum;
    entry->place = table->data_end;
    table->data_end += how.size;
    return CHECK(chunk_file_write(file, stored, how.size, entry->place) == 0);
}

/* Write new bytes, half of them noise, to these pages of a block. */
static bool change(uint32_t block, unsigned pages, uint64_t seed)
{
    struct chunk_block *entry = &table->blocks[block];
    bool is_remote = entry->base == BASE_OBJECT || entry->base == BASE_UNKNOWN;

    for (unsigned page = 0; page < PAGES_PER_BLOCK; page++) {
        unsigned char *to =
            model + (size_t)block * CACHE_BLOCK + page * CACHE_PAGE;

        if ((pages >> page & 1) == 0)
            continue;
        memset(to, (int)(seed % 255 + 1), CACHE_PAGE);
        for (unsigned i = 0; i < CACHE_PAGE / 2; i += 8)
            put_le64(to + i, crash_random(seed, page * 1000 + i));
    }
    lost[block] &= (unsigned char)~pages;
    entry->damaged_pages = lost[block];
    /* A clean copy is no part of a new state that is half its own. */
    pages |= entry->local_pages;
    if (is_remote && pages == ALL_PAGES) {
        *entry = (struct chunk_block){.base = BASE_HOLE,
                                      .damaged_pages = lost[block]};
    }
    return store_pages(block, pages);
}

/* Zeros, with or without a hole. */
static void clear(uint32_t block, enum block_base base)
{
    memset(model + (size_t)block * CACHE_BLOCK, 0, CACHE_BLOCK);
    lost[block] = 0;
    table->blocks[block] = (struct chunk_block){.base = (uint8_t)base};
}

static struct upload_work next_work(void)
{
    return (struct upload_work){
        .chunk = CHUNK,
        .generation = table->generation,
        .revision = table->revision,
        .id = {3, 0xabc, ++counter},
    };
}

/* Upload the state, and tell its object's table as its readers see it. */
static int upload(const struct upload_work *work,
                  struct upload_result *ret_result,
                  struct chunk_table **ret_table)
{
    int error = upload_chunk(&context, work, ret_result);

    if (error == 0) {
        CHECK(upload_decode_table(ret_result->table, ret_result->table_size,
                                  work, chunk_size, ret_table) == 0);
        free(ret_result->table);
        ret_result->table = NULL;
    }
    return error;
}

struct seen {
    const struct chunk_table *table;
    uint32_t count;
    bool is_right;
};

static void compare(void *arg, uint32_t block, const void *stored,
                    const void *plain)
{
    struct seen *seen = arg;
    const unsigned char *is = plain;

    (void)stored;
    seen->count++;
    for (unsigned page = 0; page < PAGES_PER_BLOCK; page++) {
        if ((lost[block] >> page & 1) == 0 &&
            memcmp(is + page * CACHE_PAGE,
                   model + (size_t)block * CACHE_BLOCK + page * CACHE_PAGE,
                   CACHE_PAGE) != 0)
            seen->is_right = false;
    }
}

/*
 * Read the newest object as a host would that has nothing but its reference.
 * Whether it is what the model says.
 */
static bool object_is_model(const struct chunk_table *made)
{
    struct seen seen = {NULL, 0, true};
    struct chunk_table *read;
    struct fetch *fresh;
    uint32_t *wanted = calloc(blocks, sizeof(*wanted));
    uint32_t count = 0;

    if (!CHECK(wanted != NULL) || !CHECK(fetch_new(store, "disk", &fresh) == 0))
        return false;
    if (!CHECK(fetch_table(fresh, CHUNK, chunk_size,
                           &made->objects[made->objects_count - 1],
                           OBJECT_BACKGROUND, &read) == 0))
        return false;
    for (uint32_t i = 0; i < blocks; i++) {
        const struct chunk_block *entry = &read->blocks[i];

        if (!CHECK(entry->damaged_pages == lost[i]))
            seen.is_right = false;
        if (entry->base == BASE_OBJECT)
            wanted[count++] = i;
        else if (!CHECK(lost[i] == ALL_PAGES ||
                        bytes_are_zero(model + (size_t)i * CACHE_BLOCK,
                                       CACHE_BLOCK)))
            seen.is_right = false;
    }
    CHECK(count == 0 || fetch_blocks(fresh, read, wanted, count,
                                     OBJECT_BACKGROUND, compare, &seen) == 0);
    CHECK(seen.count == count);
    chunk_table_release(read);
    fetch_free(fresh);
    free(wanted);
    return seen.is_right;
}

/* The upload is recorded: the state's bases are those of the object. */
static bool apply(const struct chunk_table *made)
{
    for (uint32_t i = 0; i < blocks; i++) {
        struct chunk_block *entry = &table->blocks[i];
        const struct chunk_block *base = &made->blocks[i];

        if (entry->local_pages != 0 && base->base == BASE_OBJECT &&
            (entry->base == BASE_HOLE || entry->base == BASE_ZERO)) {
            entry->zero_pages |= (uint8_t)(ALL_PAGES & ~entry->local_pages);
            entry->local_pages = ALL_PAGES;
        }
        if (entry->local_pages != ALL_PAGES)
            entry->local_pages = 0;
        entry->base = base->base;
        entry->object = base->object;
        entry->object_codec = base->object_codec;
        entry->object_size = base->object_size;
        entry->object_place = base->object_place;
        entry->object_checksum = base->object_checksum;
        entry->damaged_pages = base->damaged_pages;
        if (entry->damaged_pages != 0)
            entry->local_pages = entry->zero_pages = 0;
    }
    table->objects_count = made->objects_count;
    memcpy(table->objects, made->objects, sizeof(table->objects));
    return write_state();
}

/* Upload the state, check it, and have it recorded; returns the bytes put. */
static uint64_t upload_and_apply(void)
{
    struct upload_work work = next_work();
    struct upload_result result;
    struct chunk_table *made;
    uint64_t size;

    if (!CHECK(upload(&work, &result, &made) == 0) ||
        !CHECK(object_is_model(made)) || !CHECK(apply(made)))
        return 0;
    size = result.size;
    chunk_table_release(made);
    return size;
}

/* The blocks leave the disk, all that are in an object. */
static void evict(void)
{
    for (uint32_t i = 0; i < blocks; i++) {
        if (table->blocks[i].base == BASE_OBJECT)
            table->blocks[i].local_pages = table->blocks[i].zero_pages = 0;
    }
    (void)write_state();
}

/* The file leaves the disk, and a new one knows nothing of its bases. */
static bool evict_file(void)
{
    struct chunk_table *fresh = chunk_table_new(CHUNK, chunk_size);

    if (!CHECK(fresh != NULL) || !CHECK(table->objects_count > 0))
        return false;
    fresh->generation = table->generation;
    fresh->objects_count = table->objects_count;
    memcpy(fresh->objects, table->objects, sizeof(fresh->objects));
    for (uint32_t i = 0; i < blocks; i++)
        fresh->blocks[i].base = BASE_UNKNOWN;
    chunk_table_release(table);
    table = fresh;
    chunk_file_release(file);
    return CHECK(chunk_file_create(dir, CHUNK, &file) == 0) && write_state();
}

/* Fill so many blocks, and upload them. */
static bool begin_clean(uint32_t size, uint32_t count)
{
    if (!begin(size))
        return false;
    for (uint32_t i = 0; i < count; i++)
        (void)change(i, ALL_PAGES, i + 1);
    return write_state() && CHECK(upload_and_apply() > 0);
}

static uint64_t asked(void)
{
    return fault_store_count(fault, STORE_GET);
}

/* ---- what an object is ----------------------------------------------------
 */

TEST("the first object of a chunk is whole, and made of the stored bytes")
{
    struct upload_result result;
    struct upload_work work;
    struct chunk_table *made;
    unsigned char local[CACHE_BLOCK], remote[CACHE_BLOCK];
    char key[FETCH_KEY_MAX];

    NEED(begin(1 << 20));
    NEED(change(0, ALL_PAGES, 1) && change(5, ALL_PAGES, 2) &&
         change(63, 4, 3) && write_state());
    clear(7, BASE_ZERO);
    NEED(write_state());
    work = next_work();
    NEED(upload(&work, &result, &made) == 0);
    CHECK(made->objects_count == 1);
    CHECK(made->generation == table->generation);
    CHECK(made->blocks[1].base == BASE_HOLE);
    CHECK(made->blocks[7].base == BASE_ZERO);
    CHECK(result.damaged == 0 && result.fetched == 0 && asked() == 0);
    CHECK(result.size == result.table_size + made->blocks[0].object_size +
                             made->blocks[5].object_size +
                             made->blocks[63].object_size);
    CHECK(made->blocks[5].object_size == table->blocks[5].stored_size);
    fetch_object_key("disk", CHUNK, &work.id, key);
    CHECK(store->get(store, key, made->blocks[5].object_place, remote,
                     made->blocks[5].object_size, OBJECT_BACKGROUND) == 0);
    CHECK(chunk_file_read_stored(file, table, 5, local) == 0);
    CHECK(memcmp(local, remote, made->blocks[5].object_size) == 0);
    CHECK(object_is_model(made));
    chunk_table_release(made);
    end();
}

TEST("a change of 4 KiB uploads less than 64 KiB, for any chunk size")
{
    for (uint32_t size = DEVICE_CHUNK_SIZE_MIN; size <= DEVICE_CHUNK_SIZE_MAX;
         size *= 2) {
        NEED(begin_clean(size, size / CACHE_BLOCK));
        NEED(change(blocks / 2, 2, 99) && write_state());
        CHECK(upload_and_apply() < 64 << 10);
        end();
    }
}

TEST("whole blocks that changed are uploaded without a look at the bucket")
{
    struct upload_work work;
    struct upload_result result;
    struct chunk_table *made;
    uint64_t before;

    NEED(begin_clean(1 << 20, 64));
    evict();
    NEED(change(3, ALL_PAGES, 100) && change(9, ALL_PAGES, 101) &&
         write_state());
    work = next_work();
    before = asked();
    NEED(upload(&work, &result, &made) == 0);
    CHECK(asked() == before);
    CHECK(made->objects_count == 2);
    CHECK(object_is_model(made));
    chunk_table_release(made);
    end();
}

TEST("parts of neighbouring blocks are merged with what one request brings")
{
    uint64_t before;
    struct upload_work work;
    struct upload_result result;
    struct chunk_table *made;

    NEED(begin_clean(1 << 20, 64));
    evict();
    for (uint32_t i = 10; i < 20; i++)
        NEED(change(i, 1U << i % 4, 200 + i));
    NEED(write_state());
    before = asked();
    work = next_work();
    NEED(upload(&work, &result, &made) == 0);
    CHECK(asked() == before + 1);
    CHECK(result.fetched > 0);
    CHECK(object_is_model(made));
    chunk_table_release(made);
    end();
}

TEST("a block whose every page is here, or lost, needs no base")
{
    uint64_t before;
    struct upload_work work;
    struct upload_result result;
    struct chunk_table *made;

    NEED(begin_clean(1 << 20, 64));
    evict();
    NEED(change(10, 7, 1000));
    table->blocks[10].damaged_pages = lost[10] = 8;
    NEED(write_state());
    before = asked();
    work = next_work();
    NEED(upload(&work, &result, &made) == 0);
    CHECK(asked() == before && result.damaged == 1);
    CHECK(object_is_model(made));
    chunk_table_release(made);
    end();
}

TEST("after a number of deltas the chunk is whole again, from the bucket")
{
    unsigned wholes = 0, most = 0;

    NEED(begin_clean(1 << 20, 64));
    evict();
    for (unsigned i = 0; i < 30; i++) {
        NEED(change(i, 1, 300 + i) && write_state());
        NEED(upload_and_apply() > 0);
        evict();
        if (table->objects_count == 1)
            wholes++;
        if (table->objects_count > most)
            most = table->objects_count;
    }
    CHECK(wholes >= 3 && wholes <= 4);
    CHECK(most >= 8 && most <= 9);
    end();
}

TEST("a chunk that mostly changed is whole again, at once")
{
    NEED(begin_clean(1 << 20, 64));
    for (uint32_t i = 0; i < 40; i++)
        NEED(change(i, ALL_PAGES, 400 + i));
    NEED(write_state());
    NEED(upload_and_apply() > 0);
    CHECK(table->objects_count == 1);
    end();
}

TEST("what is dead in older objects makes the chunk whole before it is much")
{
    unsigned wholes = 0;

    NEED(begin_clean(1 << 20, 64));
    for (unsigned i = 0; i < 12; i++) {
        /* Of each delta only its last block stays in use. */
        for (uint32_t block = 0; block < 24; block++)
            NEED(change(block, ALL_PAGES, 1 + i * 100 + block));
        NEED(change(24 + i, ALL_PAGES, 5000 + i) && write_state());
        NEED(upload_and_apply() > 0);
        wholes += table->objects_count == 1;
        CHECK(table->objects_count < 6);
    }
    CHECK(wholes >= 2);
    end();
}

TEST("any chain of changes, evictions and uploads reads as the chunk was")
{
    static const uint32_t sizes[] = {1 << 18, 1 << 20, 4 << 20};

    for (unsigned seed = 0; seed < 6; seed++) {
        NEED(begin(sizes[seed % 3]));
        NEED(change(0, ALL_PAGES, 1) && write_state());
        for (unsigned step = 0; step < 60; step++) {
            uint64_t dice = crash_random(seed + 1, step);
            unsigned count = (unsigned)(dice >> 8) % 12;

            for (unsigned i = 0; i < count; i++) {
                uint64_t more = crash_random(dice, i);
                uint32_t block = (uint32_t)(more >> 16) % blocks;

                if (more % 9 == 0)
                    clear(block, more % 2 ? BASE_HOLE : BASE_ZERO);
                else
                    NEED(change(block,
                                more % 3 ? (unsigned)(more >> 8 & ALL_PAGES)
                                         : ALL_PAGES,
                                more));
            }
            NEED(write_state());
            NEED(upload_and_apply() > 0);
            if (dice % 3 == 0)
                evict();
            else if (dice % 7 == 0)
                NEED(evict_file());
        }
        end();
    }
}

/* ---- damage ---------------------------------------------------------------
 */

/* Spoil the stored bytes of a block's local pages. */
static void spoil(uint32_t block)
{
    char path[PATH_MAX];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/chunk/00000000/%016x", test_dir(),
                   (unsigned)CHUNK);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0 && pwrite(fd, "\xde\xad", 2,
                            table->blocks[block].place +
                                table->blocks[block].stored_size / 2) == 2);
    (void)close(fd);
}

TEST("a damaged block is marked in the object, and the rest is there")
{
    struct upload_work work;
    struct upload_result result;
    struct chunk_table *made;

    NEED(begin_clean(1 << 20, 64));
    evict();
    NEED(change(1, ALL_PAGES, 1000) && change(2, 5, 1001) &&
         change(3, 2, 1002) && write_state());
    spoil(1);
    spoil(2);
    lost[1] = ALL_PAGES;
    lost[2] = 5;
    work = next_work();
    NEED(upload(&work, &result, &made) == 0);
    CHECK(result.damaged == 2);
    CHECK(object_is_model(made));
    NEED(apply(made));
    chunk_table_release(made);
    /* Damage stays until it is overwritten. */
    NEED(change(1, 3, 1003) && write_state());
    NEED(upload_and_apply() > 0);
    NEED(change(1, ALL_PAGES, 1004) && change(2, 5, 1005) && write_state());
    NEED(upload_and_apply() > 0);
    CHECK(lost[1] == 0 && lost[2] == 0);
    end();
}

TEST("a damaged copy of what an object has is no damage")
{
    NEED(begin_clean(1 << 20, 64));
    spoil(60);
    for (uint32_t i = 0; i < 40; i++)
        NEED(change(i, ALL_PAGES, 400 + i));
    NEED(write_state());
    NEED(upload_and_apply() > 0);
    CHECK(table->objects_count == 1);
    CHECK(lost[60] == 0);
    end();
}

TEST("a block that is part zeros without bytes is whole, here and in an object")
{
    struct upload_work work;
    struct upload_result result;
    struct chunk_table *made;

    NEED(begin_clean(1 << 20, 30));
    NEED(change(50, 5, 500) && change(51, 2, 501) && write_state());
    NEED(upload_and_apply() > 0);
    CHECK(chunk_block_stored_pages(&table->blocks[50]) == 5);
    CHECK(table->blocks[50].local_pages == ALL_PAGES);
    /* Of the bucket, where what is here is damaged; else of itself. */
    for (unsigned round = 0; round < 2; round++) {
        if (round == 1)
            spoil(51);
        for (uint32_t i = 0; i < 30; i++)
            NEED(change(i, ALL_PAGES, 502 + round + i));
        NEED(write_state());
        work = next_work();
        NEED(upload(&work, &result, &made) == 0);
        CHECK(made->objects_count == 1 && result.damaged == 0);
        CHECK((result.fetched == 0) == (round == 0));
        CHECK(object_is_model(made) && apply(made));
        chunk_table_release(made);
    }
    end();
}

TEST("what the disk does not give now is not lost until somebody says so")
{
    struct fault_calls reads = {FAULT_READ, "chunk/0", 2};
    struct upload_work work;
    struct upload_result result;
    struct chunk_table *made;

    NEED(begin(1 << 20));
    NEED(change(4, ALL_PAGES, 1) && write_state());
    work = next_work();
    fault_fail(&reads, -EIO, true, 0);
    CHECK(upload_chunk(&context, &work, &result) == -EIO);
    CHECK(fault_store_count(fault, STORE_PUT) == 0);
    fault_fail(&reads, -EIO, true, 0);
    work.loss = UPLOAD_BLOCKS_LOST;
    lost[4] = ALL_PAGES;
    NEED(upload(&work, &result, &made) == 0);
    fault_reset();
    CHECK(object_is_model(made));
    chunk_table_release(made);
    end();
}

TEST("a state that is not there is -ESTALE, until it is said to be lost")
{
    struct upload_work work;
    struct upload_result result;
    struct chunk_table *made;

    NEED(begin_clean(1 << 20, 64));
    work = next_work();
    work.revision++;
    CHECK(upload_chunk(&context, &work, &result) == -ESTALE);
    work.revision--;
    work.generation += 7;
    CHECK(upload_chunk(&context, &work, &result) == -ESTALE);
    NEED(chunk_file_remove(dir, CHUNK) == 0);
    work.generation -= 7;
    CHECK(upload_chunk(&context, &work, &result) == -ESTALE);
    work.loss = UPLOAD_TABLE_LOST;
    memset(lost, ALL_PAGES, blocks);
    NEED(upload(&work, &result, &made) == 0);
    CHECK(result.damaged == blocks);
    CHECK(object_is_model(made));
    chunk_table_release(made);
    end();
}

/* ---- the bucket fails -----------------------------------------------------
 */

/* The key of the object that the state rests on. */
static void newest_key(char key[FETCH_KEY_MAX])
{
    fetch_object_key("disk", CHUNK, &table->objects[0].id, key);
}

TEST("an upload that fails leaves the state to be uploaded again")
{
    struct upload_work work;
    struct upload_result result;

    NEED(begin_clean(1 << 20, 64));
    NEED(change(4, 1, 1) && write_state());
    for (unsigned i = 0; i < 3; i++) {
        work = next_work();
        fault_store_plan(fault, STORE_PUT, 1, 1,
                         i == 0 ? STORE_FAILS : STORE_FAILS_AFTER, -ETIMEDOUT);
        CHECK(upload_chunk(&context, &work, &result) == -ETIMEDOUT);
    }
    fault_store_clear(fault);
    CHECK(upload_and_apply() > 0);
    end();
}

TEST("a store that fails is told apart from a file that cannot be read")
{
    struct upload_work work;
    struct upload_result result;

    NEED(begin_clean(1 << 20, 64));
    NEED(change(4, 1, 1) && write_state());
    work = next_work();
    fault_store_plan(fault, STORE_PUT, 1, 1, STORE_FAILS, -EIO);
    CHECK(upload_chunk(&context, &work, &result) == -EREMOTEIO);
    end();
}

TEST("older objects that cannot be read are rested on for as long as possible")
{
    NEED(begin_clean(1 << 20, 64));
    evict();
    for (unsigned i = 0; i < 15; i++) {
        struct upload_work work;
        struct upload_result result;
        struct chunk_table *made;

        NEED(change(i, ALL_PAGES, 300 + i) && write_state());
        work = next_work();
        fault_store_plan(fault, STORE_GET, 1, 0, STORE_FAILS, -EIO);
        NEED(upload(&work, &result, &made) == 0);
        fault_store_clear(fault);
        CHECK(object_is_model(made));
        NEED(apply(made));
        chunk_table_release(made);
        evict();
    }
    CHECK(table->objects_count == 16);
    NEED(change(30, ALL_PAGES, 500) && write_state());
    {
        struct upload_work work = next_work();
        struct upload_result result;

        fault_store_plan(fault, STORE_GET, 1, 0, STORE_FAILS, -EIO);
        CHECK(upload_chunk(&context, &work, &result) == -EIO);
        fault_store_clear(fault);
    }
    NEED(upload_and_apply() > 0);
    CHECK(table->objects_count == 1);
    end();
}

TEST("a base is lost only when the bucket says so, and somebody gave it up")
{
    struct upload_work work;
    struct upload_result result;
    struct chunk_table *made;
    char key[FETCH_KEY_MAX];

    NEED(begin_clean(1 << 20, 4));
    evict();
    NEED(change(2, 2, 1) && write_state());
    newest_key(key);
    work = next_work();
    work.loss = UPLOAD_BLOCKS_LOST;
    fault_store_plan(fault, STORE_GET, 1, 0, STORE_FAILS, -EIO);
    fault_store_plan(fault, STORE_HEAD, 1, 0, STORE_FAILS, -EIO);
    CHECK(upload_chunk(&context, &work, &result) == -EIO);
    fault_store_plan(fault, STORE_HEAD, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(upload_chunk(&context, &work, &result) == -EIO);
    fault_store_clear(fault);

    CHECK(object_delete_one(store, key) == 0);
    work.loss = UPLOAD_NO_LOSS;
    CHECK(upload_chunk(&context, &work, &result) == -EIO);
    work.loss = UPLOAD_BLOCKS_LOST;
    NEED(upload(&work, &result, &made) == 0);
    CHECK(result.damaged == 1);
    CHECK(made->blocks[2].damaged_pages == (ALL_PAGES & ~2));
    CHECK(made->blocks[0].base == BASE_OBJECT); /* should it come back */
    chunk_table_release(made);
    end();
}

TEST("what another device, of which this one is a clone, has lost is lost")
{
    struct upload_work work;
    struct upload_result result;
    struct chunk_table *made;
    char key[FETCH_KEY_MAX];

    NEED(begin_clean(1 << 20, 4));
    evict();
    NEED(change(2, 2, 1));
    table->objects[0].origin = 77;
    NEED(write_state());
    work = next_work();
    work.loss = UPLOAD_BLOCKS_LOST;
    /* As long as nobody knows which device that is, nothing is proved. */
    CHECK(upload_chunk(&context, &work, &result) == -EIO);
    NEED(fetch_set_origin(fetch, 78, "another") == 0);
    NEED(fetch_set_origin(fetch, 77, "disk") == 0);
    NEED(upload(&work, &result, &made) == 0);
    CHECK(result.damaged == 0);
    chunk_table_release(made);

    newest_key(key);
    CHECK(object_delete_one(store, key) == 0);
    work = next_work();
    work.loss = UPLOAD_BLOCKS_LOST;
    NEED(upload(&work, &result, &made) == 0);
    CHECK(result.damaged == 1);
    chunk_table_release(made);
    end();
}

TEST("with the table of the newest object, what only it knows is lost")
{
    struct upload_work work;
    struct upload_result result;
    struct chunk_table *made;
    char key[FETCH_KEY_MAX];

    NEED(begin_clean(1 << 20, 4));
    newest_key(key);
    NEED(evict_file());
    NEED(change(2, 2, 1) && change(3, ALL_PAGES, 2) && write_state());
    CHECK(object_delete_one(store, key) == 0);
    work = next_work();
    CHECK(upload_chunk(&context, &work, &result) == -EIO);
    work.loss = UPLOAD_BLOCKS_LOST;
    memset(lost, ALL_PAGES, blocks);
    lost[2] = ALL_PAGES & ~2;
    lost[3] = 0;
    NEED(upload(&work, &result, &made) == 0);
    CHECK(object_is_model(made));
    chunk_table_release(made);
    end();
}

TEST("a put that was cut or changed on its way is never read as something else")
{
    static const enum store_fault kinds[] = {STORE_CUTS, STORE_CORRUPTS};

    for (unsigned i = 0; i < 2; i++) {
        struct upload_work work;
        struct upload_result result;
        struct chunk_table *made, *read;
        struct seen seen = {NULL, 0, true};
        uint32_t block = 3;
        int error;

        NEED(begin(1 << 20));
        NEED(change(3, ALL_PAGES, 1) && write_state());
        work = next_work();
        fault_store_plan(fault, STORE_PUT, 1, 1, kinds[i], 0);
        NEED(upload(&work, &result, &made) == 0);
        error = fetch_table(fetch, CHUNK, chunk_size, &made->objects[0],
                            OBJECT_BACKGROUND, &read);
        CHECK(error == 0 || error == -EIO);
        if (error == 0) {
            CHECK(fetch_blocks(fetch, read, &block, 1, OBJECT_BACKGROUND,
                               compare, &seen) == -EIO);
            CHECK(seen.count == 0);
            chunk_table_release(read);
        }
        chunk_table_release(made);
        end();
    }
}

/* ---- what an uploader reports ---------------------------------------------
 */

TEST("the table of a result must be that of the work")
{
    struct upload_work work, other;
    struct upload_result result;
    struct chunk_table *made;
    unsigned char *longer;

    NEED(begin_clean(1 << 20, 4));
    NEED(change(2, 2, 1) && write_state());
    work = next_work();
    NEED(upload_chunk(&context, &work, &result) == 0);
    other = work;
    other.chunk++;
    CHECK(upload_decode_table(result.table, result.table_size, &other,
                              chunk_size, &made) == -EBADMSG);
    other = work;
    other.generation++;
    CHECK(upload_decode_table(result.table, result.table_size, &other,
                              chunk_size, &made) == -EBADMSG);
    other = work;
    other.id.counter++;
    CHECK(upload_decode_table(result.table, result.table_size, &other,
                              chunk_size, &made) == -EBADMSG);
    CHECK(upload_decode_table(result.table, result.table_size, &work,
                              chunk_size * 2, &made) == -EBADMSG);
    longer = calloc(2, result.table_size);
    NEED(longer != NULL);
    memcpy(longer, result.table, result.table_size);
    CHECK(upload_decode_table(longer, 2 * result.table_size, &work, chunk_size,
                              &made) == -EBADMSG);
    longer[100] ^= 1;
    CHECK(upload_decode_table(longer, result.table_size, &work, chunk_size,
                              &made) == -EBADMSG);
    CHECK(upload_decode_table(result.table, 0, &work, chunk_size, &made) ==
          -EBADMSG);
    /* A file's table, though it has no object at all. */
    table->generation = work.generation;
    table->objects_count = 0;
    for (uint32_t i = 0; i < blocks; i++)
        clear(i, BASE_HOLE);
    CHECK(upload_decode_table(longer, chunk_table_encode(table, longer), &work,
                              chunk_size, &made) == -EBADMSG);
    NEED(upload_decode_table(result.table, result.table_size, &work, chunk_size,
                             &made) == 0);
    CHECK(made->data_end == chunk_file_data_start(chunk_size));
    chunk_table_release(made);
    free(longer);
    free(result.table);
    end();
}
