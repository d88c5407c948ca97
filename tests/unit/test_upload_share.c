/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/upload_share.h"

#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "unit/test.h"

static const uint64_t SECOND = 1000000000;

TEST("the limit is divided by the devices that upload, and no others")
{
    static const struct bandwidth_entry limit = {1000, 0, BANDWIDTH_DAY};
    struct upload_sharer one, two, three;
    struct upload_share *share;

    NEED(upload_share_new(&limit, 1, &share) == 0);
    clock_set_for_tests(100 * SECOND);
    upload_share_join(share, &one);
    upload_share_join(share, &two);
    upload_share_join(share, &three);
    CHECK(upload_share_rate(share, &one) == 1000);
    CHECK(upload_share_rate(share, &one) == 1000);
    CHECK(upload_share_rate(share, &two) == 500);
    CHECK(upload_share_rate(share, &one) == 500);
    CHECK(upload_share_rate(share, &three) == 334); /* none gets nothing */
    clock_set_for_tests(115 * SECOND);
    CHECK(upload_share_rate(share, &one) == 334);
    clock_set_for_tests(140 * SECOND); /* the others have not asked since */
    CHECK(upload_share_rate(share, &one) == 1000);
    upload_share_leave(share, &two);
    CHECK(upload_share_rate(share, &three) == 500);
    upload_share_leave(share, &one);
    CHECK(upload_share_rate(share, &three) == 1000);
    upload_share_leave(share, &three);
    clock_set_for_tests(0);
    upload_share_free(share);
}

TEST("limits that change hold at once, also where there was none")
{
    static const struct bandwidth_entry first = {1000, 0, BANDWIDTH_DAY};
    static const struct bandwidth_entry both[] = {{600, 0, 12 * 60},
                                                  {600, 12 * 60, 24 * 60}};
    struct upload_sharer one;
    struct upload_share *share;

    NEED(upload_share_new(NULL, 0, &share) == 0);
    upload_share_join(share, &one);
    CHECK(upload_share_rate(share, &one) == 0);
    CHECK(upload_share_set_limits(share, &first, 1) == 0);
    CHECK(upload_share_rate(share, &one) == 1000);
    CHECK(upload_share_set_limits(share, both, 2) == 0);
    CHECK(upload_share_rate(share, &one) == 600);
    CHECK(upload_share_set_limits(share, NULL, 0) == 0);
    CHECK(upload_share_rate(share, &one) == 0);
    upload_share_leave(share, &one);
    upload_share_free(share);
}

TEST("the limit is that of the hour, and there may be none")
{
    static const struct bandwidth_entry limits[] = {
        {100, 8 * 60, 23 * 60},
        {7, 23 * 60, 0},
    };
    const uint64_t midnight = UINT64_C(1700006400) * SECOND; /* UTC */
    struct upload_sharer one;
    struct upload_share *share;

    CHECK(setenv("TZ", "UTC0", 1) == 0);
    tzset();
    NEED(upload_share_new(limits, 2, &share) == 0);
    upload_share_join(share, &one);
    clock_set_for_tests(midnight);
    CHECK(upload_share_rate(share, &one) == 0);
    clock_set_for_tests(midnight + 8 * 3600 * SECOND);
    CHECK(upload_share_rate(share, &one) == 100);
    clock_set_for_tests(midnight + 23 * 3600 * SECOND);
    CHECK(upload_share_rate(share, &one) == 7);
    upload_share_leave(share, &one);
    upload_share_free(share);
    clock_set_for_tests(0);
    CHECK(unsetenv("TZ") == 0);
    tzset();
}

TEST("without limits, and without a share, anything goes")
{
    struct upload_sharer one;
    struct upload_share *share;

    NEED(upload_share_new(NULL, 0, &share) == 0);
    upload_share_join(share, &one);
    CHECK(upload_share_rate(share, &one) == 0);
    upload_share_leave(share, &one);
    upload_share_free(share);
    upload_share_join(NULL, &one);
    CHECK(upload_share_rate(NULL, &one) == 0);
    upload_share_leave(NULL, &one);
    upload_share_free(NULL);
}
