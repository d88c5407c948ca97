/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * state_snapshot - a file with all entries of a catalog: write one, read one.
 *
 * For state_log.c.  Memory: one sheet, however many entries.  Nothing here
 * logs; the caller knows what an error means.
 */
#ifndef CACHE_STATE_SNAPSHOT_H
#define CACHE_STATE_SNAPSHOT_H

#include "cache/catalog.h"
#include "cache/state_record.h"

/*
 * Write a snapshot of the catalog, which nobody changes meanwhile, to a new
 * file and sync it; *ret_size is what it has.  Its name is not durable yet.
 * After an error the file may be there in part.
 */
int state_snapshot_write(int dirfd, const char *name,
                         const struct state_header *header,
                         struct catalog *catalog, uint64_t *ret_size);

/*
 * Read a snapshot into an empty catalog; sync: make the file durable first.
 * -EBADMSG: it is damaged; -EPROTONOSUPPORT: of a later version; -EINVAL: an
 * entry is past the catalog's end.  After an error the catalog has some of
 * the entries.
 */
int state_snapshot_read(int dirfd, const char *name, bool sync,
                        struct catalog *catalog,
                        struct state_header *ret_header);

#endif
