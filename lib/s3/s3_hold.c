/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_hold.h"

#include <stdint.h>

#include "s3/s3_pool.h"

void s3_hold_init(struct s3_hold *hold)
{
    mutex_init(&hold->mutex);
    hold->is_ended = false;
    hold->endpoint = SIZE_MAX;
    hold->connection = NULL;
}

void s3_hold_done(struct s3_hold *hold)
{
    mutex_done(&hold->mutex);
}

bool s3_hold_choose(struct s3_hold *hold, size_t endpoint)
{
    bool goes_on;

    mutex_lock(&hold->mutex);
    hold->endpoint = endpoint;
    goes_on = !hold->is_ended;
    mutex_unlock(&hold->mutex);
    return goes_on;
}

bool s3_hold_take(struct s3_hold *hold, struct s3_connection *connection)
{
    bool goes_on;

    mutex_lock(&hold->mutex);
    goes_on = !hold->is_ended;
    hold->connection = goes_on ? connection : NULL;
    mutex_unlock(&hold->mutex);
    return goes_on;
}

bool s3_hold_release(struct s3_hold *hold)
{
    bool goes_on;

    mutex_lock(&hold->mutex);
    hold->connection = NULL;
    goes_on = !hold->is_ended;
    mutex_unlock(&hold->mutex);
    return goes_on;
}

size_t s3_hold_endpoint(struct s3_hold *hold)
{
    size_t endpoint;

    mutex_lock(&hold->mutex);
    endpoint = hold->endpoint;
    mutex_unlock(&hold->mutex);
    return endpoint;
}

void s3_hold_end(struct s3_hold *hold)
{
    mutex_lock(&hold->mutex);
    hold->is_ended = true;
    if (hold->connection)
        s3_connection_shutdown(hold->connection);
    mutex_unlock(&hold->mutex);
}
