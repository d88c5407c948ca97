/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Why a crash is safe.  Before STATE_ADOPT nothing was changed.  Until
 * STATE_ADOPTED a start knows that it has to adopt, and begins again: chunks
 * that were changed already are the image's, and are kept; files of which the
 * entry is gone but not the name are found by listing the directory.  A file
 * is removed only after the commit that forgets it, and is gone for good, its
 * directory synced, before STATE_ADOPTED.
 */
#include "cache/adopt.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "cache/block_cache.h"
#include "cache/catalog.h"
#include "cache/chunk_file.h"
#include "cache/chunk_reader.h"
#include "cache/geometry.h"
#include "cache/image.h"
#include "cache/open_chunks.h"
#include "cache/strays.h"

enum {
    BATCH = 1024, /* chunks in a commit */
};

/* ---- load ---------------------------------------------------------------- */

/* What the device's entry is for a chunk of the image, in some generation. */
static void make_entry(const struct image_entry *from, uint64_t generation,
                       struct catalog_entry *to)
{
    memset(to, 0, sizeof(*to));
    to->generation = to->published_generation = generation;
    to->objects_count = from->objects_count;
    if (from->objects_count == 0)
        to->flags = CATALOG_ZERO;
    else
        to->uploaded_generation = generation;
    memcpy(to->objects, from->objects,
           from->objects_count * sizeof(from->objects[0]));
}

static int load_chunks(struct adoption *adoption, struct image *image)
{
    struct image_entry found;
    struct catalog_entry entry;
    uint64_t chunk = 0;
    int result;

    for (;; chunk++) {
        result = image_next(image, chunk, &chunk, &found);
        if (result <= 0)
            return result;
        make_entry(&found, 1, &entry);
        result = catalog_set(adoption->image, chunk, &entry);
        if (result < 0)
            return result;
    }
}

int adopt_load(struct adoption *adoption, struct image *image)
{
    int error = catalog_new(adoption->chunks_count, &adoption->image);

    if (error == 0 && image)
        error = load_chunks(adoption, image);
    if (error == -EINVAL)
        log_error("%s: the image is larger than the device",
                  adoption->reader->device_name);
    return error;
}

void adopt_done(struct adoption *adoption)
{
    catalog_free(adoption->image);
    adoption->image = NULL;
}

/* ---- what becomes of a chunk --------------------------------------------- */

static bool objects_are_equal(const struct chunk_object *a,
                              const struct chunk_object *b)
{
    return a->id.epoch == b->id.epoch && a->id.nonce == b->id.nonce &&
           a->id.counter == b->id.counter && a->origin == b->origin &&
           a->table_size == b->table_size &&
           a->table_checksum == b->table_checksum;
}

/* Whether the chunk has the very content here that the image says. */
static bool is_same(const struct catalog_entry *here,
                    const struct catalog_entry *image)
{
    if (here->generation == 0 || image->generation == 0)
        return false;
    if (image->objects_count == 0)
        return (here->flags & CATALOG_ZERO) != 0;
    /* The table of the newest object says all of a chunk. */
    return (here->flags & (CATALOG_ZERO | CATALOG_HOLE)) == 0 &&
           catalog_entry_is_clean(here) && here->objects_count > 0 &&
           objects_are_equal(&here->objects[here->objects_count - 1],
                             &image->objects[image->objects_count - 1]);
}

static void keep_entry(const struct catalog_entry *here,
                       struct catalog_entry *to)
{
    *to = *here;
    to->published_generation = here->generation;
    /* Of zeros a file is only there for a checkpoint, which is dropped. */
    if ((here->flags & CATALOG_ZERO) != 0) {
        to->flags = CATALOG_ZERO;
        to->file_pages = 0;
    }
}

/* A group of changes, and what was there before them. */
struct batch {
    struct state_change changes[BATCH];
    uint64_t removed[BATCH]; /* chunks that had a file, and have none then */
    size_t count, removed_count;
};

/* Decide about a chunk that is in the catalog, or in the image, or both. */
static void add_chunk(struct adoption *adoption, struct batch *batch,
                      uint64_t chunk, uint64_t generation)
{
    struct state_change *change = &batch->changes[batch->count];
    struct catalog_entry here, image;

    catalog_get(adoption->reader->catalog, chunk, &here);
    catalog_get(adoption->image, chunk, &image);
    *change = (struct state_change){.kind = STATE_CHUNK, .chunk = chunk};
    if (is_same(&here, &image)) {
        keep_entry(&here, &change->entry);
        adoption->kept++;
        if (change->entry.published_generation == here.published_generation &&
            change->entry.flags == here.flags)
            return;
    } else {
        adoption->changed++;
        if (image.generation > 0) {
            change->entry = image;
            change->entry.generation = generation;
            change->entry.published_generation = generation;
            if (image.objects_count > 0)
                change->entry.uploaded_generation = generation;
        }
    }
    if ((here.flags & CATALOG_FILE) != 0 &&
        (change->entry.flags & CATALOG_FILE) == 0)
        batch->removed[batch->removed_count++] = chunk;
    batch->count++;
}

/* ---- apply --------------------------------------------------------------- */

/* What cannot be removed takes up room, and that is all: logged there. */
static int remove_files(const struct chunk_reader *reader,
                        const uint64_t chunks[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        (void)chunk_file_remove(reader->dir, chunks[i]);
    return count > 0 ? chunk_dir_sync(reader->dir, chunks, count) : 0;
}

/* Commit the batch; then nobody finds the old states any more. */
static int commit_batch(struct adoption *adoption, struct batch *batch)
{
    const struct chunk_reader *reader = adoption->reader;
    uint32_t blocks = reader->chunk_size / CACHE_BLOCK;
    int error = 0;

    if (batch->count > 0)
        error =
            state_log_commit(adoption->state_log, batch->changes, batch->count);
    for (size_t i = 0; error == 0 && i < batch->count; i++) {
        open_chunks_drop(reader->open_chunks, batch->changes[i].chunk);
        block_cache_drop_chunk(reader->blocks, batch->changes[i].chunk, blocks);
    }
    if (error == 0)
        error = remove_files(reader, batch->removed, batch->removed_count);
    batch->count = batch->removed_count = 0;
    return error;
}

/* Tell the first chunk >= from that is in the catalog or in the image. */
static bool next_chunk(struct adoption *adoption, uint64_t from,
                       uint64_t *ret_chunk)
{
    uint64_t here = UINT64_MAX, image = UINT64_MAX;
    bool is_here =
        catalog_next(adoption->reader->catalog, from, UINT64_MAX, &here);
    bool is_in_image = catalog_next(adoption->image, from, UINT64_MAX, &image);

    *ret_chunk = here < image ? here : image;
    return is_here || is_in_image;
}

static int apply_chunks(struct adoption *adoption, struct batch *batch)
{
    uint64_t generation = state_log_last_generation(adoption->state_log) + 1;
    uint64_t chunk = 0;
    int error = 0;

    for (; error == 0 && next_chunk(adoption, chunk, &chunk); chunk++) {
        add_chunk(adoption, batch, chunk, generation);
        if (batch->count == BATCH)
            error = commit_batch(adoption, batch);
    }
    return error == 0 ? commit_batch(adoption, batch) : error;
}

static int begin(const struct adoption *adoption, bool *ret_was_begun)
{
    AUTO_FREE struct state_change *changes = calloc(2, sizeof(changes[0]));
    struct state_facts facts;

    if (!changes)
        return -ENOMEM;
    state_log_facts(adoption->state_log, &facts);
    *ret_was_begun = facts.must_adopt;
    changes[0].kind = STATE_CHECKPOINT_DROPPED;
    changes[1].kind = STATE_ADOPT;
    memcpy(changes[1].record, adoption->record, STATE_RECORD_SIZE);
    return state_log_commit(adoption->state_log, changes, 2);
}

static int finish(const struct adoption *adoption)
{
    struct state_change change = {
        .kind = STATE_ADOPTED,
        .time_ns = adoption->time_ns,
    };

    return state_log_commit(adoption->state_log, &change, 1);
}

int adopt_apply(void *context)
{
    struct adoption *adoption = context;
    AUTO_FREE struct batch *batch = calloc(1, sizeof(*batch));
    bool was_begun = false;
    uint64_t strays;
    int error = batch ? begin(adoption, &was_begun) : -ENOMEM;

    adoption->kept = adoption->changed = 0;
    if (error == 0)
        error = apply_chunks(adoption, batch);
    if (error == 0 && was_begun)
        error = strays_remove(adoption->reader->dir, adoption->reader->catalog,
                              &strays);
    if (error == 0)
        error = finish(adoption);
    return error;
}
