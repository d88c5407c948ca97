/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/owner_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cache/cache_dir.h"
#include "cache/device_tell.h"
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

static void tell_device(struct owner *owner, const struct device_status *status,
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
    control_message_add_number(reply, "room_begin_percent", OWNER_FULL_PERCENT);
    control_message_add_number(reply, "room_end_percent", OWNER_ROOM_PERCENT);
    control_message_add_number(reply, "chunks", status->chunks_mapped);
    device_tell_chunks(options->device, reply);
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
    control_message_add_number(reply, "max_age_ns", limits.max_age_ns);
    control_message_add_number(reply, "parked", status->parked);
    control_message_add_number(reply, "cold_reads", status->cold_reads);
    control_message_add_number(reply, "user_written", status->user_written);
    control_message_add_number(reply, "cache_written", status->cache_written);
    control_message_add_number(reply, "damaged", status->damaged_reads);
}

/* Who uploads, as rows of numbers. */
static void tell_syncs(struct owner *owner, struct control_message *reply)
{
    char text[LEASE_HOLDERS_MAX * 5 * 21 + 1] = "";
    struct lease_holders holders;
    size_t len = 0;

    lease_get_holders(owner->leases, &holders);
    for (size_t i = 0; i < holders.count; i++) {
        const struct lease_holder *holder = &holders.list[i];
        int added = snprintf(text + len, sizeof(text) - len,
                             "%s%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%" PRIu64
                             ":%" PRIu64,
                             i > 0 ? "," : "", holder->holder, holder->since_ns,
                             holder->leased, holder->chunks, holder->bytes);

        if (added > 0)
            len += (size_t)added;
    }
    control_message_add(reply, "syncs", text);
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
        control_message_add_number(reply, "checkpoint_failing", counts.failing);
    }
    if (counts.last_error)
        control_message_add(reply, "upload_error",
                            log_errno(counts.last_error));
    control_message_add_number(reply, "leases", counts.leased);
    tell_syncs(owner, reply);
    control_message_add_number(reply, "uploaded_chunks", counts.uploaded);
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

void owner_describe(struct owner *owner, struct control_message *ret_status)
{
    struct device *device = owner->options.device;
    enum claim_state claim = claim_state(owner->claim);
    struct epoch_record content = {.epoch = 0}, other;
    struct device_status status;
    bool has_content = claim_content(owner->claim, &content) == 0;

    device_status(device, &status);
    control_message_start(ret_status, "ok");
    control_message_add(ret_status, "device", device_name(device));
    control_message_add(
        ret_status, "state",
        state_name(owner, &status, claim, content.root.size > 0));
    control_message_add(ret_status, "claim", claim_state_name(claim));
    if (claim == CLAIM_FENCED && claim_holder(owner->claim, &other) == 0) {
        control_message_add_number(ret_status, "claim_epoch", other.epoch);
        control_message_add(ret_status, "claim_host", other.host);
    } else if (has_content) {
        control_message_add_number(ret_status, "claim_epoch", content.epoch);
        control_message_add(ret_status, "claim_host", content.host);
    }
    if (has_content)
        control_message_add_number(ret_status, "conditional_put",
                                   !content.key_has_nonce);
    if (content.root.size > 0) {
        control_message_add_number(ret_status, "image_epoch",
                                   content.image_epoch);
        control_message_add_number(ret_status, "image_time_ns",
                                   content.content_time_ns);
    }
    tell_device(owner, &status, ret_status);
    tell_bucket(owner, ret_status);
    if (owner->options.tell_clients)
        owner->options.tell_clients(owner->options.context, ret_status);
}

int owner_tell_status(struct owner *owner,
                      const struct control_message *request, uint64_t holder,
                      struct control_message *reply)
{
    (void)request;
    (void)holder;
    owner_describe(owner, reply);
    tell_store(owner->options.store, reply);
    return 0;
}
