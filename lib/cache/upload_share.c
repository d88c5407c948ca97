/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/upload_share.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mutex.h"

/* A device whose chunks take longer asks less often, and shares all the same
 * as soon as it does. */
static const uint64_t UPLOADING_NS = UINT64_C(30) * 1000000000;

struct upload_share {
    struct mutex mutex;
    struct upload_sharer *sharers GUARDED_BY(mutex);
    struct bandwidth_entry *limits GUARDED_BY(mutex);
    size_t count GUARDED_BY(mutex); /* of limits */
};

int upload_share_new(const struct bandwidth_entry limits[], size_t count,
                     struct upload_share **ret_share)
{
    struct upload_share *share = calloc(1, sizeof(*share));
    int error;

    if (!share)
        return -ENOMEM;
    mutex_init(&share->mutex);
    error = upload_share_set_limits(share, limits, count);
    if (error) {
        upload_share_free(share);
        return error;
    }
    *ret_share = share;
    return 0;
}

int upload_share_set_limits(struct upload_share *share,
                            const struct bandwidth_entry limits[], size_t count)
{
    struct bandwidth_entry *copy = calloc(count + 1, sizeof(*copy)), *old;

    if (!copy)
        return -ENOMEM;
    if (count > 0)
        memcpy(copy, limits, count * sizeof(*copy));
    mutex_lock(&share->mutex);
    old = share->limits;
    share->limits = copy;
    share->count = count;
    mutex_unlock(&share->mutex);
    free(old);
    return 0;
}

void upload_share_free(struct upload_share *share)
{
    if (!share)
        return;
    mutex_done(&share->mutex);
    free(share->limits);
    free(share);
}

void upload_share_join(struct upload_share *share, struct upload_sharer *sharer)
{
    if (!share)
        return;
    mutex_lock(&share->mutex);
    sharer->asked_ns = 0;
    sharer->next = share->sharers;
    share->sharers = sharer;
    mutex_unlock(&share->mutex);
}

void upload_share_leave(struct upload_share *share,
                        struct upload_sharer *sharer)
{
    struct upload_sharer **link;

    if (!share)
        return;
    mutex_lock(&share->mutex);
    link = &share->sharers;
    while (*link != sharer)
        link = &(*link)->next;
    *link = sharer->next;
    mutex_unlock(&share->mutex);
}

/* Returns how many devices upload, this one included. */
static uint64_t count_locked(const struct upload_share *share,
                             const struct upload_sharer *own, uint64_t now_ns)
    REQUIRES(share->mutex)
{
    uint64_t count = 1;

    for (const struct upload_sharer *sharer = share->sharers; sharer;
         sharer = sharer->next)
        count += sharer != own && sharer->asked_ns > 0 &&
                 now_ns - sharer->asked_ns < UPLOADING_NS;
    return count;
}

uint64_t upload_share_rate(struct upload_share *share,
                           struct upload_sharer *sharer)
{
    uint64_t now_ns = clock_monotonic_ns(), limit, count;
    unsigned minute = bandwidth_minute(clock_realtime_ns());

    if (!share)
        return 0;
    mutex_lock(&share->mutex);
    limit = bandwidth_limit(share->limits, share->count, minute);
    sharer->asked_ns = now_ns;
    count = count_locked(share, sharer, now_ns);
    mutex_unlock(&share->mutex);
    return limit == 0 ? 0 : (limit + count - 1) / count;
}
