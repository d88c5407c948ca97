/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/holders.h"

#include <errno.h>
#include <stdio.h>

#include "cache/snapshot.h"
#include "support/bucket.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

static struct fault_store *fault;
static struct bucket bucket;
static struct chunk_object first, second;
static char text[1000];

/* Two images; chunk 1 is in both, chunk 2 is another in each. */
static void begin(void)
{
    uint64_t chunks[] = {1, 2};
    struct chunk_object objects[2];

    fault = fault_store_new(memory_store_new());
    bucket_init(&bucket, fault_store_of(fault), "disk", 1);
    bucket_write(&bucket, chunks, 2, objects);
    first = objects[1];
    CHECK(snapshot_create(bucket.store, "disk", "kept", &bucket.own) == 0);
    bucket_write(&bucket, &chunks[1], 1, &second);
}

static void end(void)
{
    bucket_done(&bucket);
    bucket.store->close(bucket.store);
}

static void make_clone(const char *name, const char *source,
                       const char *snapshot)
{
    struct epoch_record record;
    struct clone_plan plan = {
        .store = bucket.store,
        .source = source,
        .snapshot = snapshot,
        .name = name,
        .host = "host",
        .time_ns = 1,
    };

    memset(plan.device_id, name[0], sizeof(plan.device_id));
    memset(plan.cachedir_id, name[0] + 1, sizeof(plan.cachedir_id));
    CHECK(clone_create(&plan, &record) == 0);
}

/* A holders_tell. */
static int add(void *context, const char *what, int result)
{
    size_t len = strlen(text);

    CHECK(context == &bucket);
    (void)snprintf(text + len, sizeof(text) - len, "%s%s, ",
                   result < 0 ? "perhaps " : "", what);
    return 0;
}

static const char *holders_of(const char *device, const char *other,
                              const struct chunk_object *object)
{
    struct holders *holders;

    text[0] = '\0';
    if (CHECK(holders_new(bucket.store, device, other, &holders) == 0)) {
        CHECK(holders_each(holders, 2, &object->id, add, &bucket) == 0);
        holders_free(holders);
    }
    return text;
}

TEST("images and snapshots that name an object are told, and no others")
{
    struct chunk_object none = {.id = {1, 2, 3}};

    begin();
    CHECK(strcmp(holders_of("disk", NULL, &first),
                 "image 2 of disk, snapshot disk@kept, ") == 0);
    CHECK(strcmp(holders_of("disk", NULL, &second), "image 3 of disk, ") == 0);
    CHECK(strcmp(holders_of("disk", NULL, &none), "") == 0);
    end();
}

TEST("clones are told, and clones of these")
{
    begin();
    make_clone("twin", "disk", "kept");
    make_clone("later", "disk", NULL);
    make_clone("child", "twin", NULL);
    (void)holders_of("disk", NULL, &first);
    CHECK(strstr(text, "clone twin of disk, ") != NULL);
    CHECK(strstr(text, "image 1 of twin, ") != NULL);
    CHECK(strstr(text, "clone child of twin, ") != NULL);
    CHECK(strstr(text, "image 1 of child, ") != NULL);
    CHECK(strstr(text, "later") == NULL);
    /* From a clone's side: that device is the other one. */
    (void)holders_of("disk", "child", &first);
    CHECK(strstr(text, "image 1 of child, ") != NULL);
    CHECK(strstr(text, "snapshot disk@kept, ") != NULL);
    end();
}

TEST("an image that cannot be read may name anything")
{
    char key[IMAGE_KEY_MAX];

    begin();
    image_page_key("disk", bucket.own.root.epoch, bucket.own.root.nonce,
                   bucket.own.root.page, key);
    CHECK(object_delete_one(bucket.store, key) == 0);
    CHECK(bucket.store->put(bucket.store, key, "x", 1, false) == 0);
    CHECK(strcmp(holders_of("disk", NULL, &first),
                 "perhaps image 3 of disk, image 2 of disk, "
                 "snapshot disk@kept, ") == 0);
    /* But one that was removed, of which the record is kept, is none. */
    CHECK(object_delete_one(bucket.store, key) == 0);
    CHECK(strcmp(holders_of("disk", NULL, &first),
                 "image 2 of disk, snapshot disk@kept, ") == 0);
    end();
}

TEST("a store that cannot list is an error")
{
    struct holders *holders;

    begin();
    for (uint64_t n = 1; n <= 3; n++) {
        fault_store_plan(fault, STORE_LIST, n, 1, STORE_FAILS, -ETIMEDOUT);
        CHECK(holders_new(bucket.store, "disk", NULL, &holders) == -ETIMEDOUT);
    }
    end();
}

/* A holders_tell. */
static int stop(void *context, const char *what, int result)
{
    unsigned *count = context;

    (void)what;
    (void)result;
    ++*count;
    return -ECANCELED;
}

TEST("who is told can end it")
{
    struct holders *holders;
    unsigned count = 0;

    begin();
    if (CHECK(holders_new(bucket.store, "disk", NULL, &holders) == 0)) {
        CHECK(holders_each(holders, 2, &first.id, stop, &count) == -ECANCELED);
        CHECK(count == 1);
        holders_free(holders);
    }
    end();
}
