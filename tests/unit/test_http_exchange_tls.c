/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_http_exchange_tls - exchanges over TLS, where bytes come in records and
 * an end may be announced, or not.
 */
#include "test.h"

#include <sys/socket.h>

#include "s3/http_exchange.h"
#include "support/tls_peer.h"

enum { BIG = 1 << 20 };

static const char get_head[] = "GET /k HTTP/1.1\r\nHost: h\r\n\r\n";
static const char put_head[] = "PUT /k HTTP/1.1\r\nHost: h\r\n"
                               "Content-Length: 1048576\r\n\r\n";

/* What the server does with the request. */
struct story {
    size_t takes; /* bytes of it; then it answers */
    const char *answer;
    size_t answer_len;
    size_t piece; /* a record's */
    bool says_bye, leaves;
    char *taken;
};

static void serve_story(void *context, struct tls_peer_connection *connection)
{
    struct story *story = context;
    size_t len = 0;
    char byte;

    while (len < story->takes) {
        size_t got = tls_peer_receive(connection, story->taken + len,
                                      story->takes - len);

        if (got == 0)
            return;
        len += got;
    }
    for (size_t at = 0; at < story->answer_len;) {
        size_t part = story->answer_len - at;

        if (part > story->piece)
            part = story->piece;
        if (!tls_peer_send(connection, story->answer + at, part))
            return;
        at += part;
    }
    if (story->says_bye)
        tls_peer_bye(connection);
    /* Otherwise it is for the client to end it. */
    if (!story->says_bye && !story->leaves)
        while (recv(tls_peer_fd(connection), &byte, 1, 0) > 0)
            ;
}

struct scene {
    struct story story;
    struct tls_peer *peer;
    struct tls_context *context;
    struct stream *stream;
    struct http_exchange exchange;
    char *data, *body;
};

/* Begin with a server, a connection to it, and a GET with room for BIG. */
static void scene_begin(struct scene *scene, const char *answer)
{
    struct net_failure failure;

    scene->story = (struct story){.takes = sizeof(get_head) - 1,
                                  .answer = answer,
                                  .answer_len = strlen(answer),
                                  .piece = SIZE_MAX,
                                  .taken = malloc(BIG + 1000)};
    scene->peer = NULL;
    scene->data = malloc(BIG);
    scene->body = malloc(BIG);
    for (size_t i = 0; i < BIG; i++)
        scene->body[i] = (char)(i * 7 + i / 999);
    scene->peer = tls_peer_start(
        test_dir(),
        &(struct tls_peer_setup){.certificate = {.names = {"s3.example"}},
                                 .gives_tickets = true,
                                 .serve = serve_story,
                                 .context = &scene->story});
    scene->context = tls_peer_client(test_dir(), false);
    scene->stream =
        tls_peer_meet(scene->peer, scene->context, "s3.example", &failure);
    if (!scene->stream)
        abort();
    scene->exchange = (struct http_exchange){
        .head = get_head,
        .head_len = sizeof(get_head) - 1,
        .data = scene->data,
        .room = BIG,
        .progress_ns = 100000000000,
        .deadline_ns = STREAM_FOREVER,
    };
}

/* Make it a PUT; the server takes so many bytes of all. */
static void scene_put(struct scene *scene, size_t takes)
{
    scene->story.takes = takes;
    scene->exchange.head = put_head;
    scene->exchange.head_len = sizeof(put_head) - 1;
    scene->exchange.body = scene->body;
    scene->exchange.body_len = BIG;
    scene->exchange.data = NULL;
}

static int scene_run(struct scene *scene)
{
    return http_exchange_run(scene->stream, &scene->exchange);
}

static void scene_end(struct scene *scene)
{
    http_exchange_done(&scene->exchange);
    stream_close(scene->stream);
    tls_peer_stop(scene->peer);
    tls_free(scene->context);
    free(scene->story.taken);
    free(scene->data);
    free(scene->body);
}

TEST("a large body is received in records of any size")
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n"
                               "\r\n";

    for (size_t piece = 333; piece <= BIG; piece *= 16) {
        struct scene scene;
        char *answer = malloc(sizeof(head) - 1 + BIG);

        scene_begin(&scene, "");
        memcpy(answer, head, sizeof(head) - 1);
        memcpy(answer + sizeof(head) - 1, scene.body, BIG);
        scene.story.answer = answer;
        scene.story.answer_len = sizeof(head) - 1 + BIG;
        scene.story.piece = piece;
        CHECK(scene_run(&scene) == 0);
        CHECK(scene.exchange.len == BIG && scene.exchange.is_reusable);
        CHECK(memcmp(scene.data, scene.body, BIG) == 0);
        scene_end(&scene);
        free(answer);
    }
}

TEST("a large body is sent, and its answer is heard")
{
    struct scene scene;

    scene_begin(&scene, "HTTP/1.1 100 Continue\r\n\r\n"
                        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    scene_put(&scene, sizeof(put_head) - 1 + BIG);
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.exchange.answer.status == 200 && scene.exchange.is_reusable);
    CHECK(memcmp(scene.story.taken, put_head, sizeof(put_head) - 1) == 0);
    CHECK(memcmp(scene.story.taken + sizeof(put_head) - 1, scene.body, BIG) ==
          0);
    scene_end(&scene);
}

TEST("an early refusal is heard while the server takes no more")
{
    struct scene scene;

    scene_begin(&scene, "HTTP/1.1 412 x\r\nContent-Length: 8\r\n\r\n<Error/>");
    scene_put(&scene, sizeof(put_head) - 1);
    /* More than the two sockets take between them. */
    scene.exchange.body_len = 64 << 20;
    scene.exchange.body = calloc(1, scene.exchange.body_len);
    scene.story.piece = 10;
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.exchange.answer.status == 412);
    CHECK(strcmp(scene.exchange.text, "<Error/>") == 0);
    CHECK(scene.exchange.sent < scene.exchange.body_len);
    CHECK(!scene.exchange.is_reusable);
    free((void *)(uintptr_t)scene.exchange.body);
    scene_end(&scene);
}

TEST("a body that lasts until the end needs an end that is announced")
{
    for (int says_bye = 0; says_bye < 2; says_bye++) {
        struct scene scene;

        scene_begin(&scene, "HTTP/1.1 403 x\r\n\r\n<Error/>");
        scene.story.says_bye = says_bye > 0;
        scene.story.leaves = true;
        CHECK(scene_run(&scene) == (says_bye > 0 ? 0 : -ECONNABORTED));
        CHECK(scene.exchange.answer.status == 403);
        CHECK(strcmp(scene.exchange.text, "<Error/>") == 0);
        CHECK(!scene.exchange.is_reusable);
        scene_end(&scene);
    }
}

TEST("a body that is cut short is an error, announced or not")
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nContent-Len",
        "",
    };

    for (size_t i = 0; i < 8; i++) {
        bool says_bye = i % 2 > 0;
        struct scene scene;

        scene_begin(&scene, answers[i / 2]);
        scene.story.says_bye = says_bye;
        scene.story.leaves = true;
        CHECK(scene_run(&scene) == (says_bye ? -ECONNRESET : -ECONNABORTED));
        CHECK(!scene.exchange.is_reusable);
        scene_end(&scene);
    }
}

TEST("behind a whole body, an end that is not announced does no harm")
{
    struct scene scene;

    scene_begin(&scene, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    scene.story.leaves = true;
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.exchange.len == 5 && memcmp(scene.data, "hello", 5) == 0);
    scene_end(&scene);
}
