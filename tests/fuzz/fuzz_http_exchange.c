/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_http_exchange - any bytes as what a server sends, in pieces.
 *
 * The first bytes say what was asked for and how the answer comes.  The
 * exchange ends in bounded time by the script's clock, writes nothing outside
 * of its room, and its outcome is the same when the bytes come all at once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "s3/http_exchange.h"
#include "support/scripted_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OPTIONS = 5, BODY_MAX = 600 };

static const char request[] = "PUT / HTTP/1.1\r\n\r\n";
static const uint64_t second = 1000000000;

static void require(bool ok)
{
    if (!ok)
        abort();
}

struct outcome {
    struct http_exchange exchange;
    int error;
    uint64_t passed_ns;
    char *data;
};

static struct outcome run(const uint8_t *options, const uint8_t *bytes,
                          size_t size, size_t piece)
{
    static const char body[BODY_MAX];
    struct scripted_stream script;
    struct outcome outcome = {.data = malloc(options[1] + 1U)};

    scripted_stream_init(&script);
    script.answer = bytes;
    script.answer_len = size;
    script.piece = piece;
    script.tick_ns = (options[0] & 1) ? second / 100 : 0;
    script.end = (options[0] & 2)   ? -EAGAIN
                 : (options[0] & 4) ? -ECONNABORTED
                                    : 0;
    script.answer_after = options[2];
    script.takes = options[3] + 1U;
    if (options[0] & 8) {
        script.takes_in_all = (size_t)options[3] * 3;
        script.send_error = (options[0] & 16) ? -EPIPE : -EAGAIN;
        script.tick_ns = second / 100;
    }
    outcome.exchange = (struct http_exchange){
        .head = request,
        .head_len = sizeof(request) - 1,
        .body = body,
        .body_len = (options[0] & 32) ? BODY_MAX : 0,
        .is_head = (options[0] & 64) != 0,
        .data = (options[0] & 128) ? outcome.data : NULL,
        .room = options[1],
        .text_max = options[4],
        .progress_ns = 10 * second,
        .deadline_ns = SCRIPTED_STREAM_BEGIN_NS + 1000 * second,
    };
    outcome.error = http_exchange_run(&script.stream, &outcome.exchange);
    outcome.passed_ns = script.now_ns - SCRIPTED_STREAM_BEGIN_NS;
    require(outcome.exchange.received == script.received);
    require(outcome.exchange.sent == script.taken_len);
    scripted_stream_done(&script);
    return outcome;
}

static void check(const struct outcome *outcome)
{
    const struct http_exchange *exchange = &outcome->exchange;

    require(outcome->error <= 0);
    require(outcome->passed_ns <= 1001 * second);
    require(exchange->len <= exchange->room);
    require(exchange->text_len <= HTTP_EXCHANGE_TEXT_MAX);
    require(!exchange->text || exchange->text[exchange->text_len] == '\0');
    require(!exchange->is_reusable || outcome->error == 0);
    if (outcome->error == 0) {
        require(exchange->answer.status >= 200);
        require(exchange->answer.status >= 300 ||
                exchange->sent == exchange->head_len + exchange->body_len);
    }
}

/* Whether nothing but the answer's bytes decides what comes of it. */
static bool is_plain(const uint8_t *options)
{
    return (options[0] & (1 | 8 | 32)) == 0 && options[3] > sizeof(request);
}

static void done(struct outcome *outcome)
{
    http_exchange_done(&outcome->exchange);
    free(outcome->data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole, pieces;
    const struct http_exchange *a, *b;

    if (size < OPTIONS || size > 100000)
        return 0;
    whole = run(data, data + OPTIONS, size - OPTIONS, SIZE_MAX);
    pieces = run(data, data + OPTIONS, size - OPTIONS, 1U + data[1] % 64);
    check(&whole);
    check(&pieces);
    a = &whole.exchange;
    b = &pieces.exchange;
    require(!is_plain(data) || (whole.error == 0) == (pieces.error == 0));
    if (is_plain(data) && whole.error == 0) {
        require(a->answer.status == b->answer.status);
        require(a->len == b->len && a->text_len == b->text_len);
        require(memcmp(whole.data, pieces.data, a->len) == 0);
        require(a->text_len == 0 || memcmp(a->text, b->text, a->text_len) == 0);
        require(!a->is_reusable || b->is_reusable);
    }
    done(&whole);
    done(&pieces);
    return 0;
}
