/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/number.h"

#include "unit/test.h"

enum { UNTOUCHED = 4711 };

/* Returns the error of parsing text as a number, and checks the value. */
static int parse(const char *text, uint64_t want)
{
    uint64_t value = UNTOUCHED;
    int result = number_parse(text, 0, UINT64_MAX, &value);

    CHECK(value == (result == 0 ? want : UNTOUCHED));
    return result;
}

static int parse_size(const char *text, uint64_t want)
{
    uint64_t value = UNTOUCHED;
    int result = number_parse_size(text, 0, UINT64_MAX, &value);

    CHECK(value == (result == 0 ? want : UNTOUCHED));
    return result;
}

static int parse_hex(const char *text, uint64_t want)
{
    uint64_t value = UNTOUCHED;
    int result = number_parse_hex(text, 0, UINT64_MAX, &value);

    CHECK(value == (result == 0 ? want : UNTOUCHED));
    return result;
}

TEST("decimal numbers are parsed up to the last 64-bit one")
{
    CHECK(parse("0", 0) == 0);
    CHECK(parse("7", 7) == 0);
    CHECK(parse("10809", 10809) == 0);
    CHECK(parse("00012", 12) == 0);
    CHECK(parse("18446744073709551615", UINT64_MAX) == 0);
}

TEST("a number that does not fit into 64 bits is out of range, not another")
{
    CHECK(parse("18446744073709551616", 0) == -ERANGE);
    CHECK(parse("18446744073709551620", 0) == -ERANGE);
    CHECK(parse("99999999999999999999999999999999", 0) == -ERANGE);
}

TEST("what is not all digits is no number")
{
    static const char *const texts[] = {"",    " ",   "-1",  "+1",  " 1",
                                        "1 ",  "1.0", "0x1", "1e3", "one",
                                        "1\n", "1,0", "\xb2"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        CHECK(parse(texts[i], 0) == -EINVAL);
    CHECK(parse("99999999999999999999999x", 0) == -EINVAL);
}

TEST("both ends of a range belong to it")
{
    uint64_t value = UNTOUCHED;

    CHECK(number_parse("4", 5, 9, &value) == -ERANGE);
    CHECK(number_parse("10", 5, 9, &value) == -ERANGE);
    CHECK(value == UNTOUCHED);
    CHECK(number_parse("5", 5, 9, &value) == 0 && value == 5);
    CHECK(number_parse("9", 5, 9, &value) == 0 && value == 9);
}

TEST("hexadecimal digits of either case are parsed, without a prefix")
{
    CHECK(parse_hex("0", 0) == 0);
    CHECK(parse_hex("fF", 255) == 0);
    CHECK(parse_hex("ffffffffffffffff", UINT64_MAX) == 0);
    CHECK(parse_hex("10000000000000000", 0) == -ERANGE);
    CHECK(parse_hex("0x1", 0) == -EINVAL);
    CHECK(parse_hex("g", 0) == -EINVAL);
    CHECK(parse_hex("", 0) == -EINVAL);
}

TEST("sizes are bytes, or in units of powers of 1024 however written")
{
    CHECK(parse_size("4096", 4096) == 0);
    CHECK(parse_size("64k", 65536) == 0);
    CHECK(parse_size("64K", 65536) == 0);
    CHECK(parse_size("64KB", 65536) == 0);
    CHECK(parse_size("64KiB", 65536) == 0);
    CHECK(parse_size("64kib", 65536) == 0);
    CHECK(parse_size("512M", UINT64_C(512) << 20) == 0);
    CHECK(parse_size("200G", UINT64_C(214748364800)) == 0);
    CHECK(parse_size("10T", UINT64_C(10) << 40) == 0);
    CHECK(parse_size("3PiB", UINT64_C(3) << 50) == 0);
    CHECK(parse_size("0G", 0) == 0);
    CHECK(parse_size("16383P", UINT64_C(16383) << 50) == 0);
}

TEST("a size that does not fit into 64 bits is out of range")
{
    CHECK(parse_size("16384P", 0) == -ERANGE);
    CHECK(parse_size("18014398509481984K", 0) == -ERANGE);
    CHECK(parse_size("18014398509481983K", UINT64_MAX - 1023) == 0);
    CHECK(parse_size("99999999999999999999999", 0) == -ERANGE);
}

TEST("what follows a size must be one of the units, and nothing else")
{
    static const char *const texts[] = {"",      "K",    "G",   "1 G",  "1G ",
                                        "1.5G",  "1GG",  "1Gi", "1GBi", "1BG",
                                        "1GiBs", "1E",   "-1G", "1B",   "1i",
                                        "1KM",   "0x1G", "1,0", "1/2"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        CHECK(parse_size(texts[i], 0) == -EINVAL);
}

TEST("the range of a size is in bytes")
{
    uint64_t value = UNTOUCHED;

    CHECK(number_parse_size("1K", 1025, 4096, &value) == -ERANGE);
    CHECK(number_parse_size("5K", 1025, 4096, &value) == -ERANGE);
    CHECK(value == UNTOUCHED);
    CHECK(number_parse_size("4K", 1025, 4096, &value) == 0 && value == 4096);
}

TEST("a size is written as it is read, with the largest unit that divides")
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } sizes[] = {
        {0, "0"},
        {1, "1"},
        {1023, "1023"},
        {1024, "1K"},
        {1025, "1025"},
        {UINT64_C(8) << 20, "8M"},
        {UINT64_C(1536) << 10, "1536K"},
        {UINT64_C(214748364800), "200G"},
        {UINT64_C(2048) << 50, "2048P"},
        {UINT64_MAX, "18446744073709551615"},
    };
    char text[NUMBER_SIZE_TEXT];

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        CHECK(strcmp(number_format_size(sizes[i].bytes, text), sizes[i].text) ==
              0);
        CHECK(parse_size(text, sizes[i].bytes) == 0);
    }
}

TEST("a time is seconds, or has one of four units, and nothing else")
{
    static const struct {
        const char *text;
        uint64_t seconds;
    } times[] = {
        {"0", 0},       {"86400", 86400}, {"90s", 90},      {"2m", 120},
        {"24h", 86400}, {"7d", 604800},   {"007d", 604800},
    };
    static const char *const wrong[] = {"",    "s",   "1w",    "1 d", "1D",
                                        "-1s", "1hh", "1h30m", " 1",  "1.5h"};
    uint64_t value;

    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        value = UNTOUCHED;
        CHECK(number_parse_duration(times[i].text, 0, UINT64_MAX - 1, &value) ==
              0);
        CHECK(value == times[i].seconds);
    }
    value = UNTOUCHED;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        CHECK(number_parse_duration(wrong[i], 0, UINT64_MAX, &value) ==
              -EINVAL);
    CHECK(number_parse_duration("213503982334602d", 0, UINT64_MAX, &value) ==
          -ERANGE);
    CHECK(number_parse_duration("59s", 60, 120, &value) == -ERANGE);
    CHECK(number_parse_duration("3m", 60, 120, &value) == -ERANGE);
    CHECK(value == UNTOUCHED);
}

TEST("a time is written as it is read, with the largest unit that divides")
{
    static const struct {
        uint64_t seconds;
        const char *text;
    } times[] = {
        {0, "0s"},    {1, "1s"},      {60, "1m"},    {61, "61s"},
        {3600, "1h"}, {7260, "121m"}, {86400, "1d"}, {31536000, "365d"},
    };
    char text[NUMBER_SIZE_TEXT];
    uint64_t value = UNTOUCHED;

    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        CHECK(strcmp(number_format_duration(times[i].seconds, text),
                     times[i].text) == 0);
        CHECK(number_parse_duration(text, 0, UINT64_MAX, &value) == 0 &&
              value == times[i].seconds);
    }
}

TEST("yes and no have four spellings each, and there is nothing between")
{
    static const char *const yes[] = {"yes", "true", "on", "1", "YES", "On"};
    static const char *const no[] = {"no", "false", "off", "0", "No", "OFF"};
    static const char *const neither[] = {"", "y", "n", "2", "yes ", "maybe"};
    bool value;

    for (size_t i = 0; i < 6; i++) {
        value = false;
        CHECK(number_parse_boolean(yes[i], &value) == 0 && value);
        CHECK(number_parse_boolean(no[i], &value) == 0 && !value);
        value = true;
        CHECK(number_parse_boolean(neither[i], &value) == -EINVAL && value);
    }
}
