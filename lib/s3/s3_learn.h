/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_learn - what an answer that refuses teaches: the time there, that there
 * are other credentials, the bucket's region.
 *
 * Threads: any.
 */
#ifndef S3_S3_LEARN_H
#define S3_S3_LEARN_H

#include "s3/s3_retry.h"

struct s3_attempt;
struct s3_parts;

/*
 * Judge the last run of the attempt, and learn what the verdict asks for, each
 * thing once (the attempt's seen keeps which).  Returns S3_VERDICT_CLOCK,
 * S3_VERDICT_CREDENTIALS or S3_VERDICT_REGION when that changed something, so
 * that the request is worth repeating at once; else any other verdict.  May
 * wait for credentials to be read, within the store's timeout.
 */
enum s3_verdict s3_learn(struct s3_parts *parts, struct s3_attempt *attempt);

#endif
