/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * credentials_plan - when to read the sources of credentials again (pure).
 *
 * Five to six minutes before keys expire; halfway, if that is nearer; never,
 * if they do not.  Keys that had expired when they came are used on: an
 * instance's metadata gives such ones during an outage of their issuer; it is
 * asked again after ten to twenty minutes.  After a failure: from one second
 * to one minute, doubling, half of it at random.
 *
 * Two clocks: keys expire by the time of day, pauses are monotonic.  random is
 * any number from 0 to UINT32_MAX.  Threads: the caller keeps them apart.
 */
#ifndef S3_CREDENTIALS_PLAN_H
#define S3_CREDENTIALS_PLAN_H

#include <stdbool.h>
#include <stdint.h>

/* Due when both are past; zero: now. */
struct credentials_plan {
    uint64_t not_before_ns; /* of clock_monotonic_ns() */
    uint64_t refresh_at_ns; /* of clock_realtime_ns() */
    unsigned failures;      /* since the last success */
};

/* Both clocks at one moment. */
struct credentials_now {
    uint64_t monotonic_ns, realtime_ns;
};

/* Keys came, which expire then (CREDENTIALS_NEVER: not). */
void credentials_plan_success(struct credentials_plan *plan,
                              struct credentials_now now, uint64_t expires_ns,
                              uint32_t random);

/* No source could be read. */
void credentials_plan_failure(struct credentials_plan *plan,
                              struct credentials_now now, uint32_t random);

/*
 * Returns after how many nanoseconds to look at the plan again; 0: the time
 * has come.  At most a minute, since the time of day may jump, and the
 * monotonic clock stands still while the host sleeps.
 */
uint64_t credentials_plan_wait_ns(const struct credentials_plan *plan,
                                  struct credentials_now now);

#endif
