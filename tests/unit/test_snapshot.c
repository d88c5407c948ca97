/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/snapshot.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "support/bucket.h"
#include "support/fault_store.h"
#include "support/hook_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

enum { NAMES_TEXT = 1000 };

static struct fault_store *fault;
static struct bucket bucket;

static void begin(void)
{
    struct chunk_object object;

    fault = fault_store_new(memory_store_new());
    bucket_init(&bucket, fault_store_of(fault), "disk", 1);
    bucket_write(&bucket, (uint64_t[]){1}, 1, &object);
}

static void end(void)
{
    bucket_done(&bucket);
    bucket.store->close(bucket.store);
}

static int create(const char *name)
{
    return snapshot_create(bucket.store, "disk", name, &bucket.own);
}

/* A snapshot_each: joins the names. */
static int join(void *context, const struct snapshot *snapshot)
{
    char *text = context;
    size_t len = strlen(text);

    (void)snprintf(text + len, NAMES_TEXT - len, "%s ", snapshot->name);
    return 0;
}

static const char *names(void)
{
    static char text[NAMES_TEXT];

    text[0] = '\0';
    CHECK(snapshot_list(bucket.store, "disk", join, text) == 0);
    return text;
}

TEST("a name is a part of a key, and no option")
{
    char name[66];

    CHECK(snapshot_name_is_valid("before-the.upgrade_2"));
    CHECK(!snapshot_name_is_valid(""));
    CHECK(!snapshot_name_is_valid(".."));
    CHECK(!snapshot_name_is_valid("a/b"));
    CHECK(!snapshot_name_is_valid("--now"));
    CHECK(!snapshot_name_is_valid("a b"));
    memset(name, 'x', sizeof(name));
    name[63] = '\0';
    CHECK(snapshot_name_is_valid(name));
    name[63] = 'x';
    name[64] = '\0';
    CHECK(!snapshot_name_is_valid(name));
}

TEST("snapshots are made, found, listed by name, and removed")
{
    struct chunk_object object;
    struct snapshot snapshot;
    struct epoch_record first;

    begin();
    CHECK(strcmp(names(), "") == 0);
    CHECK(create("one") == 0);
    first = bucket.own;
    bucket_write(&bucket, (uint64_t[]){1}, 1, &object);
    CHECK(create("another") == 0);
    CHECK(create("one") == -EEXIST);
    CHECK(snapshot_create(bucket.store, "disk", "one", &first) == 0);
    CHECK(strcmp(names(), "another one ") == 0);
    CHECK(snapshot_find(bucket.store, "disk", "one", &snapshot) == 0);
    CHECK(snapshot.record.epoch == first.epoch &&
          snapshot.record.root.nonce == first.root.nonce &&
          snapshot.made_ns > 0);
    CHECK(snapshot_find(bucket.store, "disk", "on", &snapshot) == -ENOENT);
    CHECK(snapshot_find(bucket.store, "disk", "one", &snapshot) == 0);
    CHECK(snapshot_delete(bucket.store, "disk", &snapshot) == 0);
    CHECK(strcmp(names(), "another ") == 0);
    end();
}

TEST("what is no image gets no name")
{
    struct bucket empty;

    begin();
    CHECK(create("a/b") == -EINVAL);
    bucket_init(&empty, bucket.store, "empty", 1);
    CHECK(snapshot_create(empty.store, "empty", "name", &empty.own) ==
          -ENODATA);
    bucket_done(&empty);
    end();
}

TEST("a snapshot that cannot be read, or is another's, is an error")
{
    struct snapshot snapshot;
    uint8_t data[EPOCH_RECORD_SIZE];

    begin();
    CHECK(create("one") == 0);
    fault_store_plan(fault, STORE_LIST, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(snapshot_find(bucket.store, "disk", "one", &snapshot) == -ETIMEDOUT);
    fault_store_plan(fault, STORE_LIST, 1, 1, STORE_FAILS, -ENOENT);
    CHECK(snapshot_find(bucket.store, "disk", "one", &snapshot) == -EIO);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_CORRUPTS, 0);
    CHECK(snapshot_find(bucket.store, "disk", "one", &snapshot) == -EIO);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_FAILS, -ENOENT);
    CHECK(snapshot_find(bucket.store, "disk", "one", &snapshot) == -EIO);
    fault_store_clear(fault);
    epoch_encode(&bucket.own, data);
    CHECK(bucket.store->put(bucket.store,
                            "disk/snapshot/two/"
                            "0000000000000099-0000000000000001",
                            data, sizeof(data), true) == 0);
    CHECK(snapshot_find(bucket.store, "disk", "one", &snapshot) == -EIO);
    end();
}

/* ---- pins ---------------------------------------------------------------- */

static struct pin some_pin(void)
{
    struct pin pin = {.clone = "copy", .clone_epoch = 5};

    memset(pin.uuid, 0xab, UUID_SIZE);
    pin.record = bucket.own;
    return pin;
}

TEST("a pin is decoded to what was encoded")
{
    uint8_t data[PIN_SIZE], again[PIN_SIZE];
    struct pin pin, found;

    begin();
    pin = some_pin();
    pin_encode(&pin, data);
    CHECK(pin_decode(data, &found) == 0);
    CHECK(strcmp(found.clone, "copy") == 0 && found.clone_epoch == 5);
    CHECK(epoch_is_same(&found.record, &bucket.own));
    pin_encode(&found, again);
    CHECK(memcmp(data, again, PIN_SIZE) == 0);
    end();
}

/* What decode says to a pin with these bytes changed. */
static int decode_with(size_t offset, const char *bytes, size_t len, bool seal)
{
    uint8_t data[PIN_SIZE];
    struct pin pin = some_pin();

    pin_encode(&pin, data);
    memcpy(data + offset, bytes, len);
    if (seal)
        put_le32(data + 124, crc32c(0, data, 124));
    return pin_decode(data, &pin);
}

TEST("a pin with anything wrong in it is refused")
{
    begin();
    CHECK(decode_with(16, "x", 1, true) == 0);
    CHECK(decode_with(16, "x", 1, false) == -EBADMSG);
    CHECK(decode_with(0, "x", 1, true) == -EBADMSG);
    CHECK(decode_with(8, "\2", 1, true) == -EPROTONOSUPPORT);
    CHECK(decode_with(12, "\1", 1, true) == -EPROTONOSUPPORT);
    CHECK(decode_with(32, "\0", 1, true) == -EBADMSG);
    CHECK(decode_with(32, "a/b", 4, true) == -EBADMSG);
    CHECK(decode_with(95, "x", 1, true) == -EBADMSG);
    CHECK(decode_with(96, "\0", 1, true) == -EBADMSG);
    CHECK(decode_with(104, "x", 1, true) == -EBADMSG);
    CHECK(decode_with(300, "x", 1, true) == -EBADMSG);
    end();
}

static int clone(const char *snapshot, const char *name,
                 struct epoch_record *ret_record)
{
    struct clone_plan plan = {.store = bucket.store,
                              .source = "disk",
                              .snapshot = snapshot,
                              .name = name,
                              .host = "host"};

    return clone_create(&plan, ret_record);
}

/* A pin_each. */
static int count_needed(void *context, const struct pin *pin)
{
    unsigned *counts = context;
    bool is_needed;

    CHECK(pin_is_needed(bucket.store, pin, &is_needed) == 0);
    counts[is_needed]++;
    return 0;
}

static void put_record(const char *name, const struct epoch_record *record)
{
    uint8_t data[EPOCH_RECORD_SIZE];
    char key[EPOCH_KEY_MAX];

    epoch_encode(record, data);
    epoch_key(name, record, key);
    CHECK(bucket.store->put(bucket.store, key, data, sizeof(data), true) == 0);
}

TEST("a clone's first epoch has the image, and its pin counts until its end")
{
    struct epoch_record record;
    unsigned counts[2] = {0};

    begin();
    CHECK(create("named") == 0);
    CHECK(clone("named", "copy", &record) == 0);
    CHECK(record.kind == EPOCH_FORK && record.epoch == 1 && record.nonce != 0 &&
          record.size == bucket.own.size &&
          record.chunk_size == bucket.own.chunk_size && record.chunks == 1);
    CHECK(bucket_missing(bucket.store, "copy", &record) == 0);
    CHECK(pin_list(bucket.store, "disk", count_needed, counts) == 0);
    CHECK(counts[0] == 0 && counts[1] == 1);
    CHECK(clone(NULL, "copy", &record) == -EEXIST);

    /* It is dropped, and another device gets its name. */
    record.kind = EPOCH_TOMBSTONE;
    record.epoch = 2;
    put_record("copy", &record);
    memset(counts, 0, sizeof(counts));
    CHECK(pin_list(bucket.store, "disk", count_needed, counts) == 0);
    CHECK(counts[0] == 1 && counts[1] == 0);
    CHECK(clone(NULL, "copy", &record) == 0);
    CHECK(record.epoch == 3);
    memset(counts, 0, sizeof(counts));
    CHECK(pin_list(bucket.store, "disk", count_needed, counts) == 0);
    CHECK(counts[0] == 1 && counts[1] == 1);
    end();
}

TEST("what cannot be cloned is refused, and leaves no pin")
{
    struct epoch_record record;

    begin();
    CHECK(clone("nothing", "copy", &record) == -ENOENT);
    CHECK(clone(NULL, "disk", &record) == -EINVAL);
    fault_store_plan(fault, STORE_PUT, 2, 1, STORE_FAILS, -EIO); /* the root */
    CHECK(clone(NULL, "copy", &record) == -EIO);
    CHECK(bucket_count(bucket.store, "disk", "pin/") == 0);
    CHECK(bucket_count(bucket.store, "copy", "") == 0);
    bucket_epoch(&bucket, EPOCH_TOMBSTONE, 1);
    CHECK(clone(NULL, "copy", &record) == -ENOENT);
    CHECK(bucket_count(bucket.store, "disk", "pin/") == 0);
    end();
}

TEST("a clone whose epoch may yet come to be keeps its pin")
{
    struct epoch_record record;
    unsigned counts[2] = {0};

    begin();
    fault_store_plan(fault, STORE_PUT, 3, 1, STORE_FAILS_AFTER, -ETIMEDOUT);
    CHECK(clone(NULL, "copy", &record) == -ETIMEDOUT);
    CHECK(bucket_count(bucket.store, "copy", "epoch/") == 1);
    CHECK(pin_list(bucket.store, "disk", count_needed, counts) == 0);
    CHECK(counts[1] == 1);
    end();
}

/* Attach to the clone, if its first epoch is there. */
static void attach(void *context)
{
    struct epoch_newest newest;

    (void)context;
    CHECK(epoch_read_newest(bucket.store, "copy", 0, &newest) == 0);
    if (newest.count == 0)
        return;
    newest.records[0].kind = EPOCH_CLAIM;
    newest.records[0].epoch++;
    put_record("copy", &newest.records[0]);
}

TEST("a clone that somebody uses before its maker has looked keeps its pin")
{
    unsigned attached = 0;

    for (uint64_t nth = 1;; nth++) {
        struct hook_store hooked;
        struct epoch_record record;
        unsigned counts[2] = {0};
        size_t epochs;
        struct clone_plan plan = {.store = &hooked.store,
                                  .source = "disk",
                                  .name = "copy",
                                  .host = "host"};

        begin();
        hook_store_init(&hooked, bucket.store, nth, attach, NULL);
        (void)clone_create(&plan, &record);
        epochs = bucket_count(bucket.store, "copy", "epoch/");
        attached += epochs == 2;
        CHECK(pin_list(bucket.store, "disk", count_needed, counts) == 0);
        CHECK(epochs > 0 && counts[1] == 1);
        end();
        if (hooked.calls < nth) /* it came after the last one */
            break;
    }
    CHECK(attached > 0);
}
