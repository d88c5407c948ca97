/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * collect - delete what nobody needs any more, late and carefully.
 *
 * Roots, of which all is needed: the last `keep` images, snapshots, images
 * that clones have pinned, an epoch that is not decided yet, the catalog and
 * that of the open checkpoint with all that their tables name.
 *
 * Garbage comes from images that stop being roots: what they name and no root
 * does is written to a list, condemned/<epoch>-<nonce>/, and deleted by a
 * later run, at least the grace time later by the store's clock, if still no
 * root names it and the newest epoch is still ours.  What was uploaded and
 * never came into an image is found by listing the bucket (scan).
 *
 *   condemned/<epoch>-<nonce>/00000000   the roots of the images that go
 *                             /00000001  their pages and objects
 *                             ...
 *                             /end       their epochs and pins: it is complete
 *
 * Whoever wants an image to stay - a clone - writes its pin first, and then
 * looks whether a list names the image's root: so either he sees the list, or
 * the later run sees the pin.
 *
 * Anything that cannot be read, or makes no sense, ends a run before it
 * deletes anything: too much is kept then, never too little.
 *
 * Threads: one at a time for a device, and not while an image is published or
 * a checkpoint begins; uploads may go on.  Locks: none.
 */
#ifndef CACHE_COLLECT_H
#define CACHE_COLLECT_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/epoch.h"

struct catalog;
struct object_store;

struct collect_options {
    struct object_store *store;
    const char *device_name;
    struct epoch_record own;    /* the newest epoch, which must be ours */
    struct epoch_record intent; /* not decided yet; epoch 0: none */
    struct catalog *catalog;    /* of the device */
    struct catalog *checkpoint; /* of the open checkpoint */
    unsigned keep;              /* images, at least 1 */
    uint64_t grace_ns;
    /*
     * Also what another cache directory uploaded that lost the device to a
     * takeover, and was not discarded: what is dirty there may rest on it.
     */
    bool others;
    /*
     * Also what no image ever named: a LIST of all objects, and every page
     * of every root is read.
     */
    bool scan;
    /*
     * For scan: objects with an id of a claim of this epoch, or a later one,
     * and a counter of at least this may be of uploads that are under way.
     */
    uint64_t claim_epoch;
    uint64_t counter;
    /* Asked between requests; true ends the run with -ECANCELED.  NULL. */
    bool (*must_stop)(void *context);
    void *context;
};

struct collect_counts {
    uint64_t condemned; /* objects and pages, by this run */
    uint64_t deleted;   /* objects and pages, by this run */
    uint64_t spared;    /* condemned, but a root names them again */
    bool is_waiting;    /* there are lists whose grace time is not over */
    bool has_more;      /* run again: there was too much for one run */
};

/*
 * Delete what was condemned long enough ago, some thousand objects at most, and
 * condemn what has become garbage.  *ret_counts is filled in also after an
 * error. -ESTALE     the newest epoch is not ours: nothing is done -ECANCELED
 * must_stop said so; the next run goes on others      of the store, or an image
 * cannot be read (logged)
 */
int collect_run(const struct collect_options *options,
                struct collect_counts *ret_counts);

/*
 * Condemn what only this snapshot names, then remove its name.  -ENOENT:
 * there is none; else as collect_run.
 */
int collect_drop_snapshot(const struct collect_options *options,
                          const char *name);

/*
 * Remove everything of a device whose newest epoch, own, is its TOMBSTONE,
 * but for that: at once.  Only store, device_name, own and must_stop of the
 * options count.  -EBUSY: clones have pinned an image of it.
 */
int collect_drop_device(const struct collect_options *options);

#endif
