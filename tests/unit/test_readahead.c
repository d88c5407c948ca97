/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/readahead.h"

#include "cache/geometry.h"
#include "unit/test.h"

enum {
    KIB = 1 << 10,
    MIB = 1 << 20,
    CHUNK = 8 * MIB,
    READ = 128 * KIB,
    BUDGET = 64 * MIB,
};

static const uint64_t SIZE = (uint64_t)1 << 40;

static struct readahead ahead;

static bool is_nothing(struct readahead_range range)
{
    return range.from == range.to;
}

/* Read there, after the bytes up to *has_until were fetched. */
static struct readahead_range read_at(uint64_t offset, uint64_t length,
                                      uint64_t has_until)
{
    struct readahead_range nothing = {0, 0};

    if (offset + length > has_until)
        return readahead_missed(&ahead, offset, length);
    if (readahead_is_due(&ahead, offset, length))
        return readahead_served(&ahead, offset, length);
    return nothing;
}

TEST("reads here and there are not read ahead")
{
    readahead_init(&ahead, SIZE, CHUNK, BUDGET);
    for (uint64_t i = 0; i < 1000; i++)
        CHECK(is_nothing(readahead_missed(
            &ahead, i * 7919 % 1000 * (SIZE / 1000), 4 * KIB)));
    CHECK(!readahead_is_due(&ahead, 0, SIZE));
}

TEST("reads in a row are read ahead, in a window that grows to its limit")
{
    uint64_t until = 0, most = 0;

    readahead_init(&ahead, SIZE, CHUNK, BUDGET);
    for (uint64_t at = 0; at < (uint64_t)512 * MIB; at += READ) {
        struct readahead_range range = read_at(at, READ, until);

        if (at < (uint64_t)2 * READ)
            CHECK(is_nothing(range)); /* two may follow each other by chance */
        if (is_nothing(range))
            continue;
        CHECK(range.from == (until > at + READ ? until : at + READ));
        CHECK(range.to > range.from);
        CHECK(range.to - (at + READ) <= READAHEAD_WINDOW_MAX);
        until = range.to;
        if (until - at > most)
            most = until - at;
    }
    CHECK(most > READAHEAD_WINDOW_MAX / 2);
    CHECK(until >= (uint64_t)512 * MIB);
}

TEST("once it runs, no read of a stream is a miss, and few are told")
{
    static const uint64_t lengths[] = {4 * KIB, READ, MIB, 3 * MIB};

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        uint64_t until = 0, misses = 0, told = 0;

        readahead_init(&ahead, SIZE, CHUNK, BUDGET);
        for (uint64_t at = MIB; at < SIZE && at < (uint64_t)256 * MIB;
             at += lengths[i]) {
            struct readahead_range range;

            misses += at + lengths[i] > until;
            told += readahead_is_due(&ahead, at, lengths[i]);
            range = read_at(at, lengths[i], until);
            if (!is_nothing(range))
                until = range.to;
        }
        CHECK(misses == 3);
        CHECK(told < 60);
    }
}

TEST("what is ahead ends with a chunk, once there is room for whole ones")
{
    uint64_t until = 0;
    bool seen = false;

    readahead_init(&ahead, SIZE, CHUNK, BUDGET);
    for (uint64_t at = 3 * READ; at < (uint64_t)256 * MIB; at += READ) {
        struct readahead_range range = read_at(at, READ, until);

        if (is_nothing(range))
            continue;
        until = range.to;
        if (at >= (uint64_t)32 * MIB) {
            CHECK(until % CHUNK == 0);
            seen = true;
        }
    }
    CHECK(seen);
}

TEST("nothing is read ahead past the end of the device")
{
    const uint64_t size = 10 * MIB + 512;
    uint64_t until = 0;

    readahead_init(&ahead, size, CHUNK, BUDGET);
    for (uint64_t at = 0; at + READ <= size; at += READ) {
        struct readahead_range range = read_at(at, READ, until);

        CHECK(range.to <= size);
        if (!is_nothing(range))
            until = range.to;
    }
    CHECK(until == size);
    CHECK(!readahead_is_due(&ahead, 0, size));
}

TEST("reads of a stream may come in another order")
{
    static const unsigned order[] = {1, 0, 3, 2, 5, 4, 7, 6};
    uint64_t until = 0;

    readahead_init(&ahead, SIZE, CHUNK, BUDGET);
    for (uint64_t at = 0; at < (uint64_t)64 * MIB; at += (uint64_t)8 * READ) {
        for (size_t i = 0; i < 8; i++) {
            uint64_t one = at + order[i] * (uint64_t)READ;
            struct readahead_range range = read_at(one, READ, until);

            if (!is_nothing(range))
                until = range.to;
        }
    }
    CHECK(until >= (uint64_t)64 * MIB);
}

TEST("streams share what there is, and one that is left gives up its place")
{
    uint64_t until[READAHEAD_STREAMS + 1] = {0};
    uint64_t most = 0;

    readahead_init(&ahead, SIZE, CHUNK, BUDGET);
    for (uint64_t step = 0; step < 1024; step++) {
        for (uint64_t i = 0; i < READAHEAD_STREAMS; i++) {
            uint64_t at = i * (SIZE / 16) + step * READ;
            struct readahead_range range = read_at(at, READ, until[i]);

            if (is_nothing(range))
                continue;
            until[i] = range.to;
            if (step > 512 && range.to - at - READ > most)
                most = range.to - at - READ;
        }
    }
    CHECK(most > 0 && most <= BUDGET / READAHEAD_STREAMS);
    for (uint64_t step = 0; step < 64; step++) {
        uint64_t at = 15 * (SIZE / 16) + step * READ;
        struct readahead_range range =
            read_at(at, READ, until[READAHEAD_STREAMS]);

        if (!is_nothing(range))
            until[READAHEAD_STREAMS] = range.to;
    }
    CHECK(until[READAHEAD_STREAMS] > 15 * (SIZE / 16) + (uint64_t)64 * READ);
}

TEST("a chunk that misses again and again is fetched whole, once")
{
    const uint64_t chunk = 77;
    struct readahead_range range;
    unsigned fetched = 0;

    readahead_init(&ahead, SIZE, CHUNK, BUDGET);
    for (uint64_t i = 0; i < 32; i++) {
        /* From the last block to the first, and never two that are close. */
        uint64_t at = chunk * CHUNK + (31 - i) * 256 * KIB;

        range = readahead_missed(&ahead, at, 4 * KIB);
        if (is_nothing(range))
            continue;
        fetched++;
        CHECK(i == 31);
        CHECK(range.from == chunk * CHUNK);
        CHECK(range.to == (chunk + 1) * CHUNK);
    }
    CHECK(fetched == 1);
}

TEST("misses in other chunks do not count for a chunk")
{
    readahead_init(&ahead, SIZE, CHUNK, BUDGET);
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t chunk = i % 2 == 0 ? 5 : 5 + READAHEAD_CHUNKS;

        CHECK(is_nothing(readahead_missed(
            &ahead, chunk * CHUNK + i * 7919 % 32 * 256 * KIB, 4 * KIB)));
    }
}

TEST("without memory for it, nothing is read ahead")
{
    static const uint64_t budgets[] = {0, 2 * READAHEAD_WINDOW_MIN - 1};

    for (size_t i = 0; i < 2; i++) {
        readahead_init(&ahead, SIZE, CHUNK, budgets[i]);
        for (uint64_t at = 0; at < (uint64_t)64 * MIB; at += READ) {
            CHECK(is_nothing(readahead_missed(&ahead, at, READ)));
            CHECK(is_nothing(readahead_served(&ahead, at, READ)));
        }
    }
    /* With some: never more, and no whole chunk that does not fit. */
    readahead_init(&ahead, SIZE, CHUNK, MIB);
    for (uint64_t at = 0; at < (uint64_t)64 * MIB; at += READ) {
        struct readahead_range range = readahead_missed(&ahead, at, READ);

        CHECK(range.to <= at + READ + MIB);
    }
}
