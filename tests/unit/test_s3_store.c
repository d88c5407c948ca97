/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_store.h"

#include <pthread.h>

#include "base/bandwidth.h"
#include "object_store.h"
#include "s3/s3_gate.h"
#include "s3/s3_parts.h"
#include "support/s3_peer.h"
#include "unit/test.h"

static int put_text(struct object_store *store, const char *key,
                    const char *text, bool if_absent)
{
    return store->put(store, key, text, strlen(text), if_absent);
}

static bool object_is(struct object_store *store, const char *key,
                      const char *text)
{
    char data[64] = "";
    struct object_info info;

    return store->head(store, key, &info) == 0 && info.size == strlen(text) &&
           info.size < sizeof(data) &&
           store->get(store, key, 0, data, strlen(text), OBJECT_BACKGROUND) ==
               0 &&
           strcmp(data, text) == 0;
}

/* Whether the target of a request begins so. */
static bool is_for(const struct s3_peer_request *request, const char *method,
                   const char *target)
{
    return strcmp(request->method, method) == 0 &&
           strncmp(request->target, target, strlen(target)) == 0;
}

/* ---- what it is for ------------------------------------------------------ */

TEST("what was put is read back, whole and in part, by any urgency")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    char part[4] = "";

    CHECK(put_text(store, "disk/chunk/01/x", "hello world", false) == 0);
    CHECK(object_is(store, "disk/chunk/01/x", "hello world"));
    CHECK(store->get(store, "disk/chunk/01/x", 6, part, 3, OBJECT_WAITED_FOR) ==
          0);
    CHECK(memcmp(part, "wor", 3) == 0);
    CHECK(store->get(store, "disk/chunk/01/x", 8, part, 3, OBJECT_AHEAD) == 0);
    CHECK(memcmp(part, "rld", 3) == 0);
    CHECK(object_delete_one(store, "disk/chunk/01/x") == 0);
    CHECK(object_delete_one(store, "disk/chunk/01/x") == 0);
    CHECK(!object_is(store, "disk/chunk/01/x", "hello world"));
    store->close(store);
    s3_peer_stop(peer);
}

TEST("an empty object exists, and no bytes of it can be read")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    struct object_info info = {.size = 1};
    char none;

    CHECK(put_text(store, "empty", "", true) == 0);
    CHECK(store->head(store, "empty", &info) == 0 && info.size == 0);
    CHECK(info.modified_ns > 0);
    CHECK(store->get(store, "empty", 0, &none, 0, OBJECT_WAITED_FOR) == 0);
    CHECK(store->get(store, "empty", 1, &none, 0, OBJECT_BACKGROUND) == -EIO);
    CHECK(store->get(store, "none", 0, &none, 0, OBJECT_BACKGROUND) == -ENOENT);
    store->close(store);
    s3_peer_stop(peer);
}

TEST("a range that is not wholly inside the object is an error")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    char data[16];

    CHECK(put_text(store, "key", "0123456789", false) == 0);
    CHECK(store->get(store, "key", 8, data, 3, OBJECT_WAITED_FOR) == -EIO);
    CHECK(store->get(store, "key", 10, data, 1, OBJECT_BACKGROUND) == -EIO);
    CHECK(store->get(store, "key", UINT64_MAX, data, 2, OBJECT_BACKGROUND) ==
          -EINVAL);
    store->close(store);
    s3_peer_stop(peer);
}

TEST("a key that is none is refused before anybody is asked")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    static const char *const keys[] = {"good", "../bad"};
    struct object_info info;
    char data[1];

    CHECK(store->get(store, "a//b", 0, data, 1, OBJECT_WAITED_FOR) == -EINVAL);
    CHECK(put_text(store, "", "x", false) == -EINVAL);
    CHECK(store->head(store, "a b", &info) == -EINVAL);
    CHECK(store->delete (store, keys, 2) == -EINVAL);
    CHECK(s3_peer_requests(peer) == 0);
    store->close(store);
    s3_peer_stop(peer);
}

TEST("a prefix stands before all keys in the bucket, and in no list")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = NULL;
    struct s3_peer_options options;

    s3_peer_fill_options(peer, &options);
    options.options.prefix = "some/where";
    NEED(s3_store_open(&options.options, &store) == 0);
    CHECK(put_text(store, "key", "text", false) == 0);
    CHECK(object_is(store, "key", "text"));
    CHECK(object_is(s3_peer_objects(peer), "some/where/key", "text"));
    store->close(store);
    s3_peer_stop(peer);
}

/* ---- conditional puts ---------------------------------------------------- */

TEST("a conditional put creates what is absent, and nothing else")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);

    CHECK(put_text(store, "epoch", "mine", true) == 0);
    CHECK(put_text(store, "epoch", "other", true) == -EEXIST);
    CHECK(put_text(store, "epoch", "mine", true) == -EEXIST);
    CHECK(object_is(store, "epoch", "mine"));
    store->close(store);
    s3_peer_stop(peer);
}

/* Carry out the first put, and then say nothing. */
static void script_lost_answer(void *context, struct s3_peer *peer,
                               const struct s3_peer_request *request,
                               struct s3_peer_answer *answer)
{
    unsigned *puts = context;

    s3_peer_serve(peer, request, answer);
    if (is_for(request, "PUT", "/") && ++*puts == 1)
        s3_peer_respond_raw(answer, "");
}

TEST("a conditional put whose answer was lost is found to be done")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    unsigned puts = 0;

    s3_peer_set_script(peer, script_lost_answer, &puts);
    CHECK(put_text(store, "epoch", "mine", true) == 0);
    CHECK(puts >= 2);
    CHECK(object_is(store, "epoch", "mine"));
    store->close(store);
    s3_peer_stop(peer);
}

/* Lose the first put, and have somebody else put the key. */
static void script_overtaken(void *context, struct s3_peer *peer,
                             const struct s3_peer_request *request,
                             struct s3_peer_answer *answer)
{
    unsigned *puts = context;

    if (is_for(request, "PUT", "/") && ++*puts == 1) {
        CHECK(put_text(s3_peer_objects(peer), "epoch", "hers", true) == 0);
        s3_peer_respond_raw(answer, "");
        return;
    }
    s3_peer_serve(peer, request, answer);
}

TEST("a conditional put that was overtaken while its answer was lost says so")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    unsigned puts = 0;

    s3_peer_set_script(peer, script_overtaken, &puts);
    CHECK(put_text(store, "epoch", "mine", true) == -EEXIST);
    puts = 0;
    CHECK(object_delete_one(s3_peer_objects(peer), "epoch") == 0);
    CHECK(put_text(store, "epoch", "longer", true) == -EEXIST);
    CHECK(object_is(store, "epoch", "hers"));
    store->close(store);
    s3_peer_stop(peer);
}

/* Refuse what has a condition. */
static void script_no_condition(void *context, struct s3_peer *peer,
                                const struct s3_peer_request *request,
                                struct s3_peer_answer *answer)
{
    char *condition = s3_peer_field(request, "If-None-Match");

    (void)context;
    if (condition)
        s3_peer_refuse(answer, 501, "", "NotImplemented", "");
    else
        s3_peer_serve(peer, request, answer);
    free(condition);
}

TEST("a store that knows no conditional put is told apart")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);

    s3_peer_set_script(peer, script_no_condition, NULL);
    CHECK(put_text(store, "epoch", "mine", true) == -EOPNOTSUPP);
    CHECK(put_text(store, "epoch", "mine", false) == 0);
    store->close(store);
    s3_peer_stop(peer);
}

/* ---- what is not there --------------------------------------------------- */

static void script_no_bucket(void *context, struct s3_peer *peer,
                             const struct s3_peer_request *request,
                             struct s3_peer_answer *answer)
{
    (void)context;
    (void)peer;
    if (is_for(request, "HEAD", "/"))
        s3_peer_respond(answer, 404, "", "", 0);
    else
        s3_peer_refuse(answer, 404, "", "NoSuchBucket", "");
}

TEST("that a bucket is not there is never taken for an absent object")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    struct object_info info;
    char data[4];

    CHECK(store->get(store, "key", 0, data, 4, OBJECT_BACKGROUND) == -ENOENT);
    CHECK(store->head(store, "key", &info) == -ENOENT);
    s3_peer_set_script(peer, script_no_bucket, NULL);
    CHECK(store->get(store, "key", 0, data, 4, OBJECT_BACKGROUND) == -EACCES);
    CHECK(store->head(store, "key", &info) == -EACCES);
    CHECK(object_delete_one(store, "key") == -EACCES);
    CHECK(put_text(store, "key", "text", false) == -EACCES);
    store->close(store);
    s3_peer_stop(peer);
}

/* A proxy in front of one endpoint that has lost its server. */
static void script_page_at_one(void *context, struct s3_peer *peer,
                               const struct s3_peer_request *request,
                               struct s3_peer_answer *answer)
{
    static const char page[] = "404 page not found\n";

    (void)context;
    if (request->port == 1)
        s3_peer_respond(answer, 404, "", page,
                        strcmp(request->method, "HEAD") == 0 ? 0
                                                             : strlen(page));
    else
        s3_peer_serve(peer, request, answer);
}

TEST("a proxy's page at one of two endpoints makes no object absent")
{
    struct s3_peer *peer = s3_peer_start(2);
    struct object_store *store = s3_peer_open_store(peer);
    struct object_info info;
    char data[4];

    CHECK(put_text(store, "key", "text", false) == 0);
    s3_peer_set_script(peer, script_page_at_one, NULL);
    for (int i = 0; i < 12; i++) {
        CHECK(store->get(store, "key", 0, data, 4, OBJECT_BACKGROUND) == 0);
        CHECK(store->head(store, "key", &info) != -ENOENT);
    }
    CHECK(s3_peer_requests_at(peer, 1) > 0);
    store->close(store);
    s3_peer_stop(peer);
}

/* ---- interrupt, describe, open ------------------------------------------- */

/* Say nothing until the client goes. */
static void script_silence(void *context, struct s3_peer *peer,
                           const struct s3_peer_request *request,
                           struct s3_peer_answer *answer)
{
    (void)context;
    (void)peer;
    (void)answer;
    s3_peer_wait_until_gone(request);
}

/* A call that is under way when the store is interrupted. */
struct caller {
    struct object_store *store;
    unsigned number;
    int result;
    pthread_t thread;
};

static int ignore_key(void *context, const char *key,
                      const struct object_info *info)
{
    (void)context;
    (void)key;
    (void)info;
    return 0;
}

static void *run_caller(void *argument)
{
    static const char *const keys[] = {"a", "b"};
    struct caller *caller = argument;
    struct object_store *store = caller->store;
    struct object_info info;
    char data[4];

    switch (caller->number) {
    case 0:
        caller->result = store->get(store, "a", 0, data, 4, OBJECT_WAITED_FOR);
        break;
    case 1:
        caller->result = store->get(store, "a", 0, data, 4, OBJECT_BACKGROUND);
        break;
    case 2:
        caller->result = put_text(store, "a", "text", true);
        break;
    case 3:
        caller->result = store->head(store, "a", &info);
        break;
    case 4:
        caller->result = store->list(store, "a", "", ignore_key, NULL);
        break;
    default:
        caller->result = store->delete (store, keys, 2);
        break;
    }
    return NULL;
}

enum { CALLERS = 6 };

static bool start_callers(struct object_store *store,
                          struct caller callers[CALLERS])
{
    bool ok = true;

    for (unsigned i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.store = store, .number = i};
        ok = ok && pthread_create(&callers[i].thread, NULL, run_caller,
                                  &callers[i]) == 0;
    }
    return ok;
}

static void check_canceled(struct caller callers[CALLERS])
{
    for (unsigned i = 0; i < CALLERS; i++) {
        CHECK(pthread_join(callers[i].thread, NULL) == 0);
        CHECK(callers[i].result == -ECANCELED);
    }
}

TEST("an interrupt ends calls of all kinds that wait for an answer")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    struct caller callers[CALLERS];
    char data[4];

    s3_peer_set_script(peer, script_silence, NULL);
    NEED(start_callers(store, callers));
    s3_peer_wait_for_requests(peer, CALLERS);
    store->interrupt(store);
    check_canceled(callers);
    CHECK(store->get(store, "a", 0, data, 4, OBJECT_WAITED_FOR) == -ECANCELED);
    CHECK(put_text(store, "a", "text", false) == -ECANCELED);
    store->close(store);
    s3_peer_stop(peer);
}

/* Put more than the limit lets through in an hour. */
static void *run_long_put(void *argument)
{
    enum { LONG = 8 << 20 };
    struct caller *caller = argument;
    void *data = calloc(1, LONG);

    CHECK(data);
    caller->result = caller->store->put(caller->store, "a", data, LONG, false);
    free(data);
    return NULL;
}

TEST("an interrupt ends a put that a limit holds back")
{
    const struct bandwidth_entry limit = {1000, 0, BANDWIDTH_DAY};
    struct s3_peer *peer = s3_peer_start(1);
    struct s3_gate_state gate = {.places = 0};
    struct s3_peer_options options;
    struct caller caller = {.store = NULL};

    s3_peer_fill_options(peer, &options);
    options.options.upload_limits = &limit;
    options.options.upload_limits_count = 1;
    NEED(s3_store_open(&options.options, &caller.store) == 0);
    NEED(pthread_create(&caller.thread, NULL, run_long_put, &caller) == 0);
    while (gate.in_flight[OBJECT_BACKGROUND] == 0)
        s3_gate_look(s3_parts_of_store(caller.store)->gate, &gate);
    caller.store->interrupt(caller.store);
    CHECK(pthread_join(caller.thread, NULL) == 0);
    CHECK(caller.result == -ECANCELED);
    caller.store->close(caller.store);
    s3_peer_stop(peer);
}

static void script_refuse_all(void *context, struct s3_peer *peer,
                              const struct s3_peer_request *request,
                              struct s3_peer_answer *answer)
{
    (void)context;
    (void)peer;
    (void)request;
    s3_peer_refuse(answer, 403, "", "AccessDenied", "");
}

TEST("an interrupt ends a read that waits until it is permitted")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = s3_peer_open_store(peer);
    struct caller caller = {.store = store};

    s3_peer_set_script(peer, script_refuse_all, NULL);
    NEED(pthread_create(&caller.thread, NULL, run_caller, &caller) == 0);
    s3_peer_wait_for_requests(peer, 1);
    store->interrupt(store);
    CHECK(pthread_join(caller.thread, NULL) == 0);
    CHECK(caller.result == -ECANCELED);
    store->close(store);
    s3_peer_stop(peer);
}

TEST("an interrupt ends a read while nobody is there at all")
{
    struct s3_peer *peer = s3_peer_start(2);
    struct object_store *store = s3_peer_open_store(peer);
    struct caller caller = {.store = store};

    s3_peer_close_port(peer, 0);
    s3_peer_close_port(peer, 1);
    NEED(pthread_create(&caller.thread, NULL, run_caller, &caller) == 0);
    /* This one fails when all endpoints rest. */
    CHECK(put_text(store, "a", "text", false) == -EIO);
    store->interrupt(store);
    CHECK(pthread_join(caller.thread, NULL) == 0);
    CHECK(caller.result == -ECANCELED);
    store->close(store);
    s3_peer_stop(peer);
}

TEST("a read that somebody waits for outlives that nobody is there")
{
    struct s3_peer *peer = s3_peer_start(2);
    struct object_store *store = s3_peer_open_store(peer);
    struct caller caller = {.store = store};

    CHECK(put_text(store, "a", "text", false) == 0);
    s3_peer_close_port(peer, 0);
    s3_peer_close_port(peer, 1);
    NEED(pthread_create(&caller.thread, NULL, run_caller, &caller) == 0);
    CHECK(put_text(store, "b", "text", false) == -EIO);
    s3_peer_open_port(peer, 1);
    CHECK(pthread_join(caller.thread, NULL) == 0);
    CHECK(caller.result == 0);
    store->close(store);
    s3_peer_stop(peer);
}

TEST("a store tells how it stands, without its secrets")
{
    struct s3_peer *peer = s3_peer_start(2);
    struct object_store *store = s3_peer_open_store(peer);
    char *text;

    CHECK(put_text(store, "a", "text", false) == 0);
    text = store->describe(store);
    NEED(text);
    CHECK(text[0] == '{' && text[strlen(text) - 1] == '}');
    CHECK(strstr(text, "\"bucket\": \"bucket\""));
    CHECK(strstr(text, "\"endpoints\": ["));
    CHECK(strstr(text, "\"access_key_start\": \"AKIA\""));
    CHECK(!strstr(text, "AKIAT") && !strstr(text, "secret"));
    free(text);
    store->close(store);
    s3_peer_stop(peer);
}

TEST("options that no request can be made of are refused at once")
{
    struct s3_peer *peer = s3_peer_start(1);
    struct object_store *store = NULL;
    struct s3_peer_options options;

    s3_peer_fill_options(peer, &options);
    options.options.bucket = "not/a bucket";
    CHECK(s3_store_open(&options.options, &store) == -EINVAL);
    s3_peer_fill_options(peer, &options);
    options.options.hosts_count = 0;
    CHECK(s3_store_open(&options.options, &store) == -EINVAL);
    s3_peer_fill_options(peer, &options);
    options.credentials.secret_key = NULL;
    CHECK(s3_store_open(&options.options, &store) == -EINVAL);
    s3_peer_fill_options(peer, &options);
    options.options.is_tls = true;
    options.options.ca_file = "/does/not/exist";
    CHECK(s3_store_open(&options.options, &store) == -ENOENT);
    CHECK(!store);
    s3_peer_stop(peer);
}
