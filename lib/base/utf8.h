/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * utf8 - characters of UTF-8, told from bytes that are none.
 *
 * Threads: any.
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Returns how many bytes the character at the start of the text has, of which
 * left bytes are there; 0 if there is none: no overlong forms, no surrogates,
 * nothing above U+10FFFF, no NUL.
 */
size_t utf8_character_len(const void *text, size_t left);

/*
 * Returns whether a character is a control character, of ASCII or not: a
 * terminal obeys those.  Its last byte is its number.
 */
bool utf8_is_control(const void *character);

/* As utf8_character_len, but 0 also for a control character. */
size_t utf8_visible_len(const void *text, size_t left);

/* Put a "?" in the place of each byte of what is no character to be shown. */
void utf8_make_visible(char *text);

#endif
