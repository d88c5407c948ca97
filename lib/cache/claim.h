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
 * Threads: any; calls that ask the store take turns.  Locks: its own, a leaf,
 * not held in calls of the store, the state log or the callbacks.
 */
#ifndef CACHE_CLAIM_H
#define CACHE_CLAIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* ---- what to do at a start (pure) ---------------------------------------- */

/* What the user wants: the first is what every ordinary start says. */
enum claim_mode {
    CLAIM_NORMAL,
    CLAIM_TAKEOVER, /* the device is ours from now on, whoever had it */
    CLAIM_DISCARD,  /* what is not in the newest image may be lost */
};

/* What is here. */
struct claim_local {
    bool is_empty; /* the cache directory has nothing of the device */
    bool is_dirty; /* something here is in no image */
    bool has_epoch;
    struct epoch_record epoch; /* whose content was published here last */
    uint8_t cachedir_id[UUID_SIZE];
};

enum claim_action {
    CLAIM_CREATE,       /* a new device; its number goes on after a tombstone */
    CLAIM_GO_ON,        /* the newest epoch is ours, or what we have already */
    CLAIM_LOAD,         /* make the catalog equal to the newest image */
    CLAIM_TAKE,         /* the same, with a snapshot of it, and claim */
    CLAIM_TAKE_OWN,     /* a conflict: ours goes on; a snapshot of the other */
    CLAIM_SERVE,        /* no answer: serve what is here, ask again */
    CLAIM_SERVE_LOST,   /* the bucket has only older epochs than ours: so too */
    CLAIM_WAIT,         /* no answer, and nothing here */
    CLAIM_REFUSE_HELD,  /* another writes it */
    CLAIM_REFUSE_COPY,  /* we wrote it, but this is an old copy of the disk */
    CLAIM_REFUSE_DIRTY, /* it went on elsewhere, and what is here is in no
                           image: fork or discard */
    CLAIM_REFUSE_DROPPED,  /* the device was dropped */
    CLAIM_REFUSE_CONFLICT, /* two hosts wrote it, and nobody said who goes on */
};

/*
 * Decide what a start does.  newest: what the bucket has; NULL: it gave no
 * answer.  *ret_which: which of the newest records the action means.
 */
enum claim_action claim_decide(enum claim_mode mode,
                               const struct claim_local *local,
                               const struct epoch_newest *newest,
                               size_t *ret_which);

/* ---- the protocol -------------------------------------------------------- */

/* What the claim needs; the pointers must outlive it. */
struct claim_options {
    const char *device_name;
    struct object_store *store;
    struct put_probe *probe; /* of the store */
    struct state_log *state_log;
    const struct superblock *superblock; /* ids, size, chunk size */
    /*
     * Make durable that the record is the newest (STATE_EPOCH_DECIDED), and
     * for an IMAGE that the open checkpoint is published.  Called in the
     * turn of the call that decided it.
     */
    int (*decided)(void *context, const struct epoch_record *record,
                   const uint8_t data[EPOCH_RECORD_SIZE]);
    /* The state is another one now; called in order, without a lock. */
    void (*changed)(void *context, enum claim_state state);
    void *context;
    /* For tests: between a put and its reading back; NULL: really wait. */
    int (*wait)(void *context, uint64_t ns);
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
 * Tell the newest record that another made, when that is why we are fenced or
 * were refused.  -ENOENT: none is known.
 */
int claim_holder(struct claim *claim, struct epoch_record *ret_record);

/* Epoch and nonce for the ids of new objects; -EPERM unless CLAIMED. */
int claim_id(struct claim *claim, uint64_t *ret_epoch, uint64_t *ret_nonce);

/*
 * Decide an epoch that was begun and not decided, ask for the newest, and tell
 * what to do (logged, if it is a refusal); *ret_record is the record that
 * it means, for LOAD, TAKE, TAKE_OWN and the refusals.  GO_ON changes the state
 * to OURS or RELEASED; others leave it to claim_loaded.  -EIO and others: the
 * state log failed.
 */
int claim_attach(struct claim *claim, enum claim_mode mode, bool is_dirty,
                 enum claim_action *ret_action,
                 struct epoch_record *ret_record);

/*
 * The catalog is equal to the image of this record now, and that is durable:
 * remember that, and be OURS, RELEASED, or FENCED if another holds it.
 */
int claim_loaded(struct claim *claim, const struct epoch_record *record);

/*
 * The device is ours from here on, though record is another's: create a claim
 * with its content.  Called after claim_loaded.
 */
int claim_takeover(struct claim *claim, const struct epoch_record *record);

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
};

/*
 * Publish: create the epoch that claim_next told, as durable intent first; then
 * options->decided makes durable that it is the newest, which for an image is
 * all that there is to do after it (destage_published).  -ESTALE: lost, and
 * fenced; -EPERM: not CLAIMED.  After other errors it may be published, now or
 * later: every later call decides it first.
 */
int claim_publish(struct claim *claim, const struct claim_image *image);

/*
 * Everything is published: say so in the bucket, so that another host may
 * claim without being told to.  Nothing to do when RELEASED.
 */
int claim_release(struct claim *claim);

/*
 * Ask whether there is a newer epoch than ours, with one LIST; after a start
 * without an answer, ask what claim_attach would have.  Once a minute.
 * -ESTALE: fenced.  is_dirty: something here is in no image.
 */
int claim_watch(struct claim *claim, bool is_dirty);

#endif
