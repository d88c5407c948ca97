/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rebase - a table in other words: the same content, of other bases, or with
 * fewer or more local pages.
 *
 * Pure.  The table that is changed is one that nobody else has seen; after an
 * error it is of no use.
 */
#ifndef CACHE_REBASE_H
#define CACHE_REBASE_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/chunk_table.h"

/*
 * A state of the chunk was uploaded: object is the complete table of its
 * object, as fetch_table returns one.  uploaded is the table that was read
 * for it, from the same file as table, which is of a later state; NULL: they
 * have the same content.  What table has unchanged since then is in the
 * object: all of it here is a copy, as are parts over zeros; parts over
 * another object's block need not be here any more; parts that are newer lie
 * over what is in the object.  All else stays.
 *
 * -ESTALE: the object cannot be what table is based on: it has lost pages
 * that are here, or has pages that were lost here, or another upload came in
 * between.
 */
int rebase_uploaded(struct chunk_table *table,
                    const struct chunk_table *uploaded,
                    const struct chunk_table *object);

/* Returns whether all of it is in objects, or zeros: local pages are copies. */
bool rebase_is_clean(const struct chunk_table *table);

/* Take off the local copies of blocks that are in objects; returns how many. */
uint32_t rebase_drop_copies(struct chunk_table *table);

/*
 * newest is the table of the newest object of table: what table does not know
 * (BASE_UNKNOWN) is what newest says.  Returns false, and changes nothing, if
 * table knows a base in an object already, so that nothing is unknown.
 */
bool rebase_learn(struct chunk_table *table, const struct chunk_table *newest);

/*
 * The stored bytes of a block, which as_read describes as they are in this
 * object, are in the file at place.  Returns false, and changes nothing, if
 * they are not the base of that block, or not all that is known of it.
 */
bool rebase_keep(struct chunk_table *table, uint32_t block,
                 const struct chunk_block *as_read, const struct object_id *id,
                 uint32_t place);

/*
 * One of the two copies of a block that is unchanged since an object is bad,
 * that in the file or that in the object, as as_read and id name it: from now
 * on the other one is all there is.  Returns false, and changes nothing, if
 * the table does not name that copy, or there is no other.
 */
bool rebase_drop_copy(struct chunk_table *table, uint32_t block,
                      const struct chunk_block *as_read);
bool rebase_drop_base(struct chunk_table *table, uint32_t block,
                      const struct chunk_block *as_read,
                      const struct object_id *id);

#endif
