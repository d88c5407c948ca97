/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/holders.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "cache/history.h"
#include "cache/image.h"
#include "cache/snapshot.h"
#include "object_store.h"

enum {
    WHAT_MAX = 2 * DEVICE_NAME_MAX + SNAPSHOT_NAME_MAX + 64,
    DEVICES_MAX = 64, /* of a line of clones, and their number */
};

struct holder {
    struct image *image; /* NULL: it cannot be read */
    int error;           /* why */
    char what[WHAT_MAX];
};

struct holders {
    struct object_store *store;
    struct holder *items;
    size_t count, room;
    char devices[DEVICES_MAX][DEVICE_NAME_MAX + 1];
    size_t devices_count;
    const char *device_name; /* whose images are being looked for */
};

static void add_device(struct holders *holders, const char *name)
{
    char *to;

    for (size_t i = 0; i < holders->devices_count; i++) {
        if (strcmp(holders->devices[i], name) == 0)
            return;
    }
    if (holders->devices_count == DEVICES_MAX)
        return;
    to = holders->devices[holders->devices_count++];
    (void)snprintf(to, DEVICE_NAME_MAX + 1, "%s", name);
}

/* Whether an image with that root is among them. */
static bool has_root(const struct holders *holders, const struct root_ref *root,
                     size_t from)
{
    bool is_there = false;

    for (size_t i = from; i < holders->count && !is_there; i++) {
        const struct root_ref *own =
            holders->items[i].image ? image_root_ref(holders->items[i].image)
                                    : NULL;

        is_there = own && own->epoch == root->epoch &&
                   own->nonce == root->nonce && own->page == root->page;
    }
    return is_there;
}

/* Add an image of the device that is being looked at. */
static int add_image(struct holders *holders, const struct root_ref *root,
                     const char *what)
{
    struct holder *holder;

    if (root->size == 0)
        return 0;
    if (holders->count == holders->room) {
        size_t room = holders->room * 2 + 16;
        struct holder *items =
            reallocarray(holders->items, room, sizeof(*items));

        if (!items)
            return -ENOMEM;
        holders->items = items;
        holders->room = room;
    }
    holder = &holders->items[holders->count];
    *holder = (struct holder){.image = NULL};
    (void)snprintf(holder->what, sizeof(holder->what), "%s", what);
    holder->error =
        image_open(holders->store, holders->device_name, root, &holder->image);
    if (holder->error == -ENOMEM)
        return -ENOMEM;
    holders->count++;
    return 0;
}

/* A snapshot_each. */
static int add_snapshot(void *context, const struct snapshot *snapshot)
{
    struct holders *holders = context;
    char what[WHAT_MAX];

    (void)snprintf(what, sizeof(what), "snapshot %s@%s", holders->device_name,
                   snapshot->name);
    return add_image(holders, &snapshot->record.root, what);
}

/* A pin_each. */
static int add_pin(void *context, const struct pin *pin)
{
    struct holders *holders = context;
    char what[WHAT_MAX];

    add_device(holders, pin->clone);
    (void)snprintf(what, sizeof(what), "clone %s of %s", pin->clone,
                   holders->device_name);
    return add_image(holders, &pin->record.root, what);
}

/* Whether the root of an epoch is there: of old ones the record alone is. */
static bool has_image(const struct holders *holders,
                      const struct epoch_record *record)
{
    struct object_info info;
    char key[IMAGE_KEY_MAX];

    if (record->root.size == 0)
        return false;
    image_page_key(holders->device_name, record->root.epoch, record->root.nonce,
                   record->root.page, key);
    return holders->store->head(holders->store, key, &info) != -ENOENT;
}

/* The images of the device's epochs, each once, the newest under its name. */
static int add_epochs(struct holders *holders)
{
    struct history history = {.count = 0};
    size_t from = holders->count;
    int error = history_read(holders->store, holders->device_name, &history);

    for (size_t i = history.count; i > 0 && !error; i--) {
        const struct epoch_record *record = &history.epochs[i - 1].record;
        char what[WHAT_MAX];

        if (has_root(holders, &record->root, from) ||
            !has_image(holders, record))
            continue;
        (void)snprintf(what, sizeof(what), "image %" PRIu64 " of %s",
                       record->image_epoch, holders->device_name);
        error = add_image(holders, &record->root, what);
    }
    history_done(&history);
    return error;
}

int holders_new(struct object_store *store, const char *device_name,
                const char *other_name, struct holders **ret_holders)
{
    struct holders *holders = calloc(1, sizeof(*holders));
    int error = 0;

    if (!holders)
        return -ENOMEM;
    holders->store = store;
    add_device(holders, device_name);
    if (other_name)
        add_device(holders, other_name);
    for (size_t i = 0; i < holders->devices_count && !error; i++) {
        holders->device_name = holders->devices[i];
        error = add_epochs(holders);
        if (!error)
            error = snapshot_list(store, holders->device_name, add_snapshot,
                                  holders);
        if (!error)
            error = pin_list(store, holders->device_name, add_pin, holders);
    }
    if (error) {
        holders_free(holders);
        return error;
    }
    *ret_holders = holders;
    return 0;
}

void holders_free(struct holders *holders)
{
    if (!holders)
        return;
    for (size_t i = 0; i < holders->count; i++)
        image_close(holders->items[i].image);
    free(holders->items);
    free(holders);
}

/* Returns 1 if the image names it, 0, or why that cannot be told. */
static int names(const struct holder *holder, uint64_t chunk,
                 const struct object_id *id)
{
    struct image_entry entry;
    int result;

    if (!holder->image)
        return holder->error;
    result = image_get(holder->image, chunk, &entry);
    image_forget_leaf(holder->image);
    if (result <= 0)
        return result;
    for (unsigned i = 0; i < entry.objects_count; i++) {
        if (object_id_is(&entry.objects[i].id, id))
            return 1;
    }
    return 0;
}

int holders_each(struct holders *holders, uint64_t chunk,
                 const struct object_id *id, holders_tell *tell, void *context)
{
    int result = 0;

    for (size_t i = 0; i < holders->count && result == 0; i++) {
        int is_named = names(&holders->items[i], chunk, id);

        if (is_named != 0)
            result = tell(context, holders->items[i].what, is_named);
    }
    return result;
}
