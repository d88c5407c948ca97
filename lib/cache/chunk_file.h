/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chunk_file - a chunk on disk: slots for its tables, then appended blocks.
 *
 *   chunk/<chunk / 4096, 8 hex>/<chunk, 16 hex>    the file
 *   chunk/<chunk, 16 hex>.new                      one that is being rewritten
 *   chunk/<chunk / 4096, 8 hex>/<chunk, 16 hex>.lost   see chunk_file_set_aside
 *
 *   0                      slot 0
 *   slot_size              slot 1
 *   2 * slot_size          slot 2
 *   3 * slot_size          data: runs of stored blocks, each run at a
 *                          multiple of 4096, written once and never again
 *
 * The state log says which generation and revision rule; the slot that
 * carries them is the table.  A second slot may carry the state that the open
 * checkpoint wants.  The next state goes to a slot that is neither, with its
 * blocks appended first.  So at any moment a power cut leaves both, and all
 * that they name.  Nothing here decides what is durable: the caller syncs.
 *
 * What fails when the directory or a file is changed is logged here, with
 * device and chunk.  What fails in opening and reading is not: the caller
 * knows whether a writer may have overtaken it, and what else there is to ask.
 *
 * Threads: any; at most one writes to a chunk's file at a time.
 */
#ifndef CACHE_CHUNK_FILE_H
#define CACHE_CHUNK_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/chunk_table.h"

enum { CHUNK_SLOTS = 3 };

/* The directory of all chunk files of a device. */
struct chunk_dir;

enum chunk_dir_access {
    CHUNK_DIR_READ, /* nothing is written, nor may be */
    CHUNK_DIR_WRITE,
    CHUNK_DIR_CREATE, /* the same, and it is made if it is not there */
};

/*
 * Open `chunk` below the cache directory and, unless it is only to be read,
 * remove what unfinished rewrites left over.  Then all names in it are durable
 * on return, also those that an earlier process did not live to sync.
 * device_name is for messages; it must outlive the directory, and that its
 * files.
 */
int chunk_dir_open(int cache_dirfd, const char *device_name,
                   uint32_t chunk_size, enum chunk_dir_access access,
                   struct chunk_dir **ret_dir);

/* Close the directory; NULL does nothing. */
void chunk_dir_close(struct chunk_dir *dir);

/*
 * An open chunk file: take, and drop, a reference; the last one closes it.
 * Dropping NULL does nothing.
 */
struct chunk_file;
struct chunk_file *chunk_file_hold(struct chunk_file *file);
void chunk_file_release(struct chunk_file *file);

/* Open the file of a chunk.  -ENOENT if it has none. */
int chunk_file_open(struct chunk_dir *dir, uint64_t chunk,
                    struct chunk_file **ret_file);

/*
 * Create the file of a chunk that has none; what lies there under its name is
 * left over from before a crash and is removed.  Its name is durable after
 * chunk_dir_sync.
 */
int chunk_file_create(struct chunk_dir *dir, uint64_t chunk,
                      struct chunk_file **ret_file);

/*
 * Give the chunk's file, if there is one, a second name, under which it stays
 * when another one takes its place: something of it is lost to this program,
 * but perhaps not to the user.  An earlier one that was set aside is kept in
 * its place.  The name is durable after chunk_dir_sync.
 */
int chunk_file_set_aside(struct chunk_dir *dir, uint64_t chunk);

/* Remove the file's name, if it exists; who has it open can still read. */
int chunk_file_remove(struct chunk_dir *dir, uint64_t chunk);

/*
 * Make the names durable of the files of these chunks, which were created,
 * rewritten or removed.
 */
int chunk_dir_sync(struct chunk_dir *dir, const uint64_t chunks[],
                   size_t count);

/*
 * Call each(context, chunk) for every chunk that has a file, in no order, until
 * it returns other than 0, which is returned.  It may remove that file.  Errors
 * of listing are logged.
 */
int chunk_dir_each(struct chunk_dir *dir,
                   int (*each)(void *context, uint64_t chunk), void *context);

/* Returns where the data of a file with this chunk size begins. */
uint32_t chunk_file_data_start(uint32_t chunk_size);

/*
 * Read the table of that generation and revision.  -ESTALE: no slot has it,
 * -EBADMSG: no slot has it and one at least is damaged, -EPROTONOSUPPORT: it
 * is there in a form of a later program.  A slot that is being written looks
 * damaged: who may have been overtaken by a writer looks again for the
 * generation that rules now before believing either.
 */
int chunk_file_read_table(struct chunk_file *file, uint64_t generation,
                          uint32_t revision, struct chunk_table **ret_table);

/*
 * Read the local pages of a block that has some: as many plain pages as bits
 * are set in local_pages, one after the other, into plain.  nowait: -EAGAIN
 * rather than wait for the disk.  -EBADMSG: checksum or form are wrong.
 */
int chunk_file_read_block(struct chunk_file *file,
                          const struct chunk_table *table, uint32_t block,
                          void *plain, bool nowait);

/*
 * Read the stored bytes of such a block, stored_size of them, as they are:
 * its local pages without its zero_pages.
 * -EBADMSG: they are not what the table says.
 */
int chunk_file_read_stored(struct chunk_file *file,
                           const struct chunk_table *table, uint32_t block,
                           void *stored);

/*
 * Tell where to append in a file whose ruling table does not say: past all
 * that anybody may still read.  -EFBIG: there are no places left.
 */
int chunk_file_end(struct chunk_file *file, uint32_t *ret_end);

/*
 * Write stored blocks at place, a multiple of 4096 past everything in the
 * table.
 */
int chunk_file_write(struct chunk_file *file, const void *data, size_t size,
                     uint32_t place);

/*
 * Returns the slot for a table of that generation and revision: not one of
 * taken, a mask with at most two of them.  A crash may have left such a table
 * that was never committed: then its slot, or the one that may have it for all
 * that can be read, as no two must carry the same.
 */
unsigned chunk_file_choose_slot(struct chunk_file *file, uint64_t generation,
                                uint32_t revision, unsigned taken);

/*
 * Write the table into its slot (table->slot), which must be neither the one
 * that rules nor the one that the open checkpoint wants.
 */
int chunk_file_write_slot(struct chunk_file *file,
                          const struct chunk_table *table);

/* Make all that was written durable. */
int chunk_file_sync(struct chunk_file *file);

/*
 * Write a new file with the blocks of this table, those of pinned (the table
 * that the open checkpoint wants, from the same file; or NULL) and no dead
 * space, both tables under the same generations and revisions, sync it, and
 * put it in place of the old one (name durable on return).  So a table that
 * had its copies of blocks in objects taken off leaves a file that is smaller
 * by these.  Stored bytes are copied and checked; pages of a bad block become
 * damaged, and the old file is set aside, unless the block is unchanged since
 * an object: then they are there.  The old file and tables stay as they are
 * for those who hold them.  A block that cannot be read, and may be readable
 * later, is an error; in a file that has grown to many times the size of its
 * chunk it counts as bad.  After an error they rule as before; if it came so
 * late that nobody knows which of the two files has the name after a power
 * cut, nothing is written to any file of this directory any more: -EIO until
 * it is opened again.
 *
 * ret_pinned may be NULL if pinned is.  The new tables are in the slots 0 and
 * 1, and have the same data_end, behind the blocks of both.
 */
int chunk_file_rewrite(struct chunk_dir *dir, struct chunk_file *file,
                       const struct chunk_table *table,
                       const struct chunk_table *pinned,
                       struct chunk_file **ret_file,
                       struct chunk_table **ret_table,
                       struct chunk_table **ret_pinned);

/*
 * Returns how many pages of the disk a file takes that has so many slots
 * written, with tables like this one, which is its newest.
 */
uint32_t chunk_file_pages(const struct chunk_table *table, unsigned slots);

#endif
