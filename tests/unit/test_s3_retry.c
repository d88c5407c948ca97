/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_retry.h"

#include "unit/test.h"

static const uint64_t MS = 1000000;
static const uint64_t S = 1000000000;

/* A whole answer to a plain put over a connection that was used before. */
static struct s3_seen answered(unsigned status, const char *code)
{
    return (struct s3_seen){
        .status = status,
        .code = code,
        .is_connected = true,
        .is_reused = true,
        .any_byte = true,
        .is_sent = true,
    };
}

static enum s3_verdict judge(unsigned status, const char *code)
{
    struct s3_seen seen = answered(status, code);

    return s3_retry_judge(&seen);
}

static enum s3_verdict judge_conditional(unsigned status, const char *code)
{
    struct s3_seen seen = answered(status, code);

    seen.is_conditional = true;
    return s3_retry_judge(&seen);
}

/* To a get, head or delete of an object. */
static enum s3_verdict judge_read(unsigned status, const char *code,
                                  bool is_head)
{
    struct s3_seen seen = answered(status, code);

    seen.may_be_absent = true;
    seen.is_head = is_head;
    return s3_retry_judge(&seen);
}

static enum s3_health health(unsigned status, const char *code)
{
    struct s3_seen seen = answered(status, code);

    return s3_retry_health(&seen);
}

/* No whole answer: nothing of it came. */
static struct s3_seen lost(int error, bool is_connected, bool is_reused)
{
    return (struct s3_seen){
        .error = error,
        .is_connected = is_connected,
        .is_reused = is_reused,
    };
}

/* ---- answers ------------------------------------------------------------ */

TEST("2xx is done, whichever it is")
{
    static const unsigned statuses[] = {200, 201, 204, 206, 299};

    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        CHECK(judge(statuses[i], NULL) == S3_VERDICT_DONE);
        CHECK(judge(statuses[i], "") == S3_VERDICT_DONE);
        CHECK(judge_conditional(statuses[i], NULL) == S3_VERDICT_DONE);
        CHECK(health(statuses[i], NULL) == S3_HEALTH_ANSWERED);
    }
}

TEST("a 200 with an error document inside is tried again")
{
    CHECK(judge(200, "InternalError") == S3_VERDICT_AGAIN);
    CHECK(judge(200, "SlowDown") == S3_VERDICT_THROTTLED);
}

TEST("408 500 502 504 507 509, and other 5xx, are tried again")
{
    static const unsigned statuses[] = {408, 500, 502, 504, 507,
                                        509, 506, 520, 599};

    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        CHECK(judge(statuses[i], NULL) == S3_VERDICT_AGAIN);
        CHECK(judge(statuses[i], "InternalError") == S3_VERDICT_AGAIN);
        CHECK(judge_conditional(statuses[i], NULL) == S3_VERDICT_AGAIN);
        CHECK(judge_read(statuses[i], NULL, true) == S3_VERDICT_AGAIN);
    }
}

TEST("an upload that took too long, or arrived damaged, is tried again")
{
    CHECK(judge(400, "RequestTimeout") == S3_VERDICT_AGAIN);
    CHECK(judge(400, "IncompleteBody") == S3_VERDICT_AGAIN);
    CHECK(judge(400, "BadDigest") == S3_VERDICT_AGAIN);
    CHECK(judge(400, "XAmzContentSHA256Mismatch") == S3_VERDICT_AGAIN);
    CHECK(health(400, "RequestTimeout") == S3_HEALTH_ANSWERED);
}

TEST("429, 503 and the codes that say so are throttling, not bad health")
{
    static const char *const codes[] = {
        "SlowDown",
        "SlowDownRead",
        "Throttling",
        "ThrottlingException",
        "Throttled",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequests",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
    };

    CHECK(judge(429, NULL) == S3_VERDICT_THROTTLED);
    CHECK(judge(503, NULL) == S3_VERDICT_THROTTLED);
    CHECK(judge(503, "ServiceUnavailable") == S3_VERDICT_THROTTLED);
    CHECK(health(429, NULL) == S3_HEALTH_THROTTLED);
    CHECK(health(503, "ServiceUnavailable") == S3_HEALTH_THROTTLED);
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        CHECK(judge(503, codes[i]) == S3_VERDICT_THROTTLED);
        CHECK(judge(400, codes[i]) == S3_VERDICT_THROTTLED);
        CHECK(judge_conditional(409, codes[i]) == S3_VERDICT_THROTTLED);
        CHECK(health(503, codes[i]) == S3_HEALTH_THROTTLED);
        CHECK(health(400, codes[i]) == S3_HEALTH_THROTTLED);
    }
}

TEST("a 503 without code or Retry-After is throttling, but a proxy's word")
{
    struct s3_seen seen = answered(503, NULL);

    CHECK(s3_retry_judge(&seen) == S3_VERDICT_THROTTLED);
    CHECK(s3_retry_health(&seen) == S3_HEALTH_SERVER_ERROR);
    seen.has_retry_after = true;
    CHECK(s3_retry_health(&seen) == S3_HEALTH_THROTTLED);
    seen.has_retry_after = false;
    seen.is_head = true;
    CHECK(s3_retry_health(&seen) == S3_HEALTH_THROTTLED);
}

TEST("a request too far off in time corrects the clock once, then backs off")
{
    static const char *const codes[] = {"RequestTimeTooSkewed",
                                        "RequestExpired", "RequestInTheFuture"};

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        struct s3_seen seen = answered(403, codes[i]);

        CHECK(s3_retry_judge(&seen) == S3_VERDICT_CLOCK);
        seen.clock_is_fixed = true;
        CHECK(s3_retry_judge(&seen) == S3_VERDICT_AGAIN);
        CHECK(s3_retry_health(&seen) == S3_HEALTH_ANSWERED);
    }
}

TEST("a wrong signature corrects the clock only if it is 5 minutes off")
{
    static const char *const codes[] = {
        "SignatureDoesNotMatch", "InvalidSignatureException", "AuthFailure"};

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        struct s3_seen seen = answered(403, codes[i]);

        seen.skew_s = 299;
        CHECK(s3_retry_judge(&seen) == S3_VERDICT_CREDENTIALS);
        seen.skew_s = 300;
        CHECK(s3_retry_judge(&seen) == S3_VERDICT_CLOCK);
        seen.clock_is_fixed = true;
        CHECK(s3_retry_judge(&seen) == S3_VERDICT_CREDENTIALS);
        seen.credentials_read = true;
        CHECK(s3_retry_judge(&seen) == S3_VERDICT_CONFIGURATION);
    }
}

TEST("an expired token has credentials read again once, then backs off")
{
    static const char *const codes[] = {"ExpiredToken", "InvalidToken",
                                        "TokenRefreshRequired"};

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        for (unsigned status = 400; status <= 403; status += 3) {
            struct s3_seen seen = answered(status, codes[i]);

            CHECK(s3_retry_judge(&seen) == S3_VERDICT_CREDENTIALS);
            seen.credentials_read = true;
            CHECK(s3_retry_judge(&seen) == S3_VERDICT_AGAIN);
        }
    }
}

TEST("301, 307 and a malformed scope follow the region once, then stop")
{
    struct s3_seen seen[] = {
        answered(301, NULL),
        answered(301, "PermanentRedirect"),
        answered(307, "TemporaryRedirect"),
        answered(400, "AuthorizationHeaderMalformed"),
        answered(400, "IllegalLocationConstraintException"),
    };

    for (size_t i = 0; i < sizeof(seen) / sizeof(seen[0]); i++) {
        CHECK(s3_retry_judge(&seen[i]) == S3_VERDICT_REGION);
        CHECK(s3_retry_health(&seen[i]) == S3_HEALTH_ANSWERED);
        seen[i].region_followed = true;
        CHECK(s3_retry_judge(&seen[i]) == S3_VERDICT_CONFIGURATION);
    }
}

TEST("other redirects are followed by nobody")
{
    CHECK(judge(302, NULL) == S3_VERDICT_CONFIGURATION);
    CHECK(judge(303, NULL) == S3_VERDICT_CONFIGURATION);
    CHECK(judge(308, NULL) == S3_VERDICT_CONFIGURATION);
}

TEST("409 of a plain request is tried again")
{
    CHECK(judge(409, "ConditionalRequestConflict") == S3_VERDICT_AGAIN);
    CHECK(judge(409, "OperationAborted") == S3_VERDICT_AGAIN);
    CHECK(judge(409, NULL) == S3_VERDICT_AGAIN);
}

TEST("409 of a conditional put: a conflict is tried again, else it exists")
{
    CHECK(judge_conditional(409, "ConditionalRequestConflict") ==
          S3_VERDICT_AGAIN);
    CHECK(judge_conditional(409, "OperationAborted") == S3_VERDICT_AGAIN);
    CHECK(judge_conditional(409, "ConcurrentModification") == S3_VERDICT_AGAIN);
    CHECK(judge_conditional(409, "PreconditionFailed") == S3_VERDICT_EXISTS);
    CHECK(judge_conditional(409, NULL) == S3_VERDICT_EXISTS);
}

TEST("412 and 304 of a conditional put say that it exists")
{
    CHECK(judge_conditional(412, "PreconditionFailed") == S3_VERDICT_EXISTS);
    CHECK(judge_conditional(412, NULL) == S3_VERDICT_EXISTS);
    CHECK(judge_conditional(304, NULL) == S3_VERDICT_EXISTS);
}

TEST("what exists is compared if an earlier attempt may have made it")
{
    static const unsigned statuses[] = {412, 304, 409};

    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        struct s3_seen seen = answered(statuses[i], NULL);

        seen.is_conditional = true;
        seen.may_be_applied = true;
        CHECK(s3_retry_judge(&seen) == S3_VERDICT_COMPARE);
    }
}

TEST("412 and 304 to who set no condition make no sense")
{
    CHECK(judge(412, "PreconditionFailed") == S3_VERDICT_NONSENSE);
    CHECK(judge(304, NULL) == S3_VERDICT_NONSENSE);
    CHECK(judge_read(304, NULL, false) == S3_VERDICT_NONSENSE);
}

TEST("501 of a conditional put: the store knows none; else it refuses")
{
    CHECK(judge_conditional(501, NULL) == S3_VERDICT_NO_CONDITIONAL);
    CHECK(judge_conditional(501, "NotImplemented") ==
          S3_VERDICT_NO_CONDITIONAL);
    CHECK(judge_conditional(400, "NotImplemented") ==
          S3_VERDICT_NO_CONDITIONAL);
    CHECK(judge(501, "NotImplemented") == S3_VERDICT_CONFIGURATION);
    CHECK(health(501, "NotImplemented") == S3_HEALTH_ANSWERED);
    CHECK(judge_conditional(400, "InvalidArgument") ==
          S3_VERDICT_CONFIGURATION);
    CHECK(judge_conditional(500, NULL) == S3_VERDICT_AGAIN);
}

TEST("who is refused reads the credentials again once; it stays refused")
{
    struct s3_seen seen[] = {
        answered(403, "AccessDenied"),
        answered(403, "InvalidAccessKeyId"),
        answered(403, "SignatureDoesNotMatch"),
        answered(403, NULL),
        answered(401, NULL),
    };

    for (size_t i = 0; i < sizeof(seen) / sizeof(seen[0]); i++) {
        CHECK(s3_retry_judge(&seen[i]) == S3_VERDICT_CREDENTIALS);
        CHECK(s3_retry_health(&seen[i]) == S3_HEALTH_ANSWERED);
        seen[i].credentials_read = true;
        CHECK(s3_retry_judge(&seen[i]) == S3_VERDICT_CONFIGURATION);
    }
}

TEST("no bucket, 405, 411, other 400 and 4xx are refusals")
{
    CHECK(judge(404, "NoSuchBucket") == S3_VERDICT_CONFIGURATION);
    CHECK(judge_read(404, "NoSuchBucket", false) == S3_VERDICT_CONFIGURATION);
    CHECK(judge(405, "MethodNotAllowed") == S3_VERDICT_CONFIGURATION);
    CHECK(judge(411, "MissingContentLength") == S3_VERDICT_CONFIGURATION);
    CHECK(judge(413, NULL) == S3_VERDICT_CONFIGURATION);
    CHECK(judge(417, NULL) == S3_VERDICT_CONFIGURATION);
    CHECK(judge(400, "InvalidArgument") == S3_VERDICT_CONFIGURATION);
    CHECK(judge(400, "EntityTooLarge") == S3_VERDICT_CONFIGURATION);
    CHECK(judge(505, NULL) == S3_VERDICT_CONFIGURATION);
    CHECK(judge(404, NULL) == S3_VERDICT_CONFIGURATION);
    CHECK(judge(404, "NoSuchKey") == S3_VERDICT_CONFIGURATION);
}

TEST("404 of an object is believed from the store, not from a proxy")
{
    struct s3_seen page = answered(404, NULL);

    CHECK(judge_read(404, "NoSuchKey", false) == S3_VERDICT_ABSENT);
    CHECK(judge_read(404, "NoSuchVersion", false) == S3_VERDICT_ABSENT);
    CHECK(judge_read(404, NULL, true) == S3_VERDICT_ABSENT);
    CHECK(judge_read(404, NULL, false) == S3_VERDICT_AGAIN);
    CHECK(judge_read(404, "", false) == S3_VERDICT_AGAIN);
    /* Something else is not there. */
    CHECK(judge_read(404, "NoSuchTenant", false) == S3_VERDICT_CONFIGURATION);
    CHECK(judge_read(404, "NoSuchWebsiteConfiguration", false) ==
          S3_VERDICT_CONFIGURATION);

    CHECK(s3_retry_health(&page) == S3_HEALTH_SERVER_ERROR);
    page.may_be_absent = true;
    CHECK(s3_retry_health(&page) == S3_HEALTH_SERVER_ERROR);
    page.code = "NoSuchKey";
    CHECK(s3_retry_health(&page) == S3_HEALTH_ANSWERED);
}

TEST("the answer to a HEAD has no code: all that it may mean is tried once")
{
    struct s3_seen refused = answered(400, NULL);
    struct s3_seen forbidden = answered(403, NULL);

    refused.is_head = forbidden.is_head = true;
    CHECK(s3_retry_judge(&refused) == S3_VERDICT_REGION);
    refused.region_followed = true;
    CHECK(s3_retry_judge(&refused) == S3_VERDICT_CREDENTIALS);
    refused.credentials_read = true;
    CHECK(s3_retry_judge(&refused) == S3_VERDICT_CONFIGURATION);

    forbidden.skew_s = 3600;
    CHECK(s3_retry_judge(&forbidden) == S3_VERDICT_CLOCK);
    forbidden.clock_is_fixed = true;
    CHECK(s3_retry_judge(&forbidden) == S3_VERDICT_CREDENTIALS);
    forbidden.credentials_read = true;
    CHECK(s3_retry_judge(&forbidden) == S3_VERDICT_CONFIGURATION);
}

TEST("a range that is not in the object, and statuses that are none")
{
    CHECK(judge_read(416, "InvalidRange", false) == S3_VERDICT_NONSENSE);
    CHECK(health(416, "InvalidRange") == S3_HEALTH_ANSWERED);
    CHECK(judge(199, NULL) == S3_VERDICT_NONSENSE);
    CHECK(judge(101, NULL) == S3_VERDICT_NONSENSE);
    CHECK(judge(0, NULL) == S3_VERDICT_NONSENSE);
    CHECK(judge(600, NULL) == S3_VERDICT_NONSENSE);
    CHECK(judge(999, NULL) == S3_VERDICT_NONSENSE);
    CHECK(health(101, NULL) == S3_HEALTH_SERVER_ERROR);
}

TEST("what a 5xx says of the endpoint")
{
    CHECK(health(500, "InternalError") == S3_HEALTH_SERVER_ERROR);
    CHECK(health(502, NULL) == S3_HEALTH_SERVER_ERROR);
    CHECK(health(504, NULL) == S3_HEALTH_SERVER_ERROR);
    CHECK(health(404, "NoSuchBucket") == S3_HEALTH_ANSWERED);
    CHECK(health(409, NULL) == S3_HEALTH_ANSWERED);
    CHECK(health(412, NULL) == S3_HEALTH_ANSWERED);
}

/* ---- no answer ---------------------------------------------------------- */

TEST("no connection, of any kind, is tried again, and the endpoint is gone")
{
    static const int errors[] = {-ECONNREFUSED, -ECONNRESET,    -ETIMEDOUT,
                                 -EHOSTUNREACH, -ENETUNREACH,   -EKEYREJECTED,
                                 -EPROTO,       -EADDRNOTAVAIL, -ECONNABORTED};

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        struct s3_seen seen = lost(errors[i], false, false);

        CHECK(s3_retry_judge(&seen) == S3_VERDICT_AGAIN);
        CHECK(s3_retry_health(&seen) == S3_HEALTH_UNREACHABLE);
        CHECK(!s3_retry_may_be_applied(&seen));
    }
}

TEST("a used connection that fails before the answer is free to try, once")
{
    static const int errors[] = {-ECONNRESET, -EPIPE, -ECONNABORTED,
                                 -ETIMEDOUT};

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        struct s3_seen seen = lost(errors[i], true, true);

        CHECK(s3_retry_judge(&seen) == S3_VERDICT_AGAIN_NOW);
        CHECK(
            s3_retry_health(&seen) ==
            (errors[i] == -ETIMEDOUT ? S3_HEALTH_BROKEN : S3_HEALTH_ABANDONED));
        seen.free_is_used = true;
        CHECK(s3_retry_judge(&seen) == S3_VERDICT_AGAIN);
    }
}

TEST("a fresh connection that fails, or an answer cut short, costs an attempt")
{
    static const int errors[] = {-ECONNRESET, -EPIPE, -ECONNABORTED,
                                 -ETIMEDOUT};

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        struct s3_seen fresh = lost(errors[i], true, false);
        struct s3_seen cut = lost(errors[i], true, true);

        CHECK(s3_retry_judge(&fresh) == S3_VERDICT_AGAIN);
        CHECK(s3_retry_health(&fresh) == S3_HEALTH_BROKEN);
        cut.any_byte = true;
        CHECK(s3_retry_judge(&cut) == S3_VERDICT_AGAIN);
        cut.status = 206;
        CHECK(s3_retry_judge(&cut) == S3_VERDICT_AGAIN);
        CHECK(s3_retry_health(&cut) == S3_HEALTH_BROKEN);
    }
}

TEST("an answer that is not HTTP makes no sense")
{
    static const int errors[] = {-EPROTO, -EMSGSIZE};

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        struct s3_seen seen = lost(errors[i], true, true);

        seen.any_byte = true;
        CHECK(s3_retry_judge(&seen) == S3_VERDICT_NONSENSE);
        CHECK(s3_retry_health(&seen) == S3_HEALTH_SERVER_ERROR);
        seen.status = 200;
        CHECK(s3_retry_judge(&seen) == S3_VERDICT_NONSENSE);
    }
}

TEST("of an answer whose body was cut off, the status counts if it is clear")
{
    struct s3_seen seen = answered(403, NULL);

    seen.error = -ECONNRESET;
    CHECK(s3_retry_judge(&seen) == S3_VERDICT_CREDENTIALS);
    CHECK(s3_retry_health(&seen) == S3_HEALTH_BROKEN);
    seen.status = 503;
    seen.code = "SlowDown";
    CHECK(s3_retry_judge(&seen) == S3_VERDICT_THROTTLED);
    CHECK(s3_retry_health(&seen) == S3_HEALTH_THROTTLED);
    seen.status = 400;
    CHECK(s3_retry_judge(&seen) == S3_VERDICT_THROTTLED);
    seen.code = NULL;
    CHECK(s3_retry_judge(&seen) == S3_VERDICT_AGAIN);
    seen.is_conditional = true;
    seen.status = 409;
    CHECK(s3_retry_judge(&seen) == S3_VERDICT_AGAIN);
    seen.status = 412;
    CHECK(s3_retry_judge(&seen) == S3_VERDICT_EXISTS);
    seen.status = 501;
    CHECK(s3_retry_judge(&seen) == S3_VERDICT_NO_CONDITIONAL);
    seen.status = 404;
    seen.is_conditional = false;
    seen.may_be_absent = true;
    CHECK(s3_retry_judge(&seen) == S3_VERDICT_AGAIN);
}

TEST("what this host lacks is no fault of the endpoint")
{
    static const int errors[] = {-ECANCELED, -ENOMEM,  -EMFILE,
                                 -ENFILE,    -ENOBUFS, -EAGAIN};

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        struct s3_seen seen = lost(errors[i], false, false);

        CHECK(s3_retry_health(&seen) == S3_HEALTH_ABANDONED);
        CHECK(s3_retry_judge(&seen) == S3_VERDICT_AGAIN);
        seen.is_connected = true;
        seen.any_byte = true;
        CHECK(s3_retry_health(&seen) == S3_HEALTH_ABANDONED);
    }
}

TEST("only what was sent whole, and not refused, may have been applied")
{
    struct s3_seen seen = lost(-ECONNRESET, true, false);

    CHECK(!s3_retry_may_be_applied(&seen));
    seen.is_sent = true;
    CHECK(s3_retry_may_be_applied(&seen));
    seen.error = -ETIMEDOUT;
    CHECK(s3_retry_may_be_applied(&seen));
    for (unsigned status = 300; status < 500; status++) {
        seen = answered(status, NULL);
        CHECK(!s3_retry_may_be_applied(&seen));
    }
    for (unsigned status = 500; status < 600; status++) {
        seen = answered(status, NULL);
        CHECK(s3_retry_may_be_applied(&seen) == (status != 501));
        seen.is_sent = false;
        CHECK(!s3_retry_may_be_applied(&seen));
    }
    seen = answered(200, NULL);
    CHECK(s3_retry_may_be_applied(&seen));
}

/* ---- how long to wait --------------------------------------------------- */

TEST("delays are spread from 0 to a limit that doubles up to 2 s")
{
    static const uint64_t limits_ms[] = {50,   100,  200,  400, 800,
                                         1600, 2000, 2000, 2000};

    for (unsigned attempt = 1; attempt <= 9; attempt++) {
        uint64_t limit = limits_ms[attempt - 1] * MS;

        CHECK(s3_retry_delay_ns(attempt, false, 0, 0) == 0);
        CHECK(s3_retry_delay_ns(attempt, false, 0, UINT64_MAX / 2) <=
              limit / 2);
        CHECK(s3_retry_delay_ns(attempt, false, 0, UINT64_MAX / 2) >=
              limit / 2 - 1000);
        CHECK(s3_retry_delay_ns(attempt, false, 0, UINT64_MAX) <= limit);
        CHECK(s3_retry_delay_ns(attempt, false, 0, UINT64_MAX) > limit - 1000);
    }
    CHECK(s3_retry_delay_ns(UINT32_MAX, false, 0, UINT64_MAX) <= 2 * S);
    CHECK(s3_retry_delay_ns(0, false, 0, UINT64_MAX) <= 50 * MS);
}

TEST("throttled, delays begin at 1 s and double up to 20 s")
{
    static const uint64_t limits_s[] = {1, 2, 4, 8, 16, 20, 20};

    for (unsigned attempt = 1; attempt <= 7; attempt++) {
        uint64_t limit = limits_s[attempt - 1] * S;

        CHECK(s3_retry_delay_ns(attempt, true, 0, 0) == 0);
        CHECK(s3_retry_delay_ns(attempt, true, 0, UINT64_MAX) <= limit);
        CHECK(s3_retry_delay_ns(attempt, true, 0, UINT64_MAX) > limit - 2000);
    }
}

TEST("nobody comes before the time that the store asked for")
{
    CHECK(s3_retry_delay_ns(1, true, 5 * S, 0) == 5 * S);
    CHECK(s3_retry_delay_ns(1, true, 5 * S, UINT64_MAX) > 5 * S);
    CHECK(s3_retry_delay_ns(1, true, 5 * S, UINT64_MAX) < 6 * S);
    CHECK(s3_retry_delay_ns(9, true, 5 * S, UINT64_MAX) > 19 * S);
    CHECK(s3_retry_delay_ns(1, false, 7 * S, 0) == 7 * S);
}

TEST("Retry-After in seconds, as a date, and in milliseconds is understood")
{
    const uint64_t now_s = 784111777; /* Sun, 06 Nov 1994 08:49:37 GMT */

    CHECK(s3_retry_after_ns(NULL, NULL, now_s) == 0);
    CHECK(s3_retry_after_ns("0", NULL, now_s) == 0);
    CHECK(s3_retry_after_ns("7", NULL, now_s) == 7 * S);
    CHECK(s3_retry_after_ns(NULL, "250", now_s) == 250 * MS);
    CHECK(s3_retry_after_ns("1", "2500", now_s) == 2500 * MS);
    CHECK(s3_retry_after_ns("3", "2500", now_s) == 3 * S);
    CHECK(s3_retry_after_ns("Sun, 06 Nov 1994 08:49:40 GMT", NULL, now_s) ==
          3 * S);
    CHECK(s3_retry_after_ns("Sun, 06 Nov 1994 08:49:37 GMT", NULL, now_s) == 0);
    CHECK(s3_retry_after_ns("Sun, 06 Nov 1994 08:49:30 GMT", NULL, now_s) == 0);
}

TEST("a Retry-After of more than half a minute is cut, nonsense is ignored")
{
    const uint64_t now_s = 784111777;

    CHECK(s3_retry_after_ns("31", NULL, now_s) == 30 * S);
    CHECK(s3_retry_after_ns("3600", NULL, now_s) == 30 * S);
    CHECK(s3_retry_after_ns("99999999999999999999999", NULL, now_s) == 30 * S);
    CHECK(s3_retry_after_ns(NULL, "99999999", now_s) == 30 * S);
    CHECK(s3_retry_after_ns("Sun, 06 Nov 2094 08:49:37 GMT", NULL, now_s) ==
          30 * S);
    CHECK(s3_retry_after_ns("", "", now_s) == 0);
    CHECK(s3_retry_after_ns("-1", "-1", now_s) == 0);
    CHECK(s3_retry_after_ns("soon", "1.5", now_s) == 0);
}
