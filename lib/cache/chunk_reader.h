/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chunk_reader - read what lies beneath the journal: memory, chunk file,
 * bucket.
 *
 * Threads: any.  Locks: none of its own.  A read finds the newest state of a
 * chunk that is committed when it looks, and holds it while it reads.
 */
#ifndef CACHE_CHUNK_READER_H
#define CACHE_CHUNK_READER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/block_cache.h"
#include "cache/catalog.h"
#include "cache/chunk_file.h"
#include "cache/fetch.h"
#include "cache/open_chunks.h"

/* What a caller is ready to wait for. */
enum patience {
    PATIENCE_NONE = 0,  /* nothing: memory and page cache only */
    PATIENCE_DISK = 1,  /* the local disk */
    PATIENCE_STORE = 2, /* the bucket too, however long it takes */
    PATIENCE_AHEAD = 3, /* the bucket too, while it answers soon */
};

/*
 * A block arrived from the bucket, and nothing of it is here: stored bytes, as
 * the table entry says that it was read by, out of that object.  All are valid
 * during the call, which copies what it wants and waits for nothing.
 */
typedef void chunk_reader_keep(void *context, uint64_t chunk, uint32_t block,
                               const struct chunk_block *as_read,
                               const struct object_id *id, const void *stored);

/* All are the device's and outlive the reader. */
struct chunk_reader {
    const char *device_name;
    uint32_t chunk_size;
    struct catalog *catalog;
    struct chunk_dir *dir;
    struct open_chunks *open_chunks;
    struct block_cache *blocks;
    struct fetch *fetch;     /* NULL: there is no store */
    chunk_reader_keep *keep; /* NULL: blocks that arrive are not kept */
    void *keep_context;
    _Atomic uint64_t damaged; /* reads that met damage: a counter */
};

/*
 * Read size bytes at offset inside a chunk, not past its end.  -EAGAIN: takes
 * more patience; -EIO: damaged here and nowhere else (logged), or as fetch
 * says.
 */
int chunk_reader_read(struct chunk_reader *reader, uint64_t chunk,
                      uint32_t offset, void *data, size_t size,
                      enum patience patience);

/*
 * Have these blocks, all inside the chunk, in memory as far as they are in
 * the bucket only, and have room there.  Waits for the bucket; errors as
 * above.  Nobody waits for them: what does not come soon does not come.
 * arrived(), unless NULL, is called when the first of them has come, and at
 * most little more has to be waited for.
 */
int chunk_reader_prefetch(struct chunk_reader *reader, uint64_t chunk,
                          uint32_t first, uint32_t count,
                          void (*arrived)(void *context), void *context);

/*
 * Hold the chunk's newest state.  *ret_open is NULL for a chunk without
 * table; *ret_flags (of catalog_flags) then tells what its zeros are.
 * -EAGAIN, -EIO as above.
 */
int chunk_reader_hold(struct chunk_reader *reader, uint64_t chunk,
                      enum patience patience, struct open_chunk **ret_open,
                      unsigned *ret_flags);

/*
 * Read the table that the state log says rules a chunk that has a file, from
 * that file, opened by its name: the pair that the next state is built on.
 * -EBADMSG: it is damaged, or missing; -ESTALE: the chunk has no such table,
 * or not any more; others: it cannot be read now, and may be whole (all but
 * -ESTALE are logged).
 */
int chunk_reader_open_file(struct chunk_reader *reader, uint64_t chunk,
                           struct chunk_file **ret_file,
                           struct chunk_table **ret_table);

/*
 * Read the table of a state that the file must have.  Errors as above, without
 * -ESTALE.
 */
int chunk_reader_read_table(struct chunk_reader *reader, uint64_t chunk,
                            struct chunk_file *file, uint64_t generation,
                            uint32_t revision, struct chunk_table **ret_table);

/*
 * Say in the table, which nobody else has seen, what readers of this state
 * found out of the bases that it does not know; it may be nothing.
 */
void chunk_reader_learn(struct chunk_reader *reader, struct chunk_table *table);

/*
 * Returns whether what failed with this error may work now: there were no
 * descriptors, and some were given back.
 */
bool chunk_reader_may_try_again(struct chunk_reader *reader, int error);

/* Returns whether the bucket has all that the file of such a chunk has. */
bool chunk_reader_is_clean(const struct chunk_reader *reader,
                           const struct catalog_entry *entry);

#endif
