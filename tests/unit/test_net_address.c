/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/net_address.h"

#include <arpa/inet.h>

#include "unit/test.h"

static bool reads_back(const char *text, const char *expected)
{
    char written[NET_ADDRESS_TEXT];
    struct net_address address;

    return net_address_parse(text, 443, &address) == 0 &&
           strcmp(net_address_format(&address, written), expected) == 0;
}

TEST("numeric addresses of both kinds are understood, with brackets or not")
{
    CHECK(reads_back("192.0.2.1", "192.0.2.1:443"));
    CHECK(reads_back("::1", "[::1]:443"));
    CHECK(reads_back("[::1]", "[::1]:443"));
    CHECK(reads_back("2001:DB8:0::5", "[2001:db8::5]:443"));
    CHECK(reads_back("fe80::1%lo", "[fe80::1%lo]:443"));
    CHECK(reads_back("[fe80::1%lo]", "[fe80::1%lo]:443"));
}

TEST("what is no numeric address is none, however odd")
{
    static const char *const texts[] = {
        "",
        "localhost",
        "1",
        "127.1",
        "192.0.2.256",
        "192.0.2.1 ",
        "[192.0.2.1]",
        "[",
        "[]",
        "[::1",
        "::1]",
        "fe80::1%",
        "fe80::1%no-such-interface",
        "1:2:3:4:5:6:7:8:9",
        "[111111111111111111111111111111111111111111111111111111111111::1]",
    };
    struct net_address address;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        CHECK(net_address_parse(texts[i], 80, &address) == -EINVAL);
}

TEST("two addresses are the same if kind, address and port are")
{
    static const char *const texts[] = {"192.0.2.1", "192.0.2.2",  "::1",
                                        "::2",       "fe80::1%lo", "fe80::1"};
    struct net_address a, b;

    for (size_t i = 0; i < 6; i++) {
        for (size_t j = 0; j < 6; j++) {
            NEED(net_address_parse(texts[i], 80, &a) == 0);
            NEED(net_address_parse(texts[j], 80, &b) == 0);
            CHECK(net_address_equals(&a, &b) == (i == j));
            net_address_set_port(&b, 81);
            CHECK(!net_address_equals(&a, &b));
        }
    }
}

TEST("the kernel is given as many bytes as the kind of address has")
{
    struct net_address address;

    NEED(net_address_parse("192.0.2.1", 80, &address) == 0);
    CHECK(net_address_len(&address) == sizeof(struct sockaddr_in));
    CHECK(ntohs(address.v4.sin_port) == 80);
    NEED(net_address_parse("::1", 80, &address) == 0);
    CHECK(net_address_len(&address) == sizeof(struct sockaddr_in6));
    CHECK(ntohs(address.v6.sin6_port) == 80);
}

TEST("a failure has its error and its words, and says when they are cut")
{
    struct net_failure failure;
    char many[400];

    net_failure_set(&failure, -ECONNREFUSED, "%s:%d", "here", 5);
    CHECK(failure.error == -ECONNREFUSED);
    CHECK(strcmp(failure.text, "here:5") == 0);
    memset(many, 'x', sizeof(many) - 1);
    many[sizeof(many) - 1] = '\0';
    net_failure_set(&failure, -EIO, "%s", many);
    CHECK(strlen(failure.text) == sizeof(failure.text) - 1);
    CHECK(strcmp(failure.text + strlen(failure.text) - 4, "x...") == 0);
    many[sizeof(failure.text) - 1] = '\0';
    net_failure_set(&failure, -EIO, "%s", many);
    CHECK(strcmp(failure.text, many) == 0);
}
