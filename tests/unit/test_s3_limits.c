/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_limits.h"

#include <stdlib.h>
#include <time.h>

#include "unit/test.h"

static const uint64_t S_NS = 1000000000;

/* That time of the day in 1970, in UTC. */
static uint64_t at(unsigned hour, unsigned minute)
{
    return (hour * 60 + minute) * 60 * S_NS;
}

/* Times of day below are those of UTC. */
static void live_in_utc(void)
{
    CHECK(setenv("TZ", "UTC0", 1) == 0);
    tzset();
}

TEST("without entries there is no rate, and nothing takes longer")
{
    struct s3_limits *limits = NULL;

    NEED(s3_limits_new(NULL, 0, NULL, 0, &limits) == 0);
    CHECK(!s3_limits_up(limits) && !s3_limits_down(limits));
    CHECK(s3_limits_time_ns(limits, 1 << 30) == 0);
    s3_limits_free(limits);
}

TEST("each way has its own limit")
{
    const struct bandwidth_entry up = {1000000, 0, BANDWIDTH_DAY};
    struct s3_limits *limits = NULL;

    NEED(s3_limits_new(&up, 1, NULL, 0, &limits) == 0);
    NEED(s3_limits_up(limits));
    CHECK(!s3_limits_down(limits));
    CHECK(s3_limits_up(limits)->bytes_per_s == 1000000);
    s3_limits_free(limits);
}

TEST("the limit follows the time of day, minute by minute")
{
    const struct bandwidth_entry down = {2000000, 8 * 60, 23 * 60};
    struct s3_limits *limits = NULL;

    live_in_utc();
    NEED(s3_limits_new(NULL, 0, &down, 1, &limits) == 0);
    NEED(s3_limits_down(limits));
    s3_limits_refresh(limits, at(7, 59), 1);
    CHECK(s3_limits_down(limits)->bytes_per_s == 0);
    s3_limits_refresh(limits, at(8, 0), 1);
    CHECK(s3_limits_down(limits)->bytes_per_s == 2000000);
    s3_limits_refresh(limits, at(22, 59), 1);
    CHECK(s3_limits_down(limits)->bytes_per_s == 2000000);
    s3_limits_refresh(limits, at(23, 0), 1);
    CHECK(s3_limits_down(limits)->bytes_per_s == 0);
    s3_limits_free(limits);
}

TEST("who shares the slowest limit has time for that")
{
    const struct bandwidth_entry up[] = {{1000000, 0, 60},
                                         {50000, 60, BANDWIDTH_DAY}};
    struct s3_limits *limits = NULL;

    NEED(s3_limits_new(up, 2, NULL, 0, &limits) == 0);
    CHECK(s3_limits_time_ns(limits, 1000000) >= 20 * S_NS);
    CHECK(s3_limits_time_ns(limits, 0) == 0);
    s3_limits_free(limits);
}

TEST("limits that change hold at once, each way, and can go")
{
    const struct bandwidth_entry slow = {1000, 0, BANDWIDTH_DAY};
    const struct bandwidth_entry fast[] = {{5000, 0, 12 * 60},
                                           {5000, 12 * 60, 24 * 60}};
    struct s3_limits *limits = NULL;
    struct rate *up;

    live_in_utc();
    NEED(s3_limits_new(&slow, 1, NULL, 0, &limits) == 0);
    up = s3_limits_up(limits);
    NEED(up);
    NEED(s3_limits_set(limits, fast, 2, &slow, 1) == 0);
    CHECK(s3_limits_up(limits) == up && up->bytes_per_s == 5000);
    NEED(s3_limits_down(limits));
    CHECK(s3_limits_down(limits)->bytes_per_s == 1000);
    CHECK(s3_limits_time_ns(limits, 1000) >= S_NS);
    NEED(s3_limits_set(limits, NULL, 0, NULL, 0) == 0);
    CHECK(!s3_limits_up(limits) && !s3_limits_down(limits));
    CHECK(up->bytes_per_s == 0); /* who asked before is let go */
    CHECK(s3_limits_time_ns(limits, 1000) == 0);
    s3_limits_free(limits);
}
