/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_call - an operation, attempted until it is answered or patience ends.
 *
 * How long that is depends on who waits.  Somebody's read: without end, until
 * the store is interrupted, but for answers that make no sense time and again.
 * Background: twice the timeout after the first failure, and not at all while
 * no endpoint can be reached.  Read-ahead: no more than one attempt that fails.
 *
 * Threads: any; a call is one thread's, which it blocks.  No lock is held
 * while it waits.
 */
#ifndef S3_S3_CALL_H
#define S3_S3_CALL_H

#include <stdint.h>

#include "object_store.h"
#include "s3/s3_attempt.h"

struct s3_parts;

struct s3_call {
    const struct s3_operation *operation;
    enum object_urgency urgency;
    void *data;                /* S3_GET: operation->len bytes, not 0 */
    s3_attempt_accept *accept; /* as of struct s3_attempt */
    void *accept_context;

    /* Result of S3_HEAD. */
    uint64_t size, modified_ns;
};

/*
 * Run it.  0, or an error as of object_store.h, which has been logged;
 * -EALREADY: the key of a conditional put is taken, but perhaps by an earlier
 * attempt of this very call.
 */
int s3_call_run(struct s3_parts *parts, struct s3_call *call);

#endif
