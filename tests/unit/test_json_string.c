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

TEST("control characters become numbers, also those beyond ASCII")
{
    CHECK(is_written_as("a\nb\tc\r\x01\x1f", "\"a\\u000ab\\u0009c\\u000d"
                                             "\\u0001\\u001f\""));
    CHECK(is_written_as("\x7f", "\"\\u007f\""));
    CHECK(is_written_as("\xc2\x80\xc2\x9b\xc2\xa0",
                        "\"\\u0080\\u009b\xc2\xa0\""));
}

TEST("text beyond ASCII stays as it is, and what is no text becomes U+FFFD")
{
    CHECK(is_written_as("gr\xc3\xbc\xc3\x9f, \xe2\x82\xac, \xf0\x9f\x98\x80",
                        "\"gr\xc3\xbc\xc3\x9f, \xe2\x82\xac, "
                        "\xf0\x9f\x98\x80\""));
    CHECK(is_written_as("\x80z\xff", "\"\\ufffdz\\ufffd\""));
    /* Cut off in the middle, and as a peer of another alphabet sent it. */
    CHECK(is_written_as("\xe2\x82", "\"\\ufffd\\ufffd\""));
    CHECK(is_written_as("gr\xfc\xdf e", "\"gr\\ufffd\\ufffd e\""));
    CHECK(is_written_as("\xe2\"", "\"\\ufffd\\\"\""));
}
