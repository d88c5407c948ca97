/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/fork.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cache/catalog.h"
#include "cache/device.h"
#include "cache/image.h"
#include "cache/upload.h"
#include "object_store.h"

enum { TRIES = 3 };

struct copying {
    const struct fork_plan *plan;
    struct upload_context context;
    uint64_t epoch, nonce; /* of the new device's first epoch, and its ids */
    uint64_t chunk;        /* where to go on */
    uint64_t counter;      /* of the last id */
    uint64_t chunks;       /* that were copied */
    uint64_t damaged;      /* blocks of these */
};

/* ---- a chunk --------------------------------------------------------------
 */

static bool is_in_bucket(const struct catalog_entry *entry)
{
    return entry->objects_count > 0 &&
           entry->uploaded_generation == entry->generation;
}

static int copy_state(struct copying *copying, const struct catalog_entry *from,
                      bool from_bucket, enum upload_loss loss, uint64_t chunk,
                      struct image_entry *ret_entry)
{
    struct upload_work work = {
        .chunk = chunk,
        .generation = from->generation,
        .revision = from->revision,
        .id = {copying->epoch, copying->nonce, ++copying->counter},
        .loss = loss,
    };
    struct upload_copy copy = {
        .device_name = copying->plan->name,
        .newest = from_bucket ? &from->objects[from->objects_count - 1] : NULL,
    };
    struct upload_result result = {.table = NULL};
    struct chunk_table *table;
    int error = upload_copy_chunk(&copying->context, &work, &copy, &result);

    if (error != 0)
        return error;
    error = upload_decode_table(result.table, result.table_size, &work,
                                copying->context.chunk_size, &table);
    if (error == 0) {
        ret_entry->objects_count = 1;
        ret_entry->objects[0] = table->objects[table->objects_count - 1];
        copying->damaged += result.damaged;
        chunk_table_release(table);
    }
    free(result.table);
    return error;
}

/*
 * The file first; then the bucket, if it has the same; and what is left is
 * marked as damaged.
 */
static int copy_chunk(struct copying *copying, uint64_t chunk,
                      const struct catalog_entry *from,
                      struct image_entry *ret_entry)
{
    bool has_file = (from->flags & CATALOG_FILE) != 0;
    int error = -ESTALE;

    if (has_file)
        error =
            copy_state(copying, from, false, UPLOAD_NO_LOSS, chunk, ret_entry);
    if (error != 0 && is_in_bucket(from))
        error =
            copy_state(copying, from, true, UPLOAD_NO_LOSS, chunk, ret_entry);
    if (error == -EIO)
        error = copy_state(copying, from, !has_file, UPLOAD_BLOCKS_LOST, chunk,
                           ret_entry);
    if (error == -ESTALE)
        error = copy_state(copying, from, false, UPLOAD_TABLE_LOST, chunk,
                           ret_entry);
    if (error == 0)
        copying->chunks++;
    return error;
}

/* An image_changes: the next chunk that is not a hole, once it is copied. */
static int next_chunk(void *context, struct image_change *ret_change)
{
    struct copying *copying = context;
    const struct fork_plan *plan = copying->plan;
    struct catalog *catalog = device_catalog(plan->device);
    struct catalog_entry entry;
    uint64_t chunk;
    int error = 0;

    do {
        if (!catalog_next(catalog, copying->chunk, UINT64_MAX, &chunk))
            return 0;
        catalog_get(catalog, chunk, &entry);
        copying->chunk = chunk + 1;
    } while ((entry.flags & CATALOG_HOLE) != 0);
    if (plan->must_stop != NULL && plan->must_stop(plan->context))
        return -ECANCELED;
    memset(ret_change, 0, sizeof(*ret_change));
    ret_change->chunk = chunk;
    if ((entry.flags & CATALOG_ZERO) == 0)
        error = copy_chunk(copying, chunk, &entry, &ret_change->entry);
    return error != 0 ? error : 1;
}

/* ---- the new device --------------------------------------------------------
 */

/* Whether a key below the name is one that the store takes. */
static bool name_is_valid(const char *name, const char *old_name)
{
    return name[0] != '\0' && strlen(name) <= DEVICE_NAME_MAX &&
           strchr(name, '/') == NULL && object_key_is_valid(name) &&
           strcmp(name, old_name) != 0;
}

/* Find the number of its first epoch. */
static int find_place(const struct fork_plan *plan, uint64_t *ret_epoch)
{
    struct epoch_newest newest;
    int error = epoch_read_newest(plan->store, plan->name, 0, &newest);

    if (error != 0)
        return error;
    if (newest.count > 1 ||
        (newest.count == 1 && newest.records[0].kind != EPOCH_TOMBSTONE))
        return -EEXIST;
    *ret_epoch = newest.count == 0 ? 1 : newest.records[0].epoch + 1;
    return 0;
}

static int make_nonce(uint64_t *ret_nonce)
{
    uint8_t id[UUID_SIZE];
    int error = uuid_make(id);

    memcpy(ret_nonce, id, sizeof(*ret_nonce));
    *ret_nonce |= 1; /* never 0 */
    return error;
}

/* Write pages and objects. */
static int copy_all(struct copying *copying, struct epoch_record *record)
{
    const struct fork_plan *plan = copying->plan;
    struct image_update update = {
        .store = plan->store,
        .device_name = plan->name,
        .size = device_size(plan->device),
        .chunk_size = device_chunk_size(plan->device),
        .epoch = copying->epoch,
        .nonce = copying->nonce,
        .next = next_chunk,
        .context = copying,
    };
    struct image *image = NULL;
    int error = image_update(&update, &record->root);

    if (error == 0)
        error = image_open(plan->store, plan->name, &record->root, &image);
    if (error != 0)
        return error;
    record->chunks = image_root(image)->chunks;
    image_close(image);
    return 0;
}

static int make_record(const struct copying *copying,
                       struct epoch_record *record)
{
    const struct fork_plan *plan = copying->plan;
    uint8_t old_id[UUID_SIZE];

    record->kind = EPOCH_FORK;
    record->epoch = record->image_epoch = copying->epoch;
    record->nonce = record->image_nonce = copying->nonce;
    record->key_has_nonce = plan->key_has_nonce;
    record->time_ns = record->content_time_ns = plan->time_ns;
    record->size = device_size(plan->device);
    record->chunk_size = device_chunk_size(plan->device);
    (void)snprintf(record->host, sizeof(record->host), "%s", plan->host);
    device_ids(plan->device, old_id, record->cachedir_id);
    return uuid_make(record->device_id);
}

/* From here on it is a device; a lost answer should not hide it. */
static int create(const struct fork_plan *plan,
                  const struct epoch_record *record)
{
    enum epoch_outcome outcome = EPOCH_LOST;
    int error = -EIO;

    for (unsigned tries = 0; error != 0 && tries < TRIES; tries++)
        error =
            epoch_create(plan->store, plan->name, record, plan->pace, &outcome);
    if (error == 0 && outcome != EPOCH_OURS)
        error = -EEXIST;
    return error;
}

int fork_create(const struct fork_plan *plan, struct epoch_record *ret_record)
{
    const char *old_name = device_name(plan->device);
    struct epoch_record record = {.epoch = 0};
    struct copying copying = {
        .plan = plan,
        .context =
            {
                .device_name = old_name,
                .store = plan->store,
                .fetch = device_fetch(plan->device),
                .chunk_dir = device_chunk_dir(plan->device),
                .chunk_size = device_chunk_size(plan->device),
            },
    };
    int error;

    if (!name_is_valid(plan->name, old_name))
        return -EINVAL;
    error = find_place(plan, &copying.epoch);
    if (error == 0)
        error = make_nonce(&copying.nonce);
    if (error == 0)
        error = device_destage(plan->device);
    if (error == 0)
        error = copy_all(&copying, &record);
    if (error == 0)
        error = make_record(&copying, &record);
    if (error == 0)
        error = create(plan, &record);
    if (error != 0) {
        log_error("%s: cannot be forked as %s: %s", old_name, plan->name,
                  log_errno(error));
        return error;
    }
    log_info("%s: what is here is device %s now: %" PRIu64 " chunks, %" PRIu64
             " blocks of them damaged",
             old_name, plan->name, copying.chunks, copying.damaged);
    *ret_record = record;
    return 0;
}
