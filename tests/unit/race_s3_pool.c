/* SPDX-License-Identifier: BSD-2-Clause */
/* Threads borrow and return connections while others tidy, redirect, end. */
#include "s3/s3_pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "support/tls_peer.h"
#include "unit/test.h"

enum { BORROWERS = 6, EXCHANGES = 60, ENOUGH = 100 };

struct story {
    struct s3_pool *pool;
    struct s3_pool_endpoint endpoint;
    atomic_uint exchanges;
    atomic_bool is_over;
};

static void *exchange(void *argument)
{
    struct story *story = argument;
    int error = 0;

    for (int i = 0; i < EXCHANGES && error == 0; i++) {
        struct s3_connection *connection;
        struct net_failure failure;
        bool is_whole;

        error = s3_pool_borrow(story->pool, 0, i % 7 == 0, STREAM_FOREVER,
                               &connection, &failure);
        if (error < 0)
            break;
        is_whole = tls_peer_echoes(s3_connection_stream(connection));
        if (is_whole)
            atomic_fetch_add(&story->exchanges, 1);
        if (i % 5 == 0)
            s3_connection_shutdown(connection);
        s3_pool_return(story->pool, connection, is_whole);
    }
    CHECK(error == 0 || error == -ECANCELED);
    return NULL;
}

static void *disturb(void *argument)
{
    struct story *story = argument;

    while (!atomic_load(&story->is_over)) {
        s3_pool_tidy(story->pool);
        CHECK(s3_pool_redirect(story->pool, 0, &story->endpoint) == 0);
        (void)sched_yield();
    }
    return NULL;
}

TEST("connections are lent to one at a time, whatever happens beside it, and "
     "an interrupt ends it all")
{
    struct tls_peer *peer = tls_peer_start(
        test_dir(),
        &(struct tls_peer_setup){
            .certificate = {.common_name = "s3", .names = {"s3.example"}},
            .gives_tickets = true});
    struct tls_context *tls = tls_peer_client(test_dir(), false);
    struct story story = {
        .endpoint = {"127.0.0.1", tls_peer_port(peer), "s3.example"}};
    struct resolver *resolver;
    pthread_t threads[BORROWERS + 1];

    NEED(resolver_new(60000000000U, &resolver) == 0);
    NEED(s3_pool_new(&(struct s3_pool_options){.endpoints = &story.endpoint,
                                               .endpoint_count = 1,
                                               .tls = tls,
                                               .resolver = resolver,
                                               .requests_max = 9,
                                               .connect_ns = UINT64_MAX},
                     &story.pool) == 0);
    for (int i = 0; i < BORROWERS; i++)
        NEED(pthread_create(&threads[i], NULL, exchange, &story) == 0);
    NEED(pthread_create(&threads[BORROWERS], NULL, disturb, &story) == 0);
    while (atomic_load(&story.exchanges) < ENOUGH)
        (void)sched_yield();
    s3_pool_interrupt(story.pool);
    for (int i = 0; i < BORROWERS; i++)
        (void)pthread_join(threads[i], NULL);
    atomic_store(&story.is_over, true);
    (void)pthread_join(threads[BORROWERS], NULL);
    s3_pool_free(story.pool);
    resolver_free(resolver);
    tls_free(tls);
    tls_peer_stop(peer);
}
