/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/strays.h"

#include <errno.h>
#include <stdlib.h>

#include "base/auto.h"
#include "cache/catalog.h"
#include "cache/chunk_file.h"

enum { BATCH = 256 }; /* files, after which their directories are synced */

struct strays {
    struct chunk_dir *dir;
    struct catalog *catalog;
    uint64_t chunks[BATCH];
    size_t count; /* in chunks */
    uint64_t sum;
};

static int remove_batch(struct strays *strays)
{
    size_t count = strays->count;

    for (size_t i = 0; i < count; i++)
        strays->sum += chunk_file_remove(strays->dir, strays->chunks[i]) == 0;
    strays->count = 0;
    return count > 0 ? chunk_dir_sync(strays->dir, strays->chunks, count) : 0;
}

static int look_at(void *context, uint64_t chunk)
{
    struct strays *strays = context;
    unsigned flags;

    (void)catalog_generation(strays->catalog, chunk, &flags);
    if ((flags & CATALOG_FILE) != 0)
        return 0;
    strays->chunks[strays->count++] = chunk;
    return strays->count == BATCH ? remove_batch(strays) : 0;
}

int strays_remove(struct chunk_dir *dir, struct catalog *catalog,
                  uint64_t *ret_count)
{
    AUTO_FREE struct strays *strays = calloc(1, sizeof(*strays));
    int error;

    if (!strays)
        return -ENOMEM;
    strays->dir = dir;
    strays->catalog = catalog;
    error = chunk_dir_each(dir, look_at, strays);
    if (error == 0)
        error = remove_batch(strays);
    *ret_count = strays->sum;
    return error;
}
