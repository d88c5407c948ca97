/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_exports.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mutex.h"
#include "nbd/nbd_memory.h"
#include "nbd/nbd_tally.h"

enum { MEMORY_MIN = 64 << 20 }; /* of an export: one request of any length */

struct item {
    struct nbd_export export; /* first */
    struct nbd_memory *memory;
    struct nbd_tally *tally;
    struct item *next; /* under the lock of the list */
};

struct nbd_exports {
    const char *default_name;
    size_t memory_max;
    struct mutex lock;
    struct item *first GUARDED_BY(lock);
    size_t count GUARDED_BY(lock);
};

int nbd_exports_new(const char *default_name, size_t memory_max,
                    struct nbd_exports **ret_exports)
{
    struct nbd_exports *exports = calloc(1, sizeof(*exports));

    if (!exports)
        return -ENOMEM;
    exports->default_name = default_name;
    exports->memory_max = memory_max;
    mutex_init(&exports->lock);
    *ret_exports = exports;
    return 0;
}

static void free_item(struct item *item)
{
    nbd_memory_free(item->memory);
    free(item->tally);
    free(item);
}

void nbd_exports_free(struct nbd_exports *exports)
{
    if (!exports)
        return;
    while (exports->first) {
        struct item *item = exports->first;

        exports->first = item->next;
        free_item(item);
    }
    mutex_done(&exports->lock);
    free(exports);
}

static size_t share_of(const struct nbd_exports *exports, size_t count)
{
    size_t share = exports->memory_max / count;

    return share < MEMORY_MIN ? MEMORY_MIN : share;
}

/* Put it at the end, and divide the memory anew. */
static int append_locked(struct nbd_exports *exports, struct item *item)
    REQUIRES(exports->lock)
{
    struct item **at = &exports->first;
    size_t share;

    for (; *at; at = &(*at)->next) {
        if (strcmp((*at)->export.name, item->export.name) == 0)
            return -EEXIST;
    }
    *at = item;
    share = share_of(exports, ++exports->count);
    for (item = exports->first; item; item = item->next)
        nbd_memory_limit(item->memory, share);
    return 0;
}

int nbd_exports_add(struct nbd_exports *exports,
                    const struct nbd_export *export)
{
    struct item *item;
    int error;

    if (!nbd_string_is_valid(
            (struct nbd_string){export->name, strlen(export->name)}))
        return -EINVAL;
    item = calloc(1, sizeof(*item));
    if (!item)
        return -ENOMEM;
    item->export = *export;
    item->tally = calloc(1, sizeof(*item->tally));
    error = -ENOMEM;
    if (item->tally)
        error = nbd_memory_new(share_of(exports, 1), &item->memory);
    if (error == 0) {
        mutex_lock(&exports->lock);
        error = append_locked(exports, item);
        mutex_unlock(&exports->lock);
    }
    if (error != 0)
        free_item(item);
    return error;
}

const struct nbd_export *nbd_exports_find(struct nbd_exports *exports,
                                          struct nbd_string name)
{
    const struct item *item;

    if (name.len == 0 && !exports->default_name)
        return nbd_exports_next(exports, NULL);
    if (name.len == 0)
        name = (struct nbd_string){exports->default_name,
                                   strlen(exports->default_name)};
    mutex_lock(&exports->lock);
    item = exports->first;
    while (item && !nbd_string_is(name, item->export.name))
        item = item->next;
    mutex_unlock(&exports->lock);
    return item ? &item->export : NULL;
}

static const struct item *item_of(const struct nbd_export *export)
{
    return (const struct item *)(const void *)export;
}

const struct nbd_export *nbd_exports_next(struct nbd_exports *exports,
                                          const struct nbd_export *before)
{
    const struct item *item;

    mutex_lock(&exports->lock);
    item = before ? item_of(before)->next : exports->first;
    mutex_unlock(&exports->lock);
    return item ? &item->export : NULL;
}

struct nbd_memory *nbd_exports_memory(const struct nbd_export *export)
{
    return item_of(export)->memory;
}

struct nbd_tally *nbd_exports_tally(const struct nbd_export *export)
{
    return item_of(export)->tally;
}
