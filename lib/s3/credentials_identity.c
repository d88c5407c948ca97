/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_identity.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/secret.h"
#include "s3/credentials_http.h"
#include "s3/s3_answer.h"
#include "s3/sigv4.h"

enum {
    TOKEN_MAX = 20000, /* bytes, as the service has it */
    FORM_MAX = 1 << 16,
    TRIES = 3,
};

#define TIMEOUT_NS (5 * UINT64_C(1000000000))

int credentials_role_from_environment(const struct credentials_reader *reader,
                                      struct credentials_role *ret_role,
                                      struct net_failure *ret_failure)
{
    static const char *const names[] = {"AWS_WEB_IDENTITY_TOKEN_FILE",
                                        "AWS_ROLE_ARN"};
    const char *file = credentials_reader_get(reader, names[0]);
    const char *arn = credentials_reader_get(reader, names[1]);
    const char *session =
        credentials_reader_get(reader, "AWS_ROLE_SESSION_NAME");

    if (!file) {
        net_failure_set(ret_failure, -ENOENT, "%s is not in the environment",
                        names[0]);
        return -ENOENT;
    }
    if (!arn) {
        net_failure_set(ret_failure, -EACCES,
                        "the environment has %s, but no %s", names[0],
                        names[1]);
        return -EACCES;
    }
    *ret_role = (struct credentials_role){0};
    if (strlen(file) >= sizeof(ret_role->token_file) ||
        strlen(arn) >= sizeof(ret_role->arn) ||
        (session && strlen(session) >= sizeof(ret_role->session_name))) {
        net_failure_set(ret_failure, -EACCES,
                        "one of %s, %s and AWS_ROLE_SESSION_NAME is too long",
                        names[0], names[1]);
        return -EACCES;
    }
    (void)snprintf(ret_role->token_file, sizeof(ret_role->token_file), "%s",
                   file);
    (void)snprintf(ret_role->arn, sizeof(ret_role->arn), "%s", arn);
    if (session)
        (void)snprintf(ret_role->session_name, sizeof(ret_role->session_name),
                       "%s", session);
    return 0;
}

/* ---- where to ask ------------------------------------------------------- */

/* Store the region that holds for the set and for the service. */
static int choose_region(const struct credentials_reader *reader,
                         const struct credentials_role *role,
                         struct credentials_set *set,
                         struct net_failure *failure)
{
    int error = 0;

    if (role->region[0] != '\0')
        error =
            credentials_reader_put(set, CREDENTIALS_REGION, "region",
                                   role->region, strlen(role->region), failure);
    return error ? error : credentials_reader_put_region(reader, set, failure);
}

/* Where the service of the region is. */
static int find_service(const struct credentials_reader *reader,
                        const struct credentials_set *set,
                        struct credentials_url *url,
                        struct net_failure *failure)
{
    const char *chosen = credentials_reader_get(reader, "AWS_ENDPOINT_URL_STS");
    const char *region = reader->region;
    char text[128];

    if (!region)
        region = set->region[0] != '\0' ? set->region : "us-east-1";
    (void)snprintf(text, sizeof(text), "https://sts.%.63s.amazonaws.com%s",
                   region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
    if (credentials_url_parse(chosen ? chosen : text, url) == 0)
        return 0;
    net_failure_set(failure, -EACCES, "%s is no URL",
                    chosen ? "AWS_ENDPOINT_URL_STS" : text);
    return -EACCES;
}

/* ---- what to ask -------------------------------------------------------- */

/* What goes out, and what comes back. */
struct question {
    char form[FORM_MAX];
    size_t len;
    struct s3_sts_credentials answer;
};

/* Append "name=value&" to the form, the value encoded. */
static int add(struct question *question, const char *name, const char *value,
               size_t len)
{
    size_t room = sizeof(question->form) - question->len;
    int name_len = snprintf(question->form + question->len, room, "%s=", name);
    size_t value_len;

    if (name_len < 0 || (size_t)name_len >= room)
        return -EMSGSIZE;
    question->len += (size_t)name_len;
    room -= (size_t)name_len;
    value_len =
        sigv4_encode(value, len, false, question->form + question->len, room);
    if (value_len + 1 >= room)
        return -EMSGSIZE;
    question->len += value_len;
    question->form[question->len++] = '&';
    return 0;
}

/* A name of the session, for who reads the service's log. */
static const char *session_name(const struct credentials_role *role,
                                char text[64])
{
    uint64_t random = 0;

    if (role->session_name[0] != '\0')
        return role->session_name;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        random = 0; /* names need not differ */
    (void)snprintf(text, 64, "s3blkdev-%016" PRIx64, random);
    return text;
}

/* Write the form, with the token as it is now in its file. */
static int fill_form(const struct credentials_role *role,
                     struct question *question, struct net_failure *failure)
{
    struct secret_text token = {0};
    char text[64];
    const char *session = session_name(role, text);
    int error = secret_read(role->token_file, TOKEN_MAX, &token, failure);

    if (error)
        return -EACCES;
    while (token.len > 0 && (token.bytes[token.len - 1] == '\n' ||
                             token.bytes[token.len - 1] == '\r'))
        token.len--;
    question->len = 0;
    error = add(question, "Action", "AssumeRoleWithWebIdentity",
                strlen("AssumeRoleWithWebIdentity"));
    if (!error)
        error = add(question, "Version", "2011-06-15", 10);
    if (!error)
        error = add(question, "RoleArn", role->arn, strlen(role->arn));
    if (!error)
        error = add(question, "RoleSessionName", session, strlen(session));
    if (!error)
        error = add(question, "WebIdentityToken", token.bytes, token.len);
    if (!error)
        question->len--; /* the last "&" */
    if (error || token.len == 0) {
        error = -EACCES;
        net_failure_set(failure, error, "%s has no token that can be sent",
                        role->token_file);
    }
    secret_text_free(&token);
    return error;
}

/* Put the service's words into the failure; whether it may be asked again. */
static bool refused(const struct credentials_http_answer *answer,
                    struct net_failure *failure)
{
    struct s3_error told;

    if (s3_error_parse(answer->body, answer->len, &told) != 0) {
        net_failure_set(failure, -EACCES,
                        "the token service answers with status %u",
                        answer->status);
        return answer->status >= 500 || answer->status == 429;
    }
    net_failure_set(failure, -EACCES, "the token service answers %s: %s",
                    told.code, told.message);
    /* The second: the token may just have been renewed, not known yet. */
    return strcmp(told.code, "IDPCommunicationError") == 0 ||
           strcmp(told.code, "InvalidIdentityToken") == 0 ||
           answer->status >= 500 || answer->status == 429;
}

/* Ask once; *ret_may_retry says whether another time may help. */
static int ask(const struct credentials_reader *reader,
               const struct credentials_role *role,
               const struct credentials_url *url, struct question *question,
               bool *ret_may_retry, struct net_failure *failure)
{
    struct credentials_http_request request = {
        .method = "POST",
        .url = url,
        .fields = {{"Content-Type", "application/x-www-form-urlencoded"}},
        .has_body = true,
        .is_local = true,
        .timeout_ns = TIMEOUT_NS,
    };
    struct credentials_http_answer answer;
    int error = fill_form(role, question, failure);

    *ret_may_retry = false;
    if (error)
        return error;
    request.body = question->form;
    request.body_len = question->len;
    error = credentials_http_run(reader->http, &request, &answer, failure);
    if (error) {
        *ret_may_retry = error != -ECANCELED;
        return error;
    }
    if (answer.status != 200) {
        *ret_may_retry = refused(&answer, failure);
        return -EACCES;
    }
    error = s3_sts_parse(answer.body, answer.len, &question->answer);
    if (error)
        net_failure_set(failure, error,
                        "the token service's answer makes no sense");
    return error;
}

/* Store what the service gave. */
static int take(const struct s3_sts_credentials *answer,
                struct credentials_set *set, struct net_failure *failure)
{
    int error = credentials_reader_put(
        set, CREDENTIALS_ACCESS_KEY, "AccessKeyId of the token service",
        answer->access_key, strlen(answer->access_key), failure);

    if (!error)
        error = credentials_reader_put(
            set, CREDENTIALS_SECRET_KEY, "SecretAccessKey of the token service",
            answer->secret_key, strlen(answer->secret_key), failure);
    if (!error)
        error = credentials_reader_put(
            set, CREDENTIALS_SESSION_TOKEN, "SessionToken of the token service",
            answer->session_token, strlen(answer->session_token), failure);
    set->expires_ns = answer->expires_s * 1000000000U;
    return error;
}

int credentials_from_role(const struct credentials_reader *reader,
                          const struct credentials_role *role,
                          struct credentials_set *set,
                          struct net_failure *ret_failure)
{
    struct question *question = secret_new(sizeof(*question));
    struct credentials_url url;
    bool may_retry = true;
    int error;

    if (!question) {
        net_failure_set(ret_failure, -ENOMEM, "no memory");
        return -ENOMEM;
    }
    (void)snprintf(set->source, sizeof(set->source), "web identity of %.100s",
                   role->arn);
    error = choose_region(reader, role, set, ret_failure);
    if (!error)
        error = find_service(reader, set, &url, ret_failure);
    if (!error) {
        for (unsigned i = 0; i < TRIES && may_retry; i++)
            error = ask(reader, role, &url, question, &may_retry, ret_failure);
    }
    if (!error)
        error = take(&question->answer, set, ret_failure);
    secret_free(question, sizeof(*question));
    return error == -ENOENT ? -EACCES : error;
}
