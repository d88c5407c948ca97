/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_bell - waits for another attempt's time to come, and what ends them
 * early: an interrupt, or other credentials.
 *
 * Threads: any.  Locks: its own, a leaf.
 */
#ifndef S3_S3_BELL_H
#define S3_S3_BELL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mutex.h"

struct s3_bell {
    struct mutex mutex;
    struct condition rung;
    bool is_interrupted GUARDED_BY(mutex);
    uint64_t rings GUARDED_BY(mutex);
};

/* Make it ready; and release it when nobody waits. */
void s3_bell_init(struct s3_bell *bell);
void s3_bell_done(struct s3_bell *bell);

/* Something that was refused may be granted now: the credentials changed. */
void s3_bell_ring(struct s3_bell *bell);

/* From now on, every wait ends at once. */
void s3_bell_interrupt(struct s3_bell *bell);

/* Returns whether it was interrupted. */
bool s3_bell_is_interrupted(struct s3_bell *bell);

/* Returns a number that grows with each ring, for s3_bell_wait_for_ring. */
uint64_t s3_bell_rings(struct s3_bell *bell);

/*
 * Wait until deadline_ns of clock_monotonic_ns(); or until then or there were
 * more rings than those.  0, or -ECANCELED when it was interrupted.
 */
int s3_bell_wait(struct s3_bell *bell, uint64_t deadline_ns);
int s3_bell_wait_for_ring(struct s3_bell *bell, uint64_t rings,
                          uint64_t deadline_ns);

#endif
