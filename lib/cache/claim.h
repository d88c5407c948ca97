/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * claim - who writes the device now: attach, claim, publish, release, fenced.
 *
 * What is durable of it is in the state log: the newest epoch whose content
 * the catalog has published (STATE_EPOCH_DECIDED), and the record of an epoch
 * that is about to be created (STATE_EPOCH_INTENT).  An intent that is found
 * at a start is decided, with the same record, before anything else is.
 *
 *   UNKNOWN   the store has not answered since the start: serve what is here,
 *             upload nothing
 *   OURS      the newest epoch is ours: claim before the first upload
 *   CLAIMED   this process claimed: upload and publish
 *   RELEASED  nobody writes the device, and the newest image is here: claim
 *             before the first write is acknowledged
 *   FENCED    another's epoch is newer, or another created the same: writes
 *             and flushes fail, nothing is evicted or deleted
 *
 * After a rollback was decided (claim_image.replaces_content), and until its
 * content is here, claim_take, claim_publish, claim_release and claim_watch
 * return -EINPROGRESS: what is here is not what the newest epoch says.
 *
 * Threads: any; calls that ask the store take turns.  Locks: its own, a leaf,
 * not held in calls of the store, the state log or the callbacks.
 */
#ifndef CACHE_CLAIM_H
#define CACHE_CLAIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/claim_decide.h"
#include "cache/epoch.h"

struct claim;
struct object_store;
struct put_probe;
struct state_log;

enum claim_state {
    CLAIM_UNKNOWN,
    CLAIM_OURS,
    CLAIM_CLAIMED,
    CLAIM_RELEASED,
    CLAIM_FENCED,
};

/* What the claim needs; the pointers must outlive it. */
struct claim_options {
    const char *device_name;
    struct object_store *store;
    struct put_probe *probe; /* of the store */
    struct state_log *state_log;
    const struct superblock *superblock; /* ids, size, chunk size */
    /*
     * Make durable that the record, an IMAGE, is the newest epoch and that
     * the open checkpoint is published: device_published.  Called in the turn
     * of whatever call decided it.  -ENOENT: there is no checkpoint.
     */
    int (*published)(void *context, const uint8_t record[EPOCH_RECORD_SIZE]);
    /* Whether something here is in no image. */
    bool (*is_dirty)(void *context);
    /*
     * The state, or what claim_may_write says, is another one now; at first
     * UNKNOWN and yes.  Called in order, in a turn, without a lock.
     */
    void (*changed)(void *context);
    void *context;
    /* Between a put and its reading back, where conditions are not obeyed; 0:
     * choose. */
    uint64_t read_back_ns;
};

/* Begin in state UNKNOWN, with what the state log has. */
int claim_new(const struct claim_options *options, struct claim **ret_claim);

/* Wake who waits, with -ECANCELED; and free, when no call is under way. */
void claim_stop(struct claim *claim);
void claim_free(struct claim *claim);

enum claim_state claim_state(struct claim *claim);

/* Returns the word for a state, as status and messages use it. */
const char *claim_state_name(enum claim_state state);

/*
 * Tell the newest record that is ours, or whose content we have; for its
 * image and root.  -ENOENT: there is none yet.
 */
int claim_content(struct claim *claim, struct epoch_record *ret_record);

/*
 * Tell the newest record that another made, because of which we are fenced,
 * were refused, or took the device over; of a conflict, the one that is not
 * meant.  -ENOENT: none is known.
 */
int claim_holder(struct claim *claim, struct epoch_record *ret_record);

/*
 * Whether writes may be acknowledged: the device is ours, or was when the
 * store answered last, and no release and no rollback is being decided.
 */
bool claim_may_write(struct claim *claim);

/* Epoch and nonce for the ids of new objects; -EPERM unless CLAIMED. */
int claim_id(struct claim *claim, uint64_t *ret_epoch, uint64_t *ret_nonce);

/*
 * Decide an epoch that was begun and not decided, ask for the newest, and tell
 * what to do (logged, if it is a refusal); *ret_record is the record that
 * it means, for LOAD, TAKE, TAKE_OWN and the refusals.  CREATE, GO_ON and
 * TAKE_OWN change the state; after LOAD and TAKE claim_loaded does.
 */
int claim_attach(struct claim *claim, enum claim_mode mode, bool is_dirty,
                 enum claim_action *ret_action,
                 struct epoch_record *ret_record);

/*
 * The same question for an empty cache directory, before anything is made in
 * it: CREATE, LOAD, TAKE or a refusal (logged).
 */
enum claim_action claim_ask_for_new(struct object_store *store,
                                    const char *device_name,
                                    enum claim_mode mode,
                                    struct epoch_record *ret_record);

/*
 * The catalog is equal to the image of this record now, and that is durable:
 * remember that, and be OURS, RELEASED, or FENCED if another holds it.
 */
int claim_loaded(struct claim *claim, const struct epoch_record *record);

/* It is refused, and opened all the same: be FENCED. */
int claim_stand_aside(struct claim *claim);

/*
 * The device is ours from here on: create a claim with the content that is
 * here, after claim_loaded for TAKE.  -ESTALE: it went on once more.
 */
int claim_takeover(struct claim *claim);

/*
 * Be CLAIMED: before the first upload, and the first write after a release.
 * Asks the store only if this process has not claimed yet.  -ESTALE: fenced;
 * other errors: the store does not answer, try again later.
 */
int claim_take(struct claim *claim);

/*
 * Choose epoch and nonce of the next image: its manifest's pages are written
 * under them before claim_publish.  The same are told until then.  -EPERM
 * unless CLAIMED.
 */
int claim_next(struct claim *claim, uint64_t *ret_epoch, uint64_t *ret_nonce);

/* What a new image is. */
struct claim_image {
    struct root_ref root;
    uint64_t content_time_ns;
    uint64_t chunks;
    /*
     * An older content: together with the decision it becomes durable that
     * the catalog must be made equal to it (STATE_ADOPT), which is left to
     * the caller, or the next start.  No checkpoint is published by it.
     */
    bool replaces_content;
};

/*
 * Publish: create the epoch that claim_next told, as durable intent first; then
 * options->published makes durable that it is, so there is nothing left to do
 * for the caller.  Also 0 if an earlier attempt with the same content_time_ns
 * turns out to be published.  -ESTALE: lost, and fenced; -EPERM: not CLAIMED.
 * After other errors it may be published, now or later: every later call
 * decides it first.
 */
int claim_publish(struct claim *claim, const struct claim_image *image);

/*
 * Say in the bucket that everything is published, so that another host may
 * claim without being told to.  During the call nothing may be written; after
 * it neither, unless it fails before the store may have heard of it: -EBUSY,
 * something is in no image yet; or when the store does not answer.  Nothing to
 * do when RELEASED.
 */
int claim_release(struct claim *claim);

/*
 * Ask whether there is a newer epoch than ours, with one LIST; after a start
 * without an answer, ask what claim_attach would have.  Once a minute.
 * -ESTALE: fenced.  is_dirty: something here is in no image.
 */
int claim_watch(struct claim *claim, bool is_dirty);

#endif
