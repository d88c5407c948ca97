/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_delete.h"

#include "object_store.h"
#include "support/s3_peer.h"
#include "unit/test.h"

enum { MANY = 2500 };

static char names[MANY][16];
static const char *keys[MANY];

/* Put this many objects, whose keys are in keys. */
static void put_many(struct s3_peer *peer, unsigned count)
{
    struct object_store *objects = s3_peer_objects(peer);

    for (unsigned i = 0; i < count; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "k/%05u", i);
        keys[i] = names[i];
        CHECK(objects->put(objects, keys[i], "x", 1, false) == 0);
    }
}

static int count_key(void *context, const char *key,
                     const struct object_info *info)
{
    unsigned *count = context;

    (void)key;
    (void)info;
    ++*count;
    return 0;
}

static unsigned count_objects(struct s3_peer *peer)
{
    struct object_store *objects = s3_peer_objects(peer);
    unsigned count = 0;

    CHECK(objects->list(objects, "", "", count_key, &count) == 0);
    return count;
}

TEST("one key is one request, also if it is absent")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);

    put_many(peer, 2);
    CHECK(store->delete (store, keys, 1) == 0);
    CHECK(count_objects(peer) == 1);
    CHECK(store->delete (store, keys, 1) == 0);
    CHECK(s3_peer_requests(peer) == 2);
    store->close(store);
    s3_peer_stop(peer);
}

TEST("many keys are a request for each thousand")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);

    put_many(peer, MANY);
    CHECK(store->delete (store, keys, MANY) == 0);
    CHECK(count_objects(peer) == 0);
    CHECK(s3_peer_requests(peer) == 3);
    store->close(store);
    s3_peer_stop(peer);
}

/* Refuse all deletes of many. */
static void script_one_by_one(void *context, struct s3_peer *peer,
                              const struct s3_peer_request *request,
                              struct s3_peer_answer *answer)
{
    (void)context;
    if (strcmp(request->method, "POST") == 0)
        s3_peer_refuse(answer, 501, "", "NotImplemented", "");
    else
        s3_peer_serve(peer, request, answer);
}

TEST("where there is no delete of many it is one by one, and not asked again")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);

    put_many(peer, 6);
    s3_peer_set_script(peer, script_one_by_one, NULL);
    CHECK(store->delete (store, keys, 3) == 0);
    CHECK(s3_peer_requests(peer) == 4);
    CHECK(store->delete (store, keys + 3, 3) == 0);
    CHECK(s3_peer_requests(peer) == 7);
    CHECK(count_objects(peer) == 0);
    store->close(store);
    s3_peer_stop(peer);
}

static void script_refuse(void *context, struct s3_peer *peer,
                          const struct s3_peer_request *request,
                          struct s3_peer_answer *answer)
{
    (void)context;
    (void)peer;
    (void)request;
    s3_peer_refuse(answer, 403, "", "AccessDenied", "");
}

TEST("without permission the first key decides")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);

    put_many(peer, 100);
    s3_peer_set_script(peer, script_refuse, NULL);
    CHECK(store->delete (store, keys, 100) == -EACCES);
    CHECK(s3_peer_requests(peer) == 2);
    store->close(store);
    s3_peer_stop(peer);
}

static void script_some_left(void *context, struct s3_peer *peer,
                             const struct s3_peer_request *request,
                             struct s3_peer_answer *answer)
{
    static const char text[] =
        "<DeleteResult>"
        "<Error><Key>k/00001</Key><Code>InternalError</Code></Error>"
        "</DeleteResult>";

    (void)context;
    if (strcmp(request->method, "POST") == 0)
        s3_peer_respond(answer, 200, "", text, strlen(text));
    else
        s3_peer_serve(peer, request, answer);
}

/* Say that one is left that nobody asked for, and delete nothing. */
static void script_other_left(void *context, struct s3_peer *peer,
                              const struct s3_peer_request *request,
                              struct s3_peer_answer *answer)
{
    static const char text[] =
        "<DeleteResult>"
        "<Error><Key>k%2F00001</Key><Code>InternalError</Code></Error>"
        "<Error><Key>k/00007</Key><Code>InternalError</Code></Error>"
        "</DeleteResult>";

    (void)context;
    if (strcmp(request->method, "POST") == 0)
        s3_peer_respond(answer, 200, "", text, strlen(text));
    else
        s3_peer_serve(peer, request, answer);
}

TEST("if one is left that cannot be told, all are deleted alone, and no other")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    struct object_info info;

    put_many(peer, 8);
    s3_peer_set_script(peer, script_other_left, NULL);
    CHECK(store->delete (store, keys, 3) == 0);
    CHECK(s3_peer_requests(peer) == 4);
    CHECK(count_objects(peer) == 5);
    CHECK(s3_peer_objects(peer)->head(s3_peer_objects(peer), "k/00007",
                                      &info) == 0);
    store->close(store);
    s3_peer_stop(peer);
}

TEST("keys that are left are deleted alone")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    struct object_info info;

    put_many(peer, 8);
    s3_peer_set_script(peer, script_some_left, NULL);
    CHECK(store->delete (store, keys, 3) == 0);
    CHECK(s3_peer_requests(peer) == 2);
    CHECK(s3_peer_objects(peer)->head(s3_peer_objects(peer), "k/00001",
                                      &info) == -ENOENT);
    store->close(store);
    s3_peer_stop(peer);
}
