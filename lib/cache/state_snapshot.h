/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * state_snapshot - a file with all that the state says: write one, read one.
 *
 * For state_log.c.  Memory: one sheet, however many entries.  Nothing here
 * logs; the caller knows what an error means.
 */
#ifndef CACHE_STATE_SNAPSHOT_H
#define CACHE_STATE_SNAPSHOT_H

#include "cache/state_contents.h"
#include "cache/state_record.h"

/*
 * Write a snapshot of the contents, which nobody changes meanwhile, to a new
 * file and sync it; *ret_size is what it has.  Its name is not durable yet.
 * After an error the file may be there in part.
 */
int state_snapshot_write(int dirfd, const char *name,
                         const struct state_header *header,
                         struct state_contents *contents, uint64_t *ret_size);

/*
 * Read a snapshot into contents that say nothing, header and numbers too;
 * sync: make the file durable first.  -EBADMSG: it is damaged;
 * -EPROTONOSUPPORT: of a later version; -EINVAL: an entry is past the
 * catalog's end.  After an error the contents have some of it.
 */
int state_snapshot_read(int dirfd, const char *name, bool sync,
                        struct state_contents *contents,
                        struct state_header *ret_header);

#endif
