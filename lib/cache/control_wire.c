/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/control_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"

void control_wire_init(struct control_wire *wire, struct stream *stream)
{
    wire->stream = stream;
    wire->len = 0;
}

int control_wire_send(struct control_wire *wire,
                      const struct control_message *message,
                      uint64_t deadline_ns)
{
    char line[CONTROL_LINE_MAX];
    int len = control_message_encode(message, line);
    int error;

    if (len < 0)
        return len;
    error = stream_send_all(wire->stream, line, (size_t)len, deadline_ns);
    if (!error && message->payload_size > 0)
        error = stream_send_all(wire->stream, message->payload,
                                message->payload_size, deadline_ns);
    return error;
}

/* Receive until a line is whole; *ret_len: without its newline. */
static int receive_line(struct control_wire *wire, uint64_t deadline_ns,
                        size_t *ret_len)
{
    size_t searched = 0;

    for (;;) {
        char *end = memchr(wire->buffer + searched, '\n', wire->len - searched);
        ssize_t got;

        if (end) {
            *ret_len = (size_t)(end - wire->buffer);
            return 0;
        }
        searched = wire->len;
        if (wire->len == sizeof(wire->buffer))
            return -EBADMSG;
        got = stream_receive(wire->stream, wire->buffer + wire->len,
                             sizeof(wire->buffer) - wire->len, deadline_ns);
        if (got < 0)
            return (int)got;
        if (got == 0)
            return wire->len == 0 ? -EPIPE : -EBADMSG;
        wire->len += (size_t)got;
    }
}

/* Take bytes that were received off the front. */
static void take_bytes(struct control_wire *wire, size_t len)
{
    wire->len -= len;
    memmove(wire->buffer, wire->buffer + len, wire->len);
}

static int receive_payload(struct control_wire *wire, size_t size,
                           struct control_message *message,
                           uint64_t deadline_ns)
{
    AUTO_FREE char *payload = malloc(size);
    size_t here = size < wire->len ? size : wire->len;
    int error;

    if (!payload)
        return -ENOMEM;
    memcpy(payload, wire->buffer, here);
    take_bytes(wire, here);
    error = stream_receive_all(wire->stream, payload + here, size - here,
                               deadline_ns);
    if (error)
        return error == -EPIPE ? -EBADMSG : error;
    control_message_set_payload(message, take_pointer(&payload), size);
    return 0;
}

int control_wire_receive(struct control_wire *wire,
                         struct control_message *ret_message,
                         uint64_t deadline_ns)
{
    size_t len, payload_size;
    int error = receive_line(wire, deadline_ns, &len);

    if (error)
        return error;
    error =
        control_message_decode(wire->buffer, len, ret_message, &payload_size);
    take_bytes(wire, len + 1);
    if (error || payload_size == 0)
        return error;
    return receive_payload(wire, payload_size, ret_message, deadline_ns);
}
