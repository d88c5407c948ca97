/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * unpublished - since when there are writes that no image holds.
 *
 * Threads: any.  Locks: its own, a leaf.
 */
#ifndef CACHE_UNPUBLISHED_H
#define CACHE_UNPUBLISHED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/mutex.h"

/* Times since 1970, of the oldest write; 0: there is none. */
struct unpublished {
    struct mutex lock;
    _Atomic uint64_t since_cut_ns;     /* that no checkpoint has */
    _Atomic uint64_t in_checkpoint_ns; /* that the open one has */
};

/* Make it ready, with no write; and release what it holds. */
void unpublished_init(struct unpublished *unpublished);
void unpublished_done(struct unpublished *unpublished);

/* What is known at a start. */
void unpublished_set(struct unpublished *unpublished, uint64_t since_cut_ns,
                     uint64_t in_checkpoint_ns);

/* There is a write, by now. */
void unpublished_note(struct unpublished *unpublished, uint64_t now_ns);

/* Whether a note would change something: cheap, for every write. */
static inline bool unpublished_is_none(const struct unpublished *unpublished)
{
    return atomic_load_explicit(&unpublished->since_cut_ns,
                                memory_order_relaxed) == 0;
}

/* A checkpoint takes what there was; is dropped; became an image. */
void unpublished_cut(struct unpublished *unpublished);
void unpublished_drop(struct unpublished *unpublished);
void unpublished_publish(struct unpublished *unpublished);

/* Returns the time of the oldest write; 0: all are published. */
uint64_t unpublished_since(struct unpublished *unpublished);

#endif
