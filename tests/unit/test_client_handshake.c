/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/client_handshake.h"

#include "base/bytes.h"
#include "nbd/nbd_protocol.h"
#include "support/scripted_stream.h"
#include "unit/test.h"

enum { DEADLINE_NS = SCRIPTED_STREAM_BEGIN_NS + 1000000 };

/* What the server will say. */
static uint8_t answer[40000];
static size_t answer_len;
static struct scripted_stream script;
static struct net_failure failure;
static struct client_export found;
static char incarnation[CLIENT_INCARNATION_SIZE];

static void add(const void *data, size_t len)
{
    CHECK(len <= sizeof(answer) - answer_len);
    if (len > 0)
        memcpy(answer + answer_len, data, len);
    answer_len += len;
}

static void add_greeting(uint16_t flags)
{
    uint8_t bytes[NBD_GREETING_SIZE];

    put_be64(bytes, NBD_MAGIC);
    put_be64(bytes + 8, NBD_OPTION_MAGIC);
    put_be16(bytes + 16, flags);
    answer_len = 0;
    add(bytes, sizeof(bytes));
}

static void add_head(uint32_t option, uint32_t type, uint32_t len)
{
    uint8_t head[NBD_OPTION_REPLY_SIZE];

    put_be64(head, NBD_OPTION_REPLY_MAGIC);
    put_be32(head + 8, option);
    put_be32(head + 12, type);
    put_be32(head + 16, len);
    add(head, sizeof(head));
}

static void add_answer(uint32_t option, uint32_t type, const void *data,
                       size_t len)
{
    add_head(option, type, (uint32_t)len);
    add(data, len);
}

static void add_export(uint64_t size, uint16_t flags)
{
    uint8_t data[12];

    put_be16(data, NBD_INFO_EXPORT);
    put_be64(data + 2, size);
    put_be16(data + 10, flags);
    add_answer(NBD_OPT_GO, NBD_REP_INFO, data, sizeof(data));
}

static void add_block_size(uint32_t minimum, size_t len)
{
    uint8_t data[14] = {0};

    put_be16(data, NBD_INFO_BLOCK_SIZE);
    put_be32(data + 2, minimum);
    add_answer(NBD_OPT_GO, NBD_REP_INFO, data, len);
}

static void add_context(const char *name)
{
    char data[512] = {0};
    size_t len = strlen(name);

    memcpy(data + 4, name, len);
    add_answer(NBD_OPT_LIST_META_CONTEXT, NBD_REP_META_CONTEXT, data, 4 + len);
}

/* Let the script run; returns what the handshake did. */
static int go(void)
{
    int error;

    script.answer = answer;
    script.answer_len = answer_len;
    failure.text[0] = '\0';
    error = client_handshake_go(&script.stream, "disk", DEADLINE_NS, &found,
                                &failure);
    CHECK((error == 0) == (failure.text[0] == '\0'));
    return error;
}

static int ask(void)
{
    int error;

    script.answer = answer;
    script.answer_len = answer_len;
    failure.text[0] = '\0';
    error = client_handshake_ask(&script.stream, "disk", DEADLINE_NS,
                                 incarnation, &failure);
    CHECK(error == 0 || failure.text[0] != '\0');
    return error;
}

/* A fresh script whose server said the whole greeting. */
static void begin(void)
{
    scripted_stream_init(&script);
    add_greeting(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
}

static void done(void)
{
    scripted_stream_done(&script);
}

/* What GO makes of one more answer than the greeting. */
static int go_with(uint32_t type, const char *data, size_t len)
{
    int error;

    begin();
    add_answer(NBD_OPT_GO, type, data, len);
    error = go();
    done();
    return error;
}

TEST("GO tells size, flags, block size, and receives not one byte more")
{
    static const uint8_t expected[] = {
        0,   0,   0,   3, /* client flags */
        'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, NBD_OPT_GO,
        0,   0,   0,   12, /* of data */
        0,   0,   0,   4,   'd', 'i', 's', 'k', 0, 1, 0, NBD_INFO_BLOCK_SIZE,
    };

    for (size_t piece = 1; piece < 40; piece += 13) {
        begin();
        script.piece = piece;
        add_export(UINT64_C(1) << 40, 0x12d);
        add_block_size(512, 14);
        add_answer(NBD_OPT_GO, NBD_REP_INFO, "\0\2name", 6);
        add_answer(NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
        add("next", 4);
        CHECK(go() == 0);
        CHECK(found.size == UINT64_C(1) << 40 && found.flags == 0x12d);
        CHECK(found.block_size_min == 512);
        CHECK(script.received == answer_len - 4);
        CHECK(script.taken_len == sizeof(expected) &&
              memcmp(script.taken, expected, sizeof(expected)) == 0);
        done();
    }
}

TEST("a server that offers fewer flags is asked for no more")
{
    scripted_stream_init(&script);
    add_greeting(NBD_FLAG_FIXED_NEWSTYLE);
    add_export(4096, NBD_FLAG_HAS_FLAGS);
    add_answer(NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
    CHECK(go() == 0);
    CHECK(found.block_size_min == 1);
    CHECK(script.taken[3] == NBD_FLAG_FIXED_NEWSTYLE);
    done();
}

TEST("what is no NBD server, or an old one, is said to be so")
{
    scripted_stream_init(&script);
    answer_len = 0;
    add("SSH-2.0-OpenSSH_9.2p1 Debian", 28);
    CHECK(go() == -EPROTO);
    done();
    scripted_stream_init(&script);
    add_greeting(NBD_FLAG_NO_ZEROES);
    CHECK(go() == -ENOTSUP);
    done();
}

TEST("refusals have their meaning")
{
    CHECK(go_with(NBD_REP_ERR_UNKNOWN, "no", 2) == -ENOENT);
    CHECK(go_with(NBD_REP_ERR_TLS_REQD, NULL, 0) == -ENOTSUP);
    CHECK(strstr(failure.text, "TLS") != NULL);
    CHECK(go_with(NBD_REP_ERR_SHUTDOWN, NULL, 0) == -ESHUTDOWN);
    CHECK(go_with(NBD_REP_ERR_UNSUP, NULL, 0) == -ENOTSUP);
    CHECK(go_with(NBD_REP_ERR_POLICY, NULL, 0) == -EACCES);
    CHECK(go_with(NBD_REP_ERR(99), "because", 7) == -EPROTO);
    CHECK(strstr(failure.text, "because") != NULL);
}

TEST("answers that make no sense end it")
{
    CHECK(go_with(NBD_REP_ACK, NULL, 0) == -EPROTO); /* without the export */
    CHECK(go_with(NBD_REP_SERVER, "x", 1) == -EPROTO);
    CHECK(go_with(NBD_REP_INFO, "x", 1) == -EPROTO);
    CHECK(go_with(NBD_REP_INFO, "\0\0short", 7) == -EPROTO);
    begin();
    add_block_size(3, 14);
    CHECK(go() == -EPROTO);
    done();
    begin();
    add_block_size(512, 13);
    CHECK(go() == -EPROTO);
    done();
    begin();
    add_export(4096, 0); /* HAS_FLAGS is always there */
    add_answer(NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
    CHECK(go() == -EPROTO);
    done();
    begin();
    add_export(UINT64_MAX, NBD_FLAG_HAS_FLAGS);
    add_answer(NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
    CHECK(go() == -EPROTO);
    done();
    begin();
    add_answer(NBD_OPT_LIST, NBD_REP_ACK, NULL, 0); /* of another option */
    CHECK(go() == -EPROTO);
    done();
}

TEST("an answer of any length, and answers without end, are not waited for")
{
    begin();
    add_head(NBD_OPT_GO, NBD_REP_INFO, UINT32_MAX);
    CHECK(go() == -EPROTO);
    CHECK(script.received == answer_len);
    done();
    begin();
    for (int i = 0; i < 1000; i++)
        add_answer(NBD_OPT_GO, NBD_REP_INFO, "\0\2n", 3);
    CHECK(go() == -EPROTO);
    CHECK(script.received < answer_len);
    done();
}

TEST("a server that is silent or closes, at any byte, ends it in time")
{
    size_t whole;

    begin();
    add_export(4096, NBD_FLAG_HAS_FLAGS);
    add_answer(NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
    whole = answer_len;
    done();
    for (size_t len = 0; len < whole; len++) {
        scripted_stream_init(&script);
        answer_len = len;
        script.end = -EAGAIN;
        CHECK(go() == -ETIMEDOUT);
        CHECK(script.now_ns == DEADLINE_NS);
        done();
        scripted_stream_init(&script);
        CHECK(go() == -EPIPE);
        done();
        scripted_stream_init(&script);
        script.end = -ECONNRESET;
        CHECK(go() == -ECONNRESET);
        done();
    }
}

TEST("a server that takes nothing ends it in time")
{
    begin();
    script.takes_in_all = 10;
    script.send_error = -EAGAIN;
    CHECK(go() == -ETIMEDOUT);
    done();
}

TEST("the incarnation is asked for with structured replies, then ABORT")
{
    begin();
    add_answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL, 0);
    add_context("base:allocation");
    add_context("x-s3blkdev:incarnation");
    add_context("x-s3blkdev:incarnation/00ff-12");
    add_answer(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK, NULL, 0);
    CHECK(ask() == 0);
    CHECK(strcmp(incarnation, "00ff-12") == 0);
    CHECK(script.taken_len == 4 + 16 + 16 + 4 + 4 + 4 + 4 + 22 + 16);
    CHECK(script.taken[4 + 11] == NBD_OPT_STRUCTURED_REPLY);
    CHECK(script.taken[4 + 16 + 11] == NBD_OPT_LIST_META_CONTEXT);
    CHECK(script.taken[script.taken_len - 5] == NBD_OPT_ABORT);
    done();
}

TEST("a server that knows no incarnation has none")
{
    begin();
    add_answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_UNSUP, NULL, 0);
    CHECK(ask() == 0 && incarnation[0] == '\0');
    done();
    begin();
    add_answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL, 0);
    add_answer(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_INVALID, "x", 1);
    CHECK(ask() == 0 && incarnation[0] == '\0');
    done();
    begin();
    add_answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL, 0);
    add_context("base:allocation");
    add_answer(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK, NULL, 0);
    CHECK(ask() == 0 && incarnation[0] == '\0');
    done();
}

TEST("a server that does not know the export yet, or ends, is no such server")
{
    begin();
    add_answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL, 0);
    add_answer(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_UNKNOWN, NULL, 0);
    CHECK(ask() == -ENOENT);
    done();
    begin();
    add_answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_SHUTDOWN, NULL, 0);
    CHECK(ask() == -ESHUTDOWN);
    done();
    begin();
    add_answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_TLS_REQD, NULL, 0);
    CHECK(ask() == -ENOTSUP);
    done();
    begin();
    add_answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL, 0);
    CHECK(ask() == -EPIPE);
    done();
    /* It may have known, had it come to say why not. */
    begin();
    add_answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL, 0);
    add_head(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_INVALID, 9);
    CHECK(ask() == -EPIPE);
    done();
    begin();
    add_answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL, 0);
    add_head(NBD_OPT_GO, NBD_REP_ERR_UNSUP, 0);
    CHECK(ask() == -EPROTO);
    done();
}

/* What is made of a context of this name. */
static int ask_with(const char *name)
{
    int error;

    begin();
    add_answer(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL, 0);
    add_context(name);
    add_context(name);
    add_answer(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK, NULL, 0);
    error = ask();
    done();
    return error;
}

TEST("an incarnation that is told twice, or could not be a name, is none")
{
    char name[300] = "x-s3blkdev:incarnation/";

    CHECK(ask_with("x-s3blkdev:incarnation/1") == -EPROTO);
    CHECK(ask_with("x-s3blkdev:incarnation/a@b") == -EPROTO);
    CHECK(ask_with("x-s3blkdev:incarnation/a b") == -EPROTO);
    CHECK(ask_with("x-s3blkdev:incarnation/a\n") == -EPROTO);
    CHECK(ask_with("x-s3blkdev:incarnation/") == 0);
    memset(name + strlen(name), '1', CLIENT_INCARNATION_SIZE);
    CHECK(ask_with(name) == -EPROTO);
}
