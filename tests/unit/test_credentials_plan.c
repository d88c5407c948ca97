/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_plan.h"

#include "s3/credentials_set.h"
#include "unit/test.h"

#define SECOND UINT64_C(1000000000)
#define MINUTE (60 * SECOND)

/* A moment, by both clocks. */
static struct credentials_now at(uint64_t monotonic_s, uint64_t realtime_s)
{
    return (struct credentials_now){monotonic_s * SECOND, realtime_s * SECOND};
}

static bool is_due(const struct credentials_plan *plan,
                   struct credentials_now now)
{
    return credentials_plan_wait_ns(plan, now) == 0;
}

TEST("an empty plan is due")
{
    struct credentials_plan plan = {0};

    CHECK(is_due(&plan, at(0, 0)));
}

TEST("keys without an end are not read again, and looked at each minute")
{
    struct credentials_plan plan = {0};

    credentials_plan_success(&plan, at(0, 1000), CREDENTIALS_NEVER, 0);
    CHECK(credentials_plan_wait_ns(&plan, at(0, 1000)) == MINUTE);
    CHECK(!is_due(&plan, at(1000000000, 1000000000)));
}

TEST("keys are read again five to six minutes before they expire")
{
    struct credentials_plan plan = {0};

    credentials_plan_success(&plan, at(0, 0), 3600 * SECOND, 0);
    CHECK(!is_due(&plan, at(3299, 3299)));
    CHECK(credentials_plan_wait_ns(&plan, at(3299, 3299)) == SECOND);
    CHECK(is_due(&plan, at(3300, 3300)));
    credentials_plan_success(&plan, at(0, 0), 3600 * SECOND, UINT32_MAX);
    CHECK(!is_due(&plan, at(3239, 3239)));
    CHECK(is_due(&plan, at(3240, 3240)));
}

TEST("keys that live shorter are read again halfway, not every second")
{
    struct credentials_plan plan = {0};

    credentials_plan_success(&plan, at(0, 0), 600 * SECOND, 0);
    CHECK(!is_due(&plan, at(299, 299)));
    CHECK(is_due(&plan, at(300, 300)));
    credentials_plan_success(&plan, at(0, 0), 2 * SECOND, 0);
    CHECK(!is_due(&plan, at(9, 9)));
    CHECK(is_due(&plan, at(10, 10)));
}

TEST("keys that had expired already are asked for in 10 to 20 minutes")
{
    struct credentials_plan plan = {0};

    credentials_plan_success(&plan, at(5, 1000), 999 * SECOND, 0);
    CHECK(!is_due(&plan, at(5 + 599, 2000)));
    CHECK(is_due(&plan, at(5 + 600, 2000)));
    credentials_plan_success(&plan, at(5, 1000), 0, UINT32_MAX);
    CHECK(!is_due(&plan, at(5 + 1199, 9000)));
    CHECK(is_due(&plan, at(5 + 1200, 9000)));
}

TEST("pauses after failures double from one second to one minute, jittered")
{
    static const uint64_t pauses[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};
    struct credentials_plan plan = {0};

    for (size_t i = 0; i < sizeof(pauses) / sizeof(pauses[0]); i++) {
        struct credentials_plan least = plan;
        struct credentials_now now = at(1000, 1000);

        credentials_plan_failure(&least, now, 0);
        CHECK(credentials_plan_wait_ns(&least, now) == pauses[i] * SECOND / 2);
        credentials_plan_failure(&plan, now, UINT32_MAX);
        CHECK(credentials_plan_wait_ns(&plan, now) == pauses[i] * SECOND);
    }
    for (unsigned i = 0; i < 100; i++)
        credentials_plan_failure(&plan, at(0, 0), 0);
    CHECK(credentials_plan_wait_ns(&plan, at(0, 0)) == 30 * SECOND);
    credentials_plan_success(&plan, at(0, 0), 0, 0);
    credentials_plan_failure(&plan, at(0, 0), 0);
    CHECK(credentials_plan_wait_ns(&plan, at(0, 0)) == SECOND / 2);
}

TEST("a jump of the time of day, or a sleep of the host, is noticed")
{
    struct credentials_plan plan = {0};

    credentials_plan_success(&plan, at(100, 100), 36000 * SECOND, 0);
    CHECK(credentials_plan_wait_ns(&plan, at(100, 100)) == MINUTE);
    CHECK(is_due(&plan, at(160, 36000)));
    /* The clock was far ahead when reading failed, and was set right. */
    credentials_plan_failure(&plan, at(100, 1000000), 0);
    CHECK(is_due(&plan, at(101, 5)));
}
