/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_explain.h"

#include "s3/credentials_set.h"
#include "s3/s3_attempt.h"
#include "unit/test.h"

static struct s3_operation operation;
static struct credentials_set credentials;
static struct s3_site site;
static char text[S3_EXPLANATION_SIZE];

/* An attempt at verb that has run. */
static struct s3_attempt attempt_at(enum s3_verb verb)
{
    operation = (struct s3_operation){.verb = verb};
    site = (struct s3_site){.bucket = "photos", .region = "us-east-1"};
    (void)snprintf(credentials.access_key, sizeof(credentials.access_key),
                   "AKIASECRET");
    return (struct s3_attempt){
        .operation = &operation,
        .endpoint = 0,
        .credentials = &credentials,
        .region = "us-east-1",
        .seen = {.is_connected = true},
    };
}

static bool says(const struct s3_attempt *attempt, const char *words)
{
    (void)s3_explain(attempt, &site, text, sizeof(text));
    if (strstr(text, words) && !strstr(text, "AKIAS"))
        return true;
    printf("# it says: %s\n", text);
    return false;
}

/* Whether an answer with this status and code is explained by the words. */
static bool answer_says(unsigned status, const char *code, const char *words)
{
    struct s3_attempt attempt = attempt_at(S3_LIST);

    attempt.seen.status = status;
    (void)snprintf(attempt.document.code, sizeof(attempt.document.code), "%s",
                   code);
    (void)snprintf(attempt.words, sizeof(attempt.words), "HTTP %u %s", status,
                   code);
    return says(&attempt, words);
}

TEST("what keeps a connection from being made is told, with the setting")
{
    struct s3_attempt attempt = attempt_at(S3_LIST);

    attempt.seen = (struct s3_seen){.error = -ECONNREFUSED};
    (void)snprintf(attempt.words, sizeof(attempt.words), "refused");
    CHECK(says(&attempt, "cannot be reached: refused"));
    attempt.seen.error = -EKEYREJECTED;
    CHECK(says(&attempt, "refused (s3ca names"));
    attempt.seen.error = -EPROTO;
    CHECK(says(&attempt, "s3ssl"));
}

TEST("who does not speak as a store does is told")
{
    struct s3_attempt attempt = attempt_at(S3_LIST);

    attempt.seen.error = -EPROTO;
    CHECK(says(&attempt, "as an S3 server does"));
    CHECK(says(&attempt, "s3ssl"));
    site.is_tls = true;
    CHECK(says(&attempt, "as an S3 server does"));
    CHECK(!strstr(text, "s3ssl"));
    attempt.seen.error = -ETIMEDOUT;
    (void)snprintf(attempt.words, sizeof(attempt.words), "it keeps silent");
    CHECK(says(&attempt, "it was connected, but it keeps silent"));
    site.is_tls = false;
    attempt.seen.error = -ECONNRESET;
    CHECK(says(&attempt, "it keeps silent (it may want TLS"));
    attempt.seen.any_byte = true;
    CHECK(says(&attempt, "it keeps silent") && !strstr(text, "TLS"));
}

TEST("which of the keys is wrong is told, without the key")
{
    CHECK(answer_says(403, "InvalidAccessKeyId",
                      "does not know the access key AKIA..."));
    CHECK(answer_says(403, "SignatureDoesNotMatch",
                      "secret key is not the one of access key AKIA..."));
    CHECK(answer_says(400, "ExpiredToken", "session token of access key"));
}

TEST("a bucket that is not there, and one that is elsewhere, are told apart")
{
    struct s3_attempt attempt = attempt_at(S3_LIST);

    CHECK(answer_says(404, "NoSuchBucket", "there is no bucket photos"));
    CHECK(answer_says(404, "", "either no bucket photos, or it is no S3"));
    CHECK(answer_says(301, "", "s3region sets it"));
    attempt.seen.status = 301;
    (void)snprintf(attempt.other_region, sizeof(attempt.other_region),
                   "eu-west-1");
    CHECK(says(&attempt, "not in region us-east-1 but in eu-west-1"));
}

TEST("a permission that is missing is named")
{
    static const struct {
        enum s3_verb verb;
        const char *name;
    } verbs[] = {
        {S3_GET, "s3:GetObject"},          {S3_HEAD, "s3:GetObject"},
        {S3_PUT, "s3:PutObject"},          {S3_DELETE, "s3:DeleteObject"},
        {S3_LIST, "s3:ListBucket"},        {S3_DELETE_MANY, "s3:DeleteObject"},
        {S3_HEAD_BUCKET, "s3:ListBucket"},
    };

    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        struct s3_attempt attempt = attempt_at(verbs[i].verb);

        attempt.seen.status = 403;
        CHECK(says(&attempt, verbs[i].name));
        CHECK(says(&attempt, "bucket photos"));
    }
}

TEST("a clock that is off is told in minutes, and in which direction")
{
    struct s3_attempt attempt = attempt_at(S3_LIST);
    char skew[64];

    attempt.seen.status = 403;
    (void)snprintf(attempt.document.code, sizeof(attempt.document.code),
                   "RequestTimeTooSkewed");
    attempt.now_s = 100000;
    attempt.answer_s = 100000 + 20 * 60;
    CHECK(says(&attempt, "clock here is 20 minutes behind its own"));
    attempt.answer_s = 100000 - 65;
    CHECK(says(&attempt, "clock here is 1 minute ahead of its own"));
    CHECK(strcmp(s3_explain_skew(0, 3599, skew, sizeof(skew)),
                 "60 minutes behind") == 0);
}

TEST("any other answer is told as it is")
{
    CHECK(answer_says(500, "InternalError", "it answers HTTP 500 Internal"));
    CHECK(answer_says(502, "", "it answers HTTP 502"));
}

TEST("without an endpoint there are only the attempt's own words")
{
    struct s3_attempt attempt = attempt_at(S3_LIST);

    attempt.endpoint = S3_ENDPOINT_NONE;
    attempt.credentials = NULL;
    (void)snprintf(attempt.words, sizeof(attempt.words), "no credentials");
    CHECK(says(&attempt, "no credentials"));
}
