/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_container.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/secret.h"
#include "s3/credentials_http.h"
#include "s3/credentials_json.h"

enum {
    TOKEN_MAX = 16 << 10, /* bytes: no more fit into a line of a head */
    TRIES = 3,
};

#define TIMEOUT_NS (2 * UINT64_C(1000000000))

#define RELATIVE "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
#define FULL     "AWS_CONTAINER_CREDENTIALS_FULL_URI"
#define ADDRESS  "http://169.254.170.2" /* what RELATIVE is relative to */

/* Where the environment says to ask. */
static int find_url(const struct credentials_reader *reader,
                    struct credentials_url *url, struct net_failure *failure)
{
    const char *relative = credentials_reader_get(reader, RELATIVE);
    const char *full = credentials_reader_get(reader, FULL);
    int error;

    if (!relative && !full) {
        net_failure_set(failure, -ENOENT, "%s is not in the environment",
                        RELATIVE);
        return -ENOENT;
    }
    if (relative && relative[0] == '/') {
        char text[sizeof(ADDRESS) + CREDENTIALS_URL_PATH_MAX];
        int len = snprintf(text, sizeof(text), ADDRESS "%s", relative);

        error = len >= 0 && (size_t)len < sizeof(text)
                    ? credentials_url_parse(text, url)
                    : -EMSGSIZE;
    } else {
        error = relative ? -EINVAL : credentials_url_parse(full, url);
    }
    if (!error)
        return 0;
    net_failure_set(failure, -EACCES, "%s is %s", relative ? RELATIVE : FULL,
                    error == -EMSGSIZE ? "too long"
                    : relative         ? "no path"
                                       : "no URL");
    return -EACCES;
}

/* Read the token, if there is to be one: it goes into the request as it is. */
static int read_token(const struct credentials_reader *reader,
                      struct secret_text *text, const char **ret_token,
                      struct net_failure *failure)
{
    const char *path = credentials_reader_get(
        reader, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    size_t len;

    *ret_token =
        credentials_reader_get(reader, "AWS_CONTAINER_AUTHORIZATION_TOKEN");
    if (path) {
        if (secret_read(path, TOKEN_MAX, text, failure) != 0)
            return -EACCES;
        len = text->len;
        if (len > 0 && text->bytes[len - 1] == '\n')
            text->bytes[--len] = '\0';
        *ret_token = text->bytes;
        if (len == 0 || strcspn(text->bytes, "\r\n") != len) {
            net_failure_set(failure, -EACCES,
                            "%s has not one line, which is to be sent", path);
            return -EACCES;
        }
    } else if (*ret_token && strpbrk(*ret_token, "\r\n")) {
        net_failure_set(failure, -EACCES,
                        "AWS_CONTAINER_AUTHORIZATION_TOKEN has more than one "
                        "line");
        return -EACCES;
    }
    return 0;
}

/* Ask once; *ret_may_retry says whether another time may help. */
static int ask(const struct credentials_reader *reader,
               const struct credentials_url *url, struct credentials_set *set,
               bool *ret_may_retry, struct net_failure *failure)
{
    struct credentials_http_request request = {
        .method = "GET",
        .url = url,
        .fields = {{"Accept", "application/json"}},
        .is_local = true,
        .timeout_ns = TIMEOUT_NS,
    };
    struct credentials_http_answer answer;
    struct secret_text text = {0};
    const char *token;
    int error = read_token(reader, &text, &token, failure);

    *ret_may_retry = false;
    if (!error) {
        if (token)
            request.fields[1] =
                (struct credentials_http_field){"Authorization", token};
        error = credentials_http_run(reader->http, &request, &answer, failure);
        *ret_may_retry = error && error != -ECANCELED && error != -EACCES &&
                         error != -EINVAL;
        if (!error && answer.status != 200) {
            credentials_http_refused(&request, answer.status, failure);
            *ret_may_retry = answer.status >= 500 || answer.status == 429;
            error = -EACCES;
        }
        if (!error)
            error =
                credentials_json_parse(answer.body, answer.len, set, failure);
    }
    secret_text_free(&text);
    return error;
}

int credentials_from_container(const struct credentials_reader *reader,
                               struct credentials_set *set,
                               struct net_failure *ret_failure)
{
    struct credentials_url url;
    bool may_retry = true;
    int error = find_url(reader, &url, ret_failure);

    if (error)
        return error;
    (void)snprintf(set->source, sizeof(set->source), "container");
    for (unsigned i = 0; i < TRIES && may_retry; i++)
        error = ask(reader, &url, set, &may_retry, ret_failure);
    if (!error)
        error = credentials_reader_put_region(reader, set, ret_failure);
    return error == -ENOENT ? -EACCES : error;
}
