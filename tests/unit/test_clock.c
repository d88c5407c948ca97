/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/clock.h"

#include "unit/test.h"

TEST("the monotonic clock never goes back")
{
    uint64_t before = clock_monotonic_ns();

    CHECK(before > 0);
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t now = clock_monotonic_ns();

        CHECK(now >= before);
        before = now;
    }
}

TEST("the clock of stamps counts from 1970")
{
    /* 2020 in nanoseconds: a build machine's clock is past that. */
    CHECK(clock_realtime_ns() > UINT64_C(1577836800000000000));
}

TEST("a moment that many milliseconds ahead, also of the longest, is reckoned")
{
    clock_set_for_tests(42);
    CHECK(clock_after_ms(0) == 42);
    CHECK(clock_after_ms(3) == 3000042);
    CHECK(clock_after_ms(UINT_MAX) == UINT64_C(4294967295000000) + 42);
    clock_set_for_tests(0);
}

TEST("a clock that was set stands still until it is let go")
{
    clock_set_for_tests(42);
    CHECK(clock_monotonic_ns() == 42);
    CHECK(clock_realtime_ns() == 42);
    CHECK(clock_monotonic_ns() == 42);
    clock_set_for_tests(UINT64_C(1) << 40);
    CHECK(clock_monotonic_ns() == UINT64_C(1) << 40);
    clock_set_for_tests(0);
    CHECK(clock_realtime_ns() > UINT64_C(1577836800000000000));
}
