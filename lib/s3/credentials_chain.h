/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * credentials_chain - from which of the sources credentials are read.
 *
 * The value of the setting s3credentials is one of
 *   auto              the configuration's keys, or the first that has any of:
 *                     systemd, environment, profile, webidentity, container,
 *                     and imds if the bucket is Amazon's
 *   file:PATH         an absolute path: see credentials_from_file
 *   systemd:NAME      a credential of the service
 *   environment
 *   profile:NAME      of AWS's programs
 *   webidentity
 *   container
 *   imds              metadata of the EC2 instance
 * A source that has something, and is wrong, is an error: the next one would
 * sign in another's name.
 *
 * Threads: one, but for credentials_chain_interrupt.
 */
#ifndef S3_CREDENTIALS_CHAIN_H
#define S3_CREDENTIALS_CHAIN_H

#include "base/net_address.h"
#include "s3/credentials.h"

struct credentials_chain;

/*
 * Make one of these options, which are copied.  -EINVAL: the source is none of
 * the above, or contradicts the keys; in words in *ret_failure.  The caller
 * ends it by credentials_chain_free.
 */
int credentials_chain_new(const struct credentials_options *options,
                          struct credentials_chain **ret_chain,
                          struct net_failure *ret_failure);

/*
 * Read the sources; the set is the caller's to free.  -ENOENT: none has keys;
 * else why one that should have given keys did not; in words.
 */
int credentials_chain_load(struct credentials_chain *chain,
                           struct credentials_set **ret_set,
                           struct net_failure *ret_failure);

/* End the reading that runs, and let no other begin.  Any thread. */
void credentials_chain_interrupt(struct credentials_chain *chain);

/* Free it, keys overwritten; nobody is in it.  NULL does nothing. */
void credentials_chain_free(struct credentials_chain *chain);

#endif
