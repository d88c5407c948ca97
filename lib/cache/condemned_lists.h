/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * condemned_lists - which lists of condemned.h are in the bucket, and reading
 * them.
 *
 * Errors are logged.  Threads: any.  Locks: none.
 */
#ifndef CACHE_CONDEMNED_LISTS_H
#define CACHE_CONDEMNED_LISTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/condemned.h"
#include "cache/manifest.h"

struct object_store;

struct condemned_list {
    uint64_t epoch; /* as in its keys */
    uint64_t nonce;
    uint32_t pages; /* from 0 on, without a gap */
    bool has_other; /* there are pages behind a gap */
    bool has_end;
    uint64_t ended_ns; /* has_end: when that came, by the store's clock */
};

struct condemned_lists {
    struct condemned_list *items;
    size_t count;
};

/* Tell the lists; one LIST.  condemned_lists_done frees. */
int condemned_lists_read(struct object_store *store, const char *device_name,
                         struct condemned_lists *ret_lists);
void condemned_lists_done(struct condemned_lists *lists);

/*
 * Read a page of a list (is_end: the end) into entries, which has room for
 * CONDEMNED_COUNT_MAX.  -EIO: it is not there, damaged, or that of another.
 */
int condemned_lists_page(struct object_store *store, const char *device_name,
                         const struct condemned_list *list, uint32_t page,
                         bool is_end, struct condemned_page *ret_page,
                         struct condemned entries[]);

/* Tell whether a list, complete or not, names this root. */
int condemned_lists_have_root(struct object_store *store,
                              const char *device_name,
                              const struct root_ref *root,
                              bool *ret_is_condemned);

#endif
