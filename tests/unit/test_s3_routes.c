/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_routes.h"

#include "unit/test.h"

#define SECOND UINT64_C(1000000000)

/*
 * The order, as text: "a" to "e" are addresses of IPv4, "A" to "E" of IPv6,
 * given in the order of letters.
 */
static struct net_address address_of(char letter)
{
    struct net_address address;
    char text[] = "192.0.2.x";

    if (letter >= 'a') {
        text[8] = (char)(letter - 'a' + '1');
    } else {
        memcpy(text, "2001::x", 8);
        text[6] = (char)(letter - 'A' + '1');
    }
    if (net_address_parse(text, 443, &address) < 0)
        abort();
    return address;
}

static bool order_is(struct s3_routes *routes, uint64_t now_ns,
                     const char *given, const char *expected)
{
    struct net_address addresses[S3_ROUTES_MAX];
    size_t count = strlen(given);
    bool is_right = true;

    for (size_t i = 0; i < count; i++)
        addresses[i] = address_of(given[i]);
    s3_routes_order(routes, addresses, count, now_ns);
    for (size_t i = 0; i < count; i++) {
        struct net_address wanted = address_of(expected[i]);

        is_right = is_right && net_address_equals(&addresses[i], &wanted);
    }
    return is_right;
}

static void learn(struct s3_routes *routes, char letter, bool works,
                  uint64_t now_ns)
{
    struct net_address address = address_of(letter);

    s3_routes_learn(routes, &address, works, now_ns);
}

TEST("addresses are used in turn, those of each kind by themselves; the kind "
     "of the first stays first")
{
    struct s3_routes routes = {0};

    CHECK(order_is(&routes, 0, "ABabc", "ABabc"));
    CHECK(order_is(&routes, 0, "ABabc", "BAbca"));
    CHECK(order_is(&routes, 0, "ABabc", "ABcab"));
    CHECK(order_is(&routes, 0, "ABabc", "BAabc"));
    CHECK(order_is(&routes, 0, "aA", "aA"));
    CHECK(order_is(&routes, 0, "", ""));
}

TEST("one that failed comes last for a while, also if it is alone of its kind")
{
    struct s3_routes routes = {0};

    learn(&routes, 'A', false, 5 * SECOND);
    CHECK(order_is(&routes, 5 * SECOND, "Aab", "abA"));
    routes.turn = 0;
    CHECK(order_is(&routes, 35 * SECOND - 1, "Aab", "abA"));
    routes.turn = 0;
    CHECK(order_is(&routes, 35 * SECOND, "Aab", "Aab"));
}

TEST("one that works again comes in its turn again")
{
    struct s3_routes routes = {0};

    learn(&routes, 'a', false, 0);
    learn(&routes, 'b', false, 0);
    CHECK(order_is(&routes, 1, "abc", "cab"));
    learn(&routes, 'a', true, 1);
    learn(&routes, 'c', true, 1);
    routes.turn = 0;
    CHECK(order_is(&routes, 1, "abc", "acb"));
}

TEST("one that fails again rests from then on, and takes no more room")
{
    struct s3_routes routes = {0};

    for (unsigned i = 0; i < 3 * S3_ROUTES_MAX; i++)
        learn(&routes, 'a', false, i * SECOND);
    CHECK(routes.resting_count == 1);
    CHECK(order_is(&routes, (3 * S3_ROUTES_MAX + 28) * SECOND, "ab", "ba"));
}

TEST("if all failed, all are tried all the same")
{
    struct s3_routes routes = {0};

    learn(&routes, 'a', false, 0);
    learn(&routes, 'A', false, 0);
    CHECK(order_is(&routes, 0, "aA", "aA"));
}

TEST("the oldest is forgotten when more fail than are remembered")
{
    struct s3_routes routes = {0};
    struct net_address address = address_of('b');

    learn(&routes, 'a', false, 0);
    for (unsigned port = 0; port < S3_ROUTES_MAX; port++) {
        net_address_set_port(&address, (uint16_t)port);
        s3_routes_learn(&routes, &address, false, 1);
    }
    CHECK(routes.resting_count == S3_ROUTES_MAX);
    CHECK(order_is(&routes, 1, "ac", "ac"));
}
