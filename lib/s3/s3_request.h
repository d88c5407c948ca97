/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_request - an operation on a bucket as the bytes of a request's head,
 * signed (pure).
 *
 * Composed anew for each attempt: host, time and credentials may differ.  What
 * depends on the body alone is computed once, in struct s3_body.
 *
 * Threads: any.
 */
#ifndef S3_S3_REQUEST_H
#define S3_S3_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "s3/s3_site.h"
#include "s3/sigv4.h"

enum s3_verb {
    S3_GET,
    S3_PUT,
    S3_HEAD,
    S3_DELETE,
    S3_LIST,        /* ListObjectsV2, keys encoded as in a URL */
    S3_DELETE_MANY, /* the answer names only what could not be deleted */
    S3_HEAD_BUCKET,
};

enum {
    S3_KEY_MAX = 1024,         /* bytes of a key, the site's prefix included */
    S3_TOKEN_MAX = 2048,       /* of a continuation token */
    S3_LIST_KEYS_MAX = 1000,   /* in the answer to one S3_LIST */
    S3_DELETE_KEYS_MAX = 1000, /* in one S3_DELETE_MANY */
    S3_TARGET_MAX = 12288,     /* of a request line's target, encoded */
    S3_REQUEST_HEAD_MAX = 32768,
};

/* What is sent behind a head, and what the head says of it. */
struct s3_body {
    const void *data; /* belongs to the caller */
    size_t len;
    char sha256[SIGV4_HASH_TEXT]; /* or SIGV4_UNSIGNED_PAYLOAD */
    char md5[SIGV4_MD5_TEXT];     /* "": not told */
};

struct s3_operation {
    enum s3_verb verb;
    const char *key; /* S3_GET, S3_PUT, S3_HEAD, S3_DELETE; as all keys
                        here, without the site's prefix */
    uint64_t offset; /* S3_GET: where the range begins, and its length; */
    uint64_t len;    /* 0: all of the object */
    bool if_absent;  /* S3_PUT: only if the key is free */
    const struct s3_body *body; /* S3_PUT, S3_DELETE_MANY */
    const char *list_prefix;    /* S3_LIST: what the keys begin with, or NULL */
    const char *start_after;    /* S3_LIST: the keys behind this one, or NULL */
    const char *token;          /* S3_LIST: instead of start_after, or NULL */
    unsigned max_keys;          /* S3_LIST: 0: as many as the store likes */
};

/* How objects are to be stored; each may be NULL: the bucket's default. */
struct s3_storage {
    const char *storage_class;
    const char *sse; /* "AES256" or "aws:kms" */
    const char *sse_key_id;
};

/* Big: part of something allocated, not of the stack. */
struct s3_request {
    size_t head_len;
    bool is_head;               /* the answer has no body, whatever it says */
    char target[S3_TARGET_MAX]; /* what was asked for, for a log */
    char head[S3_REQUEST_HEAD_MAX]; /* with secrets: not for a log */
};

/*
 * Compose the head of one attempt.  storage may be NULL; now_s is the time by
 * the store's clock, in seconds since 1970; key as for sigv4_sign.  -EINVAL:
 * a key, token or setting cannot be sent; -EMSGSIZE: it is too long.
 */
int s3_request_compose(const struct s3_operation *operation,
                       const struct s3_site *site,
                       const struct s3_storage *storage,
                       const struct sigv4_credentials *credentials,
                       struct sigv4_key *key, uint64_t now_s,
                       struct s3_request *ret_request);

/*
 * Describe the body of an S3_PUT, which must stay until the last attempt has
 * ended: hashed, unless is_unsigned and the site's connections are TLS.
 */
void s3_body_init(struct s3_body *body, const struct s3_site *site,
                  const void *data, size_t len, bool is_unsigned);

/*
 * Make the body of an S3_DELETE_MANY of 1 to S3_DELETE_KEYS_MAX keys; the
 * caller frees *ret_data after the last attempt.  -EINVAL: XML cannot carry
 * one of the keys; -EMSGSIZE: one is too long; -ENOMEM.
 */
int s3_body_of_keys(const struct s3_site *site, const char *const keys[],
                    size_t count, struct s3_body *ret_body, char **ret_data);

#endif
