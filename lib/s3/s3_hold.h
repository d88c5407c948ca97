/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_hold - what an attempt has in its hands, so that another thread can end
 * it: for a get that is raced by a second one.
 *
 * The connection is noted only while the attempt has it borrowed: who ends the
 * hold can shut it down, but never one that was given back.
 *
 * Threads: one attempts, any others end it.  Locks: its own, a leaf.
 */
#ifndef S3_S3_HOLD_H
#define S3_S3_HOLD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/mutex.h"

struct s3_connection;

struct s3_hold {
    struct mutex mutex;
    bool is_ended GUARDED_BY(mutex);
    size_t endpoint GUARDED_BY(mutex); /* SIZE_MAX: not chosen yet */
    struct s3_connection *connection GUARDED_BY(mutex);
};

/* Make it ready, with nothing held; and release it when nobody uses it. */
void s3_hold_init(struct s3_hold *hold);
void s3_hold_done(struct s3_hold *hold);

/*
 * By who attempts: note the endpoint that was chosen; note the connection that
 * was borrowed, before it is used; forget it, before it is given back.  The
 * results say whether to go on: not so when the hold was ended.
 */
bool s3_hold_choose(struct s3_hold *hold, size_t endpoint);
bool s3_hold_take(struct s3_hold *hold, struct s3_connection *connection);
bool s3_hold_release(struct s3_hold *hold);

/* Returns the endpoint that was chosen, or SIZE_MAX. */
size_t s3_hold_endpoint(struct s3_hold *hold);

/* End the attempt: what it waits for on its connection, or begins later. */
void s3_hold_end(struct s3_hold *hold);

#endif
