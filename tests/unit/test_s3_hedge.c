/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_hedge.h"

#include <pthread.h>

#include "base/mutex.h"
#include "object_store.h"
#include "s3/s3_gate.h"
#include "s3/s3_parts.h"
#include "support/s3_peer.h"
#include "unit/test.h"

/* What the two attempts of a get meet, in the order in which they come. */
enum meets { ANSWER, SILENCE, DROP, RESET, ANSWER_AFTER_SECOND, ABSENT, CUT };

struct story {
    enum meets first, second;
    struct mutex mutex;
    struct condition changed;
    unsigned gets; /* that have come */
    unsigned gone; /* silent ones whose client has left */
    size_t ports[2];
};

static void story_init(struct story *story, enum meets first, enum meets second)
{
    *story = (struct story){.first = first, .second = second};
    mutex_init(&story->mutex);
    condition_init(&story->changed);
}

static void story_done(struct story *story)
{
    condition_done(&story->changed);
    mutex_done(&story->mutex);
}

static void wait_for_second(struct story *story)
{
    mutex_lock(&story->mutex);
    while (story->gets < 2)
        condition_wait(&story->changed, &story->mutex);
    mutex_unlock(&story->mutex);
}

static void wait_for_gone(struct story *story, unsigned count)
{
    mutex_lock(&story->mutex);
    while (story->gone < count)
        condition_wait(&story->changed, &story->mutex);
    mutex_unlock(&story->mutex);
}

static void meet(struct story *story, enum meets meets, struct s3_peer *peer,
                 const struct s3_peer_request *request,
                 struct s3_peer_answer *answer)
{
    switch (meets) {
    case SILENCE:
        s3_peer_wait_until_gone(request);
        mutex_lock(&story->mutex);
        story->gone++;
        condition_broadcast(&story->changed);
        mutex_unlock(&story->mutex);
        return;
    case ANSWER_AFTER_SECOND:
        wait_for_second(story);
        break;
    case RESET:
        wait_for_second(story);
        return;
    case DROP:
        return;
    case ABSENT:
        s3_peer_refuse(answer, 404, "", "NoSuchKey", "");
        return;
    case CUT:
        s3_peer_serve(peer, request, answer);
        answer->len -= 2;
        answer->is_last = true;
        return;
    case ANSWER:
        break;
    }
    s3_peer_serve(peer, request, answer);
}

static void script(void *context, struct s3_peer *peer,
                   const struct s3_peer_request *request,
                   struct s3_peer_answer *answer)
{
    struct story *story = context;
    unsigned number;

    if (strcmp(request->method, "GET") != 0) {
        s3_peer_serve(peer, request, answer);
        return;
    }
    mutex_lock(&story->mutex);
    number = story->gets++;
    if (number < 2)
        story->ports[number] = request->port;
    condition_broadcast(&story->changed);
    mutex_unlock(&story->mutex);
    meet(story,
         number == 0   ? story->first
         : number == 1 ? story->second
                       : ANSWER,
         peer, request, answer);
}

/* A store whose gets meet the story. */
struct scene {
    struct s3_peer *peer;
    struct object_store *store;
    struct story story;
};

static void begin(struct scene *scene, size_t ports, enum meets first,
                  enum meets second)
{
    scene->peer = s3_peer_start(ports);
    scene->store = s3_peer_open_store(scene->peer);
    story_init(&scene->story, first, second);
    CHECK(scene->store->put(scene->store, "key", "0123456789", 10, false) == 0);
    s3_peer_set_script(scene->peer, script, &scene->story);
}

static void end(struct scene *scene)
{
    scene->store->close(scene->store);
    s3_peer_stop(scene->peer);
    story_done(&scene->story);
}

/* Whether a get brings the right bytes. */
static bool reads_well(struct scene *scene, enum object_urgency urgency)
{
    char data[4] = "";

    return scene->store->get(scene->store, "key", 3, data, 4, urgency) == 0 &&
           memcmp(data, "3456", 4) == 0;
}

static struct s3_hedge_counts counts_of(struct scene *scene)
{
    struct s3_hedge_counts counts;

    s3_hedge_look(s3_parts_of_store(scene->store)->hedges, &counts);
    return counts;
}

TEST("a get that keeps silent is overtaken at another endpoint")
{
    struct scene scene;

    begin(&scene, 2, SILENCE, ANSWER);
    CHECK(reads_well(&scene, OBJECT_WAITED_FOR));
    CHECK(scene.story.ports[0] != scene.story.ports[1]);
    CHECK(counts_of(&scene).won == 1);
    /* The first attempt's connection was ended, not left to its timeout. */
    wait_for_gone(&scene.story, 1);
    end(&scene);
}

TEST("with one endpoint it is overtaken on another connection")
{
    struct scene scene;

    begin(&scene, 1, SILENCE, ANSWER);
    CHECK(reads_well(&scene, OBJECT_WAITED_FOR));
    CHECK(counts_of(&scene).won == 1);
    wait_for_gone(&scene.story, 1);
    end(&scene);
}

TEST("a second attempt that fails is followed by another one")
{
    struct scene scene;

    begin(&scene, 2, SILENCE, DROP);
    CHECK(reads_well(&scene, OBJECT_WAITED_FOR));
    CHECK(counts_of(&scene).begun == 2 && counts_of(&scene).won == 1);
    wait_for_gone(&scene.story, 1);
    end(&scene);
}

TEST("a get that is answered in the end does not wait for the second one")
{
    struct scene scene;

    begin(&scene, 2, ANSWER_AFTER_SECOND, SILENCE);
    CHECK(reads_well(&scene, OBJECT_WAITED_FOR));
    CHECK(counts_of(&scene).begun == 1 && counts_of(&scene).won == 0);
    /* That one is ended likewise. */
    wait_for_gone(&scene.story, 1);
    end(&scene);
}

TEST("both answered, the data are right whichever comes first")
{
    for (int i = 0; i < 20; i++) {
        struct scene scene;

        begin(&scene, 2, ANSWER_AFTER_SECOND, ANSWER);
        CHECK(reads_well(&scene, OBJECT_WAITED_FOR));
        end(&scene);
    }
}

TEST("a first attempt that fails takes the second one's data")
{
    struct scene scene;

    begin(&scene, 2, RESET, ANSWER);
    CHECK(reads_well(&scene, OBJECT_WAITED_FOR));
    CHECK(scene.story.gets >= 2);
    end(&scene);
}

TEST("a first attempt that fails goes on without a second one that is silent")
{
    struct scene scene;

    begin(&scene, 2, RESET, SILENCE);
    CHECK(reads_well(&scene, OBJECT_WAITED_FOR));
    wait_for_gone(&scene.story, 1);
    CHECK(scene.story.gets >= 3);
    end(&scene);
}

TEST("what a second attempt failed to bring is never taken for data")
{
    struct scene scene;

    begin(&scene, 2, ANSWER_AFTER_SECOND, CUT);
    CHECK(reads_well(&scene, OBJECT_WAITED_FOR));
    CHECK(counts_of(&scene).won == 0);
    end(&scene);
    begin(&scene, 2, ANSWER_AFTER_SECOND, ABSENT);
    CHECK(reads_well(&scene, OBJECT_WAITED_FOR));
    CHECK(counts_of(&scene).won == 0);
    end(&scene);
}

/* A get that runs in a thread of its own. */
struct getter {
    struct scene *scene;
    enum object_urgency urgency;
    int result;
    pthread_t thread;
};

static void *run_getter(void *argument)
{
    struct getter *getter = argument;
    struct object_store *store = getter->scene->store;
    char data[4];

    getter->result = store->get(store, "key", 0, data, 4, getter->urgency);
    return NULL;
}

TEST("only reads that somebody waits for are attempted twice")
{
    struct scene scene;
    struct getter getter = {.scene = &scene, .urgency = OBJECT_BACKGROUND};

    begin(&scene, 2, SILENCE, SILENCE);
    NEED(pthread_create(&getter.thread, NULL, run_getter, &getter) == 0);
    s3_peer_wait_for_requests(scene.peer, 2);
    /* The put, this get, and one that is waited for with its second one. */
    CHECK(reads_well(&scene, OBJECT_WAITED_FOR));
    CHECK(counts_of(&scene).gets == 1);
    scene.store->interrupt(scene.store);
    CHECK(pthread_join(getter.thread, NULL) == 0);
    CHECK(getter.result == -ECANCELED);
    end(&scene);
}

TEST("an interrupt ends both attempts")
{
    struct scene scene;
    struct getter getter = {.scene = &scene, .urgency = OBJECT_WAITED_FOR};

    begin(&scene, 2, SILENCE, SILENCE);
    NEED(pthread_create(&getter.thread, NULL, run_getter, &getter) == 0);
    wait_for_second(&scene.story);
    scene.store->interrupt(scene.store);
    CHECK(pthread_join(getter.thread, NULL) == 0);
    CHECK(getter.result == -ECANCELED);
    end(&scene);
}

TEST("the budget is one in twenty, and what was saved up")
{
    struct scene scene;
    struct s3_parts *parts;
    const struct s3_operation operation = {.key = "key", .len = 4};
    struct s3_hedge_counts before, after;
    char data[4];

    begin(&scene, 2, ANSWER, ANSWER);
    parts = s3_parts_of_store(scene.store);
    /* With the pool interrupted each second attempt fails at once. */
    scene.store->interrupt(scene.store);
    before = counts_of(&scene);
    for (int i = 0; i < 30; i++) {
        struct s3_hedged hedged;

        /* Not answered: then the end is that of a race, if there is one. */
        s3_hedge_begin(parts->hedges, &hedged, &operation);
        while (!s3_hedge_was_due(parts->hedges, &hedged))
            sched_yield();
        CHECK(!s3_hedge_end(parts->hedges, &hedged, false, data));
    }
    after = counts_of(&scene);
    CHECK(after.gets - before.gets == 30);
    CHECK(after.begun - before.begun == 11);
    end(&scene);
}

TEST("while the store throttles nothing is attempted twice")
{
    struct scene scene;
    struct s3_parts *parts;
    const struct s3_operation operation = {.key = "key", .len = 4};
    struct s3_hedged hedged;
    char data[4];

    begin(&scene, 2, ANSWER, ANSWER);
    parts = s3_parts_of_store(scene.store);
    s3_hedge_pause(parts->hedges);
    s3_hedge_begin(parts->hedges, &hedged, &operation);
    while (!s3_hedge_was_due(parts->hedges, &hedged))
        sched_yield();
    CHECK(!s3_hedge_end(parts->hedges, &hedged, true, data));
    CHECK(counts_of(&scene).begun == 0);
    end(&scene);
}

/* ---- at an endpoint that is not well ------------------------------------ */

enum { READERS = 48 };

/* Many gets at once, of which those at the first port are not answered. */
struct crowd {
    struct mutex mutex;
    struct condition changed;
    unsigned gets, silent;
};

static void meet_crowd(void *context, struct s3_peer *peer,
                       const struct s3_peer_request *request,
                       struct s3_peer_answer *answer)
{
    struct crowd *crowd = context;

    if (strcmp(request->method, "GET") == 0) {
        mutex_lock(&crowd->mutex);
        crowd->gets++;
        crowd->silent += request->port == 0;
        condition_broadcast(&crowd->changed);
        /* So that as many go to either. */
        while (crowd->gets < READERS)
            condition_wait(&crowd->changed, &crowd->mutex);
        mutex_unlock(&crowd->mutex);
    }
    if (request->port == 0)
        s3_peer_wait_until_gone(request);
    else
        s3_peer_serve(peer, request, answer);
}

TEST("who waits where silence was noticed is moved, however many there are")
{
    struct scene scene = {.peer = s3_peer_start(2)};
    struct getter getters[READERS];
    struct s3_peer_options options;
    struct crowd crowd = {.gets = 0};
    struct s3_hedge_counts counts;

    s3_peer_fill_options(scene.peer, &options);
    options.options.timeout_ms = 3600 * 1000;
    options.options.concurrency = READERS;
    NEED(s3_store_open(&options.options, &scene.store) == 0);
    CHECK(scene.store->put(scene.store, "key", "0123", 4, false) == 0);
    mutex_init(&crowd.mutex);
    condition_init(&crowd.changed);
    s3_peer_set_script(scene.peer, meet_crowd, &crowd);
    for (size_t i = 0; i < READERS; i++) {
        getters[i] =
            (struct getter){.scene = &scene, .urgency = OBJECT_WAITED_FOR};
        NEED(pthread_create(&getters[i].thread, NULL, run_getter,
                            &getters[i]) == 0);
    }
    for (size_t i = 0; i < READERS; i++) {
        CHECK(pthread_join(getters[i].thread, NULL) == 0);
        CHECK(getters[i].result == 0);
    }
    counts = counts_of(&scene);
    CHECK(counts.begun <= 10 + (counts.gets + 19) / 20);
    CHECK(crowd.silent > counts.begun && counts.gets > READERS);
    scene.store->close(scene.store);
    s3_peer_stop(scene.peer);
    condition_done(&crowd.changed);
    mutex_done(&crowd.mutex);
}
