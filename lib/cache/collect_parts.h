/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * collect_parts - what the files of collect share.
 *
 * For collect.c, which says how a run goes, and the collect_*.c only.  A run is
 * one thread's; all errors are logged where they arise.
 */
#ifndef CACHE_COLLECT_PARTS_H
#define CACHE_COLLECT_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/collect.h"
#include "cache/condemned_lists.h"
#include "cache/history.h"
#include "cache/roots.h"

enum {
    COLLECT_PREFIX_MAX = CONDEMNED_KEY_MAX,
    COLLECT_KEY_MAX = 256,   /* of an object or a page, and its terminator */
    COLLECT_BATCH_MAX = 1000 /* keys that are deleted at once */
};

/* Keys that are to be deleted, in no particular order. */
struct collect_batch {
    size_t count;
    const char *keys[COLLECT_BATCH_MAX];
    char room[COLLECT_BATCH_MAX][COLLECT_KEY_MAX];
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
    struct collect_batch *batch;
    /* The list of this run. */
    bool has_begun;
    struct condemned_page page;
    struct condemned *list; /* page.count of them */
    unsigned deletes;       /* requests, since the claim was looked at */
};

/* ---- collect_store.c ------------------------------------------------------
 */

/* Add one.  -ENOMEM. */
int collect_push(struct heap *heap, const struct condemned *item);

/* Returns whether it is there. */
bool collect_heap_has(const struct heap *heap, const struct condemned *item);

/* condemned_compare, for qsort and bsearch. */
int collect_compare(const void *a, const void *b);

/* -ECANCELED: the run is to stop. */
int collect_check_stop(const struct collect *c);

/*
 * Whether the newest epoch is still ours: nothing is changed in the bucket
 * without that.  -ESTALE: it is not.
 */
int collect_check_claim(struct collect *c);

/*
 * Delete it, or as many as COLLECT_BATCH_MAX at once; now and then, and after
 * each time that there were many, the claim is looked at before.
 */
int collect_delete_key(struct collect *c, const char *key);
int collect_delete_keys(struct collect *c, const char *const keys[],
                        size_t count);

/*
 * Delete it together with others, whose order does not matter: when there are
 * enough of them, or collect_end_batch is called.  What was deleted is counted.
 */
int collect_delete_later(struct collect *c, const char *key);
int collect_end_batch(struct collect *c);

/* Delete all that is below <device>/<rest>, but that key (NULL: all). */
int collect_delete_below(struct collect *c, const char *rest, const char *but);

/* Tell the time by the store's clock. */
int collect_store_now(struct collect *c, uint64_t *ret_now_ns);

/* Whether a list is worth anything. */
bool collect_is_complete(const struct condemned_list *list);

/*
 * Read a page of a list into c->entries, and add what is in it to a heap.
 */
int collect_read_page(struct collect *c, const struct condemned_list *list,
                      uint32_t page, bool is_end, struct heap *heap,
                      struct condemned_page *ret_page);

/* ---- collect_roots.c ------------------------------------------------------
 */

/*
 * Read lists, epochs, snapshots and pins, and add to c->roots all that must
 * stay; to c->ends the pins that are of no use any more.  -ESTALE: the newest
 * epoch is not ours.
 */
int collect_find_roots(struct collect *c);

/* Add to c->doomed and c->ends the images, epochs and pins that can go. */
int collect_find_doomed(struct collect *c);

/* ---- collect_list.c -------------------------------------------------------
 */

/* Write to the list of this run what only the doomed images name. */
int collect_condemn(struct collect *c);

/* Add one to the list, which begins with the first. */
int collect_condemn_one(struct collect *c, const struct condemned *item);

/* Add those of the objects, all of one leaf, that no root names. */
int collect_condemn_objects(struct collect *c, struct heap *objects);

/* The list, which has begun, is complete. */
int collect_end_list(struct collect *c);

/* ---- collect_scan.c -------------------------------------------------------
 */

/* Condemn what is in the bucket and was never in an image. */
int collect_scan(struct collect *c);

/* ---- collect_delete.c -----------------------------------------------------
 */

/*
 * Work off the lists of earlier runs whose time has come.  useless: pins that
 * this run found to be of no use.
 */
int collect_delete_condemned(struct collect *c, const struct heap *useless);

#endif
