/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What changes the device's history in the bucket.  Everything here is done
 * by who has the turn, so that a checkpoint does not begin while an image is
 * published, nor an image go while it gets a name.
 */
#include "cache/owner_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cache/catalog.h"
#include "cache/condemned_lists.h"
#include "cache/destage.h"
#include "cache/publish.h"
#include "cache/snapshot.h"

bool owner_is_dirty(struct owner *owner)
{
    struct device_status status;

    device_status(owner->options.device, &status);
    return status.unpublished_since_ns != 0;
}

static bool has_image(struct owner *owner)
{
    struct epoch_record content;

    return claim_content(owner->claim, &content) == 0 && content.root.size > 0;
}

static int begin_leases(struct owner *owner)
{
    uint64_t count;
    int error = leases_begin_checkpoint(owner->leases, &count);

    if (error != 0)
        return error;
    mutex_lock(&owner->lock);
    owner->has_leases = true;
    owner->chunks = count;
    owner->must_publish = count == 0;
    condition_signal(&owner->wake);
    mutex_unlock(&owner->lock);
    return 0;
}

/* Returns whether there were any. */
static bool end_leases(struct owner *owner)
{
    bool had_leases;

    leases_end_checkpoint(owner->leases);
    mutex_lock(&owner->lock);
    had_leases = owner->has_leases;
    owner->has_leases = false;
    owner->must_publish = false;
    mutex_unlock(&owner->lock);
    return had_leases;
}

int owner_open_checkpoint(struct owner *owner, bool *ret_joined)
{
    struct device *device = owner->options.device;
    struct state_facts facts;
    bool has_leases;
    int error = 0;

    mutex_lock(&owner->lock);
    has_leases = owner->has_leases;
    mutex_unlock(&owner->lock);
    *ret_joined = true;
    state_log_facts(device_state_log(device), &facts);
    if (facts.phase == CHECKPOINT_OPEN && has_leases)
        return 0;
    if (facts.phase != CHECKPOINT_OPEN) {
        if (facts.phase == CHECKPOINT_NONE && !owner_is_dirty(owner) &&
            has_image(owner))
            return -ENODATA;
        error = owner_claim(owner);
        if (error == 0)
            error = device_checkpoint(device, owner_now_ns());
        /* One that was being folded at the start is complete now. */
        *ret_joined = error == -EALREADY;
        if (error == -EALREADY)
            error = 0;
    }
    return error != 0 ? error : begin_leases(owner);
}

void owner_collect_soon(struct owner *owner)
{
    mutex_lock(&owner->lock);
    owner->collect_ns = 0;
    owner->has_looked = true;
    condition_signal(&owner->wake);
    mutex_unlock(&owner->lock);
}

int owner_publish(struct owner *owner, bool *ret_is_new)
{
    struct state_facts facts;
    int error = 0;

    *ret_is_new = false;
    /* Who only looks should not have to claim. */
    state_log_facts(device_state_log(owner->options.device), &facts);
    if (facts.phase != CHECKPOINT_OPEN)
        error = -ENOENT;
    if (error == 0)
        error = owner_claim(owner);
    if (error == 0)
        error = publish_checkpoint(owner->options.device, owner->options.store,
                                   owner->claim, ret_is_new);
    if (error == -EAGAIN) {
        mutex_lock(&owner->lock);
        owner->must_publish = false; /* who reports the last says so again */
        mutex_unlock(&owner->lock);
    }
    if (error == 0 || error == -ENOENT) {
        /* An attempt that seemed to fail may have been decided meanwhile. */
        if (end_leases(owner))
            owner_collect_soon(owner);
        owner_set_held(owner, NULL, 0);
    } else if (error != -EAGAIN) {
        owner_set_held(owner, "the image cannot be published", error);
    }
    return error;
}

int owner_collect_options(struct owner *owner, struct epoch_record *own,
                          struct collect_options *ret_options)
{
    struct device *device = owner->options.device;
    struct owner_limits limits = owner_limits(owner);
    struct epoch_record intent = {.epoch = 0};
    struct state_facts facts;
    int error = claim_content(owner->claim, own);

    state_log_facts(device_state_log(device), &facts);
    if (error == 0 && facts.has_intent)
        error = epoch_decode(facts.intent, &intent);
    if (error != 0)
        return error;
    *ret_options = (struct collect_options){
        .store = owner->options.store,
        .device_name = device_name(device),
        .own = *own,
        .intent = intent,
        .catalog = device_catalog(device),
        .checkpoint = device_checkpoint_catalog(device),
        .keep = limits.keep,
        .grace_ns = limits.grace_ns,
    };
    return 0;
}

uint64_t owner_collect_in_ns(struct owner *owner)
{
    uint64_t now_ns = owner_now_ns(), due_ns;

    mutex_lock(&owner->lock);
    due_ns = owner->collect_ns;
    mutex_unlock(&owner->lock);
    if (due_ns == UINT64_MAX)
        return due_ns;
    return due_ns > now_ns ? due_ns - now_ns : 0;
}

bool owner_should_collect(struct owner *owner)
{
    return owner_collect_in_ns(owner) == 0;
}

/*
 * After a start only what earlier runs condemned can be of interest: with one
 * LIST, by our own clock, find out when it may go.
 */
static int look_for_condemned(struct owner *owner, uint64_t *ret_due_ns)
{
    struct condemned_lists lists = {.count = 0};
    uint64_t grace_ns = owner_limits(owner).grace_ns;
    uint64_t due_ns = UINT64_MAX;
    int error = condemned_lists_read(
        owner->options.store, device_name(owner->options.device), &lists);

    for (size_t i = 0; error == 0 && i < lists.count; i++) {
        const struct condemned_list *list = &lists.items[i];
        uint64_t list_ns = list->has_end ? list->ended_ns + grace_ns : 0;

        due_ns = list_ns < due_ns ? list_ns : due_ns;
    }
    condemned_lists_done(&lists);
    if (error == 0)
        *ret_due_ns = due_ns;
    return error;
}

static void set_collect_time(struct owner *owner, uint64_t due_ns)
{
    mutex_lock(&owner->lock);
    owner->collect_ns = due_ns;
    owner->has_looked = true;
    condition_signal(&owner->wake);
    mutex_unlock(&owner->lock);
}

/* What waits may be deleted after the grace time that holds now. */
static void set_collect_time_by_grace(struct owner *owner)
{
    mutex_lock(&owner->lock);
    owner->collect_ns = owner_now_ns() + owner->limits.grace_ns;
    owner->has_looked = true;
    mutex_unlock(&owner->lock);
}

static int collect(struct owner *owner, struct collect_counts *ret_counts)
{
    struct collect_options options;
    struct epoch_record own;
    int error = owner_collect_options(owner, &own, &options);

    if (error != 0)
        return error;
    error = collect_run(&options, ret_counts);
    if (error != 0)
        return error;
    if (ret_counts->is_waiting && !ret_counts->has_more)
        set_collect_time_by_grace(owner);
    else
        set_collect_time(owner, ret_counts->has_more ? 0 : UINT64_MAX);
    if (ret_counts->deleted > 0)
        log_info("%s: %" PRIu64 " objects that nothing needs were deleted",
                 options.device_name, ret_counts->deleted);
    return 0;
}

static bool has_looked(struct owner *owner)
{
    bool has_looked;

    mutex_lock(&owner->lock);
    has_looked = owner->has_looked;
    mutex_unlock(&owner->lock);
    return has_looked;
}

int owner_collect(struct owner *owner, struct collect_counts *ret_counts)
{
    int error = 0;

    memset(ret_counts, 0, sizeof(*ret_counts));
    if (!has_looked(owner)) {
        uint64_t due_ns;

        error = look_for_condemned(owner, &due_ns);
        if (error == 0)
            set_collect_time(owner, due_ns);
        if (error != 0 || due_ns > owner_now_ns())
            return error;
    }
    error = owner_claim(owner);
    return error != 0 ? error : collect(owner, ret_counts);
}

/* ---- rollback ------------------------------------------------------------ */

/* Nobody may be attached, and nothing be lost that is nowhere else. */
static int check_rollback(struct owner *owner, bool discard)
{
    const struct owner_options *options = &owner->options;

    if (options->connections != NULL &&
        options->connections(options->context) > 0)
        return -EBUSY;
    return !discard && owner_is_dirty(owner) ? -ENOTEMPTY : 0;
}

/* Keep the present state by a name that tells where it is from. */
static int keep_present(struct owner *owner)
{
    struct epoch_record content;
    char name[SNAPSHOT_NAME_MAX + 1];
    int error = claim_content(owner->claim, &content);

    if (error == -ENOENT || (error == 0 && content.root.size == 0))
        return 0;
    if (error != 0)
        return error;
    (void)snprintf(name, sizeof(name), "before-rollback-%" PRIu64,
                   content.epoch);
    return snapshot_create(owner->options.store,
                           device_name(owner->options.device), name, &content);
}

static int roll_back(struct owner *owner, const struct snapshot *snapshot,
                     bool discard)
{
    struct device *device = owner->options.device;
    struct claim_image image = {
        .root = snapshot->record.root,
        .content_time_ns = snapshot->record.content_time_ns,
        .chunks = snapshot->record.chunks,
        .replaces_content = true,
    };
    uint64_t epoch, nonce;
    int error = owner_claim(owner);

    if (error == 0 && !discard)
        error = keep_present(owner);
    if (error == 0) {
        (void)end_leases(owner);
        error = device_drop_checkpoint(device);
    }
    if (error == 0)
        error = claim_next(owner->claim, &epoch, &nonce);
    if (error == 0)
        error = claim_publish(owner->claim, &image);
    /* From here on a start does it, should we not live to. */
    return error != 0 ? error : device_adopt_published(device);
}

int owner_rollback(struct owner *owner, const char *name, bool discard,
                   uint64_t *ret_epoch)
{
    struct device *device = owner->options.device;
    struct epoch_record content;
    struct snapshot snapshot;
    int error = snapshot_find(owner->options.store, device_name(device), name,
                              &snapshot);

    if (error != 0)
        return error;
    device_shut(device, true);
    error = check_rollback(owner, discard);
    if (error == 0)
        error = roll_back(owner, &snapshot, discard);
    if (error == 0)
        error = claim_content(owner->claim, &content);
    if (error == 0)
        *ret_epoch = content.epoch;
    device_shut(device, false);
    return error;
}
