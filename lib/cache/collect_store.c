/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/collect_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/auto.h"
#include "base/log.h"
#include "object_store.h"

enum {
    DELETES_PER_CHECK = 256, /* of the claim; one of many counts for all */
};

int collect_push(struct heap *heap, const struct condemned *item)
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

bool collect_heap_has(const struct heap *heap, const struct condemned *item)
{
    bool has = false;

    for (size_t i = 0; i < heap->count && !has; i++)
        has = condemned_compare(&heap->items[i], item) == 0;
    return has;
}

int collect_check_stop(const struct collect *c)
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
int collect_check_claim(struct collect *c)
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

int collect_delete_keys(struct collect *c, const char *const keys[],
                        size_t count)
{
    struct object_store *store = c->options->store;
    int error = collect_check_stop(c);

    if (!error && c->deletes >= DELETES_PER_CHECK)
        error = collect_check_claim(c);
    if (error)
        return error;
    c->deletes += count > 1 ? DELETES_PER_CHECK : 1;
    error = store->delete (store, keys, count);
    if (error)
        log_error("%s, of %zu at once: cannot delete: %s", keys[0], count,
                  log_errno(error));
    return error;
}

int collect_delete_key(struct collect *c, const char *key)
{
    return collect_delete_keys(c, &key, 1);
}

int collect_delete_later(struct collect *c, const char *key)
{
    struct collect_batch *batch = c->batch;
    int error = 0;

    if (batch->count == COLLECT_BATCH_MAX)
        error = collect_end_batch(c);
    if (error)
        return error;
    (void)snprintf(batch->room[batch->count], COLLECT_KEY_MAX, "%s", key);
    batch->keys[batch->count] = batch->room[batch->count];
    batch->count++;
    return 0;
}

int collect_end_batch(struct collect *c)
{
    size_t count = c->batch->count;
    int error;

    c->batch->count = 0;
    if (count == 0)
        return 0;
    error = collect_delete_keys(c, c->batch->keys, count);
    c->counts->deleted += error ? 0 : count;
    return error;
}

/* Some keys of a list. */
struct some_keys {
    const char *but; /* not this one; NULL: all */
    char *items[COLLECT_BATCH_MAX];
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
    if (keys->count == COLLECT_BATCH_MAX)
        return 1;
    keys->items[keys->count] = strdup(key);
    if (!keys->items[keys->count])
        return -ENOMEM;
    keys->count++;
    return 0;
}

/* Delete all that is below <device>/<rest>, but that key. */
int collect_delete_below(struct collect *c, const char *rest, const char *but)
{
    struct object_store *store = c->options->store;
    AUTO_FREE struct some_keys *keys = calloc(1, sizeof(*keys));
    char prefix[COLLECT_PREFIX_MAX];
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
        if (result >= 0 && keys->count > 0) {
            int error = collect_delete_keys(c, (const char *const *)keys->items,
                                            keys->count);

            result = error ? error : result;
        }
        for (size_t i = 0; i < keys->count; i++)
            free(keys->items[i]);
    }
    return result == -ENOENT ? -EIO : result;
}

/* Tell the time by the store's clock. */
int collect_store_now(struct collect *c, uint64_t *ret_now_ns)
{
    struct object_store *store = c->options->store;
    struct object_info info;
    char key[COLLECT_PREFIX_MAX];
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
    return collect_delete_below(c, "clock/", NULL);
}

int collect_compare(const void *a, const void *b)
{
    return condemned_compare(a, b);
}

bool collect_is_complete(const struct condemned_list *list)
{
    return list->has_end && !list->has_other && list->pages > 0;
}

/* Read a page of a list into c->entries, and keep a copy of what is in it. */
int collect_read_page(struct collect *c, const struct condemned_list *list,
                      uint32_t page, bool is_end, struct heap *heap,
                      struct condemned_page *ret_page)
{
    int error = condemned_lists_page(c->options->store, c->options->device_name,
                                     list, page, is_end, ret_page, c->entries);

    for (uint32_t i = 0; !error && i < ret_page->count; i++)
        error = collect_push(heap, &c->entries[i]);
    return error;
}
