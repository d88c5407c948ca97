/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * timed_store - an object_store in memory of which is known what it held at
 * each moment of a recording (fault_file.h).
 *
 * For programs that link fault_file.  Threads: any.  Locks: its own, a leaf.
 */
#ifndef SUPPORT_TIMED_STORE_H
#define SUPPORT_TIMED_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "object_store.h"

/* Returns an empty store, which its close frees; never NULL. */
struct object_store *timed_store_new(void);

/*
 * Returns a new store of this kind with what this one held at a moment, which
 * has a recording of its own, or none.  Of the changes that were under way then
 * the first few were made, by the seed; the one after them may still come, some
 * calls later.  is_between: so it is with those that came between the same two
 * entries; then the next entry must not have begun.
 */
struct object_store *timed_store_at(struct object_store *store, size_t moment,
                                    bool is_between, uint64_t seed);

#endif
