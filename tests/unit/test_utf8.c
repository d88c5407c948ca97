/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/utf8.h"

#include "unit/test.h"

static size_t len_of(const char *text)
{
    return utf8_character_len(text, strlen(text));
}

TEST("a character has one to four bytes, whatever follows it")
{
    CHECK(len_of("a\xff") == 1 && len_of("\x7f") == 1);
    CHECK(len_of("\xc2\x80") == 2 && len_of("\xdf\xbfz") == 2);
    CHECK(len_of("\xe0\xa0\x80") == 3 && len_of("\xef\xbf\xbf\xff") == 3);
    CHECK(len_of("\xed\x9f\xbf") == 3 && len_of("\xee\x80\x80") == 3);
    CHECK(len_of("\xf0\x90\x80\x80") == 4 && len_of("\xf4\x8f\xbf\xbf") == 4);
}

TEST("bytes that are no character are told, also one that is cut off")
{
    static const char *const none[] = {
        "\x80",         "\xbf",         "\xc0\x80",         "\xc1\xbf",
        "\xc2",         "\xc2\x41",     "\xc2\xc2",         "\xe0\x9f\xbf",
        "\xe2\x82",     "\xe2\x82(",    "\xed\xa0\x80",     "\xed\xbf\xbf",
        "\xf0\x90\x80", "\xf0\x8f\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
        "\xff",
    };

    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        CHECK(len_of(none[i]) == 0);
    /* Its end is behind what may be looked at. */
    CHECK(utf8_character_len("\xc3\xa4", 1) == 0);
    CHECK(utf8_character_len("\xf0\x9f\x98\x80", 3) == 0);
    CHECK(utf8_character_len("", 0) == 0 && utf8_character_len("", 1) == 0);
}

TEST("visible is what is no control character, of ASCII or beyond")
{
    static const char *const controls[] = {"\x01",     "\x1b",     "\x1f",
                                           "\x7f",     "\xc2\x80", "\xc2\x9b",
                                           "\xc2\x9f", "\x9b",     ""};

    for (size_t i = 0; i < sizeof(controls) / sizeof(controls[0]); i++)
        CHECK(utf8_visible_len(controls[i], strlen(controls[i])) == 0);
    CHECK(utf8_visible_len(" ", 1) == 1 && utf8_visible_len("~", 1) == 1);
    CHECK(utf8_visible_len("\xc2\xa0", 2) == 2);
    CHECK(utf8_visible_len("\xc2\xa0", 1) == 0);
    CHECK(utf8_visible_len("\xc3\x9b", 2) == 2);
    CHECK(utf8_visible_len("\xe2\x82\xac", 3) == 3);
}

TEST("what is not visible becomes a question mark for each byte")
{
    char text[] = "a\n\x7f\xc2\x9bz\xc3\xa4\xff\xe2\x82";

    utf8_make_visible(text);
    CHECK(strcmp(text, "a????z\xc3\xa4???") == 0);
    text[0] = '\0';
    utf8_make_visible(text);
    CHECK(text[0] == '\0');
}
