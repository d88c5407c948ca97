/* SPDX-License-Identifier: BSD-2-Clause */
#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/tls.h"
#include "support/tls_peer.h"
#include "unit/test.h"

/* What a good server has. */
static const struct certificate_setup good = {
    .common_name = "s3",
    .names = {"s3.example", "*.s3.example"},
    .address = "127.0.0.1",
};

static bool says(const struct net_failure *failure, int error,
                 const char *const words[], size_t count)
{
    bool is_right = failure->error == error;

    for (size_t i = 0; i < count; i++)
        is_right = is_right && strstr(failure->text, words[i]);
    if (!is_right)
        printf("# %d: %s\n", failure->error, failure->text);
    return is_right;
}

#define SAYS(failure, error, ...)                                              \
    CHECK(says(failure, error, (const char *const[]){__VA_ARGS__},             \
               sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)))

/* Have a certificate refused, or not looked at; tell why. */
static void refuse(const struct tls_peer_setup *setup, const char *name,
                   struct net_failure *failure)
{
    struct tls_peer *peer = tls_peer_start(test_dir(), setup);
    struct tls_context *strict = tls_peer_client(test_dir(), false);
    struct tls_context *insecure = tls_peer_client(test_dir(), true);
    struct stream *stream = tls_peer_meet(peer, strict, name, failure);

    CHECK(!stream);
    stream_close(stream);
    stream =
        tls_peer_meet(peer, insecure, name, &(struct net_failure){.error = 0});
    CHECK(stream && tls_peer_echoes(stream));
    stream_close(stream);
    tls_free(strict);
    tls_free(insecure);
    tls_peer_stop(peer);
}

TEST("a certificate that nobody trusted has signed is refused, and its issuer "
     "is told")
{
    struct net_failure failure;

    refuse(&(struct tls_peer_setup){.certificate = good,
                                    .is_signed_by_other = true},
           "s3.example", &failure);
    SAYS(&failure, -EKEYREJECTED, "\"s3.example\"", "not trusted",
         "\"CN=other authority\"", "ca-cert.pem");
}

TEST("a certificate for other names is refused, and they are told")
{
    struct net_failure failure;

    refuse(&(struct tls_peer_setup){.certificate = good}, "minio.example",
           &failure);
    SAYS(&failure, -EKEYREJECTED, "\"minio.example\"", "for other names: ",
         "\"s3.example\", \"*.s3.example\", \"127.0.0.1\"");
}

TEST("a certificate without the address that was connected to is refused")
{
    const struct tls_peer_setup without = {
        .certificate = {.common_name = "127.0.0.1", .names = {"s3.example"}}};
    struct net_failure failure;

    refuse(&without, "127.0.0.1", &failure);
    SAYS(&failure, -EKEYREJECTED, "\"127.0.0.1\"",
         "for other names: ", "\"s3.example\"");
}

TEST("of a certificate without other names the common name is told, and one "
     "that has none has nobody")
{
    struct net_failure failure;

    refuse(&(struct tls_peer_setup){.certificate = {.common_name =
                                                        "old\r\x1b[31m"}},
           "s3.example", &failure);
    SAYS(&failure, -EKEYREJECTED, "\"old??[31m\" (as a common name only)");
    refuse(&(struct tls_peer_setup){.certificate = {.common_name = NULL}},
           "s3.example", &failure);
    SAYS(&failure, -EKEYREJECTED, "for other names: nobody");
}

TEST("an expired certificate is refused with its date, one that is not valid "
     "yet too")
{
    struct tls_peer_setup setup = {.certificate = good};
    struct net_failure failure;

    setup.certificate.starts_s = -7200;
    setup.certificate.ends_s = -3600;
    refuse(&setup, "s3.example", &failure);
    SAYS(&failure, -EKEYREJECTED, "it has expired on 2", " UTC", "clock");
    setup.certificate.starts_s = 3600;
    setup.certificate.ends_s = 7200;
    refuse(&setup, "s3.example", &failure);
    SAYS(&failure, -EKEYREJECTED, "it is not valid before 2", " UTC", "clock");
}

TEST("all that is wrong with a certificate is told together")
{
    struct tls_peer_setup setup = {.certificate = good,
                                   .is_signed_by_other = true};
    struct net_failure failure;

    setup.certificate.starts_s = -7200;
    setup.certificate.ends_s = -3600;
    refuse(&setup, "no", &failure);
    SAYS(&failure, -EKEYREJECTED, "not trusted");
    setup.is_signed_by_other = false;
    refuse(&setup, "no", &failure);
    SAYS(&failure, -EKEYREJECTED, "expired", "; it is for other names: ");
}

/* ---- peers that are no servers ------------------------------------------ */

/* A peer that answers the first bytes of each connection with these. */
struct rude {
    int fd;
    pthread_t thread;
    const char *answer;
    size_t len;
    uint16_t port;
};

static void *be_rude(void *argument)
{
    struct rude *rude = argument;
    int fd = accept(rude->fd, NULL, NULL);
    char hello[4096];

    CHECK(recv(fd, hello, sizeof(hello), 0) > 0);
    CHECK(send(fd, rude->answer, rude->len, MSG_NOSIGNAL) ==
          (ssize_t)rude->len);
    /* No reset: the client is to read the answer. */
    (void)shutdown(fd, SHUT_WR);
    while (recv(fd, hello, sizeof(hello), 0) > 0)
        ;
    (void)close(fd);
    return NULL;
}

static void meet_rude(struct rude *rude, struct net_failure *failure)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t len = sizeof(address);
    struct tls_context *context = tls_peer_client(test_dir(), true);
    struct stream *stream;

    rude->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(rude->fd, (struct sockaddr *)&address, len) < 0 ||
        listen(rude->fd, 4) < 0 ||
        getsockname(rude->fd, (struct sockaddr *)&address, &len) < 0 ||
        pthread_create(&rude->thread, NULL, be_rude, rude) != 0)
        abort();
    stream = tls_peer_plain(ntohs(address.sin_port));
    CHECK(tls_connect(context, "s3.example", &stream, STREAM_FOREVER,
                      failure) == failure->error);
    stream_close(stream);
    (void)pthread_join(rude->thread, NULL);
    (void)close(rude->fd);
    tls_free(context);
}

TEST("a peer that speaks no TLS is told, with its first words")
{
    static const char http[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    static const char ssh[] = "SSH-2.0\r\n";
    struct net_failure failure;

    tls_peer_stop(tls_peer_start(
        test_dir(), &(struct tls_peer_setup){.certificate = good}));
    meet_rude(&(struct rude){.answer = http, .len = sizeof(http) - 1},
              &failure);
    SAYS(&failure, -EPROTO, "speaks no TLS", "\"HTTP/1.1 400 Bad\"");
    meet_rude(&(struct rude){.answer = ssh, .len = sizeof(ssh) - 1}, &failure);
    SAYS(&failure, -EPROTO, "speaks no TLS", "\"SSH-2.0??\"");
}

TEST("a peer that hangs up, or refuses by TLS's own words, is told")
{
    static const char alert[] = {21, 3, 3, 0, 2, 2, 40};
    struct net_failure failure;

    tls_peer_stop(tls_peer_start(
        test_dir(), &(struct tls_peer_setup){.certificate = good}));
    meet_rude(&(struct rude){.answer = "", .len = 0}, &failure);
    SAYS(&failure, -ECONNABORTED, "ended the connection during");
    meet_rude(&(struct rude){.answer = alert, .len = sizeof(alert)}, &failure);
    SAYS(&failure, -EPROTO, "refused the TLS handshake", "andshake failed");
}

TEST("a server that only knows old TLS is refused")
{
    struct tls_peer_setup setup = {.certificate = good};
    struct tls_peer *peer;
    struct tls_context *context;
    struct net_failure failure = {0};

    setup.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.1:%COMPAT";
    peer = tls_peer_start(test_dir(), &setup);
    context = tls_peer_client(test_dir(), false);
    CHECK(!tls_peer_meet(peer, context, "s3.example", &failure));
    SAYS(&failure, -EPROTO, "no version of TLS that is still secure");
    tls_free(context);
    tls_peer_stop(peer);
}
