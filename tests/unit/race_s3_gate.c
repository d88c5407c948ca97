/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads of all urgencies go in and out of a gate, some give up, some are
 * throttled, until it is interrupted.  There are never more in than may be,
 * nobody waits for ever, and in the end nobody is in.
 */
#include "s3/s3_gate.h"

#include <pthread.h>
#include <sched.h>

#include "unit/test.h"

enum {
    PLACES = 4,
    READERS = 4,
    OTHERS = 3, /* of each other urgency */
    THREADS = READERS + 2 * OTHERS,
    ROUNDS = 400, /* of a background thread; the others go on until then */
};

static struct s3_gate *gate;
static _Atomic unsigned in, in_reads, finished, entered[S3_GATE_URGENCIES];

/* What a thread does while it is in. */
static void be_in(enum object_urgency urgency)
{
    unsigned reads = atomic_fetch_add(&in_reads, urgency == OBJECT_WAITED_FOR) +
                     (urgency == OBJECT_WAITED_FOR);
    unsigned all = atomic_fetch_add(&in, 1) + 1;

    /* The first read goes beside those who have all places. */
    CHECK(all <= PLACES + 1);
    CHECK(reads <= PLACES);
    atomic_fetch_add(&entered[urgency], 1);
    (void)sched_yield();
    atomic_fetch_sub(&in, 1);
    atomic_fetch_sub(&in_reads, urgency == OBJECT_WAITED_FOR);
}

static void *go_in_and_out(void *context)
{
    enum object_urgency urgency = *(const enum object_urgency *)context;
    struct s3_pass pass;
    unsigned rounds = 0;
    int error;

    for (;;) {
        error = s3_gate_enter(gate, urgency, rounds % 7 == 6 ? 0 : UINT64_MAX,
                              &pass);
        if (error == -ECANCELED)
            return NULL;
        rounds++;
        if (error == 0) {
            be_in(urgency);
            s3_gate_leave(gate, &pass,
                          rounds % 50 == 49 ? S3_HEALTH_THROTTLED
                                            : S3_HEALTH_ANSWERED);
        }
        if (urgency == OBJECT_BACKGROUND && rounds == ROUNDS) {
            atomic_fetch_add(&finished, 1);
            return NULL;
        }
    }
}

TEST("whoever goes in and out at once, nobody starves and none is left")
{
    static enum object_urgency urgencies[THREADS];
    pthread_t threads[THREADS];
    struct s3_gate_state state;

    NEED(s3_gate_new(PLACES, &gate) == 0);
    for (unsigned i = 0; i < THREADS; i++) {
        urgencies[i] = i < READERS            ? OBJECT_WAITED_FOR
                       : i < READERS + OTHERS ? OBJECT_AHEAD
                                              : OBJECT_BACKGROUND;
        NEED(pthread_create(&threads[i], NULL, go_in_and_out, &urgencies[i]) ==
             0);
    }
    while (atomic_load(&finished) < OTHERS) {
        s3_gate_look(gate, &state);
        CHECK(state.places >= 1 && state.places <= PLACES);
        (void)sched_yield();
    }
    s3_gate_interrupt(gate);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    s3_gate_look(gate, &state);
    for (unsigned i = 0; i < S3_GATE_URGENCIES; i++) {
        CHECK(state.in_flight[i] == 0);
        CHECK(state.waiting[i] == 0);
    }
    /* Read-ahead may go without, if reads never cease. */
    CHECK(atomic_load(&entered[OBJECT_WAITED_FOR]) > 0);
    CHECK(atomic_load(&entered[OBJECT_BACKGROUND]) > ROUNDS);
    s3_gate_free(gate);
}
