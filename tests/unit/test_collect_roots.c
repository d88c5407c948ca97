/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/collect_parts.h"

#include "cache/snapshot.h"
#include "support/grace.h"
#include "unit/test.h"

enum { LEAF = MANIFEST_LEAF_CHUNKS };

TEST("an image that is about to be published keeps its pages and objects")
{
    struct grace f;
    struct chunk_object object;
    struct collect_options options;
    struct epoch_record newest, intent;
    char key[EPOCH_KEY_MAX];

    grace_begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    newest = f.bucket.own;
    bucket_write(&f.bucket, (uint64_t[]){1, LEAF}, 1, &object);
    intent = f.bucket.own;
    epoch_key("disk", &intent, key);
    CHECK(object_delete_one(f.memory, key) == 0); /* it is not decided yet */
    f.bucket.own = newest;
    options = bucket_options(&f.bucket, 1, 0);
    options.intent = intent;
    options.scan = true;
    for (int i = 0; i < 2; i++) {
        grace_pass(&f, GRACE_HOUR);
        CHECK(collect_run(&options, &f.counts) == 0);
        CHECK(f.counts.condemned <= 1 && f.counts.deleted == 0); /* the claim */
    }
    CHECK(grace_missing(&f, &intent) == 0);
    /* Without the intent a scan finds all of it. */
    options.intent.epoch = 0;
    for (int i = 0; i < 3; i++)
        CHECK(collect_run(&options, &f.counts) == 0);
    CHECK(grace_missing(&f, &intent) > 0 && grace_missing(&f, &newest) == 0);
    grace_end(&f);
}

TEST("a device that another took over deletes nothing")
{
    struct grace f;
    struct chunk_object object;
    struct epoch_record own;

    grace_begin(&f);
    for (int i = 0; i < 3; i++)
        bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    own = f.bucket.own;
    bucket_epoch(&f.bucket, EPOCH_CLAIM, GRACE_THERE);
    f.bucket.own = own;
    CHECK(grace_collect(&f, 1) == -ESTALE);
    CHECK(grace_objects(&f) == 3);
    CHECK(bucket_count(f.bucket.store, "disk", "condemned/") == 0);
    grace_end(&f);
}

TEST("what a host uploaded that was taken over stays until it gave up")
{
    struct grace f;
    struct chunk_object first, second;
    struct collect_options options;

    grace_begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &first);
    bucket_epoch(&f.bucket, EPOCH_CLAIM, GRACE_THERE);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &second);
    grace_collect_all(&f, 1);
    CHECK(bucket_has(&f.bucket, 1, &first));
    options = bucket_options(&f.bucket, 1, 0);
    options.scan = true;
    CHECK(collect_run(&options, &f.counts) == 0);
    CHECK(f.counts.condemned == 0);
    options.others = true;
    CHECK(collect_run(&options, &f.counts) == 0);
    CHECK(collect_run(&options, &f.counts) == 0);
    CHECK(!bucket_has(&f.bucket, 1, &first));
    grace_end(&f);
}

TEST("what a host uploaded that released the device, or came back, goes")
{
    for (int came_back = 0; came_back < 2; came_back++) {
        struct grace f;
        struct chunk_object first, second;

        grace_begin(&f);
        bucket_write(&f.bucket, (uint64_t[]){1}, 1, &first);
        if (!came_back)
            bucket_epoch(&f.bucket, EPOCH_RELEASE, GRACE_HERE);
        bucket_epoch(&f.bucket, EPOCH_CLAIM, GRACE_THERE);
        bucket_write(&f.bucket, (uint64_t[]){1}, 1, &second);
        if (came_back) {
            bucket_epoch(&f.bucket, EPOCH_RELEASE, GRACE_THERE);
            bucket_epoch(&f.bucket, EPOCH_CLAIM, GRACE_HERE);
        }
        grace_collect_all(&f, 1);
        CHECK(!bucket_has(&f.bucket, 1, &first));
        CHECK(bucket_has(&f.bucket, 1, &second));
        grace_end(&f);
    }
}

TEST("a pin of a clone that never came to be holds its image, not the run")
{
    struct grace f;
    struct chunk_object object;
    struct epoch_record old, clone;

    grace_begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    old = f.bucket.own;
    /* The pin is put; then the store does not answer any more. */
    fault_store_plan(f.fault, STORE_PUT, 2, 0, STORE_FAILS, -ETIMEDOUT);
    fault_store_plan(f.fault, STORE_DELETE, 1, 0, STORE_FAILS, -ETIMEDOUT);
    CHECK(grace_clone(f.bucket.store, NULL, "copy", &clone) == -ETIMEDOUT);
    fault_store_clear(f.fault);
    CHECK(bucket_count(f.bucket.store, "disk", "pin/") == 1);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    grace_collect_all(&f, 1);
    CHECK(grace_missing(&f, &old) == 0);
    /* A second try makes it; when that is dropped, both pins go. */
    CHECK(grace_clone(f.bucket.store, NULL, "copy", &clone) == 0);
    grace_collect_all(&f, 1);
    CHECK(grace_missing(&f, &old) == 0);
    grace_drop_clone(f.bucket.store, "copy", &clone);
    grace_collect_all(&f, 1);
    CHECK(grace_missing(&f, &old) > 0);
    CHECK(bucket_count(f.bucket.store, "disk", "pin/") == 0);
    CHECK(grace_missing(&f, &f.bucket.own) == 0);
    grace_end(&f);
}

TEST("an image that cannot be read ends the run before anything is condemned")
{
    struct grace f;
    struct epoch_record named;
    struct snapshot snapshot;
    char key[IMAGE_KEY_MAX];

    grace_begin_history(&f);
    CHECK(snapshot_find(f.bucket.store, "disk", "named", &snapshot) == 0);
    named = snapshot.record;
    image_page_key("disk", named.root.epoch, named.root.nonce, named.root.page,
                   key);
    CHECK(object_delete_one(f.memory, key) == 0);
    CHECK(grace_collect(&f, 1) == -EIO);
    CHECK(bucket_count(f.bucket.store, "disk", "condemned/") == 0);
    CHECK(grace_objects(&f) == 7);
    grace_end(&f);
}

TEST("an image that is gone is none to keep when keep grows")
{
    struct grace f;
    struct chunk_object object;

    grace_begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    /* The last epoch of a tenure stays, although its image goes. */
    bucket_epoch(&f.bucket, EPOCH_RELEASE, GRACE_HERE);
    bucket_epoch(&f.bucket, EPOCH_CLAIM, GRACE_THERE);
    for (int i = 0; i < 3; i++)
        bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    grace_collect_all(&f, 1);
    CHECK(grace_objects(&f) == 1);
    CHECK(grace_collect(&f, 7) == 0);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    CHECK(grace_collect(&f, 7) == 0);
    CHECK(grace_objects(&f) == 2 && grace_missing(&f, &f.bucket.own) == 0);
    grace_end(&f);
}
