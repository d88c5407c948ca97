/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/number.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char units[] = "KMGTP";

/* Returns the digit's value in base, or a negative number. */
static int digit_value(char c, unsigned base)
{
    int value = -1;

    if (c >= '0' && c <= '9')
        value = c - '0';
    else if (c >= 'a' && c <= 'f')
        value = c - 'a' + 10;
    else if (c >= 'A' && c <= 'F')
        value = c - 'A' + 10;
    return value < (int)base ? value : -1;
}

/* Parse the digits at *text and move it behind them. */
static int parse_digits(const char **text, unsigned base, uint64_t *ret_value)
{
    uint64_t value = 0;
    int digit = digit_value(**text, base);
    int result = 0;

    if (digit < 0)
        return -EINVAL;
    for (; digit >= 0; digit = digit_value(**text, base)) {
        if (__builtin_mul_overflow(value, (uint64_t)base, &value) ||
            __builtin_add_overflow(value, (uint64_t)digit, &value))
            result = -ERANGE;
        (*text)++;
    }
    *ret_value = value;
    return result;
}

/* Whether text is what may follow a number: "", "K", "KB", "KiB", ... */
static bool parse_unit(const char *text, unsigned *ret_shift)
{
    const char *unit;

    *ret_shift = 0;
    if (*text == '\0')
        return true;
    for (unit = units; *unit; unit++) {
        *ret_shift += 10;
        if (strncasecmp(text, unit, 1) == 0)
            return text[1] == '\0' || strcasecmp(text + 1, "B") == 0 ||
                   strcasecmp(text + 1, "iB") == 0;
    }
    return false;
}

static int check_range(int result, uint64_t value, uint64_t min, uint64_t max,
                       uint64_t *ret_value)
{
    if (result == 0 && (value < min || value > max))
        result = -ERANGE;
    if (result == 0)
        *ret_value = value;
    return result;
}

static int parse_in_base(const char *text, unsigned base, uint64_t min,
                         uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;
    int result = parse_digits(&text, base, &value);

    if (*text != '\0')
        return -EINVAL;
    return check_range(result, value, min, max, ret_value);
}

int number_parse(const char *text, uint64_t min, uint64_t max,
                 uint64_t *ret_value)
{
    return parse_in_base(text, 10, min, max, ret_value);
}

int number_parse_hex(const char *text, uint64_t min, uint64_t max,
                     uint64_t *ret_value)
{
    return parse_in_base(text, 16, min, max, ret_value);
}

int number_parse_size(const char *text, uint64_t min, uint64_t max,
                      uint64_t *ret_bytes)
{
    uint64_t value = 0;
    unsigned shift;
    int result = parse_digits(&text, 10, &value);

    if (result == -EINVAL || !parse_unit(text, &shift))
        return -EINVAL;
    if (result == 0 && value > UINT64_MAX >> shift)
        result = -ERANGE;
    return check_range(result, value << shift, min, max, ret_bytes);
}

/* The units of a time. */
static const struct {
    char letter;
    uint64_t seconds;
} times[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};

enum { TIMES = sizeof(times) / sizeof(times[0]) };

int number_parse_duration(const char *text, uint64_t min, uint64_t max,
                          uint64_t *ret_seconds)
{
    uint64_t value = 0;
    size_t unit = 0;
    int result = parse_digits(&text, 10, &value);

    if (result == -EINVAL)
        return result;
    if (*text != '\0') {
        while (unit < TIMES && times[unit].letter != *text)
            unit++;
        if (unit == TIMES || text[1] != '\0')
            return -EINVAL;
    }
    if (result == 0 &&
        __builtin_mul_overflow(value, times[unit].seconds, &value))
        result = -ERANGE;
    return check_range(result, value, min, max, ret_seconds);
}

int number_parse_boolean(const char *text, bool *ret_value)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = {
        {"yes", true}, {"true", true},   {"on", true},   {"1", true},
        {"no", false}, {"false", false}, {"off", false}, {"0", false},
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcasecmp(text, words[i].word) == 0) {
            *ret_value = words[i].value;
            return 0;
        }
    }
    return -EINVAL;
}

const char *number_format_size(uint64_t bytes, char *text)
{
    size_t unit = 0;

    while (bytes != 0 && bytes % 1024 == 0 && unit < sizeof(units) - 1) {
        bytes /= 1024;
        unit++;
    }
    if (unit == 0)
        (void)snprintf(text, NUMBER_SIZE_TEXT, "%" PRIu64, bytes);
    else
        (void)snprintf(text, NUMBER_SIZE_TEXT, "%" PRIu64 "%c", bytes,
                       units[unit - 1]);
    return text;
}

const char *number_format_duration(uint64_t seconds, char *text)
{
    size_t unit = TIMES - 1;

    while (unit > 0 && (seconds == 0 || seconds % times[unit].seconds != 0))
        unit--;
    (void)snprintf(text, NUMBER_SIZE_TEXT, "%" PRIu64 "%c",
                   seconds / times[unit].seconds, times[unit].letter);
    return text;
}
