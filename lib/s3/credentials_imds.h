/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * credentials_imds - credentials of the role of an EC2 instance, from its
 * metadata service, version 2: a token first, then with it the role's keys.
 *
 * Version 1 is not used, whatever is refused: it gives keys to whoever can
 * make a program send a request.  Results as credentials_reader.h says.
 * Threads: one.
 */
#ifndef S3_CREDENTIALS_IMDS_H
#define S3_CREDENTIALS_IMDS_H

#include "s3/credentials_reader.h"

struct credentials_imds;

/* Make one, which keeps a token; ends by credentials_imds_free. */
int credentials_imds_new(struct credentials_imds **ret_imds);

/* Free it, the token overwritten; NULL does nothing. */
void credentials_imds_free(struct credentials_imds *imds);

/*
 * Ask the service: at AWS_EC2_METADATA_SERVICE_ENDPOINT, or at its address of
 * IPv4, or of IPv6 (AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6).  -ENOENT if
 * AWS_EC2_METADATA_DISABLED=true, nobody answers there, or the instance has
 * no role.  The set gets the instance's region, too, if that is told.
 */
int credentials_from_imds(struct credentials_imds *imds,
                          const struct credentials_reader *reader,
                          struct credentials_set *set,
                          struct net_failure *ret_failure);

#endif
