/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A run reads first what there is: lists, epochs, snapshots, pins; from these
 * follow the roots, and the images that are doomed.  Then it writes a list of
 * what only those name; then it works off the lists whose time has come.
 *
 *   list written    page 0, what is condemned, then its end.  Without its end
 *                   it is nothing: the next run removes it and begins again.
 *   list worked off objects and pages that no root names, from the last page
 *                   of the list to the first, each of which is then removed;
 *                   epochs; the roots of the images; the list's end, and page
 *                   0.  What is left of it after a crash is worked off again.
 *
 * An image whose root is on a list is never kept again, whatever keep says,
 * since some of it may be gone.
 */
#include "cache/collect.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/number.h"
#include "cache/condemned_lists.h"
#include "cache/fetch.h"
#include "cache/history.h"
#include "cache/image.h"
#include "cache/roots.h"
#include "cache/snapshot.h"
#include "object_store.h"

enum {
    DOOMED_MAX = 16,         /* images in one run: bounds its memory */
    DELETES_PER_CHECK = 256, /* of the claim */
    KEYS_AT_ONCE = 1000,     /* of a list that are deleted */
    EPOCHS_ALONE = 16,       /* so many are worth a list */
    LISTED_MAX = 1 << 20,    /* entries of lists beside which a scan runs */
    SCAN_MAX = 1 << 16,      /* objects, or pages, looked at together */
    PREFIX_MAX = CONDEMNED_KEY_MAX,
};

/* Condemned things, one after the other. */
struct heap {
    struct condemned *items;
    size_t count;
    size_t room;
};

struct collect {
    const struct collect_options *options;
    struct collect_counts *counts;
    const char *dropped; /* the snapshot that goes; NULL: none */
    bool must_scan;      /* in another run, after this one */
    struct history history;
    struct condemned_lists lists; /* of earlier runs */
    struct roots *roots;
    struct roots *doomed;
    struct heap old_roots;     /* on complete lists */
    struct heap old_ends;      /* epochs and pins on complete lists */
    struct heap ends;          /* epochs and pins for the list of this run */
    struct condemned *entries; /* of a page; CONDEMNED_COUNT_MAX */
    /* The list of this run. */
    bool has_begun;
    struct condemned_page page;
    struct condemned *list; /* page.count of them */
    unsigned deletes;       /* since the claim was looked at */
};

/* ---- small things ---------------------------------------------------------
 */

static int push(struct heap *heap, const struct condemned *item)
{
    if (heap->count == heap->room) {
        size_t room = heap->room * 2 + 64;
        struct condemned *items =
            reallocarray(heap->items, room, sizeof(*items));

        if (!items)
            return -ENOMEM;
        heap->items = items;
        heap->room = room;
    }
    heap->items[heap->count++] = *item;
    return 0;
}

static bool heap_has(const struct heap *heap, const struct condemned *item)
{
    bool has = false;

    for (size_t i = 0; i < heap->count && !has; i++)
        has = condemned_compare(&heap->items[i], item) == 0;
    return has;
}

static int check_stop(const struct collect *c)
{
    return c->options->must_stop && c->options->must_stop(c->options->context)
               ? -ECANCELED
               : 0;
}

struct look {
    const struct epoch_record *own;
    bool is_there;
    bool is_lost;
};

/* An epoch_each: is it ours, and the newest? */
static int look_at_epoch(void *context, const char *key,
                         const struct epoch_record *listed,
                         const struct object_info *info)
{
    struct look *look = context;

    (void)key;
    (void)info;
    if (listed->epoch == look->own->epoch &&
        listed->key_has_nonce == look->own->key_has_nonce &&
        (!listed->key_has_nonce || listed->nonce == look->own->nonce))
        look->is_there = true;
    else
        look->is_lost = true;
    return 0;
}

/* Whether the newest epoch is still ours: nothing is changed without that. */
static int check_claim(struct collect *c)
{
    const struct collect_options *options = c->options;
    struct look look = {.own = &options->own};
    int error = epoch_list(options->store, options->device_name,
                           options->own.epoch, look_at_epoch, &look);

    c->deletes = 0;
    if (!error && (look.is_lost || !look.is_there))
        error = -ESTALE;
    return error;
}

static int delete_key(struct collect *c, const char *key)
{
    int error = check_stop(c);

    if (!error && ++c->deletes > DELETES_PER_CHECK)
        error = check_claim(c);
    if (error)
        return error;
    error = c->options->store->delete (c->options->store, key);
    if (error)
        log_error("%s: cannot delete: %s", key, log_errno(error));
    return error;
}

/* Some keys of a list. */
struct some_keys {
    const char *but; /* not this one; NULL: all */
    char *items[KEYS_AT_ONCE];
    size_t count;
};

/* An object_store_each. */
static int take_key(void *context, const char *key,
                    const struct object_info *info)
{
    struct some_keys *keys = context;

    (void)info;
    if (keys->but && strcmp(key, keys->but) == 0)
        return 0;
    if (keys->count == KEYS_AT_ONCE)
        return 1;
    keys->items[keys->count] = strdup(key);
    if (!keys->items[keys->count])
        return -ENOMEM;
    keys->count++;
    return 0;
}

/* Delete all that is below <device>/<rest>, but that key. */
static int delete_below(struct collect *c, const char *rest, const char *but)
{
    struct object_store *store = c->options->store;
    AUTO_FREE struct some_keys *keys = calloc(1, sizeof(*keys));
    char prefix[PREFIX_MAX];
    int result = 1;

    if (!keys)
        return -ENOMEM;
    (void)snprintf(prefix, sizeof(prefix), "%s/%s", c->options->device_name,
                   rest);
    while (result == 1) {
        keys->but = but;
        keys->count = 0;
        result = store->list(store, prefix, "", take_key, keys);
        if (result < 0)
            log_error("%s: cannot list in the bucket: %s", prefix,
                      log_errno(result));
        for (size_t i = 0; i < keys->count; i++) {
            int error = result < 0 ? 0 : delete_key(c, keys->items[i]);

            result = error ? error : result;
            free(keys->items[i]);
        }
    }
    return result == -ENOENT ? -EIO : result;
}

/* Tell the time by the store's clock. */
static int store_now(struct collect *c, uint64_t *ret_now_ns)
{
    struct object_store *store = c->options->store;
    struct object_info info;
    char key[PREFIX_MAX];
    uint64_t nonce;
    int error = 0;

    if (getrandom(&nonce, sizeof(nonce), 0) != (ssize_t)sizeof(nonce))
        return -EIO;
    (void)snprintf(key, sizeof(key), "%s/clock/%016" PRIx64,
                   c->options->device_name, nonce);
    error = store->put(store, key, "", 0, false);
    if (!error)
        error = store->head(store, key, &info);
    if (error) {
        log_error("%s: cannot tell the store's time: %s", key,
                  log_errno(error));
        return error == -ENOENT ? -EIO : error;
    }
    *ret_now_ns = info.modified_ns;
    return delete_below(c, "clock/", NULL);
}

/* ---- what there is --------------------------------------------------------
 */

static bool is_complete(const struct condemned_list *list)
{
    return list->has_end && !list->has_other && list->pages > 0;
}

/* Read a page of a list into c->entries, and keep a copy of what is in it. */
static int read_into(struct collect *c, const struct condemned_list *list,
                     uint32_t page, bool is_end, struct heap *heap,
                     struct condemned_page *ret_page)
{
    int error = condemned_lists_page(c->options->store, c->options->device_name,
                                     list, page, is_end, ret_page, c->entries);

    for (uint32_t i = 0; !error && i < ret_page->count; i++)
        error = push(heap, &c->entries[i]);
    return error;
}

static int read_lists(struct collect *c)
{
    int error = condemned_lists_read(c->options->store, c->options->device_name,
                                     &c->lists);

    for (size_t i = 0; i < c->lists.count && !error; i++) {
        struct condemned_list *list = &c->lists.items[i];
        struct condemned_page page;

        if (!is_complete(list))
            continue;
        error = read_into(c, list, 0, true, &c->old_ends, &page);
        if (!error && page.page < list->pages)
            list->has_other = true; /* makes no sense: as without end */
        else if (!error)
            error = read_into(c, list, 0, false, &c->old_roots, &page);
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
    return push(&c->ends, &item);
}

static int read_roots(struct collect *c)
{
    const struct collect_options *options = c->options;
    int error = 0;

    roots_add_catalogs(c->roots, options->catalog, options->checkpoint);
    for (size_t i = 0; i < c->history.count && !error; i++) {
        if (c->history.epochs[i].has_kept_image)
            error = add_root(c->roots, &c->history.epochs[i].record.root);
    }
    if (!error && options->intent.epoch > 0)
        error = add_root(c->roots, &options->intent.root);
    if (!error)
        error = snapshot_list(options->store, options->device_name,
                              add_snapshot, c);
    if (!error)
        error = pin_list(options->store, options->device_name, add_pin, c);
    return error;
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

    return c->dropped && strcmp(snapshot->name, c->dropped) == 0
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

    if (!heap_has(&c->ends, &item))
        return 0;
    error = doom(c, &pin->record.root, &is_settled);
    /* It stays until its image has its turn; or it is on a list already. */
    for (size_t i = 0; i < c->ends.count; i++) {
        if ((!is_settled || heap_has(&c->old_ends, &item)) &&
            condemned_compare(&c->ends.items[i], &item) == 0)
            c->ends.items[i--] = c->ends.items[--c->ends.count];
    }
    return error;
}

static int find_doomed(struct collect *c)
{
    const struct collect_options *options = c->options;
    int error =
        snapshot_list(options->store, options->device_name, doom_snapshot, c);

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
            heap_has(&c->old_ends, &item))
            continue;
        if (c->ends.count < CONDEMNED_COUNT_MAX)
            error = push(&c->ends, &item);
        else
            c->counts->has_more = true;
    }
    return error;
}

/* ---- condemn --------------------------------------------------------------
 */

static int put_list_page(struct collect *c, const struct condemned items[])
{
    struct object_store *store = c->options->store;
    AUTO_FREE void *data = malloc(CONDEMNED_PAGE_MAX);
    char key[CONDEMNED_KEY_MAX];
    int error = check_stop(c);

    if (!data)
        return -ENOMEM;
    if (error)
        return error;
    condemned_key(c->options->device_name, &c->page, key);
    error = store->put(store, key, data,
                       condemned_encode(&c->page, items, data), false);
    if (error)
        log_error("%s: cannot create: %s", key, log_errno(error));
    c->page.page++;
    c->page.count = 0;
    return error;
}

/* Write page 0: from now on nobody can pin, or name, the doomed images. */
static int begin_list(struct collect *c)
{
    int error = check_claim(c);

    c->page = (struct condemned_page){.epoch = c->options->own.epoch};
    if (!error && getrandom(&c->page.nonce, sizeof(c->page.nonce), 0) !=
                      (ssize_t)sizeof(c->page.nonce))
        error = -EIO;
    for (size_t i = 0; i < roots_count(c->doomed) && !error; i++) {
        const struct root_ref *root = image_root_ref(roots_image(c->doomed, i));

        c->list[c->page.count++] = (struct condemned){.kind = CONDEMNED_ROOT,
                                                      .epoch = root->epoch,
                                                      .nonce = root->nonce,
                                                      .number = root->page};
    }
    c->counts->condemned += c->page.count;
    if (!error)
        error = put_list_page(c, c->list);
    c->has_begun = !error;
    return error;
}

/* Add one to the list, which begins with the first. */
static int condemn_one(struct collect *c, const struct condemned *item)
{
    int error = c->has_begun ? 0 : begin_list(c);

    if (!error && c->page.count == CONDEMNED_COUNT_MAX)
        error = put_list_page(c, c->list);
    if (error)
        return error;
    c->list[c->page.count++] = *item;
    c->counts->condemned++;
    return 0;
}

static int compare(const void *a, const void *b)
{
    return condemned_compare(a, b);
}

/* Condemn those of the objects, all of one leaf, that no root names. */
static int condemn_objects(struct collect *c, struct heap *objects)
{
    AUTO_FREE bool *is_named = calloc(objects->count + 1, sizeof(bool));
    size_t kept = 0;
    int error;

    if (!is_named)
        return -ENOMEM;
    if (objects->count == 0)
        return 0;
    qsort(objects->items, objects->count, sizeof(objects->items[0]), compare);
    for (size_t i = 1; i < objects->count; i++) {
        if (condemned_compare(&objects->items[i], &objects->items[kept]) != 0)
            objects->items[++kept] = objects->items[i];
    }
    objects->count = kept + 1;
    error = roots_mark(c->roots, objects->items, is_named, objects->count);
    for (size_t i = 0; i < objects->count && !error; i++) {
        if (!is_named[i])
            error = condemn_one(c, &objects->items[i]);
    }
    return error;
}

/* Whether an earlier doomed image has the same leaf. */
static bool was_seen(const struct collect *c, size_t index,
                     const struct manifest_leaf_ref *ref)
{
    bool was = false;

    for (size_t i = 0; i < index && !was; i++) {
        const struct manifest_leaf_ref *other =
            image_leaf_ref(roots_image(c->doomed, i), ref->number);

        was = other && other->origin == 0 && other->epoch == ref->epoch &&
              other->nonce == ref->nonce && other->page == ref->page;
    }
    return was;
}

/* Add the objects of a leaf that are this device's, and free. */
static int gather(struct collect *c, struct image *image, uint64_t number,
                  struct heap *objects)
{
    const struct manifest_leaf *leaf = NULL;
    int result = image_read_leaf(image, number, &leaf);

    for (unsigned i = 0; result > 0 && i < MANIFEST_LEAF_CHUNKS; i++) {
        for (uint32_t o = leaf->first[i]; result > 0 && o < leaf->first[i + 1];
             o++) {
            const struct chunk_object *object = &leaf->objects[o];
            struct condemned item = {.kind = CONDEMNED_OBJECT,
                                     .chunk = number * MANIFEST_LEAF_CHUNKS + i,
                                     .epoch = object->id.epoch,
                                     .nonce = object->id.nonce,
                                     .number = object->id.counter};

            if (object->origin == 0 &&
                history_id_is_free(&c->history, object->id.epoch) &&
                push(objects, &item) != 0)
                result = -ENOMEM;
        }
    }
    image_forget_leaf(image);
    return result < 0 ? result : 0;
}

/* Condemn what the doomed images have in the leaf of that number. */
static int condemn_leaf(struct collect *c, uint64_t number)
{
    struct heap objects = {.count = 0};
    int error = check_stop(c);

    for (size_t i = 0; i < roots_count(c->doomed) && !error; i++) {
        struct image *image = roots_image(c->doomed, i);
        const struct manifest_leaf_ref *ref = image_leaf_ref(image, number);
        struct condemned page = {.kind = CONDEMNED_PAGE};

        if (!ref || ref->origin != 0 || was_seen(c, i, ref) ||
            roots_name_leaf(c->roots, ref))
            continue;
        page.epoch = ref->epoch;
        page.nonce = ref->nonce;
        page.number = ref->page;
        error = condemn_one(c, &page);
        if (!error)
            error = gather(c, image, number, &objects);
    }
    if (!error)
        error = condemn_objects(c, &objects);
    free(objects.items);
    return error;
}

/* Tell the lowest number >= from of a leaf that a doomed image has. */
static bool next_leaf(const struct collect *c, uint64_t from,
                      uint64_t *ret_number)
{
    bool is_found = false;

    for (size_t i = 0; i < roots_count(c->doomed); i++) {
        uint64_t number;

        if (image_next_leaf(roots_image(c->doomed, i), from, &number) &&
            (!is_found || number < *ret_number)) {
            *ret_number = number;
            is_found = true;
        }
    }
    return is_found;
}

static int end_list(struct collect *c)
{
    int error = 0;

    if (c->page.count > 0)
        error = put_list_page(c, c->list);
    if (error)
        return error;
    c->page.is_end = true;
    c->page.count = (uint32_t)c->ends.count;
    error = put_list_page(c, c->ends.items);
    if (!error)
        c->counts->is_waiting = true;
    return error;
}

/* Whether it is worth a list: some epochs alone can wait for an image. */
static bool has_doomed(const struct collect *c)
{
    size_t pins = 0;

    for (size_t i = 0; i < c->ends.count; i++)
        pins += c->ends.items[i].kind == CONDEMNED_PIN;
    return roots_count(c->doomed) > 0 || pins > 0 ||
           c->ends.count >= EPOCHS_ALONE;
}

/* Condemn what the doomed images have, and no root. */
static int condemn(struct collect *c)
{
    uint64_t number = 0;
    int error = 0;

    if (has_doomed(c))
        error = begin_list(c);
    while (!error && next_leaf(c, number, &number))
        error = condemn_leaf(c, number++);
    return error;
}

/* ---- scan -----------------------------------------------------------------
 */

/* What a LIST has found, so far. */
struct scan {
    struct collect *c;
    size_t prefix_len;
    uint64_t now_ns;
    const struct heap *listed; /* sorted: what lists have already */
    struct heap found;
    char last[OBJECT_KEY_MAX + 1]; /* the key that the list came to */
};

/* Read 16 or 8 hexadecimal digits and what follows them, unless it is 0. */
static bool take_hex(const char **at, size_t len, char end, uint64_t *ret_value)
{
    char digits[17];

    if (strnlen(*at, len + 1) < len || (*at)[len] != end)
        return false;
    memcpy(digits, *at, len);
    digits[len] = '\0';
    *at += len + (end != '\0');
    return strspn(digits, "0123456789abcdef") == len &&
           number_parse_hex(digits, 0, UINT64_MAX, ret_value) == 0;
}

static bool is_old(const struct scan *scan, const struct object_info *info)
{
    return info->modified_ns <= scan->now_ns &&
           scan->now_ns - info->modified_ns >= scan->c->options->grace_ns;
}

static bool is_listed(const struct scan *scan, const struct condemned *item)
{
    return scan->listed->count > 0 &&
           bsearch(item, scan->listed->items, scan->listed->count,
                   sizeof(*item), compare) != NULL;
}

/* Whether an upload of our claim that is under way may have this id. */
static bool is_under_way(const struct collect *c, const struct condemned *item)
{
    return item->epoch >= c->options->claim_epoch &&
           item->number >= c->options->counter;
}

/* An object_store_each: the objects of one leaf, or some of them. */
static int scan_object(void *context, const char *key,
                       const struct object_info *info)
{
    struct scan *scan = context;
    struct heap *found = &scan->found;
    struct condemned item = {.kind = CONDEMNED_OBJECT};
    const char *at = key + scan->prefix_len;
    int error = 0;

    if (!take_hex(&at, 16, '/', &item.chunk) ||
        !take_hex(&at, 16, '-', &item.epoch) ||
        !take_hex(&at, 16, '-', &item.nonce) ||
        !take_hex(&at, 16, '\0', &item.number)) {
        log_warning("%s: not the key of an object, ignored", key);
    } else if (found->count > 0 &&
               (found->count == SCAN_MAX ||
                item.chunk / MANIFEST_LEAF_CHUNKS !=
                    found->items[0].chunk / MANIFEST_LEAF_CHUNKS)) {
        return 1;
    } else if (is_old(scan, info) && !is_listed(scan, &item) &&
               !is_under_way(scan->c, &item) &&
               history_id_is_free(&scan->c->history, item.epoch)) {
        error = push(found, &item);
    }
    (void)snprintf(scan->last, sizeof(scan->last), "%s", key);
    return error;
}

/* An object_store_each: the pages of manifests. */
static int scan_page(void *context, const char *key,
                     const struct object_info *info)
{
    struct scan *scan = context;
    struct condemned item = {.kind = CONDEMNED_PAGE}, root;
    const char *at = key + scan->prefix_len;
    int error = 0;

    if (!take_hex(&at, 16, '-', &item.epoch) ||
        !take_hex(&at, 16, '/', &item.nonce) ||
        !take_hex(&at, 8, '\0', &item.number)) {
        log_warning("%s: not the key of a page, ignored", key);
    } else if (scan->found.count == SCAN_MAX) {
        return 1;
    } else if (is_old(scan, info) && !is_listed(scan, &item)) {
        root = item;
        root.kind = CONDEMNED_ROOT;
        if (!heap_has(&scan->c->old_roots, &root))
            error = push(&scan->found, &item);
    }
    (void)snprintf(scan->last, sizeof(scan->last), "%s", key);
    return error;
}

/* Condemn the pages that were found, and are of no image. */
static int condemn_pages(struct collect *c, struct heap *pages)
{
    int error = check_stop(c);

    for (size_t i = 0; i < pages->count && !error; i++) {
        const struct condemned *page = &pages->items[i];

        if (!roots_name_page(c->roots, page->epoch, page->nonce,
                             page->number) &&
            !roots_name_page(c->doomed, page->epoch, page->nonce, page->number))
            error = condemn_one(c, page);
    }
    return error;
}

/* List what is below <device>/<what>, some at a time, and condemn of it. */
static int scan_below(struct collect *c, const char *what, uint64_t now_ns,
                      const struct heap *listed, object_store_each *each,
                      int (*condemn_found)(struct collect *c,
                                           struct heap *found))
{
    struct object_store *store = c->options->store;
    struct scan scan = {.c = c, .now_ns = now_ns, .listed = listed};
    char prefix[PREFIX_MAX];
    int result = 1;

    (void)snprintf(prefix, sizeof(prefix), "%s/%s", c->options->device_name,
                   what);
    scan.prefix_len = strlen(prefix);
    while (result == 1) {
        int error;

        scan.found.count = 0;
        result = store->list(store, prefix, scan.last, each, &scan);
        if (result < 0)
            log_error("%s: cannot list in the bucket: %s", prefix,
                      log_errno(result));
        error = result < 0 ? 0 : condemn_found(c, &scan.found);
        result = error ? error : result;
    }
    free(scan.found.items);
    return result == -ENOENT ? -EIO : result;
}

static int condemn_found_objects(struct collect *c, struct heap *found)
{
    int error = check_stop(c);

    return error ? error : condemn_objects(c, found);
}

/* Read what is on lists that wait, so that it does not come onto another. */
static int read_listed(struct collect *c, struct heap *listed)
{
    int error = 0;

    for (size_t i = 0; i < c->lists.count && !error; i++) {
        const struct condemned_list *list = &c->lists.items[i];
        struct condemned_page page;

        for (uint32_t number = 1;
             is_complete(list) && number < list->pages && !error; number++)
            error = listed->count < LISTED_MAX
                        ? read_into(c, list, number, false, listed, &page)
                        : -EFBIG;
    }
    if (!error && listed->count > 0)
        qsort(listed->items, listed->count, sizeof(listed->items[0]), compare);
    return error;
}

/* Condemn what is in the bucket and was never in an image. */
static int scan_all(struct collect *c)
{
    struct heap listed = {.count = 0};
    uint64_t now_ns = 0;
    int error;

    c->must_scan = roots_count(c->doomed) > 0; /* they are listed first */
    if (c->must_scan)
        return 0;
    error = read_listed(c, &listed);
    if (!error)
        error = store_now(c, &now_ns);
    if (!error)
        error = scan_below(c, "chunk/", now_ns, &listed, scan_object,
                           condemn_found_objects);
    if (!error)
        error = scan_below(c, "manifest/", now_ns, &listed, scan_page,
                           condemn_pages);
    free(listed.items);
    if (error == -EFBIG) { /* another time */
        log_info("%s: so much is about to be deleted that nothing else is "
                 "looked for",
                 c->options->device_name);
        error = 0;
    }
    return error;
}

/* ---- delete ---------------------------------------------------------------
 */

static int delete_page(struct collect *c, const struct condemned *item)
{
    char key[IMAGE_KEY_MAX];
    int error;

    if (roots_name_page(c->roots, item->epoch, item->nonce, item->number)) {
        c->counts->spared++;
        return 0;
    }
    image_page_key(c->options->device_name, item->epoch, item->nonce,
                   (uint32_t)item->number, key);
    error = delete_key(c, key);
    c->counts->deleted += error == 0;
    return error;
}

/* Objects of one leaf, ascending. */
static int delete_objects(struct collect *c, const struct condemned objects[],
                          size_t count)
{
    AUTO_FREE bool *is_named = calloc(count + 1, sizeof(bool));
    int error;

    if (!is_named)
        return -ENOMEM;
    error = roots_mark(c->roots, objects, is_named, count);
    for (size_t i = 0; i < count && !error; i++) {
        struct object_id id = {objects[i].epoch, objects[i].nonce,
                               objects[i].number};
        char key[FETCH_KEY_MAX];

        if (is_named[i]) {
            c->counts->spared++;
            continue;
        }
        fetch_object_key(c->options->device_name, objects[i].chunk, &id, key);
        error = delete_key(c, key);
        c->counts->deleted += error == 0;
    }
    return error;
}

/* Returns how many entries from here on are objects of one leaf, ascending. */
static size_t run_length(const struct condemned entries[], size_t count)
{
    size_t n = 0;

    while (n < count && entries[n].kind == CONDEMNED_OBJECT &&
           entries[n].chunk / MANIFEST_LEAF_CHUNKS ==
               entries[0].chunk / MANIFEST_LEAF_CHUNKS &&
           (n == 0 || condemned_compare(&entries[n - 1], &entries[n]) < 0))
        n++;
    return n;
}

static int delete_entries(struct collect *c, const struct condemned entries[],
                          size_t count)
{
    int error = 0;

    for (size_t i = 0; i < count && !error;) {
        size_t objects = run_length(entries + i, count - i);

        if (objects > 0) {
            error = delete_objects(c, entries + i, objects);
            i += objects;
        } else if (entries[i].kind == CONDEMNED_PAGE) {
            error = delete_page(c, &entries[i++]);
        } else {
            log_error("%s: a list of what is condemned names what cannot be "
                      "in it",
                      c->options->device_name);
            error = -EIO;
        }
    }
    return error;
}

static int delete_epoch(struct collect *c, const struct condemned *item)
{
    const struct history_epoch *epoch =
        history_find(&c->history, item->epoch, item->nonce);
    char key[EPOCH_KEY_MAX];

    /* One that is gone already went in a run that was cut short. */
    if (!epoch || epoch->is_kept)
        return 0;
    epoch_key(c->options->device_name, &epoch->record, key);
    return delete_key(c, key);
}

/* A pin that this run, too, found to be of no use. */
static int delete_pin(struct collect *c, const struct condemned *item,
                      const struct heap *useless)
{
    uint8_t uuid[UUID_SIZE];

    if (!heap_has(useless, item))
        return 0;
    put_be64(uuid, item->epoch);
    put_be64(uuid + 8, item->nonce);
    return pin_delete(c->options->store, c->options->device_name, uuid);
}

/* Work off a page of a list that has leaves and objects, and remove it. */
static int work_off_page(struct collect *c, const struct condemned_list *list,
                         uint32_t number)
{
    const struct collect_options *options = c->options;
    char key[CONDEMNED_KEY_MAX];
    struct condemned_page page;
    int error = condemned_lists_page(options->store, options->device_name, list,
                                     number, false, &page, c->entries);

    if (!error)
        error = delete_entries(c, c->entries, page.count);
    if (error)
        return error;
    condemned_key(options->device_name, &page, key);
    return delete_key(c, key);
}

/* Now that all else is: epochs, pins, the roots of images, the list. */
static int work_off_end(struct collect *c, const struct condemned_list *list,
                        const struct heap *useless)
{
    const struct collect_options *options = c->options;
    char rest[PREFIX_MAX], key[CONDEMNED_KEY_MAX];
    struct condemned_page page;
    int error = condemned_lists_page(options->store, options->device_name, list,
                                     0, true, &page, c->entries);

    for (uint32_t i = 0; !error && i < page.count; i++) {
        if (c->entries[i].kind == CONDEMNED_EPOCH)
            error = delete_epoch(c, &c->entries[i]);
        else if (c->entries[i].kind == CONDEMNED_PIN)
            error = delete_pin(c, &c->entries[i], useless);
    }
    if (!error)
        error = condemned_lists_page(options->store, options->device_name, list,
                                     0, false, &page, c->entries);
    for (uint32_t i = 0; !error && i < page.count; i++) {
        if (c->entries[i].kind == CONDEMNED_ROOT)
            error = delete_page(c, &c->entries[i]);
    }
    if (error)
        return error;
    page.is_end = true;
    condemned_key(options->device_name, &page, key);
    error = delete_key(c, key);
    (void)snprintf(rest, sizeof(rest),
                   "condemned/%016" PRIx64 "-%016" PRIx64 "/", list->epoch,
                   list->nonce);
    return error ? error : delete_below(c, rest, NULL);
}

/* Whether this run has deleted as much as one should. */
static bool is_enough(struct collect *c)
{
    if (c->counts->deleted >= CONDEMNED_COUNT_MAX)
        c->counts->has_more = true;
    return c->counts->deleted >= CONDEMNED_COUNT_MAX;
}

static int work_off(struct collect *c, const struct condemned_list *list,
                    const struct heap *useless)
{
    uint32_t number = list->pages;
    int error = check_claim(c);

    while (!error && number > 1 && !is_enough(c))
        error = work_off_page(c, list, --number);
    if (!error && number <= 1 && !is_enough(c))
        error = work_off_end(c, list, useless);
    return error;
}

static bool is_due(const struct collect *c, const struct condemned_list *list,
                   uint64_t now_ns)
{
    return list->ended_ns <= now_ns &&
           now_ns - list->ended_ns >= c->options->grace_ns;
}

/* Work off the lists of earlier runs whose time has come. */
static int delete_condemned(struct collect *c, const struct heap *useless)
{
    uint64_t now_ns = 0;
    int error;

    if (c->lists.count == 0)
        return 0;
    error = check_claim(c);
    if (!error)
        error = store_now(c, &now_ns);
    for (size_t i = 0; i < c->lists.count && !error; i++) {
        const struct condemned_list *list = &c->lists.items[i];

        if (!is_complete(list)) {
            char rest[PREFIX_MAX];

            (void)snprintf(rest, sizeof(rest),
                           "condemned/%016" PRIx64 "-%016" PRIx64 "/",
                           list->epoch, list->nonce);
            error = delete_below(c, rest, NULL);
        } else if (is_due(c, list, now_ns)) {
            error = work_off(c, list, useless);
        } else {
            c->counts->is_waiting = true;
        }
    }
    return error;
}

/* ---- a run ----------------------------------------------------------------
 */

static int begin(struct collect *c)
{
    const struct collect_options *options = c->options;
    int error;

    c->entries = calloc(CONDEMNED_COUNT_MAX, sizeof(*c->entries));
    c->list = calloc(CONDEMNED_COUNT_MAX, sizeof(*c->list));
    if (!c->entries || !c->list)
        return -ENOMEM;
    error = roots_new(options->store, options->device_name, &c->roots);
    if (!error)
        error = roots_new(options->store, options->device_name, &c->doomed);
    return error;
}

static void done(struct collect *c)
{
    history_done(&c->history);
    condemned_lists_done(&c->lists);
    roots_free(c->roots);
    roots_free(c->doomed);
    free(c->old_roots.items);
    free(c->old_ends.items);
    free(c->ends.items);
    free(c->entries);
    free(c->list);
}

/* A snapshot_each: remove the name, now that a list has what it named. */
static int remove_name(void *context, const struct snapshot *snapshot)
{
    struct collect *c = context;

    return strcmp(snapshot->name, c->dropped) == 0
               ? snapshot_delete(c->options->store, c->options->device_name,
                                 snapshot)
               : 0;
}

static int run(struct collect *c)
{
    const struct collect_options *options = c->options;
    struct heap useless = {.count = 0}; /* pins, also those on old lists */
    int error = begin(c);

    if (!error)
        error = read_lists(c);
    if (!error)
        error = read_history(c);
    if (!error)
        error = read_roots(c);
    for (size_t i = 0; i < c->ends.count && !error; i++)
        error = push(&useless, &c->ends.items[i]);
    if (!error)
        error = find_doomed(c);
    if (!error)
        error = condemn(c);
    if (!error && options->scan)
        error = scan_all(c);
    if (!error && c->has_begun)
        error = end_list(c);
    if (!error && c->dropped)
        error =
            snapshot_list(options->store, options->device_name, remove_name, c);
    if (!error)
        error = delete_condemned(c, &useless);
    free(useless.items);
    done(c);
    return error;
}

int collect_run(const struct collect_options *options,
                struct collect_counts *ret_counts)
{
    bool must_scan;
    int error;

    memset(ret_counts, 0, sizeof(*ret_counts));
    do {
        struct collect c = {.options = options, .counts = ret_counts};

        ret_counts->is_waiting = false;
        ret_counts->has_more = false;
        error = run(&c);
        must_scan = c.must_scan;
    } while (!error && must_scan);
    return error;
}

int collect_drop_snapshot(const struct collect_options *options,
                          const char *name)
{
    struct collect_counts counts = {.condemned = 0};
    struct collect c = {.options = options, .counts = &counts, .dropped = name};
    struct snapshot snapshot;
    int error =
        snapshot_find(options->store, options->device_name, name, &snapshot);

    return error ? error : run(&c);
}

/* A pin_each: ends the list if a clone needs it. */
static int refuse_pin(void *context, const struct pin *pin)
{
    struct collect *c = context;
    bool is_needed;
    int error = pin_is_needed(c->options->store, pin, &is_needed);

    if (error || !is_needed)
        return error;
    log_error("%s: %s is a clone of it, and needs it", c->options->device_name,
              pin->clone);
    return -EBUSY;
}

int collect_drop_device(const struct collect_options *options)
{
    static const char *const BELOW[] = {
        "snapshot/", "chunk/", "manifest/", "pin/", "condemned/", "clock/",
    };
    struct collect_counts counts = {.condemned = 0};
    struct collect c = {.options = options, .counts = &counts};
    char own[EPOCH_KEY_MAX];
    int error = check_claim(&c);

    if (!error && options->own.kind != EPOCH_TOMBSTONE)
        error = -ESTALE;
    if (!error)
        error = pin_list(options->store, options->device_name, refuse_pin, &c);
    for (size_t i = 0; i < sizeof(BELOW) / sizeof(BELOW[0]) && !error; i++)
        error = delete_below(&c, BELOW[i], NULL);
    if (error)
        return error;
    epoch_key(options->device_name, &options->own, own);
    return delete_below(&c, "epoch/", own);
}
