/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * http_exchange - one request over a stream, and the answer to it.
 *
 * Sends head and body while it watches for an early answer, and has the body
 * of the answer land where the caller wants it.  Never waits without an end:
 * each HTTP_WIRE_FLOOR bytes, either way, must have moved progress_ns after
 * those before them, so that neither silence nor one byte a second holds the
 * caller.  What the peer sends is believed in nothing.
 *
 * Threads: one calls; any other may end it by stream_shutdown.
 */
#ifndef S3_HTTP_EXCHANGE_H
#define S3_HTTP_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/stream.h"
#include "s3/http.h"
#include "s3/http_wire.h"

struct rate;

/* Kept of a body that nobody asked for. */
enum { HTTP_EXCHANGE_TEXT_MAX = 64 << 10 };

struct http_exchange {
    /*
     * The request, set by the caller, all others zero.  What is pointed to
     * must live until http_exchange_run returns.
     */
    const char *head; /* as http_compose_end left it */
    size_t head_len;
    const void *body;
    size_t body_len;
    bool is_head;           /* the method is HEAD */
    struct rate *up, *down; /* pace the bodies; NULL: as fast as it goes */

    /*
     * Where the body of a success (2xx) goes: into data, at most room bytes;
     * else, with text_max > 0, into text, at most that many.  All other bodies
     * go into text, as much as HTTP_EXCHANGE_TEXT_MAX of them.
     */
    void *data;
    size_t room;
    size_t text_max;

    uint64_t progress_ns; /* not 0 */
    uint64_t deadline_ns; /* of it all, pauses of up and down included */

    /*
     * The answer.  answer.status is 0 until its head came whole; after that
     * answer is valid, whatever http_exchange_run returned, and lives (as
     * text does) until http_exchange_done.
     */
    struct http_head answer;
    size_t len; /* of the body, in data */
    char *text; /* text_len bytes and an end mark, or NULL: none */
    size_t text_len;
    uint64_t sent, received; /* bytes of all kinds, by the stream's count */
    uint64_t first_byte_ns;  /* from the call to the first byte; 0: none came */
    bool is_reusable;        /* the stream may carry another exchange */

    /* internal */
    char *answer_bytes;
};

/*
 * Send the request and receive the answer.  0: there is an answer, of any
 * status, and its body came whole, or more of it than text may hold.  Else
 *   -ETIMEDOUT   silence, too slow, or past the deadline
 *   -ECONNRESET  the peer ended the connection before the answer was whole;
 *                -EPIPE, -ECONNABORTED and others: as the stream tells
 *   -EPROTO      the answer is not HTTP as it must be, is encoded, or says
 *                success before all of the body was sent
 *   -EMSGSIZE    its head or its body is longer than it may be
 *   -ENOMEM
 * and the stream can only be closed.  With an error and answer.status >= 300
 * the status is certain, and text holds what came of the body, if anything.
 * Unless sent is head_len + body_len, the peer cannot have the whole request.
 */
int http_exchange_run(struct stream *stream, struct http_exchange *exchange);

/* Free what the answer holds.  All zero, or done before: nothing happens. */
void http_exchange_done(struct http_exchange *exchange);

#endif
