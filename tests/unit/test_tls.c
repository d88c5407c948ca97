/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/tls.h"

#include <pthread.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "support/tls_client.h"
#include "unit/test.h"

enum { BIG = 3 << 20 };

static char keys_path[PATH_MAX];

/* Make the files, and a context of certificates and keys. */
static struct tls_context *make_context(bool verify_peer)
{
    const struct tls_server_options options = {
        .certificates_dir = test_dir(),
        .psk_file = keys_path,
        .verify_peer = verify_peer,
    };
    struct tls_context *context = NULL;

    tls_client_make_files(test_dir());
    (void)snprintf(keys_path, sizeof(keys_path), "%s/keys.psk", test_dir());
    if (tls_server_new(&options, &context) < 0)
        abort();
    return context;
}

struct peer {
    struct tls_client_setup options;
    int fd;
    struct tls_client *client;
};

static void *start_client(void *argument)
{
    struct peer *peer = argument;

    peer->client = tls_client_start(&peer->options, peer->fd);
    return NULL;
}

/* Shake hands between a server's stream and a client: NULL if it fails. */
static struct stream *shake_hands(struct tls_context *context,
                                  struct peer *peer)
{
    struct stream *stream;
    pthread_t thread;
    int fds[2], error;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
        stream_open(fds[0], &stream) < 0)
        abort();
    peer->fd = fds[1];
    if (pthread_create(&thread, NULL, start_client, peer) != 0)
        abort();
    error = tls_accept(context, &stream, STREAM_FOREVER);
    if (error < 0) {
        stream_close(stream);
        stream = NULL;
    }
    (void)pthread_join(thread, NULL);
    return stream;
}

static void hang_up(struct peer *peer)
{
    tls_client_free(peer->client);
    peer->client = NULL;
    (void)close(peer->fd);
}

TEST("missing or broken files are told apart, and nothing is left behind")
{
    struct tls_server_options options = {0};
    struct tls_context *context = NULL;
    char path[PATH_MAX];
    FILE *file;

    CHECK(tls_server_new(&options, &context) == -EINVAL);
    options.psk_file = "/nonexistent";
    CHECK(tls_server_new(&options, &context) == -ENOENT);
    options.verify_peer = true;
    CHECK(tls_server_new(&options, &context) == -EINVAL);
    options = (struct tls_server_options){.certificates_dir = test_dir()};
    CHECK(tls_server_new(&options, &context) == -ENOENT);
    tls_client_make_files(test_dir());
    CHECK(tls_server_new(&options, &context) == 0);
    tls_free(context);
    (void)snprintf(path, sizeof(path), "%s/ca-cert.pem", test_dir());
    CHECK(unlink(path) == 0);
    CHECK(tls_server_new(&options, &context) == 0);
    tls_free(context);
    options.verify_peer = true;
    CHECK(tls_server_new(&options, &context) == -ENOENT);
    file = fopen(path, "w");
    NEED(file);
    (void)fclose(file);
    CHECK(tls_server_new(&options, &context) == -EINVAL);
    options.verify_peer = false;
    (void)snprintf(path, sizeof(path), "%s/server-key.pem", test_dir());
    CHECK(truncate(path, 20) == 0);
    CHECK(tls_server_new(&options, &context) == -EINVAL);
    tls_free(NULL);
}

TEST("with a pre-shared key, a stock client gets AES-128-GCM, not the slow "
     "cipher; with a certificate, AES-256-GCM")
{
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("aes"))
        SKIP("this processor has no AES");
#endif
    struct tls_context *context = make_context(false);
    struct peer by_key = {.options = {.psk = true}};
    struct peer by_certificate = {.options = {.dir = test_dir()}};
    struct stream *stream = shake_hands(context, &by_key);

    CHECK(stream && by_key.client);
    CHECK(strcmp(tls_client_cipher(by_key.client), "AES-128-GCM") == 0);
    stream_close(stream);
    hang_up(&by_key);
    stream = shake_hands(context, &by_certificate);
    CHECK(stream && by_certificate.client);
    CHECK(strcmp(tls_client_cipher(by_certificate.client), "AES-256-GCM") == 0);
    stream_close(stream);
    hang_up(&by_certificate);
    tls_free(context);
}

TEST("TLS 1.2 and 1.3 are spoken, older ones are not")
{
    static const char *const versions[] = {
        "NORMAL:-VERS-ALL:+VERS-TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.2",
        "NORMAL:-VERS-ALL:+VERS-TLS1.1:%COMPAT",
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:+ECDHE-PSK:+PSK"};
    struct tls_context *context = make_context(false);

    for (int i = 0; i < 4; i++) {
        struct peer peer = {.options = {.dir = test_dir(),
                                        .psk = i == 3,
                                        .priority = versions[i]}};
        struct stream *stream = shake_hands(context, &peer);

        CHECK((stream != NULL) == (i != 2));
        CHECK((peer.client != NULL) == (i != 2));
        stream_close(stream);
        hang_up(&peer);
    }
    tls_free(context);
}

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
    struct tls_context *context = make_context(false);
    struct peer peer = {.options = {.dir = test_dir()}};
    struct stream *stream = shake_hands(context, &peer);
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
    hang_up(&peer);
    tls_free(context);
    free(bytes);
    free(back);
    free(received);
}

TEST("an end that TLS announced is an end, one that it did not is an error")
{
    struct tls_context *context = make_context(false);

    for (int announced = 0; announced < 2; announced++) {
        struct peer peer = {.options = {.dir = test_dir()}};
        struct stream *stream = shake_hands(context, &peer);
        char byte;

        NEED(stream && peer.client);
        CHECK(stream->one_thread);
        CHECK(stream_receive(stream, &byte, 1, STREAM_NOW) == -EAGAIN);
        if (announced)
            tls_client_bye(peer.client);
        hang_up(&peer);
        CHECK(stream_receive(stream, &byte, 1, STREAM_FOREVER) ==
              (announced ? 0 : -ECONNRESET));
        stream_close(stream);
    }
    tls_free(context);
}

TEST("finish announces the end to the peer")
{
    struct tls_context *context = make_context(false);
    struct peer peer = {.options = {.dir = test_dir()}};
    struct stream *stream = shake_hands(context, &peer);
    char byte;

    NEED(stream && peer.client);
    CHECK(stream_finish(stream, STREAM_FOREVER) == 0);
    CHECK(tls_client_receive(peer.client, &byte, 1) == 0);
    stream_close(stream);
    hang_up(&peer);
    tls_free(context);
}

TEST("a handshake meets its deadline when the peer says nothing")
{
    struct tls_context *context = make_context(false);
    struct stream *stream, *before;
    int fds[2];

    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    NEED(stream_open(fds[0], &stream) == 0);
    before = stream;
    CHECK(tls_accept(context, &stream, clock_monotonic_ns() + 1000000) ==
          -ETIMEDOUT);
    CHECK(stream == before);
    stream_close(stream);
    (void)close(fds[1]);
    tls_free(context);
}

TEST("garbage in the middle of a stream is an error, not data")
{
    struct tls_context *context = make_context(false);
    struct peer peer = {.options = {.dir = test_dir()}};
    struct stream *stream = shake_hands(context, &peer);
    char byte;

    NEED(stream && peer.client);
    CHECK(send(peer.fd, "\x17\x03\x03\0\x20garbagegarbagegarbagegarbagegarb",
               37, 0) == 37);
    CHECK(stream_receive(stream, &byte, 1, STREAM_FOREVER) == -EPROTO);
    stream_close(stream);
    hang_up(&peer);
    tls_free(context);
}
