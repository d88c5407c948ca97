/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * destage_parts - what the files of destage share.
 *
 * For destage*.c only; others see destage.h.
 *
 *   destage.c             the thread, and what it does when
 *   destage_batch.c       a step of many chunks side by side; commits; room
 *   destage_pass.c        folding, and what can be retired then
 *   destage_jobs.c        what others asked for
 *   destage_checkpoint.c  from the cut to its end
 *
 * All but the fields that the lock guards belongs to the thread.
 */
#ifndef CACHE_DESTAGE_PARTS_H
#define CACHE_DESTAGE_PARTS_H

#include <stdatomic.h>

#include "base/mutex.h"
#include "base/workers.h"
#include "cache/destage.h"
#include "cache/restate.h"

enum {
    DESTAGE_BATCH = 128, /* chunks */
    DESTAGE_SUSPECTS_MAX = 64,
};

enum destage_job_kind {
    JOB_CHECKPOINT,
    JOB_UPLOADED,
    JOB_EVICT,
    JOB_DISTRUST,
    JOB_PUBLISHED,
    JOB_DROP,
    JOB_ADOPT,
};

/* Something to be done, on the stack of who waits for it. */
struct destage_job {
    enum destage_job_kind kind;
    uint64_t time_ns;                    /* CHECKPOINT */
    bool joins;                          /* the same: one was being folded */
    struct uploaded **uploaded;          /* UPLOADED */
    const uint64_t *chunks;              /* EVICT */
    const struct distrusted *distrusted; /* DISTRUST */
    enum evict_depth depth;
    uint64_t pages_freed;
    size_t count; /* UPLOADED, EVICT; DISTRUST: 1 */
    size_t begun; /* of these: in a batch, or done */
    size_t done;
    const uint8_t *record;       /* PUBLISHED */
    int (*adopt)(void *context); /* ADOPT */
    void *context;

    bool is_done;
    int error;
    struct destage_job *next;
};

/*
 * So many bytes of blocks to keep are kept at once; fewer wait for the next
 * look: each batch has its syncs, and nobody waits for this one.
 */
enum { DESTAGE_KEEP_AT_ONCE = 4 << 20 };

/* A block that may be kept, with its bytes. */
struct destage_block {
    struct destage_block *next;
    uint64_t chunk;
    struct restate_block block;
    unsigned char stored[];
};

/* How often the thread looks for what is to be done. */
enum destage_pace {
    DESTAGE_AWAKE,
    DESTAGE_DOZES, /* it finds out whether it can sleep */
    DESTAGE_ASLEEP,
};

struct destage {
    struct destage_options options;
    pthread_t thread;
    _Atomic uint64_t passes;
    _Atomic uint64_t cachesize;   /* as in options, at first */
    _Atomic uint64_t used;        /* see destage_space */
    _Atomic uint64_t limit;       /* the same */
    _Atomic uint64_t blocks_size; /* of the blocks to keep */
    atomic_bool is_kicked;        /* a kick that nobody has answered yet */
    atomic_int pace;              /* of destage_pace; the thread sets it */

    struct mutex lock;
    struct condition wake;
    struct condition finished;
    bool is_stopping GUARDED_BY(lock);
    size_t waiting GUARDED_BY(lock);    /* calls that wait for an answer */
    uint64_t asked GUARDED_BY(lock);    /* calls of destage_all, so far */
    uint64_t answered GUARDED_BY(lock); /* of these, done */
    int answer GUARDED_BY(lock);
    struct destage_job *jobs GUARDED_BY(lock);     /* in order */
    struct destage_block *blocks GUARDED_BY(lock); /* to keep */

    /* The thread's own. */
    struct workers *helpers;                 /* NULL: none so far */
    uint64_t suspects[DESTAGE_SUSPECTS_MAX]; /* chunks that could not be
                                                folded */
    size_t suspects_count;
    uint64_t not_before_ns; /* after a failure: the next attempt */
    enum checkpoint_phase phase;
    struct destage_job *checkpoint; /* FOLDING: who wait for it, or NULL */
    unsigned checkpoint_failures;
    bool is_adopting;
    /*
     * The error that the state log ended with.  From then on nobody knows
     * which tables rule, so no chunk file may be touched.
     */
    int lost;
};

/* ---- destage.c ----------------------------------------------------------- */

/* Returns whether destage_stop was called. */
bool destage_must_stop(struct destage *destage);

/*
 * Wait until something is finished.  A stop answers everybody and then frees
 * everything, but not before the last one has returned from here.
 */
void destage_wait_locked(struct destage *destage) REQUIRES(destage->lock);

/* ---- destage_batch.c ----------------------------------------------------- */

/*
 * Run a step of count items of that size, side by side, and return when all
 * have ended.
 */
void destage_for_all(struct destage *destage, void *items, size_t size,
                     size_t count,
                     void (*run)(struct fold_device *device, void *item));

/* state_log_commit; an error that ends the state log ends destage. */
int destage_commit(struct destage *destage, const struct state_change changes[],
                   size_t count);

/* Returns whether an error is that of a full disk, or of a full quota. */
bool destage_is_full(int error);

/* Measure how much chunk files take, and may take. */
void destage_measure(struct destage *destage);

/* Give up the reserve, for what makes room; and make it again if there is
 * plenty. */
void destage_release_reserve(struct destage *destage);
void destage_renew_reserve(struct destage *destage);

/* ---- destage_pass.c ------------------------------------------------------ */

/*
 * Fold what has records before that segment, and retire what can be.  That
 * may be less: what is written meanwhile can keep the index from forgetting
 * what was folded (page_index_drop); then the next pass retires it.
 */
int destage_pass(struct destage *destage, uint64_t number);

/* Everything: the segment in use is ended first, so that it retires too. */
int destage_pass_over_all(struct destage *destage);

/* Fold all of the folded layer, and retire what can be. */
int destage_pass_over_layer(struct destage *destage);

/* ---- destage_jobs.c ------------------------------------------------------ */

/*
 * Do some of what was asked for; between two batches of a pass, or (may_adopt)
 * between two passes.  Returns whether there was something to do.
 */
bool destage_run_jobs(struct destage *destage, bool may_adopt);

/* Answer this job. */
void destage_answer(struct destage *destage, struct destage_job *job,
                    int error);

/* Answer all jobs with an error; forget the blocks to keep. */
void destage_cancel_jobs(struct destage *destage, int error);

/* ---- destage_checkpoint.c ------------------------------------------------ */

/* Answer all who wait for the checkpoint that is being folded. */
void destage_answer_checkpoint(struct destage *destage, int error);

/* The jobs. */
void destage_begin_checkpoint(struct destage *destage, struct destage_job *job);
int destage_publish(struct destage *destage, const uint8_t record[]);
int destage_drop(struct destage *destage);

/*
 * FOLDING: fold what is before the cut, and open the checkpoint; or give it
 * up, if it cannot be.
 */
int destage_complete_checkpoint(struct destage *destage);

/* Remove the files that only a checkpoint wanted that is none any more. */
void destage_sweep(struct destage *destage);

#endif
