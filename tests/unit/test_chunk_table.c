/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/chunk_table.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "cache/block_codec.h"
#include "cache/chunk_file.h"
#include "cache/geometry.h"
#include "unit/test.h"

enum {
    SMALL = 256 << 10,
    USUAL = 8 << 20,
    LARGE = 32 << 20,
    ROOM = 64 << 10, /* for any table */
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_SIZE = 16,
    AT_CHECKSUM = 20,
    AT_CHUNK = 24,
    AT_CHUNK_SIZE = 40,
    AT_DATA_END = 44,
    AT_OBJECTS_COUNT = 48,
    AT_REVISION = 52,
    AT_RESERVED = 56,
    AT_OBJECTS = 64,
};

static unsigned char bytes[ROOM];
static unsigned char again[ROOM];

/* Set what must be right so that decode looks at everything else. */
static void seal(unsigned char *data)
{
    uint32_t size = get_le32(data + AT_SIZE);
    uint32_t checksum = crc32c(0, data, AT_CHECKSUM);

    if (size < AT_OBJECTS || size > ROOM)
        return;
    put_le32(data + AT_CHECKSUM,
             crc32c(checksum, data + AT_CHECKSUM + 4, size - AT_CHECKSUM - 4));
}

static void set_local(struct chunk_table *table, uint32_t block, unsigned pages)
{
    struct chunk_block *b = &table->blocks[block];
    unsigned count = (unsigned)__builtin_popcount(pages);

    b->local_pages = (uint8_t)pages;
    b->codec = BLOCK_SNAPPY;
    b->stored_size = (uint16_t)(count * CACHE_PAGE / 2 + block % 100);
    b->place = table->data_end;
    b->checksum = 0x1234567 + block;
    table->data_end += b->stored_size;
}

static void set_in_object(struct chunk_table *table, uint32_t block,
                          unsigned object)
{
    struct chunk_block *b = &table->blocks[block];

    b->base = BASE_OBJECT;
    b->object = (uint16_t)object;
    b->object_codec = BLOCK_RAW;
    b->object_size = CACHE_BLOCK;
    b->object_place = 65536 + block * CACHE_BLOCK;
    b->object_checksum = 0x7654321 + block;
}

static void add_object(struct chunk_table *table, uint64_t counter)
{
    table->objects[table->objects_count++] =
        (struct chunk_object){.id = {7, UINT64_MAX - 1, counter},
                              .table_size = 8192,
                              .table_checksum = 0xabcdef};
}

/* One block of each kind, in a file. */
static struct chunk_table *sample(void)
{
    struct chunk_table *table = chunk_table_new(0x123456789, USUAL);

    table->generation = 0x1122334455667788;
    table->revision = 0x99aabbcc;
    add_object(table, 1);
    add_object(table, 2);
    table->blocks[1].base = BASE_ZERO;
    set_local(table, 2, ALL_PAGES);
    set_local(table, 3, 5);
    set_in_object(table, 4, 0);
    set_in_object(table, 5, 1);
    set_local(table, 5, ALL_PAGES);
    table->blocks[6].base = BASE_UNKNOWN;
    table->blocks[7].base = BASE_UNKNOWN;
    set_local(table, 7, 8);
    table->blocks[8].damaged_pages = 3;
    set_in_object(table, 9, 1);
    set_local(table, 9, 1);
    table->blocks[9].damaged_pages = 2;
    set_in_object(table, 10, 1);
    set_local(table, 10, 9);
    table->blocks[10].local_pages = ALL_PAGES;
    table->blocks[10].zero_pages = 6;
    table->blocks[511].base = BASE_ZERO;
    return table;
}

/* The table of an object that has block 3, and names another for block 4. */
static struct chunk_table *sample_of_object(void)
{
    struct chunk_table *table = chunk_table_new(5, USUAL);

    add_object(table, 1);
    add_object(table, 2);
    table->objects[1].table_size = 0;
    table->objects[1].table_checksum = 0;
    set_in_object(table, 3, 1);
    table->blocks[3].object_place = 4096;
    set_in_object(table, 4, 0);
    table->blocks[5].damaged_pages = ALL_PAGES;
    table->data_end = 0;
    return table;
}

static int decode_result(const void *data, size_t size)
{
    struct chunk_table *table = NULL;
    int error = chunk_table_decode(data, size, &table);

    CHECK((error == 0) == (table != NULL));
    chunk_table_release(table);
    return error;
}

static bool is_same(const struct chunk_table *a, const struct chunk_table *b)
{
    return a->chunk == b->chunk && a->generation == b->generation &&
           a->revision == b->revision && a->chunk_size == b->chunk_size &&
           a->blocks_count == b->blocks_count && a->data_end == b->data_end &&
           a->objects_count == b->objects_count &&
           memcmp(a->objects, b->objects, sizeof(a->objects)) == 0 &&
           memcmp(a->blocks, b->blocks,
                  a->blocks_count * sizeof(a->blocks[0])) == 0;
}

TEST("a new table is a hole with nothing in its file")
{
    struct chunk_table *table = chunk_table_new(77, USUAL);

    NEED(table != NULL);
    CHECK(table->chunk == 77 && table->blocks_count == 512);
    CHECK(table->data_end == chunk_file_data_start(USUAL));
    CHECK(chunk_table_is_hole(table) && chunk_table_is_zero(table));
    CHECK(chunk_table_live_bytes(table) == 0);
    chunk_table_release(table);
}

TEST("zeros that are no hole, local, remote and damaged pages are told apart")
{
    struct chunk_table *table = chunk_table_new(0, SMALL);

    NEED(table != NULL);
    table->blocks[15].base = BASE_ZERO;
    CHECK(!chunk_table_is_hole(table) && chunk_table_is_zero(table));
    table->blocks[15].damaged_pages = 1;
    CHECK(!chunk_table_is_hole(table) && !chunk_table_is_zero(table));
    table->blocks[15].damaged_pages = 0;
    table->blocks[15].base = BASE_HOLE;
    set_local(table, 15, 1);
    CHECK(!chunk_table_is_hole(table) && !chunk_table_is_zero(table));
    CHECK(chunk_table_live_bytes(table) == table->blocks[15].stored_size);
    table->blocks[15].local_pages = 0;
    CHECK(chunk_table_live_bytes(table) == 0);
    table->blocks[15].base = BASE_OBJECT;
    CHECK(!chunk_table_is_hole(table) && !chunk_table_is_zero(table));
    table->blocks[15].base = BASE_UNKNOWN;
    CHECK(!chunk_table_is_hole(table) && !chunk_table_is_zero(table));
    chunk_table_release(table);
}

TEST("a copy has one reference and all the rest")
{
    struct chunk_table *table = sample(), *copy;

    table->slot = 1;
    chunk_table_hold(table);
    copy = chunk_table_copy(table);
    NEED(copy != NULL);
    CHECK(is_same(table, copy) && copy->slot == 1);
    CHECK(atomic_load(&copy->references) == 1);
    CHECK(atomic_load(&table->references) == 2);
    chunk_table_release(copy);
    chunk_table_release(table);
    CHECK(table->chunk == 0x123456789);
    chunk_table_release(table);
    chunk_table_release(NULL);
}

TEST("a table with blocks of every kind comes back as it was")
{
    struct chunk_table *table = sample(), *back;
    size_t size = chunk_table_encode(table, bytes);

    CHECK(size == 4096);
    NEED(chunk_table_decode(bytes, size, &back) == 0);
    CHECK(is_same(table, back));
    CHECK(atomic_load(&back->references) == 1 && back->slot == 0);
    CHECK(chunk_table_encode(back, again) == size);
    CHECK(memcmp(bytes, again, size) == 0);
    chunk_table_release(back);
    chunk_table_release(table);
}

TEST("what is not of a block's kind is not encoded")
{
    struct chunk_table *table = chunk_table_new(1, SMALL), *back;

    set_local(table, 0, ALL_PAGES);
    set_in_object(table, 0, 9);
    table->blocks[0].local_pages = 0;
    table->blocks[0].base = BASE_ZERO;
    NEED(chunk_table_decode(bytes, chunk_table_encode(table, bytes), &back) ==
         0);
    CHECK(back->blocks[0].base == BASE_ZERO);
    CHECK(bytes_are_zero((unsigned char *)&back->blocks[0] + 1,
                         sizeof(back->blocks[0]) - 1));
    chunk_table_release(back);
    chunk_table_release(table);
}

TEST("an object's own table comes back as it was")
{
    struct chunk_table *table = sample_of_object(), *back;
    size_t size = chunk_table_encode(table, bytes);

    NEED(chunk_table_decode(bytes, size, &back) == 0);
    CHECK(is_same(table, back));
    chunk_table_release(back);
    chunk_table_release(table);
}

TEST("the fullest table of each chunk size has room, and the size it must")
{
    for (uint32_t chunk_size = SMALL; chunk_size <= LARGE; chunk_size *= 2) {
        struct chunk_table *table = chunk_table_new(3, chunk_size), *back;
        size_t size;

        while (table->objects_count < CHUNK_OBJECTS_MAX)
            add_object(table, table->objects_count);
        for (uint32_t i = 0; i < table->blocks_count; i++) {
            set_in_object(table, i, i % CHUNK_OBJECTS_MAX);
            set_local(table, i, ALL_PAGES);
        }
        for (unsigned i = 0; i < CHUNK_OBJECTS_MAX; i++)
            table->objects[i].table_size =
                (uint32_t)chunk_table_encoded_max(chunk_size);
        size = chunk_table_encode(table, bytes);
        CHECK(size == chunk_table_encoded_max(chunk_size) && size <= ROOM);
        CHECK(chunk_file_data_start(chunk_size) == CHUNK_SLOTS * size);
        NEED(chunk_table_decode(bytes, size, &back) == 0);
        CHECK(is_same(table, back));
        chunk_table_release(back);
        chunk_table_release(table);
    }
}

TEST("a chunk with few blocks has a table of one page")
{
    struct chunk_table *table = chunk_table_new(3, LARGE);

    for (uint32_t i = 0; i < 100; i++)
        set_local(table, i * 20, ALL_PAGES);
    CHECK(chunk_table_encode(table, bytes) == 4096);
    chunk_table_release(table);
}

TEST("a table is found in a larger room, and not in a smaller one")
{
    struct chunk_table *table = sample(), *back;
    size_t size;

    for (uint32_t i = 20; i < 400; i++)
        set_local(table, i, ALL_PAGES);
    size = chunk_table_encode(table, bytes);
    CHECK(size == 8192);
    memset(bytes + size, 0xee, ROOM - size);
    NEED(chunk_table_decode(bytes, ROOM, &back) == 0);
    CHECK(is_same(table, back));
    chunk_table_release(back);
    for (size_t cut = 0; cut < size; cut += 511)
        CHECK(decode_result(bytes, cut) == -EBADMSG);
    CHECK(decode_result(bytes, size - 1) == -EBADMSG);
    CHECK(decode_result(NULL, 0) == -EBADMSG);
    chunk_table_release(table);
}

TEST("any flipped byte of a table is found")
{
    struct chunk_table *table = sample();
    size_t size = chunk_table_encode(table, bytes);

    for (size_t i = 0; i < size; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes[i] ^= (unsigned char)(1U << bit);
            if (!CHECK(decode_result(bytes, size) == -EBADMSG))
                return;
            bytes[i] ^= (unsigned char)(1U << bit);
        }
    }
    CHECK(decode_result(bytes, size) == 0);
    chunk_table_release(table);
}

TEST("any byte that lies beneath a right checksum is refused or in its range")
{
    struct chunk_table *table = sample(), *back;
    size_t size = chunk_table_encode(table, bytes);

    for (size_t i = 0; i < size; i++) {
        unsigned char was = bytes[i];

        for (unsigned value = 0; value < 256; value++) {
            bytes[i] = (unsigned char)value;
            if (get_le32(bytes + AT_SIZE) != size)
                continue;
            seal(bytes);
            if (chunk_table_decode(bytes, size, &back) != 0)
                continue;
            /* encode ends the process if anything is out of its range. */
            CHECK(chunk_table_encode(back, again) == size &&
                  memcmp(bytes, again, size) == 0);
            chunk_table_release(back);
        }
        bytes[i] = was;
    }
    chunk_table_release(table);
}

/* What decode says when these bytes of a sample are changed, and sealed. */
static int decode_changed(size_t at, const void *change, size_t len)
{
    struct chunk_table *table = sample();
    size_t size = chunk_table_encode(table, bytes);

    chunk_table_release(table);
    memcpy(bytes + at, change, len);
    seal(bytes);
    return decode_result(bytes, size);
}

static int decode_with32(size_t at, uint32_t value)
{
    unsigned char change[4];

    put_le32(change, value);
    return decode_changed(at, change, sizeof(change));
}

TEST("a version or flag of a later program is told from damage")
{
    CHECK(decode_with32(AT_VERSION, 2) == -EPROTONOSUPPORT);
    CHECK(decode_with32(AT_VERSION, 0) == -EPROTONOSUPPORT);
    CHECK(decode_with32(AT_FLAGS, 1) == -EPROTONOSUPPORT);
    CHECK(decode_with32(AT_FLAGS, 0x80000000) == -EPROTONOSUPPORT);
    CHECK(decode_changed(0, "S", 1) == -EBADMSG);
}

TEST("numbers of the header are checked")
{
    CHECK(decode_with32(AT_CHUNK_SIZE, USUAL) == 0);
    CHECK(decode_with32(AT_SIZE, 0) == -EBADMSG);
    CHECK(decode_with32(AT_SIZE, 4095) == -EBADMSG);
    CHECK(decode_with32(AT_SIZE, 8192) == -EBADMSG);
    CHECK(decode_with32(AT_SIZE, UINT32_MAX) == -EBADMSG);
    CHECK(decode_with32(AT_CHUNK_SIZE, 0) == -EBADMSG);
    CHECK(decode_with32(AT_CHUNK_SIZE, SMALL / 2) == -EBADMSG);
    CHECK(decode_with32(AT_CHUNK_SIZE, LARGE * 2) == -EBADMSG);
    CHECK(decode_with32(AT_CHUNK_SIZE, USUAL + CACHE_BLOCK) == -EBADMSG);
    CHECK(decode_with32(AT_CHUNK_SIZE, UINT32_MAX) == -EBADMSG);
    CHECK(decode_with32(AT_CHUNK + 4, UINT32_MAX) == -EBADMSG);
    CHECK(decode_with32(AT_DATA_END, 1) == -EBADMSG);
    CHECK(decode_with32(AT_DATA_END, chunk_file_data_start(USUAL) - 1) ==
          -EBADMSG);
    CHECK(decode_with32(AT_DATA_END, UINT32_MAX) == 0);
    CHECK(decode_with32(AT_OBJECTS_COUNT, CHUNK_OBJECTS_MAX + 1) == -EBADMSG);
    CHECK(decode_with32(AT_OBJECTS_COUNT, UINT32_MAX) == -EBADMSG);
    CHECK(decode_with32(AT_RESERVED, 1) == -EBADMSG);
    CHECK(decode_with32(AT_RESERVED + 4, 1U << 31) == -EBADMSG);
    CHECK(decode_with32(4092, 1U << 31) == -EBADMSG);
}

TEST("a table that ends within an entry is refused")
{
    static const unsigned char kinds[][14] = {
        {BASE_ZERO, 0, BASE_ZERO, 0, BASE_ZERO, 0, BASE_ZERO, 0, BASE_ZERO, 0,
         BASE_ZERO, 0, BASE_ZERO, 0},
        {BASE_ZERO, 1, BLOCK_SNAPPY},
        {BASE_OBJECT, 0},
        {BASE_OBJECT, 1, BLOCK_SNAPPY},
    };

    for (size_t kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++) {
        struct chunk_table *table = chunk_table_new(1, LARGE);
        size_t size = chunk_table_encode(table, bytes);

        chunk_table_release(table);
        memset(bytes + AT_OBJECTS, 0xff, 256); /* all blocks have entries */
        for (size_t at = AT_OBJECTS + 256; at < size; at++)
            bytes[at] = kinds[kind][(at - AT_OBJECTS - 256) % 14];
        seal(bytes);
        CHECK(decode_result(bytes, size) == -EBADMSG);
    }
}

TEST("a table that ends within its objects or its bitmap is refused")
{
    for (uint32_t chunk_size = SMALL; chunk_size <= LARGE; chunk_size *= 2) {
        struct chunk_table *table = chunk_table_new(1, chunk_size);
        size_t size = chunk_table_encode(table, bytes);

        chunk_table_release(table);
        put_le32(bytes + AT_OBJECTS_COUNT, CHUNK_OBJECTS_MAX);
        seal(bytes);
        CHECK(decode_result(bytes, size) == -EBADMSG);
    }
}

TEST("the size of an object's table is checked")
{
    const size_t at = AT_OBJECTS + 28;

    CHECK(decode_with32(at, 4096) == 0);
    CHECK(decode_with32(at, 0) == -EBADMSG);
    CHECK(decode_with32(at, 4097) == -EBADMSG);
    CHECK(decode_with32(at, UINT32_MAX - 4095) == -EBADMSG);
    CHECK(decode_with32(at, (uint32_t)chunk_table_encoded_max(USUAL)) == 0);
    CHECK(decode_with32(at, (uint32_t)chunk_table_encoded_max(USUAL) + 4096) ==
          -EBADMSG);
}

/*
 * Whether a sample with this change in memory can be encoded: encode must end
 * the process before a table that decode would refuse gets to a disk.
 */
static bool can_encode(void (*change)(struct chunk_table *table))
{
    struct chunk_table *table = sample();
    int status = 0;
    pid_t child;

    change(table);
    (void)fflush(stdout);
    child = fork();
    if (child == 0) {
        (void)close(STDERR_FILENO);
        (void)prctl(PR_SET_DUMPABLE, 0); /* no core file */
        (void)chunk_table_encode(table, bytes);
        _exit(0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    chunk_table_release(table);
    return status == 0;
}

#define CHANGE(name, statement)                                                \
    static void name(struct chunk_table *table)                                \
    {                                                                          \
        statement;                                                             \
    }

CHANGE(nothing, (void)table)
CHANGE(unknown_base, table->blocks[1].base = 4)
CHANGE(many_pages, table->blocks[3].local_pages = 0x15)
CHANGE(many_damaged, table->blocks[8].damaged_pages = 0x10)
CHANGE(many_zeros, table->blocks[10].zero_pages = 0x16)
CHANGE(zeros_over_a_hole, table->blocks[10].base = BASE_HOLE)
CHANGE(lost_zeros, table->blocks[10].damaged_pages = 2)
CHANGE(all_zeros, table->blocks[10].zero_pages = ALL_PAGES)
CHANGE(zeros_of_a_part, table->blocks[3].zero_pages = 1)
CHANGE(zeros_of_nothing, table->blocks[4].zero_pages = 1)
CHANGE(unknown_codec, table->blocks[2].codec = 2)
CHANGE(stored_nothing, table->blocks[2].stored_size = 0)
CHANGE(stored_too_much, table->blocks[2].stored_size = CACHE_BLOCK)
CHANGE(short_raw, table->blocks[2].codec = BLOCK_RAW)
CHANGE(in_the_slots, table->blocks[2].place = table->data_end / 4)
CHANGE(past_the_end, table->data_end--)
CHANGE(place_wraps, table->blocks[2].place = UINT32_MAX - 10)
CHANGE(no_such_object, table->blocks[4].object = 2)
CHANGE(object_codec, table->blocks[4].object_codec = 7)
CHANGE(object_size, table->blocks[4].object_size = 16383)
CHANGE(object_place_wraps, table->blocks[4].object_place = UINT32_MAX - 100)
CHANGE(in_the_objects_table, table->blocks[4].object_place = 8191)
CHANGE(unknown_of_nothing,
       memset(&table->blocks[4], 0, sizeof(table->blocks[4]) * 6);
       table->blocks[6].base = BASE_UNKNOWN; table->objects_count = 0)
CHANGE(too_many_objects, table->objects_count = CHUNK_OBJECTS_MAX + 1)
CHANGE(local_in_object, table->data_end = 0)

TEST("a table that could not be decoded again is never encoded")
{
    CHECK(can_encode(nothing));
    CHECK(!can_encode(unknown_base));
    CHECK(!can_encode(many_pages));
    CHECK(!can_encode(many_damaged));
    CHECK(!can_encode(many_zeros));
    CHECK(!can_encode(zeros_over_a_hole));
    CHECK(!can_encode(lost_zeros));
    CHECK(!can_encode(all_zeros));
    CHECK(!can_encode(zeros_of_a_part));
    CHECK(!can_encode(zeros_of_nothing));
    CHECK(!can_encode(unknown_codec));
    CHECK(!can_encode(stored_nothing));
    CHECK(!can_encode(stored_too_much));
    CHECK(!can_encode(short_raw));
    CHECK(!can_encode(in_the_slots));
    CHECK(!can_encode(past_the_end));
    CHECK(!can_encode(place_wraps));
    CHECK(!can_encode(no_such_object));
    CHECK(!can_encode(object_codec));
    CHECK(!can_encode(object_size));
    CHECK(!can_encode(object_place_wraps));
    CHECK(!can_encode(in_the_objects_table));
    CHECK(!can_encode(unknown_of_nothing));
    CHECK(!can_encode(too_many_objects));
    CHECK(!can_encode(local_in_object));
}

/* What decode says when these bytes of an object's table are changed. */
static int decode_of_object(size_t at, uint32_t value)
{
    struct chunk_table *table = sample_of_object();
    size_t size = chunk_table_encode(table, bytes);

    chunk_table_release(table);
    put_le32(bytes + at, value);
    seal(bytes);
    return decode_result(bytes, size);
}

TEST("an object's own table says nothing of files, nor of its own checksum")
{
    const size_t own = AT_OBJECTS + 36, bitmap = AT_OBJECTS + 2 * 36;
    const size_t first_entry = bitmap + 64, place = first_entry + 2 + 4;

    CHECK(decode_of_object(own + 28, 0) == 0);
    CHECK(decode_of_object(own + 28, 4096) == -EBADMSG);
    CHECK(decode_of_object(own + 32, 1) == -EBADMSG);
    CHECK(decode_of_object(AT_OBJECTS_COUNT, 0) == -EBADMSG);
    CHECK(decode_of_object(place, 4096) == 0);
    CHECK(decode_of_object(place, 4095) == -EBADMSG);
    CHECK(decode_of_object(AT_DATA_END, chunk_file_data_start(USUAL)) ==
          -EBADMSG);
    /* The third entry is two bytes: base and masks. */
    CHECK(decode_of_object(first_entry + 2 * 14, 0xf0 << 8) == 0);
    CHECK(decode_of_object(first_entry + 2 * 14, 0xf0 << 8 | BASE_UNKNOWN) ==
          -EBADMSG);
    CHECK(decode_of_object(first_entry + 2 * 14, BASE_HOLE) == -EBADMSG);
}

TEST("an object id is three numbers of 16 digits")
{
    struct object_id id = {1, 0xfedcba9876543210, UINT64_MAX};
    char text[OBJECT_ID_TEXT];

    object_id_format(&id, text);
    CHECK(strcmp(text, "0000000000000001-fedcba9876543210-ffffffffffffffff") ==
          0);
}

TEST("objects that no block is in are forgotten, but for the newest")
{
    struct chunk_table *table = chunk_table_new(3, SMALL);

    NEED(table != NULL);
    chunk_table_forget_objects(table);
    CHECK(table->objects_count == 0);
    for (uint64_t counter = 0; counter < 6; counter++)
        add_object(table, counter);
    set_in_object(table, 1, 4);
    set_in_object(table, 2, 1);
    set_in_object(table, 7, 4);
    table->blocks[8].object = 3; /* means nothing: it is a hole */
    chunk_table_forget_objects(table);
    CHECK(table->objects_count == 3);
    CHECK(table->objects[0].id.counter == 1);
    CHECK(table->objects[1].id.counter == 4);
    CHECK(table->objects[2].id.counter == 5);
    CHECK(table->blocks[1].object == 1 && table->blocks[2].object == 0 &&
          table->blocks[7].object == 1);
    table->blocks[1].base = table->blocks[7].base = BASE_HOLE;
    table->blocks[9].base = BASE_UNKNOWN; /* may be in any */
    chunk_table_forget_objects(table);
    CHECK(table->objects_count == 3);
    table->blocks[9].base = BASE_HOLE;
    table->blocks[2].base = BASE_HOLE;
    chunk_table_forget_objects(table);
    CHECK(table->objects_count == 1 && table->objects[0].id.counter == 5);
    chunk_table_release(table);
}

TEST("bytes say which table they are, be it whole or not")
{
    struct chunk_table *table = sample();
    size_t size = chunk_table_encode(table, bytes);
    uint64_t generation = table->generation;
    uint32_t revision = table->revision;

    CHECK(chunk_table_claims(bytes, size, generation, revision));
    CHECK(chunk_table_claims(bytes, AT_OBJECTS, generation, revision));
    CHECK(!chunk_table_claims(bytes, AT_OBJECTS - 1, generation, revision));
    CHECK(!chunk_table_claims(bytes, size, generation + 1, revision));
    CHECK(!chunk_table_claims(bytes, size, generation, revision - 1));
    bytes[AT_CHECKSUM]++;
    CHECK(chunk_table_claims(bytes, size, generation, revision));
    bytes[0]++;
    CHECK(!chunk_table_claims(bytes, size, generation, revision));
    chunk_table_release(table);
}
