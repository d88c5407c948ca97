/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/moment.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static const char month_names[12][4] = {"Jan", "Feb", "Mar", "Apr",
                                        "May", "Jun", "Jul", "Aug",
                                        "Sep", "Oct", "Nov", "Dec"};
static const char day_names[7][10] = {"Sunday",    "Monday",   "Tuesday",
                                      "Wednesday", "Thursday", "Friday",
                                      "Saturday"};

static const uint64_t LAST_S = 253402300799; /* the end of 9999 */

struct parts {
    unsigned year, month, day; /* month and day from 1 */
    unsigned hour, minute, second;
};

static bool year_is_leap(unsigned year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static unsigned days_in_month(unsigned year, unsigned month)
{
    static const unsigned char days[12] = {31, 28, 31, 30, 31, 30,
                                           31, 31, 30, 31, 30, 31};

    return days[month - 1] + (month == 2 && year_is_leap(year) ? 1U : 0U);
}

/* Days from 1970 to the first of January of that year. */
static uint64_t days_before_year(unsigned year)
{
    uint64_t before = year - 1;

    return before * 365 + before / 4 - before / 100 + before / 400 - 719162;
}

static int to_seconds(const struct parts *parts, uint64_t *ret_s)
{
    uint64_t days;

    /* The 60th second is a leap second: the next minute's first here. */
    if (parts->year < 1970 || parts->year > 9999 || parts->month < 1 ||
        parts->month > 12 || parts->day < 1 ||
        parts->day > days_in_month(parts->year, parts->month) ||
        parts->hour > 23 || parts->minute > 59 || parts->second > 60)
        return -EINVAL;
    days = days_before_year(parts->year) + parts->day - 1;
    for (unsigned month = 1; month < parts->month; month++)
        days += days_in_month(parts->year, month);
    *ret_s =
        ((days * 24 + parts->hour) * 60 + parts->minute) * 60 + parts->second;
    return 0;
}

/* Move *text behind exactly this many digits: whether they are there. */
static bool take_digits(const char **text, size_t count, unsigned *ret_value)
{
    unsigned value = 0;

    for (size_t i = 0; i < count; i++, (*text)++) {
        if (**text < '0' || **text > '9')
            return false;
        value = value * 10 + (unsigned)(**text - '0');
    }
    *ret_value = value;
    return true;
}

/* Move *text behind the word: whether it is there. */
static bool take_word(const char **text, const char *word)
{
    size_t len = strlen(word);

    if (strncmp(*text, word, len) != 0)
        return false;
    *text += len;
    return true;
}

static bool take_month(const char **text, unsigned *ret_month)
{
    for (unsigned i = 0; i < 12; i++) {
        if (take_word(text, month_names[i])) {
            *ret_month = i + 1;
            return true;
        }
    }
    return false;
}

/* The name of any day: nobody needs to know whether it is the right one. */
static bool take_day_name(const char **text)
{
    for (size_t i = 0; i < 7; i++) {
        if (take_word(text, day_names[i]))
            return true;
        if (strncmp(*text, day_names[i], 3) == 0) {
            *text += 3;
            return true;
        }
    }
    return false;
}

static bool take_time(const char **text, struct parts *parts)
{
    return take_digits(text, 2, &parts->hour) && take_word(text, ":") &&
           take_digits(text, 2, &parts->minute) && take_word(text, ":") &&
           take_digits(text, 2, &parts->second);
}

/* Move *text behind a fraction, if there is one; digits past nine count 0. */
static bool take_fraction(const char **text, uint32_t *ret_ns)
{
    uint32_t ns = 0, scale = 100000000;

    *ret_ns = 0;
    if (!take_word(text, "."))
        return true;
    if (**text < '0' || **text > '9')
        return false;
    for (; **text >= '0' && **text <= '9'; (*text)++, scale /= 10)
        ns += (uint32_t)(**text - '0') * scale;
    *ret_ns = ns;
    return true;
}

/* Move *text behind Z or an offset; *ret_s is what to add to be at Z. */
static bool take_zone(const char **text, int64_t *ret_s)
{
    bool is_ahead = **text == '+';
    unsigned hours, minutes;

    *ret_s = 0;
    if (take_word(text, "Z"))
        return true;
    if (**text != '+' && **text != '-')
        return false;
    (*text)++;
    if (!take_digits(text, 2, &hours) || !take_word(text, ":") ||
        !take_digits(text, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *ret_s = (int64_t)(hours * 60 + minutes) * 60 * (is_ahead ? -1 : 1);
    return true;
}

static bool take_iso_date_and_time(const char **text, struct parts *parts)
{
    if (!take_digits(text, 4, &parts->year))
        return false;
    if (take_word(text, "-"))
        return take_digits(text, 2, &parts->month) && take_word(text, "-") &&
               take_digits(text, 2, &parts->day) && take_word(text, "T") &&
               take_time(text, parts);
    return take_digits(text, 2, &parts->month) &&
           take_digits(text, 2, &parts->day) && take_word(text, "T") &&
           take_digits(text, 2, &parts->hour) &&
           take_digits(text, 2, &parts->minute) &&
           take_digits(text, 2, &parts->second);
}

int moment_parse_iso(const char *text, uint64_t *ret_s, uint32_t *ret_ns)
{
    struct parts parts = {0};
    uint64_t seconds;
    uint32_t ns;
    int64_t zone;

    if (!take_iso_date_and_time(&text, &parts) || !take_fraction(&text, &ns) ||
        !take_zone(&text, &zone) || *text != '\0' ||
        to_seconds(&parts, &seconds) != 0)
        return -EINVAL;
    if (zone < 0 && seconds < (uint64_t)-zone)
        return -EINVAL;
    *ret_s = seconds + (uint64_t)zone;
    if (ret_ns)
        *ret_ns = ns;
    return 0;
}

/* "06 Nov 1994 08:49:37 GMT": behind the comma of the form of today. */
static bool parse_fixed(const char *text, struct parts *parts)
{
    return take_digits(&text, 2, &parts->day) && take_word(&text, " ") &&
           take_month(&text, &parts->month) && take_word(&text, " ") &&
           take_digits(&text, 4, &parts->year) && take_word(&text, " ") &&
           take_time(&text, parts) && take_word(&text, " GMT") && *text == '\0';
}

/* "06-Nov-94 08:49:37 GMT": behind the comma of RFC 850's form. */
static bool parse_rfc850(const char *text, uint64_t now_s, struct parts *parts)
{
    unsigned short_year, latest;

    if (!take_digits(&text, 2, &parts->day) || !take_word(&text, "-") ||
        !take_month(&text, &parts->month) || !take_word(&text, "-") ||
        !take_digits(&text, 2, &short_year) || !take_word(&text, " ") ||
        !take_time(&text, parts) || !take_word(&text, " GMT") || *text != '\0')
        return false;
    /* A mean year is near enough to find the one of fifty years ahead. */
    latest = 1970 + (unsigned)(now_s / 31556952) % 8000 + 50;
    parts->year = latest - latest % 100 + short_year;
    if (parts->year > latest)
        parts->year -= 100;
    return true;
}

/* "Nov  6 08:49:37 1994": behind the day's name, as asctime writes it. */
static bool parse_asctime(const char *text, struct parts *parts)
{
    return take_month(&text, &parts->month) && take_word(&text, " ") &&
           (take_word(&text, " ") ? take_digits(&text, 1, &parts->day)
                                  : take_digits(&text, 2, &parts->day)) &&
           take_word(&text, " ") && take_time(&text, parts) &&
           take_word(&text, " ") && take_digits(&text, 4, &parts->year) &&
           *text == '\0';
}

int moment_parse_http(const char *text, uint64_t now_s, uint64_t *ret_s)
{
    struct parts parts = {0};

    if (!take_day_name(&text))
        return -EINVAL;
    if (take_word(&text, ", ")) {
        if (!parse_fixed(text, &parts) && !parse_rfc850(text, now_s, &parts))
            return -EINVAL;
    } else if (!take_word(&text, " ") || !parse_asctime(text, &parts)) {
        return -EINVAL;
    }
    return to_seconds(&parts, ret_s);
}

static void put_digits(char *text, size_t count, unsigned value)
{
    for (; count > 0; count--, value /= 10)
        text[count - 1] = (char)('0' + value % 10);
}

const char *moment_format_basic(uint64_t moment_s, char text[MOMENT_BASIC_TEXT])
{
    uint64_t known_s = moment_s < LAST_S ? moment_s : LAST_S;
    uint64_t days = known_s / 86400;
    unsigned second = (unsigned)(known_s % 86400);
    struct parts parts = {.month = 1};

    /* A year has 365.2425 days: the guess is right, or one too high. */
    parts.year = 1971 + (unsigned)(days * 400 / 146097);
    while (days_before_year(parts.year) > days)
        parts.year--;
    days -= days_before_year(parts.year);
    while (days >= days_in_month(parts.year, parts.month))
        days -= days_in_month(parts.year, parts.month++);
    parts.day = (unsigned)days + 1;
    put_digits(text, 4, parts.year);
    put_digits(text + 4, 2, parts.month);
    put_digits(text + 6, 2, parts.day);
    text[8] = 'T';
    put_digits(text + 9, 2, second / 3600);
    put_digits(text + 11, 2, second / 60 % 60);
    put_digits(text + 13, 2, second % 60);
    text[15] = 'Z';
    text[16] = '\0';
    return text;
}
