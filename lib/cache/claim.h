/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * claim - who writes the device now: a record in the bucket that names a
 * cache directory.
 *
 * A device is created only where a LIST shows no epoch of it; so an empty
 * directory where the cache disk should be mounted is not taken for a new
 * device.
 */
#ifndef CACHE_CLAIM_H
#define CACHE_CLAIM_H

#include <stdint.h>

#include "cache/cache_dir.h"

struct object_store;

/* The record behind `<device>/epoch/<epoch, 16 hex>`. */
enum claim_kind {
    CLAIM_CLAIM = 1,
    CLAIM_RELEASE = 2,
    CLAIM_IMAGE = 3,
    CLAIM_FORK = 4,
    CLAIM_TOMBSTONE = 5,
};
struct claim_record {
    enum claim_kind kind;
    uint64_t epoch;
    uint64_t nonce;
    uint64_t time_ns; /* since 1970 */
    uint64_t size;    /* of the device, bytes */
    uint32_t chunk_size;
    uint8_t device_id[UUID_SIZE];
    uint8_t cachedir_id[UUID_SIZE];
    char host[64];
};

enum { CLAIM_RECORD_SIZE = 512 };

/*
 * Encode, decode and check (pure).  -EBADMSG: no record, or damaged;
 * -EPROTONOSUPPORT: of a later version; nothing is written then.
 */
void claim_encode(const struct claim_record *record,
                  uint8_t data[CLAIM_RECORD_SIZE]);
int claim_decode(const uint8_t data[CLAIM_RECORD_SIZE],
                 struct claim_record *ret_record);

/*
 * Read the newest epoch of a device.  -ENOENT: the store answered, and there
 * is none.  Other errors: not known (logged); -EIO also if what the list names
 * cannot be read, or two hosts created the same epoch.
 */
int claim_read_newest(struct object_store *store, const char *device_name,
                      struct claim_record *ret_record);

/*
 * Create epoch 1 of a device that has none, with record->epoch 1.  -EEXIST:
 * somebody else did.  After another error (logged) it may exist, now or later:
 * call again with the same record, whose nonce tells that it is ours.
 */
int claim_create_first(struct object_store *store, const char *device_name,
                       const struct claim_record *record);

#endif
