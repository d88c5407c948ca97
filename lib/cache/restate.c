/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a power cut leaves after each step:
 *
 *   uploaded   table in a free slot       the state log names the old revision
 *              committed                  the new one, with the object; for
 *                                         the checkpoint in the same commit
 *   evicted    file without copies        under the same revision: either
 *                                         file has all of the state
 *              committed                  only how large the file is
 *   its file   committed                  it is void
 *              removed                    the same; if the name comes back, the
 *                                         next file takes it
 *   kept       blocks, table, name        the state log names the old revision
 *              committed                  the new one
 *   distrusted table in a free slot       the state log names the old one
 *              committed                  the new one; what it does not name
 *                                         was of no use
 *
 * The slot of the state that the checkpoint waits for is free only after the
 * commit that says that it waits no more.
 */
#include "cache/restate.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "cache/geometry.h"
#include "cache/rebase.h"

static bool has_file(const struct catalog_entry *entry)
{
    return (entry->flags & CATALOG_FILE) != 0;
}

/* Whether the chunk is more than zeros. */
static bool has_content(const struct catalog_entry *entry)
{
    return entry->generation != 0 &&
           (entry->flags & (CATALOG_ZERO | CATALOG_HOLE)) == 0;
}

/* Whether the checkpoint waits for a state of the chunk. */
static bool is_pinned(const struct restate *restate)
{
    return !catalog_entry_is_clean(&restate->checkpoint);
}

/* The file goes, once that is committed. */
static void give_up_file(struct restate *restate)
{
    restate->after.flags &= ~(unsigned)CATALOG_FILE;
    restate->after.file_pages = 0;
    restate->changes_chunk = true;
}

/* What the catalog says of the objects is what the next table says. */
static void set_objects(struct restate *restate)
{
    const struct chunk_table *table = restate->table;

    restate->after.objects_count = table->objects_count;
    memset(restate->after.objects, 0, sizeof(restate->after.objects));
    memcpy(restate->after.objects, table->objects,
           sizeof(table->objects[0]) * table->objects_count);
}

/* restate->table is the next revision, for a slot of restate->file. */
static void set_next(struct restate *restate, unsigned slots)
{
    restate->after.revision = restate->table->revision;
    restate->after.flags |= CATALOG_FILE;
    restate->after.file_pages = chunk_file_pages(restate->table, slots);
    set_objects(restate);
    restate->changes_chunk = true;
    restate->writes_table = true;
}

/*
 * Begin the next revision: restate->table is a copy of the old table, in a
 * slot that neither it nor pinned, which may be NULL, is in.
 */
static int begin_next(struct restate *restate, const struct chunk_table *old,
                      const struct chunk_table *pinned)
{
    unsigned taken = 1U << old->slot;

    if (pinned != NULL)
        taken |= 1U << pinned->slot;
    restate->table = chunk_table_copy(old);
    if (restate->table == NULL)
        return -ENOMEM;
    restate->table->revision++;
    restate->table->slot =
        chunk_file_choose_slot(restate->file, restate->table->generation,
                               restate->table->revision, taken);
    return 0;
}

/* Nothing becomes of the chunk's own table and file. */
static void leave_chunk(struct restate *restate)
{
    chunk_file_release(restate->file);
    chunk_table_release(restate->table);
    restate->file = NULL;
    restate->table = NULL;
    restate->after = restate->before;
    restate->changes_chunk = false;
    restate->writes_table = false;
}

/* ---- uploaded ------------------------------------------------------------ */

/* Whether it can be the table of an object of this chunk. */
static bool is_object_table(const struct fold_device *device,
                            const struct restate *restate)
{
    const struct chunk_table *table = restate->uploaded->table;

    if (table->chunk != restate->chunk ||
        table->chunk_size != device->reader->chunk_size ||
        table->objects_count == 0 ||
        table->objects[table->objects_count - 1].table_size == 0)
        return false;
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        if (table->blocks[i].local_pages != 0 ||
            table->blocks[i].base == BASE_UNKNOWN)
            return false;
    }
    return true;
}

/* The table that was pinned, if it is another than what rules. */
static int open_pinned(struct fold_device *device, struct restate *restate,
                       struct chunk_table **ret_pinned)
{
    const struct catalog_entry *pinned = &restate->checkpoint;

    if (!is_pinned(restate) || pinned->generation == restate->before.generation)
        return 0;
    return chunk_reader_read_table(device->reader, restate->chunk,
                                   restate->file, pinned->generation,
                                   pinned->revision, ret_pinned);
}

/*
 * What is unchanged in the chunk since the state that was uploaded is in its
 * object now.
 */
static int rebase(struct fold_device *device, struct restate *restate)
{
    const struct uploaded *uploaded = restate->uploaded;
    struct chunk_table *old = NULL;
    struct chunk_table *pinned = NULL;
    const struct chunk_table *was = NULL;
    int error = chunk_reader_open_file(device->reader, restate->chunk,
                                       &restate->file, &old);

    if (error == 0)
        error = open_pinned(device, restate, &pinned);
    if (error == 0)
        error = begin_next(restate, old, pinned);
    if (error == 0 && uploaded->generation != restate->before.generation)
        was = pinned;
    if (error == 0)
        error = rebase_uploaded(restate->table, was, uploaded->table);
    if (error == 0) {
        restate->after.uploaded_generation = uploaded->generation;
        set_next(restate, CHUNK_SLOTS);
    }
    chunk_table_release(old);
    chunk_table_release(pinned);
    return error;
}

/* Whether it says nothing of the chunk, only of the moment. */
static bool is_want(int error)
{
    return error == -ENOMEM || error == -EMFILE || error == -ENFILE ||
           error == -ENOSPC || error == -EDQUOT;
}

/* What of the chunk's own table could not be done, for the checkpoint's sake.
 */
static void do_without_chunk(struct fold_device *device,
                             struct restate *restate, int error)
{
    log_warning("%s: chunk %016" PRIx64
                ": an upload is recorded for the checkpoint alone: %s",
                device->device_name, restate->chunk, log_errno(error));
    leave_chunk(restate);
}

/* The object is what the image will say. */
static void record_for_checkpoint(struct restate *restate)
{
    const struct chunk_table *object = restate->uploaded->table;
    struct catalog_entry *entry = &restate->checkpoint;

    entry->uploaded_generation = entry->generation;
    entry->objects_count = object->objects_count;
    memset(entry->objects, 0, sizeof(entry->objects));
    memcpy(entry->objects, object->objects,
           sizeof(object->objects[0]) * object->objects_count);
    restate->changes_checkpoint = true;
}

static int prepare_uploaded(struct fold_device *device, struct restate *restate)
{
    const struct catalog_entry *before = &restate->before;
    uint64_t generation = restate->uploaded->generation;
    bool is_wanted =
        is_pinned(restate) && restate->checkpoint.generation == generation;
    bool is_newest = has_content(before) && has_file(before) &&
                     !catalog_entry_is_clean(before) &&
                     before->generation == generation;
    bool is_older = is_wanted && has_content(before) && has_file(before) &&
                    before->generation > generation &&
                    before->uploaded_generation < generation;
    int error = 0;

    if (!is_wanted && !is_newest)
        return -ESTALE;
    if (!is_object_table(device, restate))
        return -EINVAL;
    if (is_newest || is_older)
        error = rebase(device, restate);
    else if (!has_content(before) && has_file(before))
        give_up_file(restate);
    if (error != 0 && is_wanted && !is_want(error)) {
        do_without_chunk(device, restate, error);
        error = 0;
    }
    if (error == 0 && is_wanted)
        record_for_checkpoint(restate);
    return error;
}

/* ---- evicted ------------------------------------------------------------- */

/* Replace the file by one without the blocks that are in objects. */
static int move_without_copies(struct fold_device *device,
                               struct restate *restate,
                               const struct chunk_table *old)
{
    struct chunk_table *next = chunk_table_copy(old);
    struct chunk_file *file = NULL;
    uint32_t pages;
    int error = 0;

    if (next == NULL)
        return -ENOMEM;
    (void)rebase_drop_copies(next);
    pages = (uint32_t)(chunk_table_encoded_size(next) / CACHE_PAGE);
    if (restate->before.file_pages > pages)
        error = chunk_file_rewrite(device->reader->dir, restate->file, next,
                                   NULL, &file, &restate->table, NULL);
    else
        error = -ENOENT; /* it is no more than its table already */
    chunk_table_release(next);
    if (error != 0)
        return error;
    chunk_file_release(restate->file);
    restate->file = file;
    restate->after.file_pages = chunk_file_pages(restate->table, 1);
    restate->changes_chunk = true;
    return 0;
}

static int prepare_evict(struct fold_device *device, struct restate *restate)
{
    const struct catalog_entry *before = &restate->before;
    struct chunk_table *table = NULL;
    int error;

    if (!has_file(before))
        return -ENOENT;
    if (is_pinned(restate))
        return -EBUSY;
    if (!has_content(before)) {
        give_up_file(restate);
        return 0;
    }
    if (!chunk_reader_is_clean(device->reader, before))
        return -EBUSY;
    error = chunk_reader_open_file(device->reader, restate->chunk,
                                   &restate->file, &table);
    if (error == 0 && !rebase_is_clean(table)) {
        log_error("%s: chunk %016" PRIx64
                  ": its file has what no object has; it stays",
                  device->device_name, restate->chunk);
        error = -EBUSY;
    } else if (error == -EBADMSG || error == -EIO) {
        /* There is nothing in it to keep, and it would always be the next. */
        restate->depth = EVICT_FILE;
        error = 0;
    }
    if (error == 0 && restate->depth == EVICT_BLOCKS) {
        error = move_without_copies(device, restate, table);
        if (error == -ENOSPC || error == -EDQUOT) {
            restate->depth = EVICT_FILE;
            error = 0;
        }
    }
    if (error == 0 && restate->depth == EVICT_FILE) {
        leave_chunk(restate);
        give_up_file(restate);
        restate->after.revision++;
    }
    chunk_table_release(table);
    return error;
}

/* ---- kept ---------------------------------------------------------------- */

/* The file, and its table, as far as they are known, to build on. */
static int open_for_keep(struct fold_device *device, struct restate *restate)
{
    struct chunk_table *old;
    int error = chunk_reader_open_file(device->reader, restate->chunk,
                                       &restate->file, &old);

    if (error != 0)
        return error;
    chunk_reader_learn(device->reader, old);
    error = begin_next(restate, old, NULL);
    chunk_table_release(old);
    return error;
}

/* A table that a reader has of a chunk that is only in the bucket. */
static int take_remote_table(struct fold_device *device,
                             struct restate *restate)
{
    struct open_chunks *chunks = device->reader->open_chunks;
    struct open_chunk *open =
        open_chunks_get(chunks, restate->chunk, restate->before.generation);

    if (open == NULL)
        return -ESTALE;
    if (open->file == NULL &&
        open->table->revision == restate->before.revision) {
        restate->table = chunk_table_copy(open->table);
        if (restate->table != NULL)
            restate->table->revision++;
    }
    open_chunk_release(chunks, open);
    return restate->table == NULL ? -ESTALE : 0;
}

static int make_file(struct fold_device *device, struct restate *restate)
{
    int error;

    restate->name_changed = true;
    restate->table->slot = 0;
    do {
        error = chunk_file_create(device->reader->dir, restate->chunk,
                                  &restate->file);
    } while (chunk_reader_may_try_again(device->reader, error));
    return error;
}

/* Say of each block that it is in the file; *ret_data has their bytes. */
static int gather(struct restate *restate, uint32_t place,
                  unsigned char **ret_data, size_t *ret_size)
{
    size_t most = 0;
    unsigned char *data;
    size_t size = 0;

    for (size_t i = 0; i < restate->blocks_count; i++)
        most += restate->blocks[i].as_read.object_size;
    if (most > UINT32_MAX - place)
        return -EFBIG;
    data = malloc(most);
    if (data == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < restate->blocks_count; i++) {
        const struct restate_block *kept = &restate->blocks[i];

        if (!rebase_keep(restate->table, kept->block, &kept->as_read, &kept->id,
                         place + (uint32_t)size))
            continue;
        memcpy(data + size, kept->stored, kept->as_read.object_size);
        size += kept->as_read.object_size;
    }
    *ret_data = data;
    *ret_size = size;
    return size == 0 ? -ESTALE : 0;
}

static int prepare_keep(struct fold_device *device, struct restate *restate)
{
    AUTO_FREE unsigned char *data = NULL;
    bool is_new = !has_file(&restate->before);
    uint64_t place;
    size_t size = 0;
    int error;

    if (is_pinned(restate))
        return -EBUSY;
    if (!has_content(&restate->before) || restate->blocks_count == 0)
        return -ESTALE;
    error = is_new ? take_remote_table(device, restate)
                   : open_for_keep(device, restate);
    if (error != 0)
        return error;
    place = round_up(restate->table->data_end, CACHE_PAGE);
    if (place > UINT32_MAX)
        return -EFBIG;
    error = gather(restate, (uint32_t)place, &data, &size);
    if (error == 0 && is_new)
        error = make_file(device, restate);
    if (error == 0)
        error = chunk_file_write(restate->file, data, size, (uint32_t)place);
    if (error != 0)
        return error;
    restate->table->data_end = (uint32_t)(place + size);
    atomic_fetch_add(&device->written, size);
    set_next(restate, is_new ? 1 : CHUNK_SLOTS);
    return 0;
}

/* ---- distrusted ---------------------------------------------------------- */

/* Whether some bases are only what the table of the newest object says. */
static bool has_unknown_bases(const struct chunk_table *table)
{
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        if (table->blocks[i].base == BASE_UNKNOWN)
            return true;
    }
    return false;
}

/*
 * Take bad copies out of the table.  Returns whether there were any;
 * *ret_is_new: so that it must be uploaded again.
 */
static bool distrust(struct chunk_table *table, const struct distrusted *of,
                     bool *ret_is_new)
{
    bool is_any = false;

    *ret_is_new = of->table_of != NULL && table->objects_count > 0 &&
                  object_id_is(&table->objects[table->objects_count - 1].id,
                               of->table_of) &&
                  !has_unknown_bases(table);
    for (size_t i = 0; i < of->count; i++) {
        const struct bad_copy *bad = &of->copies[i];

        if (!bad->is_in_bucket)
            is_any |= rebase_drop_copy(table, bad->block, &bad->as_read);
        else if (rebase_drop_base(table, bad->block, &bad->as_read, &bad->id))
            *ret_is_new = true;
    }
    chunk_table_forget_objects(table);
    return is_any || *ret_is_new;
}

static int prepare_distrust(struct fold_device *device, struct restate *restate)
{
    struct chunk_table *old = NULL;
    bool is_new = false;
    int error;

    if (!has_file(&restate->before) || !has_content(&restate->before))
        return -ESTALE;
    if (is_pinned(restate))
        return -EBUSY;
    error = chunk_reader_open_file(device->reader, restate->chunk,
                                   &restate->file, &old);
    if (error != 0)
        return error;
    error = begin_next(restate, old, NULL);
    if (error == 0 && !distrust(restate->table, restate->distrusted, &is_new))
        error = -ESTALE;
    if (error == 0 && is_new) {
        restate->table->generation =
            atomic_fetch_add(&device->generation, 1) + 1;
        restate->table->revision = 0;
        restate->table->slot = chunk_file_choose_slot(
            restate->file, restate->table->generation, 0, 1U << old->slot);
        restate->after.generation = restate->table->generation;
    }
    if (error == 0)
        set_next(restate, CHUNK_SLOTS);
    chunk_table_release(old);
    return error;
}

/* ---- the steps ----------------------------------------------------------- */

void restate_prepare(struct fold_device *device, struct restate *restate)
{
    catalog_get(device->reader->catalog, restate->chunk, &restate->before);
    catalog_get(device->checkpoint, restate->chunk, &restate->checkpoint);
    restate->after = restate->before;
    switch (restate->kind) {
    case RESTATE_UPLOADED:
        restate->error = prepare_uploaded(device, restate);
        break;
    case RESTATE_EVICT:
        restate->error = prepare_evict(device, restate);
        break;
    case RESTATE_KEEP:
        restate->error = prepare_keep(device, restate);
        break;
    case RESTATE_DISTRUST:
        restate->error = prepare_distrust(device, restate);
        break;
    }
}

void restate_write_table(struct fold_device *device, struct restate *restate)
{
    int error;

    if (restate->error != 0 || !restate->writes_table)
        return;
    error = chunk_file_write_slot(restate->file, restate->table);
    if (error == 0)
        error = chunk_file_sync(restate->file);
    atomic_fetch_add(&device->written, CACHE_PAGE);
    if (error != 0 && restate->changes_checkpoint && !is_want(error)) {
        do_without_chunk(device, restate, error);
        error = 0;
    }
    restate->error = error;
}

size_t restate_describe(const struct restate *restate,
                        struct state_change changes[FOLD_CHANGES_MAX])
{
    size_t count = 0;

    assert(restate->error == 0);
    if (restate->changes_chunk)
        changes[count++] = (struct state_change){
            .kind = STATE_CHUNK,
            .chunk = restate->chunk,
            .entry = restate->after,
        };
    if (restate->changes_checkpoint)
        changes[count++] = (struct state_change){
            .kind = STATE_CHECKPOINT_CHUNK,
            .chunk = restate->chunk,
            .entry = restate->checkpoint,
        };
    assert(count > 0);
    return count;
}

static void remove_file(struct fold_device *device, struct restate *restate)
{
    int error;

    open_chunks_drop(device->reader->open_chunks, restate->chunk);
    error = chunk_file_remove(device->reader->dir, restate->chunk);
    /* The state log says that it is void: only space is lost. */
    if (error != 0)
        log_warning("%s: chunk %016" PRIx64 ": its file cannot be removed: %s",
                    device->device_name, restate->chunk, log_errno(error));
}

void restate_install(struct fold_device *device, struct restate *restate)
{
    struct open_chunks *chunks = device->reader->open_chunks;

    if (!restate->changes_chunk)
        return;
    if (restate->before.file_pages > restate->after.file_pages)
        restate->pages_freed =
            restate->before.file_pages - restate->after.file_pages;
    if (restate->table != NULL)
        open_chunk_release(chunks,
                           open_chunks_put(chunks, restate->chunk,
                                           chunk_file_hold(restate->file),
                                           chunk_table_hold(restate->table)));
    else
        remove_file(device, restate);
}

void restate_done(struct restate *restate)
{
    chunk_file_release(restate->file);
    chunk_table_release(restate->table);
    restate->file = NULL;
    restate->table = NULL;
}
