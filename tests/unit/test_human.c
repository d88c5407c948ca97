/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/human.h"

#include "unit/test.h"

TEST("sizes have the unit that leaves few digits")
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } sizes[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1.0 KiB"},
        {1536, "1.5 KiB"},
        {1048524, "1023.9 KiB"},
        {1048575, "1.0 MiB"},
        {UINT64_C(13) << 30, "13.0 GiB"},
        {UINT64_C(1) << 50, "1.0 PiB"},
        {UINT64_MAX, "16.0 EiB"},
    };
    char text[HUMAN_TEXT];

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        CHECK(strcmp(human_size(sizes[i].bytes, text), sizes[i].text) == 0);
}

TEST("lengths of time have two units")
{
    static const struct {
        uint64_t seconds;
        const char *text;
    } times[] = {
        {0, "0 s"},
        {59, "59 s"},
        {60, "1 min 0 s"},
        {3599, "59 min 59 s"},
        {11520, "3 h 12 min"},
        {86399, "23 h 59 min"},
        {180000, "2 d 2 h"},
        {UINT64_MAX, "213503982334601 d 7 h"},
    };
    char text[HUMAN_TEXT];

    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        CHECK(strcmp(human_duration(times[i].seconds, text), times[i].text) ==
              0);
}

TEST("a moment is told in UTC, wherever we are")
{
    char text[HUMAN_TEXT];

    CHECK(setenv("TZ", "Asia/Tokyo", 1) == 0);
    CHECK(strcmp(human_time(0, text), "1970-01-01 00:00:00 UTC") == 0);
    CHECK(strcmp(human_time(UINT64_C(1795317011999999999), text),
                 "2026-11-22 03:10:11 UTC") == 0);
    CHECK(strcmp(human_time(UINT64_MAX, text), "2554-07-21 23:34:33 UTC") == 0);
}
