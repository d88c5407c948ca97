/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/destage.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "cache/destage_parts.h"

static const uint64_t LOOK_EVERY_NS = 500000000; /* 0.5 s */
/* While it is asleep: how full the disk is may change by others. */
static const uint64_t LOOK_ASLEEP_NS = UINT64_C(10) * 1000000000;
static const uint64_t RETRY_AFTER_NS = 1000000000; /* 1 s */

bool destage_must_stop(struct destage *destage)
{
    bool is_stopping;

    mutex_lock(&destage->lock);
    is_stopping = destage->is_stopping;
    mutex_unlock(&destage->lock);
    return is_stopping;
}

enum need {
    NEEDS_NOTHING,
    NEEDS_ROOM, /* the older half of the journal */
    NEEDS_ALL,
};

static enum need look(struct destage *destage)
{
    struct fold_device *fold = destage->options.fold;
    struct journal_fill fill;

    journal_get_fill(fold->journal, &fill);
    /* Nothing can be committed any more: do not wear out the disk for it. */
    if (fill.is_lost || destage->lost != 0)
        return NEEDS_NOTHING;
    /* The index may be full though the journal is not: by many zeros. */
    if (!page_index_has_room(fold->index, JOURNAL_RECORD_PAGES_MAX) ||
        !page_index_has_room(fold->index, 0))
        return NEEDS_ALL;
    if (fill.newest > fill.begin && fill.used > fill.capacity / 2)
        return NEEDS_ROOM;
    if (!page_index_is_empty(fold->index) &&
        clock_monotonic_ns() - fill.last_append_ns > destage->options.idle_ns)
        return NEEDS_ALL;
    return NEEDS_NOTHING;
}

/*
 * While there are two layers only the lower one is folded, so it comes first:
 * what is needed may be in the upper one.
 */
static int end_cut(struct destage *destage)
{
    if (destage->phase == CHECKPOINT_FOLDING)
        return destage_complete_checkpoint(destage);
    return page_index_join(destage->options.fold->index);
}

static int answer_need(struct destage *destage, enum need need)
{
    struct journal_fill fill;

    if (need == NEEDS_NOTHING)
        return 0;
    if (need == NEEDS_ALL)
        return destage_pass_over_all(destage);
    journal_get_fill(destage->options.fold->journal, &fill);
    return destage_pass(destage,
                        fill.begin + (fill.newest - fill.begin + 1) / 2);
}

static bool is_lost(struct destage *destage)
{
    struct journal_fill fill;

    journal_get_fill(destage->options.fold->journal, &fill);
    return fill.is_lost || destage->lost != 0;
}

/* If nothing can be folded any more, say so to who waits for that. */
static void answer_if_lost(struct destage *destage)
{
    if (destage->checkpoint != NULL && is_lost(destage))
        destage_answer_checkpoint(destage,
                                  destage->lost != 0 ? destage->lost : -EIO);
}

/* One round of what is to be done: a batch of jobs, then a pass. */
static int run_round(struct destage *destage, bool is_asked)
{
    struct page_index *index = destage->options.fold->index;
    int error = 0;

    destage->options.looked(destage->options.context);
    (void)destage_run_jobs(destage, true);
    answer_if_lost(destage);
    destage_measure(destage);
    if (!is_asked && clock_monotonic_ns() < destage->not_before_ns)
        return 0;
    do {
        if (page_index_is_cut(index) && (is_asked || !is_lost(destage)))
            error = end_cut(destage);
        if (error == 0)
            error = answer_need(destage, is_asked ? NEEDS_ALL : look(destage));
        /* Once more if a job cut it during the pass. */
    } while (error == 0 && page_index_is_cut(index) && !is_lost(destage));
    if (error != 0)
        destage->not_before_ns = clock_monotonic_ns() + RETRY_AFTER_NS;
    return error;
}

/* Returns whether there is something to do at once. */
static bool has_work_locked(struct destage *destage) REQUIRES(destage->lock)
{
    return destage->is_stopping || destage->jobs != NULL ||
           atomic_load(&destage->blocks_size) >= DESTAGE_KEEP_AT_ONCE ||
           destage->asked != destage->answered ||
           /* Who found no room in spite of a pass kicks again. */
           atomic_load(&destage->is_kicked);
}

static bool is_idle(struct destage *destage)
{
    return destage->phase == CHECKPOINT_NONE &&
           atomic_load(&destage->blocks_size) == 0 &&
           page_index_is_empty(destage->options.fold->index) &&
           clock_monotonic_ns() >= destage->not_before_ns &&
           look(destage) == NEEDS_NOTHING;
}

/* It looks often from here on; who took it to be asleep is told. */
static void wake_up(struct destage *destage)
{
    if (atomic_exchange(&destage->pace, DESTAGE_AWAKE) == DESTAGE_ASLEEP)
        destage->options.woke(destage->options.context);
}

/*
 * Go to sleep, or on sleeping, if there is nothing to do, and nobody asked for
 * anything since the last look: what comes now and then is done twice a
 * second, not at once.  Returns when to look again, on the monotonic clock.
 */
static uint64_t next_look(struct destage *destage, bool is_calm)
{
    uint64_t now_ns = clock_monotonic_ns();

    if (is_calm) {
        /* Said before it is looked: whoever brings something looks after. */
        if (atomic_load(&destage->pace) == DESTAGE_AWAKE)
            atomic_store(&destage->pace, DESTAGE_DOZES);
        if (is_idle(destage)) {
            atomic_store(&destage->pace, DESTAGE_ASLEEP);
            return now_ns + LOOK_ASLEEP_NS;
        }
        wake_up(destage);
    }
    return now_ns + LOOK_EVERY_NS;
}

static void *destage_main(void *context)
{
    struct destage *destage = context;
    bool is_calm = false; /* the last look was due, nobody asked for it */

    if (destage->phase == CHECKPOINT_NONE)
        destage_sweep(destage);
    mutex_lock(&destage->lock);
    while (!destage->is_stopping) {
        uint64_t asked = destage->asked, next_ns;
        bool is_asked = asked != destage->answered;
        int error;

        atomic_store(&destage->is_kicked, false);
        mutex_unlock(&destage->lock);
        if (!is_calm)
            wake_up(destage);
        error = run_round(destage, is_asked);
        next_ns = next_look(destage, is_calm);
        mutex_lock(&destage->lock);
        if (is_asked) {
            destage->answered = asked;
            destage->answer = error;
            condition_broadcast(&destage->finished);
        }
        is_calm =
            !has_work_locked(destage) &&
            !condition_wait_until(&destage->wake, &destage->lock, next_ns);
    }
    destage->answered = destage->asked;
    destage->answer = -ECANCELED;
    condition_broadcast(&destage->finished);
    mutex_unlock(&destage->lock);
    destage_answer_checkpoint(destage, -ECANCELED);
    destage_cancel_jobs(destage, -ECANCELED);
    return NULL;
}

int destage_start(const struct destage_options *options,
                  struct destage **ret_destage)
{
    struct destage *destage = calloc(1, sizeof(*destage));
    struct state_facts facts;
    int error;

    if (destage == NULL)
        return -ENOMEM;
    destage->options = *options;
    atomic_init(&destage->cachesize, options->cachesize);
    state_log_facts(options->state_log, &facts);
    destage->phase = facts.phase;
    mutex_init(&destage->lock);
    condition_init(&destage->wake);
    condition_init(&destage->finished);
    destage_measure(destage);
    error = -pthread_create(&destage->thread, NULL, destage_main, destage);
    if (error != 0) {
        condition_done(&destage->finished);
        condition_done(&destage->wake);
        mutex_done(&destage->lock);
        free(destage);
        return error;
    }
    (void)pthread_setname_np(destage->thread, "destage-main");
    *ret_destage = destage;
    return 0;
}

void destage_stop(struct destage *destage)
{
    if (destage == NULL)
        return;
    mutex_lock(&destage->lock);
    destage->is_stopping = true;
    condition_signal(&destage->wake);
    mutex_unlock(&destage->lock);
    (void)pthread_join(destage->thread, NULL);
    workers_stop(destage->helpers);
    /* All are answered; the lock must outlast who still reads that. */
    mutex_lock(&destage->lock);
    while (destage->waiting > 0)
        condition_wait(&destage->finished, &destage->lock);
    mutex_unlock(&destage->lock);
    condition_done(&destage->finished);
    condition_done(&destage->wake);
    mutex_done(&destage->lock);
    free(destage);
}

void destage_set_cachesize(struct destage *destage, uint64_t cachesize)
{
    atomic_store(&destage->cachesize, cachesize);
    destage_measure(destage);
    destage_kick(destage);
    destage->options.made_room(destage->options.context);
}

void destage_kick(struct destage *destage)
{
    if (atomic_exchange(&destage->is_kicked, true))
        return;
    mutex_lock(&destage->lock);
    condition_signal(&destage->wake);
    mutex_unlock(&destage->lock);
}

void destage_stir(struct destage *destage)
{
    if (atomic_load(&destage->pace) != DESTAGE_AWAKE)
        destage_kick(destage);
}

bool destage_is_asleep(struct destage *destage)
{
    return atomic_load(&destage->pace) == DESTAGE_ASLEEP;
}

void destage_wait_locked(struct destage *destage)
{
    destage->waiting++;
    condition_wait(&destage->finished, &destage->lock);
    if (--destage->waiting == 0 && destage->is_stopping)
        condition_broadcast(&destage->finished);
}

int destage_all(struct destage *destage)
{
    uint64_t turn;
    int error;

    mutex_lock(&destage->lock);
    if (destage->is_stopping) {
        mutex_unlock(&destage->lock);
        return -ECANCELED;
    }
    turn = ++destage->asked;
    condition_signal(&destage->wake);
    while (destage->answered < turn)
        destage_wait_locked(destage);
    error = destage->answer;
    mutex_unlock(&destage->lock);
    return error;
}

uint64_t destage_passes(struct destage *destage)
{
    return atomic_load(&destage->passes);
}
