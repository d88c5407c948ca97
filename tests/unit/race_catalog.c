/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/catalog.h"

#include <pthread.h>

#include "unit/test.h"

/* An entry whose every field follows from its number. */
static struct catalog_entry make_entry(uint64_t number)
{
    struct catalog_entry entry;

    memset(&entry, 0, sizeof(entry));
    entry.generation = number;
    entry.uploaded_generation = number - 1;
    entry.published_generation = number / 3;
    entry.revision = (uint32_t)number * 5;
    entry.flags = number % 2 == 0 ? CATALOG_FILE : CATALOG_ZERO;
    entry.objects_count = (unsigned)(number % 4);
    for (unsigned i = 0; i < entry.objects_count; i++)
        entry.objects[i].id.counter = number << 8 | i;
    return entry;
}

static bool is_consistent(const struct catalog_entry *entry)
{
    struct catalog_entry expected = make_entry(entry->generation);
    bool is = entry->uploaded_generation == expected.uploaded_generation &&
              entry->flags == expected.flags &&
              entry->published_generation == expected.published_generation &&
              entry->revision == expected.revision &&
              entry->objects_count == expected.objects_count;

    for (unsigned i = 0; is && i < entry->objects_count; i++)
        is = entry->objects[i].id.counter == expected.objects[i].id.counter;
    return is;
}

struct race {
    struct catalog *catalog;
    atomic_bool is_over;
};

static void *read_all_the_time(void *argument)
{
    struct race *race = argument;
    uint64_t chunk;

    while (!atomic_load(&race->is_over)) {
        for (chunk = 0; chunk < 600; chunk++) {
            struct catalog_entry entry;
            unsigned flags;
            uint64_t generation =
                catalog_generation(race->catalog, chunk, &flags);

            CHECK(generation == 0 ? flags == 0
                                  : flags == make_entry(generation).flags);
            catalog_get(race->catalog, chunk, &entry);
            CHECK(entry.generation == 0 || is_consistent(&entry));
        }
        /* Chunk 599 is always mapped, so a search may not miss it. */
        CHECK(catalog_next(race->catalog, 599, UINT64_MAX, &chunk) &&
              chunk == 599);
    }
    return NULL;
}

TEST("readers never see halves of an entry while others change and grow it")
{
    struct race race = {NULL, false};
    struct catalog_entry entry = make_entry(1);
    pthread_t threads[2];
    uint64_t chunks_count = 600;

    NEED(catalog_new(600, &race.catalog) == 0);
    NEED(catalog_set(race.catalog, 599, &entry) == 0);
    for (size_t i = 0; i < 2; i++)
        NEED(pthread_create(&threads[i], NULL, read_all_the_time, &race) == 0);
    for (uint64_t i = 2; i < 60000; i++) {
        entry = make_entry(i);
        if (i % 5 == 0)
            entry.generation = 0;
        CHECK(catalog_set(race.catalog, i % 599, &entry) == 0);
        if (i % 10000 == 0) {
            chunks_count *= 64;
            CHECK(catalog_grow(race.catalog, chunks_count) == 0);
        }
    }
    atomic_store(&race.is_over, true);
    for (size_t i = 0; i < 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    catalog_free(race.catalog);
}
