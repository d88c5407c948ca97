/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * destage - journal to chunk files, in the background, so that segments can
 * be used again.
 *
 * Works in passes over the oldest segments: whatever the journal knows of the
 * chunks that have records there is folded (fold.h), many chunks at a time,
 * with one sync of the journal, one commit of the state log and the file
 * syncs side by side.  A pass runs when the journal or its index fills, when
 * nobody has written for a while, and when asked for.
 *
 * A pass that cannot go on (disk full, I/O error) leaves its records in the
 * journal and is tried again; if the state log is lost, the device is.
 */
#ifndef CACHE_DESTAGE_H
#define CACHE_DESTAGE_H

#include <stddef.h>
#include <stdint.h>

#include "cache/chunk_work.h"
#include "cache/fold.h"

struct destage;

struct destage_options {
    struct fold_device *fold; /* and all that it points to */
    struct chunk_dir *chunk_dir;
    struct state_log *state_log;
    struct cache_dir *cache_dir; /* its reserve is given up for a full disk */
    uint64_t reserve_size;       /* bytes, and made again when there is room */
    uint64_t cachesize; /* bytes that chunk files may take; 0: the disk's */
    uint64_t idle_ns;   /* without writes, after which to fold all */
    /* There may be room again; and: the state log is lost. */
    void (*made_room)(void *context);
    void (*failed)(void *context, int error);
    /*
     * A checkpoint was cut, in the journal's turn to append: what was written
     * before is in it.  is_cut false: there is none after all, or it was
     * dropped.
     */
    void (*cut)(void *context, bool is_cut);
    /* The open checkpoint is an image, or no other than the last one; the next
     * cut comes after that. */
    void (*published)(void *context);
    /* The thread looked for what is to be done: twice a second, and less often
     * while it is asleep. */
    void (*looked)(void *context);
    /* It was asleep, and is no more. */
    void (*woke)(void *context);
    void *context;
};

/*
 * Start the thread.  A checkpoint that was being folded goes on by itself.
 */
int destage_start(const struct destage_options *options,
                  struct destage **ret_destage);

/*
 * End after the batch in hand; whoever waits is answered -ECANCELED.  NULL
 * does nothing.
 */
void destage_stop(struct destage *destage);

/* From now on chunk files may take so many bytes; 0: the disk's. */
void destage_set_cachesize(struct destage *destage, uint64_t cachesize);

/* Have it look now: a write found no room, or the journal fills. Cheap. */
void destage_kick(struct destage *destage);

/*
 * There is something in the index, or to keep: have it look now if it is
 * asleep, else as ever.  All but free.
 */
void destage_stir(struct destage *destage);

/*
 * Returns whether nothing is to be folded or kept, and no checkpoint is there:
 * until somebody wakes it, it looks every ten seconds only.
 */
bool destage_is_asleep(struct destage *destage);

/*
 * Fold everything that the journal holds now.  Returns when that is done, or
 * with the error of the first pass that failed.
 */
int destage_all(struct destage *destage);

/* Returns how many passes were finished. */
uint64_t destage_passes(struct destage *destage);

/* What chunk files take, in bytes, when last measured. */
struct destage_space {
    uint64_t used;
    uint64_t limit; /* cachesize, or less if the disk has less */
    uint64_t room;  /* what is left of it */
    uint64_t tight; /* with less room than that, whoever can waits */
};
void destage_get_space(struct destage *destage,
                       struct destage_space *ret_space);

/* ---- jobs ----------------------------------------------------------------
 *
 * Each is done by the destage thread, in the order given but for those that
 * are batched, between two batches of a pass, and returns when it is durable.
 * Any thread may ask, but for the callbacks of destage.  All: -ECANCELED if
 * it was stopped first, or the error that the state log was lost with.
 */

/*
 * Make what was acknowledged until now a checkpoint, at time_ns since 1970.
 * Returns when it is OPEN, which takes as long as folding the whole journal;
 * what is written meanwhile goes on in the journal.  -EALREADY: there is
 * one, and by now it is OPEN.  After any other error there is none; but
 * -ECANCELED may leave one FOLDING, which the next start completes.
 */
int destage_checkpoint(struct destage *destage, uint64_t time_ns);

/*
 * Record these objects; each has its own answer.  Returns 0, or what kept all
 * of them from being tried.
 */
int destage_uploaded(struct destage *destage, struct uploaded *list[],
                     size_t count);

/*
 * Evict these chunks, but for those that may not go (not clean, wanted by the
 * checkpoint): they are left as they are.  *ret_pages_freed is of 4096 bytes.
 */
int destage_evict(struct destage *destage, const uint64_t chunks[],
                  size_t count, enum evict_depth depth,
                  uint64_t *ret_pages_freed);

/*
 * These copies are bad: do without them, as RESTATE_DISTRUST says.  Returns
 * what it does.
 */
int destage_distrust(struct destage *destage, const struct distrusted *what);

/*
 * Keep a block that was fetched: stored bytes as they are in the object, as
 * the table entry says that it was read by.  stored is copied; returns at
 * once, and may do nothing.
 */
void destage_keep(struct destage *destage, uint64_t chunk, uint32_t block,
                  const struct chunk_block *as_read, const struct object_id *id,
                  const void *stored);

/*
 * The open checkpoint is the image that this epoch's record names: what it
 * says of chunks is published.  -ENOENT: no checkpoint is open.
 */
int destage_published(struct destage *destage,
                      const uint8_t epoch_record[STATE_RECORD_SIZE]);

/* Forget the checkpoint, in whatever phase.  0 too if there is none. */
int destage_drop_checkpoint(struct destage *destage);

/*
 * Drop the checkpoint, fold everything, and run adopt() in the destage
 * thread, which changes chunk files and state as it sees fit and returns 0 or
 * an error, which is returned.  Nobody may write meanwhile: see
 * device_set_gate.
 */
int destage_adopt(struct destage *destage, int (*adopt)(void *context),
                  void *context);

#endif
