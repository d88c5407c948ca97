/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * credentials_set - an access key and what belongs to it, kept apart from
 * other memory: no core dump shows it, and freeing it overwrites it.
 *
 * Threads: a set is filled by one thread; afterwards it is only read.
 */
#ifndef S3_CREDENTIALS_SET_H
#define S3_CREDENTIALS_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CREDENTIALS_KEY_SIZE = 256,    /* all of these with the zero at the end */
    CREDENTIALS_TOKEN_SIZE = 8192, /* S3 takes no more than this of headers */
    CREDENTIALS_REGION_SIZE = 64,
    CREDENTIALS_SOURCE_SIZE = 160,
};

#define CREDENTIALS_NEVER UINT64_MAX /* a set that does not expire */

struct credentials_set {
    uint64_t expires_ns; /* of clock_realtime_ns(), or CREDENTIALS_NEVER */
    char access_key[CREDENTIALS_KEY_SIZE];
    char secret_key[CREDENTIALS_KEY_SIZE];
    char session_token[CREDENTIALS_TOKEN_SIZE]; /* "": there is none */
    char region[CREDENTIALS_REGION_SIZE];       /* "": not told */
    char source[CREDENTIALS_SOURCE_SIZE]; /* where from; to be shown to users */
    size_t holders;                       /* for credentials.c alone */
};

/* Which text of a set; credentials_set_put knows its rules. */
enum credentials_field {
    CREDENTIALS_ACCESS_KEY,
    CREDENTIALS_SECRET_KEY,
    CREDENTIALS_SESSION_TOKEN,
    CREDENTIALS_REGION,
};

/* Make an empty set that never expires, for credentials_set_free. */
int credentials_set_new(struct credentials_set **ret_set);

/* Overwrite and free; NULL does nothing. */
void credentials_set_free(struct credentials_set *set);

/*
 * Store len bytes as that text, in place of what it was.  Returns NULL, or in
 * words why it cannot be: too long, or with bytes that no header line may
 * have (a line feed, a NUL); the set is unchanged then.
 */
const char *credentials_set_put(struct credentials_set *set,
                                enum credentials_field field, const char *text,
                                size_t len);

/* Returns whether both have the same keys and token. */
bool credentials_set_has_same_keys(const struct credentials_set *one,
                                   const struct credentials_set *other);

#endif
