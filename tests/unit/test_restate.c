/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
/*
 * The destage thread has nothing to do here but what a test asks it for, so a
 * test may take the steps of a restate in its stead.
 *
 * RESTATE_SEEDS   how many stories at random, 8 by default
 */
#include "cache/restate.h"

#include <sys/stat.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/number.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "cache/upload.h"
#include "support/device_fixture.h"
#include "support/fault_file.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

enum {
    PAGE = CACHE_PAGE,
    BLOCK = CACHE_BLOCK,
    CHUNK = 256 << 10,
    BLOCKS = CHUNK / BLOCK,
    HERE = 2, /* the chunk that all is done to */
};

static const uint64_t AT = (uint64_t)HERE * CHUNK;

static struct device_fixture disk;
static struct fault_store *fault;
static unsigned char plain[CHUNK];  /* of the chunk */
static unsigned char at_cut[CHUNK]; /* the same, when the checkpoint was cut */
static unsigned char got[CHUNK];
static uint64_t counter; /* of objects */

/* ---- what the tests are made of ------------------------------------------ */

static int open_disk(void)
{
    int error = fixture_open(&disk);

    if (error == 0)
        disk.device->reader.keep = NULL; /* only what a test says is kept */
    return error;
}

static bool begin(void)
{
    static unsigned number; /* of a directory for this device */
    char dir[PATH_MAX + 16];

    log_set_level(LOG_LEVEL_ERROR);
    fault_skip_syncs(true);
    (void)snprintf(dir, sizeof(dir), "%s/%u", test_dir(), number++);
    if (mkdir(dir, 0700) < 0)
        abort();
    fixture_begin(&disk, dir, false);
    fault = fault_store_new(memory_store_new());
    disk.options.store = fault_store_of(fault);
    disk.options.block_cache_size = 0;
    memset(plain, 0, sizeof(plain));
    return CHECK(open_disk() == 0);
}

static void end(void)
{
    fault_reset();
    fixture_end(&disk);
}

static bool reopen(void)
{
    return fixture_close(&disk) == 0 && open_disk() == 0;
}

static bool reads(void)
{
    memset(got, 0xa5, sizeof(got));
    return fixture_read(&disk, AT, got, CHUNK) == 0 &&
           memcmp(got, plain, CHUNK) == 0;
}

/* Write, and fold. */
static bool put(uint64_t offset, size_t size, uint64_t seed)
{
    fixture_fill(plain + offset, size, seed);
    return fixture_write(&disk, AT + offset, plain + offset, size, 0) == 0 &&
           device_destage(disk.device) == 0;
}

static bool zero(uint64_t offset, size_t size, unsigned flags)
{
    memset(plain + offset, 0, size);
    return fixture_zero(&disk, AT + offset, size, flags) == 0 &&
           device_destage(disk.device) == 0;
}

static bool cut(void)
{
    memcpy(at_cut, plain, CHUNK);
    return device_checkpoint(disk.device, 1000) == 0;
}

static struct catalog_entry entry_of(void)
{
    struct catalog_entry entry;

    catalog_get(disk.device->catalog, HERE, &entry);
    return entry;
}

static struct catalog_entry wanted(void)
{
    struct catalog_entry entry;

    catalog_get(disk.device->checkpoint_catalog, HERE, &entry);
    return entry;
}

static off_t file_size_now(void)
{
    struct stat status;
    char path[PATH_MAX];

    fixture_chunk_path(&disk, HERE, path);
    return stat(path, &status) < 0 ? -1 : status.st_size;
}

/* Returns how many pages of the disk the file takes. */
static uint64_t file_pages_now(void)
{
    struct stat status;
    char path[PATH_MAX];

    fixture_chunk_path(&disk, HERE, path);
    return stat(path, &status) < 0 ? 0 : (uint64_t)status.st_blocks / 8;
}

static struct chunk_table *table_now(void)
{
    struct chunk_file *file;
    struct chunk_table *table;

    if (!CHECK(chunk_reader_open_file(&disk.device->reader, HERE, &file,
                                      &table) == 0))
        abort();
    chunk_file_release(file);
    return table;
}

/* Change bytes of the file. */
static void damage(uint64_t offset, size_t size)
{
    static const unsigned char bad[64] = "damaged";
    char path[PATH_MAX];
    int fd;

    fixture_chunk_path(&disk, HERE, path);
    fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && pwrite(fd, bad, size, (off_t)offset) == (ssize_t)size);
    (void)close(fd);
}

static void damage_slot(unsigned slot)
{
    damage(slot * chunk_table_encoded_max(CHUNK), 64);
}

/* All the steps; done: NULL, or what has to be looked at after it. */
static int run(struct restate *restate)
{
    struct fold_device *device = &disk.device->fold;
    struct state_change changes[FOLD_CHANGES_MAX];
    uint64_t chunk = HERE;
    int error;

    restate->chunk = HERE;
    restate_prepare(device, restate);
    restate_write_table(device, restate);
    error = restate->error;
    if (error == 0 && restate->name_changed)
        CHECK(chunk_dir_sync(disk.device->chunk_dir, &chunk, 1) == 0);
    if (error == 0) {
        CHECK(state_log_commit(disk.device->state_log, changes,
                               restate_describe(restate, changes)) == 0);
        restate_install(device, restate);
    }
    restate_done(restate);
    return error;
}

/* ---- uploads ---- */

static struct upload_context context_now(void)
{
    return (struct upload_context){
        .device_name = "disk",
        .store = disk.options.store,
        .fetch = disk.device->fetch,
        .chunk_dir = disk.device->chunk_dir,
        .chunk_size = CHUNK,
    };
}

/* Upload the state of an entry, of the catalog or of the checkpoint. */
static struct uploaded upload(struct catalog_entry entry, enum upload_loss loss)
{
    struct upload_context context = context_now();
    struct upload_work work = {
        .chunk = HERE,
        .generation = entry.generation,
        .revision = entry.revision,
        .id = {7, 8, ++counter},
        .loss = loss,
    };
    struct uploaded uploaded = {
        .chunk = HERE,
        .generation = entry.generation,
        .revision = entry.revision,
    };
    struct upload_result result;

    context.device_name = device_name(disk.device);
    if (!CHECK(upload_chunk(&context, &work, &result) == 0) ||
        !CHECK(upload_decode_table(result.table, result.table_size, &work,
                                   CHUNK, &uploaded.table) == 0))
        abort();
    free(result.table);
    return uploaded;
}

static int record(struct uploaded *uploaded)
{
    struct restate restate = {.kind = RESTATE_UPLOADED, .uploaded = uploaded};

    return run(&restate);
}

/* Upload the state of an entry and record it. */
static int upload_and_record(struct catalog_entry entry)
{
    struct uploaded uploaded = upload(entry, UPLOAD_NO_LOSS);
    int error = record(&uploaded);

    chunk_table_release(uploaded.table);
    return error;
}

static void copy_block(void *to, uint32_t block, const void *stored,
                       const void *is)
{
    (void)stored;
    memcpy((unsigned char *)to + (size_t)block * BLOCK, is, BLOCK);
}

/* Whether these objects, alone, have these bytes. */
static bool objects_have(const struct catalog_entry *entry,
                         const unsigned char *expected)
{
    uint32_t blocks[BLOCKS];
    size_t count = 0;
    struct fetch *fetch;
    struct chunk_table *table;
    int error;

    if (entry->objects_count == 0 ||
        fetch_new(disk.options.store, device_name(disk.device), &fetch) != 0)
        return false;
    memset(got, 0, sizeof(got));
    error = fetch_table(fetch, HERE, CHUNK,
                        &entry->objects[entry->objects_count - 1],
                        OBJECT_BACKGROUND, &table);
    if (error == 0) {
        for (uint32_t i = 0; i < BLOCKS; i++) {
            if (table->blocks[i].base == BASE_OBJECT)
                blocks[count++] = i;
        }
        error = fetch_blocks(fetch, table, blocks, count, OBJECT_BACKGROUND,
                             copy_block, got);
        chunk_table_release(table);
    }
    fetch_free(fetch);
    return error == 0 && memcmp(got, expected, CHUNK) == 0;
}

static int evict(enum evict_depth depth)
{
    struct restate restate = {.kind = RESTATE_EVICT, .depth = depth};

    return run(&restate);
}

/* Keep these blocks, as they are in the objects of the chunk. */
static int keep(uint32_t first, uint32_t count)
{
    struct chunk_reader *reader = &disk.device->reader;
    struct restate_block blocks[BLOCKS];
    struct restate restate = {.kind = RESTATE_KEEP, .blocks = blocks};
    struct open_chunk *open;
    unsigned flags;
    int error;

    if (!CHECK(chunk_reader_hold(reader, HERE, PATIENCE_STORE, &open, &flags) ==
               0) ||
        !CHECK(open != NULL))
        abort();
    for (uint32_t i = first; i < first + count; i++) {
        const struct chunk_block *block = &open->table->blocks[i];
        const struct chunk_object *object =
            &open->table->objects[block->object];
        char key[FETCH_KEY_MAX];
        void *stored;

        if (block->base != BASE_OBJECT)
            continue;
        stored = malloc(block->object_size);
        fetch_object_key(device_name(disk.device), HERE, &object->id, key);
        CHECK(stored != NULL &&
              disk.options.store->get(
                  disk.options.store, key, block->object_place, stored,
                  block->object_size, OBJECT_BACKGROUND) == 0);
        blocks[restate.blocks_count++] = (struct restate_block){
            .block = i,
            .as_read = *block,
            .id = object->id,
            .stored = stored,
        };
    }
    open_chunk_release(reader->open_chunks, open);
    error = run(&restate);
    for (size_t i = 0; i < restate.blocks_count; i++)
        free((void *)(uintptr_t)blocks[i].stored);
    return error;
}

/* Returns how many requests to the bucket a whole read takes. */
static uint64_t requests(void)
{
    uint64_t before = fault_store_count(fault, STORE_GET);

    CHECK(reads());
    return fault_store_count(fault, STORE_GET) - before;
}

/* ---- uploaded ------------------------------------------------------------ */

TEST("a chunk that was uploaded is clean, and its file a copy")
{
    struct catalog_entry before, after;
    struct chunk_table *table;

    NEED(begin());
    CHECK(put(0, 5 * BLOCK, 1) && put(6 * BLOCK + PAGE, PAGE, 2));
    CHECK(zero(8 * BLOCK, BLOCK, DEVICE_NO_HOLE));
    before = entry_of();
    CHECK(!catalog_entry_is_clean(&before) && before.objects_count == 0);
    CHECK(before.file_pages >= file_pages_now());
    CHECK(upload_and_record(before) == 0);
    after = entry_of();
    CHECK(catalog_entry_is_clean(&after));
    CHECK(after.generation == before.generation);
    CHECK(after.revision == before.revision + 1);
    CHECK(after.uploaded_generation == after.generation);
    CHECK(after.published_generation == 0 && after.flags == CATALOG_FILE);
    CHECK(objects_have(&after, plain));
    table = table_now();
    CHECK(table->blocks[0].base == BASE_OBJECT &&
          table->blocks[0].local_pages == ALL_PAGES);
    /* Merged with the zeros around it, which are known here too. */
    CHECK(table->blocks[6].base == BASE_OBJECT &&
          table->blocks[6].local_pages == ALL_PAGES &&
          chunk_block_stored_pages(&table->blocks[6]) == 2);
    CHECK(table->blocks[8].base == BASE_ZERO);
    chunk_table_release(table);
    CHECK(requests() == 0 && reopen() && requests() == 0);
    /* A second report is of no use to anybody. */
    CHECK(upload_and_record(after) == -ESTALE);
    end();
}

TEST("a part over zeros stays a part when it changes after its upload")
{
    struct catalog_entry entry;
    struct chunk_table *table;
    struct uploaded uploaded;

    NEED(begin());
    CHECK(put(0, BLOCK, 1) && put(6 * BLOCK + PAGE, 2 * PAGE, 2));
    CHECK(upload_and_record(entry_of()) == 0);
    CHECK(put(6 * BLOCK + PAGE, PAGE, 3));
    table = table_now();
    CHECK(table->blocks[6].base == BASE_ZERO &&
          table->blocks[6].local_pages == 6 &&
          table->blocks[6].zero_pages == 0);
    chunk_table_release(table);
    CHECK(requests() == 0);
    uploaded = upload(entry_of(), UPLOAD_NO_LOSS);
    CHECK(record(&uploaded) == 0 && requests() == 0);
    chunk_table_release(uploaded.table);

    /* And it is zeros again when it is discarded. */
    CHECK(zero(6 * BLOCK + PAGE, PAGE, 0));
    table = table_now();
    CHECK(table->blocks[6].local_pages == 4);
    chunk_table_release(table);
    CHECK(upload_and_record(entry_of()) == 0 && requests() == 0);
    CHECK(zero(6 * BLOCK + 2 * PAGE, PAGE, 0));
    table = table_now();
    CHECK(table->blocks[6].base == BASE_ZERO &&
          table->blocks[6].local_pages == 0);
    chunk_table_release(table);
    CHECK(zero(6 * BLOCK, BLOCK, 0));
    table = table_now();
    CHECK(table->blocks[6].base == BASE_HOLE);
    chunk_table_release(table);
    CHECK(reads() && reopen() && reads());
    CHECK(zero(0, BLOCK, 0));
    entry = entry_of();
    CHECK((entry.flags & CATALOG_FILE) == 0);
    end();
}

TEST("zeros beside a part that is bad here are read without the bucket")
{
    struct chunk_table *table;
    uint64_t before;

    NEED(begin());
    CHECK(put(0, BLOCK, 1) && put(6 * BLOCK + PAGE, PAGE, 2));
    CHECK(upload_and_record(entry_of()) == 0);
    table = table_now();
    damage(table->blocks[6].place, 16);
    chunk_table_release(table);
    CHECK(reopen());
    before = fault_store_count(fault, STORE_GET);
    CHECK(fixture_read(&disk, AT + 6 * BLOCK + 2 * PAGE, got, 2 * PAGE) == 0);
    CHECK(bytes_are_zero(got, 2 * PAGE));
    CHECK(fault_store_count(fault, STORE_GET) == before);
    CHECK(requests() == 1);
    end();
}

TEST("what is written after an upload makes the chunk dirty, over its object")
{
    struct catalog_entry entry;
    struct chunk_table *table;

    NEED(begin());
    CHECK(put(0, 4 * BLOCK, 1));
    CHECK(upload_and_record(entry_of()) == 0);
    CHECK(put(BLOCK + PAGE, PAGE, 2));
    entry = entry_of();
    CHECK(!catalog_entry_is_clean(&entry) && entry.objects_count == 1);
    CHECK(entry.revision == 0);
    table = table_now();
    CHECK(table->blocks[0].base == BASE_OBJECT);
    CHECK(table->blocks[1].base == BASE_HOLE);
    chunk_table_release(table);
    CHECK(reads());
    CHECK(upload_and_record(entry) == 0);
    entry = entry_of();
    CHECK(entry.objects_count == 2 && objects_have(&entry, plain));
    end();
}

TEST("a checkpoint's state is uploaded as it was, whatever is written since")
{
    struct catalog_entry entry, image;
    struct uploaded late;

    NEED(begin());
    CHECK(put(0, 8 * BLOCK, 1) && put(9 * BLOCK + PAGE, PAGE, 2));
    CHECK(cut());
    for (uint64_t i = 0; i < 12; i++) {
        CHECK(put(i % 5 * BLOCK + i % 3 * PAGE, BLOCK + PAGE, 10 + i));
        CHECK(reads());
        if (i == 6)
            late = upload(wanted(), UPLOAD_NO_LOSS);
    }
    CHECK(zero(7 * BLOCK, BLOCK, 0));
    CHECK(reopen());
    entry = entry_of();
    CHECK(entry.generation > wanted().generation);
    CHECK(entry.file_pages >= file_pages_now());
    CHECK(record(&late) == 0);
    chunk_table_release(late.table);
    image = wanted();
    CHECK(catalog_entry_is_clean(&image) && objects_have(&image, at_cut));
    entry = entry_of();
    CHECK(!catalog_entry_is_clean(&entry) &&
          entry.uploaded_generation == image.generation);
    CHECK(entry.objects_count == 1);
    CHECK(reads() && reopen() && reads());
    /* What is unchanged since is not uploaded again. */
    CHECK(upload_and_record(entry_of()) == 0);
    entry = entry_of();
    CHECK(catalog_entry_is_clean(&entry) && objects_have(&entry, plain));
    CHECK(objects_have(&image, at_cut));
    end();
}

TEST("a chunk that became a hole, or zeros, has its file until the checkpoint "
     "has its object")
{
    for (unsigned flags = 0; flags < 2; flags++) {
        struct catalog_entry entry, image;

        NEED(begin());
        CHECK(put(0, 3 * BLOCK, 1));
        CHECK(cut());
        CHECK(put(BLOCK, BLOCK, 2));
        CHECK(zero(0, CHUNK, flags == 0 ? 0 : DEVICE_NO_HOLE));
        entry = entry_of();
        CHECK(entry.flags ==
              ((flags == 0 ? CATALOG_HOLE : CATALOG_ZERO) | CATALOG_FILE));
        CHECK(entry.file_pages > 0 && file_size_now() > 0);
        CHECK(fixture_extent_at(&disk, AT) ==
              (flags == 0 ? DEVICE_EXTENT_HOLE | DEVICE_EXTENT_ZERO
                          : DEVICE_EXTENT_ZERO));
        CHECK(reads() && reopen() && reads());
        CHECK(evict(EVICT_FILE) == -EBUSY);
        CHECK(upload_and_record(wanted()) == 0);
        image = wanted();
        CHECK(objects_have(&image, at_cut));
        entry = entry_of();
        CHECK(entry.flags == (flags == 0 ? CATALOG_HOLE : CATALOG_ZERO));
        CHECK(entry.file_pages == 0 && entry.objects_count == 0);
        CHECK(file_size_now() < 0);
        CHECK(reads() && reopen() && reads());
        end();
    }
}

TEST("a hole that is written to again leaves what the checkpoint wants alone")
{
    struct catalog_entry image;

    NEED(begin());
    CHECK(put(0, 3 * BLOCK, 1));
    CHECK(cut());
    for (uint64_t i = 0; i < 10; i++) {
        CHECK(zero(0, CHUNK, i % 2 == 0 ? 0 : DEVICE_NO_HOLE));
        CHECK(reads());
        CHECK(put(i * PAGE, 2 * BLOCK, 20 + i));
        CHECK(entry_of().flags == CATALOG_FILE);
        CHECK(reads());
        if (i % 3 == 2)
            CHECK(reopen() && reads());
    }
    CHECK(upload_and_record(wanted()) == 0);
    image = wanted();
    CHECK(objects_have(&image, at_cut));
    CHECK(reads() && put(0, CHUNK, 99) && reads());
    end();
}

TEST("a file with two states is rewritten with both")
{
    struct catalog_entry image;
    off_t largest = 0;

    NEED(begin());
    CHECK(put(0, CHUNK, 1));
    CHECK(cut());
    for (uint64_t i = 0; i < 30; i++) {
        CHECK(put(i % 7 * PAGE, CHUNK - 7 * PAGE, 10 + i));
        if (file_size_now() > largest)
            largest = file_size_now();
    }
    CHECK(largest < 6 * CHUNK + (2 << 20));
    CHECK(reads());
    CHECK(upload_and_record(wanted()) == 0);
    image = wanted();
    CHECK(objects_have(&image, at_cut));
    end();
}

TEST("the newest state may be uploaded before that of the checkpoint")
{
    struct catalog_entry newest, image;

    NEED(begin());
    CHECK(put(0, 6 * BLOCK, 1));
    CHECK(cut());
    CHECK(put(BLOCK, 2 * BLOCK, 2));
    CHECK(upload_and_record(entry_of()) == 0);
    newest = entry_of();
    CHECK(catalog_entry_is_clean(&newest) && objects_have(&newest, plain));
    image = wanted();
    CHECK(!catalog_entry_is_clean(&image));
    CHECK(evict(EVICT_BLOCKS) == -EBUSY); /* the other one is only here */
    CHECK(upload_and_record(wanted()) == 0);
    image = wanted();
    CHECK(catalog_entry_is_clean(&image) && objects_have(&image, at_cut));
    /* That changed nothing of what the newer upload made of the chunk. */
    CHECK(entry_of().generation == newest.generation &&
          entry_of().revision == newest.revision);
    CHECK(entry_of().uploaded_generation == newest.generation);
    CHECK(evict(EVICT_BLOCKS) == 0 && reads());
    end();
}

TEST("an upload for eviction of the very state that the checkpoint wants "
     "counts for it")
{
    struct catalog_entry entry, image;

    NEED(begin());
    CHECK(put(0, 6 * BLOCK, 1));
    CHECK(cut());
    CHECK(upload_and_record(entry_of()) == 0);
    entry = entry_of();
    image = wanted();
    CHECK(catalog_entry_is_clean(&entry) && catalog_entry_is_clean(&image));
    CHECK(objects_have(&image, at_cut));
    CHECK(evict(EVICT_FILE) == 0 && reads());
    end();
}

TEST("an upload that nobody waits for any more is refused")
{
    struct uploaded old, of_drop;

    NEED(begin());
    CHECK(put(0, 2 * BLOCK, 1));
    old = upload(entry_of(), UPLOAD_NO_LOSS);
    CHECK(put(0, PAGE, 2));
    CHECK(record(&old) == -ESTALE);
    CHECK(cut());
    CHECK(record(&old) == -ESTALE);
    of_drop = upload(wanted(), UPLOAD_NO_LOSS);
    CHECK(put(0, PAGE, 3));
    CHECK(device_drop_checkpoint(disk.device) == 0);
    CHECK(record(&of_drop) == -ESTALE);
    chunk_table_release(old.table);
    chunk_table_release(of_drop.table);
    CHECK(reads());
    end();
}

TEST("a table that cannot be that of the chunk's object is refused")
{
    struct uploaded uploaded;
    struct chunk_table *good;

    NEED(begin());
    CHECK(put(0, 2 * BLOCK, 1));
    uploaded = upload(entry_of(), UPLOAD_NO_LOSS);
    good = uploaded.table;
    for (unsigned i = 0; i < 6; i++) {
        struct chunk_table *bad =
            i == 0 ? chunk_table_new(HERE, 2 * CHUNK) : chunk_table_copy(good);

        NEED(bad != NULL);
        if (i == 1)
            bad->chunk++;
        else if (i == 2)
            bad->objects_count = 0;
        else if (i == 3)
            bad->objects[0].table_size = 0;
        else if (i == 4)
            bad->blocks[7].base = BASE_UNKNOWN;
        else if (i == 5)
            bad->blocks[7].local_pages = 1;
        uploaded.table = bad;
        CHECK(record(&uploaded) == -EINVAL);
        chunk_table_release(bad);
    }
    uploaded.table = good;
    CHECK(record(&uploaded) == 0);
    chunk_table_release(good);
    end();
}

TEST("when the newest table cannot be read, the checkpoint's upload counts all "
     "the same, and the pinned state outlives the fold that starts anew")
{
    struct chunk_table *table;
    struct catalog_entry image;

    NEED(begin());
    CHECK(put(0, 4 * BLOCK, 1));
    CHECK(cut());
    CHECK(put(0, BLOCK, 2));
    table = table_now();
    damage_slot(table->slot);
    chunk_table_release(table);
    CHECK(reopen());
    CHECK(fixture_read(&disk, AT, got, PAGE) == -EIO);
    CHECK(put(2 * BLOCK, BLOCK, 3));
    CHECK(fixture_read(&disk, AT, got, PAGE) == -EIO);
    CHECK(fixture_read(&disk, AT + 2 * BLOCK, got, BLOCK) == 0);
    CHECK(memcmp(got, plain + 2 * BLOCK, BLOCK) == 0);
    CHECK(put(0, PAGE, 4));
    CHECK(upload_and_record(wanted()) == 0);
    image = wanted();
    CHECK(objects_have(&image, at_cut));
    end();
}

TEST("a pinned state is moved away from a newest table that cannot be read; "
     "if that fails it is tried again, and given up only then")
{
    struct fault_calls creates = {FAULT_CREATE, ".new", 1};

    for (unsigned i = 0; i < 2; i++) {
        struct chunk_table *table;
        struct catalog_entry image;

        NEED(begin());
        CHECK(put(0, 4 * BLOCK, 1));
        CHECK(cut());
        CHECK(put(0, BLOCK, 2));
        table = table_now();
        damage_slot(table->slot);
        chunk_table_release(table);
        CHECK(reopen());
        fault_fail(&creates, -EIO, true, 0);
        CHECK(!put(2 * BLOCK, BLOCK, 3)); /* it stays in the journal */
        if (i == 0)
            fault_reset();
        CHECK(device_destage(disk.device) == 0);
        fault_reset();
        CHECK(fixture_read(&disk, AT + 2 * BLOCK, got, BLOCK) == 0);
        CHECK(memcmp(got, plain + 2 * BLOCK, BLOCK) == 0);
        if (i == 0) {
            CHECK(upload_and_record(wanted()) == 0);
        } else {
            struct uploaded lost = upload(wanted(), UPLOAD_TABLE_LOST);

            CHECK(record(&lost) == 0);
            chunk_table_release(lost.table);
        }
        image = wanted();
        CHECK(catalog_entry_is_clean(&image));
        CHECK(objects_have(&image, at_cut) == (i == 0));
        CHECK(put(0, CHUNK, 4) && reads() && reopen() && reads());
        end();
    }
}

TEST("a file that is gone, of a hole that the checkpoint wants the past of, is "
     "no reason to lose what is written next")
{
    char path[PATH_MAX];

    NEED(begin());
    CHECK(put(0, 4 * BLOCK, 1));
    CHECK(cut());
    CHECK(zero(0, CHUNK, 0));
    fixture_chunk_path(&disk, HERE, path);
    CHECK(unlink(path) == 0);
    CHECK(put(BLOCK, BLOCK, 2) && reads() && reopen() && reads());
    CHECK(zero(0, CHUNK, 0) && reads());
    end();
}

TEST("damaged in both its tables, the chunk is lost, and its checkpoint too")
{
    struct uploaded lost;
    struct catalog_entry image;

    NEED(begin());
    CHECK(put(0, 4 * BLOCK, 1));
    CHECK(cut());
    CHECK(put(0, BLOCK, 2));
    for (unsigned slot = 0; slot < CHUNK_SLOTS; slot++)
        damage_slot(slot);
    CHECK(reopen());
    CHECK(put(2 * BLOCK, BLOCK, 3));
    CHECK(put(3 * BLOCK, PAGE, 3));
    lost = upload(wanted(), UPLOAD_TABLE_LOST);
    CHECK(record(&lost) == 0);
    chunk_table_release(lost.table);
    image = wanted();
    CHECK(catalog_entry_is_clean(&image));
    CHECK(fixture_read(&disk, AT, got, PAGE) == -EIO);
    CHECK(fixture_read(&disk, AT + 2 * BLOCK, got, BLOCK) == 0);
    CHECK(memcmp(got, plain + 2 * BLOCK, BLOCK) == 0);
    CHECK(put(0, CHUNK, 4) && reads() && reopen() && reads());
    end();
}

TEST("the pinned table damaged, what is newer stays and is not given up for it")
{
    struct uploaded lost;
    struct catalog_entry entry;
    struct chunk_table *table;
    unsigned ruling;

    NEED(begin());
    CHECK(put(0, 4 * BLOCK, 1));
    CHECK(cut());
    table = table_now();
    damage_slot(table->slot);
    chunk_table_release(table);
    /* What rules is still in memory only: nothing but the file counts. */
    CHECK(device_drop_checkpoint(disk.device) == 0);
    CHECK(put(0, CHUNK, 2));
    CHECK(cut());
    table = table_now();
    ruling = table->slot;
    chunk_table_release(table);
    CHECK(put(0, BLOCK, 3));
    damage_slot(ruling);
    CHECK(reads() && reopen() && reads());
    for (uint64_t i = 0; i < 20; i++)
        CHECK(put(i % 4 * BLOCK, CHUNK - 4 * BLOCK, 10 + i) && reads());
    lost = upload(wanted(), UPLOAD_TABLE_LOST);
    CHECK(record(&lost) == 0);
    chunk_table_release(lost.table);
    entry = wanted();
    CHECK(catalog_entry_is_clean(&entry));
    entry = entry_of();
    CHECK(!catalog_entry_is_clean(&entry));
    CHECK(reads() && reopen() && reads());
    CHECK(upload_and_record(entry_of()) == 0);
    entry = entry_of();
    CHECK(objects_have(&entry, plain));
    end();
}

TEST("an object that has lost what is here does not take it from here")
{
    struct uploaded lost;
    struct catalog_entry entry;

    NEED(begin());
    CHECK(put(0, 4 * BLOCK, 1));
    CHECK(cut());
    lost = upload(wanted(), UPLOAD_NO_LOSS);
    lost.table->blocks[1] =
        (struct chunk_block){.damaged_pages = ALL_PAGES}; /* of the disk? */
    CHECK(record(&lost) == 0);
    entry = wanted();
    CHECK(catalog_entry_is_clean(&entry));
    entry = entry_of();
    CHECK(!catalog_entry_is_clean(&entry) && entry.objects_count == 0);
    CHECK(reads());
    /* For eviction alone it is of no use. */
    CHECK(device_drop_checkpoint(disk.device) == 0);
    CHECK(record(&lost) == -ESTALE);
    chunk_table_release(lost.table);
    CHECK(reads());
    end();
}

TEST("when the table cannot be written the checkpoint has its object, unless "
     "it was for want of room")
{
    struct fault_calls writes = {FAULT_WRITE, "/chunk/", 1};
    struct fault_calls syncs = {FAULT_SYNC_DATA, "/chunk/", 1};
    struct uploaded uploaded;
    struct catalog_entry entry;

    NEED(begin());
    CHECK(put(0, 4 * BLOCK, 1));
    CHECK(cut());
    CHECK(put(0, BLOCK, 2));
    uploaded = upload(wanted(), UPLOAD_NO_LOSS);
    fault_fail(&writes, -ENOSPC, false, 512);
    CHECK(record(&uploaded) == -ENOSPC);
    entry = wanted();
    CHECK(!catalog_entry_is_clean(&entry));
    fault_reset();
    CHECK(reads() && reopen() && reads());
    fault_fail(&syncs, -EIO, false, 0);
    CHECK(record(&uploaded) == 0);
    fault_reset();
    entry = wanted();
    CHECK(catalog_entry_is_clean(&entry) && objects_have(&entry, at_cut));
    CHECK(entry_of().objects_count == 0);
    CHECK(reads() && reopen() && reads());
    chunk_table_release(uploaded.table);

    /* For eviction there is nobody else to tell. */
    uploaded = upload(entry_of(), UPLOAD_NO_LOSS);
    fault_fail(&writes, -EIO, false, 0);
    CHECK(record(&uploaded) == -EIO);
    fault_reset();
    CHECK(record(&uploaded) == 0);
    chunk_table_release(uploaded.table);
    CHECK(reads() && reopen() && reads());
    end();
}

TEST("pages that were lost stay so in the bucket, and when the file is gone, "
     "until they are overwritten")
{
    struct chunk_table *table;
    struct catalog_entry entry;

    NEED(begin());
    CHECK(put(0, 4 * BLOCK, 1));
    table = table_now();
    damage(table->blocks[1].place, 64);
    chunk_table_release(table);
    CHECK(put(BLOCK + PAGE, PAGE, 2)); /* the rest of the block is lost */
    CHECK(fixture_read(&disk, AT + BLOCK, got, PAGE) == -EIO);
    CHECK(upload_and_record(entry_of()) == 0);
    entry = entry_of();
    CHECK(catalog_entry_is_clean(&entry));
    for (unsigned i = 0; i < 3; i++) {
        CHECK(fixture_read(&disk, AT + BLOCK, got, PAGE) == -EIO);
        CHECK(fixture_read(&disk, AT + BLOCK + 2 * PAGE, got, PAGE) == -EIO);
        CHECK(fixture_read(&disk, AT + BLOCK + PAGE, got, PAGE) == 0);
        CHECK(memcmp(got, plain + BLOCK + PAGE, PAGE) == 0);
        CHECK(fixture_read(&disk, AT + 2 * BLOCK, got, BLOCK) == 0);
        CHECK(memcmp(got, plain + 2 * BLOCK, BLOCK) == 0);
        CHECK(evict(i == 0 ? EVICT_BLOCKS : EVICT_FILE) ==
              (i == 2 ? -ENOENT : 0));
        CHECK(reopen());
    }
    CHECK(put(BLOCK, BLOCK, 3) && reads() && reopen() && reads());
    CHECK(upload_and_record(entry_of()) == 0);
    entry = entry_of();
    CHECK(objects_have(&entry, plain));
    end();
}

/* ---- evicted ------------------------------------------------------------- */

TEST("blocks go, the table stays; then the file goes; reads find all of it")
{
    struct catalog_entry entry;
    uint64_t pages;

    NEED(begin());
    CHECK(put(0, 6 * BLOCK, 1) && put(8 * BLOCK, PAGE, 2));
    CHECK(evict(EVICT_BLOCKS) == -EBUSY && evict(EVICT_FILE) == -EBUSY);
    CHECK(upload_and_record(entry_of()) == 0);
    CHECK(requests() == 0); /* not for the part that was merged either */
    pages = entry_of().file_pages;
    CHECK(evict(EVICT_BLOCKS) == 0);
    entry = entry_of();
    CHECK(entry.flags == CATALOG_FILE && entry.file_pages == 1);
    CHECK(file_pages_now() <= 1 && file_size_now() == PAGE);
    CHECK(requests() >= 1 && reopen());
    CHECK(requests() >= 1); /* the table is here: only for blocks */
    CHECK(evict(EVICT_BLOCKS) == -ENOENT);
    CHECK(evict(EVICT_FILE) == 0);
    CHECK(pages > 24);
    entry = entry_of();
    CHECK(entry.flags == 0 && entry.file_pages == 0);
    CHECK(file_size_now() < 0);
    CHECK(reads() && reopen() && reads());
    CHECK(evict(EVICT_FILE) == -ENOENT);
    /* And it can be written to as before. */
    CHECK(put(BLOCK + PAGE, PAGE, 3) && reads() && reopen() && reads());
    CHECK(upload_and_record(entry_of()) == 0);
    entry = entry_of();
    CHECK(objects_have(&entry, plain));
    end();
}

TEST("what a reader has open it can read after the eviction")
{
    struct open_chunk *open;
    unsigned flags;

    NEED(begin());
    CHECK(put(0, 2 * BLOCK, 1));
    CHECK(upload_and_record(entry_of()) == 0);
    CHECK(chunk_reader_hold(&disk.device->reader, HERE, PATIENCE_DISK, &open,
                            &flags) == 0);
    NEED(open != NULL);
    CHECK(evict(EVICT_BLOCKS) == 0 && evict(EVICT_FILE) == 0);
    CHECK(chunk_file_read_block(open->file, open->table, 1, got, false) == 0);
    CHECK(memcmp(got, plain + BLOCK, BLOCK) == 0);
    open_chunk_release(disk.device->reader.open_chunks, open);
    end();
}

TEST("a file with something that no object has stays, whatever the state log "
     "says")
{
    struct state_change change = {.kind = STATE_CHUNK, .chunk = HERE};

    NEED(begin());
    CHECK(put(0, 2 * BLOCK, 1));
    CHECK(upload_and_record(entry_of()) == 0);
    CHECK(put(PAGE, PAGE, 2));
    change.entry = entry_of();
    change.entry.uploaded_generation = change.entry.generation;
    CHECK(state_log_commit(disk.device->state_log, &change, 1) == 0);
    CHECK(evict(EVICT_BLOCKS) == -EBUSY && evict(EVICT_FILE) == -EBUSY);
    CHECK(reads());
    end();
}

TEST("a clean file that is damaged, or has no room for its table, goes whole")
{
    struct fault_calls creates = {FAULT_CREATE, ".new", 1};
    struct fault_calls reads_of_file = {FAULT_READ, "/chunk/", 1};

    NEED(begin());
    CHECK(put(0, 2 * BLOCK, 1));
    CHECK(upload_and_record(entry_of()) == 0);
    fault_fail(&creates, -EIO, false, 0);
    CHECK(evict(EVICT_BLOCKS) == -EIO && file_size_now() > 0);
    fault_fail(&creates, -ENOSPC, false, 0);
    CHECK(evict(EVICT_BLOCKS) == 0 && file_size_now() < 0);
    fault_reset();
    CHECK(entry_of().flags == 0 && reads());
    CHECK(keep(0, 2) == 0 && file_size_now() > 0);
    for (unsigned slot = 0; slot < CHUNK_SLOTS; slot++)
        damage_slot(slot);
    CHECK(evict(EVICT_BLOCKS) == 0 && file_size_now() < 0);
    CHECK(reads() && reopen() && reads());
    CHECK(keep(0, 2) == 0 && file_size_now() > 0);
    fault_fail(&reads_of_file, -EIO, true, 0);
    CHECK(evict(EVICT_BLOCKS) == 0 && file_size_now() < 0);
    fault_reset();
    CHECK(reads() && reopen() && reads());
    end();
}

TEST("the file of a hole goes when the checkpoint was dropped")
{
    NEED(begin());
    CHECK(put(0, 2 * BLOCK, 1));
    CHECK(cut());
    CHECK(zero(0, CHUNK, DEVICE_NO_HOLE));
    CHECK(evict(EVICT_BLOCKS) == -EBUSY);
    CHECK(device_drop_checkpoint(disk.device) == 0);
    if ((entry_of().flags & CATALOG_FILE) != 0) /* unless it went with it */
        CHECK(evict(EVICT_BLOCKS) == 0);
    CHECK(entry_of().flags == CATALOG_ZERO && file_size_now() < 0);
    CHECK(reads() && reopen() && reads());
    end();
}

/* ---- kept ---------------------------------------------------------------- */

TEST("blocks that were fetched are kept, in a file that has to be made or not")
{
    struct catalog_entry entry;

    NEED(begin());
    CHECK(put(0, CHUNK, 1));
    CHECK(upload_and_record(entry_of()) == 0);
    CHECK(evict(EVICT_FILE) == 0);
    CHECK(reads());
    CHECK(keep(0, 3) == 0);
    entry = entry_of();
    CHECK(entry.flags == CATALOG_FILE && catalog_entry_is_clean(&entry));
    CHECK(entry.file_pages >= file_pages_now() && entry.file_pages <= 14);
    CHECK(keep(2, 6) == 0);       /* one of them is here already */
    CHECK(keep(0, 8) == -ESTALE); /* all of them */
    CHECK(reopen() && reads());
    CHECK(keep(8, 8) == 0);
    CHECK(requests() == 0);
    CHECK(reopen());
    CHECK(requests() == 0);
    /* Evicted again, and kept again. */
    CHECK(evict(EVICT_BLOCKS) == 0 && keep(1, 2) == 0 && reads());
    CHECK(evict(EVICT_BLOCKS) == 0);
    CHECK(entry_of().file_pages == 1);
    end();
}

TEST("blocks of a chunk that was written to are kept where they are the base")
{
    struct chunk_table *table;
    struct catalog_entry entry;

    NEED(begin());
    CHECK(put(0, CHUNK, 1));
    CHECK(upload_and_record(entry_of()) == 0);
    CHECK(evict(EVICT_FILE) == 0);
    CHECK(put(BLOCK, PAGE, 2) && reads());
    CHECK(keep(0, 3) == 0);
    table = table_now();
    CHECK(table->blocks[0].local_pages == ALL_PAGES);
    CHECK(table->blocks[1].local_pages == 1);
    CHECK(table->blocks[2].local_pages == ALL_PAGES);
    chunk_table_release(table);
    entry = entry_of();
    CHECK(!catalog_entry_is_clean(&entry));
    CHECK(reads() && reopen() && reads());
    CHECK(put(0, 3 * BLOCK, 3) && reads());
    CHECK(upload_and_record(entry_of()) == 0);
    entry = entry_of();
    CHECK(objects_have(&entry, plain));
    end();
}

TEST("nothing is kept while the checkpoint waits, or for what is zeros now")
{
    NEED(begin());
    CHECK(put(0, CHUNK, 1));
    CHECK(upload_and_record(entry_of()) == 0);
    CHECK(evict(EVICT_BLOCKS) == 0);
    CHECK(put(BLOCK, PAGE, 2));
    CHECK(cut());
    CHECK(keep(3, 1) == -EBUSY);
    CHECK(upload_and_record(wanted()) == 0);
    CHECK(keep(3, 1) == 0 && reads());
    CHECK(zero(0, CHUNK, 0));
    {
        struct restate_block block = {.block = 1};
        struct restate restate = {
            .kind = RESTATE_KEEP, .blocks = &block, .blocks_count = 1};

        CHECK(run(&restate) == -ESTALE);
    }
    CHECK(reads());
    end();
}

TEST("a file that cannot be made, written or synced leaves the chunk as it was")
{
    static const struct fault_calls steps[] = {
        {FAULT_CREATE, "/chunk/", 1},
        {FAULT_WRITE, "/chunk/", 1},
        {FAULT_WRITE, "/chunk/", 2},
        {FAULT_SYNC_DATA, "/chunk/", 1},
    };

    NEED(begin());
    CHECK(put(0, CHUNK, 1));
    CHECK(upload_and_record(entry_of()) == 0);
    CHECK(evict(EVICT_FILE) == 0);
    for (unsigned i = 0; i < 4; i++) {
        CHECK(reads());
        fault_fail(&steps[i], -EIO, false, 0);
        CHECK(keep(0, 4) == -EIO);
        fault_reset();
        CHECK(entry_of().flags == 0 && reads() && reopen());
    }
    CHECK(reads() && keep(0, 4) == 0);
    for (unsigned i = 1; i < 4; i++) {
        fault_fail(&steps[i], -EIO, false, 0);
        CHECK(keep(4, 4) == -EIO);
        fault_reset();
        CHECK(reads() && reopen() && reads());
    }
    CHECK(keep(4, 4) == 0 && reads() && reopen() && reads());
    end();
}

/* ---- at random ----------------------------------------------------------- */

static uint64_t random_state;

static uint64_t random_below(uint64_t end)
{
    random_state = random_state * 6364136223846793005U + 1442695040888963407U;
    return (random_state >> 33) % end;
}

static bool is_open(void)
{
    struct state_facts facts;

    state_log_facts(disk.device->state_log, &facts);
    return facts.phase == CHECKPOINT_OPEN;
}

/*
 * The checkpoint, of which nothing is pending, is an image.  For what follows
 * here any epoch of ours will do.
 */
static bool publish(void)
{
    struct state_facts facts;

    state_log_facts(disk.device->state_log, &facts);
    return facts.has_epoch &&
           (!is_open() || device_published(disk.device, facts.epoch) == 0);
}

/* One thing that may happen to the chunk, and whether it went well. */
static bool happens(struct uploaded *late)
{
    struct catalog_entry pinned = wanted();
    bool is_pending = !catalog_entry_is_clean(&pinned);
    uint64_t first = random_below(BLOCKS * 4);
    uint64_t count = 1 + random_below(BLOCKS * 4 - first);
    struct catalog_entry image;

    switch (random_below(14)) {
    case 0:
        return reopen();
    case 1:
        return zero(first * PAGE, count * PAGE, 0);
    case 2:
        return zero(first * PAGE, count * PAGE, DEVICE_NO_HOLE);
    case 3:
        return random_below(4) != 0 ||
               zero(0, CHUNK, random_below(2) == 0 ? 0 : DEVICE_NO_HOLE);
    case 4:
    case 5:
        return put(first * PAGE,
                   (count % 9 + 1 <= BLOCKS * 4 - first ? count % 9 + 1 : 1) *
                       PAGE,
                   random_state);
    case 6:
        if (is_pending && random_below(3) != 0)
            return true;
        if (is_pending || random_below(4) == 0)
            return device_drop_checkpoint(disk.device) == 0;
        return publish();
    case 7:
        return is_open() || cut();
    case 8: /* uploaded now, reported later */
        if (!is_pending || late->table != NULL)
            return true;
        *late = upload(pinned, UPLOAD_NO_LOSS);
        return true;
    case 9: {
        struct catalog_entry newest = entry_of();
        bool was_newest = !catalog_entry_is_clean(&newest) &&
                          newest.generation == late->generation;
        int error;

        if (late->table == NULL)
            return true;
        error = record(late);
        chunk_table_release(late->table);
        late->table = NULL;
        if (!is_pending || pinned.generation != late->generation)
            return error == (was_newest ? 0 : -ESTALE);
        image = wanted();
        return error == 0 && objects_have(&image, at_cut);
    }
    case 10: {
        struct catalog_entry newest = entry_of();

        if (catalog_entry_is_clean(&newest))
            return true;
        if (upload_and_record(newest) != 0)
            return false;
        newest = entry_of();
        return catalog_entry_is_clean(&newest) && objects_have(&newest, plain);
    }
    case 11:
    case 12: {
        int error = evict(random_below(3) == 0 ? EVICT_FILE : EVICT_BLOCKS);
        struct catalog_entry newest = entry_of();

        return error == 0 || error == -EBUSY || error == -ENOENT ||
               !catalog_entry_is_clean(&newest);
    }
    default: {
        struct catalog_entry newest = entry_of();
        int error;

        if (newest.generation == 0 ||
            (newest.flags & (CATALOG_ZERO | CATALOG_HOLE)) != 0)
            return true;
        error = keep((uint32_t)(first / 4), 1);
        return error == 0 || error == -ESTALE ||
               (error == -EBUSY && is_pending);
    }
    }
}

TEST("whatever happens to a chunk, it reads as it was written, and what was "
     "uploaded for the checkpoint is what was there at the cut")
{
    uint64_t seeds = 8;

    if (getenv("RESTATE_SEEDS") != NULL)
        NEED(number_parse(getenv("RESTATE_SEEDS"), 1, UINT32_MAX, &seeds) == 0);
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct uploaded late = {.table = NULL};
        unsigned step = 0;
        bool good = true;

        random_state = seed;
        NEED(begin());
        for (; good && step < 150; step++) {
            good = happens(&late) && reads();
            good = good && (entry_of().file_pages >= file_pages_now());
        }
        if (!CHECK(good))
            printf("# seed %u, step %u\n", (unsigned)seed, step);
        chunk_table_release(late.table);
        end();
        if (!good)
            return;
    }
}
