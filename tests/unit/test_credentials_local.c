/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_local.h"

#include <sys/stat.h>

#include "support/key_service.h"
#include "unit/test.h"

/* What a test has: an environment, and what was read. */
static struct key_service *service;
static struct credentials_set *set;
static struct credentials_role role;
static struct net_failure failure;
static char path[PATH_MAX + 64];

static void begin(void)
{
    service = key_service_start(NULL, 0);
    if (credentials_set_new(&set) != 0)
        abort();
}

static void end(void)
{
    key_service_stop(service);
    credentials_set_free(set);
}

/* Make a file in the test's directory; its path is in path. */
static void make_file(const char *name, const char *text, mode_t mode)
{
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", test_dir(), name);
    file = fopen(path, "we");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0 ||
        chmod(path, mode) != 0)
        abort();
}

static bool has(const char *access_key, const char *secret_key,
                const char *token, const char *region)
{
    return strcmp(set->access_key, access_key) == 0 &&
           strcmp(set->secret_key, secret_key) == 0 &&
           strcmp(set->session_token, token) == 0 &&
           strcmp(set->region, region) == 0;
}

/* Whether it is this error, in these words. */
static bool is_refused(int error, int wanted, const char *words)
{
    bool is = error == wanted && strstr(failure.text, words) &&
              !strstr(failure.text, "hidden");

    if (!is)
        printf("# %d, %s\n", error, failure.text);
    return is;
}

static int from_environment(void)
{
    return credentials_from_environment(key_service_reader(service), set,
                                        &failure);
}

static int from_file(const char *text, mode_t mode)
{
    make_file("file", text, mode);
    return credentials_from_file(path, set, &failure);
}

static int from_systemd(const char *name)
{
    return credentials_from_systemd(key_service_reader(service), name, set,
                                    &failure);
}

static int from_profile(const char *name)
{
    return credentials_from_profile(key_service_reader(service), name, set,
                                    &role, &failure);
}

/* Make the two files of AWS's programs below HOME. */
static void make_profiles(const char *keys, const char *config)
{
    (void)snprintf(path, sizeof(path), "%s/.aws", test_dir());
    (void)mkdir(path, 0700);
    if (keys)
        make_file(".aws/credentials", keys, 0600);
    if (config)
        make_file(".aws/config", config, 0644);
    key_service_set(service, "HOME", test_dir());
}

#define PAIR "aws_access_key_id = AK\naws_secret_access_key = hidden\n"

TEST("the environment gives keys, with token and region if they are there")
{
    begin();
    CHECK(is_refused(from_environment(), -ENOENT, "AWS_ACCESS_KEY_ID is not"));
    key_service_set(service, "AWS_ACCESS_KEY_ID", "AK");
    key_service_set(service, "AWS_SECRET_ACCESS_KEY", "hidden");
    CHECK(from_environment() == 0);
    CHECK(has("AK", "hidden", "", ""));
    CHECK(strcmp(set->source, "the environment") == 0);
    key_service_set(service, "AWS_SESSION_TOKEN", "t");
    key_service_set(service, "AWS_REGION", "r");
    CHECK(from_environment() == 0);
    CHECK(has("AK", "hidden", "t", "r"));
    end();
}

TEST("half a pair in the environment is refused, not passed over")
{
    begin();
    key_service_set(service, "AWS_ACCESS_KEY_ID", "AK");
    CHECK(is_refused(from_environment(), -EACCES,
                     "has AWS_ACCESS_KEY_ID, but no AWS_SECRET_ACCESS_KEY"));
    key_service_set(service, "AWS_ACCESS_KEY_ID", "");
    key_service_set(service, "AWS_SECRET_ACCESS_KEY", "hidden");
    CHECK(is_refused(from_environment(), -EACCES,
                     "has AWS_SECRET_ACCESS_KEY, but no AWS_ACCESS_KEY_ID"));
    end();
}

TEST("a line feed inside a value of the environment is refused by its name")
{
    begin();
    key_service_set(service, "AWS_ACCESS_KEY_ID", "AK\nX");
    key_service_set(service, "AWS_SECRET_ACCESS_KEY", "hidden");
    CHECK(is_refused(from_environment(), -EACCES,
                     "AWS_ACCESS_KEY_ID has more than one line"));
    end();
}

TEST("a file has lines as AWS's programs write them, or as an environment")
{
    begin();
    CHECK(from_file("[default]\n" PAIR "region = r\n", 0600) == 0);
    CHECK(has("AK", "hidden", "", "r"));
    CHECK(strncmp(set->source, "file /", 6) == 0);
    CHECK(from_file("AWS_ACCESS_KEY_ID=A\nAWS_SECRET_ACCESS_KEY=B\n"
                    "AWS_SESSION_TOKEN=C",
                    0640) == 0);
    CHECK(has("A", "B", "C", "r"));
    end();
}

TEST("a file that others may read is refused, with the command that mends it")
{
    begin();
    CHECK(is_refused(from_file(PAIR, 0644), -EACCES, "run: chmod o-rwx '/"));
    end();
}

TEST("a file that is not there, or says too little or nonsense, is an error")
{
    begin();
    CHECK(is_refused(credentials_from_file("/nonexistent/x", set, &failure),
                     -EACCES, "/nonexistent/x: No such file"));
    CHECK(is_refused(credentials_from_file(test_dir(), set, &failure), -EACCES,
                     "is not a regular file"));
    CHECK(is_refused(from_file("", 0600), -EACCES,
                     "/file has no lines aws_access_key_id"));
    CHECK(is_refused(from_file("aws_access_key_id = AK\n", 0600), -EACCES,
                     "has aws_access_key_id, but no aws_secret_access_key"));
    CHECK(is_refused(from_file("aws_secret_access_key = hidden\n", 0600),
                     -EACCES,
                     "has aws_secret_access_key, but no aws_access_key_id"));
    CHECK(is_refused(from_file("\nhidden\n", 0600), -EACCES,
                     "/file:2: is not \"name = value\""));
    CHECK(is_refused(from_file("aws_access_key_id = A K\n"
                               "aws_secret_access_key = hidden\n",
                               0600),
                     -EACCES, "/file: aws_access_key_id has a blank"));
    CHECK(is_refused(from_file(PAIR "role_arn = x\n", 0600), -EACCES,
                     "has role_arn, which this program does not support"));
    CHECK(is_refused(from_file("credential_process = x\n", 0600), -EACCES,
                     "has credential_process, which"));
    end();
}

TEST("a path that is too long is refused, not cut")
{
    static char long_path[2 * PATH_MAX];

    begin();
    memset(long_path, '/', sizeof(long_path) - 1);
    CHECK(is_refused(credentials_from_file(long_path, set, &failure), -EACCES,
                     "the path is too long"));
    end();
}

TEST("a credential of systemd is read by its name, whatever its mode")
{
    begin();
    CHECK(is_refused(from_systemd(NULL), -ENOENT,
                     "no credential s3blkdev.credentials"));
    CHECK(is_refused(from_systemd("other"), -EACCES, "no credential other"));
    key_service_set(service, "CREDENTIALS_DIRECTORY", test_dir());
    CHECK(is_refused(from_systemd(NULL), -ENOENT, "s3blkdev.credentials"));
    make_file("s3blkdev.credentials", PAIR, 0444);
    CHECK(from_systemd(NULL) == 0);
    CHECK(has("AK", "hidden", "", ""));
    CHECK(strcmp(set->source, "systemd credential s3blkdev.credentials") == 0);
    CHECK(is_refused(from_systemd("other"), -EACCES, "no credential other"));
    make_file("other",
              "[default]\naws_access_key_id = O\n"
              "aws_secret_access_key = P\n",
              0440);
    CHECK(from_systemd("other") == 0);
    CHECK(has("O", "P", "", ""));
    make_file("other", "nonsense", 0440);
    CHECK(is_refused(from_systemd("other"), -EACCES, "/other:1: is not"));
    end();
}

TEST("without files, or a default profile in them, there is none")
{
    begin();
    CHECK(is_refused(from_profile(NULL), -ENOENT, "no profile default in"));
    make_profiles("[other]\n" PAIR, NULL);
    CHECK(is_refused(from_profile(NULL), -ENOENT, "no profile default in"));
    make_profiles(NULL, "[default]\nregion = r\n");
    CHECK(is_refused(from_profile(NULL), -ENOENT, "has no aws_access_key_id"));
    end();
}

TEST("a profile that somebody named must be there, and have keys")
{
    begin();
    make_profiles("[default]\n" PAIR "[empty]\n", NULL);
    CHECK(is_refused(from_profile("none"), -EACCES, "no profile none in"));
    CHECK(is_refused(from_profile("empty"), -EACCES,
                     "profile empty has no aws_access_key_id"));
    key_service_set(service, "AWS_PROFILE", "none");
    CHECK(is_refused(from_profile(NULL), -EACCES, "no profile none in"));
    CHECK(from_profile("default") == 0);
    key_service_set(service, "AWS_PROFILE", "default");
    CHECK(from_profile(NULL) == 0);
    CHECK(has("AK", "hidden", "", ""));
    CHECK(strcmp(set->source, "profile default") == 0);
    end();
}

TEST("both files are one profile; keys and token come from the same")
{
    begin();
    make_profiles("[default]\n" PAIR,
                  "[default]\nregion = r\naws_access_key_id = C\n"
                  "aws_secret_access_key = D\naws_session_token = T\n");
    CHECK(from_profile(NULL) == 0);
    CHECK(has("AK", "hidden", "", "r"));
    CHECK(role.arn[0] == '\0');
    key_service_set(service, "AWS_REGION", "e");
    CHECK(from_profile(NULL) == 0);
    CHECK(has("AK", "hidden", "", "e"));
    end();
}

TEST("the environment says where the files are")
{
    begin();
    make_file("k", "[p]\n" PAIR, 0600);
    key_service_set(service, "AWS_SHARED_CREDENTIALS_FILE", path);
    make_file("c", "[profile p]\nregion = q\n", 0600);
    key_service_set(service, "AWS_CONFIG_FILE", path);
    CHECK(from_profile("p") == 0);
    CHECK(has("AK", "hidden", "", "q"));
    end();
}

TEST("only the file that has the secret must be closed to others")
{
    begin();
    make_profiles("[default]\n" PAIR, "[default]\nregion = r\n");
    CHECK(from_profile(NULL) == 0);
    make_profiles(NULL, "[default]\n" PAIR);
    CHECK(from_profile(NULL) == 0);
    make_profiles("[x]\n", "[default]\n" PAIR);
    CHECK(is_refused(from_profile(NULL), -EACCES, "/.aws/config'"));
    make_profiles("[default]\n" PAIR, NULL);
    make_file(".aws/credentials", "[default]\n" PAIR, 0604);
    CHECK(is_refused(from_profile(NULL), -EACCES, "/.aws/credentials'"));
    end();
}

TEST("half a pair, nonsense, or another who signs is refused")
{
    begin();
    make_profiles("[default]\naws_access_key_id = AK\n", NULL);
    CHECK(is_refused(from_profile(NULL), -EACCES,
                     "profile default has aws_access_key_id, but no"));
    make_profiles("[default\n", NULL);
    CHECK(is_refused(from_profile(NULL), -EACCES, "/.aws/credentials:1: has"));
    make_profiles("[default]\n" PAIR, "x");
    CHECK(is_refused(from_profile(NULL), -EACCES, "/.aws/config:1: is not"));
    make_profiles(NULL, "[default]\nsso_session = x\n");
    CHECK(is_refused(from_profile(NULL), -EACCES,
                     "profile default has sso_session, which this program "
                     "does not support"));
    make_profiles("[x]\n", "[default]\nrole_arn = x\n");
    CHECK(is_refused(from_profile(NULL), -EACCES, "has role_arn, which"));
    end();
}

TEST("a profile may have a role, whose keys are got elsewhere")
{
    begin();
    make_profiles(NULL, "[default]\nrole_arn = arn:x\nregion = r\n"
                        "web_identity_token_file = /t\n"
                        "role_session_name = s\n");
    CHECK(from_profile(NULL) == 0);
    CHECK(strcmp(role.arn, "arn:x") == 0 && strcmp(role.region, "r") == 0);
    CHECK(strcmp(role.token_file, "/t") == 0);
    CHECK(strcmp(role.session_name, "s") == 0);
    make_profiles(NULL, "[default]\nweb_identity_token_file = /t\n");
    CHECK(is_refused(from_profile(NULL), -EACCES, "but no role_arn"));
    end();
}
