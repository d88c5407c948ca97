/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_bell.h"

#include <errno.h>

void s3_bell_init(struct s3_bell *bell)
{
    mutex_init(&bell->mutex);
    condition_init(&bell->rung);
    bell->is_interrupted = false;
    bell->rings = 0;
}

void s3_bell_done(struct s3_bell *bell)
{
    condition_done(&bell->rung);
    mutex_done(&bell->mutex);
}

void s3_bell_ring(struct s3_bell *bell)
{
    mutex_lock(&bell->mutex);
    bell->rings++;
    condition_broadcast(&bell->rung);
    mutex_unlock(&bell->mutex);
}

void s3_bell_interrupt(struct s3_bell *bell)
{
    mutex_lock(&bell->mutex);
    bell->is_interrupted = true;
    condition_broadcast(&bell->rung);
    mutex_unlock(&bell->mutex);
}

bool s3_bell_is_interrupted(struct s3_bell *bell)
{
    bool is_interrupted;

    mutex_lock(&bell->mutex);
    is_interrupted = bell->is_interrupted;
    mutex_unlock(&bell->mutex);
    return is_interrupted;
}

uint64_t s3_bell_rings(struct s3_bell *bell)
{
    uint64_t rings;

    mutex_lock(&bell->mutex);
    rings = bell->rings;
    mutex_unlock(&bell->mutex);
    return rings;
}

int s3_bell_wait_for_ring(struct s3_bell *bell, uint64_t rings,
                          uint64_t deadline_ns)
{
    bool is_early = true;
    int result;

    mutex_lock(&bell->mutex);
    while (is_early && !bell->is_interrupted && bell->rings <= rings)
        is_early = condition_wait_until(&bell->rung, &bell->mutex, deadline_ns);
    result = bell->is_interrupted ? -ECANCELED : 0;
    mutex_unlock(&bell->mutex);
    return result;
}

int s3_bell_wait(struct s3_bell *bell, uint64_t deadline_ns)
{
    return s3_bell_wait_for_ring(bell, UINT64_MAX, deadline_ns);
}
