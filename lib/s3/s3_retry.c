/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_retry.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/moment.h"
#include "base/number.h"

static const uint64_t MS = 1000000;
static const uint64_t S = 1000000000;

/* An answer this far off in time may be refused for that, whatever it says. */
enum { SKEW_S = 300 };

enum { VERDICTS = 3 };

/*
 * What an answer means: the first row that fits decides, and of its verdicts
 * the first that was not followed already.  The last one of a row always can.
 */
struct row {
    unsigned status;  /* 0: any */
    const char *code; /* NULL: any, or none; "x*": what begins with x */
    enum s3_verdict verdicts[VERDICTS];
    uint64_t skew_s; /* S3_VERDICT_CLOCK only with at least so much */
};

/* Short, for the tables. */
#define DONE           S3_VERDICT_DONE
#define EXISTS         S3_VERDICT_EXISTS
#define AGAIN          S3_VERDICT_AGAIN
#define THROTTLED      S3_VERDICT_THROTTLED
#define CLOCK          S3_VERDICT_CLOCK
#define CREDENTIALS    S3_VERDICT_CREDENTIALS
#define REGION         S3_VERDICT_REGION
#define CONFIGURATION  S3_VERDICT_CONFIGURATION
#define NO_CONDITIONAL S3_VERDICT_NO_CONDITIONAL
#define NONSENSE       S3_VERDICT_NONSENSE

/* What the code alone decides: stores differ in the status. */
static const struct row code_rows[] = {
    {0, "SlowDown*", {THROTTLED}, 0},
    {0, "Throttling*", {THROTTLED}, 0},
    {0, "Throttled*", {THROTTLED}, 0},
    {0, "RequestThrottled*", {THROTTLED}, 0},
    {0, "TooManyRequests*", {THROTTLED}, 0},
    {0, "RequestLimitExceeded", {THROTTLED}, 0},
    {0, "BandwidthLimitExceeded", {THROTTLED}, 0},
    {0, "RequestTimeTooSkewed", {CLOCK, AGAIN}, 0},
    {0, "RequestExpired", {CLOCK, AGAIN}, 0},
    {0, "RequestInTheFuture", {CLOCK, AGAIN}, 0},
    {0, "ExpiredToken*", {CREDENTIALS, AGAIN}, 0},
    {0, "InvalidToken", {CREDENTIALS, AGAIN}, 0},
    {0, "TokenRefreshRequired", {CREDENTIALS, AGAIN}, 0},
};

/* Other answers to a put with If-None-Match. */
static const struct row conditional_rows[] = {
    {412, NULL, {EXISTS}, 0},
    {304, NULL, {EXISTS}, 0}, /* old MinIO */
    /* Somebody else's put or delete of the key is under way. */
    {409, "ConditionalRequestConflict", {AGAIN}, 0},
    {409, "OperationAborted", {AGAIN}, 0},
    {409, "ConcurrentModification", {AGAIN}, 0}, /* Ceph */
    {409, NULL, {EXISTS}, 0},                    /* CoreWeave */
    {501, NULL, {NO_CONDITIONAL}, 0},
    {0, "NotImplemented", {NO_CONDITIONAL}, 0},
};

/* Other answers to all. */
static const struct row rows[] = {
    {301, NULL, {REGION, CONFIGURATION}, 0},
    {307, NULL, {REGION, CONFIGURATION}, 0},
    {400, "AuthorizationHeaderMalformed", {REGION, CONFIGURATION}, 0},
    {400, "IllegalLocationConstraintException", {REGION, CONFIGURATION}, 0},

    /* The body did not arrive in time, or not as it was sent. */
    {400, "RequestTimeout", {AGAIN}, 0},
    {400, "IncompleteBody", {AGAIN}, 0},
    {400, "BadDigest", {AGAIN}, 0},
    {400, "XAmzContentSHA256Mismatch", {AGAIN}, 0},

    {0, "SignatureDoesNotMatch", {CLOCK, CREDENTIALS, CONFIGURATION}, SKEW_S},
    {0,
     "InvalidSignatureException",
     {CLOCK, CREDENTIALS, CONFIGURATION},
     SKEW_S},
    {0, "AuthFailure", {CLOCK, CREDENTIALS, CONFIGURATION}, SKEW_S},
    {401, NULL, {CREDENTIALS, CONFIGURATION}, 0},
    /* The answer to a HEAD has no code: it may be any of these. */
    {403, "", {CLOCK, CREDENTIALS, CONFIGURATION}, SKEW_S},
    {403, NULL, {CREDENTIALS, CONFIGURATION}, 0},
    {400, "", {REGION, CREDENTIALS, CONFIGURATION}, 0},

    {304, NULL, {NONSENSE}, 0},
    {408, NULL, {AGAIN}, 0},
    {409, NULL, {AGAIN}, 0},
    {412, NULL, {NONSENSE}, 0},
    {416, NULL, {NONSENSE}, 0}, /* the object is shorter than it can be */
    {429, NULL, {THROTTLED}, 0},
    {501, NULL, {CONFIGURATION}, 0},
    {503, NULL, {THROTTLED}, 0},
    {505, NULL, {CONFIGURATION}, 0},
};

static bool has_code(const struct s3_seen *seen)
{
    return seen->code && seen->code[0] != '\0';
}

static bool code_fits(const struct s3_seen *seen, const char *wanted)
{
    size_t len = strlen(wanted);

    if (!has_code(seen))
        return len == 0;
    if (len > 0 && wanted[len - 1] == '*')
        return strncmp(seen->code, wanted, len - 1) == 0;
    return strcmp(seen->code, wanted) == 0;
}

static const struct row *find_row(const struct row *first, size_t count,
                                  const struct s3_seen *seen)
{
    for (const struct row *row = first; row < first + count; row++) {
        if ((row->status == 0 || row->status == seen->status) &&
            (!row->code || code_fits(seen, row->code)))
            return row;
    }
    return NULL;
}

#define FIND_ROW(table, seen)                                                  \
    find_row(table, sizeof(table) / sizeof((table)[0]), seen)

/* What can be followed once only was. */
static bool is_used(const struct s3_seen *seen, const struct row *row,
                    enum s3_verdict verdict)
{
    if (verdict == CLOCK)
        return seen->clock_is_fixed || seen->skew_s < row->skew_s;
    if (verdict == CREDENTIALS)
        return seen->credentials_read;
    return verdict == REGION && seen->region_followed;
}

static enum s3_verdict row_verdict(const struct s3_seen *seen,
                                   const struct row *row)
{
    size_t i = 0;

    while (i < VERDICTS - 1 && is_used(seen, row, row->verdicts[i]))
        i++;
    if (row->verdicts[i] == EXISTS && seen->may_be_applied)
        return S3_VERDICT_COMPARE;
    return row->verdicts[i];
}

/*
 * A 404: only the store's own word for an object that is not there is
 * believed.  Another word is for something else that is not there; and without
 * any it is the page of a proxy, which may have lost its server for a while.
 */
static enum s3_verdict judge_absent(const struct s3_seen *seen)
{
    static const char *const words[] = {"NoSuchKey", "NoSuchVersion",
                                        "NoSuchObject", "NotFound"};

    if (!seen->may_be_absent)
        return CONFIGURATION;
    if (!has_code(seen))
        return seen->is_head ? S3_VERDICT_ABSENT : AGAIN;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (code_fits(seen, words[i]))
            return S3_VERDICT_ABSENT;
    }
    return CONFIGURATION;
}

static enum s3_verdict judge_status(const struct s3_seen *seen)
{
    const struct row *row = FIND_ROW(code_rows, seen);

    if (!row && seen->is_conditional)
        row = FIND_ROW(conditional_rows, seen);
    if (!row)
        row = FIND_ROW(rows, seen);
    if (row)
        return row_verdict(seen, row);
    if (seen->status == 404)
        return judge_absent(seen);
    if (seen->status < 200 || seen->status > 599)
        return NONSENSE;
    if (seen->status < 300)
        return has_code(seen) ? AGAIN : DONE; /* 200 with an error inside */
    return seen->status < 500 ? CONFIGURATION : AGAIN;
}

/* Whether the answer, or what should have been one, is not HTTP. */
static bool is_garbled(const struct s3_seen *seen)
{
    return seen->any_byte &&
           (seen->error == -EPROTO || seen->error == -EMSGSIZE);
}

enum s3_verdict s3_retry_judge(const struct s3_seen *seen)
{
    if (seen->error == 0)
        return judge_status(seen);
    if (seen->status >= 300) {
        /* Of these the code decides; without it, it was cut off. */
        bool is_vague = seen->status == 400 || seen->status == 409;

        return is_vague && !has_code(seen) ? AGAIN : judge_status(seen);
    }
    if (is_garbled(seen))
        return NONSENSE;
    if (seen->is_connected && seen->is_reused && !seen->any_byte &&
        !seen->free_is_used)
        return S3_VERDICT_AGAIN_NOW;
    return AGAIN;
}

/* ---- what it says of the endpoint --------------------------------------- */

/* Whether it is this host that lacks something. */
static bool is_ours(int error)
{
    return error == -ECANCELED || error == -ENOMEM || error == -EMFILE ||
           error == -ENFILE || error == -ENOBUFS || error == -EAGAIN;
}

static enum s3_health status_health(const struct s3_seen *seen)
{
    enum s3_verdict verdict = judge_status(seen);

    if (verdict == THROTTLED) {
        /*
         * A bare 503 is what a proxy says whose server is gone; from a store
         * that is busy comes a code, or when to come again.
         */
        bool is_bare = seen->status == 503 && !has_code(seen) &&
                       !seen->has_retry_after && !seen->is_head;

        return is_bare ? S3_HEALTH_SERVER_ERROR : S3_HEALTH_THROTTLED;
    }
    if (verdict == NO_CONDITIONAL)
        return S3_HEALTH_ANSWERED;
    if ((seen->status >= 500 && seen->status != 501) || seen->status < 200 ||
        (seen->status == 404 && !has_code(seen) && !seen->is_head))
        return S3_HEALTH_SERVER_ERROR;
    return S3_HEALTH_ANSWERED;
}

enum s3_health s3_retry_health(const struct s3_seen *seen)
{
    if (is_ours(seen->error))
        return S3_HEALTH_ABANDONED;
    if (seen->error == 0 || seen->status >= 500)
        return status_health(seen);
    if (!seen->is_connected)
        return S3_HEALTH_UNREACHABLE;
    if (is_garbled(seen))
        return S3_HEALTH_SERVER_ERROR;
    /* It may close what was idle, and does so just when it is used again. */
    if (seen->is_reused && !seen->any_byte && seen->error != -ETIMEDOUT)
        return S3_HEALTH_ABANDONED;
    return S3_HEALTH_BROKEN;
}

bool s3_retry_may_be_applied(const struct s3_seen *seen)
{
    if (!seen->is_sent)
        return false;
    if (seen->status < 300)
        return true;
    /* A server, or a proxy that asked one, may fail after it was done. */
    return seen->status >= 500 && seen->status != 501;
}

/* ---- how long to wait --------------------------------------------------- */

/* A number from 0 to limit. */
static uint64_t random_up_to(uint64_t limit, uint64_t random)
{
    return (uint64_t)((double)(random >> 11) * 0x1p-53 * (double)limit);
}

uint64_t s3_retry_delay_ns(unsigned attempt, bool is_throttled,
                           uint64_t after_ns, uint64_t random)
{
    uint64_t limit_ns = is_throttled ? 1 * S : 50 * MS;
    uint64_t longest_ns = is_throttled ? 20 * S : 2 * S;
    uint64_t delay_ns;

    while (attempt > 1 && limit_ns < longest_ns) {
        limit_ns *= 2;
        attempt--;
    }
    if (limit_ns > longest_ns)
        limit_ns = longest_ns;
    delay_ns = random_up_to(limit_ns, random);
    /* Many are told the same: they need not all come in the same moment. */
    if (after_ns > 0)
        after_ns += random_up_to(after_ns / 8, random);
    return delay_ns > after_ns ? delay_ns : after_ns;
}

/* What the store asks for in its own favour is believed only so far. */
static const uint64_t LONGEST_AFTER_S = 30;

/* The number as nanoseconds, of which there are unit_ns each; 0 if none. */
static uint64_t parse_units(const char *text, uint64_t unit_ns)
{
    uint64_t longest = LONGEST_AFTER_S * S / unit_ns, count;
    int error;

    if (!text)
        return 0;
    error = number_parse(text, 0, longest, &count);
    if (error == -ERANGE)
        count = longest;
    else if (error)
        return 0;
    return count * unit_ns;
}

uint64_t s3_retry_after_ns(const char *retry_after, const char *milliseconds,
                           uint64_t now_s)
{
    uint64_t by_ms = parse_units(milliseconds, MS);
    uint64_t after = parse_units(retry_after, S);
    uint64_t moment_s;

    if (retry_after && moment_parse_http(retry_after, now_s, &moment_s) == 0 &&
        moment_s > now_s) {
        after = moment_s - now_s;
        after = (after < LONGEST_AFTER_S ? after : LONGEST_AFTER_S) * S;
    }
    return by_ms > after ? by_ms : after;
}
