/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_limits.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mutex.h"

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
    struct mutex mutex; /* of the entries */
    struct way up, down;
    /* Of all limits, in bytes a second; 0: there is none. */
    _Atomic uint64_t slowest;
    /* Minutes since 1970 when the limits were set.  Relaxed: if two threads
     * set them in the same minute, they set the same. */
    _Atomic uint64_t minute;
};

/* Returns a copy, to be freed; NULL: no memory. */
static struct bandwidth_entry *copy(const struct bandwidth_entry entries[],
                                    size_t count)
{
    struct bandwidth_entry *copied = calloc(count + 1, sizeof(*copied));

    if (copied && count > 0)
        memcpy(copied, entries, count * sizeof(*copied));
    return copied;
}

static uint64_t slowest_of(const struct way *way, uint64_t slowest)
{
    for (size_t i = 0; i < way->count; i++) {
        uint64_t limit = way->entries[i].bytes_per_s;

        if (limit != 0 && (slowest == 0 || limit < slowest))
            slowest = limit;
    }
    return slowest;
}

int s3_limits_new(const struct bandwidth_entry up[], size_t up_count,
                  const struct bandwidth_entry down[], size_t down_count,
                  struct s3_limits **ret_limits)
{
    struct s3_limits *limits = calloc(1, sizeof(*limits));
    int error;

    if (!limits)
        return -ENOMEM;
    mutex_init(&limits->mutex);
    rate_init(&limits->up.rate, 0);
    rate_init(&limits->down.rate, 0);
    error = s3_limits_set(limits, up, up_count, down, down_count);
    if (error) {
        s3_limits_free(limits);
        return error;
    }
    *ret_limits = limits;
    return 0;
}

void s3_limits_free(struct s3_limits *limits)
{
    if (!limits)
        return;
    rate_done(&limits->up.rate);
    rate_done(&limits->down.rate);
    mutex_done(&limits->mutex);
    free(limits->up.entries);
    free(limits->down.entries);
    free(limits);
}

static void set_rate_locked(struct s3_limits *limits, struct way *way,
                            unsigned minute, uint64_t now_ns)
    REQUIRES(limits->mutex)
{
    (void)limits;
    rate_set(&way->rate, bandwidth_limit(way->entries, way->count, minute),
             now_ns);
}

static void set_rates(struct s3_limits *limits, uint64_t realtime_ns,
                      uint64_t now_ns)
{
    unsigned minute = bandwidth_minute(realtime_ns);

    mutex_lock(&limits->mutex);
    set_rate_locked(limits, &limits->up, minute, now_ns);
    set_rate_locked(limits, &limits->down, minute, now_ns);
    mutex_unlock(&limits->mutex);
}

int s3_limits_set(struct s3_limits *limits, const struct bandwidth_entry up[],
                  size_t up_count, const struct bandwidth_entry down[],
                  size_t down_count)
{
    struct bandwidth_entry *new_up = copy(up, up_count), *old_up;
    struct bandwidth_entry *new_down = copy(down, down_count), *old_down;

    if (!new_up || !new_down) {
        free(new_up);
        free(new_down);
        return -ENOMEM;
    }
    mutex_lock(&limits->mutex);
    old_up = limits->up.entries;
    old_down = limits->down.entries;
    limits->up.entries = new_up;
    limits->up.count = up_count;
    limits->down.entries = new_down;
    limits->down.count = down_count;
    atomic_store(&limits->slowest,
                 slowest_of(&limits->down, slowest_of(&limits->up, 0)));
    mutex_unlock(&limits->mutex);
    free(old_up);
    free(old_down);
    set_rates(limits, clock_realtime_ns(), clock_monotonic_ns());
    return 0;
}

void s3_limits_refresh(struct s3_limits *limits, uint64_t realtime_ns,
                       uint64_t now_ns)
{
    uint64_t minute = realtime_ns / MINUTE_NS;

    if (atomic_load(&limits->slowest) == 0 ||
        atomic_load_explicit(&limits->minute, memory_order_relaxed) == minute)
        return;
    set_rates(limits, realtime_ns, now_ns);
    atomic_store_explicit(&limits->minute, minute, memory_order_relaxed);
}

static struct rate *rate_of(struct s3_limits *limits, struct way *way)
{
    bool has_limit;

    mutex_lock(&limits->mutex);
    has_limit = way->count > 0;
    mutex_unlock(&limits->mutex);
    return has_limit ? &way->rate : NULL;
}

struct rate *s3_limits_up(struct s3_limits *limits)
{
    return rate_of(limits, &limits->up);
}

struct rate *s3_limits_down(struct s3_limits *limits)
{
    return rate_of(limits, &limits->down);
}

uint64_t s3_limits_time_ns(struct s3_limits *limits, uint64_t bytes)
{
    uint64_t slowest = atomic_load(&limits->slowest);

    return slowest == 0 ? 0 : bytes * SHARERS / slowest * S_NS;
}
