/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_explain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "s3/credentials_set.h"
#include "s3/s3_attempt.h"

/* What is asked for, and by which words a policy grants it. */
struct permission {
    const char *what, *name;
};

static struct permission permission_of(enum s3_verb verb)
{
    switch (verb) {
    case S3_GET:
    case S3_HEAD:
        return (struct permission){"read objects", "s3:GetObject"};
    case S3_PUT:
        return (struct permission){"write objects", "s3:PutObject"};
    case S3_DELETE:
    case S3_DELETE_MANY:
        return (struct permission){"delete objects", "s3:DeleteObject"};
    case S3_LIST:
    case S3_HEAD_BUCKET:
        break;
    }
    return (struct permission){"list objects", "s3:ListBucket"};
}

/* What explanations are made of. */
struct facts {
    const struct s3_attempt *attempt;
    const struct s3_site *site;
    char key[8]; /* the start of the access key */
    char *text;
    size_t size;
};

static void explain_unreachable(const struct facts *facts)
{
    const struct s3_attempt *attempt = facts->attempt;
    const char *hint = "";

    if (attempt->seen.error == -EKEYREJECTED)
        hint = " (s3ca names whom to trust, s3name the name that the "
               "certificate must have)";
    else if (attempt->seen.error == -EPROTO)
        hint = " (s3ssl says whether there is TLS)";
    (void)snprintf(facts->text, facts->size, "cannot be reached: %s%s",
                   attempt->words, hint);
}

static void explain_no_answer(const struct facts *facts)
{
    const struct s3_seen *seen = &facts->attempt->seen;
    bool is_garbled = seen->status == 0 &&
                      (seen->error == -EPROTO || seen->error == -EMSGSIZE);
    /* So do servers answer that expect a handshake. */
    bool wants_tls = !facts->site->is_tls &&
                     (is_garbled || (!seen->any_byte && !seen->is_reused &&
                                     seen->error == -ECONNRESET));

    (void)snprintf(facts->text, facts->size, "%s%s%s",
                   is_garbled ? "what answers there does not answer as an S3 "
                                "server does"
                              : "it was connected, but ",
                   is_garbled ? "" : facts->attempt->words,
                   wants_tls ? " (it may want TLS, which s3ssl turns on)" : "");
}

static void explain_skew(const struct facts *facts)
{
    const struct s3_attempt *attempt = facts->attempt;
    char skew[64];

    (void)snprintf(
        facts->text, facts->size,
        "it refuses requests because the clock here is %s its own",
        s3_explain_skew(attempt->now_s,
                        attempt->answer_s ? attempt->answer_s : attempt->now_s,
                        skew, sizeof(skew)));
}

static void explain_key(const struct facts *facts)
{
    (void)snprintf(facts->text, facts->size,
                   "it does not know the access key %s...", facts->key);
}

static void explain_secret(const struct facts *facts)
{
    (void)snprintf(facts->text, facts->size,
                   "the secret key is not the one of access key %s... "
                   "(or a proxy changes requests, or s3name is not the name "
                   "that the store has for itself)",
                   facts->key);
}

static void explain_token(const struct facts *facts)
{
    (void)snprintf(facts->text, facts->size,
                   "the session token of access key %s... is not valid, or "
                   "not any more",
                   facts->key);
}

static void explain_bucket(const struct facts *facts)
{
    (void)snprintf(facts->text, facts->size, "there is no bucket %s",
                   facts->site->bucket);
}

static void explain_region(const struct facts *facts)
{
    const struct s3_attempt *attempt = facts->attempt;
    bool is_told = attempt->other_region[0] != '\0' &&
                   strcmp(attempt->other_region, attempt->region) != 0;

    (void)snprintf(facts->text, facts->size,
                   "the bucket %s is not in region %s%s%s", facts->site->bucket,
                   attempt->region, is_told ? " but in " : "",
                   is_told ? attempt->other_region
                           : ", and the answer does not say in which "
                             "(s3region sets it)");
}

static void explain_permission(const struct facts *facts)
{
    struct permission permission =
        permission_of(facts->attempt->operation->verb);

    (void)snprintf(facts->text, facts->size,
                   "access key %s... has no permission to %s in bucket %s "
                   "(%s)",
                   facts->key, permission.what, facts->site->bucket,
                   permission.name);
}

/* Codes of error documents; the first that fits is it. */
static const struct {
    const char *code;
    void (*explain)(const struct facts *facts);
} codes[] = {
    {"RequestTimeTooSkewed", explain_skew},
    {"RequestExpired", explain_skew},
    {"RequestInTheFuture", explain_skew},
    {"InvalidAccessKeyId", explain_key},
    {"SignatureDoesNotMatch", explain_secret},
    {"InvalidSignatureException", explain_secret},
    {"AuthFailure", explain_secret},
    {"ExpiredToken", explain_token},
    {"InvalidToken", explain_token},
    {"TokenRefreshRequired", explain_token},
    {"NoSuchBucket", explain_bucket},
    {"PermanentRedirect", explain_region},
    {"TemporaryRedirect", explain_region},
    {"AuthorizationHeaderMalformed", explain_region},
    {"IllegalLocationConstraintException", explain_region},
    {"AccessDenied", explain_permission},
};

/* Answers without a document, as those to a HEAD are. */
static void explain_status(const struct facts *facts)
{
    const struct s3_attempt *attempt = facts->attempt;

    switch (attempt->seen.status) {
    case 301:
    case 307:
        explain_region(facts);
        break;
    case 403:
        explain_permission(facts);
        break;
    case 404:
        (void)snprintf(facts->text, facts->size,
                       "it has nothing there: either no bucket %s, or it is no "
                       "S3 server (s3addressing says how buckets are named)",
                       facts->site->bucket);
        break;
    default:
        (void)snprintf(facts->text, facts->size, "it answers %s",
                       attempt->words);
        break;
    }
}

static void explain_answer(const struct facts *facts)
{
    const char *code = facts->attempt->document.code;

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (strcmp(code, codes[i].code) == 0) {
            codes[i].explain(facts);
            return;
        }
    }
    if (code[0] == '\0')
        explain_status(facts);
    else
        (void)snprintf(facts->text, facts->size, "it answers %s",
                       facts->attempt->words);
}

const char *s3_explain(const struct s3_attempt *attempt,
                       const struct s3_site *site, char *text, size_t size)
{
    struct facts facts = {
        .attempt = attempt, .site = site, .text = text, .size = size};

    (void)snprintf(facts.key, sizeof(facts.key), "%.4s",
                   attempt->credentials ? attempt->credentials->access_key
                                        : "");
    if (attempt->endpoint == S3_ENDPOINT_NONE)
        (void)snprintf(text, size, "%s", attempt->words);
    else if (attempt->seen.status >= 300 || attempt->document.code[0])
        explain_answer(&facts);
    else if (!attempt->seen.is_connected)
        explain_unreachable(&facts);
    else
        explain_no_answer(&facts);
    return text;
}

const char *s3_explain_skew(uint64_t here_s, uint64_t there_s, char *text,
                            size_t size)
{
    bool is_behind = here_s < there_s;
    uint64_t minutes =
        ((is_behind ? there_s - here_s : here_s - there_s) + 30) / 60;

    (void)snprintf(text, size, "%" PRIu64 " minute%s %s", minutes,
                   minutes == 1 ? "" : "s", is_behind ? "behind" : "ahead of");
    return text;
}
