/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_peer - a small S3 server in this process, whose answers a test scripts.
 *
 * It listens on ports of 127.0.0.1, has a thread for each connection, keeps
 * its objects in a memory_store, and believes every signature.  For each
 * request it calls the test's script, which may change, delay or drop what
 * happens; without one, all is answered as a good server would.
 *
 * Threads: the functions below may be called by any; a script runs in the
 * thread of its connection, and may block there.
 */
#ifndef SUPPORT_S3_PEER_H
#define SUPPORT_S3_PEER_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "s3/credentials.h"
#include "s3/s3_store.h"

struct object_store;
struct s3_peer;
struct s3_peer_connection;

enum { S3_PEER_PORTS_MAX = 4 };

/* A request, all texts as they came; valid during the script's call. */
struct s3_peer_request {
    unsigned number; /* of all that came, from 1 */
    size_t port;     /* which one of the peer's, from 0 */
    char method[8];
    char target[4096]; /* path and query, encoded */
    char *head;        /* all lines, with an end mark */
    char *body;
    size_t body_len;
    struct s3_peer_connection *connection;
};

/* What is sent back; s3_peer_respond fills it in. */
struct s3_peer_answer {
    char *bytes; /* head and body; freed by the peer; NULL: nothing is sent */
    size_t len;
    bool is_last; /* the connection is closed after it */
};

/* Serve the request, or not, as the test likes. */
typedef void s3_peer_script(void *context, struct s3_peer *peer,
                            const struct s3_peer_request *request,
                            struct s3_peer_answer *answer);

/* Start with that many ports, each an endpoint; never NULL. */
struct s3_peer *s3_peer_start(size_t ports);

/* End all connections, wait for their scripts, free everything. */
void s3_peer_stop(struct s3_peer *peer);

/* Returns the number of a port. */
uint16_t s3_peer_port(const struct s3_peer *peer, size_t port);

/* Have each request from now on be answered by script; NULL: by none. */
void s3_peer_set_script(struct s3_peer *peer, s3_peer_script *script,
                        void *context);

/* Close a port: connecting to it is refused, what is connected is cut off. */
void s3_peer_close_port(struct s3_peer *peer, size_t port);

/* Let it be connected to again. */
void s3_peer_open_port(struct s3_peer *peer, size_t port);

/* Returns how many requests have come; at a port alone. */
unsigned s3_peer_requests(struct s3_peer *peer);
unsigned s3_peer_requests_at(struct s3_peer *peer, size_t port);

/* Wait until so many requests have come. */
void s3_peer_wait_for_requests(struct s3_peer *peer, unsigned count);

/* Returns the objects, to look at and to change. */
struct object_store *s3_peer_objects(struct s3_peer *peer);

/* Options of a store at a peer, and what they point to. */
struct s3_peer_options {
    struct s3_options options; /* to be changed by the test as it likes */
    struct credentials_options credentials;
    const char *hosts[1];
    uint16_t ports[S3_PEER_PORTS_MAX];
};

/* Fill in options for all ports of the peer. */
void s3_peer_fill_options(const struct s3_peer *peer,
                          struct s3_peer_options *ret_options);

/* Open a store with them; never NULL. */
struct object_store *s3_peer_open_store(const struct s3_peer *peer);

/* ---- for scripts -------------------------------------------------------- */

/* Carry the request out, and answer as it should be. */
void s3_peer_serve(struct s3_peer *peer, const struct s3_peer_request *request,
                   struct s3_peer_answer *answer);

/*
 * Answer with this status, further lines of the head ("Name: value\r\n", or
 * "") and this body; a Content-Length is added.
 */
void s3_peer_respond(struct s3_peer_answer *answer, unsigned status,
                     const char *fields, const void *body, size_t len);

/* Answer with an error document that has this code, and further elements. */
void s3_peer_refuse(struct s3_peer_answer *answer, unsigned status,
                    const char *fields, const char *code, const char *elements);

/* Answer with exactly these bytes, and then close the connection. */
void s3_peer_respond_raw(struct s3_peer_answer *answer, const char *bytes);

/* Returns the value of a line of the head, which the caller frees, or NULL. */
char *s3_peer_field(const struct s3_peer_request *request, const char *name);

/* Wait until the client has closed the connection, or the peer is stopped. */
void s3_peer_wait_until_gone(const struct s3_peer_request *request);

#endif
