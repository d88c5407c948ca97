/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * page_index - for each page of a device, what the journal knows newest.
 *
 * Used by device.c for reads, filled by appends and replay, emptied by
 * destage.c once a chunk file says the same.
 *
 * page_index_cut divides it in two layers: what was put before, and what is
 * put from then on.  The lower one is folded for the checkpoint while the
 * upper one fills; reads see the newest of both.  "The folded layer", below,
 * is the lower one while there is one, else the only one.
 *
 * Threads: any.  Locks: its own, a leaf; calls nothing while holding it.
 * Promise: of two overlapping writes, the same wins now and after a replay.
 */
#ifndef CACHE_PAGE_INDEX_H
#define CACHE_PAGE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum page_kind {
    PAGE_ABSENT = 0, /* ask chunk file and bucket */
    PAGE_RECORD = 1, /* in the journal */
    PAGE_HOLE = 2,   /* zeros, reported as a hole */
    PAGE_ZERO = 3,   /* zeros, not reported as a hole */
};

struct page_location {
    enum page_kind kind;
    uint32_t checksum; /* PAGE_RECORD: as journal_read wants it */
    uint64_t position; /* PAGE_RECORD */
};

struct page_index;

/*
 * pages_max: page_index_has_room refuses more PAGE_RECORDs than this; only a
 * replay goes beyond.  Memory is taken as it is needed.  pages_per_chunk: a
 * power of two, at least 64.
 */
int page_index_new(uint32_t pages_per_chunk, size_t pages_max,
                   struct page_index **ret_index);
void page_index_free(struct page_index *index);

/*
 * Returns whether count pages more, or a run of zeros (count 0), still fit;
 * if not, destage has to make room first.
 */
bool page_index_has_room(struct page_index *index, uint64_t count);

/*
 * Pages first .. first + count - 1 are now in the journal, one after the
 * other at position, with these checksums.  -ENOMEM.
 */
int page_index_put(struct page_index *index, uint64_t first, uint64_t count,
                   uint64_t position, const uint32_t checksums[]);

/*
 * Pages first .. first + count - 1 are now zeros, as said by the record at
 * position.  Any count: quick also for a whole device.  -ENOMEM.
 */
int page_index_put_zero(struct page_index *index, uint64_t first,
                        uint64_t count, bool hole, uint64_t position);

/* Tell, of one moment, where count pages are. */
void page_index_find(struct page_index *index, uint64_t first, uint64_t count,
                     struct page_location ret_locations[]);

/*
 * A stamp changes when the content of the page may have: take it before the
 * page is read, compare it while nobody else can append.  Changes of another
 * page may change it too.  page_index_touch changes those of the pages, and
 * so do page_index_put and page_index_put_zero.
 */
uint64_t page_index_stamp(struct page_index *index, uint64_t page);
void page_index_touch(struct page_index *index, uint64_t first, uint64_t count);

/* What the index knows of one chunk, for each of its pages. */
struct page_set {
    uint32_t pages_per_chunk;
    uint32_t known;     /* how many are not PAGE_ABSENT */
    uint64_t latest;    /* the newest record that the index knew of */
    enum page_kind run; /* what a long run says of the whole chunk */
    struct page_location pages[];
};

/* Returns an empty set for this index; freed by free(). */
struct page_set *page_set_new(const struct page_index *index);

/* Fill the set with what the folded layer knows of a chunk. */
void page_index_collect(struct page_index *index, uint64_t chunk,
                        struct page_set *set);

/*
 * Forget, in the folded layer, what is in the set and has not changed since it
 * was collected.  Of a chunk that a long run covers, nothing if that run may
 * be newer.
 */
void page_index_drop(struct page_index *index, uint64_t chunk,
                     const struct page_set *set);

/*
 * Tell chunks, ascending from `from` on, of which the folded layer knows
 * something by a record before position (PAGE_RECORDs, zeros of less than a
 * long run).  Returns how many, at most max; fewer than max: there are no
 * more.
 */
size_t page_index_chunks(struct page_index *index, uint64_t before,
                         uint64_t from, uint64_t ret_chunks[], size_t max);

/* A long run of whole chunks of zeros. */
struct page_run {
    uint64_t first_chunk;
    uint64_t count;
    uint64_t position; /* of its oldest record */
    uint64_t latest;   /* of its newest record */
    bool hole;
};

/* Tell runs as page_index_chunks tells chunks; the first may be cut there. */
size_t page_index_runs(struct page_index *index, uint64_t before, uint64_t from,
                       struct page_run ret_runs[], size_t max);

/*
 * Forget that chunks first .. first + count - 1 are part of runs of that kind
 * whose newest record is not past latest, as page_index_runs told it.  (What
 * a newer run covers may have been folded as data meanwhile.)
 */
void page_index_drop_run(struct page_index *index, uint64_t first_chunk,
                         uint64_t count, bool hole, uint64_t latest);

/*
 * The same as page_index_chunks, and as what runs say of chunk `from`, of
 * both layers, for who describes the device: *ret_end is the first chunk of
 * which they may say something else, or UINT64_MAX.
 */
size_t page_index_known(struct page_index *index, uint64_t from,
                        uint64_t ret_chunks[], size_t max);
enum page_kind page_index_run(struct page_index *index, uint64_t from,
                              uint64_t *ret_end);

/* Returns whether a record before position is known, in either layer. */
bool page_index_needs_before(struct page_index *index, uint64_t position);

/* Returns how many PAGE_RECORDs the folded layer has of a chunk. */
uint32_t page_index_records(struct page_index *index, uint64_t chunk);

/* Returns whether it knows nothing, in both layers; in the lower one. */
bool page_index_is_empty(struct page_index *index);
bool page_index_is_folded(struct page_index *index);

/*
 * Begin a second layer.  Called where nobody else can append, or while a
 * replay runs.  -EALREADY: there are two; -ENOMEM.
 */
int page_index_cut(struct page_index *index);

/* Returns whether there are two layers. */
bool page_index_is_cut(struct page_index *index);

/*
 * Make it one layer again; what the lower one still knows, and the upper one
 * does not know better, is kept.  Without a second layer nothing happens.
 * -ENOMEM, only while the lower one is not empty: then nothing has changed.
 */
int page_index_join(struct page_index *index);

#endif
