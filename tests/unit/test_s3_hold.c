/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_hold.h"

#include <pthread.h>

#include "object_store.h"
#include "s3/s3_parts.h"
#include "s3/s3_pool.h"
#include "support/s3_peer.h"
#include "unit/test.h"

/* A connection that is borrowed from a store's pool. */
struct scene {
    struct s3_peer *peer;
    struct object_store *store;
    struct s3_pool *pool;
    struct s3_connection *connection;
};

static bool begin(struct scene *scene)
{
    struct net_failure failure;

    scene->peer = s3_peer_start(1);
    scene->store = s3_peer_open_store(scene->peer);
    scene->pool = s3_parts_of_store(scene->store)->pool;
    return s3_pool_borrow(scene->pool, 0, true, STREAM_FOREVER,
                          &scene->connection, &failure) == 0;
}

static void end(struct scene *scene)
{
    s3_pool_return(scene->pool, scene->connection, false);
    scene->store->close(scene->store);
    s3_peer_stop(scene->peer);
}

static void *run_end(void *argument)
{
    s3_hold_end(argument);
    return NULL;
}

TEST("ending a hold ends what its connection waits for")
{
    struct scene scene;
    struct s3_hold hold;
    pthread_t thread;
    char byte;

    NEED(begin(&scene));
    s3_hold_init(&hold);
    CHECK(s3_hold_endpoint(&hold) == SIZE_MAX);
    CHECK(s3_hold_choose(&hold, 3));
    CHECK(s3_hold_endpoint(&hold) == 3);
    CHECK(s3_hold_take(&hold, scene.connection));
    NEED(pthread_create(&thread, NULL, run_end, &hold) == 0);
    CHECK(stream_receive(s3_connection_stream(scene.connection), &byte, 1,
                         STREAM_FOREVER) <= 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(!s3_hold_release(&hold));
    s3_hold_done(&hold);
    end(&scene);
}

TEST("a hold that was ended lets nothing begin")
{
    struct scene scene;
    struct s3_hold hold;

    NEED(begin(&scene));
    s3_hold_init(&hold);
    s3_hold_end(&hold);
    CHECK(!s3_hold_choose(&hold, 0));
    CHECK(!s3_hold_take(&hold, scene.connection));
    /* What was not taken is not ended either. */
    CHECK(stream_send_all(s3_connection_stream(scene.connection), "x", 1,
                          STREAM_FOREVER) == 0);
    s3_hold_done(&hold);
    end(&scene);
}

TEST("a connection that was given back is not ended any more")
{
    struct scene scene;
    struct s3_hold hold;

    NEED(begin(&scene));
    s3_hold_init(&hold);
    CHECK(s3_hold_take(&hold, scene.connection));
    CHECK(s3_hold_release(&hold));
    s3_hold_end(&hold);
    CHECK(stream_send_all(s3_connection_stream(scene.connection), "x", 1,
                          STREAM_FOREVER) == 0);
    s3_hold_done(&hold);
    end(&scene);
}
