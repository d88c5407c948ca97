/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cold_read - how fast a device is of which nothing is here, on a store that
 * is far away, or on a narrow line.
 *
 *   cold_read latency DIRECTORY      random reads of 4 KiB, one at a time,
 *                                    30 ms added to each request
 *   cold_read bandwidth DIRECTORY    reads in a row, one at a time, from a
 *                                    store limited to 200 MB/s
 *
 * The directory is empty, and gets the cache directory.  Objects are in
 * memory; above the device there is no NBD.  Prints one line of JSON.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "cache/device_ahead.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "support/device_fixture.h"
#include "support/memory_store.h"
#include "support/remote_chunk.h"
#include "support/slow_store.h"

enum {
    MIB = 1 << 20,
    CHUNK = 8 * MIB,
    CHUNKS = 96,
    READS_PER_CHUNK = 4, /* of more a chunk might be fetched whole */
    READS = CHUNKS * READS_PER_CHUNK,
    LATENCY_NS = 30000000,
    BYTES_PER_S = 200000000,
};

static struct device_fixture disk;
static unsigned char plain[CHUNK]; /* of every chunk */

static void need(bool ok, const char *what)
{
    if (ok)
        return;
    (void)fprintf(stderr, "cold_read: %s\n", what);
    exit(EXIT_FAILURE);
}

static double now_s(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Open a device as it is by default, with all its chunks in the bucket. */
static void begin(const char *dir, uint64_t latency_ns, uint64_t bytes_per_s)
{
    struct object_store *store = memory_store_new();

    log_set_level(LOG_LEVEL_ERROR);
    fixture_begin(&disk, dir, false);
    disk.options.store = slow_store_new(store, latency_ns, bytes_per_s);
    disk.options.size = (uint64_t)CHUNKS * CHUNK;
    disk.options.chunk_size = CHUNK;
    disk.options.journal_size = 64 * MIB;
    disk.options.segment_size = 0;
    disk.options.block_cache_size = (size_t)256 * MIB;
    disk.options.readahead = (size_t)64 * MIB;
    need(fixture_open(&disk) == 0, "cannot open the device");
    fixture_fill(plain, CHUNK, 1);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        struct chunk_object object;

        remote_put(disk.device, chunk, chunk + 1, plain, &object);
        remote_commit(disk.device, chunk, &object);
    }
}

static void read_at(uint64_t offset, size_t size)
{
    static unsigned char got[MIB];

    need(fixture_read(&disk, offset, got, size) == 0 &&
             memcmp(got, plain + offset % CHUNK, size) == 0,
         "wrong data");
}

/* Processor time of this program so far. */
static double cpu_s(void)
{
    struct timespec used;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return left < right ? -1 : left > right;
}

/* Each chunk's table is known before; no block is read twice. */
static void measure_latency(void)
{
    static double seconds[READS];
    const uint64_t blocks = CHUNK / CACHE_BLOCK;

    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        read_at(chunk * CHUNK, CACHE_PAGE);
    for (uint64_t i = 0; i < READS; i++) {
        uint64_t chunk = i * 37 % CHUNKS;
        uint64_t block = 1 + i * 193 % (blocks - 1);
        double begin_s = now_s();

        read_at(chunk * CHUNK + block * CACHE_BLOCK, CACHE_PAGE);
        seconds[i] = now_s() - begin_s;
    }
    qsort(seconds, READS, sizeof(seconds[0]), compare);
    (void)printf("{\"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
                 1e3 * seconds[READS / 2], 1e3 * seconds[READS * 99 / 100]);
}

static void measure_bandwidth(void)
{
    double bytes = (double)disk.options.size;
    double begin_s = now_s(), begin_cpu_s = cpu_s();

    for (uint64_t at = 0; at < disk.options.size; at += MIB)
        read_at(at, MIB);
    (void)printf("{\"mb_per_s\": %.1f, \"cpu_s_per_gib\": %.2f}\n",
                 bytes / 1e6 / (now_s() - begin_s),
                 (cpu_s() - begin_cpu_s) * (1 << 30) / bytes);
}

int main(int argc, char **argv)
{
    bool is_latency = argc == 3 && strcmp(argv[1], "latency") == 0;

    need(argc == 3 && (is_latency || strcmp(argv[1], "bandwidth") == 0),
         "usage: cold_read latency|bandwidth DIRECTORY");
    if (is_latency) {
        begin(argv[2], LATENCY_NS, 0);
        measure_latency();
    } else {
        begin(argv[2], 0, BYTES_PER_S);
        measure_bandwidth();
    }
    device_ahead_settle(disk.device);
    fixture_end(&disk);
    return EXIT_SUCCESS;
}
