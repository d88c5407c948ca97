/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_describe - how a store stands, for status.
 *
 * Threads: any.
 */
#ifndef S3_S3_DESCRIBE_H
#define S3_S3_DESCRIBE_H

struct s3_parts;

/*
 * Returns a JSON object, malloc'ed, or NULL without memory, with
 *
 *   bucket prefix region
 *   credentials   {"source", "access_key_start", "expires_ns" (0: never),
 *                 "problem"}; without secrets
 *   requests      {"places", "places_max", "waited_for", "ahead",
 *                 "background", "halvings"}: how many may be in flight, are,
 *                 and how often the store made them fewer
 *   hedges        {"gets", "begun", "won"}
 *   endpoints     as of s3_endpoints_describe
 */
char *s3_describe(struct s3_parts *parts);

#endif
