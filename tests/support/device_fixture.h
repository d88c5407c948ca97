/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device_fixture - a device in a directory of a test, with its pools, and a
 * call that waits for each operation.
 *
 * Threads: one sets it up; the calls that run a request: any.
 */
#ifndef SUPPORT_DEVICE_FIXTURE_H
#define SUPPORT_DEVICE_FIXTURE_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/device.h"

struct device_fixture {
    /* Before fixture_open, to be changed at will. */
    struct device_options options;
    struct device *device; /* NULL: it is closed */
    char dir[PATH_MAX];    /* of the test */
    char cachedir[PATH_MAX];
    char journal_dir[PATH_MAX]; /* unless "": apart from cachedir */
    unsigned copies;            /* made by fixture_crash */
};

/*
 * Make an empty cache directory below dir, and options for a small device:
 * 16 MiB in chunks of 256 KiB, a journal of 1 MiB in segments of 64 KiB, 1
 * MiB for blocks in memory, no store.  apart: the journal is elsewhere.
 */
void fixture_begin(struct device_fixture *fixture, const char *dir, bool apart);

/* Close what is open, and the store, and end the pools. */
void fixture_end(struct device_fixture *fixture);

/* device_open, device_close, and the one after the other. */
int fixture_open(struct device_fixture *fixture);
int fixture_close(struct device_fixture *fixture);
int fixture_reopen(struct device_fixture *fixture);

/*
 * Open what a kill would leave now: a copy of the directories, made while
 * the device is open, takes their place.
 */
int fixture_crash(struct device_fixture *fixture);

/* Run one request; the error is returned.  flags are of device_flags. */
int fixture_read(struct device_fixture *fixture, uint64_t offset, void *data,
                 size_t length);
int fixture_write(struct device_fixture *fixture, uint64_t offset,
                  const void *data, size_t length, unsigned flags);
int fixture_zero(struct device_fixture *fixture, uint64_t offset,
                 uint64_t length, unsigned flags);
int fixture_trim(struct device_fixture *fixture, uint64_t offset,
                 uint64_t length);
int fixture_flush(struct device_fixture *fixture);
int fixture_prefetch(struct device_fixture *fixture, uint64_t offset,
                     uint64_t length);

/*
 * Tell the flags of the byte at offset, of device_extent_flags, or a negative
 * errno.
 */
int fixture_extent_at(struct device_fixture *fixture, uint64_t offset);

/* Returns what device_status tells. */
struct device_status fixture_status(struct device_fixture *fixture);

/* Fill data with bytes that depend on seed, and are neither zero nor small
 * when compressed. */
void fixture_fill(void *data, size_t length, uint64_t seed);

/* Write the path of a chunk's file. */
void fixture_chunk_path(const struct device_fixture *fixture, uint64_t chunk,
                        char path[PATH_MAX]);

#endif
