/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/page_index.h"

#include "unit/test.h"

enum { PER_CHUNK = 64, CHUNKS = 300, PAGES = PER_CHUNK * CHUNKS };

static struct page_index *new_index(size_t pages_max)
{
    struct page_index *index = NULL;

    CHECK(page_index_new(PER_CHUNK, pages_max, &index) == 0);
    return index;
}

static int put_one(struct page_index *index, uint64_t page, uint64_t position)
{
    uint32_t checksum = (uint32_t)position ^ 0xabcdef;

    return page_index_put(index, page, 1, position, &checksum);
}

static struct page_location find_one(struct page_index *index, uint64_t page)
{
    struct page_location location;

    page_index_find(index, page, 1, &location);
    return location;
}

TEST("an empty index knows nothing")
{
    struct page_index *index = new_index(100);
    uint64_t chunk;
    struct page_run run;

    CHECK(page_index_is_empty(index));
    CHECK(find_one(index, 0).kind == PAGE_ABSENT);
    CHECK(find_one(index, UINT64_MAX / 8192).kind == PAGE_ABSENT);
    CHECK(page_index_chunks(index, UINT64_MAX, 0, &chunk, 1) == 0);
    CHECK(page_index_runs(index, UINT64_MAX, 0, &run, 1) == 0);
    page_index_free(index);
    page_index_free(NULL);
}

TEST("of two writes of a page the later one is found")
{
    struct page_index *index = new_index(100);
    struct page_location location;

    CHECK(put_one(index, 70, 4096) == 0);
    CHECK(put_one(index, 70, 9000) == 0);
    location = find_one(index, 70);
    CHECK(location.kind == PAGE_RECORD && location.position == 9000);
    CHECK(location.checksum == (9000 ^ 0xabcdef));
    CHECK(find_one(index, 69).kind == PAGE_ABSENT);
    CHECK(find_one(index, 71).kind == PAGE_ABSENT);
    page_index_free(index);
}

TEST("a write across chunks is found page by page")
{
    struct page_index *index = new_index(1000);
    uint32_t checksums[200];
    struct page_location found[202];

    for (uint32_t i = 0; i < 200; i++)
        checksums[i] = i * 3;
    CHECK(page_index_put(index, 60, 200, 1 << 20, checksums) == 0);
    page_index_find(index, 59, 202, found);
    CHECK(found[0].kind == PAGE_ABSENT && found[201].kind == PAGE_ABSENT);
    for (uint32_t i = 0; i < 200; i++) {
        CHECK(found[i + 1].kind == PAGE_RECORD);
        CHECK(found[i + 1].position == (1 << 20) + i * 4096U);
        CHECK(found[i + 1].checksum == i * 3);
    }
    page_index_free(index);
}

TEST("zeros hide a write, and a write hides zeros")
{
    struct page_index *index = new_index(100);

    CHECK(put_one(index, 5, 4096) == 0);
    CHECK(page_index_put_zero(index, 3, 4, false, 9000) == 0);
    CHECK(find_one(index, 5).kind == PAGE_ZERO);
    CHECK(find_one(index, 2).kind == PAGE_ABSENT);
    CHECK(find_one(index, 7).kind == PAGE_ABSENT);
    CHECK(put_one(index, 5, 12000) == 0);
    CHECK(find_one(index, 5).kind == PAGE_RECORD);
    CHECK(page_index_put_zero(index, 5, 1, true, 14000) == 0);
    CHECK(find_one(index, 5).kind == PAGE_HOLE);
    CHECK(find_one(index, 4).kind == PAGE_ZERO);
    page_index_free(index);
}

TEST("zeros over a whole large device take no memory per chunk")
{
    struct page_index *index = new_index(100);
    uint64_t pages = 1ULL << 32; /* 16 TiB */
    struct page_run run;
    uint64_t chunk;

    CHECK(put_one(index, 1000, 4096) == 0);
    CHECK(page_index_put_zero(index, 3, pages, true, 9000) == 0);
    CHECK(find_one(index, 1000).kind == PAGE_HOLE);
    CHECK(find_one(index, pages + 2).kind == PAGE_HOLE);
    CHECK(find_one(index, pages + 3).kind == PAGE_ABSENT);
    CHECK(page_index_runs(index, UINT64_MAX, 0, &run, 1) == 1);
    CHECK(run.first_chunk == 1 && run.count == pages / PER_CHUNK - 1);
    CHECK(run.position == 9000 && run.latest == 9000 && run.hole);
    CHECK(page_index_chunks(index, UINT64_MAX, 1, &chunk, 1) == 1);
    CHECK(chunk == pages / PER_CHUNK); /* the last, only a part */
    page_index_free(index);
}

TEST("runs that touch are one, as old as the older, and cut where others lie")
{
    struct page_index *index = new_index(100);
    struct page_run runs[4];

    CHECK(page_index_put_zero(index, 100 * PER_CHUNK, 100 * PER_CHUNK, true,
                              4096) == 0);
    CHECK(page_index_put_zero(index, 200 * PER_CHUNK, 100 * PER_CHUNK, true,
                              8192) == 0);
    CHECK(page_index_runs(index, UINT64_MAX, 0, runs, 4) == 1);
    CHECK(runs[0].first_chunk == 100 && runs[0].count == 200);
    CHECK(runs[0].position == 4096 && runs[0].latest == 8192);

    CHECK(page_index_put_zero(index, 150 * PER_CHUNK, 64 * PER_CHUNK, false,
                              9000) == 0);
    CHECK(page_index_runs(index, UINT64_MAX, 0, runs, 4) == 3);
    CHECK(runs[0].first_chunk == 100 && runs[0].count == 50);
    CHECK(runs[1].first_chunk == 150 && runs[1].count == 64 && !runs[1].hole);
    CHECK(runs[2].first_chunk == 214 && runs[2].count == 86);

    /* Told from the middle of one on, and only what is old enough. */
    CHECK(page_index_runs(index, 9000, 110, runs, 4) == 2);
    CHECK(runs[0].first_chunk == 110 && runs[0].count == 40);
    CHECK(runs[1].first_chunk == 214);

    /* Forgetting holes leaves the other kind. */
    page_index_drop_run(index, 0, 1000, true, 9000);
    CHECK(page_index_runs(index, UINT64_MAX, 0, runs, 4) == 1);
    CHECK(find_one(index, 149 * PER_CHUNK).kind == PAGE_ABSENT);
    CHECK(find_one(index, 150 * PER_CHUNK).kind == PAGE_ZERO);
    page_index_drop_run(index, 160, 10, false, 9000);
    CHECK(page_index_runs(index, UINT64_MAX, 0, runs, 4) == 2);
    CHECK(runs[0].count == 10 && runs[1].first_chunk == 170);
    page_index_free(index);
}

TEST("a run that is newer than what was told is not forgotten")
{
    struct page_index *index = new_index(100);
    struct page_run run;

    CHECK(page_index_put_zero(index, 0, 100 * PER_CHUNK, true, 4096) == 0);
    CHECK(page_index_runs(index, UINT64_MAX, 0, &run, 1) == 1);
    CHECK(page_index_put_zero(index, 0, 100 * PER_CHUNK, true, 9000) == 0);
    page_index_drop_run(index, 0, 100, true, run.latest);
    CHECK(find_one(index, 5).kind == PAGE_HOLE);
    page_index_free(index);
}

TEST("what changed since it was collected is not forgotten")
{
    struct page_index *index = new_index(100);
    struct page_set *set = page_set_new(index);
    uint64_t chunk;

    CHECK(put_one(index, 1, 4096) == 0);
    CHECK(put_one(index, 2, 8192) == 0);
    CHECK(page_index_put_zero(index, 3, 2, true, 16384) == 0);
    page_index_collect(index, 0, set);
    CHECK(set->known == 4);
    CHECK(set->pages[1].kind == PAGE_RECORD && set->pages[1].position == 4096);
    CHECK(set->pages[4].kind == PAGE_HOLE);
    CHECK(put_one(index, 2, 20000) == 0);
    CHECK(page_index_put_zero(index, 4, 1, false, 30000) == 0);
    page_index_drop(index, 0, set);
    CHECK(find_one(index, 1).kind == PAGE_ABSENT);
    CHECK(find_one(index, 2).position == 20000);
    CHECK(find_one(index, 3).kind == PAGE_ABSENT);
    CHECK(find_one(index, 4).kind == PAGE_ZERO);
    /* What is left is as new as it is: older segments may go. */
    CHECK(page_index_chunks(index, 16385, 0, &chunk, 1) == 0);
    CHECK(page_index_chunks(index, 20001, 0, &chunk, 1) == 1);
    page_index_collect(index, 0, set);
    page_index_drop(index, 0, set);
    CHECK(page_index_is_empty(index));
    free(set);
    page_index_free(index);
}

TEST("a page that was folded over a run does not become a zero again")
{
    struct page_index *index = new_index(100);
    struct page_set *set = page_set_new(index);

    CHECK(page_index_put_zero(index, 0, 100 * PER_CHUNK, true, 4096) == 0);
    CHECK(put_one(index, 10 * PER_CHUNK, 9000) == 0);
    page_index_collect(index, 10, set);
    CHECK(set->known == PER_CHUNK && set->pages[1].kind == PAGE_HOLE);
    page_index_drop(index, 10, set);
    CHECK(find_one(index, 10 * PER_CHUNK).kind == PAGE_ABSENT);
    CHECK(find_one(index, 10 * PER_CHUNK + 1).kind == PAGE_ABSENT);
    CHECK(find_one(index, 9 * PER_CHUNK).kind == PAGE_HOLE);
    CHECK(find_one(index, 11 * PER_CHUNK).kind == PAGE_HOLE);
    free(set);
    page_index_free(index);
}

TEST("a run put since the set was collected keeps the whole chunk")
{
    struct page_index *index = new_index(100);
    struct page_set *set = page_set_new(index);

    CHECK(page_index_put_zero(index, 0, 100 * PER_CHUNK, true, 4096) == 0);
    CHECK(put_one(index, 10 * PER_CHUNK, 9000) == 0);
    page_index_collect(index, 10, set);
    CHECK(page_index_put_zero(index, 0, 100 * PER_CHUNK, true, 20000) == 0);
    page_index_drop(index, 10, set);
    CHECK(find_one(index, 10 * PER_CHUNK).kind == PAGE_HOLE);
    free(set);
    page_index_free(index);
}

TEST("room is for pages_max pages, and a replay may go beyond")
{
    struct page_index *index = new_index(10);
    uint32_t checksums[100] = {0};

    CHECK(page_index_has_room(index, 10));
    CHECK(!page_index_has_room(index, 11));
    CHECK(page_index_put(index, 0, 4, 4096, checksums) == 0);
    CHECK(page_index_has_room(index, 6));
    CHECK(!page_index_has_room(index, 7));
    CHECK(page_index_put(index, 1000, 100, 40960, checksums) == 0);
    CHECK(!page_index_has_room(index, 1));
    CHECK(page_index_has_room(index, 0));
    for (uint64_t i = 0; i < 100; i++)
        CHECK(find_one(index, 1000 + i).position == 40960 + i * 4096);
    /* Zeros give it back. */
    CHECK(page_index_put_zero(index, 0, 2000, true, 900000) == 0);
    CHECK(page_index_has_room(index, 10));
    page_index_free(index);
}

TEST("there is no room for more chunks than the index may hold apart")
{
    struct page_index *index = new_index(1 << 20);
    uint64_t chunk = 0;

    while (page_index_has_room(index, 1)) {
        CHECK(put_one(index, chunk * PER_CHUNK, 4096 * (chunk + 1)) == 0);
        chunk++;
    }
    CHECK(chunk > 60000 && chunk <= 65536);
    CHECK(!page_index_has_room(index, 0));
    CHECK(page_index_put_zero(index, 0, chunk * PER_CHUNK, true, 1ULL << 40) ==
          0);
    CHECK(page_index_has_room(index, 1));
    page_index_free(index);
}

TEST("a stamp changes with the page, by a touch, a write, zeros or a run")
{
    struct page_index *index = new_index(100);
    uint64_t stamp = page_index_stamp(index, 77);

    page_index_touch(index, 76, 2);
    CHECK(page_index_stamp(index, 77) != stamp);
    stamp = page_index_stamp(index, 77);
    CHECK(put_one(index, 77, 4096) == 0);
    CHECK(page_index_stamp(index, 77) != stamp);
    stamp = page_index_stamp(index, 77);
    CHECK(page_index_put_zero(index, 70, 10, true, 9000) == 0);
    CHECK(page_index_stamp(index, 77) != stamp);
    stamp = page_index_stamp(index, 77);
    CHECK(page_index_put_zero(index, 0, 1 << 20, true, 9999) == 0);
    CHECK(page_index_stamp(index, 77) != stamp);
    stamp = page_index_stamp(index, 77);
    page_index_touch(index, 78, 1);
    CHECK(page_index_stamp(index, 77) == stamp);
    page_index_free(index);
}

TEST("chunks are told ascending, in parts, and only old ones")
{
    struct page_index *index = new_index(1000);
    uint64_t chunks[7];
    uint64_t from = 0;
    uint64_t next = 0;
    size_t count;

    for (uint64_t i = 0; i < 100; i++) {
        uint64_t chunk = i * 37 % 100;

        CHECK(put_one(index, chunk * PER_CHUNK + chunk % PER_CHUNK,
                      4096 * (i + 1)) == 0);
    }
    do {
        count = page_index_chunks(index, UINT64_MAX, from, chunks, 7);
        for (size_t i = 0; i < count; i++)
            CHECK(chunks[i] == next++);
        from = next;
    } while (count == 7);
    CHECK(next == 100);
    CHECK(page_index_chunks(index, 4096 * 3, 0, chunks, 7) == 2);
    CHECK(chunks[0] == 0 && chunks[1] == 37);
    page_index_free(index);
}

/* ---- layers -------------------------------------------------------------- */

TEST("after a cut what was put before stays, below what is put then")
{
    struct page_index *index = new_index(100);
    struct page_set *set = page_set_new(index);
    uint64_t chunks[4];

    CHECK(!page_index_is_cut(index) && page_index_is_folded(index));
    CHECK(put_one(index, 1, 4096) == 0);
    CHECK(put_one(index, 2, 8192) == 0);
    CHECK(page_index_put_zero(index, 3, 1, true, 12288) == 0);
    CHECK(page_index_cut(index) == 0);
    CHECK(page_index_is_cut(index) && !page_index_is_folded(index));
    CHECK(page_index_cut(index) == -EALREADY);
    CHECK(put_one(index, 2, 20000) == 0);
    CHECK(put_one(index, 3, 24096) == 0);
    CHECK(put_one(index, 5 * PER_CHUNK, 30000) == 0);
    /* Readers see the newest of both. */
    CHECK(find_one(index, 1).position == 4096);
    CHECK(find_one(index, 2).position == 20000);
    CHECK(find_one(index, 3).position == 24096);
    CHECK(page_index_known(index, 0, chunks, 4) == 2);
    CHECK(chunks[0] == 0 && chunks[1] == 5);
    CHECK(page_index_known(index, 1, chunks, 4) == 1 && chunks[0] == 5);
    /* What is folded is as it was at the cut. */
    CHECK(page_index_chunks(index, UINT64_MAX, 0, chunks, 4) == 1);
    CHECK(page_index_records(index, 0) == 2);
    page_index_collect(index, 0, set);
    CHECK(set->known == 3 && set->pages[2].position == 8192);
    CHECK(set->pages[3].kind == PAGE_HOLE);
    page_index_drop(index, 0, set);
    CHECK(page_index_is_folded(index) && page_index_is_cut(index));
    CHECK(!page_index_is_empty(index));
    CHECK(find_one(index, 1).kind == PAGE_ABSENT);
    CHECK(find_one(index, 2).position == 20000);
    CHECK(page_index_join(index) == 0 && page_index_join(index) == 0);
    CHECK(!page_index_is_cut(index));
    CHECK(page_index_chunks(index, UINT64_MAX, 0, chunks, 4) == 2);
    CHECK(page_index_records(index, 0) == 2);
    CHECK(find_one(index, 3).position == 24096);
    free(set);
    page_index_free(index);
}

TEST("records before a position are told to be needed in whichever layer")
{
    struct page_index *index = new_index(100);

    CHECK(!page_index_needs_before(index, UINT64_MAX));
    CHECK(put_one(index, 1, 4096) == 0);
    CHECK(page_index_cut(index) == 0);
    CHECK(page_index_put_zero(index, 0, 100 * PER_CHUNK, true, 9000) == 0);
    CHECK(!page_index_needs_before(index, 4096));
    CHECK(page_index_needs_before(index, 4097));
    CHECK(page_index_join(index) == 0);
    CHECK(!page_index_needs_before(index, 9000));
    CHECK(page_index_needs_before(index, 9001));
    page_index_free(index);
}

TEST("the room is for both layers together")
{
    struct page_index *index = new_index(10);
    uint32_t checksums[100] = {0};

    CHECK(page_index_put(index, 0, 6, 4096, checksums) == 0);
    CHECK(page_index_cut(index) == 0);
    CHECK(page_index_has_room(index, 4) && !page_index_has_room(index, 5));
    CHECK(page_index_put(index, 0, 4, 40960, checksums) == 0);
    CHECK(!page_index_has_room(index, 1));
    CHECK(page_index_join(index) == 0);
    CHECK(page_index_has_room(index, 4));
    page_index_free(index);
}

TEST("the runs of both layers are told as one")
{
    struct page_index *index = new_index(10);
    uint64_t end;

    CHECK(page_index_run(index, 7, &end) == PAGE_ABSENT && end == UINT64_MAX);
    CHECK(page_index_put_zero(index, 0, 200 * PER_CHUNK, true, 4096) == 0);
    CHECK(page_index_cut(index) == 0);
    CHECK(page_index_put_zero(index, 100 * PER_CHUNK, 70 * PER_CHUNK, false,
                              8192) == 0);
    CHECK(page_index_run(index, 7, &end) == PAGE_HOLE && end == 100);
    CHECK(page_index_run(index, 101, &end) == PAGE_ZERO && end == 170);
    CHECK(page_index_run(index, 170, &end) == PAGE_HOLE && end == 200);
    CHECK(page_index_run(index, 200, &end) == PAGE_ABSENT && end == UINT64_MAX);
    CHECK(page_index_join(index) == 0);
    CHECK(page_index_run(index, 7, &end) == PAGE_HOLE && end == 100);
    CHECK(page_index_run(index, 101, &end) == PAGE_ZERO && end == 170);
    CHECK(page_index_run(index, 170, &end) == PAGE_HOLE && end == 200);
    page_index_free(index);
}

/* ---- against a model ----------------------------------------------------- */

struct model {
    struct page_location now[PAGES];
    struct page_location folded[PAGES]; /* what chunk files would say */
    struct page_location at_cut[PAGES];
    uint64_t oldest_left; /* of the records that are not folded */
};

static struct model model;
static uint64_t random_state;

static uint64_t random_below(uint64_t end)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % end;
}

static void model_put(uint64_t first, uint64_t count, enum page_kind kind,
                      uint64_t position)
{
    for (uint64_t i = 0; i < count; i++)
        model.now[first + i] = (struct page_location){
            .kind = kind,
            .position = position + (kind == PAGE_RECORD ? i * 4096 : 0),
        };
}

/* What a reader gets must be the newest: from the index, else as folded. */
static bool content_is_right(struct page_index *index)
{
    static struct page_location found[PAGES];

    page_index_find(index, 0, PAGES, found);
    for (size_t i = 0; i < PAGES; i++) {
        const struct page_location *seen =
            found[i].kind != PAGE_ABSENT ? &found[i] : &model.folded[i];

        if (seen->kind != model.now[i].kind ||
            (seen->kind == PAGE_RECORD &&
             seen->position != model.now[i].position))
            return false;
    }
    return true;
}

/* Nothing that is not folded may be left out of the lists of the index. */
static bool lists_are_complete(struct page_index *index, uint64_t before)
{
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        bool must = false;
        uint64_t told = CHUNKS;
        struct page_run run = {.first_chunk = CHUNKS};

        for (uint64_t i = chunk * PER_CHUNK; i < (chunk + 1) * PER_CHUNK; i++) {
            const struct page_location *now = &model.now[i];
            const struct page_location *folded = &model.folded[i];

            must =
                must || (now->kind != PAGE_ABSENT && now->position < before &&
                         (now->kind != folded->kind ||
                          (now->kind == PAGE_RECORD &&
                           now->position != folded->position)));
        }
        if (!must)
            continue;
        if (!page_index_needs_before(index, before))
            return false;
        if (page_index_is_cut(index))
            continue;
        (void)page_index_chunks(index, before, chunk, &told, 1);
        (void)page_index_runs(index, before, chunk, &run, 1);
        if (told != chunk && run.first_chunk != chunk)
            return false;
    }
    return true;
}

struct pending {
    uint64_t chunk;
    struct page_set *set;
    bool is_run;
    struct page_run run;
};

static void collect_one(struct page_index *index, struct pending *pending)
{
    pending->is_run = random_below(4) == 0;
    if (pending->is_run) {
        if (page_index_runs(index, UINT64_MAX, random_below(CHUNKS),
                            &pending->run, 1) == 0)
            pending->run.count = 0;
        return;
    }
    pending->chunk = random_below(CHUNKS);
    page_index_collect(index, pending->chunk, pending->set);
}

/*
 * Fold as destage does: what a set says goes to the chunk file, a run makes
 * zeros of all its chunks that the files know nothing else about.
 */
static void fold_one(struct page_index *index, struct pending *pending)
{
    if (!pending->is_run) {
        for (uint32_t i = 0; i < PER_CHUNK; i++) {
            if (pending->set->pages[i].kind != PAGE_ABSENT)
                model.folded[pending->chunk * PER_CHUNK + i] =
                    pending->set->pages[i];
        }
        page_index_drop(index, pending->chunk, pending->set);
        return;
    }
    for (uint64_t i = pending->run.first_chunk * PER_CHUNK;
         i < (pending->run.first_chunk + pending->run.count) * PER_CHUNK; i++)
        model.folded[i] = (struct page_location){
            .kind = pending->run.hole ? PAGE_HOLE : PAGE_ZERO,
            .position = pending->run.position,
        };
    page_index_drop_run(index, pending->run.first_chunk, pending->run.count,
                        pending->run.hole, pending->run.latest);
}

/* All of the lower layer is in the chunk files, and nothing else. */
static bool cut_is_right(struct page_index *index)
{
    for (size_t i = 0; i < PAGES; i++) {
        if (model.at_cut[i].kind != model.folded[i].kind ||
            (model.at_cut[i].kind == PAGE_RECORD &&
             model.at_cut[i].position != model.folded[i].position))
            return false;
    }
    return page_index_join(index) == 0;
}

static void fold_all(struct page_index *index, struct pending *pending)
{
    pending->is_run = false;
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        pending->chunk = chunk;
        page_index_collect(index, chunk, pending->set);
        fold_one(index, pending);
    }
}

/* Cut; or fold all that was before it; or forget that there was a cut. */
static bool change_layers(struct page_index *index, struct pending *pending)
{
    if (!page_index_is_cut(index)) {
        memcpy(model.at_cut, model.now, sizeof(model.at_cut));
        return page_index_cut(index) == 0;
    }
    if (random_below(2) == 0)
        return page_index_join(index) == 0;
    fold_all(index, pending);
    return page_index_is_folded(index) && cut_is_right(index);
}

static void random_change(struct page_index *index, uint64_t *position)
{
    static uint32_t checksums[PAGES];
    uint64_t first = random_below(PAGES);
    uint64_t most = random_below(8) == 0 ? PAGES : 100;
    uint64_t count = 1 + random_below(most);

    if (count > PAGES - first)
        count = PAGES - first;
    if (random_below(3) != 0) {
        count = count > 256 ? 256 : count;
        CHECK(page_index_put(index, first, count, *position, checksums) == 0);
        model_put(first, count, PAGE_RECORD, *position);
    } else {
        bool hole = random_below(2) == 0;

        CHECK(page_index_put_zero(index, first, count, hole, *position) == 0);
        model_put(first, count, hole ? PAGE_HOLE : PAGE_ZERO, *position);
    }
    *position += 300 * 4096;
}

TEST("random changes, folded in any order: readers see the newest, always")
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct page_index *index = new_index(PAGES);
        struct pending pending = {.set = page_set_new(index)};
        uint64_t position = 4096;

        random_state = seed * 0x9e3779b97f4a7c15U;
        memset(&model, 0, sizeof(model));
        for (int step = 0; step < 150; step++) {
            collect_one(index, &pending);
            for (uint64_t i = random_below(4); i > 0; i--)
                random_change(index, &position);
            fold_one(index, &pending);
            NEED(content_is_right(index));
            NEED(lists_are_complete(index, position / 2));
            NEED(lists_are_complete(index, UINT64_MAX));
            if (random_below(8) == 0)
                NEED(change_layers(index, &pending));
        }
        /* In the end everything can be folded, and nothing is left. */
        NEED(page_index_join(index) == 0);
        fold_all(index, &pending);
        CHECK(content_is_right(index));
        CHECK(page_index_is_empty(index));
        free(pending.set);
        page_index_free(index);
    }
}
