/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_breaker - whether one endpoint is well: when it rests, is too slow, is
 * probed, and is used again (pure).
 *
 * s3_endpoint.h tells the rules; s3_endpoint.c has one for each endpoint.
 *
 *   healthy -- cannot be reached, or three failures in a row --> resting
 *   healthy -- five times as slow as the best of the others --> slow
 *   resting -- a probe is answered, quickly --> healthy; slowly --> slow
 *   slow -- probes in a row are answered quickly --> healthy
 *   slow -- no other is well, and of the slow ones it is the best --> healthy
 *   slow -- as healthy --> resting
 *
 * What began before the present state did says nothing of it.  But what a slow
 * one costs is remembered: as much as made it slow, then as its last probe.
 *
 * Threads: none of its own; the caller's lock guards it.
 */
#ifndef S3_S3_BREAKER_H
#define S3_S3_BREAKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "s3/s3_retry.h"

enum s3_endpoint_state { S3_HEALTHY, S3_RESTING, S3_SLOW };

/* A request that is at an endpoint. */
struct s3_turn {
    size_t index;        /* of the endpoint */
    uint64_t started_ns; /* the rest is for s3_endpoint.c and s3_breaker.c */
    uint64_t weight;
    unsigned term; /* of the endpoint's state, in which it began */
    bool is_put;
    bool is_probe;
    bool is_patient; /* a probe beside the one that is due now and then */
};

/* What is compared: gets, heads and lists; puts. */
enum { S3_BREAKER_KINDS = 2 };

struct s3_breaker {
    enum s3_endpoint_state state;
    uint64_t since_ns;
    unsigned term;     /* how often the state changed */
    unsigned failures; /* in a row */
    unsigned pauses;   /* how often the pause between probes was doubled */
    unsigned quick;    /* slow: probes in a row that were answered quickly */
    unsigned relapses; /* how often it was slow again soon afterwards */
    uint64_t probe_ns; /* unless healthy: when the next probe is due */
    bool is_probed;    /* now */
    bool is_awaited;   /* by a patient probe */

    /* Of requests that began in this state. */
    unsigned in_flight;
    uint64_t weights;
    uint64_t heard_ns; /* when it last answered, or had nothing to answer */
    uint64_t costs_ns[S3_BREAKER_KINDS]; /* see s3_breaker_cost_ns */
    unsigned samples[S3_BREAKER_KINDS];  /* that these are of */
};

/* What the best of other endpoints does. */
struct s3_breaker_others {
    uint64_t costs_ns[S3_BREAKER_KINDS]; /* 0: not known */
    uint64_t silence_ns;
};

/* How a request or a probe ended. */
struct s3_ending {
    enum s3_health health;
    uint64_t latency_ns; /* of its first byte; 0: none came */
    struct s3_breaker_others others;
    uint64_t random; /* any 64 random bits */
    uint64_t now_ns;
};

/* Begin, healthy and with nothing in flight. */
void s3_breaker_init(struct s3_breaker *breaker, uint64_t now_ns);

/*
 * A request, or the probe that is due, begins: one that moves so many bytes.
 * The caller sets ret_turn->index.
 */
void s3_breaker_begin(struct s3_breaker *breaker, bool is_put, uint64_t bytes,
                      uint64_t now_ns, struct s3_turn *ret_turn);
void s3_breaker_begin_probe(struct s3_breaker *breaker, uint64_t now_ns,
                            struct s3_turn *ret_turn);

/*
 * A patient probe begins, of one that rests and has none: an answer ends the
 * rest as that of any other, and that there is none says nothing.
 */
void s3_breaker_begin_patient(struct s3_breaker *breaker, uint64_t now_ns,
                              struct s3_turn *ret_turn);

/* It ended.  The state may have changed. */
void s3_breaker_end(struct s3_breaker *breaker, const struct s3_turn *turn,
                    const struct s3_ending *ending);

/* Look whether it has been silent for too long.  The state may change. */
void s3_breaker_check(struct s3_breaker *breaker,
                      const struct s3_breaker_others *others, uint64_t now_ns);

/* It is slow, but none is better: from now on it is well. */
void s3_breaker_promote(struct s3_breaker *breaker, uint64_t now_ns);

/*
 * Returns for how long it has owed answers to several requests and given
 * none, for the size of an empty one of them; 0 unless there are several.
 */
uint64_t s3_breaker_silence_ns(const struct s3_breaker *breaker,
                               uint64_t now_ns);

/*
 * Returns how long requests of this kind took recently, for the size of an
 * empty one: a transfer of a MiB counts as a second one.  0: not known yet.
 */
uint64_t s3_breaker_cost_ns(const struct s3_breaker *breaker, bool is_put);

/*
 * It was passed over because of its cost, of which it forgets a little: after
 * some dozen times it is tried again.
 */
void s3_breaker_pass_over(struct s3_breaker *breaker, bool is_put);

#endif
