/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * http_wire - the bytes of one exchange over its stream: what came and is not
 * used yet, how much has moved, and whether that was in time.
 *
 * Used by http_exchange.c.  Time: a window begins whenever HTTP_WIRE_FLOOR
 * bytes have moved, with the first byte received, and when it is told to; one
 * that lasts longer than progress_ns is the end.  What the kernel took from us
 * has not moved until the peer's has acknowledged it, which is asked for when a
 * window runs out: a socket may hold minutes of a slow line.
 *
 * Threads: one; any other may end its waiting by stream_shutdown.
 */
#ifndef S3_HTTP_WIRE_H
#define S3_HTTP_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/stream.h"

enum {
    HTTP_WIRE_FLOOR = 16 << 10,     /* bytes that must move in a window */
    HTTP_WIRE_INBOX = 16 << 10,     /* most answers whole; one TLS record */
    HTTP_WIRE_INBOX_MAX = 64 << 10, /* if nobody uses what is in it */
};

struct http_wire {
    struct stream *stream; /* not its own */
    uint64_t progress_ns, deadline_ns;

    /* What was received and not used yet is inbox[from] to inbox[to - 1]. */
    char *inbox;
    size_t from, to;

    uint64_t sent, received;
    uint64_t first_byte_ns; /* from the beginning; 0: none was received */

    /* internal */
    size_t inbox_size;
    uint64_t begin_ns;
    uint64_t window_ns; /* when the window began */
    size_t window_moved;
    uint64_t acked; /* of what was sent, when last looked at */
};

/* Begin, with a window.  -ENOMEM. */
int http_wire_init(struct http_wire *wire, struct stream *stream,
                   uint64_t progress_ns, uint64_t deadline_ns);

/* Overwrite and free the inbox. */
void http_wire_done(struct http_wire *wire);

/* Begin a window now: what comes next has its own time. */
void http_wire_begin_window(struct http_wire *wire);

/*
 * Receive 1 to len bytes past the inbox, which must be empty, to where they
 * are wanted.  Returns how many; 0: the peer has ended; -EAGAIN: nothing is
 * there, if it may not wait; -ETIMEDOUT: too late; and what the stream tells.
 */
ssize_t http_wire_receive(struct http_wire *wire, void *to, size_t len,
                          bool may_wait);

/* The same into the inbox, behind what is there: -EMSGSIZE if that fills it. */
ssize_t http_wire_fill(struct http_wire *wire, bool may_wait);

/* Send what goes out at once: as stream_send does; -ETIMEDOUT: too late. */
ssize_t http_wire_send(struct http_wire *wire, const struct iovec *pieces,
                       size_t count);

/*
 * Wait until more can be sent, or something came: that is told, and only
 * then is a receive needed.  0, or an error.
 */
int http_wire_wait(struct http_wire *wire, bool *ret_may_receive);

/* All is sent: from now on silence counts, if the peer has it all. */
void http_wire_sent_all(struct http_wire *wire);

/*
 * Let time pass for which the peer is not to blame, until then: the window
 * grows by it.  0: it has passed; 1: the connection is closed, or (if
 * wants_input) something has come; or an error.
 */
int http_wire_pause(struct http_wire *wire, uint64_t until_ns,
                    bool wants_input);

#endif
