/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * snapshot - images that are kept by a name, or because a clone needs them.
 *
 *   <device>/snapshot/<name>/<epoch, 16 hex>-<nonce, 16 hex>
 *   <device>/pin/<uuid, 32 hex>
 *
 * A snapshot holds the epoch record of its image, so that it outlives the
 * epoch; its key has epoch and nonce of that image.  A pin holds that and the
 * clone's name and first epoch; it counts until the clone has been dropped.
 *
 * Threads: any.  Locks: none.  Errors of the store are logged.
 */
#ifndef CACHE_SNAPSHOT_H
#define CACHE_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/epoch.h"

struct object_store;

enum { SNAPSHOT_NAME_MAX = 63 };

struct snapshot {
    char name[SNAPSHOT_NAME_MAX + 1];
    struct epoch_record record; /* of the image */
    uint64_t made_ns;           /* when it got the name; the store's clock */
};

/* Returns whether a snapshot may have this name: a part of a key. */
bool snapshot_name_is_valid(const char *name);

/*
 * Give a name to the image of this record, by the holder of the claim, and not
 * while collect runs.  -EEXIST: another image has the name (the same one:
 * success); -ENODATA: the record has no image; -ESTALE: the image is
 * condemned, and cannot be kept any more.
 */
int snapshot_create(struct object_store *store, const char *device_name,
                    const char *name, const struct epoch_record *record);

/* Another result than 0 ends the list, which returns it. */
typedef int snapshot_each(void *context, const struct snapshot *snapshot);

/* Tell all snapshots, in the order of their names. */
int snapshot_list(struct object_store *store, const char *device_name,
                  snapshot_each *each, void *context);

/* Tell the snapshot of that name.  -ENOENT: there is none. */
int snapshot_find(struct object_store *store, const char *device_name,
                  const char *name, struct snapshot *ret_snapshot);

/* Remove a snapshot's name, for collect_drop_snapshot. */
int snapshot_delete(struct object_store *store, const char *device_name,
                    const struct snapshot *snapshot);

/* ---- pins and clones ------------------------------------------------------
 */

struct pin {
    uint8_t uuid[UUID_SIZE];
    char clone[DEVICE_NAME_MAX + 1]; /* the device that needs the image */
    uint64_t clone_epoch;            /* the first one that it has */
    struct epoch_record record;      /* of the image */
};

enum { PIN_SIZE = 640 };

/* Encode, decode and check (pure); errors as those of epoch_decode. */
void pin_encode(const struct pin *pin, uint8_t data[PIN_SIZE]);
int pin_decode(const uint8_t data[PIN_SIZE], struct pin *ret_pin);

/* Another result than 0 ends the list, which returns it. */
typedef int pin_each(void *context, const struct pin *pin);

/* Tell all pins of a device. */
int pin_list(struct object_store *store, const char *device_name,
             pin_each *each, void *context);

/* Remove a pin; for who made it, or whom pin_is_needed told that it may go. */
int pin_delete(struct object_store *store, const char *device_name,
               const uint8_t uuid[UUID_SIZE]);

/*
 * Tell whether the clone is still there, or may come to be: it was not
 * dropped after it was made.
 */
int pin_is_needed(struct object_store *store, const struct pin *pin,
                  bool *ret_is_needed);

/* What a clone is made of. */
struct clone_plan {
    struct object_store *store;
    const char *source;
    const char *snapshot; /* of source; NULL: its newest image */
    const char *name;     /* of the new device */
    /* The new device's ids: random; its first epoch is nobody's claim. */
    uint8_t device_id[UUID_SIZE];
    uint8_t cachedir_id[UUID_SIZE]; /* of who asks */
    const char *host;
    uint64_t time_ns;
    bool key_has_nonce;            /* as in epoch_record */
    const struct epoch_pace *pace; /* as for epoch_create */
};

/*
 * Make a device that has the content of an image of another one.  *ret_record
 * is its first epoch.
 *   -ENOENT   there is no such source, snapshot or image
 *   -EEXIST   there is a device of the new name (or it cannot be used)
 *   -ESTALE   the image was dropped meanwhile
 *   -EBUSY    another made a device of this name at the same time
 * After an error a pin may be left; it counts until a device of the new name
 * is dropped.
 */
int clone_create(const struct clone_plan *plan,
                 struct epoch_record *ret_record);

#endif
