/* SPDX-License-Identifier: BSD-2-Clause */
#include "test.h"

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/rate.h"
#include "s3/http_exchange.h"
#include "support/scripted_stream.h"

static const uint64_t second = 1000000000;

enum { PROGRESS_S = 10, BIG = 1 << 20 };

#define OK_11 "HTTP/1.1 200 OK\r\n"

static const char get_head[] = "GET /k HTTP/1.1\r\nHost: h\r\n\r\n";
static const char put_head[] = "PUT /k HTTP/1.1\r\nHost: h\r\n"
                               "Content-Length: 1048576\r\n\r\n";

/* ---- one exchange with a script ----------------------------------------- */

/* What a test needs: a script, a request, and room of exactly its size. */
struct scene {
    struct scripted_stream script;
    struct http_exchange exchange;
    char *data;
    char *answer; /* if the scene made it */
    char *body;
};

static void set_answer(struct scene *scene, const char *text)
{
    scene->script.answer = text;
    scene->script.answer_len = strlen(text);
}

/* Begin with a GET that has room for so many bytes. */
static void scene_begin(struct scene *scene, const char *answer, size_t room)
{
    *scene = (struct scene){.data = malloc(room)};
    scripted_stream_init(&scene->script);
    set_answer(scene, answer);
    scene->exchange = (struct http_exchange){
        .head = get_head,
        .head_len = sizeof(get_head) - 1,
        .data = scene->data,
        .room = room,
        .progress_ns = PROGRESS_S * second,
        .deadline_ns = STREAM_FOREVER - 1,
    };
    scene->script.watched = scene->data;
    scene->script.watched_len = room;
}

/* Begin with a PUT of a body of BIG bytes. */
static void scene_begin_put(struct scene *scene, const char *answer)
{
    scene_begin(scene, answer, 0);
    free(scene->data);
    scene->data = NULL;
    scene->body = malloc(BIG);
    for (size_t i = 0; i < BIG; i++)
        scene->body[i] = (char)(i * 7 + i / 999);
    scene->exchange.head = put_head;
    scene->exchange.head_len = sizeof(put_head) - 1;
    scene->exchange.body = scene->body;
    scene->exchange.body_len = BIG;
    scene->exchange.data = NULL;
}

static int scene_run(struct scene *scene)
{
    return http_exchange_run(&scene->script.stream, &scene->exchange);
}

static void scene_end(struct scene *scene)
{
    http_exchange_done(&scene->exchange);
    scripted_stream_done(&scene->script);
    free(scene->data);
    free(scene->answer);
    free(scene->body);
}

/* How a GET with room for 100 bytes fares, which is over then. */
static int result_of(const char *answer)
{
    struct scene scene;
    int result;

    scene_begin(&scene, answer, 100);
    result = scene_run(&scene);
    CHECK(result == 0 || !scene.exchange.is_reusable);
    scene_end(&scene);
    return result;
}

/* Seconds that have passed by the script's clock. */
static uint64_t seconds_passed(const struct scene *scene)
{
    return (scene->script.now_ns - SCRIPTED_STREAM_BEGIN_NS) / second;
}

/*
 * Give the scene an answer with a body of BIG bytes, and room for it; in
 * chunks of that many bytes, or (0) with a length.
 */
static void scene_begin_big(struct scene *scene, size_t chunk)
{
    size_t len = 0, size = BIG + BIG / 64 * 16 + 1000;

    scene_begin(scene, "", BIG);
    scene->body = malloc(BIG);
    scene->answer = malloc(size);
    for (size_t i = 0; i < BIG; i++)
        scene->body[i] = (char)(i * 7 + i / 999);
    len += (size_t)snprintf(scene->answer, size, OK_11 "%s\r\n\r\n",
                            chunk > 0 ? "Transfer-Encoding: chunked"
                                      : "Content-Length: 1048576");
    if (chunk == 0) {
        memcpy(scene->answer + len, scene->body, BIG);
        len += BIG;
    }
    for (size_t at = 0; chunk > 0 && at < BIG; at += chunk) {
        len +=
            (size_t)snprintf(scene->answer + len, size - len, "%zx\r\n", chunk);
        memcpy(scene->answer + len, scene->body + at, chunk);
        len += chunk;
        memcpy(scene->answer + len, "\r\n", 2);
        len += 2;
    }
    if (chunk > 0) {
        memcpy(scene->answer + len, "0\r\n\r\n", 5);
        len += 5;
    }
    scene->script.answer = scene->answer;
    scene->script.answer_len = len;
    scene->script.end = -EAGAIN;
}

/* ---- the answer --------------------------------------------------------- */

TEST("the body of a success lands in the caller's memory")
{
    struct scene scene;

    scene_begin(&scene,
                "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n"
                "ETag: \"e\"\r\nContent-Range: bytes 0-4/9\r\n\r\nhello",
                5);
    scene.script.end = -EAGAIN;
    NEED(scene_run(&scene) == 0);
    CHECK(scene.exchange.answer.status == 206);
    CHECK(scene.exchange.len == 5 && memcmp(scene.data, "hello", 5) == 0);
    CHECK(scene.exchange.is_reusable);
    CHECK(!scene.exchange.text);
    CHECK(strcmp(http_head_get(&scene.exchange.answer, "etag"), "\"e\"") == 0);
    CHECK(scene.script.taken_len == sizeof(get_head) - 1);
    CHECK(memcmp(scene.script.taken, get_head, sizeof(get_head) - 1) == 0);
    CHECK(scene.exchange.sent == scene.script.taken_len);
    CHECK(scene.exchange.received == scene.script.answer_len);
    CHECK(scene.exchange.first_byte_ns > 0);
    scene_end(&scene);
}

TEST("a large body is received in place, but for what came with its head")
{
    static const size_t chunks[] = {0, 65536, BIG};

    for (size_t i = 0; i < 3; i++) {
        struct scene scene;

        scene_begin_big(&scene, chunks[i]);
        CHECK(scene_run(&scene) == 0);
        CHECK(scene.exchange.len == BIG && scene.exchange.is_reusable);
        CHECK(memcmp(scene.data, scene.body, BIG) == 0);
        CHECK(scene.script.in_place >=
              BIG - (chunks[i] > 0 ? BIG / chunks[i] : 1) * HTTP_WIRE_INBOX);
        CHECK(scene.script.receives <=
              2 + (chunks[i] > 0 ? 2 * BIG / chunks[i] : 0));
        scene_end(&scene);
    }
}

TEST("a body in many small chunks is put together")
{
    struct scene scene;

    for (size_t piece = 1000; piece < 70000; piece = piece * 5 + 1) {
        scene_begin_big(&scene, 64);
        scene.script.piece = piece;
        CHECK(scene_run(&scene) == 0);
        CHECK(scene.exchange.len == BIG && scene.exchange.is_reusable);
        CHECK(memcmp(scene.data, scene.body, BIG) == 0);
        scene_end(&scene);
    }
}

#define INTERIM "HTTP/1.1 100 CONTINUE\r\n\r\nHTTP/1.1 103 x\r\nA: b\r\n\r\n"

static const char *const whole_answers[] = {
    OK_11 "Content-Length: 5\r\n\r\nhello",
    INTERIM OK_11 "Content-Length: 5\r\n\r\nhello",
    OK_11 "Transfer-Encoding: chunked\r\n\r\n"
          "2;x\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n",
    INTERIM OK_11 "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
};

enum { WHOLE_ANSWERS = sizeof(whole_answers) / sizeof(whole_answers[0]) };

TEST("an answer is the same wherever it is cut into two pieces")
{
    for (size_t i = 0; i < WHOLE_ANSWERS; i++) {
        for (size_t split = 0; split < strlen(whole_answers[i]); split++) {
            struct scene scene;

            scene_begin(&scene, whole_answers[i], 5);
            scene.script.split = split;
            scene.script.end = -EAGAIN;
            CHECK(scene_run(&scene) == 0);
            CHECK(scene.exchange.answer.status == 200);
            CHECK(scene.exchange.len == 5);
            CHECK(memcmp(scene.data, "hello", 5) == 0);
            CHECK(scene.exchange.is_reusable);
            scene_end(&scene);
        }
    }
}

TEST("an answer is the same in pieces of any size, also of one byte")
{
    for (size_t i = 0; i < WHOLE_ANSWERS; i++) {
        for (size_t piece = 1; piece < 30; piece++) {
            struct scene scene;

            scene_begin(&scene, whole_answers[i], 5);
            scene.script.piece = piece;
            scene.script.end = -EAGAIN;
            CHECK(scene_run(&scene) == 0);
            CHECK(memcmp(scene.data, "hello", 5) == 0);
            CHECK(scene.exchange.len == 5 && scene.exchange.is_reusable);
            scene_end(&scene);
        }
    }
}

TEST("an answer that is cut short anywhere is an error")
{
    static const int ends[] = {0, -ECONNRESET, -ECONNABORTED};

    for (size_t i = 0; i < WHOLE_ANSWERS * 3; i++) {
        const char *answer = whole_answers[i / 3];

        for (size_t len = 0; len < strlen(answer); len++) {
            struct scene scene;

            scene_begin(&scene, answer, 5);
            scene.script.answer_len = len;
            scene.script.end = ends[i % 3];
            CHECK(scene_run(&scene) ==
                  (ends[i % 3] == 0 ? -ECONNRESET : ends[i % 3]));
            CHECK(!scene.exchange.is_reusable);
            CHECK((scene.exchange.first_byte_ns > 0) == (len > 0));
            CHECK(scene.exchange.received == len);
            scene_end(&scene);
        }
    }
}

TEST("how a connection ends after a whole answer does not matter to that")
{
    struct scene scene;

    scene_begin(&scene, whole_answers[0], 5);
    scene.script.end = -ECONNABORTED;
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.exchange.len == 5);
    scene_end(&scene);
}

TEST("bytes behind an answer make the connection useless, not the answer")
{
    static const char *const answers[] = {
        OK_11 "Content-Length: 5\r\n\r\nhello!",
        OK_11 "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\r\n",
        OK_11 "Content-Length: 5\r\nConnection: close\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n"
         "Connection: keep-alive\r\n\r\nhello"),
    };

    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct scene scene;

        scene_begin(&scene, answers[i], 5);
        CHECK(scene_run(&scene) == 0);
        CHECK(scene.exchange.len == 5);
        CHECK(memcmp(scene.data, "hello", 5) == 0);
        CHECK(!scene.exchange.is_reusable);
        scene_end(&scene);
    }
}

TEST("a body that has no room is refused, and writes nothing past it")
{
    struct scene scene;

    scene_begin(&scene, OK_11 "Content-Length: 6\r\n\r\nhello!", 5);
    CHECK(scene_run(&scene) == -EMSGSIZE);
    CHECK(scene.exchange.answer.status == 200 && scene.exchange.len == 0);
    scene_end(&scene);
    scene_begin(&scene,
                OK_11 "Transfer-Encoding: chunked\r\n\r\n"
                      "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
                5);
    CHECK(scene_run(&scene) == -EMSGSIZE);
    scene_end(&scene);
    CHECK(result_of(OK_11 "Content-Length: 9223372036854775807\r\n\r\n") ==
          -EMSGSIZE);
    CHECK(result_of(OK_11
                    "Transfer-Encoding: chunked\r\n\r\n"
                    "fffffffffffffff\r\n0123456789012345678901234567890123"
                    "456789012345678901234567890123456789012345678901234"
                    "567890123456789012345") == -EMSGSIZE);
}

TEST("a body that is shorter than its room is whole")
{
    struct scene scene;

    scene_begin(&scene, OK_11 "Content-Length: 5\r\n\r\nhello", 9);
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.exchange.len == 5);
    scene_end(&scene);
}

TEST("an answer that could be understood in two ways is refused")
{
    CHECK(result_of(OK_11 "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab") ==
          -EPROTO);
    CHECK(result_of(OK_11 "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"
                          "\r\n0\r\n\r\n") == -EPROTO);
    CHECK(result_of(OK_11 "Content-Length: -1\r\n\r\n") == -EPROTO);
    CHECK(result_of(OK_11 "A: b\r\n c\r\nContent-Length: 0\r\n\r\n") ==
          -EPROTO);
    CHECK(result_of("HTTP/1.1 200 OK\nContent-Length: 0\n\n") == -EPROTO);
    CHECK(result_of("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                    "0\r\n\r\n") == -EPROTO);
    CHECK(result_of(OK_11 "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n") ==
          -EPROTO);
    CHECK(result_of("SSH-2.0-OpenSSH_9.2p1\r\n") == -EPROTO);
}

TEST("a head without an end is refused when it is too long")
{
    struct scene scene;
    char *answer = malloc(200000);

    (void)snprintf(answer, 200000, OK_11);
    for (size_t len = strlen(answer); len < 190000; len += 1000) {
        memset(answer + len, 'a', 1000);
        answer[len + 1] = ':';
        memcpy(answer + len + 998, "\r\n", 3);
    }
    scene_begin(&scene, answer, 5);
    scene.answer = answer;
    CHECK(scene_run(&scene) == -EMSGSIZE);
    CHECK(scene.exchange.received <= HTTP_HEAD_MAX);
    CHECK(scene.exchange.answer.status == 0);
    scene_end(&scene);
}

TEST("a head of many pages is parsed, with the body behind it")
{
    enum { FILLER = 60000 };
    struct scene scene;
    char *answer = malloc(FILLER + 100);
    size_t len = (size_t)snprintf(answer, 100, OK_11 "Content-Length: 5\r\n");

    for (; len < FILLER; len += 10000) {
        memset(answer + len, 'a', 10000);
        answer[len + 1] = ':';
        memcpy(answer + len + 9998, "\r\n", 3);
    }
    (void)snprintf(answer + len, FILLER + 100 - len, "\r\nhello");
    scene_begin(&scene, answer, 5);
    scene.answer = answer;
    scene.script.end = -EAGAIN;
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.exchange.len == 5 && memcmp(scene.data, "hello", 5) == 0);
    CHECK(scene.exchange.is_reusable);
    scene_end(&scene);
}

TEST("eight interim answers are passed over, a ninth is refused")
{
#define CONTINUE_2 "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 102 x\r\n\r\n"
#define CONTINUE_8 CONTINUE_2 CONTINUE_2 CONTINUE_2 CONTINUE_2
    CHECK(result_of(CONTINUE_8 OK_11 "Content-Length: 0\r\n\r\n") == 0);
    CHECK(result_of(CONTINUE_8 CONTINUE_2 OK_11 "Content-Length: 0\r\n\r\n") ==
          -EPROTO);
    CHECK(result_of("HTTP/1.1 101 Switching\r\n\r\n") == -EPROTO);
    CHECK(result_of("HTTP/1.1 100 x\r\n\r\n") == -ECONNRESET);
}

TEST("an answer to HEAD tells a length and has no body")
{
    struct scene scene;

    scene_begin(&scene, OK_11 "Content-Length: 123456789\r\n\r\n", 0);
    scene.exchange.is_head = true;
    scene.script.end = -EAGAIN;
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.exchange.answer.has_length);
    CHECK(scene.exchange.answer.length == 123456789);
    CHECK(scene.exchange.is_reusable);
    scene_end(&scene);
    scene_begin(&scene, "HTTP/1.1 404 x\r\nContent-Length: 5\r\n\r\nhello", 0);
    scene.exchange.is_head = true;
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.exchange.answer.status == 404);
    CHECK(!scene.exchange.text && !scene.exchange.is_reusable);
    scene_end(&scene);
}

TEST("204 and 304 have no body; one that comes makes the connection useless")
{
    static const char *const answers[] = {
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\nhello",
    };

    for (size_t i = 0; i < 5; i++) {
        struct scene scene;

        scene_begin(&scene, answers[i], 5);
        scene.script.end = -EAGAIN;
        CHECK(scene_run(&scene) == 0);
        CHECK(scene.exchange.len == 0 && !scene.exchange.text);
        CHECK(scene.exchange.is_reusable == (i < 2));
        scene_end(&scene);
    }
}

TEST("a body until the connection ends is taken of an error only")
{
    struct scene scene;

    CHECK(result_of(OK_11 "\r\nhello") == -EPROTO);
    CHECK(result_of(OK_11 "Connection: close\r\n\r\nhello") == -EPROTO);
    scene_begin(&scene, "HTTP/1.1 403 x\r\n\r\n<Error/>", 5);
    scene.script.piece = 3;
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.exchange.text && strcmp(scene.exchange.text, "<Error/>") == 0);
    CHECK(scene.exchange.text_len == 8 && !scene.exchange.is_reusable);
    scene_end(&scene);
    /* TLS that ends without saying so may have been cut by anybody. */
    scene_begin(&scene, "HTTP/1.1 403 x\r\n\r\n<Err", 5);
    scene.script.end = -ECONNABORTED;
    CHECK(scene_run(&scene) == -ECONNABORTED);
    CHECK(scene.exchange.answer.status == 403);
    CHECK(scene.exchange.text && strcmp(scene.exchange.text, "<Err") == 0);
    scene_end(&scene);
}

TEST("the body of an error goes into text, not into the caller's memory")
{
    static const char *const answers[] = {
        "HTTP/1.1 404 x\r\nContent-Length: 8\r\n\r\n<Error/>",
        ("HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n"
         "8\r\n<Error/>\r\n0\r\n\r\n"),
        "HTTP/1.1 301 x\r\nContent-Length: 8\r\n\r\n<Error/>",
    };

    for (size_t i = 0; i < 3; i++) {
        struct scene scene;

        scene_begin(&scene, answers[i], 100);
        scene.exchange.text_max = 2;
        memset(scene.data, '?', 100);
        CHECK(scene_run(&scene) == 0);
        CHECK(scene.exchange.text_len == 8);
        CHECK(strcmp(scene.exchange.text, "<Error/>") == 0);
        CHECK(scene.exchange.len == 0 && memchr(scene.data, '<', 100) == NULL);
        CHECK(scene.exchange.is_reusable);
        scene_end(&scene);
    }
}

TEST("of a body that came too late text holds what came in time")
{
    static const char answer[] = "HTTP/1.1 403 x\r\n\r\n<Error/>";

    for (size_t in_time = 0; in_time < 3; in_time++) {
        struct scene scene;

        scene_begin(&scene, answer, 5);
        scene.script.split = (size_t)(strchr(answer, '<') - answer) + in_time;
        scene.script.tick_ns = (PROGRESS_S + 1) * second;
        CHECK(scene_run(&scene) == -ETIMEDOUT);
        CHECK(scene.exchange.answer.status == 403);
        CHECK(scene.exchange.received == sizeof(answer) - 1);
        CHECK(scene.exchange.text_len == in_time);
        CHECK(scene.exchange.text && strlen(scene.exchange.text) == in_time);
        scene_end(&scene);
    }
}

TEST("of the long body of an error the beginning is kept")
{
    static const char *const fields[] = {"Content-Length: 1000000\r\n",
                                         "Transfer-Encoding: chunked\r\n", ""};
    char *answer = malloc(1000000);

    for (size_t i = 0; i < 3; i++) {
        struct scene scene;
        int len = snprintf(answer, 1000, "HTTP/1.1 500 x\r\n%s\r\n%s",
                           fields[i], i == 1 ? "f4240\r\n" : "");

        memset(answer + len, 'x', 999999 - (size_t)len);
        answer[999999] = '\0';
        scene_begin(&scene, answer, 100);
        scene.script.end = -EAGAIN;
        scene.script.piece = 1000;
        CHECK(scene_run(&scene) == 0);
        CHECK(scene.exchange.text_len == HTTP_EXCHANGE_TEXT_MAX);
        CHECK(strlen(scene.exchange.text) == HTTP_EXCHANGE_TEXT_MAX);
        CHECK(!scene.exchange.is_reusable);
        CHECK(scene.exchange.received < HTTP_EXCHANGE_TEXT_MAX + 2000);
        scene_end(&scene);
    }
    free(answer);
}

TEST("a text that is asked for grows up to what it may be")
{
    for (size_t chunk = 0; chunk <= 4096; chunk += 4096) {
        for (size_t max = BIG - 1; max <= BIG; max++) {
            struct scene scene;

            scene_begin_big(&scene, chunk);
            scene.exchange.data = NULL;
            scene.exchange.text_max = max;
            CHECK(scene_run(&scene) == (max < BIG ? -EMSGSIZE : 0));
            if (max == BIG) {
                CHECK(scene.exchange.text_len == BIG);
                CHECK(scene.exchange.text[BIG] == '\0');
                CHECK(memcmp(scene.exchange.text, scene.body, BIG) == 0);
                CHECK(scene.exchange.is_reusable);
            } else if (chunk == 0) {
                /* What is announced to be too long is not even received. */
                CHECK(scene.exchange.received <= HTTP_WIRE_INBOX);
            }
            scene_end(&scene);
        }
    }
}

TEST("a body that nobody asked for does not harm a success")
{
    struct scene scene;

    scene_begin(&scene, OK_11 "Content-Length: 5\r\n\r\nhello", 0);
    scene.exchange.data = NULL;
    scene.script.end = -EAGAIN;
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.exchange.is_reusable);
    CHECK(strcmp(scene.exchange.text, "hello") == 0);
    scene_end(&scene);
    scene_begin_big(&scene, 0);
    scene.exchange.data = NULL;
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.exchange.text_len == HTTP_EXCHANGE_TEXT_MAX);
    CHECK(!scene.exchange.is_reusable);
    scene_end(&scene);
}

TEST("an encoded body is no success, and of an error only the status counts")
{
    struct scene scene;

    CHECK(result_of(OK_11 "Content-Encoding: gzip\r\nContent-Length: 1\r\n"
                          "\r\nx") == -EPROTO);
    scene_begin(&scene,
                "HTTP/1.1 503 x\r\nContent-Encoding: gzip\r\n"
                "Content-Length: 5\r\n\r\nhello",
                5);
    scene.script.end = -EAGAIN;
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.exchange.answer.status == 503 && !scene.exchange.text);
    CHECK(scene.exchange.is_reusable);
    scene_end(&scene);
}

/* ---- time --------------------------------------------------------------- */

TEST("silence anywhere in an answer ends when it has lasted long enough")
{
    for (size_t i = 0; i < WHOLE_ANSWERS; i++) {
        for (size_t len = 0; len < strlen(whole_answers[i]); len++) {
            struct scene scene;

            scene_begin(&scene, whole_answers[i], 5);
            scene.script.answer_len = len;
            scene.script.end = -EAGAIN;
            CHECK(scene_run(&scene) == -ETIMEDOUT);
            CHECK(seconds_passed(&scene) == PROGRESS_S);
            CHECK(!scene.exchange.is_reusable);
            scene_end(&scene);
        }
    }
}

TEST("one byte a second ends in a time that depends on the times given")
{
    for (size_t chunk = 0; chunk <= 65536; chunk += 65536) {
        struct scene scene;

        scene_begin_big(&scene, chunk);
        scene.script.piece = 1;
        scene.script.tick_ns = second;
        CHECK(scene_run(&scene) == -ETIMEDOUT);
        /* In the head already: that is a few bytes, and has one window. */
        CHECK(seconds_passed(&scene) <= PROGRESS_S + 2);
        scene_end(&scene);

        /* The same with the head at once, and the body after it. */
        scene_begin_big(&scene, chunk);
        scene.script.split =
            (size_t)(strstr(scene.answer, "\r\n\r\n") + 4 - scene.answer);
        scene.script.tick_ns = second;
        scene.script.piece = scene.script.split;
        CHECK(scene_run(&scene) == -ETIMEDOUT);
        CHECK(scene.exchange.answer.status == 200);
        CHECK(scene.exchange.received < 20 * scene.script.piece);
        CHECK(seconds_passed(&scene) <= 2 * PROGRESS_S + 2);
        scene_end(&scene);
    }
}

TEST("an answer that is slow, but not too slow, is waited for")
{
    for (size_t chunk = 0; chunk <= 64; chunk += 64) {
        struct scene scene;

        scene_begin_big(&scene, chunk);
        scene.script.piece = HTTP_WIRE_FLOOR / 4;
        scene.script.tick_ns = 2 * second;
        CHECK(scene_run(&scene) == 0);
        CHECK(scene.exchange.len == BIG);
        CHECK(seconds_passed(&scene) > 10 * PROGRESS_S);
        scene_end(&scene);

        scene_begin_big(&scene, chunk);
        scene.script.piece = HTTP_WIRE_FLOOR / 4;
        scene.script.tick_ns = 3 * second;
        CHECK(scene_run(&scene) == -ETIMEDOUT);
        scene_end(&scene);
    }
}

TEST("the deadline is the end, also of an answer that makes progress")
{
    struct scene scene;

    scene_begin_big(&scene, 0);
    scene.script.piece = 4096;
    scene.script.tick_ns = second;
    scene.exchange.deadline_ns = SCRIPTED_STREAM_BEGIN_NS + 20 * second;
    CHECK(scene_run(&scene) == -ETIMEDOUT);
    CHECK(seconds_passed(&scene) == 20);
    scene_end(&scene);
    scene_begin(&scene, whole_answers[0], 5);
    scene.exchange.deadline_ns = 1;
    CHECK(scene_run(&scene) == -ETIMEDOUT);
    scene_end(&scene);
}

TEST("interim answers buy no time")
{
    struct scene scene;

    scene_begin(&scene, INTERIM INTERIM INTERIM, 5);
    scene.script.piece = 1;
    scene.script.tick_ns = second / 2;
    scene.script.end = -EAGAIN;
    CHECK(scene_run(&scene) == -ETIMEDOUT);
    CHECK(seconds_passed(&scene) <= PROGRESS_S + 1);
    scene_end(&scene);
}

TEST("the time to the first byte is told")
{
    struct scene scene;

    scene_begin(&scene, whole_answers[0], 5);
    scene.script.tick_ns = 3 * second;
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.exchange.first_byte_ns / second == 3);
    scene_end(&scene);
}

/* ---- sending a body ----------------------------------------------------- */

static bool body_was_sent(const struct scene *scene)
{
    return scene->script.taken_len == sizeof(put_head) - 1 + BIG &&
           memcmp(scene->script.taken, put_head, sizeof(put_head) - 1) == 0 &&
           memcmp(scene->script.taken + sizeof(put_head) - 1, scene->body,
                  BIG) == 0;
}

#define CREATED "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"

TEST("a body is sent as it is, however little is taken at once")
{
    static const size_t takes[] = {1013, 16384, 65537, SIZE_MAX};

    for (size_t i = 0; i < 4; i++) {
        struct scene scene;

        scene_begin_put(&scene, CREATED);
        scene.script.takes = takes[i];
        scene.script.answer_after = sizeof(put_head) - 1 + BIG;
        scene.script.end = -EAGAIN;
        CHECK(scene_run(&scene) == 0);
        CHECK(body_was_sent(&scene));
        CHECK(scene.exchange.answer.status == 201);
        CHECK(scene.exchange.sent == scene.script.taken_len);
        CHECK(scene.exchange.is_reusable);
        scene_end(&scene);
    }
}

TEST("the head and the beginning of the body are sent at once")
{
    struct scene scene;

    scene_begin_put(&scene, CREATED);
    scene.script.answer_after = sizeof(put_head) - 1 + 1000;
    scene.exchange.body_len = 1000;
    scene.script.end = -EAGAIN;
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.script.sends == 1);
    CHECK(scene.script.taken_len == sizeof(put_head) - 1 + 1000);
    scene_end(&scene);
}

TEST("an early refusal ends the sending, and is the answer")
{
    static const char *const refusals[] = {
        "HTTP/1.1 403 x\r\nContent-Length: 8\r\n\r\n<Error/>",
        ("HTTP/1.1 412 x\r\nTransfer-Encoding: chunked\r\n\r\n"
         "8\r\n<Error/>\r\n0\r\n\r\n"),
        "HTTP/1.1 503 x\r\nConnection: close\r\n\r\n<Error/>",
        INTERIM "HTTP/1.1 301 x\r\nContent-Length: 8\r\n\r\n<Error/>",
    };

    for (size_t i = 0; i < 4; i++) {
        for (size_t piece = 1; piece < 200; piece += 60) {
            struct scene scene;

            scene_begin_put(&scene, refusals[i]);
            scene.script.takes = 65536;
            scene.script.answer_after = 100000;
            scene.script.piece = piece;
            CHECK(scene_run(&scene) == 0);
            CHECK(scene.exchange.answer.status >= 300);
            CHECK(strcmp(scene.exchange.text, "<Error/>") == 0);
            CHECK(scene.script.taken_len < BIG);
            CHECK(scene.exchange.sent == scene.script.taken_len);
            CHECK(!scene.exchange.is_reusable);
            scene_end(&scene);
        }
    }
}

TEST("a refusal that comes while nothing more can be sent is heard")
{
    struct scene scene;

    scene_begin_put(&scene, "HTTP/1.1 412 x\r\nContent-Length: 0\r\n\r\n");
    scene.script.takes_in_all = 50000;
    scene.script.send_error = -EAGAIN;
    scene.script.answer_after = 50000;
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.exchange.answer.status == 412);
    CHECK(scene.script.taken_len == 50000);
    scene_end(&scene);
}

TEST("an early success is none: it was not all sent")
{
    struct scene scene;

    scene_begin_put(&scene, CREATED);
    scene.script.answer_after = 1000;
    CHECK(scene_run(&scene) == -EPROTO);
    CHECK(scene.exchange.sent < sizeof(put_head) - 1 + BIG);
    scene_end(&scene);
}

TEST("a word to go on, early or late, changes nothing")
{
    for (size_t after = 1; after < BIG + 100; after += 200000) {
        struct scene scene;

        scene_begin_put(&scene, "HTTP/1.1 100 CONTINUE\r\n\r\n" CREATED);
        scene.script.answer_after = after;
        scene.script.split = strlen("HTTP/1.1 100 CONTINUE\r\n\r\n");
        /* The second answer must wait for all of the body. */
        scene.script.answer_len = scene.script.split;
        scene.script.end = -EAGAIN;
        CHECK(scene_run(&scene) == -ETIMEDOUT);
        CHECK(body_was_sent(&scene));
        scene_end(&scene);
    }
}

TEST("behind a lost connection an answer is looked for")
{
    static const int errors[] = {-EPIPE, -ECONNRESET};

    for (size_t i = 0; i < 2; i++) {
        struct scene scene;

        scene_begin_put(&scene,
                        "HTTP/1.1 403 x\r\nContent-Length: 8\r\n\r\n<Error/>");
        scene.script.takes_in_all = 50000;
        scene.script.send_error = errors[i];
        /* Not seen before the send fails: it has come only then. */
        scene.script.answer_after = 50000;
        scene.script.takes = 50000;
        CHECK(scene_run(&scene) == 0);
        CHECK(scene.exchange.answer.status == 403);
        CHECK(strcmp(scene.exchange.text, "<Error/>") == 0);
        CHECK(!scene.exchange.is_reusable);
        scene_end(&scene);

        /* Without one, or with one that cannot be true: what the send said. */
        scene_begin_put(&scene, i == 0 ? "" : CREATED);
        scene.script.takes_in_all = 50000;
        scene.script.send_error = errors[i];
        scene.script.answer_after = i == 0 ? 0 : 50000;
        scene.script.end = -EAGAIN;
        CHECK(scene_run(&scene) == errors[i]);
        CHECK(scene.exchange.answer.status == (i == 0 ? 0 : 201));
        scene_end(&scene);
    }
}

TEST("a peer that ends while we send has failed, unless it has answered")
{
    struct scene scene;

    scene_begin_put(&scene, "");
    scene.script.end = 0;
    CHECK(scene_run(&scene) == -ECONNRESET);
    CHECK(scene.exchange.sent > 0 && scene.script.taken_len < BIG);
    scene_end(&scene);
    scene_begin_put(&scene, "");
    scene.script.end = -ECONNABORTED;
    CHECK(scene_run(&scene) == -ECONNABORTED);
    scene_end(&scene);
}

TEST("a request that cannot be sent at all is told so")
{
    struct scene scene;

    scene_begin(&scene, "", 5);
    scene.script.takes_in_all = 0;
    scene.script.send_error = -EPIPE;
    CHECK(scene_run(&scene) == -EPIPE);
    CHECK(scene.exchange.sent == 0 && scene.exchange.received == 0);
    CHECK(scene.exchange.answer.status == 0);
    scene_end(&scene);
}

TEST("a peer that takes one byte a second is not waited for")
{
    struct scene scene;

    scene_begin_put(&scene, "");
    scene.script.takes = 1;
    scene.script.tick_ns = second;
    scene.script.end = -EAGAIN;
    scene.exchange.deadline_ns = SCRIPTED_STREAM_BEGIN_NS + 1000 * second;
    scene.script.takes_in_all = 100;
    scene.script.send_error = -EAGAIN;
    CHECK(scene_run(&scene) == -ETIMEDOUT);
    CHECK(seconds_passed(&scene) <= PROGRESS_S + 1);
    CHECK(scene.exchange.sent <= PROGRESS_S + 1 || scene.exchange.sent == 100);
    scene_end(&scene);
}

TEST("a rate is asked before each piece of a body")
{
    struct scene scene;
    struct rate rate;

    rate_init(&rate, 16384);
    scene_begin_put(&scene, CREATED);
    scene.exchange.progress_ns = 1000 * second;
    scene.exchange.up = &rate;
    scene.script.answer_after = sizeof(put_head) - 1 + BIG;
    scene.script.end = -EAGAIN;
    /* Each look for an answer, which there is none of, takes so long. */
    scene.script.tick_ns = second / 50;
    CHECK(scene_run(&scene) == 0);
    CHECK(body_was_sent(&scene));
    CHECK(scene.exchange.is_reusable);
    CHECK(seconds_passed(&scene) >= BIG / 16384 - 2);
    scene_end(&scene);
    rate_done(&rate);
}

TEST("a rate without a limit makes no small pieces of a body")
{
    struct scene scene;
    struct rate rate;

    rate_init(&rate, 0);
    scene_begin_put(&scene, CREATED);
    scene.exchange.up = &rate;
    scene.script.answer_after = sizeof(put_head) - 1 + BIG;
    scene.script.end = -EAGAIN;
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.script.sends <= 10);
    scene_end(&scene);
    scene_begin_big(&scene, 0);
    scene.exchange.down = &rate;
    CHECK(scene_run(&scene) == 0);
    CHECK(memcmp(scene.data, scene.body, BIG) == 0);
    CHECK(scene.script.receives <= 12);
    scene_end(&scene);
    rate_done(&rate);
}

TEST("an early refusal ends a pause, too")
{
    struct scene scene;
    struct rate rate;

    rate_init(&rate, 16);
    scene_begin_put(&scene, "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n");
    scene.exchange.up = &rate;
    scene.script.answer_after = 1000;
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.exchange.answer.status == 503);
    CHECK(scene.script.taken_len < 100000);
    CHECK(seconds_passed(&scene) == 0);
    scene_end(&scene);
    rate_done(&rate);
}

/*
 * Have the script's stream be polled at a socket that has room and nothing to
 * read.  Returns the other end.
 */
static int poll_a_socket(struct scene *scene)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        abort();
    (void)close(scene->script.stream.fd);
    scene->script.stream.fd = fds[0];
    return fds[1];
}

TEST("what the stream took from its socket before is heard, too")
{
    struct scene scene;
    int peer;

    scene_begin_put(&scene, "HTTP/1.1 412 x\r\nContent-Length: 0\r\n\r\n");
    peer = poll_a_socket(&scene);
    scene.script.takes_in_all = 50000;
    scene.script.send_error = -EAGAIN;
    CHECK(scene_run(&scene) == 0);
    CHECK(scene.exchange.answer.status == 412);
    (void)close(peer);
    scene_end(&scene);
}

TEST("silence after a body that the peer has whole is not waited for longer")
{
    struct scene scene;
    int peer;

    scene_begin_put(&scene, "");
    peer = poll_a_socket(&scene);
    scene.script.end = -EAGAIN;
    CHECK(scene_run(&scene) == -ETIMEDOUT);
    CHECK(body_was_sent(&scene));
    CHECK(seconds_passed(&scene) == PROGRESS_S);
    (void)close(peer);
    scene_end(&scene);
}

/* ---- real sockets ------------------------------------------------------- */

/* One who takes a request, answers it, and leaves; in a thread of its own. */
struct peer {
    int fd;
    pthread_t thread;
    size_t takes; /* bytes of the request */
    const char *answer;
    size_t answer_len;
    size_t piece; /* sent at once */
    char *taken;
};

static void *peer_run(void *context)
{
    struct peer *peer = context;
    size_t len = 0;

    peer->taken = malloc(peer->takes);
    while (len < peer->takes) {
        ssize_t got = recv(peer->fd, peer->taken + len, peer->takes - len, 0);

        if (got <= 0)
            return NULL;
        len += (size_t)got;
    }
    len = 0;
    while (len < peer->answer_len) {
        size_t part = peer->answer_len - len;
        ssize_t sent =
            send(peer->fd, peer->answer + len,
                 part < peer->piece ? part : peer->piece, MSG_NOSIGNAL);

        if (sent <= 0)
            return NULL;
        len += (size_t)sent;
    }
    return NULL;
}

/* Begin over a socket pair; the exchange is that of scene_begin. */
static struct stream *pair_begin(struct scene *scene, int *ret_peer)
{
    struct stream *stream;
    int fds[2];

    clock_set_for_tests(0);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
        stream_open(fds[0], &stream) < 0)
        abort();
    *ret_peer = fds[1];
    scene->exchange.progress_ns = 100 * second;
    scene->exchange.deadline_ns = STREAM_FOREVER;
    return stream;
}

TEST("large bodies go both ways over a socket")
{
    for (size_t piece = 999; piece <= BIG; piece *= 1000) {
        struct scene put, get;
        struct peer peer = {.takes = sizeof(put_head) - 1 + BIG};
        struct stream *stream;

        scene_begin_big(&get, 65536);
        scene_begin_put(&put, "");
        stream = pair_begin(&put, &peer.fd);
        put.exchange.data = get.data;
        put.exchange.room = BIG;
        peer.answer = get.script.answer;
        peer.answer_len = get.script.answer_len;
        peer.piece = piece;
        NEED(pthread_create(&peer.thread, NULL, peer_run, &peer) == 0);
        CHECK(http_exchange_run(stream, &put.exchange) == 0);
        CHECK(put.exchange.is_reusable && put.exchange.len == BIG);
        CHECK(memcmp(get.data, get.body, BIG) == 0);
        CHECK(pthread_join(peer.thread, NULL) == 0);
        CHECK(memcmp(peer.taken + sizeof(put_head) - 1, put.body, BIG) == 0);
        free(peer.taken);
        (void)close(peer.fd);
        stream_close(stream);
        scene_end(&get);
        scene_end(&put);
    }
}

TEST("a refusal is heard while the socket takes no more of the body")
{
    static const char refusal[] = "HTTP/1.1 412 x\r\nContent-Length: 0\r\n\r\n";
    struct scene scene;
    struct stream *stream;
    int peer;

    scene_begin_put(&scene, "");
    stream = pair_begin(&scene, &peer);
    NEED(send(peer, refusal, sizeof(refusal) - 1, 0) > 0);
    CHECK(http_exchange_run(stream, &scene.exchange) == 0);
    CHECK(scene.exchange.answer.status == 412);
    CHECK(scene.exchange.sent < BIG && !scene.exchange.is_reusable);
    (void)close(peer);
    stream_close(stream);
    scene_end(&scene);
}

/* Returns the client's end of a connection over TCP, and the other one. */
static int connect_tcp(int *ret_peer)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (bind(listener, (struct sockaddr *)&address, len) < 0 ||
        listen(listener, 1) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &len) < 0 ||
        connect(fd, (struct sockaddr *)&address, len) < 0)
        abort();
    *ret_peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    (void)close(listener);
    return fd;
}

TEST("a refusal is heard although a reset follows it")
{
    static const char refusal[] =
        "HTTP/1.1 403 x\r\nContent-Length: 8\r\n\r\n<Error/>";
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    struct scene scene;
    struct stream *stream;
    int peer, fd;

    scene_begin_put(&scene, "");
    clock_set_for_tests(0);
    fd = connect_tcp(&peer);
    NEED(stream_open(fd, &stream) == 0);
    NEED(send(peer, refusal, sizeof(refusal) - 1, 0) > 0);
    NEED(setsockopt(peer, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
    (void)close(peer);
    CHECK(http_exchange_run(stream, &scene.exchange) == 0);
    CHECK(scene.exchange.answer.status == 403);
    CHECK(scene.exchange.text && strcmp(scene.exchange.text, "<Error/>") == 0);
    stream_close(stream);
    scene_end(&scene);
}

TEST("a reset without an answer is an error")
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    struct scene scene;
    struct stream *stream;
    int peer, fd;

    scene_begin_put(&scene, "");
    clock_set_for_tests(0);
    fd = connect_tcp(&peer);
    NEED(stream_open(fd, &stream) == 0);
    NEED(setsockopt(peer, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
    (void)close(peer);
    CHECK(http_exchange_run(stream, &scene.exchange) < 0);
    CHECK(scene.exchange.answer.status == 0 && scene.exchange.received == 0);
    stream_close(stream);
    scene_end(&scene);
}

TEST("a peer that reads nothing and says nothing is given up")
{
    struct scene scene;
    struct stream *stream;
    int peer;

    scene_begin_put(&scene, "");
    stream = pair_begin(&scene, &peer);
    scene.exchange.progress_ns = second / 100;
    CHECK(http_exchange_run(stream, &scene.exchange) == -ETIMEDOUT);
    CHECK(scene.exchange.sent > 0 && scene.exchange.sent < BIG);
    (void)close(peer);
    stream_close(stream);
    scene_end(&scene);
}

static void *shut_down(void *stream)
{
    stream_shutdown(stream);
    return NULL;
}

TEST("another thread ends an exchange that waits")
{
    for (int is_put = 0; is_put < 2; is_put++) {
        struct scene scene;
        struct stream *stream;
        pthread_t thread;
        int peer;

        if (is_put)
            scene_begin_put(&scene, "");
        else
            scene_begin(&scene, "", 5);
        stream = pair_begin(&scene, &peer);
        NEED(pthread_create(&thread, NULL, shut_down, stream) == 0);
        CHECK(http_exchange_run(stream, &scene.exchange) < 0);
        CHECK(pthread_join(thread, NULL) == 0);
        (void)close(peer);
        stream_close(stream);
        scene_end(&scene);
    }
}

TEST("what is received is paced, without being taken for slow")
{
    enum { RATE = 4 << 20, LARGEST_PIECE = 256 << 10 };
    struct scene scene;
    struct peer peer = {.takes = sizeof(get_head) - 1, .piece = BIG};
    struct stream *stream;
    struct rate rate;
    uint64_t begin, least;

    /* At most a tenth of a second's bytes, and the last piece, are free. */
    rate_init(&rate, RATE);
    least = (BIG - LARGEST_PIECE) * second / RATE - second / 10;
    scene_begin_big(&scene, 0);
    stream = pair_begin(&scene, &peer.fd);
    scene.exchange.down = &rate;
    peer.answer = scene.script.answer;
    peer.answer_len = scene.script.answer_len;
    NEED(pthread_create(&peer.thread, NULL, peer_run, &peer) == 0);
    begin = clock_monotonic_ns();
    CHECK(http_exchange_run(stream, &scene.exchange) == 0);
    CHECK(clock_monotonic_ns() - begin >= least);
    CHECK(memcmp(scene.data, scene.body, BIG) == 0);
    CHECK(pthread_join(peer.thread, NULL) == 0);
    free(peer.taken);
    (void)close(peer.fd);
    stream_close(stream);
    scene_end(&scene);
    rate_done(&rate);
}
