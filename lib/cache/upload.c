/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Each block of the state goes one of four ways into the object:
 *
 *   here           base        way             in the object's table
 *   nothing        zeros       nothing to do   hole or zero
 *   nothing, all   in object   nothing to do   that object; in a whole one
 *                                              the block is copied, from the
 *                                              file or the bucket
 *   all            zeros       copied          this object
 *   some           any         merged          this object
 *
 * Damaged pages lie over that, and stay.
 *
 * Blocks are worked off in windows, so that what the bucket has of neighbours
 * comes by one request and memory stays that of the object and a window.
 */
#include "cache/upload.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "cache/block_codec.h"
#include "cache/device.h"
#include "cache/geometry.h"
#include "object_store.h"

enum {
    /*
     * From so many older objects on the next one is whole: a cold read of the
     * chunk then needs few requests, and what is dead in them can go.  It may
     * be more when they cannot be read, as long as a table has room for them.
     */
    OLDER_OBJECTS_WANTED = 8,
    OLDER_OBJECTS_MAX = CHUNK_OBJECTS_MAX - 1,

    /* Objects of the chunk's table, and of the newest object's. */
    OBJECTS_MAX = 2 * CHUNK_OBJECTS_MAX,
    OWN = OBJECTS_MAX, /* stands for the new one until it has its index */

    WINDOW = 64, /* blocks */
};

enum way {
    WAY_NOTHING,
    WAY_FILE,   /* copied from the file */
    WAY_BUCKET, /* copied from an older object */
    WAY_MERGE,
};

struct build {
    const struct upload_context *context;
    const struct upload_work *work;
    const struct upload_copy *copy; /* or NULL */
    struct chunk_file *file;
    struct chunk_table *state;  /* what is uploaded: the file's table */
    struct chunk_table *newest; /* tells its unknown bases, or NULL */
    struct chunk_table *table;  /* of the object */
    struct chunk_object objects[OBJECTS_MAX]; /* what table means by object */
    unsigned objects_count;
    uint8_t *ways; /* of enum way, for each block */
    bool is_whole;
    bool may_rest; /* on the older objects: they need not be copied */

    /* The object: its table will end at head, where its blocks begin. */
    unsigned char *data;
    size_t head;
    size_t used; /* bytes of blocks */
    uint64_t fetched;

    uint32_t first; /* block of the window */
    uint64_t arrived;
    unsigned char (*window)[CACHE_BLOCK]; /* WINDOW stored; to merge: plain */
};

/* ---- what is to be done with each block ---------------------------------- */

static bool is_same_object(const struct object_id *a, const struct object_id *b)
{
    return a->epoch == b->epoch && a->nonce == b->nonce &&
           a->counter == b->counter;
}

/* Returns the index that build has for this older object. */
static uint16_t object_index(struct build *build,
                             const struct chunk_object *object)
{
    unsigned i = 0;

    while (i < build->objects_count &&
           !is_same_object(&build->objects[i].id, &object->id))
        i++;
    assert(i < OBJECTS_MAX);
    if (i == build->objects_count)
        build->objects[build->objects_count++] = *object;
    return (uint16_t)i;
}

/* Returns the table that knows the base of this block. */
static const struct chunk_table *base_table(const struct build *build,
                                            uint32_t block)
{
    return build->state->blocks[block].base == BASE_UNKNOWN ? build->newest
                                                            : build->state;
}

/* Begin the block's entry: its base, as far as that is needed, and damage. */
static void begin_entry(struct build *build, uint32_t block)
{
    const struct chunk_block *state = &build->state->blocks[block];
    const struct chunk_table *from = base_table(build, block);
    const struct chunk_block *base = &from->blocks[block];
    struct chunk_block *entry = &build->table->blocks[block];

    *entry = (struct chunk_block){
        .base = base->base,
        .damaged_pages = state->damaged_pages |
                         (base->damaged_pages & (uint8_t)~state->local_pages),
    };
    if (entry->damaged_pages == ALL_PAGES)
        entry->base = BASE_HOLE;
    if (entry->base != BASE_OBJECT)
        return;
    entry->object = object_index(build, &from->objects[base->object]);
    entry->object_codec = base->object_codec;
    entry->object_size = base->object_size;
    entry->object_place = base->object_place;
    entry->object_checksum = base->object_checksum;
}

static enum way way_of(const struct build *build, uint32_t block)
{
    const struct chunk_block *entry = &build->table->blocks[block];
    unsigned local = build->state->blocks[block].local_pages;

    if (entry->damaged_pages == ALL_PAGES)
        return WAY_NOTHING;
    if (local != 0 && local != ALL_PAGES)
        return WAY_MERGE;
    if (entry->base != BASE_OBJECT)
        return local == 0 ? WAY_NOTHING : WAY_FILE;
    if (!build->is_whole)
        return WAY_NOTHING;
    return local == 0 ? WAY_BUCKET : WAY_FILE;
}

/* Whether the pages that are not here must be known. */
static bool needs_base(const struct build *build, uint32_t block)
{
    const struct chunk_block *entry = &build->table->blocks[block];
    unsigned local = build->state->blocks[block].local_pages;

    return build->ways[block] == WAY_BUCKET ||
           (build->ways[block] == WAY_MERGE && entry->base == BASE_OBJECT &&
            (local | entry->damaged_pages) != ALL_PAGES);
}

static void plan(struct build *build, bool is_whole)
{
    build->is_whole = is_whole;
    build->objects_count = 0;
    build->used = 0;
    for (uint32_t block = 0; block < build->table->blocks_count; block++) {
        begin_entry(build, block);
        build->ways[block] = (uint8_t)way_of(build, block);
    }
}

/* What a delta would rest on, and add. */
struct chain {
    unsigned objects;
    uint64_t kept; /* bytes of blocks in older objects */
    uint64_t added;
    uint64_t dead; /* bytes between them that no block needs any more */
};

static struct chain chain_of(const struct build *build)
{
    uint64_t ends[OBJECTS_MAX] = {0};
    struct chain chain = {0, 0, 0, 0};

    for (uint32_t block = 0; block < build->table->blocks_count; block++) {
        const struct chunk_block *entry = &build->table->blocks[block];
        uint64_t end = (uint64_t)entry->object_place + entry->object_size;

        if (build->ways[block] != WAY_NOTHING) {
            chain.added += build->ways[block] == WAY_MERGE
                               ? CACHE_BLOCK
                               : build->state->blocks[block].stored_size;
        } else if (entry->base == BASE_OBJECT) {
            chain.kept += entry->object_size;
            if (ends[entry->object] < end)
                ends[entry->object] = end;
        }
    }
    for (unsigned i = 0; i < build->objects_count; i++) {
        if (ends[i] == 0)
            continue;
        chain.objects++;
        chain.dead += ends[i] - build->objects[i].table_size;
    }
    chain.dead -= chain.kept;
    return chain;
}

/*
 * A delta is worth it while most of the chunk stays where it is.  What is
 * dead behind the last block in use of an object is not seen; but each delta
 * adds less than it keeps, so even so the bucket has a bounded multiple of
 * the chunk.
 */
static bool should_be_whole(const struct chain *chain)
{
    return chain->objects == 0 || chain->objects >= OLDER_OBJECTS_WANTED ||
           chain->added >= chain->kept ||
           chain->dead > chain->kept + chain->added;
}

/* ---- damage ---------------------------------------------------------------
 */

static void lose(struct build *build, uint32_t block, unsigned pages,
                 const char *why)
{
    static struct log_limit limit;
    struct chunk_block *entry = &build->table->blocks[block];
    uint64_t left_out;

    entry->damaged_pages |= (uint8_t)pages;
    if (entry->damaged_pages == ALL_PAGES)
        *entry =
            (struct chunk_block){.base = BASE_HOLE, .damaged_pages = ALL_PAGES};
    if (log_limit_allows(&limit, &left_out))
        log_error("%s: chunk %016" PRIx64 ", block %" PRIu32
                  ": pages %x are lost, and marked so in the bucket: %s "
                  "(%" PRIu64 " like it not logged)",
                  build->context->device_name, build->work->chunk, block, pages,
                  why, left_out);
}

/* Whether that error in reading the chunk's file means that it is lost. */
static bool file_has_lost(const struct build *build, int error)
{
    return error == -EBADMSG ||
           (error == -EIO && build->work->loss >= UPLOAD_BLOCKS_LOST);
}

static int file_failed(const struct build *build, int error)
{
    static struct log_limit limit;
    uint64_t left_out;

    if (error != -ENOMEM && log_limit_allows(&limit, &left_out))
        log_error("%s: chunk %016" PRIx64
                  ": its file cannot be read to be uploaded: %s (%" PRIu64
                  " like it not logged)",
                  build->context->device_name, build->work->chunk,
                  log_errno(error), left_out);
    return error;
}

/* Which device an origin is, as far as it is known here. */
struct owner_of {
    uint32_t origin;
    char name[DEVICE_NAME_MAX + 1];
};

/* For fetch_each_origin: returns 1 when it is found. */
static int find_owner(void *context, uint32_t origin, const char *device_name)
{
    struct owner_of *owner = context;

    if (origin != owner->origin)
        return 0;
    (void)snprintf(owner->name, sizeof(owner->name), "%s", device_name);
    return 1;
}

/* Write the key of an older object.  Returns whether its device is known. */
static bool older_key(const struct build *build,
                      const struct chunk_object *object,
                      char key[FETCH_KEY_MAX])
{
    const struct upload_context *context = build->context;
    struct owner_of owner = {.origin = object->origin};

    if (object->origin != 0 &&
        fetch_each_origin(context->fetch, find_owner, &owner) != 1)
        return false;
    fetch_object_key(object->origin != 0 ? owner.name : context->device_name,
                     build->work->chunk, &object->id, key);
    return true;
}

/*
 * Whether the bucket itself says that it has not got these bytes of an object:
 * that a request failed is no proof.
 */
static bool bucket_has_lost(const struct build *build,
                            const struct chunk_object *object, uint32_t place,
                            uint32_t size, uint32_t checksum)
{
    struct object_store *store = build->context->store;
    AUTO_FREE unsigned char *bytes = NULL;
    struct object_info info;
    char key[FETCH_KEY_MAX];
    int error;

    if (build->work->loss < UPLOAD_BLOCKS_LOST ||
        !older_key(build, object, key))
        return false;
    error = store->head(store, key, &info);
    if (error != 0)
        return error == -ENOENT;
    if (info.size < (uint64_t)place + size)
        return true;
    bytes = malloc(size);
    return bytes != NULL &&
           store->get(store, key, place, bytes, size, OBJECT_BACKGROUND) == 0 &&
           crc32c(0, bytes, size) != checksum;
}

/*
 * The base of a block that is needed was not to be had: it may be lost, which
 * is worth a second look only where the object cannot rest on the older one.
 */
static int lose_base(struct build *build, uint32_t block, int error)
{
    const struct chunk_block *entry = &build->table->blocks[block];
    bool is_copied = build->ways[block] != WAY_MERGE;

    if (error != -EIO || (is_copied && build->may_rest) ||
        !bucket_has_lost(build, &build->objects[entry->object],
                         entry->object_place, entry->object_size,
                         entry->object_checksum))
        return error;
    lose(build, block,
         is_copied ? ALL_PAGES
                   : ALL_PAGES & ~build->state->blocks[block].local_pages,
         "the bucket has not got them");
    if (entry->damaged_pages == ALL_PAGES)
        build->ways[block] = WAY_NOTHING;
    return 0;
}

/* ---- from the bucket ------------------------------------------------------
 */

static void take_arrived(void *context, uint32_t block, const void *stored,
                         const void *plain)
{
    struct build *build = context;
    const struct chunk_block *entry = &build->table->blocks[block];
    uint32_t i = block - build->first;

    if (build->ways[block] == WAY_MERGE)
        memcpy(build->window[i], plain, CACHE_BLOCK);
    else
        memcpy(build->window[i], stored, entry->object_size);
    build->arrived |= UINT64_C(1) << i;
    build->fetched += entry->object_size;
}

/* Fetch what the window needs and has its base in that table. */
static int fetch_from(struct build *build, const struct chunk_table *table,
                      uint32_t end)
{
    uint32_t blocks[WINDOW];
    size_t count = 0;

    for (uint32_t block = build->first; block < end; block++) {
        if (needs_base(build, block) && base_table(build, block) == table)
            blocks[count++] = block;
    }
    if (count == 0)
        return 0;
    return fetch_blocks(build->context->fetch, table, blocks, count,
                        OBJECT_BACKGROUND, take_arrived, build);
}

/* Fetch all that the window needs; what does not come may be lost. */
static int fetch_window(struct build *build, uint32_t end)
{
    int error, newest_error;

    build->arrived = 0;
    error = fetch_from(build, build->state, end);
    newest_error =
        build->newest != NULL ? fetch_from(build, build->newest, end) : 0;
    if (error == 0)
        error = newest_error;
    for (uint32_t block = build->first; block < end && error != 0; block++) {
        bool has_arrived = (build->arrived >> (block - build->first) & 1) != 0;
        int lost_error;

        if (has_arrived || !needs_base(build, block))
            continue;
        lost_error = lose_base(build, block, error);
        if (lost_error != 0)
            return lost_error;
    }
    return 0;
}

/* ---- into the object ------------------------------------------------------
 */

/* The bytes at the end of the object are this block. */
static void append(struct build *build, uint32_t block,
                   const struct block_stored *how)
{
    struct chunk_block *entry = &build->table->blocks[block];

    entry->base = BASE_OBJECT;
    entry->object = OWN;
    entry->object_codec = (uint8_t)how->codec;
    entry->object_size = how->size;
    entry->object_checksum = how->checksum;
    entry->object_place = (uint32_t)(build->head + build->used);
    build->used += how->size;
}

static void copy_from_bucket(struct build *build, uint32_t block)
{
    const struct chunk_block *entry = &build->table->blocks[block];
    struct block_stored how = {entry->object_codec, entry->object_size,
                               entry->object_checksum};

    memcpy(build->data + build->head + build->used,
           build->window[block - build->first], entry->object_size);
    append(build, block, &how);
}

/*
 * Read a block that is all here as an object stores it: the stored bytes of
 * the file, unless some pages have none.
 */
static int read_as_stored(struct build *build, uint32_t block,
                          unsigned char *ret_stored,
                          struct block_stored *ret_how)
{
    const struct chunk_block *state = &build->state->blocks[block];
    unsigned char plain[CACHE_BLOCK];
    unsigned char stored[BLOCK_STORED_MAX]; /* the object has less room */
    int error;

    if (state->zero_pages == 0) {
        *ret_how = (struct block_stored){state->codec, state->stored_size,
                                         state->checksum};
        return chunk_file_read_stored(build->file, build->state, block,
                                      ret_stored);
    }
    error =
        chunk_file_read_block(build->file, build->state, block, plain, false);
    if (error != 0)
        return error;
    block_encode(plain, CACHE_BLOCK, stored, ret_how);
    memcpy(ret_stored, stored, ret_how->size);
    return 0;
}

static int copy_from_file(struct build *build, uint32_t block)
{
    struct block_stored how;
    int error = read_as_stored(build, block,
                               build->data + build->head + build->used, &how);

    if (error == 0) {
        append(build, block, &how);
        return 0;
    }
    if (build->table->blocks[block].base == BASE_OBJECT) {
        /* It is unchanged since that object. */
        build->ways[block] = WAY_BUCKET;
        error = fetch_blocks(build->context->fetch, base_table(build, block),
                             &block, 1, OBJECT_BACKGROUND, take_arrived, build);
        if (error != 0)
            return lose_base(build, block, error);
        copy_from_bucket(build, block);
        return 0;
    }
    if (!file_has_lost(build, error))
        return file_failed(build, error);
    lose(build, block, ALL_PAGES, "the chunk's file is damaged there");
    return 0;
}

/* Put the local pages over the base; *ret_lost: those that are lost. */
static int take_local_pages(struct build *build, uint32_t block,
                            unsigned char *plain, unsigned *ret_lost)
{
    unsigned char packed[CACHE_BLOCK];
    const unsigned char *from = packed;
    unsigned local = build->state->blocks[block].local_pages;
    int error =
        chunk_file_read_block(build->file, build->state, block, packed, false);

    *ret_lost = 0;
    if (error != 0) {
        if (!file_has_lost(build, error))
            return file_failed(build, error);
        *ret_lost = local;
        return 0;
    }
    for (unsigned page = 0; page < PAGES_PER_BLOCK; page++) {
        if ((local & (1U << page)) == 0)
            continue;
        memcpy(plain + page * CACHE_PAGE, from, CACHE_PAGE);
        from += CACHE_PAGE;
    }
    return 0;
}

static int merge(struct build *build, uint32_t block)
{
    struct chunk_block *entry = &build->table->blocks[block];
    unsigned char plain[CACHE_BLOCK] = {0}, stored[BLOCK_STORED_MAX];
    struct block_stored how;
    unsigned lost;
    int error;

    if (needs_base(build, block))
        memcpy(plain, build->window[block - build->first], CACHE_BLOCK);
    error = take_local_pages(build, block, plain, &lost);
    if (error != 0)
        return error;
    if (lost != 0)
        lose(build, block, lost, "the chunk's file is damaged there");
    if (entry->damaged_pages == ALL_PAGES)
        return 0;
    for (unsigned page = 0; page < PAGES_PER_BLOCK; page++) {
        if ((entry->damaged_pages & (1U << page)) != 0)
            memset(plain + page * CACHE_PAGE, 0, CACHE_PAGE);
    }
    if (bytes_are_zero(plain, CACHE_BLOCK)) {
        *entry = (struct chunk_block){.base = BASE_ZERO,
                                      .damaged_pages = entry->damaged_pages};
        return 0;
    }
    block_encode(plain, CACHE_BLOCK, stored, &how);
    memcpy(build->data + build->head + build->used, stored, how.size);
    append(build, block, &how);
    return 0;
}

static int build_window(struct build *build, uint32_t end)
{
    int error = fetch_window(build, end);

    for (uint32_t block = build->first; block < end && error == 0; block++) {
        switch ((enum way)build->ways[block]) {
        case WAY_NOTHING:
            break;
        case WAY_FILE:
            error = copy_from_file(build, block);
            break;
        case WAY_BUCKET:
            copy_from_bucket(build, block);
            break;
        case WAY_MERGE:
            error = merge(build, block);
            break;
        }
    }
    return error;
}

static int build_blocks(struct build *build)
{
    uint32_t count = build->table->blocks_count;
    int error = 0;

    for (uint32_t first = 0; first < count && error == 0; first += WINDOW) {
        build->first = first;
        error = build_window(build,
                             first + WINDOW < count ? first + WINDOW : count);
    }
    return error;
}

/* A whole object where one is wanted and can be had, else a delta. */
static int build_object(struct build *build)
{
    struct chain chain;

    if (build->copy != NULL) {
        plan(build, true);
        return build_blocks(build);
    }
    plan(build, false);
    chain = chain_of(build);
    build->may_rest = chain.objects > 0 && chain.objects <= OLDER_OBJECTS_MAX;
    if (should_be_whole(&chain)) {
        int error;

        plan(build, true);
        error = build_blocks(build);
        if (error != -EIO || !build->may_rest)
            return error;
        log_warning("%s: chunk %016" PRIx64 ": cannot be copied from its "
                    "older objects, and goes on resting on them",
                    build->context->device_name, build->work->chunk);
        plan(build, false);
    }
    return build_blocks(build);
}

/* ---- the object's table ---------------------------------------------------
 */

/* Name the older objects that are still in use, and the new one as the last. */
static void name_objects(struct build *build)
{
    struct chunk_table *table = build->table;
    uint16_t renamed[OBJECTS_MAX + 1];
    bool is_used[OBJECTS_MAX + 1] = {false};

    for (uint32_t i = 0; i < table->blocks_count; i++) {
        if (table->blocks[i].base == BASE_OBJECT)
            is_used[table->blocks[i].object] = true;
    }
    table->objects_count = 0;
    for (unsigned i = 0; i < build->objects_count; i++) {
        if (!is_used[i])
            continue;
        assert(table->objects_count < OLDER_OBJECTS_MAX);
        renamed[i] = (uint16_t)table->objects_count;
        table->objects[table->objects_count++] = build->objects[i];
    }
    renamed[OWN] = (uint16_t)table->objects_count;
    table->objects[table->objects_count++] =
        (struct chunk_object){.id = build->work->id};
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        if (table->blocks[i].base == BASE_OBJECT)
            table->blocks[i].object = renamed[table->blocks[i].object];
    }
}

/*
 * Encode the table so that it ends where the blocks begin.  Returns its size,
 * which does not depend on the places that it tells.
 */
static size_t encode_table(struct build *build)
{
    struct chunk_table *table = build->table;
    unsigned own;
    size_t size;

    name_objects(build);
    own = table->objects_count - 1;
    table->data_end = 0;
    table->generation = build->work->generation;
    size = chunk_table_encode(table, build->data);
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        if (table->blocks[i].base == BASE_OBJECT &&
            table->blocks[i].object == own)
            table->blocks[i].object_place -= (uint32_t)(build->head - size);
    }
    (void)chunk_table_encode(table, build->data + build->head - size);
    return size;
}

static int put(const struct build *build, const unsigned char *object,
               size_t size)
{
    static struct log_limit limit;
    struct object_store *store = build->context->store;
    char key[FETCH_KEY_MAX];
    uint64_t left_out;
    int error;

    fetch_object_key(build->copy != NULL ? build->copy->device_name
                                         : build->context->device_name,
                     build->work->chunk, &build->work->id, key);
    /* The id is of this attempt alone: nothing else can have the key. */
    error = store->put(store, key, object, size, false);
    if (error == 0)
        return 0;
    if (log_limit_allows(&limit, &left_out))
        log_error("%s: chunk %016" PRIx64 ": cannot be uploaded as %s: %s "
                  "(%" PRIu64 " like it not logged)",
                  build->context->device_name, build->work->chunk, key,
                  log_errno(error), left_out);
    return error == -EIO ? -EREMOTEIO : error;
}

static uint32_t count_damaged(const struct chunk_table *table)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < table->blocks_count; i++) {
        if (table->blocks[i].damaged_pages != 0)
            count++;
    }
    return count;
}

static int finish(struct build *build, struct upload_result *ret_result)
{
    size_t table_size = encode_table(build);
    unsigned char *object = build->data + build->head - table_size;
    AUTO_FREE void *table = malloc(table_size);
    int error;

    if (table == NULL)
        return -ENOMEM;
    error = put(build, object, table_size + build->used);
    if (error != 0)
        return error;
    memcpy(table, object, table_size);
    *ret_result = (struct upload_result){
        .table = take_pointer(&table),
        .table_size = table_size,
        .size = table_size + build->used,
        .fetched = build->fetched,
        .damaged = count_damaged(build->table),
    };
    return 0;
}

/* ---- the state ------------------------------------------------------------
 */

/* A table without anything: no block of it can be known. */
static int lose_table(struct build *build)
{
    uint32_t chunk_size = build->context->chunk_size;

    build->state = chunk_table_new(build->work->chunk, chunk_size);
    if (build->state == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < build->state->blocks_count; i++)
        build->state->blocks[i].damaged_pages = ALL_PAGES;
    log_error("%s: chunk %016" PRIx64 ": its state of generation %" PRIu64
              " is lost: all of it is marked as damaged in the bucket",
              build->context->device_name, build->work->chunk,
              build->work->generation);
    return 0;
}

/* The state is what an object says. */
static int open_object(struct build *build, const struct chunk_object *object)
{
    int error = fetch_table(build->context->fetch, build->work->chunk,
                            build->context->chunk_size, object,
                            OBJECT_BACKGROUND, &build->state);

    if (error == -EIO && bucket_has_lost(build, object, 0, object->table_size,
                                         object->table_checksum))
        return lose_table(build);
    return error;
}

/* Read the state that is to be uploaded. */
static int open_state(struct build *build)
{
    const struct upload_work *work = build->work;
    int error;

    if (work->loss == UPLOAD_TABLE_LOST)
        return lose_table(build);
    if (build->copy != NULL && build->copy->newest != NULL)
        return open_object(build, build->copy->newest);
    error =
        chunk_file_open(build->context->chunk_dir, work->chunk, &build->file);
    if (error == 0)
        error = chunk_file_read_table(build->file, work->generation,
                                      work->revision, &build->state);
    if (error == -ENOENT || error == -EBADMSG)
        return -ESTALE;
    return error == 0 || error == -ESTALE ? error : file_failed(build, error);
}

/* The newest object is lost, and with it what only its table knows. */
static void lose_unknown_bases(struct build *build)
{
    struct chunk_table *state = build->state;
    uint32_t count = 0;

    for (uint32_t i = 0; i < state->blocks_count; i++) {
        struct chunk_block *block = &state->blocks[i];

        if (block->base != BASE_UNKNOWN)
            continue;
        block->base = BASE_HOLE;
        block->damaged_pages |= (uint8_t)(ALL_PAGES & ~block->local_pages);
        count++;
    }
    log_error("%s: chunk %016" PRIx64 ": the table of its newest object is "
              "lost: what is not here of %" PRIu32
              " blocks is marked as damaged in the bucket",
              build->context->device_name, build->work->chunk, count);
}

/* Find out what the state does not know of its bases. */
static int learn_bases(struct build *build)
{
    const struct chunk_table *state = build->state;
    const struct chunk_object *newest;
    uint32_t block = 0;
    int error;

    while (block < state->blocks_count &&
           state->blocks[block].base != BASE_UNKNOWN)
        block++;
    if (block == state->blocks_count)
        return 0;
    newest = &state->objects[state->objects_count - 1];
    error = fetch_table(build->context->fetch, state->chunk, state->chunk_size,
                        newest, OBJECT_BACKGROUND, &build->newest);
    if (error == -EIO && bucket_has_lost(build, newest, 0, newest->table_size,
                                         newest->table_checksum)) {
        lose_unknown_bases(build);
        return 0;
    }
    return error;
}

static int make_room(struct build *build)
{
    uint32_t chunk_size = build->context->chunk_size;

    build->table = chunk_table_new(build->work->chunk, chunk_size);
    if (build->table == NULL)
        return -ENOMEM;
    build->head = chunk_table_encoded_max(chunk_size);
    build->data = malloc(build->head + chunk_size); /* never more */
    build->ways = calloc(build->table->blocks_count, sizeof(*build->ways));
    build->window = malloc(sizeof(*build->window) * WINDOW);
    return build->data == NULL || build->ways == NULL || build->window == NULL
               ? -ENOMEM
               : 0;
}

static void build_free(struct build *build)
{
    chunk_file_release(build->file);
    chunk_table_release(build->state);
    chunk_table_release(build->newest);
    chunk_table_release(build->table);
    free(build->window);
    free(build->ways);
    free(build->data);
    free(build);
}

static int upload(const struct upload_context *context,
                  const struct upload_work *work,
                  const struct upload_copy *copy,
                  struct upload_result *ret_result)
{
    struct build *build = calloc(1, sizeof(*build));
    int error;

    if (build == NULL)
        return -ENOMEM;
    build->context = context;
    build->work = work;
    build->copy = copy;
    error = open_state(build);
    if (error == 0)
        error = learn_bases(build);
    if (error == 0)
        error = make_room(build);
    if (error == 0)
        error = build_object(build);
    if (error == 0)
        error = finish(build, ret_result);
    build_free(build);
    return error;
}

int upload_chunk(const struct upload_context *context,
                 const struct upload_work *work,
                 struct upload_result *ret_result)
{
    return upload(context, work, NULL, ret_result);
}

int upload_copy_chunk(const struct upload_context *context,
                      const struct upload_work *work,
                      const struct upload_copy *copy,
                      struct upload_result *ret_result)
{
    return upload(context, work, copy, ret_result);
}

static bool table_is_of(const struct chunk_table *table,
                        const struct upload_work *work, uint32_t chunk_size)
{
    return table->chunk == work->chunk && table->chunk_size == chunk_size &&
           table->generation == work->generation && table->data_end == 0 &&
           is_same_object(&table->objects[table->objects_count - 1].id,
                          &work->id);
}

int upload_decode_table(const void *bytes, size_t size,
                        const struct upload_work *work, uint32_t chunk_size,
                        struct chunk_table **ret_table)
{
    AUTO_FREE void *again = malloc(chunk_table_encoded_max(chunk_size));
    struct chunk_table *table;
    struct chunk_object *own;
    int error;

    if (again == NULL)
        return -ENOMEM;
    if (size > chunk_table_encoded_max(chunk_size))
        return -EBADMSG;
    error = chunk_table_decode(bytes, size, &table);
    if (error != 0)
        return error == -ENOMEM ? error : -EBADMSG;
    if (!table_is_of(table, work, chunk_size) ||
        chunk_table_encode(table, again) != size) {
        chunk_table_release(table);
        return -EBADMSG;
    }
    own = &table->objects[table->objects_count - 1];
    own->table_size = (uint32_t)size;
    own->table_checksum = crc32c(0, bytes, size);
    table->data_end = chunk_file_data_start(chunk_size);
    *ret_table = table;
    return 0;
}
