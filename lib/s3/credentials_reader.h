/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * credentials_reader - what the sources of credentials read from.
 *
 * A source is a function that fills a set, and returns 0; -ENOENT when it has
 * nothing to do here, so that the next one may; any other error when it should
 * have given keys and cannot: then no other one is to sign in its place.
 * *ret_failure says why in words, and the set may have changed.
 *
 * Threads: one, that of credentials.c.
 */
#ifndef S3_CREDENTIALS_READER_H
#define S3_CREDENTIALS_READER_H

#include <stddef.h>

#include "base/net_address.h"
#include "s3/credentials.h"

struct credentials_http;

struct credentials_reader {
    credentials_environment *environment; /* NULL: this process's */
    void *environment_context;
    const char *region; /* of the configuration, or NULL */
    struct credentials_http *http;
};

/* Returns the value of an environment variable; NULL: not set, or empty. */
const char *credentials_reader_get(const struct credentials_reader *reader,
                                   const char *name);

/*
 * Store a value in the set, without the line feed at its end.  -EACCES and
 * words with the value's name if it cannot be.
 */
int credentials_reader_put(struct credentials_set *set,
                           enum credentials_field field, const char *name,
                           const char *text, size_t len,
                           struct net_failure *ret_failure);

/* Store the environment's region in the set, if there is one. */
int credentials_reader_put_region(const struct credentials_reader *reader,
                                  struct credentials_set *set,
                                  struct net_failure *ret_failure);

#endif
