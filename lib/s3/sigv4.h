/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sigv4 - sign a request by AWS Signature Version 4, under the rules of S3
 * (pure).
 *
 * The path is signed as it is sent: encoded once, not normalised.  What is
 * signed are the very bytes of the request line, so that the two cannot
 * differ.  The only file that knows nettle.  Threads: any; a signing key is
 * used by one at a time.
 */
#ifndef S3_SIGV4_H
#define S3_SIGV4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for what the functions below write, with the ending NUL. */
enum {
    SIGV4_HASH_TEXT = 65,
    SIGV4_MD5_TEXT = 25,
    SIGV4_AUTHORIZATION_TEXT = 2048,
};

/* The payload hash of no body, and of a body that is not signed. */
#define SIGV4_EMPTY_HASH                                                       \
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SIGV4_UNSIGNED_PAYLOAD "UNSIGNED-PAYLOAD"

struct sigv4_credentials {
    const char *access_key;
    const char *secret_key;
    const char *session_token; /* NULL or "": none; it is sent, and signed, as
                                  a field of the request */
};

/* A field of a head, or a parameter of a query. */
struct sigv4_pair {
    const char *name;
    const char *value;
};

enum {
    SIGV4_FIELDS_MAX = 32,
    SIGV4_PARAMETERS_MAX = 16,
    SIGV4_SECRET_MAX = 255, /* bytes of a secret key */
};

struct sigv4_request {
    const char *method;
    const char *path; /* encoded, as in the request line */
    size_t path_len;
    const char *query; /* the same, without "?", as sigv4_query made it */
    size_t query_len;
    /* The fields that are signed, in any order: host, each x-amz-*, and what
     * else no one on the way may change. */
    const struct sigv4_pair *fields;
    size_t field_count;
    const char *payload_hash; /* that of sigv4_hash, or one of the above */
    const char *date;         /* the value of x-amz-date */
    const char *region;
    const char *service; /* "s3" */
};

/*
 * The key that secret, day and region lead to, kept for the next request: it
 * changes once a day.  The caller owns it, zeroed before its first use, and
 * may copy it; it is as secret as the secret.
 */
struct sigv4_key {
    uint8_t made_of[32]; /* hash of all that it was derived from */
    uint8_t key[32];
};

/*
 * Write the value of the field Authorization.  key may have been used for
 * other credentials, days and regions.  -EINVAL: date is none; -EMSGSIZE:
 * more fields or a longer secret than above, or the text does not fit.
 */
int sigv4_sign(const struct sigv4_request *request,
               const struct sigv4_credentials *credentials,
               struct sigv4_key *key,
               char ret_authorization[SIGV4_AUTHORIZATION_TEXT]);

/* Write the SHA-256 of the data in lower-case hexadecimal digits. */
void sigv4_hash(const void *data, size_t len, char hex[SIGV4_HASH_TEXT]);

/* Write the MD5 of the data in base64, as the field Content-MD5 has it. */
void sigv4_md5(const void *data, size_t len, char base64[SIGV4_MD5_TEXT]);

/*
 * Encode len bytes for a path, where "/" stays, or for a query (and a form).
 * Returns the length of the encoded text; it is written, with a NUL, only if
 * that is less than room.
 */
size_t sigv4_encode(const char *raw, size_t len, bool is_path, char *text,
                    size_t room);

/*
 * Write the query of these parameters, not encoded yet, in the order in which
 * it is signed; an empty value keeps its "=".  At most SIGV4_PARAMETERS_MAX.
 * Result as of sigv4_encode.
 */
size_t sigv4_query(const struct sigv4_pair *parameters, size_t count,
                   char *text, size_t room);

#endif
