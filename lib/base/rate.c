/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/rate.h"

/*
 * There is no count of tokens to refill: free_ns alone says how far ahead of
 * the clock the granted bytes are.  A pause lets it fall behind the clock, by
 * at most BURST_NS, which is what may go out at once afterwards.
 */
static const uint64_t BURST_NS = 100000000;
static const uint64_t LONGEST_NS = 3600000000000;

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* How long these bytes take at this limit, which is not 0. */
static uint64_t duration_ns(uint64_t bytes, uint64_t bytes_per_s)
{
    double ns = (double)bytes * 1e9 / (double)bytes_per_s;

    return ns < (double)LONGEST_NS ? (uint64_t)ns : LONGEST_NS;
}

/* When the next byte has its turn, no earlier than the burst allows. */
static uint64_t turn_ns_locked(struct rate *rate, uint64_t now_ns)
    REQUIRES(rate->mutex)
{
    uint64_t earliest = now_ns > BURST_NS ? now_ns - BURST_NS : 0;

    return rate->free_ns > earliest ? rate->free_ns : earliest;
}

void rate_init(struct rate *rate, uint64_t bytes_per_s)
{
    mutex_init(&rate->mutex);
    rate->bytes_per_s = bytes_per_s;
    rate->free_ns = 0;
}

void rate_done(struct rate *rate)
{
    mutex_done(&rate->mutex);
}

void rate_set(struct rate *rate, uint64_t bytes_per_s, uint64_t now_ns)
{
    mutex_lock(&rate->mutex);
    if (bytes_per_s == 0) {
        rate->free_ns = 0;
    } else if (rate->free_ns > now_ns) {
        double share = (double)rate->bytes_per_s / (double)bytes_per_s;
        double ahead_ns = (double)(rate->free_ns - now_ns) * share;

        rate->free_ns =
            now_ns +
            (ahead_ns < (double)LONGEST_NS ? (uint64_t)ahead_ns : LONGEST_NS);
    }
    rate->bytes_per_s = bytes_per_s;
    mutex_unlock(&rate->mutex);
}

uint64_t rate_take(struct rate *rate, uint64_t bytes, uint64_t now_ns)
{
    uint64_t wait_ns = 0;

    mutex_lock(&rate->mutex);
    if (rate->bytes_per_s > 0) {
        uint64_t turn_ns = turn_ns_locked(rate, now_ns);

        wait_ns = turn_ns > now_ns ? turn_ns - now_ns : 0;
        rate->free_ns = least(turn_ns + duration_ns(bytes, rate->bytes_per_s),
                              now_ns + LONGEST_NS);
    }
    mutex_unlock(&rate->mutex);
    return least(wait_ns, LONGEST_NS);
}
