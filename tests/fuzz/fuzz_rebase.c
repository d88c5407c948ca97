/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_rebase - three tables of one chunk, as the input says, and what rebase
 * makes of them.
 *
 * They need not have come from one another: whatever is accepted must be a
 * table that can be written, which encode sees to, and have no page here, or
 * lost, that was not so before.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "cache/block_codec.h"
#include "cache/chunk_table.h"
#include "cache/geometry.h"
#include "cache/rebase.h"

enum { CHUNK_SIZE = 256 << 10, OBJECTS = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

/* What of the input was not looked at yet; zeros behind its end. */
struct input {
    const uint8_t *at;
    size_t left;
};

static uint8_t take(struct input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->at++;
}

/* One block: what it is, where; few places, so that they meet. */
static void take_block(struct input *input, struct chunk_table *table,
                       struct chunk_block *block, bool of_object)
{
    uint8_t what = take(input);
    uint8_t pages = take(input);
    uint8_t where = take(input);

    block->base = what & 3;
    if (block->base == BASE_UNKNOWN && of_object)
        block->base = BASE_HOLE;
    block->damaged_pages = (what & 0x80) != 0 ? pages >> 4 : 0;
    if (block->base == BASE_OBJECT) {
        block->object = where % OBJECTS;
        block->object_codec = BLOCK_SNAPPY;
        block->object_size = 100;
        block->object_place = CACHE_PAGE * (1 + (where >> 2 & 1U));
    }
    block->local_pages = of_object ? 0 : pages & ALL_PAGES;
    if (block->local_pages != 0) {
        block->codec = BLOCK_SNAPPY;
        block->stored_size = 10;
        block->place = table->data_end - CACHE_PAGE + (where >> 3 & 1U) * 100;
        if (block->local_pages == ALL_PAGES && block->base == BASE_OBJECT)
            block->zero_pages =
                where >> 4 & (ALL_PAGES >> 1) & (uint8_t)~block->damaged_pages;
    }
}

static struct chunk_table *take_table(struct input *input, bool of_object)
{
    struct chunk_table *table = chunk_table_new(1, CHUNK_SIZE);

    require(table != NULL);
    table->data_end += CACHE_PAGE;
    table->objects_count = OBJECTS;
    for (unsigned i = 0; i < OBJECTS; i++)
        table->objects[i] = (struct chunk_object){
            .id = {1, 1, of_object ? i + 1 : i}, .table_size = CACHE_PAGE};
    for (uint32_t i = 0; i < table->blocks_count; i++)
        take_block(input, table, &table->blocks[i], of_object);
    return table;
}

static void require_sound(const struct chunk_table *table,
                          const struct chunk_table *before)
{
    AUTO_FREE void *bytes = malloc(chunk_table_encoded_max(CHUNK_SIZE));

    require(bytes != NULL);
    (void)chunk_table_encode(table, bytes);
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        const struct chunk_block *now = &table->blocks[i];
        const struct chunk_block *was = &before->blocks[i];

        unsigned stored = chunk_block_stored_pages(now);
        unsigned added = now->local_pages & ~(unsigned)was->local_pages;

        require((stored & ~chunk_block_stored_pages(was)) == 0);
        require((added & ~(unsigned)now->zero_pages) == 0);
        require(added == 0 || was->base == BASE_HOLE || was->base == BASE_ZERO);
    }
}

/* No page is lost but of those that the object says are, if one is given. */
static void require_lost_of(const struct chunk_table *table,
                            const struct chunk_table *before,
                            const struct chunk_table *object)
{
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        unsigned lost = before->blocks[i].damaged_pages;

        if (object != NULL && before->blocks[i].base == BASE_UNKNOWN)
            lost |= object->blocks[i].damaged_pages &
                    ~(unsigned)before->blocks[i].local_pages;
        require(table->blocks[i].damaged_pages == lost);
    }
}

static void rebase(const struct chunk_table *before,
                   const struct chunk_table *uploaded,
                   const struct chunk_table *object)
{
    struct chunk_table *table = chunk_table_copy(before);

    require(table != NULL);
    if (rebase_uploaded(table, uploaded, object) == 0) {
        require_sound(table, before);
        require_lost_of(table, before, NULL);
        require(uploaded != NULL || rebase_is_clean(table));
        for (uint32_t i = 0; i < table->blocks_count; i++)
            require(table->blocks[i].base != BASE_UNKNOWN);
        (void)rebase_drop_copies(table);
        require_sound(table, before);
        require_lost_of(table, before, NULL);
        require(uploaded != NULL || chunk_table_live_bytes(table) == 0);
    }
    chunk_table_release(table);
}

static void learn(const struct chunk_table *before,
                  const struct chunk_table *object)
{
    struct chunk_table *table = chunk_table_copy(before);
    bool has_learnt;

    require(table != NULL);
    has_learnt = rebase_learn(table, object);
    require_sound(table, before);
    require_lost_of(table, before, has_learnt ? object : NULL);
    chunk_table_release(table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct chunk_table *object = take_table(&input, true);
    struct chunk_table *uploaded = take_table(&input, false);
    struct chunk_table *table = take_table(&input, false);

    rebase(table, uploaded, object);
    rebase(table, NULL, object);
    rebase(uploaded, uploaded, object);
    learn(table, object);
    chunk_table_release(object);
    chunk_table_release(uploaded);
    chunk_table_release(table);
    return 0;
}
