/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_outbox.h"

#include <pthread.h>
#include <sys/socket.h>

#include "base/stream.h"
#include "unit/test.h"

enum { BIG = 4 << 20 };

static atomic_int released_count;

static void release(struct nbd_outgoing *outgoing)
{
    (void)outgoing;
    atomic_fetch_add(&released_count, 1);
}

struct fixture {
    struct stream *stream;
    struct nbd_outbox *outbox;
    int peer;
    struct nbd_outgoing replies[3];
    uint8_t *data;
};

/* Three replies: a head of 16 bytes, each with len bytes of data. */
static void init(struct fixture *fixture, size_t len)
{
    int fds[2];

    *fixture = (struct fixture){.data = calloc(1, len + 1)};
    atomic_store(&released_count, 0);
    if (!fixture->data ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
        stream_open(fds[0], &fixture->stream) < 0 ||
        nbd_outbox_new(fixture->stream, release, &fixture->outbox) < 0)
        abort();
    fixture->peer = fds[1];
    for (int i = 0; i < 3; i++) {
        struct nbd_reply *reply = &fixture->replies[i].reply;

        memset(reply->head, 'a' + i, 16);
        reply->head_len = 16;
        reply->data = fixture->data;
        reply->data_len = len;
    }
}

static void done(struct fixture *fixture)
{
    (void)nbd_outbox_send(fixture->outbox, NULL, NULL);
    nbd_outbox_free(fixture->outbox);
    stream_close(fixture->stream);
    (void)close(fixture->peer);
    free(fixture->data);
}

static size_t list_length(const struct nbd_outgoing *list)
{
    size_t length = 0;

    for (; list; list = list->next)
        length++;
    return length;
}

static const struct nbd_outbox_sleep for_change = {
    .for_change = true,
    .deadline_ns = STREAM_FOREVER,
    .full_deadline_ns = STREAM_FOREVER,
};

TEST("a list of replies is sent in order, with one call, and released")
{
    struct fixture fixture;
    struct nbd_outbox_news news;
    char bytes[200];

    init(&fixture, 5);
    fixture.replies[0].next = &fixture.replies[1];
    fixture.replies[1].next = &fixture.replies[2];
    news = nbd_outbox_send(fixture.outbox, &fixture.replies[0],
                           &fixture.replies[2].next);
    CHECK(news.has_changed && !news.is_broken);
    CHECK(list_length(news.released) == 3 && released_count == 3);
    CHECK(recv(fixture.peer, bytes, sizeof(bytes), 0) == 63);
    CHECK(bytes[0] == 'a' && bytes[21] == 'b' && bytes[42] == 'c');
    news = nbd_outbox_send(fixture.outbox, NULL, NULL);
    CHECK(!news.has_changed && !news.released);
    done(&fixture);
}

TEST("another thread's reply is sent at once, and its sender never waits for "
     "a socket that is full")
{
    struct fixture fixture;
    char bytes[16];

    init(&fixture, BIG);
    nbd_outbox_post(fixture.outbox, &fixture.replies[0]);
    nbd_outbox_post(fixture.outbox, &fixture.replies[1]);
    CHECK(released_count == 0);
    CHECK(recv(fixture.peer, bytes, 16, MSG_WAITALL) == 16);
    CHECK(bytes[15] == 'a');
    nbd_outbox_break(fixture.outbox);
    CHECK(released_count == 2);
    nbd_outbox_post(fixture.outbox, &fixture.replies[2]);
    CHECK(released_count == 3);
    done(&fixture);
}

static void *read_all(void *argument)
{
    static uint8_t bytes[65536];
    size_t total = 0;
    ssize_t got;

    while ((got = recv(*(int *)argument, bytes, sizeof(bytes), 0)) > 0)
        total += (size_t)got;
    return total == 3 * (BIG + 16) ? argument : NULL;
}

TEST("what a full socket left is sent by the own thread when there is room")
{
    struct fixture fixture;
    pthread_t reader;
    void *result;

    init(&fixture, BIG);
    for (int i = 0; i < 3; i++)
        nbd_outbox_post(fixture.outbox, &fixture.replies[i]);
    CHECK(released_count == 0);
    NEED(pthread_create(&reader, NULL, read_all, &fixture.peer) == 0);
    while (released_count < 3) {
        (void)nbd_outbox_send(fixture.outbox, NULL, NULL);
        if (released_count < 3)
            CHECK(nbd_outbox_sleep(fixture.outbox, &for_change) == 0);
    }
    CHECK(stream_finish(fixture.stream, STREAM_FOREVER) == 0);
    (void)pthread_join(reader, &result);
    CHECK(result != NULL);
    done(&fixture);
}

static void *post_one(void *argument)
{
    struct fixture *fixture = argument;

    nbd_outbox_post(fixture->outbox, &fixture->replies[0]);
    return NULL;
}

TEST("a change ends the sleep for changes, also one before it began")
{
    struct fixture fixture;
    struct nbd_outbox_news news;
    pthread_t poster;

    init(&fixture, 1);
    nbd_outbox_post(fixture.outbox, &fixture.replies[1]);
    CHECK(nbd_outbox_sleep(fixture.outbox, &for_change) == 0);
    news = nbd_outbox_send(fixture.outbox, NULL, NULL);
    CHECK(news.has_changed && list_length(news.released) == 1);
    NEED(pthread_create(&poster, NULL, post_one, &fixture) == 0);
    do {
        CHECK(nbd_outbox_sleep(fixture.outbox, &for_change) == 0);
        news = nbd_outbox_send(fixture.outbox, NULL, NULL);
    } while (!news.released);
    (void)pthread_join(poster, NULL);
    done(&fixture);
}

TEST("a wake before the sleep ends it, and input does only if asked for")
{
    struct fixture fixture;
    struct nbd_outbox_sleep sleep = for_change;

    init(&fixture, 1);
    nbd_outbox_wake(fixture.outbox);
    CHECK(nbd_outbox_sleep(fixture.outbox, &sleep) == 0);
    CHECK(send(fixture.peer, "x", 1, 0) == 1);
    sleep.deadline_ns = 1;
    CHECK(nbd_outbox_sleep(fixture.outbox, &sleep) == -ETIMEDOUT);
    sleep.for_input = true;
    sleep.deadline_ns = STREAM_FOREVER;
    CHECK(nbd_outbox_sleep(fixture.outbox, &sleep) == 0);
    done(&fixture);
}

TEST("the peer's end ends the sleep if asked for, also behind what it sent")
{
    struct fixture fixture;
    struct nbd_outbox_sleep sleep = for_change;

    init(&fixture, 1);
    CHECK(send(fixture.peer, "x", 1, 0) == 1);
    sleep.for_end = true;
    sleep.deadline_ns = 1;
    CHECK(nbd_outbox_sleep(fixture.outbox, &sleep) == -ETIMEDOUT);
    CHECK(shutdown(fixture.peer, SHUT_WR) == 0);
    sleep.for_end = false;
    CHECK(nbd_outbox_sleep(fixture.outbox, &sleep) == -ETIMEDOUT);
    sleep.for_end = true;
    sleep.deadline_ns = STREAM_FOREVER;
    CHECK(nbd_outbox_sleep(fixture.outbox, &sleep) == 0);
    done(&fixture);
}

TEST("the second deadline holds only while the socket is full")
{
    struct fixture fixture;
    struct nbd_outbox_sleep sleep = for_change;

    init(&fixture, BIG);
    sleep.full_deadline_ns = 1;
    nbd_outbox_wake(fixture.outbox);
    CHECK(nbd_outbox_sleep(fixture.outbox, &sleep) == 0);
    (void)nbd_outbox_send(fixture.outbox, &fixture.replies[0],
                          &fixture.replies[0].next);
    CHECK(nbd_outbox_sleep(fixture.outbox, &sleep) == -ETIMEDOUT);
    nbd_outbox_break(fixture.outbox);
    done(&fixture);
}

TEST("a peer that is gone breaks the outbox, and everything is released")
{
    struct fixture fixture;
    struct nbd_outbox_news news;

    init(&fixture, 1);
    CHECK(shutdown(fixture.peer, SHUT_RDWR) == 0);
    nbd_outbox_post(fixture.outbox, &fixture.replies[0]);
    news = nbd_outbox_send(fixture.outbox, &fixture.replies[1],
                           &fixture.replies[1].next);
    CHECK(news.is_broken && list_length(news.released) == 2);
    CHECK(released_count == 2);
    done(&fixture);
}

TEST("once it is paused nothing is sent, and what was not sent is told to the "
     "byte")
{
    struct fixture fixture;
    uint8_t *rest, *all;
    size_t got = 0, unsent;

    init(&fixture, BIG);
    for (int i = 0; i < BIG; i++)
        fixture.data[i] = (uint8_t)(i / 3);
    fixture.replies[0].next = &fixture.replies[1];
    (void)nbd_outbox_send(fixture.outbox, &fixture.replies[0],
                          &fixture.replies[1].next);
    nbd_outbox_pause(fixture.outbox);
    nbd_outbox_post(fixture.outbox, &fixture.replies[2]);
    CHECK(nbd_outbox_count(fixture.outbox) == 3);
    unsent = nbd_outbox_unsent(fixture.outbox);
    CHECK(unsent < 3 * (16 + (size_t)BIG) && unsent > 2 * (16 + (size_t)BIG));
    all = malloc(3 * (16 + (size_t)BIG));
    rest = malloc(unsent);
    NEED(all && rest);
    nbd_outbox_copy_unsent(fixture.outbox, rest);
    while (got < 3 * (16 + (size_t)BIG) - unsent) {
        ssize_t part = recv(fixture.peer, all + got, BIG, MSG_DONTWAIT);

        NEED(part > 0);
        got += (size_t)part;
    }
    CHECK(recv(fixture.peer, all, 1, MSG_DONTWAIT) < 0);
    memcpy(all + got, rest, unsent);
    for (size_t i = 0; i < 3; i++) {
        const uint8_t *reply = all + i * (16 + (size_t)BIG);

        CHECK(reply[0] == 'a' + i && reply[15] == 'a' + i);
        CHECK(memcmp(reply + 16, fixture.data, BIG) == 0);
    }
    nbd_outbox_break(fixture.outbox);
    CHECK(released_count == 3 && nbd_outbox_unsent(fixture.outbox) == 0);
    free(all);
    free(rest);
    done(&fixture);
}
