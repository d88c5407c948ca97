/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nbd_tally - what clients asked for, what came of it, and how long it took.
 *
 * A connection has one of its own, so that many do not count at the same
 * place; what those that have ended counted is kept with their export.
 *
 * Threads: any; each number by itself is right, together they may be of
 * slightly different moments.
 */
#ifndef NBD_TALLY_H
#define NBD_TALLY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/histogram.h"

enum nbd_tally_operation {
    NBD_TALLY_READ,
    NBD_TALLY_WRITE,
    NBD_TALLY_FLUSH,
    NBD_TALLY_TIMED, /* those above are timed */
    NBD_TALLY_TRIM = NBD_TALLY_TIMED,
    NBD_TALLY_ZERO,
    NBD_TALLY_OTHER,
    NBD_TALLY_OPERATIONS,
};

enum nbd_tally_error {
    NBD_TALLY_IO,
    NBD_TALLY_SPACE,
    NBD_TALLY_REFUSED, /* what was asked for cannot be done, or may not */
    NBD_TALLY_ELSE,
    NBD_TALLY_ERRORS,
};

/* All zero is an empty one. */
struct nbd_tally {
    _Atomic uint64_t requests[NBD_TALLY_OPERATIONS];
    _Atomic uint64_t errors[NBD_TALLY_ERRORS];
    _Atomic uint64_t bytes_read, bytes_written;
    _Atomic uint64_t in_flight;
    _Atomic uint64_t time_ns[NBD_TALLY_TIMED];
    _Atomic uint64_t latencies[NBD_TALLY_TIMED][HISTOGRAM_BUCKETS];
};

/* The device has so many requests more, or one less. */
void nbd_tally_enter(struct nbd_tally *tally, size_t count);
void nbd_tally_leave(struct nbd_tally *tally);

/*
 * Count a request that is answered: its command and its error as on the wire,
 * its length in bytes, and how long it took.
 */
void nbd_tally_count(struct nbd_tally *tally, uint16_t type, uint32_t error,
                     uint64_t length, uint64_t ns);

/* Take what one has counted, of which nothing is in flight, to another. */
void nbd_tally_move(struct nbd_tally *from, struct nbd_tally *to);

/* What tallies have counted so far; all zero to begin with. */
struct nbd_tally_sums {
    uint64_t requests[NBD_TALLY_OPERATIONS]; /* answered, also with an error */
    uint64_t errors[NBD_TALLY_ERRORS];
    uint64_t bytes_read, bytes_written; /* without error */
    uint64_t in_flight;
    uint64_t time_ns[NBD_TALLY_TIMED];
    struct histogram latencies[NBD_TALLY_TIMED];
};
void nbd_tally_add(struct nbd_tally *tally, struct nbd_tally_sums *sums);

/* Returns how many requests were answered, and how many with an error. */
uint64_t nbd_tally_requests(const struct nbd_tally_sums *sums);
uint64_t nbd_tally_errors(const struct nbd_tally_sums *sums);

#endif
