/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_explain - why an attempt failed, in words for whoever wrote the
 * configuration (pure).
 */
#ifndef S3_S3_EXPLAIN_H
#define S3_S3_EXPLAIN_H

#include <stddef.h>
#include <stdint.h>

struct s3_attempt;
struct s3_site;

/* Room that is enough. */
enum { S3_EXPLANATION_SIZE = 768 };

/*
 * Write why the attempt, which has run and did not succeed, failed at this
 * site: no secrets, of the access key the first four characters.  Returns
 * text.
 */
const char *s3_explain(const struct s3_attempt *attempt,
                       const struct s3_site *site, char *text, size_t size);

/*
 * Write by how much the clock here differs from that of a store, as "14
 * minutes behind".  Returns text.
 */
const char *s3_explain_skew(uint64_t here_s, uint64_t there_s, char *text,
                            size_t size);

#endif
