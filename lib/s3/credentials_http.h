/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * credentials_http - one request to a service that hands out credentials.
 *
 * A connection for each request: there are a few in an hour.  Nothing is
 * followed anywhere: what was asked for must answer itself.
 *
 * Threads: one uses it; any other may interrupt that one.  Locks: its own, a
 * leaf, not held across the network.
 */
#ifndef S3_CREDENTIALS_HTTP_H
#define S3_CREDENTIALS_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/net_address.h"

enum {
    CREDENTIALS_URL_HOST_MAX = 255,
    CREDENTIALS_URL_PATH_MAX = 2047,
    CREDENTIALS_HTTP_FIELDS_MAX = 4,
    CREDENTIALS_HTTP_ANSWER_MAX = 1 << 16,
};

/* Where a request goes. */
struct credentials_url {
    bool is_tls;
    uint16_t port;
    char host[CREDENTIALS_URL_HOST_MAX + 1]; /* an address has no brackets */
    char path[CREDENTIALS_URL_PATH_MAX + 1]; /* with the query; begins with / */
};

/*
 * Parse "http://host", "https://host:port/path?query" and the like.  -EINVAL:
 * it is none, or has a user's name or a fragment; -EMSGSIZE: it is too long.
 */
int credentials_url_parse(const char *text, struct credentials_url *ret_url);

/* Append to the path, which keeps one slash in between; -EMSGSIZE. */
int credentials_url_append(struct credentials_url *url, const char *path);

struct credentials_http;

/* Make one, for credentials_http_free.  ca_file: as of tls_client_options. */
int credentials_http_new(const char *ca_file,
                         struct credentials_http **ret_http);

/* A field of a request's head. */
struct credentials_http_field {
    const char *name;
    const char *value;
};

struct credentials_http_request {
    const char *method;
    const struct credentials_url *url;
    /* The first one without a name is the end. */
    struct credentials_http_field fields[CREDENTIALS_HTTP_FIELDS_MAX];
    const char *body; /* may be NULL */
    size_t body_len;
    bool has_body;       /* its length is told, also if it is 0 */
    bool is_local;       /* without TLS, to this host and such places only */
    uint64_t timeout_ns; /* for the connection, and again for the answer */
};

/* The answer, until the next request. */
struct credentials_http_answer {
    unsigned status;
    const char *body; /* has a zero behind it; of an error, its beginning */
    size_t len;
};

/*
 * Ask.  0: there is an answer, of any status.  Else an error of the network,
 * -ECANCELED, -EINVAL (a field cannot be sent), -EACCES (is_local, but it is
 * not), -ENOMEM; in words, which tell host and port, in *ret_failure.
 */
int credentials_http_run(struct credentials_http *http,
                         const struct credentials_http_request *request,
                         struct credentials_http_answer *ret_answer,
                         struct net_failure *ret_failure);

/* Set the failure to what an answer's status tells of this request. */
void credentials_http_refused(const struct credentials_http_request *request,
                              unsigned status, struct net_failure *failure);

/* End the request that runs, and let no other begin.  Any thread. */
void credentials_http_interrupt(struct credentials_http *http);

/* Free it, answers overwritten; nobody is in it.  NULL does nothing. */
void credentials_http_free(struct credentials_http *http);

#endif
