/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/rebase.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/block_codec.h"
#include "cache/geometry.h"
#include "unit/test.h"

enum { SIZE = 256 << 10, TABLE_SIZE = 4096 };

/* In which object a block may be. */
enum { OLD = 1, NEW = 2, OTHER = 3 };

static struct chunk_table *uploaded, *table, *object;
static unsigned char bytes[64 << 10];

static void add_object(struct chunk_table *to, uint64_t counter)
{
    to->objects[to->objects_count++] =
        (struct chunk_object){.id = {1, 2, counter}, .table_size = TABLE_SIZE};
}

/* A block's base is in an object, at a place that seed tells. */
static void set_base(struct chunk_table *to, uint32_t block, unsigned counter,
                     uint32_t seed)
{
    struct chunk_block *b = &to->blocks[block];

    for (unsigned i = 0; i < to->objects_count; i++) {
        if (to->objects[i].id.counter == counter)
            b->object = (uint16_t)i;
    }
    b->base = BASE_OBJECT;
    b->object_codec = BLOCK_SNAPPY;
    b->object_size = 100;
    b->object_place = TABLE_SIZE + seed * 1000;
    b->object_checksum = seed * 77;
}

static void set_local(struct chunk_table *to, uint32_t block, unsigned pages,
                      uint32_t seed)
{
    struct chunk_block *b = &to->blocks[block];

    b->local_pages = (uint8_t)pages;
    b->codec = BLOCK_SNAPPY;
    b->stored_size = 50;
    b->place = to->data_end - 4096 + seed;
    b->checksum = seed * 99;
}

/* Three tables: what was uploaded, of the objects before; its object. */
static bool begin(void)
{
    uploaded = chunk_table_new(5, SIZE);
    object = chunk_table_new(5, SIZE);
    table = NULL;
    if (!CHECK(uploaded != NULL && object != NULL))
        return false;
    uploaded->generation = 10;
    uploaded->data_end += 4096;
    add_object(uploaded, OTHER);
    add_object(uploaded, OLD);
    add_object(object, OLD);
    add_object(object, NEW);
    return true;
}

/* The table that rules starts as what was uploaded. */
static bool begin_table(void)
{
    table = chunk_table_copy(uploaded);
    if (!CHECK(table != NULL))
        return false;
    table->generation++;
    return true;
}

static void end(void)
{
    chunk_table_release(uploaded);
    chunk_table_release(table);
    chunk_table_release(object);
}

/* Whether a block is what the object's table says, with these pages here. */
static bool is_rebased(uint32_t block, unsigned local)
{
    const struct chunk_block *b = &table->blocks[block];
    const struct chunk_block *o = &object->blocks[block];

    return b->base == o->base && b->local_pages == local &&
           (b->base != BASE_OBJECT ||
            (b->object_place == o->object_place &&
             b->object_checksum == o->object_checksum &&
             table->objects[b->object].id.counter ==
                 object->objects[o->object].id.counter));
}

/* Whether a part of the block is here, and the rest known as zeros. */
static bool is_rebased_over_zeros(uint32_t block, unsigned stored)
{
    return is_rebased(block, ALL_PAGES) &&
           chunk_block_stored_pages(&table->blocks[block]) == stored;
}

/* Whether the table can be written to a slot, as a revision of the chunk. */
static bool is_sound(void)
{
    struct chunk_table *back = NULL;
    int error =
        chunk_table_decode(bytes, chunk_table_encode(table, bytes), &back);

    chunk_table_release(back);
    return error == 0;
}

TEST("what is unchanged is in the object; a copy stays, a part over zeros too")
{
    NEED(begin());
    set_local(uploaded, 0, ALL_PAGES, 1); /* whole, here */
    set_local(uploaded, 1, 5, 2);         /* a part, over a hole */
    set_base(uploaded, 2, OLD, 3);
    set_local(uploaded, 2, 6, 4); /* a part, over an object */
    set_base(uploaded, 3, OLD, 5);
    set_local(uploaded, 3, ALL_PAGES, 6); /* a copy */
    set_base(uploaded, 4, OLD, 7);        /* there only */
    uploaded->blocks[5].base = BASE_ZERO;
    uploaded->blocks[6].base = BASE_UNKNOWN;
    uploaded->blocks[7].base = BASE_UNKNOWN;
    set_local(uploaded, 7, 3, 8);
    set_local(uploaded, 8, 1, 9);
    set_local(uploaded, 9, 8, 10);
    uploaded->blocks[9].base = BASE_ZERO;
    set_local(uploaded, 10, 2, 11);
    uploaded->blocks[10].damaged_pages = 4;
    for (uint32_t i = 0; i < 3; i++)
        set_base(object, i, NEW, 10 + i);
    set_base(object, 3, OLD, 5);
    set_base(object, 4, OLD, 7);
    object->blocks[5].base = BASE_ZERO;
    set_base(object, 6, NEW, 16);
    set_base(object, 7, NEW, 17);
    object->blocks[8].base = BASE_HOLE; /* what was written was zeros */
    set_base(object, 9, NEW, 18);
    set_base(object, 10, NEW, 19);
    object->blocks[10].damaged_pages = 4;
    NEED(begin_table());
    /* Of one content, or compared block by block: it is the same. */
    for (unsigned i = 0; i < 2; i++) {
        NEED(rebase_uploaded(table, i == 0 ? NULL : uploaded, object) == 0);
        CHECK(is_rebased_over_zeros(0, ALL_PAGES));
        CHECK(is_rebased_over_zeros(1, 5) && is_rebased_over_zeros(9, 8));
        CHECK(is_rebased(2, 0) && is_rebased_over_zeros(3, ALL_PAGES));
        for (uint32_t block = 4; block < 16; block++)
            CHECK(block == 9 || is_rebased(block, 0));
        CHECK(table->objects_count == 2);
        CHECK(table->objects[1].id.counter == NEW);
        CHECK(rebase_is_clean(table) && is_sound());
        /* And so it stays, when another upload rests on that object. */
        NEED(rebase_uploaded(table, NULL, object) == 0);
        CHECK(is_rebased_over_zeros(1, 5) && is_rebased_over_zeros(9, 8));
        CHECK(rebase_drop_copies(table) == 4 && is_rebased(1, 0) && is_sound());
        CHECK(table->blocks[1].zero_pages == 0);
        chunk_table_release(table);
        NEED(begin_table());
    }
    end();
}

TEST("what is newer and here stays as it is")
{
    NEED(begin());
    set_local(uploaded, 0, ALL_PAGES, 1);
    set_base(uploaded, 1, OLD, 2);
    set_local(uploaded, 2, 3, 3);
    NEED(begin_table());
    set_local(table, 0, ALL_PAGES, 20); /* other bytes */
    table->blocks[1] = (struct chunk_block){.base = BASE_HOLE};
    set_local(table, 1, ALL_PAGES, 21);
    set_local(table, 2, 7, 22);
    table->blocks[3].base = BASE_ZERO;
    set_base(object, 0, NEW, 30);
    set_base(object, 1, OLD, 2);
    set_base(object, 2, NEW, 31);
    NEED(rebase_uploaded(table, uploaded, object) == 0);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK(table->blocks[i].base == BASE_HOLE);
        CHECK(table->blocks[i].place == table->data_end - 4096 + 20 + i);
    }
    CHECK(table->blocks[2].local_pages == 7);
    CHECK(table->blocks[3].base == BASE_ZERO);
    CHECK(!rebase_is_clean(table) && is_sound());
    /* No block is in the old object any more; the newest has the table. */
    CHECK(table->objects_count == 1);
    CHECK(table->objects[0].id.counter == NEW);
    end();
}

TEST("newer pages lie over the object as they did over the one before")
{
    NEED(begin());
    set_base(uploaded, 0, OLD, 1); /* remote then, a part now */
    set_base(uploaded, 1, OLD, 2);
    set_local(uploaded, 1, 2, 3); /* a part then, a larger one now */
    uploaded->blocks[2].base = BASE_UNKNOWN;
    set_local(uploaded, 2, 1, 4);
    set_base(uploaded, 3, OLD, 5); /* a copy then, bad since */
    set_local(uploaded, 3, ALL_PAGES, 6);
    set_base(uploaded, 4, OLD, 7); /* here and there since */
    NEED(begin_table());
    set_local(table, 0, 4, 20);
    set_local(table, 1, 10, 21);
    set_local(table, 2, 9, 22);
    set_local(table, 3, 8, 23);
    set_local(table, 4, ALL_PAGES, 24);
    set_base(object, 0, OLD, 1);
    set_base(object, 1, NEW, 31);
    set_base(object, 2, NEW, 32);
    set_base(object, 3, OLD, 5);
    set_base(object, 4, NEW, 33);
    NEED(rebase_uploaded(table, uploaded, object) == 0);
    CHECK(is_rebased(0, 4) && is_rebased(1, 10) && is_rebased(2, 9));
    CHECK(is_rebased(3, 8) && is_rebased(4, ALL_PAGES));
    CHECK(table->blocks[1].place == table->data_end - 4096 + 21);
    CHECK(is_sound());
    end();
}

TEST("what is based on another object than was uploaded is left alone")
{
    NEED(begin());
    set_base(uploaded, 0, OLD, 1);
    set_base(object, 0, OLD, 1);
    NEED(begin_table());
    set_base(table, 0, OTHER, 1); /* a later upload came first */
    CHECK(rebase_uploaded(table, uploaded, object) == -ESTALE);
    chunk_table_release(table);
    NEED(begin_table());
    set_base(table, 0, OLD, 9); /* elsewhere in the same one */
    CHECK(rebase_uploaded(table, uploaded, object) == -ESTALE);
    chunk_table_release(table);
    uploaded->blocks[0].base = BASE_UNKNOWN;
    NEED(begin_table());
    table->objects[1].id.counter = NEW; /* what is unknown is another one */
    CHECK(rebase_uploaded(table, uploaded, object) == -ESTALE);
    chunk_table_release(table);
    NEED(begin_table());
    CHECK(rebase_uploaded(table, uploaded, object) == 0);
    chunk_table_release(table);
    /* Fewer pages here than then: folds do not do that. */
    set_local(uploaded, 0, 3, 1);
    NEED(begin_table());
    set_local(table, 0, 5, 2);
    CHECK(rebase_uploaded(table, uploaded, object) == -ESTALE);
    table->blocks[0].damaged_pages = 2; /* but for what was lost */
    CHECK(rebase_uploaded(table, uploaded, object) == 0);
    end();
}

TEST("what was lost must be lost in the object too, or zeros would be made up")
{
    NEED(begin());
    set_local(uploaded, 0, 3, 1);
    uploaded->blocks[0].damaged_pages = 4;
    set_base(object, 0, NEW, 2);
    NEED(begin_table());
    CHECK(rebase_uploaded(table, NULL, object) == -ESTALE);
    CHECK(rebase_uploaded(table, uploaded, object) == -ESTALE);
    set_local(table, 0, 7, 3); /* overwritten since: all the same */
    table->blocks[0].damaged_pages = 0;
    CHECK(rebase_uploaded(table, uploaded, object) == -ESTALE);
    chunk_table_release(table);
    object->blocks[0].damaged_pages = 4;
    NEED(begin_table());
    NEED(rebase_uploaded(table, uploaded, object) == 0);
    CHECK(is_rebased(0, 0) && table->blocks[0].damaged_pages == 4);
    CHECK(rebase_is_clean(table) && is_sound());
    end();
}

TEST("what the object lost, and is here, stays here")
{
    NEED(begin());
    set_local(uploaded, 0, ALL_PAGES, 1);
    object->blocks[0].damaged_pages = ALL_PAGES;
    NEED(begin_table());
    CHECK(rebase_uploaded(table, NULL, object) == -ESTALE);
    CHECK(rebase_uploaded(table, uploaded, object) == -ESTALE);
    /* Unless it is newer, or covered by what is. */
    set_local(table, 0, ALL_PAGES, 2);
    CHECK(rebase_uploaded(table, uploaded, object) == 0);
    CHECK(table->blocks[0].local_pages == ALL_PAGES);
    chunk_table_release(table);
    uploaded->blocks[0] = (struct chunk_block){.base = BASE_HOLE};
    set_base(uploaded, 0, OLD, 1);
    set_local(uploaded, 0, 2, 1);
    set_base(object, 0, NEW, 4);
    object->blocks[0].damaged_pages = 2;
    NEED(begin_table());
    set_local(table, 0, 6, 2);
    CHECK(rebase_uploaded(table, uploaded, object) == 0);
    CHECK(is_rebased(0, 6));
    chunk_table_release(table);
    object->blocks[0].damaged_pages = 1;
    NEED(begin_table());
    set_local(table, 0, 6, 2);
    CHECK(rebase_uploaded(table, uploaded, object) == -ESTALE);
    end();
}

TEST("a table is clean when all of it is in objects, or zeros")
{
    NEED(begin());
    NEED(begin_table());
    CHECK(rebase_is_clean(table));
    table->blocks[0].base = BASE_ZERO;
    set_base(table, 1, OLD, 1);
    set_base(table, 2, OLD, 2);
    set_local(table, 2, ALL_PAGES, 3);
    CHECK(rebase_is_clean(table));
    set_local(table, 2, 7, 3);
    CHECK(!rebase_is_clean(table));
    set_local(table, 2, 0, 0);
    set_local(table, 3, ALL_PAGES, 4);
    CHECK(!rebase_is_clean(table));
    table->blocks[3].local_pages = 0;
    CHECK(rebase_is_clean(table));
    table->blocks[4].base = BASE_UNKNOWN;
    CHECK(!rebase_is_clean(table));
    end();
}

TEST("only copies are taken off")
{
    NEED(begin());
    NEED(begin_table());
    set_base(table, 0, OLD, 1);
    set_local(table, 0, ALL_PAGES, 1);
    set_base(table, 1, OLD, 1);
    set_local(table, 1, 7, 2);
    set_local(table, 2, ALL_PAGES, 3);
    set_base(table, 3, OLD, 1);
    set_base(table, 4, OTHER, 1);
    set_local(table, 4, ALL_PAGES, 4);
    CHECK(rebase_drop_copies(table) == 2);
    CHECK(table->blocks[0].local_pages == 0 &&
          table->blocks[0].base == BASE_OBJECT);
    CHECK(table->blocks[1].local_pages == 7);
    CHECK(table->blocks[2].local_pages == ALL_PAGES);
    CHECK(table->blocks[4].local_pages == 0);
    CHECK(rebase_drop_copies(table) == 0);
    CHECK(is_sound());
    end();
}

TEST("what is unknown is what the newest table says, and nothing else")
{
    NEED(begin());
    NEED(begin_table());
    table->blocks[0].base = BASE_UNKNOWN;
    table->blocks[1].base = BASE_UNKNOWN;
    set_local(table, 1, 3, 1);
    table->blocks[2].base = BASE_ZERO;
    table->blocks[3].base = BASE_UNKNOWN;
    set_base(object, 0, OLD, 1);
    set_base(object, 1, NEW, 2);
    set_base(object, 2, NEW, 3);
    NEED(rebase_learn(table, object));
    CHECK(is_rebased(0, 0) && is_rebased(1, 3) && is_rebased(3, 0));
    CHECK(table->blocks[2].base == BASE_ZERO);
    CHECK(table->objects_count == 2 && is_sound());
    /* What is known already may be in other objects. */
    CHECK(!rebase_learn(table, object));
    end();
}

TEST("a block is kept if it is the base, whole, of one that is not here")
{
    struct chunk_block as_read;
    struct object_id id;

    NEED(begin());
    NEED(begin_table());
    set_base(table, 3, OLD, 1);
    as_read = table->blocks[3];
    id = table->objects[as_read.object].id;
    NEED(rebase_keep(table, 3, &as_read, &id, table->data_end - 4096));
    CHECK(table->blocks[3].local_pages == ALL_PAGES);
    CHECK(table->blocks[3].stored_size == as_read.object_size &&
          table->blocks[3].checksum == as_read.object_checksum &&
          table->blocks[3].codec == as_read.object_codec &&
          table->blocks[3].place == table->data_end - 4096);
    CHECK(rebase_is_clean(table) && is_sound());
    /* It is here now. */
    CHECK(!rebase_keep(table, 3, &as_read, &id, table->data_end));
    for (unsigned i = 0; i < 9; i++) {
        struct chunk_block other = as_read;
        struct object_id of = id;
        struct chunk_block *b = &table->blocks[4];

        *b = as_read;
        b->local_pages = i == 0 ? 1 : 0;
        b->damaged_pages = i == 1 ? 8 : 0;
        b->base = i == 2 ? BASE_UNKNOWN : i == 3 ? BASE_HOLE : BASE_OBJECT;
        if (i == 4)
            other.object_place++;
        else if (i == 5)
            other.object_size++;
        else if (i == 6)
            other.object_checksum++;
        else if (i == 7)
            other.object_codec++;
        else if (i == 8)
            of.counter++;
        CHECK(!rebase_keep(table, 4, &other, &of, table->data_end - 4096));
    }
    CHECK(rebase_keep(table, 4, &as_read, &id, table->data_end - 4096));
    CHECK(!rebase_keep(table, 16, &as_read, &id, table->data_end - 4096));
    end();
}

TEST("of a block's two copies either can be dropped, the other one stays")
{
    const struct object_id *id;

    if (!begin())
        return;
    for (uint32_t block = 0; block < 2; block++) {
        set_base(uploaded, block, OLD, 1 + block);
        set_local(uploaded, block, ALL_PAGES, 1 + block);
    }
    if (begin_table()) {
        struct chunk_block first = table->blocks[0], second = table->blocks[1];

        id = &table->objects[first.object].id;
        CHECK(rebase_drop_copy(table, 0, &first));
        CHECK(table->blocks[0].local_pages == 0);
        CHECK(table->blocks[0].base == BASE_OBJECT &&
              table->blocks[0].object_place == first.object_place);
        CHECK(rebase_drop_base(table, 1, &second, id));
        CHECK(table->blocks[1].base == BASE_HOLE);
        CHECK(table->blocks[1].local_pages == ALL_PAGES &&
              table->blocks[1].place == second.place &&
              table->blocks[1].checksum == second.checksum);
        /* Now there is only one of each. */
        CHECK(!rebase_drop_copy(table, 1, &second));
        CHECK(!rebase_drop_base(table, 0, &first, id));
    }
    end();
}

TEST("zeros that take no bytes are of the base when there is no other copy")
{
    if (!begin())
        return;
    set_base(uploaded, 0, OLD, 1);
    set_local(uploaded, 0, ALL_PAGES, 1);
    uploaded->blocks[0].zero_pages = 6;
    if (begin_table()) {
        struct chunk_block *b = &table->blocks[0];
        struct object_id id = table->objects[b->object].id;

        CHECK(is_sound() && rebase_is_clean(table));
        CHECK(rebase_drop_base(table, 0, &uploaded->blocks[0], &id));
        CHECK(b->base == BASE_ZERO && b->zero_pages == 0);
        CHECK(b->local_pages == 9 && b->place == uploaded->blocks[0].place);
        CHECK(is_sound() && !rebase_is_clean(table));
    }
    end();
}

TEST("a copy that is another one than that which was bad stays")
{
    if (!begin())
        return;
    set_base(uploaded, 0, OLD, 1);
    set_local(uploaded, 0, ALL_PAGES, 1);
    if (begin_table()) {
        struct chunk_block bad = table->blocks[0];
        struct object_id id = table->objects[bad.object].id;

        bad.place += 4096;
        CHECK(!rebase_drop_copy(table, 0, &bad));
        bad = table->blocks[0];
        bad.object_place++;
        CHECK(!rebase_drop_base(table, 0, &bad, &id));
        bad = table->blocks[0];
        id.counter++;
        CHECK(!rebase_drop_base(table, 0, &bad, &id));
        CHECK(!rebase_drop_copy(table, table->blocks_count, &bad));
        CHECK(memcmp(&bad, &table->blocks[0], sizeof(bad)) == 0);
    }
    end();
}

TEST("a block of which only a part is here can do without no copy")
{
    if (!begin())
        return;
    set_base(uploaded, 0, OLD, 1);
    set_local(uploaded, 0, 3, 1);
    set_local(uploaded, 1, ALL_PAGES, 2);
    if (begin_table()) {
        struct object_id id = table->objects[table->blocks[0].object].id;

        CHECK(!rebase_drop_copy(table, 0, &uploaded->blocks[0]));
        CHECK(!rebase_drop_base(table, 0, &uploaded->blocks[0], &id));
        CHECK(!rebase_drop_copy(table, 1, &uploaded->blocks[1]));
        CHECK(table->blocks[0].local_pages == 3 &&
              table->blocks[1].local_pages == ALL_PAGES);
    }
    end();
}
