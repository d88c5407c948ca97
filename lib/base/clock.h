/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clock - the time, as one thing that tests can set.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* Returns nanoseconds of CLOCK_MONOTONIC: for deadlines, delays, ages. */
uint64_t clock_monotonic_ns(void);

/* Returns the moment ms milliseconds from now, of the same clock. */
uint64_t clock_after_ms(unsigned ms);

/* Returns nanoseconds since 1970 of CLOCK_REALTIME: for stamps in files. */
uint64_t clock_realtime_ns(void);

/*
 * For tests: from now on both clocks stand still at now_ns, until the next
 * call; 0 lets them run again.  Threads that already sleep are not woken.
 */
void clock_set_for_tests(uint64_t now_ns);

#endif
