/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chunk_table - for one chunk: what each of its blocks is, and where.
 *
 * The same table stands in a slot of a chunk file and at the start of an
 * object.  Pure, but for the reference count.  A table is not changed once
 * others can see it.
 *
 * A block is its base, over which the local pages lie, over which damaged
 * pages lie:
 *
 *   base          hole, zero, or a block of an object
 *   local_pages   these pages are here: all of them but the zero_pages are in
 *                 the chunk file, together, as block_codec stored them
 *   zero_pages    zeros that take no bytes, and may have been a hole before
 *                 they were in that object; only where all pages are local,
 *                 over a base in an object, and never all of them
 *   damaged_pages these pages are lost: EIO until they are overwritten
 *
 * All pages local over a base in an object: the block is unchanged since that
 * object, and may be fetched again if the local copy is bad.
 *
 * In an object's own table data_end is 0, no page is local, no base unknown,
 * and the last of objects is the object itself, with table_size and
 * table_checksum 0, since a table cannot hold its own checksum.
 */
#ifndef CACHE_CHUNK_TABLE_H
#define CACHE_CHUNK_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum block_base {
    BASE_HOLE = 0,    /* zeros, reported as a hole */
    BASE_ZERO = 1,    /* zeros, not reported as a hole */
    BASE_OBJECT = 2,  /* at object_place of objects[object] */
    BASE_UNKNOWN = 3, /* whatever the table of the newest object says */
};

struct chunk_block {
    uint8_t base;
    uint8_t local_pages;
    uint8_t damaged_pages;
    uint8_t codec;         /* of the local bytes */
    uint32_t place;        /* byte offset of the local bytes in the file */
    uint32_t checksum;     /* of the local bytes */
    uint16_t stored_size;  /* of the local bytes */
    uint16_t object_size;  /* stored bytes in the object */
    uint32_t object_place; /* byte offset in the object */
    uint32_t object_checksum;
    uint16_t object; /* index in objects */
    uint8_t object_codec;
    uint8_t zero_pages;
};

/* The name of one upload attempt, unique for all time and all hosts. */
struct object_id {
    uint64_t epoch;
    uint64_t nonce;
    uint64_t counter;
};

struct chunk_object {
    struct object_id id;
    uint32_t origin;         /* whose: 0 this device, else of catalog */
    uint32_t table_size;     /* bytes of its encoded table */
    uint32_t table_checksum; /* CRC-32C of these bytes */
};

enum { CHUNK_OBJECTS_MAX = 16 }; /* the last whole one, and its deltas */

struct chunk_table {
    atomic_uint references;
    uint64_t chunk;      /* which */
    uint64_t generation; /* of the state that it describes */
    uint32_t revision;   /* of the table, in that generation (catalog.h) */
    uint32_t chunk_size;
    uint32_t blocks_count;
    uint32_t data_end; /* file: where its data ends; object: 0 */
    unsigned slot;     /* file: which it was read from; not encoded */
    unsigned objects_count;
    struct chunk_object objects[CHUNK_OBJECTS_MAX]; /* the newest is last */
    struct chunk_block blocks[];                    /* blocks_count */
};

/*
 * Returns a table of holes, for a file that has no data yet, with one
 * reference; NULL without memory.
 */
struct chunk_table *chunk_table_new(uint64_t chunk, uint32_t chunk_size);

/* Returns a copy with one reference, for the next state; NULL: no memory. */
struct chunk_table *chunk_table_copy(const struct chunk_table *table);

/* Take, and drop, a reference; the last one frees.  NULL does nothing. */
struct chunk_table *chunk_table_hold(struct chunk_table *table);
void chunk_table_release(struct chunk_table *table);

/* Returns the pages of a block that its bytes in the file are. */
static inline unsigned chunk_block_stored_pages(const struct chunk_block *block)
{
    return block->local_pages & ~(unsigned)block->zero_pages;
}

/* Returns whether every block is a hole. */
bool chunk_table_is_hole(const struct chunk_table *table);

/* Returns whether every block reads as zeros without being here. */
bool chunk_table_is_zero(const struct chunk_table *table);

/*
 * Forget the objects that no block is in, but for the newest one, whose table
 * may be asked for.  For a table that nobody else has seen.
 */
void chunk_table_forget_objects(struct chunk_table *table);

/* Returns whether both name the same object. */
bool object_id_is(const struct object_id *id, const struct object_id *other);

/* Returns how many bytes of the file the local blocks use. */
uint64_t chunk_table_live_bytes(const struct chunk_table *table);

/*
 * Returns the most bytes that a table for this chunk size encodes to: the
 * size of a slot, a multiple of 4096.
 */
size_t chunk_table_encoded_max(uint32_t chunk_size);

/* Returns how many bytes this one encodes to. */
size_t chunk_table_encoded_size(const struct chunk_table *table);

/*
 * Encode into data, which has room for chunk_table_encoded_max.  Returns the
 * size, a multiple of 4096.  A table that chunk_table_decode would refuse is
 * a bug of ours and ends the process before it can rule.
 */
size_t chunk_table_encode(const struct chunk_table *table, void *data);

/*
 * Decode and check everything: magic, version, checksum, every number in its
 * range.  -EBADMSG if it is no valid table, -EPROTONOSUPPORT if its version
 * or a flag is of a later program; -ENOMEM.
 */
int chunk_table_decode(const void *data, size_t size,
                       struct chunk_table **ret_table);

/*
 * Returns whether these bytes, the first of a slot, say that they are a table
 * of that generation and revision, be it valid or not.
 */
bool chunk_table_claims(const void *data, size_t size, uint64_t generation,
                        uint32_t revision);

/* Room for the text of an object id, and its terminator. */
enum { OBJECT_ID_TEXT = 16 + 1 + 16 + 1 + 16 + 1 };

/* Write an object id as it stands in keys: three hexadecimal numbers. */
void object_id_format(const struct object_id *id, char text[OBJECT_ID_TEXT]);

#endif
