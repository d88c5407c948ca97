/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_routes.h"

#include <string.h>

/* As long as a load balancer takes to leave one out, twice over. */
#define REST_NS UINT64_C(30000000000)

static bool is_resting(const struct s3_routes *routes,
                       const struct net_address *address, uint64_t now_ns)
{
    for (size_t i = 0; i < routes->resting_count; i++) {
        if (net_address_equals(&routes->resting[i].address, address))
            return now_ns < routes->resting[i].until_ns;
    }
    return false;
}

/* Those of one kind that rest, or do not: from the turn on, around. */
static size_t add_kind(const struct s3_routes *routes,
                       const struct net_address addresses[], size_t count,
                       sa_family_t family, bool resting, uint64_t now_ns,
                       struct net_address to[])
{
    size_t found[S3_ROUTES_MAX], found_count = 0;

    for (size_t i = 0; i < count; i++) {
        if (addresses[i].any.sa_family == family &&
            is_resting(routes, &addresses[i], now_ns) == resting)
            found[found_count++] = i;
    }
    for (size_t i = 0; i < found_count; i++)
        to[i] = addresses[found[(routes->turn + i) % found_count]];
    return found_count;
}

void s3_routes_order(struct s3_routes *routes, struct net_address addresses[],
                     size_t count, uint64_t now_ns)
{
    struct net_address ordered[S3_ROUTES_MAX];
    sa_family_t first, second;
    size_t done = 0;

    if (count > S3_ROUTES_MAX)
        count = S3_ROUTES_MAX;
    if (count == 0)
        return;
    first = addresses[0].any.sa_family;
    second = first == AF_INET ? AF_INET6 : AF_INET;
    for (int resting = 0; resting < 2; resting++) {
        done += add_kind(routes, addresses, count, first, resting, now_ns,
                         ordered + done);
        done += add_kind(routes, addresses, count, second, resting, now_ns,
                         ordered + done);
    }
    memcpy(addresses, ordered, done * sizeof(addresses[0]));
    routes->turn++;
}

/* Forget one that rests; the others keep their order. */
static void forget(struct s3_routes *routes, size_t index)
{
    routes->resting_count--;
    memmove(&routes->resting[index], &routes->resting[index + 1],
            (routes->resting_count - index) * sizeof(routes->resting[0]));
}

void s3_routes_learn(struct s3_routes *routes,
                     const struct net_address *address, bool works,
                     uint64_t now_ns)
{
    for (size_t i = 0; i < routes->resting_count; i++) {
        if (net_address_equals(&routes->resting[i].address, address)) {
            forget(routes, i);
            break;
        }
    }
    if (works)
        return;
    if (routes->resting_count == S3_ROUTES_MAX)
        forget(routes, 0);
    routes->resting[routes->resting_count].address = *address;
    routes->resting[routes->resting_count].until_ns = now_ns + REST_NS;
    routes->resting_count++;
}
