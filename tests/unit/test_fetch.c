/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/fetch.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "cache/block_codec.h"
#include "cache/chunk_file.h"
#include "cache/geometry.h"
#include "support/fault_store.h"
#include "support/memory_store.h"
#include "unit/test.h"

enum {
    CHUNK_SIZE = 1 << 20,
    CHUNK = 42,
    BLOCKS = 4, /* that the object has */
};

static struct fault_store *fault;
static struct object_store *store;
static struct fetch *fetch;
static struct chunk_object reference; /* to the object that begin() puts */
static unsigned char object[3 * 65536 + BLOCKS * CACHE_BLOCK];
static size_t object_size;

static void fill(unsigned char *plain, uint32_t block)
{
    memset(plain, (int)block + 1, CACHE_BLOCK);
    for (uint32_t i = 0; i < 100; i++)
        plain[i * 50] = (unsigned char)(i * 7);
}

static void put_object_of(const char *device_name)
{
    char key[FETCH_KEY_MAX];

    fetch_object_key(device_name, CHUNK, &reference.id, key);
    CHECK(store->put(store, key, object, object_size, false) == 0);
}

static void put_object(void)
{
    put_object_of("disk");
}

/* Put an object of chunk that has some blocks, and begin. */
static bool begin(uint64_t chunk, bool name_itself)
{
    struct chunk_table *table = chunk_table_new(chunk, CHUNK_SIZE);
    unsigned char plain[CACHE_BLOCK], room[BLOCK_STORED_MAX];
    size_t table_size;

    if (!CHECK(table != NULL))
        return false;
    reference = (struct chunk_object){.id = {3, 0xabc, 17}};
    table->objects_count = 1;
    table->objects[0].id = reference.id;
    if (!name_itself)
        table->objects[0].id.counter++;
    table->data_end = 0;
    object_size = 4096;
    for (uint32_t i = 0; i < BLOCKS; i++) {
        struct block_stored how;

        fill(plain, i);
        block_encode(plain, CACHE_BLOCK, room, &how);
        memcpy(object + object_size, room, how.size);
        table->blocks[i] = (struct chunk_block){
            .base = BASE_OBJECT,
            .object_codec = (uint8_t)how.codec,
            .object_size = how.size,
            .object_place = (uint32_t)object_size,
            .object_checksum = how.checksum,
        };
        object_size += how.size;
    }
    table->blocks[BLOCKS].base = BASE_ZERO;
    table_size = chunk_table_encode(table, object);
    chunk_table_release(table);
    reference.table_size = (uint32_t)table_size;
    reference.table_checksum = crc32c(0, object, table_size);

    fault = fault_store_new(memory_store_new());
    store = fault_store_of(fault);
    put_object();
    return CHECK(table_size == 4096) &&
           CHECK(fetch_new(store, "disk", &fetch) == 0);
}

static void end(void)
{
    fetch_free(fetch);
    store->close(store);
}

static int table_result(void)
{
    struct chunk_table *table = NULL;
    int error = fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference,
                            OBJECT_WAITED_FOR, &table);

    CHECK((error == 0) == (table != NULL));
    chunk_table_release(table);
    return error;
}

/* ---- many blocks at once, by as few requests as may be ---- */

struct arrived {
    uint32_t blocks[BLOCKS];
    size_t count;
    bool is_right;
};

static void arrive(void *context, uint32_t block, const void *stored,
                   const void *plain)
{
    struct arrived *arrived = context;
    unsigned char expected[CACHE_BLOCK];

    (void)stored;
    fill(expected, block);
    arrived->is_right =
        arrived->is_right && memcmp(plain, expected, sizeof(expected)) == 0;
    arrived->blocks[arrived->count++] = block;
}

/* Fetch these blocks; all that arrive are right. */
static int blocks_result(const struct chunk_table *table,
                         const uint32_t blocks[], size_t count,
                         size_t *ret_arrived)
{
    struct arrived arrived = {.is_right = true};
    int error = fetch_blocks(fetch, table, blocks, count, OBJECT_WAITED_FOR,
                             arrive, &arrived);

    CHECK(arrived.is_right && arrived.count <= count);
    *ret_arrived = arrived.count;
    return error;
}

static uint64_t alarms(void)
{
    struct fetch_counts counts;

    fetch_get_counts(fetch, &counts);
    return counts.alarms;
}

static void copy_plain(void *context, uint32_t block, const void *stored,
                       const void *plain)
{
    (void)block;
    (void)stored;
    memcpy(context, plain, CACHE_BLOCK);
}

static int block_result(const struct chunk_table *table, uint32_t block)
{
    unsigned char plain[CACHE_BLOCK], expected[CACHE_BLOCK];
    int error;

    memset(plain, 0xa5, sizeof(plain));
    error = fetch_blocks(fetch, table, &block, 1, OBJECT_WAITED_FOR, copy_plain,
                         plain);
    fill(expected, block);
    CHECK(error != 0 || memcmp(plain, expected, sizeof(plain)) == 0);
    return error;
}

TEST("an object's key is made of device, chunk and id")
{
    struct object_id id = {0x10, 0xfedcba9876543210, 1};
    char key[FETCH_KEY_MAX];
    char longest[64];

    fetch_object_key("disk", 0xabcdef, &id, key);
    CHECK(strcmp(key, "disk/chunk/0000000000abcdef/0000000000000010-"
                      "fedcba9876543210-0000000000000001") == 0);
    CHECK(object_key_is_valid(key));
    memset(longest, 'd', 63);
    longest[63] = '\0';
    fetch_object_key(longest, UINT64_MAX, &id, key);
    CHECK(strlen(key) == FETCH_KEY_MAX - 1);
}

TEST("table and blocks of an object arrive, by one request each")
{
    struct chunk_table *table;

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    CHECK(fault_store_count(fault, STORE_GET) == 1);
    CHECK(table->chunk == CHUNK && table->objects_count == 1);
    CHECK(memcmp(&table->objects[0], &reference, sizeof(reference)) == 0);
    CHECK(table->data_end == chunk_file_data_start(CHUNK_SIZE));
    CHECK(table->blocks[BLOCKS].base == BASE_ZERO);
    for (uint32_t i = 0; i < BLOCKS; i++)
        CHECK(block_result(table, i) == 0);
    CHECK(fault_store_count(fault, STORE_GET) == 1 + BLOCKS);
    CHECK(fetch_waiting(fetch) == 0);
    chunk_table_release(table);
    end();
    fetch_free(NULL);
}

TEST("a table that was fetched can become the first one of a chunk file")
{
    unsigned char bytes[65536];
    struct chunk_table *table, *back;

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    NEED(chunk_table_decode(bytes, chunk_table_encode(table, bytes), &back) ==
         0);
    CHECK(block_result(back, 1) == 0);
    chunk_table_release(back);
    chunk_table_release(table);
    end();
}

TEST("a mapped object that is missing is an error, never zeros")
{
    struct chunk_table *table;
    char key[FETCH_KEY_MAX];

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    fetch_object_key("disk", CHUNK, &reference.id, key);
    CHECK(object_delete_one(store, key) == 0);
    CHECK(table_result() == -EIO);
    CHECK(block_result(table, 0) == -EIO);
    CHECK(alarms() == 2);
    /* And it is looked for again each time. */
    put_object();
    CHECK(table_result() == 0);
    CHECK(block_result(table, 0) == 0);
    chunk_table_release(table);
    end();
}

TEST("blocks side by side arrive by one request, and are counted")
{
    static const uint32_t all[] = {0, 1, 2, 3};
    struct fetch_counts counts;
    struct chunk_table *table;
    size_t arrived;

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    CHECK(blocks_result(table, all, BLOCKS, &arrived) == 0);
    CHECK(arrived == BLOCKS && fault_store_count(fault, STORE_GET) == 2);
    fetch_get_counts(fetch, &counts);
    CHECK(counts.requests == 2 && counts.alarms == 0);
    CHECK(counts.bytes == object_size); /* the table, and all after it */
    CHECK(blocks_result(table, all, 0, &arrived) == 0);
    CHECK(arrived == 0 && fault_store_count(fault, STORE_GET) == 2);
    chunk_table_release(table);
    end();
}

TEST("a small gap is read through, a large one and another object are not")
{
    static const uint32_t ends[] = {0, 3};
    struct fetch_counts before, after;
    struct chunk_table *table;
    struct chunk_block *last;
    size_t arrived;

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    last = &table->blocks[3];
    fetch_get_counts(fetch, &before);
    CHECK(blocks_result(table, ends, 2, &arrived) == 0);
    fetch_get_counts(fetch, &after);
    CHECK(arrived == 2 && after.requests == before.requests + 1);
    CHECK(after.bytes - before.bytes == last->object_place + last->object_size -
                                            table->blocks[0].object_place);
    /* The last block, once more, behind so much that it is not worth it. */
    memcpy(object + sizeof(object) - last->object_size,
           object + last->object_place, last->object_size);
    last->object_place = (uint32_t)(sizeof(object) - last->object_size);
    object_size = sizeof(object);
    put_object();
    CHECK(blocks_result(table, ends, 2, &arrived) == 0);
    fetch_get_counts(fetch, &before);
    CHECK(arrived == 2 && before.requests == after.requests + 2);
    /* And in another object, in the place where it was at first. */
    table->objects[1] = table->objects[0];
    table->objects[1].id.counter++;
    table->objects_count = 2;
    reference.id.counter++;
    put_object();
    last->object = 1;
    CHECK(blocks_result(table, ends, 2, &arrived) == 0);
    fetch_get_counts(fetch, &after);
    CHECK(arrived == 2 && after.requests == before.requests + 2);
    chunk_table_release(table);
    end();
}

TEST("one bad block of many is an error, and the others arrive")
{
    static const uint32_t all[] = {0, 1, 2, 3};
    struct chunk_table *table;
    size_t arrived;

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    object[table->blocks[1].object_place] ^= 1;
    put_object();
    CHECK(blocks_result(table, all, BLOCKS, &arrived) == -EIO);
    CHECK(arrived == BLOCKS - 1 && alarms() == 1);
    CHECK(block_result(table, 0) == 0);
    CHECK(block_result(table, 1) == -EIO);
    chunk_table_release(table);
    end();
}

TEST("objects of another device are read below its name")
{
    struct chunk_table *table;
    size_t arrived;
    static const uint32_t blocks[] = {0, 2};
    char key[FETCH_KEY_MAX];

    NEED(begin(CHUNK, true));
    fetch_object_key("source", CHUNK, &reference.id, key);
    CHECK(store->put(store, key, object, object_size, true) == 0);
    fetch_object_key("disk", CHUNK, &reference.id, key);
    CHECK(object_delete_one(store, key) == 0);
    reference.origin = 7;
    CHECK(table_result() == -EIO);
    CHECK(fetch_set_origin(fetch, 7, "nobody") == 0);
    CHECK(fetch_set_origin(fetch, 8, "source") == 0);
    CHECK(table_result() == -EIO);
    CHECK(fetch_set_origin(fetch, 7, "source") == 0);
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    CHECK(blocks_result(table, blocks, 2, &arrived) == 0 && arrived == 2);
    chunk_table_release(table);
    end();
}

TEST("what another device's table calls its own is of that device")
{
    struct chunk_table *table = NULL;
    size_t size;

    NEED(begin(CHUNK, true));
    /* A delta: its first object is an older one, its last is itself. */
    CHECK(chunk_table_decode(object, reference.table_size, &table) == 0);
    table->objects[2] = table->objects[0];
    table->objects[0].id.counter = 1;
    table->objects[0].table_size = 4096;
    table->objects[1] = table->objects[0];
    table->objects[1].origin = 5; /* of a device before that one */
    table->objects_count = 3;
    for (uint32_t i = 0; i < BLOCKS; i++)
        table->blocks[i].object = 2;
    size = chunk_table_encode(table, object);
    chunk_table_release(table);
    reference.table_checksum = crc32c(0, object, size);
    reference.origin = 7;
    put_object_of("source");
    CHECK(fetch_set_origin(fetch, 7, "source") == 0);
    CHECK(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                      &table) == 0);
    CHECK(table->objects[0].origin == 7 && table->objects[1].origin == 5 &&
          table->objects[2].origin == 7);
    chunk_table_release(table);
    end();
}

TEST("the store's own errors are passed on, and not remembered")
{
    static const int errors[] = {-ETIMEDOUT, -EACCES, -EIO, -ECANCELED};
    struct chunk_table *table;

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        fault_store_plan(fault, STORE_GET, 1, 2, STORE_FAILS, errors[i]);
        CHECK(table_result() == errors[i]);
        CHECK(block_result(table, 0) == errors[i]);
        CHECK(table_result() == 0);
        CHECK(block_result(table, 0) == 0);
    }
    chunk_table_release(table);
    end();
}

TEST("cut or damaged bytes are found, and right ones are taken the next time")
{
    static const enum store_fault faults[] = {STORE_CUTS, STORE_CORRUPTS};
    struct chunk_table *table;

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    for (size_t i = 0; i < 2; i++) {
        fault_store_plan(fault, STORE_GET, 1, 1, STORE_CORRUPTS, 0);
        CHECK(table_result() == -EIO);
        fault_store_plan(fault, STORE_GET, 1, 1, faults[i], 0);
        CHECK(block_result(table, 2) == -EIO);
        CHECK(table_result() == 0);
        CHECK(block_result(table, 2) == 0);
    }
    chunk_table_release(table);
    end();
}

TEST("an object shorter than its table says is an error")
{
    struct chunk_table *table;

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    object_size -= 1;
    put_object();
    CHECK(block_result(table, BLOCKS - 1) == -EIO);
    CHECK(block_result(table, 0) == 0);
    object_size = 4095;
    put_object();
    CHECK(table_result() == -EIO);
    object_size = 0;
    put_object();
    CHECK(table_result() == -EIO);
    chunk_table_release(table);
    end();
}

TEST("an object that is not what the reference says is an error")
{
    NEED(begin(CHUNK + 1, true)); /* of another chunk */
    CHECK(table_result() == -EIO);
    end();
    NEED(begin(CHUNK, false)); /* of another upload */
    CHECK(table_result() == -EIO);
    end();
    NEED(begin(CHUNK, true));
    reference.table_checksum++;
    CHECK(table_result() == -EIO);
    reference.table_checksum--;
    reference.id.nonce++;
    CHECK(table_result() == -EIO);
    reference.id.nonce--;
    reference.origin = 1;
    CHECK(table_result() == -EIO);
    CHECK(alarms() == 3);
    reference.origin = 0;
    CHECK(table_result() == 0);
    end();
}

TEST("a reference of an impossible size is an error, without a request")
{
    uint64_t before;

    NEED(begin(CHUNK, true));
    before = fault_store_count(fault, STORE_GET);
    reference.table_size = (uint32_t)chunk_table_encoded_max(CHUNK_SIZE) + 1;
    CHECK(table_result() == -EIO);
    reference.table_size = UINT32_MAX;
    CHECK(table_result() == -EIO);
    CHECK(fault_store_count(fault, STORE_GET) == before);
    reference.table_size = 0;
    reference.table_checksum = 0;
    CHECK(table_result() == -EIO);
    end();
}

TEST("a table whose checksum is right, but not its form, is an error")
{
    NEED(begin(CHUNK, true));
    object[100] ^= 1;
    reference.table_checksum = crc32c(0, object, reference.table_size);
    put_object();
    CHECK(table_result() == -EIO);
    object[100] ^= 1;
    put_le32(object + 8, 2); /* the version; and what the table says of it */
    put_le32(object + 20, crc32c(crc32c(0, object, 20), object + 24,
                                 reference.table_size - 24));
    reference.table_checksum = crc32c(0, object, reference.table_size);
    put_object();
    CHECK(table_result() == -EPROTONOSUPPORT);
    end();
}

TEST("a block whose checksum is right, but not its form, is an error")
{
    struct chunk_table *table;
    struct chunk_block *b;

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    b = &table->blocks[1];
    object[b->object_place] ^= 0xff; /* how long snappy says it is */
    b->object_checksum = crc32c(0, object + b->object_place, b->object_size);
    put_object();
    CHECK(block_result(table, 1) == -EIO);
    table->objects[0].origin = 3;
    CHECK(block_result(table, 0) == -EIO);
    chunk_table_release(table);
    end();
}

/* ---- many at once -------------------------------------------------------- */

struct asker {
    pthread_t thread;
    const struct chunk_table *table; /* NULL: asks for the table */
    uint32_t block;
    int error;
};

static void *ask(void *argument)
{
    struct asker *asker = argument;

    asker->error = asker->table ? block_result(asker->table, asker->block)
                                : table_result();
    return NULL;
}

static void start(struct asker *asker, const struct chunk_table *table,
                  uint32_t block)
{
    asker->table = table;
    asker->block = block;
    asker->error = 1;
    CHECK(pthread_create(&asker->thread, NULL, ask, asker) == 0);
}

static void join(struct asker *asker, int error)
{
    CHECK(pthread_join(asker->thread, NULL) == 0);
    CHECK(asker->error == error);
}

/* Return when so many wait for what another one is getting. */
static void wait_waiting(size_t count)
{
    while (fetch_waiting(fetch) < count)
        (void)sched_yield();
}

TEST("however many ask for a block at once, there is one request")
{
    struct chunk_table *table;
    struct asker askers[8];

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    fault_store_plan(fault, STORE_GET, 1, 0, STORE_HOLDS, 0);
    for (size_t i = 0; i < 8; i++)
        start(&askers[i], table, 2);
    fault_store_wait_held(fault, 1);
    wait_waiting(7);
    CHECK(fault_store_count(fault, STORE_GET) == 2);
    fault_store_clear(fault);
    for (size_t i = 0; i < 8; i++)
        join(&askers[i], 0);
    CHECK(fault_store_count(fault, STORE_GET) == 2);
    CHECK(fetch_waiting(fetch) == 0);
    CHECK(block_result(table, 2) == 0);
    CHECK(fault_store_count(fault, STORE_GET) == 3);
    chunk_table_release(table);
    end();
}

TEST("different blocks and tables are fetched side by side")
{
    struct chunk_table *table;
    struct asker askers[BLOCKS + 2];

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    fault_store_plan(fault, STORE_GET, 1, 0, STORE_HOLDS, 0);
    for (uint32_t i = 0; i < BLOCKS; i++)
        start(&askers[i], table, i);
    start(&askers[BLOCKS], NULL, 0);
    fault_store_wait_held(fault, BLOCKS + 1);
    start(&askers[BLOCKS + 1], NULL, 0);
    wait_waiting(1);
    fault_store_clear(fault);
    for (size_t i = 0; i < BLOCKS + 2; i++)
        join(&askers[i], 0);
    CHECK(fault_store_count(fault, STORE_GET) == 1 + BLOCKS + 1);
    chunk_table_release(table);
    end();
}

/* Asks for all blocks. */
struct reader {
    pthread_t thread;
    const struct chunk_table *table;
    uint32_t first; /* and all after it */
    size_t arrived;
    int error;
};

static void *read_blocks(void *argument)
{
    struct reader *reader = argument;
    uint32_t blocks[BLOCKS];

    for (uint32_t i = reader->first; i < BLOCKS; i++)
        blocks[i - reader->first] = i;
    reader->error = blocks_result(reader->table, blocks, BLOCKS - reader->first,
                                  &reader->arrived);
    return NULL;
}

TEST(
    "who wants a part of what is being fetched waits for it, and gets the rest")
{
    struct chunk_table *table;
    struct reader some = {.first = 2}, all = {.first = 0};
    struct asker one;

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    some.table = all.table = table;
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_HOLDS, 0);
    CHECK(pthread_create(&some.thread, NULL, read_blocks, &some) == 0);
    fault_store_wait_held(fault, 1);
    CHECK(pthread_create(&all.thread, NULL, read_blocks, &all) == 0);
    start(&one, table, 3);
    wait_waiting(2);
    /* The table, 2 and 3 together, 0 and 1 together. */
    CHECK(fault_store_count(fault, STORE_GET) == 3);
    fault_store_clear(fault);
    CHECK(pthread_join(some.thread, NULL) == 0);
    CHECK(pthread_join(all.thread, NULL) == 0);
    join(&one, 0);
    CHECK(some.error == 0 && some.arrived == 2);
    CHECK(all.error == 0 && all.arrived == BLOCKS);
    CHECK(fault_store_count(fault, STORE_GET) == 3);
    chunk_table_release(table);
    end();
}

TEST("an error of the one request is for all who waited, and for no other")
{
    struct chunk_table *table;
    struct asker askers[4];
    char key[FETCH_KEY_MAX];

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_HOLDS, 0);
    for (size_t i = 0; i < 4; i++)
        start(&askers[i], table, 3);
    fault_store_wait_held(fault, 1);
    wait_waiting(3);
    fetch_object_key("disk", CHUNK, &reference.id, key);
    CHECK(object_delete_one(store, key) == 0);
    fault_store_release(fault);
    for (size_t i = 0; i < 4; i++)
        join(&askers[i], -EIO);
    CHECK(fault_store_count(fault, STORE_GET) == 2);
    put_object();
    CHECK(block_result(table, 3) == 0);
    chunk_table_release(table);
    end();
}

/* ---- who waits for what is not waited for ---------------------------------
 */

struct ahead {
    pthread_t thread;
    const struct chunk_table *table; /* NULL: asks for the table */
    enum object_urgency urgency;
    int error;
};

static void *read_ahead(void *argument)
{
    static const uint32_t all[] = {0, 1, 2, 3};
    struct ahead *ahead = argument;
    struct arrived arrived = {.is_right = true};
    struct chunk_table *table = NULL;

    if (ahead->table) {
        ahead->error = fetch_blocks(fetch, ahead->table, all, BLOCKS,
                                    ahead->urgency, arrive, &arrived);
        return NULL;
    }
    ahead->error = fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference,
                               ahead->urgency, &table);
    chunk_table_release(table);
    return NULL;
}

/* Begin to read ahead; on return the store has been asked, and holds it. */
static void start_ahead(struct ahead *ahead, const struct chunk_table *table,
                        enum object_urgency urgency)
{
    *ahead = (struct ahead){.table = table, .urgency = urgency, .error = 1};
    fault_store_plan(fault, STORE_GET, 1, 1, STORE_HOLDS, 0);
    CHECK(pthread_create(&ahead->thread, NULL, read_ahead, ahead) == 0);
    fault_store_wait_held(fault, 1);
}

static void join_ahead(struct ahead *ahead, int error)
{
    CHECK(pthread_join(ahead->thread, NULL) == 0);
    CHECK(ahead->error == error);
}

TEST("the store is told who waits for what")
{
    struct chunk_table *table;
    struct ahead ahead = {.urgency = OBJECT_AHEAD};

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    CHECK(fault_store_urgency(fault) == OBJECT_BACKGROUND);
    CHECK(table_result() == 0);
    CHECK(fault_store_urgency(fault) == OBJECT_WAITED_FOR);
    ahead.table = table;
    (void)read_ahead(&ahead);
    CHECK(fault_store_urgency(fault) == OBJECT_AHEAD);
    CHECK(block_result(table, 1) == 0);
    CHECK(fault_store_urgency(fault) == OBJECT_WAITED_FOR);
    chunk_table_release(table);
    end();
}

TEST("who joined read-ahead that fails asks again, and for what he wants only")
{
    struct chunk_table *table;
    struct ahead ahead;
    struct asker one, another;

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    start_ahead(&ahead, table, OBJECT_AHEAD);
    start(&one, table, 1);
    start(&another, table, 3);
    wait_waiting(2);
    CHECK(fault_store_count(fault, STORE_GET) == 2);
    fault_store_fail_held(fault, -ETIMEDOUT);
    join_ahead(&ahead, -ETIMEDOUT);
    join(&one, 0);
    join(&another, 0);
    CHECK(fault_store_count(fault, STORE_GET) == 4);
    CHECK(fault_store_urgency(fault) == OBJECT_WAITED_FOR);
    chunk_table_release(table);
    end();
}

TEST("who joined a table's read-ahead that fails asks again")
{
    struct ahead ahead;
    struct asker asker;

    NEED(begin(CHUNK, true));
    start_ahead(&ahead, NULL, OBJECT_AHEAD);
    start(&asker, NULL, 0);
    wait_waiting(1);
    fault_store_fail_held(fault, -EIO);
    join_ahead(&ahead, -EIO);
    join(&asker, 0);
    CHECK(fault_store_count(fault, STORE_GET) == 2);
    CHECK(fault_store_urgency(fault) == OBJECT_WAITED_FOR);
    end();
}

TEST("who joined read-ahead that takes much longer than usual does not wait")
{
    struct chunk_table *table;
    struct ahead ahead;

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    clock_set_for_tests(1); /* so that everything is long past already */
    start_ahead(&ahead, table, OBJECT_AHEAD);
    CHECK(block_result(table, 2) == 0); /* while the other one is held */
    CHECK(fault_store_count(fault, STORE_GET) == 3);
    fault_store_release(fault);
    join_ahead(&ahead, 0);
    start_ahead(&ahead, NULL, OBJECT_AHEAD);
    CHECK(table_result() == 0);
    CHECK(fault_store_count(fault, STORE_GET) == 5);
    fault_store_release(fault);
    join_ahead(&ahead, 0);
    clock_set_for_tests(0);
    chunk_table_release(table);
    end();
}

TEST("what can wait is joined only by what can wait as well")
{
    struct chunk_table *table;
    struct ahead scrub, other;

    NEED(begin(CHUNK, true));
    NEED(fetch_table(fetch, CHUNK, CHUNK_SIZE, &reference, OBJECT_BACKGROUND,
                     &table) == 0);
    start_ahead(&scrub, table, OBJECT_BACKGROUND);
    CHECK(block_result(table, 0) == 0);
    CHECK(fault_store_count(fault, STORE_GET) == 3);
    other = (struct ahead){.table = table, .urgency = OBJECT_BACKGROUND};
    CHECK(pthread_create(&other.thread, NULL, read_ahead, &other) == 0);
    wait_waiting(1);
    fault_store_fail_held(fault, -EBUSY);
    join_ahead(&scrub, -EBUSY);
    join_ahead(&other, -EBUSY);
    CHECK(fault_store_count(fault, STORE_GET) == 3);
    chunk_table_release(table);
    end();
}
