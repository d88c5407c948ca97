/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rate - no more than so many bytes a second, of all who share it together.
 *
 * Who asks is told how long to wait, and has its turn then: nobody waits in
 * here, and turns are in the order of asking.  Ask for pieces that take tens
 * of milliseconds rather than for all at once, so that a limit that changes is
 * soon heard of, and others have their turn in between.  After a pause at most
 * a tenth of a second's bytes go out at once; a single piece may be larger.
 *
 * Threads: any.  Locks: its own, a leaf.
 */
#ifndef BASE_RATE_H
#define BASE_RATE_H

#include <stdint.h>

#include "base/mutex.h"

struct rate {
    struct mutex mutex;
    uint64_t bytes_per_s; /* 0: no limit */
    uint64_t free_ns;     /* when all that was granted has gone out */
};

/* Begin with this limit; 0: none. */
void rate_init(struct rate *rate, uint64_t bytes_per_s);

/* Release what it holds, once nobody uses it. */
void rate_done(struct rate *rate);

/*
 * Change the limit from now on; 0: none.  What was granted and has not gone
 * out yet counts at the new limit, but who was told to wait waits that long.
 */
void rate_set(struct rate *rate, uint64_t bytes_per_s, uint64_t now_ns);

/*
 * Count these bytes.  Returns for how many nanoseconds after now_ns the
 * caller must wait before it sends them (or, when they were received, before
 * it receives more): 0 if there is no limit or it is not reached, and never
 * more than an hour.
 */
uint64_t rate_take(struct rate *rate, uint64_t bytes, uint64_t now_ns);

#endif
