/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_complaint - what a store refuses, said once: not for each request that
 * waits until somebody changes something.
 *
 * Threads: any.  Locks: its own, a leaf.
 */
#ifndef S3_S3_COMPLAINT_H
#define S3_S3_COMPLAINT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/mutex.h"

struct s3_complaint {
    struct mutex mutex;
    /* Read without the mutex by those that have succeeded: a success more or
     * less does not matter. */
    atomic_bool is_open;
    uint64_t again_ns GUARDED_BY(mutex);
    char text[512] GUARDED_BY(mutex);
};

/* Make it ready: there is none; and release it when nobody uses it. */
void s3_complaint_init(struct s3_complaint *complaint);
void s3_complaint_done(struct s3_complaint *complaint);

/*
 * Log this as an error, unless it is what was said last, less than ten minutes
 * ago.  now_ns is clock_monotonic_ns().  Returns whether it was logged.
 */
bool s3_complaint_say(struct s3_complaint *complaint, const char *text,
                      uint64_t now_ns);

/* Something was granted: log that, if there was a complaint. */
void s3_complaint_settle(struct s3_complaint *complaint);

#endif
