/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_answer.h"

#include "base/auto.h"
#include "unit/test.h"

#define XML "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
#define LIST                                                                   \
    "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"

/* ---- errors ------------------------------------------------------------- */

static int parse_error(const char *body, struct s3_error *error)
{
    return s3_error_parse(body, strlen(body), error);
}

TEST("an error tells its code, its message and what else it knows")
{
    struct s3_error error;

    NEED(parse_error(XML "<Error><Code>RequestTimeTooSkewed</Code><Message>The "
                         "difference is too large.</Message>"
                         "<RequestTime>20130524T000000Z</RequestTime>"
                         "<ServerTime>2026-11-22T03:10:11Z</ServerTime>"
                         "<RequestId>4442587FB7D0A2F9</RequestId>"
                         "<HostId>abc</HostId></Error>",
                     &error) == 0);
    CHECK(strcmp(error.code, "RequestTimeTooSkewed") == 0);
    CHECK(strcmp(error.message, "The difference is too large.") == 0);
    CHECK(strcmp(error.request_id, "4442587FB7D0A2F9") == 0);
    CHECK(error.server_time_s == 1795317011);
    CHECK(error.region[0] == '\0' && error.endpoint[0] == '\0');

    NEED(parse_error("<Error><Code>AuthorizationHeaderMalformed</Code>"
                     "<Region>eu-west-1</Region></Error>",
                     &error) == 0);
    CHECK(strcmp(error.region, "eu-west-1") == 0);
    CHECK(error.server_time_s == 0 && error.message[0] == '\0');

    NEED(parse_error("<Error><Code>TemporaryRedirect</Code><Endpoint>"
                     "b.s3-eu-west-1.amazonaws.com</Endpoint></Error>",
                     &error) == 0);
    CHECK(strcmp(error.endpoint, "b.s3-eu-west-1.amazonaws.com") == 0);
}

TEST("an error of STS is one too")
{
    struct s3_error error;

    NEED(parse_error(
             "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/"
             "\"><Error><Type>Sender</Type><Code>ExpiredTokenException</Code>"
             "<Message>Token expired</Message></Error>"
             "<RequestId>1-2-3</RequestId></ErrorResponse>",
             &error) == 0);
    CHECK(strcmp(error.code, "ExpiredTokenException") == 0);
    CHECK(strcmp(error.message, "Token expired") == 0);
    CHECK(strcmp(error.request_id, "1-2-3") == 0);
}

TEST("the texts of an error are printable, and of bounded length")
{
    struct s3_error error;
    char body[2048], text[1024];

    NEED(parse_error("<Error><Code>A&#27;[31mB</Code></Error>", &error) ==
         -EBADMSG);
    NEED(parse_error("<Error><Code>A\tB&#10;C\xc3\xa4&#x7f;</Code></Error>",
                     &error) == 0);
    CHECK(strcmp(error.code, "A?B?C???") == 0);

    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    (void)snprintf(body, sizeof(body),
                   "<Error><Message>%s</Message><Region>%.64s</Region>"
                   "<Endpoint>%.254s</Endpoint></Error>",
                   text, text, text);
    NEED(parse_error(body, &error) == 0);
    CHECK(strlen(error.message) == sizeof(error.message) - 1);
    CHECK(error.region[0] == '\0' && error.endpoint[0] == '\0');
    (void)snprintf(body, sizeof(body),
                   "<Error><Region>%.63s</Region><Endpoint>%.253s</Endpoint>"
                   "</Error>",
                   text, text);
    NEED(parse_error(body, &error) == 0);
    CHECK(strlen(error.region) == 63 && strlen(error.endpoint) == 253);
}

TEST("a server's time that is none is not told")
{
    struct s3_error error;

    NEED(parse_error("<Error><ServerTime>2026-11-22T03:10:11Z</ServerTime>"
                     "<ServerTime>now</ServerTime></Error>",
                     &error) == 0);
    CHECK(error.server_time_s == 0);
}

TEST("prefixes, blanks in front, CDATA, comments and strange elements pass")
{
    struct s3_error error;

    NEED(parse_error(" \r\n\t" XML "<s:Error xmlns:s=\"urn:x\">"
                     "<!-- why --><s:Code><![CDATA[Slow]]>D&#111;wn&amp;"
                     "</s:Code><Code2>x</Code2><a><Message2/><b c=\"d\"/></a>"
                     "<?pi?></s:Error>\n",
                     &error) == 0);
    CHECK(strcmp(error.code, "SlowDown&") == 0);
}

TEST("what is no document of an error is told so, and nothing is written")
{
    static const char *const bodies[] = {
        "",
        "   ",
        "Service Unavailable",
        "<html><body><h1>502 Bad Gateway</h1><hr></body></html>",
        "<html><body><h1>502 Bad Gateway</h1></body></html>",
        "<Error><Code>SlowDown</Code>",
        "<Error><Code>SlowDown</Error>",
        "<Error/><Error/>",
        "<Error>\xff</Error>",
        "<Error>&unknown;</Error>",
        "<Error a=\"1\" a=\"2\"/>",
        "<ListBucketResult/>",
        "<!DOCTYPE Error><Error/>",
        "<!DOCTYPE Error [<!ENTITY b \"a\">]><Error><Code>&b;</Code></Error>",
        "<!DOCTYPE Error SYSTEM \"file:///etc/passwd\"><Error/>",
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?",
    };

    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct s3_error error = {.server_time_s = 42};

        if (!CHECK(parse_error(bodies[i], &error) == -EBADMSG &&
                   error.server_time_s == 42))
            printf("# %s\n", bodies[i]);
    }
}

TEST("depth, names and size have their limits")
{
    static char body[S3_ANSWER_MAX + 2];
    static const char start[] = "<Error>", end[] = "</Error>";
    char text[512];
    size_t len = 0;
    struct s3_error error;

    for (int i = 0; i < S3_ANSWER_DEPTH - 1; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "<a>");
    for (int i = 0; i < S3_ANSWER_DEPTH - 1; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "</a>");
    (void)snprintf(body, sizeof(body), "<Error>%s</Error>", text);
    CHECK(parse_error(body, &error) == 0);
    (void)snprintf(body, sizeof(body), "<Error><a>%s</a></Error>", text);
    CHECK(parse_error(body, &error) == -EBADMSG);

    memset(text, 'x', S3_ANSWER_NAME_MAX + 1);
    text[S3_ANSWER_NAME_MAX + 1] = '\0';
    (void)snprintf(body, sizeof(body), "<Error><%s/></Error>", text);
    CHECK(parse_error(body, &error) == -EBADMSG);
    (void)snprintf(body, sizeof(body), "<Error><%s/></Error>", text + 1);
    CHECK(parse_error(body, &error) == 0);

    memset(body, ' ', sizeof(body));
    memcpy(body, start, strlen(start));
    memcpy(body + S3_ANSWER_MAX - strlen(end), end, strlen(end));
    CHECK(s3_error_parse(body, S3_ANSWER_MAX, &error) == 0);
    CHECK(s3_error_parse(body, S3_ANSWER_MAX + 1, &error) == -EBADMSG);
    /* Blanks in front do not count, and need no end mark. */
    memset(body, ' ', sizeof(body));
    CHECK(s3_error_parse(body, sizeof(body), &error) == -EBADMSG);
}

/* ---- lists -------------------------------------------------------------- */

/* The objects that a list handed over. */
struct seen {
    size_t count;
    char keys[4][S3_KEY_MAX + 1];
    uint64_t sizes[4], modified_ns[4];
    int result; /* for each() to return at the first object */
};

static int see(void *context, const char *key, uint64_t size,
               uint64_t modified_ns)
{
    struct seen *seen = context;

    if (seen->count < 4) {
        (void)snprintf(seen->keys[seen->count], S3_KEY_MAX + 1, "%s", key);
        seen->sizes[seen->count] = size;
        seen->modified_ns[seen->count] = modified_ns;
    }
    seen->count++;
    return seen->result;
}

static int parse_list(const char *body, struct seen *seen, struct s3_list *list)
{
    memset(seen, 0, sizeof(*seen));
    return s3_list_parse(body, strlen(body), see, seen, list);
}

#define OBJECT(key)                                                            \
    "<Contents><Key>" key                                                      \
    "</Key><LastModified>2026-11-22T03:10:11.500Z</LastModified>"              \
    "<ETag>&quot;0&quot;</ETag><Size>7</Size></Contents>"
#define WHOLE "<IsTruncated>false</IsTruncated>"

TEST("a list hands over its objects and tells how to go on")
{
    struct seen seen;
    struct s3_list list;

    NEED(parse_list(
             XML LIST
             "<Name>bucket</Name><Prefix>vol%2F</Prefix><KeyCount>2</KeyCount>"
             "<MaxKeys>2</MaxKeys><EncodingType>url</EncodingType>"
             "<IsTruncated>true</IsTruncated>"
             "<Contents><Key>vol%2Fa%2Bb+c</Key>"
             "<LastModified>2026-11-22T03:10:11.000Z</LastModified>"
             "<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag>"
             "<Size>18446744073709551615</Size>"
             "<Owner><ID>x</ID><Size>9</Size></Owner>"
             "<StorageClass>STANDARD</StorageClass></Contents>" OBJECT(
                 "vol/%c3%A4") "<NextContinuationToken>1+/=</"
                               "NextContinuationToken></ListBucketResult>",
             &seen, &list) == 0);
    CHECK(list.count == 2 && seen.count == 2);
    CHECK(list.is_truncated && strcmp(list.next_token, "1+/=") == 0);
    CHECK(strcmp(seen.keys[0], "vol/a+b c") == 0);
    CHECK(seen.sizes[0] == UINT64_MAX);
    CHECK(seen.modified_ns[0] == UINT64_C(1795317011000000000));
    CHECK(strcmp(seen.keys[1], "vol/\xc3\xa4") == 0);
    CHECK(seen.sizes[1] == 7);
    CHECK(seen.modified_ns[1] == UINT64_C(1795317011500000000));
}

TEST("keys are decoded if the store says so, wherever it does")
{
    struct seen seen;
    struct s3_list list;

    NEED(parse_list(LIST OBJECT("a%20+&lt;") WHOLE "</ListBucketResult>", &seen,
                    &list) == 0);
    CHECK(strcmp(seen.keys[0], "a%20+<") == 0);
    NEED(parse_list(LIST "<EncodingType/>" OBJECT("a%20+") WHOLE
                    "</ListBucketResult>",
                    &seen, &list) == 0);
    CHECK(strcmp(seen.keys[0], "a%20+") == 0);
    NEED(parse_list(LIST OBJECT("a%20+") WHOLE
                    "<EncodingType>url</EncodingType>"
                    "</ListBucketResult>",
                    &seen, &list) == 0);
    CHECK(strcmp(seen.keys[0], "a  ") == 0);
}

TEST("an empty list is one, and the end needs no token")
{
    struct seen seen;
    struct s3_list list;

    NEED(parse_list(LIST WHOLE "</ListBucketResult>", &seen, &list) == 0);
    CHECK(list.count == 0 && seen.count == 0 && !list.is_truncated);
    CHECK(list.next_token[0] == '\0');
    NEED(parse_list(LIST "<IsTruncated>true</IsTruncated></ListBucketResult>",
                    &seen, &list) == 0);
    CHECK(list.is_truncated && list.next_token[0] == '\0');
}

TEST("who takes the objects may end it")
{
    struct seen seen = {.result = -ECANCELED};
    struct s3_list list = {.count = 42};
    static const char body[] =
        LIST WHOLE OBJECT("a") OBJECT("b") "</ListBucketResult>";

    CHECK(s3_list_parse(body, strlen(body), see, &seen, &list) == -ECANCELED);
    CHECK(seen.count == 1 && list.count == 42);
    seen = (struct seen){.result = 7};
    CHECK(s3_list_parse(body, strlen(body), see, &seen, &list) == 7);
}

TEST("of a list that is cut off nothing is handed over")
{
    static const char body[] =
        XML LIST "<EncodingType>url</EncodingType>" WHOLE OBJECT("a")
            OBJECT("b") "<NextContinuationToken>x</NextContinuationToken>"
                        "</ListBucketResult>";

    for (size_t len = 0; len < strlen(body); len++) {
        struct seen seen = {.count = 0};
        struct s3_list list;
        AUTO_FREE char *part = malloc(len + 1);

        NEED(part);
        memcpy(part, body, len);
        CHECK(s3_list_parse(part, len, see, &seen, &list) == -EBADMSG);
        CHECK(seen.count == 0);
    }
}

TEST("a list that makes no sense is refused")
{
    static const char *const bodies[] = {
        "<Error><Code>SlowDown</Code></Error>",
        /* how to go on is not told, or not in words that are known */
        LIST "</ListBucketResult>",
        LIST OBJECT("a") "</ListBucketResult>",
        LIST "<IsTruncated/></ListBucketResult>",
        LIST "<IsTruncated>yes</IsTruncated></ListBucketResult>",
        LIST WHOLE "<EncodingType>base64</EncodingType></ListBucketResult>",
        /* objects of which something is missing, or no number or date */
        LIST WHOLE "<Contents/></ListBucketResult>",
        LIST WHOLE "<Contents><Key>a</Key><Size>1</Size></Contents>"
                   "</ListBucketResult>",
        LIST WHOLE "<Contents><Key>a</Key><LastModified>2026-11-22T03:10:11Z"
                   "</LastModified></Contents></ListBucketResult>",
        LIST WHOLE "<Contents><LastModified>2026-11-22T03:10:11Z"
                   "</LastModified><Size>1</Size></Contents>"
                   "</ListBucketResult>",
        LIST WHOLE "<Contents><Key>a</Key><LastModified>yesterday"
                   "</LastModified><Size>1</Size></Contents>"
                   "</ListBucketResult>",
        LIST WHOLE "<Contents><Key>a</Key><LastModified>9999-11-22T03:10:11Z"
                   "</LastModified><Size>1</Size></Contents>"
                   "</ListBucketResult>",
        LIST WHOLE "<Contents><Key>a</Key><LastModified>2026-11-22T03:10:11Z"
                   "</LastModified><Size>-1</Size></Contents>"
                   "</ListBucketResult>",
        LIST WHOLE "<Contents><Key>a</Key><LastModified>2026-11-22T03:10:11Z"
                   "</LastModified><Size>18446744073709551616</Size>"
                   "</Contents></ListBucketResult>",
        LIST WHOLE "<Contents><Key>a</Key><Key>b</Key><LastModified>"
                   "2026-11-22T03:10:11Z</LastModified><Size>1</Size>"
                   "</Contents></ListBucketResult>",
        /* keys that are none */
        LIST WHOLE OBJECT("") "</ListBucketResult>",
        LIST WHOLE
        "<EncodingType>url</EncodingType>" OBJECT("a%") "</ListBucketResult>",
        LIST WHOLE
        "<EncodingType>url</EncodingType>" OBJECT("a%4") "</ListBucketResult>",
        LIST WHOLE
        "<EncodingType>url</EncodingType>" OBJECT("a%4g") "</ListBucketResult>",
        LIST WHOLE "<EncodingType>url</EncodingType>" OBJECT(
            "a%00b") "</ListBucketResult>",
    };
    struct seen seen;
    struct s3_list list;

    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        if (!CHECK(parse_list(bodies[i], &seen, &list) == -EBADMSG &&
                   seen.count == 0))
            printf("# %s\n", bodies[i]);
    }
}

TEST("the longest key and token are taken, longer ones are not")
{
    static char body[32768], text[8193];
    struct seen seen;
    struct s3_list list;

    for (int over = 0; over < 2; over++) {
        int len = S3_KEY_MAX + over;

        memset(text, 'k', sizeof(text));
        (void)snprintf(body, sizeof(body),
                       LIST WHOLE OBJECT("%.*s") "</ListBucketResult>", len,
                       text);
        CHECK(parse_list(body, &seen, &list) == (over ? -EBADMSG : 0));
        len = S3_TOKEN_MAX + over;
        (void)snprintf(body, sizeof(body),
                       LIST WHOLE "<NextContinuationToken>%.*s"
                                  "</NextContinuationToken></ListBucketResult>",
                       len, text);
        CHECK(parse_list(body, &seen, &list) == (over ? -EBADMSG : 0));
    }
    CHECK(strlen(list.next_token) == S3_TOKEN_MAX);

    /* Encoded, the longest key is three times as long. */
    for (size_t i = 0; i < 3 * S3_KEY_MAX; i++)
        text[i] = "%20"[i % 3];
    (void)snprintf(body, sizeof(body),
                   LIST WHOLE "<EncodingType>url</EncodingType>" OBJECT(
                       "%.*s") "</ListBucketResult>",
                   3 * S3_KEY_MAX, text);
    CHECK(parse_list(body, &seen, &list) == 0);
    CHECK(strlen(seen.keys[0]) == S3_KEY_MAX);

    /* What would be a key if its end were not left out. */
    memset(text, '+', sizeof(text));
    (void)snprintf(body, sizeof(body),
                   LIST WHOLE OBJECT("%.*s") "</ListBucketResult>",
                   (int)sizeof(text), text);
    CHECK(parse_list(body, &seen, &list) == -EBADMSG);
}

/* ---- deletions ---------------------------------------------------------- */

struct failures {
    size_t count;
    char keys[4][64], codes[4][64], messages[4][64];
    int result;
};

static int fail(void *context, const char *key, const struct s3_error *error)
{
    struct failures *failures = context;
    size_t i = failures->count++;

    if (i < 4) {
        (void)snprintf(failures->keys[i], 64, "%s", key);
        (void)snprintf(failures->codes[i], 64, "%s", error->code);
        (void)snprintf(failures->messages[i], 64, "%s", error->message);
    }
    return failures->result;
}

static int parse_deleted(const char *body, struct failures *failures)
{
    memset(failures, 0, sizeof(*failures));
    return s3_deleted_parse(body, strlen(body), fail, failures);
}

TEST("the keys that could not be deleted are told, with the reason")
{
    struct failures failures;

    NEED(parse_deleted(XML "<DeleteResult/>", &failures) == 0);
    CHECK(failures.count == 0);
    NEED(parse_deleted(
             XML "<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/"
                 "\"><Deleted><Key>a</Key></Deleted>"
                 "<Error><Key>b%20&amp;+</Key><Code>AccessDenied</Code>"
                 "<Message>Access Denied</Message></Error>"
                 "<Error><Key>c</Key></Error></DeleteResult>",
             &failures) == 0);
    CHECK(failures.count == 2);
    CHECK(strcmp(failures.keys[0], "b%20&+") == 0);
    CHECK(strcmp(failures.codes[0], "AccessDenied") == 0);
    CHECK(strcmp(failures.messages[0], "Access Denied") == 0);
    CHECK(strcmp(failures.keys[1], "c") == 0);
    CHECK(strcmp(failures.codes[1], "") == 0);
    CHECK(strcmp(failures.messages[1], "") == 0);
}

TEST("who hears of failures may end it; a document cut off tells none")
{
    static const char body[] = "<DeleteResult><Error><Key>b</Key></Error>"
                               "<Error><Key>c</Key></Error></DeleteResult>";
    struct failures failures = {.result = -EIO};

    CHECK(s3_deleted_parse(body, strlen(body), fail, &failures) == -EIO);
    CHECK(failures.count == 1);
    failures = (struct failures){.result = 0};
    CHECK(s3_deleted_parse(body, strlen(body) - 1, fail, &failures) ==
          -EBADMSG);
    CHECK(failures.count == 0);
    CHECK(parse_deleted("<Error><Code>MalformedXML</Code></Error>",
                        &failures) == -EBADMSG);
    CHECK(parse_deleted("<DeleteResult><Error><Code>x</Code></Error>"
                        "</DeleteResult>",
                        &failures) == -EBADMSG);
    CHECK(parse_deleted("<DeleteResult><Error><Key/></Error></DeleteResult>",
                        &failures) == -EBADMSG);
    CHECK(failures.count == 0);
}

/* ---- credentials -------------------------------------------------------- */

#define STS_START                                                              \
    "<AssumeRoleWithWebIdentityResponse "                                      \
    "xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"                     \
    "<AssumeRoleWithWebIdentityResult><Credentials>"
#define STS_END                                                                \
    "</Credentials></AssumeRoleWithWebIdentityResult>"                         \
    "</AssumeRoleWithWebIdentityResponse>"

TEST("credentials are whole or none")
{
    static const char *const parts[] = {
        "<AccessKeyId>ASIA1</AccessKeyId>",
        "<SecretAccessKey>secret/+</SecretAccessKey>",
        "<SessionToken>token==</SessionToken>",
        "<Expiration>2026-11-22T03:10:11Z</Expiration>",
    };
    static struct s3_sts_credentials credentials;
    char body[1024];

    for (size_t missing = 0; missing < 5; missing++) {
        size_t len = (size_t)snprintf(body, sizeof(body), STS_START);

        for (size_t i = 0; i < 4; i++) {
            if (i != missing)
                len += (size_t)snprintf(body + len, sizeof(body) - len, "%s",
                                        parts[i]);
        }
        (void)snprintf(body + len, sizeof(body) - len, STS_END);
        CHECK(s3_sts_parse(body, strlen(body), &credentials) ==
              (missing < 4 ? -EBADMSG : 0));
    }
    CHECK(strcmp(credentials.access_key, "ASIA1") == 0);
    CHECK(strcmp(credentials.secret_key, "secret/+") == 0);
    CHECK(strcmp(credentials.session_token, "token==") == 0);
    CHECK(credentials.expires_s == 1795317011);
}

TEST("credentials that are too long, or expire at no time, are none")
{
    static struct s3_sts_credentials credentials;
    static char body[16384], token[sizeof(credentials.session_token) + 1];

    memset(token, 't', sizeof(token));
    for (int over = 0; over < 2; over++) {
        (void)snprintf(body, sizeof(body),
                       STS_START "<AccessKeyId>a</AccessKeyId>"
                                 "<SecretAccessKey>b</SecretAccessKey>"
                                 "<SessionToken>%.*s</SessionToken>"
                                 "<Expiration>2026-11-22T03:10:11Z"
                                 "</Expiration>" STS_END,
                       (int)sizeof(credentials.session_token) - 1 + over,
                       token);
        CHECK(s3_sts_parse(body, strlen(body), &credentials) ==
              (over ? -EBADMSG : 0));
        (void)snprintf(body, sizeof(body),
                       STS_START "<AccessKeyId>%.*s</AccessKeyId>"
                                 "<SecretAccessKey>b</SecretAccessKey>"
                                 "<SessionToken>c</SessionToken>"
                                 "<Expiration>2026-11-22T03:10:11Z"
                                 "</Expiration>" STS_END,
                       (int)sizeof(credentials.access_key) - 1 + over, token);
        CHECK(s3_sts_parse(body, strlen(body), &credentials) ==
              (over ? -EBADMSG : 0));
    }
    (void)snprintf(body, sizeof(body),
                   STS_START "<AccessKeyId>a</AccessKeyId>"
                             "<SecretAccessKey>b</SecretAccessKey>"
                             "<SessionToken>c</SessionToken>"
                             "<Expiration>soon</Expiration>" STS_END);
    CHECK(s3_sts_parse(body, strlen(body), &credentials) == -EBADMSG);
}
