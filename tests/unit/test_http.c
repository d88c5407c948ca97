/* SPDX-License-Identifier: BSD-2-Clause */
#include "test.h"

#include "s3/http.h"

/* ---- requests ----------------------------------------------------------- */

TEST("a request is composed as it goes over the wire")
{
    struct http_composer composer;
    char bytes[200];
    ssize_t len;

    http_compose(&composer, bytes, sizeof(bytes), "PUT", "/bucket/a%20key?x=");
    http_compose_field(&composer, "Host", "s3.example.com:9000");
    http_compose_number(&composer, "Content-Length", UINT64_MAX);
    http_compose_field(&composer, "x-empty", "");
    len = http_compose_end(&composer);
    NEED(len > 0);
    bytes[len] = '\0';
    CHECK(strcmp(bytes, "PUT /bucket/a%20key?x= HTTP/1.1\r\n"
                        "Host: s3.example.com:9000\r\n"
                        "Content-Length: 18446744073709551615\r\n"
                        "x-empty: \r\n\r\n") == 0);
}

/* Compose with one field; returns what http_compose_end does. */
static ssize_t compose(const char *method, const char *target, const char *name,
                       const char *value)
{
    struct http_composer composer;
    char bytes[200];

    http_compose(&composer, bytes, sizeof(bytes), method, target);
    http_compose_field(&composer, name, value);
    return http_compose_end(&composer);
}

TEST("no byte gets into a request that ends a line or is no text")
{
    CHECK(compose("GET", "/k", "a", "b c~") > 0);
    CHECK(compose("GET", "/k", "a", "b\r\nx: y") == -EINVAL);
    CHECK(compose("GET", "/k", "a", "b\n") == -EINVAL);
    CHECK(compose("GET", "/k", "a", "b\r") == -EINVAL);
    CHECK(compose("GET", "/k", "a", "b\tc") == -EINVAL);
    CHECK(compose("GET", "/k", "a", "b\x7f") == -EINVAL);
    CHECK(compose("GET", "/k", "a", "b\xc3\xa4") == -EINVAL);
    CHECK(compose("GET", "/k", "a:", "b") == -EINVAL);
    CHECK(compose("GET", "/k", "a ", "b") == -EINVAL);
    CHECK(compose("GET", "/k", "a\r\nb", "c") == -EINVAL);
    CHECK(compose("GET", "/k", "", "b") == -EINVAL);
    CHECK(compose("GET", "/k ", "a", "b") == -EINVAL);
    CHECK(compose("GET", "/k\r\n", "a", "b") == -EINVAL);
    CHECK(compose("GET", "/k\x80", "a", "b") == -EINVAL);
    CHECK(compose("GET", "k", "a", "b") == -EINVAL);
    CHECK(compose("GET", "", "a", "b") == -EINVAL);
    CHECK(compose("GE T", "/k", "a", "b") == -EINVAL);
    CHECK(compose("", "/k", "a", "b") == -EINVAL);
}

TEST("a request that has no room is refused, whatever part of it")
{
    static const char whole[] = "GET /k HTTP/1.1\r\na: b\r\n\r\n";
    struct http_composer composer;
    char bytes[sizeof(whole)];

    for (size_t size = 0; size < sizeof(whole); size++) {
        ssize_t len;

        memset(bytes, '?', sizeof(bytes));
        http_compose(&composer, bytes, size, "GET", "/k");
        http_compose_field(&composer, "a", "b");
        len = http_compose_end(&composer);
        CHECK(len == (size == sizeof(whole) - 1 ? (ssize_t)size : -EMSGSIZE));
        for (size_t i = size; i < sizeof(bytes); i++)
            CHECK(bytes[i] == '?');
    }
    CHECK(memcmp(bytes, whole, sizeof(whole) - 1) == 0);
}

/* ---- the head of an answer ---------------------------------------------- */

/* Storage that parsed texts lie in, until the next call. */
static char *parsed_bytes;

/* Search and parse; the bytes are in memory of exactly their size. */
static int parse_bytes(const char *text, size_t len, bool is_answer_to_head,
                       struct http_head *head)
{
    struct http_search search = {0};
    char *bytes = malloc(len);
    ssize_t head_len;

    free(parsed_bytes);
    parsed_bytes = bytes;
    memcpy(bytes, text, len);
    head_len = http_head_search(&search, bytes, len);
    if (head_len < 0)
        return (int)head_len;
    if (head_len == 0)
        return -EAGAIN;
    return http_head_parse(bytes, (size_t)head_len, is_answer_to_head, head);
}

static int parse(const char *text, struct http_head *head)
{
    return parse_bytes(text, strlen(text), false, head);
}

/* How an answer with this status line and these fields is refused. */
static int refused(const char *text)
{
    struct http_head head;

    return parse(text, &head);
}

TEST("status, fields and length of an answer are found")
{
    struct http_head head;

    NEED(parse("HTTP/1.1 206 Partial Content\r\n"
               "ETag: \"abc\"\r\n"
               "x-amz-request-id:\t a b \t \r\n"
               "Empty:\r\n"
               "content-LENGTH: 4096\r\n"
               "etag: second\r\n"
               "\r\nbody",
               &head) == 0);
    CHECK(head.status == 206);
    CHECK(head.is_persistent);
    CHECK(!head.is_encoded);
    CHECK(head.framing == HTTP_LENGTH);
    CHECK(head.has_length && head.length == 4096);
    CHECK(head.fields_count == 5);
    CHECK(strcmp(http_head_get(&head, "eTag"), "\"abc\"") == 0);
    CHECK(strcmp(http_head_get(&head, "X-Amz-Request-Id"), "a b") == 0);
    CHECK(strcmp(http_head_get(&head, "empty"), "") == 0);
    CHECK(!http_head_get(&head, "ETag2"));
}

TEST("the end of a head is found wherever what was received is cut")
{
    static const char text[] =
        "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 3\r\n\r\nxyz\r\n\r\n";
    const ssize_t head_len = (ssize_t)(strstr(text, "\r\n\r\n") + 4 - text);

    for (size_t first = 0; first < sizeof(text); first++) {
        struct http_search search = {0};
        ssize_t len = http_head_search(&search, text, first);

        CHECK(len == ((ssize_t)first < head_len ? 0 : head_len));
        if (len == 0)
            CHECK(http_head_search(&search, text, sizeof(text) - 1) ==
                  head_len);
    }
    for (struct http_search search = {0};;) {
        size_t len = search.seen + 1;
        ssize_t found = http_head_search(&search, text, len);

        CHECK(found == ((ssize_t)len < head_len ? 0 : head_len));
        if (found != 0)
            break;
    }
}

TEST("a reason may be absent, empty or odd")
{
    struct http_head head;

    CHECK(parse("HTTP/1.1 100 CONTINUE\r\n\r\n", &head) == 0);
    CHECK(head.status == 100 && head.framing == HTTP_NO_BODY);
    CHECK(parse("HTTP/1.1 204\r\n\r\n", &head) == 0 && head.status == 204);
    CHECK(parse("HTTP/1.1 204 \r\n\r\n", &head) == 0 && head.status == 204);
    CHECK(parse("HTTP/1.1 404 Not\tf\xc3\xb6und\r\n\r\n", &head) == 0);
}

TEST("what does not begin as an answer is refused at once")
{
    struct http_search search = {0};

    CHECK(http_head_search(&search, "SSH-2.0", 7) == -EPROTO);
    CHECK(http_head_search(&search, "H", 1) == 0);
    CHECK(http_head_search(&search, "HTTP/2", 6) == -EPROTO);
    CHECK(refused("\r\nHTTP/1.1 200 OK\r\n\r\n") == -EPROTO);
    CHECK(refused("http/1.1 200 OK\r\n\r\n") == -EPROTO);
    CHECK(refused("<html>") == -EPROTO);
}

TEST("a status line that is not exactly one is refused")
{
    CHECK(refused("HTTP/1.2 200 OK\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.11 200 OK\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1  200 OK\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1\t200 OK\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 20 OK\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 2000 OK\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200OK\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 +20 OK\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 099 OK\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 600 OK\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 2x0 OK\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 O\x01K\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n\r\n") == 0);
}

TEST("a field that is not exactly one is refused")
{
    CHECK(refused("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\nA: b\r\n\tc: d\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n A: b\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\nA : b\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n: b\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\nA\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\nA(: b\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n\xc3\xa4: b\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\nA: b\x7f\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\nA: b\x1b[2J\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\nA: \xc3\xa4\tb\r\n\r\n") == 0);
}

TEST("a NUL is refused in a name, in a value and by itself")
{
    static const char name[] = "HTTP/1.1 200 OK\r\nA\0: b\r\n\r\n";
    static const char value[] = "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n";
    static const char alone[] = "HTTP/1.1 200 OK\r\n\0\r\n\r\n";
    struct http_head head;

    CHECK(parse_bytes(name, sizeof(name) - 1, false, &head) == -EPROTO);
    CHECK(parse_bytes(value, sizeof(value) - 1, false, &head) == -EPROTO);
    CHECK(parse_bytes(alone, sizeof(alone) - 1, false, &head) == -EPROTO);
}

TEST("a line that ends with LF alone is refused before its head is whole")
{
    struct http_search search = {0};

    CHECK(refused("HTTP/1.1 200 OK\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\nA: b\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n\n") == -EPROTO);
    /* Also when CR was the last byte of what came before. */
    CHECK(http_head_search(&search, "HTTP/1.1 200\r", 13) == 0);
    CHECK(http_head_search(&search, "HTTP/1.1 200\r\n\n", 15) == -EPROTO);
}

TEST("parsing does not rest on the search that comes before it")
{
    static const char *const texts[] = {
        "HTTP/1.1 200 OK\n\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n",
        "HTTP/1.1 200 OK\r\nA: b",
        "HTTP/1.1 200 OK\r\n\r\nmore",
        "\r\n\r\n",
        "\n",
        "",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct http_head head;
        size_t len = strlen(texts[i]);
        char *bytes = malloc(len + 1);

        memcpy(bytes, texts[i], len);
        CHECK(http_head_parse(bytes, len, false, &head) == -EPROTO);
        free(bytes);
    }
}

TEST("a head is bounded in all its bytes, in a line and in fields")
{
    enum { SIZE = HTTP_HEAD_MAX + 100 };
    static const char start[] = "HTTP/1.1 200 OK\r\n";
    char *bytes = malloc(SIZE);
    struct http_head head;
    size_t len = sizeof(start) - 1;

    /* As many fields as may be, then one more. */
    memcpy(bytes, start, len);
    for (unsigned i = 0; i < HTTP_FIELDS_MAX; i++, len += 6)
        memcpy(bytes + len, "A: b\r\n", 6);
    memcpy(bytes + len, "\r\n", 2);
    CHECK(parse_bytes(bytes, len + 2, false, &head) == 0);
    CHECK(head.fields_count == HTTP_FIELDS_MAX);
    memcpy(bytes + len, "A: b\r\n\r\n", 8);
    CHECK(parse_bytes(bytes, len + 8, false, &head) == -EMSGSIZE);
    CHECK(http_head_parse(bytes, len + 8, false, &head) == -EMSGSIZE);

    /* A line as long as may be, then one byte more; ended and not. */
    for (size_t more = 0; more < 2; more++) {
        size_t line = HTTP_LINE_MAX + more;

        memcpy(bytes, start, sizeof(start) - 1);
        len = sizeof(start) - 1;
        memset(bytes + len, 'x', line);
        bytes[len + 1] = ':';
        memcpy(bytes + len + line - 2, "\r\n\r\n", 4);
        CHECK(parse_bytes(bytes, len + line + 2, false, &head) ==
              (more ? -EMSGSIZE : 0));
        CHECK(parse_bytes(bytes, len + line - 2, false, &head) == -EAGAIN);
        CHECK(parse_bytes(bytes, len + line - 1, false, &head) ==
              (more ? -EMSGSIZE : -EAGAIN));
    }

    /* All of it as long as may be, then one byte more. */
    for (size_t more = 0; more < 2; more++) {
        memcpy(bytes, start, sizeof(start) - 1);
        for (len = sizeof(start) - 1; len < HTTP_HEAD_MAX - 2; len += 8000) {
            size_t line = HTTP_HEAD_MAX - 2 + more - len;

            line = line > 16000 ? 8000 : line;
            memset(bytes + len, 'x', line);
            bytes[len + 1] = ':';
            memcpy(bytes + len + line - 2, "\r\n", 2);
            if (line != 8000)
                break;
        }
        memcpy(bytes + HTTP_HEAD_MAX - 2 + more, "\r\n", 2);
        CHECK(parse_bytes(bytes, HTTP_HEAD_MAX + more, false, &head) ==
              (more ? -EMSGSIZE : 0));
        CHECK(parse_bytes(bytes, HTTP_HEAD_MAX - 1, false, &head) == -EAGAIN);
    }
    free(bytes);
}

/* ---- how bodies are framed ---------------------------------------------- */

TEST("answers that have no body have none, whatever their fields say")
{
    static const char *const statuses[] = {"100", "103", "204", "304"};
    static const char *const fields[] = {"", "Content-Length: 5\r\n",
                                         "Transfer-Encoding: chunked\r\n"};
    struct http_head head;
    char text[100];

    for (size_t i = 0; i < 4; i++) {
        for (size_t j = 0; j < 3; j++) {
            bool is_304 = i == 3;

            (void)snprintf(text, sizeof(text), "HTTP/1.1 %s x\r\n%s\r\n",
                           statuses[i], fields[j]);
            CHECK(parse(text, &head) == 0);
            CHECK(head.framing == HTTP_NO_BODY);
            /* What was announced may come all the same. */
            CHECK(head.is_persistent == (is_304 || j == 0));
            (void)snprintf(text, sizeof(text), "HTTP/1.1 200 x\r\n%s\r\n",
                           fields[j]);
            CHECK(parse_bytes(text, strlen(text), true, &head) == 0);
            CHECK(head.framing == HTTP_NO_BODY && head.is_persistent);
            CHECK(head.has_length == (j == 1));
            CHECK(!head.has_length || head.length == 5);
        }
    }
    CHECK(parse("HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n", &head) == 0);
    CHECK(head.framing == HTTP_NO_BODY && head.is_persistent);
}

TEST("a chunked body is one coding, once, in HTTP/1.1 and without a length")
{
    struct http_head head;

    CHECK(parse("HTTP/1.1 200 OK\r\ntransfer-encoding: CHUNKED\r\n\r\n",
                &head) == 0);
    CHECK(head.framing == HTTP_CHUNKED && !head.has_length);
    CHECK(head.is_persistent);
#define TE "Transfer-Encoding: "
    CHECK(refused("HTTP/1.1 200 OK\r\n" TE "gzip\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" TE "gzip, chunked\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" TE "chunked, chunked\r\n\r\n") ==
          -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" TE "chunked\r\n" TE
                  "chunked\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" TE "identity\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" TE "xchunked\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" TE "chunked;q=1\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" TE "\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.0 200 OK\r\n" TE "chunked\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" TE
                  "chunked\r\nContent-Length: 5\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" TE
                  "chunked\r\n\r\n") == -EPROTO);
#undef TE
}

TEST("a length is digits, and if it is told twice, the same")
{
    struct http_head head;

#define CL "Content-Length: "
    CHECK(parse("HTTP/1.1 200 OK\r\n" CL "0\r\n\r\n", &head) == 0);
    CHECK(head.has_length && head.length == 0 && head.framing == HTTP_LENGTH);
    CHECK(parse("HTTP/1.1 200 OK\r\n" CL "9223372036854775807\r\n\r\n",
                &head) == 0);
    CHECK(head.length == INT64_MAX);
    CHECK(parse("HTTP/1.1 200 OK\r\n" CL "7\r\n" CL "7\r\n\r\n", &head) == 0);
    CHECK(head.length == 7 && head.framing == HTTP_LENGTH);
    CHECK(parse("HTTP/1.1 200 OK\r\n" CL "7 ,\t7\r\n\r\n", &head) == 0);
    CHECK(refused("HTTP/1.1 200 OK\r\n" CL "7\r\n" CL "8\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" CL "7, 8\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" CL ",\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" CL "-1\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" CL "+1\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" CL "0x10\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" CL "1 0\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" CL "1.0\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" CL "\r\n\r\n") == -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" CL "9223372036854775808\r\n\r\n") ==
          -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" CL "18446744073709551617\r\n\r\n") ==
          -EPROTO);
    CHECK(refused("HTTP/1.1 200 OK\r\n" CL
                  "000000000000000000000000000000000001\r\n\r\n") == -EPROTO);
    /* Also where no body comes. */
    CHECK(refused("HTTP/1.1 304 x\r\n" CL "x\r\n\r\n") == -EPROTO);
#undef CL
}

TEST("without length and coding a body lasts until the connection ends")
{
    struct http_head head;

    CHECK(parse("HTTP/1.1 403 Forbidden\r\n\r\n", &head) == 0);
    CHECK(head.framing == HTTP_UNTIL_CLOSE && !head.is_persistent);
}

TEST("a connection persists in HTTP/1.1, unless one of its options is close")
{
    struct http_head head;

#define LENGTH "Content-Length: 0\r\n"
    CHECK(parse("HTTP/1.1 200 x\r\n" LENGTH "\r\n", &head) == 0);
    CHECK(head.is_persistent);
    CHECK(parse("HTTP/1.1 200 x\r\n" LENGTH
                "Connection: Keep-Alive, closed\r\n\r\n",
                &head) == 0);
    CHECK(head.is_persistent);
    CHECK(parse("HTTP/1.1 200 x\r\n" LENGTH "Connection: close\r\n\r\n",
                &head) == 0);
    CHECK(!head.is_persistent);
    CHECK(parse("HTTP/1.1 200 x\r\n" LENGTH "Connection: a,CLOSE ,b\r\n\r\n",
                &head) == 0);
    CHECK(!head.is_persistent);
    CHECK(parse("HTTP/1.1 200 x\r\n" LENGTH
                "Connection: a\r\nconnection: close\r\n\r\n",
                &head) == 0);
    CHECK(!head.is_persistent);
    /* Also behind an option that is too long to be any that is known. */
    CHECK(parse("HTTP/1.1 200 x\r\n" LENGTH
                "Connection: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, close\r\n\r\n",
                &head) == 0);
    CHECK(!head.is_persistent);
    CHECK(parse("HTTP/1.0 200 x\r\n" LENGTH "Connection: keep-alive\r\n\r\n",
                &head) == 0);
    CHECK(!head.is_persistent);
#undef LENGTH
}

TEST("that a body is encoded is told")
{
    struct http_head head;

    CHECK(parse("HTTP/1.1 200 x\r\ncontent-encoding: gzip\r\n\r\n", &head) ==
          0);
    CHECK(head.is_encoded);
}

/* ---- ranges ------------------------------------------------------------- */

TEST("a range is understood, or refused")
{
    static const char *const wrong[] = {
        "",
        "bytes",
        "bytes 0-9",
        "bytes */100",
        "bytes -9/",
        "bytes 0-/9",
        "bytes 9-8/10",
        "bytes 0-10/10",
        "items 0-9/10",
        "bytes 0-9/x",
        "bytes 0-9/",
        "bytes 0-9/10 ",
        "bytes  0-9/10",
        "bytes +0-9/10",
        "bytes 0-9/99999999999999999999",
        "bytes=0-9/10",
        "bytes 0-9/**",
    };
    struct http_range range;

    CHECK(http_range_parse("bytes 0-9/10", &range) == 0);
    CHECK(range.first == 0 && range.last == 9);
    CHECK(range.has_total && range.total == 10);
    CHECK(http_range_parse("BYTES 5-5/*", &range) == 0);
    CHECK(range.first == 5 && range.last == 5 && !range.has_total);
    CHECK(http_range_parse("bytes 0-18446744073709551614/18446744073709551615",
                           &range) == 0);
    CHECK(range.last == UINT64_MAX - 1 && range.total == UINT64_MAX);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        CHECK(http_range_parse(wrong[i], &range) == -EPROTO);
}
