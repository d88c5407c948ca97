/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bytes of a table; docs/FORMAT.md says the same in words.
 *
 *   header, HEADER_SIZE
 *   objects, OBJECT_SIZE each
 *   a bit for each block: whether it has an entry; without one it is a hole
 *   entries, in the order of their blocks:
 *     base, masks            always
 *     where the local bytes  if a page is local
 *     where in an object     if the base is in an object
 *   zeros up to a multiple of 4096
 *
 * One table has one form: decode refuses whatever encode would not have
 * written, so nothing can hide in the bytes that decode does not look at.
 */
#include "cache/chunk_table.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "cache/block_codec.h"
#include "cache/chunk_file.h"
#include "cache/device.h"
#include "cache/geometry.h"

static const unsigned char MAGIC[8] = "s3btable";

enum {
    VERSION = 1,

    /* These five stay where they are in every later version. */
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_SIZE = 16,
    AT_CHECKSUM = 20,
    AT_CHECKSUM_END = 24,

    AT_CHUNK = 24,
    AT_GENERATION = 32,
    AT_CHUNK_SIZE = 40,
    AT_DATA_END = 44,
    AT_OBJECTS_COUNT = 48,
    AT_REVISION = 52,
    AT_RESERVED = 56,
    HEADER_SIZE = 64,

    OBJECT_SIZE = 36,
    ENTRY_BASE_SIZE = 2,
    ENTRY_LOCAL_SIZE = 11,
    ENTRY_OBJECT_SIZE = 12,
    ENTRY_SIZE_MAX = ENTRY_BASE_SIZE + ENTRY_LOCAL_SIZE + ENTRY_OBJECT_SIZE,
};

static uint32_t blocks_of(uint32_t chunk_size)
{
    return chunk_size / CACHE_BLOCK;
}

size_t chunk_table_encoded_max(uint32_t chunk_size)
{
    uint32_t blocks = blocks_of(chunk_size);

    return round_up(HEADER_SIZE + CHUNK_OBJECTS_MAX * OBJECT_SIZE + blocks / 8 +
                        (size_t)blocks * ENTRY_SIZE_MAX,
                    CACHE_PAGE);
}

/* ---- in memory ---------------------------------------------------------- */

static size_t memory_size(uint32_t blocks_count)
{
    return sizeof(struct chunk_table) +
           (size_t)blocks_count * sizeof(struct chunk_block);
}

static bool chunk_size_is_valid(uint32_t chunk_size)
{
    return chunk_size >= DEVICE_CHUNK_SIZE_MIN &&
           chunk_size <= DEVICE_CHUNK_SIZE_MAX &&
           (chunk_size & (chunk_size - 1)) == 0;
}

struct chunk_table *chunk_table_new(uint64_t chunk, uint32_t chunk_size)
{
    struct chunk_table *table;

    assert(chunk_size_is_valid(chunk_size));
    table = calloc(1, memory_size(blocks_of(chunk_size)));
    if (!table)
        return NULL;
    atomic_init(&table->references, 1);
    table->chunk = chunk;
    table->chunk_size = chunk_size;
    table->blocks_count = blocks_of(chunk_size);
    table->data_end = chunk_file_data_start(chunk_size);
    return table;
}

struct chunk_table *chunk_table_copy(const struct chunk_table *table)
{
    size_t size = memory_size(table->blocks_count);
    struct chunk_table *copy = malloc(size);

    if (!copy)
        return NULL;
    memcpy(copy, table, size);
    atomic_init(&copy->references, 1);
    return copy;
}

struct chunk_table *chunk_table_hold(struct chunk_table *table)
{
    /* Relaxed: who holds a reference already sees the whole table. */
    atomic_fetch_add_explicit(&table->references, 1, memory_order_relaxed);
    return table;
}

void chunk_table_release(struct chunk_table *table)
{
    /* Whoever frees must come after all that the others did with it. */
    if (table && atomic_fetch_sub_explicit(&table->references, 1,
                                           memory_order_acq_rel) == 1)
        free(table);
}

static bool block_is_hole(const struct chunk_block *block)
{
    return block->base == BASE_HOLE && block->local_pages == 0 &&
           block->damaged_pages == 0;
}

static bool block_is_zero(const struct chunk_block *block)
{
    return (block->base == BASE_HOLE || block->base == BASE_ZERO) &&
           block->local_pages == 0 && block->damaged_pages == 0;
}

bool chunk_table_is_hole(const struct chunk_table *table)
{
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        if (!block_is_hole(&table->blocks[i]))
            return false;
    }
    return true;
}

bool chunk_table_is_zero(const struct chunk_table *table)
{
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        if (!block_is_zero(&table->blocks[i]))
            return false;
    }
    return true;
}

bool object_id_is(const struct object_id *id, const struct object_id *other)
{
    return id->epoch == other->epoch && id->nonce == other->nonce &&
           id->counter == other->counter;
}

void chunk_table_forget_objects(struct chunk_table *table)
{
    bool is_needed[CHUNK_OBJECTS_MAX] = {false};
    uint16_t new_index[CHUNK_OBJECTS_MAX];
    unsigned count = 0;

    if (table->objects_count == 0)
        return;
    is_needed[table->objects_count - 1] = true;
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        const struct chunk_block *block = &table->blocks[i];

        if (block->base == BASE_UNKNOWN)
            return; /* it may be in any of them */
        if (block->base == BASE_OBJECT)
            is_needed[block->object] = true;
    }
    for (unsigned i = 0; i < table->objects_count; i++) {
        new_index[i] = (uint16_t)count;
        if (is_needed[i])
            table->objects[count++] = table->objects[i];
    }
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        struct chunk_block *block = &table->blocks[i];

        if (block->base == BASE_OBJECT)
            block->object = new_index[block->object];
    }
    table->objects_count = count;
}

uint64_t chunk_table_live_bytes(const struct chunk_table *table)
{
    uint64_t live = 0;

    for (uint32_t i = 0; i < table->blocks_count; i++) {
        if (table->blocks[i].local_pages != 0)
            live += table->blocks[i].stored_size;
    }
    return live;
}

/* ---- what may stand in a table ------------------------------------------ */

static size_t block_entry_size(const struct chunk_block *block)
{
    size_t size = ENTRY_BASE_SIZE;

    if (block_is_hole(block))
        return 0;
    if (block->local_pages != 0)
        size += ENTRY_LOCAL_SIZE;
    if (block->base == BASE_OBJECT)
        size += ENTRY_OBJECT_SIZE;
    return size;
}

size_t chunk_table_encoded_size(const struct chunk_table *table)
{
    size_t size = HEADER_SIZE + table->objects_count * (size_t)OBJECT_SIZE +
                  table->blocks_count / 8;

    for (uint32_t i = 0; i < table->blocks_count; i++)
        size += block_entry_size(&table->blocks[i]);
    return round_up(size, CACHE_PAGE);
}

static bool is_of_object(const struct chunk_table *table)
{
    return table->data_end == 0;
}

/* Whether size bytes of that codec can be what a plain size was stored as. */
static bool stored_size_is_valid(uint8_t codec, uint16_t size, size_t plain)
{
    switch ((enum block_codec)codec) {
    case BLOCK_RAW:
        return size == plain;
    case BLOCK_SNAPPY:
        return size >= 1 && size < plain;
    default:
        return false;
    }
}

static bool local_is_valid(const struct chunk_table *table,
                           const struct chunk_block *block)
{
    unsigned stored = chunk_block_stored_pages(block);
    size_t pages = (size_t)__builtin_popcount(stored);

    return stored_size_is_valid(block->codec, block->stored_size,
                                pages * CACHE_PAGE) &&
           block->place >= chunk_file_data_start(table->chunk_size) &&
           block->place <= table->data_end &&
           block->stored_size <= table->data_end - block->place;
}

/* own_size: that of this table, which the blocks of its own object follow. */
static bool in_object_is_valid(const struct chunk_table *table,
                               const struct chunk_block *block,
                               uint32_t own_size)
{
    uint32_t first;

    if (block->object >= table->objects_count)
        return false;
    first = table->objects[block->object].table_size;
    if (first == 0) /* this object itself */
        first = own_size;
    return stored_size_is_valid(block->object_codec, block->object_size,
                                CACHE_BLOCK) &&
           block->object_place >= first &&
           block->object_size <= UINT32_MAX - block->object_place;
}

static bool block_is_valid(const struct chunk_table *table,
                           const struct chunk_block *block, uint32_t own_size)
{
    if (block->local_pages > ALL_PAGES || block->damaged_pages > ALL_PAGES)
        return false;
    if (block->zero_pages != 0 &&
        (block->base != BASE_OBJECT || block->local_pages != ALL_PAGES ||
         block->zero_pages >= ALL_PAGES ||
         (block->zero_pages & block->damaged_pages) != 0))
        return false;
    if (block->local_pages != 0 && !local_is_valid(table, block))
        return false;
    switch ((enum block_base)block->base) {
    case BASE_HOLE:
    case BASE_ZERO:
        return true;
    case BASE_OBJECT:
        return in_object_is_valid(table, block, own_size);
    case BASE_UNKNOWN:
        return table->objects_count > 0 && !is_of_object(table);
    default:
        return false;
    }
}

static bool objects_are_valid(const struct chunk_table *table)
{
    size_t table_max = chunk_table_encoded_max(table->chunk_size);
    unsigned others = table->objects_count;

    if (table->objects_count > CHUNK_OBJECTS_MAX)
        return false;
    if (is_of_object(table)) {
        if (others == 0)
            return false;
        others--;
        if (table->objects[others].table_size != 0 ||
            table->objects[others].table_checksum != 0)
            return false;
    }
    for (unsigned i = 0; i < others; i++) {
        uint32_t size = table->objects[i].table_size;

        if (size == 0 || size % CACHE_PAGE != 0 || size > table_max)
            return false;
    }
    return true;
}

static bool table_is_valid(const struct chunk_table *table)
{
    uint32_t own_size;

    if (!chunk_size_is_valid(table->chunk_size) ||
        table->blocks_count != blocks_of(table->chunk_size) ||
        table->chunk >= UINT64_MAX / table->chunk_size)
        return false;
    if (!is_of_object(table) &&
        table->data_end < chunk_file_data_start(table->chunk_size))
        return false;
    if (!objects_are_valid(table))
        return false;
    own_size = (uint32_t)chunk_table_encoded_size(table);
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        if (!block_is_valid(table, &table->blocks[i], own_size))
            return false;
    }
    return true;
}

/* ---- encode -------------------------------------------------------------- */

static uint32_t checksum_of(const unsigned char *data, size_t size)
{
    uint32_t checksum = crc32c(0, data, AT_CHECKSUM);

    return crc32c(checksum, data + AT_CHECKSUM_END, size - AT_CHECKSUM_END);
}

static unsigned char *put_object(unsigned char *at,
                                 const struct chunk_object *object)
{
    put_le64(at, object->id.epoch);
    put_le64(at + 8, object->id.nonce);
    put_le64(at + 16, object->id.counter);
    put_le32(at + 24, object->origin);
    put_le32(at + 28, object->table_size);
    put_le32(at + 32, object->table_checksum);
    return at + OBJECT_SIZE;
}

static unsigned char *put_entry(unsigned char *at,
                                const struct chunk_block *block)
{
    at[0] = (unsigned char)(block->base | block->zero_pages << 4);
    at[1] = (unsigned char)(block->local_pages | block->damaged_pages << 4);
    at += ENTRY_BASE_SIZE;
    if (block->local_pages != 0) {
        at[0] = block->codec;
        put_le16(at + 1, block->stored_size);
        put_le32(at + 3, block->place);
        put_le32(at + 7, block->checksum);
        at += ENTRY_LOCAL_SIZE;
    }
    if (block->base == BASE_OBJECT) {
        at[0] = block->object_codec;
        at[1] = (unsigned char)block->object;
        put_le16(at + 2, block->object_size);
        put_le32(at + 4, block->object_place);
        put_le32(at + 8, block->object_checksum);
        at += ENTRY_OBJECT_SIZE;
    }
    return at;
}

size_t chunk_table_encode(const struct chunk_table *table, void *data)
{
    unsigned char *bytes = data, *at = bytes + HEADER_SIZE, *bitmap;
    size_t size;

    assert(table_is_valid(table));
    size = chunk_table_encoded_size(table);
    memset(bytes, 0, size);
    memcpy(bytes + AT_MAGIC, MAGIC, sizeof(MAGIC));
    put_le32(bytes + AT_VERSION, VERSION);
    put_le32(bytes + AT_SIZE, (uint32_t)size);
    put_le64(bytes + AT_CHUNK, table->chunk);
    put_le64(bytes + AT_GENERATION, table->generation);
    put_le32(bytes + AT_CHUNK_SIZE, table->chunk_size);
    put_le32(bytes + AT_DATA_END, table->data_end);
    put_le32(bytes + AT_OBJECTS_COUNT, table->objects_count);
    put_le32(bytes + AT_REVISION, table->revision);
    for (unsigned i = 0; i < table->objects_count; i++)
        at = put_object(at, &table->objects[i]);
    bitmap = at;
    at += table->blocks_count / 8;
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        if (block_is_hole(&table->blocks[i]))
            continue;
        bitmap[i / 8] |= (unsigned char)(1U << i % 8);
        at = put_entry(at, &table->blocks[i]);
    }
    put_le32(bytes + AT_CHECKSUM, checksum_of(bytes, size));
    return size;
}

bool chunk_table_claims(const void *data, size_t size, uint64_t generation,
                        uint32_t revision)
{
    const unsigned char *bytes = data;

    return size >= HEADER_SIZE &&
           memcmp(bytes + AT_MAGIC, MAGIC, sizeof(MAGIC)) == 0 &&
           get_le64(bytes + AT_GENERATION) == generation &&
           get_le32(bytes + AT_REVISION) == revision;
}

/* ---- decode -------------------------------------------------------------- */

/* The bytes that were not looked at yet. */
struct reader {
    const unsigned char *at;
    size_t left;
};

/* Returns the next size bytes, or NULL if there are fewer. */
static const unsigned char *take(struct reader *reader, size_t size)
{
    const unsigned char *taken = reader->at;

    if (reader->left < size)
        return NULL;
    reader->at += size;
    reader->left -= size;
    return taken;
}

static bool take_object(struct reader *reader, struct chunk_object *object)
{
    const unsigned char *at = take(reader, OBJECT_SIZE);

    if (!at)
        return false;
    object->id.epoch = get_le64(at);
    object->id.nonce = get_le64(at + 8);
    object->id.counter = get_le64(at + 16);
    object->origin = get_le32(at + 24);
    object->table_size = get_le32(at + 28);
    object->table_checksum = get_le32(at + 32);
    return true;
}

static bool take_entry(struct reader *reader, struct chunk_block *block)
{
    const unsigned char *at = take(reader, ENTRY_BASE_SIZE);

    if (!at)
        return false;
    block->base = at[0] & 0xf;
    block->zero_pages = at[0] >> 4;
    block->local_pages = at[1] & ALL_PAGES;
    block->damaged_pages = at[1] >> 4;
    if (block_is_hole(block))
        return false; /* would have had no entry */
    if (block->local_pages != 0) {
        at = take(reader, ENTRY_LOCAL_SIZE);
        if (!at)
            return false;
        block->codec = at[0];
        block->stored_size = get_le16(at + 1);
        block->place = get_le32(at + 3);
        block->checksum = get_le32(at + 7);
    }
    if (block->base == BASE_OBJECT) {
        at = take(reader, ENTRY_OBJECT_SIZE);
        if (!at)
            return false;
        block->object_codec = at[0];
        block->object = at[1];
        block->object_size = get_le16(at + 2);
        block->object_place = get_le32(at + 4);
        block->object_checksum = get_le32(at + 8);
    }
    return true;
}

static bool take_all(struct reader *reader, struct chunk_table *table)
{
    const unsigned char *bitmap;

    for (unsigned i = 0; i < table->objects_count; i++) {
        if (!take_object(reader, &table->objects[i]))
            return false;
    }
    bitmap = take(reader, table->blocks_count / 8);
    if (!bitmap)
        return false;
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        if ((bitmap[i / 8] >> i % 8 & 1) != 0 &&
            !take_entry(reader, &table->blocks[i]))
            return false;
    }
    return reader->left < CACHE_PAGE &&
           bytes_are_zero(reader->at, reader->left);
}

/* Find the size of what is encoded at data, once it has been verified. */
static int check_envelope(const unsigned char *data, size_t size,
                          size_t *ret_size)
{
    uint32_t claimed;

    if (size < CACHE_PAGE || memcmp(data + AT_MAGIC, MAGIC, sizeof(MAGIC)) != 0)
        return -EBADMSG;
    claimed = get_le32(data + AT_SIZE);
    if (claimed < CACHE_PAGE || claimed % CACHE_PAGE != 0 || claimed > size ||
        get_le32(data + AT_CHECKSUM) != checksum_of(data, claimed))
        return -EBADMSG;
    if (get_le32(data + AT_VERSION) != VERSION ||
        get_le32(data + AT_FLAGS) != 0)
        return -EPROTONOSUPPORT;
    *ret_size = claimed;
    return 0;
}

int chunk_table_decode(const void *data, size_t size,
                       struct chunk_table **ret_table)
{
    const unsigned char *bytes = data;
    AUTO_FREE struct chunk_table *table = NULL;
    struct reader reader = {bytes + HEADER_SIZE, 0};
    uint32_t chunk_size, objects_count;
    int error = check_envelope(bytes, size, &size);

    if (error)
        return error;
    chunk_size = get_le32(bytes + AT_CHUNK_SIZE);
    objects_count = get_le32(bytes + AT_OBJECTS_COUNT);
    if (!chunk_size_is_valid(chunk_size) || objects_count > CHUNK_OBJECTS_MAX ||
        !bytes_are_zero(bytes + AT_RESERVED, HEADER_SIZE - AT_RESERVED))
        return -EBADMSG;
    table = chunk_table_new(get_le64(bytes + AT_CHUNK), chunk_size);
    if (!table)
        return -ENOMEM;
    table->generation = get_le64(bytes + AT_GENERATION);
    table->revision = get_le32(bytes + AT_REVISION);
    table->data_end = get_le32(bytes + AT_DATA_END);
    table->objects_count = objects_count;
    reader.left = size - HEADER_SIZE;
    if (!take_all(&reader, table) || !table_is_valid(table))
        return -EBADMSG;
    *ret_table = take_pointer(&table);
    return 0;
}

void object_id_format(const struct object_id *id, char text[OBJECT_ID_TEXT])
{
    (void)snprintf(text, OBJECT_ID_TEXT,
                   "%016" PRIx64 "-%016" PRIx64 "-%016" PRIx64, id->epoch,
                   id->nonce, id->counter);
}
