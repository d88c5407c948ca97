/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sync_evict - make room: chunks leave the cache, uploaded before if they must
 * be.
 *
 * Threads: one.
 */
#ifndef SYNC_EVICT_H
#define SYNC_EVICT_H

#include <stdbool.h>

#include "sync_run.h"

/*
 * Evict of the device of the open session until a good part is free.  Returns
 * whether that was possible.
 */
bool sync_make_room(struct sync *sync, const struct config_device *device);

/* Evict of all devices that the command means: the first of its three uses. */
int sync_evict_devices(struct sync *sync);

#endif
