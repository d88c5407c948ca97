/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mapped_cache - make the cache directory of a device whose chunks are all in
 * the bucket, as far as the cache directory tells.
 *
 *   mapped_cache DIRECTORY CHUNKS    chunks of 256 KiB
 *
 * The directory is empty, and gets cache, which is of the device "bench", and
 * store, which does not have the objects: for measuring what asks for none.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/number.h"
#include "cache/device_parts.h"
#include "s3/dir_store.h"
#include "support/device_fixture.h"
#include "support/remote_chunk.h"

enum { CHUNK = 256 << 10, CHUNKS_MAX = 1 << 24 };

static struct device_fixture disk;

static void need(bool ok, const char *what)
{
    if (ok)
        return;
    (void)fprintf(stderr, "mapped_cache: %s\n", what);
    exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
    uint64_t chunks = 0;
    char store[PATH_MAX];

    need(argc == 3 && number_parse(argv[2], 1, CHUNKS_MAX, &chunks) == 0,
         "usage: mapped_cache DIRECTORY CHUNKS");
    log_set_level(LOG_LEVEL_WARNING);
    fixture_begin(&disk, argv[1], false);
    need((size_t)snprintf(store, sizeof(store), "%s/store", argv[1]) <
                 sizeof(store) &&
             mkdir(store, 0700) == 0 &&
             dir_store_open(store, &disk.options.store) == 0,
         "cannot make the store");
    disk.options.name = "bench";
    disk.options.size = chunks * CHUNK;
    need(fixture_open(&disk) == 0, "cannot open the device");
    remote_commit_many(disk.device, chunks);
    need(fixture_close(&disk) == 0, "cannot close the device");
    fixture_end(&disk);
    return EXIT_SUCCESS;
}
