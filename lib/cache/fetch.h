/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fetch - blocks and tables that are not here, from the bucket.
 *
 * Fourth of the five files of a request: device.c before it, the store after
 * it.  However many ask for the same bytes at once, there is one request to
 * the store.  Threads: any; every call waits for the store.
 */
#ifndef CACHE_FETCH_H
#define CACHE_FETCH_H

#include <stddef.h>
#include <stdint.h>

#include "cache/chunk_table.h"

struct fetch;
struct object_store;

/* device_name: the prefix of all keys; both must outlive the fetch. */
int fetch_new(struct object_store *store, const char *device_name,
              struct fetch **ret_fetch);

/* Free it when no call is in progress; NULL does nothing. */
void fetch_free(struct fetch *fetch);

/* Returns how many callers wait, now, for a request that another one made. */
size_t fetch_waiting(struct fetch *fetch);

/*
 * Read the table at the start of an object of a chunk.  -EIO (logged, with
 * the key) also when the object is missing or is not what the reference says:
 * that is never zeros.  Other errors of the store are logged and passed on.
 * The table is ready to become the first one of a chunk file: its data_end is
 * where such a file's data begins, and its last object is the reference.
 */
int fetch_table(struct fetch *fetch, uint64_t chunk, uint32_t chunk_size,
                const struct chunk_object *object,
                struct chunk_table **ret_table);

/*
 * Read the base of a block (BASE_OBJECT) of this table, CACHE_BLOCK plain
 * bytes.  Errors as fetch_table.
 */
int fetch_block(struct fetch *fetch, const struct chunk_table *table,
                uint32_t block, void *plain);

/* Room for the key of an object, and its terminator. */
enum { FETCH_KEY_MAX = 63 + 7 + 17 + OBJECT_ID_TEXT };

/* Write the key of an object of a chunk: <device>/chunk/<chunk>/<id>. */
void fetch_object_key(const char *device_name, uint64_t chunk,
                      const struct object_id *id, char key[FETCH_KEY_MAX]);

#endif
