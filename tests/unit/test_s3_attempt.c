/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_attempt.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "object_store.h"
#include "s3/credentials_set.h"
#include "s3/s3_hold.h"
#include "s3/s3_parts.h"
#include "support/s3_peer.h"
#include "unit/test.h"

/* A store at a peer, with an object, and an attempt to read from it. */
struct scene {
    struct s3_peer *peer;
    struct object_store *store;
    struct s3_parts *parts;
    struct s3_operation operation;
    struct s3_attempt attempt;
    char data[4];
};

static void begin(struct scene *scene, size_t ports)
{
    struct object_store *objects;

    scene->peer = s3_peer_start(ports);
    scene->store = s3_peer_open_store(scene->peer);
    scene->parts = s3_parts_of_store(scene->store);
    objects = s3_peer_objects(scene->peer);
    CHECK(objects->put(objects, "key", "0123456789", 10, false) == 0);
    scene->operation = (struct s3_operation){
        .verb = S3_GET, .key = "key", .offset = 3, .len = 4};
    CHECK(s3_attempt_init(&scene->attempt, &scene->operation) == 0);
    scene->attempt.data = scene->data;
}

static void end(struct scene *scene)
{
    s3_attempt_done(scene->parts, &scene->attempt);
    scene->store->close(scene->store);
    s3_peer_stop(scene->peer);
}

/* Run it.  Returns the verdict, or -1 if it did not begin. */
static int verdict(struct scene *scene)
{
    if (s3_attempt_run(scene->parts, &scene->attempt) != 0)
        return -1;
    return (int)s3_retry_judge(&scene->attempt.seen);
}

TEST("an attempt brings what was asked for, by a connection that is kept")
{
    struct scene scene;
    const struct s3_attempt *attempt = &scene.attempt;

    begin(&scene, 1);
    CHECK(verdict(&scene) == S3_VERDICT_DONE);
    CHECK(memcmp(scene.data, "3456", 4) == 0);
    CHECK(attempt->seen.status == 206 && !attempt->seen.is_reused);
    CHECK(attempt->health == S3_HEALTH_ANSWERED && attempt->endpoint == 0);
    CHECK(attempt->first_byte_ns > 0 &&
          attempt->took_ns >= attempt->first_byte_ns);
    CHECK(attempt->words[0] == '\0');
    CHECK(strcmp(attempt->region, "us-east-1") == 0);
    CHECK(verdict(&scene) == S3_VERDICT_DONE);
    CHECK(attempt->seen.is_reused);
    scene.attempt.is_fresh = true;
    CHECK(verdict(&scene) == S3_VERDICT_DONE);
    CHECK(!attempt->seen.is_reused);
    end(&scene);
}

TEST("it goes to another endpoint than the one to be avoided, or to that one")
{
    struct scene scene;

    begin(&scene, 2);
    for (int i = 0; i < 10; i++) {
        scene.attempt.avoid = (size_t)i % 2;
        CHECK(verdict(&scene) == S3_VERDICT_DONE);
        CHECK(scene.attempt.endpoint == (size_t)(i + 1) % 2);
        scene.attempt.only = (size_t)i % 2;
        CHECK(verdict(&scene) == S3_VERDICT_DONE);
        CHECK(scene.attempt.endpoint == (size_t)i % 2);
        scene.attempt.only = S3_ENDPOINT_NONE;
    }
    end(&scene);
}

TEST("the only endpoint is not avoided, but its connection is")
{
    struct scene scene;

    begin(&scene, 1);
    CHECK(verdict(&scene) == S3_VERDICT_DONE);
    scene.attempt.avoid = 0;
    CHECK(verdict(&scene) == S3_VERDICT_DONE);
    CHECK(!scene.attempt.seen.is_reused && !scene.attempt.is_fresh);
    end(&scene);
}

TEST("an endpoint that is not there is told in words, and then rests")
{
    struct scene scene;

    begin(&scene, 1);
    s3_peer_close_port(scene.peer, 0);
    CHECK(verdict(&scene) == S3_VERDICT_AGAIN);
    CHECK(!scene.attempt.seen.is_connected);
    CHECK(scene.attempt.health == S3_HEALTH_UNREACHABLE);
    CHECK(strstr(scene.attempt.words, "refused"));
    CHECK(s3_attempt_run(scene.parts, &scene.attempt) == -EHOSTDOWN);
    CHECK(scene.attempt.endpoint == S3_ENDPOINT_NONE);
    end(&scene);
}

/* A port where nobody accepts and no more may wait: connecting to it hangs. */
struct full_port {
    int listening, waiting[8];
    uint16_t port;
};

static void full_port_open(struct full_port *full)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    struct sockaddr *any = (struct sockaddr *)&address;
    socklen_t len = sizeof(address);

    full->listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(full->listening, any, len) == 0);
    CHECK(listen(full->listening, 0) == 0);
    CHECK(getsockname(full->listening, any, &len) == 0);
    full->port = ntohs(address.sin_port);
    for (size_t i = 0; i < 8; i++) {
        full->waiting[i] =
            socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        CHECK(connect(full->waiting[i], any, len) == 0 || errno == EINPROGRESS);
    }
}

static void full_port_close(struct full_port *full)
{
    for (size_t i = 0; i < 8; i++)
        (void)close(full->waiting[i]);
    (void)close(full->listening);
}

TEST("a raced attempt connects for a short time, which proves little")
{
    struct s3_peer_options options;
    struct full_port full;
    struct s3_hold hold;
    struct scene scene;
    uint64_t short_ns;

    full_port_open(&full);
    begin(&scene, 1);
    scene.store->close(scene.store);
    s3_peer_fill_options(scene.peer, &options);
    options.ports[1] = full.port;
    options.options.ports_count = 2;
    options.options.timeout_ms = 3000;
    NEED(s3_store_open(&options.options, &scene.store) == 0);
    scene.parts = s3_parts_of_store(scene.store);
    s3_hold_init(&hold);
    scene.attempt.hold = &hold;
    scene.attempt.avoid = 0;
    CHECK(verdict(&scene) == S3_VERDICT_AGAIN);
    CHECK(scene.attempt.endpoint == 1);
    CHECK(scene.attempt.seen.error == -ETIMEDOUT);
    CHECK(scene.attempt.health == S3_HEALTH_BROKEN);
    short_ns = scene.attempt.took_ns;
    scene.attempt.may_connect_long = true;
    CHECK(verdict(&scene) == S3_VERDICT_AGAIN);
    CHECK(scene.attempt.endpoint == 1);
    CHECK(scene.attempt.health == S3_HEALTH_UNREACHABLE);
    CHECK(scene.attempt.took_ns > short_ns);
    scene.attempt.hold = NULL;
    s3_hold_done(&hold);
    end(&scene);
    full_port_close(&full);
}

TEST("an attempt at what cannot be asked for does not begin")
{
    struct scene scene;
    char key[S3_KEY_MAX + 2];

    memset(key, 'k', sizeof(key));
    key[sizeof(key) - 1] = '\0';
    begin(&scene, 1);
    scene.operation.key = key;
    CHECK(s3_attempt_run(scene.parts, &scene.attempt) == -EMSGSIZE);
    CHECK(s3_peer_requests(scene.peer) == 0);
    end(&scene);
}

static void script_refusal(void *context, struct s3_peer *peer,
                           const struct s3_peer_request *request,
                           struct s3_peer_answer *answer)
{
    (void)context;
    (void)peer;
    (void)request;
    s3_peer_refuse(answer, 503,
                   "Retry-After: 7\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
                   "x-amz-bucket-region: eu-west-1\r\n",
                   "SlowDown", "");
}

TEST("of an answer that refuses, all is kept that can be learned from it")
{
    struct scene scene;
    const struct s3_attempt *attempt = &scene.attempt;

    begin(&scene, 1);
    s3_peer_set_script(scene.peer, script_refusal, NULL);
    CHECK(verdict(&scene) == S3_VERDICT_THROTTLED);
    CHECK(strcmp(attempt->document.code, "SlowDown") == 0);
    CHECK(strcmp(attempt->other_region, "eu-west-1") == 0);
    CHECK(attempt->answer_s == 1767225600);
    CHECK(attempt->seen.skew_s > 1000);
    CHECK(attempt->retry_after_ns >= UINT64_C(7000000000));
    CHECK(strcmp(attempt->words, "HTTP 503 SlowDown: scripted") == 0);
    CHECK(strcmp(attempt->credentials->access_key, "AKIATEST") == 0);
    /* And forgotten by the next one. */
    s3_peer_set_script(scene.peer, NULL, NULL);
    CHECK(verdict(&scene) == S3_VERDICT_DONE);
    CHECK(attempt->document.code[0] == '\0' && attempt->words[0] == '\0');
    CHECK(attempt->other_region[0] == '\0' && attempt->retry_after_ns == 0);
    end(&scene);
}

TEST("what the caller follows only once is kept from run to run")
{
    struct scene scene;

    begin(&scene, 1);
    scene.attempt.seen.clock_is_fixed = true;
    scene.attempt.seen.may_be_applied = true;
    CHECK(verdict(&scene) == S3_VERDICT_DONE);
    CHECK(scene.attempt.seen.clock_is_fixed);
    CHECK(scene.attempt.seen.may_be_applied);
    CHECK(!scene.attempt.seen.region_followed);
    end(&scene);
}

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

TEST("an attempt ends at its deadline")
{
    struct scene scene;

    begin(&scene, 1);
    CHECK(verdict(&scene) == S3_VERDICT_DONE);
    s3_peer_set_script(scene.peer, script_silence, NULL);
    scene.attempt.deadline_ns = clock_monotonic_ns() + 1000000;
    CHECK(s3_attempt_run(scene.parts, &scene.attempt) == 0);
    CHECK(scene.attempt.seen.error == -ETIMEDOUT);
    CHECK(scene.attempt.health != S3_HEALTH_ANSWERED);
    end(&scene);
}

TEST("a head tells size and time; without a length it is none")
{
    struct scene scene;

    begin(&scene, 1);
    scene.operation = (struct s3_operation){.verb = S3_HEAD, .key = "key"};
    CHECK(verdict(&scene) == S3_VERDICT_DONE);
    CHECK(scene.attempt.size == 10);
    CHECK(scene.attempt.modified_ns > UINT64_C(1600000000000000000));
    scene.operation.key = "none";
    CHECK(verdict(&scene) == S3_VERDICT_ABSENT);
    end(&scene);
}

static void script_no_length(void *context, struct s3_peer *peer,
                             const struct s3_peer_request *request,
                             struct s3_peer_answer *answer)
{
    (void)context;
    (void)peer;
    (void)request;
    s3_peer_respond_raw(answer, "HTTP/1.1 200 OK\r\n\r\n");
}

TEST("a head without a length makes no sense")
{
    struct scene scene;

    begin(&scene, 1);
    scene.operation = (struct s3_operation){.verb = S3_HEAD, .key = "key"};
    s3_peer_set_script(scene.peer, script_no_length, NULL);
    CHECK(verdict(&scene) == S3_VERDICT_NONSENSE);
    end(&scene);
}
