/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_target.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>

#include "support/tls_peer.h"
#include "unit/test.h"

#define SECOND UINT64_C(1000000000)

static uint64_t idle_ns(const char *host)
{
    struct s3_target *target = s3_target_new(host, 443, NULL);
    uint64_t result = s3_target_idle_ns(target);

    s3_target_release(target);
    return result;
}

TEST("connections to AWS are kept idle for less time than others")
{
    CHECK(idle_ns("s3.eu-central-1.amazonaws.com") == 4 * SECOND);
    CHECK(idle_ns("bucket.S3.cn-north-1.AmazonAWS.com.cn") == 4 * SECOND);
    CHECK(idle_ns("s3.example") == 12 * SECOND);
    CHECK(idle_ns("amazonaws.com.example") == 12 * SECOND);
    CHECK(idle_ns("notamazonaws.com") == 12 * SECOND);
}

TEST("a target lives while somebody holds it")
{
    struct s3_target *target = s3_target_new("s3.example", 443, "s3.example");
    struct s3_target *plain = s3_target_new("s3.example", 443, NULL);

    CHECK(s3_target_hold(target) == target);
    s3_target_release(target);
    CHECK(s3_target_is_tls(target));
    CHECK(!s3_target_is_tls(plain));
    s3_target_release(target);
    s3_target_release(plain);
    s3_target_release(NULL);
}

/* Knows two addresses for every host. */
static int two_addresses(void *context, const char *host,
                         struct net_address addresses[], size_t max,
                         size_t *ret_count)
{
    (void)context;
    (void)host;
    if (max < 2 || net_address_parse("127.0.0.2", 0, &addresses[0]) < 0 ||
        net_address_parse("127.0.0.1", 0, &addresses[1]) < 0)
        abort();
    *ret_count = 2;
    return 0;
}

/* Listen at 127.0.0.1 or .2, at this port, or at any if it is 0. */
static int listen_at(const char *host, uint16_t *port)
{
    struct net_address address;
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || net_address_parse(host, *port, &address) < 0 ||
        bind(fd, &address.any, net_address_len(&address)) < 0 ||
        listen(fd, 8) < 0 || getsockname(fd, &address.any, &len) < 0)
        abort();
    *port = ntohs(address.v4.sin_port);
    return fd;
}

/* Connect, and tell to where; or why not. */
static int connect_to(struct s3_target *target, struct resolver *resolver,
                      char text[256])
{
    struct net_address address;
    struct net_failure failure = {0};
    int fd = s3_target_connect(target, resolver, -1, STREAM_FOREVER, &address,
                               &failure);

    if (fd >= 0)
        (void)net_address_format(&address, text);
    else
        memcpy(text, failure.text, sizeof(failure.text));
    return fd;
}

TEST("an address that refused is not the first in its turn")
{
    uint16_t port = 0;
    int listening = listen_at("127.0.0.1", &port), fd;
    struct s3_target *target = s3_target_new("s3.example", port, NULL);
    struct resolver *resolver;
    char text[256];

    NEED(resolver_new(60 * SECOND, &resolver) == 0);
    resolver_set_lookup_for_tests(resolver, two_addresses, NULL);
    for (int i = 0; i < 2; i++) {
        fd = connect_to(target, resolver, text);
        CHECK(fd >= 0 && strstr(text, "127.0.0.1:") == text);
        (void)close(fd);
    }
    (void)close(listening);
    /* All are told in the order in which they were tried. */
    CHECK(connect_to(target, resolver, text) == -ECONNREFUSED);
    CHECK(strstr(text, "127.0.0.1:") == text);
    CHECK(strstr(text, "127.0.0.2:"));
    s3_target_release(target);
    resolver_free(resolver);
}

TEST("an address behind which TLS fails is not the first in its turn, but if "
     "it is for its certificate")
{
    for (int is_name = 0; is_name < 2; is_name++) {
        struct tls_peer_setup setup = {
            .certificate = {.common_name = "s3", .names = {"s3.example"}}};
        struct tls_peer *peer;
        struct tls_context *context;
        struct s3_target *target;
        struct resolver *resolver;
        uint16_t port;
        int listening, in_turn = 0;

        if (!is_name)
            setup.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.1:%COMPAT";
        peer = tls_peer_start(test_dir(), &setup);
        port = tls_peer_port(peer);
        context = tls_peer_client(test_dir(), false);
        listening = listen_at("127.0.0.2", &port);
        target = s3_target_new("s3.example", port, "other.example");
        NEED(resolver_new(60 * SECOND, &resolver) == 0);
        resolver_set_lookup_for_tests(resolver, two_addresses, NULL);
        for (int i = 0; i < 6; i++) {
            struct net_failure failure = {0};
            struct net_address address;
            struct stream *stream = NULL;
            char text[NET_ADDRESS_TEXT];
            int fd = s3_target_connect(target, resolver, -1, STREAM_FOREVER,
                                       &address, &failure);

            NEED(fd >= 0 && stream_open(fd, &stream) == 0);
            (void)net_address_format(&address, text);
            if (strstr(text, "127.0.0.1:") == text) {
                in_turn++;
                CHECK(s3_target_secure(target, context, &address, &stream,
                                       STREAM_FOREVER, &failure) ==
                      (is_name ? -EKEYREJECTED : -EPROTO));
                CHECK(strstr(failure.text, text) == failure.text);
            }
            stream_close(stream);
        }
        CHECK(in_turn == (is_name ? 3 : 1));
        (void)close(listening);
        tls_peer_stop(peer);
        s3_target_release(target);
        resolver_free(resolver);
        tls_free(context);
    }
}

TEST("a host that is not found is told")
{
    struct s3_target *target = s3_target_new("", 443, NULL);
    struct resolver *resolver;
    struct net_address address;
    struct net_failure failure = {0};

    NEED(resolver_new(60 * SECOND, &resolver) == 0);
    CHECK(s3_target_connect(target, resolver, -1, STREAM_FOREVER, &address,
                            &failure) == -EADDRNOTAVAIL);
    CHECK(failure.error == -EADDRNOTAVAIL && strstr(failure.text, "unknown"));
    s3_target_release(target);
    resolver_free(resolver);
}
