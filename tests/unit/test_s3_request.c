/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_request.h"

#include "unit/test.h"

static const struct sigv4_credentials credentials = {
    .access_key = "AKIAIOSFODNN7EXAMPLE",
    .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
};

/* 2013-05-24 00:00:00 */
static const uint64_t NOW_S = 1369353600;

/* It is big: one for all tests. */
static struct s3_request request;
static struct sigv4_key key;

/* The site of all tests, at a custom host, with that prefix. */
static struct s3_site site_with(const char *prefix)
{
    struct s3_site_options options = {
        .host = "s3.example.com",
        .port = 80,
        .bucket = "bucket",
        .prefix = prefix,
    };
    struct s3_site site;

    CHECK(s3_site_init(&site, &options) == 0);
    return site;
}

static int compose(const struct s3_operation *operation,
                   const struct s3_site *site)
{
    return s3_request_compose(operation, site, NULL, &credentials, &key, NOW_S,
                              &request);
}

/* Whether the head begins with that line. */
static bool request_line_is(const char *expected)
{
    size_t len = strcspn(request.head, "\r");

    if (len == strlen(expected) && memcmp(request.head, expected, len) == 0)
        return true;
    printf("# %.*s\n", (int)len, request.head);
    return false;
}

/* Copy the value of that field out of the head: whether it is there, once. */
static bool get_field(const char *name, char *value, size_t size)
{
    static char head[S3_REQUEST_HEAD_MAX + 1];
    char start[128];
    const char *found;

    memcpy(head, request.head, request.head_len);
    head[request.head_len] = '\0';
    (void)snprintf(start, sizeof(start), "\r\n%s: ", name);
    found = strstr(head, start);
    if (!found || strstr(found + 1, start))
        return false;
    found += strlen(start);
    (void)snprintf(value, size, "%.*s", (int)strcspn(found, "\r"), found);
    return true;
}

static bool field_is(const char *name, const char *expected)
{
    char value[2048];

    return get_field(name, value, sizeof(value)) &&
           strcmp(value, expected) == 0;
}

static bool has_field(const char *name)
{
    char value[2048];

    return get_field(name, value, sizeof(value));
}

/* Whether these are the fields that are signed. */
static bool signed_fields_are(const char *names)
{
    char authorization[SIGV4_AUTHORIZATION_TEXT], expected[512];

    (void)snprintf(expected, sizeof(expected), " SignedHeaders=%s,", names);
    return get_field("authorization", authorization, sizeof(authorization)) &&
           strstr(authorization, expected) != NULL;
}

TEST("a GET of a range is the documented one")
{
    struct s3_site_options options = {
        .is_tls = true,
        .host = "s3.amazonaws.com",
        .port = 443,
        .bucket = "examplebucket",
    };
    struct s3_operation operation = {
        .verb = S3_GET, .key = "test.txt", .offset = 0, .len = 10};
    struct s3_site site;

    NEED(s3_site_init(&site, &options) == 0);
    NEED(compose(&operation, &site) == 0);
    CHECK(request_line_is("GET /test.txt HTTP/1.1"));
    CHECK(field_is("host", "examplebucket.s3.amazonaws.com"));
    CHECK(field_is("range", "bytes=0-9"));
    CHECK(field_is("x-amz-date", "20130524T000000Z"));
    CHECK(field_is("x-amz-content-sha256", SIGV4_EMPTY_HASH));
    CHECK(field_is(
        "authorization",
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/"
        "s3/aws4_request, SignedHeaders=host;range;x-amz-content-sha256;"
        "x-amz-date, Signature="
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"));
    CHECK(!has_field("content-length"));
    CHECK(!has_field("accept-encoding"));
    CHECK(!has_field("expect"));
    CHECK(!request.is_head);
    CHECK(memcmp(request.head + request.head_len - 4, "\r\n\r\n", 4) == 0);
}

TEST("each operation has its method and target")
{
    static const struct s3_body body = {.sha256 = SIGV4_EMPTY_HASH};
    static const struct {
        struct s3_operation operation;
        const char *path_style, *virtual_style;
    } rows[] = {
        {{.verb = S3_GET, .key = "a/b"},
         "GET /bucket/vol/a/b HTTP/1.1",
         "GET /vol/a/b HTTP/1.1"},
        {{.verb = S3_PUT, .key = "a", .body = &body},
         "PUT /bucket/vol/a HTTP/1.1",
         "PUT /vol/a HTTP/1.1"},
        {{.verb = S3_HEAD, .key = "a"},
         "HEAD /bucket/vol/a HTTP/1.1",
         "HEAD /vol/a HTTP/1.1"},
        {{.verb = S3_DELETE, .key = "a"},
         "DELETE /bucket/vol/a HTTP/1.1",
         "DELETE /vol/a HTTP/1.1"},
        {{.verb = S3_HEAD_BUCKET}, "HEAD /bucket HTTP/1.1", "HEAD / HTTP/1.1"},
        {{.verb = S3_DELETE_MANY, .body = &body},
         "POST /bucket?delete= HTTP/1.1",
         "POST /?delete= HTTP/1.1"},
        {{.verb = S3_LIST, .list_prefix = "d/", .max_keys = 1},
         "GET /bucket?encoding-type=url&list-type=2&max-keys=1&"
         "prefix=vol%2Fd%2F HTTP/1.1",
         "GET /?encoding-type=url&list-type=2&max-keys=1&"
         "prefix=vol%2Fd%2F HTTP/1.1"},
        {{.verb = S3_LIST, .start_after = "x y"},
         "GET /bucket?encoding-type=url&list-type=2&prefix=vol%2F&"
         "start-after=vol%2Fx%20y HTTP/1.1",
         "GET /?encoding-type=url&list-type=2&prefix=vol%2F&"
         "start-after=vol%2Fx%20y HTTP/1.1"},
        {{.verb = S3_LIST, .start_after = "x", .token = "1+/="},
         "GET /bucket?continuation-token=1%2B%2F%3D&encoding-type=url&"
         "list-type=2&prefix=vol%2F HTTP/1.1",
         "GET /?continuation-token=1%2B%2F%3D&encoding-type=url&"
         "list-type=2&prefix=vol%2F HTTP/1.1"},
    };
    struct s3_site site = site_with("vol");

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct s3_operation *operation = &rows[i].operation;

        site.is_virtual = false;
        CHECK(compose(operation, &site) == 0);
        CHECK(request_line_is(rows[i].path_style));
        CHECK(field_is("host", "s3.example.com"));
        CHECK(request.is_head == (operation->verb == S3_HEAD ||
                                  operation->verb == S3_HEAD_BUCKET));
        CHECK(has_field("content-length") == (operation->body != NULL));
        site.is_virtual = true;
        CHECK(compose(operation, &site) == 0);
        CHECK(request_line_is(rows[i].virtual_style));
        CHECK(field_is("host", "bucket.s3.example.com"));
    }
}

TEST("a list without prefix, of the whole bucket, names none")
{
    struct s3_site site = site_with("");
    struct s3_operation operation = {
        .verb = S3_LIST, .list_prefix = "", .start_after = "", .token = ""};

    CHECK(compose(&operation, &site) == 0);
    CHECK(
        request_line_is("GET /bucket?encoding-type=url&list-type=2 HTTP/1.1"));
}

TEST("odd keys are encoded once and not normalised")
{
    static const char *const keys[][2] = {
        {"a b+c%20", "a%20b%2Bc%2520"},
        {"//a//", "//a//"},
        {"./../a", "./../a"},
        {"~-_.", "~-_."},
        {"\xc3\xa4\xff\x01", "%C3%A4%FF%01"},
        {"?x=1&y#z", "%3Fx%3D1%26y%23z"},
        {"a\r\nHost: b", "a%0D%0AHost%3A%20b"},
    };
    struct s3_site site = site_with("");

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        struct s3_operation operation = {.verb = S3_GET, .key = keys[i][0]};
        char expected[128];

        (void)snprintf(expected, sizeof(expected), "GET /bucket/%s HTTP/1.1",
                       keys[i][1]);
        CHECK(compose(&operation, &site) == 0);
        CHECK(request_line_is(expected));
    }
}

TEST("a range ends where the 64 bits end")
{
    struct s3_site site = site_with("");
    struct s3_operation operation = {.verb = S3_GET, .key = "a"};

    operation.len = 0;
    CHECK(compose(&operation, &site) == 0);
    CHECK(!has_field("range"));
    operation.offset = 8192;
    operation.len = 4096;
    CHECK(compose(&operation, &site) == 0);
    CHECK(field_is("range", "bytes=8192-12287"));
    operation.offset = UINT64_MAX;
    operation.len = 1;
    CHECK(compose(&operation, &site) == 0);
    CHECK(field_is("range", "bytes=18446744073709551615-18446744073709551615"));
    operation.len = 2;
    CHECK(compose(&operation, &site) == -EINVAL);
}

TEST("a put says how to store, and all of that is signed")
{
    static const struct s3_storage storage = {.storage_class = "STANDARD_IA",
                                              .sse = "aws:kms",
                                              .sse_key_id = "key-1"};
    struct sigv4_credentials session = credentials;
    struct s3_site site = site_with("");
    struct s3_body body;
    struct s3_operation operation = {
        .verb = S3_PUT, .key = "a", .if_absent = true, .body = &body};

    session.session_token = "FwoGZXIvYXdzE//+=";
    s3_body_init(&body, &site, "abc", 3, false);
    CHECK(body.len == 3 && memcmp(body.data, "abc", 3) == 0);
    NEED(s3_request_compose(&operation, &site, &storage, &session, &key, NOW_S,
                            &request) == 0);
    CHECK(field_is("content-length", "3"));
    CHECK(field_is("x-amz-content-sha256",
                   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20"
                   "015ad"));
    CHECK(field_is("if-none-match", "*"));
    CHECK(field_is("x-amz-security-token", "FwoGZXIvYXdzE//+="));
    CHECK(field_is("x-amz-storage-class", "STANDARD_IA"));
    CHECK(field_is("x-amz-server-side-encryption", "aws:kms"));
    CHECK(field_is("x-amz-server-side-encryption-aws-kms-key-id", "key-1"));
    CHECK(signed_fields_are(
        "host;if-none-match;x-amz-content-sha256;x-amz-date;"
        "x-amz-security-token;x-amz-server-side-encryption;"
        "x-amz-server-side-encryption-aws-kms-key-id;x-amz-storage-class"));

    /* That is for what is stored: others do not say it. */
    operation.verb = S3_GET;
    NEED(s3_request_compose(&operation, &site, &storage, &session, &key, NOW_S,
                            &request) == 0);
    CHECK(signed_fields_are(
        "host;x-amz-content-sha256;x-amz-date;x-amz-security-token"));
}

TEST("a plain put of nothing says that it has no condition and no bytes")
{
    struct s3_site site = site_with("");
    struct s3_body body;
    struct s3_operation operation = {.verb = S3_PUT, .key = "a", .body = &body};

    s3_body_init(&body, &site, NULL, 0, false);
    NEED(compose(&operation, &site) == 0);
    CHECK(field_is("content-length", "0"));
    CHECK(field_is("x-amz-content-sha256", SIGV4_EMPTY_HASH));
    CHECK(!has_field("if-none-match"));
    CHECK(signed_fields_are("host;x-amz-content-sha256;x-amz-date"));
}

TEST("a body goes without its hash over TLS only")
{
    struct s3_site site = site_with("");
    struct s3_body body;
    struct s3_operation operation = {.verb = S3_PUT, .key = "a", .body = &body};

    s3_body_init(&body, &site, "abc", 3, true);
    CHECK(strlen(body.sha256) == 64);
    site.is_tls = true;
    s3_body_init(&body, &site, "abc", 3, true);
    NEED(compose(&operation, &site) == 0);
    CHECK(field_is("x-amz-content-sha256", "UNSIGNED-PAYLOAD"));
    /* What has no body stays as it is. */
    operation.verb = S3_GET;
    NEED(compose(&operation, &site) == 0);
    CHECK(field_is("x-amz-content-sha256", SIGV4_EMPTY_HASH));
}

TEST("the time is the one given")
{
    struct s3_site site = site_with("");
    struct s3_operation operation = {.verb = S3_HEAD_BUCKET};
    char first[SIGV4_AUTHORIZATION_TEXT], second[SIGV4_AUTHORIZATION_TEXT];

    NEED(compose(&operation, &site) == 0);
    CHECK(get_field("authorization", first, sizeof(first)));
    NEED(s3_request_compose(&operation, &site, NULL, &credentials, &key,
                            UINT64_C(1795406400), &request) == 0);
    CHECK(field_is("x-amz-date", "20261123T040000Z"));
    CHECK(get_field("authorization", second, sizeof(second)));
    CHECK(strstr(second, "/20261123/us-east-1/s3/aws4_request,") != NULL);
}

TEST("an object without a key would be the bucket: it is refused")
{
    static const enum s3_verb verbs[] = {S3_GET, S3_PUT, S3_HEAD, S3_DELETE};
    struct s3_site site = site_with("vol");

    for (size_t i = 0; i < 4; i++) {
        struct s3_operation operation = {.verb = verbs[i], .key = ""};

        CHECK(compose(&operation, &site) == -EINVAL);
    }
}

TEST("what is too long is refused, the longest is not")
{
    static char text[S3_TOKEN_MAX * 4];
    struct s3_site site = site_with("vol");
    struct s3_operation get = {.verb = S3_GET, .key = text};
    struct s3_operation list = {.verb = S3_LIST, .list_prefix = text};
    size_t fits = S3_KEY_MAX - strlen("vol/");

    memset(text, '\xff', sizeof(text));
    text[fits + 1] = '\0';
    CHECK(compose(&get, &site) == -EMSGSIZE);
    CHECK(compose(&list, &site) == -EMSGSIZE);
    list.list_prefix = NULL;
    list.start_after = text;
    CHECK(compose(&list, &site) == -EMSGSIZE);
    text[fits] = '\0';
    CHECK(compose(&get, &site) == 0);
    CHECK(strlen(request.target) == strlen("/bucket/vol/") + 3 * fits);
    CHECK(compose(&list, &site) == 0);
    list.list_prefix = text;
    list.token = text;
    CHECK(compose(&list, &site) == 0);

    /* The longest prefix and token that there are, all escaped. */
    list.list_prefix = NULL;
    memset(site.prefix, '\xff', S3_PREFIX_MAX);
    memset(text, '\xff', S3_TOKEN_MAX);
    text[S3_TOKEN_MAX] = '\0';
    CHECK(compose(&list, &site) == 0);
    memset(text, '\xff', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    CHECK(compose(&list, &site) == -EMSGSIZE);
}

TEST("settings and credentials that no head can carry are refused")
{
    static const char *const texts[] = {"a\r\nb", "a\nb", "\x7f", "\xc3\xa4"};
    struct s3_site site = site_with("");
    struct s3_body body;
    struct s3_operation operation = {.verb = S3_PUT, .key = "a", .body = &body};

    s3_body_init(&body, &site, NULL, 0, false);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct s3_storage storage = {.storage_class = texts[i]};
        struct sigv4_credentials odd = credentials;

        CHECK(s3_request_compose(&operation, &site, &storage, &credentials,
                                 &key, NOW_S, &request) == -EINVAL);
        odd.access_key = texts[i];
        CHECK(s3_request_compose(&operation, &site, NULL, &odd, &key, NOW_S,
                                 &request) == -EINVAL);
        odd = credentials;
        odd.session_token = texts[i];
        CHECK(s3_request_compose(&operation, &site, NULL, &odd, &key, NOW_S,
                                 &request) == -EINVAL);
    }
}

TEST("the longest session token fits beside the longest target")
{
    static char session_token[8192], token[S3_TOKEN_MAX + 1];
    struct sigv4_credentials session = credentials;
    struct s3_site site = site_with("");
    struct s3_operation operation = {.verb = S3_LIST, .token = token};

    memset(session_token, '+', sizeof(session_token) - 1);
    session.session_token = session_token;
    memset(token, '+', S3_TOKEN_MAX);
    CHECK(s3_request_compose(&operation, &site, NULL, &session, &key, NOW_S,
                             &request) == 0);
    CHECK(request.head_len > sizeof(session_token) + 3 * S3_TOKEN_MAX);
}

TEST("many keys become one document, hashed, with what XML needs escaped")
{
    static const char *const keys[] = {"chunk/1", "a<b>&\"'", "\r\n\t",
                                       "\xc3\xa4"};
    static const char expected[] =
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
        "<Object><Key>vol/chunk/1</Key></Object>"
        "<Object><Key>vol/a&lt;b&gt;&amp;\"'</Key></Object>"
        "<Object><Key>vol/&#13;&#10;&#9;</Key></Object>"
        "<Object><Key>vol/\xc3\xa4</Key></Object>"
        "<Quiet>true</Quiet></Delete>";
    struct s3_site site = site_with("vol");
    struct s3_body body;
    struct s3_operation operation = {.verb = S3_DELETE_MANY, .body = &body};
    char *data = NULL;
    char hash[SIGV4_HASH_TEXT], md5[SIGV4_MD5_TEXT], length[24];

    NEED(s3_body_of_keys(&site, keys, 4, &body, &data) == 0);
    CHECK(body.data == data && body.len == strlen(expected));
    CHECK(memcmp(data, expected, strlen(expected)) == 0);
    NEED(compose(&operation, &site) == 0);
    sigv4_hash(expected, strlen(expected), hash);
    sigv4_md5(expected, strlen(expected), md5);
    (void)snprintf(length, sizeof(length), "%zu", strlen(expected));
    CHECK(field_is("x-amz-content-sha256", hash));
    CHECK(field_is("content-md5", md5));
    CHECK(field_is("content-length", length));
    CHECK(field_is("content-type", "application/xml"));
    CHECK(signed_fields_are(
        "content-md5;content-type;host;x-amz-content-sha256;x-amz-date"));
    free(data);
}

TEST("keys that XML cannot carry, or that are too long, make no document")
{
    char long_key[S3_KEY_MAX + 1];
    const char *keys[] = {"a", "b\x01"};
    struct s3_site site = site_with("vol");
    struct s3_body body;
    char *data = NULL;

    CHECK(s3_body_of_keys(&site, keys, 2, &body, &data) == -EINVAL);
    keys[1] = long_key;
    memset(long_key, 'x', S3_KEY_MAX);
    long_key[S3_KEY_MAX - 3] = '\0';
    CHECK(s3_body_of_keys(&site, keys, 2, &body, &data) == -EMSGSIZE);
    CHECK(data == NULL);
    long_key[S3_KEY_MAX - 4] = '\0';
    CHECK(s3_body_of_keys(&site, keys, 2, &body, &data) == 0);
    free(data);
}
