/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * credentials_json - the document with keys that an instance's metadata and a
 * container's endpoint answer with (pure).
 *
 * The only file that knows jansson, whose memory it has overwritten when it is
 * freed.  Every byte may lie.  Threads: any.
 */
#ifndef S3_CREDENTIALS_JSON_H
#define S3_CREDENTIALS_JSON_H

#include <stddef.h>

#include "base/net_address.h"
#include "s3/credentials_set.h"

enum { CREDENTIALS_JSON_MAX = 1 << 16 }; /* bytes of a document */

/*
 * Store AccessKeyId, SecretAccessKey, Token and Expiration in the set; the
 * last two may be missing.  -EBADMSG: it is no such document, or its Code is
 * not Success; -ENOMEM; in words in *ret_failure, with nothing secret.  The
 * set may have changed then.
 */
int credentials_json_parse(const char *text, size_t len,
                           struct credentials_set *set,
                           struct net_failure *ret_failure);

#endif
