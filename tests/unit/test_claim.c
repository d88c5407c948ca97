/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/claim.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "cache/device.h"
#include "object_store.h"
#include "unit/test.h"

/* ---- a store in memory, whose calls can be made to fail ------------------ */

enum { OBJECTS_MAX = 16, VALUE_MAX = 600, KEY_SIZE = 160 };

struct fake_store {
    struct object_store store;
    size_t count;
    struct {
        char key[KEY_SIZE];
        size_t size;
        uint8_t value[VALUE_MAX];
    } objects[OBJECTS_MAX]; /* in the order of their keys */
    int put_error;          /* of the next put */
    bool put_happens;       /* it fails, but the object is there */
    int get_error, list_error;
    /* Run once before the next put decides: what another host does then. */
    void (*before_put)(struct fake_store *fake);
};

static void fake_add(struct fake_store *fake, const char *key, const void *data,
                     size_t size)
{
    size_t at = 0;

    while (at < fake->count && strcmp(fake->objects[at].key, key) < 0)
        at++;
    memmove(&fake->objects[at + 1], &fake->objects[at],
            (fake->count - at) * sizeof(fake->objects[0]));
    (void)snprintf(fake->objects[at].key, KEY_SIZE, "%s", key);
    memcpy(fake->objects[at].value, data, size);
    fake->objects[at].size = size;
    fake->count++;
}

static int fake_find(struct fake_store *fake, const char *key)
{
    for (size_t i = 0; i < fake->count; i++) {
        if (strcmp(fake->objects[i].key, key) == 0)
            return (int)i;
    }
    return -1;
}

static int fake_get(struct object_store *store, const char *key,
                    uint64_t offset, void *data, size_t len)
{
    struct fake_store *fake = (struct fake_store *)store;
    int at = fake_find(fake, key);

    if (fake->get_error < 0)
        return fake->get_error;
    if (at < 0)
        return -ENOENT;
    if (offset + len > fake->objects[at].size)
        return -EIO;
    memcpy(data, fake->objects[at].value + offset, len);
    return 0;
}

static int fake_put(struct object_store *store, const char *key,
                    const void *data, size_t len, bool if_absent)
{
    struct fake_store *fake = (struct fake_store *)store;
    int error = fake->put_error;

    if (fake->before_put) {
        fake->before_put(fake);
        fake->before_put = NULL;
    }
    CHECK(if_absent && object_key_is_valid(key) && len <= VALUE_MAX);
    fake->put_error = 0;
    if (error < 0 && !fake->put_happens)
        return error;
    if (fake_find(fake, key) >= 0)
        return -EEXIST;
    fake_add(fake, key, data, len);
    return error;
}

static int fake_list(struct object_store *store, const char *prefix,
                     const char *after, object_store_each *each, void *context)
{
    struct fake_store *fake = (struct fake_store *)store;
    struct object_info info = {0, 0};

    CHECK(strcmp(after, "") == 0);
    if (fake->list_error < 0)
        return fake->list_error;
    for (size_t i = 0; i < fake->count; i++) {
        const char *key = fake->objects[i].key;
        int result = 0;

        info.size = fake->objects[i].size;
        if (strncmp(key, prefix, strlen(prefix)) == 0)
            result = each(context, key, &info);
        if (result != 0)
            return result;
    }
    return 0;
}

static struct fake_store new_fake(void)
{
    struct fake_store fake;

    memset(&fake, 0, sizeof(fake));
    fake.store.get = fake_get;
    fake.store.put = fake_put;
    fake.store.list = fake_list;
    return fake;
}

/* ---- records ------------------------------------------------------------- */

static struct claim_record make_record(uint64_t epoch, uint64_t nonce)
{
    struct claim_record record;

    memset(&record, 0, sizeof(record));
    record.kind = CLAIM_IMAGE;
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
    return record;
}

static bool records_are_equal(const struct claim_record *a,
                              const struct claim_record *b)
{
    return a->kind == b->kind && a->epoch == b->epoch && a->nonce == b->nonce &&
           a->time_ns == b->time_ns && a->size == b->size &&
           a->chunk_size == b->chunk_size &&
           memcmp(a->device_id, b->device_id, UUID_SIZE) == 0 &&
           memcmp(a->cachedir_id, b->cachedir_id, UUID_SIZE) == 0 &&
           strcmp(a->host, b->host) == 0;
}

/* Put the checksum right after the record was changed. */
static void seal(uint8_t data[CLAIM_RECORD_SIZE])
{
    put_le32(data + CLAIM_RECORD_SIZE - 4,
             crc32c(0, data, CLAIM_RECORD_SIZE - 4));
}

static void add_record(struct fake_store *fake, const char *key, uint64_t epoch,
                       uint64_t nonce)
{
    struct claim_record record = make_record(epoch, nonce);
    uint8_t data[CLAIM_RECORD_SIZE];

    claim_encode(&record, data);
    fake_add(fake, key, data, sizeof(data));
}

TEST("a record comes back from its bytes as it was")
{
    struct claim_record record = make_record(UINT64_MAX, 7), decoded;
    uint8_t data[CLAIM_RECORD_SIZE];

    claim_encode(&record, data);
    CHECK(claim_decode(data, &decoded) == 0);
    CHECK(records_are_equal(&record, &decoded));
    memset(record.host, 'h', sizeof(record.host) - 1);
    claim_encode(&record, data);
    CHECK(claim_decode(data, &decoded) == 0);
    CHECK(records_are_equal(&record, &decoded));
}

TEST("a record with any bit flipped is refused, and nothing is written")
{
    struct claim_record record = make_record(5, 7), decoded = record;
    uint8_t data[CLAIM_RECORD_SIZE];

    claim_encode(&record, data);
    for (size_t bit = 0; bit < 8 * sizeof(data); bit++) {
        data[bit / 8] ^= (uint8_t)(1U << bit % 8);
        CHECK(claim_decode(data, &decoded) == -EBADMSG);
        data[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    CHECK(records_are_equal(&record, &decoded));
}

TEST("a whole record of a later version, or with a flag, is told apart")
{
    struct claim_record record = make_record(5, 7), decoded;
    uint8_t data[CLAIM_RECORD_SIZE];

    claim_encode(&record, data);
    put_le32(data + 8, 2);
    seal(data);
    CHECK(claim_decode(data, &decoded) == -EPROTONOSUPPORT);
    claim_encode(&record, data);
    put_le32(data + 12, 1);
    seal(data);
    CHECK(claim_decode(data, &decoded) == -EPROTONOSUPPORT);
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
        {152, 1},   /* reserved */
        {507, 1},   /* reserved */
    };
    struct claim_record record = make_record(5, 7), decoded;
    uint8_t data[CLAIM_RECORD_SIZE];

    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        claim_encode(&record, data);
        data[changes[i].at] = changes[i].value;
        seal(data);
        CHECK(claim_decode(data, &decoded) == -EBADMSG);
    }
}

/* ---- in the store -------------------------------------------------------- */

TEST("a device without an epoch is told by ENOENT, a store's silence is not")
{
    struct fake_store fake = new_fake();
    struct claim_record record;

    add_record(&fake, "disk2/epoch/0000000000000001", 1, 1);
    add_record(&fake, "disk/image/0000000000000001", 1, 1);
    CHECK(claim_read_newest(&fake.store, "disk", &record) == -ENOENT);
    fake.list_error = -ETIMEDOUT;
    CHECK(claim_read_newest(&fake.store, "disk", &record) == -ETIMEDOUT);
    fake.list_error = -EACCES;
    CHECK(claim_read_newest(&fake.store, "disk", &record) == -EACCES);
    fake.list_error = -ENOENT;
    CHECK(claim_read_newest(&fake.store, "disk", &record) == -EIO);
}

TEST("the newest epoch is read, also among keys of other forms")
{
    struct fake_store fake = new_fake();
    struct claim_record record;

    add_record(&fake, "disk/epoch/0000000000000001", 1, 1);
    add_record(&fake, "disk/epoch/00000000000000ff", 255, 2);
    add_record(&fake, "disk/epoch/0000000000000100", 256, 3);
    add_record(&fake, "disk/epoch/0000000000000100x", 999, 4);
    add_record(&fake, "disk/epoch/000000000000010", 999, 4);
    add_record(&fake, "disk/epoch/000000000000FFFF", 999, 4);
    add_record(&fake, "disk/epoch/00000000000001000-00000000000000001", 999, 4);
    add_record(&fake, "disk/epoch/0000000000000200.00000000000000f1", 999, 4);
    add_record(&fake, "disk/epoch/0000000000000200-00000000000000g1", 999, 4);
    add_record(&fake, "disk/epoch/zzzz", 999, 4);
    CHECK(claim_read_newest(&fake.store, "disk", &record) == 0);
    CHECK(record.epoch == 256 && record.nonce == 3);
    add_record(&fake, "disk/epoch/0000000000000101-00000000000000f5", 257,
               0xf5);
    CHECK(claim_read_newest(&fake.store, "disk", &record) == 0);
    CHECK(record.epoch == 257 && record.nonce == 0xf5);
}

TEST("a name of the greatest length has room")
{
    struct fake_store fake = new_fake();
    struct claim_record record = make_record(1, 77), found;
    char name[DEVICE_NAME_MAX + 1];

    memset(name, 'n', DEVICE_NAME_MAX);
    name[DEVICE_NAME_MAX] = '\0';
    CHECK(claim_create_first(&fake.store, name, &record) == 0);
    CHECK(claim_read_newest(&fake.store, name, &found) == 0);
    CHECK(records_are_equal(&record, &found));
}

TEST("an epoch that was listed and cannot be read is never taken for none")
{
    struct fake_store fake = new_fake();
    struct claim_record record;
    uint8_t data[CLAIM_RECORD_SIZE];

    add_record(&fake, "disk/epoch/0000000000000001", 1, 1);
    fake.get_error = -ENOENT; /* deleted since */
    CHECK(claim_read_newest(&fake.store, "disk", &record) == -EIO);
    fake.get_error = -ETIMEDOUT;
    CHECK(claim_read_newest(&fake.store, "disk", &record) == -ETIMEDOUT);
    fake.get_error = 0;
    fake_add(&fake, "disk/epoch/0000000000000002", "short", 5);
    CHECK(claim_read_newest(&fake.store, "disk", &record) == -EIO);
    memset(data, 0, sizeof(data));
    fake_add(&fake, "disk/epoch/0000000000000003", data, sizeof(data));
    CHECK(claim_read_newest(&fake.store, "disk", &record) == -EBADMSG);
    add_record(&fake, "disk/epoch/0000000000000004", 3, 1);
    CHECK(claim_read_newest(&fake.store, "disk", &record) == -EBADMSG);
    add_record(&fake, "disk/epoch/0000000000000005-0000000000000001", 5, 2);
    CHECK(claim_read_newest(&fake.store, "disk", &record) == -EBADMSG);
}

TEST("two nonces in the newest epoch are a conflict, in an older one history")
{
    struct fake_store fake = new_fake();
    struct claim_record record;

    add_record(&fake, "disk/epoch/0000000000000005-0000000000000001", 5, 1);
    add_record(&fake, "disk/epoch/0000000000000005-0000000000000002", 5, 2);
    CHECK(claim_read_newest(&fake.store, "disk", &record) == -EIO);
    add_record(&fake, "disk/epoch/0000000000000006-0000000000000003", 6, 3);
    CHECK(claim_read_newest(&fake.store, "disk", &record) == 0);
    CHECK(record.epoch == 6);
}

TEST("of two hosts that create a device one succeeds")
{
    struct fake_store fake = new_fake();
    struct claim_record ours = make_record(1, 1), theirs = make_record(1, 2);
    struct claim_record found;

    CHECK(claim_create_first(&fake.store, "disk", &ours) == 0);
    CHECK(claim_create_first(&fake.store, "disk", &theirs) == -EEXIST);
    CHECK(claim_read_newest(&fake.store, "disk", &found) == 0);
    CHECK(records_are_equal(&ours, &found));
}

TEST("creating again with the same record succeeds, whatever became of it")
{
    struct claim_record record = make_record(1, 1);

    for (int happens = 0; happens < 2; happens++) {
        struct fake_store fake = new_fake();

        fake.put_error = -ETIMEDOUT;
        fake.put_happens = happens;
        CHECK(claim_create_first(&fake.store, "disk", &record) == -ETIMEDOUT);
        CHECK(fake.count == (size_t)happens);
        CHECK(claim_create_first(&fake.store, "disk", &record) == 0);
        CHECK(fake.count == 1);
    }
}

TEST("an error while it is decided whose epoch 1 is passes on")
{
    struct fake_store fake = new_fake();
    struct claim_record ours = make_record(1, 1);

    add_record(&fake, "disk/epoch/0000000000000001", 1, 2);
    fake.get_error = -ETIMEDOUT;
    CHECK(claim_create_first(&fake.store, "disk", &ours) == -ETIMEDOUT);
    fake.get_error = -ENOENT;
    CHECK(claim_create_first(&fake.store, "disk", &ours) == -EIO);
    fake = new_fake();
    fake.list_error = -ETIMEDOUT;
    CHECK(claim_create_first(&fake.store, "disk", &ours) == -ETIMEDOUT);
    fake.list_error = 0;
    CHECK(claim_create_first(&fake.store, "disk", &ours) == 0);
}

static void another_publishes(struct fake_store *fake)
{
    add_record(fake, "disk/epoch/0000000000000009", 9, 9);
}

TEST("a device that turns out to have newer epochs is not created")
{
    struct fake_store fake = new_fake();
    struct claim_record ours = make_record(1, 1);

    fake.before_put = another_publishes;
    CHECK(claim_create_first(&fake.store, "disk", &ours) == -EEXIST);
}
