/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * readahead - which bytes of the bucket to fetch before somebody asks.
 *
 * Pure: it is told which reads there were, and answers with a range.  Reads
 * that follow each other, in one of a few places at a time, make a stream; a
 * stream has a window of bytes ahead of it, which doubles each time that half
 * of it was used, up to a limit that all streams share; when it has room for
 * several chunks, it ends where a chunk does.  A chunk out of which reads miss
 * again and again is fetched whole.
 *
 * Threads: one at a time, but for readahead_is_due, which any may call beside
 * it.
 */
#ifndef CACHE_READAHEAD_H
#define CACHE_READAHEAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    READAHEAD_STREAMS = 8, /* so many that their triggers share a cache line */
    READAHEAD_CHUNKS = 256,
    READAHEAD_WINDOW_MIN = 128 << 10,
    READAHEAD_WINDOW_MAX = 32 << 20,
};

/* Bytes of the device; none if both are equal. */
struct readahead_range {
    uint64_t from;
    uint64_t to;
};

struct readahead_stream {
    uint64_t next;      /* where the next read should begin */
    uint64_t ahead;     /* up to where bytes were asked for; 0: none yet */
    uint64_t window;    /* bytes; 0: none yet */
    uint64_t last_used; /* by the clock below */
    unsigned follows;   /* reads that followed another */
};

struct readahead_chunk {
    uint64_t chunk;
    uint32_t misses;
};

struct readahead {
    /* Where in each stream a read makes it advance; UINT64_MAX: nowhere. */
    _Atomic uint64_t triggers[READAHEAD_STREAMS];
    struct readahead_stream streams[READAHEAD_STREAMS];
    struct readahead_chunk chunks[READAHEAD_CHUNKS]; /* by chunk, modulo */
    uint64_t clock;                                  /* counts reads */
    uint64_t size;
    uint64_t budget;
    uint32_t chunk_size;
};

/*
 * size: of the device.  budget: bytes that all that is ahead may take; with
 * less than two of the smallest windows there is no read-ahead.
 */
void readahead_init(struct readahead *readahead, uint64_t size,
                    uint32_t chunk_size, uint64_t budget);

/* The device has so many bytes now. */
void readahead_grow(struct readahead *readahead, uint64_t size);

/*
 * A read of these bytes had to wait for the bucket.  Returns what to fetch
 * besides.
 */
struct readahead_range readahead_missed(struct readahead *readahead,
                                        uint64_t offset, uint64_t length);

/*
 * Returns whether a read of these bytes, which were here, has to be told by
 * readahead_served.  Cheap.
 */
bool readahead_is_due(struct readahead *readahead, uint64_t offset,
                      uint64_t length);

/* A read of these bytes was served from here.  Returns what to fetch now. */
struct readahead_range readahead_served(struct readahead *readahead,
                                        uint64_t offset, uint64_t length);

#endif
