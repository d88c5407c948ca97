/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * parking - requests that wait for their time or for space, and no thread
 * with them.
 *
 * Threads: any.  Locks: its own, a leaf.
 */
#ifndef CACHE_PARKING_H
#define CACHE_PARKING_H

#include <stddef.h>
#include <stdint.h>

#include "cache/device.h"

struct parking;

/*
 * Start its thread, which calls run() with requests that may go on, linked by
 * next, expelled() with one whose client is gone, and waits() after one has
 * come that waits for space.
 */
int parking_start(void (*run)(void *context, struct device_request *requests),
                  void (*expelled)(void *context,
                                   struct device_request *request),
                  void (*waits)(void *context), void *context,
                  struct parking **ret_parking);

/* Nothing may be parked any more.  NULL does nothing. */
void parking_stop(struct parking *parking);

/* Keep the request until due_ns of the monotonic clock. */
void parking_add(struct parking *parking, struct device_request *request,
                 uint64_t due_ns);

/* Returns how often parking_wake was called. */
uint64_t parking_wakes(struct parking *parking);

/*
 * Keep the request until parking_wake; not at all, if it was called since
 * wakes was asked for, which is before the request was refused.
 */
void parking_add_for_space(struct parking *parking,
                           struct device_request *request, uint64_t wakes);

/* There is space: those that wait for it go on. */
void parking_wake(struct parking *parking);

/*
 * Hand those out, to expelled(), whose client is gone.  By this thread.  One
 * that is added afterwards does not stay, but goes to run() at once.
 */
void parking_expel(struct parking *parking);

/* Returns how many are parked. */
size_t parking_count(struct parking *parking);

#endif
