/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * holders - which images name an object: those of the device itself, its
 * snapshots, what clones have pinned, and what these have become.
 *
 * For scrub.c.  Memory: the roots of all these images.  Threads: one.  Locks:
 * none.
 */
#ifndef CACHE_HOLDERS_H
#define CACHE_HOLDERS_H

#include <stddef.h>
#include <stdint.h>

struct holders;
struct object_id;
struct object_store;

/*
 * Find all images of a device, of another one unless that is NULL, and of the
 * devices that are clones of them, or of these.  store must outlive the
 * holders.  An image that cannot be read is told as one by holders_each. Errors
 * of listing are logged.
 */
int holders_new(struct object_store *store, const char *device_name,
                const char *other_name, struct holders **ret_holders);
void holders_free(struct holders *holders);

/*
 * Of an image: what it is, and 1: it names the object; < 0: why it cannot be
 * told.  Another result than 0 ends the list.
 */
typedef int holders_tell(void *context, const char *what, int result);

/* Tell of each image that names the object of that chunk, or may do so. */
int holders_each(struct holders *holders, uint64_t chunk,
                 const struct object_id *id, holders_tell *tell, void *context);

#endif
