/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/stream.h"

#include <pthread.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "unit/test.h"

enum { BIG = 1 << 20 };

/* A stream, and the other end of its socket pair. */
static struct stream *open_pair(int *ret_other)
{
    struct stream *stream;
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
        stream_open(fds[0], &stream) < 0)
        abort();
    *ret_other = fds[1];
    return stream;
}

TEST("what was sent is received, in pieces and whole")
{
    int other;
    struct stream *stream = open_pair(&other);
    struct iovec pieces[3] = {
        {(char[]){"ab"}, 2}, {NULL, 0}, {(char[]){"cde"}, 3}};
    char bytes[16] = "";

    CHECK(stream_send(stream, pieces, 3, STREAM_FOREVER) == 5);
    CHECK(recv(other, bytes, sizeof(bytes), 0) == 5);
    CHECK(memcmp(bytes, "abcde", 5) == 0);
    CHECK(send(other, "12345", 5, 0) == 5);
    CHECK(stream_receive(stream, bytes, 2, STREAM_NOW) == 2);
    CHECK(stream_receive_all(stream, bytes + 2, 3, STREAM_FOREVER) == 0);
    CHECK(memcmp(bytes, "12345", 5) == 0);
    CHECK(stream_receive_all(stream, bytes, 0, STREAM_NOW) == 0);
    stream_close(stream);
    (void)close(other);
}

TEST("without data, NOW says EAGAIN, and a deadline that is over ETIMEDOUT")
{
    int other;
    struct stream *stream = open_pair(&other);
    char byte;

    CHECK(stream_receive(stream, &byte, 1, STREAM_NOW) == -EAGAIN);
    CHECK(stream_receive(stream, &byte, 1, 1) == -ETIMEDOUT);
    CHECK(stream_receive(stream, &byte, 1, clock_monotonic_ns() + 1000000) ==
          -ETIMEDOUT);
    CHECK(stream_receive_all(stream, &byte, 1, 1) == -ETIMEDOUT);
    CHECK(stream_wait_fd(stream->fd, POLLIN, STREAM_NOW) == -EAGAIN);
    CHECK(stream_wait_fd(stream->fd, POLLOUT, STREAM_NOW) == 0);
    stream_close(stream);
    (void)close(other);
}

TEST("what does not come soon is EAGAIN, without the stream being changed for "
     "other calls")
{
    int other;
    struct stream *stream = open_pair(&other);
    char bytes[4] = "";

    CHECK(stream_receive(stream, bytes, 1, STREAM_SOON) == -EAGAIN);
    CHECK(send(other, "123", 3, 0) == 3);
    CHECK(stream_receive(stream, bytes, 2, STREAM_SOON) == 2);
    CHECK(memcmp(bytes, "12", 2) == 0);
    CHECK(stream_receive(stream, bytes, 1, STREAM_NOW) == 1);
    CHECK(stream_receive(stream, bytes, 1, STREAM_NOW) == -EAGAIN);
    CHECK(stream_receive(stream, bytes, 1, 1) == -ETIMEDOUT);
    (void)close(other);
    CHECK(stream_receive(stream, bytes, 1, STREAM_SOON) == 0);
    stream_close(stream);
}

TEST("a descriptor that does not block by itself is waited for all the same")
{
    int fds[2];
    struct stream *stream;
    char byte = 0;

    NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    NEED(stream_open(fds[0], &stream) == 0);
    CHECK(stream_receive(stream, &byte, 1, STREAM_NOW) == -EAGAIN);
    CHECK(send(fds[1], "x", 1, 0) == 1);
    CHECK(stream_receive(stream, &byte, 1, STREAM_FOREVER) == 1);
    CHECK(byte == 'x');
    stream_close(stream);
    (void)close(fds[1]);
}

static void *receive_big(void *argument)
{
    static char bytes[BIG];
    size_t got = 0;

    while (got < BIG) {
        ssize_t part = recv(*(int *)argument, bytes + got, BIG - got, 0);

        if (part <= 0)
            break;
        got += (size_t)part;
    }
    for (size_t i = 0; i < got; i++) {
        if (bytes[i] != (char)(i * 7))
            return NULL;
    }
    return got == BIG ? argument : NULL;
}

TEST("a send that the socket does not take is cut short, and one of all "
     "bytes waits for a reader")
{
    static char bytes[BIG];
    int other;
    struct stream *stream = open_pair(&other);
    struct iovec piece = {bytes, BIG};
    ssize_t sent = stream_send(stream, &piece, 1, STREAM_NOW);
    pthread_t thread;
    void *result;

    for (size_t i = 0; i < BIG; i++)
        bytes[i] = (char)(i * 7);
    CHECK(sent > 0 && sent < BIG);
    CHECK(stream_send(stream, &piece, 1, STREAM_NOW) == -EAGAIN);
    CHECK(stream_send(stream, &piece, 1, 1) == -ETIMEDOUT);
    CHECK(stream_send_all(stream, bytes, BIG, 1) == -ETIMEDOUT);
    stream_close(stream);
    (void)close(other);

    stream = open_pair(&other);
    NEED(pthread_create(&thread, NULL, receive_big, &other) == 0);
    CHECK(stream_send_all(stream, bytes, BIG, STREAM_FOREVER) == 0);
    (void)pthread_join(thread, &result);
    CHECK(result != NULL);
    stream_close(stream);
    (void)close(other);
}

TEST("an end is 0, EPIPE where more was due, and EPIPE for who sends")
{
    int other;
    struct stream *stream = open_pair(&other);
    char bytes[4];

    CHECK(send(other, "xy", 2, 0) == 2);
    (void)close(other);
    CHECK(stream_receive_all(stream, bytes, 4, STREAM_FOREVER) == -EPIPE);
    CHECK(stream_receive(stream, bytes, 4, STREAM_FOREVER) == 0);
    CHECK(stream_send_all(stream, bytes, 4, STREAM_FOREVER) == -EPIPE);
    stream_close(stream);
    stream_close(NULL);
}

TEST("finish ends one direction only, and the peer sees it")
{
    int other;
    struct stream *stream = open_pair(&other);
    char byte;

    CHECK(stream_finish(stream, STREAM_FOREVER) == 0);
    CHECK(recv(other, &byte, 1, 0) == 0);
    CHECK(send(other, "z", 1, 0) == 1);
    CHECK(stream_receive(stream, &byte, 1, STREAM_FOREVER) == 1);
    stream_close(stream);
    (void)close(other);
}

static void *receive_one(void *argument)
{
    char byte;
    ssize_t got = stream_receive(argument, &byte, 1, STREAM_FOREVER);

    return got <= 0 ? argument : NULL;
}

TEST("a shutdown ends the waiting of another thread")
{
    int other;
    struct stream *stream = open_pair(&other);
    pthread_t thread;
    void *result;

    NEED(pthread_create(&thread, NULL, receive_one, stream) == 0);
    stream_shutdown(stream);
    (void)pthread_join(thread, &result);
    CHECK(result == stream);
    stream_close(stream);
    (void)close(other);
}
