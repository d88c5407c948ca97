/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a block of the table may be, and what becomes of it when an earlier
 * state, of the table `uploaded`, has become an object:
 *
 *   same as in uploaded    its base is what the object has; all pages here are
 *                          a copy of that, and local pages over zeros are one
 *                          with these zeros; local pages over another object,
 *                          or of what is zeros in this one, are not needed
 *   newer, base remote     the pages that are not here are those of the old
 *                          base, which the object has too, as folds only add
 *                          local pages; so the local ones lie over the object
 *   newer, base not remote nothing of it is in the object
 *
 * Pages that were lost stay lost, and must be so in the object: nothing makes
 * zeros of them.
 */
#include "cache/rebase.h"

#include <errno.h>
#include <string.h>

#include "cache/geometry.h"

static bool is_remote(const struct chunk_block *block)
{
    return block->base == BASE_OBJECT || block->base == BASE_UNKNOWN;
}

/* Whether the local pages, if any, are a copy of what is in the object. */
static bool is_base_alone(const struct chunk_block *block)
{
    return block->local_pages == 0 ||
           (block->base == BASE_OBJECT && block->local_pages == ALL_PAGES);
}

static const struct object_id *newest_id(const struct chunk_table *table)
{
    return &table->objects[table->objects_count - 1].id;
}

static bool is_same_base(const struct chunk_table *table,
                         const struct chunk_table *other, uint32_t block)
{
    const struct chunk_block *a = &table->blocks[block];
    const struct chunk_block *b = &other->blocks[block];

    if (a->base != b->base)
        return false;
    switch ((enum block_base)a->base) {
    case BASE_HOLE:
    case BASE_ZERO:
        return true;
    case BASE_OBJECT:
        return a->object_place == b->object_place &&
               object_id_is(&table->objects[a->object].id,
                            &other->objects[b->object].id);
    case BASE_UNKNOWN:
        return object_id_is(newest_id(table), newest_id(other));
    }
    return false;
}

static bool is_same_local(const struct chunk_block *a,
                          const struct chunk_block *b)
{
    return a->local_pages == b->local_pages && a->zero_pages == b->zero_pages &&
           (a->local_pages == 0 ||
            (a->place == b->place && a->stored_size == b->stored_size &&
             a->codec == b->codec && a->checksum == b->checksum));
}

/* Whether a block has the same content in both, as far as they say. */
static bool is_same(const struct chunk_table *table,
                    const struct chunk_table *uploaded, uint32_t block)
{
    const struct chunk_block *a = &table->blocks[block];
    const struct chunk_block *b = &uploaded->blocks[block];

    return is_same_base(table, uploaded, block) &&
           a->damaged_pages == b->damaged_pages &&
           (is_same_local(a, b) || (is_base_alone(a) && is_base_alone(b)));
}

/* Whether local pages of a newer state can lie over what was uploaded. */
static bool is_built_on(const struct chunk_table *table,
                        const struct chunk_table *uploaded, uint32_t block)
{
    const struct chunk_block *a = &table->blocks[block];
    const struct chunk_block *b = &uploaded->blocks[block];

    return is_same_base(table, uploaded, block) &&
           a->local_pages != ALL_PAGES &&
           (is_base_alone(b) ||
            (b->local_pages & ~(a->local_pages | a->damaged_pages)) == 0);
}

static void take_base(struct chunk_block *block, const struct chunk_block *from)
{
    block->base = from->base;
    block->object = from->object;
    block->object_codec = from->object_codec;
    block->object_size = from->object_size;
    block->object_place = from->object_place;
    block->object_checksum = from->object_checksum;
}

static void drop_local(struct chunk_block *block)
{
    block->local_pages = 0;
    block->zero_pages = 0;
    block->codec = 0;
    block->place = 0;
    block->checksum = 0;
    block->stored_size = 0;
}

/* The object has what this block is; keep what is a copy of all of it. */
static void become_copy(struct chunk_block *block,
                        const struct chunk_block *in_object)
{
    bool was_over_zeros = !is_remote(block);

    take_base(block, in_object);
    if (block->base == BASE_OBJECT && block->local_pages != 0 &&
        was_over_zeros && block->damaged_pages == 0) {
        block->zero_pages |= (uint8_t)(ALL_PAGES & ~block->local_pages);
        block->local_pages = ALL_PAGES;
    }
    if (block->local_pages != ALL_PAGES || block->base != BASE_OBJECT)
        drop_local(block);
}

static int rebase_block(struct chunk_table *table,
                        const struct chunk_table *uploaded,
                        const struct chunk_block *in_object, uint32_t block)
{
    struct chunk_block *b = &table->blocks[block];
    unsigned was_lost = uploaded != NULL ? uploaded->blocks[block].damaged_pages
                                         : b->damaged_pages;

    if ((was_lost & ~in_object->damaged_pages) != 0)
        return -ESTALE;
    if (uploaded == NULL || is_same(table, uploaded, block)) {
        if ((in_object->damaged_pages & ~b->damaged_pages) != 0)
            return -ESTALE;
        become_copy(b, in_object);
        return 0;
    }
    if (!is_remote(b))
        return 0;
    if (!is_built_on(table, uploaded, block) ||
        (in_object->damaged_pages & ~(b->damaged_pages | b->local_pages)) != 0)
        return -ESTALE;
    take_base(b, in_object);
    return 0;
}

int rebase_uploaded(struct chunk_table *table,
                    const struct chunk_table *uploaded,
                    const struct chunk_table *object)
{
    /* Bases are compared by the list that they refer to, so it stays. */
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        int error = rebase_block(table, uploaded, &object->blocks[i], i);

        if (error != 0)
            return error;
    }
    table->objects_count = object->objects_count;
    memcpy(table->objects, object->objects,
           sizeof(table->objects[0]) * object->objects_count);
    chunk_table_forget_objects(table);
    return 0;
}

bool rebase_is_clean(const struct chunk_table *table)
{
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        if (!is_base_alone(&table->blocks[i]) ||
            table->blocks[i].base == BASE_UNKNOWN)
            return false;
    }
    return true;
}

uint32_t rebase_drop_copies(struct chunk_table *table)
{
    uint32_t dropped = 0;

    for (uint32_t i = 0; i < table->blocks_count; i++) {
        struct chunk_block *block = &table->blocks[i];

        if (block->base != BASE_OBJECT || block->local_pages != ALL_PAGES)
            continue;
        drop_local(block);
        dropped++;
    }
    return dropped;
}

bool rebase_learn(struct chunk_table *table, const struct chunk_table *newest)
{
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        if (table->blocks[i].base == BASE_OBJECT)
            return false; /* its objects may be others */
    }
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        struct chunk_block *b = &table->blocks[i];
        const struct chunk_block *base = &newest->blocks[i];

        if (b->base != BASE_UNKNOWN)
            continue;
        take_base(b, base);
        b->damaged_pages |= base->damaged_pages & (uint8_t)~b->local_pages;
    }
    table->objects_count = newest->objects_count;
    memcpy(table->objects, newest->objects, sizeof(table->objects));
    return true;
}

bool rebase_keep(struct chunk_table *table, uint32_t block,
                 const struct chunk_block *as_read, const struct object_id *id,
                 uint32_t place)
{
    struct chunk_block *b;

    if (block >= table->blocks_count)
        return false;
    b = &table->blocks[block];
    if (b->base != BASE_OBJECT || b->local_pages != 0 ||
        b->damaged_pages != 0 || b->object_place != as_read->object_place ||
        b->object_size != as_read->object_size ||
        b->object_codec != as_read->object_codec ||
        b->object_checksum != as_read->object_checksum ||
        !object_id_is(&table->objects[b->object].id, id))
        return false;
    b->local_pages = ALL_PAGES;
    b->codec = b->object_codec;
    b->stored_size = b->object_size;
    b->checksum = b->object_checksum;
    b->place = place;
    return true;
}

/* Returns the block if all of it is here, and in an object; else NULL. */
static struct chunk_block *find_twofold(struct chunk_table *table,
                                        uint32_t block)
{
    struct chunk_block *b;

    if (block >= table->blocks_count)
        return NULL;
    b = &table->blocks[block];
    return b->base == BASE_OBJECT && b->local_pages == ALL_PAGES ? b : NULL;
}

bool rebase_drop_copy(struct chunk_table *table, uint32_t block,
                      const struct chunk_block *as_read)
{
    struct chunk_block *b = find_twofold(table, block);

    if (b == NULL || b->place != as_read->place ||
        b->stored_size != as_read->stored_size || b->codec != as_read->codec ||
        b->checksum != as_read->checksum)
        return false;
    drop_local(b);
    return true;
}

bool rebase_drop_base(struct chunk_table *table, uint32_t block,
                      const struct chunk_block *as_read,
                      const struct object_id *id)
{
    struct chunk_block *b = find_twofold(table, block);

    if (b == NULL || b->object_place != as_read->object_place ||
        !object_id_is(&table->objects[b->object].id, id))
        return false;
    take_base(b, &(struct chunk_block){.base = b->zero_pages != 0 ? BASE_ZERO
                                                                  : BASE_HOLE});
    b->local_pages &= (uint8_t)~b->zero_pages; /* these are the base's now */
    b->zero_pages = 0;
    return true;
}
