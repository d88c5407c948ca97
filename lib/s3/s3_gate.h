/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_gate - how many requests may be in flight, and who goes first.
 *
 * Each attempt enters before it has a connection, and leaves before it waits
 * to try again.  What somebody waits for goes first, then read-ahead, then
 * background work; first come, first served among equals.
 *
 *  - Background work leaves a quarter of the places free, read-ahead an
 *    eighth (at least one, of two or more), so that a read need not wait
 *    until uploads end.
 *  - One that is waited for goes at once if no other such is in flight, even
 *    if all places are taken.
 *  - Background work that waits while others go gets every eighth turn until
 *    it has an eighth of the places (at least one): it cannot starve.
 *  - The number of places is halved when the store throttles, once for all
 *    that were in flight by then, and grows by one whenever as many requests
 *    as there are places were answered while no more background work would
 *    have found one.
 *
 * Threads: any.  Locks: its own, a leaf.
 */
#ifndef S3_S3_GATE_H
#define S3_S3_GATE_H

#include <stdint.h>

#include "object_store.h"
#include "s3/s3_retry.h"

enum { S3_GATE_URGENCIES = OBJECT_BACKGROUND + 1 };

struct s3_gate;

/* What who is in has to show when leaving. */
struct s3_pass {
    enum object_urgency urgency;
    uint64_t cuts; /* that had been made when it entered */
};

/* How it stands, for status and tests. */
struct s3_gate_state {
    unsigned places; /* now */
    unsigned max;
    unsigned in_flight[S3_GATE_URGENCIES];
    unsigned waiting[S3_GATE_URGENCIES];
    uint64_t cuts; /* how often the number of places was halved */
};

/* Make a gate of at most, and at first, so many places: 1 or more. */
int s3_gate_new(unsigned max, struct s3_gate **ret_gate);

/*
 * From now on there are so many places at most, and at once unless the store
 * has throttled: 1 or more.
 */
void s3_gate_set_max(struct s3_gate *gate, unsigned max);

/* Free it, once nobody is in or waits; NULL does nothing. */
void s3_gate_free(struct s3_gate *gate);

/*
 * Wait for a place, not past deadline_ns of clock_monotonic_ns (0: do not
 * wait; UINT64_MAX: without end).  0, and the caller owes a s3_gate_leave
 * with *ret_pass; -ETIMEDOUT; -ECANCELED after s3_gate_interrupt.
 */
int s3_gate_enter(struct s3_gate *gate, enum object_urgency urgency,
                  uint64_t deadline_ns, struct s3_pass *ret_pass);

/* Give the place back, and tell how the attempt went. */
void s3_gate_leave(struct s3_gate *gate, const struct s3_pass *pass,
                   enum s3_health health);

/* From now on nobody waits or enters: -ECANCELED.  Who is in may leave. */
void s3_gate_interrupt(struct s3_gate *gate);

/* Tell how it stands. */
void s3_gate_look(struct s3_gate *gate, struct s3_gate_state *ret_state);

#endif
