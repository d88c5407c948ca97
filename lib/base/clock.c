/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/clock.h"

#include <stdatomic.h>
#include <time.h>

/* Relaxed order suffices: the value stands for itself alone. */
static _Atomic uint64_t frozen_ns;

static uint64_t read_clock(clockid_t id)
{
    uint64_t frozen = atomic_load_explicit(&frozen_ns, memory_order_relaxed);
    struct timespec now;

    if (frozen != 0)
        return frozen;
    (void)clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

uint64_t clock_monotonic_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_after_ms(unsigned ms)
{
    return clock_monotonic_ns() + (uint64_t)ms * 1000000U;
}

uint64_t clock_realtime_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

void clock_set_for_tests(uint64_t now_ns)
{
    atomic_store_explicit(&frozen_ns, now_ns, memory_order_relaxed);
}
