/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/collect_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"
#include "cache/fetch.h"
#include "cache/image.h"
#include "cache/snapshot.h"
#include "object_store.h"

/* later: as collect_delete_later says; else now. */
static int delete_page(struct collect *c, const struct condemned *item,
                       bool later)
{
    char key[IMAGE_KEY_MAX];
    int error;

    if (roots_name_page(c->roots, item->epoch, item->nonce, item->number)) {
        c->counts->spared++;
        return 0;
    }
    image_page_key(c->options->device_name, item->epoch, item->nonce,
                   (uint32_t)item->number, key);
    if (later)
        return collect_delete_later(c, key);
    error = collect_delete_key(c, key);
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
        error = collect_delete_later(c, key);
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

/* All of them are gone on return: the list still names them until then. */
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
            error = delete_page(c, &entries[i++], true);
        } else {
            log_error("%s: a list of what is condemned names what cannot be "
                      "in it",
                      c->options->device_name);
            error = -EIO;
        }
    }
    return error ? error : collect_end_batch(c);
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
    return collect_delete_key(c, key);
}

/* A pin that this run, too, found to be of no use. */
static int delete_pin(struct collect *c, const struct condemned *item,
                      const struct heap *useless)
{
    uint8_t uuid[UUID_SIZE];

    if (!collect_heap_has(useless, item))
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
    return collect_delete_key(c, key);
}

/* Now that all else is: epochs, pins, the roots of images, the list. */
static int work_off_end(struct collect *c, const struct condemned_list *list,
                        const struct heap *useless)
{
    const struct collect_options *options = c->options;
    char rest[COLLECT_PREFIX_MAX], key[CONDEMNED_KEY_MAX];
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
            error = delete_page(c, &c->entries[i], false);
    }
    if (error)
        return error;
    page.is_end = true;
    condemned_key(options->device_name, &page, key);
    error = collect_delete_key(c, key);
    (void)snprintf(rest, sizeof(rest),
                   "condemned/%016" PRIx64 "-%016" PRIx64 "/", list->epoch,
                   list->nonce);
    return error ? error : collect_delete_below(c, rest, NULL);
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
    int error = collect_check_claim(c);

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
int collect_delete_condemned(struct collect *c, const struct heap *useless)
{
    uint64_t now_ns = 0;
    int error;

    if (c->lists.count == 0)
        return 0;
    error = collect_check_claim(c);
    if (!error)
        error = collect_store_now(c, &now_ns);
    for (size_t i = 0; i < c->lists.count && !error; i++) {
        const struct condemned_list *list = &c->lists.items[i];

        if (!collect_is_complete(list)) {
            char rest[COLLECT_PREFIX_MAX];

            (void)snprintf(rest, sizeof(rest),
                           "condemned/%016" PRIx64 "-%016" PRIx64 "/",
                           list->epoch, list->nonce);
            error = collect_delete_below(c, rest, NULL);
        } else if (is_due(c, list, now_ns)) {
            error = work_off(c, list, useless);
        } else {
            c->counts->is_waiting = true;
        }
    }
    return error;
}
