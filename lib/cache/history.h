/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * history - the epochs of a device that are in the bucket: which of them are
 * kept, and whose objects nobody may need any more.
 *
 * A tenure is the time in which one cache directory wrote the device: a run of
 * epochs that carry its id.  The last epoch of each tenure is kept for good,
 * so the numbers of all tenures can always be told, although most epochs are
 * removed with their images.
 *
 * Used by collect.c.  Pure but for history_read.
 */
#ifndef CACHE_HISTORY_H
#define CACHE_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/condemned.h"
#include "cache/epoch.h"

struct object_store;

struct history_epoch {
    struct epoch_record record;
    bool has_kept_image; /* its image is one that is kept */
    bool is_kept;        /* the record is */
    bool is_landmark;    /* it is kept whatever its image: that may be gone */
    bool ids_are_free;   /* of the objects of its tenure */
};

struct history {
    struct history_epoch *epochs; /* ascending */
    size_t count;
};

/* Read all epochs: a LIST, and a GET for each.  history_done frees. */
int history_read(struct object_store *store, const char *device_name,
                 struct history *ret_history);
void history_done(struct history *history);

/*
 * Decide what is kept: the newest epoch and its image, the newest images up to
 * keep of which no list names the root, the epochs that brought them, the last
 * epoch of each tenure, tombstones, and what is in conflict.  And whose ids are
 * free: not those of a cache directory that lost the device to another, was not
 * released before, and has not come back since; unless others is set.
 */
void history_judge(struct history *history, unsigned keep,
                   const struct condemned roots[], size_t roots_count,
                   bool others);

/* Returns whether an object with an id of that claim's epoch may go. */
bool history_id_is_free(const struct history *history, uint64_t epoch);

/* Returns the epoch of that number and nonce; NULL: there is none. */
const struct history_epoch *history_find(const struct history *history,
                                         uint64_t epoch, uint64_t nonce);

/* Returns whether a list of roots names this one. */
bool history_names_root(const struct condemned roots[], size_t roots_count,
                        const struct root_ref *root);

#endif
