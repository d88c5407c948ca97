/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_exports - what clients can choose, by name, and the memory that the
 * requests of each may take.
 *
 * One may be added at any time; none is ever changed or removed, so that who
 * has found one may use it as long as all of them are there.
 *
 * Threads: any.  Locks: its own, then that of nbd_memory.
 */
#ifndef NBD_EXPORTS_H
#define NBD_EXPORTS_H

#include <stdbool.h>
#include <stddef.h>

#include "nbd/nbd_wire.h"

struct device;
struct nbd_exports;
struct nbd_memory;
struct nbd_tally;

/* A device as clients see it. */
struct nbd_export {
    struct device *device;
    const char *name;        /* at most 4096 bytes of UTF-8 */
    const char *description; /* for people, or NULL */
    bool read_only;          /* also when the device is not */
};

/*
 * Make an empty list.  default_name, which must outlive it, is the export that
 * who asks for "" gets: none as long as it is not there; NULL: the first that
 * was added.  memory_max bytes are shared by all evenly, but each has 64 MiB.
 */
int nbd_exports_new(const char *default_name, size_t memory_max,
                    struct nbd_exports **ret_exports);

/* Free it, and nothing that it points to; NULL does nothing. */
void nbd_exports_free(struct nbd_exports *exports);

/*
 * Add an export behind the others.  It is copied; what it points to must
 * outlive the list.  -EINVAL: its name is too long or no UTF-8; -EEXIST: there
 * is one of that name.
 */
int nbd_exports_add(struct nbd_exports *exports,
                    const struct nbd_export *export);

/* Returns the export of that name, or NULL. */
const struct nbd_export *nbd_exports_find(struct nbd_exports *exports,
                                          struct nbd_string name);

/* Returns the one added after that one, the first after NULL; or NULL. */
const struct nbd_export *nbd_exports_next(struct nbd_exports *exports,
                                          const struct nbd_export *before);

/*
 * Returns the memory for requests to an export of a list; and what was counted
 * of its connections that have ended.
 */
struct nbd_memory *nbd_exports_memory(const struct nbd_export *export);
struct nbd_tally *nbd_exports_tally(const struct nbd_export *export);

#endif
