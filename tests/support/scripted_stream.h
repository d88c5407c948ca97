/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scripted_stream - a stream whose other end is a script: what it answers, in
 * which pieces and when, what it takes, and how it ends.
 *
 * Nothing waits: the clock is the script's, from scripted_stream_init to
 * scripted_stream_done, and a wait sets it to the deadline.  One thread.
 */
#ifndef SUPPORT_SCRIPTED_STREAM_H
#define SUPPORT_SCRIPTED_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/stream.h"

enum { SCRIPTED_STREAM_BEGIN_NS = 1000000000 };

struct scripted_stream {
    struct stream stream; /* first */

    /* What is received: by default all at once, then the peer ends. */
    const void *answer;
    size_t answer_len;
    size_t answer_after; /* not before so many bytes were taken */
    size_t piece;        /* at most so many at once */
    size_t split;        /* no piece goes across this place */
    uint64_t tick_ns;    /* that pass with each receive */
    int end;             /* then: 0, an error, or -EAGAIN: nothing comes */

    /* What is sent: by default all is taken. */
    size_t takes;        /* at most so many bytes at once */
    size_t takes_in_all; /* then send_error, which may be -EAGAIN */
    int send_error;

    /* What happened. */
    uint64_t now_ns;
    size_t received;
    char *taken;
    size_t taken_len;
    unsigned receives, sends;
    /* Bytes that were received straight into this memory. */
    const char *watched;
    size_t watched_len, in_place;
};

/* Begin with a script of no answer, and with the clock. */
void scripted_stream_init(struct scripted_stream *script);

/* Free what was taken; the clock runs again. */
void scripted_stream_done(struct scripted_stream *script);

#endif
