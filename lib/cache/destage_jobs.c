/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Jobs are begun in the order in which they came; those that are about single
 * chunks (uploaded, evict, keep) are put together in batches, where a chunk
 * is only once.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "cache/destage_parts.h"

/* Of the blocks that wait to be kept; what comes beyond is not kept. */
static const uint64_t BLOCKS_SIZE_MAX = 16 << 20;

/* A batch of restates, and what they are for. */
struct batch {
    struct restate restates[DESTAGE_BATCH];
    struct destage_job *jobs[DESTAGE_BATCH]; /* NULL: blocks to keep */
    size_t places[DESTAGE_BATCH];            /* in the job's list */
    size_t count;
    struct destage_block *blocks; /* all that are in it */
};

void destage_answer(struct destage *destage, struct destage_job *job, int error)
{
    if (job == NULL)
        return;
    mutex_lock(&destage->lock);
    job->error = error;
    job->is_done = true;
    condition_broadcast(&destage->finished);
    mutex_unlock(&destage->lock);
}

/* ---- batches ------------------------------------------------------------- */

static struct restate *find_restate(struct batch *batch, uint64_t chunk)
{
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->restates[i].chunk == chunk)
            return &batch->restates[i];
    }
    return NULL;
}

/* Returns the chunk at that place of a job's list. */
static uint64_t chunk_at(const struct destage_job *job, size_t place)
{
    if (job->kind == JOB_UPLOADED)
        return job->uploaded[place]->chunk;
    return job->kind == JOB_DISTRUST ? job->distrusted->chunk
                                     : job->chunks[place];
}

/* Returns false if it does not fit in this batch. */
static bool add_item(struct batch *batch, struct destage_job *job)
{
    size_t place = job->begun;
    uint64_t chunk = chunk_at(job, place);
    struct restate *restate;

    if (batch->count == DESTAGE_BATCH || find_restate(batch, chunk) != NULL)
        return false;
    restate = &batch->restates[batch->count];
    *restate = (struct restate){.chunk = chunk};
    if (job->kind == JOB_UPLOADED) {
        restate->kind = RESTATE_UPLOADED;
        restate->uploaded = job->uploaded[place];
    } else if (job->kind == JOB_DISTRUST) {
        restate->kind = RESTATE_DISTRUST;
        restate->distrusted = job->distrusted;
    } else {
        restate->kind = RESTATE_EVICT;
        restate->depth = job->depth;
    }
    batch->jobs[batch->count] = job;
    batch->places[batch->count] = place;
    batch->count++;
    job->begun++;
    return true;
}

static bool is_batched(const struct destage_job *job)
{
    return job->kind == JOB_UPLOADED || job->kind == JOB_EVICT ||
           job->kind == JOB_DISTRUST;
}

/*
 * Take jobs into the batch while they are of chunks.  What is begun entirely
 * leaves the list: it is answered when its last chunk is done.
 */
static void take_jobs_locked(struct destage *destage, struct batch *batch)
{
    while (destage->jobs != NULL && is_batched(destage->jobs)) {
        struct destage_job *job = destage->jobs;

        while (job->begun < job->count && add_item(batch, job))
            continue;
        if (job->begun < job->count)
            return;
        destage->jobs = job->next;
    }
}

/* Take blocks to keep, those of a chunk together. */
static void take_blocks_locked(struct destage *destage, struct batch *batch)
{
    struct destage_block **link = &destage->blocks;

    while (*link != NULL) {
        struct destage_block *block = *link;
        struct restate *restate = find_restate(batch, block->chunk);

        if (restate == NULL ? batch->count == DESTAGE_BATCH
                            : restate->kind != RESTATE_KEEP) {
            link = &block->next;
            continue;
        }
        if (restate == NULL) {
            restate = &batch->restates[batch->count];
            *restate = (struct restate){
                .chunk = block->chunk,
                .kind = RESTATE_KEEP,
            };
            batch->jobs[batch->count++] = NULL;
        }
        restate->blocks_count++;
        *link = block->next;
        block->next = batch->blocks;
        batch->blocks = block;
    }
}

/* Give each restate that keeps blocks an array of them. */
static void list_blocks(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        struct restate *restate = &batch->restates[i];
        struct restate_block *blocks;
        size_t used = 0;

        if (restate->kind != RESTATE_KEEP)
            continue;
        blocks = calloc(restate->blocks_count, sizeof(blocks[0]));
        if (blocks == NULL) {
            restate->blocks_count = 0;
            restate->error = -ENOMEM;
            continue;
        }
        for (const struct destage_block *block = batch->blocks; block != NULL;
             block = block->next) {
            if (block->chunk == restate->chunk)
                blocks[used++] = block->block;
        }
        assert(used == restate->blocks_count);
        restate->blocks = blocks;
    }
}

static void free_blocks(struct destage *destage, struct destage_block *blocks)
{
    while (blocks != NULL) {
        struct destage_block *block = blocks;

        blocks = block->next;
        atomic_fetch_sub(&destage->blocks_size,
                         block->block.as_read.object_size);
        free(block);
    }
}

static void prepare(struct fold_device *device, void *item)
{
    struct restate *restate = item;

    if (restate->error == 0)
        restate_prepare(device, restate);
}

static void write_table(struct fold_device *device, void *item)
{
    struct restate *restate = item;

    if (restate->error == 0)
        restate_write_table(device, restate);
}

/*
 * What makes room, or lets it be made, may have what was kept for that.
 * Returns whether there was something kept.
 */
static bool try_with_reserve(struct destage *destage, const struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        if (destage_is_full(batch->restates[i].error) &&
            batch->restates[i].kind != RESTATE_KEEP)
            return cache_dir_release_reserve(destage->options.cache_dir);
    }
    return false;
}

/* Once more, for those that lacked room. */
static void try_again(struct destage *destage, struct batch *batch,
                      void (*step)(struct fold_device *device, void *item))
{
    for (size_t i = 0; i < batch->count; i++) {
        struct restate *restate = &batch->restates[i];
        struct restate anew = {
            .chunk = restate->chunk,
            .kind = restate->kind,
            .uploaded = restate->uploaded,
            .depth = restate->depth,
            .distrusted = restate->distrusted,
        };

        if (!destage_is_full(restate->error) || restate->kind == RESTATE_KEEP)
            continue;
        restate_done(restate);
        *restate = anew;
        prepare(destage->options.fold, restate);
        if (step != NULL)
            step(destage->options.fold, restate);
    }
}

/*
 * With the last user of a file the file system takes its room back, which
 * takes time: so that is done here, side by side.
 */
static void install(struct fold_device *device, void *item)
{
    struct restate *restate = item;

    if (restate->error == 0)
        restate_install(device, restate);
    restate_done(restate);
}

static int sync_names(struct destage *destage, const struct batch *batch)
{
    uint64_t chunks[DESTAGE_BATCH];
    size_t changed = 0;

    for (size_t i = 0; i < batch->count; i++) {
        if (batch->restates[i].error == 0 && batch->restates[i].name_changed)
            chunks[changed++] = batch->restates[i].chunk;
    }
    return changed == 0
               ? 0
               : chunk_dir_sync(destage->options.chunk_dir, chunks, changed);
}

static int commit_batch(struct destage *destage, const struct batch *batch)
{
    AUTO_FREE struct state_change *changes = NULL;
    size_t used = 0;

    changes = calloc(batch->count * FOLD_CHANGES_MAX, sizeof(changes[0]));
    if (changes == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->restates[i].error == 0)
            used += restate_describe(&batch->restates[i], &changes[used]);
    }
    return destage_commit(destage, changes, used);
}

/* The steps of a batch, in the order of a fold; see destage_pass.c. */
static void run_steps(struct destage *destage, struct batch *batch)
{
    int error;

    for (size_t i = 0; destage->lost != 0 && i < batch->count; i++)
        batch->restates[i].error = destage->lost;
    destage_for_all(destage, batch->restates, sizeof(batch->restates[0]),
                    batch->count, prepare);
    if (try_with_reserve(destage, batch))
        try_again(destage, batch, NULL);
    destage_for_all(destage, batch->restates, sizeof(batch->restates[0]),
                    batch->count, write_table);
    if (try_with_reserve(destage, batch))
        try_again(destage, batch, write_table);
    error = sync_names(destage, batch);
    if (error == 0)
        error = commit_batch(destage, batch);
    for (size_t i = 0; error != 0 && i < batch->count; i++) {
        if (batch->restates[i].error == 0)
            batch->restates[i].error = error;
    }
    destage_for_all(destage, batch->restates, sizeof(batch->restates[0]),
                    batch->count, install);
}

/* Whether it is the answer of a chunk that may not be evicted, and no fault. */
static bool may_not_go(int error)
{
    return error == -EBUSY || error == -ENOENT;
}

/* What became of one chunk, for the job that it is of. */
static void tell_job(struct destage *destage, struct destage_job *job,
                     size_t place, const struct restate *restate)
{
    if (job->kind == JOB_UPLOADED) {
        job->uploaded[place]->error = restate->error;
    } else if (job->kind == JOB_DISTRUST) {
        job->error = restate->error;
    } else {
        if (restate->error == 0)
            job->pages_freed += restate->pages_freed;
        else if (!may_not_go(restate->error))
            job->error = restate->error;
    }
    if (++job->done == job->count)
        destage_answer(destage, job,
                       destage->lost ? destage->lost : job->error);
}

static void log_failure(struct destage *destage, const struct restate *restate)
{
    static struct log_limit limit;
    uint64_t left_out;

    if (restate->error == 0 || restate->error == -ESTALE ||
        restate->kind == RESTATE_KEEP || may_not_go(restate->error))
        return;
    if (log_limit_allows(&limit, &left_out))
        log_warning("%s: chunk %016" PRIx64 ": cannot be %s: %s (%" PRIu64
                    " like it not logged)",
                    destage->options.fold->device_name, restate->chunk,
                    restate->kind == RESTATE_EVICT      ? "evicted"
                    : restate->kind == RESTATE_DISTRUST ? "repaired"
                                                        : "recorded as"
                                                          " uploaded",
                    log_errno(restate->error), left_out);
}

static void run_batch(struct destage *destage, struct batch *batch)
{
    uint64_t freed = 0;

    list_blocks(batch);
    run_steps(destage, batch);
    for (size_t i = 0; i < batch->count; i++) {
        struct restate *restate = &batch->restates[i];

        log_failure(destage, restate);
        freed += restate->error == 0 ? restate->pages_freed : 0;
        restate_done(restate);
        free((void *)(uintptr_t)restate->blocks);
        if (batch->jobs[i] != NULL)
            tell_job(destage, batch->jobs[i], batch->places[i], restate);
    }
    free_blocks(destage, batch->blocks);
    destage_measure(destage);
    if (freed > 0)
        destage->not_before_ns = 0;
}

/* ---- jobs ---------------------------------------------------------------- */

static int adopt(struct destage *destage, const struct destage_job *job)
{
    struct fold_device *fold = destage->options.fold;
    uint64_t last;
    int error;

    destage->is_adopting = true;
    error = destage_drop(destage);
    if (error == 0)
        error = destage_pass_over_all(destage);
    if (destage_is_full(error)) /* but it has the reserve now */
        error = destage_pass_over_all(destage);
    if (error == 0)
        error = job->adopt(job->context);
    last = state_log_last_generation(destage->options.state_log);
    if (last > atomic_load(&fold->generation))
        atomic_store(&fold->generation, last);
    destage->is_adopting = false;
    destage_measure(destage);
    destage->not_before_ns = 0;
    return error;
}

/* A job that is done as a whole. */
static void run_job(struct destage *destage, struct destage_job *job)
{
    int error = destage->lost;

    if (error != 0) {
        destage_answer(destage, job, error);
        return;
    }
    switch (job->kind) {
    case JOB_CHECKPOINT:
        destage_begin_checkpoint(destage, job);
        return;
    case JOB_PUBLISHED:
        error = destage_publish(destage, job->record);
        break;
    case JOB_DROP:
        error = destage_drop(destage);
        break;
    case JOB_ADOPT:
        error = adopt(destage, job);
        break;
    case JOB_UPLOADED:
    case JOB_EVICT:
    case JOB_DISTRUST:
        assert(!is_batched(job));
    }
    destage_answer(destage, job, error);
}

bool destage_run_jobs(struct destage *destage, bool may_adopt)
{
    AUTO_FREE struct batch *batch = NULL;
    struct destage_job *job;
    bool has_work;

    if (destage->is_adopting)
        return false;
    mutex_lock(&destage->lock);
    job = destage->jobs;
    has_work = job != NULL || destage->blocks != NULL;
    mutex_unlock(&destage->lock);
    if (!has_work)
        return false;
    batch = calloc(1, sizeof(*batch));
    mutex_lock(&destage->lock);
    if (job != NULL && !is_batched(job)) {
        if (job->kind == JOB_ADOPT && !may_adopt)
            job = NULL;
        else
            destage->jobs = job->next;
    } else {
        job = NULL;
        if (batch != NULL)
            take_jobs_locked(destage, batch);
    }
    if (batch != NULL)
        take_blocks_locked(destage, batch);
    mutex_unlock(&destage->lock);
    if (batch == NULL) {
        if (job == NULL)
            destage_cancel_jobs(destage, -ENOMEM);
    } else if (batch->count > 0) {
        run_batch(destage, batch);
    }
    if (job != NULL)
        run_job(destage, job);
    return job != NULL || batch == NULL || batch->count > 0;
}

void destage_cancel_jobs(struct destage *destage, int error)
{
    struct destage_block *blocks;
    struct destage_job *job;

    mutex_lock(&destage->lock);
    job = destage->jobs;
    destage->jobs = NULL;
    blocks = destage->blocks;
    destage->blocks = NULL;
    mutex_unlock(&destage->lock);
    while (job != NULL) {
        struct destage_job *next = job->next; /* answered, it is gone */

        destage_answer(destage, job, error);
        job = next;
    }
    free_blocks(destage, blocks);
}

/* Have the job done, and wait for that. */
static int run_and_wait(struct destage *destage, struct destage_job *job)
{
    struct destage_job **end;
    int error;

    mutex_lock(&destage->lock);
    if (destage->is_stopping) {
        mutex_unlock(&destage->lock);
        return -ECANCELED;
    }
    end = &destage->jobs;
    while (*end != NULL)
        end = &(*end)->next;
    *end = job;
    condition_signal(&destage->wake);
    while (!job->is_done)
        destage_wait_locked(destage);
    error = job->error;
    mutex_unlock(&destage->lock);
    return error;
}

int destage_checkpoint(struct destage *destage, uint64_t time_ns)
{
    struct destage_job job = {.kind = JOB_CHECKPOINT, .time_ns = time_ns};

    return run_and_wait(destage, &job);
}

int destage_uploaded(struct destage *destage, struct uploaded *list[],
                     size_t count)
{
    struct destage_job job = {
        .kind = JOB_UPLOADED,
        .uploaded = list,
        .count = count,
    };
    int error;

    for (size_t i = 0; i < count; i++)
        list[i]->error = -ECANCELED;
    if (count == 0)
        return 0;
    error = run_and_wait(destage, &job);
    for (size_t i = 0; i < count && error != 0; i++) {
        if (list[i]->error == -ECANCELED)
            list[i]->error = error;
    }
    return error;
}

int destage_evict(struct destage *destage, const uint64_t chunks[],
                  size_t count, enum evict_depth depth,
                  uint64_t *ret_pages_freed)
{
    struct destage_job job = {
        .kind = JOB_EVICT,
        .chunks = chunks,
        .count = count,
        .depth = depth,
    };
    int error = 0;

    if (count > 0)
        error = run_and_wait(destage, &job);
    *ret_pages_freed = job.pages_freed;
    return error;
}

int destage_distrust(struct destage *destage, const struct distrusted *what)
{
    struct destage_job job = {
        .kind = JOB_DISTRUST,
        .distrusted = what,
        .count = 1,
    };

    return run_and_wait(destage, &job);
}

void destage_keep(struct destage *destage, uint64_t chunk, uint32_t block,
                  const struct chunk_block *as_read, const struct object_id *id,
                  const void *stored)
{
    size_t size = as_read->object_size;
    struct destage_space space;
    struct destage_block *keep;

    destage_get_space(destage, &space);
    if (space.room < space.tight)
        return;
    if (atomic_fetch_add(&destage->blocks_size, size) + size > BLOCKS_SIZE_MAX)
        keep = NULL;
    else
        keep = malloc(sizeof(*keep) + size);
    if (keep == NULL) {
        atomic_fetch_sub(&destage->blocks_size, size);
        return;
    }
    keep->chunk = chunk;
    keep->block = (struct restate_block){
        .block = block,
        .as_read = *as_read,
        .id = *id,
        .stored = keep->stored,
    };
    memcpy(keep->stored, stored, size);
    mutex_lock(&destage->lock);
    if (!destage->is_stopping) {
        keep->next = destage->blocks;
        destage->blocks = keep;
        keep = NULL;
        if (atomic_load(&destage->blocks_size) >= DESTAGE_KEEP_AT_ONCE)
            condition_signal(&destage->wake);
    }
    mutex_unlock(&destage->lock);
    if (keep != NULL) {
        atomic_fetch_sub(&destage->blocks_size, size);
        free(keep);
    }
    destage_stir(destage);
}

int destage_published(struct destage *destage,
                      const uint8_t epoch_record[STATE_RECORD_SIZE])
{
    struct destage_job job = {.kind = JOB_PUBLISHED, .record = epoch_record};

    return run_and_wait(destage, &job);
}

int destage_drop_checkpoint(struct destage *destage)
{
    struct destage_job job = {.kind = JOB_DROP};

    return run_and_wait(destage, &job);
}

int destage_adopt(struct destage *destage, int (*run)(void *context),
                  void *context)
{
    struct destage_job job = {
        .kind = JOB_ADOPT,
        .adopt = run,
        .context = context,
    };

    return run_and_wait(destage, &job);
}
