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
 * Write the text to the stream as a JSON string, its quotation marks
 * included, in ASCII only: a byte beyond it is shown as the Latin-1 character
 * of that number, so that whatever a peer sent makes a valid string.  Errors
 * are those of the stream, told by its fclose.
 */
void json_string_write(FILE *stream, const char *text);

#endif
