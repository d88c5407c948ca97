/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * adopt - make a device's catalog equal to an image: what is here and not in
 * the image is gone, what is the same stays, the rest is in the bucket.
 *
 * For a device that comes to an empty or a stale cache directory, and for
 * rollback and discard.  In two steps, so that the store's answers are there
 * before anything is changed:
 *
 *   adopt_load   reads the whole image into memory; any thread
 *   adopt_apply  in the destage thread, see device_adopt, in this order:
 *                the intent (STATE_ADOPT) is durable; entries, some at a time;
 *                their files are removed, when nothing names them any more;
 *                STATE_ADOPTED
 *
 * When it does not come to the end, the state log says so (must_adopt): what
 * is here then is a mixture, of which nothing may be served before it is done
 * again, with the same image or another one.
 *
 * A chunk that is clean, and whose newest object the image names as its newest,
 * keeps its entry and file.
 *
 * Locks: none.
 */
#ifndef CACHE_ADOPT_H
#define CACHE_ADOPT_H

#include <stdint.h>

#include "cache/state_log.h"

struct catalog;
struct chunk_reader;
struct image;

struct adoption {
    struct chunk_reader *reader; /* of the device */
    struct state_log *state_log;
    uint64_t chunks_count; /* of the device */
    const uint8_t *record; /* STATE_RECORD_SIZE, of the image's epoch */
    uint64_t time_ns;      /* when the image was cut */

    /* The answer: what adopt_apply found and did. */
    uint64_t kept;    /* chunks */
    uint64_t changed; /* chunks, of which there is no more or another state */

    struct catalog *image; /* adopt's own */
};

/*
 * Read the image; NULL: one of holes alone.  -EINVAL: it does not fit into the
 * device (logged); others as image_next.
 */
int adopt_load(struct adoption *adoption, struct image *image);

/*
 * Apply what was loaded; context is a struct adoption.  After an error it may
 * be called again.  Errors: of the state log; what is logged.
 */
int adopt_apply(void *context);

/* Free what adopt_load took; also after an error, or before it. */
void adopt_done(struct adoption *adoption);

#endif
