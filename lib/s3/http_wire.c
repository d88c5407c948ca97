/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/http_wire.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/clock.h"

int http_wire_init(struct http_wire *wire, struct stream *stream,
                   uint64_t progress_ns, uint64_t deadline_ns)
{
    char *inbox = malloc(HTTP_WIRE_INBOX);

    if (!inbox)
        return -ENOMEM;
    *wire = (struct http_wire){
        .stream = stream,
        .progress_ns = progress_ns,
        .deadline_ns = deadline_ns,
        .inbox = inbox,
        .inbox_size = HTTP_WIRE_INBOX,
        .begin_ns = clock_monotonic_ns(),
    };
    wire->window_ns = wire->begin_ns;
    return 0;
}

/* Free the inbox: what a service answers may be credentials. */
static void wipe_inbox(struct http_wire *wire)
{
    if (wire->inbox)
        explicit_bzero(wire->inbox, wire->inbox_size);
    free(wire->inbox);
    wire->inbox = NULL;
}

void http_wire_done(struct http_wire *wire)
{
    wipe_inbox(wire);
}

/* ---- time --------------------------------------------------------------- */

void http_wire_begin_window(struct http_wire *wire)
{
    wire->window_ns = clock_monotonic_ns();
    wire->window_moved = 0;
}

static uint64_t window_end(const struct http_wire *wire)
{
    return wire->progress_ns < UINT64_MAX - wire->window_ns
               ? wire->window_ns + wire->progress_ns
               : UINT64_MAX;
}

/* Returns the next moment at which check_time has something to say. */
static uint64_t wait_until(const struct http_wire *wire)
{
    uint64_t end = window_end(wire);

    return end < wire->deadline_ns ? end : wire->deadline_ns;
}

/* Returns how much of what was sent the peer's system has; 0: not known. */
static uint64_t count_acked(const struct http_wire *wire)
{
    int queued;

    if (ioctl(wire->stream->fd, SIOCOUTQ, &queued) < 0 || queued < 0 ||
        (uint64_t)queued > wire->sent)
        return 0;
    return wire->sent - (uint64_t)queued;
}

/* 0 while there is time left; else -ETIMEDOUT. */
static int check_time(struct http_wire *wire)
{
    uint64_t now = clock_monotonic_ns(), acked;

    if (now >= wire->deadline_ns)
        return -ETIMEDOUT;
    if (now < window_end(wire))
        return 0;
    acked = count_acked(wire);
    if (acked < wire->acked + HTTP_WIRE_FLOOR)
        return -ETIMEDOUT;
    wire->acked = acked;
    http_wire_begin_window(wire);
    return 0;
}

/* Count bytes that were sent or received; -ETIMEDOUT: they came too late. */
static int count_moved(struct http_wire *wire, size_t len)
{
    wire->window_moved += len;
    if (wire->window_moved >= HTTP_WIRE_FLOOR)
        http_wire_begin_window(wire);
    return check_time(wire);
}

/* ---- receiving ---------------------------------------------------------- */

ssize_t http_wire_receive(struct http_wire *wire, void *to, size_t len,
                          bool may_wait)
{
    ssize_t got;
    int error;

    do {
        got = stream_receive(wire->stream, to, len,
                             may_wait ? wait_until(wire) : STREAM_NOW);
        error = got == -ETIMEDOUT ? check_time(wire) : 0;
    } while (got == -ETIMEDOUT && error == 0);
    if (got <= 0)
        return got;
    if (wire->received == 0) {
        http_wire_begin_window(wire);
        wire->first_byte_ns = wire->window_ns - wire->begin_ns + 1;
    }
    wire->received += (uint64_t)got;
    error = count_moved(wire, (size_t)got);
    return error < 0 ? error : got;
}

/* Have room behind what is in the inbox. */
static int make_room(struct http_wire *wire)
{
    char *inbox;

    if (wire->from > 0) {
        memmove(wire->inbox, wire->inbox + wire->from, wire->to - wire->from);
        wire->to -= wire->from;
        wire->from = 0;
    }
    if (wire->to < wire->inbox_size)
        return 0;
    if (wire->inbox_size == HTTP_WIRE_INBOX_MAX)
        return -EMSGSIZE;
    inbox = malloc(HTTP_WIRE_INBOX_MAX);
    if (!inbox)
        return -ENOMEM;
    memcpy(inbox, wire->inbox, wire->to);
    wipe_inbox(wire);
    wire->inbox = inbox;
    wire->inbox_size = HTTP_WIRE_INBOX_MAX;
    return 0;
}

ssize_t http_wire_fill(struct http_wire *wire, bool may_wait)
{
    int error = make_room(wire);
    ssize_t got;

    if (error < 0)
        return error;
    got = http_wire_receive(wire, wire->inbox + wire->to,
                            wire->inbox_size - wire->to, may_wait);
    if (got > 0)
        wire->to += (size_t)got;
    return got;
}

/* ---- sending ------------------------------------------------------------ */

ssize_t http_wire_send(struct http_wire *wire, const struct iovec *pieces,
                       size_t count)
{
    ssize_t sent = stream_send(wire->stream, pieces, count, STREAM_NOW);
    int error;

    if (sent <= 0)
        return sent;
    wire->sent += (uint64_t)sent;
    error = count_moved(wire, (size_t)sent);
    return error < 0 ? error : sent;
}

int http_wire_wait(struct http_wire *wire, bool *ret_may_receive)
{
    struct pollfd polled = {.fd = wire->stream->fd, .events = POLLIN | POLLOUT};
    int error = stream_wait_fds(&polled, 1, wait_until(wire));

    if (error < 0 && error != -ETIMEDOUT)
        return error;
    *ret_may_receive = error == 0 && (polled.revents & ~POLLOUT) != 0;
    /* Also when something came: it may be nothing that moves us on. */
    return check_time(wire);
}

void http_wire_sent_all(struct http_wire *wire)
{
    wire->acked = count_acked(wire);
}

int http_wire_pause(struct http_wire *wire, uint64_t until_ns, bool wants_input)
{
    uint64_t begin = clock_monotonic_ns(), now;
    uint64_t until =
        until_ns < wire->deadline_ns ? until_ns : wire->deadline_ns;
    int error =
        stream_wait_fd(wire->stream->fd, wants_input ? POLLIN : 0, until);

    now = clock_monotonic_ns();
    wire->window_ns += now - begin;
    if (error < 0 && error != -ETIMEDOUT)
        return error;
    return now < until ? 1 : check_time(wire);
}
