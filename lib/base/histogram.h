/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * histogram - how long things take: counts of nanoseconds, four buckets to
 * each doubling (pure).
 *
 * From below 16 microseconds to above 137 seconds; what is shorter or longer
 * is counted in the first or last bucket.  All zero is an empty one.
 *
 * Threads: none of its own; the caller's lock, if any, guards it.
 */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

enum {
    HISTOGRAM_BUCKETS = 94,
    HISTOGRAM_HALVES = 48, /* the same, but two to each doubling */
};

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total; /* of all buckets */
};

/* Returns in which bucket that is: for who counts in another way. */
size_t histogram_bucket_of(uint64_t ns);

/* Count one. */
void histogram_add(struct histogram *histogram, uint64_t ns);

/*
 * Returns the time that this share of them (out of 1000: 500 is the median)
 * did not exceed, exact to a quarter; 0 if there are none.
 */
uint64_t histogram_percentile(const struct histogram *histogram,
                              unsigned per_mille);

/* Halve all counts, so that what comes now counts for more. */
void histogram_halve(struct histogram *histogram);

/*
 * Returns the longest time that bucket number index counts; UINT64_MAX for
 * the last.  Bucket 0 begins at 0, each other where the one before ends.
 */
uint64_t histogram_bucket_end_ns(size_t index);

/*
 * Tell the counts as two to each doubling, for those who take many of them
 * over a wire; and the longest time that the one number index counts,
 * UINT64_MAX for the last.
 */
void histogram_get_halves(const struct histogram *histogram,
                          uint64_t ret_counts[HISTOGRAM_HALVES]);
uint64_t histogram_half_end_ns(size_t index);

#endif
