/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A checkpoint, and what a power cut after each step leaves:
 *
 *   cut         in the journal's turn: the index has two layers now.  Nothing
 *               on disk says so: there is no checkpoint
 *   synced      the journal, up to the cut
 *   BEGIN       FOLDING: a replay divides the index at the same position, so
 *               what is before it, and no more, is folded, now or then
 *   folded      the lower layer is empty, so the catalog is that of the cut;
 *               nothing of the upper one is in it
 *   CHUNK ...   what no image has as it is goes to the checkpoint's catalog;
 *               after a cut here all of them are said again
 *   OPEN        from here on, what a chunk file has for a chunk that is
 *               pending is kept for the checkpoint, and the upper layer is
 *               folded
 *   PUBLISHED or DROPPED
 *               nothing of it is wanted any more; files that were only there
 *               for it are void, and are removed at the next start, if not now
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "cache/destage_parts.h"

enum {
    GROUP = 512,  /* changes in a commit */
    ATTEMPTS = 3, /* at folding what is before the cut */
};

/* ---- begin --------------------------------------------------------------- */

struct cut {
    struct destage *destage;
    uint64_t position;
};

static int cut_here(void *context, uint64_t position)
{
    struct cut *cut = context;
    const struct destage_options *options = &cut->destage->options;
    int error = page_index_cut(options->fold->index);

    if (error != 0)
        return error;
    cut->position = position;
    options->cut(options->context, true);
    return 0;
}

/* There is no checkpoint (any more).  Without the memory to join the layers
 * now, that is done later: see destage_main. */
static void undo_cut(struct destage *destage)
{
    const struct destage_options *options = &destage->options;

    destage->phase = CHECKPOINT_NONE;
    options->cut(options->context, false);
    (void)page_index_join(options->fold->index);
}

static int begin(struct destage *destage, uint64_t time_ns)
{
    const struct destage_options *options = &destage->options;
    struct cut cut = {.destage = destage};
    struct state_change change = {
        .kind = STATE_CHECKPOINT_BEGIN,
        .time_ns = time_ns,
    };
    int error;

    if (destage->phase != CHECKPOINT_NONE)
        return -EALREADY;
    error = page_index_join(options->fold->index);
    if (error == 0)
        error = journal_cut(options->fold->journal, cut_here, &cut);
    if (error != 0)
        return error;
    error = journal_sync(options->fold->journal);
    change.number = cut.position;
    if (error == 0)
        error = destage_commit(destage, &change, 1);
    if (error != 0)
        undo_cut(destage);
    return error;
}

void destage_answer_checkpoint(struct destage *destage, int error)
{
    struct destage_job *job = destage->checkpoint;

    destage->checkpoint = NULL;
    while (job != NULL) {
        struct destage_job *next = job->next; /* answered, it is gone */

        destage_answer(destage, job,
                       error == 0 && job->joins ? -EALREADY : error);
        job = next;
    }
}

void destage_begin_checkpoint(struct destage *destage, struct destage_job *job)
{
    int error;

    /* What it is of is known only when it is open, so wait for that too. */
    if (destage->phase == CHECKPOINT_FOLDING) {
        job->joins = true;
        job->next = destage->checkpoint;
        destage->checkpoint = job;
        return;
    }
    error = begin(destage, job->time_ns);
    if (error != 0) {
        destage_answer(destage, job, error);
        return;
    }
    destage->phase = CHECKPOINT_FOLDING;
    job->next = NULL;
    destage->checkpoint = job;
    destage->checkpoint_failures = 0;
    destage->not_before_ns = 0;
}

/* ---- open ---------------------------------------------------------------- */

/* Whether the checkpoint must say something of a chunk. */
static bool is_news(const struct catalog_entry *entry)
{
    return entry->generation != entry->published_generation;
}

static int say_chunks(struct destage *destage)
{
    struct catalog *catalog = destage->options.fold->reader->catalog;
    AUTO_FREE struct state_change *changes = NULL;
    uint64_t chunk = 0;
    size_t count = 0;
    int error = 0;

    changes = calloc(GROUP, sizeof(changes[0]));
    if (changes == NULL)
        return -ENOMEM;
    for (; error == 0 && catalog_next(catalog, chunk, UINT64_MAX, &chunk);
         chunk++) {
        struct state_change *change = &changes[count];

        change->kind = STATE_CHECKPOINT_CHUNK;
        change->chunk = chunk;
        catalog_get(catalog, chunk, &change->entry);
        if (!is_news(&change->entry) || ++count < GROUP)
            continue;
        if (destage_must_stop(destage))
            return -ECANCELED;
        error = destage_commit(destage, changes, count);
        count = 0;
    }
    if (error != 0)
        return error;
    memset(&changes[count], 0, sizeof(changes[0]));
    changes[count++].kind = STATE_CHECKPOINT_OPEN;
    return destage_commit(destage, changes, count);
}

/* Drop it, as far as the disk is concerned. */
static int commit_drop(struct destage *destage)
{
    struct state_change change = {.kind = STATE_CHECKPOINT_DROPPED};

    return destage_commit(destage, &change, 1);
}

static void give_up(struct destage *destage, int error)
{
    if (commit_drop(destage) != 0)
        return;
    log_warning("%s: the checkpoint is given up: %s",
                destage->options.fold->device_name, log_errno(error));
    undo_cut(destage);
    destage_answer_checkpoint(destage, error);
}

/* Whether another attempt is of no use. */
static bool is_hopeless(struct destage *destage, int error)
{
    return error != -ECANCELED && (destage_is_full(error) ||
                                   ++destage->checkpoint_failures == ATTEMPTS);
}

int destage_complete_checkpoint(struct destage *destage)
{
    const struct destage_options *options = &destage->options;
    int error = destage_pass_over_layer(destage);

    if (destage->phase != CHECKPOINT_FOLDING) /* dropped meanwhile */
        return 0;
    if (error == 0 && !page_index_is_folded(options->fold->index))
        return 0; /* the next pass goes on */
    if (error == 0)
        error = say_chunks(destage);
    if (error != 0) {
        if (destage->lost == 0 && is_hopeless(destage, error))
            give_up(destage, error);
        return error;
    }
    destage->phase = CHECKPOINT_OPEN;
    (void)page_index_join(options->fold->index); /* cannot fail: it is empty */
    destage_answer_checkpoint(destage, 0);
    return 0;
}

/* ---- end ----------------------------------------------------------------- */

/* Whether the file of such a chunk is there only for a checkpoint. */
static bool has_void_file(const struct catalog_entry *entry)
{
    return (entry->flags & CATALOG_FILE) != 0 &&
           (entry->flags & (CATALOG_HOLE | CATALOG_ZERO)) != 0;
}

static void remove_files(struct destage *destage, struct state_change changes[],
                         size_t count)
{
    struct chunk_reader *reader = destage->options.fold->reader;

    if (destage_commit(destage, changes, count) != 0)
        return; /* at the next start */
    for (size_t i = 0; i < count; i++) {
        int error;

        open_chunks_drop(reader->open_chunks, changes[i].chunk);
        error = chunk_file_remove(reader->dir, changes[i].chunk);
        if (error != 0)
            log_warning("%s: chunk %016" PRIx64
                        ": its file cannot be removed: %s",
                        destage->options.fold->device_name, changes[i].chunk,
                        log_errno(error));
    }
}

void destage_sweep(struct destage *destage)
{
    struct catalog *catalog = destage->options.fold->reader->catalog;
    AUTO_FREE struct state_change *changes = NULL;
    uint64_t chunk = 0;
    size_t count = 0;

    changes = calloc(GROUP, sizeof(changes[0]));
    if (changes == NULL)
        return;
    for (; catalog_next(catalog, chunk, UINT64_MAX, &chunk); chunk++) {
        struct catalog_entry *entry = &changes[count].entry;

        catalog_get(catalog, chunk, entry);
        if (!has_void_file(entry))
            continue;
        entry->flags &= ~(unsigned)CATALOG_FILE;
        entry->file_pages = 0;
        if ((entry->flags & CATALOG_HOLE) != 0 &&
            entry->published_generation == 0)
            *entry = (struct catalog_entry){.generation = 0};
        changes[count].kind = STATE_CHUNK;
        changes[count].chunk = chunk;
        if (++count == GROUP) {
            remove_files(destage, changes, count);
            count = 0;
        }
    }
    if (count > 0)
        remove_files(destage, changes, count);
    destage_measure(destage);
}

int destage_publish(struct destage *destage, const uint8_t record[])
{
    struct state_change changes[2] = {
        {.kind = STATE_EPOCH_DECIDED},
        {.kind = STATE_CHECKPOINT_PUBLISHED},
    };
    int error;

    if (destage->phase != CHECKPOINT_OPEN)
        return -ENOENT;
    memcpy(changes[0].record, record, STATE_RECORD_SIZE);
    error = destage_commit(destage, changes, 2);
    if (error != 0)
        return error;
    destage->phase = CHECKPOINT_NONE;
    destage->options.published(destage->options.context);
    destage_sweep(destage);
    return 0;
}

int destage_drop(struct destage *destage)
{
    const struct destage_options *options = &destage->options;
    bool is_in_image = destage->phase == CHECKPOINT_OPEN &&
                       catalog_count(options->fold->checkpoint) == 0;
    int error;

    if (destage->phase == CHECKPOINT_NONE)
        return page_index_join(options->fold->index);
    error = commit_drop(destage);
    if (error != 0)
        return error;
    if (is_in_image) /* what was written has changed nothing */
        options->published(options->context);
    undo_cut(destage);
    destage_answer_checkpoint(destage, -ECANCELED);
    destage_sweep(destage);
    return page_index_is_cut(options->fold->index) ? -ENOMEM : 0;
}
