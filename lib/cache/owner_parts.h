/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * owner_parts - what an owner consists of.
 *
 * For owner.c, owner_space.c, owner_history.c, owner_commands.c,
 * owner_scrub.c and owner_status.c only; others see owner.h.
 */
#ifndef CACHE_OWNER_PARTS_H
#define CACHE_OWNER_PARTS_H

#include <stdatomic.h>

#include "base/mutex.h"
#include "cache/claim.h"
#include "cache/collect.h"
#include "cache/device.h"
#include "cache/lease.h"
#include "cache/owner.h"
#include "cache/state_log.h"
#include "cache/upload_share.h"

struct scrub;
struct workers;

struct owner {
    struct owner_options options; /* but for limits, which see below */
    struct claim *claim;          /* the device's */
    struct leases *leases;
    struct workers *uploaders; /* of owner_space.c, in its thread */
    unsigned uploaders_count;
    struct upload_sharer sharer;
    struct scrub *scrub; /* of who is_scrubbing; NULL: none so far */
    pthread_t thread;
    pthread_t room_thread;

    struct mutex lock;
    struct condition wake;    /* the thread has something to do */
    struct condition room;    /* the other one: it has to end */
    struct condition changed; /* for who waits: the turn, or a checkpoint */
    bool is_stopping GUARDED_BY(lock);
    uint64_t stirs GUARDED_BY(lock);        /* of the device, so far */
    bool heeds_stirs GUARDED_BY(lock);      /* the thread waits, and is woken */
    bool room_heeds_stirs GUARDED_BY(lock); /* by one; the other one, too */
    bool is_interrupted GUARDED_BY(lock);
    bool is_busy GUARDED_BY(lock);         /* somebody has the turn */
    bool is_scrubbing GUARDED_BY(lock);    /* somebody does a step of it */
    bool must_publish GUARDED_BY(lock);    /* all of the checkpoint is there */
    bool has_leases GUARDED_BY(lock);      /* they know the open checkpoint */
    uint64_t chunks GUARDED_BY(lock);      /* of the open checkpoint */
    uint64_t collect_ns GUARDED_BY(lock);  /* when to collect; MAX: not */
    bool has_looked GUARDED_BY(lock);      /* for what was condemned earlier */
    uint64_t claim_epoch GUARDED_BY(lock); /* that the leases have */
    struct owner_limits limits GUARDED_BY(lock);
    char held[160] GUARDED_BY(lock); /* why nothing goes up; "": it does */

    _Atomic uint64_t evicted;  /* bytes */
    _Atomic uint64_t uploaded; /* bytes, by the owner itself */
};

/* Returns the time since 1970. */
uint64_t owner_now_ns(void);

/* Returns the limits that hold now. */
struct owner_limits owner_limits(struct owner *owner);

/*
 * Take the turn to change the device's history in the bucket, or its
 * checkpoint, and give it back.  -ECANCELED: the owner is being stopped.
 */
int owner_take_turn(struct owner *owner);
void owner_end_turn(struct owner *owner);

/*
 * Be the one who writes the device: the claim is made, if it has not been
 * yet, and leases carry it.  Errors as claim_take.
 */
int owner_claim(struct owner *owner);

/* Say what keeps the device from the bucket; NULL: nothing. */
void owner_set_held(struct owner *owner, const char *what, int error);

/*
 * Returns whether the owner is being stopped; and wait so long, unless it is:
 * -ECANCELED.  With these types they serve as callbacks of what takes long.
 */
bool owner_is_interrupted(void *owner);
int owner_wait(void *owner, uint64_t ns);

/*
 * Returns the bytes a second that one of so many uploads may use; 0: any.
 * Who makes room has no limit of its own: writes wait for it.
 */
uint64_t owner_upload_rate(struct owner *owner, enum lease_purpose purpose,
                           unsigned parallel);

/* ---- owner_history.c: with the turn ------------------------------------- */

/*
 * Have a checkpoint open, and the leases know it: the one there is
 * (*ret_joined) or a new one, if there is anything to publish.  -ENODATA:
 * there is not.
 */
int owner_open_checkpoint(struct owner *owner, bool *ret_joined);

/* publish_checkpoint, and what follows from it. */
int owner_publish(struct owner *owner, bool *ret_is_new);

/* There may be garbage from now on. */
void owner_collect_soon(struct owner *owner);

/* Whether there may be anything to condemn or delete now. */
bool owner_should_collect(struct owner *owner);

/* In how long there may be; 0: now; UINT64_MAX: not that we know. */
uint64_t owner_collect_in_ns(struct owner *owner);

/* collect_run, and when to run it again. */
int owner_collect(struct owner *owner, struct collect_counts *ret_counts);

/*
 * Fill in what every collection needs.  Errors as claim_content, and
 * epoch_decode of an intent.
 */
int owner_collect_options(struct owner *owner, struct epoch_record *own,
                          struct collect_options *ret_options);

/* Make the image of a snapshot the device's content, as the next epoch. */
int owner_rollback(struct owner *owner, const char *name, bool discard,
                   uint64_t *ret_epoch);

/* Returns whether anything here is in no image. */
bool owner_is_dirty(struct owner *owner);

/* ---- owner_space.c ------------------------------------------------------ */

/* How full the cache is. */
struct owner_space {
    uint64_t used;  /* bytes: of the device, or of the disk */
    uint64_t limit; /* bytes: cachesize, or of the disk */
};
int owner_space(struct owner *owner, struct owner_space *ret_space);

/*
 * The daemon makes room by itself when more percent are used than the first,
 * until they are no more than the second: before room is so tight that writes
 * slow down (destage.h).
 */
enum { OWNER_FULL_PERCENT = 92, OWNER_ROOM_PERCENT = 88 };

enum owner_evict_state {
    OWNER_EVICT_DONE,   /* no more is used than that */
    OWNER_EVICT_MORE,   /* some went, or others took them: ask again */
    OWNER_EVICT_UPLOAD, /* what is left must be uploaded first */
    OWNER_EVICT_STUCK,  /* nothing is left that could go */
};

/* What a step of eviction is about, and what came of it. */
struct owner_evict {
    uint64_t above; /* bytes: to be used at most */
    unsigned start_percent, stop_percent;
    enum owner_evict_state state;
    uint64_t chunks;
    uint64_t freed; /* bytes */
};

/*
 * Evict some clean chunks; if there is none, make dirty ones candidates for
 * upload.
 */
int owner_evict(struct owner *owner, struct owner_evict *evict);

/*
 * When the cache runs full between two runs of others: make room.  Returns
 * whether there is more to do at once.
 */
bool owner_make_room(struct owner *owner);

/* ---- owner_commands.c, owner_status.c, owner_scrub.c -------------------- */

/* A verb of control_message.h. */
typedef int owner_command(struct owner *owner,
                          const struct control_message *request,
                          uint64_t holder, struct control_message *reply);
owner_command owner_tell_status;
owner_command owner_do_scrub;

/* Returns the command of that verb, or NULL. */
owner_command *owner_find_command(const char *verb);

#endif
