/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pins are looked at before the tombstone is created, and once more after it:
 * who clones pins first, and then looks for a tombstone.  So either he sees
 * it, or we see the pin and delete nothing.
 */
#include "cache/drop.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "cache/collect.h"
#include "cache/snapshot.h"

/* A pin_each: ends the list if the clone is there. */
static int refuse_pin(void *context, const struct pin *pin)
{
    const struct drop_plan *plan = context;
    bool is_needed;
    int error = pin_is_needed(plan->store, pin, &is_needed);

    if (error || !is_needed)
        return error;
    log_error("%s: %s is a clone of it, and needs it", plan->device_name,
              pin->clone);
    return -EBUSY;
}

static int create_tombstone(const struct drop_plan *plan,
                            const struct epoch_record *newest,
                            struct epoch_record *ret_record)
{
    struct epoch_record record = {
        .kind = EPOCH_TOMBSTONE,
        .epoch = newest->epoch + 1,
        .key_has_nonce = newest->key_has_nonce,
        .time_ns = plan->time_ns,
        .size = newest->size,
        .chunk_size = newest->chunk_size,
    };
    enum epoch_outcome outcome = EPOCH_LOST;
    int error;

    if (getrandom(&record.nonce, sizeof(record.nonce), 0) !=
        (ssize_t)sizeof(record.nonce))
        return -EIO;
    record.nonce |= 1; /* never 0 */
    memcpy(record.device_id, newest->device_id, UUID_SIZE);
    memcpy(record.cachedir_id, plan->cachedir_id, UUID_SIZE);
    (void)snprintf(record.host, sizeof(record.host), "%s", plan->host);
    error = epoch_create(plan->store, plan->device_name, &record, plan->pace,
                         &outcome);
    if (!error && outcome != EPOCH_OURS)
        error = -EBUSY;
    if (!error)
        *ret_record = record;
    return error;
}

int drop_device(const struct drop_plan *plan)
{
    struct collect_options options = {
        .store = plan->store,
        .device_name = plan->device_name,
        .must_stop = plan->must_stop,
        .context = plan->context,
    };
    const struct epoch_record *record;
    struct epoch_newest newest;
    struct drop_plan copy = *plan;
    int error = epoch_read_newest(plan->store, plan->device_name, 0, &newest);

    if (error)
        return error;
    if (newest.count != 1)
        return newest.count == 0 ? -ENOENT : -ENOTUNIQ;
    record = &newest.records[0];
    options.own = *record;
    if (record->kind == EPOCH_TOMBSTONE)
        return collect_drop_device(&options);
    if (epoch_is_held(record) &&
        memcmp(record->cachedir_id, plan->cachedir_id, UUID_SIZE) != 0)
        return -EPERM;
    error = pin_list(plan->store, plan->device_name, refuse_pin, &copy);
    if (!error)
        error = create_tombstone(plan, record, &options.own);
    if (error)
        return error;
    log_info("%s: dropped, epoch %" PRIu64, plan->device_name,
             options.own.epoch);
    return collect_drop_device(&options);
}
