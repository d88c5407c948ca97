/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * human - sizes and times as people like to read them, rounded (pure).
 *
 * What must be read back to the same value is number.h's.
 */
#ifndef BASE_HUMAN_H
#define BASE_HUMAN_H

#include <stdint.h>

/* Room that each of these needs; each returns text. */
enum { HUMAN_TEXT = 32 };

/* Write bytes with the unit that leaves one to four digits: "12.3 MiB". */
const char *human_size(uint64_t bytes, char text[HUMAN_TEXT]);

/* Write a length of time with its two largest units: "3 h 12 min". */
const char *human_duration(uint64_t seconds, char text[HUMAN_TEXT]);

/* Write a moment since 1970: "2026-11-22 03:10:11 UTC". */
const char *human_time(uint64_t time_ns, char text[HUMAN_TEXT]);

#endif
