/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_endpoint - the endpoints of a store, each host with each port: which is
 * well, which one takes the next request, and what it has done.
 *
 *  - Of two that are well the next request goes to the one with less to do:
 *    requests in flight times how long they took recently, for their size.
 *  - One that cannot be reached, or fails three times in a row, *rests*: it
 *    gets no requests but probes, after 50 ms, then after pauses that double
 *    up to 1.5 s, until one is answered.
 *  - One that is five times as slow as the best of the others is *slow*: it
 *    gets probes only, too, and requests again after three in a row were
 *    answered quickly; more of them if it had become slow again soon after
 *    the last time.  No answer for that long also counts, so that not all
 *    places are taken by requests that hang.
 *  - Unless all rest, there is one that is well: the best of slow ones is.
 *    The last one that is well becomes slow by silence alone, compared with
 *    the slow ones, one of which then takes its place.
 *
 * A probe is a request that nobody waits for and that is given up soon: the
 * caller sends a HEAD of the bucket, on a fresh connection if it rests, for
 * S3_PROBE_NS; beside these there may be one with more patience.
 *
 * now_ns is clock_monotonic_ns(), passed in.  Changes of state are logged.
 * Threads: any.  Locks: its own, a leaf.
 */
#ifndef S3_S3_ENDPOINT_H
#define S3_S3_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "s3/s3_choice.h"
#include "s3/s3_tally.h"

#define S3_PROBE_NS UINT64_C(1000000000)

struct s3_endpoints;

struct s3_endpoints_options {
    const char *const *hosts; /* names, or addresses without brackets */
    size_t hosts_count;       /* 1 or more */
    const uint16_t *ports;
    size_t ports_count; /* 1 or more */
    uint64_t seed;      /* of random choices and pauses: any random bits */
};

/* Make the set; all are well.  hosts and ports are copied. */
int s3_endpoints_new(const struct s3_endpoints_options *options,
                     struct s3_endpoints **ret_endpoints);

/* Free it, once nobody uses it; NULL does nothing. */
void s3_endpoints_free(struct s3_endpoints *endpoints);

/* Returns how many there are: hosts times ports. */
size_t s3_endpoints_count(const struct s3_endpoints *endpoints);

/*
 * Returns the host, the port, and both for messages ("host:port",
 * "[::1]:443") of one; good as long as the set.
 */
const char *s3_endpoints_host(const struct s3_endpoints *endpoints,
                              size_t index);
uint16_t s3_endpoints_port(const struct s3_endpoints *endpoints, size_t index);
const char *s3_endpoints_name(const struct s3_endpoints *endpoints,
                              size_t index);

/*
 * Choose the endpoint of a request that moves so many bytes (of bodies, both
 * ways): one that is well, but not number avoid unless all others rest.
 * is_put: a put, whose duration is compared with that of other puts.  0, and
 * the caller owes a s3_endpoints_done; -EHOSTDOWN: all rest: see
 * s3_endpoints_wait.
 */
int s3_endpoints_choose(struct s3_endpoints *endpoints, size_t avoid,
                        bool is_put, uint64_t bytes, uint64_t now_ns,
                        struct s3_turn *ret_turn);

/* End a turn, and learn from it. */
void s3_endpoints_done(struct s3_endpoints *endpoints,
                       const struct s3_turn *turn,
                       const struct s3_outcome *outcome, uint64_t now_ns);

/*
 * Returns whether requests that wait there had better be asked elsewhere: it
 * is not well, maybe since it has owed answers for too long by now, and
 * another one is.
 */
bool s3_endpoints_is_left(struct s3_endpoints *endpoints, size_t index,
                          uint64_t now_ns);

/*
 * Begin the probe that is due, if any.  Returns 0, and the caller owes a
 * s3_endpoints_done for *ret_turn; else for how long none will be due,
 * UINT64_MAX: not until something changes.  An endpoint that is being probed
 * is not due, so several threads may probe at once.
 */
uint64_t s3_endpoints_probe(struct s3_endpoints *endpoints, uint64_t now_ns,
                            struct s3_turn *ret_turn);

/*
 * Begin a patient probe of one, which goes on beside the others.  Returns
 * true, and the caller owes a s3_endpoints_done for *ret_turn; false: it does
 * not rest, or has one.
 */
bool s3_endpoints_await(struct s3_endpoints *endpoints, size_t index,
                        uint64_t now_ns, struct s3_turn *ret_turn);

/*
 * Returns a number that grows with each change of state of an endpoint.  Read
 * it before s3_endpoints_choose or s3_endpoints_probe, hand it to
 * s3_endpoints_wait if they had none.
 */
uint64_t s3_endpoints_changes(struct s3_endpoints *endpoints);

/*
 * Wait until there were more changes than those, not past deadline_ns
 * (UINT64_MAX: without end).  0, -ETIMEDOUT, or -ECANCELED after
 * s3_endpoints_interrupt.
 */
int s3_endpoints_wait(struct s3_endpoints *endpoints, uint64_t changes,
                      uint64_t deadline_ns);

/* From now on nobody waits: -ECANCELED. */
void s3_endpoints_interrupt(struct s3_endpoints *endpoints);

/*
 * Returns how they stand as JSON, malloc'ed, or NULL without memory:
 * {"endpoints": [...]}, in the order of their numbers, each an object with
 *
 *   host port
 *   state            "healthy", "resting" (it failed), or "slow"
 *   state_since_ns   when that began
 *   requests         that ended, probes included
 *   errors           of these: neither answered, nor throttled, nor given up
 *   throttled        of these: the store wanted fewer
 *   rests            how often it began to rest
 *   bytes_up bytes_down   of bodies
 *   in_flight        requests now
 *   latency_p50_ns latency_p99_ns   to the first byte, of the last minutes;
 *                    0: there was none
 *   latency_sum_ns   all of them together, since the start
 *   latency_buckets  [{"le_ns": N, "count": N}, ...] since the start: how
 *                    many took at most le_ns and more than the bucket before;
 *                    empty ones are left out; le_ns is null in the last
 *   last_error       text, "" if there was none
 *   last_error_ns    when that was; 0: never
 *
 * Moments are nanoseconds since 1970.  Text is ASCII.
 */
char *s3_endpoints_describe(struct s3_endpoints *endpoints, uint64_t now_ns);

#endif
