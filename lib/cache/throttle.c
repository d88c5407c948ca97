/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/throttle.h"

#include "cache/geometry.h"

/*
 * The delay grows with the cube of how far used is past the first mark: close
 * to nothing at first, so that a writer who is a little faster than destage
 * settles well below the brim.  It is meant by bytes, so that 16 writes of
 * 4 KiB and one of 64 KiB press equally; a larger one counts as 64 KiB, for
 * else it alone would wait for minutes.
 */
static const double FIRST_MARK = 0.6;
static const double LONGEST_PAGE_NS = 100e6;
enum { PAGES_MAX = 16 };

uint64_t throttle_delay_ns(uint64_t used, uint64_t capacity, uint64_t size)
{
    double fill = used < capacity ? (double)used / (double)capacity : 1;
    double past =
        fill > FIRST_MARK ? (fill - FIRST_MARK) / (1 - FIRST_MARK) : 0;
    double pages = (double)size / CACHE_PAGE;

    if (pages < 1)
        pages = 1;
    if (pages > PAGES_MAX)
        pages = PAGES_MAX;
    return (uint64_t)(past * past * past * pages * LONGEST_PAGE_NS);
}
