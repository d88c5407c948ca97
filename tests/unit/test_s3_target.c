/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_target.h"

#include <netdb.h>
#include <sys/socket.h>

#include "base/connect.h"
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

TEST("an address that refused is not the first again, one that does not get "
     "through TLS neither")
{
    struct tls_peer *peer = tls_peer_start(
        test_dir(),
        &(struct tls_peer_setup){
            .certificate = {.common_name = "s3", .names = {"s3.example"}},
            .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.1:%COMPAT"});
    struct tls_context *context = tls_peer_client(test_dir(), false);
    struct s3_target *target =
        s3_target_new("s3.example", tls_peer_port(peer), "s3.example");
    struct resolver *resolver;
    struct net_failure failure = {0};
    char text[NET_ADDRESS_TEXT];

    NEED(resolver_new(60 * SECOND, &resolver) == 0);
    resolver_set_lookup_for_tests(resolver, two_addresses, NULL);
    for (int i = 0; i < 3; i++) {
        struct net_address address;
        struct stream *stream;
        int fd = s3_target_connect(target, resolver, -1, STREAM_FOREVER,
                                   &address, &failure);

        NEED(fd >= 0 && stream_open(fd, &stream) == 0);
        (void)net_address_format(&address, text);
        CHECK(strstr(text, "127.0.0.1:") == text);
        CHECK(s3_target_secure(target, context, &address, &stream,
                               STREAM_FOREVER, &failure) == -EPROTO);
        CHECK(failure.error == -EPROTO && strstr(failure.text, text));
        stream_close(stream);
    }
    tls_peer_stop(peer);
    /* Both rest, so both are tried: what refused last is told first. */
    CHECK(s3_target_connect(target, resolver, -1, STREAM_FOREVER,
                            &(struct net_address){0},
                            &failure) == -ECONNREFUSED);
    CHECK(strstr(failure.text, "127.0.0.1:") &&
          strstr(failure.text, "127.0.0.2:"));
    s3_target_release(target);
    resolver_free(resolver);
    tls_free(context);
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
