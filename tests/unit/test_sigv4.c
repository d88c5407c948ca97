/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/sigv4.h"

#include "unit/test.h"

/* As sizeof(array) / sizeof(array[0]). */
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct sigv4_credentials example_credentials = {
    .access_key = "AKIAIOSFODNN7EXAMPLE",
    .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
};

static const struct sigv4_pair example_fields[] = {
    {"Host", "examplebucket.s3.amazonaws.com"},
    {"x-amz-content-sha256", SIGV4_EMPTY_HASH},
    {"x-amz-date", "20130524T000000Z"},
};

/* A request of the examples, without body, and with these fields. */
static struct sigv4_request example(const char *path, const char *query,
                                    const struct sigv4_pair *fields,
                                    size_t count)
{
    return (struct sigv4_request){
        .method = "GET",
        .path = path,
        .path_len = strlen(path),
        .query = query,
        .query_len = strlen(query),
        .fields = fields,
        .field_count = count,
        .payload_hash = SIGV4_EMPTY_HASH,
        .date = "20130524T000000Z",
        .region = "us-east-1",
        .service = "s3",
    };
}

/* Whether the signature is that, and the fields in front of it are these. */
static bool is_signed_as(const struct sigv4_request *request, const char *names,
                         const char *signature)
{
    struct sigv4_key key = {0};
    char authorization[SIGV4_AUTHORIZATION_TEXT], expected[512];

    (void)snprintf(expected, sizeof(expected),
                   "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/"
                   "us-east-1/s3/aws4_request, SignedHeaders=%s, Signature=%s",
                   names, signature);
    if (sigv4_sign(request, &example_credentials, &key, authorization) != 0 ||
        strcmp(authorization, expected) != 0) {
        printf("# %s\n", authorization);
        return false;
    }
    return true;
}

TEST("the documented GET of a range has the documented signature")
{
    struct sigv4_pair fields[4];
    struct sigv4_request request = example("/test.txt", "", fields, 4);

    memcpy(fields, example_fields, sizeof(example_fields));
    fields[3] = (struct sigv4_pair){"Range", "bytes=0-9"};
    CHECK(is_signed_as(
        &request, "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"));
}

TEST("the documented PUT has the documented signature")
{
    static const char body[] = "Welcome to Amazon S3.";
    char path[64], hash[SIGV4_HASH_TEXT];
    const struct sigv4_pair fields[] = {
        {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
        {"x-amz-date", "20130524T000000Z"},
        {"x-amz-content-sha256", hash},
        {"Host", "examplebucket.s3.amazonaws.com"},
        {"Date", "Fri, 24 May 2013 00:00:00 GMT"},
    };
    struct sigv4_request request;

    CHECK(sigv4_encode("/test$file.text", 15, true, path, sizeof(path)) == 17);
    request = example(path, "", fields, COUNT(fields));
    request.method = "PUT";
    request.payload_hash = hash;
    sigv4_hash(body, strlen(body), hash);
    CHECK(is_signed_as(
        &request,
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"));
}

TEST("the documented GET of a setting has the documented signature")
{
    static const struct sigv4_pair lifecycle = {"lifecycle", ""};
    char query[32];
    struct sigv4_request request;

    CHECK(sigv4_query(&lifecycle, 1, query, sizeof(query)) == 10);
    request = example("/", query, example_fields, COUNT(example_fields));
    CHECK(is_signed_as(
        &request, "host;x-amz-content-sha256;x-amz-date",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"));
}

TEST("the documented list has the documented signature")
{
    static const struct sigv4_pair parameters[] = {{"prefix", "J"},
                                                   {"max-keys", "2"}};
    char query[32];
    struct sigv4_request request;

    CHECK(sigv4_query(parameters, 2, query, sizeof(query)) == 19);
    request = example("/", query, example_fields, COUNT(example_fields));
    CHECK(is_signed_as(
        &request, "host;x-amz-content-sha256;x-amz-date",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"));
}

TEST("the key that was kept gives way to that of another day or secret")
{
    struct sigv4_request request =
        example("/", "", example_fields, COUNT(example_fields));
    struct sigv4_credentials credentials = example_credentials;
    struct sigv4_key key = {0}, first_key;
    char first[SIGV4_AUTHORIZATION_TEXT], kept[SIGV4_AUTHORIZATION_TEXT];

    /* That of the documentation. */
    NEED(sigv4_sign(&request, &credentials, &key, first) == 0);
    CHECK(memcmp(key.key,
                 "\xdb\xb8\x93\xac\xc0\x10\x96\x49\x18\xf1\xfd\x43\x3a\xdd\x87"
                 "\xc7\x0e\x8b\x0d\xb6\xbe\x30\xc1\xfb\xea\xfe\xfa\x5e\xc6\xba"
                 "\x83\x78",
                 32) == 0);
    first_key = key;
    NEED(sigv4_sign(&request, &credentials, &key, kept) == 0);
    CHECK(strcmp(first, kept) == 0);

    /* Each of what it is made of changes it, and back again. */
    for (int i = 0; i < 4; i++) {
        struct sigv4_request other = request;

        credentials = example_credentials;
        if (i == 0)
            other.date = "20130525T000000Z";
        else if (i == 1)
            other.region = "eu-west-1";
        else if (i == 2)
            other.service = "sts";
        else
            credentials.secret_key = "another";
        NEED(sigv4_sign(&other, &credentials, &key, kept) == 0);
        CHECK(memcmp(&key, &first_key, sizeof(key)) != 0);
        CHECK(strcmp(first, kept) != 0);
        NEED(sigv4_sign(&request, &example_credentials, &key, kept) == 0);
        CHECK(strcmp(first, kept) == 0);
    }

    /* Within the day it stays. */
    request.date = "20130524T235959Z";
    NEED(sigv4_sign(&request, &example_credentials, &key, kept) == 0);
    CHECK(memcmp(&key, &first_key, sizeof(key)) == 0);
    CHECK(strcmp(first, kept) != 0);
}

TEST("what cannot be signed is refused")
{
    struct sigv4_pair fields[SIGV4_FIELDS_MAX + 1];
    char long_text[2048];
    struct sigv4_request request =
        example("/", "", fields, COUNT(example_fields));
    struct sigv4_credentials credentials = example_credentials;
    struct sigv4_key key = {0};
    char authorization[SIGV4_AUTHORIZATION_TEXT];

    for (size_t i = 0; i < COUNT(fields); i++)
        fields[i] = example_fields[i % COUNT(example_fields)];
    memset(long_text, 'x', sizeof(long_text));
    long_text[sizeof(long_text) - 1] = '\0';

    request.field_count = SIGV4_FIELDS_MAX;
    CHECK(sigv4_sign(&request, &credentials, &key, authorization) == 0);
    request.field_count = SIGV4_FIELDS_MAX + 1;
    CHECK(sigv4_sign(&request, &credentials, &key, authorization) == -EMSGSIZE);
    request.field_count = 3;
    fields[0].name = long_text;
    CHECK(sigv4_sign(&request, &credentials, &key, authorization) == -EMSGSIZE);
    fields[0].name = "host";
    request.region = long_text;
    CHECK(sigv4_sign(&request, &credentials, &key, authorization) == -EMSGSIZE);
    request.region = "us-east-1";
    credentials.access_key = long_text;
    CHECK(sigv4_sign(&request, &credentials, &key, authorization) == -EMSGSIZE);
    credentials = example_credentials;
    long_text[SIGV4_SECRET_MAX + 1] = '\0';
    credentials.secret_key = long_text;
    CHECK(sigv4_sign(&request, &credentials, &key, authorization) == -EMSGSIZE);
    long_text[SIGV4_SECRET_MAX] = '\0';
    CHECK(sigv4_sign(&request, &credentials, &key, authorization) == 0);

    request.date = "20130524";
    CHECK(sigv4_sign(&request, &credentials, &key, authorization) == -EINVAL);
    request.date = "20130524 000000Z";
    CHECK(sigv4_sign(&request, &credentials, &key, authorization) == -EINVAL);
    request.date = "20130524T000000Z ";
    CHECK(sigv4_sign(&request, &credentials, &key, authorization) == -EINVAL);
}

TEST("hashes are those that others compute")
{
    char hash[SIGV4_HASH_TEXT], md5[SIGV4_MD5_TEXT];

    sigv4_hash("", 0, hash);
    CHECK(strcmp(hash, SIGV4_EMPTY_HASH) == 0);
    sigv4_hash("abc", 3, hash);
    CHECK(strcmp(hash,
                 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61"
                 "f20015ad") == 0);
    sigv4_md5("", 0, md5);
    CHECK(strcmp(md5, "1B2M2Y8AsgTpgAmY7PhCfg==") == 0);
    sigv4_md5("abc", 3, md5);
    CHECK(strcmp(md5, "kAFQmDzST7DWlj99KOF/cg==") == 0);
}

TEST("only what is unreserved goes as it is, and a slash in a path")
{
    char raw[256], text[1024];

    for (int is_path = 0; is_path < 2; is_path++) {
        size_t len = 0;

        for (int c = 0; c < 256; c++)
            raw[c] = (char)c;
        NEED(sigv4_encode(raw, 256, is_path, text, sizeof(text)) ==
             256 * 3 - 2 * (size_t)(66 + is_path));
        for (int c = 0; c < 256; c++) {
            char expected[4] = {(char)c, '\0'};
            bool is_plain = c != 0 && strchr("-._~0123456789abcdefghijklmnopqrs"
                                             "tuvwxyzABCDEFGHIJKLMNOPQRSTUVWXY"
                                             "Z",
                                             c) != NULL;

            if (!is_plain && !(is_path && c == '/'))
                (void)snprintf(expected, sizeof(expected), "%%%02X",
                               (unsigned)c);
            CHECK(strncmp(text + len, expected, strlen(expected)) == 0);
            len += strlen(expected);
        }
        CHECK(text[len] == '\0');
    }
}

TEST("a text that does not fit is told, and nothing is written past its room")
{
    static const struct sigv4_pair parameters[] = {{"a", "+"}, {"b", ""}};
    char text[16];

    for (size_t room = 0; room < sizeof(text); room++) {
        memset(text, '#', sizeof(text));
        CHECK(sigv4_encode("a b", 3, true, text, room) == 5);
        CHECK(text[room] == '#');
        CHECK(room <= 5 || strcmp(text, "a%20b") == 0);
        memset(text, '#', sizeof(text));
        CHECK(sigv4_query(parameters, 2, text, room) == 8);
        CHECK(text[room] == '#');
        CHECK(room <= 8 || strcmp(text, "a=%2B&b=") == 0);
    }
}

TEST("a query is in the order of its encoded names, then values")
{
    static const struct sigv4_pair parameters[] = {
        {"b", "2"},  {"a", "~"},  {"a", "\xe1"},
        {"a", "/"},  {"a", ""},   {"\xe1\x88\xb4", "x y"},
        {"a-b", ""}, {"a", "/a"},
    };
    char query[128];

    CHECK(sigv4_query(parameters, COUNT(parameters), query, sizeof(query)) <
          sizeof(query));
    CHECK(strcmp(query, "%E1%88%B4=x%20y&a=&a=%2F&a=%2Fa&a=%E1&a=~&a-b=&b=2") ==
          0);
    CHECK(sigv4_query(parameters, 0, query, sizeof(query)) == 0);
    CHECK(strcmp(query, "") == 0);
}

/* ---- the suite of vectors ----------------------------------------------- */

/*
 * A directory for each case, with request.txt, context.json (what to sign
 * with) and header-signed-request.txt (what must come out).
 */
struct vector {
    char request[2048], context[2048], signed_request[4096];
    char access_key[128], secret_key[128], token[1024];
    char region[64], service[64], date[64];
    char path[1024], query[1024], hash[SIGV4_HASH_TEXT];
    struct sigv4_pair fields[SIGV4_FIELDS_MAX];
    size_t field_count;
};

static const char *vectors_dir(void)
{
    const char *dir = getenv("SIGV4_VECTORS");

    return dir ? dir : "../shared/vectors/sigv4";
}

static bool read_text(const char *name, const char *file, char *text,
                      size_t size)
{
    char path[PATH_MAX];
    ssize_t len;
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%s/%s", vectors_dir(), name, file);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    len = read(fd, text, size - 1);
    (void)close(fd);
    if (len < 0)
        return false;
    text[len] = '\0';
    return true;
}

/* Copy the text of that name out of the JSON; "" if there is none. */
static void json_text(const char *json, const char *name, char *text,
                      size_t size)
{
    char start[64];
    const char *found;

    (void)snprintf(start, sizeof(start), "\"%s\": \"", name);
    found = strstr(json, start);
    text[0] = '\0';
    if (found) {
        found += strlen(start);
        (void)snprintf(text, size, "%.*s", (int)strcspn(found, "\""), found);
    }
}

/* Returns text up to the mark, which is cut off; *rest is what follows. */
static char *cut(char *text, const char *mark, char **rest)
{
    char *found = strstr(text, mark);

    *rest = text + strlen(text);
    if (found) {
        *found = '\0';
        *rest = found + strlen(mark);
    }
    return text;
}

static unsigned hex_value(char c)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *found = strchr(digits, c);

    return found ? (unsigned)(found - digits) : 0;
}

/* Undo the percents of a query that is encoded already. */
static void decode(char *text)
{
    char *to = text;

    for (; *text != '\0'; text++) {
        if (*text == '%' && text[1] != '\0' && text[2] != '\0') {
            *to++ = (char)(hex_value(text[1]) << 4 | hex_value(text[2]));
            text += 2;
        } else {
            *to++ = *text;
        }
    }
    *to = '\0';
}

static void encode_query(struct vector *vector, char *query)
{
    struct sigv4_pair parameters[SIGV4_PARAMETERS_MAX];
    size_t count = 0;

    while (*query != '\0') {
        char *next, *value, *name = cut(cut(query, "&", &next), "=", &value);

        decode(name);
        decode(value);
        parameters[count++] = (struct sigv4_pair){name, value};
        query = next;
    }
    (void)sigv4_query(parameters, count, vector->query, sizeof(vector->query));
}

static void add_field(struct vector *vector, const char *name,
                      const char *value)
{
    vector->fields[vector->field_count++] = (struct sigv4_pair){name, value};
}

/* Take the fields from the lines, unfolded, up to an empty one. */
static void take_fields(struct vector *vector, char *lines)
{
    for (char *c = lines; *c != '\0'; c++) {
        if (c[0] == '\n' && (c[1] == ' ' || c[1] == '\t'))
            *c = ' ';
    }
    while (*lines != '\0') {
        char *next, *value, *name = cut(cut(lines, "\n", &next), ":", &value);

        add_field(vector, name, value);
        lines = next;
    }
}

static void take_context(struct vector *vector, const char *body)
{
    char moment[64];
    size_t len = 0;

    json_text(vector->context, "access_key_id", vector->access_key,
              sizeof(vector->access_key));
    json_text(vector->context, "secret_access_key", vector->secret_key,
              sizeof(vector->secret_key));
    json_text(vector->context, "token", vector->token, sizeof(vector->token));
    json_text(vector->context, "region", vector->region,
              sizeof(vector->region));
    json_text(vector->context, "service", vector->service,
              sizeof(vector->service));
    json_text(vector->context, "timestamp", moment, sizeof(moment));
    for (const char *c = moment; *c != '\0'; c++) {
        if (*c != '-' && *c != ':')
            vector->date[len++] = *c;
    }
    vector->date[len] = '\0';
    add_field(vector, "X-Amz-Date", vector->date);
    if (vector->token[0] != '\0' &&
        !strstr(vector->context, "\"omit_session_token\": true"))
        add_field(vector, "X-Amz-Security-Token", vector->token);
    sigv4_hash(body, strlen(body), vector->hash);
    if (strstr(vector->context, "\"sign_body\": true"))
        add_field(vector, "x-amz-content-sha256", vector->hash);
}

/* Sign the request of that case and write the value of Authorization. */
static bool sign_vector(const char *name, struct vector *vector,
                        char authorization[SIGV4_AUTHORIZATION_TEXT])
{
    struct sigv4_credentials credentials = {vector->access_key,
                                            vector->secret_key, vector->token};
    struct sigv4_key key = {0};
    struct sigv4_request request;
    char *fields, *body, *target, *method, *query, *end;

    memset(vector, 0, sizeof(*vector));
    if (!read_text(name, "request.txt", vector->request,
                   sizeof(vector->request)) ||
        !read_text(name, "context.json", vector->context,
                   sizeof(vector->context)) ||
        !read_text(name, "header-signed-request.txt", vector->signed_request,
                   sizeof(vector->signed_request)))
        return false;
    method = cut(cut(vector->request, "\n", &fields), " ", &target);
    (void)cut(fields, "\n\n", &body);
    (void)cut(cut(target, " HTTP/1.1", &end), "?", &query);
    take_fields(vector, fields);
    take_context(vector, body);
    encode_query(vector, query);
    (void)sigv4_encode(target, strlen(target), true, vector->path,
                       sizeof(vector->path));
    request = (struct sigv4_request){
        .method = method,
        .path = vector->path,
        .path_len = strlen(vector->path),
        .query = vector->query,
        .query_len = strlen(vector->query),
        .fields = vector->fields,
        .field_count = vector->field_count,
        .payload_hash = vector->hash,
        .date = vector->date,
        .region = vector->region,
        .service = vector->service,
    };
    return sigv4_sign(&request, &credentials, &key, authorization) == 0;
}

/* Whether that is what must come out of the case of this name. */
static bool is_result_of(const char *name, const char *authorization)
{
    char signed_request[4096];

    return read_text(name, "header-signed-request.txt", signed_request,
                     sizeof(signed_request)) &&
           strstr(signed_request, authorization) != NULL;
}

/*
 * S3 does not normalise a path: the cases that have it normalised must come
 * out as their siblings, which have the same request and leave it alone.
 */
static bool sibling_has_it(const char *name, const char *authorization)
{
    static const char end[] = "-normalized";
    char sibling[NAME_MAX + 16];
    size_t len = strlen(name);

    if (len < strlen(end) || strcmp(name + len - strlen(end), end) != 0)
        return false;
    (void)snprintf(sibling, sizeof(sibling), "%.*s-unnormalized",
                   (int)(len - strlen(end)), name);
    return is_result_of(sibling, authorization);
}

TEST("the suite of AWS comes out as it must, but for normalised paths")
{
    static struct vector vector;
    char authorization[SIGV4_AUTHORIZATION_TEXT];
    size_t same = 0, others = 0;
    struct dirent *entry;
    DIR *dir = opendir(vectors_dir());

    if (!dir)
        SKIP("no vectors: SIGV4_VECTORS names their directory");
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        if (!CHECK(sign_vector(entry->d_name, &vector, authorization)))
            printf("# %s\n", entry->d_name);
        else if (is_result_of(entry->d_name, authorization))
            same++;
        else if (CHECK(sibling_has_it(entry->d_name, authorization)))
            others++;
        else
            printf("# %s: %s\n", entry->d_name, authorization);
    }
    (void)closedir(dir);
    CHECK(same == 32);
    CHECK(others == 6);
}
