/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device_rest - whether a device has nothing to do, and who is told when that
 * is over.
 *
 * It rests while nothing is to be folded or kept, no checkpoint is open and no
 * request waits.  So its owner need not look at it often.
 * Threads: any.  Locks: its own, under which the one who is told is called.
 */
#ifndef CACHE_DEVICE_REST_H
#define CACHE_DEVICE_REST_H

#include <stdbool.h>

#include "base/mutex.h"

struct device;

/* Part of a device. */
struct device_rest {
    struct mutex lock;
    void (*stirred)(void *context) GUARDED_BY(lock); /* NULL: nobody is told */
    void *context GUARDED_BY(lock);
};

/* Make it ready, with nobody who is told; and let go of it. */
void device_rest_init(struct device_rest *rest);
void device_rest_done(struct device_rest *rest);

/* Returns whether it rests, now.  A read-only device does not. */
bool device_is_resting(struct device *device);

/*
 * From now on stirred(context) is called when the device does not rest any
 * more, and when a request waits for space, or for the claim: afterwards, by
 * a thread of the device, which must not be kept.  NULL: nobody is told; on
 * return the one before is not being called.
 */
void device_watch(struct device *device, void (*stirred)(void *context),
                  void *context);

/* Tell it; for callbacks of the device's parts. */
void device_stirred(void *device);

#endif
