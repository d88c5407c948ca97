/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control_wire - messages of control_message.h over a stream.
 *
 * Threads: one uses a wire.
 */
#ifndef CACHE_CONTROL_WIRE_H
#define CACHE_CONTROL_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "base/stream.h"
#include "cache/control_message.h"

struct control_wire {
    struct stream *stream;         /* the caller's */
    char buffer[CONTROL_LINE_MAX]; /* received, and not yet taken */
    size_t len;
};

/* Begin on a stream of which nothing was received yet. */
void control_wire_init(struct control_wire *wire, struct stream *stream);

/*
 * Send a message and its payload.  -E2BIG: it cannot be encoded, nothing was
 * sent; others: the connection is of no use any more.
 */
int control_wire_send(struct control_wire *wire,
                      const struct control_message *message,
                      uint64_t deadline_ns);

/*
 * Receive a message, which the caller clears.  -EPIPE: the other side has
 * ended, and no message was begun; -EBADMSG: what it sends is no message (or
 * it ended within one); others of the stream.  Only -EAGAIN and -ETIMEDOUT
 * before the first byte of a message leave the connection usable.
 */
int control_wire_receive(struct control_wire *wire,
                         struct control_message *ret_message,
                         uint64_t deadline_ns);

#endif
