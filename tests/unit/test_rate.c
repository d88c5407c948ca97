/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/rate.h"

#include "unit/test.h"

static const uint64_t MS = 1000000;
static const uint64_t S = 1000000000;
static const uint64_t MIB = 1 << 20;

/*
 * Take pieces for so long, by one who waits as told.  Returns the bytes that
 * went out; *now_ns moves on.
 */
static uint64_t send_for(struct rate *rate, uint64_t piece, uint64_t for_ns,
                         uint64_t *now_ns)
{
    uint64_t end_ns = *now_ns + for_ns, sent = 0;

    for (;;) {
        uint64_t wait_ns = rate_take(rate, piece, *now_ns);

        if (*now_ns + wait_ns >= end_ns) {
            *now_ns += wait_ns;
            return sent;
        }
        *now_ns += wait_ns;
        sent += piece;
    }
}

TEST("without a limit nobody waits")
{
    struct rate rate;

    rate_init(&rate, 0);
    for (unsigned i = 0; i < 1000; i++)
        CHECK(rate_take(&rate, UINT64_MAX, 5 * S) == 0);
    rate_done(&rate);
}

TEST("over a minute the limit holds, for pieces of any size")
{
    static const uint64_t pieces[] = {1000, 65536, 1 << 20, 8 << 20};

    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        uint64_t now_ns = 7 * S, sent;
        struct rate rate;

        rate_init(&rate, 2 * MIB);
        sent = send_for(&rate, pieces[i], 60 * S, &now_ns);
        CHECK(sent >= 120 * MIB);
        CHECK(sent <= 120 * MIB + 2 * MIB / 10 + pieces[i]);
        rate_done(&rate);
    }
}

TEST("many who share a limit keep it together, each in its turn")
{
    enum { SENDERS = 16 };
    uint64_t turn_ns[SENDERS] = {0}, sent[SENDERS] = {0}, total = 0;
    const uint64_t piece = 65536, begin_ns = 3 * S;
    struct rate rate;

    rate_init(&rate, 4 * MIB);
    for (unsigned i = 0; i < SENDERS; i++)
        turn_ns[i] = begin_ns + rate_take(&rate, piece, begin_ns);
    for (;;) {
        unsigned first = 0;

        for (unsigned i = 1; i < SENDERS; i++) {
            if (turn_ns[i] < turn_ns[first])
                first = i;
        }
        if (turn_ns[first] >= begin_ns + 10 * S)
            break;
        sent[first] += piece;
        turn_ns[first] += rate_take(&rate, piece, turn_ns[first]);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        CHECK(sent[i] > 40 * MIB / SENDERS / 10 * 9);
        total += sent[i];
    }
    CHECK(total >= 40 * MIB && total <= 41 * MIB);
    rate_done(&rate);
}

TEST("after a pause of any length a tenth of a second goes out at once")
{
    struct rate rate;
    uint64_t at_once = 0;

    rate_init(&rate, 10 * MIB);
    while (rate_take(&rate, 65536, 1000 * S) == 0)
        at_once += 65536;
    CHECK(at_once >= MIB && at_once <= MIB + 65536);

    at_once = 0;
    while (rate_take(&rate, 65536, 5000 * S) == 0)
        at_once += 65536;
    CHECK(at_once >= MIB && at_once <= MIB + 65536);
    rate_done(&rate);
}

TEST("a piece larger than a second's bytes goes, and the next one waits for it")
{
    struct rate rate;

    rate_init(&rate, MIB);
    CHECK(rate_take(&rate, 10 * MIB, 100 * S) == 0);
    CHECK(rate_take(&rate, 1, 100 * S) == 9900 * MS);
    CHECK(rate_take(&rate, 1, 105 * S) / MS == 4900);
    rate_done(&rate);
}

TEST("a new limit holds for what was granted and has not gone out yet")
{
    struct rate rate;

    rate_init(&rate, MIB);
    CHECK(rate_take(&rate, 10 * MIB, 100 * S) == 0);
    rate_set(&rate, 2 * MIB, 100 * S);
    CHECK(rate_take(&rate, 0, 100 * S) == 4950 * MS);
    rate_set(&rate, MIB / 2, 100 * S);
    CHECK(rate_take(&rate, 0, 100 * S) == 19800 * MS);
    rate_set(&rate, 0, 100 * S);
    CHECK(rate_take(&rate, MIB, 100 * S) == 0);
    rate_set(&rate, MIB, 200 * S);
    CHECK(rate_take(&rate, MIB, 200 * S) == 0);
    CHECK(rate_take(&rate, 0, 200 * S) == 900 * MS);
    rate_done(&rate);
}

TEST("no limit, however small, lets one wait longer than an hour")
{
    struct rate rate;

    rate_init(&rate, 1);
    CHECK(rate_take(&rate, UINT64_MAX, S) == 0);
    CHECK(rate_take(&rate, UINT64_MAX, S) == 3600 * S - 100 * MS);
    CHECK(rate_take(&rate, UINT64_MAX, S) == 3600 * S);
    rate_set(&rate, UINT64_MAX, S);
    rate_set(&rate, 1, S);
    CHECK(rate_take(&rate, 1, S) <= 3600 * S);
    rate_done(&rate);
}

TEST("a caller whose time is a little older than another's still keeps it")
{
    struct rate rate;

    rate_init(&rate, MIB);
    CHECK(rate_take(&rate, MIB, 100 * S) == 0);
    CHECK(rate_take(&rate, MIB, 100 * S - 1) == 900 * MS + 1);
    CHECK(rate_take(&rate, MIB, 100 * S) == 1900 * MS);
    rate_done(&rate);
}
