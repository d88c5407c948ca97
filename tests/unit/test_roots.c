/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/roots.h"

#include "support/bucket.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

enum { LEAF = MANIFEST_LEAF_CHUNKS };

static struct condemned named(uint64_t chunk, const struct chunk_object *object)
{
    return (struct condemned){CONDEMNED_OBJECT, chunk, object->id.epoch,
                              object->id.nonce, object->id.counter};
}

TEST("pages, leaves and objects of images and catalogs are named, no others")
{
    struct bucket bucket;
    struct chunk_object first[3], second[2], local[2];
    struct condemned objects[5];
    bool is_named[5] = {false};
    struct epoch_record old;
    struct roots *roots;
    const struct manifest_root *root;

    bucket_init(&bucket, memory_store_new(), "disk", 1);
    bucket_write(&bucket, (uint64_t[]){1, 2, LEAF}, 3, first);
    old = bucket.own;
    bucket_write(&bucket, (uint64_t[]){1, LEAF}, 2, second);
    local[0] = bucket_upload(&bucket, 3);
    local[1] = bucket_upload(&bucket, 4);
    bucket_need(bucket.catalog, 3, &local[0], 1);
    bucket_need(bucket.checkpoint, 4, &local[1], 1);

    CHECK(roots_new(bucket.store, "disk", &roots) == 0);
    CHECK(roots_add(roots, &bucket.own.root) == 0);
    CHECK(roots_add(roots, &bucket.own.root) == 0);
    CHECK(roots_count(roots) == 1);
    CHECK(roots_find(roots, &bucket.own.root) == roots_image(roots, 0));
    CHECK(roots_find(roots, &old.root) == NULL);
    root = image_root(roots_image(roots, 0));
    CHECK(roots_name_page(roots, root->epoch, root->nonce, 0));
    CHECK(
        roots_name_page(roots, root->epoch, root->nonce, bucket.own.root.page));
    CHECK(!roots_name_page(roots, root->epoch, root->nonce, 77));
    CHECK(!roots_name_page(roots, old.root.epoch, old.root.nonce, 0));
    CHECK(roots_name_leaf(roots, &root->leaves[1]));

    objects[0] = named(1, &first[0]);
    objects[1] = named(1, &second[0]);
    objects[2] = named(2, &first[1]);
    objects[3] = named(3, &local[0]);
    objects[4] = named(4, &local[1]);
    CHECK(roots_mark(roots, objects, is_named, 5) == 0);
    CHECK(!is_named[0] && is_named[1] && is_named[2]);
    CHECK(!is_named[3] && !is_named[4]);
    roots_add_catalogs(roots, bucket.catalog, bucket.checkpoint);
    CHECK(roots_mark(roots, objects, is_named, 5) == 0);
    CHECK(is_named[3] && is_named[4] && !is_named[0]);

    /* The old image, too, from now on. */
    CHECK(roots_add(roots, &old.root) == 0);
    CHECK(roots_mark(roots, objects, is_named, 5) == 0);
    CHECK(is_named[0]);
    CHECK(roots_name_page(roots, old.root.epoch, old.root.nonce, 0));
    CHECK(roots_mark(roots, objects, is_named, 0) == 0);
    roots_free(roots);
    bucket_done(&bucket);
    bucket.store->close(bucket.store);
}

TEST("a leaf that several images have is read once")
{
    struct fault_store *fault = fault_store_new(memory_store_new());
    struct bucket bucket;
    struct chunk_object object;
    struct condemned item;
    bool is_named = false;
    struct roots *roots;
    uint64_t gets;

    bucket_init(&bucket, fault_store_of(fault), "disk", 1);
    CHECK(roots_new(bucket.store, "disk", &roots) == 0);
    bucket_write(&bucket, (uint64_t[]){LEAF + 1}, 1, &object);
    item = named(LEAF + 1, &object);
    CHECK(roots_add(roots, &bucket.own.root) == 0);
    for (int i = 0; i < 3; i++) {
        bucket_write(&bucket, (uint64_t[]){1}, 1, &object);
        CHECK(roots_add(roots, &bucket.own.root) == 0);
    }
    gets = fault_store_count(fault, STORE_GET);
    CHECK(roots_mark(roots, &item, &is_named, 1) == 0 && is_named);
    CHECK(fault_store_count(fault, STORE_GET) == gets + 1);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(roots_mark(roots, &item, &is_named, 1) == -ETIMEDOUT);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_CORRUPTS, 0);
    CHECK(roots_mark(roots, &item, &is_named, 1) == -EIO);
    roots_free(roots);
    bucket_done(&bucket);
    bucket.store->close(bucket.store);
}

TEST("an image that cannot be read is not added")
{
    struct bucket bucket;
    struct chunk_object object;
    struct root_ref bad;
    struct roots *roots;

    bucket_init(&bucket, memory_store_new(), "disk", 1);
    bucket_write(&bucket, (uint64_t[]){1}, 1, &object);
    bad = bucket.own.root;
    bad.checksum++;
    CHECK(roots_new(bucket.store, "disk", &roots) == 0);
    CHECK(roots_add(roots, &bad) == -EIO);
    CHECK(roots_count(roots) == 0);
    CHECK(roots_add(roots, &bucket.own.root) == 0);
    roots_free(roots);
    roots_free(NULL);
    bucket_done(&bucket);
    bucket.store->close(bucket.store);
}
