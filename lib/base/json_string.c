/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/json_string.h"

void json_string_write(FILE *stream, const char *text)
{
    (void)fputc('"', stream);
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte < 0x20 || byte >= 0x7f)
            (void)fprintf(stream, "\\u%04x", byte);
        else if (byte == '"' || byte == '\\')
            (void)fprintf(stream, "\\%c", byte);
        else
            (void)fputc(byte, stream);
    }
    (void)fputc('"', stream);
}
