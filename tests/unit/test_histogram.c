/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/histogram.h"

#include "unit/test.h"

static const uint64_t US = 1000;
static const uint64_t MS = 1000000;
static const uint64_t S = 1000000000;

/* The bucket that counts this time, by its count. */
static size_t bucket_that_counts(uint64_t ns)
{
    struct histogram histogram = {0};
    size_t found = HISTOGRAM_BUCKETS;

    histogram_add(&histogram, ns);
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (histogram.counts[i] != 0 && !CHECK(found == HISTOGRAM_BUCKETS))
            break;
        if (histogram.counts[i] != 0)
            found = i;
    }
    CHECK(histogram.total == 1);
    return found;
}

/* Whether it is at most a quarter off. */
static bool is_about(uint64_t ns, uint64_t expected)
{
    return ns >= expected - expected / 4 && ns <= expected + expected / 4;
}

TEST("each bucket counts from where the one before ends to its own end")
{
    uint64_t begin = 0;

    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t end = histogram_bucket_end_ns(i);

        CHECK(end > begin);
        CHECK(bucket_that_counts(begin) == i);
        CHECK(bucket_that_counts(begin + (end - begin) / 2) == i);
        CHECK(bucket_that_counts(end) == i);
        /* Four to a doubling: none is wider than a quarter of its begin. */
        CHECK(i == 0 || i == HISTOGRAM_BUCKETS - 1 ||
              (end - begin) <= begin / 4);
        begin = end + 1;
    }
    CHECK(begin == 0);
    CHECK(histogram_bucket_end_ns(0) < 17 * US);
    CHECK(histogram_bucket_end_ns(HISTOGRAM_BUCKETS - 2) > 137 * S);
}

TEST("an empty histogram has percentiles of 0")
{
    struct histogram histogram = {0};

    CHECK(histogram_percentile(&histogram, 0) == 0);
    CHECK(histogram_percentile(&histogram, 500) == 0);
    CHECK(histogram_percentile(&histogram, 1000) == 0);
}

TEST("percentiles are right to a quarter, from microseconds to minutes")
{
    static const uint64_t units[] = {100000, 1000000, 10000000, 100000000};

    for (size_t u = 0; u < sizeof(units) / sizeof(units[0]); u++) {
        struct histogram histogram = {0};

        for (uint64_t i = 1; i <= 1000; i++)
            histogram_add(&histogram, i * units[u]);
        for (unsigned per_mille = 10; per_mille <= 990; per_mille += 10) {
            CHECK(is_about(histogram_percentile(&histogram, per_mille),
                           per_mille * units[u]));
        }
    }
}

TEST("percentiles never fall as the share grows")
{
    struct histogram histogram = {0};
    uint64_t last = 0, random = 1;

    for (unsigned i = 0; i < 300; i++) {
        random = random * UINT64_C(6364136223846793005) + 1;
        histogram_add(&histogram, random >> (20 + i % 40));
    }
    for (unsigned per_mille = 0; per_mille <= 1000; per_mille++) {
        uint64_t now = histogram_percentile(&histogram, per_mille);

        CHECK(now >= last);
        last = now;
    }
}

TEST("one slow one of a hundred shows in the last percent and nowhere else")
{
    struct histogram histogram = {0};

    for (unsigned i = 0; i < 99; i++)
        histogram_add(&histogram, 30 * MS);
    histogram_add(&histogram, 5 * S);
    CHECK(is_about(histogram_percentile(&histogram, 500), 30 * MS));
    CHECK(is_about(histogram_percentile(&histogram, 990), 30 * MS));
    CHECK(is_about(histogram_percentile(&histogram, 999), 5 * S));
}

TEST("what is shorter or longer than all buckets is counted at the ends")
{
    struct histogram histogram = {0};

    histogram_add(&histogram, 0);
    histogram_add(&histogram, UINT64_MAX);
    CHECK(histogram.counts[0] == 1);
    CHECK(histogram.counts[HISTOGRAM_BUCKETS - 1] == 1);
    CHECK(histogram_percentile(&histogram, 500) < 17 * US);
    CHECK(histogram_percentile(&histogram, 1000) > 137 * S);
    CHECK(histogram_percentile(&histogram, 1000) < 138 * S);
}

TEST("halved, the past counts for half of what comes now, and then for nothing")
{
    struct histogram histogram = {0};

    for (unsigned i = 0; i < 1000; i++)
        histogram_add(&histogram, 10 * MS);
    histogram_halve(&histogram);
    CHECK(histogram.total == 500);
    for (unsigned i = 0; i < 600; i++)
        histogram_add(&histogram, 400 * MS);
    CHECK(is_about(histogram_percentile(&histogram, 400), 10 * MS));
    CHECK(is_about(histogram_percentile(&histogram, 500), 400 * MS));
    for (unsigned i = 0; i < 10; i++)
        histogram_halve(&histogram);
    CHECK(histogram.total == 0);
    CHECK(histogram_percentile(&histogram, 500) == 0);
}

TEST("two to each doubling have the same counts, and ends of their own")
{
    struct histogram histogram = {.total = 0};
    uint64_t halves[HISTOGRAM_HALVES], sum = 0, below = 0;
    uint64_t state = 88172645463325252U;

    for (unsigned i = 0; i < 10000; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        histogram_add(&histogram, state >> (state & 63));
    }
    histogram_get_halves(&histogram, halves);
    for (size_t i = 0, bucket = 0; i < HISTOGRAM_HALVES; i++) {
        sum += halves[i];
        do
            below += histogram.counts[bucket];
        while (histogram_bucket_end_ns(bucket++) < histogram_half_end_ns(i));
        CHECK(sum == below);
    }
    CHECK(sum == histogram.total);
    CHECK(histogram_half_end_ns(0) == (1 << 14) - 1);
    CHECK(histogram_half_end_ns(1) == (1 << 14) + (1 << 13) - 1);
    CHECK(histogram_half_end_ns(2) == (1 << 15) - 1);
    CHECK(histogram_half_end_ns(HISTOGRAM_HALVES - 1) == UINT64_MAX);
}
