/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * utf8 - characters of UTF-8, told from bytes that are none.
 *
 * Threads: any.
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>

/*
 * Returns how many bytes the character at the start of the text has, of which
 * left bytes are there; 0 if there is none: no overlong forms, no surrogates,
 * nothing above U+10FFFF, no NUL.
 */
size_t utf8_character_len(const void *text, size_t left);

/* The same, but 0 also for a control character: a terminal obeys those, and
 * not only the ones of ASCII. */
size_t utf8_visible_len(const void *text, size_t left);

#endif
