/* SPDX-License-Identifier: BSD-2-Clause */
/* links: fault_file */
#include "cache/journal_slots.h"

#include "base/file.h"
#include "base/log.h"
#include "cache/journal_segment.h"
#include "support/fault_file.h"
#include "unit/test.h"

enum { SEGMENT = 32 << 10, SEGMENTS = 6 };

struct told {
    atomic_uint spaces;
    atomic_int failure;
};

static struct told told;
static struct journal_options options;
static struct journal_slots *slots;

static void tell_space(void *context)
{
    struct told *to = context;

    atomic_fetch_add(&to->spaces, 1);
}

static void tell_failure(void *context, int error)
{
    struct told *to = context;

    atomic_store(&to->failure, error);
}

static int open_slots(bool create)
{
    struct journal_slots_events events = {tell_space, tell_failure, &told};
    struct journal_log_end end;

    options.create = create;
    return journal_slots_open(&options, &events, &slots, &end);
}

static void begin(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    fault_skip_syncs(true);
    memset(&told, 0, sizeof(told));
    options = (struct journal_options){
        .device_name = "test",
        .dirfd = open(test_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .segment_size = SEGMENT,
        .segments_max = SEGMENTS,
    };
    slots = NULL;
    CHECK(open_slots(true) == 0);
}

static void end(void)
{
    journal_slots_close(slots);
    (void)close(options.dirfd);
    fault_reset();
}

/* Take a segment, waiting for it if it will come, and use it. */
static struct journal_slot *use_next(void)
{
    struct journal_slot *slot;

    (void)journal_slots_wait(slots);
    slot = journal_slots_take(slots);
    if (slot)
        journal_slots_use(slots, slot);
    return slot;
}

static struct journal_slots_fill fill(void)
{
    struct journal_slots_fill now;

    journal_slots_get_fill(slots, &now);
    return now;
}

TEST("segments come with ascending numbers, each with a header of its own")
{
    begin();
    CHECK(journal_slots_start(slots) == 0);
    for (uint64_t number = 1; number <= SEGMENTS; number++) {
        struct journal_slot *slot = use_next();
        struct journal_segment_header header;

        NEED(slot);
        CHECK(journal_slot_number(slot) == number);
        CHECK(journal_segment_read_header(journal_slot_fd(slot), &header) == 0);
        CHECK(header.number == number && header.previous == number - 1);
        CHECK(header.salt == journal_slot_salt(slot));
        CHECK(header.begin == 1 && header.previous_end == 0);
        CHECK(journal_slots_find(slots, number) == slot);
    }
    CHECK(fill().in_use == SEGMENTS && fill().newest == SEGMENTS);
    CHECK(use_next() == NULL);
    CHECK(!journal_slots_wait(slots));
    end();
}

TEST("only what is synced is retired, in order, and then used again")
{
    struct journal_slot *used[SEGMENTS];
    struct journal_slot *again;

    begin();
    CHECK(journal_slots_start(slots) == 0);
    for (size_t i = 0; i < SEGMENTS; i++)
        used[i] = use_next();
    CHECK(journal_slots_take(slots) == NULL);
    journal_slots_retire(slots, 4);
    CHECK(fill().in_use == SEGMENTS); /* nothing was synced */
    CHECK(journal_slots_sync(slots, used[1]) == 0);
    CHECK(fill().oldest == 2); /* the second may have more to sync */
    CHECK(journal_slots_sync(slots, used[SEGMENTS - 1]) == 0);
    CHECK(fill().oldest == 4);
    while (atomic_load(&told.spaces) == 0)
        (void)usleep(100);
    again = use_next();
    CHECK(again == used[0]);
    CHECK(journal_slot_number(again) == SEGMENTS + 1);
    CHECK(!journal_slot_is(again, 1));
    CHECK(journal_slots_find(slots, 1) == NULL);
    CHECK(journal_slots_find(slots, 4) == used[3]);
    journal_slots_retire(slots, UINT64_MAX);
    CHECK(fill().in_use >= 1); /* never the newest */
    end();
}

TEST("a sync of one segment in use is one call, and its error is told")
{
    struct fault_calls syncs = {FAULT_SYNC_DATA, "segment", ULONG_MAX};
    struct journal_slot *slot;

    begin(); /* without the thread, which syncs headers */
    slot = use_next();
    NEED(slot);
    fault_fail(&syncs, -EIO, false, 0);
    CHECK(journal_slots_sync(slots, slot) == 0);
    CHECK(journal_slots_sync(slots, slot) == 0); /* it may have grown */
    CHECK(fault_count() == 2);
    syncs.nth = 1;
    fault_fail(&syncs, -EIO, false, 0);
    CHECK(journal_slots_sync(slots, slot) == -EIO);
    end();
}

TEST("a header that cannot be written is told, and nothing comes after it")
{
    struct fault_calls writes = {FAULT_WRITE, "segment", 1};

    begin();
    CHECK(use_next() != NULL); /* prepared by the start itself */
    fault_fail(&writes, -EIO, true, 512);
    CHECK(journal_slots_start(slots) == 0);
    while (atomic_load(&told.failure) == 0)
        (void)usleep(100);
    CHECK(atomic_load(&told.failure) == -EIO);
    CHECK(!journal_slots_wait(slots));
    CHECK(journal_slots_take(slots) == NULL);
    end();
}

TEST("a segment is found while it is in use, and by nobody else's number")
{
    struct journal_slot *slot;

    begin();
    slot = use_next();
    NEED(slot);
    CHECK(journal_slots_find(slots, 1) == slot);
    CHECK(journal_slot_is(slot, 1));
    /* The same place in the table of hints. */
    CHECK(journal_slots_find(slots, 1 + 1024) == NULL);
    CHECK(journal_slots_find(slots, UINT64_MAX) == NULL);
    CHECK(journal_slots_find(slots, 0) == NULL);
    CHECK(journal_slots_segment_size(slots) == SEGMENT);
    end();
}
