/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An epoch is created in these steps; the power may go between any two:
 *
 *   1 intent    the whole record, durable here
 *   2 create    in the store, with that record and no other, until the store
 *               has said whether it is there
 *   3 beyond    a list shows nothing newer, and no other of the same number
 *   4 decided   durable here: it is the newest, and the intent is gone; or
 *               void, if another's is newer
 *
 * Whoever finds an intent goes on at 2.  What was created and is not the
 * newest is void here, though somebody may have gone on from it: then more is
 * dirty here than need be, and nothing is lost.
 */
#include "cache/claim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "cache/claim_refusal.h"
#include "cache/put_probe.h"
#include "cache/state_log.h"
#include "object_store.h"

struct claim {
    struct claim_options options;
    struct mutex mutex;
    struct condition changed; /* is_busy or is_stopping did */
    bool is_busy GUARDED_BY(mutex);
    bool is_stopping GUARDED_BY(mutex);

    /* Written only in a turn and under the mutex; read under either. */
    enum claim_state state;
    bool has_content, has_holder, has_intent, is_releasing;
    struct epoch_record content; /* what the catalog has published */
    struct epoch_record holder;
    struct epoch_record intent;
    enum claim_state told_state;
    bool told_may;
    uint64_t highest;    /* epoch that was seen in the bucket */
    uint64_t id_epoch;   /* CLAIMED: of the claim */
    uint64_t id_nonce;   /* CLAIMED */
    uint64_t next_nonce; /* of the next image; 0: not chosen */
};

/* ---- turns --------------------------------------------------------------- */

static int begin_turn(struct claim *claim)
{
    int error;

    mutex_lock(&claim->mutex);
    while (claim->is_busy && !claim->is_stopping)
        condition_wait(&claim->changed, &claim->mutex);
    error = claim->is_stopping ? -ECANCELED : 0;
    if (error == 0)
        claim->is_busy = true;
    mutex_unlock(&claim->mutex);
    return error;
}

static bool may_write_locked(const struct claim *claim)
{
    if (claim->is_releasing)
        return false;
    /* Decided, either would go over what was written meanwhile. */
    if (claim->has_intent &&
        (claim->intent.kind == EPOCH_RELEASE || claim->intent.is_rollback))
        return false;
    if (claim->state == CLAIM_UNKNOWN)
        return !claim->has_content || epoch_is_held(&claim->content);
    return claim->state == CLAIM_OURS || claim->state == CLAIM_CLAIMED;
}

/* Tell what is another now, in a turn. */
static void tell_changes(struct claim *claim)
{
    enum claim_state state;
    bool is_new, may;

    mutex_lock(&claim->mutex);
    state = claim->state;
    may = may_write_locked(claim);
    is_new = state != claim->told_state || may != claim->told_may;
    claim->told_state = state;
    claim->told_may = may;
    mutex_unlock(&claim->mutex);
    if (is_new)
        claim->options.changed(claim->options.context);
}

static void set_state(struct claim *claim, enum claim_state state)
{
    mutex_lock(&claim->mutex);
    claim->state = state;
    mutex_unlock(&claim->mutex);
    tell_changes(claim);
}

static int end_turn(struct claim *claim, int error)
{
    tell_changes(claim);
    mutex_lock(&claim->mutex);
    claim->is_busy = false;
    condition_broadcast(&claim->changed);
    mutex_unlock(&claim->mutex);
    return error;
}

/* ---- what is durable ----------------------------------------------------- */

static int commit_record(struct claim *claim, enum state_change_kind kind,
                         const struct epoch_record *record)
{
    struct state_change change = {.kind = kind};

    if (record != NULL)
        epoch_encode(record, change.record);
    return state_log_commit(claim->options.state_log, &change, 1);
}

static void set_intent(struct claim *claim, const struct epoch_record *intent)
{
    mutex_lock(&claim->mutex);
    claim->has_intent = intent != NULL;
    if (intent != NULL)
        claim->intent = *intent;
    mutex_unlock(&claim->mutex);
}

static void set_content(struct claim *claim, const struct epoch_record *record)
{
    mutex_lock(&claim->mutex);
    claim->has_content = true;
    claim->content = *record;
    if (claim->highest < record->epoch)
        claim->highest = record->epoch;
    claim->next_nonce = 0;
    mutex_unlock(&claim->mutex);
}

static int commit_rollback(struct claim *claim,
                           const struct epoch_record *record)
{
    struct state_change changes[2] = {
        {.kind = STATE_EPOCH_DECIDED},
        {.kind = STATE_ADOPT},
    };

    epoch_encode(record, changes[0].record);
    epoch_encode(record, changes[1].record);
    return state_log_commit(claim->options.state_log, changes, 2);
}

/* The newest is an image of the open checkpoint, or of one that was dropped. */
static int commit_image(struct claim *claim, const struct epoch_record *record)
{
    uint8_t data[EPOCH_RECORD_SIZE];
    int error;

    epoch_encode(record, data);
    error = claim->options.published(claim->options.context, data);
    return error == -ENOENT ? commit_record(claim, STATE_EPOCH_DECIDED, record)
                            : error;
}

/* Step 4: it is the newest. */
static int record_decided(struct claim *claim,
                          const struct epoch_record *record)
{
    int error;

    if (record->is_rollback)
        error = commit_rollback(claim, record);
    else if (record->kind == EPOCH_IMAGE)
        error = commit_image(claim, record);
    else
        error = commit_record(claim, STATE_EPOCH_DECIDED, record);
    if (error < 0)
        return error;
    set_content(claim, record);
    set_intent(claim, NULL);
    return 0;
}

/* Step 4: it is not, or never will be there. */
static int record_void(struct claim *claim)
{
    int error = commit_record(claim, STATE_EPOCH_VOID, NULL);

    if (error == 0)
        set_intent(claim, NULL);
    return error;
}

static int wait_to_read_back(void *context, uint64_t ns)
{
    struct claim *claim = context;
    uint64_t deadline_ns = clock_monotonic_ns() + ns;
    bool is_stopping;

    mutex_lock(&claim->mutex);
    while (!claim->is_stopping &&
           condition_wait_until(&claim->changed, &claim->mutex, deadline_ns))
        ;
    is_stopping = claim->is_stopping;
    mutex_unlock(&claim->mutex);
    return is_stopping ? -ECANCELED : 0;
}

/*
 * Steps 2 to 4 for an intent, if there is one.  -ESTALE: another's is newer;
 * -ENOTUNIQ: a conflict; other errors: not decided.
 */
static int settle(struct claim *claim)
{
    struct claim_options *options = &claim->options;
    struct epoch_pace pace = {wait_to_read_back, claim, EPOCH_READ_BACK_NS};
    enum epoch_outcome outcome;
    int error;

    if (!claim->has_intent)
        return 0;
    if (options->read_back_ns != 0)
        pace.ns = options->read_back_ns;
    error = epoch_create(options->store, options->device_name, &claim->intent,
                         &pace, &outcome);
    if (error == -EOPNOTSUPP) {
        /* The store has changed its mind, and has not got this one. */
        put_probe_doubt(options->probe);
        return record_void(claim) == 0 ? -EAGAIN : -EIO;
    }
    if (error != 0)
        return error;
    if (outcome == EPOCH_LOST) {
        error = record_void(claim);
        return error != 0 ? error : -ESTALE;
    }
    if (outcome == EPOCH_CONFLICT)
        put_probe_doubt(options->probe);
    error = record_decided(claim, &claim->intent);
    return error == 0 && outcome == EPOCH_CONFLICT ? -ENOTUNIQ : error;
}

/* All steps. */
static int create(struct claim *claim, const struct epoch_record *record)
{
    int error = commit_record(claim, STATE_EPOCH_INTENT, record);

    if (error != 0)
        return error;
    set_intent(claim, record);
    return settle(claim);
}

static int make_nonce(uint64_t *ret_nonce)
{
    uint8_t id[UUID_SIZE];
    int error;

    do {
        error = uuid_make(id);
        memcpy(ret_nonce, id, sizeof(*ret_nonce));
    } while (error == 0 && *ret_nonce == 0);
    return error;
}

/* The next epoch's record, with the content that is here. */
static int make_record(struct claim *claim, enum epoch_kind kind,
                       struct epoch_record *ret_record)
{
    const struct superblock *superblock = claim->options.superblock;
    struct epoch_record record = {.kind = kind};
    bool was_disobedient = claim->has_content && claim->content.key_has_nonce;
    bool is_obeyed;
    int error =
        put_probe_ask(claim->options.probe, claim->options.store,
                      claim->options.device_name, was_disobedient, &is_obeyed);

    if (claim->has_content)
        record = claim->content;
    if (error == 0)
        error = make_nonce(&record.nonce);
    if (error != 0)
        return error;
    record.kind = kind;
    record.is_rollback = false;
    record.epoch = claim->highest + 1;
    record.key_has_nonce = !is_obeyed;
    record.time_ns = clock_realtime_ns();
    record.size = superblock->size;
    record.chunk_size = superblock->chunk_size;
    memcpy(record.device_id, superblock->device_id, UUID_SIZE);
    memcpy(record.cachedir_id, superblock->cachedir_id, UUID_SIZE);
    epoch_host(record.host);
    *ret_record = record;
    return 0;
}

/* ---- lost ---------------------------------------------------------------- */

static bool is_by_us(const struct claim *claim,
                     const struct epoch_record *record)
{
    return memcmp(record->cachedir_id, claim->options.superblock->cachedir_id,
                  UUID_SIZE) == 0;
}

static void set_holder(struct claim *claim, const struct epoch_record *record)
{
    mutex_lock(&claim->mutex);
    claim->has_holder = true;
    claim->holder = *record;
    mutex_unlock(&claim->mutex);
}

/* Another's epoch is newer than ours, or of the same number. */
static int fence(struct claim *claim)
{
    const struct claim_options *options = &claim->options;
    struct epoch_newest newest = {.count = 0};

    /* Only to say who: an error (logged) changes nothing. */
    (void)epoch_read_newest(options->store, options->device_name, 0, &newest);
    if (newest.count > 0) {
        size_t which = newest.count > 1 && is_by_us(claim, &newest.records[0]);
        const struct epoch_record *record = &newest.records[which];

        set_holder(claim, record);
        log_error("%s: fenced: host %s %s epoch %" PRIu64 ".  Nothing is"
                  " written any more; what no image has stays here, for"
                  " s3blkdev-sync fork or discard",
                  options->device_name, claim_refusal_host(record),
                  newest.count > 1 ? "created, too," : "went on with",
                  record->epoch);
    } else {
        log_error("%s: fenced: another host went on with the device",
                  options->device_name);
    }
    set_state(claim, CLAIM_FENCED);
    return -ESTALE;
}

/* What an attempt to create came to, while the device is served. */
static int fence_if_lost(struct claim *claim, int error)
{
    return error == -ESTALE || error == -ENOTUNIQ ? fence(claim) : error;
}

/* ---- attach -------------------------------------------------------------- */

/* The newest epoch is the one whose content is here. */
static void go_on(struct claim *claim)
{
    set_state(claim, !claim->has_content || epoch_is_held(&claim->content)
                         ? CLAIM_OURS
                         : CLAIM_RELEASED);
}

/*
 * Find out what to do, in a turn.  Returns 0, or the error because of which
 * the action is CLAIM_SERVE.
 */
static int resolve(struct claim *claim, enum claim_mode mode, bool is_dirty,
                   enum claim_action *ret_action,
                   struct epoch_record *ret_record)
{
    const struct claim_options *options = &claim->options;
    struct claim_local local = {
        .is_dirty = is_dirty,
        .has_epoch = false,
    };
    struct epoch_newest newest = {.count = 0};
    size_t which;
    int error = settle(claim);

    /* If it was lost, the list says to whom. */
    if (error == 0 || error == -ESTALE || error == -ENOTUNIQ)
        error =
            epoch_read_newest(options->store, options->device_name, 0, &newest);
    local.has_epoch = claim->has_content;
    local.epoch = claim->content;
    memcpy(local.cachedir_id, options->superblock->cachedir_id, UUID_SIZE);
    *ret_action =
        claim_decide(mode, &local, error == 0 ? &newest : NULL, &which);
    if (newest.count > 0) {
        *ret_record = newest.records[which];
        mutex_lock(&claim->mutex);
        if (claim->highest < ret_record->epoch)
            claim->highest = ret_record->epoch;
        mutex_unlock(&claim->mutex);
    }
    if (*ret_action == CLAIM_GO_ON || *ret_action == CLAIM_CREATE ||
        *ret_action == CLAIM_TAKE_OWN)
        go_on(claim);
    if (newest.count > 1)
        set_holder(claim, &newest.records[1 - which]);
    else if (newest.count == 1 && *ret_action != CLAIM_GO_ON)
        set_holder(claim, ret_record);
    return error;
}

int claim_attach(struct claim *claim, enum claim_mode mode, bool is_dirty,
                 enum claim_action *ret_action, struct epoch_record *ret_record)
{
    struct epoch_record record = {.epoch = 0};
    enum claim_action action;
    int error = begin_turn(claim);

    if (error != 0)
        return error;
    (void)resolve(claim, mode, is_dirty, &action, &record);
    claim_refusal_log(claim->options.device_name, action, &record);
    *ret_action = action;
    *ret_record = record;
    return end_turn(claim, 0);
}

enum claim_action claim_ask_for_new(struct object_store *store,
                                    const char *device_name,
                                    enum claim_mode mode,
                                    struct epoch_record *ret_record)
{
    struct claim_local local = {.is_empty = true};
    struct epoch_newest newest = {.count = 0};
    struct epoch_record record = {.epoch = 0};
    enum claim_action action;
    size_t which;
    int error = epoch_read_newest(store, device_name, 0, &newest);

    action = claim_decide(mode, &local, error == 0 ? &newest : NULL, &which);
    if (newest.count > 0)
        record = newest.records[which];
    claim_refusal_log(device_name, action, &record);
    *ret_record = record;
    return action;
}

int claim_loaded(struct claim *claim, const struct epoch_record *record)
{
    bool was_known;
    int error = begin_turn(claim);

    if (error != 0)
        return error;
    was_known = claim->has_content && epoch_is_same(&claim->content, record);
    if (!was_known)
        error = commit_record(claim, STATE_EPOCH_DECIDED, record);
    if (error != 0)
        return end_turn(claim, error);
    set_content(claim, record);
    if (!epoch_is_held(record))
        set_state(claim, CLAIM_RELEASED);
    else if (was_known && is_by_us(claim, record))
        set_state(claim, CLAIM_OURS);
    else
        set_state(claim, CLAIM_FENCED);
    return end_turn(claim, 0);
}

int claim_stand_aside(struct claim *claim)
{
    int error = begin_turn(claim);

    if (error != 0)
        return error;
    set_state(claim, CLAIM_FENCED);
    return end_turn(claim, 0);
}

/* Ask what claim_attach could not; writes may have been served meanwhile. */
static int resolve_late(struct claim *claim, bool is_dirty)
{
    struct epoch_record record = {.epoch = 0};
    enum claim_action action;
    int error = resolve(claim, CLAIM_NORMAL, is_dirty, &action, &record);

    switch (action) {
    case CLAIM_CREATE:
    case CLAIM_GO_ON:
        return 0;
    case CLAIM_SERVE:
    case CLAIM_WAIT:
        return error != 0 ? error : -EAGAIN;
    case CLAIM_SERVE_LOST:
        return -EAGAIN;
    case CLAIM_LOAD:
    case CLAIM_TAKE:
    case CLAIM_TAKE_OWN:
    case CLAIM_REFUSE_HELD:
    case CLAIM_REFUSE_COPY:
    case CLAIM_REFUSE_DIRTY:
    case CLAIM_REFUSE_DROPPED:
    case CLAIM_REFUSE_CONFLICT:
        break;
    }
    return fence(claim);
}

/* ---- the calls of an owner ----------------------------------------------- */

/* Whether an older content was decided that is not here yet. */
static bool must_adopt(struct claim *claim)
{
    struct state_facts facts;

    state_log_facts(claim->options.state_log, &facts);
    return facts.must_adopt;
}

/* Begin: nothing is undecided, and it is known whose the device is. */
static int begin_owned(struct claim *claim, bool is_dirty)
{
    int error = begin_turn(claim);

    if (error != 0)
        return error;
    if (claim->state == CLAIM_FENCED)
        error = -ESTALE;
    else if (claim->state == CLAIM_UNKNOWN)
        error = resolve_late(claim, is_dirty);
    else
        error = fence_if_lost(claim, settle(claim));
    if (error == 0 && must_adopt(claim))
        error = -EINPROGRESS;
    /* A release that was undecided until now. */
    if (error == 0 && claim->has_content &&
        claim->content.kind == EPOCH_RELEASE)
        set_state(claim, CLAIM_RELEASED);
    return error != 0 ? end_turn(claim, error) : 0;
}

static int create_claim(struct claim *claim)
{
    struct epoch_record record;
    int error = make_record(claim, EPOCH_CLAIM, &record);

    if (error == 0)
        error = create(claim, &record);
    if (error != 0)
        return fence_if_lost(claim, error);
    mutex_lock(&claim->mutex);
    claim->id_epoch = record.epoch;
    claim->id_nonce = record.nonce;
    mutex_unlock(&claim->mutex);
    set_state(claim, CLAIM_CLAIMED);
    log_info("%s: claimed, epoch %" PRIu64, claim->options.device_name,
             record.epoch);
    return 0;
}

int claim_takeover(struct claim *claim)
{
    int error = begin_turn(claim);

    if (error != 0)
        return error;
    error = settle(claim);
    if (error == 0 || error == -ENOTUNIQ)
        error = create_claim(claim);
    return end_turn(claim, error);
}

int claim_take(struct claim *claim)
{
    int error = begin_owned(claim, true);

    if (error != 0)
        return error;
    if (claim->state != CLAIM_CLAIMED)
        error = create_claim(claim);
    return end_turn(claim, error);
}

int claim_next(struct claim *claim, uint64_t *ret_epoch, uint64_t *ret_nonce)
{
    uint64_t nonce;
    int error = make_nonce(&nonce);

    if (error != 0)
        return error;
    mutex_lock(&claim->mutex);
    if (claim->state != CLAIM_CLAIMED) {
        error = -EPERM;
    } else {
        if (claim->next_nonce == 0)
            claim->next_nonce = nonce;
        *ret_nonce = claim->next_nonce;
        *ret_epoch = claim->highest + 1;
    }
    mutex_unlock(&claim->mutex);
    return error;
}

static int create_image(struct claim *claim, const struct claim_image *image)
{
    struct epoch_record record;
    int error = make_record(claim, EPOCH_IMAGE, &record);

    if (error != 0)
        return error;
    if (claim->next_nonce != 0)
        record.nonce = claim->next_nonce;
    record.image_epoch = record.epoch;
    record.image_nonce = record.nonce;
    record.root = image->root;
    record.content_time_ns = image->content_time_ns;
    record.chunks = image->chunks;
    record.is_rollback = image->replaces_content;
    return fence_if_lost(claim, create(claim, &record));
}

int claim_publish(struct claim *claim, const struct claim_image *image)
{
    bool had_intent, is_done;
    int error;

    mutex_lock(&claim->mutex);
    had_intent = claim->has_intent && claim->intent.kind == EPOCH_IMAGE;
    mutex_unlock(&claim->mutex);
    error = begin_owned(claim, true);
    if (error != 0)
        return error;
    is_done = had_intent && claim->content.kind == EPOCH_IMAGE &&
              claim->content.content_time_ns == image->content_time_ns;
    if (claim->state != CLAIM_CLAIMED)
        error = -EPERM;
    else if (!is_done)
        error = create_image(claim, image);
    return end_turn(claim, error);
}

/* Let writes wait, or no longer. */
static void set_releasing(struct claim *claim, bool is_releasing)
{
    mutex_lock(&claim->mutex);
    claim->is_releasing = is_releasing;
    mutex_unlock(&claim->mutex);
    tell_changes(claim);
}

/* Ask with one LIST.  Returns whether another has created something. */
static int look_for_others(struct claim *claim, bool *ret_is_lost)
{
    const struct claim_options *options = &claim->options;
    struct epoch_newest newest;
    int error = epoch_read_newest(options->store, options->device_name,
                                  claim->highest, &newest);

    if (error == 0)
        *ret_is_lost = newest.count > 1 ||
                       (newest.count == 1 &&
                        !epoch_is_same(&newest.records[0], &claim->content));
    return error;
}

/*
 * Whether the store answers, and nobody else has the device.  An intent that
 * cannot be decided would keep writes waiting, also after a restart; so there
 * is none before that is known.
 */
static int check_before_release(struct claim *claim)
{
    bool is_lost = false;
    int error = look_for_others(claim, &is_lost);

    return error == 0 && is_lost ? fence(claim) : error;
}

static int create_release(struct claim *claim)
{
    struct epoch_record record;
    int error = make_record(claim, EPOCH_RELEASE, &record);

    if (error == 0)
        error = fence_if_lost(claim, create(claim, &record));
    if (error != 0)
        return error;
    set_state(claim, CLAIM_RELEASED);
    log_info("%s: released, epoch %" PRIu64, claim->options.device_name,
             record.epoch);
    return 0;
}

int claim_release(struct claim *claim)
{
    int error = begin_owned(claim, false);

    if (error != 0)
        return error;
    if (claim->state == CLAIM_RELEASED)
        return end_turn(claim, 0);
    set_releasing(claim, true);
    error = claim->options.is_dirty(claim->options.context)
                ? -EBUSY
                : check_before_release(claim);
    if (error == 0)
        error = create_release(claim);
    /* An intent that is left keeps writes waiting by itself. */
    set_releasing(claim, false);
    return end_turn(claim, error);
}

int claim_watch(struct claim *claim, bool is_dirty)
{
    bool is_lost = false;
    int error = begin_owned(claim, is_dirty);

    if (error != 0)
        return error;
    if (claim->has_content)
        error = look_for_others(claim, &is_lost);
    else
        error = resolve_late(claim, is_dirty);
    if (error == 0 && is_lost)
        error = fence(claim);
    return end_turn(claim, error);
}

/* ---- what is known ------------------------------------------------------- */

enum claim_state claim_state(struct claim *claim)
{
    enum claim_state state;

    mutex_lock(&claim->mutex);
    state = claim->state;
    mutex_unlock(&claim->mutex);
    return state;
}

const char *claim_state_name(enum claim_state state)
{
    switch (state) {
    case CLAIM_UNKNOWN:
        break;
    case CLAIM_OURS:
        return "ours";
    case CLAIM_CLAIMED:
        return "claimed";
    case CLAIM_RELEASED:
        return "released";
    case CLAIM_FENCED:
        return "fenced";
    }
    return "unknown";
}

bool claim_may_write(struct claim *claim)
{
    bool may;

    mutex_lock(&claim->mutex);
    may = may_write_locked(claim);
    mutex_unlock(&claim->mutex);
    return may;
}

static int tell(struct claim *claim, const bool *has,
                const struct epoch_record *from, struct epoch_record *to)
{
    int error = -ENOENT;

    mutex_lock(&claim->mutex);
    if (*has) {
        *to = *from;
        error = 0;
    }
    mutex_unlock(&claim->mutex);
    return error;
}

int claim_content(struct claim *claim, struct epoch_record *ret_record)
{
    return tell(claim, &claim->has_content, &claim->content, ret_record);
}

int claim_holder(struct claim *claim, struct epoch_record *ret_record)
{
    return tell(claim, &claim->has_holder, &claim->holder, ret_record);
}

int claim_id(struct claim *claim, uint64_t *ret_epoch, uint64_t *ret_nonce)
{
    int error = 0;

    mutex_lock(&claim->mutex);
    if (claim->state != CLAIM_CLAIMED) {
        error = -EPERM;
    } else {
        *ret_epoch = claim->id_epoch;
        *ret_nonce = claim->id_nonce;
    }
    mutex_unlock(&claim->mutex);
    return error;
}

/* ---- begin and end ------------------------------------------------------- */

static int read_fact(const struct claim_options *options, bool is_there,
                     const uint8_t data[EPOCH_RECORD_SIZE],
                     struct epoch_record *ret_record)
{
    int error = is_there ? epoch_decode(data, ret_record) : 0;

    if (error == 0)
        return 0;
    log_error("%s: the state log has a record of an epoch that %s",
              options->device_name,
              error == -EPROTONOSUPPORT
                  ? "a later version of this program wrote"
                  : "makes no sense");
    return error == -EPROTONOSUPPORT ? error : -EUCLEAN;
}

int claim_new(const struct claim_options *options, struct claim **ret_claim)
{
    struct claim *claim = calloc(1, sizeof(*claim));
    struct state_facts facts;
    int error;

    if (claim == NULL)
        return -ENOMEM;
    claim->options = *options;
    state_log_facts(options->state_log, &facts);
    claim->has_content = facts.has_epoch;
    claim->has_intent = facts.has_intent;
    error = read_fact(options, facts.has_epoch, facts.epoch, &claim->content);
    if (error == 0)
        error =
            read_fact(options, facts.has_intent, facts.intent, &claim->intent);
    if (error != 0) {
        free(claim);
        return error;
    }
    claim->highest = claim->content.epoch;
    claim->told_may = true; /* as nothing was told */
    mutex_init(&claim->mutex);
    condition_init(&claim->changed);
    *ret_claim = claim;
    return 0;
}

void claim_stop(struct claim *claim)
{
    mutex_lock(&claim->mutex);
    claim->is_stopping = true;
    condition_broadcast(&claim->changed);
    mutex_unlock(&claim->mutex);
}

void claim_free(struct claim *claim)
{
    if (claim == NULL)
        return;
    condition_done(&claim->changed);
    mutex_done(&claim->mutex);
    free(claim);
}
