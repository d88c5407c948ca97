/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * geometry - pages, blocks and chunks, and how they are counted.
 *
 * page: the unit of the journal and its index.  block: the unit of
 * compression and checksums.  chunk: the unit of files and objects.
 */
#ifndef CACHE_GEOMETRY_H
#define CACHE_GEOMETRY_H

#include <stdint.h>

enum {
    CACHE_PAGE = 4096,
    CACHE_BLOCK = 16384,
    PAGES_PER_BLOCK = CACHE_BLOCK / CACHE_PAGE,
    ALL_PAGES = (1 << PAGES_PER_BLOCK) - 1, /* mask of all pages of a block */
};

/* Returns value, rounded up to a multiple of unit, a power of two. */
static inline uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) & ~(unit - 1);
}

/* Returns value, rounded down to a multiple of unit, a power of two. */
static inline uint64_t round_down(uint64_t value, uint64_t unit)
{
    return value & ~(unit - 1);
}

#endif
