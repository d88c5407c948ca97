/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/drop.h"

#include "cache/snapshot.h"
#include "support/bucket.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

enum { HERE = 1, THERE = 2 };

static struct fault_store *fault;
static struct bucket bucket;

static void begin(void)
{
    struct chunk_object object;

    fault = fault_store_new(memory_store_new());
    bucket_init(&bucket, fault_store_of(fault), "disk", HERE);
    bucket_write(&bucket, (uint64_t[]){1, 5000}, 1, &object);
    CHECK(snapshot_create(bucket.store, "disk", "named", &bucket.own) == 0);
    bucket_write(&bucket, (uint64_t[]){1}, 1, &object);
}

static void end(void)
{
    bucket_done(&bucket);
    bucket.store->close(bucket.store);
}

static int drop_by(uint8_t holder)
{
    struct drop_plan plan = {
        .store = bucket.store, .device_name = "disk", .host = "host"};

    memset(plan.cachedir_id, holder, UUID_SIZE);
    return drop_device(&plan);
}

static void check_dropped(void)
{
    struct epoch_newest newest;

    CHECK(bucket_count(bucket.store, "disk", "") == 1);
    CHECK(epoch_read_newest(bucket.store, "disk", 0, &newest) == 0);
    CHECK(newest.count == 1 && newest.records[0].kind == EPOCH_TOMBSTONE &&
          newest.records[0].epoch == bucket.own.epoch + 1 &&
          newest.records[0].root.size == 0);
}

TEST("of a device that is dropped a tombstone is left, and nothing else")
{
    begin();
    CHECK(drop_by(HERE) == 0);
    check_dropped();
    CHECK(drop_by(THERE) == 0); /* it is dropped already */
    check_dropped();
    end();
}

TEST("what another writes is not dropped, what nobody writes is")
{
    begin();
    CHECK(drop_by(THERE) == -EPERM);
    CHECK(bucket_missing(bucket.store, "disk", &bucket.own) == 0);
    bucket_epoch(&bucket, EPOCH_RELEASE, HERE);
    CHECK(drop_by(THERE) == 0);
    check_dropped();
    end();
}

TEST("what is not there, or was written by two, is not dropped")
{
    struct drop_plan plan = {.device_name = "other", .host = "host"};
    struct epoch_record other;
    uint8_t data[EPOCH_RECORD_SIZE];
    char key[EPOCH_KEY_MAX];

    begin();
    plan.store = bucket.store;
    CHECK(drop_device(&plan) == -ENOENT);
    other = bucket.own;
    other.nonce++;
    other.kind = EPOCH_CLAIM;
    other.key_has_nonce = true;
    epoch_encode(&other, data);
    epoch_key("disk", &other, key);
    CHECK(bucket.store->put(bucket.store, key, data, sizeof(data), true) == 0);
    CHECK(drop_by(HERE) == -ENOTUNIQ);
    CHECK(bucket_missing(bucket.store, "disk", &bucket.own) == 0);
    end();
}

static int clone(struct epoch_record *ret_record)
{
    struct clone_plan plan = {.store = bucket.store,
                              .source = "disk",
                              .snapshot = "named",
                              .name = "copy",
                              .host = "host"};

    return clone_create(&plan, ret_record);
}

TEST("a device that a clone needs is not dropped")
{
    struct epoch_record record;
    uint64_t epochs;

    begin();
    CHECK(clone(&record) == 0);
    epochs = bucket_count(bucket.store, "disk", "epoch/");
    CHECK(drop_by(HERE) == -EBUSY);
    CHECK(bucket_count(bucket.store, "disk", "epoch/") == epochs);
    CHECK(bucket_missing(bucket.store, "copy", &record) == 0);
    end();
}

TEST("whichever call fails, the next try drops it, and pins are obeyed")
{
    for (int call = 0; call < STORE_CALLS; call++) {
        bool happened = true;

        for (uint64_t nth = 1; happened; nth++) {
            uint64_t before;

            begin();
            before = fault_store_count(fault, (enum store_call)call);
            fault_store_plan(fault, (enum store_call)call, nth, 1,
                             nth % 2 ? STORE_FAILS : STORE_FAILS_AFTER, -EIO);
            (void)drop_by(HERE);
            happened =
                fault_store_count(fault, (enum store_call)call) >= before + nth;
            fault_store_clear(fault);
            CHECK(drop_by(HERE) == 0);
            check_dropped();
            end();
        }
    }
}
