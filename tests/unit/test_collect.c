/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/collect.h"

#include "cache/snapshot.h"
#include "support/grace.h"
#include "support/hook_store.h"
#include "unit/test.h"

enum { LEAF = MANIFEST_LEAF_CHUNKS };

TEST("what the last images name stays; the rest goes, after the grace time")
{
    static const uint64_t chunks[] = {1, 2, LEAF + 5};
    struct grace f;
    struct epoch_record images[4];
    struct chunk_object objects[4][3];

    grace_begin(&f);
    for (int i = 0; i < 4; i++) {
        /* Chunk 1 changes each time, 2 at first, LEAF + 5 at last too. */
        bucket_write(&f.bucket, chunks, i == 0 ? 3 : 1, objects[i]);
        images[i] = f.bucket.own;
    }
    CHECK(grace_objects(&f) == 6);

    CHECK(grace_collect(&f, 2) == 0);
    CHECK(f.counts.condemned > 0 && f.counts.deleted == 0 &&
          f.counts.is_waiting);
    CHECK(grace_objects(&f) == 6);
    grace_pass(&f, GRACE_TIME - 1);
    CHECK(grace_collect(&f, 2) == 0);
    CHECK(f.counts.condemned == 0 && f.counts.deleted == 0 &&
          f.counts.is_waiting);
    CHECK(grace_objects(&f) == 6);
    grace_pass(&f, 1);
    CHECK(grace_collect(&f, 2) == 0);
    CHECK(f.counts.deleted > 0 && f.counts.spared == 0 && !f.counts.is_waiting);
    CHECK(grace_objects(&f) == 4);
    CHECK(!bucket_has(&f.bucket, 1, &objects[0][0]));
    CHECK(!bucket_has(&f.bucket, 1, &objects[1][0]));
    CHECK(grace_missing(&f, &images[2]) == 0 &&
          grace_missing(&f, &images[3]) == 0);
    CHECK(grace_missing(&f, &images[0]) > 0);
    /* Epochs and pages: of 1 (the claim) to 5, those of the images kept. */
    CHECK(bucket_count(f.bucket.store, "disk", "epoch/") == 2);
    CHECK(bucket_count(f.bucket.store, "disk", "condemned/") == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "clock/") == 0);
    CHECK(grace_collect(&f, 2) == 0);
    CHECK(f.counts.condemned == 0 && f.counts.deleted == 0);
    grace_end(&f);
}

TEST("all trimmed and one image kept: only epochs and manifests are left")
{
    struct grace f;
    struct image_change changes[300];
    struct chunk_object object;

    grace_begin(&f);
    for (unsigned i = 0; i < 300; i++) {
        object = bucket_upload(&f.bucket, i * 27);
        changes[i] = bucket_change(i * 27, &object, 1);
    }
    bucket_publish(&f.bucket, changes, 300);
    for (unsigned i = 0; i < 300; i++)
        changes[i] = bucket_trim(i * 27);
    bucket_publish(&f.bucket, changes, 300);
    CHECK(grace_collect(&f, 1) == 0);
    CHECK(grace_objects(&f) == 300);
    grace_pass(&f, GRACE_TIME);
    CHECK(grace_collect(&f, 1) == 0);
    CHECK(grace_objects(&f) == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "") ==
          bucket_count(f.bucket.store, "disk", "epoch/") +
              bucket_count(f.bucket.store, "disk", "manifest/"));
    CHECK(bucket_count(f.bucket.store, "disk", "epoch/") == 1);
    CHECK(bucket_count(f.bucket.store, "disk", "manifest/") == 1);
    CHECK(grace_missing(&f, &f.bucket.own) == 0);
    grace_end(&f);
}

TEST("an object that comes with a delta of it stays as long as the delta does")
{
    struct grace f;
    struct chunk_object objects[2];
    struct image_change change;

    grace_begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){7}, 1, objects);
    objects[1] = bucket_upload(&f.bucket, 7);
    change = bucket_change(7, objects, 2);
    bucket_publish(&f.bucket, &change, 1);
    grace_collect_all(&f, 1);
    CHECK(grace_objects(&f) == 2 && grace_missing(&f, &f.bucket.own) == 0);
    bucket_write(&f.bucket, (uint64_t[]){7}, 1, objects);
    grace_collect_all(&f, 1);
    CHECK(grace_objects(&f) == 1 && grace_missing(&f, &f.bucket.own) == 0);
    grace_end(&f);
}

TEST("an evicted chunk whose image takes three nights keeps its object")
{
    struct grace f;
    struct chunk_object other, evicted;
    struct collect_options options;
    struct image_change change;

    grace_begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &other);
    evicted = bucket_upload(&f.bucket, 2);
    bucket_need(f.bucket.catalog, 2, &evicted, 1);
    for (int night = 0; night < 3; night++) {
        grace_pass(&f, GRACE_TIME);
        options = bucket_options(&f.bucket, 1, GRACE_TIME);
        options.scan = true;
        options.counter = f.bucket.counter;
        CHECK(collect_run(&options, &f.counts) == 0);
        CHECK(f.counts.condemned == 0);
        /* It is written again, so only the checkpoint has it from now on. */
        if (night == 1) {
            bucket_need(f.bucket.checkpoint, 2, &evicted, 1);
            bucket_need(f.bucket.catalog, 2, NULL, 0);
        }
    }
    change = bucket_change(2, &evicted, 1);
    bucket_publish(&f.bucket, &change, 1);
    bucket_need(f.bucket.checkpoint, 2, NULL, 0);
    grace_collect_all(&f, 1);
    CHECK(grace_missing(&f, &f.bucket.own) == 0 && grace_objects(&f) == 2);
    grace_end(&f);
}

TEST("the base of a local partial block stays when no image names it")
{
    struct grace f;
    struct chunk_object base, next;
    struct collect_options options;

    grace_begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){9}, 1, &base);
    bucket_need(f.bucket.catalog, 9, &base, 1);
    bucket_write(&f.bucket, (uint64_t[]){9}, 1, &next);
    grace_collect_all(&f, 1);
    CHECK(bucket_has(&f.bucket, 9, &base) && bucket_has(&f.bucket, 9, &next));
    /* The base is merged: the next scan finds it. */
    bucket_need(f.bucket.catalog, 9, &next, 1);
    grace_collect_all(&f, 1);
    CHECK(bucket_has(&f.bucket, 9, &base));
    options = bucket_options(&f.bucket, 1, GRACE_TIME);
    options.scan = true;
    CHECK(collect_run(&options, &f.counts) == 0);
    CHECK(f.counts.condemned == 1);
    grace_pass(&f, GRACE_TIME);
    CHECK(grace_collect(&f, 1) == 0);
    CHECK(!bucket_has(&f.bucket, 9, &base) && bucket_has(&f.bucket, 9, &next));
    grace_end(&f);
}

/* ---- snapshots and clones ---- */

enum holder { SNAPSHOT, CLONE, OLD_IMAGE, HOLDERS };

/*
 * Chunk 1: the object of all three; 2: changed after the old image; 3: in the
 * snapshot's image and its clone; 4: only of the newest image.
 */
static void drop_in_order(const enum holder order[HOLDERS])
{
    struct grace f;
    struct chunk_object old[3], middle[2], newest[4];
    struct epoch_record old_image, kept, clone;
    unsigned keep = 3;
    bool has[HOLDERS] = {true, true, true};

    grace_begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1, 2, 3}, 3, old);
    old_image = f.bucket.own;
    bucket_write(&f.bucket, (uint64_t[]){2, 3}, 2, middle);
    kept = f.bucket.own;
    CHECK(snapshot_create(f.bucket.store, "disk", "kept", &kept) == 0);
    CHECK(grace_clone(f.bucket.store, "kept", "copy", &clone) == 0);
    bucket_write(&f.bucket, (uint64_t[]){1, 2, 3, 4}, 4, newest);
    grace_collect_all(&f, keep);
    CHECK(grace_objects(&f) == 9);
    /* Only the snapshot and the clone hold the middle image from here on. */
    keep = 2;
    for (int i = 0; i < HOLDERS; i++) {
        struct collect_options options =
            bucket_options(&f.bucket, keep, GRACE_TIME);
        bool middle_is_held;

        switch (order[i]) {
        case SNAPSHOT:
            CHECK(collect_drop_snapshot(&options, "kept") == 0);
            break;
        case CLONE:
            grace_drop_clone(f.bucket.store, "copy", &clone);
            break;
        case OLD_IMAGE:
            keep = 1;
            break;
        case HOLDERS:
            break;
        }
        has[order[i]] = false;
        grace_collect_all(&f, keep);
        middle_is_held = has[SNAPSHOT] || has[CLONE] || has[OLD_IMAGE];
        CHECK(grace_missing(&f, &f.bucket.own) == 0);
        if (has[SNAPSHOT])
            CHECK(grace_missing(&f, &kept) == 0);
        if (has[CLONE])
            CHECK(bucket_missing(f.bucket.store, "copy", &clone) == 0);
        /* keep 2 are the newest and the middle one. */
        CHECK((grace_missing(&f, &kept) == 0) == middle_is_held);
        CHECK(!bucket_has(&f.bucket, 2, &old[1]));
        CHECK(bucket_has(&f.bucket, 1, &old[0]) == middle_is_held);
    }
    CHECK(grace_missing(&f, &old_image) > 0);
    CHECK(grace_objects(&f) == 4);
    CHECK(bucket_count(f.bucket.store, "disk", "snapshot/") == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "pin/") == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "epoch/") == 1);
    grace_end(&f);
}

TEST("a snapshot, a clone and an old image that share objects go in any order")
{
    static const enum holder orders[6][HOLDERS] = {
        {SNAPSHOT, CLONE, OLD_IMAGE}, {SNAPSHOT, OLD_IMAGE, CLONE},
        {CLONE, SNAPSHOT, OLD_IMAGE}, {CLONE, OLD_IMAGE, SNAPSHOT},
        {OLD_IMAGE, SNAPSHOT, CLONE}, {OLD_IMAGE, CLONE, SNAPSHOT},
    };

    for (int i = 0; i < 6; i++)
        drop_in_order(orders[i]);
}

TEST("a snapshot that is not there cannot be dropped")
{
    struct grace f;
    struct chunk_object object;
    struct collect_options options;

    grace_begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    options = bucket_options(&f.bucket, 1, GRACE_TIME);
    CHECK(collect_drop_snapshot(&options, "nothing") == -ENOENT);
    grace_end(&f);
}

/* ---- a clone races the source's run ---- */

struct race {
    struct grace f;
    struct epoch_record clone;
    int cloned; /* what came of it */
    bool drops_snapshot;
};

static void run_clone(void *context)
{
    struct race *race = context;

    race->cloned =
        grace_clone(race->f.memory, race->drops_snapshot ? "snap" : NULL,
                    "copy", &race->clone);
}

/* What the source's owner does: the image goes, at last with all it had. */
static void run_source(void *context)
{
    struct race *race = context;
    struct collect_options options;

    if (race->drops_snapshot) {
        options = bucket_options(&race->f.bucket, 1, GRACE_TIME);
        CHECK(collect_drop_snapshot(&options, "snap") == 0);
    } else {
        struct chunk_object object;

        bucket_write(&race->f.bucket, (uint64_t[]){1}, 1, &object);
    }
    CHECK(grace_collect(&race->f, 1) == 0);
    grace_pass(&race->f, GRACE_TIME);
    CHECK(grace_collect(&race->f, 1) == 0);
}

static void begin_race(struct race *race, bool drops_snapshot)
{
    struct chunk_object object;

    memset(race, 0, sizeof(*race));
    race->drops_snapshot = drops_snapshot;
    race->cloned = 1;
    grace_begin(&race->f);
    bucket_write(&race->f.bucket, (uint64_t[]){1, LEAF}, 1, &object);
    CHECK(snapshot_create(race->f.memory, "disk", "snap",
                          &race->f.bucket.own) == 0);
    if (drops_snapshot)
        bucket_write(&race->f.bucket, (uint64_t[]){1}, 1, &object);
    else
        CHECK(collect_drop_snapshot(
                  &(struct collect_options){.store = race->f.memory,
                                            .device_name = "disk",
                                            .own = race->f.bucket.own,
                                            .keep = 1},
                  "snap") == 0);
}

/* A clone either fails, or has all of its image, then and later. */
static void end_race(struct race *race)
{
    CHECK(race->cloned <= 0);
    for (int i = 0; i < 3; i++) {
        if (race->cloned == 0)
            CHECK(bucket_missing(race->f.memory, "copy", &race->clone) == 0);
        grace_pass(&race->f, GRACE_TIME);
        CHECK(grace_collect(&race->f, 1) == 0);
    }
    CHECK(grace_missing(&race->f, &race->f.bucket.own) == 0);
    grace_end(&race->f);
}

TEST("a clone that races the source's run fails, or has all that it needs")
{
    int succeeded = 0, failed = 0;

    /* The source's whole run, and the grace time, at each step of the clone. */
    for (int drops = 0; drops < 2; drops++) {
        bool happened = true;

        for (uint64_t nth = 1; happened; nth++) {
            struct hook_store hooked;
            struct race race;

            begin_race(&race, drops == 1);
            hook_store_init(&hooked, race.f.memory, nth, run_source, &race);
            race.cloned = grace_clone(&hooked.store, drops == 1 ? "snap" : NULL,
                                      "copy", &race.clone);
            happened = hooked.calls >= nth;
            if (!happened)
                run_source(&race);
            succeeded += race.cloned == 0;
            failed += race.cloned != 0;
            end_race(&race);
        }
    }
    CHECK(succeeded > 0 && failed > 0);

    /* The clone at each step of the source's runs. */
    succeeded = failed = 0;
    for (int drops = 0; drops < 2; drops++) {
        bool happened = true;

        for (uint64_t nth = 1; happened; nth++) {
            struct object_store *store;
            struct hook_store hooked;
            struct race race;

            begin_race(&race, drops == 1);
            hook_store_init(&hooked, race.f.memory, nth, run_clone, &race);
            store = race.f.bucket.store;
            race.f.bucket.store = &hooked.store;
            run_source(&race);
            race.f.bucket.store = store;
            happened = hooked.calls >= nth;
            if (!happened)
                run_clone(&race);
            succeeded += race.cloned == 0;
            failed += race.cloned != 0;
            end_race(&race);
        }
    }
    CHECK(succeeded > 0 && failed > 0);
}

/* ---- whatever fails ---- */

TEST("whichever call fails, no image loses anything, and the next run ends it")
{
    static const enum store_fault kinds[] = {STORE_FAILS, STORE_FAILS_AFTER,
                                             STORE_CORRUPTS, STORE_CUTS};
    unsigned failures = 0;

    for (int call = 0; call < STORE_CALLS; call++) {
        for (size_t kind = 0; kind < 4; kind++) {
            bool happened = true;

            if (kind >= 2 && call != STORE_GET)
                continue;
            for (uint64_t nth = 1; happened; nth++) {
                struct grace f;
                struct collect_options options;
                struct snapshot named;
                uint64_t before;
                int errors = 0;

                grace_begin_history(&f);
                before = fault_store_count(f.fault, (enum store_call)call);
                fault_store_plan(f.fault, (enum store_call)call, nth, 1,
                                 kinds[kind], -EIO);
                errors += grace_collect(&f, 2) != 0;
                grace_pass(&f, GRACE_TIME);
                errors += grace_collect(&f, 1) != 0;
                grace_pass(&f, GRACE_TIME);
                errors += grace_collect(&f, 1) != 0;
                happened = fault_store_count(f.fault, (enum store_call)call) >=
                           before + nth;
                fault_store_clear(f.fault);
                failures += errors > 0;
                CHECK(grace_missing(&f, &f.bucket.own) == 0);
                CHECK(snapshot_find(f.bucket.store, "disk", "named", &named) ==
                          0 &&
                      grace_missing(&f, &named.record) == 0);
                grace_collect_all(&f, 1);
                CHECK(grace_objects(&f) == 6);
                options = bucket_options(&f.bucket, 1, GRACE_TIME);
                CHECK(collect_drop_snapshot(&options, "named") == 0);
                grace_collect_all(&f, 1);
                CHECK(grace_objects(&f) == 3);
                CHECK(grace_missing(&f, &f.bucket.own) == 0);
                CHECK(bucket_count(f.bucket.store, "disk", "condemned/") == 0);
                grace_end(&f);
            }
        }
    }
    CHECK(failures > 20);
}

/* Asked as must_stop: true at the n-th time. */
static bool stop_at(void *context)
{
    uint64_t *left = context;

    return --*left == 0;
}

TEST("a run that is told to stop stops, and another one goes on")
{
    uint64_t nth = 1;
    int error = -ECANCELED;

    for (; error == -ECANCELED; nth++) {
        struct grace f;
        struct collect_options options;
        uint64_t left = nth;

        grace_begin_history(&f);
        CHECK(grace_collect(&f, 1) == 0);
        grace_pass(&f, GRACE_TIME);
        options = bucket_options(&f.bucket, 1, GRACE_TIME);
        options.must_stop = stop_at;
        options.context = &left;
        error = collect_run(&options, &f.counts);
        CHECK(error == 0 || error == -ECANCELED);
        CHECK(grace_missing(&f, &f.bucket.own) == 0);
        grace_collect_all(&f, 1);
        CHECK(grace_objects(&f) == 6);
        grace_end(&f);
    }
    CHECK(nth > 5);
}
