/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/control_wire.h"

#include <pthread.h>
#include <sys/socket.h>

#include "unit/test.h"

static struct stream *here, *there;
static struct control_wire wire, other;
static struct control_message message;

/* Connect the two ends anew. */
static bool connect_ends(void)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0 ||
        stream_open(fds[0], &here) != 0 || stream_open(fds[1], &there) != 0)
        return false;
    control_wire_init(&wire, here);
    control_wire_init(&other, there);
    return true;
}

static void close_ends(void)
{
    stream_close(here);
    stream_close(there);
    here = there = NULL;
}

static bool says(const char *text)
{
    return stream_send_all(there, text, strlen(text), STREAM_FOREVER) == 0;
}

static bool hears(const char *verb)
{
    int error = control_wire_receive(&wire, &message, STREAM_NOW);

    return error == 0 && control_message_is(&message, verb);
}

TEST("messages that come at once are taken one by one")
{
    NEED(connect_ends());
    CHECK(says("hello version=1\nok payload=3\nabcnone\nwai"));
    CHECK(hears("hello"));
    CHECK(hears("ok"));
    CHECK(message.payload_size == 3 && memcmp(message.payload, "abc", 3) == 0);
    control_message_clear(&message);
    CHECK(hears("none"));
    CHECK(control_wire_receive(&wire, &message, STREAM_NOW) == -EAGAIN);
    CHECK(says("t milliseconds=5\n"));
    CHECK(hears("wait"));
    close_ends();
}

/* Sends a message with a payload larger than what a socket holds. */
static void *send_large(void *context)
{
    char *payload = malloc(CONTROL_PAYLOAD_MAX);
    struct control_message *large = context;

    if (!payload)
        return NULL;
    for (size_t i = 0; i < CONTROL_PAYLOAD_MAX; i++)
        payload[i] = (char)(i * 7);
    control_message_start(large, "report");
    control_message_set_payload(large, payload, CONTROL_PAYLOAD_MAX);
    CHECK(control_wire_send(&other, large, STREAM_FOREVER) == 0);
    return NULL;
}

TEST("the largest payload arrives whole")
{
    static struct control_message large;
    pthread_t thread;
    const char *payload;
    bool is_same = true;

    NEED(connect_ends());
    NEED(pthread_create(&thread, NULL, send_large, &large) == 0);
    CHECK(control_wire_receive(&wire, &message, STREAM_FOREVER) == 0);
    (void)pthread_join(thread, NULL);
    CHECK(message.payload_size == CONTROL_PAYLOAD_MAX);
    payload = message.payload;
    for (size_t i = 0; i < message.payload_size; i++)
        is_same = is_same && payload[i] == (char)(i * 7);
    CHECK(is_same);
    control_message_clear(&message);
    control_message_clear(&large);
    close_ends();
}

TEST("an end between messages is told from one within")
{
    NEED(connect_ends());
    CHECK(says("status\n"));
    CHECK(stream_finish(there, STREAM_FOREVER) == 0);
    CHECK(hears("status"));
    CHECK(control_wire_receive(&wire, &message, STREAM_NOW) == -EPIPE);
    close_ends();

    NEED(connect_ends());
    CHECK(says("stat"));
    CHECK(stream_finish(there, STREAM_FOREVER) == 0);
    CHECK(control_wire_receive(&wire, &message, STREAM_NOW) == -EBADMSG);
    close_ends();

    NEED(connect_ends());
    CHECK(says("ok payload=10\nabc"));
    CHECK(stream_finish(there, STREAM_FOREVER) == 0);
    CHECK(control_wire_receive(&wire, &message, STREAM_NOW) == -EBADMSG);
    close_ends();
}

TEST("what is no message, and a line without end, are refused")
{
    char text[CONTROL_LINE_MAX + 1];

    NEED(connect_ends());
    CHECK(says("GET / HTTP/1.1\r\n\r\n"));
    CHECK(control_wire_receive(&wire, &message, STREAM_NOW) == -EBADMSG);
    close_ends();

    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    NEED(connect_ends());
    CHECK(says(text));
    CHECK(control_wire_receive(&wire, &message, STREAM_NOW) == -EBADMSG);
    close_ends();
}

TEST("what cannot be encoded is not sent, and the wire goes on")
{
    NEED(connect_ends());
    control_message_start(&message, "ok");
    message.is_too_long = true;
    CHECK(control_wire_send(&other, &message, STREAM_FOREVER) == -E2BIG);
    control_message_start(&message, "ok");
    CHECK(control_wire_send(&other, &message, STREAM_FOREVER) == 0);
    CHECK(hears("ok"));
    close_ends();
}

TEST("a peer that is gone is an error, not a signal")
{
    NEED(connect_ends());
    stream_close(there);
    there = NULL;
    control_message_start(&message, "ok");
    CHECK(control_wire_send(&wire, &message, STREAM_FOREVER) == -EPIPE);
    close_ends();
}
