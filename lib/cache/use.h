/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * use - when each chunk was used last, also before the last restart, and
 * whatever the mount options say.
 *
 *   use    in the cache directory; replaced as a whole
 *
 * Time is counted in ticks, and only while the device is open: so a clock that
 * is set makes no chunk look old.  To lose the file is harmless: then chunks go
 * in the order of the catalog.
 *
 * Threads: any; one at a time saves.  Locks: its own, a leaf, only to make
 * room.  A tick may be a moment late in coming to other threads, which is all
 * the same.
 */
#ifndef CACHE_USE_H
#define CACHE_USE_H

#include <stdint.h>

struct use;

/*
 * Read what is known about a device's chunks_count chunks.  A file that is
 * missing or damaged is as good as none (logged).  cache_dirfd must outlive
 * it, and so must device_name, for messages.  Only -ENOMEM.
 */
int use_open(int cache_dirfd, const char *device_name, uint64_t chunks_count,
             struct use **ret_use);

/* The device has so many chunks now; never fewer.  NULL does nothing. */
int use_grow(struct use *use, uint64_t chunks_count);

/* Save and free.  NULL does nothing. */
void use_close(struct use *use);

/* The chunk is used now.  Cheap; NULL, or a chunk past the end: nothing. */
void use_touch(struct use *use, uint64_t chunk);

/*
 * Returns when the chunk was used last, by the count of ticks; 0: not known,
 * longer ago than any other.  NULL: 0.
 */
uint32_t use_tick(const struct use *use, uint64_t chunk);

/*
 * Save what has changed since it was saved last; now and then.  An error is
 * logged, and all that it means is that a crash would lose more.
 */
void use_save(struct use *use);

#endif
