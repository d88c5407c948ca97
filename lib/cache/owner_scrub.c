/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/owner_parts.h"

#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "cache/scrub.h"

enum { PERCENT = 100 };

/* ---- what a scrub asks of its owner -------------------------------------- */

static int content(void *context, struct epoch_record *ret_record)
{
    struct owner *owner = context;

    return claim_content(owner->claim, ret_record);
}

static int begin(void *context)
{
    return owner_take_turn(context);
}

static void end(void *context)
{
    owner_end_turn(context);
}

static int be_claimed(void *context)
{
    return owner_claim(context);
}

/* ---- the command --------------------------------------------------------- */

/* Have the scrub, one at a time.  -EBUSY: there is another. */
static int take_scrub(struct owner *owner)
{
    const struct scrub_options options = {
        .device = owner->options.device,
        .store = owner->options.store,
        .content = content,
        .begin = begin,
        .end = end,
        .claim = be_claimed,
        .wait = owner_wait,
        .context = owner,
    };
    int error;

    mutex_lock(&owner->lock);
    error = owner->is_scrubbing ? -EBUSY : 0;
    owner->is_scrubbing = true;
    mutex_unlock(&owner->lock);
    if (error == 0 && owner->scrub == NULL)
        error = scrub_new(&options, &owner->scrub);
    return error;
}

static void give_scrub(struct owner *owner)
{
    mutex_lock(&owner->lock);
    owner->is_scrubbing = false;
    mutex_unlock(&owner->lock);
}

/* What was condemned now is to be deleted by then. */
static void collect_within(struct owner *owner, uint64_t ns)
{
    uint64_t due_ns = owner_now_ns() + ns;

    mutex_lock(&owner->lock);
    if (owner->collect_ns > due_ns)
        owner->collect_ns = due_ns;
    mutex_unlock(&owner->lock);
}

/*
 * All of the device was read: a good time to look for what was uploaded and
 * came into no image, and tell how many objects that are.  Only an owner that
 * writes may delete; one that is asked for those of others becomes it.  An
 * error is none of the scrub's: then nothing is told, and the next one looks
 * again.
 */
static void collect_strays(struct owner *owner, bool others,
                           struct control_message *reply)
{
    struct collect_options options = {.device_name =
                                          device_name(owner->options.device)};
    struct collect_counts counts = {.condemned = 0};
    struct epoch_record own;
    uint64_t nonce;
    int error = 0;

    if ((claim_state(owner->claim) != CLAIM_CLAIMED && !others) ||
        owner_take_turn(owner) != 0)
        return;
    if (others)
        error = owner_claim(owner);
    if (error == 0)
        error = owner_collect_options(owner, &own, &options);
    if (error == 0)
        error = claim_id(owner->claim, &options.claim_epoch, &nonce);
    if (error == 0) {
        options.scan = true;
        options.others = others;
        options.counter = lease_first_counter(owner->leases);
        error = collect_run(&options, &counts);
    }
    if (counts.is_waiting)
        collect_within(owner, options.grace_ns);
    owner_end_turn(owner);
    if (error == 0)
        control_message_add_number(reply, "condemned", counts.condemned);
    if (error != 0)
        log_warning("%s: what no image names cannot be looked for: %s",
                    options.device_name, log_errno(error));
    else if (counts.condemned > 0)
        log_info("%s: %" PRIu64 " objects that no image names will be deleted",
                 options.device_name, counts.condemned);
}

static void tell(struct scrub_result *result, struct control_message *reply)
{
    control_message_start(reply, "ok");
    control_message_add_number(reply, "done", result->is_done);
    control_message_add_number(reply, "position", result->position);
    control_message_add_number(reply, "chunks", result->chunks);
    control_message_add_number(reply, "objects", result->objects);
    control_message_add_number(reply, "blocks", result->blocks);
    control_message_add_number(reply, "bytes", result->bytes);
    control_message_add_number(reply, "bad", result->bad);
    control_message_add_number(reply, "repaired", result->repaired);
    if (result->text != NULL)
        control_message_set_payload(reply, result->text, result->text_size);
}

int owner_do_scrub(struct owner *owner, const struct control_message *request,
                   uint64_t holder, struct control_message *reply)
{
    struct scrub_request what = {
        .restart = control_message_has(request, "restart"),
        .is_local = control_message_has(request, "local"),
    };
    struct scrub_result result;
    uint64_t sample = PERCENT;
    int error =
        control_message_get_number(request, "sample", 1, PERCENT, &sample);

    (void)holder;
    if (error == 0 || error == -ENOENT)
        error = control_message_get_number(request, "rate", 1, UINT64_MAX,
                                           &what.rate);
    if (error != 0 && error != -ENOENT) {
        control_message_start_error(reply, -EINVAL, "%s",
                                    "scrub: sample or rate are wrong");
        return 0;
    }
    what.sample = (unsigned)sample;
    error = take_scrub(owner);
    if (error == -EBUSY) {
        control_message_start_error(reply, error, "%s",
                                    "another scrub of it is under way");
        return 0;
    }
    if (error == 0)
        error = scrub_step(owner->scrub, &what, &result);
    if (error == 0)
        tell(&result, reply);
    if (error == 0 && result.is_done && !what.is_local)
        collect_strays(owner, control_message_has(request, "others"), reply);
    give_scrub(owner);
    return error;
}
