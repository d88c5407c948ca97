/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * s3_tally - what an endpoint has done: counters, latencies, its last error
 * (pure).
 *
 * Used by s3_endpoint.c, which has one for each endpoint.
 *
 * Threads: none of its own; the caller's lock guards it.
 */
#ifndef S3_S3_TALLY_H
#define S3_S3_TALLY_H

#include <stdint.h>
#include <stdio.h>

#include "base/histogram.h"
#include "s3/s3_retry.h"

enum { S3_TALLY_TEXT = 256 };

/* How a request ended. */
struct s3_outcome {
    enum s3_health health; /* s3_retry_health */
    uint64_t latency_ns;   /* from request sent to first byte; 0: none came */
    uint64_t bytes_up, bytes_down;
    /*
     * What went wrong, in words, unless it was answered; NULL: nothing to
     * tell.  It is copied.
     */
    const char *text;
};

/* All zero is an empty one. */
struct s3_tally {
    uint64_t in_flight, requests, errors, throttled, rests;
    uint64_t bytes_up, bytes_down;
    uint64_t latency_ns; /* of all requests together */
    struct histogram latencies;
    struct histogram latest; /* what is older counts for less */
    uint64_t halved_ns;      /* when latest was */
    char last_error[S3_TALLY_TEXT];
    uint64_t last_error_ns; /* 0: there was none */
};

/* Count a request that begins, and one that ended. */
void s3_tally_begin(struct s3_tally *tally);
void s3_tally_end(struct s3_tally *tally, const struct s3_outcome *outcome,
                  uint64_t now_ns);

/*
 * Write it as members of a JSON object that has others before them; the keys
 * are told at s3_endpoints_describe.  epoch_ns is what, added to a moment of
 * clock_monotonic_ns(), makes one since 1970.
 */
void s3_tally_write(const struct s3_tally *tally, uint64_t epoch_ns,
                    FILE *stream);

#endif
