/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/json_string.h"

#include "unit/test.h"

static bool is_written_as(const char *text, const char *expected)
{
    char *written = NULL;
    size_t len = 0;
    FILE *stream = open_memstream(&written, &len);
    bool is_equal;

    if (!stream)
        return false;
    json_string_write(stream, text);
    if (fclose(stream) != 0)
        return false;
    is_equal = strcmp(written, expected) == 0;
    free(written);
    return is_equal;
}

TEST("plain text stays as it is, between quotation marks")
{
    CHECK(is_written_as("", "\"\""));
    CHECK(is_written_as("192.0.2.1:443 ~ / 'x' <&>",
                        "\"192.0.2.1:443 ~ / 'x' <&>\""));
}

TEST("what would end a string or begin an escape is escaped")
{
    CHECK(is_written_as("a\"b\\c", "\"a\\\"b\\\\c\""));
    CHECK(is_written_as("\\u0041", "\"\\\\u0041\""));
    CHECK(is_written_as("\"", "\"\\\"\""));
}

TEST("control characters and what is not ASCII become numbers")
{
    CHECK(is_written_as("a\nb\tc\r\x01\x1f", "\"a\\u000ab\\u0009c\\u000d"
                                             "\\u0001\\u001f\""));
    CHECK(is_written_as("\x7f\x80\xff", "\"\\u007f\\u0080\\u00ff\""));
    CHECK(is_written_as("\xc3\xa4", "\"\\u00c3\\u00a4\""));
}
