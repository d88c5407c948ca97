/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device_tell - what a device knows of its chunks, for its status and as a
 * map.
 *
 * Threads: any.
 */
#ifndef CACHE_DEVICE_TELL_H
#define CACHE_DEVICE_TELL_H

#include <stdint.h>

struct control_message;
struct device;

/* Add the keys of status_text.h that say what the chunks are. */
void device_tell_chunks(const struct device *device,
                        struct control_message *reply);

enum { DEVICE_MAP_CELLS_MAX = 4096 };

/* A part of the device, and how finely it is to be shown. */
struct device_map {
    uint64_t from, to; /* chunks; past the end: up to the end */
    uint64_t cells;    /* at most, 1 to DEVICE_MAP_CELLS_MAX */
};

/*
 * Returns the map of the chunks as a JSON object, malloc'ed, or NULL without
 * memory:
 *
 *   device chunk_size
 *   all_chunks   of the device
 *   from to      which of them this tells of
 *   step         chunks of a cell, a power of two; the last cell may have less
 *   cells        list of [count, zero, remote, clean, dirty]: so many cells,
 *                one after the other, have so many chunks of each kind each;
 *                the others are holes
 */
char *device_map_json(const struct device *device,
                      const struct device_map *map);

#endif
