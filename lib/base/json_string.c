/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/json_string.h"

#include <string.h>

#include "base/utf8.h"

/*
 * Write the character that has len bytes; 0: what is there is none.  Controls
 * are shown as numbers, also those beyond ASCII: a terminal obeys them.
 */
static void write_character(FILE *stream, const unsigned char *bytes,
                            size_t len)
{
    if (len == 0)
        (void)fputs("\\ufffd", stream);
    else if (utf8_is_control(bytes))
        (void)fprintf(stream, "\\u%04x", bytes[len - 1]);
    else if (bytes[0] == '"' || bytes[0] == '\\')
        (void)fprintf(stream, "\\%c", bytes[0]);
    else
        (void)fwrite(bytes, 1, len, stream);
}

void json_string_write(FILE *stream, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t left = strlen(text);

    (void)fputc('"', stream);
    while (left > 0) {
        size_t len = utf8_character_len(at, left);
        size_t used = len > 0 ? len : 1;

        write_character(stream, at, len);
        at += used;
        left -= used;
    }
    (void)fputc('"', stream);
}
