/* SPDX-License-Identifier: BSD-2-Clause */
#include "test.h"

#include <sys/socket.h>

#include "base/clock.h"
#include "s3/http_wire.h"
#include "support/scripted_stream.h"

static const uint64_t second = 1000000000;

/* Begin over a script, with windows of 10 s. */
static void wire_begin(struct http_wire *wire, struct scripted_stream *script)
{
    scripted_stream_init(script);
    if (http_wire_init(wire, &script->stream, 10 * second, STREAM_FOREVER - 1) <
        0)
        abort();
}

static void wire_end(struct http_wire *wire, struct scripted_stream *script)
{
    http_wire_done(wire);
    scripted_stream_done(script);
}

TEST("the inbox grows while nobody uses what is in it, up to its bound")
{
    struct scripted_stream script;
    struct http_wire wire;
    char *answer = malloc(100000);

    for (size_t i = 0; i < 100000; i++)
        answer[i] = (char)(i / 300);
    wire_begin(&wire, &script);
    script.answer = answer;
    script.answer_len = 100000;
    CHECK(http_wire_fill(&wire, true) == HTTP_WIRE_INBOX);
    while (wire.to < HTTP_WIRE_INBOX_MAX)
        NEED(http_wire_fill(&wire, true) > 0);
    CHECK(memcmp(wire.inbox, answer, HTTP_WIRE_INBOX_MAX) == 0);
    CHECK(http_wire_fill(&wire, true) == -EMSGSIZE);
    /* What is used makes room. */
    wire.from = 50000;
    CHECK(http_wire_fill(&wire, true) > 0);
    CHECK(wire.from == 0);
    CHECK(memcmp(wire.inbox, answer + 50000, wire.to) == 0);
    CHECK(wire.received == script.received);
    wire_end(&wire, &script);
    free(answer);
}

TEST("nothing there, the end and an error are told apart")
{
    struct scripted_stream script;
    struct http_wire wire;
    char byte;

    wire_begin(&wire, &script);
    script.end = -EAGAIN;
    CHECK(http_wire_fill(&wire, false) == -EAGAIN);
    CHECK(http_wire_receive(&wire, &byte, 1, false) == -EAGAIN);
    script.end = 0;
    CHECK(http_wire_receive(&wire, &byte, 1, true) == 0);
    script.end = -ECONNABORTED;
    CHECK(http_wire_fill(&wire, true) == -ECONNABORTED);
    CHECK(wire.received == 0 && wire.first_byte_ns == 0);
    wire_end(&wire, &script);
}

TEST("a window ends after its time, and the first byte begins another")
{
    struct scripted_stream script;
    struct http_wire wire;
    char byte;

    wire_begin(&wire, &script);
    script.answer = "ab";
    script.answer_len = 2;
    script.piece = 1;
    script.tick_ns = 9 * second;
    script.end = -EAGAIN;
    CHECK(http_wire_receive(&wire, &byte, 1, true) == 1);
    CHECK(wire.first_byte_ns / second == 9);
    CHECK(http_wire_receive(&wire, &byte, 1, true) == 1);
    script.tick_ns = 0;
    CHECK(http_wire_receive(&wire, &byte, 1, true) == -ETIMEDOUT);
    CHECK(script.now_ns == SCRIPTED_STREAM_BEGIN_NS + 19 * second);
    /* Whoever knows that all is well says so. */
    http_wire_begin_window(&wire);
    CHECK(http_wire_receive(&wire, &byte, 1, true) == -ETIMEDOUT);
    CHECK(script.now_ns == SCRIPTED_STREAM_BEGIN_NS + 29 * second);
    wire_end(&wire, &script);
}

TEST("enough bytes in a window begin the next, one byte less does not")
{
    for (size_t less = 0; less < 2; less++) {
        struct scripted_stream script;
        struct http_wire wire;
        char *answer = calloc(1, HTTP_WIRE_FLOOR);

        wire_begin(&wire, &script);
        script.answer = answer;
        script.answer_len = HTTP_WIRE_FLOOR - less;
        script.split = 1; /* the first byte begins a window, and counts */
        script.end = -EAGAIN;
        CHECK(http_wire_fill(&wire, true) == 1);
        wire.from = wire.to;
        script.tick_ns = 9 * second;
        CHECK(http_wire_fill(&wire, true) > 0);
        wire.from = wire.to;
        script.tick_ns = 0;
        CHECK(http_wire_fill(&wire, true) == -ETIMEDOUT);
        CHECK((script.now_ns - SCRIPTED_STREAM_BEGIN_NS) / second ==
              (less > 0 ? 10 : 19));
        wire_end(&wire, &script);
        free(answer);
    }
}

TEST("what comes is taken, but too late is too late")
{
    struct scripted_stream script;
    struct http_wire wire;

    wire_begin(&wire, &script);
    script.answer = "abc";
    script.answer_len = 3;
    script.piece = 1;
    CHECK(http_wire_fill(&wire, true) == 1);
    script.tick_ns = 11 * second;
    CHECK(http_wire_fill(&wire, true) == -ETIMEDOUT);
    wire_end(&wire, &script);

    wire_begin(&wire, &script);
    script.answer = "abc";
    script.answer_len = 3;
    wire.deadline_ns = SCRIPTED_STREAM_BEGIN_NS + second;
    script.tick_ns = second;
    CHECK(http_wire_fill(&wire, true) == -ETIMEDOUT);
    wire_end(&wire, &script);
}

TEST("bytes that are sent count as bytes that are received do")
{
    static char bytes[HTTP_WIRE_FLOOR];
    struct iovec piece = {bytes, 1};
    struct scripted_stream script;
    struct http_wire wire;

    wire_begin(&wire, &script);
    script.end = -EAGAIN;
    clock_set_for_tests(SCRIPTED_STREAM_BEGIN_NS + 9 * second);
    CHECK(http_wire_send(&wire, &piece, 1) == 1);
    clock_set_for_tests(SCRIPTED_STREAM_BEGIN_NS + 10 * second);
    CHECK(http_wire_send(&wire, &piece, 1) == -ETIMEDOUT);
    CHECK(wire.sent == 2);
    piece.iov_len = sizeof(bytes);
    CHECK(http_wire_send(&wire, &piece, 1) == sizeof(bytes));
    clock_set_for_tests(SCRIPTED_STREAM_BEGIN_NS + 19 * second);
    piece.iov_len = 1;
    CHECK(http_wire_send(&wire, &piece, 1) == 1);
    wire_end(&wire, &script);
}

TEST("a pause ends when something comes, or when it is over")
{
    struct scripted_stream script;
    struct http_wire wire;
    bool may_receive = false;

    wire_begin(&wire, &script);
    /* Its descriptor is ready at once: something has come, again and again. */
    CHECK(http_wire_pause(&wire, script.now_ns + second, true) == 1);
    CHECK(http_wire_pause(&wire, script.now_ns, true) == 0);
    wire.deadline_ns = script.now_ns;
    CHECK(http_wire_pause(&wire, script.now_ns + second, true) == -ETIMEDOUT);
    CHECK(http_wire_wait(&wire, &may_receive) == -ETIMEDOUT);
    CHECK(may_receive);
    wire_end(&wire, &script);
}

/* ---- what the kernel took ----------------------------------------------- */

struct sockets {
    struct stream *stream;
    int peer;
};

/* Begin over a socket pair, with windows of 10 s, and send what it takes. */
static void sockets_begin(struct sockets *sockets, struct http_wire *wire)
{
    static char bytes[65536];
    struct iovec piece = {bytes, sizeof(bytes)};
    int fds[2];

    clock_set_for_tests(second);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
        stream_open(fds[0], &sockets->stream) < 0 ||
        http_wire_init(wire, sockets->stream, 10 * second, STREAM_FOREVER - 1) <
            0)
        abort();
    sockets->peer = fds[1];
    while (http_wire_send(wire, &piece, 1) > 0)
        ;
    CHECK(wire->sent > (uint64_t)2 * HTTP_WIRE_FLOOR);
    http_wire_sent_all(wire);
}

/* Take len bytes at the other end. */
static void sockets_take(const struct sockets *sockets, size_t len)
{
    static char bytes[65536];

    while (len > 0) {
        size_t part = len < sizeof(bytes) ? len : sizeof(bytes);
        ssize_t got = recv(sockets->peer, bytes, part, 0);

        if (got <= 0)
            abort();
        len -= (size_t)got;
    }
}

static void sockets_end(struct sockets *sockets, struct http_wire *wire)
{
    http_wire_done(wire);
    stream_close(sockets->stream);
    (void)close(sockets->peer);
    clock_set_for_tests(0);
}

TEST("a peer that still takes what the kernel holds for it is waited for")
{
    struct sockets sockets;
    struct http_wire wire;
    char byte;

    sockets_begin(&sockets, &wire);
    CHECK(send(sockets.peer, "x", 1, 0) == 1);
    sockets_take(&sockets, (size_t)wire.sent);
    clock_set_for_tests(11 * second);
    /* The window has run out while the peer was busy with our bytes. */
    CHECK(http_wire_wait(&wire, &(bool){false}) == 0);
    CHECK(http_wire_receive(&wire, &byte, 1, true) == 1);
    sockets_end(&sockets, &wire);
}

TEST("a peer that takes nothing any more, or hardly anything, is not")
{
    for (size_t taken = 0; taken <= 1000; taken += 1000) {
        struct sockets sockets;
        struct http_wire wire;
        char byte;

        sockets_begin(&sockets, &wire);
        sockets_take(&sockets, taken);
        clock_set_for_tests(11 * second);
        CHECK(http_wire_wait(&wire, &(bool){false}) == -ETIMEDOUT);
        CHECK(http_wire_receive(&wire, &byte, 1, true) == -ETIMEDOUT);
        sockets_end(&sockets, &wire);
    }
}

TEST("what was taken buys time once, not for ever")
{
    struct sockets sockets;
    struct http_wire wire;
    char byte;

    sockets_begin(&sockets, &wire);
    sockets_take(&sockets, (size_t)wire.sent);
    clock_set_for_tests(11 * second);
    CHECK(http_wire_wait(&wire, &(bool){false}) == 0);
    clock_set_for_tests(21 * second);
    CHECK(http_wire_receive(&wire, &byte, 1, true) == -ETIMEDOUT);
    sockets_end(&sockets, &wire);
}

TEST("what the peer had when all was sent buys no time")
{
    struct sockets sockets;
    struct http_wire wire;
    char byte;

    sockets_begin(&sockets, &wire);
    sockets_take(&sockets, (size_t)wire.sent);
    http_wire_sent_all(&wire);
    clock_set_for_tests(11 * second);
    CHECK(http_wire_receive(&wire, &byte, 1, true) == -ETIMEDOUT);
    sockets_end(&sockets, &wire);
}

TEST("a pause is not held against the peer")
{
    struct sockets sockets;
    struct http_wire wire;
    uint64_t begin, window;

    sockets_begin(&sockets, &wire);
    clock_set_for_tests(0);
    begin = clock_monotonic_ns();
    http_wire_begin_window(&wire);
    window = wire.window_ns;
    CHECK(http_wire_pause(&wire, begin + second / 100, false) == 0);
    CHECK(wire.window_ns - window > 0);
    CHECK(wire.window_ns <= clock_monotonic_ns());
    CHECK(wire.window_ns - window <= clock_monotonic_ns() - begin);
    sockets_end(&sockets, &wire);
}

TEST("a pause ends when the connection is shut down")
{
    struct sockets sockets;
    struct http_wire wire;

    sockets_begin(&sockets, &wire);
    stream_shutdown(sockets.stream);
    CHECK(http_wire_pause(&wire, 1000 * second, false) == 1);
    CHECK(http_wire_pause(&wire, 1000 * second, true) == 1);
    sockets_end(&sockets, &wire);
}

TEST("a wait ends when the peer has gone")
{
    struct sockets sockets;
    struct http_wire wire;
    bool may_receive = false;

    sockets_begin(&sockets, &wire);
    (void)close(sockets.peer);
    sockets.peer = -1;
    CHECK(http_wire_wait(&wire, &may_receive) == 0);
    CHECK(may_receive);
    sockets_end(&sockets, &wire);
}
