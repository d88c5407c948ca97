/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/catalog.h"

#include <malloc.h>

#include "base/clock.h"
#include "unit/test.h"

/* An entry whose every field follows from its number, with some objects. */
static struct catalog_entry make_entry(uint64_t number, unsigned objects)
{
    struct catalog_entry entry;

    memset(&entry, 0, sizeof(entry));
    entry.generation = number;
    entry.uploaded_generation = objects > 0 ? number - 1 : 0;
    entry.published_generation = number / 2;
    entry.revision = (uint32_t)number * 7;
    entry.file_pages = (uint32_t)number % 1000;
    entry.flags = number % 2 == 0 ? CATALOG_FILE : CATALOG_ZERO;
    entry.objects_count = objects;
    for (unsigned i = 0; i < objects; i++) {
        entry.objects[i].id.epoch = number + i;
        entry.objects[i].id.nonce = ~number;
        entry.objects[i].id.counter = number << 8 | i;
        entry.objects[i].origin = i;
        entry.objects[i].table_size = 4096 * (i + 1);
        entry.objects[i].table_checksum = (uint32_t)number ^ i;
    }
    return entry;
}

static bool entries_are_equal(const struct catalog_entry *a,
                              const struct catalog_entry *b)
{
    if (a->generation != b->generation || a->flags != b->flags ||
        a->uploaded_generation != b->uploaded_generation ||
        a->published_generation != b->published_generation ||
        a->revision != b->revision || a->file_pages != b->file_pages ||
        a->objects_count != b->objects_count)
        return false;
    for (unsigned i = 0; i < a->objects_count; i++) {
        const struct chunk_object *x = &a->objects[i], *y = &b->objects[i];

        if (x->id.epoch != y->id.epoch || x->id.nonce != y->id.nonce ||
            x->id.counter != y->id.counter || x->origin != y->origin ||
            x->table_size != y->table_size ||
            x->table_checksum != y->table_checksum)
            return false;
    }
    return true;
}

static bool chunk_is(struct catalog *catalog, uint64_t chunk,
                     const struct catalog_entry *expected)
{
    struct catalog_entry entry;
    unsigned flags;

    catalog_get(catalog, chunk, &entry);
    return entries_are_equal(&entry, expected) &&
           catalog_generation(catalog, chunk, &flags) == expected->generation &&
           flags == expected->flags &&
           catalog_generation(catalog, chunk, NULL) == expected->generation;
}

static struct catalog *new_catalog(uint64_t chunks_count)
{
    struct catalog *catalog = NULL;

    return catalog_new(chunks_count, &catalog) == 0 ? catalog : NULL;
}

TEST("a chunk that was never set is a hole")
{
    struct catalog *catalog = new_catalog(1000);
    struct catalog_entry hole;
    uint64_t chunk;

    NEED(catalog);
    memset(&hole, 0, sizeof(hole));
    CHECK(chunk_is(catalog, 0, &hole));
    CHECK(chunk_is(catalog, 999, &hole));
    CHECK(chunk_is(catalog, UINT64_MAX, &hole));
    CHECK(!catalog_next(catalog, 0, UINT64_MAX, &chunk));
    CHECK(catalog_count(catalog) == 0);
    catalog_free(catalog);
    catalog_free(NULL);
}

TEST("what was set is told, with all its objects, until it is set again")
{
    struct catalog *catalog = new_catalog(100000);
    struct catalog_entry a = make_entry(7, 0);
    struct catalog_entry b = make_entry(8, CHUNK_OBJECTS_MAX);
    struct catalog_entry c = make_entry(CATALOG_GENERATION_MAX, 1), hole;

    NEED(catalog);
    memset(&hole, 0, sizeof(hole));
    CHECK(catalog_set(catalog, 5, &a) == 0);
    CHECK(catalog_set(catalog, 99999, &b) == 0);
    CHECK(chunk_is(catalog, 5, &a) && chunk_is(catalog, 99999, &b));
    CHECK(chunk_is(catalog, 4, &hole) && chunk_is(catalog, 6, &hole));
    CHECK(catalog_count(catalog) == 2);
    CHECK(catalog_set(catalog, 5, &c) == 0);
    CHECK(chunk_is(catalog, 5, &c));
    CHECK(catalog_set(catalog, 99999, &a) == 0);
    CHECK(chunk_is(catalog, 99999, &a));
    CHECK(catalog_count(catalog) == 2);
    catalog_free(catalog);
}

TEST("generation 0 makes a hole, whatever else the entry says")
{
    struct catalog *catalog = new_catalog(1000);
    struct catalog_entry a = make_entry(7, 3), removal = make_entry(9, 2), hole;

    NEED(catalog);
    memset(&hole, 0, sizeof(hole));
    removal.generation = 0;
    CHECK(catalog_set(catalog, 5, &a) == 0);
    CHECK(catalog_set(catalog, 5, &removal) == 0);
    CHECK(chunk_is(catalog, 5, &hole));
    CHECK(catalog_set(catalog, 700, &removal) == 0);
    CHECK(chunk_is(catalog, 700, &hole));
    CHECK(catalog_count(catalog) == 0);
    catalog_free(catalog);
}

TEST("a chunk past the end, or a number too large, is refused")
{
    struct catalog *catalog = new_catalog(1000);
    struct catalog_entry entry = make_entry(7, 0);

    NEED(catalog);
    CHECK(catalog_set(catalog, 1000, &entry) == -EINVAL);
    CHECK(catalog_set(catalog, UINT64_MAX, &entry) == -EINVAL);
    entry.generation = CATALOG_GENERATION_MAX + 1;
    CHECK(catalog_set(catalog, 1, &entry) == -EINVAL);
    entry = make_entry(7, 0);
    entry.uploaded_generation = UINT64_MAX;
    CHECK(catalog_set(catalog, 1, &entry) == -EINVAL);
    entry = make_entry(7, 0);
    entry.published_generation = CATALOG_GENERATION_MAX + 1;
    CHECK(catalog_set(catalog, 1, &entry) == -EINVAL);
    entry = make_entry(7, 0);
    entry.flags = CATALOG_ZERO | CATALOG_HOLE;
    CHECK(catalog_set(catalog, 1, &entry) == -EINVAL);
    entry = make_entry(7, 0);
    entry.flags = 1 << 8;
    CHECK(catalog_set(catalog, 1, &entry) == -EINVAL);
    entry = make_entry(7, 0);
    entry.objects_count = CHUNK_OBJECTS_MAX + 1;
    CHECK(catalog_set(catalog, 1, &entry) == -EINVAL);
    CHECK(catalog_count(catalog) == 0);
    catalog_free(catalog);
}

TEST("a catalog that grew takes chunks past its old end and keeps the others")
{
    struct catalog *catalog = new_catalog(10);
    struct catalog_entry a = make_entry(7, 1), b = make_entry(9, 2);
    uint64_t far = UINT64_C(1) << 30, chunk = 0;

    NEED(catalog);
    CHECK(catalog_set(catalog, 9, &a) == 0);
    CHECK(catalog_set(catalog, 10, &b) == -EINVAL);
    CHECK(catalog_grow(catalog, 11) == 0);
    CHECK(catalog_set(catalog, 10, &b) == 0);
    CHECK(catalog_grow(catalog, far + 1) == 0);
    CHECK(catalog_set(catalog, far, &b) == 0);
    CHECK(chunk_is(catalog, 9, &a) && chunk_is(catalog, 10, &b));
    CHECK(chunk_is(catalog, far, &b));
    CHECK(catalog_next(catalog, 11, UINT64_MAX, &chunk) && chunk == far);
    CHECK(catalog_grow(catalog, 5) == 0);
    CHECK(catalog_set(catalog, far, &a) == 0);
    catalog_free(catalog);
}

TEST("the next mapped chunk is found across leaves and branches, not past end")
{
    static const uint64_t mapped[] = {0,       1,       255,     256,     5000,
                                      1048575, 1048576, 9999999, 20000000};
    enum { COUNT = sizeof(mapped) / sizeof(mapped[0]) };
    struct catalog *catalog = new_catalog(UINT64_C(1) << 25);
    struct catalog_entry entry = make_entry(1, 0), hole = make_entry(1, 0);
    uint64_t chunk, from = 0;

    NEED(catalog);
    hole.generation = 0;
    for (size_t i = 0; i < COUNT; i++)
        CHECK(catalog_set(catalog, mapped[i], &entry) == 0);
    /* A leaf that was in use and is empty again. */
    CHECK(catalog_set(catalog, 70000, &entry) == 0);
    CHECK(catalog_set(catalog, 70000, &hole) == 0);
    for (size_t i = 0; i < COUNT; i++) {
        chunk = UINT64_MAX;
        CHECK(catalog_next(catalog, from, UINT64_MAX, &chunk));
        CHECK(chunk == mapped[i]);
        CHECK(!catalog_next(catalog, from, mapped[i], &chunk));
        CHECK(catalog_next(catalog, mapped[i], mapped[i] + 1, &chunk));
        from = chunk + 1;
    }
    CHECK(!catalog_next(catalog, from, UINT64_MAX, &chunk));
    CHECK(!catalog_next(catalog, 5, 5, &chunk));
    CHECK(!catalog_next(catalog, 6, 5, &chunk));
    catalog_free(catalog);
}

TEST("a catalog agrees with a plain array through random changes")
{
    enum { CHUNKS = 3000, CHANGES = 20000 };
    struct catalog *catalog = new_catalog(CHUNKS);
    struct catalog_entry *model = calloc(CHUNKS, sizeof(*model));
    uint64_t state = 88172645463325252U, mapped = 0, chunk = 0, from = 0;
    uint64_t dirty = 0, unpublished = 0, file_pages = 0;
    uint64_t dirty_pages = 0;

    NEED(catalog && model);
    for (unsigned i = 0; i < CHANGES; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk = state % CHUNKS;
        if (state >> 40 & 1) {
            model[chunk] = make_entry(i + 2, state >> 50 & 3);
            if (state >> 60 & 1)
                model[chunk].published_generation = i + 2;
            if (state >> 61 & 1)
                model[chunk].uploaded_generation = i + 2;
        } else {
            memset(&model[chunk], 0, sizeof(model[chunk]));
        }
        CHECK(catalog_set(catalog, chunk, &model[chunk]) == 0);
    }
    for (chunk = 0; chunk < CHUNKS; chunk++) {
        uint64_t next;

        CHECK(chunk_is(catalog, chunk, &model[chunk]));
        if (model[chunk].generation == 0)
            continue;
        mapped++;
        dirty += !catalog_entry_is_clean(&model[chunk]);
        unpublished +=
            model[chunk].published_generation != model[chunk].generation;
        file_pages += model[chunk].file_pages;
        if (!catalog_entry_is_clean(&model[chunk]))
            dirty_pages += model[chunk].file_pages;
        CHECK(catalog_next(catalog, from, CHUNKS, &next) && next == chunk);
        from = chunk + 1;
    }
    CHECK(catalog_count(catalog) == mapped);
    CHECK(catalog_dirty(catalog) == dirty && dirty > 0 && dirty < mapped);
    CHECK(catalog_unpublished(catalog) == unpublished && unpublished < mapped);
    CHECK(catalog_file_pages(catalog) == file_pages);
    CHECK(catalog_dirty_pages(catalog) == dirty_pages && dirty_pages > 0);
    catalog_clear(catalog);
    CHECK(catalog_count(catalog) == 0 && catalog_dirty(catalog) == 0);
    CHECK(catalog_unpublished(catalog) == 0);
    CHECK(catalog_file_pages(catalog) == 0);
    CHECK(catalog_dirty_pages(catalog) == 0);
    CHECK(!catalog_next(catalog, 0, UINT64_MAX, &chunk));
    free(model);
    catalog_free(catalog);
}

TEST("zeros, holes and what was uploaded are clean")
{
    struct catalog_entry entry = {.generation = 5, .uploaded_generation = 4};

    CHECK(!catalog_entry_is_clean(&entry));
    entry.flags = CATALOG_FILE;
    CHECK(!catalog_entry_is_clean(&entry));
    entry.flags = CATALOG_FILE | CATALOG_ZERO;
    CHECK(catalog_entry_is_clean(&entry));
    entry.flags = CATALOG_HOLE;
    CHECK(catalog_entry_is_clean(&entry));
    entry.flags = CATALOG_FILE;
    entry.uploaded_generation = 5;
    CHECK(catalog_entry_is_clean(&entry));
}

TEST("publishing tells what the image says; a hole of which it knows leaves")
{
    static const struct {
        struct catalog_entry entry;
        struct catalog_entry said;
        bool stays;
        uint64_t published;
    } cases[] = {
        /* The state that was published, a newer one, and one that is a hole. */
        {{.generation = 5}, {.generation = 5}, true, 5},
        {{.generation = 7}, {.generation = 5}, true, 5},
        {{.generation = 7, .flags = CATALOG_HOLE}, {.generation = 5}, true, 5},
        {{.generation = 7, .flags = CATALOG_ZERO},
         {.generation = 7, .flags = CATALOG_ZERO},
         true,
         7},
        /* A hole, the same or another; one with a file; none any more. */
        {{.generation = 5, .published_generation = 2, .flags = CATALOG_HOLE},
         {.generation = 5, .flags = CATALOG_HOLE},
         false,
         0},
        {{.generation = 7, .published_generation = 2, .flags = CATALOG_HOLE},
         {.generation = 5, .flags = CATALOG_HOLE},
         false,
         0},
        {{.generation = 5,
          .published_generation = 2,
          .flags = CATALOG_HOLE | CATALOG_FILE},
         {.generation = 5, .flags = CATALOG_HOLE},
         true,
         0},
        {{.generation = 7, .published_generation = 2, .flags = CATALOG_FILE},
         {.generation = 5, .flags = CATALOG_HOLE},
         true,
         0},
    };
    struct catalog *catalog = new_catalog(1000);
    struct catalog_entry entry;
    uint64_t unpublished = 0;

    NEED(catalog);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        entry = cases[i].entry;
        entry.objects_count = 2;
        CHECK(catalog_set(catalog, i, &entry) == 0);
        catalog_publish(catalog, i, &cases[i].said);
        catalog_get(catalog, i, &entry);
        CHECK((entry.generation > 0) == cases[i].stays);
        CHECK(entry.published_generation == cases[i].published);
        CHECK(entry.objects_count == (cases[i].stays ? 2 : 0));
        unpublished +=
            cases[i].stays && cases[i].published != cases[i].entry.generation;
        CHECK(catalog_unpublished(catalog) == unpublished);
    }
    /* Of a chunk that it does not have, near others and far away. */
    catalog_publish(catalog, 100, &cases[0].said);
    catalog_publish(catalog, 999, &cases[0].said);
    catalog_get(catalog, 100, &entry);
    CHECK(entry.generation == 0 && entry.published_generation == 0);
    CHECK(catalog_count(catalog) == 6);
    catalog_free(catalog);
}

/* Bytes that the process has allocated; mapped blocks count too. */
static size_t allocated_bytes(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

/* What a chunk with this entry is, where tables take 4 pages. */
static enum catalog_kind kind_of(const struct catalog_entry *entry)
{
    if ((entry->flags & (CATALOG_ZERO | CATALOG_HOLE)) != 0)
        return CATALOG_KIND_ZERO;
    if (entry->uploaded_generation != entry->generation)
        return CATALOG_KIND_DIRTY;
    return entry->file_pages > 4 ? CATALOG_KIND_CLEAN : CATALOG_KIND_REMOTE;
}

static bool counts_are(struct catalog *catalog, uint64_t from, uint64_t end,
                       const struct catalog_entry model[])
{
    uint64_t expected[CATALOG_KINDS] = {0}, counts[CATALOG_KINDS];

    for (uint64_t chunk = from; chunk < end; chunk++) {
        if (model[chunk].generation != 0)
            expected[kind_of(&model[chunk])]++;
    }
    catalog_count_kinds(catalog, from, end, counts);
    return memcmp(counts, expected, sizeof(counts)) == 0;
}

TEST("the chunks of any range are counted by what they are")
{
    enum { CHUNKS = 2000, ROUNDS = 5000 };
    static struct catalog_entry model[CHUNKS];
    struct catalog *catalog = new_catalog(CHUNKS);
    uint64_t state = 88172645463325252U, counts[CATALOG_KINDS];
    uint64_t all[CATALOG_KINDS];

    NEED(catalog);
    catalog_set_table_pages(catalog, 4);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        uint64_t chunk, from, end;

        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk = state % CHUNKS;
        from = (state >> 20) % CHUNKS;
        end = from + (state >> 36) % (CHUNKS - from + 1);
        model[chunk] = make_entry(i + 2, state >> 50 & 3);
        model[chunk].file_pages = state >> 52 & 7;
        if (state >> 55 & 1)
            model[chunk].uploaded_generation = i + 2;
        if (state >> 56 & 1)
            model[chunk].flags = CATALOG_HOLE;
        if ((state >> 57 & 3) == 0)
            memset(&model[chunk], 0, sizeof(model[chunk]));
        CHECK(catalog_set(catalog, chunk, &model[chunk]) == 0);
        if (state >> 60 == 0) {
            catalog_publish(catalog, chunk, &model[chunk]);
            if ((model[chunk].flags & CATALOG_HOLE) != 0)
                memset(&model[chunk], 0, sizeof(model[chunk]));
        }
        if (i % 100 == 0)
            CHECK(counts_are(catalog, from, end, model));
    }
    CHECK(counts_are(catalog, 0, CHUNKS, model));
    catalog_count_all_kinds(catalog, all);
    catalog_count_kinds(catalog, 0, UINT64_MAX, counts);
    CHECK(memcmp(all, counts, sizeof(all)) == 0);
    CHECK(counts_are(catalog, 256, 1024, model));
    CHECK(counts_are(catalog, 300, 310, model));
    catalog_count_kinds(catalog, 0, UINT64_MAX, counts);
    for (size_t kind = 0; kind < CATALOG_KINDS; kind++)
        CHECK(counts[kind] > 0);
    catalog_count_kinds(catalog, CHUNKS, UINT64_MAX, counts);
    CHECK(counts[0] + counts[1] + counts[2] + counts[3] == 0);
    catalog_clear(catalog);
    catalog_count_kinds(catalog, 0, UINT64_MAX, counts);
    CHECK(counts[0] + counts[1] + counts[2] + counts[3] == 0);
    catalog_free(catalog);
}

TEST("an empty device takes no memory to speak of, however large")
{
    struct catalog *catalog;
    size_t before = allocated_bytes();
    uint64_t chunk;

    catalog = new_catalog((UINT64_C(64) << 40) / (256 << 10));
    NEED(catalog);
    CHECK(allocated_bytes() - before < 64 << 10);
    CHECK(!catalog_next(catalog, 0, UINT64_MAX, &chunk));
    catalog_free(catalog);
}

TEST("1,300,000 chunks with an object each take at most 100 bytes each")
{
    enum { CHUNKS = 1300000, READS = 2000000 };
    struct catalog *catalog;
    struct catalog_entry entry = make_entry(2, 1);
    size_t before = allocated_bytes(), bytes;
    uint64_t start, chunk, sum = 0, state = 1, get_ns;

    catalog = new_catalog(CHUNKS);
    NEED(catalog);
    for (chunk = 0; chunk < CHUNKS; chunk++) {
        entry.generation = chunk + 1;
        CHECK(catalog_set(catalog, chunk, &entry) == 0);
    }
    bytes = allocated_bytes() - before;
    CHECK(bytes <= (size_t)CHUNKS * 100);
    start = clock_monotonic_ns();
    for (unsigned i = 0; i < READS; i++) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        sum += catalog_generation(catalog, (state >> 33) % CHUNKS, NULL);
    }
    start = clock_monotonic_ns() - start;
    get_ns = clock_monotonic_ns();
    for (unsigned i = 0; i < READS; i++) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        catalog_get(catalog, (state >> 33) % CHUNKS, &entry);
        sum += entry.generation;
    }
    get_ns = clock_monotonic_ns() - get_ns;
    CHECK(sum > 0);
    printf("# %zu bytes; at random: %.1f ns a generation, %.1f ns an entry\n",
           bytes, (double)start / READS, (double)get_ns / READS);
    catalog_free(catalog);
}
