/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_region - go where the bucket is, when that was learned.
 *
 * Requests are signed for a region, and Amazon's hosts have it in their names,
 * so that connections lead elsewhere, too.  Nothing else of what a redirect
 * says is followed: it could lead anywhere.
 *
 * Threads: any.
 */
#ifndef S3_S3_REGION_H
#define S3_S3_REGION_H

#include <stdbool.h>

struct s3_parts;

/*
 * An answer to a request that was signed for region used names this one.
 * Returns whether the request is worth repeating: that it would be signed for
 * another region now.
 */
bool s3_region_follow(struct s3_parts *parts, const char *used,
                      const char *region);

/* The credentials tell a region: use it if nobody has told another. */
void s3_region_offer(struct s3_parts *parts, const char *region);

#endif
