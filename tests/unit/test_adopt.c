/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/adopt.h"

#include "cache/block_cache.h"
#include "cache/cache_dir.h"
#include "cache/catalog.h"
#include "cache/chunk_reader.h"
#include "cache/geometry.h"
#include "cache/image.h"
#include "cache/open_chunks.h"
#include "support/crash_states.h"
#include "support/fault_file.h"
#include "support/memory_store.h"
#include "unit/test.h"

/* More than a leaf of an image, and a commit of adopt, has. */
enum { CHUNK_SIZE = 256 << 10, CHUNKS = 4800, FEW = 96 };

/* ---- what of a device adopt knows ---------------------------------------- */

struct world {
    uint64_t chunks;
    struct cache_dir *dir;
    struct catalog *catalog, *checkpoint;
    struct state_log *log;
    struct chunk_reader reader;
};

static int open_world(const char *path, uint64_t chunks, bool create,
                      struct world *world)
{
    struct superblock superblock = {.chunk_size = CHUNK_SIZE};
    int error;

    memset(world, 0, sizeof(*world));
    world->chunks = chunks;
    error = cache_dir_open(path, false, &world->dir);
    if (error == 0 && create)
        error = cache_dir_write_superblock(world->dir, &superblock);
    CHECK(catalog_new(chunks, &world->catalog) == 0);
    CHECK(catalog_new(chunks, &world->checkpoint) == 0);
    if (error == 0)
        error = state_log_open(world->dir, world->catalog, world->checkpoint,
                               create, false, &world->log);
    if (error == 0)
        error = chunk_dir_open(cache_dir_fd(world->dir), "disk", CHUNK_SIZE,
                               create ? CHUNK_DIR_CREATE : CHUNK_DIR_WRITE,
                               &world->reader.dir);
    CHECK(open_chunks_new(10, &world->reader.open_chunks) == 0);
    CHECK(block_cache_new(1 << 20, &world->reader.blocks) == 0);
    world->reader.device_name = "disk";
    world->reader.chunk_size = CHUNK_SIZE;
    world->reader.catalog = world->catalog;
    return error;
}

static void close_world(struct world *world)
{
    block_cache_free(world->reader.blocks);
    open_chunks_free(world->reader.open_chunks);
    chunk_dir_close(world->reader.dir);
    state_log_close(world->log);
    catalog_free(world->checkpoint);
    catalog_free(world->catalog);
    cache_dir_close(world->dir);
}

/* ---- what is here, and what the image says ------------------------------- */

/* Of every chunk one of these is here, and one of those in the image. */
enum here {
    HERE_CLEAN,   /* the image's object, with a file */
    HERE_REMOTE,  /* the same, without */
    HERE_DIRTY,   /* newer than that object */
    HERE_ANOTHER, /* clean, but another object */
    HERE_ZERO,
    HERE_ZERO_FILE,
    HERE_HOLE, /* that is said */
    HERE_NOTHING,
    HERE_KINDS,
};

enum image_kind { IMAGE_OBJECTS, IMAGE_ZERO, IMAGE_NOTHING, IMAGE_KINDS };

static enum here here_of(uint64_t chunk)
{
    return (enum here)(chunk % HERE_KINDS);
}

static enum image_kind image_of(uint64_t chunk)
{
    return (enum image_kind)(chunk / HERE_KINDS % IMAGE_KINDS);
}

static bool has_file(enum here here)
{
    return here == HERE_CLEAN || here == HERE_DIRTY || here == HERE_ANOTHER ||
           here == HERE_ZERO_FILE;
}

/* Two objects of a chunk; the newest one is named by its counter. */
static unsigned fill_objects(struct chunk_object *objects, uint64_t chunk,
                             uint64_t counter)
{
    memset(objects, 0, 2 * sizeof(objects[0]));
    for (unsigned i = 0; i < 2; i++) {
        objects[i].id.epoch = 3;
        objects[i].id.nonce = 4;
        objects[i].id.counter = chunk * 10 + counter * i;
        objects[i].table_size = 4096;
        objects[i].table_checksum = 7;
    }
    return 2;
}

static struct catalog_entry entry_of(uint64_t chunk)
{
    enum here here = here_of(chunk);
    struct catalog_entry entry = {.generation = 50 + chunk};

    if (here == HERE_NOTHING)
        return (struct catalog_entry){.generation = 0};
    entry.revision = 3;
    entry.published_generation = chunk % 5 == 0 ? entry.generation : 9;
    if (has_file(here)) {
        entry.flags = CATALOG_FILE;
        entry.file_pages = 20;
    }
    if (here == HERE_ZERO || here == HERE_ZERO_FILE) {
        entry.flags |= CATALOG_ZERO;
    } else if (here == HERE_HOLE) {
        entry.flags |= CATALOG_HOLE;
    } else {
        entry.uploaded_generation = here == HERE_DIRTY ? 9 : entry.generation;
        entry.objects_count =
            fill_objects(entry.objects, chunk, here == HERE_ANOTHER ? 2 : 1);
    }
    return entry;
}

static void make_file(struct world *world, uint64_t chunk)
{
    struct chunk_file *file = NULL;
    unsigned char byte = 1;

    CHECK(chunk_file_create(world->reader.dir, chunk, &file) == 0);
    CHECK(chunk_file_write(file, &byte, 1, chunk_file_data_start(CHUNK_SIZE)) ==
          0);
    CHECK(chunk_file_sync(file) == 0);
    chunk_file_release(file);
    CHECK(chunk_dir_sync(world->reader.dir, &chunk, 1) == 0);
}

/* Have everything here; a checkpoint is open. */
static void fill_world(struct world *world)
{
    struct state_change *changes = calloc(CHUNKS, sizeof(*changes));
    size_t count = 0;

    NEED(changes);
    for (uint64_t chunk = 0; chunk < world->chunks; chunk++) {
        changes[count].kind = STATE_CHUNK;
        changes[count].chunk = chunk;
        changes[count++].entry = entry_of(chunk);
        if (has_file(here_of(chunk)))
            make_file(world, chunk);
    }
    CHECK(state_log_commit(world->log, changes, count) == 0);
    memset(changes, 0, 2 * sizeof(*changes));
    changes[0].kind = STATE_CHECKPOINT_BEGIN;
    changes[1].kind = STATE_CHECKPOINT_CHUNK;
    changes[1].chunk = HERE_ZERO_FILE;
    changes[1].entry.generation = 5;
    CHECK(state_log_commit(world->log, changes, 2) == 0);
    free(changes);
}

struct image_walk {
    uint64_t chunk, chunks;
};

static int next_change(void *context, struct image_change *ret_change)
{
    struct image_walk *walk = context;

    while (walk->chunk < walk->chunks && image_of(walk->chunk) == IMAGE_NOTHING)
        walk->chunk++;
    if (walk->chunk >= walk->chunks)
        return 0;
    memset(ret_change, 0, sizeof(*ret_change));
    ret_change->chunk = walk->chunk;
    if (image_of(walk->chunk) == IMAGE_OBJECTS)
        ret_change->entry.objects_count =
            fill_objects(ret_change->entry.objects, walk->chunk, 1);
    walk->chunk++;
    return 1;
}

static struct image *make_image(struct object_store *store, uint64_t chunks)
{
    struct image_walk walk = {.chunks = chunks};
    struct image_update update = {
        .store = store,
        .device_name = "disk",
        .size = chunks * CHUNK_SIZE,
        .chunk_size = CHUNK_SIZE,
        .epoch = 8,
        .nonce = chunks,
        .next = next_change,
        .context = &walk,
    };
    struct image *image = NULL;
    struct root_ref root;

    CHECK(image_update(&update, &root) == 0);
    CHECK(image_open(store, "disk", &root, &image) == 0);
    return image;
}

/* ---- what must have come of it ------------------------------------------- */

static int note_file(void *context, uint64_t chunk)
{
    bool *has = context;

    CHECK(chunk < CHUNKS && !has[chunk]);
    has[chunk] = true;
    return 0;
}

static bool chunk_is_right(const struct world *world, uint64_t chunk,
                           bool has_a_file)
{
    struct catalog_entry before = entry_of(chunk), entry, objects;
    enum here here = here_of(chunk);
    enum image_kind image = image_of(chunk);
    bool is_kept = image == IMAGE_ZERO
                       ? here == HERE_ZERO || here == HERE_ZERO_FILE
                       : image == IMAGE_OBJECTS &&
                             (here == HERE_CLEAN || here == HERE_REMOTE);

    catalog_get(world->catalog, chunk, &entry);
    if (has_a_file != ((entry.flags & CATALOG_FILE) != 0))
        return false;
    if (image == IMAGE_NOTHING)
        return entry.generation == 0;
    if (is_kept != (entry.generation == before.generation) ||
        entry.generation == 0 ||
        entry.published_generation != entry.generation ||
        !catalog_entry_is_clean(&entry))
        return false;
    if (image == IMAGE_ZERO)
        return entry.flags == CATALOG_ZERO && entry.objects_count == 0 &&
               entry.file_pages == 0;
    (void)fill_objects(objects.objects, chunk, 1);
    return entry.flags == (is_kept && here == HERE_CLEAN ? CATALOG_FILE : 0u) &&
           entry.uploaded_generation == entry.generation &&
           entry.objects_count == 2 &&
           entry.objects[1].id.counter == objects.objects[1].id.counter &&
           entry.objects[1].table_checksum == 7 &&
           (!is_kept || (entry.revision == before.revision &&
                         entry.file_pages == before.file_pages));
}

/* Whether the state is the image, and files are where entries say so. */
static bool is_adopted(const struct world *world)
{
    static bool has[CHUNKS];
    struct state_facts facts;
    bool is = true;

    memset(has, 0, sizeof(has));
    CHECK(chunk_dir_each(world->reader.dir, note_file, has) == 0);
    state_log_facts(world->log, &facts);
    for (uint64_t chunk = 0; is && chunk < world->chunks; chunk++)
        is = CHECK(chunk_is_right(world, chunk, has[chunk]));
    return is && !facts.must_adopt && facts.phase == CHECKPOINT_NONE &&
           catalog_count(world->checkpoint) == 0 &&
           facts.published_time_ns == 1234;
}

static int adopt(struct world *world, struct image *image,
                 struct adoption *ret_adoption)
{
    static uint8_t record[STATE_RECORD_SIZE] = {1, 2, 3};
    struct adoption adoption = {
        .reader = &world->reader,
        .state_log = world->log,
        .chunks_count = world->chunks,
        .record = record,
        .time_ns = 1234,
    };
    int error = adopt_load(&adoption, image);

    if (error == 0)
        error = adopt_apply(&adoption);
    adopt_done(&adoption);
    if (ret_adoption)
        *ret_adoption = adoption;
    return error;
}

/* ---- tests --------------------------------------------------------------- */

static void begin(void)
{
    fault_reset();
    fault_skip_syncs(true);
}

TEST("what the image does not say is gone, what is the same stays")
{
    struct object_store *store = memory_store_new();
    struct image *image = make_image(store, CHUNKS);
    struct adoption adoption;
    struct world world;
    uint64_t generation;

    begin();
    NEED(image && open_world(test_dir(), CHUNKS, true, &world) == 0);
    fill_world(&world);
    CHECK(adopt(&world, image, &adoption) == 0);
    CHECK(adoption.kept == CHUNKS / 24 * 4);
    CHECK(adoption.kept + adoption.changed == CHUNKS / 24 * 23);
    CHECK(is_adopted(&world));
    /* Once more: nothing changes. */
    generation = state_log_last_generation(world.log);
    CHECK(adopt(&world, image, &adoption) == 0);
    CHECK(adoption.kept == CHUNKS / 24 * 16 && adoption.changed == 0);
    CHECK(state_log_last_generation(world.log) == generation);
    close_world(&world);
    NEED(open_world(test_dir(), CHUNKS, false, &world) == 0);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        struct catalog_entry entry;

        catalog_get(world.catalog, chunk, &entry);
        CHECK((entry.generation > 0) == (image_of(chunk) != IMAGE_NOTHING));
    }
    CHECK(catalog_unpublished(world.catalog) == 0);
    close_world(&world);
    image_close(image);
    store->close(store);
}

TEST("an image of holes alone leaves nothing, an empty directory takes all")
{
    struct object_store *store = memory_store_new();
    struct image *image = make_image(store, CHUNKS);
    struct adoption adoption;
    struct world world;
    static bool has[CHUNKS];

    begin();
    NEED(image && open_world(test_dir(), CHUNKS, true, &world) == 0);
    fill_world(&world);
    CHECK(adopt(&world, NULL, &adoption) == 0);
    CHECK(adoption.kept == 0 && adoption.changed == CHUNKS / 8 * 7);
    CHECK(catalog_count(world.catalog) == 0);
    CHECK(chunk_dir_each(world.reader.dir, note_file, has) == 0);
    for (size_t chunk = 0; chunk < CHUNKS; chunk++)
        CHECK(!has[chunk]);
    CHECK(adopt(&world, image, &adoption) == 0);
    CHECK(adoption.kept == 0 && adoption.changed == CHUNKS / 3 * 2);
    CHECK(catalog_count(world.catalog) == CHUNKS / 3 * 2);
    CHECK(catalog_dirty(world.catalog) == 0);
    CHECK(catalog_unpublished(world.catalog) == 0);
    CHECK(catalog_file_pages(world.catalog) == 0);
    close_world(&world);
    image_close(image);
    store->close(store);
}

static bool is_current(void *context)
{
    (void)context;
    return true;
}

TEST("blocks in memory and open files of what has changed are forgotten")
{
    struct object_store *store = memory_store_new();
    struct image *image = make_image(store, FEW);
    unsigned char plain[CACHE_BLOCK] = {1};
    struct world world;

    begin();
    NEED(image && open_world(test_dir(), FEW, true, &world) == 0);
    fill_world(&world);
    for (uint64_t chunk = 0; chunk < FEW; chunk++) {
        struct chunk_table *table;
        struct chunk_file *file = NULL;

        block_cache_put(world.reader.blocks, chunk, 3, plain, is_current, NULL);
        CHECK(block_cache_has(world.reader.blocks, chunk, 3) || chunk > 50);
        if (chunk > 8 || !has_file(here_of(chunk)))
            continue;
        table = chunk_table_new(chunk, CHUNK_SIZE);
        NEED(table);
        table->generation = entry_of(chunk).generation;
        CHECK(chunk_file_open(world.reader.dir, chunk, &file) == 0);
        open_chunk_release(
            world.reader.open_chunks,
            open_chunks_put(world.reader.open_chunks, chunk, file, table));
    }
    CHECK(adopt(&world, image, NULL) == 0);
    for (uint64_t chunk = 0; chunk < FEW; chunk++) {
        struct catalog_entry entry;
        struct open_chunk *open;

        catalog_get(world.catalog, chunk, &entry);
        if (entry.generation == entry_of(chunk).generation)
            continue;
        CHECK(!block_cache_has(world.reader.blocks, chunk, 3));
        open = open_chunks_get(world.reader.open_chunks, chunk,
                               entry_of(chunk).generation);
        CHECK(open == NULL);
        open_chunk_release(world.reader.open_chunks, open);
    }
    close_world(&world);
    image_close(image);
    store->close(store);
}

TEST("an image that cannot be read, or does not fit, changes nothing")
{
    struct object_store *store = memory_store_new();
    struct image *image = make_image(store, CHUNKS);
    struct state_facts facts;
    struct root_ref root;
    char key[IMAGE_KEY_MAX];
    struct world world;
    uint64_t commit;

    begin();
    NEED(image && open_world(test_dir(), FEW, true, &world) == 0);
    fill_world(&world);
    commit = state_log_last_commit(world.log);
    CHECK(adopt(&world, image, NULL) == -EINVAL);
    close_world(&world);
    NEED(open_world(test_dir(), CHUNKS, false, &world) == 0);
    root = *image_root_ref(image);
    CHECK(root.page > 1);
    for (uint32_t page = root.page; page-- > 0;) {
        image_close(image); /* with the leaf that it remembers */
        CHECK(image_open(store, "disk", &root, &image) == 0);
        image_page_key("disk", root.epoch, root.nonce, page, key);
        CHECK(object_delete_one(store, key) == 0);
        CHECK(adopt(&world, image, NULL) == -EIO);
    }
    state_log_facts(world.log, &facts);
    CHECK(!facts.must_adopt && state_log_last_commit(world.log) == commit);
    CHECK(catalog_count(world.catalog) == FEW / 8 * 7);
    close_world(&world);
    image_close(image);
    store->close(store);
}

/* Have each call of adopt_apply fail once; then it is done again. */
TEST("whichever call fails, the next attempt ends with the image")
{
    struct object_store *store = memory_store_new();
    struct image *image = make_image(store, FEW);
    unsigned failures = 0;

    NEED(image);
    for (unsigned long nth = 1;; nth++) {
        unsigned long count;
        struct world world;
        int error;

        begin();
        NEED(open_world(test_dir(), FEW, true, &world) == 0);
        fill_world(&world);
        fault_fail(&(struct fault_calls){.kinds = FAULT_ANY_CHANGE | FAULT_OPEN,
                                         .nth = nth},
                   -EIO, false, 0);
        error = adopt(&world, image, NULL);
        count = fault_count();
        failures += error < 0;
        begin();
        close_world(&world);
        NEED(open_world(test_dir(), FEW, false, &world) == 0);
        /* A file that could not be removed is all that may be wrong. */
        if (error < 0)
            CHECK(adopt(&world, image, NULL) == 0);
        for (uint64_t chunk = 0; chunk < FEW; chunk++) {
            struct catalog_entry entry;

            catalog_get(world.catalog, chunk, &entry);
            CHECK(chunk_is_right(&world, chunk,
                                 (entry.flags & CATALOG_FILE) != 0));
        }
        if (error < 0)
            CHECK(is_adopted(&world));
        close_world(&world);
        test_remove_tree(AT_FDCWD, test_dir());
        CHECK(mkdir(test_dir(), 0700) == 0);
        if (count < nth)
            break;
    }
    CHECK(failures > 5);
    image_close(image);
    store->close(store);
}

/* Whether nothing of the adoption is there yet. */
static bool is_as_before(const struct world *world)
{
    for (uint64_t chunk = 0; chunk < world->chunks; chunk++) {
        struct catalog_entry before = entry_of(chunk), entry;

        catalog_get(world->catalog, chunk, &entry);
        if (entry.generation != before.generation ||
            entry.published_generation != before.published_generation)
            return false;
    }
    return catalog_count(world->checkpoint) == 1;
}

TEST("after a power cut it is as before, or done, or known to be unfinished")
{
    struct object_store *store = memory_store_new();
    struct image *image = make_image(store, FEW);
    char root[PATH_MAX], after[PATH_MAX];
    unsigned before = 0, unfinished = 0, done = 0;
    struct recording *recording;
    struct crash_disk *disk;
    struct world world;
    size_t first;

    begin();
    (void)snprintf(root, sizeof(root), "%s/root", test_dir());
    (void)snprintf(after, sizeof(after), "%s/after", test_dir());
    NEED(image && mkdir(root, 0700) == 0);
    fault_record_begin(root);
    NEED(open_world(root, FEW, true, &world) == 0);
    fill_world(&world);
    first = fault_record_position();
    CHECK(adopt(&world, image, NULL) == 0);
    close_world(&world);
    recording = fault_record_end();
    disk = crash_disk_new(recording);
    for (size_t cut = first; cut <= recording->entries_count; cut++) {
        crash_disk_advance(disk, cut);
        for (uint64_t seed = 0; seed < 6; seed++) {
            struct state_facts facts;

            test_remove_tree(AT_FDCWD, after);
            NEED(mkdir(after, 0700) == 0);
            crash_disk_power_cut(disk, crash_random(cut, seed), after, NULL);
            NEED(open_world(after, FEW, false, &world) == 0);
            state_log_facts(world.log, &facts);
            if (facts.must_adopt) {
                CHECK(facts.adopt[2] == 3);
                unfinished++;
                CHECK(adopt(&world, image, NULL) == 0);
                CHECK(is_adopted(&world));
            } else if (facts.phase == CHECKPOINT_FOLDING) {
                CHECK(is_as_before(&world));
                before++;
            } else {
                CHECK(is_adopted(&world));
                done++;
            }
            close_world(&world);
        }
    }
    CHECK(before > 0 && unfinished > 100 && done > 0);
    printf("# before %u, unfinished %u, done %u\n", before, unfinished, done);
    crash_disk_free(disk);
    recording_free(recording);
    image_close(image);
    store->close(store);
}
