/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * credentials_identity - credentials of a role, for a token that says who we
 * are: AssumeRoleWithWebIdentity, asked of AWS's token service.
 *
 * So pods of Kubernetes sign, for example.  The token is a file that somebody
 * else renews: it is read for each request.  Results as credentials_reader.h
 * says.  Threads: one.
 */
#ifndef S3_CREDENTIALS_IDENTITY_H
#define S3_CREDENTIALS_IDENTITY_H

#include "s3/credentials_local.h"

/*
 * Find the role in AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN and
 * AWS_ROLE_SESSION_NAME.
 */
int credentials_role_from_environment(const struct credentials_reader *reader,
                                      struct credentials_role *ret_role,
                                      struct net_failure *ret_failure);

/*
 * Get keys for the role.  The service is that of the region: of the
 * configuration, AWS_REGION, AWS_DEFAULT_REGION, the role, or us-east-1; or it
 * is at AWS_ENDPOINT_URL_STS, by http only on this host.
 */
int credentials_from_role(const struct credentials_reader *reader,
                          const struct credentials_role *role,
                          struct credentials_set *set,
                          struct net_failure *ret_failure);

#endif
