/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/readahead.h"

#include <string.h>

#include "cache/geometry.h"

enum {
    FOLLOWS_MIN = 2, /* reads in a row before anything is fetched ahead */
    REACH_FACTOR =
        32, /* reads that may be on their way at once, in any order */
    REACH_MAX = 2 << 20,
    /* A chunk is fetched whole after misses for one block in so many. */
    MISSES_SHARE = 16,
    MISSES_MIN = 4,
};

static const struct readahead_range NOTHING = {0, 0};

void readahead_init(struct readahead *readahead, uint64_t size,
                    uint32_t chunk_size, uint64_t budget)
{
    memset(readahead, 0, sizeof(*readahead));
    readahead->size = size;
    readahead->chunk_size = chunk_size;
    readahead->budget = budget;
    for (unsigned i = 0; i < READAHEAD_STREAMS; i++) {
        atomic_init(&readahead->triggers[i], UINT64_MAX);
        /* Where no read begins. */
        readahead->streams[i].next = UINT64_MAX;
    }
    for (unsigned i = 0; i < READAHEAD_CHUNKS; i++)
        readahead->chunks[i].chunk = UINT64_MAX;
}

void readahead_grow(struct readahead *readahead, uint64_t size)
{
    readahead->size = size;
}

static bool is_off(const struct readahead *readahead)
{
    return readahead->budget < 2 * (uint64_t)READAHEAD_WINDOW_MIN;
}

/* ---- streams ------------------------------------------------------------- */

/* Relaxed: a read that sees an old trigger is told of one read later. */
static uint64_t trigger_of(struct readahead *readahead, unsigned i)
{
    return atomic_load_explicit(&readahead->triggers[i], memory_order_relaxed);
}

static void set_trigger(struct readahead *readahead, unsigned i, uint64_t at)
{
    atomic_store_explicit(&readahead->triggers[i], at, memory_order_relaxed);
}

bool readahead_is_due(struct readahead *readahead, uint64_t offset,
                      uint64_t length)
{
    for (unsigned i = 0; i < READAHEAD_STREAMS; i++) {
        if (trigger_of(readahead, i) - offset < length)
            return true;
    }
    return false;
}

/* How far from where it should begin a read may be, and be of the stream. */
static uint64_t reach_of(uint64_t length)
{
    return length < REACH_MAX / REACH_FACTOR ? length * REACH_FACTOR
                                             : REACH_MAX;
}

/*
 * Returns the stream that the read belongs to: it begins near where the last
 * one ended, or somewhere in what was fetched ahead.  READAHEAD_STREAMS: none.
 */
static unsigned find_stream(const struct readahead *readahead, uint64_t offset,
                            uint64_t length)
{
    uint64_t reach = reach_of(length);
    unsigned i;

    for (i = 0; i < READAHEAD_STREAMS; i++) {
        const struct readahead_stream *stream = &readahead->streams[i];

        if (stream->next == UINT64_MAX)
            continue;
        if (offset + length + reach >= stream->next &&
            (offset <= stream->next + reach || offset < stream->ahead))
            break;
    }
    return i;
}

static void begin_stream(struct readahead *readahead, uint64_t next)
{
    unsigned oldest = 0;

    for (unsigned i = 1; i < READAHEAD_STREAMS; i++) {
        if (readahead->streams[i].last_used <
            readahead->streams[oldest].last_used)
            oldest = i;
    }
    readahead->streams[oldest] = (struct readahead_stream){
        .next = next,
        .last_used = readahead->clock,
    };
    set_trigger(readahead, oldest, UINT64_MAX);
}

/* Returns how many bytes may be ahead of one stream now. */
static uint64_t window_max(struct readahead *readahead)
{
    uint64_t active = 0;
    uint64_t share;

    for (unsigned i = 0; i < READAHEAD_STREAMS; i++)
        active += readahead->streams[i].window != 0;
    share = readahead->budget / (active == 0 ? 1 : active);
    if (share < READAHEAD_WINDOW_MIN)
        share = READAHEAD_WINDOW_MIN;
    return share < READAHEAD_WINDOW_MAX ? share : READAHEAD_WINDOW_MAX;
}

/* Where the window ends: with a chunk, if it has room for two of them. */
static uint64_t window_end(const struct readahead *readahead,
                           const struct readahead_stream *stream)
{
    uint64_t end = round_up(stream->next + stream->window, CACHE_BLOCK);

    if (stream->window / 2 >= readahead->chunk_size)
        end = round_down(end, readahead->chunk_size);
    return end < readahead->size ? end : readahead->size;
}

/* The window grows, so that it holds at least two more reads like this. */
static void grow_window(struct readahead *readahead,
                        struct readahead_stream *stream, uint64_t length)
{
    uint64_t most = window_max(readahead);

    stream->window *= 2;
    if (stream->window < 2 * length)
        stream->window = 2 * length;
    if (stream->window < READAHEAD_WINDOW_MIN)
        stream->window = READAHEAD_WINDOW_MIN;
    if (stream->window > most)
        stream->window = most;
}

/* Returns what is new in the window of a stream that goes on. */
static struct readahead_range advance(struct readahead *readahead, unsigned i,
                                      uint64_t length)
{
    struct readahead_stream *stream = &readahead->streams[i];
    struct readahead_range range;

    if (stream->follows < FOLLOWS_MIN ||
        (stream->next < stream->ahead &&
         stream->next <= trigger_of(readahead, i)))
        return NOTHING;
    grow_window(readahead, stream, length);
    range.from = stream->next > stream->ahead
                     ? round_down(stream->next, CACHE_BLOCK)
                     : stream->ahead;
    range.to = window_end(readahead, stream);
    if (range.to > stream->ahead)
        stream->ahead = range.to;
    if (stream->ahead >= readahead->size)
        set_trigger(readahead, i, UINT64_MAX);
    else if (range.to <= range.from) /* no room yet: at the next read */
        set_trigger(readahead, i, stream->next);
    else
        set_trigger(readahead, i, range.to - (range.to - stream->next) / 2);
    return range.to > range.from ? range : NOTHING;
}

/* The read is of that stream, if it is of any.  Returns whether it is. */
static bool follow(struct readahead *readahead, uint64_t offset,
                   uint64_t length, struct readahead_range *ret_range)
{
    unsigned i = find_stream(readahead, offset, length);
    struct readahead_stream *stream = &readahead->streams[i];

    *ret_range = NOTHING;
    if (i == READAHEAD_STREAMS)
        return false;
    stream->last_used = readahead->clock;
    if (offset + length > stream->next) {
        stream->next = offset + length;
        stream->follows++;
        *ret_range = advance(readahead, i, length);
    }
    return true;
}

/* ---- chunks -------------------------------------------------------------- */

/* Returns the whole chunk if that is worth it now. */
static struct readahead_range count_miss(struct readahead *readahead,
                                         uint64_t chunk)
{
    uint32_t most = readahead->chunk_size / CACHE_BLOCK / MISSES_SHARE;
    struct readahead_chunk *place =
        &readahead->chunks[chunk % READAHEAD_CHUNKS];
    struct readahead_range range;

    if (readahead->chunk_size > readahead->budget)
        return NOTHING;
    if (place->chunk != chunk)
        *place = (struct readahead_chunk){.chunk = chunk};
    if (++place->misses < (most > MISSES_MIN ? most : MISSES_MIN))
        return NOTHING;
    place->misses = 0;
    range.from = chunk * readahead->chunk_size;
    range.to = range.from + readahead->chunk_size;
    if (range.to > readahead->size)
        range.to = readahead->size;
    return range;
}

struct readahead_range readahead_missed(struct readahead *readahead,
                                        uint64_t offset, uint64_t length)
{
    struct readahead_range range;

    if (is_off(readahead))
        return NOTHING;
    readahead->clock++;
    if (!follow(readahead, offset, length, &range))
        begin_stream(readahead, offset + length);
    if (range.from != range.to)
        return range;
    return count_miss(readahead, offset / readahead->chunk_size);
}

struct readahead_range readahead_served(struct readahead *readahead,
                                        uint64_t offset, uint64_t length)
{
    struct readahead_range range;

    if (is_off(readahead))
        return NOTHING;
    readahead->clock++;
    (void)follow(readahead, offset, length, &range);
    return range;
}
