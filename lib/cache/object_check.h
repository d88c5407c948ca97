/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * object_check - is what the bucket must have still there, and what it was?
 *
 * For scrub.c, which has to tell damage from a store that does not answer:
 * the former is a finding, the latter an error.
 *
 * Threads: any.  Locks: none.
 */
#ifndef CACHE_OBJECT_CHECK_H
#define CACHE_OBJECT_CHECK_H

#include <stddef.h>
#include <stdint.h>

struct object_store;

enum object_state {
    OBJECT_GOOD,
    OBJECT_MISSING,    /* the store says that there is no such object */
    OBJECT_SHORT,      /* it ends before what is to be read */
    OBJECT_CHANGED,    /* the bytes are not those that were written */
    OBJECT_UNREADABLE, /* it is there, but the store cannot read it */
};

/* Returns what to say of an object in that state, such as "is missing". */
const char *object_state_text(enum object_state state);

/*
 * Read size bytes at place.  *ret_state is GOOD if they arrived, whatever they
 * are, else one of the others but CHANGED, of which the store was asked twice.
 * An error (logged) means that nothing is known.
 */
int object_read(struct object_store *store, const char *key, uint64_t place,
                void *data, size_t size, enum object_state *ret_state);

/* The same, and CHANGED if they have not that CRC-32C. */
int object_check(struct object_store *store, const char *key, uint64_t place,
                 void *data, size_t size, uint32_t checksum,
                 enum object_state *ret_state);

#endif
