/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/grace.h"

#include <assert.h>
#include <string.h>

#include "cache/snapshot.h"
#include "support/memory_store.h"

void grace_begin(struct grace *grace)
{
    grace->memory = memory_store_new();
    grace->fault = fault_store_new(grace->memory);
    grace->now_ns = 1000 * GRACE_HOUR;
    memory_store_set_time(grace->memory, grace->now_ns);
    bucket_init(&grace->bucket, fault_store_of(grace->fault), "disk",
                GRACE_HERE);
}

void grace_end(struct grace *grace)
{
    bucket_done(&grace->bucket);
    grace->bucket.store->close(grace->bucket.store);
}

void grace_pass(struct grace *grace, uint64_t ns)
{
    grace->now_ns += ns;
    memory_store_set_time(grace->memory, grace->now_ns);
}

int grace_collect(struct grace *grace, unsigned keep)
{
    struct collect_options options =
        bucket_options(&grace->bucket, keep, GRACE_TIME);

    return collect_run(&options, &grace->counts);
}

void grace_collect_all(struct grace *grace, unsigned keep)
{
    for (int i = 0; i < 3; i++) {
        int error = grace_collect(grace, keep);

        assert(error == 0);
        if (i < 2)
            grace_pass(grace, GRACE_TIME);
    }
    assert(!grace->counts.has_more && !grace->counts.is_waiting);
}

size_t grace_objects(struct grace *grace)
{
    return bucket_count(grace->bucket.store, "disk", "chunk/");
}

size_t grace_missing(struct grace *grace, const struct epoch_record *record)
{
    return bucket_missing(grace->bucket.store, "disk", record);
}

int grace_clone(struct object_store *store, const char *snapshot,
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

void grace_drop_clone(struct object_store *store, const char *name,
                      const struct epoch_record *first)
{
    struct epoch_record tombstone = *first;
    struct collect_options options = {.store = store, .device_name = name};
    uint8_t data[EPOCH_RECORD_SIZE];
    char key[EPOCH_KEY_MAX];
    int error;

    tombstone.kind = EPOCH_TOMBSTONE;
    tombstone.epoch++;
    tombstone.nonce++;
    epoch_encode(&tombstone, data);
    epoch_key(name, &tombstone, key);
    error = store->put(store, key, data, sizeof(data), true);
    assert(error == 0);
    options.own = tombstone;
    error = collect_drop_device(&options);
    assert(error == 0);
    assert(bucket_count(store, name, "") == 1);
}

void grace_begin_history(struct grace *grace)
{
    static const uint64_t chunks[] = {1, MANIFEST_LEAF_CHUNKS,
                                      2 * MANIFEST_LEAF_CHUNKS};
    struct bucket *bucket = &grace->bucket;
    struct chunk_object objects[3];
    int error;

    grace_begin(grace);
    bucket_write(bucket, chunks, 3, objects);
    error = snapshot_create(bucket->store, "disk", "named", &bucket->own);
    assert(error == 0);
    bucket_write(bucket, chunks, 2, objects);
    bucket_write(bucket, chunks + 1, 1, objects);
    bucket_write(bucket, chunks + 2, 1, objects);
}
