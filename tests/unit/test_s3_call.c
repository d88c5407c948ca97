/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_call.h"

#include "base/clock.h"
#include "base/moment.h"
#include "s3/s3_parts.h"
#include "support/s3_peer.h"
#include "unit/test.h"

/* What to answer to the first so many requests; then all is well. */
struct faults {
    unsigned count;
    void (*fault)(struct s3_peer *peer, const struct s3_peer_request *request,
                  struct s3_peer_answer *answer);
    unsigned met;
};

static void script(void *context, struct s3_peer *peer,
                   const struct s3_peer_request *request,
                   struct s3_peer_answer *answer)
{
    struct faults *faults = context;

    if (faults->met < faults->count) {
        faults->met++;
        faults->fault(peer, request, answer);
    } else {
        s3_peer_serve(peer, request, answer);
    }
}

/* A store at a peer with an object, whose answers are faulty at first. */
struct scene {
    struct s3_peer *peer;
    struct object_store *store;
    struct faults faults;
};

static void begin(struct scene *scene, unsigned count,
                  void (*fault)(struct s3_peer *peer,
                                const struct s3_peer_request *request,
                                struct s3_peer_answer *answer))
{
    struct object_store *objects;

    scene->peer = s3_peer_start(1);
    scene->store = s3_peer_open_store(scene->peer);
    scene->faults = (struct faults){.count = count, .fault = fault};
    objects = s3_peer_objects(scene->peer);
    CHECK(objects->put(objects, "key", "0123456789", 10, false) == 0);
    s3_peer_set_script(scene->peer, script, &scene->faults);
}

static void end(struct scene *scene)
{
    scene->store->close(scene->store);
    s3_peer_stop(scene->peer);
}

/* Returns the result of a get, which must be right if it is 0. */
static int get(struct scene *scene, enum object_urgency urgency)
{
    char data[4] = "";
    int result = scene->store->get(scene->store, "key", 3, data, 4, urgency);

    CHECK(result != 0 || memcmp(data, "3456", 4) == 0);
    return result;
}

static int put(struct scene *scene)
{
    return scene->store->put(scene->store, "other", "text", 4, false);
}

/* ---- what is worth another attempt --------------------------------------- */

static void answer_500(struct s3_peer *peer,
                       const struct s3_peer_request *request,
                       struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    s3_peer_refuse(answer, 500, "", "InternalError", "");
}

static void answer_nothing(struct s3_peer *peer,
                           const struct s3_peer_request *request,
                           struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    s3_peer_respond_raw(answer, "");
}

static void answer_half(struct s3_peer *peer,
                        const struct s3_peer_request *request,
                        struct s3_peer_answer *answer)
{
    s3_peer_serve(peer, request, answer);
    answer->len -= 2;
    answer->is_last = true;
}

TEST("errors of the server, lost and cut answers are tried again")
{
    static void (*const all[])(struct s3_peer * peer,
                               const struct s3_peer_request *request,
                               struct s3_peer_answer *answer) = {
        answer_500, answer_nothing, answer_half};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct scene scene;

        begin(&scene, 2, all[i]);
        CHECK(get(&scene, OBJECT_WAITED_FOR) == 0);
        CHECK(scene.faults.met == 2);
        end(&scene);
    }
}

TEST("a read that somebody waits for is tried again and again")
{
    struct scene scene;

    begin(&scene, 8, answer_500);
    CHECK(get(&scene, OBJECT_WAITED_FOR) == 0);
    end(&scene);
}

TEST("read-ahead fails at once")
{
    struct scene scene;

    begin(&scene, 1, answer_500);
    CHECK(get(&scene, OBJECT_AHEAD) == -EIO);
    CHECK(s3_peer_requests(scene.peer) == 1);
    CHECK(get(&scene, OBJECT_AHEAD) == 0);
    end(&scene);
}

TEST("the body of a put begins anew with each attempt")
{
    struct scene scene;
    struct object_store *objects;
    char data[4] = "";

    begin(&scene, 2, answer_nothing);
    CHECK(put(&scene) == 0);
    objects = s3_peer_objects(scene.peer);
    CHECK(objects->get(objects, "other", 0, data, 4, OBJECT_BACKGROUND) == 0);
    CHECK(memcmp(data, "text", 4) == 0);
    end(&scene);
}

/* ---- what makes no sense ------------------------------------------------- */

static void answer_other_range(struct s3_peer *peer,
                               const struct s3_peer_request *request,
                               struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    s3_peer_respond(answer, 206, "Content-Range: bytes 2-5/10\r\n", "2345", 4);
}

static void answer_all(struct s3_peer *peer,
                       const struct s3_peer_request *request,
                       struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    s3_peer_respond(answer, 200, "", "0123456789", 10);
}

static void answer_as_long(struct s3_peer *peer,
                           const struct s3_peer_request *request,
                           struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    s3_peer_respond(answer, 200, "", "0123", 4);
}

static void answer_encoded(struct s3_peer *peer,
                           const struct s3_peer_request *request,
                           struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    s3_peer_respond(answer, 206,
                    "Content-Range: bytes 3-6/10\r\nContent-Encoding: gzip\r\n",
                    "3456", 4);
}

TEST("an answer that is not the range that was asked for is none")
{
    static void (*const all[])(struct s3_peer * peer,
                               const struct s3_peer_request *request,
                               struct s3_peer_answer *answer) = {
        answer_other_range, answer_all, answer_as_long, answer_encoded};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct scene scene;

        begin(&scene, 2, all[i]);
        CHECK(get(&scene, OBJECT_WAITED_FOR) == 0);
        CHECK(scene.faults.met == 2);
        end(&scene);
    }
}

TEST("what makes no sense time and again is an error, for a read, too")
{
    struct scene scene;

    begin(&scene, 1000, answer_other_range);
    CHECK(get(&scene, OBJECT_WAITED_FOR) == -EIO);
    CHECK(scene.faults.met >= 5);
    scene.faults.met = 0;
    CHECK(get(&scene, OBJECT_BACKGROUND) == -EIO);
    CHECK(scene.faults.met == 5);
    end(&scene);
}

TEST("all of an object is as good as its range")
{
    struct scene scene;
    char data[10];

    begin(&scene, 1, answer_all);
    CHECK(scene.store->get(scene.store, "key", 0, data, 10,
                           OBJECT_WAITED_FOR) == 0);
    CHECK(memcmp(data, "0123456789", 10) == 0);
    CHECK(s3_peer_requests(scene.peer) == 1);
    end(&scene);
}

static void answer_absent(struct s3_peer *peer,
                          const struct s3_peer_request *request,
                          struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    s3_peer_refuse(answer, 404, "", "NoSuchKey", "");
}

TEST("an object that must be there is looked for a few times")
{
    struct scene scene;

    begin(&scene, 2, answer_absent);
    CHECK(get(&scene, OBJECT_WAITED_FOR) == 0);
    end(&scene);
    begin(&scene, 1000, answer_absent);
    CHECK(get(&scene, OBJECT_WAITED_FOR) == -ENOENT);
    CHECK(scene.faults.met >= 3);
    scene.faults.met = 0;
    CHECK(get(&scene, OBJECT_BACKGROUND) == -ENOENT);
    CHECK(scene.faults.met == 1);
    end(&scene);
}

static void answer_page(struct s3_peer *peer,
                        const struct s3_peer_request *request,
                        struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    s3_peer_respond(answer, 404, "", "404 page not found\n", 19);
}

TEST("while a proxy has no server behind it, a read waits")
{
    struct scene scene;

    begin(&scene, 8, answer_page);
    CHECK(get(&scene, OBJECT_WAITED_FOR) == 0);
    CHECK(scene.faults.met == 8);
    end(&scene);
}

/* It has nothing to do with S3, and says that all is well. */
static void answer_welcome(struct s3_peer *peer,
                           const struct s3_peer_request *request,
                           struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    s3_peer_respond(answer, 200, "", "<html>log in first</html>", 25);
}

static void answer_garbage(struct s3_peer *peer,
                           const struct s3_peer_request *request,
                           struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    s3_peer_respond_raw(answer, "what do you want?\n");
}

TEST("while something else is where the store was, a read waits for a while")
{
    static void (*const all[])(
        struct s3_peer * peer, const struct s3_peer_request *request,
        struct s3_peer_answer *answer) = {answer_welcome, answer_garbage};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct scene scene;

        begin(&scene, 6, all[i]);
        CHECK(get(&scene, OBJECT_WAITED_FOR) == 0);
        CHECK(scene.faults.met == 6);
        end(&scene);
    }
}

TEST("something else that stays where the store was is an error, for a read")
{
    struct s3_peer_options options;
    struct scene scene;

    begin(&scene, UINT_MAX, answer_welcome);
    scene.store->close(scene.store);
    s3_peer_fill_options(scene.peer, &options);
    options.options.timeout_ms = 500;
    NEED(s3_store_open(&options.options, &scene.store) == 0);
    CHECK(get(&scene, OBJECT_WAITED_FOR) == -EIO);
    end(&scene);
}

static void answer_accepted(struct s3_peer *peer,
                            const struct s3_peer_request *request,
                            struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    s3_peer_respond(answer, 202, "ETag: \"x\"\r\n", "", 0);
}

static void answer_error_inside(struct s3_peer *peer,
                                const struct s3_peer_request *request,
                                struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    s3_peer_refuse(answer, 200, "ETag: \"x\"\r\n", "InternalError", "");
}

TEST("a put is done when a store says so, not when somebody says welcome")
{
    static void (*const all[])(struct s3_peer * peer,
                               const struct s3_peer_request *request,
                               struct s3_peer_answer *answer) = {
        answer_welcome, answer_accepted, answer_error_inside};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct object_store *objects;
        struct object_info info;
        struct scene scene;

        begin(&scene, 2, all[i]);
        objects = s3_peer_objects(scene.peer);
        CHECK(put(&scene) == 0);
        CHECK(scene.faults.met == 2);
        CHECK(objects->head(objects, "other", &info) == 0);
        end(&scene);
    }
}

/* ---- what can be learned ------------------------------------------------- */

/* Whether the request is dated so many seconds from now, about. */
static bool is_dated(const struct s3_peer_request *request, int64_t ahead_s)
{
    char *date = s3_peer_field(request, "x-amz-date");
    uint64_t date_s = 0;
    int64_t off_s;

    CHECK(date && moment_parse_iso(date, &date_s, NULL) == 0);
    free(date);
    off_s = (int64_t)date_s - (int64_t)(clock_realtime_ns() / 1000000000U) -
            ahead_s;
    return off_s > -300 && off_s < 300;
}

static void refuse_the_time(struct s3_peer_answer *answer, int64_t ahead_s)
{
    char element[128];
    time_t there = time(NULL) + ahead_s;
    struct tm parts;

    CHECK(gmtime_r(&there, &parts));
    CHECK(strftime(element, sizeof(element),
                   "<ServerTime>%Y-%m-%dT%H:%M:%SZ</ServerTime>", &parts) > 0);
    s3_peer_refuse(answer, 403, "", "RequestTimeTooSkewed", element);
}

/* A server that lives an hour ahead. */
static void answer_an_hour_ahead(struct s3_peer *peer,
                                 const struct s3_peer_request *request,
                                 struct s3_peer_answer *answer)
{
    if (is_dated(request, 3600))
        s3_peer_serve(peer, request, answer);
    else
        refuse_the_time(answer, 3600);
}

/* One whose clock jumps while it is asked. */
static void answer_with_a_jump(struct s3_peer *peer,
                               const struct s3_peer_request *request,
                               struct s3_peer_answer *answer)
{
    if (is_dated(request, 7200))
        s3_peer_serve(peer, request, answer);
    else
        refuse_the_time(answer, is_dated(request, 0) ? 3600 : 7200);
}

TEST("a clock that is off is corrected by one request")
{
    struct scene scene;

    begin(&scene, 1000, answer_an_hour_ahead);
    CHECK(get(&scene, OBJECT_AHEAD) == 0);
    CHECK(s3_peer_requests(scene.peer) == 2);
    CHECK(put(&scene) == 0);
    CHECK(s3_peer_requests(scene.peer) == 3);
    end(&scene);
}

TEST("a clock that jumps while a read is tried is corrected again")
{
    struct scene scene;

    begin(&scene, 1000, answer_with_a_jump);
    CHECK(get(&scene, OBJECT_BACKGROUND) == 0);
    end(&scene);
}

static bool is_signed_for(const struct s3_peer_request *request,
                          const char *region)
{
    char *field = s3_peer_field(request, "Authorization");
    bool is = field && strstr(field, region);

    free(field);
    return is;
}

static void answer_elsewhere(struct s3_peer *peer,
                             const struct s3_peer_request *request,
                             struct s3_peer_answer *answer)
{
    if (is_signed_for(request, "/garage/s3/"))
        s3_peer_serve(peer, request, answer);
    else
        s3_peer_refuse(answer, 400, "", "AuthorizationHeaderMalformed",
                       "<Region>garage</Region>");
}

static void answer_redirect(struct s3_peer *peer,
                            const struct s3_peer_request *request,
                            struct s3_peer_answer *answer)
{
    if (is_signed_for(request, "/eu-west-1/s3/"))
        s3_peer_serve(peer, request, answer);
    else
        s3_peer_respond(answer, 301,
                        "x-amz-bucket-region: eu-west-1\r\n"
                        "Location: http://evil.test/\r\n",
                        "", 0);
}

TEST("a region is learned by one request, from a document or a header")
{
    struct scene scene;

    begin(&scene, 1000, answer_elsewhere);
    CHECK(get(&scene, OBJECT_AHEAD) == 0);
    CHECK(s3_peer_requests(scene.peer) == 2);
    CHECK(get(&scene, OBJECT_AHEAD) == 0);
    CHECK(s3_peer_requests(scene.peer) == 3);
    end(&scene);
    begin(&scene, 1000, answer_redirect);
    CHECK(put(&scene) == 0);
    CHECK(s3_peer_requests(scene.peer) == 2);
    end(&scene);
}

static void answer_no_region(struct s3_peer *peer,
                             const struct s3_peer_request *request,
                             struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    s3_peer_respond(answer, 301, "Location: http://evil.test/\r\n", "", 0);
}

static void answer_denied(struct s3_peer *peer,
                          const struct s3_peer_request *request,
                          struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    s3_peer_refuse(answer, 403, "", "AccessDenied", "");
}

TEST("what is refused for good is refused at once, when nobody waits")
{
    struct scene scene;

    begin(&scene, 1000, answer_no_region);
    CHECK(get(&scene, OBJECT_BACKGROUND) == -EACCES);
    CHECK(s3_peer_requests(scene.peer) == 1);
    end(&scene);
    begin(&scene, 1000, answer_denied);
    CHECK(put(&scene) == -EACCES);
    CHECK(get(&scene, OBJECT_AHEAD) == -EACCES);
    CHECK(scene.store->list(scene.store, "", "", NULL, NULL) == -EACCES);
    end(&scene);
}

TEST("without a document the same holds for a head")
{
    struct scene scene;
    struct object_info info;

    begin(&scene, 1000, answer_denied);
    CHECK(scene.store->head(scene.store, "key", &info) == -EACCES);
    end(&scene);
}

/* ---- throttling ---------------------------------------------------------- */

static void answer_slow_down(struct s3_peer *peer,
                             const struct s3_peer_request *request,
                             struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    s3_peer_refuse(answer, 503, "", "SlowDown", "");
}

TEST("who is asked to slow down does, and goes on")
{
    struct scene scene;
    char *text;

    begin(&scene, 1, answer_slow_down);
    CHECK(get(&scene, OBJECT_WAITED_FOR) == 0);
    text = scene.store->describe(scene.store);
    NEED(text);
    CHECK(strstr(text, "\"halvings\": 1"));
    CHECK(strstr(text, "\"throttled\": 1"));
    CHECK(strstr(text, "\"rests\": 0"));
    free(text);
    end(&scene);
}

static void answer_later(struct s3_peer *peer,
                         const struct s3_peer_request *request,
                         struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    /* Longer than the patience of who does not wait. */
    s3_peer_refuse(answer, 503, "Retry-After: 25\r\n", "SlowDown", "");
}

TEST("patience that would not last until the store wants to be asked is over")
{
    struct scene scene;

    begin(&scene, 1, answer_later);
    CHECK(put(&scene) == -EBUSY);
    CHECK(s3_peer_requests(scene.peer) == 1);
    end(&scene);
}

/* ---- in a hurry ---------------------------------------------------------- */

static void answer_never(struct s3_peer *peer,
                         const struct s3_peer_request *request,
                         struct s3_peer_answer *answer)
{
    (void)peer;
    (void)answer;
    s3_peer_wait_until_gone(request);
}

TEST("in a hurry the first silence is enough, for what nobody waits for")
{
    struct scene scene;

    begin(&scene, UINT_MAX, answer_never);
    s3_store_hurry(scene.store, 50);
    CHECK(get(&scene, OBJECT_BACKGROUND) == -ETIMEDOUT);
    CHECK(scene.faults.met == 1);
    end(&scene);
}

static void answer_after_a_pause(struct s3_peer *peer,
                                 const struct s3_peer_request *request,
                                 struct s3_peer_answer *answer)
{
    (void)peer;
    (void)request;
    s3_peer_refuse(answer, 503, "Retry-After: 3\r\n", "SlowDown", "");
}

TEST("in a hurry nothing is asked again that would take longer than there is")
{
    struct scene scene;

    begin(&scene, 1, answer_after_a_pause);
    s3_store_hurry(scene.store, 2000);
    CHECK(get(&scene, OBJECT_BACKGROUND) == -EBUSY);
    CHECK(s3_peer_requests(scene.peer) == 1);
    end(&scene);
}

TEST("a hurry is over when it is over, and was never one of who waits")
{
    struct scene scene;

    begin(&scene, 1, answer_500);
    s3_store_hurry(scene.store, 1);
    CHECK(get(&scene, OBJECT_WAITED_FOR) == 0);
    s3_store_hurry(scene.store, 0);
    scene.faults.met = 0;
    CHECK(get(&scene, OBJECT_BACKGROUND) == 0);
    CHECK(scene.faults.met == 1);
    end(&scene);
}
