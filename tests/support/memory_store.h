/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memory_store - an object_store in memory, for tests.
 *
 * Threads: any.  Locks: its own, a leaf; list calls out without it.
 */
#ifndef SUPPORT_MEMORY_STORE_H
#define SUPPORT_MEMORY_STORE_H

#include "object_store.h"

/* Returns an empty store, which its close frees; never NULL. */
struct object_store *memory_store_new(void);

/*
 * Have the store's clock stand at that time; 0, as at first: it goes as the
 * real one.
 */
void memory_store_set_time(struct object_store *store, uint64_t time_ns);

#endif
