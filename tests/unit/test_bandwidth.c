/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/bandwidth.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "unit/test.h"

/* Returns the error of parsing, or 0 if it gives just that. */
static int parse(const char *text, uint64_t rate, unsigned from, unsigned to)
{
    struct bandwidth_entry entry = {4711, 4711, 4711};
    int error = bandwidth_parse(text, &entry);

    if (error)
        CHECK(entry.bytes_per_s == 4711 && entry.from == 4711 &&
              entry.to == 4711);
    else
        CHECK(entry.bytes_per_s == rate && entry.from == from &&
              entry.to == to);
    return error;
}

TEST("a size is a limit for the whole day, with hours for these")
{
    CHECK(parse("2M", 2 << 20, 0, 1440) == 0);
    CHECK(parse("0", 0, 0, 1440) == 0);
    CHECK(parse("300 08:00-23:00", 300, 480, 1380) == 0);
    CHECK(parse("1K \t 23:30-00:15", 1024, 1410, 15) == 0);
    CHECK(parse("1 00:00-24:00", 1, 0, 1440) == 0);
    CHECK(parse("1 22:00-24:00", 1, 1320, 1440) == 0);
    CHECK(parse("1 22:00-00:00", 1, 1320, 0) == 0);
}

TEST("what is no size, or no hours, is refused")
{
    static const char *const wrong[] = {
        "",
        " ",
        "M",
        " 2M",
        "2M ",
        "-1",
        "2M 8:00-23:00",
        "2M 08:00-23:0",
        "2M 08:00-23:000",
        "2M 08:00 23:00",
        "2M 08.00-23.00",
        "2M 08:60-23:00",
        "2M 08:00-24:01",
        "2M 25:00-08:00",
        "2M 24:00-08:00",
        "2M 08:00-08:00",
        "2M 08:00-23:00 ",
        "2M 08:00-23:00 x",
        "2M x8:00-23:00",
        "2M 08:0x-23:00",
        "08:00-23:00",
        "08:00-23:00 2M",
        "2M08:00-23:00",
        "00000000000000000000000000000001",
    };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        CHECK(parse(wrong[i], 0, 0, 0) == -EINVAL);
    CHECK(parse("99999999999999999999", 0, 0, 0) == -ERANGE);
    CHECK(parse("16384P 08:00-23:00", 0, 0, 0) == -ERANGE);
}

TEST("the first entry that holds is the limit; without one there is none")
{
    static const struct bandwidth_entry day = {100, 480, 1380};
    static const struct bandwidth_entry night = {200, 1380, 480};
    static const struct bandwidth_entry entries[] = {
        {5, 600, 660}, /* an hour of the day */
        {0, 1410, 30}, /* the hour around midnight: no limit */
        {7, 0, BANDWIDTH_DAY},
    };

    CHECK(bandwidth_limit(NULL, 0, 0) == 0);
    CHECK(bandwidth_limit(&day, 1, 479) == 0);
    CHECK(bandwidth_limit(&day, 1, 480) == 100);
    CHECK(bandwidth_limit(&day, 1, 1379) == 100);
    CHECK(bandwidth_limit(&day, 1, 1380) == 0);
    CHECK(bandwidth_limit(&night, 1, 1379) == 0);
    CHECK(bandwidth_limit(&night, 1, 1380) == 200);
    CHECK(bandwidth_limit(&night, 1, 0) == 200);
    CHECK(bandwidth_limit(&night, 1, 479) == 200);
    CHECK(bandwidth_limit(&night, 1, 480) == 0);
    CHECK(bandwidth_limit(entries, 3, 630) == 5);
    CHECK(bandwidth_limit(entries, 3, 660) == 7);
    CHECK(bandwidth_limit(entries, 3, 1439) == 0);
    CHECK(bandwidth_limit(entries, 3, 29) == 0);
    CHECK(bandwidth_limit(entries, 3, 30) == 7);
}

TEST("the minute of the day is that of the time zone")
{
    const uint64_t noon_ns = UINT64_C(1700049600) * 1000000000; /* 12:00 UTC */

    CHECK(setenv("TZ", "UTC0", 1) == 0);
    tzset();
    CHECK(bandwidth_minute(noon_ns) == 720);
    CHECK(bandwidth_minute(noon_ns + UINT64_C(59999999999)) == 720);
    CHECK(bandwidth_minute(noon_ns + UINT64_C(60000000000)) == 721);
    CHECK(setenv("TZ", "XYZ-5:30", 1) == 0);
    tzset();
    CHECK(bandwidth_minute(noon_ns) == 17 * 60 + 30);
    CHECK(setenv("TZ", "XYZ13", 1) == 0);
    tzset();
    CHECK(bandwidth_minute(noon_ns) == 23 * 60);
    CHECK(unsetenv("TZ") == 0);
    tzset();
}
