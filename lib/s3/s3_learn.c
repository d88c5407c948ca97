/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_learn.h"

#include "base/clock.h"
#include "base/log.h"
#include "s3/credentials.h"
#include "s3/s3_attempt.h"
#include "s3/s3_explain.h"
#include "s3/s3_parts.h"
#include "s3/s3_places.h"
#include "s3/s3_region.h"

/* Set the clock of the endpoint by its own answer; false: it tells none. */
static bool learn_clock(struct s3_parts *parts,
                        const struct s3_attempt *attempt)
{
    static struct log_limit limit;
    uint64_t left_out;
    char skew[64];

    if (attempt->answer_s == 0)
        return false;
    if (log_limit_allows(&limit, &left_out))
        log_warning("S3 %s: the clock here is %s the store's; requests are "
                    "signed for its time",
                    s3_endpoints_name(parts->endpoints, attempt->endpoint),
                    s3_explain_skew(attempt->now_s, attempt->answer_s, skew,
                                    sizeof(skew)));
    s3_places_set_clock(parts->places, attempt->endpoint, attempt->now_s,
                        attempt->answer_s);
    return true;
}

static bool learn_credentials(struct s3_parts *parts,
                              const struct s3_attempt *attempt)
{
    return credentials_refused(parts->credentials, attempt->credentials,
                               clock_monotonic_ns() + parts->timeout_ns);
}

static bool learn_region(struct s3_parts *parts,
                         const struct s3_attempt *attempt)
{
    return attempt->other_region[0] != '\0' &&
           s3_region_follow(parts, attempt->region, attempt->other_region);
}

/* Returns whether following the verdict changed anything. */
static bool follow(struct s3_parts *parts, struct s3_attempt *attempt,
                   enum s3_verdict verdict)
{
    if (verdict == S3_VERDICT_CLOCK) {
        attempt->seen.clock_is_fixed = true;
        return learn_clock(parts, attempt);
    }
    if (verdict == S3_VERDICT_CREDENTIALS) {
        attempt->seen.credentials_read = true;
        return learn_credentials(parts, attempt);
    }
    attempt->seen.region_followed = true;
    return learn_region(parts, attempt);
}

enum s3_verdict s3_learn(struct s3_parts *parts, struct s3_attempt *attempt)
{
    enum s3_verdict verdict = s3_retry_judge(&attempt->seen);

    while (verdict == S3_VERDICT_CLOCK || verdict == S3_VERDICT_CREDENTIALS ||
           verdict == S3_VERDICT_REGION) {
        if (follow(parts, attempt, verdict))
            return verdict;
        verdict = s3_retry_judge(&attempt->seen);
    }
    return verdict;
}
