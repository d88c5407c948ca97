/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_container.h"

#include "support/key_service.h"
#include "unit/test.h"

#define KEYS                                                                   \
    "{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"hidden\","                  \
    "\"Token\":\"t\",\"Expiration\":\"2026-11-22T03:10:11Z\"}"

static struct credentials_set *set;
static struct net_failure failure;

/* Ask a service with these steps, at /keys unless full says otherwise. */
static struct key_service *start(const struct key_step steps[], size_t count)
{
    struct key_service *service = key_service_start(steps, count);

    if (count > 0)
        key_service_set(service, "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                        "%s/keys?id=1");
    return service;
}

static int ask(struct key_service *service)
{
    credentials_set_free(set);
    set = NULL;
    if (credentials_set_new(&set) != 0)
        abort();
    return credentials_from_container(key_service_reader(service), set,
                                      &failure);
}

static void end(struct key_service *service)
{
    key_service_stop(service);
    credentials_set_free(set);
    set = NULL;
}

static bool is_refused(int error, int wanted, const char *words)
{
    bool is = error == wanted && strstr(failure.text, words) &&
              !strstr(failure.text, "hidden");

    if (!is)
        printf("# %d, %s\n", error, failure.text);
    return is;
}

/* Make a file, and return its path. */
static const char *make_file(const char *text)
{
    static char path[PATH_MAX + 64];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/token", test_dir());
    file = fopen(path, "we");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        abort();
    return path;
}

TEST("without a URI in the environment there is no such source")
{
    struct key_service *service = start(NULL, 0);

    CHECK(is_refused(ask(service), -ENOENT, "RELATIVE_URI is not in"));
    end(service);
}

TEST("the full URI is asked, and gives keys; the environment the region")
{
    static const struct key_step steps[] = {
        {"GET", "/keys?id=1", "Accept: application/json\r\n", 200, KEYS},
        {"GET", "/keys?id=1", "!Authorization", 200, KEYS}};
    struct key_service *service = start(steps, 2);

    CHECK(ask(service) == 0);
    CHECK(strcmp(set->access_key, "AK") == 0);
    CHECK(strcmp(set->secret_key, "hidden") == 0);
    CHECK(strcmp(set->session_token, "t") == 0 && set->region[0] == '\0');
    CHECK(set->expires_ns == UINT64_C(1795317011) * 1000000000);
    key_service_set(service, "AWS_REGION", "r");
    CHECK(ask(service) == 0);
    CHECK(strcmp(set->region, "r") == 0);
    CHECK(key_service_is_done(service));
    end(service);
}

TEST("a URI that is none, or leads elsewhere without TLS, is refused")
{
    struct key_service *service = start(NULL, 0);

    key_service_set(service, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/keys");
    CHECK(is_refused(ask(service), -EACCES, "FULL_URI is no URL"));
    key_service_set(service, "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                    "http://192.0.2.1/keys");
    CHECK(is_refused(ask(service), -EACCES,
                     "192.0.2.1: is no address of "
                     "this host: only by https"));
    end(service);
}

TEST("a relative URI goes first, and must be a path")
{
    static const struct key_step steps[] = {
        {"GET", "/keys?id=1", NULL, 200, KEYS}};
    struct key_service *service = start(steps, 1);

    key_service_set(service, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "keys");
    CHECK(is_refused(ask(service), -EACCES, "RELATIVE_URI is no path"));
    key_service_set(service, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                    "@127.0.0.1/");
    CHECK(is_refused(ask(service), -EACCES, "RELATIVE_URI is no path"));
    key_service_set(service, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/\n");
    CHECK(is_refused(ask(service), -EACCES, "RELATIVE_URI is no path"));
    CHECK(!key_service_is_done(service));
    end(service);
}

TEST(
    "the token is read from its file each time, before that of the environment")
{
    static const struct key_step steps[] = {
        {"GET", "/keys?id=1", "\r\nAuthorization: Basic x\r\n", 200, KEYS},
        {"GET", "/keys?id=1", "\r\nAuthorization: first\r\n", 200, KEYS},
        {"GET", "/keys?id=1", "\r\nAuthorization: second\r\n", 200, KEYS}};
    struct key_service *service = start(steps, 3);

    key_service_set(service, "AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic x");
    CHECK(ask(service) == 0);
    key_service_set(service, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                    make_file("first\n"));
    CHECK(ask(service) == 0);
    (void)make_file("second");
    CHECK(ask(service) == 0);
    CHECK(key_service_is_done(service));
    end(service);
}

TEST("a token that is not there, or has more lines, is not sent")
{
    static const struct key_step steps[] = {
        {"GET", "/keys?id=1", NULL, 200, KEYS}};
    struct key_service *service = start(steps, 1);

    key_service_set(service, "AWS_CONTAINER_AUTHORIZATION_TOKEN", "a\r\nb");
    CHECK(is_refused(ask(service), -EACCES, "has more than one line"));
    key_service_set(service, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                    "/nonexistent/token");
    CHECK(is_refused(ask(service), -EACCES, "/nonexistent/token: No such"));
    key_service_set(service, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                    make_file("hidden\r\n\r\n"));
    CHECK(is_refused(ask(service), -EACCES, "has not one line"));
    (void)make_file("\n");
    CHECK(is_refused(ask(service), -EACCES, "has not one line"));
    CHECK(!key_service_is_done(service));
    end(service);
}

TEST("a service in trouble is asked three times, one that refuses once")
{
    static const struct key_step steps[] = {
        {"GET", "/keys?id=1", NULL, 500, "hidden"},
        {"GET", "/keys?id=1", NULL, 429, ""},
        {"GET", "/keys?id=1", NULL, 200, KEYS},
        {"GET", "/keys?id=1", NULL, 503, ""},
        {"GET", "/keys?id=1", NULL, 503, ""},
        {"GET", "/keys?id=1", NULL, 500, "hidden"},
        {"GET", "/keys?id=1", NULL, 403, "hidden"}};
    struct key_service *service = start(steps, 7);

    CHECK(ask(service) == 0);
    CHECK(is_refused(ask(service), -EACCES, "answered with status 500"));
    CHECK(is_refused(ask(service), -EACCES, "answered with status 403"));
    CHECK(key_service_is_done(service));
    end(service);
}

TEST("a document without keys, a redirect, and a dead service are errors")
{
    static const struct key_step steps[] = {
        {"GET", "/keys?id=1", NULL, 200, "{\"code\":\"hidden\"}"},
        {"GET", "/keys?id=1", NULL, 307, ""}};
    struct key_service *service = start(steps, 2);

    CHECK(is_refused(ask(service), -EBADMSG, "AccessKeyId is missing"));
    CHECK(is_refused(ask(service), -EACCES, "answered with status 307"));
    key_service_close(service);
    CHECK(is_refused(ask(service), -ECONNREFUSED, "refused"));
    CHECK(key_service_is_done(service));
    end(service);
}
