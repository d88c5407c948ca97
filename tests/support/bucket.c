/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/bucket.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/fetch.h"

enum { TABLE_SIZE = 4096 };

static void put_epoch(struct bucket *bucket)
{
    uint8_t data[EPOCH_RECORD_SIZE];
    char key[EPOCH_KEY_MAX];
    int error;

    epoch_encode(&bucket->own, data);
    epoch_key(bucket->name, &bucket->own, key);
    error = bucket->store->put(bucket->store, key, data, sizeof(data), true);
    assert(error == 0);
}

void bucket_init(struct bucket *bucket, struct object_store *store,
                 const char *name, uint8_t holder)
{
    int error;

    memset(bucket, 0, sizeof(*bucket));
    bucket->store = store;
    bucket->name = name;
    bucket->own.chunk_size = BUCKET_CHUNK_SIZE;
    bucket->own.size = (uint64_t)BUCKET_CHUNKS * BUCKET_CHUNK_SIZE;
    memset(bucket->own.device_id, name[0], UUID_SIZE);
    error = catalog_new(BUCKET_CHUNKS, &bucket->catalog);
    assert(error == 0);
    error = catalog_new(BUCKET_CHUNKS, &bucket->checkpoint);
    assert(error == 0);
    bucket_epoch(bucket, EPOCH_CLAIM, holder);
}

void bucket_done(struct bucket *bucket)
{
    catalog_free(bucket->catalog);
    catalog_free(bucket->checkpoint);
}

void bucket_epoch(struct bucket *bucket, enum epoch_kind kind, uint8_t holder)
{
    bucket->own.kind = kind;
    bucket->own.epoch++;
    bucket->own.nonce = 0x1000 + ++bucket->nonces;
    memset(bucket->own.cachedir_id, holder, UUID_SIZE);
    put_epoch(bucket);
    if (kind == EPOCH_CLAIM) {
        bucket->claim_epoch = bucket->own.epoch;
        bucket->claim_nonce = bucket->own.nonce;
    }
}

struct chunk_object bucket_upload(struct bucket *bucket, uint64_t chunk)
{
    struct chunk_object object = {.table_size = TABLE_SIZE};
    char key[FETCH_KEY_MAX];
    int error;

    object.id.epoch = bucket->claim_epoch;
    object.id.nonce = bucket->claim_nonce;
    object.id.counter = bucket->counter++;
    fetch_object_key(bucket->name, chunk, &object.id, key);
    error = bucket->store->put(bucket->store, key, "object", 6, true);
    assert(error == 0);
    return object;
}

/* Whether an object of that device is there. */
static bool is_there(struct object_store *store, const char *name,
                     uint64_t chunk, const struct chunk_object *object)
{
    struct object_info info;
    char key[FETCH_KEY_MAX];

    fetch_object_key(name, chunk, &object->id, key);
    return store->head(store, key, &info) == 0;
}

bool bucket_has(struct bucket *bucket, uint64_t chunk,
                const struct chunk_object *object)
{
    return is_there(bucket->store, bucket->name, chunk, object);
}

void bucket_need(struct catalog *catalog, uint64_t chunk,
                 const struct chunk_object objects[], unsigned count)
{
    struct catalog_entry entry = {.generation = count > 0,
                                  .objects_count = count};
    int error;

    for (unsigned i = 0; i < count; i++)
        entry.objects[i] = objects[i];
    error = catalog_set(catalog, chunk, &entry);
    assert(error == 0);
}

struct image_change bucket_change(uint64_t chunk,
                                  const struct chunk_object objects[],
                                  unsigned count)
{
    struct image_change change = {.chunk = chunk};

    change.entry.objects_count = count;
    for (unsigned i = 0; i < count; i++)
        change.entry.objects[i] = objects[i];
    return change;
}

struct image_change bucket_trim(uint64_t chunk)
{
    return (struct image_change){.chunk = chunk, .is_hole = true};
}

struct list {
    const struct image_change *changes;
    size_t count;
};

/* An image_changes. */
static int next_change(void *context, struct image_change *ret_change)
{
    struct list *list = context;

    if (list->count == 0)
        return 0;
    *ret_change = *list->changes++;
    list->count--;
    return 1;
}

void bucket_publish(struct bucket *bucket, const struct image_change changes[],
                    size_t count)
{
    struct list list = {changes, count};
    struct image_update update = {.store = bucket->store,
                                  .device_name = bucket->name,
                                  .size = bucket->own.size,
                                  .chunk_size = BUCKET_CHUNK_SIZE,
                                  .epoch = bucket->own.epoch + 1,
                                  .nonce = 0x9000 + ++bucket->nonces,
                                  .next = next_change,
                                  .context = &list};
    int error;

    if (bucket->own.root.size > 0) {
        error = image_open(bucket->store, bucket->name, &bucket->own.root,
                           &update.base);
        assert(error == 0);
    }
    error = image_update(&update, &bucket->own.root);
    assert(error == 0);
    image_close(update.base);
    bucket->own.kind = EPOCH_IMAGE;
    bucket->own.epoch++;
    bucket->own.nonce = 0x1000 + ++bucket->nonces;
    bucket->own.image_epoch = bucket->own.epoch;
    bucket->own.image_nonce = bucket->own.nonce;
    put_epoch(bucket);
}

void bucket_write(struct bucket *bucket, const uint64_t chunks[], size_t count,
                  struct chunk_object ret_objects[])
{
    struct image_change *changes = calloc(count + 1, sizeof(*changes));

    assert(changes);
    for (size_t i = 0; i < count; i++) {
        ret_objects[i] = bucket_upload(bucket, chunks[i]);
        changes[i] = bucket_change(chunks[i], &ret_objects[i], 1);
    }
    bucket_publish(bucket, changes, count);
    free(changes);
}

/* Returns the name of the device of that number in an image. */
static const char *origin_name(const struct image *image, const char *name,
                               uint32_t origin)
{
    const struct manifest_root *root = image_root(image);

    for (uint32_t i = 0; origin != 0 && i < root->origins_count; i++) {
        if (manifest_origin(root->origins[i]) == origin)
            return root->origins[i];
    }
    return name;
}

size_t bucket_missing(struct object_store *store, const char *name,
                      const struct epoch_record *record)
{
    struct image_entry entry;
    struct image *image;
    size_t missing = 0;
    uint64_t chunk = 0;
    int result;

    if (image_open(store, name, &record->root, &image) != 0)
        return 1;
    while ((result = image_next(image, chunk, &chunk, &entry)) > 0) {
        for (unsigned i = 0; i < entry.objects_count; i++)
            missing += !is_there(
                store, origin_name(image, name, entry.objects[i].origin), chunk,
                &entry.objects[i]);
        chunk++;
    }
    image_close(image);
    return missing + (result < 0);
}

/* An object_store_each. */
static int count_key(void *context, const char *key,
                     const struct object_info *info)
{
    size_t *count = context;

    (void)key;
    (void)info;
    ++*count;
    return 0;
}

size_t bucket_count(struct object_store *store, const char *name,
                    const char *rest)
{
    char prefix[DEVICE_NAME_MAX + 64];
    size_t count = 0;
    int error;

    (void)snprintf(prefix, sizeof(prefix), "%s/%s", name, rest);
    error = store->list(store, prefix, "", count_key, &count);
    assert(error == 0);
    return count;
}

struct collect_options bucket_options(struct bucket *bucket, unsigned keep,
                                      uint64_t grace_ns)
{
    return (struct collect_options){.store = bucket->store,
                                    .device_name = bucket->name,
                                    .own = bucket->own,
                                    .catalog = bucket->catalog,
                                    .checkpoint = bucket->checkpoint,
                                    .keep = keep,
                                    .grace_ns = grace_ns,
                                    .claim_epoch = bucket->claim_epoch,
                                    .counter = UINT64_MAX};
}
