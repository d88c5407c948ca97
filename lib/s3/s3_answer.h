/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_answer - the XML documents that a store answers with (pure).
 *
 * The only file that knows expat.  Documents may have any namespace, and
 * elements that are not known here; none may have a DTD, or be larger or
 * deeper than the caps below.  Every byte may lie.  -EBADMSG: it is not such a
 * document, it is cut off, or what it says makes no sense; -ENOMEM.
 *
 * Threads: any.
 */
#ifndef S3_S3_ANSWER_H
#define S3_S3_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "s3/s3_request.h"

enum {
    S3_ANSWER_MAX = 4 << 20, /* bytes of a document */
    S3_ANSWER_DEPTH = 16,    /* elements inside each other */
    S3_ANSWER_NAME_MAX = 64, /* bytes of an element's name */
};

/*
 * An error document.  All texts are printable ASCII, what is not is replaced;
 * absent ones are "", and so are region and endpoint if too long, while others
 * are cut off.
 */
struct s3_error {
    char code[64];
    char message[256];
    char region[S3_REGION_MAX + 1]; /* where the bucket is */
    char endpoint[S3_HOST_MAX + 1]; /* where to ask instead */
    char request_id[64];
    uint64_t server_time_s; /* since 1970; 0: not told */
};

/* Parse the document of an answer that failed, of S3 or of STS. */
int s3_error_parse(const char *body, size_t len, struct s3_error *ret_error);

/*
 * One object of a list; key is not encoded, has its site's prefix, at most
 * S3_KEY_MAX bytes, and is valid during the call.
 */
typedef int s3_list_each(void *context, const char *key, uint64_t size,
                         uint64_t modified_ns);

struct s3_list {
    size_t count; /* of objects */
    bool is_truncated;
    /* For the next request; "" also in a truncated list of a store that has
     * none: go on behind the last key. */
    char next_token[S3_TOKEN_MAX + 1];
};

/*
 * Parse a page of a list; each() is called for its objects in their order,
 * which is not checked, and only when the whole document has proved well
 * formed.  A result of each() other than 0 ends the parsing, and is returned.
 */
int s3_list_parse(const char *body, size_t len, s3_list_each *each,
                  void *context, struct s3_list *ret_list);

/* One key that could not be deleted, as above; of error only code, message. */
typedef int s3_deleted_each(void *context, const char *key,
                            const struct s3_error *error);

/* Parse the answer to S3_DELETE_MANY; each() as of s3_list_parse. */
int s3_deleted_parse(const char *body, size_t len, s3_deleted_each *each,
                     void *context);

/* Credentials for a while, as STS gives them for a web identity. */
struct s3_sts_credentials {
    char access_key[256];
    char secret_key[256];
    char session_token[8192];
    uint64_t expires_s; /* since 1970 */
};

/*
 * Parse STS's answer to AssumeRoleWithWebIdentity.  What is missing, or too
 * long, makes it -EBADMSG.  The caller clears what it got after use.
 */
int s3_sts_parse(const char *body, size_t len,
                 struct s3_sts_credentials *ret_credentials);

#endif
