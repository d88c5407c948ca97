/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_target.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/connect.h"
#include "base/mutex.h"
#include "s3/s3_routes.h"

/* AWS closes what was idle for 5 s, others do after 15 s at the earliest. */
#define IDLE_AMAZON_NS UINT64_C(4000000000)
#define IDLE_OTHER_NS  UINT64_C(12000000000)

struct s3_target {
    atomic_size_t holders;
    uint16_t port;
    char *host;
    char *tls_name; /* or NULL */
    struct mutex lock;
    struct s3_routes routes GUARDED_BY(lock);
};

struct s3_target *s3_target_new(const char *host, uint16_t port,
                                const char *tls_name)
{
    struct s3_target *target = calloc(1, sizeof(*target));

    if (!target)
        return NULL;
    mutex_init(&target->lock);
    atomic_init(&target->holders, 1);
    target->port = port;
    target->host = strdup(host);
    if (tls_name)
        target->tls_name = strdup(tls_name);
    if (!target->host || (tls_name && !target->tls_name)) {
        s3_target_release(target);
        return NULL;
    }
    return target;
}

struct s3_target *s3_target_hold(struct s3_target *target)
{
    /* Who calls this holds it: it cannot go meanwhile. */
    (void)atomic_fetch_add_explicit(&target->holders, 1, memory_order_relaxed);
    return target;
}

void s3_target_release(struct s3_target *target)
{
    /* What other holders did to it comes before its end. */
    if (!target || atomic_fetch_sub_explicit(&target->holders, 1,
                                             memory_order_acq_rel) > 1)
        return;
    mutex_done(&target->lock);
    free(target->host);
    free(target->tls_name);
    free(target);
}

bool s3_target_is_tls(const struct s3_target *target)
{
    return target->tls_name != NULL;
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);

    return len >= end_len && strcasecmp(text + len - end_len, end) == 0;
}

uint64_t s3_target_idle_ns(const struct s3_target *target)
{
    return ends_with(target->host, ".amazonaws.com") ||
                   ends_with(target->host, ".amazonaws.com.cn")
               ? IDLE_AMAZON_NS
               : IDLE_OTHER_NS;
}

static void learn(struct s3_target *target, const struct net_address *address,
                  bool works)
{
    mutex_lock(&target->lock);
    s3_routes_learn(&target->routes, address, works, clock_monotonic_ns());
    mutex_unlock(&target->lock);
}

int s3_target_connect(struct s3_target *target, struct resolver *resolver,
                      int interrupt_fd, uint64_t deadline_ns,
                      struct net_address *ret_address,
                      struct net_failure *ret_failure)
{
    struct net_address addresses[S3_ROUTES_MAX];
    int results[S3_ROUTES_MAX];
    int count =
        resolver_addresses(resolver, target->host, target->port, addresses,
                           S3_ROUTES_MAX, deadline_ns, ret_failure);
    int fd;

    if (count <= 0)
        return count;
    mutex_lock(&target->lock);
    s3_routes_order(&target->routes, addresses, (size_t)count,
                    clock_monotonic_ns());
    mutex_unlock(&target->lock);
    fd = connect_any(addresses, (size_t)count, deadline_ns, interrupt_fd,
                     results, ret_failure);
    for (int i = 0; i < count; i++) {
        if (results[i] == 0)
            *ret_address = addresses[i];
        if (results[i] != CONNECT_NOT_TRIED)
            learn(target, &addresses[i], results[i] == 0);
    }
    return fd;
}

int s3_target_secure(struct s3_target *target, struct tls_context *context,
                     const struct net_address *address, struct stream **stream,
                     uint64_t deadline_ns, struct net_failure *ret_failure)
{
    char text[NET_ADDRESS_TEXT];
    struct net_failure failure;
    int error =
        tls_connect(context, target->tls_name, stream, deadline_ns, &failure);

    if (error == 0)
        return 0;
    /* Whoever does not get so far is no better than one who is silent. */
    if (error != -EKEYREJECTED)
        learn(target, address, false);
    net_failure_set(ret_failure, error, "%s: %s",
                    net_address_format(address, text), failure.text);
    return error;
}
