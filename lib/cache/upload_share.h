/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * upload_share - the bytes a second that may go to the store, shared by the
 * devices of a process that upload, whoever uploads for them.
 *
 * Each device asks when it hands out a lease, and counts as uploading for a
 * while from then on; the limit of the hour is divided by how many do.
 *
 * Threads: any.  Locks: its own, a leaf.
 */
#ifndef CACHE_UPLOAD_SHARE_H
#define CACHE_UPLOAD_SHARE_H

#include <stddef.h>
#include <stdint.h>

#include "base/bandwidth.h"

struct upload_share;

/* A device; its owner's, from join to leave. */
struct upload_sharer {
    struct upload_sharer *next;
    uint64_t asked_ns; /* last; 0: not yet */
};

/* Make one with these limits, which are copied; count may be 0.  -ENOMEM. */
int upload_share_new(const struct bandwidth_entry limits[], size_t count,
                     struct upload_share **ret_share);

/* From now on these limits hold, which are copied.  -ENOMEM: those before. */
int upload_share_set_limits(struct upload_share *share,
                            const struct bandwidth_entry limits[],
                            size_t count);

/* Free it when all have left; NULL does nothing. */
void upload_share_free(struct upload_share *share);

/* Begin to share, and end it; without a share (NULL) both do nothing. */
void upload_share_join(struct upload_share *share,
                       struct upload_sharer *sharer);
void upload_share_leave(struct upload_share *share,
                        struct upload_sharer *sharer);

/*
 * A device uploads now: returns the bytes a second that it may use; 0: any
 * (also without a share).
 */
uint64_t upload_share_rate(struct upload_share *share,
                           struct upload_sharer *sharer);

#endif
