/* SPDX-License-Identifier: BSD-2-Clause */
#include <linux/sockios.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/tls.h"
#include "support/tls_peer.h"
#include "unit/test.h"

/* What a good server has. */
static const struct certificate_setup good = {
    .common_name = "s3",
    .names = {"s3.example", "*.s3.example"},
    .address = "127.0.0.1",
};

TEST("with a certificate that is trusted and for this name, bytes pass; the "
     "server is told the name, and that HTTP/1.1 is spoken")
{
    static const char *const names[] = {"s3.example", "S3.Example",
                                        "bucket.s3.example", "s3.example."};
    struct tls_peer *peer = tls_peer_start(
        test_dir(), &(struct tls_peer_setup){.certificate = good});
    struct tls_context *context = tls_peer_client(test_dir(), false);
    char name[256], protocol[32];

    for (int i = 0; i < 4; i++) {
        struct net_failure failure = {0};
        struct stream *stream =
            tls_peer_meet(peer, context, names[i], &failure);

        CHECK(stream && tls_peer_echoes(stream));
        tls_peer_name(peer, name);
        tls_peer_protocol(peer, protocol);
        CHECK(strncmp(name, names[i], strlen(name)) == 0);
        CHECK(strlen(name) == strlen(names[i]) - (i == 3));
        CHECK(strcmp(protocol, "http/1.1") == 0);
        stream_close(stream);
    }
    tls_free(context);
    tls_peer_stop(peer);
}

TEST("an address is looked for in the certificate, and told to nobody")
{
    static const char *const names[] = {"127.0.0.1", "::1", "[::1]"};

    for (int i = 0; i < 3; i++) {
        struct tls_peer *peer = tls_peer_start(
            test_dir(),
            &(struct tls_peer_setup){
                .certificate = {.common_name = "s3",
                                .address = i == 0 ? names[0] : "::1"}});
        struct tls_context *context = tls_peer_client(test_dir(), false);
        struct net_failure failure = {0};
        struct stream *stream =
            tls_peer_meet(peer, context, names[i], &failure);
        char name[256];

        CHECK(stream && tls_peer_echoes(stream));
        tls_peer_name(peer, name);
        CHECK(name[0] == '\0');
        stream_close(stream);
        tls_free(context);
        tls_peer_stop(peer);
    }
}

TEST("the deadline ends a handshake that the peer does not answer")
{
    struct tls_context *context;
    struct net_failure failure = {0};
    struct stream *stream, *before;
    int fds[2];

    tls_peer_stop(tls_peer_start(
        test_dir(), &(struct tls_peer_setup){.certificate = good}));
    context = tls_peer_client(test_dir(), false);
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    NEED(stream_open(fds[0], &stream) == 0);
    before = stream;
    CHECK(tls_connect(context, "s3.example", &stream,
                      clock_monotonic_ns() + 1000000, &failure) == -ETIMEDOUT);
    CHECK(stream == before);
    CHECK(failure.error == -ETIMEDOUT && strstr(failure.text, "in time"));
    stream_close(stream);
    (void)close(fds[1]);
    tls_free(context);
}

static void *shut_down_later(void *argument)
{
    struct stream *stream = argument;
    struct pollfd polled = {.fd = stream->fd, .events = POLLIN};

    /* The client's hello has come: it waits for an answer. */
    CHECK(poll(&polled, 1, -1) == 1);
    stream_shutdown(stream);
    return NULL;
}

TEST("a shutdown by another thread ends a handshake")
{
    struct tls_context *context;
    struct net_failure failure = {0};
    struct stream *ours = NULL, *theirs = NULL;
    pthread_t thread;
    int fds[2];

    tls_peer_stop(tls_peer_start(
        test_dir(), &(struct tls_peer_setup){.certificate = good}));
    context = tls_peer_client(test_dir(), false);
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    NEED(stream_open(fds[0], &ours) == 0 && stream_open(fds[1], &theirs) == 0);
    NEED(pthread_create(&thread, NULL, shut_down_later, theirs) == 0);
    CHECK(tls_connect(context, "s3.example", &ours, STREAM_FOREVER, &failure) ==
          -ECONNABORTED);
    (void)pthread_join(thread, NULL);
    stream_close(ours);
    stream_close(theirs);
    tls_free(context);
}

/* ---- tickets ------------------------------------------------------------ */

/* Give tickets when told to ('t'), else answer; end when told to ('q'). */
static void serve_commands(void *context,
                           struct tls_peer_connection *connection)
{
    char command;

    (void)context;
    while (tls_peer_receive(connection, &command, 1) == 1) {
        if (command == 't')
            tls_peer_give_ticket(connection);
        else if (command == 'q')
            break;
        else if (!tls_peer_send(connection, &command, 1))
            return;
    }
    tls_peer_bye(connection);
}

static bool command_sent(struct stream *stream, char command)
{
    return stream_send_all(stream, &command, 1, STREAM_FOREVER) == 0;
}

TEST("a ticket that comes while nobody asks is no data, and the next "
     "handshake is short because of it, but only one")
{
    struct tls_peer_setup setup = {
        .certificate = good, .gives_tickets = true, .serve = serve_commands};
    struct tls_peer *peer = tls_peer_start(test_dir(), &setup);
    struct tls_context *context = tls_peer_client(test_dir(), false);
    struct net_failure failure = {0};
    struct stream *stream =
        tls_peer_meet(peer, context, "s3.example", &failure);
    char byte = 0;

    NEED(stream);
    CHECK(command_sent(stream, 't'));
    CHECK(stream_wait_fd(stream->fd, POLLIN, STREAM_FOREVER) == 0);
    CHECK(stream_receive(stream, &byte, 1, STREAM_NOW) == -EAGAIN);
    CHECK(command_sent(stream, 'x'));
    CHECK(stream_receive(stream, &byte, 1, STREAM_FOREVER) == 1 && byte == 'x');
    stream_close(stream);
    for (unsigned i = 0; i < 2; i++) {
        stream = tls_peer_meet(peer, context, "s3.example", &failure);
        NEED(stream);
        CHECK(command_sent(stream, 'x'));
        CHECK(stream_receive(stream, &byte, 1, STREAM_FOREVER) == 1);
        CHECK(tls_peer_resumed(peer) == 1);
        CHECK(tls_peer_handshakes(peer) == i + 2);
        stream_close(stream);
    }
    tls_free(context);
    tls_peer_stop(peer);
}

TEST("a ticket that came together with data is data and a ticket")
{
    struct tls_peer_setup setup = {
        .certificate = good, .gives_tickets = true, .serve = serve_commands};
    struct tls_peer *peer = tls_peer_start(test_dir(), &setup);
    struct tls_context *context = tls_peer_client(test_dir(), false);
    struct net_failure failure = {0};
    struct stream *stream =
        tls_peer_meet(peer, context, "s3.example", &failure);
    char bytes[3];

    NEED(stream);
    CHECK(stream_send_all(stream, "tatbt", 5, STREAM_FOREVER) == 0);
    CHECK(stream_receive_all(stream, bytes, 2, STREAM_FOREVER) == 0);
    CHECK(bytes[0] == 'a' && bytes[1] == 'b');
    CHECK(command_sent(stream, 'c'));
    CHECK(stream_receive_all(stream, bytes, 1, STREAM_FOREVER) == 0);
    CHECK(bytes[0] == 'c');
    stream_close(stream);
    tls_free(context);
    tls_peer_stop(peer);
}

TEST("of TLS 1.2, too, a second handshake is short; under another name it is "
     "not")
{
    struct tls_peer_setup setup = {.certificate = good, .gives_tickets = true};
    struct tls_peer *peer;
    struct tls_context *context;
    struct net_failure failure = {0};
    static const char *const names[] = {"s3.example", "a.s3.example",
                                        "s3.example"};

    setup.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
    peer = tls_peer_start(test_dir(), &setup);
    context = tls_peer_client(test_dir(), false);
    for (unsigned i = 0; i < 3; i++) {
        struct stream *stream =
            tls_peer_meet(peer, context, names[i], &failure);

        CHECK(stream && tls_peer_echoes(stream));
        CHECK(tls_peer_resumed(peer) == (i == 2));
        stream_close(stream);
    }
    tls_free(context);
    tls_peer_stop(peer);
}

/* ---- the end, and what is no end ---------------------------------------- */

enum { MANY_TICKETS = 100 };

/* Send many tickets, then a byte of data; say when all has arrived. */
static void serve_tickets(void *context, struct tls_peer_connection *connection)
{
    sem_t *is_sent = context;
    int unacknowledged = 0;
    char command;

    if (tls_peer_receive(connection, &command, 1) != 1)
        return;
    for (int i = 0; i < MANY_TICKETS; i++)
        tls_peer_give_ticket(connection);
    CHECK(tls_peer_send(connection, &command, 1));
    do
        (void)sched_yield();
    while (ioctl(tls_peer_fd(connection), SIOCOUTQ, &unacknowledged) == 0 &&
           unacknowledged > 0);
    (void)sem_post(is_sent);
    (void)tls_peer_receive(connection, &command, 1);
}

TEST("a peer that sends one ticket after another holds up nobody: not past a "
     "deadline, and not at all who does not wait; who does wait gets the data "
     "behind them")
{
    sem_t is_sent;
    struct tls_peer_setup setup = {.certificate = good,
                                   .gives_tickets = true,
                                   .serve = serve_tickets,
                                   .context = &is_sent};
    struct tls_peer *peer;
    struct tls_context *context;
    /* Of the beginning of all time, so it is over; and further ones. */
    static const uint64_t deadlines[] = {1, STREAM_NOW, STREAM_FOREVER};
    static const ssize_t results[] = {-ETIMEDOUT, -EPROTO, 1};

    NEED(sem_init(&is_sent, 0, 0) == 0);
    peer = tls_peer_start(test_dir(), &setup);
    context = tls_peer_client(test_dir(), false);
    for (int i = 0; i < 3; i++) {
        struct net_failure failure = {0};
        struct stream *stream =
            tls_peer_meet(peer, context, "s3.example", &failure);
        char byte;

        NEED(stream);
        CHECK(command_sent(stream, 'x'));
        while (sem_wait(&is_sent) < 0)
            ;
        CHECK(stream_receive(stream, &byte, 1, deadlines[i]) == results[i]);
        stream_close(stream);
    }
    tls_free(context);
    tls_peer_stop(peer);
    (void)sem_destroy(&is_sent);
}

static void serve_end(void *context, struct tls_peer_connection *connection)
{
    char command;

    (void)context;
    if (tls_peer_receive(connection, &command, 1) == 1 &&
        tls_peer_send(connection, "data", 4) && command == 'b')
        tls_peer_bye(connection);
}

TEST("an end that was announced is an end; one that was not is an error, after "
     "all that came before it")
{
    struct tls_peer_setup setup = {.certificate = good, .serve = serve_end};
    struct tls_peer *peer = tls_peer_start(test_dir(), &setup);
    struct tls_context *context = tls_peer_client(test_dir(), false);

    for (int announced = 0; announced < 2; announced++) {
        struct net_failure failure = {0};
        struct stream *stream =
            tls_peer_meet(peer, context, "s3.example", &failure);
        char data[8];

        NEED(stream);
        CHECK(command_sent(stream, announced ? 'b' : 'x'));
        CHECK(stream_receive_all(stream, data, 4, STREAM_FOREVER) == 0);
        CHECK(memcmp(data, "data", 4) == 0);
        CHECK(stream_receive(stream, data, sizeof(data), STREAM_FOREVER) ==
              (announced ? 0 : -ECONNABORTED));
        stream_close(stream);
    }
    tls_free(context);
    tls_peer_stop(peer);
}

/* ---- whom to trust ------------------------------------------------------ */

TEST("files of authorities that are missing or have none are told apart")
{
    struct tls_client_options options = {.ca_file = "/nonexistent"};
    struct tls_context *context = NULL;
    char path[PATH_MAX];
    FILE *file;

    CHECK(tls_client_new(&options, &context) == -ENOENT);
    (void)snprintf(path, sizeof(path), "%s/empty.pem", test_dir());
    file = fopen(path, "w");
    NEED(file);
    (void)fputs("no certificate\n", file);
    (void)fclose(file);
    options.ca_file = path;
    CHECK(tls_client_new(&options, &context) == -EINVAL);
    options.is_insecure = true;
    CHECK(tls_client_new(&options, &context) == -EINVAL);
}

TEST("without a file it is those whom the system trusts, who know nothing of "
     "a test's authority")
{
    struct tls_peer *peer;
    struct tls_context *context;
    struct net_failure failure = {0};

    if (access("/etc/ssl/certs/ca-certificates.crt", R_OK) < 0)
        SKIP("no ca-certificates here");
    peer = tls_peer_start(test_dir(),
                          &(struct tls_peer_setup){.certificate = good});
    NEED(tls_client_new(&(struct tls_client_options){.ca_file = NULL},
                        &context) == 0);
    CHECK(!tls_peer_meet(peer, context, "s3.example", &failure));
    CHECK(failure.error == -EKEYREJECTED);
    CHECK(strstr(failure.text, "\"CN=test authority\"") &&
          strstr(failure.text, "this system's authorities"));
    tls_free(context);
    tls_peer_stop(peer);
}
