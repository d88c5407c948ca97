/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/scrub_chunk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/crc32c.h"
#include "cache/block_codec.h"
#include "cache/chunk_file.h"
#include "cache/chunk_reader.h"
#include "cache/fetch.h"
#include "cache/geometry.h"

enum {
    /* One request brings neighbours, and what is not wanted between them. */
    RANGE_MAX = 1 << 20,
    GAP_MAX = 64 << 10,
    PERCENT = 100,
};

const struct chunk_object *
scrub_newest_of_image(const struct scrub_chunk *chunk)
{
    return chunk->image.objects_count == 0
               ? NULL
               : &chunk->image.objects[chunk->image.objects_count - 1];
}

const struct chunk_object *scrub_newest_here(const struct scrub_chunk *chunk)
{
    return chunk->entry.objects_count == 0
               ? NULL
               : &chunk->entry.objects[chunk->entry.objects_count - 1];
}

/* ---- names --------------------------------------------------------------- */

struct wanted_origin {
    uint32_t origin;
    char *name;
};

/* Of fetch_each_origin. */
static int find_origin(void *context, uint32_t origin, const char *device_name)
{
    const struct wanted_origin *wanted = context;

    if (origin != wanted->origin)
        return 0;
    (void)snprintf(wanted->name, DEVICE_NAME_MAX + 1, "%s", device_name);
    return 1;
}

int scrub_origin_name(const struct scrub_how *how, uint32_t origin,
                      char name[DEVICE_NAME_MAX + 1])
{
    struct wanted_origin wanted = {origin, name};

    if (origin == 0) {
        (void)snprintf(name, DEVICE_NAME_MAX + 1, "%s",
                       device_name(how->device));
        return 0;
    }
    return fetch_each_origin(device_fetch(how->device), find_origin, &wanted) ==
                   1
               ? 0
               : -ENOENT;
}

static int key_of(const struct scrub_how *how, uint64_t chunk,
                  const struct chunk_object *object, char key[FETCH_KEY_MAX])
{
    char name[DEVICE_NAME_MAX + 1];
    int error = scrub_origin_name(how, object->origin, name);

    if (error == 0)
        fetch_object_key(name, chunk, &object->id, key);
    return error;
}

/* ---- which blocks -------------------------------------------------------- */

/* Whether the sample has this block: any bits of it depend on all of these. */
static bool is_sampled(const struct scrub_how *how, uint64_t chunk,
                       uint32_t block)
{
    uint64_t x = how->seed ^ (chunk * UINT64_C(0x9e3779b97f4a7c15) + block);

    if (how->sample >= PERCENT)
        return true;
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (x ^ x >> 31) % PERCENT < how->sample;
}

/* Want what is sampled of a table's bases, and a block of every object. */
static void want_bases(const struct scrub_how *how, struct scrub_chunk *c)
{
    bool has_block[CHUNK_OBJECTS_MAX] = {false};

    for (uint32_t i = 0; i < c->blocks_count; i++) {
        const struct chunk_block *block = &c->bases->blocks[i];

        if (block->base != BASE_OBJECT)
            continue;
        if (has_block[block->object] && !is_sampled(how, c->chunk, i))
            continue;
        has_block[block->object] = true;
        c->flags[i] |= SCRUB_WANTED;
    }
}

/* ---- in the file --------------------------------------------------------- */

/* Look at the pages of a block that are in the file. */
static int look_at_copy(const struct scrub_how *how, struct scrub_chunk *c,
                        uint32_t block)
{
    const struct chunk_block *of = &c->local->blocks[block];
    unsigned char stored[BLOCK_STORED_MAX], plain[CACHE_BLOCK];
    int error;

    if (of->local_pages == 0 || (c->flags[block] & SCRUB_SEEN) != 0)
        return 0;
    c->flags[block] |= SCRUB_SEEN;
    error = how->pace(how->context, of->stored_size, false);
    if (error != 0)
        return error;
    error = chunk_file_read_stored(c->file, c->local, block, stored);
    if (error == 0) /* what was right as bytes may be no block all the same */
        error = chunk_file_read_block(c->file, c->local, block, plain, false);
    c->blocks++;
    c->bytes += of->stored_size;
    if (error == -ENOMEM || error == -EINTR)
        return error;
    if (error != 0) {
        c->flags[block] |= SCRUB_COPY;
        c->is_bad = true;
    }
    return 0;
}

/* What the chunk is, here and now. */
static void read_entry(const struct scrub_how *how, struct scrub_chunk *c)
{
    catalog_get(device_catalog(how->device), c->chunk, &c->entry);
    c->has_content = c->entry.generation != 0 &&
                     (c->entry.flags & (CATALOG_ZERO | CATALOG_HOLE)) == 0;
    c->has_file = c->has_content && (c->entry.flags & CATALOG_FILE) != 0;
}

static int look_at_file(const struct scrub_how *how, struct scrub_chunk *c)
{
    int error;

    do { /* it may be evicted, or become zeros, meanwhile */
        read_entry(how, c);
        if (!c->has_file)
            return 0;
        error = chunk_reader_open_file(device_reader(how->device), c->chunk,
                                       &c->file, &c->local);
    } while (error == -ESTALE);
    if (error == -ENOMEM || error == -EMFILE || error == -ENFILE)
        return error;
    c->local_error = error;
    c->is_bad |= error != 0;
    for (uint32_t i = 0; c->local != NULL && i < c->blocks_count; i++) {
        if (is_sampled(how, c->chunk, i))
            error = look_at_copy(how, c, i);
        if (error != 0)
            return error;
    }
    return 0;
}

/* ---- in the bucket ------------------------------------------------------- */

/* Blocks of one object that one request may bring. */
struct run {
    uint32_t first, end; /* blocks, of which those that are WANTED count */
    uint64_t place, size;
};

/* Find the next run at or after a block; returns whether there is one. */
static bool next_run(const struct scrub_chunk *c,
                     const struct chunk_table *table, uint32_t from,
                     struct run *ret_run)
{
    const struct chunk_block *first = NULL;

    for (uint32_t i = from; i < c->blocks_count; i++) {
        const struct chunk_block *block = &table->blocks[i];
        uint64_t end = (uint64_t)block->object_place + block->object_size;

        if ((c->flags[i] & SCRUB_WANTED) == 0 || block->base != BASE_OBJECT)
            continue;
        if (first == NULL) {
            first = block;
            *ret_run =
                (struct run){i, i + 1, block->object_place, block->object_size};
            continue;
        }
        if (block->object != first->object ||
            block->object_place < ret_run->place + ret_run->size ||
            block->object_place - (ret_run->place + ret_run->size) > GAP_MAX ||
            end - ret_run->place > RANGE_MAX)
            return true;
        ret_run->size = end - ret_run->place;
        ret_run->end = i + 1;
    }
    return first != NULL;
}

static void bad_base(struct scrub_chunk *c, const struct chunk_table *table,
                     uint32_t block, unsigned flag, enum object_state state)
{
    c->flags[block] |= (uint8_t)flag;
    c->is_bad = true;
    if (table == c->bases &&
        c->states[table->blocks[block].object] != OBJECT_MISSING)
        c->states[table->blocks[block].object] = state;
}

/* Without the object there is none of its blocks, looked at or not. */
static void miss_object(struct scrub_chunk *c, const struct chunk_table *table,
                        unsigned object, unsigned flag)
{
    for (uint32_t i = 0; i < c->blocks_count; i++) {
        if (table->blocks[i].base != BASE_OBJECT ||
            table->blocks[i].object != object)
            continue;
        c->flags[i] &= (uint8_t)~SCRUB_WANTED;
        bad_base(c, table, i, flag, OBJECT_MISSING);
    }
}

/* Whether these are the bytes that the table says. */
static bool is_block(const struct chunk_block *block, const void *stored)
{
    const struct block_stored how = {block->object_codec, block->object_size,
                                     block->object_checksum};
    unsigned char plain[CACHE_BLOCK];

    return crc32c(0, stored, block->object_size) == block->object_checksum &&
           block_decode(&how, stored, plain, CACHE_BLOCK) == 0;
}

/* Check what a request brought, or what it could not. */
static int look_at_run(const struct scrub_how *how, struct scrub_chunk *c,
                       const struct chunk_table *table, const struct run *run,
                       unsigned flag)
{
    unsigned object = table->blocks[run->first].object;
    AUTO_FREE unsigned char *data = malloc(run->size + 1);
    enum object_state state = OBJECT_UNREADABLE;
    char key[FETCH_KEY_MAX];
    int error = data == NULL ? -ENOMEM : 0;

    if (error == 0)
        error = how->pace(how->context, run->size, true);
    if (error != 0)
        return error;
    if (key_of(how, c->chunk, &table->objects[object], key) == 0)
        error =
            object_read(how->store, key, run->place, data, run->size, &state);
    if (error != 0)
        return error;
    c->bytes += state == OBJECT_GOOD ? run->size : 0;
    if (state == OBJECT_MISSING)
        miss_object(c, table, object, flag);
    for (uint32_t i = run->first; i < run->end; i++) {
        const struct chunk_block *block = &table->blocks[i];
        enum object_state of_block = state;

        if ((c->flags[i] & SCRUB_WANTED) == 0 || block->base != BASE_OBJECT)
            continue;
        /* The others of a run need not share its fate. */
        if (state != OBJECT_GOOD && run->end - run->first > 1)
            error = object_read(how->store, key, block->object_place,
                                data + (block->object_place - run->place),
                                block->object_size, &of_block);
        if (error != 0)
            return error;
        if (of_block == OBJECT_GOOD &&
            !is_block(block, data + (block->object_place - run->place)))
            of_block = OBJECT_CHANGED;
        c->blocks++;
        c->flags[i] &= (uint8_t)~SCRUB_WANTED;
        if (of_block != OBJECT_GOOD)
            bad_base(c, table, i, flag, of_block);
    }
    return 0;
}

/* Look at the wanted bases that the table names; flag marks the bad ones. */
static int look_at_bases(const struct scrub_how *how, struct scrub_chunk *c,
                         const struct chunk_table *table, unsigned flag)
{
    struct run run = {.first = 0};
    int error = 0;

    while (error == 0 && next_run(c, table, run.first, &run)) {
        error = look_at_run(how, c, table, &run, flag);
        run.first = run.end;
    }
    for (uint32_t i = 0; i < c->blocks_count; i++)
        c->flags[i] &= (uint8_t)~SCRUB_WANTED;
    return error;
}

/* Read the table of the image's newest object; it may be bad. */
static int look_at_table(const struct scrub_how *how, struct scrub_chunk *c)
{
    const struct chunk_object *newest = scrub_newest_of_image(c);
    uint32_t chunk_size = device_chunk_size(how->device);
    AUTO_FREE void *data = malloc((size_t)newest->table_size + 1);
    char key[FETCH_KEY_MAX];
    int error = data == NULL ? -ENOMEM : 0;

    c->objects++;
    if (error == 0)
        error = how->pace(how->context, newest->table_size, true);
    if (error != 0)
        return error;
    c->bytes += newest->table_size;
    error = fetch_table(device_fetch(how->device), c->chunk, chunk_size, newest,
                        OBJECT_BACKGROUND, &c->remote);
    if (error == 0)
        return 0;
    if (error == -ENOMEM || error == -ECANCELED)
        return error;
    c->table_state = OBJECT_UNREADABLE;
    if (key_of(how, c->chunk, newest, key) == 0)
        error = object_check(how->store, key, 0, data, newest->table_size,
                             newest->table_checksum, &c->table_state);
    else
        error = 0;
    if (error != 0)
        return error;
    if (c->table_state == OBJECT_GOOD) {
        /* It comes now, so it was the store; or it makes no sense at all. */
        error = fetch_table(device_fetch(how->device), c->chunk, chunk_size,
                            newest, OBJECT_BACKGROUND, &c->remote);
        if (error != 0 && error != -EIO)
            return error;
        if (error != 0)
            c->table_state = OBJECT_CHANGED;
    }
    c->is_bad |= c->table_state != OBJECT_GOOD;
    return 0;
}

/* Whether the file's table tells all that the image's newest object's does. */
static bool local_can_tell(const struct scrub_chunk *c)
{
    const struct chunk_object *own, *newest = scrub_newest_of_image(c);

    if (c->local == NULL || c->local->objects_count == 0)
        return false;
    own = &c->local->objects[c->local->objects_count - 1];
    for (uint32_t i = 0; i < c->blocks_count; i++) {
        if (c->local->blocks[i].base == BASE_UNKNOWN)
            return false;
    }
    return object_id_is(&own->id, &newest->id);
}

static int look_in_bucket(const struct scrub_how *how, struct scrub_chunk *c)
{
    int error = look_at_table(how, c);

    if (error != 0)
        return error;
    if (c->remote != NULL)
        c->bases = c->remote;
    else if (local_can_tell(c))
        c->bases = c->local;
    if (c->bases == NULL)
        return 0;
    for (unsigned i = 0; i + 1 < c->bases->objects_count; i++)
        c->objects++;
    if (c->table_state == OBJECT_MISSING)
        miss_object(c, c->bases, c->bases->objects_count - 1, SCRUB_BASE);
    want_bases(how, c);
    for (uint32_t i = 0; i < c->blocks_count; i++) {
        if ((c->flags[i] & SCRUB_BASE) != 0)
            c->flags[i] &= (uint8_t)~SCRUB_WANTED;
    }
    return look_at_bases(how, c, c->bases, SCRUB_BASE);
}

/* ---- both ---------------------------------------------------------------- */

/* What is bad in one place: how is it in the other? */
static int look_at_others(const struct scrub_how *how, struct scrub_chunk *c)
{
    int error = 0;

    for (uint32_t i = 0; i < c->blocks_count && error == 0; i++) {
        if ((c->flags[i] & SCRUB_BASE) != 0)
            error = look_at_copy(how, c, i);
    }
    for (uint32_t i = 0; i < c->blocks_count; i++) {
        if ((c->flags[i] & SCRUB_COPY) == 0)
            continue;
        if (c->local->blocks[i].base == BASE_OBJECT)
            c->flags[i] |= SCRUB_WANTED;
        else
            c->flags[i] |= SCRUB_OWN;
    }
    return error != 0 ? error : look_at_bases(how, c, c->local, SCRUB_OWN);
}

/* Pages that were lost before: of what rules here. */
static void look_at_losses(struct scrub_chunk *c)
{
    const struct chunk_object *here = scrub_newest_here(c);
    const struct chunk_table *table = c->local;

    if (table == NULL && c->has_content && !c->has_file && c->has_image &&
        here != NULL && object_id_is(&here->id, &scrub_newest_of_image(c)->id))
        table = c->remote;
    for (uint32_t i = 0; table != NULL && i < c->blocks_count; i++) {
        if (table->blocks[i].damaged_pages == 0)
            continue;
        c->flags[i] |= SCRUB_EARLIER;
        c->is_bad = true;
    }
}

int scrub_chunk_look(const struct scrub_how *how, uint64_t chunk,
                     const struct image_entry *image, struct scrub_chunk *c)
{
    int error;

    memset(c, 0, sizeof(*c));
    c->chunk = chunk;
    c->blocks_count = device_chunk_size(how->device) / CACHE_BLOCK;
    c->flags = calloc(c->blocks_count, sizeof(c->flags[0]));
    if (c->flags == NULL)
        return -ENOMEM;
    if (image != NULL && image->objects_count > 0) {
        c->image = *image;
        c->has_image = true;
    }
    error = look_at_file(how, c);
    /* Without its table here, what the bucket has of it is to be known. */
    if (error == 0 && c->has_image && (!how->is_local || c->local_error != 0))
        error = look_in_bucket(how, c);
    if (error == 0 && c->local != NULL)
        error = look_at_others(how, c);
    if (error == 0)
        look_at_losses(c);
    return error;
}

void scrub_chunk_done(struct scrub_chunk *c)
{
    chunk_file_release(c->file);
    chunk_table_release(c->local);
    chunk_table_release(c->remote);
    free(c->flags);
    c->file = NULL;
    c->local = NULL;
    c->remote = NULL;
    c->bases = NULL;
    c->flags = NULL;
}
