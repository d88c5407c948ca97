/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The order of durability in a batch, and what a power cut after each step
 * leaves:
 *
 *   blocks appended       nothing names them
 *   journal synced        nothing changed
 *   table in a free slot  the state log still names the old slot
 *   file, names synced    the same
 *   state log committed   the new slot rules; its blocks and name are durable
 *   files removed         (zeros) the state log says already that it is void
 *   begin committed       with the last batch: segments may be overwritten
 *
 * Everything in a retired segment is in a committed chunk or was superseded
 * by a record that is; those records were durable before any table that
 * contains them was written.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/auto.h"
#include "base/log.h"
#include "cache/destage_parts.h"
#include "cache/geometry.h"

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
        if (destage_is_full(fold->error))
            destage_release_reserve(destage);
        else if (!is_want_of_memory(fold->error) && !fold->failed_before &&
                 !fold->zeros_only &&
                 destage->suspects_count < DESTAGE_SUSPECTS_MAX)
            destage->suspects[destage->suspects_count++] = fold->chunk;
    }
}

static bool fold_is_void(const struct fold *fold)
{
    return fold->error != 0 || fold->outcome == FOLD_NOTHING;
}

static int sync_names(struct destage *destage, const struct fold folds[],
                      size_t count)
{
    uint64_t chunks[DESTAGE_BATCH];
    size_t changed = 0;

    for (size_t i = 0; i < count; i++) {
        if (!fold_is_void(&folds[i]) && folds[i].name_changed)
            chunks[changed++] = folds[i].chunk;
    }
    return changed == 0
               ? 0
               : chunk_dir_sync(destage->options.chunk_dir, chunks, changed);
}

static int commit_folds(struct destage *destage, const struct fold folds[],
                        size_t count)
{
    AUTO_FREE struct state_change *changes = NULL;
    size_t used = 0;

    changes = calloc(count * FOLD_CHANGES_MAX, sizeof(changes[0]));
    if (changes == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        if (!fold_is_void(&folds[i]))
            used += fold_describe(&folds[i], &changes[used]);
    }
    return destage_commit(destage, changes, used);
}

static void prepare(struct fold_device *device, void *fold)
{
    fold_prepare(device, fold);
}

static void write_table(struct fold_device *device, void *fold)
{
    fold_write_table(device, fold);
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
    destage_for_all(destage, folds, sizeof(folds[0]), count, prepare);
    error = journal_sync(options->fold->journal);
    if (error == 0) {
        destage_for_all(destage, folds, sizeof(folds[0]), count, write_table);
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
    destage_measure(destage);
    options->made_room(options->context);
    return error != 0 ? error : failed;
}

/* Returns the most bytes that folding a chunk adds to the disk. */
static uint64_t most_added(struct destage *destage, uint64_t chunk)
{
    const struct fold_device *fold = destage->options.fold;
    uint32_t chunk_size = fold->reader->chunk_size;
    uint64_t size =
        (uint64_t)page_index_records(fold->index, chunk) * CACHE_BLOCK;

    if (size > chunk_size)
        size = chunk_size;
    return size + chunk_table_encoded_max(chunk_size);
}

/*
 * Returns how many of the chunks, in order, keep chunk files within cachesize;
 * 0 when it is used up.  One is always let in that may fit.  What a checkpoint
 * folds is let in, too: at most a journal full, without which nothing could be
 * uploaded and evicted; and what an adoption folds, which goes with it.
 */
static size_t count_that_fit(struct destage *destage, const uint64_t chunks[],
                             size_t count)
{
    uint64_t cachesize = atomic_load(&destage->cachesize);
    uint64_t used =
        catalog_file_pages(destage->options.fold->reader->catalog) * CACHE_PAGE;
    size_t fit = 0;

    if (cachesize == 0 || destage->phase == CHECKPOINT_FOLDING ||
        destage->is_adopting)
        return count;
    while (fit < count && used < cachesize) {
        used += most_added(destage, chunks[fit]);
        if (fit > 0 && used > cachesize)
            break;
        fit++;
    }
    return fit;
}

/* Chunks with pages or short zeros older than the position. */
static int fold_chunks(struct destage *destage, uint64_t before,
                       bool zeros_only)
{
    uint64_t chunks[DESTAGE_BATCH];
    uint64_t from = 0;
    int failed = 0;

    for (;;) {
        size_t count = page_index_chunks(destage->options.fold->index, before,
                                         from, chunks, DESTAGE_BATCH);
        int error;

        if (count == 0)
            return failed;
        if (destage_must_stop(destage))
            return -ECANCELED;
        if (!zeros_only)
            count = count_that_fit(destage, chunks, count);
        if (count == 0)
            return -ENOSPC;
        error = fold_batch(destage, chunks, count, zeros_only);
        if (error != 0)
            failed = error;
        from = chunks[count - 1] + 1;
        (void)destage_run_jobs(destage, false);
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
    return destage_commit(destage, changes, count);
}

/* One long run of zeros: its mapped chunks are folded, the rest is void. */
static int fold_run(struct destage *destage, const struct page_run *run)
{
    struct fold_device *fold = destage->options.fold;
    uint64_t end = run->first_chunk + run->count;
    uint64_t from = run->first_chunk;
    int failed = 0;

    while (from < end) {
        uint64_t chunks[DESTAGE_BATCH];
        uint64_t part_end = end;
        size_t count = 0;
        int error = 0;

        if (destage_must_stop(destage))
            return -ECANCELED;
        if (!run->hole && part_end - from > DESTAGE_BATCH)
            part_end = from + DESTAGE_BATCH;
        while (count < DESTAGE_BATCH &&
               catalog_next(fold->reader->catalog,
                            count == 0 ? from : chunks[count - 1] + 1, part_end,
                            &chunks[count]))
            count++;
        if (count == DESTAGE_BATCH)
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
        (void)destage_run_jobs(destage, false);
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

/* The newest segment before which none is needed. */
static uint64_t oldest_needed(struct destage *destage)
{
    const struct fold_device *fold = destage->options.fold;
    struct journal_fill fill;
    uint64_t low;
    uint64_t high;

    journal_get_fill(fold->journal, &fill);
    low = fill.begin;
    high = fill.newest;
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2;

        if (page_index_needs_before(
                fold->index, journal_segment_start(fold->journal, middle)))
            high = middle - 1;
        else
            low = middle;
    }
    return low;
}

static int retire(struct destage *destage)
{
    const struct destage_options *options = &destage->options;
    struct state_change change = {.kind = STATE_JOURNAL_BEGIN};
    int error;

    change.number = oldest_needed(destage);
    if (change.number <= state_log_journal_begin(options->state_log))
        return 0;
    /*
     * A record that is not in the index was folded or superseded.  What
     * superseded it must be durable before it goes, as it may have been.
     */
    error = journal_sync(options->fold->journal);
    if (error == 0)
        error = destage_commit(destage, &change, 1);
    if (error != 0)
        return error;
    journal_retire(options->fold->journal, change.number);
    options->made_room(options->context);
    return 0;
}

static int pass_before(struct destage *destage, uint64_t before)
{
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
    destage_renew_reserve(destage);
    error = retire(destage);
    if (error == 0)
        atomic_fetch_add(&destage->passes, 1);
    return error;
}

int destage_pass(struct destage *destage, uint64_t number)
{
    return pass_before(
        destage, journal_segment_start(destage->options.fold->journal, number));
}

int destage_pass_over_layer(struct destage *destage)
{
    return pass_before(destage, UINT64_MAX);
}

static int pass_to_newest(struct destage *destage)
{
    struct journal_fill fill;

    journal_get_fill(destage->options.fold->journal, &fill);
    return destage_pass(destage, fill.newest);
}

int destage_pass_over_all(struct destage *destage)
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
