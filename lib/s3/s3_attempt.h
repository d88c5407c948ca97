/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_attempt - one attempt at an operation: an endpoint, a connection, a
 * signed request, its answer, and whether that is what was asked for.
 *
 * Used by s3_call.c, which tries again, and by all that try once: hedges,
 * probes, the check at start.
 *
 * Threads: any; an attempt is one thread's, which it blocks.
 */
#ifndef S3_S3_ATTEMPT_H
#define S3_S3_ATTEMPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "s3/http_exchange.h"
#include "s3/s3_answer.h"
#include "s3/s3_endpoint.h"
#include "s3/s3_request.h"
#include "s3/s3_retry.h"

struct credentials_set;
struct s3_hold;
struct s3_parts;

/*
 * Take in the document that an answer of 2xx brought.  0; or an error that
 * means: this is no answer to what was asked.
 */
typedef int s3_attempt_accept(void *context, const char *text, size_t len);

struct s3_attempt {
    /* What is asked, set before the first run. */
    const struct s3_operation *operation;
    void *data; /* S3_GET: where operation->len bytes, not 0, go */
    s3_attempt_accept *accept; /* S3_LIST, S3_DELETE_MANY */
    void *accept_context;

    /* How, changed by the caller as it likes between two runs. */
    size_t only;   /* at this endpoint, whose turn is the caller's affair */
    size_t avoid;  /* else: rather not at this one; on a new connection there */
    bool is_fresh; /* on a new connection */
    uint64_t deadline_ns;  /* of all of it; 0: as long as that may take */
    struct s3_hold *hold;  /* by which others may end it, or NULL */
    bool may_connect_long; /* though there is a hold, and another endpoint */

    /* What came of it, until the next run or s3_attempt_done. */
    struct s3_seen seen; /* its may_be_applied and below are the caller's */
    enum s3_health health;
    size_t endpoint;          /* where it went, or S3_ENDPOINT_NONE */
    struct s3_error document; /* of an answer that is one; else empty */
    uint64_t retry_after_ns;  /* 0: not told */
    uint64_t now_s, there_s;  /* the time here, and as it was signed */
    uint64_t answer_s;        /* the time that the answer tells; 0: none */
    char region[S3_REGION_MAX + 1];       /* that it was signed for */
    char other_region[S3_REGION_MAX + 1]; /* that the answer names, or "" */
    uint64_t size, modified_ns;           /* S3_HEAD */
    uint64_t first_byte_ns, took_ns;
    char words[400]; /* why it failed, for people; else "" */
    const struct credentials_set *credentials;

    /* internal */
    struct s3_request *request;
    struct http_exchange exchange;
};

/* Make ready an attempt at this operation, which must stay. */
int s3_attempt_init(struct s3_attempt *attempt,
                    const struct s3_operation *operation);

/* Give back and free all that it has; any thread's, when no run is on. */
void s3_attempt_done(struct s3_parts *parts, struct s3_attempt *attempt);

/*
 * Run it once.  0: it went to an endpoint; seen is what came of that, for
 * s3_retry_judge, and if that says DONE, all that was asked for is there.
 * Else it could not begin:
 *   -EHOSTDOWN  all endpoints rest
 *   -EACCES     there are no credentials; words say why
 *   -ETIMEDOUT  they were not to be had in time
 *   -ECANCELED  the store was interrupted, or the hold ended
 *   -EINVAL, -EMSGSIZE  this cannot be asked for
 *   -ENOMEM
 */
int s3_attempt_run(struct s3_parts *parts, struct s3_attempt *attempt);

/* Tell the endpoint's turn, which the caller had begun, how the run went. */
void s3_attempt_end_turn(struct s3_parts *parts,
                         const struct s3_attempt *attempt,
                         const struct s3_turn *turn);

#endif
