/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * object_store - the seam between the cache and where objects are kept.
 *
 * lib/cache calls it; lib/s3 implements it (dir_store on a directory, s3_store
 * on S3); programs choose.  A key is at most OBJECT_KEY_MAX bytes out of
 * [0-9a-zA-Z/._-], with neither an empty part nor "." or ".." between
 * slashes.  Objects are written once, whole, and never changed.
 *
 * Threads: any, many at once.  A call tries again by itself as long as the
 * store's patience allows and returns 0 or a negative errno:
 *   -ENOENT     no such object; the store itself answered properly
 *   -EEXIST     a conditional put found the key taken
 *   -EIO        the store failed, or its answer makes no sense
 *   -EBUSY      the store asked to slow down, all through its patience
 *   -ETIMEDOUT  no answer within the deadline
 *   -EACCES     the store refuses: credentials, permission, no such bucket
 *   -ECANCELED  the store was interrupted
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

/* For whom something is read: how soon, and how often it is tried. */
enum object_urgency {
    /*
     * Somebody's request waits for it.  It goes before all others, and is
     * tried until it is answered or the store is interrupted: returns only 0,
     * -ENOENT, -ECANCELED, or -EIO for what makes no sense time and again.
     */
    OBJECT_WAITED_FOR,
    /* Somebody may want it soon: it goes second, and fails soon. */
    OBJECT_AHEAD,
    /* What can wait; fails when the store's patience ends. */
    OBJECT_BACKGROUND,
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
               void *data, size_t len, enum object_urgency urgency);

    /*
     * Create the object, durable on return.  if_absent: only if no object has
     * this key, decided by the store in one step, else -EEXIST.  Its data
     * must be such as nobody else would put: when it cannot be known whether
     * an attempt was carried out, an object of the same data is success.
     * After an error other than -EEXIST the object may exist, whole, now or
     * later.
     */
    int (*put)(struct object_store *store, const char *key, const void *data,
               size_t len, bool if_absent);

    /* Tell what there is to know of an object without reading it. */
    int (*head)(struct object_store *store, const char *key,
                struct object_info *ret_info);

    /*
     * Remove the objects, one at least; absent ones are success.  After an
     * error some of them may be gone.
     */
    int (*delete)(struct object_store *store, const char *const keys[],
                  size_t count);

    /*
     * Call each() for every key that starts with prefix and is greater than
     * after ("" for all), in ascending bytewise order, until it returns other
     * than 0, which list then returns.
     */
    int (*list)(struct object_store *store, const char *prefix,
                const char *after, object_store_each *each, void *context);

    /*
     * Have every call, also those under way, return -ECANCELED soon, from now
     * on.  Does not wait for them.
     */
    void (*interrupt)(struct object_store *store);

    /*
     * Returns what there is to tell about the store and its endpoints, a JSON
     * object without line feeds that the caller frees; NULL: nothing.
     */
    char *(*describe)(struct object_store *store);

    /* Free everything; no call is under way any more. */
    void (*close)(struct object_store *store);
};

/* Remove one object; an absent one is success. */
static inline int object_delete_one(struct object_store *store, const char *key)
{
    return store->delete (store, &key, 1);
}

/* Returns whether key obeys the rules at the top of this file. */
bool object_key_is_valid(const char *key);

#endif
