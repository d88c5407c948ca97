/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * json_string - text as a string of JSON.
 *
 * Threads: any.
 */
#ifndef BASE_JSON_STRING_H
#define BASE_JSON_STRING_H

#include <stdio.h>

/*
 * Write the text to the stream as a JSON string in UTF-8, its quotation marks
 * included.  Whatever a peer sent makes a valid string: a byte that belongs to
 * no character is shown as U+FFFD.  Errors are those of the stream, told by its
 * fclose.
 */
void json_string_write(FILE *stream, const char *text);

#endif
