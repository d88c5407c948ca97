/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_hedge - a second attempt of a get that takes longer than gets do, for
 * reads that somebody waits for.
 *
 * A few threads of its own wait until such a get is overdue: longer under way
 * than 19 of 20 were of late, for its size, and at least 50 ms.  Then one of
 * them attempts it, too, at another endpoint or at least on another
 * connection, into memory of its own.  Whichever is answered first ends the
 * other one.  At most one get in twenty is attempted twice, and none while the
 * store throttles.
 *
 * One that is overdue at an endpoint that is not well, while another one is, is
 * not attempted twice but moved: its attempt is ended, and the caller makes
 * another one.  So nobody waits where silence was noticed, however many do.
 *
 * Threads: any.  Locks: its own; those of s3_hold and s3_endpoint are taken
 * under it; nothing waits while holding it.
 */
#ifndef S3_S3_HEDGE_H
#define S3_S3_HEDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "s3/s3_hold.h"

struct s3_attempt;
struct s3_operation;
struct s3_parts;
struct s3_race;

struct s3_hedges;

/* A get under way, on the stack of who waits for it. */
struct s3_hedged {
    struct s3_hold hold; /* for its attempt */
    bool is_moved;       /* known at the end: the attempt was ended for that */

    /* internal */
    const struct s3_operation *operation;
    uint64_t due_ns; /* to be looked at */
    bool was_due;
    struct s3_race *race;
    struct s3_hedged *next, **at;
};

struct s3_hedge_counts {
    uint64_t gets, begun, won;
};

/* Start the threads; parts must be complete before the first begin. */
int s3_hedges_new(struct s3_parts *parts, struct s3_hedges **ret_hedges);

/* End the threads, once nobody uses it and the pool is interrupted; free. */
void s3_hedges_free(struct s3_hedges *hedges);

/*
 * An attempt of this get begins, with hedged->hold.  operation must stay until
 * s3_hedge_end.
 */
void s3_hedge_begin(struct s3_hedges *hedges, struct s3_hedged *hedged,
                    const struct s3_operation *operation);

/*
 * The attempt has ended, well or not; if not, and a second one is under way,
 * wait for that one, a second at most.  Returns whether the second one has won:
 * then data has what was asked for.
 */
bool s3_hedge_end(struct s3_hedges *hedges, struct s3_hedged *hedged,
                  bool is_answered, void *data);

/*
 * Returns whether it is overdue: it was looked whether there may be a second
 * attempt.  For tests.
 */
bool s3_hedge_was_due(struct s3_hedges *hedges, struct s3_hedged *hedged);

/* Learn from an attempt that was answered how long gets take. */
void s3_hedge_learn(struct s3_hedges *hedges, const struct s3_attempt *attempt);

/* The store has throttled: attempt nothing twice for a while. */
void s3_hedge_pause(struct s3_hedges *hedges);

/* Tell how many gets there were, and were attempted twice. */
void s3_hedge_look(struct s3_hedges *hedges,
                   struct s3_hedge_counts *ret_counts);

#endif
