/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_imds.h"

#include "support/key_service.h"
#include "unit/test.h"

#define KEYS                                                                   \
    "{\"Code\":\"Success\",\"AccessKeyId\":\"AK\",\"SecretAccessKey\":"        \
    "\"hidden\",\"Token\":\"t\",\"Expiration\":\"2026-11-22T03:10:11Z\"}"

#define TOKEN  "/latest/api/token"
#define ROLES  "/latest/meta-data/iam/security-credentials/"
#define REGION "/latest/meta-data/placement/region"

#define TTL  "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"
#define HAS1 "x-aws-ec2-metadata-token: one\r\n"
#define HAS2 "x-aws-ec2-metadata-token: two\r\n"

static struct credentials_imds *imds;
static struct credentials_set *set;
static struct net_failure failure;

static struct key_service *start(const struct key_step steps[], size_t count)
{
    struct key_service *service = key_service_start(steps, count);

    if (credentials_imds_new(&imds) != 0)
        abort();
    if (count > 0)
        key_service_set(service, "AWS_EC2_METADATA_SERVICE_ENDPOINT", "%s/");
    return service;
}

static int ask(struct key_service *service)
{
    credentials_set_free(set);
    set = NULL;
    if (credentials_set_new(&set) != 0)
        abort();
    return credentials_from_imds(imds, key_service_reader(service), set,
                                 &failure);
}

/* Whether all steps were taken; nothing is left then. */
static bool end(struct key_service *service)
{
    bool is_done = key_service_is_done(service);

    key_service_stop(service);
    credentials_set_free(set);
    set = NULL;
    credentials_imds_free(imds);
    imds = NULL;
    return is_done;
}

static bool is_refused(int error, int wanted, const char *words)
{
    bool is = error == wanted && strstr(failure.text, words) &&
              !strstr(failure.text, "hidden");

    if (!is)
        printf("# %d, %s\n", error, failure.text);
    return is;
}

TEST("a token, the role's name, its keys and the region are asked in turn")
{
    static const struct key_step steps[] = {
        {"PUT", TOKEN, TTL, 200, "one"},
        {"GET", ROLES, HAS1, 200, "my+role_x"},
        {"GET", ROLES "my+role_x", HAS1, 200, KEYS},
        {"GET", REGION, HAS1, 200, "eu-x-1"}};
    struct key_service *service = start(steps, 4);

    CHECK(ask(service) == 0);
    CHECK(strcmp(set->access_key, "AK") == 0);
    CHECK(strcmp(set->secret_key, "hidden") == 0);
    CHECK(strcmp(set->session_token, "t") == 0);
    CHECK(strcmp(set->region, "eu-x-1") == 0);
    CHECK(set->expires_ns == UINT64_C(1795317011) * 1000000000);
    CHECK(strcmp(set->source, "instance metadata, role my+role_x") == 0);
    CHECK(end(service));
}

TEST("the token is kept, and replaced when it has expired")
{
    static const struct key_step steps[] = {
        {"PUT", TOKEN, "Content-Length: 0\r\n", 200, "one\n"},
        {"GET", ROLES, HAS1, 200, "r\n"},
        {"GET", ROLES "r", HAS1, 200, KEYS},
        {"GET", ROLES, HAS1, 200, "r"},
        {"GET", ROLES "r", HAS1, 401, "expired"},
        {"PUT", TOKEN, TTL, 200, "two"},
        {"GET", ROLES "r", HAS2, 200, KEYS}};
    struct key_service *service = start(steps, 7);

    key_service_set(service, "AWS_REGION", "r");
    CHECK(ask(service) == 0);
    CHECK(ask(service) == 0);
    CHECK(end(service));
}

TEST("a new token that is refused, too, is an error")
{
    static const struct key_step steps[] = {{"PUT", TOKEN, TTL, 200, "one"},
                                            {"GET", ROLES, HAS1, 401, ""},
                                            {"PUT", TOKEN, TTL, 200, "two"},
                                            {"GET", ROLES, HAS2, 401, ""}};
    struct key_service *service = start(steps, 4);

    CHECK(is_refused(ask(service), -EACCES, "answered with status 401"));
    CHECK(end(service));
}

TEST("without version 2 there are no keys, and version 1 is not tried")
{
    static const unsigned statuses[] = {403, 404, 405};

    for (size_t i = 0; i < 3; i++) {
        const struct key_step steps[] = {
            {"PUT", TOKEN, TTL, statuses[i], "hidden"}};
        struct key_service *service = start(steps, 1);

        CHECK(
            is_refused(ask(service), -EACCES, "does not offer its version 2"));
        CHECK(end(service));
    }
}

TEST("a service in trouble is asked twice")
{
    static const struct key_step steps[] = {
        {"PUT", TOKEN, TTL, 500, ""},      {"PUT", TOKEN, TTL, 200, "one"},
        {"GET", ROLES, HAS1, 503, ""},     {"GET", ROLES, HAS1, 200, "r"},
        {"GET", ROLES "r", HAS1, 500, ""}, {"GET", ROLES "r", HAS1, 500, ""}};
    struct key_service *service = start(steps, 6);

    CHECK(is_refused(ask(service), -EACCES, "answered with status 500"));
    CHECK(end(service));
}

TEST("an instance without a role has no keys, which is no error")
{
    static const struct key_step steps[] = {{"PUT", TOKEN, TTL, 200, "one"},
                                            {"GET", ROLES, HAS1, 404, ""},
                                            {"GET", ROLES, HAS1, 200, ""}};
    struct key_service *service = start(steps, 3);

    CHECK(is_refused(ask(service), -ENOENT, "the instance has no role"));
    CHECK(is_refused(ask(service), -ENOENT, "the instance has no role"));
    CHECK(end(service));
}

TEST("a name or a token that cannot be sent is refused")
{
    static const struct key_step steps[] = {
        {"PUT", TOKEN, TTL, 200, "a b"},  {"PUT", TOKEN, TTL, 200, ""},
        {"PUT", TOKEN, TTL, 200, "one"},  {"GET", ROLES, HAS1, 200, "../../x"},
        {"GET", ROLES, HAS1, 200, "a b"}, {"GET", ROLES, HAS1, 200, "<html>"}};
    struct key_service *service = start(steps, 6);

    CHECK(is_refused(ask(service), -EACCES, "gives no token"));
    CHECK(is_refused(ask(service), -EACCES, "gives no token"));
    for (unsigned i = 0; i < 3; i++)
        CHECK(is_refused(ask(service), -EACCES, "names no role"));
    CHECK(end(service));
}

TEST("a success of HTTP that is none of the service is an error")
{
    static const struct key_step steps[] = {
        {"PUT", TOKEN, TTL, 200, "one"},
        {"GET", ROLES, HAS1, 200, "r"},
        {"GET", ROLES "r", HAS1, 200,
         "{\"Code\":\"AssumeRoleUnauthorizedAccess\"}"}};
    struct key_service *service = start(steps, 3);

    CHECK(is_refused(ask(service), -EBADMSG, "AssumeRoleUnauthorizedAccess"));
    CHECK(end(service));
}

TEST("keys that have expired are taken: who gave them may have no others")
{
    static const struct key_step steps[] = {
        {"PUT", TOKEN, TTL, 200, "one"},
        {"GET", ROLES, HAS1, 200, "r"},
        {"GET", ROLES "r", HAS1, 200,
         "{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":"
         "\"B\",\"Token\":\"t\",\"Expiration\":\"1999-01-01T00:00:00Z\"}"},
        {"GET", REGION, HAS1, 404, ""}};
    struct key_service *service = start(steps, 4);

    CHECK(ask(service) == 0);
    CHECK(set->expires_ns == UINT64_C(915148800) * 1000000000);
    CHECK(set->region[0] == '\0');
    CHECK(end(service));
}

TEST("the service is not asked when the environment forbids it")
{
    static const struct key_step steps[] = {{"PUT", TOKEN, TTL, 200, "one"}};
    struct key_service *service = start(steps, 1);

    key_service_set(service, "AWS_EC2_METADATA_DISABLED", "TRUE");
    CHECK(is_refused(ask(service), -ENOENT, "AWS_EC2_METADATA_DISABLED"));
    key_service_set(service, "AWS_EC2_METADATA_DISABLED", "false");
    key_service_set(service, "AWS_EC2_METADATA_SERVICE_ENDPOINT", "x");
    CHECK(is_refused(ask(service), -EACCES, "ENDPOINT is no URL"));
    CHECK(!end(service));
}

TEST("where nobody answers there is no instance; later silence is an error")
{
    static const struct key_step steps[] = {
        {"PUT", TOKEN, TTL, 200, "one"},
        {"GET", ROLES, HAS1, 200, "r"},
        {"GET", ROLES "r", HAS1, 200, KEYS}};
    struct key_service *service = start(steps, 3);

    key_service_set(service, "AWS_REGION", "r");
    key_service_set(service, "AWS_EC2_METADATA_SERVICE_ENDPOINT",
                    "http://127.0.0.1:1");
    CHECK(is_refused(ask(service), -ENOENT, "127.0.0.1:1: "));
    key_service_set(service, "AWS_EC2_METADATA_SERVICE_ENDPOINT", "%s");
    CHECK(ask(service) == 0);
    key_service_close(service);
    CHECK(is_refused(ask(service), -ECONNREFUSED, "refused"));
    CHECK(end(service));
}
