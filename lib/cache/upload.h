/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * upload - one state of a chunk becomes an object.
 *
 * Reads the chunk's file and the bucket, and writes nothing but the object:
 * so it runs in any process that can read the cache directory, and what comes
 * of it counts only when the owner of the directory has recorded it (lease.h).
 *
 * An object is whole, or a delta: only the blocks that no older object of the
 * chunk has.  Its table is complete all the same.  Stored bytes are copied as
 * they are; only a block of which not all pages have bytes here is compressed
 * again.
 *
 * Threads: any, many at once.  Locks: none.
 */
#ifndef CACHE_UPLOAD_H
#define CACHE_UPLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/chunk_file.h"
#include "cache/chunk_table.h"
#include "cache/fetch.h"

struct object_store;

/* Where from and where to; all of it outlives the calls. */
struct upload_context {
    const char *device_name;
    struct object_store *store;
    struct fetch *fetch;
    struct chunk_dir *chunk_dir;
    uint32_t chunk_size;
};

/* What of a chunk that cannot be read counts as lost, if anything. */
enum upload_loss {
    UPLOAD_NO_LOSS,     /* it may be readable later: the upload fails */
    UPLOAD_BLOCKS_LOST, /* a block that its disk does not give, or of which
                           the bucket says that it has not got it */
    UPLOAD_TABLE_LOST,  /* the whole state: its table is gone */
};

/* Which state, and the name of its object; a lease says it (lease.h). */
struct upload_work {
    uint64_t chunk;
    uint64_t generation;
    uint32_t revision;
    struct object_id id; /* unique for this attempt */
    enum upload_loss loss;
};

struct upload_result {
    void *table;       /* encoded, as it stands in the object; for free() */
    size_t table_size; /* bytes */
    uint64_t size;     /* bytes of the object */
    uint64_t fetched;  /* bytes read from the bucket for it */
    uint32_t damaged;  /* blocks with pages that are lost */
};

/*
 * Read the state, build its object and put it.
 *   -ESTALE    the file has no such state: it was overtaken, or is damaged;
 *              only who hands out the work can tell (logged there)
 *   -EREMOTEIO the store failed to take the object (-EIO of its put)
 *   others     of the store, of the disk (logged), or -ENOMEM
 * What is lost is marked as damaged in the object, and logged: blocks whose
 * checksum is wrong in the file and which are nowhere else, and what
 * work->loss says.
 */
int upload_chunk(const struct upload_context *context,
                 const struct upload_work *work,
                 struct upload_result *ret_result);

/* For another device, which is to have nothing in common with this one. */
struct upload_copy {
    const char *device_name;           /* the other's */
    const struct chunk_object *newest; /* the state is this object's; NULL: it
                                          is the file's */
};

/*
 * The same, as an object of another device: it is whole, whatever that takes,
 * and rests on no other.
 */
int upload_copy_chunk(const struct upload_context *context,
                      const struct upload_work *work,
                      const struct upload_copy *copy,
                      struct upload_result *ret_result);

/*
 * Decode and check the table of an upload's result, from whatever process:
 * -EBADMSG if it is not that of this work.  On success it is as fetch_table
 * would return it: its last object is the reference to the new one, and
 * data_end is where the data of a file begins.
 */
int upload_decode_table(const void *table, size_t table_size,
                        const struct upload_work *work, uint32_t chunk_size,
                        struct chunk_table **ret_table);

#endif
