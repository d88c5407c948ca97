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

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cache/collect_parts.h"
#include "cache/snapshot.h"
#include "object_store.h"

static int begin(struct collect *c)
{
    const struct collect_options *options = c->options;
    int error;

    c->entries = calloc(CONDEMNED_COUNT_MAX, sizeof(*c->entries));
    c->list = calloc(CONDEMNED_COUNT_MAX, sizeof(*c->list));
    c->batch = calloc(1, sizeof(*c->batch));
    if (!c->entries || !c->list || !c->batch)
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
    free(c->batch);
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
        error = collect_find_roots(c);
    for (size_t i = 0; i < c->ends.count && !error; i++)
        error = collect_push(&useless, &c->ends.items[i]);
    if (!error)
        error = collect_find_doomed(c);
    if (!error)
        error = collect_condemn(c);
    if (!error && options->scan)
        error = collect_scan(c);
    if (!error && c->has_begun)
        error = collect_end_list(c);
    if (!error && c->dropped)
        error =
            snapshot_list(options->store, options->device_name, remove_name, c);
    if (!error)
        error = collect_delete_condemned(c, &useless);
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
    int error = collect_check_claim(&c);

    if (!error && options->own.kind != EPOCH_TOMBSTONE)
        error = -ESTALE;
    if (!error)
        error = pin_list(options->store, options->device_name, refuse_pin, &c);
    for (size_t i = 0; i < sizeof(BELOW) / sizeof(BELOW[0]) && !error; i++)
        error = collect_delete_below(&c, BELOW[i], NULL);
    if (error)
        return error;
    epoch_key(options->device_name, &options->own, own);
    return collect_delete_below(&c, "epoch/", own);
}
