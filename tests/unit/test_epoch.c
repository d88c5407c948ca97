/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/epoch.h"

#include <sched.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "cache/device.h"
#include "object_store.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

/* ---- records ------------------------------------------------------------- */

static struct epoch_record make_record(uint64_t epoch, uint64_t nonce)
{
    struct epoch_record record;

    memset(&record, 0, sizeof(record));
    record.kind = EPOCH_IMAGE;
    record.epoch = epoch;
    record.nonce = nonce;
    record.time_ns = 1234567890123456789U;
    record.size = UINT64_C(200) << 30;
    record.chunk_size = 8 << 20;
    for (unsigned i = 0; i < UUID_SIZE; i++) {
        record.device_id[i] = (uint8_t)(i + 1);
        record.cachedir_id[i] = (uint8_t)(0xf0 + i);
    }
    (void)snprintf(record.host, sizeof(record.host), "host.example.org");
    record.image_epoch = epoch;
    record.image_nonce = nonce;
    record.root = (struct root_ref){epoch, nonce + 1, 3, 4711, 0xdeadbeef};
    record.content_time_ns = 1234567890000000000U;
    record.chunks = 12345;
    return record;
}

static bool records_are_equal(const struct epoch_record *a,
                              const struct epoch_record *b)
{
    uint8_t a_data[EPOCH_RECORD_SIZE], b_data[EPOCH_RECORD_SIZE];

    epoch_encode(a, a_data);
    epoch_encode(b, b_data);
    return a->kind == b->kind && strcmp(a->host, b->host) == 0 &&
           memcmp(a_data, b_data, sizeof(a_data)) == 0;
}

/* Put the checksum right after the record was changed. */
static void seal(uint8_t data[EPOCH_RECORD_SIZE])
{
    put_le32(data + EPOCH_RECORD_SIZE - 4,
             crc32c(0, data, EPOCH_RECORD_SIZE - 4));
}

TEST("a record comes back from its bytes as it was")
{
    struct epoch_record record = make_record(UINT64_MAX - 1, 7), decoded;
    uint8_t data[EPOCH_RECORD_SIZE];

    epoch_encode(&record, data);
    CHECK(epoch_decode(data, &decoded) == 0);
    CHECK(records_are_equal(&record, &decoded));
    CHECK(decoded.root.checksum == 0xdeadbeef && decoded.chunks == 12345);
    CHECK(decoded.root.page == 3 && decoded.root.size == 4711);
    memset(record.host, 'h', sizeof(record.host) - 1);
    record.is_rollback = true;
    record.key_has_nonce = true;
    epoch_encode(&record, data);
    CHECK(epoch_decode(data, &decoded) == 0);
    CHECK(records_are_equal(&record, &decoded));
}

TEST("a record with any bit flipped is refused, and nothing is written")
{
    struct epoch_record record = make_record(5, 7), decoded = record;
    uint8_t data[EPOCH_RECORD_SIZE];

    epoch_encode(&record, data);
    for (size_t bit = 0; bit < 8 * sizeof(data); bit++) {
        data[bit / 8] ^= (uint8_t)(1U << bit % 8);
        CHECK(epoch_decode(data, &decoded) == -EBADMSG);
        data[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    CHECK(records_are_equal(&record, &decoded));
}

TEST("a whole record of a later version, or with a flag, is told apart")
{
    struct epoch_record record = make_record(5, 7), decoded;
    uint8_t data[EPOCH_RECORD_SIZE];

    epoch_encode(&record, data);
    put_le32(data + 8, 2);
    seal(data);
    CHECK(epoch_decode(data, &decoded) == -EPROTONOSUPPORT);
    epoch_encode(&record, data);
    put_le32(data + 12, 1);
    seal(data);
    CHECK(epoch_decode(data, &decoded) == -EPROTONOSUPPORT);
}

TEST("values that no record can have are refused, with a right checksum too")
{
    static const struct {
        size_t at;
        uint8_t value;
    } changes[] = {
        {16, 0},    /* kind */
        {16, 6},    /* kind */
        {20, 1},    /* chunk size: not a power of two */
        {23, 0xf},  /* chunk size: too large */
        {22, 0},    /* chunk size: 0 */
        {24, 0},    /* epoch 0 */
        {90, '\n'}, /* host: would forge a line of the log */
        {151, 'x'}, /* host: does not end */
        {152, 9},   /* an image whose epoch is not its own */
        {160, 9},   /* nor the nonce */
        {168, 0},   /* root: epoch 0 */
        {196, 2},   /* whether the key has a nonce */
        {216, 2},   /* whether it is a rollback */
        {220, 1},   /* reserved */
        {507, 1},   /* reserved */
    };
    struct epoch_record record = make_record(5, 7), decoded;
    uint8_t data[EPOCH_RECORD_SIZE];

    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        epoch_encode(&record, data);
        data[changes[i].at] = changes[i].value;
        seal(data);
        CHECK(epoch_decode(data, &decoded) == -EBADMSG);
    }
}

TEST("a record without an image says nothing of one; an IMAGE has one")
{
    static const size_t fields[] = {160, 168, 176, 184, 188, 192, 200, 208};
    struct epoch_record record = make_record(5, 7), decoded;
    uint8_t data[EPOCH_RECORD_SIZE];

    record.kind = EPOCH_CLAIM;
    record.image_epoch = record.image_nonce = record.chunks = 0;
    record.content_time_ns = 0;
    record.root = (struct root_ref){.epoch = 0};
    epoch_encode(&record, data);
    CHECK(epoch_decode(data, &decoded) == 0);
    CHECK(records_are_equal(&record, &decoded));
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        epoch_encode(&record, data);
        data[fields[i]] = 1;
        seal(data);
        CHECK(epoch_decode(data, &decoded) == -EBADMSG);
    }
    record.kind = EPOCH_IMAGE;
    epoch_encode(&record, data);
    CHECK(epoch_decode(data, &decoded) == -EBADMSG);
}

TEST("a host of any name can write a record")
{
    struct epoch_record record = make_record(7, 9), back;
    uint8_t data[EPOCH_RECORD_SIZE];

    if (unshare(CLONE_NEWUTS) < 0)
        SKIP("no host of its own");
    NEED(sethostname("a\nb\033\x7f", 5) == 0);
    epoch_host(record.host);
    CHECK(strcmp(record.host, "a?b??") == 0);
    epoch_encode(&record, data);
    CHECK(epoch_decode(data, &back) == 0);
    CHECK(strcmp(back.host, record.host) == 0);
}

TEST("claims and images are held by somebody, other epochs by nobody")
{
    struct epoch_record record = make_record(5, 7);

    CHECK(epoch_is_held(&record));
    record.kind = EPOCH_CLAIM;
    CHECK(epoch_is_held(&record));
    record.kind = EPOCH_RELEASE;
    CHECK(!epoch_is_held(&record));
    record.kind = EPOCH_FORK;
    CHECK(!epoch_is_held(&record));
    record.kind = EPOCH_TOMBSTONE;
    CHECK(!epoch_is_held(&record));
}

/* ---- in the store -------------------------------------------------------- */

static struct fault_store *fault;
static struct object_store *store;

static void begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    fault = fault_store_new(memory_store_new());
    store = fault_store_of(fault);
}

static void end(void)
{
    store->close(store);
}

static void put(const char *key, const void *data, size_t size)
{
    CHECK(store->put(store, key, data, size, false) == 0);
}

static void add_record(const char *key, uint64_t epoch, uint64_t nonce)
{
    struct epoch_record record = make_record(epoch, nonce);
    uint8_t data[EPOCH_RECORD_SIZE];

    record.key_has_nonce = strlen(strrchr(key, '/')) > 17;
    epoch_encode(&record, data);
    put(key, data, sizeof(data));
}

/* Returns the newest epoch's number, 0 for none, or an error. */
static int64_t newest_from(uint64_t from)
{
    struct epoch_newest newest;
    int error = epoch_read_newest(store, "disk", from, &newest);

    if (error != 0)
        return error;
    return newest.count == 0 ? 0 : (int64_t)newest.records[0].epoch;
}

TEST("a device without an epoch is told apart from a store's silence")
{
    begin();
    add_record("disk2/epoch/0000000000000001", 1, 1);
    add_record("disk/image/0000000000000001", 1, 1);
    CHECK(newest_from(0) == 0);
    fault_store_plan(fault, STORE_LIST, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(newest_from(0) == -ETIMEDOUT);
    fault_store_plan(fault, STORE_LIST, 1, 1, STORE_FAILS, -EACCES);
    CHECK(newest_from(0) == -EACCES);
    fault_store_plan(fault, STORE_LIST, 1, 1, STORE_FAILS, -ENOENT);
    CHECK(newest_from(0) == -EIO);
    end();
}

TEST("the newest epoch is read, also among keys of other forms")
{
    begin();
    add_record("disk/epoch/0000000000000001", 1, 1);
    add_record("disk/epoch/00000000000000ff", 255, 2);
    add_record("disk/epoch/0000000000000100", 256, 3);
    add_record("disk/epoch/0000000000000100x", 999, 4);
    add_record("disk/epoch/000000000000010", 999, 4);
    add_record("disk/epoch/000000000000FFFF", 999, 4);
    add_record("disk/epoch/00000000000001000-00000000000000001", 999, 4);
    add_record("disk/epoch/0000000000000200.00000000000000f1", 999, 4);
    add_record("disk/epoch/0000000000000200-00000000000000g1", 999, 4);
    add_record("disk/epoch/zzzz", 999, 4);
    CHECK(newest_from(0) == 256);
    add_record("disk/epoch/0000000000000101-00000000000000f5", 257, 0xf5);
    CHECK(newest_from(0) == 257);
    CHECK(newest_from(257) == 257);
    CHECK(newest_from(258) == 0);
    end();
}

TEST("beyond an epoch are those of its own number, too, and no older ones")
{
    struct epoch_newest newest;

    begin();
    add_record("disk/epoch/000000000000000f-ffffffffffffffff", 15, UINT64_MAX);
    CHECK(newest_from(15) == 15);
    CHECK(newest_from(16) == 0);
    add_record("disk/epoch/0000000000000010-0000000000000001", 16, 1);
    CHECK(newest_from(16) == 16);
    add_record("disk/epoch/0000000000000010", 16, 2);
    CHECK(epoch_read_newest(store, "disk", 16, &newest) == 0);
    CHECK(newest.count == 2);
    end();
}

TEST("a name of the greatest length has room")
{
    struct epoch_record record = make_record(1, 77);
    char name[DEVICE_NAME_MAX + 1];
    struct epoch_newest newest;
    enum epoch_outcome outcome;

    begin();
    memset(name, 'n', DEVICE_NAME_MAX);
    name[DEVICE_NAME_MAX] = '\0';
    CHECK(epoch_create(store, name, &record, NULL, &outcome) == 0);
    CHECK(epoch_read_newest(store, name, 0, &newest) == 0);
    CHECK(newest.count == 1);
    CHECK(records_are_equal(&record, &newest.records[0]));
    end();
}

TEST("an epoch that was listed and cannot be read is never taken for none")
{
    uint8_t data[EPOCH_RECORD_SIZE] = {0};

    begin();
    add_record("disk/epoch/0000000000000001", 1, 1);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_FAILS, -ENOENT);
    CHECK(newest_from(0) == -EIO);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(newest_from(0) == -ETIMEDOUT);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_CORRUPTS, 0);
    CHECK(newest_from(0) == -EBADMSG);
    put("disk/epoch/0000000000000002", "short", 5);
    CHECK(newest_from(0) == -EIO);
    put("disk/epoch/0000000000000003", data, sizeof(data));
    CHECK(newest_from(0) == -EBADMSG);
    add_record("disk/epoch/0000000000000004", 3, 1);
    CHECK(newest_from(0) == -EBADMSG);
    add_record("disk/epoch/0000000000000005-0000000000000001", 5, 2);
    CHECK(newest_from(0) == -EBADMSG);
    end();
}

TEST("two nonces in the newest epoch are a conflict, in an older one history")
{
    struct epoch_newest newest;

    begin();
    add_record("disk/epoch/0000000000000005-0000000000000001", 5, 1);
    add_record("disk/epoch/0000000000000005-0000000000000002", 5, 2);
    add_record("disk/epoch/0000000000000005-0000000000000003", 5, 3);
    CHECK(epoch_read_newest(store, "disk", 0, &newest) == 0);
    CHECK(newest.count == 3);
    CHECK(newest.records[0].nonce == 1 && newest.records[1].nonce == 2);
    add_record("disk/epoch/0000000000000006-0000000000000003", 6, 3);
    CHECK(epoch_read_newest(store, "disk", 0, &newest) == 0);
    CHECK(newest.count == 1 && newest.records[0].epoch == 6);
    end();
}

/* ---- creating ------------------------------------------------------------ */

/* What comes of creating a record: an outcome, or an error. */
static int create(const struct epoch_record *record,
                  const struct epoch_pace *pace)
{
    enum epoch_outcome outcome;
    int error = epoch_create(store, "disk", record, pace, &outcome);

    return error != 0 ? error : (int)outcome;
}

TEST("of two hosts that create an epoch one succeeds")
{
    struct epoch_record ours = make_record(1, 1), theirs = make_record(1, 2);
    struct epoch_newest newest;

    begin();
    CHECK(create(&ours, NULL) == EPOCH_OURS);
    CHECK(create(&theirs, NULL) == EPOCH_LOST);
    CHECK(create(&ours, NULL) == EPOCH_OURS);
    CHECK(epoch_read_newest(store, "disk", 0, &newest) == 0);
    CHECK(newest.count == 1);
    CHECK(records_are_equal(&ours, &newest.records[0]));
    end();
}

TEST("creating again with the same record succeeds, whatever became of it")
{
    static const enum store_fault faults[] = {STORE_FAILS, STORE_FAILS_AFTER};
    struct epoch_record record = make_record(1, 1);

    for (unsigned i = 0; i < 2; i++) {
        begin();
        fault_store_plan(fault, STORE_PUT, 1, 1, faults[i], -ETIMEDOUT);
        CHECK(create(&record, NULL) == -ETIMEDOUT);
        CHECK(newest_from(0) == (int64_t)i);
        CHECK(create(&record, NULL) == EPOCH_OURS);
        end();
    }
}

TEST("an error while it is decided whose an epoch is decides nothing")
{
    struct epoch_record ours = make_record(1, 1), theirs = make_record(1, 2);

    begin();
    CHECK(create(&theirs, NULL) == EPOCH_OURS);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_FAILS, -ETIMEDOUT);
    CHECK(create(&ours, NULL) == -ETIMEDOUT);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_FAILS, -ENOENT);
    CHECK(create(&ours, NULL) == -EIO);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_CORRUPTS, 0);
    CHECK(create(&ours, NULL) == -EBADMSG);
    CHECK(create(&ours, NULL) == EPOCH_LOST);
    fault_store_plan(fault, STORE_LIST, 1, 1, STORE_FAILS, -EIO);
    CHECK(create(&theirs, NULL) == -EIO);
    CHECK(create(&theirs, NULL) == EPOCH_OURS);
    end();
}

TEST("a store that knows no conditions any more may have known them before")
{
    struct epoch_record ours = make_record(1, 1), theirs = make_record(1, 2);

    for (unsigned i = 0; i < 2; i++) {
        begin();
        CHECK(create(i == 0 ? &ours : &theirs, NULL) == EPOCH_OURS);
        fault_store_plan(fault, STORE_PUT, 1, 0, STORE_FAILS, -EOPNOTSUPP);
        fault_store_plan(fault, STORE_HEAD, 1, 1, STORE_FAILS, -ETIMEDOUT);
        CHECK(create(&ours, NULL) == -ETIMEDOUT);
        CHECK(create(&ours, NULL) == (i == 0 ? EPOCH_OURS : EPOCH_LOST));
        end();
    }
    begin();
    fault_store_plan(fault, STORE_PUT, 1, 1, STORE_FAILS, -EOPNOTSUPP);
    CHECK(create(&ours, NULL) == -EOPNOTSUPP);
    end();
}

TEST("what was created and is not listed is not decided")
{
    struct epoch_record ours = make_record(2, 1);

    begin();
    fault_store_plan(fault, STORE_PUT, 1, 1, STORE_FAILS, 0);
    CHECK(create(&ours, NULL) == -EIO);
    CHECK(create(&ours, NULL) == EPOCH_OURS);
    end();
}

TEST("a publisher that was suspended, and wakes after its epoch came and went "
     "elsewhere, has lost")
{
    struct epoch_record ours = make_record(5, 1);

    begin();
    add_record("disk/epoch/0000000000000009", 9, 9);
    CHECK(create(&ours, NULL) == EPOCH_LOST);
    CHECK(newest_from(0) == 9);
    end();
}

/* ---- without conditional put ----------------------------------------------
 */

struct meanwhile {
    const char *key; /* that another host creates during the wait */
    uint64_t epoch, nonce;
    uint64_t waited_ns;
    int error;
};

/* A wait during which another host does something. */
static int act_meanwhile(void *context, uint64_t ns)
{
    struct meanwhile *meanwhile = context;

    meanwhile->waited_ns += ns;
    if (meanwhile->key != NULL)
        add_record(meanwhile->key, meanwhile->epoch, meanwhile->nonce);
    return meanwhile->error;
}

static struct epoch_record make_plain(uint64_t epoch, uint64_t nonce)
{
    struct epoch_record record = make_record(epoch, nonce);

    record.key_has_nonce = true;
    return record;
}

TEST("without conditional put an epoch is read back after a wait")
{
    struct meanwhile meanwhile = {.key = NULL};
    struct epoch_pace pace = {act_meanwhile, &meanwhile, 77};
    struct epoch_record ours = make_plain(5, 1);

    begin();
    CHECK(create(&ours, &pace) == EPOCH_OURS);
    CHECK(meanwhile.waited_ns == 77);
    CHECK(newest_from(0) == 5);
    CHECK(create(&ours, &pace) == EPOCH_OURS);
    meanwhile.error = -ECANCELED;
    CHECK(create(&ours, &pace) == -ECANCELED);
    end();
}

TEST("without conditional put, two in one epoch are a conflict that both see, "
     "and both stay")
{
    struct meanwhile meanwhile = {
        .key = "disk/epoch/0000000000000005-0000000000000002",
        .epoch = 5,
        .nonce = 2,
    };
    struct epoch_pace pace = {act_meanwhile, &meanwhile, 1};
    struct epoch_record ours = make_plain(5, 1), theirs = make_plain(5, 2);
    struct epoch_newest newest;

    begin();
    CHECK(create(&ours, &pace) == EPOCH_CONFLICT);
    meanwhile.key = NULL;
    CHECK(create(&theirs, &pace) == EPOCH_CONFLICT);
    CHECK(epoch_read_newest(store, "disk", 0, &newest) == 0);
    CHECK(newest.count == 2);
    CHECK(newest.records[0].nonce == 1 && newest.records[1].nonce == 2);
    end();
}

TEST("a host that trusts conditions and one that does not see each other")
{
    struct meanwhile meanwhile = {.key = NULL};
    struct epoch_pace pace = {act_meanwhile, &meanwhile, 1};
    struct epoch_record ours = make_plain(5, 1), theirs = make_record(5, 2);

    begin();
    CHECK(create(&theirs, NULL) == EPOCH_OURS);
    CHECK(create(&ours, &pace) == EPOCH_CONFLICT);
    CHECK(create(&theirs, NULL) == EPOCH_CONFLICT);
    end();
}

TEST("without conditional put a newer epoch wins, whatever is beside ours")
{
    struct meanwhile meanwhile = {
        .key = "disk/epoch/0000000000000006-0000000000000002",
        .epoch = 6,
        .nonce = 2,
    };
    struct epoch_pace pace = {act_meanwhile, &meanwhile, 1};
    struct epoch_record ours = make_plain(5, 1);

    begin();
    add_record("disk/epoch/0000000000000005-0000000000000002", 5, 2);
    CHECK(create(&ours, &pace) == EPOCH_LOST);
    end();
}
