/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/moment.h"

#include <inttypes.h>
#include <time.h>

#include "unit/test.h"

/* 2026-11-23 04:00:00 */
static const uint64_t NOW_S = 1795406400;

static bool iso_is(const char *text, uint64_t seconds, uint32_t ns)
{
    uint64_t found_s = 0;
    uint32_t found_ns = 0;

    return moment_parse_iso(text, &found_s, &found_ns) == 0 &&
           found_s == seconds && found_ns == ns;
}

static bool http_is(const char *text, uint64_t now_s, uint64_t seconds)
{
    uint64_t found_s = 0;

    return moment_parse_http(text, now_s, &found_s) == 0 && found_s == seconds;
}

TEST("dates of ISO 8601 are read, with and without a fraction")
{
    CHECK(iso_is("1970-01-01T00:00:00Z", 0, 0));
    CHECK(iso_is("2013-05-24T00:00:00Z", 1369353600, 0));
    CHECK(iso_is("2026-11-22T03:10:11.999Z", 1795317011, 999000000));
    CHECK(iso_is("2026-11-22T03:10:11.1234567899Z", 1795317011, 123456789));
    CHECK(iso_is("2026-11-22T03:10:11.000000001Z", 1795317011, 1));
    CHECK(iso_is("20261122T031011Z", 1795317011, 0));
    CHECK(iso_is("2024-02-29T23:59:60Z", 1709251200, 0));
    CHECK(iso_is("9999-12-31T23:59:59Z", 253402300799, 0));
}

TEST("an offset from UTC is taken off")
{
    CHECK(iso_is("2026-11-22T03:10:11+00:00", 1795317011, 0));
    CHECK(iso_is("2026-11-22T05:40:11.5+02:30", 1795317011, 500000000));
    CHECK(iso_is("2026-11-21T22:10:11-05:00", 1795317011, 0));
    CHECK(iso_is("1970-01-01T01:00:00+01:00", 0, 0));
}

TEST("the fraction need not be wanted")
{
    uint64_t seconds = 0;

    CHECK(moment_parse_iso("1970-01-01T00:00:07.5Z", &seconds, NULL) == 0);
    CHECK(seconds == 7);
}

TEST("what is no date of ISO 8601 is refused, and nothing is written")
{
    static const char *const texts[] = {
        "",
        "Z",
        "2026-11-22",
        "2026-11-22T03:10:11",
        "2026-11-22 03:10:11Z",
        "2026-11-22T03:10:11z",
        "2026-11-22T03:10:11Z ",
        " 2026-11-22T03:10:11Z",
        "2026-11-22T03:10:11.Z",
        "2026-11-22T03:10Z",
        "2026-1122T03:10:11Z",
        "202611-22T03:10:11Z",
        "20261122T03:10:11Z",
        "2026-11-22T031011Z",
        "26-11-22T03:10:11Z",
        "+2026-11-22T03:10:11Z",
        "2026-11-22T03:10:11+0100",
        "2026-11-22T03:10:11+24:00",
        "2026-11-22T03:10:11+01:60",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:59:59+01:00",
        "2026-00-22T03:10:11Z",
        "2026-13-22T03:10:11Z",
        "2026-11-00T03:10:11Z",
        "2026-11-31T03:10:11Z",
        "2026-02-29T03:10:11Z",
        "2100-02-29T03:10:11Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T03:60:11Z",
        "2026-11-22T03:10:61Z",
        "2026-11-22T03:10:-1Z",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        uint64_t seconds = 42;
        uint32_t ns = 43;

        if (!CHECK(moment_parse_iso(texts[i], &seconds, &ns) == -EINVAL &&
                   seconds == 42 && ns == 43))
            printf("# %s\n", texts[i]);
    }
}

TEST("the three forms of a date in HTTP are the same moment")
{
    CHECK(http_is("Sun, 06 Nov 1994 08:49:37 GMT", NOW_S, 784111777));
    CHECK(http_is("Sunday, 06-Nov-94 08:49:37 GMT", NOW_S, 784111777));
    CHECK(http_is("Sun Nov  6 08:49:37 1994", NOW_S, 784111777));
    CHECK(http_is("Wed Nov 16 08:49:37 1994", NOW_S, 784975777));
}

TEST("a year of two digits is at most fifty years ahead")
{
    CHECK(http_is("Friday, 22-May-76 00:00:00 GMT", NOW_S, 3357331200));
    CHECK(http_is("Sunday, 22-May-77 00:00:00 GMT", NOW_S, 233107200));
    CHECK(http_is("Monday, 23-Nov-26 04:00:00 GMT", NOW_S, NOW_S));
    CHECK(http_is("Monday, 01-Jan-00 00:00:00 GMT", NOW_S, 946684800));
    /* Those of 2080 read of 2100, which 1970 would not. */
    CHECK(http_is("Friday, 01-Jan-00 00:00:00 GMT", 3471292800, 4102444800));
}

TEST("what is no date of HTTP is refused")
{
    static const char *const texts[] = {
        "",
        "0",
        "Sun",
        "Sun, ",
        "Son, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun,06 Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1964 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 1994 GMT",
        "Sun Nov 06 08:49 1994",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        uint64_t seconds = 42;

        if (!CHECK(moment_parse_http(texts[i], NOW_S, &seconds) == -EINVAL &&
                   seconds == 42))
            printf("# %s\n", texts[i]);
    }
}

TEST("the basic form is as the time's signature wants it")
{
    char text[MOMENT_BASIC_TEXT];

    CHECK(strcmp(moment_format_basic(0, text), "19700101T000000Z") == 0);
    CHECK(strcmp(moment_format_basic(1369353600, text), "20130524T000000Z") ==
          0);
    CHECK(strcmp(moment_format_basic(951782399, text), "20000228T235959Z") ==
          0);
    CHECK(strcmp(moment_format_basic(951868799, text), "20000229T235959Z") ==
          0);
    CHECK(strcmp(moment_format_basic(UINT64_MAX, text), "99991231T235959Z") ==
          0);
}

TEST("every day of four centuries is written, and read, as libc does")
{
    bool all_agree = true;

    for (uint64_t day = 0; day < 147000; day++) {
        time_t libc_s = (time_t)(day * 86400 + day * 7919 % 86400);
        struct tm parts;
        char text[MOMENT_BASIC_TEXT], libc_text[32], http[64];
        uint64_t seconds = 0;

        NEED(gmtime_r(&libc_s, &parts) != NULL);
        NEED(strftime(libc_text, sizeof(libc_text), "%Y%m%dT%H%M%SZ", &parts) >
             0);
        NEED(strftime(http, sizeof(http), "%a, %d %b %Y %H:%M:%S GMT", &parts) >
             0);
        if (strcmp(moment_format_basic((uint64_t)libc_s, text), libc_text) !=
                0 ||
            !iso_is(libc_text, (uint64_t)libc_s, 0) ||
            moment_parse_http(http, NOW_S, &seconds) != 0 ||
            seconds != (uint64_t)libc_s) {
            printf("# %s\n", libc_text);
            all_agree = false;
        }
    }
    CHECK(all_agree);
}
