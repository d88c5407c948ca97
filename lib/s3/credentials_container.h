/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * credentials_container - credentials from the endpoint that a container's
 * environment names, as AWS's container services do.
 *
 * Results as credentials_reader.h says.  Threads: one.
 */
#ifndef S3_CREDENTIALS_CONTAINER_H
#define S3_CREDENTIALS_CONTAINER_H

#include "s3/credentials_reader.h"

/*
 * Ask what AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or else ..._FULL_URI names
 * (http only on this host and at the two addresses that are made for it), with
 * the token in AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, read each time, or else
 * AWS_CONTAINER_AUTHORIZATION_TOKEN.
 */
int credentials_from_container(const struct credentials_reader *reader,
                               struct credentials_set *set,
                               struct net_failure *ret_failure);

#endif
