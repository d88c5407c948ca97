/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoch - the records that are a device's history in the bucket: their bytes,
 * their keys, and how one is created.
 *
 * To create the next epoch is the commit, and the fence: of two hosts that try
 * one succeeds.  Where the store obeys no conditional put both do, and a list
 * shows two nonces in one epoch, a conflict.
 *
 * Threads: any; nothing is kept here but what put_probe remembers.
 */
#ifndef CACHE_EPOCH_H
#define CACHE_EPOCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/cache_dir.h"
#include "cache/device.h"
#include "cache/manifest.h"

struct object_store;
struct object_info;

enum epoch_kind {
    EPOCH_CLAIM = 1,     /* the cache directory writes the device from here */
    EPOCH_RELEASE = 2,   /* it does no longer: who wants may claim */
    EPOCH_IMAGE = 3,     /* new content, by the one that claimed */
    EPOCH_FORK = 4,      /* the first of a fork or a clone: nobody's yet */
    EPOCH_TOMBSTONE = 5, /* the device was dropped */
};

enum { EPOCH_HOST = 64 }; /* room for a host's name, and its terminator */

/* Longer than a request that was given up may still be under way, mostly: for
 * epoch_pace. */
#define EPOCH_READ_BACK_NS (UINT64_C(10) * 1000000000)

/*
 * Every epoch names the image that is the device's content then, so the newest
 * one alone is enough to attach.
 */
struct epoch_record {
    enum epoch_kind kind;
    uint64_t epoch;     /* 1, 2, 3, … */
    uint64_t nonce;     /* random, never 0: tells our record from another's */
    bool key_has_nonce; /* made in a store that obeys no conditional put */
    bool is_rollback;   /* IMAGE: an older content, not that of a checkpoint */
    uint64_t time_ns;   /* since 1970, by the writer's clock */
    uint64_t size;      /* of the device, bytes */
    uint32_t chunk_size;
    uint8_t device_id[UUID_SIZE];
    uint8_t cachedir_id[UUID_SIZE]; /* FORK, TOMBSTONE: of who made it */
    char host[EPOCH_HOST];
    uint64_t image_epoch; /* the IMAGE or FORK that brought this content */
    uint64_t image_nonce;
    struct root_ref root;     /* its manifest; size 0: no image yet */
    uint64_t content_time_ns; /* when the content was cut; 0: no image */
    uint64_t chunks;          /* mapped in it */
};

enum {
    EPOCH_RECORD_SIZE = 512,
    EPOCH_KEY_MAX = DEVICE_NAME_MAX + sizeof("/epoch/") + 16 + 1 + 16 + 1,
};

/*
 * Encode, decode and check (pure).  -EBADMSG: no record, or damaged;
 * -EPROTONOSUPPORT: of a later version; nothing is written then.
 */
void epoch_encode(const struct epoch_record *record,
                  uint8_t data[EPOCH_RECORD_SIZE]);
int epoch_decode(const uint8_t data[EPOCH_RECORD_SIZE],
                 struct epoch_record *ret_record);

/*
 * Fill in the name of this host, zeros behind it; "" if it has none.  What
 * cannot be shown is a question mark.
 */
void epoch_host(char host[EPOCH_HOST]);

/* Whether a cache directory writes the device, as of this record. */
bool epoch_is_held(const struct epoch_record *record);

/* Whether two records are the same epoch, made by the same attempt. */
bool epoch_is_same(const struct epoch_record *a, const struct epoch_record *b);

/* Write the key that the record has, or would have, in the bucket. */
void epoch_key(const char *device_name, const struct epoch_record *record,
               char key[EPOCH_KEY_MAX]);

/* A key of a list, ascending; only the key's part of record is filled in. */
typedef int epoch_each(void *context, const char *key,
                       const struct epoch_record *record,
                       const struct object_info *info);

/*
 * Call each() for the keys of all epochs >= from, until it returns other than
 * 0, which is returned then.  A store's error is logged, and never -ENOENT.
 */
int epoch_list(struct object_store *store, const char *device_name,
               uint64_t from, epoch_each *each, void *context);

/*
 * Read the record of a key that was listed.  Errors (logged): -EIO also if it
 * is not there; -EBADMSG also if it is that of another epoch.
 */
int epoch_read(struct object_store *store, const char *key,
               const struct epoch_record *listed,
               struct epoch_record *ret_record);

/* What the newest epochs of a device are. */
struct epoch_newest {
    size_t count; /* 0: there is none; > 1: a conflict, two are told */
    struct epoch_record records[2];
};

/*
 * Read the newest epoch that is >= from; 0 for any.  Returns 0 also if there is
 * none.  One LIST, and a GET for each that is found.
 */
int epoch_read_newest(struct object_store *store, const char *device_name,
                      uint64_t from, struct epoch_newest *ret_newest);

enum epoch_outcome {
    EPOCH_OURS,     /* it is there, and the newest */
    EPOCH_LOST,     /* another's has its number, or a higher one */
    EPOCH_CONFLICT, /* both are there: no conditional put */
};

/* How to wait between a put and the list that reads it back. */
struct epoch_pace {
    /* Return after so long, or a negative errno at once when closing. */
    int (*wait)(void *context, uint64_t ns);
    void *context;
    uint64_t ns;
};

/*
 * Create the epoch.  Returns 0 when it is decided, for good: also if an
 * earlier attempt with the same record did it.  After an error (logged) it is
 * not, and the record may come to be there at any later time: repeat with the
 * very same record before anything else is created.  pace: only for records
 * whose key has a nonce.
 */
int epoch_create(struct object_store *store, const char *device_name,
                 const struct epoch_record *record,
                 const struct epoch_pace *pace,
                 enum epoch_outcome *ret_outcome);

#endif
