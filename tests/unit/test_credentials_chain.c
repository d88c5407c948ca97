/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_chain.h"

#include <sys/stat.h>

#include "support/key_service.h"
#include "unit/test.h"

#define KEYS(name)                                                             \
    "{\"AccessKeyId\":\"" name "\",\"SecretAccessKey\":\"hidden\"}"

#define PAIR(name)                                                             \
    "[default]\naws_access_key_id = " name "\naws_secret_access_key = hidden\n"

#define STS                                                                    \
    "<AssumeRoleWithWebIdentityResponse>"                                      \
    "<AssumeRoleWithWebIdentityResult><Credentials>"                           \
    "<AccessKeyId>IDENTITY</AccessKeyId>"                                      \
    "<SecretAccessKey>hidden</SecretAccessKey><SessionToken>t</SessionToken>"  \
    "<Expiration>2026-11-22T03:10:11Z</Expiration></Credentials>"              \
    "</AssumeRoleWithWebIdentityResult>"                                       \
    "</AssumeRoleWithWebIdentityResponse>"

static struct net_failure failure;

static bool is_told(const char *words)
{
    bool is = strstr(failure.text, words) && !strstr(failure.text, "hidden");

    if (!is)
        printf("# %s\n", failure.text);
    return is;
}

/* The result of making a chain of these options. */
static int try_options(const struct credentials_options *options)
{
    struct credentials_chain *chain = NULL;
    int error = credentials_chain_new(options, &chain, &failure);

    credentials_chain_free(chain);
    return error;
}

/* Load once; *ret_key is the access key, "" on failure. */
static int load(const struct credentials_options *options,
                char ret_key[CREDENTIALS_KEY_SIZE])
{
    struct credentials_chain *chain = NULL;
    struct credentials_set *set = NULL;
    int error = credentials_chain_new(options, &chain, &failure);

    if (!error)
        error = credentials_chain_load(chain, &set, &failure);
    (void)snprintf(ret_key, CREDENTIALS_KEY_SIZE, "%s",
                   set ? set->access_key : "");
    credentials_set_free(set);
    credentials_chain_free(chain);
    return error;
}

/* Whether loading gives this access key. */
static bool gives(const struct credentials_options *options, const char *key)
{
    char got[CREDENTIALS_KEY_SIZE];
    int error = load(options, got);

    if (error || strcmp(got, key) != 0)
        printf("# %d, %s, %s\n", error, got, failure.text);
    return error == 0 && strcmp(got, key) == 0;
}

/* Make a file, and return its path, good until the next call. */
static const char *make_file(const char *name, const char *text)
{
    static char path[PATH_MAX + 64];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", test_dir(), name);
    file = fopen(path, "we");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0 ||
        chmod(path, 0600) != 0)
        abort();
    return path;
}

static struct credentials_options options_of(struct key_service *service,
                                             const char *source)
{
    return (struct credentials_options){
        .source = source,
        .environment = key_service_environment,
        .environment_context = service,
    };
}

TEST("the setting is one of the sources, with or without what it needs")
{
    static const char *const good[] = {
        "auto",        "file:/x",     "systemd:x", "environment",
        "profile:a b", "webidentity", "container", "imds"};
    static const char *const bad[] = {
        "",         "file",        "file:",         "file:x",  "systemd",
        "systemd:", "systemd:a/b", "environment:x", "profile", "profile:",
        "imds:x",   "Auto",        "auto:x",        ":",       "fil"};

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        CHECK(try_options(&(struct credentials_options){.source = good[i]}) ==
              0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK(try_options(&(struct credentials_options){.source = bad[i]}) ==
              -EINVAL);
        CHECK(is_told("is not one of auto, file:/PATH"));
    }
}

TEST("keys of the configuration are a pair, without another source")
{
    struct credentials_options options = {.access_key = "AK",
                                          .secret_key = "hidden"};

    CHECK(gives(&options, "AK"));
    options.source = "auto";
    options.session_token = "t";
    CHECK(gives(&options, "AK"));
    options.source = "environment";
    CHECK(try_options(&options) == -EINVAL);
    CHECK(is_told("s3credentials and s3accesskey cannot both"));
    options.source = NULL;
    options.secret_key = NULL;
    CHECK(try_options(&options) == -EINVAL && is_told("no s3secretkey"));
    options.secret_key = "hidden";
    options.access_key = NULL;
    CHECK(try_options(&options) == -EINVAL && is_told("no s3accesskey"));
    options.secret_key = NULL;
    CHECK(try_options(&options) == -EINVAL && is_told("no s3accesskey"));
    options = (struct credentials_options){.access_key = "A\nB",
                                           .secret_key = "hidden"};
    CHECK(try_options(&options) == -EINVAL);
    CHECK(is_told("s3accesskey has more than one line"));
}

TEST("auto asks the sources in their order, as each of them has keys")
{
    static const struct key_step steps[] = {
        {"PUT", "/latest/api/token", NULL, 200, "one"},
        {"GET", "/latest/meta-data/iam/security-credentials/", NULL, 200, "r"},
        {"GET", "/latest/meta-data/iam/security-credentials/r", NULL, 200,
         KEYS("IMDS")},
        {"GET", "/latest/meta-data/placement/region", NULL, 404, ""},
        {"GET", "/container", NULL, 200, KEYS("CONTAINER")},
        {"POST", "/", NULL, 200, STS}};
    struct key_service *service = key_service_start(steps, 6);
    struct credentials_options options = options_of(service, "auto");

    options.is_aws = true;
    key_service_set(service, "AWS_EC2_METADATA_SERVICE_ENDPOINT", "%s");
    CHECK(gives(&options, "IMDS"));
    key_service_set(service, "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                    "%s/container");
    CHECK(gives(&options, "CONTAINER"));
    key_service_set(service, "AWS_WEB_IDENTITY_TOKEN_FILE",
                    make_file("token", "token"));
    key_service_set(service, "AWS_ROLE_ARN", "arn");
    key_service_set(service, "AWS_ENDPOINT_URL_STS", "%s");
    CHECK(gives(&options, "IDENTITY"));
    key_service_set(service, "AWS_SHARED_CREDENTIALS_FILE",
                    make_file("keys", PAIR("PROFILE")));
    CHECK(gives(&options, "PROFILE"));
    key_service_set(service, "AWS_ACCESS_KEY_ID", "ENVIRONMENT");
    key_service_set(service, "AWS_SECRET_ACCESS_KEY", "hidden");
    CHECK(gives(&options, "ENVIRONMENT"));
    (void)make_file("s3blkdev.credentials", PAIR("SYSTEMD"));
    key_service_set(service, "CREDENTIALS_DIRECTORY", test_dir());
    CHECK(gives(&options, "SYSTEMD"));
    options.access_key = "CONFIGURATION";
    options.secret_key = "hidden";
    CHECK(gives(&options, "CONFIGURATION"));
    CHECK(key_service_is_done(service));
    key_service_stop(service);
}

TEST("a source that is named is asked alone")
{
    static const struct key_step steps[] = {
        {"GET", "/container", NULL, 200, KEYS("CONTAINER")}};
    struct key_service *service = key_service_start(steps, 1);
    struct credentials_options options = options_of(service, "container");
    char key[CREDENTIALS_KEY_SIZE], source[PATH_MAX + 128];

    key_service_set(service, "AWS_ACCESS_KEY_ID", "ENVIRONMENT");
    key_service_set(service, "AWS_SECRET_ACCESS_KEY", "hidden");
    CHECK(load(&options, key) == -ENOENT);
    key_service_set(service, "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                    "%s/container");
    CHECK(gives(&options, "CONTAINER"));
    options.source = "environment";
    CHECK(gives(&options, "ENVIRONMENT"));
    (void)snprintf(source, sizeof(source), "file:%s",
                   make_file("keys", PAIR("FILE")));
    options.source = source;
    CHECK(gives(&options, "FILE"));
    options.source = "systemd:keys";
    key_service_set(service, "CREDENTIALS_DIRECTORY", test_dir());
    CHECK(gives(&options, "FILE"));
    options.source = "profile:x";
    key_service_set(service, "AWS_CONFIG_FILE",
                    make_file("config", "[profile x]\naws_access_key_id = X\n"
                                        "aws_secret_access_key = hidden\n"));
    CHECK(gives(&options, "X"));
    CHECK(key_service_is_done(service));
    key_service_stop(service);
}

TEST("a profile's role is that of a web identity")
{
    static const struct key_step steps[] = {
        {"POST", "/", "RoleArn=arn%3Ax&RoleSessionName=s&", 200, STS}};
    struct key_service *service = key_service_start(steps, 1);
    struct credentials_options options = options_of(service, "profile:default");
    char config[PATH_MAX + 128];

    (void)snprintf(config, sizeof(config),
                   "[default]\nrole_arn = arn:x\nrole_session_name = s\n"
                   "web_identity_token_file = %s\n",
                   make_file("token", "token"));
    key_service_set(service, "AWS_CONFIG_FILE", make_file("config", config));
    key_service_set(service, "AWS_ENDPOINT_URL_STS", "%s");
    CHECK(gives(&options, "IDENTITY"));
    CHECK(key_service_is_done(service));
    key_service_stop(service);
}

TEST("a source that is wrong keeps the next ones from being asked")
{
    static const struct key_step steps[] = {{"GET", "/", NULL, 200, ""}};
    struct key_service *service = key_service_start(steps, 1);
    struct credentials_options options = options_of(service, "auto");
    char key[CREDENTIALS_KEY_SIZE];

    key_service_set(service, "AWS_ACCESS_KEY_ID", "ENVIRONMENT");
    key_service_set(service, "AWS_SHARED_CREDENTIALS_FILE",
                    make_file("keys", PAIR("PROFILE")));
    CHECK(load(&options, key) == -EACCES && is_told("but no AWS_SECRET"));
    key_service_set(service, "AWS_ACCESS_KEY_ID", "");
    CHECK(chmod(make_file("keys", PAIR("PROFILE")), 0644) == 0);
    CHECK(load(&options, key) == -EACCES && is_told("chmod o-rwx"));
    CHECK(!key_service_is_done(service));
    key_service_stop(service);
}

TEST("metadata of instances is asked for Amazon's buckets only")
{
    static const struct key_step steps[] = {
        {"PUT", "/latest/api/token", NULL, 403, ""}};
    struct key_service *service = key_service_start(steps, 1);
    struct credentials_options options = options_of(service, NULL);
    char key[CREDENTIALS_KEY_SIZE];

    key_service_set(service, "AWS_EC2_METADATA_SERVICE_ENDPOINT", "%s");
    CHECK(load(&options, key) == -ENOENT);
    CHECK(is_told("no s3accesskey, and s3credentials auto finds no"));
    CHECK(is_told("for Amazon's hosts only"));
    CHECK(!key_service_is_done(service));
    options.is_aws = true;
    CHECK(load(&options, key) == -EACCES);
    CHECK(is_told("does not offer its version 2"));
    CHECK(key_service_is_done(service));
    key_service_set(service, "AWS_EC2_METADATA_DISABLED", "true");
    CHECK(load(&options, key) == -ENOENT);
    CHECK(is_told("AWS_EC2_METADATA_DISABLED"));
    key_service_stop(service);
}

TEST("after an interrupt nothing is asked any more")
{
    static const struct key_step steps[] = {{"GET", "/", NULL, 200, ""}};
    struct key_service *service = key_service_start(steps, 1);
    struct credentials_options options = options_of(service, "container");
    struct credentials_chain *chain;
    struct credentials_set *set;

    key_service_set(service, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "%s");
    NEED(credentials_chain_new(&options, &chain, &failure) == 0);
    credentials_chain_interrupt(chain);
    CHECK(credentials_chain_load(chain, &set, &failure) == -ECANCELED);
    CHECK(!key_service_is_done(service));
    credentials_chain_free(chain);
    key_service_stop(service);
}
