/* SPDX-License-Identifier: BSD-2-Clause */
/* links: said */
#include "cache/claim_refusal.h"

#include "base/clock.h"
#include "support/said.h"
#include "unit/test.h"

static const uint64_t SECOND = 1000000000;
static const uint64_t NOW = 1000000 * UINT64_C(1000000000);

/* Returns what is said of an action, by a record of so long ago. */
static const char *said_of(enum claim_action action, const char *host,
                           uint64_t age_s)
{
    struct epoch_record record = {.epoch = 17, .time_ns = NOW - age_s * SECOND};

    (void)snprintf(record.host, sizeof(record.host), "%s", host);
    said_begin();
    clock_set_for_tests(NOW);
    claim_refusal_log("disk", action, &record);
    clock_set_for_tests(0);
    return said_end();
}

static bool says(enum claim_action action, const char *part)
{
    return strstr(said_of(action, "alpha", 3 * 60 * 60), part) != NULL;
}

TEST("a refusal names device, host, age and epoch, and what can be done")
{
    static const struct {
        enum claim_action action;
        const char *advice;
    } lines[] = {
        {CLAIM_REFUSE_HELD, "s3blkdev-sync takeover disk"},
        {CLAIM_REFUSE_COPY, "s3blkdev-sync takeover disk"},
        {CLAIM_REFUSE_CONFLICT, "s3blkdev-sync takeover disk"},
        {CLAIM_REFUSE_DIRTY, "s3blkdev-sync discard disk"},
        {CLAIM_REFUSE_DIRTY, "s3blkdev-sync fork"},
        {CLAIM_REFUSE_DROPPED, "s3blkdev-sync fork disk"},
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        CHECK(says(lines[i].action, lines[i].advice));
        CHECK(says(lines[i].action, "error: disk: "));
        CHECK(says(lines[i].action, "host alpha, 3 hours ago, epoch 17."));
    }
    CHECK(says(CLAIM_REFUSE_HELD, "mounted?"));
}

TEST("without an answer it is said what is done meanwhile")
{
    /* Who opens the device, and may do so again and again, says that. */
    CHECK(strcmp(said_of(CLAIM_WAIT, "alpha", 1), "") == 0);
    CHECK(says(CLAIM_SERVE, "warning: disk: "));
    CHECK(says(CLAIM_SERVE, "nothing is uploaded"));
    CHECK(says(CLAIM_SERVE_LOST, "wrong bucket"));
}

TEST("of what goes well nothing is said")
{
    static const enum claim_action actions[] = {
        CLAIM_CREATE, CLAIM_GO_ON, CLAIM_LOAD, CLAIM_TAKE, CLAIM_TAKE_OWN,
    };

    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
        CHECK(strcmp(said_of(actions[i], "alpha", 1), "") == 0);
}

TEST("an age is told in the unit that suits it, and a host without a name is "
     "no gap")
{
    CHECK(strstr(said_of(CLAIM_REFUSE_HELD, "", 119), "119 seconds"));
    CHECK(strstr(said_of(CLAIM_REFUSE_HELD, "", 120), " 2 minutes"));
    CHECK(strstr(said_of(CLAIM_REFUSE_HELD, "", 7200), " 2 hours"));
    CHECK(strstr(said_of(CLAIM_REFUSE_HELD, "", 172800), " 2 days"));
    CHECK(strstr(said_of(CLAIM_REFUSE_HELD, "", 1), "host (unknown), 1 "));
    /* A clock that is behind that of the other host. */
    CHECK(strstr(said_of(CLAIM_REFUSE_HELD, "a", (uint64_t)-5), " 0 seconds"));
}
