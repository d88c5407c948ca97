/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/collect_parts.h"

#include "support/grace.h"
#include "support/hook_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

TEST("what is too much for one run to delete goes in several runs")
{
    enum { CHUNKS = 2 * CONDEMNED_COUNT_MAX + 100 };
    static struct image_change changes[CHUNKS];
    struct grace f;
    int runs = 0;

    grace_begin(&f);
    for (unsigned i = 0; i < CHUNKS; i++) {
        struct chunk_object object = {.id = {1, f.bucket.claim_nonce, i},
                                      .table_size = 4096};

        changes[i] = bucket_change(i, &object, 1);
    }
    bucket_publish(&f.bucket, changes, CHUNKS);
    (void)bucket_upload(&f.bucket, 0); /* the first and the last one exist */
    f.bucket.counter = CHUNKS - 1;
    (void)bucket_upload(&f.bucket, CHUNKS - 1);
    for (unsigned i = 0; i < CHUNKS; i++)
        changes[i] = bucket_trim(i);
    bucket_publish(&f.bucket, changes, CHUNKS);
    CHECK(grace_collect(&f, 1) == 0);
    CHECK(!f.counts.has_more && f.counts.condemned > CHUNKS);
    grace_pass(&f, GRACE_TIME);
    do {
        CHECK(grace_collect(&f, 1) == 0);
        CHECK(f.counts.deleted <= 2 * CONDEMNED_COUNT_MAX);
        CHECK(f.counts.condemned == 0 && grace_missing(&f, &f.bucket.own) == 0);
        runs++;
    } while (f.counts.has_more && runs < 10);
    CHECK(runs == 3 && grace_objects(&f) == 0); /* the last for the end */
    CHECK(bucket_count(f.bucket.store, "disk", "condemned/") == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "epoch/") == 1);
    grace_end(&f);
}

TEST("what is condemned and then named again by the catalog is spared")
{
    struct grace f;
    struct chunk_object old, next;

    grace_begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){9}, 1, &old);
    bucket_write(&f.bucket, (uint64_t[]){9}, 1, &next);
    CHECK(grace_collect(&f, 1) == 0);
    bucket_need(f.bucket.catalog, 9, &old, 1);
    grace_pass(&f, GRACE_TIME);
    CHECK(grace_collect(&f, 1) == 0);
    CHECK(f.counts.spared == 1 && bucket_has(&f.bucket, 9, &old));
    grace_end(&f);
}

static struct grace *grace; /* of the store whose device is taken over */

/* After the first batch another host takes the device over. */
static int delete_and_lose(struct object_store *store, const char *const keys[],
                           size_t count)
{
    (void)store;
    if (count > 1)
        bucket_epoch(&grace->bucket, EPOCH_CLAIM, GRACE_THERE);
    return grace->memory->delete (grace->memory, keys, count);
}

TEST("a takeover while a run deletes ends it, with the batch in hand")
{
    enum { CHUNKS = 2500 };
    static struct image_change changes[CHUNKS];
    struct hook_store losing;
    struct object_store *store;
    struct grace f;
    uint64_t before;

    grace_begin(&f);
    for (unsigned i = 0; i < CHUNKS; i++) {
        struct chunk_object object = bucket_upload(&f.bucket, i);

        changes[i] = bucket_change(i, &object, 1);
    }
    bucket_publish(&f.bucket, changes, CHUNKS);
    for (unsigned i = 0; i < CHUNKS; i++)
        changes[i] = bucket_trim(i);
    bucket_publish(&f.bucket, changes, CHUNKS);
    CHECK(grace_collect(&f, 1) == 0);
    grace_pass(&f, GRACE_TIME);
    before = bucket_count(f.bucket.store, "disk", "");
    grace = &f;
    hook_store_init(&losing, f.memory, 0, NULL, NULL);
    losing.store.delete = delete_and_lose;
    store = f.bucket.store;
    f.bucket.store = &losing.store;
    CHECK(grace_collect(&f, 1) == -ESTALE);
    f.bucket.store = store;
    /* Without that batch, with the claim of the other host. */
    CHECK(bucket_count(f.bucket.store, "disk", "") == before - 1000 + 1);
    CHECK(grace_objects(&f) >= CHUNKS - 1000);
    CHECK(bucket_count(f.bucket.store, "disk", "condemned/") > 0);
    grace_end(&f);
}

TEST("a store that lists objects as gone, or clocks as early, deletes nothing")
{
    struct grace f;

    grace_begin_history(&f);
    CHECK(grace_collect(&f, 1) == 0);
    memory_store_set_time(f.memory, 1); /* before the list was written */
    CHECK(grace_collect(&f, 1) == 0);
    CHECK(f.counts.deleted == 0 && f.counts.is_waiting);
    CHECK(grace_objects(&f) == 7);
    grace_end(&f);
}

TEST("a device that clones need cannot be dropped; else its tombstone is left")
{
    struct grace f;
    struct collect_options options;
    struct epoch_record clone;

    grace_begin_history(&f);
    CHECK(grace_clone(f.bucket.store, "named", "copy", &clone) == 0);
    options = bucket_options(&f.bucket, 1, GRACE_TIME);
    CHECK(collect_drop_device(&options) == -ESTALE); /* it has no tombstone */
    bucket_epoch(&f.bucket, EPOCH_TOMBSTONE, GRACE_HERE);
    options = bucket_options(&f.bucket, 1, GRACE_TIME);
    CHECK(collect_drop_device(&options) == -EBUSY);
    CHECK(bucket_missing(f.bucket.store, "copy", &clone) == 0);
    grace_drop_clone(f.bucket.store, "copy", &clone);
    CHECK(collect_drop_device(&options) == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "") == 1);
    CHECK(bucket_count(f.bucket.store, "disk", "epoch/") == 1);
    CHECK(grace_clone(f.bucket.store, NULL, "copy", &clone) == -ENOENT);
    grace_end(&f);
}
