/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

size_t utf8_character_len(const void *text, size_t left)
{
    const uint8_t *bytes = text;
    /* The least second byte for E0, F0, and the greatest for ED, F4. */
    uint8_t first = left > 0 ? bytes[0] : 0, low = 0x80, high = 0xbf;
    size_t len;

    if (first < 0x80)
        return first == 0 ? 0 : 1;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    len = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (first == 0xe0)
        low = 0xa0;
    else if (first == 0xed)
        high = 0x9f;
    else if (first == 0xf0)
        low = 0x90;
    else if (first == 0xf4)
        high = 0x8f;
    if (len > left || bytes[1] < low || bytes[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    }
    return len;
}

bool utf8_is_control(const void *character)
{
    const uint8_t *bytes = character;

    return bytes[0] < 0x20 || bytes[0] == 0x7f ||
           (bytes[0] == 0xc2 && bytes[1] < 0xa0);
}

size_t utf8_visible_len(const void *text, size_t left)
{
    size_t len = utf8_character_len(text, left);

    return len > 0 && utf8_is_control(text) ? 0 : len;
}

void utf8_make_visible(char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        size_t len = utf8_visible_len(text, left);

        if (len == 0) {
            *text = '?';
            len = 1;
        }
        text += len;
        left -= len;
    }
}
