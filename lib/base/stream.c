/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/stream.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"

/* Have the socket's own waiting end soon; false if it does not do so. */
static bool be_timed(struct stream *stream)
{
    const struct timeval soon = {.tv_usec = STREAM_SOON_MS * 1000};

    if (!stream->is_timed)
        stream->is_timed = setsockopt(stream->fd, SOL_SOCKET, SO_RCVTIMEO,
                                      &soon, sizeof(soon)) == 0;
    return stream->is_timed;
}

static ssize_t plain_receive(struct stream *stream, void *data, size_t len,
                             uint64_t deadline_ns)
{
    /* Without a deadline the call itself waits: half the system calls. */
    bool waits = deadline_ns == STREAM_FOREVER ||
                 (deadline_ns == STREAM_SOON && be_timed(stream));
    int flags = waits ? 0 : MSG_DONTWAIT;

    for (;;) {
        ssize_t got = recv(stream->fd, data, len, flags);
        int error;

        if (got >= 0)
            return got;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN || deadline_ns == STREAM_NOW ||
            deadline_ns == STREAM_SOON)
            return -errno;
        /* A descriptor that is timed, or was made non-blocking by its creator,
         * comes here too. */
        error = stream_wait_fd(stream->fd, POLLIN, deadline_ns);
        if (error < 0)
            return error;
    }
}

static ssize_t plain_send(struct stream *stream, const struct iovec *pieces,
                          size_t count, uint64_t deadline_ns)
{
    struct msghdr message = {
        /* The type lacks a const; sendmsg only reads. */
        .msg_iov = (struct iovec *)(uintptr_t)pieces,
        .msg_iovlen = count < STREAM_IOV_MAX ? count : STREAM_IOV_MAX,
    };

    for (;;) {
        ssize_t sent =
            sendmsg(stream->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        int error;

        if (sent >= 0)
            return sent;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN || deadline_ns == STREAM_NOW)
            return -errno;
        error = stream_wait_fd(stream->fd, POLLOUT, deadline_ns);
        if (error < 0)
            return error;
    }
}

static int plain_finish(struct stream *stream, uint64_t deadline_ns)
{
    (void)deadline_ns;
    return shutdown(stream->fd, SHUT_WR) < 0 ? -errno : 0;
}

static void plain_close(struct stream *stream)
{
    (void)close(stream->fd);
    free(stream);
}

static const struct stream_functions plain_functions = {
    .receive = plain_receive,
    .send = plain_send,
    .finish = plain_finish,
    .close = plain_close,
};

int stream_open(int fd, struct stream **ret_stream)
{
    struct stream *stream = calloc(1, sizeof(*stream));

    if (!stream) {
        (void)close(fd);
        return -ENOMEM;
    }
    stream->functions = &plain_functions;
    stream->fd = fd;
    *ret_stream = stream;
    return 0;
}

ssize_t stream_receive(struct stream *stream, void *data, size_t len,
                       uint64_t deadline_ns)
{
    if (deadline_ns == STREAM_SOON && stream->one_thread)
        deadline_ns = STREAM_NOW;
    return stream->functions->receive(stream, data, len, deadline_ns);
}

int stream_receive_all(struct stream *stream, void *data, size_t len,
                       uint64_t deadline_ns)
{
    unsigned char *to = data;

    while (len > 0) {
        ssize_t got = stream_receive(stream, to, len, deadline_ns);

        if (got < 0)
            return (int)got;
        if (got == 0)
            return -EPIPE;
        to += got;
        len -= (size_t)got;
    }
    return 0;
}

ssize_t stream_send(struct stream *stream, const struct iovec *pieces,
                    size_t count, uint64_t deadline_ns)
{
    return stream->functions->send(stream, pieces, count, deadline_ns);
}

int stream_send_all(struct stream *stream, const void *data, size_t len,
                    uint64_t deadline_ns)
{
    /* The type lacks a const; the functions only read. */
    struct iovec piece = {(void *)(uintptr_t)data, len};

    while (piece.iov_len > 0) {
        ssize_t sent = stream_send(stream, &piece, 1, deadline_ns);

        if (sent < 0)
            return (int)sent;
        piece.iov_base = (unsigned char *)piece.iov_base + sent;
        piece.iov_len -= (size_t)sent;
    }
    return 0;
}

int stream_finish(struct stream *stream, uint64_t deadline_ns)
{
    return stream->functions->finish(stream, deadline_ns);
}

void stream_shutdown(struct stream *stream)
{
    (void)shutdown(stream->fd, SHUT_RDWR);
}

void stream_close(struct stream *stream)
{
    if (stream)
        stream->functions->close(stream);
}

/* Returns how long poll may wait, rounded up; -1 is for ever. */
static int timeout_ms(uint64_t deadline_ns)
{
    uint64_t now, left_ms;

    if (deadline_ns == STREAM_FOREVER)
        return -1;
    if (deadline_ns == STREAM_NOW)
        return 0;
    now = clock_monotonic_ns();
    if (deadline_ns <= now)
        return 0;
    left_ms = (deadline_ns - now + 999999) / 1000000;
    return left_ms < 60000 ? (int)left_ms : 60000;
}

int stream_wait_fds(struct pollfd polled[], size_t count, uint64_t deadline_ns)
{
    for (;;) {
        int timeout = timeout_ms(deadline_ns);
        int ready = poll(polled, count, timeout);

        if (ready > 0)
            return 0;
        if (ready < 0 && errno != EINTR)
            return -errno;
        if (ready == 0 && timeout == 0)
            return deadline_ns == STREAM_NOW ? -EAGAIN : -ETIMEDOUT;
    }
}

int stream_wait_fd(int fd, short events, uint64_t deadline_ns)
{
    struct pollfd polled = {.fd = fd, .events = events};

    return stream_wait_fds(&polled, 1, deadline_ns);
}
