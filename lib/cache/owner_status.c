/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/owner_parts.h"

#include <string.h>

#include "cache/cache_dir.h"
#include "cache/fetch.h"
#include "cache/geometry.h"
#include "object_store.h"

static const char *state_name(const struct owner *owner,
                              const struct device_status *status,
                              enum claim_state claim, bool has_image)
{
    if (status->failed)
        return "failed";
    if (claim == CLAIM_FENCED)
        return "fenced";
    if (device_is_read_only(owner->options.device))
        return "read-only";
    return has_image ? "serving" : "new";
}

static const char *phase_name(enum checkpoint_phase phase)
{
    switch (phase) {
    case CHECKPOINT_NONE:
        return "none";
    case CHECKPOINT_FOLDING:
        return "folding";
    case CHECKPOINT_OPEN:
        break;
    }
    return "open";
}

static void tell_device(struct owner *owner,
                        const struct device_status *status,
                        struct control_message *reply)
{
    const struct owner_options *options = &owner->options;
    struct owner_limits limits = owner_limits(owner);
    struct file_space space;
    uint64_t age_ns = 0;

    control_message_add_number(reply, "size", device_size(options->device));
    control_message_add_number(reply, "chunk_size",
                               device_chunk_size(options->device));
    control_message_add_number(reply, "writethrough",
                               !device_has_volatile_cache(options->device));
    if (options->connections != NULL)
        control_message_add_number(reply, "connections",
                                   options->connections(options->context));
    control_message_add_number(reply, "journal_used", status->journal_used);
    control_message_add_number(reply, "journal_size", status->journal_size);
    control_message_add_number(reply, "cache_used", status->cache_used);
    control_message_add_number(reply, "cache_limit", limits.cachesize);
    if (cache_dir_space(device_cache_dir(options->device), &space) == 0) {
        control_message_add_number(reply, "disk_total", space.total);
        control_message_add_number(reply, "disk_available", space.available);
    }
    control_message_add_number(reply, "chunks", status->chunks_mapped);
    control_message_add_number(reply, "dirty_chunks", status->dirty_chunks);
    control_message_add_number(reply, "dirty_bytes", status->dirty_bytes);
    if (status->unpublished_since_ns != 0) {
        uint64_t now_ns = owner_now_ns();

        if (now_ns > status->unpublished_since_ns)
            age_ns = now_ns - status->unpublished_since_ns;
        control_message_add_number(reply, "oldest_unpublished_ns",
                                   status->unpublished_since_ns);
    }
    control_message_add_number(
        reply, "behind", limits.max_age_ns != 0 && age_ns > limits.max_age_ns);
    control_message_add_number(reply, "parked", status->parked);
    control_message_add_number(reply, "damaged", status->damaged_reads);
}

static void tell_bucket(struct owner *owner, struct control_message *reply)
{
    struct state_facts facts;
    struct lease_counts counts;
    struct fetch_counts fetched;
    uint64_t chunks;

    state_log_facts(device_state_log(owner->options.device), &facts);
    lease_count(owner->leases, 0, 100, &counts);
    fetch_get_counts(device_fetch(owner->options.device), &fetched);
    mutex_lock(&owner->lock);
    chunks = owner->chunks;
    if (owner->held[0] != '\0')
        control_message_add(reply, "held", owner->held);
    mutex_unlock(&owner->lock);
    control_message_add(reply, "checkpoint", phase_name(facts.phase));
    if (facts.phase != CHECKPOINT_NONE) {
        control_message_add_number(reply, "checkpoint_time_ns",
                                   facts.checkpoint_time_ns);
        control_message_add_number(reply, "checkpoint_chunks", chunks);
        control_message_add_number(reply, "checkpoint_left",
                                   counts.waiting + counts.leased);
        control_message_add_number(reply, "checkpoint_bytes",
                                   counts.pages * CACHE_PAGE);
    }
    control_message_add_number(reply, "leases", counts.leased);
    control_message_add_number(reply, "uploaded", counts.bytes);
    control_message_add_number(reply, "evicted", atomic_load(&owner->evicted));
    control_message_add_number(reply, "fetched", fetched.bytes);
    control_message_add_number(reply, "requests", fetched.requests);
    control_message_add_number(reply, "alarms", fetched.alarms);
}

static void tell_store(struct object_store *store,
                       struct control_message *reply)
{
    char *text = store->describe(store);

    if (text != NULL)
        control_message_set_payload(reply, text, strlen(text));
}

int owner_tell_status(struct owner *owner,
                      const struct control_message *request, uint64_t holder,
                      struct control_message *reply)
{
    struct device *device = owner->options.device;
    enum claim_state claim = claim_state(owner->claim);
    struct epoch_record content = {.epoch = 0}, other;
    struct device_status status;
    bool has_content = claim_content(owner->claim, &content) == 0;

    (void)request;
    (void)holder;
    device_status(device, &status);
    control_message_start(reply, "ok");
    control_message_add(reply, "device", device_name(device));
    control_message_add(
        reply, "state",
        state_name(owner, &status, claim, content.root.size > 0));
    control_message_add(reply, "claim", claim_state_name(claim));
    if (claim == CLAIM_FENCED && claim_holder(owner->claim, &other) == 0) {
        control_message_add_number(reply, "claim_epoch", other.epoch);
        control_message_add(reply, "claim_host", other.host);
    } else if (has_content) {
        control_message_add_number(reply, "claim_epoch", content.epoch);
        control_message_add(reply, "claim_host", content.host);
    }
    if (has_content)
        control_message_add_number(reply, "conditional_put",
                                   !content.key_has_nonce);
    if (content.root.size > 0) {
        control_message_add_number(reply, "image_epoch", content.image_epoch);
        control_message_add_number(reply, "image_time_ns",
                                   content.content_time_ns);
    }
    tell_device(owner, &status, reply);
    tell_bucket(owner, reply);
    tell_store(owner->options.store, reply);
    return 0;
}
