/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fetch - blocks and tables that are not here, from the bucket.
 *
 * Fourth of the five files of a request: device.c before it, the store after
 * it.  Neighbouring blocks come by one request, and however many ask for the
 * same bytes at once, there is one.  Threads: any; every call waits for the
 * store.
 */
#ifndef CACHE_FETCH_H
#define CACHE_FETCH_H

#include <stddef.h>
#include <stdint.h>

#include "cache/chunk_table.h"
#include "object_store.h"

struct fetch;

/* What was asked of the store since the start. */
struct fetch_counts {
    uint64_t requests;
    uint64_t bytes;
    uint64_t alarms; /* objects that were missing, or not what they must be */
};

/* device_name: the prefix of all keys; both must outlive the fetch. */
int fetch_new(struct object_store *store, const char *device_name,
              struct fetch **ret_fetch);

/* Free it when no call is in progress; NULL does nothing. */
void fetch_free(struct fetch *fetch);

/*
 * Objects of this origin, which is not 0, are those of another device, whose
 * name is copied.  Replaces what was said of the origin before.
 */
int fetch_set_origin(struct fetch *fetch, uint32_t origin,
                     const char *device_name);

/*
 * Call each(context, origin, name) for every origin that was set, until it
 * returns other than 0, which is returned; it must not call the fetch.
 */
int fetch_each_origin(struct fetch *fetch,
                      int (*each)(void *context, uint32_t origin,
                                  const char *device_name),
                      void *context);

/* Returns how many callers wait, now, for a request that another one made. */
size_t fetch_waiting(struct fetch *fetch);

/* Tell what was asked so far. */
void fetch_get_counts(struct fetch *fetch, struct fetch_counts *ret_counts);

/*
 * Read the table at the start of an object of a chunk.  -EIO (logged, with
 * the key, and an alarm) also when the object is missing or is not what the
 * reference says: that is never zeros.  Other errors of the store are logged
 * and passed on.  The table is ready to become the first one of a chunk file:
 * its data_end is where such a file's data begins, and its last object is the
 * reference.  urgency: who waits for it.
 */
int fetch_table(struct fetch *fetch, uint64_t chunk, uint32_t chunk_size,
                const struct chunk_object *object, enum object_urgency urgency,
                struct chunk_table **ret_table);

/*
 * A block that arrived, and was checked: object_size bytes as they are
 * stored, and CACHE_BLOCK plain bytes, both valid during the call.
 */
typedef void fetch_each(void *context, uint32_t block, const void *stored,
                        const void *plain);

/*
 * Read the bases (BASE_OBJECT) of these blocks of the table, in ascending
 * order, with as few requests as their places in the objects allow.  each()
 * is called, in any order, for every one that arrived, also when others did
 * not; returns the first error.  Errors as fetch_table.
 */
int fetch_blocks(struct fetch *fetch, const struct chunk_table *table,
                 const uint32_t blocks[], size_t count,
                 enum object_urgency urgency, fetch_each *each, void *context);

/* Room for the key of an object, and its terminator. */
enum { FETCH_KEY_MAX = 63 + 7 + 17 + OBJECT_ID_TEXT };

/* Write the key of an object of a chunk: <device>/chunk/<chunk>/<id>. */
void fetch_object_key(const char *device_name, uint64_t chunk,
                      const struct object_id *id, char key[FETCH_KEY_MAX]);

#endif
