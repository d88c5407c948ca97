/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/histogram.h"

/*
 * Bucket 0 ends below 2^FIRST_BIT.  After it each doubling has PARTS buckets
 * of equal width, found by the bits behind the highest one; the last bucket
 * has no end.
 */
enum {
    FIRST_BIT = 14,
    PART_BITS = 2,
    PARTS = 1 << PART_BITS,
    DOUBLINGS = 23,
};

_Static_assert(HISTOGRAM_BUCKETS == 1 + DOUBLINGS * PARTS + 1,
               "a bucket below, those of the doublings, and one above");
_Static_assert(HISTOGRAM_HALVES == 1 + DOUBLINGS * PARTS / 2 + 1,
               "two of the doublings' together");

size_t histogram_bucket_of(uint64_t ns)
{
    unsigned bit, part;

    if (ns < UINT64_C(1) << FIRST_BIT)
        return 0;
    if (ns >= UINT64_C(1) << (FIRST_BIT + DOUBLINGS))
        return HISTOGRAM_BUCKETS - 1;
    bit = 63 - (unsigned)__builtin_clzll(ns);
    part = (unsigned)(ns >> (bit - PART_BITS)) & (PARTS - 1);
    return 1 + (size_t)(bit - FIRST_BIT) * PARTS + part;
}

/* The shortest time that the bucket counts; of one beyond them, its end. */
static uint64_t begin_ns(size_t index)
{
    uint64_t doubling = (index - 1) / PARTS, part = (index - 1) % PARTS;

    if (index == 0)
        return 0;
    return (PARTS + part) << (FIRST_BIT - PART_BITS + doubling);
}

uint64_t histogram_bucket_end_ns(size_t index)
{
    if (index >= HISTOGRAM_BUCKETS - 1)
        return UINT64_MAX;
    return begin_ns(index + 1) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t ns)
{
    histogram->counts[histogram_bucket_of(ns)]++;
    histogram->total++;
}

uint64_t histogram_percentile(const struct histogram *histogram,
                              unsigned per_mille)
{
    double wanted = (double)histogram->total * (double)per_mille / 1000;
    double below = 0;
    size_t index = 0;

    if (histogram->total == 0)
        return 0;
    while (index < HISTOGRAM_BUCKETS - 1 &&
           (histogram->counts[index] == 0 ||
            below + (double)histogram->counts[index] < wanted)) {
        below += (double)histogram->counts[index];
        index++;
    }
    if (index == HISTOGRAM_BUCKETS - 1)
        return begin_ns(index);
    /* As if those of a bucket were spread over it evenly. */
    return begin_ns(index) +
           (uint64_t)((double)(begin_ns(index + 1) - begin_ns(index)) *
                      ((wanted - below) / (double)histogram->counts[index]));
}

void histogram_halve(struct histogram *histogram)
{
    histogram->total = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        histogram->counts[i] /= 2;
        histogram->total += histogram->counts[i];
    }
}

void histogram_get_halves(const struct histogram *histogram,
                          uint64_t ret_counts[HISTOGRAM_HALVES])
{
    ret_counts[0] = histogram->counts[0];
    for (size_t i = 1; i < HISTOGRAM_HALVES - 1; i++)
        ret_counts[i] = histogram->counts[2 * i - 1] + histogram->counts[2 * i];
    ret_counts[HISTOGRAM_HALVES - 1] = histogram->counts[HISTOGRAM_BUCKETS - 1];
}

uint64_t histogram_half_end_ns(size_t index)
{
    if (index >= HISTOGRAM_HALVES - 1)
        return UINT64_MAX;
    return histogram_bucket_end_ns(2 * index);
}
