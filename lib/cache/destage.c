/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The order of durability in a batch, and what a power cut after each step
 * leaves:
 *
 *   blocks appended       nothing names them
 *   journal synced        nothing changed
 *   table in other slot   the state log still names the old slot
 *   file, names synced    the same
 *   state log committed   the new slot rules; its blocks and name are durable
 *   files removed         (zeros) the state log says already that it is void
 *   begin committed       with the last batch: segments may be overwritten
 *
 * Everything in a retired segment is in a committed chunk or was superseded
 * by a record that is; those records were durable before any table that
 * contains them was written.
 */
#include "cache/destage.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/workers.h"
#include "cache/geometry.h"

enum {
    BATCH_CHUNKS = 128,
    /* More than this many syncs side by side gain nothing on one disk. */
    HELPERS = 8,
    SUSPECTS_MAX = 64,
    /* The reserve is made again when it is one part of what is free. */
    RESERVE_ROOM = 8,
};

static const uint64_t LOOK_EVERY_NS = 500000000;   /* 0.5 s */
static const uint64_t RETRY_AFTER_NS = 1000000000; /* 1 s */

struct destage {
    struct destage_options options;
    pthread_t thread;
    struct workers *helpers;
    _Atomic uint64_t passes;
    atomic_bool is_kicked; /* a kick that nobody has answered yet */

    struct mutex lock;
    struct condition wake;
    struct condition finished;
    bool is_stopping GUARDED_BY(lock);
    uint64_t asked GUARDED_BY(lock);    /* calls of destage_all, so far */
    uint64_t answered GUARDED_BY(lock); /* of these, done */
    int answer GUARDED_BY(lock);

    /* The thread's own. */
    uint64_t suspects[SUSPECTS_MAX]; /* chunks that could not be folded */
    size_t suspects_count;
    /*
     * The error that the state log ended with.  From then on nobody knows
     * which tables rule, so no chunk file may be touched.
     */
    int lost;
};

/* A step of all folds of a batch, run side by side. */
struct step {
    struct workers_task task;
    void (*run)(struct fold_device *device, struct fold *fold);
    struct fold_device *device;
    struct fold *folds;
    size_t count;
    _Atomic size_t *next; /* the first that nobody has taken */
    struct mutex *lock;
    struct condition *done;
    size_t *running;
};

static void run_step(struct workers_task *task)
{
    struct step *step = (struct step *)task; /* its first member */

    for (;;) {
        size_t i = atomic_fetch_add(step->next, 1);

        if (i >= step->count)
            break;
        step->run(step->device, &step->folds[i]);
    }
    mutex_lock(step->lock);
    if (--*step->running == 0)
        condition_signal(step->done);
    mutex_unlock(step->lock);
}

static void for_all(struct destage *destage, struct fold folds[], size_t count,
                    void (*run)(struct fold_device *, struct fold *))
{
    struct step steps[HELPERS];
    _Atomic size_t next = 0;
    struct mutex lock;
    struct condition done;
    size_t running = count < HELPERS ? count : HELPERS;
    size_t started = running;

    mutex_init(&lock);
    condition_init(&done);
    for (size_t i = 0; i < started; i++) {
        steps[i] = (struct step){
            .task = {.run = run_step},
            .run = run,
            .device = destage->options.fold,
            .folds = folds,
            .count = count,
            .next = &next,
            .lock = &lock,
            .done = &done,
            .running = &running,
        };
        workers_submit(destage->helpers, &steps[i].task);
    }
    mutex_lock(&lock);
    while (running > 0)
        condition_wait(&done, &lock);
    mutex_unlock(&lock);
    condition_done(&done);
    mutex_done(&lock);
}

static bool take_suspect(struct destage *destage, uint64_t chunk)
{
    for (size_t i = 0; i < destage->suspects_count; i++) {
        if (destage->suspects[i] == chunk) {
            destage->suspects[i] = destage->suspects[--destage->suspects_count];
            return true;
        }
    }
    return false;
}

/* Whether an error says nothing of the disk. */
static bool is_want_of_memory(int error)
{
    return error == -ENOMEM || error == -EMFILE || error == -ENFILE;
}

/*
 * What needs space to free space may have what was kept for that.  Chunks
 * that failed otherwise are tried in another way next time (fold.h), and then
 * as always again.
 */
static void note_errors(struct destage *destage, const struct fold folds[],
                        size_t count, int *ret_error)
{
    static struct log_limit limit;
    uint64_t left_out;

    for (size_t i = 0; i < count; i++) {
        const struct fold *fold = &folds[i];

        if (fold->error == 0)
            continue;
        *ret_error = fold->error;
        if (log_limit_allows(&limit, &left_out))
            log_warning(
                "%s: chunk %016" PRIx64
                ": cannot be written, stays in the journal: %s (%" PRIu64
                " like it not logged)",
                destage->options.fold->device_name, fold->chunk,
                log_errno(fold->error), left_out);
        if (fold->error == -ENOSPC || fold->error == -EDQUOT)
            (void)cache_dir_release_reserve(destage->options.cache_dir);
        else if (!is_want_of_memory(fold->error) && !fold->failed_before &&
                 !fold->zeros_only && destage->suspects_count < SUSPECTS_MAX)
            destage->suspects[destage->suspects_count++] = fold->chunk;
    }
}

/* For the next time that the disk is full. */
static void renew_reserve(struct destage *destage)
{
    const struct destage_options *options = &destage->options;
    struct file_space space;

    if (cache_dir_space(options->cache_dir, &space) == 0 &&
        space.available / RESERVE_ROOM >= options->reserve_size)
        (void)cache_dir_keep_reserve(options->cache_dir, options->reserve_size);
}

static bool fold_is_void(const struct fold *fold)
{
    return fold->error != 0 || fold->outcome == FOLD_NOTHING;
}

/* A hole that stays one needs no word in the state log. */
static bool fold_changes_state(const struct fold *fold)
{
    return !fold_is_void(fold) &&
           (fold->outcome != FOLD_HOLE || fold->before.generation != 0);
}

static int sync_names(struct destage *destage, const struct fold folds[],
                      size_t count)
{
    uint64_t chunks[BATCH_CHUNKS];
    size_t changed = 0;

    for (size_t i = 0; i < count; i++) {
        if (!fold_is_void(&folds[i]) && folds[i].name_changed)
            chunks[changed++] = folds[i].chunk;
    }
    return changed == 0
               ? 0
               : chunk_dir_sync(destage->options.chunk_dir, chunks, changed);
}

static int commit(struct destage *destage, const struct state_change changes[],
                  size_t count)
{
    const struct destage_options *options = &destage->options;
    int error;

    if (count == 0)
        return 0;
    error = state_log_commit(options->state_log, changes, count);
    /* After these two nothing was changed; any other is the log's end. */
    if (error != 0 && error != -ENOMEM && error != -ENOSPC) {
        destage->lost = error;
        options->failed(options->context, error);
    }
    return error;
}

static int commit_folds(struct destage *destage, const struct fold folds[],
                        size_t count)
{
    AUTO_FREE struct state_change *changes = NULL;
    size_t used = 0;

    changes = calloc(count, sizeof(changes[0]));
    if (changes == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        if (fold_changes_state(&folds[i]))
            fold_describe(&folds[i], &changes[used++]);
    }
    return commit(destage, changes, used);
}

static int commit_begin(struct destage *destage, uint64_t number)
{
    struct state_change change = {
        .kind = STATE_JOURNAL_BEGIN,
        .number = number,
    };

    return commit(destage, &change, 1);
}

/*
 * Fold these chunks, zeros_only: those that need no room.  Those that fail are
 * left out; one error is returned.
 */
static int fold_batch(struct destage *destage, const uint64_t chunks[],
                      size_t count, bool zeros_only)
{
    const struct destage_options *options = &destage->options;
    AUTO_FREE struct fold *folds = calloc(count, sizeof(folds[0]));
    int failed = 0;
    int error;

    if (destage->lost != 0)
        return destage->lost;
    if (folds == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        folds[i].chunk = chunks[i];
        folds[i].zeros_only = zeros_only;
        folds[i].failed_before =
            !zeros_only && take_suspect(destage, chunks[i]);
    }
    for_all(destage, folds, count, fold_prepare);
    error = journal_sync(options->fold->journal);
    if (error == 0) {
        for_all(destage, folds, count, fold_write_table);
        error = sync_names(destage, folds, count);
    }
    if (error == 0)
        error = commit_folds(destage, folds, count);
    if (error == 0) {
        for (size_t i = 0; i < count; i++) {
            if (!fold_is_void(&folds[i]))
                fold_install(options->fold, &folds[i]);
        }
        note_errors(destage, folds, count, &failed);
    }
    for (size_t i = 0; i < count; i++)
        fold_done(&folds[i]);
    options->made_room(options->context);
    return error != 0 ? error : failed;
}

static bool must_stop(struct destage *destage)
{
    bool is_stopping;

    mutex_lock(&destage->lock);
    is_stopping = destage->is_stopping;
    mutex_unlock(&destage->lock);
    return is_stopping;
}

/* Chunks with pages or short zeros older than the position. */
static int fold_chunks(struct destage *destage, uint64_t before,
                       bool zeros_only)
{
    uint64_t chunks[BATCH_CHUNKS];
    uint64_t from = 0;
    int failed = 0;

    for (;;) {
        size_t count = page_index_chunks(destage->options.fold->index, before,
                                         from, chunks, BATCH_CHUNKS);
        int error;

        if (count == 0)
            return failed;
        if (must_stop(destage))
            return -ECANCELED;
        error = fold_batch(destage, chunks, count, zeros_only);
        if (error != 0)
            failed = error;
        from = chunks[count - 1] + 1;
    }
}

/*
 * Chunks that are zeros but no holes, without a file: only the state log has
 * to say so.
 */
static int keep_zeros(struct destage *destage, uint64_t first, uint64_t end)
{
    struct fold_device *fold = destage->options.fold;
    AUTO_FREE struct state_change *changes = NULL;
    size_t count = 0;

    changes = calloc(end - first, sizeof(changes[0]));
    if (changes == NULL)
        return -ENOMEM;
    for (uint64_t chunk = first; chunk < end; chunk++) {
        if (catalog_generation(fold->reader->catalog, chunk, NULL) != 0)
            continue;
        changes[count] = (struct state_change){
            .kind = STATE_CHUNK,
            .chunk = chunk,
        };
        changes[count].entry.flags = CATALOG_ZERO;
        changes[count].entry.generation =
            atomic_fetch_add(&fold->generation, 1) + 1;
        count++;
    }
    return commit(destage, changes, count);
}

/* One long run of zeros: its mapped chunks are folded, the rest is void. */
static int fold_run(struct destage *destage, const struct page_run *run)
{
    struct fold_device *fold = destage->options.fold;
    uint64_t end = run->first_chunk + run->count;
    uint64_t from = run->first_chunk;
    int failed = 0;

    while (from < end) {
        uint64_t chunks[BATCH_CHUNKS];
        uint64_t part_end = end;
        size_t count = 0;
        int error = 0;

        if (must_stop(destage))
            return -ECANCELED;
        if (!run->hole && part_end - from > BATCH_CHUNKS)
            part_end = from + BATCH_CHUNKS;
        while (count < BATCH_CHUNKS &&
               catalog_next(fold->reader->catalog,
                            count == 0 ? from : chunks[count - 1] + 1, part_end,
                            &chunks[count]))
            count++;
        if (count == BATCH_CHUNKS)
            part_end = chunks[count - 1] + 1;
        if (count > 0)
            error = fold_batch(destage, chunks, count, false);
        if (error == 0 && !run->hole)
            error = keep_zeros(destage, from, part_end);
        if (error == 0)
            page_index_drop_run(fold->index, from, part_end - from, run->hole,
                                run->latest);
        else
            failed = error;
        from = part_end;
    }
    return failed;
}

static int fold_runs(struct destage *destage, uint64_t before)
{
    struct page_run run;
    uint64_t from = 0;
    int failed = 0;

    while (page_index_runs(destage->options.fold->index, before, from, &run,
                           1) == 1) {
        int error = fold_run(destage, &run);

        if (error != 0)
            failed = error;
        from = run.first_chunk + run.count;
    }
    return failed;
}

/* Whether the index still needs a record from before that segment. */
static bool needs_before(struct destage *destage, uint64_t number)
{
    struct page_index *index = destage->options.fold->index;
    uint64_t before =
        journal_segment_start(destage->options.fold->journal, number);
    struct page_run run;
    uint64_t chunk;

    return page_index_chunks(index, before, 0, &chunk, 1) > 0 ||
           page_index_runs(index, before, 0, &run, 1) > 0;
}

/* The newest segment before which none is needed. */
static uint64_t oldest_needed(struct destage *destage)
{
    struct journal_fill fill;
    uint64_t low;
    uint64_t high;

    journal_get_fill(destage->options.fold->journal, &fill);
    low = fill.begin;
    high = fill.newest;
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2;

        if (needs_before(destage, middle))
            high = middle - 1;
        else
            low = middle;
    }
    return low;
}

/*
 * Fold what has records before that segment, and retire what can be.  That
 * may be less: what is written meanwhile can keep the index from forgetting
 * what was folded (page_index_drop); then the next pass retires it.
 */
static int run_pass(struct destage *destage, uint64_t number)
{
    struct fold_device *fold = destage->options.fold;
    uint64_t before = journal_segment_start(fold->journal, number);
    int error = fold_chunks(destage, before, false);

    if (error == 0) {
        error = fold_runs(destage, before);
    } else {
        /* If it was for want of room: chunks that are void by now make it. */
        (void)fold_chunks(destage, UINT64_MAX, true);
        (void)fold_runs(destage, UINT64_MAX);
    }
    if (error != 0)
        return error;
    renew_reserve(destage);
    number = oldest_needed(destage);
    if (number <= state_log_journal_begin(destage->options.state_log)) {
        atomic_fetch_add(&destage->passes, 1);
        return 0;
    }
    /*
     * A record that is not in the index was folded or superseded.  What
     * superseded it must be durable before it goes, as it may have been.
     */
    error = journal_sync(fold->journal);
    if (error == 0)
        error = commit_begin(destage, number);
    if (error != 0)
        return error;
    journal_retire(fold->journal, number);
    atomic_fetch_add(&destage->passes, 1);
    destage->options.made_room(destage->options.context);
    return 0;
}

static int pass_to_newest(struct destage *destage)
{
    struct journal_fill fill;

    journal_get_fill(destage->options.fold->journal, &fill);
    return run_pass(destage, fill.newest);
}

/* Everything: the segment in use is ended first, so that it retires too. */
static int pass_over_all(struct destage *destage)
{
    struct journal *journal = destage->options.fold->journal;
    int error = journal_rotate(journal);

    if (error == -EAGAIN) { /* no segment is free to go on in */
        error = pass_to_newest(destage);
        if (error == 0)
            error = journal_rotate(journal);
    }
    return error != 0 ? error : pass_to_newest(destage);
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

static int answer_need(struct destage *destage, enum need need)
{
    struct journal_fill fill;

    if (need == NEEDS_NOTHING)
        return 0;
    if (need == NEEDS_ALL)
        return pass_over_all(destage);
    journal_get_fill(destage->options.fold->journal, &fill);
    return run_pass(destage, fill.begin + (fill.newest - fill.begin + 1) / 2);
}

static void *destage_main(void *context)
{
    struct destage *destage = context;
    uint64_t not_before_ns = 0;

    mutex_lock(&destage->lock);
    while (!destage->is_stopping) {
        uint64_t asked = destage->asked;
        enum need need = NEEDS_NOTHING;
        int error;

        atomic_store(&destage->is_kicked, false);
        if (asked != destage->answered)
            need = NEEDS_ALL;
        else if (clock_monotonic_ns() >= not_before_ns)
            need = look(destage);
        mutex_unlock(&destage->lock);
        error = answer_need(destage, need);
        mutex_lock(&destage->lock);
        if (error != 0)
            not_before_ns = clock_monotonic_ns() + RETRY_AFTER_NS;
        if (asked != destage->answered) {
            destage->answered = asked;
            destage->answer = error;
            condition_broadcast(&destage->finished);
        }
        /* Who found no room in spite of a pass kicks again. */
        if (!destage->is_stopping && destage->asked == destage->answered &&
            !atomic_load(&destage->is_kicked))
            (void)condition_wait_until(&destage->wake, &destage->lock,
                                       clock_monotonic_ns() + LOOK_EVERY_NS);
    }
    destage->answered = destage->asked;
    destage->answer = -ECANCELED;
    condition_broadcast(&destage->finished);
    mutex_unlock(&destage->lock);
    return NULL;
}

int destage_start(const struct destage_options *options,
                  struct destage **ret_destage)
{
    struct destage *destage = calloc(1, sizeof(*destage));
    int error;

    if (destage == NULL)
        return -ENOMEM;
    destage->options = *options;
    mutex_init(&destage->lock);
    condition_init(&destage->wake);
    condition_init(&destage->finished);
    error = workers_start("destage", HELPERS, &destage->helpers);
    if (error == 0) {
        error = -pthread_create(&destage->thread, NULL, destage_main, destage);
        if (error != 0)
            workers_stop(destage->helpers);
    }
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
    condition_done(&destage->finished);
    condition_done(&destage->wake);
    mutex_done(&destage->lock);
    free(destage);
}

void destage_kick(struct destage *destage)
{
    if (atomic_exchange(&destage->is_kicked, true))
        return;
    mutex_lock(&destage->lock);
    condition_signal(&destage->wake);
    mutex_unlock(&destage->lock);
}

int destage_all(struct destage *destage)
{
    uint64_t turn;
    int error;

    mutex_lock(&destage->lock);
    turn = ++destage->asked;
    condition_signal(&destage->wake);
    while (destage->answered < turn)
        condition_wait(&destage->finished, &destage->lock);
    error = destage->answer;
    mutex_unlock(&destage->lock);
    return error;
}

uint64_t destage_passes(struct destage *destage)
{
    return atomic_load(&destage->passes);
}
