/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * credentials_local - the sources of credentials on this host: environment,
 * files, systemd.
 *
 * Results as credentials_reader.h says.  Threads: one.
 */
#ifndef S3_CREDENTIALS_LOCAL_H
#define S3_CREDENTIALS_LOCAL_H

#include <limits.h>

#include "s3/credentials_reader.h"

/* A role that a web identity may have: see credentials_identity.h. */
struct credentials_role {
    char arn[2049]; /* "": there is none */
    char token_file[PATH_MAX];
    char session_name[65]; /* "": any */
    char region[CREDENTIALS_REGION_SIZE];
};

/* The systemd credential that is looked for when no other is named. */
#define CREDENTIALS_SYSTEMD_NAME "s3blkdev.credentials"

/*
 * AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN; region from
 * AWS_REGION or AWS_DEFAULT_REGION.
 */
int credentials_from_environment(const struct credentials_reader *reader,
                                 struct credentials_set *set,
                                 struct net_failure *ret_failure);

/*
 * A file that only this program reads: lines aws_access_key_id = ...,
 * aws_secret_access_key = ..., perhaps aws_session_token and region, of either
 * case, with or without a section [default].  Nobody else may read it.  One
 * that is not there is an error (-EACCES), too.
 */
int credentials_from_file(const char *path, struct credentials_set *set,
                          struct net_failure *ret_failure);

/*
 * The same as a credential of systemd (LoadCredential= and the like), from
 * $CREDENTIALS_DIRECTORY; name NULL: CREDENTIALS_SYSTEMD_NAME, which need not
 * be there.
 */
int credentials_from_systemd(const struct credentials_reader *reader,
                             const char *name, struct credentials_set *set,
                             struct net_failure *ret_failure);

/*
 * A profile of AWS's programs, from ~/.aws/credentials and ~/.aws/config or
 * what AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE name; profile NULL: as
 * AWS_PROFILE says, or "default", which need not be there.  On success either
 * the set has keys, or *ret_role has a role, which gets them elsewhere.
 */
int credentials_from_profile(const struct credentials_reader *reader,
                             const char *profile, struct credentials_set *set,
                             struct credentials_role *ret_role,
                             struct net_failure *ret_failure);

#endif
