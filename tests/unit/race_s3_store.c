/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads that get, put, list and delete by one store, from a server that is
 * slow, drops, cuts and refuses at random, and whose endpoints go and come;
 * and an interrupt in the midst of it.
 */
#include <pthread.h>

#include "object_store.h"
#include "s3/s3_hedge.h"
#include "s3/s3_parts.h"
#include "s3/s3_store.h"
#include "support/s3_peer.h"
#include "unit/test.h"

enum { THREADS = 8, ROUNDS = 60, OBJECTS = 8, SIZE = 100000, LEN = 20000 };

/* What may happen to a request, decided by its number. */
static void script(void *context, struct s3_peer *peer,
                   const struct s3_peer_request *request,
                   struct s3_peer_answer *answer)
{
    (void)context;
    switch (request->number * 2654435761U >> 27) {
    case 1:
        if (strcmp(request->method, "GET") == 0) {
            s3_peer_wait_until_gone(request); /* until a hedge has won */
            return;
        }
        break;
    case 2:
        return; /* the connection is dropped */
    case 3:
        s3_peer_serve(peer, request, answer);
        s3_peer_respond_raw(answer, ""); /* done, and not said */
        return;
    case 4:
        s3_peer_serve(peer, request, answer);
        answer->len -= answer->len > 100 ? 7 : 0;
        answer->is_last = true;
        return;
    case 5:
        s3_peer_refuse(answer, 500, "", "InternalError", "");
        return;
    default:
        break;
    }
    s3_peer_serve(peer, request, answer);
}

static char byte_at(unsigned object, size_t i)
{
    return (char)(object * 31 + i * 7 + i / 251);
}

static void fill(unsigned object, char data[SIZE])
{
    for (size_t i = 0; i < SIZE; i++)
        data[i] = byte_at(object, i);
}

struct actor {
    struct object_store *store;
    unsigned number;
    bool may_be_canceled;
    pthread_t thread;
};

static bool is_fine(const struct actor *actor, int result)
{
    return result == 0 || (actor->may_be_canceled && result == -ECANCELED);
}

/* Read some of an object: whatever happens, what comes is right. */
static void get_some(const struct actor *actor, unsigned round)
{
    unsigned object = (actor->number + round) % OBJECTS;
    size_t offset = (size_t)round * 997 % (SIZE - LEN);
    char key[16];
    char *data = malloc(LEN);
    int result;

    NEED(data);
    (void)snprintf(key, sizeof(key), "o/%u", object);
    result = actor->store->get(actor->store, key, offset, data, LEN,
                               OBJECT_WAITED_FOR);
    CHECK(is_fine(actor, result));
    for (size_t i = 0; result == 0 && i < LEN; i++) {
        if (data[i] != byte_at(object, offset + i))
            result = 1;
    }
    CHECK(result <= 0);
    free(data);
}

static int ignore_key(void *context, const char *key,
                      const struct object_info *info)
{
    (void)context;
    (void)key;
    (void)info;
    return 0;
}

/* Others may fail while no endpoint is well; they end. */
static void do_others(const struct actor *actor, unsigned round)
{
    struct object_store *store = actor->store;
    char key[32], other[32];
    const char *keys[] = {key, other};
    char *text;

    (void)snprintf(key, sizeof(key), "t/%u/%u", actor->number, round);
    (void)snprintf(other, sizeof(other), "t/%u/x", actor->number);
    CHECK(store->put(store, key, "text", 4, true) != -EEXIST);
    (void)store->list(store, "t/", "", ignore_key, NULL);
    (void)store->delete (store, keys, 2);
    text = store->describe(store);
    CHECK(text);
    free(text);
}

static void *run_actor(void *argument)
{
    const struct actor *actor = argument;

    for (unsigned round = 0; round < ROUNDS; round++) {
        get_some(actor, round);
        if (round % 8 == actor->number)
            do_others(actor, round);
    }
    return NULL;
}

/* A store whose objects are there, and threads that use it. */
struct scene {
    struct s3_peer *peer;
    struct object_store *store;
    struct actor actors[THREADS];
};

static bool begin(struct scene *scene, bool may_be_canceled)
{
    struct object_store *objects;
    struct s3_peer_options options;
    static char data[SIZE];
    bool ok;

    scene->peer = s3_peer_start(3);
    s3_peer_fill_options(scene->peer, &options);
    options.options.timeout_ms = 2000; /* of silence that nothing overtakes */
    ok = s3_store_open(&options.options, &scene->store) == 0;
    objects = s3_peer_objects(scene->peer);
    for (unsigned i = 0; i < OBJECTS; i++) {
        char key[16];

        (void)snprintf(key, sizeof(key), "o/%u", i);
        fill(i, data);
        ok = ok && objects->put(objects, key, data, SIZE, false) == 0;
    }
    s3_peer_set_script(scene->peer, script, NULL);
    for (unsigned i = 0; i < THREADS; i++) {
        scene->actors[i] = (struct actor){
            .store = scene->store,
            .number = i,
            .may_be_canceled = may_be_canceled,
        };
        ok = ok && pthread_create(&scene->actors[i].thread, NULL, run_actor,
                                  &scene->actors[i]) == 0;
    }
    return ok;
}

static void end(struct scene *scene)
{
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_join(scene->actors[i].thread, NULL) == 0);
    scene->store->close(scene->store);
    s3_peer_stop(scene->peer);
}

TEST("whatever the server does, every read brings the right bytes")
{
    struct scene scene;

    NEED(begin(&scene, false));
    /* One endpoint goes and comes back meanwhile. */
    s3_peer_wait_for_requests(scene.peer, 40);
    s3_peer_close_port(scene.peer, 1);
    s3_peer_wait_for_requests(scene.peer, 120);
    s3_peer_open_port(scene.peer, 1);
    end(&scene);
}

TEST("an interrupt in the midst of it ends all, and the store can be closed")
{
    for (unsigned i = 0; i < 5; i++) {
        struct scene scene;

        NEED(begin(&scene, true));
        s3_peer_wait_for_requests(scene.peer, 20 + i * 30);
        scene.store->interrupt(scene.store);
        end(&scene);
    }
}
