/* SPDX-License-Identifier: BSD-2-Clause */
/* What becomes of stores that fail is told as stories in test_s3_endpoint. */
#include "s3/s3_breaker.h"

#include "unit/test.h"

static const uint64_t MS = 1000000;
static const uint64_t S = 1000000000;
static const uint64_t MIB = 1 << 20;

/* The others take 30 ms for gets, 150 ms for puts, and answer. */
static const struct s3_breaker_others others = {{30000000, 150000000}, 0};
static const struct s3_breaker_others nobody = {{0, 0}, UINT64_MAX};

static struct s3_breaker breaker;
static uint64_t now_ns;

static void begin(void)
{
    now_ns = 1000 * S;
    s3_breaker_init(&breaker, now_ns);
}

static void end(const struct s3_turn *turn, enum s3_health health,
                uint64_t latency_ns, const struct s3_breaker_others *best,
                uint64_t random)
{
    const struct s3_ending ending = {health, latency_ns, *best, random, now_ns};

    s3_breaker_end(&breaker, turn, &ending);
}

/* A get without bytes that takes so long and ends so. */
static void request(uint64_t took_ns, enum s3_health health)
{
    struct s3_turn turn;

    s3_breaker_begin(&breaker, false, 0, now_ns, &turn);
    now_ns += took_ns;
    end(&turn, health, took_ns, &others, 0);
}

/* The probe that is due, as late as that; the same for it. */
static void probe(uint64_t took_ns, enum s3_health health)
{
    struct s3_turn turn;

    if (now_ns < breaker.probe_ns)
        now_ns = breaker.probe_ns;
    s3_breaker_begin_probe(&breaker, now_ns, &turn);
    CHECK(breaker.is_probed);
    now_ns += took_ns;
    end(&turn, health, health == S3_HEALTH_ANSWERED ? took_ns : 0, &others, 0);
    CHECK(!breaker.is_probed);
}

/* Have it become slow, by requests that take too long. */
static void slow_down(void)
{
    for (unsigned i = 0; i < 50 && breaker.state == S3_HEALTHY; i++)
        request(3 * S, S3_HEALTH_ANSWERED);
    CHECK(breaker.state == S3_SLOW);
}

TEST("one that cannot be reached once rests")
{
    begin();
    request(MS, S3_HEALTH_ANSWERED);
    CHECK(breaker.state == S3_HEALTHY);
    request(MS, S3_HEALTH_UNREACHABLE);
    CHECK(breaker.state == S3_RESTING);
    CHECK(breaker.since_ns == now_ns);
}

TEST("one that fails three times in a row rests, whatever lies between")
{
    static const enum s3_health kinds[] = {S3_HEALTH_BROKEN,
                                           S3_HEALTH_SERVER_ERROR};

    for (size_t i = 0; i < 2; i++) {
        begin();
        request(MS, kinds[i]);
        request(MS, kinds[1 - i]);
        request(MS, S3_HEALTH_ABANDONED);
        CHECK(breaker.state == S3_HEALTHY);
        request(MS, kinds[i]);
        CHECK(breaker.state == S3_RESTING);
    }
}

TEST("an answer, even one that throttles, begins the row anew")
{
    static const enum s3_health kinds[] = {S3_HEALTH_ANSWERED,
                                           S3_HEALTH_THROTTLED};

    for (size_t i = 0; i < 2; i++) {
        begin();
        for (unsigned j = 0; j < 10; j++) {
            request(MS, S3_HEALTH_BROKEN);
            request(MS, S3_HEALTH_BROKEN);
            request(MS, kinds[i]);
        }
        CHECK(breaker.state == S3_HEALTHY);
    }
}

TEST("probes of one that rests come after pauses that double up to 1.5 s")
{
    static const uint64_t pauses_ms[] = {100,  200,  400,  800,
                                         1500, 1500, 1500, 1500};

    begin();
    request(MS, S3_HEALTH_UNREACHABLE);
    CHECK(breaker.probe_ns == now_ns + 50 * MS);
    for (size_t i = 0; i < sizeof(pauses_ms) / sizeof(pauses_ms[0]); i++) {
        uint64_t started_ns = breaker.probe_ns;

        probe(MS, S3_HEALTH_UNREACHABLE);
        CHECK(breaker.state == S3_RESTING);
        CHECK(breaker.probe_ns == started_ns + pauses_ms[i] * MS);
    }
    probe(MS, S3_HEALTH_ANSWERED);
    CHECK(breaker.state == S3_HEALTHY);
    /* The next rest begins with short pauses again. */
    request(MS, S3_HEALTH_UNREACHABLE);
    CHECK(breaker.probe_ns == now_ns + 50 * MS);
}

TEST("pauses are left to chance, by a quarter at most")
{
    struct s3_turn turn;

    begin();
    for (uint64_t random = 1; random != 0; random <<= 1) {
        s3_breaker_init(&breaker, now_ns);
        s3_breaker_begin(&breaker, false, 0, now_ns, &turn);
        end(&turn, S3_HEALTH_UNREACHABLE, 0, &nobody, random);
        CHECK(breaker.probe_ns <= now_ns + 50 * MS);
        CHECK(breaker.probe_ns >= now_ns + 37 * MS);
    }
}

TEST("any answer to a probe ends a rest, but none of the store's errors")
{
    static const struct {
        enum s3_health health;
        enum s3_endpoint_state state;
    } rows[] = {
        {S3_HEALTH_ANSWERED, S3_HEALTHY},     {S3_HEALTH_THROTTLED, S3_HEALTHY},
        {S3_HEALTH_SERVER_ERROR, S3_RESTING}, {S3_HEALTH_BROKEN, S3_RESTING},
        {S3_HEALTH_ABANDONED, S3_RESTING},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin();
        request(MS, S3_HEALTH_UNREACHABLE);
        probe(MS, rows[i].health);
        CHECK(breaker.state == rows[i].state);
        CHECK(breaker.state == S3_HEALTHY || breaker.probe_ns >= now_ns);
    }
}

TEST("a patient probe ends a rest by an answer, and else says nothing")
{
    struct s3_turn patient;
    uint64_t probe_ns;

    begin();
    request(MS, S3_HEALTH_UNREACHABLE);
    s3_breaker_begin_patient(&breaker, now_ns, &patient);
    CHECK(breaker.is_awaited && !breaker.is_probed);
    /* The others go on meanwhile. */
    probe(MS, S3_HEALTH_UNREACHABLE);
    CHECK(breaker.is_awaited);
    probe_ns = breaker.probe_ns;
    end(&patient, S3_HEALTH_UNREACHABLE, 0, &others, 0);
    CHECK(!breaker.is_awaited);
    CHECK(breaker.state == S3_RESTING && breaker.probe_ns == probe_ns);
    s3_breaker_begin_patient(&breaker, now_ns, &patient);
    end(&patient, S3_HEALTH_ANSWERED, MS, &others, 0);
    CHECK(breaker.state == S3_HEALTHY && !breaker.is_awaited);
    /* Another probe ended the rest, and a new one began. */
    request(MS, S3_HEALTH_UNREACHABLE);
    s3_breaker_begin_patient(&breaker, now_ns, &patient);
    probe(MS, S3_HEALTH_ANSWERED);
    CHECK(breaker.state == S3_HEALTHY && breaker.is_awaited);
    request(MS, S3_HEALTH_UNREACHABLE);
    end(&patient, S3_HEALTH_ANSWERED, MS, &others, 0);
    CHECK(breaker.state == S3_RESTING && !breaker.is_awaited);
    CHECK(breaker.in_flight == 0);
}

TEST("a short probe that is given up after a patient one was answered says "
     "nothing")
{
    struct s3_turn patient, short_one;

    begin();
    request(MS, S3_HEALTH_UNREACHABLE);
    s3_breaker_begin_patient(&breaker, now_ns, &patient);
    s3_breaker_begin_probe(&breaker, now_ns, &short_one);
    now_ns += 900 * MS;
    end(&patient, S3_HEALTH_ANSWERED, 900 * MS, &others, 0);
    CHECK(breaker.state == S3_SLOW && breaker.is_probed);
    end(&short_one, S3_HEALTH_UNREACHABLE, 0, &others, 0);
    CHECK(breaker.state == S3_SLOW && !breaker.is_probed);
    CHECK(breaker.probe_ns == now_ns);
}

TEST("one that answers a probe late is slow before it is well")
{
    begin();
    request(MS, S3_HEALTH_UNREACHABLE);
    probe(900 * MS, S3_HEALTH_ANSWERED);
    CHECK(breaker.state == S3_SLOW);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(breaker.state == S3_SLOW);
        probe(20 * MS, S3_HEALTH_ANSWERED);
    }
    CHECK(breaker.state == S3_HEALTHY);
}

TEST("what began before the state did changes nothing when it ends")
{
    struct s3_turn old[6];

    begin();
    for (unsigned i = 0; i < 6; i++)
        s3_breaker_begin(&breaker, false, 0, now_ns, &old[i]);
    request(MS, S3_HEALTH_UNREACHABLE);
    end(&old[0], S3_HEALTH_ANSWERED, MS, &others, 0);
    CHECK(breaker.state == S3_RESTING);
    probe(MS, S3_HEALTH_ANSWERED);
    CHECK(breaker.state == S3_HEALTHY);
    CHECK(breaker.in_flight == 0 && breaker.weights == 0);
    for (unsigned i = 1; i < 6; i++)
        end(&old[i], i < 4 ? S3_HEALTH_BROKEN : S3_HEALTH_UNREACHABLE, 0,
            &others, 0);
    CHECK(breaker.state == S3_HEALTHY);
    CHECK(breaker.in_flight == 0 && breaker.failures == 0);
}

TEST("one is slow at five times the best of the others, and no less")
{
    begin();
    for (unsigned i = 0; i < 100; i++)
        request(145 * MS, S3_HEALTH_ANSWERED);
    CHECK(breaker.state == S3_HEALTHY);
    CHECK(s3_breaker_cost_ns(&breaker, false) > 140 * MS);
    for (unsigned i = 0; i < 100 && breaker.state == S3_HEALTHY; i++)
        request(155 * MS, S3_HEALTH_ANSWERED);
    CHECK(breaker.state == S3_SLOW);
}

TEST("with nobody to compare with, or by a few milliseconds, none is slow")
{
    static const struct s3_breaker_others fast = {{MS, MS}, 0};
    struct s3_turn turn;

    begin();
    for (unsigned i = 0; i < 100; i++) {
        s3_breaker_begin(&breaker, false, 0, now_ns, &turn);
        now_ns += 5 * S;
        end(&turn, S3_HEALTH_ANSWERED, 5 * S, &nobody, 0);
    }
    CHECK(breaker.state == S3_HEALTHY);
    begin();
    for (unsigned i = 0; i < 100; i++) {
        s3_breaker_begin(&breaker, false, 0, now_ns, &turn);
        now_ns += 20 * MS;
        end(&turn, S3_HEALTH_ANSWERED, 20 * MS, &fast, 0);
    }
    CHECK(breaker.state == S3_HEALTHY);
}

TEST("one slow request among others makes no endpoint slow, nor does the first")
{
    begin();
    request(9 * S, S3_HEALTH_ANSWERED);
    CHECK(breaker.state == S3_HEALTHY);
    CHECK(s3_breaker_cost_ns(&breaker, false) == 0);
    begin();
    for (unsigned i = 0; i < 100; i++)
        request(30 * MS, S3_HEALTH_ANSWERED);
    request(9 * S, S3_HEALTH_ANSWERED);
    CHECK(breaker.state == S3_HEALTHY);
    CHECK(s3_breaker_cost_ns(&breaker, false) < 60 * MS);
}

TEST("a transfer counts by its size, gets and puts are compared apart")
{
    struct s3_turn turn;

    begin();
    for (unsigned i = 0; i < 100; i++) {
        s3_breaker_begin(&breaker, false, 9 * MIB, now_ns, &turn);
        now_ns += 300 * MS;
        end(&turn, S3_HEALTH_ANSWERED, 30 * MS, &others, 0);
    }
    CHECK(s3_breaker_cost_ns(&breaker, false) > 28 * MS);
    CHECK(s3_breaker_cost_ns(&breaker, false) < 32 * MS);
    CHECK(s3_breaker_cost_ns(&breaker, true) == 0);
    for (unsigned i = 0; i < 100; i++) {
        s3_breaker_begin(&breaker, true, 0, now_ns, &turn);
        now_ns += 600 * MS;
        end(&turn, S3_HEALTH_ANSWERED, 0, &others, 0);
    }
    CHECK(breaker.state == S3_HEALTHY);
    CHECK(s3_breaker_cost_ns(&breaker, true) > 590 * MS);
}

TEST("several without an answer for too long make it slow, others not silent")
{
    static const struct s3_breaker_others silent = {{30000000, 0}, 500000000};
    static const struct s3_breaker_others talking = {{30000000, 0}, 0};
    struct s3_turn turns[3];

    begin();
    for (unsigned i = 0; i < 3; i++) {
        s3_breaker_check(&breaker, &talking, now_ns + S);
        CHECK(breaker.state == S3_HEALTHY);
        s3_breaker_begin(&breaker, false, 0, now_ns, &turns[i]);
    }
    CHECK(s3_breaker_silence_ns(&breaker, now_ns + 7 * MS) == 7 * MS);
    s3_breaker_check(&breaker, &talking, now_ns + 149 * MS);
    CHECK(breaker.state == S3_HEALTHY);
    s3_breaker_check(&breaker, &silent, now_ns + 600 * MS);
    CHECK(breaker.state == S3_HEALTHY);
    s3_breaker_check(&breaker, &talking, now_ns + 150 * MS);
    CHECK(breaker.state == S3_SLOW);
    CHECK(s3_breaker_silence_ns(&breaker, now_ns + S) == 0);
}

TEST("an answer ends the silence, and large transfers may be silent longer")
{
    struct s3_turn turns[4];

    begin();
    for (unsigned i = 0; i < 4; i++)
        s3_breaker_begin(&breaker, true, 9 * MIB, now_ns, &turns[i]);
    CHECK(s3_breaker_silence_ns(&breaker, now_ns + S) == S / 10);
    now_ns += S;
    end(&turns[0], S3_HEALTH_ABANDONED, 0, &others, 0);
    CHECK(s3_breaker_silence_ns(&breaker, now_ns) == S / 10);
    s3_breaker_begin(&breaker, true, 9 * MIB, now_ns, &turns[0]);
    end(&turns[1], S3_HEALTH_SERVER_ERROR, 0, &others, 0);
    CHECK(s3_breaker_silence_ns(&breaker, now_ns) == 0);
    CHECK(s3_breaker_silence_ns(&breaker, now_ns + S) == S / 10);
}

TEST("a slow one is well after three quick probes in a row")
{
    begin();
    slow_down();
    probe(20 * MS, S3_HEALTH_ANSWERED);
    probe(20 * MS, S3_HEALTH_ANSWERED);
    probe(900 * MS, S3_HEALTH_ANSWERED);
    probe(20 * MS, S3_HEALTH_ANSWERED);
    probe(20 * MS, S3_HEALTH_ANSWERED);
    CHECK(breaker.state == S3_SLOW);
    probe(20 * MS, S3_HEALTH_ANSWERED);
    CHECK(breaker.state == S3_HEALTHY);
    CHECK(s3_breaker_cost_ns(&breaker, false) == 0);
}

TEST("a slow one whose probes fail rests, as any other")
{
    begin();
    slow_down();
    probe(S, S3_HEALTH_BROKEN);
    probe(S, S3_HEALTH_BROKEN);
    CHECK(breaker.state == S3_SLOW);
    probe(S, S3_HEALTH_BROKEN);
    CHECK(breaker.state == S3_RESTING);
    begin();
    slow_down();
    probe(MS, S3_HEALTH_UNREACHABLE);
    CHECK(breaker.state == S3_RESTING);
}

TEST("probes of a slow one follow quick ones soon, others after half a second")
{
    uint64_t started_ns;

    begin();
    slow_down();
    started_ns = breaker.probe_ns;
    probe(300 * MS, S3_HEALTH_ANSWERED);
    CHECK(breaker.probe_ns == started_ns + 500 * MS);
    probe(20 * MS, S3_HEALTH_ANSWERED);
    CHECK(breaker.probe_ns == now_ns + 50 * MS);
}

TEST("one that is slow again soon needs more quick probes, up to 24")
{
    static const unsigned needed[] = {3, 6, 12, 24, 24, 24};

    begin();
    now_ns += 100 * S;
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        uint64_t begun_ns;

        slow_down();
        begun_ns = now_ns;
        for (unsigned j = 0; j < needed[i]; j++) {
            CHECK(breaker.state == S3_SLOW);
            probe(20 * MS, S3_HEALTH_ANSWERED);
        }
        CHECK(breaker.state == S3_HEALTHY);
        /* Two seconds are promised. */
        CHECK(now_ns - begun_ns <= 2 * S);
    }
    now_ns += 11 * S;
    slow_down();
    for (unsigned j = 0; j < 3; j++)
        probe(20 * MS, S3_HEALTH_ANSWERED);
    CHECK(breaker.state == S3_HEALTHY);
}

TEST("what was given up took that long at least; if less, it says nothing")
{
    uint64_t cost_ns;

    begin();
    for (unsigned i = 0; i < 20; i++)
        request(30 * MS, S3_HEALTH_ANSWERED);
    cost_ns = s3_breaker_cost_ns(&breaker, false);
    request(5 * MS, S3_HEALTH_ABANDONED);
    CHECK(s3_breaker_cost_ns(&breaker, false) == cost_ns);
    for (unsigned i = 0; i < 8; i++)
        request(S, S3_HEALTH_ABANDONED);
    CHECK(breaker.state == S3_SLOW);
}

TEST("a slow one costs what made it slow, then what its last probe took")
{
    static const struct s3_breaker_others talking = {{30000000, 0}, 0};
    struct s3_turn turns[3];

    begin();
    slow_down();
    CHECK(s3_breaker_cost_ns(&breaker, false) >= 150 * MS);
    probe(20 * MS, S3_HEALTH_ANSWERED);
    CHECK(s3_breaker_cost_ns(&breaker, false) == 20 * MS);
    probe(S, S3_HEALTH_BROKEN);
    CHECK(s3_breaker_cost_ns(&breaker, false) == S);
    begin();
    for (unsigned i = 0; i < 3; i++)
        s3_breaker_begin(&breaker, false, 0, now_ns, &turns[i]);
    s3_breaker_check(&breaker, &talking, now_ns + 400 * MS);
    CHECK(breaker.state == S3_SLOW);
    CHECK(s3_breaker_cost_ns(&breaker, false) == 400 * MS);
    begin();
    request(MS, S3_HEALTH_UNREACHABLE);
    probe(900 * MS, S3_HEALTH_ANSWERED);
    CHECK(breaker.state == S3_SLOW);
    CHECK(s3_breaker_cost_ns(&breaker, false) == 900 * MS);
}

TEST("a slow one that is well for want of a better one has its cost still")
{
    unsigned term;

    begin();
    slow_down();
    probe(300 * MS, S3_HEALTH_ANSWERED);
    term = breaker.term;
    s3_breaker_promote(&breaker, now_ns);
    CHECK(breaker.state == S3_HEALTHY && breaker.term != term);
    CHECK(s3_breaker_cost_ns(&breaker, false) == 300 * MS);
    /* Beside a better one it is slow again at once. */
    request(300 * MS, S3_HEALTH_ANSWERED);
    CHECK(breaker.state == S3_SLOW);
}

TEST("one that is passed over is forgiven after some dozen times")
{
    unsigned times = 0;

    begin();
    for (unsigned i = 0; i < 20; i++)
        request(120 * MS, S3_HEALTH_ANSWERED);
    while (s3_breaker_cost_ns(&breaker, false) > 60 * MS && times < 1000) {
        s3_breaker_pass_over(&breaker, false);
        times++;
    }
    CHECK(times >= 24 && times <= 60);
}
