/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * number - what people write in a configuration, or a server in a header,
 * to a value: whole numbers, sizes, times, yes and no.
 *
 * Strict: all of the text must be used up; no white space, no sign, no
 * rounding, no silent wrap-around.  Threads: any.  The result is written on
 * success only; -EINVAL: the text is not one; -ERANGE: it is, but is below
 * min or above max (or does not fit into 64 bits).
 */
#ifndef BASE_NUMBER_H
#define BASE_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/* Parse decimal digits to a number of at least min and at most max. */
int number_parse(const char *text, uint64_t min, uint64_t max,
                 uint64_t *ret_value);

/* As number_parse, for hexadecimal digits, of either case, without "0x". */
int number_parse_hex(const char *text, uint64_t min, uint64_t max,
                     uint64_t *ret_value);

/*
 * Parse a size to bytes: decimal digits, then nothing (bytes) or K, M, G, T,
 * P, of either case, optionally followed by "iB" or "B".  All are powers of
 * 1024: "200G", "200GiB", "200GB" and "214748364800" are the same.
 */
int number_parse_size(const char *text, uint64_t min, uint64_t max,
                      uint64_t *ret_bytes);

/*
 * Parse a time to seconds: decimal digits, then nothing or s (seconds), m
 * (minutes), h (hours), d (days): "24h", "1440m" and "86400" are the same.
 */
int number_parse_duration(const char *text, uint64_t min, uint64_t max,
                          uint64_t *ret_seconds);

/* Parse yes, true, on, 1 or no, false, off, 0, of either case. */
int number_parse_boolean(const char *text, bool *ret_value);

/* Room that number_format_size and number_format_duration need. */
enum { NUMBER_SIZE_TEXT = 24 };

/*
 * Write bytes to text (of NUMBER_SIZE_TEXT bytes) as number_parse_size reads
 * it back to the same value, with the largest unit that divides it: "200G".
 * Returns text.
 */
const char *number_format_size(uint64_t bytes, char *text);

/* The same for seconds and number_parse_duration: "24h" is "1d". */
const char *number_format_duration(uint64_t seconds, char *text);

#endif
