/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_limits - how many bytes a second may go to the store and come from it,
 * by the time of day.
 *
 * Threads: any.  Locks: its own, then those of its rates.
 */
#ifndef S3_S3_LIMITS_H
#define S3_S3_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/bandwidth.h"
#include "base/rate.h"

struct s3_limits;

/* Copy the limits each way; without any there is none. */
int s3_limits_new(const struct bandwidth_entry up[], size_t up_count,
                  const struct bandwidth_entry down[], size_t down_count,
                  struct s3_limits **ret_limits);

/* From now on these hold, which are copied.  -ENOMEM: those before. */
int s3_limits_set(struct s3_limits *limits, const struct bandwidth_entry up[],
                  size_t up_count, const struct bandwidth_entry down[],
                  size_t down_count);

/* Free it; NULL does nothing. */
void s3_limits_free(struct s3_limits *limits);

/*
 * Have the limits of this time of day hold: to be called once a minute, and
 * before the rates are used.  realtime_ns is clock_realtime_ns(), now_ns
 * clock_monotonic_ns().
 */
void s3_limits_refresh(struct s3_limits *limits, uint64_t realtime_ns,
                       uint64_t now_ns);

/*
 * Returns the rate each way, good as long as the limits; NULL: there is no
 * limit, and if one is set, who asked before does not obey it.
 */
struct rate *s3_limits_up(struct s3_limits *limits);
struct rate *s3_limits_down(struct s3_limits *limits);

/* Returns how long so many bytes may take because of the limits, about. */
uint64_t s3_limits_time_ns(struct s3_limits *limits, uint64_t bytes);

#endif
