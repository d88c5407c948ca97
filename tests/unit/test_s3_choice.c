/* SPDX-License-Identifier: BSD-2-Clause */
/* What becomes of many requests is told as stories in test_s3_endpoint. */
#include "s3/s3_choice.h"

#include "unit/test.h"

enum { COUNT = 4 };

static const uint64_t MS = 1000000;
static const uint64_t NOW_NS = UINT64_C(1000000000000);

static struct s3_breaker breakers[COUNT];
static size_t last;

static void begin(void)
{
    last = 0;
    for (size_t i = 0; i < COUNT; i++)
        s3_breaker_init(&breakers[i], NOW_NS);
}

/* As if all its gets had taken so long. */
static void set_cost(size_t index, uint64_t cost_ns)
{
    breakers[index].costs_ns[false] = cost_ns;
    breakers[index].samples[false] = 100;
}

/* Have it so many requests in flight. */
static void set_in_flight(size_t index, unsigned count)
{
    struct s3_turn turn;

    while (breakers[index].in_flight < count)
        s3_breaker_begin(&breakers[index], false, 0, NOW_NS, &turn);
}

static size_t choose(size_t count, size_t avoid, uint64_t random)
{
    const struct s3_choice choice = {
        .avoid = avoid, .random = random, .now_ns = NOW_NS};

    return s3_choice_make(breakers, count, &last, &choice);
}

/* How often number index is chosen of a hundred times. */
static unsigned times_chosen(size_t count, size_t index)
{
    unsigned times = 0;

    for (uint64_t i = 0; i < 100; i++)
        times += choose(count, S3_ENDPOINT_NONE, i * 7) == index;
    return times;
}

TEST("of equal ones each has its turn")
{
    begin();
    for (size_t i = 1; i <= 100; i++)
        CHECK(choose(COUNT, S3_ENDPOINT_NONE, i) == i % COUNT);
}

TEST("one alone is always chosen, even if it is to be avoided, or slow")
{
    begin();
    CHECK(choose(1, S3_ENDPOINT_NONE, 3) == 0);
    CHECK(choose(1, 0, 3) == 0);
    breakers[0].state = S3_SLOW;
    CHECK(choose(1, 0, 3) == 0);
    breakers[0].state = S3_RESTING;
    CHECK(choose(1, S3_ENDPOINT_NONE, 3) == S3_ENDPOINT_NONE);
}

TEST("of two the one with fewer requests in flight is chosen")
{
    begin();
    set_in_flight(1, 1);
    CHECK(times_chosen(2, 0) == 100);
    set_in_flight(0, 2);
    CHECK(times_chosen(2, 1) == 100);
}

TEST("of four one with more to do than all others is never chosen")
{
    begin();
    set_in_flight(2, 1);
    CHECK(times_chosen(4, 2) == 0);
    CHECK(times_chosen(4, 0) > 20);
}

TEST("costs count from twice, and then as much as requests in flight")
{
    begin();
    set_cost(0, 30 * MS);
    set_cost(1, 59 * MS);
    set_in_flight(0, 1);
    CHECK(times_chosen(2, 1) == 100);
    set_in_flight(1, 1);
    CHECK(times_chosen(2, 1) == 50);

    set_cost(1, 90 * MS);
    CHECK(choose(2, S3_ENDPOINT_NONE, 0) == 0);
    CHECK(choose(2, S3_ENDPOINT_NONE, 0) == 0);
    set_in_flight(0, 6);
    CHECK(choose(2, S3_ENDPOINT_NONE, 0) == 1);
    CHECK(choose(2, S3_ENDPOINT_NONE, 0) == 1);
}

TEST("one that costs more is tried again after some dozen requests")
{
    size_t times = 0;

    begin();
    set_cost(0, 30 * MS);
    set_cost(1, 90 * MS);
    while (choose(2, S3_ENDPOINT_NONE, 0) == 0 && times < 1000)
        times++;
    CHECK(times >= 20 && times <= 100);
}

TEST("one whose cost is not known is taken for one of the best")
{
    begin();
    set_cost(0, 30 * MS);
    set_cost(1, 120 * MS);
    set_in_flight(0, 1);
    set_in_flight(2, 1);
    CHECK(times_chosen(3, 2) >= 25);
}

TEST("slow ones come after those that are well, to be avoided after them")
{
    begin();
    breakers[1].state = S3_SLOW;
    breakers[2].state = S3_RESTING;
    for (uint64_t i = 0; i < 20; i++) {
        CHECK(choose(COUNT, 3, i) == 0);
        CHECK(choose(COUNT, 0, i) == 3);
    }
    breakers[3].state = S3_RESTING;
    for (uint64_t i = 0; i < 20; i++) {
        CHECK(choose(COUNT, S3_ENDPOINT_NONE, i) == 0);
        CHECK(choose(COUNT, 0, i) == 1);
    }
    breakers[1].state = S3_RESTING;
    for (uint64_t i = 0; i < 20; i++)
        CHECK(choose(COUNT, 0, i) == 0);
    breakers[0].state = S3_SLOW;
    for (uint64_t i = 0; i < 20; i++)
        CHECK(choose(COUNT, 0, i) == 0);
    breakers[0].state = S3_RESTING;
    CHECK(choose(COUNT, S3_ENDPOINT_NONE, 0) == S3_ENDPOINT_NONE);
}

TEST("of slow ones the best is that which costs least")
{
    begin();
    for (size_t i = 0; i < COUNT; i++)
        set_cost(i, (50 - 10 * i) * MS);
    CHECK(s3_choice_best_slow(breakers, COUNT) == S3_ENDPOINT_NONE);
    breakers[0].state = breakers[1].state = S3_SLOW;
    CHECK(s3_choice_best_slow(breakers, COUNT) == 1);
    breakers[3].state = S3_RESTING;
    CHECK(s3_choice_best_slow(breakers, COUNT) == 1);
}

TEST("the others are those that are well, and the best of each is told")
{
    struct s3_breaker_others others;

    begin();
    set_cost(0, 30 * MS);
    set_cost(1, 20 * MS);
    set_cost(2, 10 * MS);
    breakers[1].state = S3_SLOW;
    breakers[3].costs_ns[true] = 70 * MS;
    breakers[3].samples[true] = 100;
    others = s3_choice_others(breakers, COUNT, S3_HEALTHY, 2, NOW_NS);
    CHECK(others.costs_ns[false] == 30 * MS);
    CHECK(others.costs_ns[true] == 70 * MS);
    CHECK(others.silence_ns == 0);
    others =
        s3_choice_others(breakers, COUNT, S3_HEALTHY, S3_ENDPOINT_NONE, NOW_NS);
    CHECK(others.costs_ns[false] == 10 * MS);
    others = s3_choice_others(breakers, COUNT, S3_SLOW, 2, NOW_NS);
    CHECK(others.costs_ns[false] == 20 * MS && others.costs_ns[true] == 0);
    others = s3_choice_others(breakers, 1, S3_HEALTHY, 0, NOW_NS);
    CHECK(others.costs_ns[false] == 0 && others.costs_ns[true] == 0);
    CHECK(others.silence_ns == UINT64_MAX);
}
