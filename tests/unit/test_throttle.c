/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/throttle.h"

#include "unit/test.h"

static const uint64_t GIB = 1 << 30;
static const uint64_t MS = 1000000;

TEST("below 60 % of capacity nothing waits")
{
    for (uint64_t percent = 0; percent < 60; percent++)
        CHECK(throttle_delay_ns(GIB * percent / 100, GIB, 64 << 20) == 0);
}

TEST("at the brim a page waits for 100 ms, a large write for 16 times that")
{
    CHECK(throttle_delay_ns(GIB, GIB, 4096) == 100 * MS);
    CHECK(throttle_delay_ns(GIB, GIB, 65536) == 1600 * MS);
    CHECK(throttle_delay_ns(GIB, GIB, 64 << 20) == 1600 * MS);
    CHECK(throttle_delay_ns(GIB, GIB, 512) == 100 * MS);
    CHECK(throttle_delay_ns(GIB, GIB, 0) == 100 * MS);
}

TEST("more than full, or a capacity of nothing, is full")
{
    CHECK(throttle_delay_ns(GIB + 1, GIB, 4096) == 100 * MS);
    CHECK(throttle_delay_ns(UINT64_MAX, 1, 4096) == 100 * MS);
    CHECK(throttle_delay_ns(0, 0, 4096) == 100 * MS);
    CHECK(throttle_delay_ns(5, 0, 4096) == 100 * MS);
}

TEST("the delay never falls, and never jumps, as space fills")
{
    uint64_t last = 0;

    for (uint64_t step = 0; step <= 100000; step++) {
        uint64_t now =
            throttle_delay_ns(GIB / 100000 * step, GIB / 100000 * 100000, 4096);

        /* The steepest piece: 3 x 100 ms / 40000 steps at the brim. */
        if (!CHECK(now >= last && now - last <= 7600))
            return;
        last = now;
    }
    CHECK(last == 100 * MS);
}

TEST("the delay never falls, and never jumps, as writes grow")
{
    uint64_t last = throttle_delay_ns(GIB / 5 * 4, GIB, 0);

    CHECK(last > 0);
    for (uint64_t size = 512; size <= 1 << 20; size += 512) {
        uint64_t now = throttle_delay_ns(GIB / 5 * 4, GIB, size);

        if (!CHECK(now >= last && now - last <= 100 * MS / 8 / 8 + 1))
            return;
        last = now;
    }
    CHECK(last / 16 == throttle_delay_ns(GIB / 5 * 4, GIB, 4096));
}

TEST("the largest numbers give a delay like others of their proportion")
{
    uint64_t huge = throttle_delay_ns(UINT64_MAX / 10 * 9, UINT64_MAX, 4096);
    uint64_t small = throttle_delay_ns(900, 1000, 4096);

    CHECK(huge > small - 10 && huge < small + 10);
    CHECK(throttle_delay_ns(UINT64_MAX, UINT64_MAX, UINT64_MAX) == 1600 * MS);
}
