/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/device_read.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "cache/geometry.h"

enum { PAGES_AT_ONCE = 256 };

static struct log_limit damage_limit;

/* One page, or a part of it, from the journal. */
static int read_record(struct device *device,
                       const struct page_location *location, uint64_t offset,
                       unsigned char *data, size_t size, enum patience patience)
{
    uint64_t left_out;
    int error = journal_read(device->journal, location->position,
                             location->checksum, offset % CACHE_PAGE, data,
                             size, patience == PATIENCE_NONE);

    if (error == 0 || error == -EAGAIN || error == -ESTALE)
        return error;
    atomic_fetch_add(&device->reader.damaged, 1);
    if (log_limit_allows(&damage_limit, &left_out))
        log_error("%s: page at byte %" PRIu64 " is damaged in the journal: %s"
                  " (%" PRIu64 " like it not logged)",
                  device->options.name, round_down(offset, CACHE_PAGE),
                  log_errno(error), left_out);
    return -EIO;
}

/* Bytes of the run of pages, from `offset` on, that the index has not. */
static size_t absent_run(const struct page_location locations[], size_t count,
                         uint64_t offset, size_t length)
{
    size_t pages = 1;
    size_t size;

    while (pages < count && locations[pages].kind == PAGE_ABSENT)
        pages++;
    size = pages * CACHE_PAGE - offset % CACHE_PAGE;
    return size < length ? size : length;
}

/* The pages of one index lookup, all in one chunk. */
static int read_pages(struct device *device,
                      const struct page_location locations[], size_t count,
                      uint64_t offset, size_t length, unsigned char *data,
                      enum patience patience, size_t *ret_done)
{
    uint32_t chunk_size = device->options.chunk_size;
    size_t page = 0;
    size_t done = 0;
    int error = 0;

    while (done < length && error == 0) {
        uint64_t at = offset + done;
        size_t size = CACHE_PAGE - at % CACHE_PAGE;

        if (size > length - done)
            size = length - done;
        switch (locations[page].kind) {
        case PAGE_RECORD:
            error = read_record(device, &locations[page], at, data + done, size,
                                patience);
            break;
        case PAGE_HOLE:
        case PAGE_ZERO:
            memset(data + done, 0, size);
            break;
        case PAGE_ABSENT:
            size =
                absent_run(&locations[page], count - page, at, length - done);
            error = chunk_reader_read(&device->reader, at / chunk_size,
                                      (uint32_t)(at % chunk_size), data + done,
                                      size, patience);
            break;
        }
        if (error != 0)
            break;
        page += (at % CACHE_PAGE + size + CACHE_PAGE - 1) / CACHE_PAGE;
        done += size;
    }
    *ret_done = done;
    return error;
}

int device_read_range(struct device *device, uint64_t offset, size_t length,
                      unsigned char *data, enum patience patience,
                      uint64_t *progress)
{
    struct page_location locations[PAGES_AT_ONCE];
    uint32_t chunk_size = device->options.chunk_size;

    while (*progress < length) {
        uint64_t at = offset + *progress;
        uint64_t chunk_end = round_down(at, chunk_size) + chunk_size;
        uint64_t end =
            offset + length < chunk_end ? offset + length : chunk_end;
        uint64_t first = at / CACHE_PAGE;
        uint64_t count = (end + CACHE_PAGE - 1) / CACHE_PAGE - first;
        size_t done;
        int error;

        if (count > PAGES_AT_ONCE) {
            count = PAGES_AT_ONCE;
            end = (first + count) * CACHE_PAGE;
        }
        use_touch(device->use, at / chunk_size);
        page_index_find(device->index, first, count, locations);
        error = read_pages(device, locations, count, at, end - at,
                           data + *progress, patience, &done);
        *progress += done;
        /* Stale: destaged and recycled meanwhile; the index knows better. */
        if (error != 0 && error != -ESTALE)
            return error;
    }
    return 0;
}

/* The answer of an EXTENTS request, being put together. */
struct extents {
    struct device_request *request;
    uint64_t at;  /* the next byte to describe */
    uint64_t end; /* of the range */
    bool is_full;
};

/* The bytes up to `until` are of this kind. */
static void add_extent(struct extents *extents, uint64_t until, uint32_t flags)
{
    struct device_request *request = extents->request;
    struct device_extent *last;
    size_t count = request->extents_count;

    if (until > extents->end)
        until = extents->end;
    if (until <= extents->at || extents->is_full)
        return;
    last = count == 0 ? NULL : &request->extents[count - 1];
    if (last != NULL && last->flags == flags) {
        last->length += until - extents->at;
    } else if (count == request->extents_max ||
               (count == 1 && (request->flags & DEVICE_ONE_EXTENT) != 0)) {
        extents->is_full = true;
        return;
    } else {
        request->extents[count].length = until - extents->at;
        request->extents[count].flags = flags;
        request->extents_count++;
    }
    extents->at = until;
}

static uint32_t flags_of_block(const struct chunk_block *block, unsigned page)
{
    unsigned bit = 1U << page;

    if ((block->damaged_pages & bit) != 0)
        return 0;
    if ((block->zero_pages & bit) != 0)
        return DEVICE_EXTENT_ZERO;
    if ((block->local_pages & bit) != 0)
        return 0;
    if (block->base == BASE_HOLE)
        return DEVICE_EXTENT_HOLE | DEVICE_EXTENT_ZERO;
    return block->base == BASE_ZERO ? DEVICE_EXTENT_ZERO : 0;
}

static uint32_t flags_beneath(const struct open_chunk *open, bool is_remote,
                              unsigned flags, uint64_t page_in_chunk)
{
    if (open != NULL)
        return flags_of_block(
            &open->table->blocks[page_in_chunk / PAGES_PER_BLOCK],
            (unsigned)(page_in_chunk % PAGES_PER_BLOCK));
    if (is_remote)
        return 0;
    return (flags & CATALOG_ZERO) != 0
               ? DEVICE_EXTENT_ZERO
               : DEVICE_EXTENT_HOLE | DEVICE_EXTENT_ZERO;
}

/* The part of the range that lies in one chunk that something knows. */
static int describe_chunk(struct device *device, struct extents *extents,
                          uint64_t chunk, enum patience patience)
{
    struct page_location locations[PAGES_AT_ONCE];
    uint64_t chunk_end = (chunk + 1) * device->options.chunk_size;
    struct open_chunk *open = NULL;
    bool is_held = false;
    bool is_remote = false;
    unsigned flags = 0;
    int error = 0;

    while (extents->at < extents->end && extents->at < chunk_end &&
           !extents->is_full) {
        uint64_t first = extents->at / CACHE_PAGE;
        uint64_t count = chunk_end / CACHE_PAGE - first;
        uint64_t i;

        if (count > PAGES_AT_ONCE)
            count = PAGES_AT_ONCE;
        page_index_find(device->index, first, count, locations);
        /* After the index, so that nothing falls between the two. */
        if (!is_held)
            error = chunk_reader_hold(&device->reader, chunk,
                                      patience == PATIENCE_STORE ? PATIENCE_DISK
                                                                 : patience,
                                      &open, &flags);
        is_held = true;
        if (error == -EAGAIN && patience == PATIENCE_NONE)
            return error;
        is_remote = error != 0; /* or unreadable: data, in any case */
        for (i = 0; i < count && !extents->is_full; i++) {
            uint64_t page = first + i;
            uint32_t kind = 0;

            switch (locations[i].kind) {
            case PAGE_RECORD:
                break;
            case PAGE_HOLE:
                kind = DEVICE_EXTENT_HOLE | DEVICE_EXTENT_ZERO;
                break;
            case PAGE_ZERO:
                kind = DEVICE_EXTENT_ZERO;
                break;
            case PAGE_ABSENT:
                kind = flags_beneath(
                    open, is_remote, flags,
                    page % (device->options.chunk_size / CACHE_PAGE));
                break;
            }
            add_extent(extents, (page + 1) * CACHE_PAGE, kind);
        }
        /* Newer than the table, should it have changed: look again. */
        open_chunk_release(device->open_chunks, open);
        open = NULL;
        is_held = false;
    }
    open_chunk_release(device->open_chunks, open);
    return 0;
}

/* What lies before the next chunk that index or catalog know. */
static void describe_gap(struct device *device, struct extents *extents,
                         uint64_t until)
{
    uint32_t chunk_size = device->options.chunk_size;
    const uint32_t hole = DEVICE_EXTENT_HOLE | DEVICE_EXTENT_ZERO;

    while (extents->at < until && extents->at < extents->end &&
           !extents->is_full) {
        uint64_t end;
        enum page_kind kind =
            page_index_run(device->index, extents->at / chunk_size, &end);

        if (end > until / chunk_size)
            end = until;
        else
            end *= chunk_size;
        add_extent(extents, end, kind == PAGE_ZERO ? DEVICE_EXTENT_ZERO : hole);
    }
}

/* The chunks that the index knows, some at a time. */
struct known_chunks {
    uint64_t chunks[PAGES_AT_ONCE];
    size_t count;
    size_t used;
    bool is_last;
};

/* Returns the first known chunk from `from` on, or UINT64_MAX. */
static uint64_t next_known(struct device *device, struct known_chunks *known,
                           uint64_t from)
{
    for (;;) {
        while (known->used < known->count && known->chunks[known->used] < from)
            known->used++;
        if (known->used < known->count)
            return known->chunks[known->used];
        if (known->is_last)
            return UINT64_MAX;
        known->used = 0;
        known->count =
            page_index_known(device->index, from, known->chunks, PAGES_AT_ONCE);
        known->is_last = known->count < PAGES_AT_ONCE;
    }
}

int device_read_extents(struct device *device, struct device_request *request,
                        enum patience patience)
{
    struct known_chunks known = {.count = 0};
    uint32_t chunk_size = device->options.chunk_size;
    struct extents extents = {
        .request = request,
        .at = request->offset,
        .end = request->offset + request->length,
    };

    request->extents_count = 0;
    while (extents.at < extents.end && !extents.is_full) {
        uint64_t from = extents.at / chunk_size;
        uint64_t last = (extents.end - 1) / chunk_size;
        uint64_t next = next_known(device, &known, from);
        uint64_t chunk;

        /* The index first: what leaves it is in the catalog already. */
        if (catalog_next(device->catalog, from, last + 1, &chunk) &&
            chunk < next)
            next = chunk;
        if (next > last)
            next = last + 1;
        if (next > from) {
            describe_gap(device, &extents, next * chunk_size);
        } else {
            int error = describe_chunk(device, &extents, from, patience);

            if (error != 0)
                return error;
        }
    }
    return 0;
}
