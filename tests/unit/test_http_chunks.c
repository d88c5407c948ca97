/* SPDX-License-Identifier: BSD-2-Clause */
#include "test.h"

#include "s3/http_chunks.h"

/* What a reader makes of a body. */
struct reading {
    int result; /* 0: the body ended; -EAGAIN: more must come; or the error */
    size_t used;
    char data[200];
    size_t data_len;
};

/* Read a body that comes in pieces of at most so many bytes. */
static void read_pieces(const char *text, size_t len, size_t piece,
                        struct reading *reading)
{
    struct http_chunks chunks = {0};
    size_t at = 0;

    *reading = (struct reading){.result = -EAGAIN};
    while (at < len && reading->result == -EAGAIN) {
        size_t end = at + piece < len ? at + piece : len;

        while (at < end && !chunks.is_done) {
            /* In memory of its size, so that no byte more is looked at. */
            size_t part = end - at;
            char *copy = malloc(part);
            ssize_t eaten;

            memcpy(copy, text + at, part);
            eaten = http_chunks_feed(&chunks, copy, part);
            free(copy);
            if (eaten < 0) {
                reading->result = (int)eaten;
                return;
            }
            at += (size_t)eaten;
            part = end - at < chunks.left ? end - at : (size_t)chunks.left;
            memcpy(reading->data + reading->data_len, text + at, part);
            reading->data_len += part;
            at += part;
            http_chunks_take(&chunks, part);
        }
        if (chunks.is_done)
            reading->result = 0;
    }
    reading->used = at;
}

/* Read in pieces of every size; they must agree. */
static void read_body(const char *text, struct reading *reading)
{
    size_t len = strlen(text);

    read_pieces(text, len, len + 1, reading);
    for (size_t piece = 1; piece <= len; piece++) {
        struct reading other;

        read_pieces(text, len, piece, &other);
        CHECK(other.result == reading->result);
        if (other.result == 0 || other.result == -EAGAIN) {
            CHECK(other.used == reading->used);
            CHECK(other.data_len == reading->data_len);
            CHECK(memcmp(other.data, reading->data, other.data_len) == 0);
        }
    }
}

static int result_of(const char *text)
{
    struct reading reading;

    read_body(text, &reading);
    return reading.result;
}

TEST("the data of all chunks are found, however the body is cut")
{
    struct reading reading;

    read_body("5\r\nhello\r\n1\r\n \r\n00A\r\nwide world\r\n0\r\n\r\nnext",
              &reading);
    CHECK(reading.result == 0);
    CHECK(reading.data_len == 16);
    CHECK(memcmp(reading.data, "hello wide world", 16) == 0);
    CHECK(reading.used == strlen("5rnhellorn1rn rn00Arnwide worldrn0rnrn"));
}

TEST("an empty body is one last chunk")
{
    struct reading reading;

    read_body("0\r\n\r\n", &reading);
    CHECK(reading.result == 0 && reading.data_len == 0);
    read_body("000000000000000\r\n\r\n", &reading);
    CHECK(reading.result == 0 && reading.data_len == 0);
}

TEST("extensions and trailers are passed over")
{
    struct reading reading;

    read_body("3;a=b;c=\"d e\"\r\nabc\r\n2 \t\r\nde\r\n1 ; x\r\nf\r\n"
              "0;last\r\nETag: \"x\"\r\nOther: \r\n\r\n",
              &reading);
    CHECK(reading.result == 0);
    CHECK(reading.data_len == 6 && memcmp(reading.data, "abcdef", 6) == 0);
}

TEST("a body that is cut short anywhere has not ended")
{
    static const char text[] = "3;x\r\nabc\r\n0\r\nA: b\r\n\r\n";
    struct reading reading;

    for (size_t len = 0; len < sizeof(text) - 1; len++) {
        read_pieces(text, len, len + 1, &reading);
        CHECK(reading.result == -EAGAIN);
    }
    read_pieces(text, sizeof(text) - 1, sizeof(text), &reading);
    CHECK(reading.result == 0);
}

TEST("a size that is not one is refused")
{
    CHECK(result_of("\r\n") == -EPROTO);
    CHECK(result_of("x\r\n") == -EPROTO);
    CHECK(result_of("-1\r\n") == -EPROTO);
    CHECK(result_of("+1\r\n") == -EPROTO);
    CHECK(result_of(" 1\r\n") == -EPROTO);
    CHECK(result_of("0x1\r\n") == -EPROTO);
    CHECK(result_of("1g\r\n") == -EPROTO);
    CHECK(result_of("1 2\r\n") == -EPROTO);
    CHECK(result_of(";a\r\n") == -EPROTO);
    CHECK(result_of("fffffffffffffff\r\n") == -EAGAIN);
    CHECK(result_of("1000000000000000\r\n") == -EPROTO);
    CHECK(result_of("0000000000000000\r\n") == -EPROTO);
}

TEST("a size may be large without being taken for another")
{
    struct http_chunks chunks = {0};

    CHECK(http_chunks_feed(&chunks, "fffffffffffffff\r\nabc", 20) == 17);
    CHECK(chunks.left == UINT64_C(0xfffffffffffffff));
    http_chunks_take(&chunks, chunks.left - 1);
    CHECK(http_chunks_feed(&chunks, "abc", 3) == 0);
    http_chunks_take(&chunks, 1);
    CHECK(http_chunks_feed(&chunks, "\r\n0\r\n\r\n", 7) == 7);
    CHECK(chunks.is_done);
}

TEST("every line ends with CR LF")
{
    CHECK(result_of("1\na\r\n0\r\n\r\n") == -EPROTO);
    CHECK(result_of("1\ra") == -EPROTO);
    CHECK(result_of("1;x\na\r\n0\r\n\r\n") == -EPROTO);
    CHECK(result_of("1;x\r\r\n") == -EPROTO);
    CHECK(result_of("1\r\na\n0\r\n\r\n") == -EPROTO);
    CHECK(result_of("1\r\nab\r\n") == -EPROTO);
    CHECK(result_of("1\r\na\r0") == -EPROTO);
    CHECK(result_of("0\r\n\n") == -EPROTO);
    CHECK(result_of("0\r\nA: b\n\r\n") == -EPROTO);
    CHECK(result_of("0\r\nA: b\rc\r\n\r\n") == -EPROTO);
    CHECK(result_of("0\r\n\r0") == -EPROTO);
}

TEST("extensions and trailers are text")
{
    static const char nul[] = "1;\0\r\n";
    struct reading reading;

    CHECK(result_of("1;a\x01\r\n") == -EPROTO);
    CHECK(result_of("0\r\nA: \x7f\r\n") == -EPROTO);
    read_pieces(nul, sizeof(nul) - 1, 10, &reading);
    CHECK(reading.result == -EPROTO);
    CHECK(result_of("1;\xc3\xa4\tb\r\na\r\n0\r\n\r\n") == 0);
}

/* Feed len bytes of this line after what begins it. */
static ssize_t feed_much(const char *begin, const char *line, size_t len)
{
    struct http_chunks chunks = {0};
    size_t line_len = strlen(line);
    ssize_t result = http_chunks_feed(&chunks, begin, strlen(begin));

    for (size_t fed = 0; fed < len && result >= 0; fed += line_len)
        result = http_chunks_feed(&chunks, line, line_len);
    return result;
}

TEST("extensions and trailers together are bounded for the whole body")
{
    CHECK(feed_much("1;", "x", HTTP_CHUNKS_EXTRA_MAX - 1) == 1);
    CHECK(feed_much("1;", "x", HTTP_CHUNKS_EXTRA_MAX) == -EMSGSIZE);
    CHECK(feed_much("0\r\n", "A:b\r\n", 6 * HTTP_CHUNKS_EXTRA_MAX) ==
          -EMSGSIZE);
    CHECK(feed_much("1 ", " ", HTTP_CHUNKS_EXTRA_MAX) == -EMSGSIZE);
}

TEST("an extension of each chunk counts, too")
{
    struct http_chunks chunks = {0};
    ssize_t result = 0;
    size_t count = 0;

    while (result >= 0 && count < HTTP_CHUNKS_EXTRA_MAX) {
        result = http_chunks_feed(&chunks, "1;abc\r\n", 7);
        if (result >= 0) {
            http_chunks_take(&chunks, 1);
            result = http_chunks_feed(&chunks, "\r\n", 2);
        }
        count++;
    }
    CHECK(result == -EMSGSIZE);
    CHECK(count == HTTP_CHUNKS_EXTRA_MAX / 4 + 1);
}
