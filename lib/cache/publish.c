/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/publish.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "cache/catalog.h"
#include "cache/claim.h"
#include "cache/device.h"
#include "cache/image.h"
#include "cache/state_log.h"

/* The chunks of a checkpoint, in their order. */
struct changes {
    struct catalog *checkpoint;
    uint64_t from;
};

static bool is_uploaded(const struct catalog_entry *entry)
{
    return (entry->flags & (CATALOG_ZERO | CATALOG_HOLE)) != 0 ||
           (entry->uploaded_generation == entry->generation &&
            entry->objects_count > 0);
}

/* image_changes */
static int next_change(void *context, struct image_change *ret_change)
{
    struct changes *changes = context;
    struct catalog_entry entry;
    uint64_t chunk;

    if (!catalog_next(changes->checkpoint, changes->from, UINT64_MAX, &chunk))
        return 0;
    changes->from = chunk + 1;
    catalog_get(changes->checkpoint, chunk, &entry);
    if (!is_uploaded(&entry))
        return -EAGAIN;
    memset(ret_change, 0, sizeof(*ret_change));
    ret_change->chunk = chunk;
    ret_change->is_hole = (entry.flags & CATALOG_HOLE) != 0;
    if ((entry.flags & (CATALOG_ZERO | CATALOG_HOLE)) == 0) {
        ret_change->entry.objects_count = entry.objects_count;
        memcpy(ret_change->entry.objects, entry.objects,
               entry.objects_count * sizeof(entry.objects[0]));
    }
    return 1;
}

/* -EAGAIN, before anything is asked of the store, if something is missing. */
static int check_complete(struct catalog *checkpoint)
{
    struct changes changes = {checkpoint, 0};
    struct image_change change;
    int error;

    do {
        error = next_change(&changes, &change);
    } while (error > 0);
    return error;
}

/* Write the pages of the next image, and read its root back. */
static int write_pages(struct device *device, struct object_store *store,
                       struct image *base, uint64_t epoch,
                       struct claim_image *image)
{
    struct changes changes = {device_checkpoint_catalog(device), 0};
    struct image_update update = {
        .store = store,
        .device_name = device_name(device),
        .base = base,
        .size = device_size(device),
        .chunk_size = device_chunk_size(device),
        .epoch = epoch,
        .next = next_change,
        .context = &changes,
    };
    struct image *made;
    int error;

    if (getrandom(&update.nonce, sizeof(update.nonce), 0) !=
        sizeof(update.nonce))
        return -EIO;
    error = image_update(&update, &image->root);
    if (error != 0)
        return error;
    /* The epoch must not name what is not there. */
    error = image_open(store, device_name(device), &image->root, &made);
    if (error != 0)
        return error;
    image->chunks = image_root(made)->chunks;
    image_close(made);
    return 0;
}

static int publish(struct device *device, struct object_store *store,
                   struct claim *claim, const struct root_ref *base_root,
                   uint64_t time_ns)
{
    struct claim_image image = {.content_time_ns = time_ns};
    struct image *base = NULL;
    uint64_t epoch, nonce;
    int error = claim_next(claim, &epoch, &nonce);

    if (error == 0 && base_root->size > 0)
        error = image_open(store, device_name(device), base_root, &base);
    if (error == 0)
        error = write_pages(device, store, base, epoch, &image);
    image_close(base);
    return error != 0 ? error : claim_publish(claim, &image);
}

int publish_checkpoint(struct device *device, struct object_store *store,
                       struct claim *claim, bool *ret_is_new)
{
    struct catalog *checkpoint = device_checkpoint_catalog(device);
    struct epoch_record content = {.root = {.size = 0}};
    struct state_facts facts;
    bool has_image;
    int error;

    state_log_facts(device_state_log(device), &facts);
    if (facts.phase != CHECKPOINT_OPEN)
        return -ENOENT;
    error = claim_content(claim, &content);
    if (error != 0 && error != -ENOENT)
        return error;
    has_image = error == 0 && content.root.size > 0;
    if (has_image && catalog_count(checkpoint) == 0) {
        error = device_drop_checkpoint(device);
        if (error == 0)
            *ret_is_new = false;
        return error;
    }
    error = check_complete(checkpoint);
    if (error == 0)
        error = publish(device, store, claim, &content.root,
                        facts.checkpoint_time_ns);
    if (error != 0)
        return error;
    if (claim_content(claim, &content) == 0)
        log_info("%s: image published, epoch %" PRIu64, device_name(device),
                 content.image_epoch);
    *ret_is_new = true;
    return 0;
}
