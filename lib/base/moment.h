/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * moment - dates as protocols write them, to and from seconds since 1970
 * (pure).
 *
 * Independent of locale and time zone of the process.  Strict: all of the
 * text must be used up.  Years 1970 to 9999.  Threads: any.
 */
#ifndef BASE_MOMENT_H
#define BASE_MOMENT_H

#include <stdint.h>

/* Room that moment_format_basic needs. */
enum { MOMENT_BASIC_TEXT = 17 };

/*
 * Parse a date of ISO 8601: "2026-11-22T03:10:11Z" or, the basic form,
 * "20261122T031011Z"; a fraction of a second may stand before the Z, and
 * "+hh:mm" or "-hh:mm" in its place.  ret_ns gets the fraction in
 * nanoseconds, and may be NULL.  -EINVAL: it is none.
 */
int moment_parse_iso(const char *text, uint64_t *ret_s, uint32_t *ret_ns);

/*
 * Parse a date as headers of HTTP have it: "Sun, 06 Nov 1994 08:49:37 GMT",
 * and the two old forms, "Sunday, 06-Nov-94 08:49:37 GMT" and
 * "Sun Nov  6 08:49:37 1994".  now_s decides the century of two digits: the
 * year is at most 50 years ahead.  -EINVAL: it is none.
 */
int moment_parse_http(const char *text, uint64_t now_s, uint64_t *ret_s);

/*
 * Write the moment in the basic form, "20261122T031011Z", as x-amz-date has
 * it; its first eight bytes are the day.  What is later than the year 9999
 * becomes its last second.  Returns text.
 */
const char *moment_format_basic(uint64_t moment_s,
                                char text[MOMENT_BASIC_TEXT]);

#endif
