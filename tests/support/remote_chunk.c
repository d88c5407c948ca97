/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/remote_chunk.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "cache/block_codec.h"
#include "cache/device_parts.h"
#include "cache/geometry.h"
#include "object_store.h"

enum { COMMITTED_AT_ONCE = 1024 };

static void need(bool ok)
{
    if (!ok)
        abort();
}

/* The blocks of an object, one after the other, as the table says. */
static size_t pack(struct chunk_table *table, const unsigned char *plain,
                   unsigned char *data, size_t place)
{
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        struct chunk_block *block = &table->blocks[i];
        unsigned char stored[BLOCK_STORED_MAX];
        struct block_stored how;

        if (bytes_are_zero(plain + (size_t)i * CACHE_BLOCK, CACHE_BLOCK))
            continue;
        block_encode(plain + (size_t)i * CACHE_BLOCK, CACHE_BLOCK, stored,
                     &how);
        block->base = BASE_OBJECT;
        block->object = 0;
        block->object_codec = (uint8_t)how.codec;
        block->object_size = how.size;
        block->object_checksum = how.checksum;
        block->object_place = (uint32_t)place;
        memcpy(data + place, stored, how.size);
        place += how.size;
    }
    return place;
}

void remote_put(struct device *device, uint64_t chunk, uint64_t counter,
                const unsigned char *plain, struct chunk_object *ret_object)
{
    uint32_t chunk_size = device->options.chunk_size;
    struct object_store *store = device->options.store;
    size_t most = chunk_table_encoded_max(chunk_size);
    struct chunk_table *table = chunk_table_new(chunk, chunk_size);
    unsigned char *data = malloc(most + chunk_size);
    struct object_id id = {.epoch = 1, .nonce = 7, .counter = counter};
    char key[FETCH_KEY_MAX];
    size_t table_size;
    size_t size;

    need(table != NULL && data != NULL);
    table->generation = 1;
    table->data_end = 0;
    table->objects_count = 1;
    table->objects[0] = (struct chunk_object){.id = id};
    /* Once to know the size of the table, once to follow it. */
    (void)pack(table, plain, data, most);
    table_size = chunk_table_encode(table, data);
    size = pack(table, plain, data, table_size);
    need(chunk_table_encode(table, data) == table_size);
    *ret_object = (struct chunk_object){
        .id = id,
        .table_size = (uint32_t)table_size,
        .table_checksum = crc32c(0, data, table_size),
    };
    fetch_object_key(device->options.name, chunk, &id, key);
    need(store->put(store, key, data, size, true) == 0);
    chunk_table_release(table);
    free(data);
}

void remote_delete(struct device *device, uint64_t chunk,
                   const struct chunk_object *object)
{
    struct object_store *store = device->options.store;
    char key[FETCH_KEY_MAX];

    fetch_object_key(device->options.name, chunk, &object->id, key);
    need(object_delete_one(store, key) == 0);
}

static struct state_change clean(uint64_t chunk, unsigned flags,
                                 uint64_t generation,
                                 const struct chunk_object *object)
{
    return (struct state_change){
        .kind = STATE_CHUNK,
        .chunk = chunk,
        .entry =
            {
                .generation = generation,
                .uploaded_generation = generation,
                .flags = flags,
                .objects_count = 1,
                .objects = {*object},
            },
    };
}

static void commit(struct device *device, uint64_t chunk, unsigned flags,
                   uint64_t generation, const struct chunk_object *object)
{
    struct state_change change = clean(chunk, flags, generation, object);

    need(state_log_commit(device->state_log, &change, 1) == 0);
}

static uint64_t next_generation(struct device *device)
{
    return atomic_fetch_add(&device->fold.generation, 1) + 1;
}

void remote_commit(struct device *device, uint64_t chunk,
                   const struct chunk_object *object)
{
    commit(device, chunk, 0, next_generation(device), object);
}

void remote_commit_many(struct device *device, uint64_t chunks)
{
    struct state_change *changes = calloc(COMMITTED_AT_ONCE, sizeof(*changes));
    struct chunk_object object = {
        .id = {.epoch = 1, .nonce = 7},
        .table_size = 100,
    };
    size_t count = 0;

    need(changes != NULL);
    for (uint64_t chunk = 0; chunk < chunks; chunk++) {
        object.id.counter = chunk + 1;
        changes[count++] = clean(chunk, 0, next_generation(device), &object);
        if (count < COMMITTED_AT_ONCE && chunk < chunks - 1)
            continue;
        need(state_log_commit(device->state_log, changes, count) == 0);
        count = 0;
    }
    free(changes);
}

void remote_commit_resident(struct device *device, uint64_t chunk,
                            const struct chunk_object *object,
                            const unsigned char *plain)
{
    uint32_t chunk_size = device->options.chunk_size;
    unsigned char *data = calloc(1, chunk_size);
    struct chunk_table *table = NULL;
    struct chunk_file *file;
    uint32_t place = chunk_file_data_start(chunk_size);
    size_t used = 0;

    need(data != NULL && fetch_table(device->fetch, chunk, chunk_size, object,
                                     OBJECT_BACKGROUND, &table) == 0);
    for (uint32_t i = 0; i < table->blocks_count; i++) {
        struct chunk_block *block = &table->blocks[i];
        unsigned char stored[BLOCK_STORED_MAX];
        struct block_stored how;

        if (block->base != BASE_OBJECT)
            continue;
        block_encode(plain + (size_t)i * CACHE_BLOCK, CACHE_BLOCK, stored,
                     &how);
        block->local_pages = ALL_PAGES;
        block->codec = (uint8_t)how.codec;
        block->stored_size = how.size;
        block->checksum = how.checksum;
        block->place = place + (uint32_t)used;
        memcpy(data + used, stored, how.size);
        used += how.size;
    }
    table->data_end = place + (uint32_t)used;
    table->generation = next_generation(device);
    table->slot = 0;
    need(chunk_file_create(device->chunk_dir, chunk, &file) == 0 &&
         chunk_file_write(file, data, used, place) == 0 &&
         chunk_file_write_slot(file, table) == 0 &&
         chunk_file_sync(file) == 0 &&
         chunk_dir_sync(device->chunk_dir, &chunk, 1) == 0);
    commit(device, chunk, CATALOG_FILE, table->generation, object);
    chunk_file_release(file);
    chunk_table_release(table);
    free(data);
}
