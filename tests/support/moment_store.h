/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * moment_store - an object_store around another one, of which copies are taken
 * in the middle of its use, as a user would: epochs and manifests first, and
 * all else some changes later.
 *
 * Threads: any; who plans and takes: one.  Locks: its own, held in calls of
 * the other that change something, so that a copy falls between two of them.
 */
#ifndef SUPPORT_MOMENT_STORE_H
#define SUPPORT_MOMENT_STORE_H

#include <stdatomic.h>
#include <stdint.h>

#include "object_store.h"

struct moment_store;

enum { MOMENTS_MAX = 16 };

/*
 * Wrap inner, which is closed with it.  What *number is when a copy begins is
 * told with the copy.
 */
struct moment_store *moment_store_new(struct object_store *inner,
                                      const _Atomic uint64_t *number);

/* Returns the store to be used; its close frees the moment_store too. */
struct object_store *moment_store_of(struct moment_store *moments);

/* Take a copy: epochs and manifests after so many changes, and all else. */
void moment_store_plan(struct moment_store *moments, uint64_t first,
                       uint64_t rest);

/* Take those now that are not finished. */
void moment_store_finish(struct moment_store *moments);

/* Returns copy number i, in the order of the plans; it is the caller's. */
struct object_store *moment_store_take(struct moment_store *moments, unsigned i,
                                       uint64_t *ret_number);

#endif
