/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_s3_request - any texts as keys, hosts, buckets, tokens and settings.
 *
 * The input is an operation, flags, and texts with an end mark behind each.
 * A head that could be composed has the shape of one, whatever they were, and
 * its path, decoded, is that of bucket, prefix and key.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "s3/s3_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    KEY,
    HOST,
    NAME,
    BUCKET,
    PREFIX,
    REGION,
    TOKEN,
    STORAGE_CLASS,
    SESSION_TOKEN,
    TEXTS,
};

/* Cut the input into texts; those that are not there are empty. */
static void cut_texts(char *input, size_t size, const char *texts[TEXTS])
{
    size_t at = 0;

    for (size_t i = 0; i < TEXTS; i++) {
        texts[i] = input + at;
        at += strlen(input + at);
        if (at < size)
            at++;
    }
}

/* Lines of ASCII that end with CR LF; the last is empty, no other is. */
static void check_lines(const struct s3_request *request)
{
    const char *head = request->head;
    size_t len = request->head_len, line = 0;

    if (len < 4 || memcmp(head + len - 4, "\r\n\r\n", 4) != 0)
        abort();
    for (size_t i = 0; i < len - 2; i++) {
        if (head[i] == '\r') {
            if (head[i + 1] != '\n' || i == line)
                abort();
            line = ++i + 1;
        } else if (head[i] < ' ' || head[i] > '~') {
            abort();
        }
    }
}

/* "METHOD target HTTP/1.1", and the target as it is told. */
static void check_request_line(const struct s3_request *request)
{
    const char *target = memchr(request->head, ' ', request->head_len);
    size_t len = strlen(request->target);

    if (!target || target[1] != '/' ||
        strncmp(target + 1, request->target, len) != 0 ||
        strncmp(target + 1 + len, " HTTP/1.1\r\n", 11) != 0)
        abort();
}

static unsigned hex_value(char c)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *found = c != '\0' ? strchr(digits, c) : NULL;

    if (!found)
        abort();
    return (unsigned)(found - digits);
}

static void check_path(const struct s3_request *request, const char *expected)
{
    const char *at = request->target;

    for (; *at != '\0' && *at != '?'; at++, expected++) {
        char c = *at;

        if (c == '%') {
            c = (char)(hex_value(at[1]) << 4 | hex_value(at[2]));
            at += 2;
        }
        if (c != *expected)
            abort();
    }
    if (*expected != '\0')
        abort();
}

static void check_request(const struct s3_request *request,
                          const struct s3_site *site,
                          const struct s3_operation *operation)
{
    char expected[S3_BUCKET_MAX + S3_KEY_MAX + 3];
    bool has_key = operation->verb <= S3_DELETE;

    check_lines(request);
    check_request_line(request);
    (void)snprintf(expected, sizeof(expected), "/%s%s%s%s",
                   site->is_virtual ? "" : site->bucket,
                   has_key && !site->is_virtual ? "/" : "",
                   has_key ? site->prefix : "", has_key ? operation->key : "");
    check_path(request, expected);
}

/* The document of one key has nothing but it that is not ours. */
static void check_keys(const struct s3_site *site, const char *key)
{
    struct s3_body body;
    char *data = NULL;
    size_t marks = 0;

    if (s3_body_of_keys(site, &key, 1, &body, &data) != 0)
        return;
    for (size_t i = 0; i < body.len; i++)
        marks += data[i] == '<';
    if (marks != 9 || data[body.len - 1] != '>')
        abort();
    free(data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct s3_request request;
    static struct sigv4_key key;
    char input[4096];
    const char *texts[TEXTS];

    if (size < 2 || size - 2 >= sizeof(input))
        return 0;
    memcpy(input, data + 2, size - 2);
    input[size - 2] = '\0';
    cut_texts(input, size - 2, texts);
    {
        struct s3_site_options options = {
            .is_tls = data[1] & 1,
            .host = texts[HOST],
            .name = data[1] & 2 ? texts[NAME] : NULL,
            .port = (uint16_t)(data[1] * 257),
            .addressing = data[1] >> 2 & 3,
            .bucket = texts[BUCKET],
            .prefix = texts[PREFIX],
            .region = texts[REGION],
        };
        struct sigv4_credentials credentials = {"AKIDEXAMPLE", "secret",
                                                texts[SESSION_TOKEN]};
        struct s3_storage storage = {.storage_class = texts[STORAGE_CLASS]};
        struct s3_site site;
        struct s3_body body;
        struct s3_operation operation = {
            .verb = data[0] % (S3_HEAD_BUCKET + 1),
            .key = texts[KEY],
            .offset = data[1],
            .len = data[0],
            .if_absent = data[1] & 16,
            .body = &body,
            .list_prefix = texts[KEY],
            .start_after = texts[KEY],
            .token = texts[TOKEN],
            .max_keys = data[1],
        };

        if (s3_site_init(&site, &options) != 0)
            return 0;
        s3_body_init(&body, &site, data, size, data[1] & 32);
        if (s3_request_compose(&operation, &site, &storage, &credentials, &key,
                               UINT64_C(1795406400), &request) == 0)
            check_request(&request, &site, &operation);
        check_keys(&site, texts[KEY]);
        (void)s3_site_set_region(&site, texts[TOKEN]);
    }
    return 0;
}
