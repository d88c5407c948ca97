/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * put_probe - whether a store obeys a conditional put.
 *
 * One for each store, shared by its devices.  The answer is kept in memory
 * only: a process asks before the first epoch that it creates (some twenty
 * small objects), so an idle run asks nothing, and a store that was changed
 * meanwhile is not believed on the word of an old file.
 *
 * Threads: any.  Locks: its own, a leaf, not held while the store is asked.
 */
#ifndef CACHE_PUT_PROBE_H
#define CACHE_PUT_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mutex.h"

struct object_store;

struct put_probe {
    struct mutex mutex;
    bool is_known GUARDED_BY(mutex);
    bool is_obeyed GUARDED_BY(mutex);
    bool has_failed GUARDED_BY(mutex);   /* since it last gave an answer */
    uint64_t asked_ns GUARDED_BY(mutex); /* monotonic */
};

/* Make it ready: nothing is known; and release it when nobody asks. */
void put_probe_init(struct put_probe *probe);
void put_probe_done(struct put_probe *probe);

/*
 * Tell whether a put with if_absent creates only what is absent, also when
 * several race.  Asks the store, with keys below <device_name>/probe/, if
 * it was not asked for a week.  A store that does not is said loudly; if
 * was_disobedient, the device has known it since before: then it is said when
 * the store is asked, and not so loudly.  An error (logged, the first
 * one in a row): the store gave no answer.
 */
int put_probe_ask(struct put_probe *probe, struct object_store *store,
                  const char *device_name, bool was_disobedient,
                  bool *ret_is_obeyed);

/* Something happened that a store which obeys would not do: ask anew. */
void put_probe_doubt(struct put_probe *probe);

#endif
