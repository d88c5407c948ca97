/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/log_recent.h"

#include "base/clock.h"
#include "unit/test.h"

static struct log_recent lines[LOG_RECENT_MAX + 1];

TEST("nothing was logged at first")
{
    CHECK(log_recent_get(lines, LOG_RECENT_MAX) == 0);
}

TEST("warnings and errors are kept, what matters less is not")
{
    struct log_recent kept[4];

    log_open("test", LOG_TARGET_STDERR, LOG_LEVEL_INFO);
    clock_set_for_tests(12345);
    log_warning("disk: %s", "slow");
    log_info("disk: started");
    log_error("disk: a line\nfeed");
    CHECK(log_recent_get(kept, 4) == 2);
    CHECK(kept[0].number == 1 && kept[0].level == LOG_LEVEL_WARNING);
    CHECK(strcmp(kept[0].text, "disk: slow") == 0);
    CHECK(kept[0].time_ns == 12345);
    CHECK(kept[1].number == 2 && kept[1].level == LOG_LEVEL_ERROR);
    CHECK(strcmp(kept[1].text, "disk: a line?feed") == 0);
    log_set_level(LOG_LEVEL_ERROR);
    log_warning("nobody wants to hear this");
    CHECK(log_recent_get(kept, 4) == 2);
}

TEST("the newest are kept, in their order, and cut to their room")
{
    char text[LOG_RECENT_TEXT + 100];

    for (unsigned i = 0; i < 2 * LOG_RECENT_MAX + 3; i++) {
        (void)snprintf(text, sizeof(text), "line %u", i);
        log_recent_add(LOG_LEVEL_WARNING, text);
    }
    CHECK(log_recent_get(lines, LOG_RECENT_MAX + 1) == LOG_RECENT_MAX);
    for (unsigned i = 0; i < LOG_RECENT_MAX; i++) {
        (void)snprintf(text, sizeof(text), "line %u", LOG_RECENT_MAX + 3 + i);
        CHECK(strcmp(lines[i].text, text) == 0);
        CHECK(i == 0 || lines[i].number == lines[i - 1].number + 1);
    }
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    log_recent_add(LOG_LEVEL_ERROR, text);
    CHECK(log_recent_get(lines, 1) == 1);
    CHECK(strlen(lines[0].text) == LOG_RECENT_TEXT - 1);
    CHECK(lines[0].level == LOG_LEVEL_ERROR);
}
