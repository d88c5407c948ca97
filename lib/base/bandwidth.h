/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bandwidth - limits that hold at certain hours, as a configuration has them:
 * "2M 08:00-23:00" (pure, but for the time zone).
 *
 * Threads: any.
 */
#ifndef BASE_BANDWIDTH_H
#define BASE_BANDWIDTH_H

#include <stddef.h>
#include <stdint.h>

enum { BANDWIDTH_DAY = 24 * 60 }; /* minutes */

/* A limit, and when it holds: from <= minute < to; or, across midnight with
 * from > to, the rest of the day; never from == to. */
struct bandwidth_entry {
    uint64_t bytes_per_s; /* 0: no limit */
    unsigned from, to;    /* minutes of the day; 0 and BANDWIDTH_DAY: always */
};

/*
 * Parse "SIZE" or "SIZE HH:MM-HH:MM", with any number of blanks between; the
 * size is one of number_parse_size, or 0 for no limit; "24:00" may be the end.
 * -EINVAL: it is none, -ERANGE: a number that is too large; then *ret_entry is
 * not written.
 */
int bandwidth_parse(const char *text, struct bandwidth_entry *ret_entry);

/*
 * Returns the limit, in bytes a second, of the first entry that holds at this
 * minute of the day; 0: there is no limit.
 */
uint64_t bandwidth_limit(const struct bandwidth_entry entries[], size_t count,
                         unsigned minute);

/* Returns the minute of the day at this time since 1970, where we are. */
unsigned bandwidth_minute(uint64_t realtime_ns);

#endif
