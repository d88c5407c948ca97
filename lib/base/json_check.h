/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * json_check - whether a text is JSON that can be put into other JSON as it
 * is (pure).
 *
 * Threads: any.
 */
#ifndef BASE_JSON_CHECK_H
#define BASE_JSON_CHECK_H

#include <stdbool.h>
#include <stddef.h>

enum { JSON_CHECK_DEPTH = 16 }; /* objects and lists in one another */

/*
 * Returns whether the len bytes are one object of JSON as RFC 8259 has it, in
 * UTF-8 without control characters, not nested deeper than JSON_CHECK_DEPTH.
 */
bool json_check_object(const char *text, size_t len);

#endif
