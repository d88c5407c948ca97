/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A LIST of all objects, and one of all pages; a leaf's worth at a time is
 * compared with the roots.
 */
#include "cache/collect_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/number.h"
#include "object_store.h"

enum {
    LISTED_MAX = 1 << 20, /* entries of lists beside which a scan runs */
    SCAN_MAX = 1 << 16,   /* objects, or pages, looked at together */
};

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
                   sizeof(*item), collect_compare) != NULL;
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
        error = collect_push(found, &item);
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
        if (!collect_heap_has(&scan->c->old_roots, &root))
            error = collect_push(&scan->found, &item);
    }
    (void)snprintf(scan->last, sizeof(scan->last), "%s", key);
    return error;
}

/* Condemn the pages that were found, and are of no image. */
static int condemn_pages(struct collect *c, struct heap *pages)
{
    int error = collect_check_stop(c);

    for (size_t i = 0; i < pages->count && !error; i++) {
        const struct condemned *page = &pages->items[i];

        if (!roots_name_page(c->roots, page->epoch, page->nonce,
                             page->number) &&
            !roots_name_page(c->doomed, page->epoch, page->nonce, page->number))
            error = collect_condemn_one(c, page);
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
    char prefix[COLLECT_PREFIX_MAX];
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
    int error = collect_check_stop(c);

    return error ? error : collect_condemn_objects(c, found);
}

/* Read what is on lists that wait, so that it does not come onto another. */
static int read_listed(struct collect *c, struct heap *listed)
{
    int error = 0;

    for (size_t i = 0; i < c->lists.count && !error; i++) {
        const struct condemned_list *list = &c->lists.items[i];
        struct condemned_page page;

        for (uint32_t number = 1;
             collect_is_complete(list) && number < list->pages && !error;
             number++)
            error =
                listed->count < LISTED_MAX
                    ? collect_read_page(c, list, number, false, listed, &page)
                    : -EFBIG;
    }
    if (!error && listed->count > 0)
        qsort(listed->items, listed->count, sizeof(listed->items[0]),
              collect_compare);
    return error;
}

/* Condemn what is in the bucket and was never in an image. */
int collect_scan(struct collect *c)
{
    struct heap listed = {.count = 0};
    uint64_t now_ns = 0;
    int error;

    c->must_scan = roots_count(c->doomed) > 0; /* they are listed first */
    if (c->must_scan)
        return 0;
    error = read_listed(c, &listed);
    if (!error)
        error = collect_store_now(c, &now_ns);
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
