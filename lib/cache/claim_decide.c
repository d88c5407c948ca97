/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/claim_decide.h"

#include <string.h>

static bool is_known(const struct claim_local *local,
                     const struct epoch_record *record)
{
    return local->has_epoch && epoch_is_same(&local->epoch, record);
}

static bool has_our_id(const struct claim_local *local,
                       const struct epoch_record *record)
{
    return !local->is_empty &&
           memcmp(record->cachedir_id, local->cachedir_id, UUID_SIZE) == 0;
}

/* Nobody has the device: there is no epoch, or it was dropped. */
static enum claim_action decide_unowned(const struct claim_local *local,
                                        bool was_dropped)
{
    if (local->is_empty || !local->has_epoch)
        return CLAIM_CREATE;
    return was_dropped ? CLAIM_REFUSE_DROPPED : CLAIM_SERVE_LOST;
}

/* Two hosts created the newest epoch. */
static enum claim_action decide_conflict(enum claim_mode mode,
                                         const struct claim_local *local,
                                         const struct epoch_newest *newest,
                                         size_t *ret_which)
{
    const struct epoch_record *records = newest->records;

    *ret_which = records[1].content_time_ns > records[0].content_time_ns;
    for (size_t i = 0; i < 2; i++) {
        if (!has_our_id(local, &records[i]) || !is_known(local, &records[i]))
            continue;
        *ret_which = i;
        return mode == CLAIM_TAKEOVER ? CLAIM_TAKE_OWN : CLAIM_REFUSE_CONFLICT;
    }
    if (mode != CLAIM_TAKEOVER)
        return CLAIM_REFUSE_CONFLICT;
    return local->is_dirty ? CLAIM_REFUSE_DIRTY : CLAIM_TAKE;
}

/* The content here is of this epoch, or grew out of it. */
static enum claim_action decide_known(enum claim_mode mode,
                                      const struct claim_local *local,
                                      const struct epoch_record *record)
{
    if (mode == CLAIM_DISCARD)
        return CLAIM_LOAD;
    if (has_our_id(local, record) || !epoch_is_held(record))
        return CLAIM_GO_ON;
    if (mode == CLAIM_NORMAL)
        return CLAIM_REFUSE_HELD;
    return local->is_dirty ? CLAIM_REFUSE_DIRTY : CLAIM_TAKE;
}

/* It went on elsewhere. */
static enum claim_action decide_stranger(enum claim_mode mode,
                                         const struct claim_local *local,
                                         const struct epoch_record *record)
{
    bool is_copy = has_our_id(local, record);

    if (mode == CLAIM_DISCARD && !local->is_empty)
        return CLAIM_LOAD;
    if (mode == CLAIM_TAKEOVER)
        return local->is_dirty ? CLAIM_REFUSE_DIRTY : CLAIM_TAKE;
    if (is_copy)
        return CLAIM_REFUSE_COPY;
    if (local->is_dirty)
        return CLAIM_REFUSE_DIRTY; /* a takeover would be, too */
    return epoch_is_held(record) ? CLAIM_REFUSE_HELD : CLAIM_LOAD;
}

enum claim_action claim_decide(enum claim_mode mode,
                               const struct claim_local *local,
                               const struct epoch_newest *newest,
                               size_t *ret_which)
{
    const struct epoch_record *record;

    *ret_which = 0;
    if (newest == NULL)
        return local->is_empty ? CLAIM_WAIT : CLAIM_SERVE;
    if (newest->count == 0)
        return decide_unowned(local, false);
    record = &newest->records[0];
    if (local->has_epoch && record->epoch < local->epoch.epoch)
        return CLAIM_SERVE_LOST;
    if (newest->count > 1)
        return decide_conflict(mode, local, newest, ret_which);
    if (record->kind == EPOCH_TOMBSTONE)
        return decide_unowned(local, true);
    return is_known(local, record) ? decide_known(mode, local, record)
                                   : decide_stranger(mode, local, record);
}

bool claim_action_refuses(enum claim_action action)
{
    switch (action) {
    case CLAIM_WAIT:
    case CLAIM_REFUSE_HELD:
    case CLAIM_REFUSE_COPY:
    case CLAIM_REFUSE_DIRTY:
    case CLAIM_REFUSE_DROPPED:
    case CLAIM_REFUSE_CONFLICT:
        return true;
    case CLAIM_CREATE:
    case CLAIM_GO_ON:
    case CLAIM_LOAD:
    case CLAIM_TAKE:
    case CLAIM_TAKE_OWN:
    case CLAIM_SERVE:
    case CLAIM_SERVE_LOST:
        break;
    }
    return false;
}
