/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/collect_parts.h"

#include "support/grace.h"
#include "unit/test.h"

TEST("what is pushed is in the heap, and sorts by kind, chunk and id")
{
    struct condemned items[3] = {{CONDEMNED_OBJECT, 2, 1, 1, 1},
                                 {CONDEMNED_OBJECT, 1, 9, 9, 9},
                                 {CONDEMNED_PAGE, 0, 5, 5, 5}};
    struct heap heap = {.count = 0};

    CHECK(!collect_heap_has(&heap, &items[0]));
    for (int i = 0; i < 200; i++)
        CHECK(collect_push(&heap, &items[i % 2]) == 0);
    CHECK(heap.count == 200);
    CHECK(collect_heap_has(&heap, &items[0]));
    CHECK(!collect_heap_has(&heap, &items[2]));
    qsort(items, 3, sizeof(items[0]), collect_compare);
    CHECK(items[0].kind == CONDEMNED_PAGE && items[1].chunk == 1 &&
          items[2].chunk == 2);
    free(heap.items);
}

TEST("a claim is ours as long as its epoch is there, and the newest")
{
    struct collect_options options;
    struct collect c = {.options = &options};
    struct epoch_record before;
    struct grace f;
    char key[EPOCH_KEY_MAX];

    grace_begin(&f);
    before = f.bucket.own;
    bucket_epoch(&f.bucket, EPOCH_CLAIM, GRACE_HERE);
    options = bucket_options(&f.bucket, 1, 0);
    CHECK(collect_check_claim(&c) == 0);
    options.own = before;
    CHECK(collect_check_claim(&c) == -ESTALE);
    options.own = f.bucket.own;
    options.own.epoch++;
    CHECK(collect_check_claim(&c) == -ESTALE);
    options.own = f.bucket.own;
    options.own.key_has_nonce = true;
    CHECK(collect_check_claim(&c) == -ESTALE);
    options.own = f.bucket.own;
    fault_store_plan(f.fault, STORE_LIST, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(collect_check_claim(&c) == -ETIMEDOUT);
    epoch_key("disk", &f.bucket.own, key);
    CHECK(object_delete_one(f.memory, key) == 0);
    CHECK(collect_check_claim(&c) == -ESTALE);
    grace_end(&f);
}

/* A must_stop. */
static bool stop(void *context)
{
    bool *must_stop = context;

    return *must_stop;
}

TEST("what is deleted below a prefix is all that is there, but one key")
{
    bool must_stop = false;
    struct collect_options options;
    struct collect c = {.options = &options};
    struct grace f;

    grace_begin(&f);
    options = bucket_options(&f.bucket, 1, 0);
    options.must_stop = stop;
    options.context = &must_stop;
    for (unsigned i = 0; i < 2500; i++) {
        char key[64];

        (void)snprintf(key, sizeof(key), "disk/some/%08u", i);
        CHECK(f.memory->put(f.memory, key, "", 0, true) == 0);
    }
    CHECK(f.memory->put(f.memory, "disk/somewhere", "", 0, true) == 0);
    fault_store_plan(f.fault, STORE_DELETE, 2, 1, STORE_CUTS, -EIO);
    CHECK(collect_delete_below(&c, "some/", "disk/some/00000007") == -EIO);
    CHECK(bucket_count(f.bucket.store, "disk", "some/") == 1000);
    CHECK(fault_store_count(f.fault, STORE_DELETE) == 2);
    CHECK(collect_delete_below(&c, "some/", "disk/some/00000007") == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "some/") == 1);
    CHECK(bucket_count(f.bucket.store, "disk", "some") == 2);
    must_stop = true;
    CHECK(collect_delete_below(&c, "some/", NULL) == -ECANCELED);
    must_stop = false;
    CHECK(collect_delete_below(&c, "some/", NULL) == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "some") == 1);
    grace_end(&f);
}

TEST("a batch is deleted when it is full, and at its end; what went is counted")
{
    struct collect_options options;
    struct collect_counts counts = {.deleted = 0};
    struct collect c = {.options = &options, .counts = &counts};
    struct grace f;
    uint64_t before;

    grace_begin(&f);
    options = bucket_options(&f.bucket, 1, 0);
    c.batch = calloc(1, sizeof(*c.batch));
    NEED(c.batch != NULL);
    before = fault_store_count(f.fault, STORE_DELETE);
    CHECK(collect_end_batch(&c) == 0);
    for (unsigned i = 0; i < 1001; i++) {
        char key[64];

        (void)snprintf(key, sizeof(key), "disk/some/%08u", i);
        CHECK(f.memory->put(f.memory, key, "", 0, true) == 0);
        CHECK(collect_delete_later(&c, key) == 0);
    }
    CHECK(fault_store_count(f.fault, STORE_DELETE) == before + 1);
    CHECK(counts.deleted == 1000);
    CHECK(bucket_count(f.bucket.store, "disk", "some/") == 1);
    fault_store_plan(f.fault, STORE_DELETE, 1, 1, STORE_FAILS_AFTER, -EIO);
    CHECK(collect_end_batch(&c) == -EIO);
    CHECK(counts.deleted == 1000 && c.batch->count == 0);
    CHECK(collect_end_batch(&c) == 0);
    free(c.batch);
    grace_end(&f);
}

TEST("the claim is looked at before each batch but the first")
{
    struct collect_options options;
    struct collect c = {.options = &options};
    const char *const keys[] = {"disk/some/a", "disk/some/b"};
    struct grace f;
    uint64_t lists;

    grace_begin(&f);
    options = bucket_options(&f.bucket, 1, 0);
    CHECK(collect_check_claim(&c) == 0);
    lists = fault_store_count(f.fault, STORE_LIST);
    CHECK(collect_delete_keys(&c, keys, 2) == 0);
    CHECK(fault_store_count(f.fault, STORE_LIST) == lists);
    CHECK(collect_delete_keys(&c, keys, 2) == 0);
    CHECK(fault_store_count(f.fault, STORE_LIST) == lists + 1);
    bucket_epoch(&f.bucket, EPOCH_CLAIM, GRACE_THERE);
    CHECK(f.memory->put(f.memory, keys[1], "", 0, true) == 0);
    CHECK(collect_delete_keys(&c, keys, 2) == -ESTALE);
    CHECK(bucket_count(f.bucket.store, "disk", "some/") == 1);
    grace_end(&f);
}

TEST("the time is that of the store, and nothing is left of asking")
{
    struct collect_options options;
    struct collect c = {.options = &options};
    struct grace f;
    uint64_t now_ns = 0;

    grace_begin(&f);
    options = bucket_options(&f.bucket, 1, 0);
    CHECK(collect_store_now(&c, &now_ns) == 0 && now_ns == f.now_ns);
    fault_store_plan(f.fault, STORE_HEAD, 1, 1, STORE_FAILS, -ENOENT);
    CHECK(collect_store_now(&c, &now_ns) == -EIO);
    CHECK(collect_store_now(&c, &now_ns) == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "clock/") == 0);
    grace_end(&f);
}
