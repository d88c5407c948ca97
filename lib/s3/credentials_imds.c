/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_imds.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/secret.h"
#include "s3/credentials_http.h"
#include "s3/credentials_json.h"

enum {
    TOKEN_SIZE = 1024,
    ROLE_SIZE = 128, /* bytes of a role's name, with the zero */
    TRIES = 2,       /* of each request */
};

#define TIMEOUT_NS (1 * UINT64_C(1000000000))

#define TOKEN_PATH  "/latest/api/token"
#define ROLES_PATH  "/latest/meta-data/iam/security-credentials/"
#define REGION_PATH "/latest/meta-data/placement/region"

struct credentials_imds {
    char token[TOKEN_SIZE]; /* "": there is none */
};

int credentials_imds_new(struct credentials_imds **ret_imds)
{
    struct credentials_imds *imds = secret_new(sizeof(*imds));

    if (!imds)
        return -ENOMEM;
    *ret_imds = imds;
    return 0;
}

void credentials_imds_free(struct credentials_imds *imds)
{
    secret_free(imds, sizeof(*imds));
}

/* ---- asking ------------------------------------------------------------- */

/* What the functions below pass on. */
struct asking {
    struct credentials_imds *imds;
    const struct credentials_reader *reader;
    struct credentials_url service;
    struct net_failure *failure;
};

/* Where the service is; -ENOENT if it is not to be asked. */
static int find_service(struct asking *asking)
{
    const struct credentials_reader *reader = asking->reader;
    const char *disabled =
        credentials_reader_get(reader, "AWS_EC2_METADATA_DISABLED");
    const char *chosen =
        credentials_reader_get(reader, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
    const char *mode = credentials_reader_get(
        reader, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");

    if (disabled && strcasecmp(disabled, "true") == 0) {
        net_failure_set(asking->failure, -ENOENT,
                        "AWS_EC2_METADATA_DISABLED forbids to ask the "
                        "instance's metadata");
        return -ENOENT;
    }
    if (!chosen)
        chosen = mode && strcasecmp(mode, "IPv6") == 0
                     ? "http://[fd00:ec2::254]"
                     : "http://169.254.169.254";
    if (credentials_url_parse(chosen, &asking->service) == 0)
        return 0;
    net_failure_set(asking->failure, -EACCES,
                    "AWS_EC2_METADATA_SERVICE_ENDPOINT is no URL");
    return -EACCES;
}

/* One request; errors of the network, and of the service, are tried again. */
static int request(struct asking *asking, const char *method, const char *path,
                   struct credentials_http_field field,
                   struct credentials_http_answer *ret_answer)
{
    struct credentials_url url = asking->service;
    struct credentials_http_request http_request = {
        .method = method,
        .url = &url,
        .fields = {field},
        .has_body = strcmp(method, "PUT") == 0,
        .timeout_ns = TIMEOUT_NS,
    };
    int error = credentials_url_append(&url, path);

    if (error) {
        net_failure_set(asking->failure, error, "a path is too long");
        return error;
    }
    for (unsigned i = 0; i < TRIES; i++) {
        error = credentials_http_run(asking->reader->http, &http_request,
                                     ret_answer, asking->failure);
        if (error == -ECANCELED || (!error && ret_answer->status < 500))
            break;
    }
    if (!error && ret_answer->status != 200)
        credentials_http_refused(&http_request, ret_answer->status,
                                 asking->failure);
    return error;
}

/* Whether the text can be the value of a field. */
static bool is_sendable(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= 0x20 || text[i] >= 0x7f)
            return false;
    }
    return true;
}

/* Get a token.  -ENOENT: nobody is there. */
static int get_token(struct asking *asking)
{
    const struct credentials_http_field lifetime = {
        "x-aws-ec2-metadata-token-ttl-seconds", "21600"};
    struct credentials_http_answer answer;
    int error = request(asking, "PUT", TOKEN_PATH, lifetime, &answer);
    size_t len;

    if (error)
        return error == -ECANCELED ? error : -ENOENT;
    if (answer.status != 200) {
        if (answer.status == 403 || answer.status == 404 ||
            answer.status == 405)
            net_failure_set(asking->failure, -EACCES,
                            "the metadata service does not offer its version "
                            "2, or is turned off (status %u to PUT %s)",
                            answer.status, TOKEN_PATH);
        return -EACCES;
    }
    len = strcspn(answer.body, "\r\n");
    if (len == 0 || len >= TOKEN_SIZE || !is_sendable(answer.body, len)) {
        net_failure_set(asking->failure, -EACCES,
                        "the metadata service gives no token that can be sent");
        return -EACCES;
    }
    memcpy(asking->imds->token, answer.body, len);
    asking->imds->token[len] = '\0';
    return 0;
}

/* Forget the token: another one is needed. */
static void drop_token(struct asking *asking)
{
    explicit_bzero(asking->imds->token, TOKEN_SIZE);
}

/* GET with the token that is there, or with a new one if it has expired. */
static int get(struct asking *asking, const char *path,
               struct credentials_http_answer *ret_answer)
{
    int error = 0;

    for (unsigned i = 0; i < 2; i++) {
        if (asking->imds->token[0] == '\0')
            error = get_token(asking);
        if (!error)
            error =
                request(asking, "GET", path,
                        (struct credentials_http_field){
                            "x-aws-ec2-metadata-token", asking->imds->token},
                        ret_answer);
        if (error || ret_answer->status != 401)
            break;
        drop_token(asking);
    }
    return error;
}

/* ---- what to ask for ---------------------------------------------------- */

/* Get the name of the role; it becomes part of a path. */
static int get_role(struct asking *asking, char role[ROLE_SIZE])
{
    struct credentials_http_answer answer;
    int error = get(asking, ROLES_PATH, &answer);
    size_t len;

    if (error)
        return error;
    if (answer.status == 404 || (answer.status == 200 && answer.len == 0)) {
        net_failure_set(asking->failure, -ENOENT, "the instance has no role");
        return -ENOENT;
    }
    if (answer.status != 200)
        return -EACCES;
    len = strspn(answer.body, "abcdefghijklmnopqrstuvwxyz"
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+=,.@_-");
    if (len == 0 || len >= ROLE_SIZE ||
        (answer.body[len] != '\0' && answer.body[len] != '\n' &&
         answer.body[len] != '\r')) {
        net_failure_set(asking->failure, -EACCES,
                        "the metadata service names no role that can be one");
        return -EACCES;
    }
    memcpy(role, answer.body, len);
    role[len] = '\0';
    return 0;
}

/* Get the keys of the role. */
static int get_keys(struct asking *asking, const char *role,
                    struct credentials_set *set)
{
    struct credentials_http_answer answer;
    char path[sizeof(ROLES_PATH) + ROLE_SIZE];
    int error;

    (void)snprintf(path, sizeof(path), ROLES_PATH "%s", role);
    error = get(asking, path, &answer);
    if (!error && answer.status != 200)
        error = -EACCES;
    if (!error)
        error = credentials_json_parse(answer.body, answer.len, set,
                                       asking->failure);
    return error;
}

/* Get the region, if it is told; nothing depends on it. */
static int get_region(struct asking *asking, struct credentials_set *set)
{
    struct net_failure *failure = asking->failure;
    struct net_failure unused;
    struct credentials_http_answer answer;
    int error;

    error = credentials_reader_put_region(asking->reader, set, asking->failure);
    if (error || set->region[0] != '\0' || asking->reader->region)
        return error;
    asking->failure = &unused;
    error = get(asking, REGION_PATH, &answer);
    asking->failure = failure;
    if (!error && answer.status == 200)
        (void)credentials_set_put(set, CREDENTIALS_REGION, answer.body,
                                  answer.len);
    return 0;
}

int credentials_from_imds(struct credentials_imds *imds,
                          const struct credentials_reader *reader,
                          struct credentials_set *set,
                          struct net_failure *ret_failure)
{
    struct asking asking = {
        .imds = imds, .reader = reader, .failure = ret_failure};
    char role[ROLE_SIZE];
    int error = find_service(&asking);

    if (!error)
        error = get_role(&asking, role);
    if (!error)
        error = get_keys(&asking, role, set);
    if (!error)
        error = get_region(&asking, set);
    if (!error)
        (void)snprintf(set->source, sizeof(set->source),
                       "instance metadata, role %s", role);
    return error;
}
