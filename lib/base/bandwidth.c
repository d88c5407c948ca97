/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/bandwidth.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/number.h"

enum {
    SIZE_TEXT = 32, /* of the longest size, and its end */
    HOURS_TEXT = 11 /* of "HH:MM-HH:MM" */
};

/* Two digits, as a number; or a large one. */
static unsigned two_digits(const char *text)
{
    if (text[0] < '0' || text[0] > '9' || text[1] < '0' || text[1] > '9')
        return BANDWIDTH_DAY;
    return (unsigned)(text[0] - '0') * 10 + (unsigned)(text[1] - '0');
}

/* Parse "HH:MM" at the start of text, of at least five bytes. */
static bool parse_time(const char *text, unsigned *ret_minute)
{
    unsigned hour = two_digits(text), minute = two_digits(text + 3);

    if (text[2] != ':' || hour > 24 || minute > 59 ||
        (hour == 24 && minute > 0))
        return false;
    *ret_minute = hour * 60 + minute;
    return true;
}

static int parse_hours(const char *text, struct bandwidth_entry *entry)
{
    if (strlen(text) != HOURS_TEXT || text[5] != '-' ||
        !parse_time(text, &entry->from) || !parse_time(text + 6, &entry->to) ||
        entry->from == BANDWIDTH_DAY || entry->from == entry->to)
        return -EINVAL;
    return 0;
}

int bandwidth_parse(const char *text, struct bandwidth_entry *ret_entry)
{
    struct bandwidth_entry entry = {.to = BANDWIDTH_DAY};
    size_t size_len = strcspn(text, " \t");
    char size[SIZE_TEXT];
    int error;

    if (size_len >= sizeof(size))
        return -EINVAL;
    memcpy(size, text, size_len);
    size[size_len] = '\0';
    error = number_parse_size(size, 0, UINT64_MAX, &entry.bytes_per_s);
    text += size_len;
    if (!error && *text != '\0')
        error = parse_hours(text + strspn(text, " \t"), &entry);
    if (!error)
        *ret_entry = entry;
    return error;
}

static bool holds(const struct bandwidth_entry *entry, unsigned minute)
{
    return entry->from < entry->to
               ? minute >= entry->from && minute < entry->to
               : minute >= entry->from || minute < entry->to;
}

uint64_t bandwidth_limit(const struct bandwidth_entry entries[], size_t count,
                         unsigned minute)
{
    for (size_t i = 0; i < count; i++) {
        if (holds(&entries[i], minute))
            return entries[i].bytes_per_s;
    }
    return 0;
}

unsigned bandwidth_minute(uint64_t realtime_ns)
{
    time_t seconds = (time_t)(realtime_ns / 1000000000U);
    struct tm local;

    if (!localtime_r(&seconds, &local))
        return 0; /* a year that does not fit */
    return (unsigned)local.tm_hour * 60 + (unsigned)local.tm_min;
}
