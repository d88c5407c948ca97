/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * strays - chunk files that nothing names any more: found, and removed.
 *
 * A file is removed only after the commit that forgets it.  A crash between
 * the two leaves it, and only a list of all files tells.
 *
 * Threads: that which changes chunk files, or before there is one: a file that
 * is made has no entry yet either.
 */
#ifndef CACHE_STRAYS_H
#define CACHE_STRAYS_H

#include <stdint.h>

struct catalog;
struct chunk_dir;

/*
 * Remove the files of all chunks whose entries have none; durable on return.
 * *ret_count is how many there were.  Errors of listing and syncing; a file
 * that cannot be removed is logged, and stays.
 */
int strays_remove(struct chunk_dir *dir, struct catalog *catalog,
                  uint64_t *ret_count);

#endif
