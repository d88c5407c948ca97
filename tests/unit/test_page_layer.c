/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/page_layer.h"

#include "unit/test.h"

enum { PER_CHUNK = 64, CHUNKS = 200, PAGES = PER_CHUNK * CHUNKS };

static struct page_layer *new_layer(void)
{
    struct page_layer *layer = NULL;

    CHECK(page_layer_new(PER_CHUNK, 1000, 7, &layer) == 0);
    return layer;
}

static void put(struct page_layer *layer, uint64_t page, uint64_t position)
{
    uint32_t checksum = (uint32_t)position;

    CHECK(page_layer_put(layer, page, 1, position, &checksum) == 0);
}

static void put_zeros(struct page_layer *layer, uint64_t first, uint64_t count,
                      bool hole, uint64_t position)
{
    CHECK(page_layer_put_zero(layer, first, count, hole, position) == 0);
}

static struct page_location find(const struct page_layer *layer, uint64_t page)
{
    struct page_location location = {.kind = PAGE_ABSENT};

    page_layer_find(layer, page, 1, &location);
    return location;
}

TEST("a layer fills in only what is not known yet")
{
    struct page_layer *layer = new_layer();
    struct page_location locations[3] = {
        {.kind = PAGE_ZERO},
        {.kind = PAGE_ABSENT},
        {.kind = PAGE_ABSENT},
    };

    put(layer, 10, 4096);
    put(layer, 11, 8192);
    page_layer_find(layer, 10, 3, locations);
    CHECK(locations[0].kind == PAGE_ZERO);
    CHECK(locations[1].kind == PAGE_RECORD && locations[1].position == 8192);
    CHECK(locations[2].kind == PAGE_ABSENT);
    page_layer_free(layer);
    page_layer_free(NULL);
}

TEST("what is in a layer is counted, and the newest position is known")
{
    struct page_layer *layer = new_layer();
    struct page_layer_use use;

    CHECK(page_layer_is_empty(layer) && page_layer_latest(layer) == 0);
    put(layer, 10, 4096);
    put(layer, 11, 8192);
    put(layer, 3 * PER_CHUNK, 12288);
    put_zeros(layer, 100 * PER_CHUNK, 70 * PER_CHUNK, true, 20000);
    use = page_layer_use(layer);
    CHECK(use.entries == 3 && use.nodes == 2 && use.runs == 1);
    CHECK(page_layer_latest(layer) == 20000);
    CHECK(page_layer_records(layer, 0) == 2);
    CHECK(page_layer_records(layer, 3) == 1);
    CHECK(page_layer_records(layer, 100) == 0);
    CHECK(!page_layer_needs_before(layer, 4096));
    CHECK(page_layer_needs_before(layer, 4097));
    page_layer_set_latest(layer, 30000);
    CHECK(page_layer_latest(layer) == 30000);
    page_layer_free(layer);
}

TEST("chunks that another layer knows can be left out")
{
    struct page_layer *layer = new_layer();
    struct page_layer *other = new_layer();
    uint64_t chunks[3];
    size_t count = 0;

    for (uint64_t chunk = 0; chunk < 6; chunk++)
        put(layer, chunk * PER_CHUNK, 4096 * (chunk + 1));
    put(other, 1 * PER_CHUNK, 4096);
    put(other, 2 * PER_CHUNK, 8192);
    page_layer_add_chunks(layer, other, UINT64_MAX, 1, chunks, 3, &count);
    CHECK(count == 3);
    page_layer_sort_chunks(chunks, count);
    CHECK(chunks[0] == 3 && chunks[1] == 4 && chunks[2] == 5);
    count = 0;
    page_layer_add_chunks(layer, NULL, 4096 * 3, 0, chunks, 3, &count);
    page_layer_sort_chunks(chunks, count);
    CHECK(count == 2 && chunks[0] == 0 && chunks[1] == 1);
    page_layer_free(layer);
    page_layer_free(other);
}

/* Whatever one of these says of a page, the upper one rules when merged. */
TEST("a merge keeps of the lower layer what the upper one does not know")
{
    struct page_layer *above = new_layer();
    struct page_layer *below = new_layer();
    uint64_t second = 5 * PER_CHUNK, third = 120 * PER_CHUNK;

    put(below, 0, 4096);  /* above: nothing */
    put(below, 1, 8192);  /* above: a record */
    put(below, 2, 12288); /* above: zeros */
    put_zeros(below, 3, 3, true, 16384);
    put(below, second, 20480); /* above: a run */
    put_zeros(below, third, 1, false, 24576);
    put(above, 1, 40960);
    put_zeros(above, 2, 1, false, 45056);
    put(above, 4, 49152);
    put_zeros(above, 5, 1, false, 53248);
    put_zeros(above, 4 * PER_CHUNK, 80 * PER_CHUNK, true, 57344);
    put(above, 10 * PER_CHUNK, 61440);
    CHECK(page_layer_merge(above, below) == 0);
    page_layer_free(below);

    CHECK(find(above, 0).position == 4096);
    CHECK(find(above, 1).position == 40960);
    CHECK(find(above, 2).kind == PAGE_ZERO);
    CHECK(find(above, 3).kind == PAGE_HOLE);
    CHECK(find(above, 4).position == 49152);
    CHECK(find(above, 5).kind == PAGE_ZERO);
    CHECK(find(above, 6).kind == PAGE_ABSENT);
    CHECK(find(above, second).kind == PAGE_HOLE);
    CHECK(find(above, 10 * PER_CHUNK).position == 61440);
    CHECK(find(above, third).kind == PAGE_ZERO);
    CHECK(page_layer_latest(above) == 61440);
    /* Nothing is needed that is older than what is left. */
    CHECK(page_layer_needs_before(above, 4097));
    CHECK(!page_layer_needs_before(above, 4096));
    page_layer_free(above);
}

TEST("the runs of both layers are merged as if put one after the other")
{
    struct page_layer *above = new_layer();
    struct page_layer *below = new_layer();
    const struct page_runs *runs;

    put_zeros(below, 0, 150 * PER_CHUNK, true, 4096);
    put(below, 70 * PER_CHUNK, 8192);
    put(below, 149 * PER_CHUNK, 12288);
    put_zeros(above, 20 * PER_CHUNK, 100 * PER_CHUNK, false, 16384);
    CHECK(page_layer_merge(above, below) == 0);
    page_layer_free(below);
    runs = page_layer_runs(above);
    CHECK(runs->count == 3);
    CHECK(runs->array[0].hole && runs->array[0].count == 20);
    CHECK(!runs->array[1].hole && runs->array[1].count == 100);
    CHECK(runs->array[1].position == 16384);
    CHECK(runs->array[2].first_chunk == 120 && runs->array[2].count == 30);
    CHECK(find(above, 70 * PER_CHUNK).kind == PAGE_ZERO);
    CHECK(find(above, 149 * PER_CHUNK).position == 12288);
    page_layer_free(above);
}
