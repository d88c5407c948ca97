/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_bell.h"

#include <pthread.h>

#include "base/clock.h"
#include "unit/test.h"

/* What another thread does while the test waits. */
struct other {
    struct s3_bell *bell;
    void (*act)(struct s3_bell *bell);
    pthread_t thread;
};

static void *run_other(void *argument)
{
    struct other *other = argument;

    other->act(other->bell);
    return NULL;
}

static bool start(struct other *other)
{
    return pthread_create(&other->thread, NULL, run_other, other) == 0;
}

TEST("a wait ends at its time, and says that nothing was interrupted")
{
    struct s3_bell bell;

    s3_bell_init(&bell);
    CHECK(s3_bell_wait(&bell, 1) == 0);
    CHECK(s3_bell_wait(&bell, clock_monotonic_ns() + 1000) == 0);
    CHECK(!s3_bell_is_interrupted(&bell));
    s3_bell_done(&bell);
}

TEST("an interrupt ends a wait without end, and all that come later")
{
    struct s3_bell bell;
    struct other other = {.bell = &bell, .act = s3_bell_interrupt};

    s3_bell_init(&bell);
    NEED(start(&other));
    CHECK(s3_bell_wait(&bell, UINT64_MAX) == -ECANCELED);
    CHECK(pthread_join(other.thread, NULL) == 0);
    CHECK(s3_bell_is_interrupted(&bell));
    CHECK(s3_bell_wait(&bell, UINT64_MAX) == -ECANCELED);
    CHECK(s3_bell_wait_for_ring(&bell, 0, UINT64_MAX) == -ECANCELED);
    s3_bell_done(&bell);
}

TEST("a ring ends a wait for it, also one that came before the wait")
{
    struct s3_bell bell;
    struct other other = {.bell = &bell, .act = s3_bell_ring};
    uint64_t rings;

    s3_bell_init(&bell);
    rings = s3_bell_rings(&bell);
    NEED(start(&other));
    CHECK(s3_bell_wait_for_ring(&bell, rings, UINT64_MAX) == 0);
    CHECK(pthread_join(other.thread, NULL) == 0);
    CHECK(s3_bell_rings(&bell) == rings + 1);
    CHECK(s3_bell_wait_for_ring(&bell, rings, UINT64_MAX) == 0);
    s3_bell_done(&bell);
}
