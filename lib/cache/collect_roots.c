/* SPDX-License-Identifier: BSD-2-Clause */
/* What must stay, and which images end. */
#include "cache/collect_parts.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "cache/image.h"
#include "cache/snapshot.h"
#include "object_store.h"

enum { DOOMED_MAX = 16 }; /* images in one run: bounds its memory */

static int read_lists(struct collect *c)
{
    int error = condemned_lists_read(c->options->store, c->options->device_name,
                                     &c->lists);

    for (size_t i = 0; i < c->lists.count && !error; i++) {
        struct condemned_list *list = &c->lists.items[i];
        struct condemned_page page;

        if (!collect_is_complete(list))
            continue;
        error = collect_read_page(c, list, 0, true, &c->old_ends, &page);
        if (!error && page.page < list->pages)
            list->has_other = true; /* makes no sense: as without end */
        else if (!error)
            error = collect_read_page(c, list, 0, false, &c->old_roots, &page);
    }
    return error;
}

/* Read the epochs; the newest must be ours. */
static int read_history(struct collect *c)
{
    const struct collect_options *options = c->options;
    const struct epoch_record *newest;
    int error = history_read(options->store, options->device_name, &c->history);

    if (error)
        return error;
    if (c->history.count == 0)
        return -ESTALE;
    newest = &c->history.epochs[c->history.count - 1].record;
    if (!epoch_is_same(newest, &options->own) ||
        newest->kind == EPOCH_TOMBSTONE ||
        (c->history.count > 1 &&
         newest[0].epoch ==
             c->history.epochs[c->history.count - 2].record.epoch))
        return -ESTALE;
    history_judge(&c->history, options->keep < 1 ? 1 : options->keep,
                  c->old_roots.items, c->old_roots.count, options->others);
    return 0;
}

static int add_root(struct roots *roots, const struct root_ref *root)
{
    return root->size > 0 ? roots_add(roots, root) : 0;
}

/* A snapshot_each. */
static int add_snapshot(void *context, const struct snapshot *snapshot)
{
    struct collect *c = context;

    return c->dropped && strcmp(snapshot->name, c->dropped) == 0
               ? 0
               : add_root(c->roots, &snapshot->record.root);
}

static bool root_is_gone(const struct collect *c, const struct root_ref *root,
                         int *ret_error)
{
    struct object_info info;
    char key[IMAGE_KEY_MAX];
    int error;

    image_page_key(c->options->device_name, root->epoch, root->nonce,
                   root->page, key);
    error = c->options->store->head(c->options->store, key, &info);
    *ret_error = error == -ENOENT ? 0 : error;
    if (*ret_error)
        log_error("%s: %s", key, log_errno(error));
    return error == -ENOENT;
}

/*
 * Whether a pin is one of a clone that never came to be, of an image that went
 * before it was pinned: it holds nothing, and would end every run.
 */
static int pin_is_void(const struct collect *c, const struct pin *pin,
                       bool *ret_is_void)
{
    struct epoch_newest newest;
    int error;

    *ret_is_void = false;
    if (!root_is_gone(c, &pin->record.root, &error))
        return error;
    error = epoch_read_newest(c->options->store, pin->clone, pin->clone_epoch,
                              &newest);
    *ret_is_void = !error && newest.count == 0;
    return error;
}

/* A pin_each: a root, as long as the clone is there or may come to be. */
static int add_pin(void *context, const struct pin *pin)
{
    struct collect *c = context;
    struct condemned item = {.kind = CONDEMNED_PIN,
                             .epoch = get_be64(pin->uuid),
                             .nonce = get_be64(pin->uuid + 8)};
    bool is_needed, is_void = false;
    int error = pin_is_needed(c->options->store, pin, &is_needed);

    if (!error && is_needed)
        error = pin_is_void(c, pin, &is_void);
    if (error)
        return error;
    if (is_needed && !is_void)
        return add_root(c->roots, &pin->record.root);
    return collect_push(&c->ends, &item);
}

/*
 * Add the image of an epoch that is kept for it.  A landmark outlives its
 * image: should keep have grown since, there is nothing left to keep.
 */
static int add_kept(struct collect *c, size_t index)
{
    const struct history_epoch *epoch = &c->history.epochs[index];
    const struct root_ref *root = &epoch->record.root;
    bool is_newest = index + 1 == c->history.count;
    int error = 0;

    if (!epoch->has_kept_image)
        return 0;
    if (epoch->is_landmark && !is_newest &&
        (root_is_gone(c, root, &error) || error))
        return error;
    return add_root(c->roots, root);
}

static int read_roots(struct collect *c)
{
    const struct collect_options *options = c->options;
    int error = 0;

    roots_add_catalogs(c->roots, options->catalog, options->checkpoint);
    for (size_t i = 0; i < c->history.count && !error; i++)
        error = add_kept(c, i);
    if (!error && options->intent.epoch > 0)
        error = add_root(c->roots, &options->intent.root);
    if (!error)
        error = snapshot_list(options->store, options->device_name,
                              add_snapshot, c);
    if (!error)
        error = pin_list(options->store, options->device_name, add_pin, c);
    return error;
}

int collect_find_roots(struct collect *c)
{
    int error = read_lists(c);

    if (!error)
        error = read_history(c);
    return error ? error : read_roots(c);
}

/* ---- what is doomed -------------------------------------------------------
 */

/*
 * An image that is not kept as such: it goes, unless it is a root for another
 * reason, or went already.  *ret_is_settled: it needs no other run for that.
 */
static int doom(struct collect *c, const struct root_ref *root,
                bool *ret_is_settled)
{
    int error = 0;

    *ret_is_settled = true;
    if (root->size == 0 || roots_find(c->roots, root) ||
        roots_find(c->doomed, root) ||
        history_names_root(c->old_roots.items, c->old_roots.count, root))
        return 0;
    if (root_is_gone(c, root, &error) || error)
        return error;
    if (roots_count(c->doomed) == DOOMED_MAX) {
        c->counts->has_more = true;
        *ret_is_settled = false;
        return 0;
    }
    return roots_add(c->doomed, root);
}

/* A snapshot_each. */
static int doom_snapshot(void *context, const struct snapshot *snapshot)
{
    struct collect *c = context;
    bool is_settled;

    return strcmp(snapshot->name, c->dropped) == 0
               ? doom(c, &snapshot->record.root, &is_settled)
               : 0;
}

/* A pin_each: that of a clone that was dropped. */
static int doom_pin(void *context, const struct pin *pin)
{
    struct collect *c = context;
    struct condemned item = {.kind = CONDEMNED_PIN,
                             .epoch = get_be64(pin->uuid),
                             .nonce = get_be64(pin->uuid + 8)};
    bool is_settled = false;
    int error;

    if (!collect_heap_has(&c->ends, &item))
        return 0;
    error = doom(c, &pin->record.root, &is_settled);
    /* It stays until its image has its turn; or it is on a list already. */
    for (size_t i = 0; i < c->ends.count; i++) {
        if ((!is_settled || collect_heap_has(&c->old_ends, &item)) &&
            condemned_compare(&c->ends.items[i], &item) == 0)
            c->ends.items[i--] = c->ends.items[--c->ends.count];
    }
    return error;
}

int collect_find_doomed(struct collect *c)
{
    const struct collect_options *options = c->options;
    int error = 0;

    if (c->dropped)
        error = snapshot_list(options->store, options->device_name,
                              doom_snapshot, c);
    if (!error && c->ends.count > 0)
        error = pin_list(options->store, options->device_name, doom_pin, c);
    for (size_t i = 0; i < c->history.count && !error; i++) {
        const struct history_epoch *epoch = &c->history.epochs[i];
        struct condemned item = {.kind = CONDEMNED_EPOCH,
                                 .epoch = epoch->record.epoch,
                                 .nonce = epoch->record.nonce,
                                 .number = epoch->record.key_has_nonce};
        bool is_settled;

        error = doom(c, &epoch->record.root, &is_settled);
        if (error || epoch->is_kept || !is_settled ||
            collect_heap_has(&c->old_ends, &item))
            continue;
        if (c->ends.count < CONDEMNED_COUNT_MAX)
            error = collect_push(&c->ends, &item);
        else
            c->counts->has_more = true;
    }
    return error;
}
