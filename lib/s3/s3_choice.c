/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_choice.h"

/* Costs that differ by less say nothing: then requests in flight decide. */
enum { EQUAL_FACTOR = 2 };

/* Which endpoints come into question. */
struct candidates {
    struct s3_breaker *breakers;
    size_t count; /* of all */
    enum s3_endpoint_state state;
    size_t avoid;
    uint64_t unknown_cost_ns; /* of those whose cost is not known */
};

struct s3_breaker_others s3_choice_others(const struct s3_breaker breakers[],
                                          size_t count,
                                          enum s3_endpoint_state state,
                                          size_t except, uint64_t now_ns)
{
    struct s3_breaker_others best = {{0, 0}, UINT64_MAX};

    for (size_t i = 0; i < count; i++) {
        uint64_t silence_ns = s3_breaker_silence_ns(&breakers[i], now_ns);

        if (i == except || breakers[i].state != state)
            continue;
        if (silence_ns < best.silence_ns)
            best.silence_ns = silence_ns;
        for (size_t kind = 0; kind < S3_BREAKER_KINDS; kind++) {
            uint64_t cost_ns = s3_breaker_cost_ns(&breakers[i], kind);

            if (cost_ns > 0 &&
                (best.costs_ns[kind] == 0 || cost_ns < best.costs_ns[kind]))
                best.costs_ns[kind] = cost_ns;
        }
    }
    return best;
}

static bool fits(const struct candidates *candidates, size_t index)
{
    return candidates->breakers[index].state == candidates->state &&
           index != candidates->avoid;
}

/* The first at or behind this one, of those that fit: there must be one. */
static size_t next_that_fits(const struct candidates *candidates, size_t index)
{
    index %= candidates->count;
    while (!fits(candidates, index))
        index = (index + 1) % candidates->count;
    return index;
}

/* How long a request takes there, as far as is known. */
static double cost_of(const struct candidates *candidates, size_t index,
                      const struct s3_choice *choice)
{
    const struct s3_breaker *breaker = &candidates->breakers[index];
    uint64_t silence_ns = s3_breaker_silence_ns(breaker, choice->now_ns);
    uint64_t cost_ns = s3_breaker_cost_ns(breaker, choice->is_put);

    if (cost_ns == 0)
        cost_ns = candidates->unknown_cost_ns;
    return (double)(cost_ns > silence_ns ? cost_ns : silence_ns);
}

/* Whether the second of two has less to do. */
static bool is_better(const struct candidates *candidates, size_t one,
                      size_t two, const struct s3_choice *choice)
{
    double cost_one = cost_of(candidates, one, choice);
    double cost_two = cost_of(candidates, two, choice);

    if (cost_one <= EQUAL_FACTOR * cost_two &&
        cost_two <= EQUAL_FACTOR * cost_one)
        cost_one = cost_two = 1;
    return (candidates->breakers[two].in_flight + 1) * cost_two <
           (candidates->breakers[one].in_flight + 1) * cost_one;
}

static size_t choose_of(const struct candidates *candidates, size_t *last,
                        const struct s3_choice *choice)
{
    size_t fitting = 0, one, two;

    for (size_t i = 0; i < candidates->count; i++)
        fitting += fits(candidates, i);
    if (fitting == 0)
        return S3_ENDPOINT_NONE;
    one = two = *last = next_that_fits(candidates, *last + 1);
    if (fitting == 1)
        return one;
    for (size_t skip = 1 + choice->random % (fitting - 1); skip > 0; skip--)
        two = next_that_fits(candidates, two + 1);
    if (!is_better(candidates, one, two, choice))
        return one;
    /* It is its cost that decided. */
    if (candidates->breakers[one].in_flight <=
        candidates->breakers[two].in_flight)
        s3_breaker_pass_over(&candidates->breakers[one], choice->is_put);
    return two;
}

size_t s3_choice_best_slow(const struct s3_breaker breakers[], size_t count)
{
    size_t best = S3_ENDPOINT_NONE;
    uint64_t best_ns = 0;

    for (size_t i = 0; i < count; i++) {
        uint64_t cost_ns = s3_breaker_cost_ns(&breakers[i], false);

        if (breakers[i].state == S3_SLOW &&
            (best == S3_ENDPOINT_NONE || cost_ns < best_ns)) {
            best = i;
            best_ns = cost_ns;
        }
    }
    return best;
}

size_t s3_choice_make(struct s3_breaker breakers[], size_t count, size_t *last,
                      const struct s3_choice *choice)
{
    const struct {
        enum s3_endpoint_state state;
        size_t avoid;
    } order[] = {
        {S3_HEALTHY, choice->avoid},
        {S3_SLOW, choice->avoid},
        {S3_HEALTHY, S3_ENDPOINT_NONE},
        {S3_SLOW, S3_ENDPOINT_NONE},
    };
    struct s3_breaker_others best = s3_choice_others(
        breakers, count, S3_HEALTHY, S3_ENDPOINT_NONE, choice->now_ns);
    uint64_t best_ns = best.costs_ns[choice->is_put];
    size_t index = S3_ENDPOINT_NONE;

    for (size_t i = 0;
         i < sizeof(order) / sizeof(order[0]) && index == S3_ENDPOINT_NONE;
         i++) {
        const struct candidates candidates = {.breakers = breakers,
                                              .count = count,
                                              .state = order[i].state,
                                              .avoid = order[i].avoid,
                                              .unknown_cost_ns =
                                                  best_ns > 0 ? best_ns : 1};

        index = choose_of(&candidates, last, choice);
    }
    return index;
}
