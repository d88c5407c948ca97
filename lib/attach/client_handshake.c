/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/client_handshake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"
#include "nbd/nbd_protocol.h"

enum {
    ANSWER_MAX = 8192, /* bytes of one answer; strings are at most 4096 */
    ANSWERS_MAX = 256, /* to one option */
    EXPORT_LEN = 12,   /* of NBD_INFO_EXPORT, with its type */
    BLOCK_SIZE_LEN = 14,
    BLOCK_SIZE_MIN_MAX = 65536,
};

static const char CONTEXT[] = "x-s3blkdev:incarnation";

struct handshake {
    struct stream *stream;
    const char *export_name;
    uint64_t deadline_ns;
    struct net_failure *failure;
    uint32_t option;      /* that was sent last */
    uint32_t answer_type; /* what was received last; 0: not all of it */
    uint32_t answer_len;
    uint8_t request[NBD_OPTION_SIZE + ANSWER_MAX];
    uint8_t answer[ANSWER_MAX];
};

/* ---- bytes -------------------------------------------------------------- */

static int fail(struct handshake *handshake, int error, const char *text)
{
    net_failure_set(handshake->failure, error, "%s", text);
    return error;
}

static int fail_stream(struct handshake *handshake, int error)
{
    if (error == -EPIPE)
        return fail(handshake, error,
                    "the server closed the connection in the handshake");
    if (error == -ETIMEDOUT)
        return fail(handshake, error,
                    "the server did not answer in the handshake");
    return fail(handshake, error, log_errno(error));
}

static int receive(struct handshake *handshake, void *data, size_t len)
{
    int error = stream_receive_all(handshake->stream, data, len,
                                   handshake->deadline_ns);

    return error ? fail_stream(handshake, error) : 0;
}

static int send_bytes(struct handshake *handshake, const void *data, size_t len)
{
    int error =
        stream_send_all(handshake->stream, data, len, handshake->deadline_ns);

    return error ? fail_stream(handshake, error) : 0;
}

/* Where the data of the option to send begin. */
static uint8_t *option_data(struct handshake *handshake)
{
    return handshake->request + NBD_OPTION_SIZE;
}

static int send_option(struct handshake *handshake, uint32_t option, size_t len)
{
    put_be64(handshake->request, NBD_OPTION_MAGIC);
    put_be32(handshake->request + 8, option);
    put_be32(handshake->request + 12, (uint32_t)len);
    handshake->option = option;
    return send_bytes(handshake, handshake->request, NBD_OPTION_SIZE + len);
}

/* Receive one answer to the option, with its data. */
static int receive_answer(struct handshake *handshake)
{
    uint8_t head[NBD_OPTION_REPLY_SIZE];
    int error;

    handshake->answer_type = 0; /* none is whole yet */
    error = receive(handshake, head, sizeof(head));
    if (error)
        return error;
    handshake->answer_len = get_be32(head + 16);
    if (get_be64(head) != NBD_OPTION_REPLY_MAGIC ||
        get_be32(head + 8) != handshake->option)
        return fail(handshake, -EPROTO,
                    "what the server says is no answer of NBD");
    if (handshake->answer_len > ANSWER_MAX)
        return fail(handshake, -EPROTO, "an answer of the server is too long");
    error = receive(handshake, handshake->answer, handshake->answer_len);
    if (error == 0)
        handshake->answer_type = get_be32(head + 12);
    return error;
}

/* ---- what is agreed upon ------------------------------------------------ */

static int greet(struct handshake *handshake)
{
    const uint16_t known = NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES;
    uint8_t bytes[NBD_GREETING_SIZE];
    uint16_t flags;
    int error = receive(handshake, bytes, sizeof(bytes));

    if (error)
        return error;
    flags = get_be16(bytes + 16);
    if (get_be64(bytes) != NBD_MAGIC || get_be64(bytes + 8) != NBD_OPTION_MAGIC)
        return fail(handshake, -EPROTO, "this is no NBD server, or an old one");
    if ((flags & NBD_FLAG_FIXED_NEWSTYLE) == 0)
        return fail(handshake, -ENOTSUP,
                    "the server does not know the handshake of today");
    put_be32(bytes, flags & known);
    return send_bytes(handshake, bytes, NBD_CLIENT_FLAGS_SIZE);
}

/* What an answer that is an error means to us. */
static const struct refusal {
    uint32_t type;
    int error;
    const char *text;
} refusals[] = {
    {NBD_REP_ERR_UNKNOWN, -ENOENT, "the server has no export of this name"},
    {NBD_REP_ERR_TLS_REQD, -ENOTSUP,
     "the server wants TLS, which the kernel does not know: attach by "
     "nbd-client, or choose its Unix socket"},
    {NBD_REP_ERR_SHUTDOWN, -ESHUTDOWN, "the server is stopping"},
    {NBD_REP_ERR_UNSUP, -ENOTSUP, "the server does not know an option"},
    {NBD_REP_ERR_POLICY, -EACCES, "the server does not let us"},
};

static int refused(struct handshake *handshake)
{
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        if (refusals[i].type == handshake->answer_type)
            return fail(handshake, refusals[i].error, refusals[i].text);
    }
    net_failure_set(
        handshake->failure, -EPROTO, "the server refused option %u: %.*s",
        handshake->option,
        (int)(handshake->answer_len < 150 ? handshake->answer_len : 150),
        (const char *)handshake->answer);
    return -EPROTO;
}

static bool is_error(const struct handshake *handshake)
{
    return (handshake->answer_type & NBD_REP_ERR(0)) != 0;
}

/* Write a string with its length in front; returns the bytes. */
static size_t put_string(uint8_t *to, const char *text)
{
    size_t len = strlen(text);

    put_be32(to, (uint32_t)len);
    memcpy(to + 4, text, len);
    return 4 + len;
}

/*
 * Receive answers until the option is done, and use each.  use() returns 0 or
 * an error; an error that the server answers ends it, too.
 */
static int receive_answers(struct handshake *handshake,
                           int (*use)(struct handshake *handshake,
                                      void *result),
                           void *result)
{
    for (unsigned count = 0; count < ANSWERS_MAX; count++) {
        int error = receive_answer(handshake);

        if (error)
            return error;
        if (is_error(handshake))
            return refused(handshake);
        if (handshake->answer_type == NBD_REP_ACK)
            return 0;
        error = use(handshake, result);
        if (error)
            return error;
    }
    return fail(handshake, -EPROTO, "the server's answers do not end");
}

/* ---- GO ----------------------------------------------------------------- */

struct go {
    struct client_export export_info;
    bool has_export;
};

static int use_info(struct handshake *handshake, void *result)
{
    const uint8_t *data = handshake->answer;
    struct go *go = result;
    uint32_t minimum;

    if (handshake->answer_type != NBD_REP_INFO || handshake->answer_len < 2)
        return fail(handshake, -EPROTO,
                    "an answer of the server makes no sense");
    if (get_be16(data) == NBD_INFO_EXPORT) {
        if (handshake->answer_len != EXPORT_LEN)
            return fail(
                handshake, -EPROTO,
                "what the server says of the export has a wrong length");
        go->export_info.size = get_be64(data + 2);
        go->export_info.flags = get_be16(data + 10);
        go->has_export = true;
    }
    if (get_be16(data) == NBD_INFO_BLOCK_SIZE) {
        minimum =
            handshake->answer_len == BLOCK_SIZE_LEN ? get_be32(data + 2) : 0;
        if (minimum == 0 || minimum > BLOCK_SIZE_MIN_MAX ||
            (minimum & (minimum - 1)) != 0)
            return fail(handshake, -EPROTO,
                        "the server's block size makes no sense");
        go->export_info.block_size_min = minimum;
    }
    return 0;
}

static int go(struct handshake *handshake, struct client_export *ret_export)
{
    struct go result = {.export_info.block_size_min = 1};
    uint8_t *data = option_data(handshake);
    size_t len = put_string(data, handshake->export_name);
    int error;

    put_be16(data + len, 1);
    put_be16(data + len + 2, NBD_INFO_BLOCK_SIZE);
    error = send_option(handshake, NBD_OPT_GO, len + 4);
    if (error == 0)
        error = receive_answers(handshake, use_info, &result);
    if (error)
        return error;
    if (!result.has_export ||
        (result.export_info.flags & NBD_FLAG_HAS_FLAGS) == 0 ||
        result.export_info.size > INT64_MAX)
        return fail(handshake, -EPROTO,
                    "what the server says of the export makes no sense");
    *ret_export = result.export_info;
    return 0;
}

/* Begin a handshake; the caller frees it. */
static int begin(struct stream *stream, const char *export_name,
                 uint64_t deadline_ns, struct net_failure *failure,
                 struct handshake **ret_handshake)
{
    struct handshake *handshake = calloc(1, sizeof(*handshake));
    int error;

    if (!handshake) {
        net_failure_set(failure, -ENOMEM, "no memory");
        return -ENOMEM;
    }
    handshake->stream = stream;
    handshake->export_name = export_name;
    handshake->deadline_ns = deadline_ns;
    handshake->failure = failure;
    *ret_handshake = handshake;
    if (strlen(export_name) > NBD_STRING_MAX)
        return fail(handshake, -ENAMETOOLONG,
                    "the name of the export is too long");
    error = greet(handshake);
    return error;
}

int client_handshake_go(struct stream *stream, const char *export_name,
                        uint64_t deadline_ns, struct client_export *ret_export,
                        struct net_failure *ret_failure)
{
    AUTO_FREE struct handshake *handshake = NULL;
    int error =
        begin(stream, export_name, deadline_ns, ret_failure, &handshake);

    return error ? error : go(handshake, ret_export);
}

/* ---- the incarnation ---------------------------------------------------- */

/* Whether all of it is what an incarnation is made of. */
static bool is_incarnation(const char *text, size_t len)
{
    if (len == 0 || len >= CLIENT_INCARNATION_SIZE)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
              (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_'))
            return false;
    }
    return true;
}

static int use_context(struct handshake *handshake, void *result)
{
    const char *name = (const char *)handshake->answer + 4;
    size_t prefix_len = strlen(CONTEXT) + 1;
    char *incarnation = result;
    size_t len;

    if (handshake->answer_type != NBD_REP_META_CONTEXT ||
        handshake->answer_len < 4)
        return fail(handshake, -EPROTO,
                    "an answer of the server makes no sense");
    len = handshake->answer_len - 4;
    /* It is ours only with a slash, and something behind it. */
    if (len <= prefix_len || memcmp(name, CONTEXT, prefix_len - 1) != 0 ||
        name[prefix_len - 1] != '/')
        return 0;
    name += prefix_len;
    len -= prefix_len;
    if (incarnation[0] != '\0' || !is_incarnation(name, len))
        return fail(handshake, -EPROTO,
                    "the incarnation that the server tells makes no sense");
    memcpy(incarnation, name, len);
    incarnation[len] = '\0';
    return 0;
}

static int use_none(struct handshake *handshake, void *result)
{
    (void)result;
    return fail(handshake, -EPROTO, "an answer of the server makes no sense");
}

/* Whether the last answer is that of a server that knows no such thing. */
static bool is_unknown(const struct handshake *handshake)
{
    return handshake->answer_type == NBD_REP_ERR_UNSUP ||
           handshake->answer_type == NBD_REP_ERR_INVALID ||
           handshake->answer_type == NBD_REP_ERR_POLICY;
}

static int ask(struct handshake *handshake, char *incarnation)
{
    uint8_t *data = option_data(handshake);
    size_t len;
    int error = send_option(handshake, NBD_OPT_STRUCTURED_REPLY, 0);

    if (error == 0)
        error = receive_answers(handshake, use_none, NULL);
    if (error)
        return is_unknown(handshake) ? 0 : error;
    len = put_string(data, handshake->export_name);
    put_be32(data + len, 1);
    len += 4;
    len += put_string(data + len, CONTEXT);
    error = send_option(handshake, NBD_OPT_LIST_META_CONTEXT, len);
    if (error == 0)
        error = receive_answers(handshake, use_context, incarnation);
    return is_unknown(handshake) ? 0 : error;
}

int client_handshake_ask(struct stream *stream, const char *export_name,
                         uint64_t deadline_ns,
                         char ret_incarnation[CLIENT_INCARNATION_SIZE],
                         struct net_failure *ret_failure)
{
    AUTO_FREE struct handshake *handshake = NULL;
    char incarnation[CLIENT_INCARNATION_SIZE] = "";
    int error =
        begin(stream, export_name, deadline_ns, ret_failure, &handshake);

    if (error == 0)
        error = ask(handshake, incarnation);
    if (error)
        return error;
    /* Who is about to close need not hear whether this was understood. */
    (void)send_option(handshake, NBD_OPT_ABORT, 0);
    memcpy(ret_incarnation, incarnation, sizeof(incarnation));
    return 0;
}
