/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/collect_parts.h"

#include "cache/snapshot.h"
#include "support/grace.h"
#include "unit/test.h"

TEST("some epochs wait until an image goes, many are worth a list")
{
    struct grace f;
    struct chunk_object object;

    grace_begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){3}, 1, &object);
    CHECK(grace_collect(&f, 1) == 0);
    CHECK(f.counts.condemned == 0 && !f.counts.is_waiting);
    for (int i = 0; i < 20; i++)
        bucket_epoch(&f.bucket, EPOCH_CLAIM, GRACE_HERE);
    bucket_write(&f.bucket, (uint64_t[]){4}, 1, &object);
    CHECK(grace_collect(&f, 2) == 0);
    CHECK(f.counts.is_waiting && f.counts.condemned == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "epoch/") == 23);
    grace_collect_all(&f, 2);
    CHECK(bucket_count(f.bucket.store, "disk", "epoch/") == 2);
    CHECK(grace_missing(&f, &f.bucket.own) == 0);
    grace_end(&f);
}

TEST("more images than one run takes go in several runs")
{
    struct grace f;
    struct chunk_object object;

    grace_begin(&f);
    for (int i = 0; i < 40; i++)
        bucket_write(&f.bucket, (uint64_t[]){3}, 1, &object);
    CHECK(grace_collect(&f, 1) == 0);
    CHECK(f.counts.has_more);
    CHECK(grace_collect(&f, 1) == 0);
    CHECK(f.counts.has_more);
    CHECK(grace_collect(&f, 1) == 0);
    CHECK(!f.counts.has_more);
    grace_pass(&f, GRACE_TIME);
    CHECK(grace_collect(&f, 1) == 0);
    CHECK(grace_objects(&f) == 1 && bucket_has(&f.bucket, 3, &object));
    CHECK(bucket_count(f.bucket.store, "disk", "epoch/") == 1);
    CHECK(bucket_count(f.bucket.store, "disk", "manifest/") == 2);
    grace_end(&f);
}

TEST("an image that is condemned is not kept again when keep grows")
{
    struct grace f;
    struct chunk_object objects[3];

    grace_begin(&f);
    for (int i = 0; i < 3; i++)
        bucket_write(&f.bucket, (uint64_t[]){3}, 1, &objects[i]);
    CHECK(grace_collect(&f, 1) == 0);
    grace_pass(&f, GRACE_TIME);
    CHECK(grace_collect(&f, 3) == 0);
    CHECK(f.counts.spared == 0 && grace_objects(&f) == 1);
    grace_end(&f);
}

TEST("an image that is condemned can be neither named nor cloned")
{
    struct grace f;
    struct chunk_object object;
    struct epoch_record old, clone;
    struct collect_options options;

    grace_begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    old = f.bucket.own;
    CHECK(snapshot_create(f.bucket.store, "disk", "old", &old) == 0);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    options = bucket_options(&f.bucket, 1, GRACE_TIME);
    CHECK(collect_drop_snapshot(&options, "old") == 0);
    CHECK(snapshot_create(f.bucket.store, "disk", "again", &old) == -ESTALE);
    CHECK(grace_clone(f.bucket.store, "old", "copy", &clone) == -ENOENT);
    grace_end(&f);
}

TEST("a list without its end does nothing and is removed")
{
    struct grace f;

    grace_begin_history(&f);
    fault_store_plan(f.fault, STORE_PUT, 3, 1, STORE_FAILS, -EIO);
    CHECK(grace_collect(&f, 1) == -EIO);
    CHECK(bucket_count(f.bucket.store, "disk", "condemned/") == 2);
    grace_pass(&f, 2 * GRACE_TIME);
    CHECK(grace_collect(&f, 1) == 0);
    CHECK(grace_objects(&f) == 7 && f.counts.deleted == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "condemned/") == 3);
    grace_collect_all(&f, 1);
    CHECK(grace_objects(&f) == 6);
    grace_end(&f);
}
