/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * state_contents - all that the state says, and how a change changes it.
 *
 * For state_log.c, state_replay.c and state_snapshot.c: what is committed and
 * what is read back go the same way.  Whether a change fits is asked before
 * it is durable; then it is applied, which cannot fail.
 */
#ifndef CACHE_STATE_CONTENTS_H
#define CACHE_STATE_CONTENTS_H

#include <stdatomic.h>
#include <stdint.h>

#include "cache/catalog.h"
#include "cache/state_log.h"

/* Where the state stands; read by any thread, and in no order. */
struct state_numbers {
    _Atomic uint64_t commit;
    _Atomic uint64_t journal_begin;
    _Atomic uint64_t last_generation;
};

struct state_contents {
    struct catalog *catalog;    /* of the device */
    struct catalog *checkpoint; /* of the open checkpoint */
    struct state_facts facts;
    struct state_numbers numbers;
};

/*
 * Change the facts as a change says.  -EINVAL: it makes no sense after what
 * they say, and they are as before.
 */
int state_facts_follow(struct state_facts *facts,
                       const struct state_change *change);

/*
 * Take what applying a change to the catalogs needs: *ret_objects, which may
 * be NULL and goes to state_contents_apply, or to free().  -EINVAL: a chunk
 * past the end, or an entry that cannot be; -ENOMEM.
 */
int state_contents_prepare(struct state_contents *contents,
                           const struct state_change *change,
                           struct chunk_object **ret_objects);

/* Apply a change to catalogs and numbers; the facts are the caller's. */
void state_contents_apply(struct state_contents *contents,
                          const struct state_change *change,
                          struct chunk_object *objects);

/* Back to a state that says nothing. */
void state_contents_clear(struct state_contents *contents);

#endif
