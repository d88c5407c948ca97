/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hostile_s3 - the S3 server hostile_s3.mjs as a child of a test.
 *
 *     struct hostile_s3 *server = hostile_s3_start(test_dir(), "{}");
 *     if (!server)
 *         SKIP("node is not installed");
 *     (void)hostile_s3_tell(server, "{'fault':{'op':'get','status':503}}");
 *
 * Its settings and commands are at the top of hostile_s3.mjs; the faults are
 * in hostile_s3/faults.mjs.  What goes wrong between test and server ends the
 * test program.  Threads: one at a time.
 */
#ifndef SUPPORT_HOSTILE_S3_H
#define SUPPORT_HOSTILE_S3_H

#include <stdint.h>

#define HOSTILE_S3_ACCESS_KEY "testkey12345"
#define HOSTILE_S3_SECRET_KEY "testsecret0123456789abcdef"

struct hostile_s3;

/*
 * Start a server with these settings, JSON in which ' stands for ".  Its
 * certificates go into dir, which stays the caller's.  NULL if there is no
 * node.
 */
struct hostile_s3 *hostile_s3_start(const char *dir, const char *settings);

/*
 * Give the server a command, which is carried out on return; again, '
 * stands for ".  Returns the answer, JSON, valid until the next call.
 */
const char *hostile_s3_tell(struct hostile_s3 *server, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Returns one of the counters; one that has not begun is 0. */
uint64_t hostile_s3_count(struct hostile_s3 *server, const char *name);

/*
 * Returns how many requests have met the fault that was the number-th to be
 * set, from 0, since the start or the last "clear".
 */
uint64_t hostile_s3_hits(struct hostile_s3 *server, unsigned number);

/* Returns the port of an endpoint, from 0, for HTTP or HTTPS. */
uint16_t hostile_s3_port(const struct hostile_s3 *server, unsigned endpoint);
uint16_t hostile_s3_tls_port(const struct hostile_s3 *server,
                             unsigned endpoint);

/* Returns the path of the certificate that has signed the server's. */
const char *hostile_s3_ca(const struct hostile_s3 *server);

/* End it; NULL does nothing. */
void hostile_s3_stop(struct hostile_s3 *server);

#endif
