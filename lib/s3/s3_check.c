/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/workers.h"
#include "s3/s3_answer.h"
#include "s3/s3_attempt.h"
#include "s3/s3_endpoint.h"
#include "s3/s3_explain.h"
#include "s3/s3_learn.h"
#include "s3/s3_parts.h"
#include "s3/s3_places.h"

enum {
    /* Each of clock, credentials and region is learned once. */
    ROUNDS_MAX = 4,
    /* A clock that is so far off is worth a word, though nothing refuses. */
    SKEW_S = 120,
    LINE_SIZE = S3_EXPLANATION_SIZE + 128,
};

/* A start does not wait longer for who keeps silent. */
static const uint64_t LONGEST_NS = UINT64_C(5000000000);

/* The check of one endpoint, in a thread of its own. */
struct check {
    struct workers_task task; /* first */
    struct s3_parts *parts;
    size_t endpoint;
    uint64_t deadline_ns;
    int result;
    char warning[LINE_SIZE];
    char problem[LINE_SIZE];
};

/* That it can be parsed is what is asked. */
static int take_object(void *context, const char *key, uint64_t size,
                       uint64_t modified_ns)
{
    (void)context;
    (void)key;
    (void)size;
    (void)modified_ns;
    return 0;
}

static int take_list(void *context, const char *text, size_t len)
{
    struct s3_list list;

    return s3_list_parse(text, len, take_object, context, &list);
}

static const char *name_of(const struct check *check)
{
    return s3_endpoints_name(check->parts->endpoints, check->endpoint);
}

static void warn_of_clock(struct check *check, const struct s3_attempt *attempt)
{
    uint64_t here_s = attempt->now_s, there_s = attempt->answer_s;
    uint64_t skew_s = here_s < there_s ? there_s - here_s : here_s - there_s;
    char skew[64];

    if (there_s == 0 || skew_s < SKEW_S || check->warning[0] != '\0')
        return;
    (void)snprintf(check->warning, sizeof(check->warning),
                   "S3 %s: the clock here is %s the store's; requests are "
                   "signed for its time",
                   name_of(check),
                   s3_explain_skew(here_s, there_s, skew, sizeof(skew)));
}

static void warn_of_region(struct check *check,
                           const struct s3_attempt *attempt)
{
    (void)snprintf(check->warning, sizeof(check->warning),
                   "S3 %s: the bucket is in region %s, not %s, and is asked "
                   "for there; s3region can say so",
                   name_of(check), attempt->other_region, attempt->region);
}

static int error_of(const struct s3_attempt *attempt)
{
    if (attempt->seen.status >= 300)
        return attempt->seen.status < 500 ? -EACCES : -EIO;
    return attempt->seen.error ? attempt->seen.error : -EIO;
}

static void find_problem(struct check *check, const struct s3_attempt *attempt,
                         int error)
{
    char text[S3_EXPLANATION_SIZE];
    struct s3_site site;
    uint64_t there_s;

    s3_places_look(check->parts->places, check->endpoint, 0, &site, &there_s);
    check->result = error ? error : error_of(attempt);
    (void)snprintf(check->problem, sizeof(check->problem), "S3 %s: %s",
                   name_of(check),
                   s3_explain(attempt, &site, text, sizeof(text)));
}

/* Returns whether to ask again: something was learned. */
static bool ask_once(struct check *check, struct s3_attempt *attempt)
{
    int error = s3_attempt_run(check->parts, attempt);
    enum s3_verdict verdict;

    if (error) {
        find_problem(check, attempt, error);
        return false;
    }
    verdict = s3_learn(check->parts, attempt);
    if (verdict == S3_VERDICT_REGION)
        warn_of_region(check, attempt);
    else
        warn_of_clock(check, attempt);
    if (verdict == S3_VERDICT_CLOCK || verdict == S3_VERDICT_CREDENTIALS ||
        verdict == S3_VERDICT_REGION)
        return true;
    if (verdict == S3_VERDICT_DONE)
        check->result = 0;
    else
        find_problem(check, attempt, 0);
    return false;
}

static void run_check(struct workers_task *task)
{
    static const struct s3_operation operation = {
        .verb = S3_LIST,
        .max_keys = 1,
    };
    struct check *check = (struct check *)(void *)task;
    struct s3_attempt attempt;

    check->result = s3_attempt_init(&attempt, &operation);
    if (check->result == 0) {
        attempt.accept = take_list;
        attempt.only = check->endpoint;
        attempt.is_fresh = true;
        attempt.deadline_ns = check->deadline_ns;
        check->result = -EIO;
        for (int i = 0; i < ROUNDS_MAX && ask_once(check, &attempt); i++)
            ;
    }
    s3_attempt_done(check->parts, &attempt);
}

static int run_checks(struct s3_parts *parts, struct check checks[],
                      size_t count)
{
    uint64_t longest_ns =
        parts->timeout_ns < LONGEST_NS ? parts->timeout_ns : LONGEST_NS;
    uint64_t deadline_ns = clock_monotonic_ns() + longest_ns;
    struct workers *workers;
    int error = workers_start("s3 check", count, &workers);

    if (error)
        return error;
    for (size_t i = 0; i < count; i++) {
        checks[i].task.run = run_check;
        checks[i].parts = parts;
        checks[i].endpoint = i;
        checks[i].deadline_ns = deadline_ns;
        workers_submit(workers, &checks[i].task);
    }
    workers_stop(workers);
    return 0;
}

int s3_check(struct object_store *store, s3_check_say *say, void *context)
{
    struct s3_parts *parts = s3_parts_of_store(store);
    size_t count = s3_endpoints_count(parts->endpoints);
    AUTO_FREE struct check *checks = calloc(count, sizeof(*checks));
    int result = checks ? run_checks(parts, checks, count) : -ENOMEM;
    bool serves = false;

    if (result)
        return result;
    for (size_t i = 0; i < count; i++) {
        if (checks[i].warning[0] != '\0')
            say(context, false, checks[i].warning);
        if (checks[i].result == 0)
            serves = true;
        else
            result = checks[i].result;
        if (checks[i].problem[0] != '\0')
            say(context, true, checks[i].problem);
    }
    return serves ? 0 : result;
}
