/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_gate.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/mutex.h"

enum {
    BACKGROUND_SHARE = 8, /* of the places, and of the turns while others go */
    BACKGROUND_FREE = 4,  /* the share that background work leaves free */
    AHEAD_FREE = 8,       /* and that read-ahead does */
};

/* Who waits, on its own stack. */
struct waiter {
    struct condition granted;
    struct waiter *next;
    bool is_granted;
};

struct s3_gate {
    struct mutex mutex;
    struct s3_gate_state state;
    struct {
        struct waiter *first, **end;
    } queues[S3_GATE_URGENCIES];
    unsigned answered;    /* since the number of places changed */
    unsigned passed_over; /* turns of others while background work waits */
    bool is_interrupted;
};

int s3_gate_new(unsigned max, struct s3_gate **ret_gate)
{
    struct s3_gate *gate = calloc(1, sizeof(*gate));

    assert(max > 0);
    if (!gate)
        return -ENOMEM;
    mutex_init(&gate->mutex);
    gate->state.places = gate->state.max = max;
    for (size_t i = 0; i < S3_GATE_URGENCIES; i++)
        gate->queues[i].end = &gate->queues[i].first;
    *ret_gate = gate;
    return 0;
}

void s3_gate_free(struct s3_gate *gate)
{
    if (!gate)
        return;
    mutex_done(&gate->mutex);
    free(gate);
}

static unsigned in_flight(const struct s3_gate_state *state)
{
    unsigned sum = 0;

    for (size_t i = 0; i < S3_GATE_URGENCIES; i++)
        sum += state->in_flight[i];
    return sum;
}

/* That share of the places, at least one; the only place is not shared. */
static unsigned share_of(unsigned places, unsigned share)
{
    if (places < 2)
        return 0;
    return places < share ? 1 : places / share;
}

/* Whether a request of this urgency may go beside those in flight. */
static bool has_place(const struct s3_gate_state *state,
                      enum object_urgency urgency)
{
    unsigned places = state->places, taken = in_flight(state);

    switch (urgency) {
    case OBJECT_WAITED_FOR:
        return taken < places || state->in_flight[OBJECT_WAITED_FOR] == 0;
    case OBJECT_AHEAD:
        return taken < places - share_of(places, AHEAD_FREE);
    case OBJECT_BACKGROUND:
        return taken < places - share_of(places, BACKGROUND_FREE);
    }
    return false;
}

/* Whether background work was passed over so often that it goes before all. */
static bool is_turn_of_background(const struct s3_gate *gate)
{
    const struct s3_gate_state *state = &gate->state;
    unsigned share = share_of(state->places, BACKGROUND_SHARE);

    return gate->passed_over >= BACKGROUND_SHARE - 1 &&
           state->in_flight[OBJECT_BACKGROUND] < (share > 0 ? share : 1) &&
           in_flight(state) < state->places;
}

/* Tell who waits and may go now; false: nobody. */
static bool find_next(const struct s3_gate *gate, enum object_urgency *ret_next)
{
    const struct s3_gate_state *state = &gate->state;

    if (state->waiting[OBJECT_BACKGROUND] > 0 && is_turn_of_background(gate)) {
        *ret_next = OBJECT_BACKGROUND;
        return true;
    }
    for (unsigned i = 0; i < S3_GATE_URGENCIES; i++) {
        if (state->waiting[i] > 0 && has_place(state, i)) {
            *ret_next = i;
            return true;
        }
    }
    return false;
}

static void dequeue_locked(struct s3_gate *gate, enum object_urgency urgency,
                           const struct waiter *waiter) REQUIRES(gate->mutex)
{
    struct waiter **link = &gate->queues[urgency].first;

    while (*link != waiter)
        link = &(*link)->next;
    *link = waiter->next;
    if (!*link)
        gate->queues[urgency].end = link;
    gate->state.waiting[urgency]--;
}

/* Let go whoever may, in order. */
static void grant_locked(struct s3_gate *gate) REQUIRES(gate->mutex)
{
    enum object_urgency next;

    while (find_next(gate, &next)) {
        struct waiter *waiter = gate->queues[next].first;

        dequeue_locked(gate, next, waiter);
        gate->state.in_flight[next]++;
        if (next == OBJECT_BACKGROUND ||
            gate->state.waiting[OBJECT_BACKGROUND] == 0)
            gate->passed_over = 0;
        else
            gate->passed_over++;
        waiter->is_granted = true;
        condition_signal(&waiter->granted);
    }
}

/* Wait for a grant; false: the deadline is over, or all are interrupted. */
static bool wait_locked(struct s3_gate *gate, struct waiter *waiter,
                        uint64_t deadline_ns) REQUIRES(gate->mutex)
{
    bool is_in_time = deadline_ns > 0;

    while (!waiter->is_granted && !gate->is_interrupted && is_in_time) {
        if (deadline_ns == UINT64_MAX)
            condition_wait(&waiter->granted, &gate->mutex);
        else
            is_in_time = condition_wait_until(&waiter->granted, &gate->mutex,
                                              deadline_ns);
    }
    return waiter->is_granted;
}

static int enter_locked(struct s3_gate *gate, enum object_urgency urgency,
                        uint64_t deadline_ns, struct s3_pass *ret_pass)
    REQUIRES(gate->mutex)
{
    struct waiter waiter = {.next = NULL};
    bool is_granted;

    if (gate->is_interrupted)
        return -ECANCELED;
    condition_init(&waiter.granted);
    *gate->queues[urgency].end = &waiter;
    gate->queues[urgency].end = &waiter.next;
    gate->state.waiting[urgency]++;
    grant_locked(gate);
    is_granted = wait_locked(gate, &waiter, deadline_ns);
    if (is_granted)
        *ret_pass = (struct s3_pass){urgency, gate->state.cuts};
    else
        dequeue_locked(gate, urgency, &waiter);
    condition_done(&waiter.granted);
    if (is_granted)
        return 0;
    return gate->is_interrupted ? -ECANCELED : -ETIMEDOUT;
}

int s3_gate_enter(struct s3_gate *gate, enum object_urgency urgency,
                  uint64_t deadline_ns, struct s3_pass *ret_pass)
{
    int error;

    mutex_lock(&gate->mutex);
    error = enter_locked(gate, urgency, deadline_ns, ret_pass);
    mutex_unlock(&gate->mutex);
    return error;
}

/*
 * Change the number of places: additive increase, multiplicative decrease.
 * What was in flight when it was halved tells nothing of the new number.
 */
static void adapt_locked(struct s3_gate *gate, enum s3_health health)
    REQUIRES(gate->mutex)
{
    struct s3_gate_state *state = &gate->state;
    unsigned busy = state->places - share_of(state->places, BACKGROUND_FREE);

    if (health == S3_HEALTH_THROTTLED) {
        state->places = state->places > 1 ? state->places / 2 : 1;
        state->cuts++;
        gate->answered = 0;
    } else if (health == S3_HEALTH_ANSWERED && state->places < state->max &&
               in_flight(state) >= busy) {
        gate->answered++;
        if (gate->answered >= state->places) {
            state->places++;
            gate->answered = 0;
        }
    }
}

void s3_gate_leave(struct s3_gate *gate, const struct s3_pass *pass,
                   enum s3_health health)
{
    mutex_lock(&gate->mutex);
    assert(gate->state.in_flight[pass->urgency] > 0);
    if (pass->cuts == gate->state.cuts)
        adapt_locked(gate, health);
    gate->state.in_flight[pass->urgency]--;
    grant_locked(gate);
    mutex_unlock(&gate->mutex);
}

void s3_gate_set_max(struct s3_gate *gate, unsigned max)
{
    struct s3_gate_state *state = &gate->state;

    assert(max > 0);
    mutex_lock(&gate->mutex);
    if (state->places == state->max || state->places > max)
        state->places = max;
    state->max = max;
    grant_locked(gate);
    mutex_unlock(&gate->mutex);
}

void s3_gate_interrupt(struct s3_gate *gate)
{
    mutex_lock(&gate->mutex);
    gate->is_interrupted = true;
    for (size_t i = 0; i < S3_GATE_URGENCIES; i++) {
        for (struct waiter *w = gate->queues[i].first; w; w = w->next)
            condition_signal(&w->granted);
    }
    mutex_unlock(&gate->mutex);
}

void s3_gate_look(struct s3_gate *gate, struct s3_gate_state *ret_state)
{
    mutex_lock(&gate->mutex);
    *ret_state = gate->state;
    mutex_unlock(&gate->mutex);
}
