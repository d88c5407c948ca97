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

#endif
