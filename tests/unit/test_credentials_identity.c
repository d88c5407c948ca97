/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_identity.h"

#include "support/key_service.h"
#include "unit/test.h"

#define KEYS                                                                   \
    "<AssumeRoleWithWebIdentityResponse "                                      \
    "xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"                     \
    "<AssumeRoleWithWebIdentityResult><Credentials>"                           \
    "<SessionToken>t</SessionToken><SecretAccessKey>hidden</SecretAccessKey>"  \
    "<Expiration>2026-11-22T03:10:11Z</Expiration>"                            \
    "<AccessKeyId>AK</AccessKeyId></Credentials>"                              \
    "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"

#define REFUSED(code)                                                          \
    "<ErrorResponse><Error><Type>Sender</Type><Code>" code                     \
    "</Code><Message>Not so</Message></Error></ErrorResponse>"

static struct credentials_set *set;
static struct credentials_role role;
static struct net_failure failure;

/* Make the file with the token, and return its path. */
static const char *make_token(const char *text)
{
    static char path[PATH_MAX + 64];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/token", test_dir());
    file = fopen(path, "we");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        abort();
    return path;
}

static struct key_service *start(const struct key_step steps[], size_t count)
{
    struct key_service *service = key_service_start(steps, count);

    key_service_set(service, "AWS_ROLE_ARN", "arn:aws:iam::1:role/x");
    key_service_set(service, "AWS_WEB_IDENTITY_TOKEN_FILE",
                    make_token("to.ke+n\n"));
    if (count > 0)
        key_service_set(service, "AWS_ENDPOINT_URL_STS", "%s");
    return service;
}

static int find(struct key_service *service)
{
    return credentials_role_from_environment(key_service_reader(service), &role,
                                             &failure);
}

static int ask(struct key_service *service)
{
    credentials_set_free(set);
    set = NULL;
    if (credentials_set_new(&set) != 0 || find(service) != 0)
        abort();
    return credentials_from_role(key_service_reader(service), &role, set,
                                 &failure);
}

/* Whether all steps were taken; nothing is left then. */
static bool end(struct key_service *service)
{
    bool is_done = key_service_is_done(service);

    key_service_stop(service);
    credentials_set_free(set);
    set = NULL;
    return is_done;
}

static bool is_refused(int error, int wanted, const char *words)
{
    bool is = error == wanted && strstr(failure.text, words) &&
              !strstr(failure.text, "hidden") && !strstr(failure.text, "to.ke");

    if (!is)
        printf("# %d, %s\n", error, failure.text);
    return is;
}

TEST("the environment names a role and a token, and perhaps the session")
{
    struct key_service *service = start(NULL, 0);

    CHECK(find(service) == 0);
    CHECK(strcmp(role.arn, "arn:aws:iam::1:role/x") == 0);
    CHECK(strstr(role.token_file, "/token") && role.session_name[0] == '\0');
    key_service_set(service, "AWS_ROLE_SESSION_NAME", "s");
    CHECK(find(service) == 0);
    CHECK(strcmp(role.session_name, "s") == 0);
    key_service_set(service, "AWS_ROLE_ARN", "");
    CHECK(is_refused(find(service), -EACCES,
                     "has AWS_WEB_IDENTITY_TOKEN_FILE, but no AWS_ROLE_ARN"));
    key_service_set(service, "AWS_WEB_IDENTITY_TOKEN_FILE", "");
    CHECK(is_refused(find(service), -ENOENT,
                     "AWS_WEB_IDENTITY_TOKEN_FILE is not in"));
    CHECK(end(service));
}

TEST("a name that is too long is refused, not cut")
{
    struct key_service *service = start(NULL, 0);
    char name[66];

    memset(name, 'x', 65);
    name[65] = '\0';
    key_service_set(service, "AWS_ROLE_SESSION_NAME", name);
    CHECK(is_refused(find(service), -EACCES, "is too long"));
    name[64] = '\0';
    key_service_set(service, "AWS_ROLE_SESSION_NAME", name);
    CHECK(find(service) == 0);
    CHECK(end(service));
}

TEST("the service gets role and token as a form, and gives keys")
{
    static const struct key_step steps[] = {
        {"POST", "/", "Content-Type: application/x-www-form-urlencoded\r\n",
         200, KEYS},
        {"POST", "/",
         "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&"
         "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fx&RoleSessionName=s%2F1&"
         "WebIdentityToken=to.ke%2Bn",
         200, KEYS},
        {"POST", "/", "&RoleSessionName=s3blkdev-", 200, KEYS},
        {"POST", "/", "!Authorization", 200, KEYS}};
    struct key_service *service = start(steps, 4);

    CHECK(ask(service) == 0);
    CHECK(strcmp(set->access_key, "AK") == 0);
    CHECK(strcmp(set->secret_key, "hidden") == 0);
    CHECK(strcmp(set->session_token, "t") == 0);
    CHECK(set->expires_ns == UINT64_C(1795317011) * 1000000000);
    CHECK(strcmp(set->source, "web identity of arn:aws:iam::1:role/x") == 0);
    key_service_set(service, "AWS_ROLE_SESSION_NAME", "s/1");
    CHECK(ask(service) == 0);
    key_service_set(service, "AWS_ROLE_SESSION_NAME", "");
    CHECK(ask(service) == 0);
    CHECK(ask(service) == 0);
    CHECK(end(service));
}

TEST("the token is read from its file for each request")
{
    static const struct key_step steps[] = {
        {"POST", "/", "WebIdentityToken=first", 200, KEYS},
        {"POST", "/", "WebIdentityToken=second", 200, KEYS}};
    struct key_service *service = start(steps, 2);

    (void)make_token("first");
    CHECK(ask(service) == 0);
    (void)make_token("second\r\n");
    CHECK(ask(service) == 0);
    CHECK(end(service));
}

TEST("a token that is not there, or empty, is an error")
{
    static const struct key_step steps[] = {{"POST", "/", NULL, 200, KEYS}};
    struct key_service *service = start(steps, 1);

    (void)make_token("\n");
    CHECK(is_refused(ask(service), -EACCES, "/token has no token"));
    key_service_set(service, "AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/x");
    CHECK(is_refused(ask(service), -EACCES, "/nonexistent/x: No such file"));
    CHECK(!end(service));
}

TEST("what another time may mend is tried three times")
{
    static const struct key_step steps[] = {
        {"POST", "/", NULL, 400, REFUSED("IDPCommunicationError")},
        {"POST", "/", NULL, 400, REFUSED("InvalidIdentityToken")},
        {"POST", "/", NULL, 200, KEYS},
        {"POST", "/", NULL, 500, "<html>"},
        {"POST", "/", NULL, 503, REFUSED("x")},
        {"POST", "/", NULL, 429, ""}};
    struct key_service *service = start(steps, 6);

    CHECK(ask(service) == 0);
    CHECK(is_refused(ask(service), -EACCES, "answers with status 429"));
    CHECK(end(service));
}

TEST("what the service refuses is told in its words, at once")
{
    static const struct key_step steps[] = {
        {"POST", "/", NULL, 403, REFUSED("AccessDenied")},
        {"POST", "/", NULL, 400, "hidden"},
        {"POST", "/", NULL, 200, "<html>hidden</html>"}};
    struct key_service *service = start(steps, 3);

    CHECK(is_refused(ask(service), -EACCES,
                     "the token service answers AccessDenied: Not so"));
    CHECK(is_refused(ask(service), -EACCES, "answers with status 400"));
    CHECK(is_refused(ask(service), -EBADMSG, "makes no sense"));
    CHECK(end(service));
}

TEST("the token is sent elsewhere by TLS only")
{
    struct key_service *service = start(NULL, 0);

    key_service_set(service, "AWS_ENDPOINT_URL_STS", "http://192.0.2.1");
    CHECK(is_refused(ask(service), -EACCES, "only by https"));
    key_service_set(service, "AWS_ENDPOINT_URL_STS", "sts");
    CHECK(is_refused(ask(service), -EACCES, "STS is no URL"));
    CHECK(end(service));
}

TEST("the region is that of the environment, else of the role")
{
    static const struct key_step steps[] = {{"POST", "/", NULL, 200, KEYS},
                                            {"POST", "/", NULL, 200, KEYS}};
    struct key_service *service = start(steps, 2);

    CHECK(credentials_set_new(&set) == 0 && find(service) == 0);
    (void)snprintf(role.region, sizeof(role.region), "eu-x-1");
    CHECK(credentials_from_role(key_service_reader(service), &role, set,
                                &failure) == 0);
    CHECK(strcmp(set->region, "eu-x-1") == 0);
    key_service_set(service, "AWS_DEFAULT_REGION", "eu-y-1");
    CHECK(credentials_from_role(key_service_reader(service), &role, set,
                                &failure) == 0);
    CHECK(strcmp(set->region, "eu-y-1") == 0);
    CHECK(end(service));
}
