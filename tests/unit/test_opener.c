/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/opener.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/mutex.h"
#include "unit/test.h"

enum { THINGS = 3 };

/* What is opened: after so many tries, with that result. */
struct thing {
    unsigned not_yet;
    int result;
    struct room *room;
    _Atomic unsigned tries;
    _Atomic bool wrong; /* the number of tries it was told is not ours */
};

/* Where those that are being opened wait for each other. */
struct room {
    struct mutex lock;
    struct condition changed;
    size_t inside, needed;
};

static void room_init(struct room *room, size_t needed)
{
    *room = (struct room){.needed = needed};
    mutex_init(&room->lock);
    condition_init(&room->changed);
}

static void room_done(struct room *room)
{
    condition_done(&room->changed);
    mutex_done(&room->lock);
}

/* Return when so many are inside. */
static void enter(struct room *room)
{
    mutex_lock(&room->lock);
    room->inside++;
    condition_broadcast(&room->changed);
    while (room->inside < room->needed)
        condition_wait(&room->changed, &room->lock);
    mutex_unlock(&room->lock);
}

static int open_thing(void *item, unsigned tries)
{
    struct thing *thing = item;

    if (atomic_fetch_add(&thing->tries, 1) != tries)
        atomic_store(&thing->wrong, true);
    if (thing->room)
        enter(thing->room);
    return tries < thing->not_yet ? -EHOSTDOWN : thing->result;
}

static uint64_t no_pause(unsigned tries)
{
    (void)tries;
    return 0;
}

static uint64_t endless_pause(unsigned tries)
{
    (void)tries;
    return UINT64_MAX / 2;
}

static int start(struct thing things[], size_t count,
                 uint64_t (*pause_ns)(unsigned tries),
                 struct opener **ret_opener)
{
    void *items[THINGS];
    const struct opener_options options = {
        .open = open_thing,
        .items = items,
        .items_count = count,
        .pause_ns = pause_ns,
    };

    for (size_t i = 0; i < count; i++)
        items[i] = &things[i];
    return opener_start(&options, ret_opener);
}

TEST("all are opened side by side, and each is tried once before the start "
     "returns")
{
    struct room room;
    struct thing things[THINGS] = {{.room = &room},
                                   {.room = &room, .result = -ENXIO},
                                   {.room = &room, .not_yet = 1}};
    struct opener *opener;

    /* One after the other would wait for ever. */
    room_init(&room, THINGS);
    NEED(start(things, THINGS, endless_pause, &opener) == 0);
    for (size_t i = 0; i < THINGS; i++)
        CHECK(atomic_load(&things[i].tries) == 1);
    opener_stop(opener);
    room_done(&room);
}

TEST("what cannot be opened yet is tried until it can, or until it is known "
     "that it never will be")
{
    struct thing things[2] = {{.not_yet = 5}, {.not_yet = 7, .result = -EIO}};
    struct opener *opener;

    NEED(start(things, 2, no_pause, &opener) == 0);
    while (atomic_load(&things[0].tries) < 6 ||
           atomic_load(&things[1].tries) < 8)
        (void)sched_yield();
    opener_stop(opener);
    CHECK(atomic_load(&things[0].tries) == 6);
    CHECK(atomic_load(&things[1].tries) == 8);
    CHECK(!atomic_load(&things[0].wrong) && !atomic_load(&things[1].wrong));
}

TEST("a stop ends a pause, and there is no further try")
{
    struct thing things[2] = {{.not_yet = 5}, {.not_yet = 5}};
    struct opener *opener;

    NEED(start(things, 2, endless_pause, &opener) == 0);
    opener_interrupt(opener);
    opener_stop(opener);
    CHECK(atomic_load(&things[0].tries) == 1);
    CHECK(atomic_load(&things[1].tries) == 1);
    opener_interrupt(NULL);
    opener_stop(NULL);
}

TEST("one that comes later is opened, too, and nobody waits for it")
{
    struct room room;
    struct thing things[2] = {{.not_yet = 0}, {.room = &room, .not_yet = 2}};
    struct opener *opener;

    room_init(&room, 2);
    NEED(start(things, 1, no_pause, &opener) == 0);
    CHECK(opener_add(opener, &things[1]) == 0);
    CHECK(atomic_load(&things[0].tries) == 1);
    enter(&room); /* its first try, which waits for us */
    while (atomic_load(&things[1].tries) < 3)
        (void)sched_yield();
    opener_stop(opener);
    CHECK(atomic_load(&things[1].tries) == 3);
    CHECK(!atomic_load(&things[1].wrong));
    room_done(&room);
}

/* The second try, which takes a while, is met by the test. */
static int open_slowly(void *item, unsigned tries)
{
    struct thing *thing = item;

    if (tries > 0) {
        enter(thing->room);
        for (int i = 0; i < 1000; i++)
            (void)sched_yield();
    }
    atomic_fetch_add(&thing->tries, 1);
    return -EHOSTDOWN;
}

TEST("a stop waits for the try that runs, which is the last")
{
    struct room room;
    struct thing thing = {.room = &room};
    void *item = &thing;
    const struct opener_options options = {.open = open_slowly,
                                           .items = &item,
                                           .items_count = 1,
                                           .pause_ns = no_pause};
    struct opener *opener;

    room_init(&room, 2);
    NEED(opener_start(&options, &opener) == 0);
    enter(&room);
    opener_interrupt(opener);
    opener_stop(opener);
    CHECK(atomic_load(&thing.tries) == 2);
    room_done(&room);
}

TEST("pauses are a second at first, then doubled, and never more than 30 s")
{
    static const uint64_t seconds[] = {1, 2, 4, 8, 16, 30, 30};

    for (unsigned i = 0; i < 7; i++)
        CHECK(opener_pause_ns(i + 1) == seconds[i] * 1000000000U);
    CHECK(opener_pause_ns(UINT32_MAX) == UINT64_C(30000000000));
}
