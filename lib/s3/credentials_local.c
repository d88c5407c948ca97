/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_local.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/secret.h"
#include "s3/credentials_file.h"

/* ---- the environment ---------------------------------------------------- */

int credentials_from_environment(const struct credentials_reader *reader,
                                 struct credentials_set *set,
                                 struct net_failure *ret_failure)
{
    static const struct {
        const char *name;
        enum credentials_field field;
    } variables[] = {
        {"AWS_ACCESS_KEY_ID", CREDENTIALS_ACCESS_KEY},
        {"AWS_SECRET_ACCESS_KEY", CREDENTIALS_SECRET_KEY},
        {"AWS_SESSION_TOKEN", CREDENTIALS_SESSION_TOKEN},
    };
    const char *values[3];
    int error = 0;

    for (size_t i = 0; i < 3; i++)
        values[i] = credentials_reader_get(reader, variables[i].name);
    if (!values[0] && !values[1]) {
        net_failure_set(ret_failure, -ENOENT,
                        "AWS_ACCESS_KEY_ID is not in the environment");
        return -ENOENT;
    }
    if (!values[0] || !values[1]) {
        net_failure_set(ret_failure, -EACCES,
                        "the environment has %s, but no %s",
                        variables[values[0] ? 0 : 1].name,
                        variables[values[0] ? 1 : 0].name);
        return -EACCES;
    }
    for (size_t i = 0; i < 3 && !error; i++) {
        if (values[i])
            error = credentials_reader_put(set, variables[i].field,
                                           variables[i].name, values[i],
                                           strlen(values[i]), ret_failure);
    }
    if (!error)
        error = credentials_reader_put_region(reader, set, ret_failure);
    (void)snprintf(set->source, sizeof(set->source), "the environment");
    return error;
}

/* ---- what a file says --------------------------------------------------- */

/* A file, and what it says of a profile; the text is what that points to. */
struct profile_file {
    char path[PATH_MAX];
    struct secret_text text;
    struct credentials_profile profile;
};

static bool is_set(struct credentials_text text)
{
    return text.len > 0;
}

/* Write the path of a name in a directory ("": of itself); -ENAMETOOLONG. */
static int join_path(char path[PATH_MAX], const char *dir, const char *name)
{
    int len = snprintf(path, PATH_MAX, "%s%s%s", dir,
                       name[0] == '\0' ? "" : "/", name);

    if (len >= 0 && len < PATH_MAX)
        return 0;
    path[0] = '\0';
    return -ENAMETOOLONG;
}

/* Read and parse; -ENOENT if there is no such file. */
static int read_file(struct profile_file *file, enum credentials_file_kind kind,
                     const char *profile, struct net_failure *failure)
{
    struct credentials_file_mistake mistake;
    int error =
        secret_read(file->path, CREDENTIALS_FILE_MAX, &file->text, failure);

    if (error)
        return error == -ENOENT ? error : -EACCES;
    error = credentials_file_parse(file->text.bytes, file->text.len, kind,
                                   profile, &file->profile, &mistake);
    if (!error)
        return 0;
    net_failure_set(failure, -EACCES, "%s:%u: %s", file->path, mistake.line,
                    mistake.what);
    return -EACCES;
}

/* Check that the profile has all of a pair of keys, or nothing of it. */
static int check_pair(const char *where,
                      const struct credentials_profile *profile,
                      struct net_failure *failure)
{
    static const char *const names[] = {"aws_access_key_id",
                                        "aws_secret_access_key"};
    bool has_access_key = is_set(profile->access_key);

    if (has_access_key == is_set(profile->secret_key))
        return 0;
    net_failure_set(failure, -EACCES, "%s has %s, but no %s", where,
                    names[!has_access_key], names[has_access_key]);
    return -EACCES;
}

/* Check that keys are what it signs with. */
static int check_foreign(const char *where,
                         const struct credentials_profile *profile,
                         struct net_failure *failure)
{
    struct credentials_text foreign = profile->foreign;

    if (!is_set(foreign) && is_set(profile->role_arn) &&
        !is_set(profile->token_file))
        foreign = (struct credentials_text){"role_arn", 8};
    if (!is_set(foreign))
        return 0;
    net_failure_set(failure, -EACCES,
                    "%s has %.*s, which this program does not support", where,
                    (int)(foreign.len < 40 ? foreign.len : 40), foreign.bytes);
    return -EACCES;
}

/* Store the keys, which are there, and the region in the set. */
static int take_keys(const char *where,
                     const struct credentials_profile *profile,
                     struct credentials_set *set, struct net_failure *failure)
{
    const struct {
        const char *name;
        enum credentials_field field;
        struct credentials_text text;
    } values[] = {
        {"aws_access_key_id", CREDENTIALS_ACCESS_KEY, profile->access_key},
        {"aws_secret_access_key", CREDENTIALS_SECRET_KEY, profile->secret_key},
        {"aws_session_token", CREDENTIALS_SESSION_TOKEN,
         profile->session_token},
        {"region", CREDENTIALS_REGION, profile->region},
    };

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        const char *mistake = NULL;

        if (is_set(values[i].text))
            mistake = credentials_set_put(
                set, values[i].field, values[i].text.bytes, values[i].text.len);
        if (mistake) {
            net_failure_set(failure, -EACCES, "%s: %s %s", where,
                            values[i].name, mistake);
            return -EACCES;
        }
    }
    return 0;
}

/* ---- a file of ours ----------------------------------------------------- */

static int from_own_file(struct profile_file *file, bool is_systemds,
                         struct credentials_set *set,
                         struct net_failure *failure)
{
    int error = read_file(file, CREDENTIALS_FILE_OWN, "default", failure);

    if (!error && !is_systemds)
        error = secret_check(file->path, &file->text, failure);
    if (!error)
        error = check_foreign(file->path, &file->profile, failure);
    if (!error)
        error = check_pair(file->path, &file->profile, failure);
    if (!error && !is_set(file->profile.access_key)) {
        error = -EACCES;
        net_failure_set(failure, error,
                        "%s has no lines aws_access_key_id = ... and "
                        "aws_secret_access_key = ...",
                        file->path);
    }
    if (!error)
        error = take_keys(file->path, &file->profile, set, failure);
    secret_text_free(&file->text);
    return error;
}

int credentials_from_file(const char *path, struct credentials_set *set,
                          struct net_failure *ret_failure)
{
    struct profile_file file = {0};
    int error;

    (void)snprintf(set->source, sizeof(set->source), "file %s", path);
    if (join_path(file.path, path, "") != 0) {
        net_failure_set(ret_failure, -EACCES, "the path is too long: %s", path);
        return -EACCES;
    }
    error = from_own_file(&file, false, set, ret_failure);
    return error == -ENOENT ? -EACCES : error;
}

int credentials_from_systemd(const struct credentials_reader *reader,
                             const char *name, struct credentials_set *set,
                             struct net_failure *ret_failure)
{
    const char *dir = credentials_reader_get(reader, "CREDENTIALS_DIRECTORY");
    const char *wanted = name ? name : CREDENTIALS_SYSTEMD_NAME;
    struct profile_file file = {0};
    int error = -ENOENT;

    (void)snprintf(set->source, sizeof(set->source), "systemd credential %s",
                   wanted);
    if (dir && join_path(file.path, dir, wanted) == 0)
        error = from_own_file(&file, true, set, ret_failure);
    if (error != -ENOENT)
        return error;
    net_failure_set(ret_failure, error,
                    "systemd passed no credential %s (LoadCredential=)",
                    wanted);
    return name ? -EACCES : -ENOENT;
}

/* ---- profiles ----------------------------------------------------------- */

/* Both files of AWS's programs, and what they say together. */
struct profile_files {
    struct profile_file keys, config;
    struct credentials_profile merged;
    char where[128]; /* "profile x", for messages */
};

/* Choose a file's path; "" if nothing says where it could be. */
static void choose_path(const struct credentials_reader *reader,
                        const char *variable, const char *name,
                        char path[PATH_MAX])
{
    const char *chosen = credentials_reader_get(reader, variable);
    const char *home = credentials_reader_get(reader, "HOME");

    path[0] = '\0';
    if (chosen)
        (void)join_path(path, chosen, "");
    else if (home)
        (void)join_path(path, home, name);
}

/* Read a file that need not be there. */
static int read_optional(struct profile_file *file,
                         enum credentials_file_kind kind, const char *profile,
                         struct net_failure *failure)
{
    int error = -ENOENT;

    if (file->path[0] != '\0')
        error = read_file(file, kind, profile, failure);
    return error == -ENOENT ? 0 : error;
}

static struct credentials_text first_set(struct credentials_text one,
                                         struct credentials_text other)
{
    return is_set(one) ? one : other;
}

/*
 * What keys.profile says goes first.  Keys and token come from one file: those
 * of two would not fit together.
 */
static void merge(struct profile_files *files)
{
    const struct credentials_profile *keys = &files->keys.profile;
    const struct credentials_profile *config = &files->config.profile;
    struct credentials_profile *merged = &files->merged;
    bool has_keys = is_set(keys->access_key) || is_set(keys->secret_key);

    *merged = has_keys ? *keys : *config;
    merged->is_there = keys->is_there || config->is_there;
    merged->region = first_set(keys->region, config->region);
    merged->role_arn = first_set(keys->role_arn, config->role_arn);
    merged->role_session_name =
        first_set(keys->role_session_name, config->role_session_name);
    merged->token_file = first_set(keys->token_file, config->token_file);
    merged->foreign = first_set(keys->foreign, config->foreign);
}

static int copy_text(struct credentials_text text, char *to, size_t size,
                     const char *where, const char *name,
                     struct net_failure *failure)
{
    if (text.len >= size) {
        net_failure_set(failure, -EACCES, "%s: %s is too long", where, name);
        return -EACCES;
    }
    memcpy(to, text.bytes ? text.bytes : "", text.len);
    to[text.len] = '\0';
    return 0;
}

/* The profile has a role and a file with a token: hand them on. */
static int take_role(const struct profile_files *files,
                     struct credentials_role *role, struct net_failure *failure)
{
    const struct credentials_profile *merged = &files->merged;
    const char *where = files->where;
    int error;

    if (!is_set(merged->role_arn)) {
        net_failure_set(failure, -EACCES,
                        "%s has web_identity_token_file, but no role_arn",
                        where);
        return -EACCES;
    }
    error = copy_text(merged->role_arn, role->arn, sizeof(role->arn), where,
                      "role_arn", failure);
    if (!error)
        error = copy_text(merged->token_file, role->token_file,
                          sizeof(role->token_file), where,
                          "web_identity_token_file", failure);
    if (!error)
        error = copy_text(merged->role_session_name, role->session_name,
                          sizeof(role->session_name), where,
                          "role_session_name", failure);
    if (!error)
        error = copy_text(merged->region, role->region, sizeof(role->region),
                          where, "region", failure);
    return error;
}

/* Take what the files say together; is_wanted: somebody named the profile. */
static int take_profile(const struct profile_files *files, bool is_wanted,
                        struct credentials_set *set,
                        struct credentials_role *role,
                        struct net_failure *failure)
{
    const struct profile_file *of_keys =
        is_set(files->keys.profile.secret_key) ? &files->keys : &files->config;
    const struct credentials_profile *merged = &files->merged;
    int error;

    if (!merged->is_there) {
        error = is_wanted ? -EACCES : -ENOENT;
        net_failure_set(failure, error, "there is no %s in %s or %s",
                        files->where, files->keys.path, files->config.path);
        return error;
    }
    error = check_foreign(files->where, merged, failure);
    if (error)
        return error;
    if (is_set(merged->token_file))
        return take_role(files, role, failure);
    error = check_pair(files->where, merged, failure);
    if (error)
        return error;
    if (!is_set(merged->access_key)) {
        error = is_wanted ? -EACCES : -ENOENT;
        net_failure_set(failure, error, "%s has no aws_access_key_id",
                        files->where);
        return error;
    }
    error = secret_check(of_keys->path, &of_keys->text, failure);
    return error ? error : take_keys(files->where, merged, set, failure);
}

int credentials_from_profile(const struct credentials_reader *reader,
                             const char *profile, struct credentials_set *set,
                             struct credentials_role *ret_role,
                             struct net_failure *ret_failure)
{
    struct profile_files files = {0};
    bool is_wanted;
    int error;

    if (!profile)
        profile = credentials_reader_get(reader, "AWS_PROFILE");
    is_wanted = profile != NULL;
    if (!profile)
        profile = "default";
    *ret_role = (struct credentials_role){0};
    (void)snprintf(files.where, sizeof(files.where), "profile %s", profile);
    (void)snprintf(set->source, sizeof(set->source), "profile %s", profile);
    choose_path(reader, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials",
                files.keys.path);
    choose_path(reader, "AWS_CONFIG_FILE", ".aws/config", files.config.path);
    error =
        read_optional(&files.keys, CREDENTIALS_FILE_KEYS, profile, ret_failure);
    if (!error)
        error = read_optional(&files.config, CREDENTIALS_FILE_CONFIG, profile,
                              ret_failure);
    if (!error) {
        merge(&files);
        error = take_profile(&files, is_wanted, set, ret_role, ret_failure);
    }
    if (!error)
        error = credentials_reader_put_region(reader, set, ret_failure);
    secret_text_free(&files.keys.text);
    secret_text_free(&files.config.text);
    return error;
}
