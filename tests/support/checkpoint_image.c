/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/checkpoint_image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/chunk_file.h"
#include "cache/claim.h"
#include "cache/device_parts.h"
#include "cache/fetch.h"
#include "cache/geometry.h"
#include "cache/state_log.h"
#include "cache/upload.h"
#include "support/crash_states.h"

static bool is_pending(const struct catalog_entry *entry)
{
    return entry->generation != 0 && !catalog_entry_is_clean(entry);
}

void checkpoint_image_begin(struct checkpoint_image *image,
                            struct device *device, struct object_store *store)
{
    uint32_t chunk_size = device_chunk_size(device);

    *image = (struct checkpoint_image){
        .device = device,
        .store = store,
        .chunks = (device_size(device) + chunk_size - 1) / chunk_size,
    };
    image->entries = calloc(image->chunks, sizeof(image->entries[0]));
    if (image->entries == NULL ||
        (store != NULL &&
         fetch_new(store, device_name(device), &image->fetch) != 0))
        abort();
}

static struct fetch *fetch_of(const struct checkpoint_image *image)
{
    return image->store != NULL ? image->fetch : device_fetch(image->device);
}

void checkpoint_image_end(struct checkpoint_image *image)
{
    free(image->entries);
    image->entries = NULL;
    fetch_free(image->fetch);
    image->fetch = NULL;
}

uint64_t checkpoint_image_pending(struct checkpoint_image *image)
{
    struct catalog *catalog = device_checkpoint_catalog(image->device);
    uint64_t pending = 0;

    for (uint64_t chunk = 0; chunk < image->chunks; chunk++) {
        struct catalog_entry entry;

        catalog_get(catalog, chunk, &entry);
        pending += is_pending(&entry);
    }
    return pending;
}

/* Upload a state of a chunk, and have it recorded. */
static int upload(struct checkpoint_image *image, uint64_t chunk,
                  const struct catalog_entry *entry, bool for_checkpoint)
{
    struct device *device = image->device;
    const struct upload_context context = {
        .device_name = device_name(device),
        .store = image->store != NULL ? image->store : device->options.store,
        .fetch = fetch_of(image),
        .chunk_dir = device_chunk_dir(device),
        .chunk_size = device_chunk_size(device),
    };
    const struct upload_work work = {
        .chunk = chunk,
        .generation = entry->generation,
        .revision = entry->revision,
        .id = {.epoch = 1, .nonce = 99, .counter = ++image->counter},
    };
    struct uploaded uploaded = {
        .chunk = chunk,
        .generation = entry->generation,
        .revision = entry->revision,
        .for_checkpoint = for_checkpoint,
    };
    struct uploaded *list[] = {&uploaded};
    struct upload_result result;
    int error = upload_chunk(&context, &work, &result);

    if (error != 0)
        return error;
    error = upload_decode_table(result.table, result.table_size, &work,
                                context.chunk_size, &uploaded.table);
    free(result.table);
    if (error != 0)
        return error;
    error = device_uploaded(device, list, 1);
    chunk_table_release(uploaded.table);
    return error != 0 ? error : uploaded.error;
}

int checkpoint_image_upload(struct checkpoint_image *image, uint64_t seed,
                            bool all)
{
    struct catalog *catalog = device_checkpoint_catalog(image->device);

    for (uint64_t chunk = 0; chunk < image->chunks; chunk++) {
        struct catalog_entry entry;
        int error;

        catalog_get(catalog, chunk, &entry);
        if (!is_pending(&entry) || (!all && crash_random(seed, chunk) % 2 == 0))
            continue;
        error = upload(image, chunk, &entry, true);
        if (error != 0)
            return error;
    }
    return 0;
}

int checkpoint_image_upload_newest(struct checkpoint_image *image,
                                   uint64_t seed)
{
    struct catalog *catalog = device_catalog(image->device);

    for (uint64_t chunk = 0; chunk < image->chunks; chunk++) {
        struct catalog_entry entry;
        int error;

        catalog_get(catalog, chunk, &entry);
        if (!is_pending(&entry) || crash_random(seed, chunk) % 2 == 0)
            continue;
        error = upload(image, chunk, &entry, false);
        /* Destage is at work too. */
        if (error != 0 && error != -ESTALE)
            return error;
    }
    return 0;
}

/* Create the epoch of the next image, as publish.c does, without a manifest. */
static int publish(struct checkpoint_image *image)
{
    struct claim *claim = image->device->claim;
    struct claim_image content = {
        .root = {.size = 1, .checksum = 1},
        .content_time_ns = ++image->counter,
    };
    const uint8_t nobody[STATE_RECORD_SIZE] = {0};
    int error;

    if (claim == NULL)
        return device_published(image->device, nobody);
    error = claim_take(claim);
    if (error == 0)
        error = claim_next(claim, &content.root.epoch, &content.root.nonce);
    return error != 0 ? error : claim_publish(claim, &content);
}

int checkpoint_image_publish(struct checkpoint_image *image)
{
    struct catalog *catalog = device_checkpoint_catalog(image->device);
    struct catalog_entry *next;
    struct state_facts facts;
    int error;

    state_log_facts(device_state_log(image->device), &facts);
    if (facts.phase != CHECKPOINT_OPEN)
        return -ENOENT;
    if (checkpoint_image_pending(image) > 0)
        return -EBUSY;
    next = calloc(image->chunks, sizeof(next[0]));
    if (next == NULL)
        abort();
    for (uint64_t chunk = 0; chunk < image->chunks; chunk++) {
        catalog_get(catalog, chunk, &next[chunk]);
        if (next[chunk].generation == 0)
            next[chunk] = image->entries[chunk];
    }
    error = publish(image);
    if (error != 0) {
        free(next);
        return error;
    }
    free(image->entries);
    image->entries = next;
    return 0;
}

/* The local pages of a block, over what is beneath them in content. */
static int lay_local(struct chunk_file *file, const struct chunk_table *table,
                     uint32_t block, unsigned char *content)
{
    const struct chunk_block *entry = &table->blocks[block];
    unsigned char packed[CACHE_BLOCK];
    const unsigned char *from = packed;
    int error;

    if (entry->damaged_pages != 0)
        return -EIO;
    if (file == NULL || entry->local_pages == 0)
        return 0;
    error = chunk_file_read_block(file, table, block, packed, false);
    for (unsigned page = 0; error == 0 && page < PAGES_PER_BLOCK; page++) {
        if ((entry->local_pages & 1U << page) == 0)
            continue;
        memcpy(content + page * CACHE_PAGE, from, CACHE_PAGE);
        from += CACHE_PAGE;
    }
    return error;
}

static void copy_plain(void *context, uint32_t block, const void *stored,
                       const void *plain)
{
    (void)block;
    (void)stored;
    memcpy(context, plain, CACHE_BLOCK);
}

/* A chunk as its table says, with the file's pages if there is a file. */
static int read_chunk(struct fetch *fetch, struct chunk_file *file,
                      struct chunk_table *table, unsigned char *content)
{
    struct chunk_table *newest = NULL;
    uint32_t chunk_size = table->chunk_size;
    int error = 0;

    for (uint32_t block = 0; error == 0 && block < table->blocks_count;
         block++) {
        unsigned char *to = content + (size_t)block * CACHE_BLOCK;
        const struct chunk_table *base = table;

        memset(to, 0, CACHE_BLOCK);
        if (table->blocks[block].base == BASE_UNKNOWN) {
            if (newest == NULL)
                error = fetch_table(fetch, table->chunk, chunk_size,
                                    &table->objects[table->objects_count - 1],
                                    OBJECT_BACKGROUND, &newest);
            base = newest;
        }
        if (error == 0 && base->blocks[block].base == BASE_OBJECT)
            error = fetch_blocks(fetch, base, &block, 1, OBJECT_WAITED_FOR,
                                 copy_plain, to);
        if (error == 0)
            error = lay_local(file, table, block, to);
    }
    chunk_table_release(newest);
    return error;
}

static int read_remote(const struct checkpoint_image *image, uint64_t chunk,
                       const struct catalog_entry *entry,
                       unsigned char *content)
{
    uint32_t chunk_size = device_chunk_size(image->device);
    struct chunk_table *table;
    int error;

    memset(content, 0, chunk_size);
    if (entry->generation == 0 ||
        (entry->flags & (CATALOG_HOLE | CATALOG_ZERO)) != 0)
        return 0;
    if (entry->objects_count == 0)
        return -ENXIO;
    error = fetch_table(fetch_of(image), chunk, chunk_size,
                        &entry->objects[entry->objects_count - 1],
                        OBJECT_BACKGROUND, &table);
    if (error != 0)
        return error;
    error = read_chunk(fetch_of(image), NULL, table, content);
    chunk_table_release(table);
    return error;
}

static int read_pinned(const struct checkpoint_image *image, uint64_t chunk,
                       const struct catalog_entry *entry,
                       unsigned char *content)
{
    struct chunk_file *file;
    struct chunk_table *table;
    int error = chunk_file_open(device_chunk_dir(image->device), chunk, &file);

    if (error != 0)
        return error;
    error =
        chunk_file_read_table(file, entry->generation, entry->revision, &table);
    if (error == 0) {
        error = read_chunk(fetch_of(image), file, table, content);
        chunk_table_release(table);
    }
    chunk_file_release(file);
    return error;
}

int checkpoint_image_read_open(struct checkpoint_image *image,
                               unsigned char *content)
{
    struct catalog *catalog = device_checkpoint_catalog(image->device);
    uint32_t chunk_size = device_chunk_size(image->device);

    for (uint64_t chunk = 0; chunk < image->chunks; chunk++) {
        unsigned char *to = content + chunk * chunk_size;
        struct catalog_entry entry;
        int error;

        catalog_get(catalog, chunk, &entry);
        if (is_pending(&entry))
            error = read_pinned(image, chunk, &entry, to);
        else if (entry.generation != 0)
            error = read_remote(image, chunk, &entry, to);
        else
            error = read_remote(image, chunk, &image->entries[chunk], to);
        if (error != 0)
            return error;
    }
    return 0;
}

int checkpoint_image_read(struct checkpoint_image *image,
                          unsigned char *content)
{
    uint32_t chunk_size = device_chunk_size(image->device);
    int error = 0;

    for (uint64_t chunk = 0; error == 0 && chunk < image->chunks; chunk++)
        error = read_remote(image, chunk, &image->entries[chunk],
                            content + chunk * chunk_size);
    return error;
}
