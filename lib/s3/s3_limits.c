/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_limits.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* How many transfers share a line, at worst, for s3_limits_time_ns. */
enum { SHARERS = 32 };

static const uint64_t S_NS = 1000000000;
static const uint64_t MINUTE_NS = UINT64_C(60) * 1000000000;

/* One way. */
struct way {
    struct bandwidth_entry *entries;
    size_t count;
    struct rate rate;
};

struct s3_limits {
    struct way up, down;
    uint64_t slowest; /* of all limits, in bytes a second; 0: there is none */
    /* Minutes since 1970 when the limits were set.  Relaxed: if two threads
     * set them in the same minute, they set the same. */
    _Atomic uint64_t minute;
};

static int copy(struct way *way, const struct bandwidth_entry entries[],
                size_t count, uint64_t *slowest)
{
    rate_init(&way->rate, 0);
    if (count == 0)
        return 0;
    way->entries = calloc(count, sizeof(entries[0]));
    if (!way->entries)
        return -ENOMEM;
    memcpy(way->entries, entries, count * sizeof(entries[0]));
    way->count = count;
    for (size_t i = 0; i < count; i++) {
        uint64_t limit = entries[i].bytes_per_s;

        if (limit != 0 && (*slowest == 0 || limit < *slowest))
            *slowest = limit;
    }
    return 0;
}

int s3_limits_new(const struct bandwidth_entry up[], size_t up_count,
                  const struct bandwidth_entry down[], size_t down_count,
                  struct s3_limits **ret_limits)
{
    struct s3_limits *limits = calloc(1, sizeof(*limits));
    int up_error, down_error;

    if (!limits)
        return -ENOMEM;
    up_error = copy(&limits->up, up, up_count, &limits->slowest);
    down_error = copy(&limits->down, down, down_count, &limits->slowest);
    if (up_error || down_error) {
        s3_limits_free(limits);
        return -ENOMEM;
    }
    s3_limits_refresh(limits, clock_realtime_ns(), clock_monotonic_ns());
    *ret_limits = limits;
    return 0;
}

void s3_limits_free(struct s3_limits *limits)
{
    if (!limits)
        return;
    rate_done(&limits->up.rate);
    rate_done(&limits->down.rate);
    free(limits->up.entries);
    free(limits->down.entries);
    free(limits);
}

void s3_limits_refresh(struct s3_limits *limits, uint64_t realtime_ns,
                       uint64_t now_ns)
{
    uint64_t minute = realtime_ns / MINUTE_NS;
    unsigned minute_of_day;

    if (limits->slowest == 0 ||
        atomic_load_explicit(&limits->minute, memory_order_relaxed) == minute)
        return;
    minute_of_day = bandwidth_minute(realtime_ns);
    rate_set(
        &limits->up.rate,
        bandwidth_limit(limits->up.entries, limits->up.count, minute_of_day),
        now_ns);
    rate_set(&limits->down.rate,
             bandwidth_limit(limits->down.entries, limits->down.count,
                             minute_of_day),
             now_ns);
    atomic_store_explicit(&limits->minute, minute, memory_order_relaxed);
}

struct rate *s3_limits_up(struct s3_limits *limits)
{
    return limits->up.count > 0 ? &limits->up.rate : NULL;
}

struct rate *s3_limits_down(struct s3_limits *limits)
{
    return limits->down.count > 0 ? &limits->down.rate : NULL;
}

uint64_t s3_limits_time_ns(const struct s3_limits *limits, uint64_t bytes)
{
    return limits->slowest == 0 ? 0 : bytes * SHARERS / limits->slowest * S_NS;
}
