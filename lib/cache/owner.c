/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/owner.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/workers.h"
#include "cache/destage.h"
#include "cache/device_rest.h"
#include "cache/fetch.h"
#include "cache/owner_parts.h"
#include "cache/scrub.h"

static const uint64_t SECOND_NS = 1000000000;
/* While a write waits for us. */
static const uint64_t LOOK_PARKED_NS = 100000000;
/* While the device rests: who stirs it wakes us.  But others may fill the disk,
 * or have changed the claim. */
static const uint64_t LOOK_RESTING_NS = UINT64_C(10) * 1000000000;
static const uint64_t WATCH_EVERY_NS = UINT64_C(60) * 1000000000;
/* Without an answer, or after an error of the store. */
static const uint64_t RETRY_AFTER_NS = UINT64_C(10) * 1000000000;

uint64_t owner_now_ns(void)
{
    return clock_realtime_ns();
}

/* ---- turns ---------------------------------------------------------------
 */

int owner_take_turn(struct owner *owner)
{
    int error;

    mutex_lock(&owner->lock);
    while (owner->is_busy && !owner->is_interrupted)
        condition_wait(&owner->changed, &owner->lock);
    error = owner->is_interrupted ? -ECANCELED : 0;
    if (error == 0)
        owner->is_busy = true;
    mutex_unlock(&owner->lock);
    return error;
}

void owner_end_turn(struct owner *owner)
{
    mutex_lock(&owner->lock);
    owner->is_busy = false;
    condition_broadcast(&owner->changed);
    mutex_unlock(&owner->lock);
}

bool owner_is_interrupted(void *owner)
{
    struct owner *of = owner;
    bool is_interrupted;

    mutex_lock(&of->lock);
    is_interrupted = of->is_interrupted;
    mutex_unlock(&of->lock);
    return is_interrupted;
}

int owner_wait(void *owner, uint64_t ns)
{
    struct owner *of = owner;
    uint64_t deadline_ns = clock_monotonic_ns() + ns;
    bool is_interrupted;

    mutex_lock(&of->lock);
    while (!of->is_interrupted &&
           condition_wait_until(&of->changed, &of->lock, deadline_ns))
        ;
    is_interrupted = of->is_interrupted;
    mutex_unlock(&of->lock);
    return is_interrupted ? -ECANCELED : 0;
}

void owner_set_held(struct owner *owner, const char *what, int error)
{
    mutex_lock(&owner->lock);
    if (what == NULL)
        owner->held[0] = '\0';
    else
        (void)snprintf(owner->held, sizeof(owner->held), "%s: %s", what,
                       log_errno(error));
    mutex_unlock(&owner->lock);
}

struct owner_limits owner_limits(struct owner *owner)
{
    struct owner_limits limits;

    mutex_lock(&owner->lock);
    limits = owner->limits;
    mutex_unlock(&owner->lock);
    return limits;
}

uint64_t owner_upload_rate(struct owner *owner, enum lease_purpose purpose,
                           unsigned parallel)
{
    uint64_t rate = upload_share_rate(owner->options.share, &owner->sharer);
    uint64_t own = owner_limits(owner).upload_rate;

    if (purpose == LEASE_CHECKPOINT && own > 0 && (rate == 0 || own < rate))
        rate = own;
    return (rate + parallel - 1) / parallel;
}

/* ---- claim ---------------------------------------------------------------
 */

/* Let the leases have the claim, or know that there is none. */
static void tell_leases(struct owner *owner)
{
    uint64_t epoch, nonce;
    bool is_new;

    if (claim_id(owner->claim, &epoch, &nonce) != 0)
        epoch = nonce = 0;
    mutex_lock(&owner->lock);
    is_new = epoch != owner->claim_epoch;
    owner->claim_epoch = epoch;
    mutex_unlock(&owner->lock);
    if (is_new)
        leases_set_claim(owner->leases, epoch, nonce);
}

int owner_claim(struct owner *owner)
{
    int error = claim_take(owner->claim);

    tell_leases(owner);
    if (error != 0)
        owner_set_held(owner, "the device cannot be claimed", error);
    return error;
}

static bool has_parked(struct owner *owner)
{
    struct device_status status;

    device_status(owner->options.device, &status);
    return status.parked > 0;
}

/* Returns whether a write waits. */
static bool look_at_claim(struct owner *owner, uint64_t now_ns,
                          uint64_t *watch_ns)
{
    enum claim_state state = claim_state(owner->claim);
    bool is_waited_for;

    if (now_ns >= *watch_ns) {
        int error = claim_watch(owner->claim, owner_is_dirty(owner));

        /* A store that does not answer may have taken long to say so. */
        *watch_ns =
            clock_monotonic_ns() +
            (error == 0 || error == -ESTALE ? WATCH_EVERY_NS : RETRY_AFTER_NS);
        tell_leases(owner);
    }
    is_waited_for = has_parked(owner);
    if (is_waited_for && state == CLAIM_RELEASED)
        (void)owner_claim(owner);
    return is_waited_for;
}

/* ---- the thread ---------------------------------------------------------- */

/* device_watch. */
static void stirred(void *context)
{
    struct owner *owner = context;

    mutex_lock(&owner->lock);
    owner->stirs++;
    if (owner->heeds_stirs)
        condition_signal(&owner->wake);
    if (owner->room_heeds_stirs)
        condition_signal(&owner->room);
    mutex_unlock(&owner->lock);
}

/*
 * Wait to be woken, or until next_ns.  Unless somebody waits for us already,
 * and so is being looked after: also until the device is stirred, which it may
 * have been since so many stirs were counted.
 */
static void wait_locked(struct owner *owner, struct condition *condition,
                        bool *heeds_stirs, uint64_t stirs, bool is_waited_for,
                        uint64_t next_ns) REQUIRES(owner->lock)
{
    if (!is_waited_for && owner->stirs != stirs)
        return;
    *heeds_stirs = !is_waited_for;
    (void)condition_wait_until(condition, &owner->lock, next_ns);
    *heeds_stirs = false;
}

/* Returns how long not to look, if nothing happens. */
static uint64_t pause_ns(struct owner *owner, bool is_waited_for, bool may_rest)
{
    if (is_waited_for)
        return LOOK_PARKED_NS;
    if (may_rest && device_is_resting(owner->options.device))
        return LOOK_RESTING_NS;
    return SECOND_NS;
}

/* The same for the first thread, which also has an hour for what it does. */
static uint64_t claim_pause_ns(struct owner *owner, bool is_waited_for,
                               bool may_rest, uint64_t watch_ns)
{
    uint64_t pause = pause_ns(owner, is_waited_for, may_rest);
    uint64_t now_ns = clock_monotonic_ns();
    uint64_t collect_ns = owner_collect_in_ns(owner);

    if (watch_ns < now_ns + pause)
        pause = watch_ns > now_ns ? watch_ns - now_ns : 0;
    /* What is due already waits for the claim. */
    return collect_ns > 0 && collect_ns < pause ? collect_ns : pause;
}

static bool has_found_checkpoint(struct owner *owner)
{
    struct state_facts facts;
    bool has_leases;

    state_log_facts(device_state_log(owner->options.device), &facts);
    mutex_lock(&owner->lock);
    has_leases = owner->has_leases;
    mutex_unlock(&owner->lock);
    return facts.phase == CHECKPOINT_OPEN && !has_leases;
}

/* A checkpoint that was found open, or opened by destage after a start. */
static void look_at_checkpoint(struct owner *owner)
{
    bool joined;

    if (owner_take_turn(owner) != 0)
        return;
    /* Still: else it would be a new one, which nobody asked for. */
    if (claim_state(owner->claim) != CLAIM_FENCED &&
        has_found_checkpoint(owner))
        (void)owner_open_checkpoint(owner, &joined);
    owner_end_turn(owner);
}

static bool must_adopt(struct owner *owner)
{
    struct state_facts facts;

    state_log_facts(device_state_log(owner->options.device), &facts);
    return facts.must_adopt;
}

/*
 * A rollback whose answer was lost, and that turns out to be decided, or whose
 * image could not be read.  Returns whether it went well.
 */
static bool finish_rollback(struct owner *owner)
{
    int error = owner_take_turn(owner);

    if (error != 0)
        return true;
    if (must_adopt(owner))
        error = device_adopt_published(owner->options.device);
    owner_end_turn(owner);
    return error == 0;
}

/* Returns whether it went well. */
static bool publish(struct owner *owner)
{
    bool is_new;
    int error = owner_take_turn(owner);

    if (error != 0)
        return true;
    error = owner_publish(owner, &is_new);
    owner_end_turn(owner);
    /* Not complete after all, or somebody else was faster. */
    return error == 0 || error == -EAGAIN || error == -ENOENT;
}

static bool collect(struct owner *owner)
{
    struct collect_counts counts;
    int error = owner_take_turn(owner);

    if (error != 0)
        return true;
    if (owner_should_collect(owner)) /* somebody may just have done it */
        error = owner_collect(owner, &counts);
    owner_end_turn(owner);
    return error == 0;
}

/* Nothing is asked of the bucket for a device that nobody writes. */
static bool may_collect(struct owner *owner)
{
    return claim_state(owner->claim) == CLAIM_CLAIMED;
}

static void *owner_main(void *context)
{
    struct owner *owner = context;
    uint64_t watch_ns = clock_monotonic_ns() + WATCH_EVERY_NS;
    uint64_t retry_ns = 0;

    if (claim_state(owner->claim) == CLAIM_UNKNOWN)
        watch_ns = 0;
    mutex_lock(&owner->lock);
    while (!owner->is_stopping) {
        uint64_t now_ns = clock_monotonic_ns();
        bool is_time = now_ns >= retry_ns;
        bool must_publish = owner->must_publish;
        bool is_well = true, is_waited_for;
        uint64_t stirs = owner->stirs;
        uint64_t next_ns;

        mutex_unlock(&owner->lock);
        is_waited_for = look_at_claim(owner, now_ns, &watch_ns);
        if (is_time && must_adopt(owner))
            is_well = finish_rollback(owner);
        if (has_found_checkpoint(owner))
            look_at_checkpoint(owner);
        if (is_well && is_time && must_publish)
            is_well = publish(owner);
        if (is_well && is_time && owner_should_collect(owner) &&
            may_collect(owner))
            is_well = collect(owner);
        if (!is_well)
            retry_ns = clock_monotonic_ns() + RETRY_AFTER_NS;
        next_ns =
            clock_monotonic_ns() +
            claim_pause_ns(owner, is_waited_for, is_well && is_time, watch_ns);
        mutex_lock(&owner->lock);
        if (!owner->is_stopping && !(owner->must_publish && !must_publish))
            wait_locked(owner, &owner->wake, &owner->heeds_stirs, stirs,
                        is_waited_for, next_ns);
    }
    mutex_unlock(&owner->lock);
    return NULL;
}

static void *room_main(void *context)
{
    struct owner *owner = context;

    mutex_lock(&owner->lock);
    while (!owner->is_stopping) {
        uint64_t stirs = owner->stirs;
        bool was_waited_for, is_waited_for, has_more;
        uint64_t next_ns;

        mutex_unlock(&owner->lock);
        was_waited_for = has_parked(owner);
        has_more = owner_make_room(owner);
        is_waited_for = was_waited_for || has_parked(owner);
        next_ns = clock_monotonic_ns() + pause_ns(owner, is_waited_for, true);
        mutex_lock(&owner->lock);
        if (!owner->is_stopping && !has_more)
            wait_locked(owner, &owner->room, &owner->room_heeds_stirs, stirs,
                        is_waited_for, next_ns);
    }
    mutex_unlock(&owner->lock);
    return NULL;
}

/* ---- callbacks of the leases --------------------------------------------- */

static int uploaded(void *context, struct uploaded *list[], size_t count)
{
    struct owner *owner = context;

    return device_uploaded(owner->options.device, list, count);
}

static void pressure(void *context, struct lease_pressure *ret_pressure)
{
    struct owner *owner = context;
    struct device_status status;

    device_status(owner->options.device, &status);
    ret_pressure->writes_wait = status.parked > 0;
    ret_pressure->reads_wait = status.cold_reads > 0;
}

static void complete(void *context)
{
    struct owner *owner = context;

    mutex_lock(&owner->lock);
    owner->must_publish = true;
    condition_signal(&owner->wake);
    mutex_unlock(&owner->lock);
}

/* ---- start and stop ------------------------------------------------------ */

static int make_leases(struct owner *owner)
{
    struct device *device = owner->options.device;
    struct lease_options options = {
        .device_name = device_name(device),
        .chunk_size = device_chunk_size(device),
        .catalog = device_catalog(device),
        .checkpoint = device_checkpoint_catalog(device),
        .state_log = device_state_log(device),
        .chunk_dir = device_chunk_dir(device),
        .use = device_use(device),
        .parallel = owner->options.limits.uploads,
        .uploaded = uploaded,
        .pressure = pressure,
        .complete = complete,
        .context = owner,
    };

    return leases_new(&options, &owner->leases);
}

static void free_parts(struct owner *owner)
{
    workers_stop(owner->uploaders);
    upload_share_leave(owner->options.share, &owner->sharer);
    scrub_free(owner->scrub);
    leases_free(owner->leases);
    condition_done(&owner->changed);
    condition_done(&owner->room);
    condition_done(&owner->wake);
    mutex_done(&owner->lock);
    free(owner);
}

static void end_thread(struct owner *owner)
{
    device_watch(owner->options.device, NULL, NULL);
    mutex_lock(&owner->lock);
    owner->is_stopping = true;
    condition_signal(&owner->wake);
    condition_signal(&owner->room);
    mutex_unlock(&owner->lock);
    (void)pthread_join(owner->thread, NULL);
}

int owner_start(const struct owner_options *options, struct owner **ret_owner)
{
    struct owner *owner = calloc(1, sizeof(*owner));
    int error;

    if (owner == NULL)
        return -ENOMEM;
    owner->options = *options;
    owner->limits = options->limits;
    owner->claim = device_claim(options->device);
    mutex_init(&owner->lock);
    condition_init(&owner->wake);
    condition_init(&owner->room);
    condition_init(&owner->changed);
    upload_share_join(owner->options.share, &owner->sharer);
    device_watch(options->device, stirred, owner);
    error = make_leases(owner);
    if (error == 0)
        error = -pthread_create(&owner->thread, NULL, owner_main, owner);
    if (error != 0) {
        device_watch(options->device, NULL, NULL);
        free_parts(owner);
        return error;
    }
    (void)pthread_setname_np(owner->thread, "owner");
    error = -pthread_create(&owner->room_thread, NULL, room_main, owner);
    if (error != 0) {
        end_thread(owner);
        free_parts(owner);
        return error;
    }
    (void)pthread_setname_np(owner->room_thread, "room");
    *ret_owner = owner;
    return 0;
}

void owner_set_limits(struct owner *owner, const struct owner_limits *limits)
{
    bool is_shorter;

    device_set_cachesize(owner->options.device, limits->cachesize);
    leases_set_parallel(owner->leases, limits->uploads);
    mutex_lock(&owner->lock);
    is_shorter = limits->grace_ns < owner->limits.grace_ns;
    owner->limits = *limits;
    /* What was to wait longer may be deleted by now. */
    if (is_shorter && owner->collect_ns != UINT64_MAX)
        owner->collect_ns = 0;
    condition_signal(&owner->wake);
    condition_signal(&owner->room);
    mutex_unlock(&owner->lock);
}

void owner_interrupt(struct owner *owner)
{
    mutex_lock(&owner->lock);
    owner->is_interrupted = true;
    condition_broadcast(&owner->changed);
    condition_signal(&owner->wake);
    mutex_unlock(&owner->lock);
    leases_set_claim(owner->leases, 0, 0);
}

int owner_release(struct owner *owner)
{
    enum claim_state state = claim_state(owner->claim);

    if ((state != CLAIM_CLAIMED && state != CLAIM_OURS) ||
        owner_is_dirty(owner))
        return 0;
    return claim_release(owner->claim);
}

void owner_stop(struct owner *owner)
{
    if (owner == NULL)
        return;
    owner_interrupt(owner);
    claim_stop(owner->claim); /* nobody asks it for anything any more */
    end_thread(owner);
    (void)pthread_join(owner->room_thread, NULL);
    free_parts(owner);
}

/* ---- requests ------------------------------------------------------------ */

int owner_handle(void *owner, const struct control_message *request,
                 uint64_t holder, struct control_message *reply)
{
    owner_command *command = owner_find_command(control_message_verb(request));

    if (command == NULL) {
        control_message_start_error(reply, -EOPNOTSUPP, "%s: not known here",
                                    control_message_verb(request));
        return 0;
    }
    return command(owner, request, holder, reply);
}

void owner_holder_gone(void *owner, uint64_t holder)
{
    struct owner *of = owner;

    lease_holder_gone(of->leases, holder);
}
