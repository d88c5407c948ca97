/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * credentials_file - files with profiles, as AWS's programs have them (pure).
 *
 * Lines "name = value" in sections "[profile]"; names of either case; "#" and
 * ";" begin a comment, at the start of a line or after a blank.  A line that
 * stands deeper than the one with the name continues its value.  Sections of
 * the same name are one, and the later of two lines counts.
 *
 * Threads: any.
 */
#ifndef S3_CREDENTIALS_FILE_H
#define S3_CREDENTIALS_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* Whose file it is, which says how sections are called. */
enum credentials_file_kind {
    CREDENTIALS_FILE_KEYS,   /* ~/.aws/credentials: [name] */
    CREDENTIALS_FILE_CONFIG, /* ~/.aws/config: [profile name]; [default] */
    /* Ours: as of KEYS, but lines in front of the first section belong to
     * [default], so that "AWS_ACCESS_KEY_ID=..." is a file, too. */
    CREDENTIALS_FILE_OWN,
};

/* A value, inside the text that was parsed; len 0: there is none. */
struct credentials_text {
    const char *bytes;
    size_t len;
};

/* What a file says of one profile. */
struct credentials_profile {
    bool is_there; /* there is such a section */
    struct credentials_text access_key, secret_key, session_token;
    struct credentials_text region;
    struct credentials_text role_arn, role_session_name, token_file;
    /* The name of a line that makes others sign: one of sso_..., for example;
     * it means nothing to us. */
    struct credentials_text foreign;
};

/* What is wrong with a text: "is not a setting", in which line from 1. */
struct credentials_file_mistake {
    unsigned line;
    const char *what;
};

enum { CREDENTIALS_FILE_MAX = 1 << 18 }; /* bytes, for who reads the file */

/*
 * Find what the text says of the profile.  Returns 0, also if it says nothing
 * of it, or -EINVAL and the first mistake.
 */
int credentials_file_parse(const char *text, size_t len,
                           enum credentials_file_kind kind, const char *profile,
                           struct credentials_profile *ret_profile,
                           struct credentials_file_mistake *ret_mistake);

#endif
