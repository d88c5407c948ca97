/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/human.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

const char *human_size(uint64_t bytes, char text[HUMAN_TEXT])
{
    static const char units[] = "KMGTPE";
    double value = (double)bytes;
    size_t unit = 0;

    if (bytes < 1024) {
        (void)snprintf(text, HUMAN_TEXT, "%" PRIu64 " B", bytes);
        return text;
    }
    value /= 1024;
    /* What would be shown as 1024.0 goes to the next unit. */
    while (value >= 1023.95 && units[unit + 1] != '\0') {
        value /= 1024;
        unit++;
    }
    (void)snprintf(text, HUMAN_TEXT, "%.1f %ciB", value, units[unit]);
    return text;
}

const char *human_duration(uint64_t seconds, char text[HUMAN_TEXT])
{
    uint64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;

    if (minutes == 0)
        (void)snprintf(text, HUMAN_TEXT, "%" PRIu64 " s", seconds);
    else if (hours == 0)
        (void)snprintf(text, HUMAN_TEXT, "%" PRIu64 " min %" PRIu64 " s",
                       minutes, seconds % 60);
    else if (days == 0)
        (void)snprintf(text, HUMAN_TEXT, "%" PRIu64 " h %" PRIu64 " min", hours,
                       minutes % 60);
    else
        (void)snprintf(text, HUMAN_TEXT, "%" PRIu64 " d %" PRIu64 " h", days,
                       hours % 24);
    return text;
}

const char *human_time(uint64_t time_ns, char text[HUMAN_TEXT])
{
    time_t seconds = (time_t)(time_ns / 1000000000U);
    struct tm parts;

    if (!gmtime_r(&seconds, &parts) ||
        strftime(text, HUMAN_TEXT, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0)
        (void)snprintf(text, HUMAN_TEXT, "%s", "at some time");
    return text;
}
