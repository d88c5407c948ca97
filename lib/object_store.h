/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * object_store - the seam between the cache and where objects are kept.
 *
 * lib/cache calls it; lib/s3 implements it (dir_store on a directory, s3_store
 * on S3); programs choose.  A key is at most OBJECT_KEY_MAX bytes out of
 * [0-9a-zA-Z/._-], with neither an empty part nor "." or ".." between
 * slashes.  Objects are written once, whole, and never changed.
 *
 * Threads: any, many at once.  Every call may take as long as the store's own
 * deadlines allow and returns 0 or a negative errno:
 *   -ENOENT     no such object; the store itself answered properly
 *   -EEXIST     a conditional put found the key taken
 *   -EIO        the store failed, or its answer makes no sense
 *   -ETIMEDOUT  no answer within the deadline
 *   -EACCES     the store refuses: credentials, permission, no such bucket
 *   -ECANCELED  the store is being closed
 *   -EOPNOTSUPP the store knows no conditional put
 */
#ifndef OBJECT_STORE_H
#define OBJECT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OBJECT_KEY_MAX = 1000 };

struct object_info {
    uint64_t size;
    uint64_t modified_ns; /* since 1970, by the store's clock */
};

/* One key of a list; valid during the call that hands it over. */
typedef int object_store_each(void *context, const char *key,
                              const struct object_info *info);

struct object_store {
    /*
     * Read exactly len bytes at offset into data.  A range that is not wholly
     * inside the object is -EIO.
     */
    int (*get)(struct object_store *store, const char *key, uint64_t offset,
               void *data, size_t len);

    /*
     * Create the object, durable on return.  if_absent: only if no object has
     * this key, decided by the store in one step, else -EEXIST.  After an
     * error other than -EEXIST the object may exist, whole, now or later.
     */
    int (*put)(struct object_store *store, const char *key, const void *data,
               size_t len, bool if_absent);

    /* Tell what there is to know of an object without reading it. */
    int (*head)(struct object_store *store, const char *key,
                struct object_info *ret_info);

    /* Remove the object; an absent one is success. */
    int (*delete)(struct object_store *store, const char *key);

    /*
     * Call each() for every key that starts with prefix and is greater than
     * after ("" for all), in ascending bytewise order, until it returns other
     * than 0, which list then returns.
     */
    int (*list)(struct object_store *store, const char *prefix,
                const char *after, object_store_each *each, void *context);

    /* End what is in flight, free everything. */
    void (*close)(struct object_store *store);
};

/* Returns whether key obeys the rules at the top of this file. */
bool object_key_is_valid(const char *key);

#endif
