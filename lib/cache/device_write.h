/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device_write - writes, zeros and trims on their way into the journal.
 *
 * A request becomes a plan: the pages that it covers only in part, merged
 * with what was there, and the items to append.  The plan takes its place
 * only if those pages are still what was read; else they are read again.
 * A request without room is parked.  Threads: any.
 */
#ifndef CACHE_DEVICE_WRITE_H
#define CACHE_DEVICE_WRITE_H

#include "cache/device_parts.h"

/*
 * Run count requests (DEVICE_WRITE, ZERO, TRIM), each until it is done,
 * parked, or handed to a pool with more patience by device_run_later.
 */
void device_write_requests(struct device *device,
                           struct device_request *requests[], size_t count,
                           enum patience patience);

/* Free the plan of a request that is not going to be run. */
void device_write_abandon(struct device_request *request);

/* Callbacks of the journal (device_parts.h). */
int device_write_admit(void *context, struct journal_item *item);
void device_write_placed(void *context, struct journal_item *item);

/* In device.c: run the request by a pool that may wait that long. */
void device_run_later(struct device *device, struct device_request *request,
                      enum patience patience);

#endif
