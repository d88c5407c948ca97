/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_plan.h"

#include "s3/credentials_set.h"

#define SECOND UINT64_C(1000000000)
#define MINUTE (60 * SECOND)

#define AHEAD_MIN    (5 * MINUTE)
#define AHEAD_RANDOM (1 * MINUTE)
#define EXPIRED_MIN  (10 * MINUTE) /* and as much again at random */
#define PAUSE_MIN    (10 * SECOND) /* of successes, however short keys live */
#define BACKOFF_MAX  (1 * MINUTE)

/* Returns a share of the time, from none to all of it. */
static uint64_t share(uint64_t time_ns, uint32_t random)
{
    return (uint64_t)((double)time_ns * random / UINT32_MAX);
}

void credentials_plan_success(struct credentials_plan *plan,
                              struct credentials_now now, uint64_t expires_ns,
                              uint32_t random)
{
    uint64_t left =
        expires_ns > now.realtime_ns ? expires_ns - now.realtime_ns : 0;

    plan->failures = 0;
    plan->not_before_ns = now.monotonic_ns + PAUSE_MIN;
    if (expires_ns == CREDENTIALS_NEVER) {
        plan->refresh_at_ns = CREDENTIALS_NEVER;
    } else if (left == 0) {
        plan->refresh_at_ns = 0;
        plan->not_before_ns =
            now.monotonic_ns + EXPIRED_MIN + share(EXPIRED_MIN, random);
    } else if (left / 2 < AHEAD_MIN + AHEAD_RANDOM) {
        plan->refresh_at_ns = expires_ns - left / 2;
    } else {
        plan->refresh_at_ns =
            expires_ns - AHEAD_MIN - share(AHEAD_RANDOM, random);
    }
}

void credentials_plan_failure(struct credentials_plan *plan,
                              struct credentials_now now, uint32_t random)
{
    uint64_t pause =
        plan->failures < 6 ? SECOND << plan->failures : BACKOFF_MAX;

    plan->failures++;
    plan->refresh_at_ns = 0;
    if (pause > BACKOFF_MAX)
        pause = BACKOFF_MAX;
    plan->not_before_ns =
        now.monotonic_ns + pause / 2 + share(pause / 2, random);
}

uint64_t credentials_plan_wait_ns(const struct credentials_plan *plan,
                                  struct credentials_now now)
{
    uint64_t wait = 0;

    if (plan->not_before_ns > now.monotonic_ns)
        wait = plan->not_before_ns - now.monotonic_ns;
    if (plan->refresh_at_ns > now.realtime_ns &&
        plan->refresh_at_ns - now.realtime_ns > wait)
        wait = plan->refresh_at_ns - now.realtime_ns;
    return wait < MINUTE ? wait : MINUTE;
}
