/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_choice - which endpoint takes the next request (pure).
 *
 * The better one of two: of that whose turn it is, and any other.  Better is
 * to have less to do, requests in flight times how long they take; where they
 * take about as long, fewer in flight.  Two, because what is known of them is
 * always a little old: all would run to the best one.
 *
 * Threads: none of its own; the caller's lock guards what it works on.
 */
#ifndef S3_S3_CHOICE_H
#define S3_S3_CHOICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "s3/s3_breaker.h"

/* There is none to be avoided, or none to be chosen. */
#define S3_ENDPOINT_NONE SIZE_MAX

struct s3_choice {
    bool is_put;
    size_t avoid;    /* only if all others rest, or S3_ENDPOINT_NONE */
    uint64_t random; /* any 64 random bits */
    uint64_t now_ns;
};

/*
 * Returns the number of the endpoint to be asked: one that is well, if there
 * is one, else a slow one; S3_ENDPOINT_NONE: all rest.  *last is whose turn
 * was last, 0 in the beginning.
 */
size_t s3_choice_make(struct s3_breaker breakers[], size_t count, size_t *last,
                      const struct s3_choice *choice);

/* Returns what the best in this state does, but for number except. */
struct s3_breaker_others s3_choice_others(const struct s3_breaker breakers[],
                                          size_t count,
                                          enum s3_endpoint_state state,
                                          size_t except, uint64_t now_ns);

/* Returns the slow one that is the least so, or S3_ENDPOINT_NONE. */
size_t s3_choice_best_slow(const struct s3_breaker breakers[], size_t count);

#endif
