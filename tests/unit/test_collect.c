/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/collect.h"

#include "cache/condemned_lists.h"
#include "cache/snapshot.h"
#include "support/bucket.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

static const uint64_t HOUR = UINT64_C(3600) * 1000 * 1000 * 1000;
static const uint64_t GRACE = UINT64_C(24) * 3600 * 1000 * 1000 * 1000;

enum { LEAF = MANIFEST_LEAF_CHUNKS, HERE = 1, THERE = 2 };

/* A device whose store has a clock that stands. */
struct fixture {
    struct object_store *memory;
    struct fault_store *fault;
    struct bucket bucket;
    uint64_t now_ns;
};

static void begin(struct fixture *f)
{
    f->memory = memory_store_new();
    f->fault = fault_store_new(f->memory);
    f->now_ns = 1000 * HOUR;
    memory_store_set_time(f->memory, f->now_ns);
    bucket_init(&f->bucket, fault_store_of(f->fault), "disk", HERE);
}

static void end(struct fixture *f)
{
    bucket_done(&f->bucket);
    f->bucket.store->close(f->bucket.store);
}

static void pass(struct fixture *f, uint64_t ns)
{
    f->now_ns += ns;
    memory_store_set_time(f->memory, f->now_ns);
}

static struct collect_counts counts;

static int collect(struct fixture *f, unsigned keep)
{
    struct collect_options options = bucket_options(&f->bucket, keep, GRACE);

    return collect_run(&options, &counts);
}

/* Condemn, and delete when the time has come. */
static void collect_all(struct fixture *f, unsigned keep)
{
    CHECK(collect(f, keep) == 0);
    pass(f, GRACE);
    CHECK(collect(f, keep) == 0);
    pass(f, GRACE);
    CHECK(collect(f, keep) == 0);
    CHECK(!counts.has_more && !counts.is_waiting);
}

static size_t objects_left(struct fixture *f)
{
    return bucket_count(f->bucket.store, "disk", "chunk/");
}

static size_t missing(struct fixture *f, const struct epoch_record *record)
{
    return bucket_missing(f->bucket.store, "disk", record);
}

/* ---- images that are not kept any more ------------------------------------
 */

TEST("what the last images name stays; the rest goes, after the grace time")
{
    static const uint64_t chunks[] = {1, 2, LEAF + 5};
    struct fixture f;
    struct epoch_record images[4];
    struct chunk_object objects[4][3];

    begin(&f);
    for (int i = 0; i < 4; i++) {
        /* Chunk 1 changes each time, 2 at first, LEAF + 5 at last too. */
        bucket_write(&f.bucket, chunks, i == 0 ? 3 : 1, objects[i]);
        images[i] = f.bucket.own;
    }
    CHECK(objects_left(&f) == 6);

    CHECK(collect(&f, 2) == 0);
    CHECK(counts.condemned > 0 && counts.deleted == 0 && counts.is_waiting);
    CHECK(objects_left(&f) == 6);
    pass(&f, GRACE - 1);
    CHECK(collect(&f, 2) == 0);
    CHECK(counts.condemned == 0 && counts.deleted == 0 && counts.is_waiting);
    CHECK(objects_left(&f) == 6);
    pass(&f, 1);
    CHECK(collect(&f, 2) == 0);
    CHECK(counts.deleted > 0 && counts.spared == 0 && !counts.is_waiting);
    CHECK(objects_left(&f) == 4);
    CHECK(!bucket_has(&f.bucket, 1, &objects[0][0]));
    CHECK(!bucket_has(&f.bucket, 1, &objects[1][0]));
    CHECK(missing(&f, &images[2]) == 0 && missing(&f, &images[3]) == 0);
    CHECK(missing(&f, &images[0]) > 0);
    /* Epochs and pages: of 1 (the claim) to 5, those of the images kept. */
    CHECK(bucket_count(f.bucket.store, "disk", "epoch/") == 2);
    CHECK(bucket_count(f.bucket.store, "disk", "condemned/") == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "clock/") == 0);
    CHECK(collect(&f, 2) == 0);
    CHECK(counts.condemned == 0 && counts.deleted == 0);
    end(&f);
}

TEST("all trimmed and one image kept: only epochs and manifests are left")
{
    struct fixture f;
    struct image_change changes[300];
    struct chunk_object object;

    begin(&f);
    for (unsigned i = 0; i < 300; i++) {
        object = bucket_upload(&f.bucket, i * 27);
        changes[i] = bucket_change(i * 27, &object, 1);
    }
    bucket_publish(&f.bucket, changes, 300);
    for (unsigned i = 0; i < 300; i++)
        changes[i] = bucket_trim(i * 27);
    bucket_publish(&f.bucket, changes, 300);
    CHECK(collect(&f, 1) == 0);
    CHECK(objects_left(&f) == 300);
    pass(&f, GRACE);
    CHECK(collect(&f, 1) == 0);
    CHECK(objects_left(&f) == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "") ==
          bucket_count(f.bucket.store, "disk", "epoch/") +
              bucket_count(f.bucket.store, "disk", "manifest/"));
    CHECK(bucket_count(f.bucket.store, "disk", "epoch/") == 1);
    CHECK(bucket_count(f.bucket.store, "disk", "manifest/") == 1);
    CHECK(missing(&f, &f.bucket.own) == 0);
    end(&f);
}

TEST("an object that comes with a delta of it stays as long as the delta does")
{
    struct fixture f;
    struct chunk_object objects[2];
    struct image_change change;

    begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){7}, 1, objects);
    objects[1] = bucket_upload(&f.bucket, 7);
    change = bucket_change(7, objects, 2);
    bucket_publish(&f.bucket, &change, 1);
    collect_all(&f, 1);
    CHECK(objects_left(&f) == 2 && missing(&f, &f.bucket.own) == 0);
    bucket_write(&f.bucket, (uint64_t[]){7}, 1, objects);
    collect_all(&f, 1);
    CHECK(objects_left(&f) == 1 && missing(&f, &f.bucket.own) == 0);
    end(&f);
}

TEST("some epochs wait until an image goes, many are worth a list")
{
    struct fixture f;
    struct chunk_object object;

    begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){3}, 1, &object);
    CHECK(collect(&f, 1) == 0);
    CHECK(counts.condemned == 0 && !counts.is_waiting);
    for (int i = 0; i < 20; i++)
        bucket_epoch(&f.bucket, EPOCH_CLAIM, HERE);
    bucket_write(&f.bucket, (uint64_t[]){4}, 1, &object);
    CHECK(collect(&f, 2) == 0);
    CHECK(counts.is_waiting && counts.condemned == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "epoch/") == 23);
    collect_all(&f, 2);
    CHECK(bucket_count(f.bucket.store, "disk", "epoch/") == 2);
    CHECK(missing(&f, &f.bucket.own) == 0);
    end(&f);
}

TEST("more images than one run takes go in several runs")
{
    struct fixture f;
    struct chunk_object object;

    begin(&f);
    for (int i = 0; i < 40; i++)
        bucket_write(&f.bucket, (uint64_t[]){3}, 1, &object);
    CHECK(collect(&f, 1) == 0);
    CHECK(counts.has_more);
    CHECK(collect(&f, 1) == 0);
    CHECK(counts.has_more);
    CHECK(collect(&f, 1) == 0);
    CHECK(!counts.has_more);
    pass(&f, GRACE);
    CHECK(collect(&f, 1) == 0);
    CHECK(objects_left(&f) == 1 && bucket_has(&f.bucket, 3, &object));
    CHECK(bucket_count(f.bucket.store, "disk", "epoch/") == 1);
    CHECK(bucket_count(f.bucket.store, "disk", "manifest/") == 2);
    end(&f);
}

TEST("what is too much for one run to delete goes in several runs")
{
    enum { CHUNKS = 2 * CONDEMNED_COUNT_MAX + 100 };
    static struct image_change changes[CHUNKS];
    struct fixture f;
    int runs = 0;

    begin(&f);
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
    CHECK(collect(&f, 1) == 0);
    CHECK(!counts.has_more && counts.condemned > CHUNKS);
    pass(&f, GRACE);
    do {
        CHECK(collect(&f, 1) == 0);
        CHECK(counts.deleted <= 2 * CONDEMNED_COUNT_MAX);
        CHECK(counts.condemned == 0 && missing(&f, &f.bucket.own) == 0);
        runs++;
    } while (counts.has_more && runs < 10);
    CHECK(runs == 3 && objects_left(&f) == 0); /* the last for the end */
    CHECK(bucket_count(f.bucket.store, "disk", "condemned/") == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "epoch/") == 1);
    end(&f);
}

TEST("an image that is condemned is not kept again when keep grows")
{
    struct fixture f;
    struct chunk_object objects[3];

    begin(&f);
    for (int i = 0; i < 3; i++)
        bucket_write(&f.bucket, (uint64_t[]){3}, 1, &objects[i]);
    CHECK(collect(&f, 1) == 0);
    pass(&f, GRACE);
    CHECK(collect(&f, 3) == 0);
    CHECK(counts.spared == 0 && objects_left(&f) == 1);
    end(&f);
}

/* ---- what is local --------------------------------------------------------
 */

TEST("an evicted chunk whose image takes three nights keeps its object")
{
    struct fixture f;
    struct chunk_object other, evicted;
    struct collect_options options;
    struct image_change change;

    begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &other);
    evicted = bucket_upload(&f.bucket, 2);
    bucket_need(f.bucket.catalog, 2, &evicted, 1);
    for (int night = 0; night < 3; night++) {
        pass(&f, GRACE);
        options = bucket_options(&f.bucket, 1, GRACE);
        options.scan = true;
        options.counter = f.bucket.counter;
        CHECK(collect_run(&options, &counts) == 0);
        CHECK(counts.condemned == 0);
        /* It is written again, so only the checkpoint has it from now on. */
        if (night == 1) {
            bucket_need(f.bucket.checkpoint, 2, &evicted, 1);
            bucket_need(f.bucket.catalog, 2, NULL, 0);
        }
    }
    change = bucket_change(2, &evicted, 1);
    bucket_publish(&f.bucket, &change, 1);
    bucket_need(f.bucket.checkpoint, 2, NULL, 0);
    collect_all(&f, 1);
    CHECK(missing(&f, &f.bucket.own) == 0 && objects_left(&f) == 2);
    end(&f);
}

TEST("the base of a local partial block stays when no image names it")
{
    struct fixture f;
    struct chunk_object base, next;
    struct collect_options options;

    begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){9}, 1, &base);
    bucket_need(f.bucket.catalog, 9, &base, 1);
    bucket_write(&f.bucket, (uint64_t[]){9}, 1, &next);
    collect_all(&f, 1);
    CHECK(bucket_has(&f.bucket, 9, &base) && bucket_has(&f.bucket, 9, &next));
    /* The base is merged: the next scan finds it. */
    bucket_need(f.bucket.catalog, 9, &next, 1);
    collect_all(&f, 1);
    CHECK(bucket_has(&f.bucket, 9, &base));
    options = bucket_options(&f.bucket, 1, GRACE);
    options.scan = true;
    CHECK(collect_run(&options, &counts) == 0);
    CHECK(counts.condemned == 1);
    pass(&f, GRACE);
    CHECK(collect(&f, 1) == 0);
    CHECK(!bucket_has(&f.bucket, 9, &base) && bucket_has(&f.bucket, 9, &next));
    end(&f);
}

TEST("what is condemned and then named again by the catalog is spared")
{
    struct fixture f;
    struct chunk_object old, next;

    begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){9}, 1, &old);
    bucket_write(&f.bucket, (uint64_t[]){9}, 1, &next);
    CHECK(collect(&f, 1) == 0);
    bucket_need(f.bucket.catalog, 9, &old, 1);
    pass(&f, GRACE);
    CHECK(collect(&f, 1) == 0);
    CHECK(counts.spared == 1 && bucket_has(&f.bucket, 9, &old));
    end(&f);
}

TEST("an image that is about to be published keeps its pages and objects")
{
    struct fixture f;
    struct chunk_object object;
    struct collect_options options;
    struct epoch_record newest, intent;
    char key[EPOCH_KEY_MAX];

    begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    newest = f.bucket.own;
    bucket_write(&f.bucket, (uint64_t[]){1, LEAF}, 1, &object);
    intent = f.bucket.own;
    epoch_key("disk", &intent, key);
    CHECK(f.memory->delete (f.memory, key) == 0); /* it is not decided yet */
    f.bucket.own = newest;
    options = bucket_options(&f.bucket, 1, 0);
    options.intent = intent;
    options.scan = true;
    for (int i = 0; i < 2; i++) {
        pass(&f, HOUR);
        CHECK(collect_run(&options, &counts) == 0);
        CHECK(counts.condemned <= 1 && counts.deleted == 0); /* the claim */
    }
    CHECK(missing(&f, &intent) == 0);
    /* Without the intent a scan finds all of it. */
    options.intent.epoch = 0;
    for (int i = 0; i < 3; i++)
        CHECK(collect_run(&options, &counts) == 0);
    CHECK(missing(&f, &intent) > 0 && missing(&f, &newest) == 0);
    end(&f);
}

TEST("a scan leaves alone what may be under way, or is young, or another's")
{
    struct fixture f;
    struct chunk_object mine, flying, object, foreign;
    struct collect_options options;

    begin(&f);
    foreign = bucket_upload(&f.bucket, 4);
    foreign.id.epoch = 99; /* no claim that is known */
    bucket_epoch(&f.bucket, EPOCH_CLAIM, HERE);
    mine = bucket_upload(&f.bucket, 4);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    flying = bucket_upload(&f.bucket, 4);
    collect_all(&f, 1);
    options = bucket_options(&f.bucket, 1, GRACE);
    options.scan = true;
    options.counter = flying.id.counter;
    memory_store_set_time(f.memory, 1000 * HOUR + GRACE - 1);
    CHECK(collect_run(&options, &counts) == 0);
    CHECK(counts.condemned == 0);
    pass(&f, 0);
    CHECK(collect_run(&options, &counts) == 0);
    CHECK(counts.condemned == 2); /* of the first claim, and mine */
    pass(&f, GRACE);
    CHECK(collect_run(&options, &counts) == 0);
    CHECK(!bucket_has(&f.bucket, 4, &mine));
    CHECK(bucket_has(&f.bucket, 4, &flying));
    CHECK(missing(&f, &f.bucket.own) == 0);
    end(&f);
}

TEST("a scan does not condemn again what a list has")
{
    struct fixture f;
    struct chunk_object object;
    struct collect_options options;

    begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    (void)bucket_upload(&f.bucket, 2); /* in no image */
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    pass(&f, GRACE);
    options = bucket_options(&f.bucket, 1, GRACE);
    options.scan = true;
    CHECK(collect_run(&options, &counts) == 0);
    CHECK(counts.condemned == 4 && !counts.has_more); /* 3 of the image */
    CHECK(collect_run(&options, &counts) == 0);
    CHECK(counts.condemned == 0 && counts.is_waiting);
    pass(&f, GRACE);
    CHECK(collect_run(&options, &counts) == 0);
    CHECK(counts.deleted == 4 && counts.condemned == 0);
    CHECK(objects_left(&f) == 1 && bucket_has(&f.bucket, 1, &object));
    end(&f);
}

/* ---- whose it is ----------------------------------------------------------
 */

TEST("a device that another took over deletes nothing")
{
    struct fixture f;
    struct chunk_object object;
    struct epoch_record own;

    begin(&f);
    for (int i = 0; i < 3; i++)
        bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    own = f.bucket.own;
    bucket_epoch(&f.bucket, EPOCH_CLAIM, THERE);
    f.bucket.own = own;
    CHECK(collect(&f, 1) == -ESTALE);
    CHECK(objects_left(&f) == 3);
    CHECK(bucket_count(f.bucket.store, "disk", "condemned/") == 0);
    end(&f);
}

TEST("what a host uploaded that was taken over stays until it gave up")
{
    struct fixture f;
    struct chunk_object first, second;
    struct collect_options options;

    begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &first);
    bucket_epoch(&f.bucket, EPOCH_CLAIM, THERE);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &second);
    collect_all(&f, 1);
    CHECK(bucket_has(&f.bucket, 1, &first));
    options = bucket_options(&f.bucket, 1, 0);
    options.scan = true;
    CHECK(collect_run(&options, &counts) == 0);
    CHECK(counts.condemned == 0);
    options.others = true;
    CHECK(collect_run(&options, &counts) == 0);
    CHECK(collect_run(&options, &counts) == 0);
    CHECK(!bucket_has(&f.bucket, 1, &first));
    end(&f);
}

TEST("what a host uploaded that released the device, or came back, goes")
{
    for (int came_back = 0; came_back < 2; came_back++) {
        struct fixture f;
        struct chunk_object first, second;

        begin(&f);
        bucket_write(&f.bucket, (uint64_t[]){1}, 1, &first);
        if (!came_back)
            bucket_epoch(&f.bucket, EPOCH_RELEASE, HERE);
        bucket_epoch(&f.bucket, EPOCH_CLAIM, THERE);
        bucket_write(&f.bucket, (uint64_t[]){1}, 1, &second);
        if (came_back) {
            bucket_epoch(&f.bucket, EPOCH_RELEASE, THERE);
            bucket_epoch(&f.bucket, EPOCH_CLAIM, HERE);
        }
        collect_all(&f, 1);
        CHECK(!bucket_has(&f.bucket, 1, &first));
        CHECK(bucket_has(&f.bucket, 1, &second));
        end(&f);
    }
}

/* ---- snapshots and clones --------------------------------------------------
 */

static int clone_disk(struct object_store *store, const char *snapshot,
                      const char *name, struct epoch_record *ret_record)
{
    struct clone_plan plan = {.store = store,
                              .source = "disk",
                              .snapshot = snapshot,
                              .name = name,
                              .host = "host"};

    memset(plan.cachedir_id, 9, UUID_SIZE);
    return clone_create(&plan, ret_record);
}

/* The clone is dropped: its tombstone, and nothing else of it. */
static void drop_clone(struct object_store *store, const char *name,
                       const struct epoch_record *first)
{
    struct epoch_record tombstone = *first;
    struct collect_options options = {.store = store, .device_name = name};
    uint8_t data[EPOCH_RECORD_SIZE];
    char key[EPOCH_KEY_MAX];

    tombstone.kind = EPOCH_TOMBSTONE;
    tombstone.epoch++;
    tombstone.nonce++;
    epoch_encode(&tombstone, data);
    epoch_key(name, &tombstone, key);
    CHECK(store->put(store, key, data, sizeof(data), true) == 0);
    options.own = tombstone;
    CHECK(collect_drop_device(&options) == 0);
    CHECK(bucket_count(store, name, "") == 1);
}

enum holder { SNAPSHOT, CLONE, OLD_IMAGE, HOLDERS };

/*
 * Chunk 1: the object of all three; 2: changed after the old image; 3: in the
 * snapshot's image and its clone; 4: only of the newest image.
 */
static void drop_in_order(const enum holder order[HOLDERS])
{
    struct fixture f;
    struct chunk_object old[3], middle[2], newest[4];
    struct epoch_record old_image, kept, clone;
    unsigned keep = 3;
    bool has[HOLDERS] = {true, true, true};

    begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1, 2, 3}, 3, old);
    old_image = f.bucket.own;
    bucket_write(&f.bucket, (uint64_t[]){2, 3}, 2, middle);
    kept = f.bucket.own;
    CHECK(snapshot_create(f.bucket.store, "disk", "kept", &kept) == 0);
    CHECK(clone_disk(f.bucket.store, "kept", "copy", &clone) == 0);
    bucket_write(&f.bucket, (uint64_t[]){1, 2, 3, 4}, 4, newest);
    collect_all(&f, keep);
    CHECK(objects_left(&f) == 9);
    /* Only the snapshot and the clone hold the middle image from here on. */
    keep = 2;
    for (int i = 0; i < HOLDERS; i++) {
        struct collect_options options = bucket_options(&f.bucket, keep, GRACE);
        bool middle_is_held;

        switch (order[i]) {
        case SNAPSHOT:
            CHECK(collect_drop_snapshot(&options, "kept") == 0);
            break;
        case CLONE:
            drop_clone(f.bucket.store, "copy", &clone);
            break;
        case OLD_IMAGE:
            keep = 1;
            break;
        case HOLDERS:
            break;
        }
        has[order[i]] = false;
        collect_all(&f, keep);
        middle_is_held = has[SNAPSHOT] || has[CLONE] || has[OLD_IMAGE];
        CHECK(missing(&f, &f.bucket.own) == 0);
        if (has[SNAPSHOT])
            CHECK(missing(&f, &kept) == 0);
        if (has[CLONE])
            CHECK(bucket_missing(f.bucket.store, "copy", &clone) == 0);
        /* keep 2 are the newest and the middle one. */
        CHECK((missing(&f, &kept) == 0) == middle_is_held);
        CHECK(!bucket_has(&f.bucket, 2, &old[1]));
        CHECK(bucket_has(&f.bucket, 1, &old[0]) == middle_is_held);
    }
    CHECK(missing(&f, &old_image) > 0);
    CHECK(objects_left(&f) == 4);
    CHECK(bucket_count(f.bucket.store, "disk", "snapshot/") == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "pin/") == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "epoch/") == 1);
    end(&f);
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
    struct fixture f;
    struct chunk_object object;
    struct collect_options options;

    begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    options = bucket_options(&f.bucket, 1, GRACE);
    CHECK(collect_drop_snapshot(&options, "nothing") == -ENOENT);
    end(&f);
}

TEST("an image that is condemned can be neither named nor cloned")
{
    struct fixture f;
    struct chunk_object object;
    struct epoch_record old, clone;
    struct collect_options options;

    begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    old = f.bucket.own;
    CHECK(snapshot_create(f.bucket.store, "disk", "old", &old) == 0);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    options = bucket_options(&f.bucket, 1, GRACE);
    CHECK(collect_drop_snapshot(&options, "old") == 0);
    CHECK(snapshot_create(f.bucket.store, "disk", "again", &old) == -ESTALE);
    CHECK(clone_disk(f.bucket.store, "old", "copy", &clone) == -ENOENT);
    end(&f);
}

/* ---- a clone races the source's run ----------------------------------------
 */

/* A store that calls out before its n-th call. */
struct hook_store {
    struct object_store store; /* first, so that one is the other */
    struct object_store *inner;
    uint64_t calls, nth;
    void (*hook)(void *context);
    void *context;
};

static struct object_store *hook(struct object_store *store)
{
    struct hook_store *hooked = (struct hook_store *)(void *)store;

    if (++hooked->calls == hooked->nth)
        hooked->hook(hooked->context);
    return hooked->inner;
}

static int hook_get(struct object_store *store, const char *key,
                    uint64_t offset, void *data, size_t len)
{
    struct object_store *inner = hook(store);

    return inner->get(inner, key, offset, data, len);
}

static int hook_put(struct object_store *store, const char *key,
                    const void *data, size_t len, bool if_absent)
{
    struct object_store *inner = hook(store);

    return inner->put(inner, key, data, len, if_absent);
}

static int hook_head(struct object_store *store, const char *key,
                     struct object_info *ret_info)
{
    struct object_store *inner = hook(store);

    return inner->head(inner, key, ret_info);
}

static int hook_delete(struct object_store *store, const char *key)
{
    struct object_store *inner = hook(store);

    return inner->delete (inner, key);
}

static int hook_list(struct object_store *store, const char *prefix,
                     const char *after, object_store_each *each, void *context)
{
    struct object_store *inner = hook(store);

    return inner->list(inner, prefix, after, each, context);
}

static void hook_init(struct hook_store *hooked, struct object_store *inner,
                      uint64_t nth, void (*call)(void *context), void *context)
{
    *hooked = (struct hook_store){
        .inner = inner, .nth = nth, .hook = call, .context = context};
    hooked->store.get = hook_get;
    hooked->store.put = hook_put;
    hooked->store.head = hook_head;
    hooked->store.delete = hook_delete;
    hooked->store.list = hook_list;
}

struct race {
    struct fixture f;
    struct epoch_record clone;
    int cloned; /* what came of it */
    bool drops_snapshot;
};

static void run_clone(void *context)
{
    struct race *race = context;

    race->cloned =
        clone_disk(race->f.memory, race->drops_snapshot ? "snap" : NULL, "copy",
                   &race->clone);
}

/* What the source's owner does: the image goes, at last with all it had. */
static void run_source(void *context)
{
    struct race *race = context;
    struct collect_options options;

    if (race->drops_snapshot) {
        options = bucket_options(&race->f.bucket, 1, GRACE);
        CHECK(collect_drop_snapshot(&options, "snap") == 0);
    } else {
        struct chunk_object object;

        bucket_write(&race->f.bucket, (uint64_t[]){1}, 1, &object);
    }
    CHECK(collect(&race->f, 1) == 0);
    pass(&race->f, GRACE);
    CHECK(collect(&race->f, 1) == 0);
}

static void begin_race(struct race *race, bool drops_snapshot)
{
    struct chunk_object object;

    memset(race, 0, sizeof(*race));
    race->drops_snapshot = drops_snapshot;
    race->cloned = 1;
    begin(&race->f);
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
        pass(&race->f, GRACE);
        CHECK(collect(&race->f, 1) == 0);
    }
    CHECK(missing(&race->f, &race->f.bucket.own) == 0);
    end(&race->f);
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
            hook_init(&hooked, race.f.memory, nth, run_source, &race);
            race.cloned = clone_disk(&hooked.store, drops == 1 ? "snap" : NULL,
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
            hook_init(&hooked, race.f.memory, nth, run_clone, &race);
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

TEST("a pin of a clone that never came to be holds its image, not the run")
{
    struct fixture f;
    struct chunk_object object;
    struct epoch_record old, clone;

    begin(&f);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    old = f.bucket.own;
    /* The pin is put; then the store does not answer any more. */
    fault_store_plan(f.fault, STORE_PUT, 2, 0, STORE_FAILS, -ETIMEDOUT);
    fault_store_plan(f.fault, STORE_DELETE, 1, 0, STORE_FAILS, -ETIMEDOUT);
    CHECK(clone_disk(f.bucket.store, NULL, "copy", &clone) == -ETIMEDOUT);
    fault_store_clear(f.fault);
    CHECK(bucket_count(f.bucket.store, "disk", "pin/") == 1);
    bucket_write(&f.bucket, (uint64_t[]){1}, 1, &object);
    collect_all(&f, 1);
    CHECK(missing(&f, &old) == 0);
    /* A second try makes it; when that is dropped, both pins go. */
    CHECK(clone_disk(f.bucket.store, NULL, "copy", &clone) == 0);
    collect_all(&f, 1);
    CHECK(missing(&f, &old) == 0);
    drop_clone(f.bucket.store, "copy", &clone);
    collect_all(&f, 1);
    CHECK(missing(&f, &old) > 0);
    CHECK(bucket_count(f.bucket.store, "disk", "pin/") == 0);
    CHECK(missing(&f, &f.bucket.own) == 0);
    end(&f);
}

/* Another host takes the device over. */
static void take_over(void *context)
{
    struct fixture *f = context;

    bucket_epoch(&f->bucket, EPOCH_CLAIM, THERE);
}

TEST("a takeover while a run deletes ends it")
{
    static struct image_change changes[900];
    struct hook_store hooked;
    struct object_store *store;
    struct fixture f;

    begin(&f);
    for (unsigned i = 0; i < 900; i++) {
        struct chunk_object object = bucket_upload(&f.bucket, i);

        changes[i] = bucket_change(i, &object, 1);
    }
    bucket_publish(&f.bucket, changes, 900);
    for (unsigned i = 0; i < 900; i++)
        changes[i] = bucket_trim(i);
    bucket_publish(&f.bucket, changes, 900);
    CHECK(collect(&f, 1) == 0);
    pass(&f, GRACE);
    hook_init(&hooked, f.memory, 300, take_over, &f);
    store = f.bucket.store;
    f.bucket.store = &hooked.store;
    CHECK(collect(&f, 1) == -ESTALE);
    f.bucket.store = store;
    CHECK(hooked.calls > 300 && objects_left(&f) > 300);
    CHECK(bucket_count(f.bucket.store, "disk", "condemned/") > 0);
    end(&f);
}

/* ---- whatever fails -------------------------------------------------------
 */

static void write_history(struct fixture *f)
{
    struct chunk_object objects[3];

    begin(f);
    bucket_write(&f->bucket, (uint64_t[]){1, LEAF, 2 * LEAF}, 3, objects);
    CHECK(snapshot_create(f->bucket.store, "disk", "named", &f->bucket.own) ==
          0);
    bucket_write(&f->bucket, (uint64_t[]){1, LEAF}, 2, objects);
    bucket_write(&f->bucket, (uint64_t[]){LEAF}, 1, objects);
    bucket_write(&f->bucket, (uint64_t[]){2 * LEAF}, 1, objects);
}

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
                struct fixture f;
                struct collect_options options;
                struct snapshot named;
                uint64_t before;
                int errors = 0;

                write_history(&f);
                before = fault_store_count(f.fault, (enum store_call)call);
                fault_store_plan(f.fault, (enum store_call)call, nth, 1,
                                 kinds[kind], -EIO);
                errors += collect(&f, 2) != 0;
                pass(&f, GRACE);
                errors += collect(&f, 1) != 0;
                pass(&f, GRACE);
                errors += collect(&f, 1) != 0;
                happened = fault_store_count(f.fault, (enum store_call)call) >=
                           before + nth;
                fault_store_clear(f.fault);
                failures += errors > 0;
                CHECK(missing(&f, &f.bucket.own) == 0);
                CHECK(snapshot_find(f.bucket.store, "disk", "named", &named) ==
                          0 &&
                      missing(&f, &named.record) == 0);
                collect_all(&f, 1);
                CHECK(objects_left(&f) == 6);
                options = bucket_options(&f.bucket, 1, GRACE);
                CHECK(collect_drop_snapshot(&options, "named") == 0);
                collect_all(&f, 1);
                CHECK(objects_left(&f) == 3);
                CHECK(missing(&f, &f.bucket.own) == 0);
                CHECK(bucket_count(f.bucket.store, "disk", "condemned/") == 0);
                end(&f);
            }
        }
    }
    CHECK(failures > 20);
}

TEST("an image that cannot be read ends the run before anything is condemned")
{
    struct fixture f;
    struct epoch_record named;
    struct snapshot snapshot;
    char key[IMAGE_KEY_MAX];

    write_history(&f);
    CHECK(snapshot_find(f.bucket.store, "disk", "named", &snapshot) == 0);
    named = snapshot.record;
    image_page_key("disk", named.root.epoch, named.root.nonce, named.root.page,
                   key);
    CHECK(f.memory->delete (f.memory, key) == 0);
    CHECK(collect(&f, 1) == -EIO);
    CHECK(bucket_count(f.bucket.store, "disk", "condemned/") == 0);
    CHECK(objects_left(&f) == 7);
    end(&f);
}

TEST("a list without its end does nothing and is removed")
{
    struct fixture f;

    write_history(&f);
    fault_store_plan(f.fault, STORE_PUT, 3, 1, STORE_FAILS, -EIO);
    CHECK(collect(&f, 1) == -EIO);
    CHECK(bucket_count(f.bucket.store, "disk", "condemned/") == 2);
    pass(&f, 2 * GRACE);
    CHECK(collect(&f, 1) == 0);
    CHECK(objects_left(&f) == 7 && counts.deleted == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "condemned/") == 3);
    collect_all(&f, 1);
    CHECK(objects_left(&f) == 6);
    end(&f);
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
        struct fixture f;
        struct collect_options options;
        uint64_t left = nth;

        write_history(&f);
        CHECK(collect(&f, 1) == 0);
        pass(&f, GRACE);
        options = bucket_options(&f.bucket, 1, GRACE);
        options.must_stop = stop_at;
        options.context = &left;
        error = collect_run(&options, &counts);
        CHECK(error == 0 || error == -ECANCELED);
        CHECK(missing(&f, &f.bucket.own) == 0);
        collect_all(&f, 1);
        CHECK(objects_left(&f) == 6);
        end(&f);
    }
    CHECK(nth > 5);
}

TEST("a store that lists objects as gone, or clocks as early, deletes nothing")
{
    struct fixture f;

    write_history(&f);
    CHECK(collect(&f, 1) == 0);
    memory_store_set_time(f.memory, 1); /* before the list was written */
    CHECK(collect(&f, 1) == 0);
    CHECK(counts.deleted == 0 && counts.is_waiting);
    CHECK(objects_left(&f) == 7);
    end(&f);
}

/* ---- dropping a device ----------------------------------------------------
 */

TEST("a device that clones need cannot be dropped; else its tombstone is left")
{
    struct fixture f;
    struct collect_options options;
    struct epoch_record clone;

    write_history(&f);
    CHECK(clone_disk(f.bucket.store, "named", "copy", &clone) == 0);
    options = bucket_options(&f.bucket, 1, GRACE);
    CHECK(collect_drop_device(&options) == -ESTALE); /* it has no tombstone */
    bucket_epoch(&f.bucket, EPOCH_TOMBSTONE, HERE);
    options = bucket_options(&f.bucket, 1, GRACE);
    CHECK(collect_drop_device(&options) == -EBUSY);
    CHECK(bucket_missing(f.bucket.store, "copy", &clone) == 0);
    drop_clone(f.bucket.store, "copy", &clone);
    CHECK(collect_drop_device(&options) == 0);
    CHECK(bucket_count(f.bucket.store, "disk", "") == 1);
    CHECK(bucket_count(f.bucket.store, "disk", "epoch/") == 1);
    CHECK(clone_disk(f.bucket.store, NULL, "copy", &clone) == -ENOENT);
    end(&f);
}
