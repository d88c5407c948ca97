/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/tls.h"

#include <pthread.h>
#include <sys/socket.h>

#include "support/tls_pair.h"
#include "unit/test.h"

enum { BIG = 3 << 20 };

struct transfer {
    struct tls_client *client;
    const char *bytes;
    char *back;
    bool ok;
};

/* Send everything, then receive as much. */
static void *echo(void *argument)
{
    struct transfer *transfer = argument;
    size_t sent = 0, got = 0;

    while (sent < BIG) {
        size_t len = BIG - sent < 10007 ? BIG - sent : 10007;
        ssize_t part =
            tls_client_send(transfer->client, transfer->bytes + sent, len);

        if (part <= 0)
            return NULL;
        sent += (size_t)part;
    }
    while (got < BIG) {
        ssize_t part = tls_client_receive(transfer->client,
                                          transfer->back + got, BIG - got);

        if (part <= 0)
            return NULL;
        got += (size_t)part;
    }
    transfer->ok = true;
    return NULL;
}

TEST("bytes pass both ways, in pieces of every size, also when the socket is "
     "full in the middle of a record")
{
    struct tls_context *context = tls_pair_context(test_dir(), false);
    struct tls_pair peer = {.options = {.dir = test_dir()}};
    struct stream *stream = tls_pair_shake_hands(context, &peer);
    char *bytes = malloc(BIG), *back = malloc(BIG), *received = malloc(BIG);
    struct transfer transfer;
    pthread_t thread;
    size_t done = 0, waits = 0;

    NEED(stream && peer.client && bytes && back && received);
    for (size_t i = 0; i < BIG; i++)
        bytes[i] = (char)(i * 13 + i / 1000);
    transfer = (struct transfer){peer.client, bytes, back, false};
    NEED(pthread_create(&thread, NULL, echo, &transfer) == 0);
    CHECK(stream_receive_all(stream, received, BIG, STREAM_FOREVER) == 0);
    CHECK(memcmp(received, bytes, BIG) == 0);
    while (done < BIG) {
        /* Small ones, an empty one, one that fills records, and the rest. */
        static const size_t cuts[] = {1, 16, 0, 4096, 40000, 28, SIZE_MAX};
        struct iovec pieces[7];
        size_t at = done;
        ssize_t sent;

        for (size_t i = 0; i < 7; i++) {
            size_t len = cuts[i] < BIG - at ? cuts[i] : BIG - at;

            pieces[i] = (struct iovec){received + at, len};
            at += len;
        }
        sent = stream_send(stream, pieces, 7, STREAM_NOW);
        if (sent == -EAGAIN) {
            waits++;
            CHECK(stream_wait_fd(stream->fd, POLLOUT, STREAM_FOREVER) == 0);
            continue;
        }
        if (!CHECK(sent > 0))
            break;
        done += (size_t)sent;
    }
    (void)pthread_join(thread, NULL);
    CHECK(transfer.ok && memcmp(back, bytes, BIG) == 0);
    CHECK(waits > 0);
    stream_close(stream);
    tls_pair_hang_up(&peer);
    tls_free(context);
    free(bytes);
    free(back);
    free(received);
}

TEST("an end that TLS announced is an end, one that it did not is an error")
{
    struct tls_context *context = tls_pair_context(test_dir(), false);

    for (int announced = 0; announced < 2; announced++) {
        struct tls_pair peer = {.options = {.dir = test_dir()}};
        struct stream *stream = tls_pair_shake_hands(context, &peer);
        char byte;

        NEED(stream && peer.client);
        CHECK(stream->one_thread);
        CHECK(stream_receive(stream, &byte, 1, STREAM_NOW) == -EAGAIN);
        if (announced)
            tls_client_bye(peer.client);
        tls_pair_hang_up(&peer);
        CHECK(stream_receive(stream, &byte, 1, STREAM_FOREVER) ==
              (announced ? 0 : -ECONNABORTED));
        stream_close(stream);
    }
    tls_free(context);
}

TEST("finish announces the end to the peer")
{
    struct tls_context *context = tls_pair_context(test_dir(), false);
    struct tls_pair peer = {.options = {.dir = test_dir()}};
    struct stream *stream = tls_pair_shake_hands(context, &peer);
    char byte;

    NEED(stream && peer.client);
    CHECK(stream_finish(stream, STREAM_FOREVER) == 0);
    CHECK(tls_client_receive(peer.client, &byte, 1) == 0);
    stream_close(stream);
    tls_pair_hang_up(&peer);
    tls_free(context);
}

TEST("garbage in the middle of a stream is an error, not data")
{
    struct tls_context *context = tls_pair_context(test_dir(), false);
    struct tls_pair peer = {.options = {.dir = test_dir()}};
    struct stream *stream = tls_pair_shake_hands(context, &peer);
    char byte;

    NEED(stream && peer.client);
    CHECK(send(peer.fd, "\x17\x03\x03\0\x20garbagegarbagegarbagegarbagegarb",
               37, 0) == 37);
    CHECK(stream_receive(stream, &byte, 1, STREAM_FOREVER) == -EPROTO);
    stream_close(stream);
    tls_pair_hang_up(&peer);
    tls_free(context);
}
