/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Everything is received with the exact length that is due, never more: what
 * a client sends behind STARTTLS in plain text stays in the socket, where TLS
 * takes it for a broken handshake and the connection ends; and the first
 * requests are still there when transmission starts.
 */
#include "nbd/nbd_handshake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/stream.h"
#include "base/tls.h"
#include "cache/device.h"
#include "nbd/nbd_exports.h"
#include "nbd/nbd_wire.h"

enum {
    OPTIONS_MAX = 1000,        /* in one handshake */
    BYTES_MAX = 32 << 20,      /* of all options; also of one */
    OPTION_DATA_MAX = 1 << 16, /* of an option that we look into */
    BLOCK_SIZE_MIN = 1,
    BLOCK_SIZE_PREFERRED = 4096,
    ANSWER_MAX = NBD_OPTION_REPLY_SIZE + 4 + 2 * NBD_STRING_MAX,
    EXPORT_CHOSEN = 1, /* what a handler returns, beside 0 and errors */
};

#define CONTEXT_ALLOCATION  "base:allocation"
#define CONTEXT_INCARNATION "x-s3blkdev:incarnation"

struct handshake {
    const struct nbd_handshake_options *options;
    struct stream **stream;
    struct nbd_session session;
    const struct nbd_export *context_export; /* whose context was selected */
    bool fixed_newstyle;                     /* the client's flags */
    bool no_zeroes;
    bool has_tls;
    uint32_t bytes_left; /* that options may still have */
    struct nbd_option option;
    uint8_t data[OPTION_DATA_MAX]; /* the option's */
    uint8_t answer[ANSWER_MAX];
};

/* ---- answers ------------------------------------------------------------ */

static int receive(struct handshake *handshake, void *data, size_t len)
{
    return stream_receive_all(*handshake->stream, data, len,
                              handshake->options->deadline_ns);
}

static int send_bytes(struct handshake *handshake, size_t len)
{
    return stream_send_all(*handshake->stream, handshake->answer, len,
                           handshake->options->deadline_ns);
}

/* Where the data of an answer go, before send_answer puts a head on it. */
static uint8_t *answer_data(struct handshake *handshake)
{
    return handshake->answer + NBD_OPTION_REPLY_SIZE;
}

static int send_answer(struct handshake *handshake, uint32_t type, size_t len)
{
    (void)nbd_put_option_reply(handshake->answer, handshake->option.option,
                               type, (uint32_t)len);
    return send_bytes(handshake, NBD_OPTION_REPLY_SIZE + len);
}

static int acknowledge(struct handshake *handshake)
{
    return send_answer(handshake, NBD_REP_ACK, 0);
}

/* Send an error with words of our own: none of the client's, so no limit. */
static int refuse(struct handshake *handshake, uint32_t type, const char *why)
{
    size_t len = strlen(why);

    memcpy(answer_data(handshake), why, len);
    return send_answer(handshake, type, len);
}

/* Receive the option's data and forget them. */
static int discard_data(struct handshake *handshake)
{
    size_t left = handshake->option.len;

    while (left > 0) {
        size_t part = left < OPTION_DATA_MAX ? left : OPTION_DATA_MAX;
        int error = receive(handshake, handshake->data, part);

        if (error < 0)
            return error;
        left -= part;
    }
    return 0;
}

static int discard_and_refuse(struct handshake *handshake, uint32_t type,
                              const char *why)
{
    int error = discard_data(handshake);

    return error < 0 ? error : refuse(handshake, type, why);
}

/* ---- exports ------------------------------------------------------------ */

/* What the client may use; some of it depends on what was agreed before. */
static uint16_t export_flags(const struct nbd_export *export,
                             const struct nbd_session *session)
{
    int flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FUA |
                NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE;

    if (export->read_only || device_is_read_only(export->device))
        flags |= NBD_FLAG_READ_ONLY;
    else
        flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
                 NBD_FLAG_SEND_FAST_ZERO;
    if (device_has_volatile_cache(export->device))
        flags |= NBD_FLAG_SEND_FLUSH;
    if (session->structured)
        flags |= NBD_FLAG_SEND_DF;
    if (session->extended)
        flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
    return (uint16_t)flags;
}

static void choose(struct handshake *handshake, const struct nbd_export *export)
{
    handshake->session.export = export;
    /* A context holds for the export that it was selected for. */
    handshake->session.block_status = handshake->context_export == export;
    handshake->session.is_durable = !device_has_volatile_cache(export->device);
}

/* ---- one function an option --------------------------------------------- */

static int run_export_name(struct handshake *handshake)
{
    struct nbd_string name = {(const char *)handshake->data,
                              handshake->option.len};
    const struct nbd_export *export =
        nbd_exports_find(handshake->options->exports, name);
    int error;

    /* This option knows no errors: the connection ends. */
    if (!export || !nbd_string_is_valid(name))
        return -EPROTO;
    choose(handshake, export);
    error = send_bytes(handshake,
                       nbd_put_export(handshake->answer,
                                      device_size(export->device),
                                      export_flags(export, &handshake->session),
                                      !handshake->no_zeroes));
    return error < 0 ? error : EXPORT_CHOSEN;
}

static int run_list(struct handshake *handshake)
{
    struct nbd_exports *exports = handshake->options->exports;
    const struct nbd_export *export = NULL;

    while ((export = nbd_exports_next(exports, export)) != NULL) {
        const char *description =
            export->description ? export->description : "";
        size_t name_len = strlen(export->name);
        size_t description_len = strnlen(description, NBD_STRING_MAX);
        uint8_t *data = answer_data(handshake);
        int error;

        put_be32(data, (uint32_t)name_len);
        memcpy(data + 4, export->name, name_len);
        memcpy(data + 4 + name_len, description, description_len);
        error = send_answer(handshake, NBD_REP_SERVER,
                            4 + name_len + description_len);
        if (error < 0)
            return error;
    }
    return acknowledge(handshake);
}

static int run_starttls(struct handshake *handshake)
{
    int error;

    if (!handshake->options->tls)
        return refuse(handshake, NBD_REP_ERR_POLICY, "this server has no TLS");
    if (handshake->has_tls)
        return refuse(handshake, NBD_REP_ERR_INVALID,
                      "TLS has already started");
    error = acknowledge(handshake);
    if (error < 0)
        return error;
    error = tls_accept(handshake->options->tls, handshake->stream,
                       handshake->options->deadline_ns);
    if (error < 0)
        return error;
    /* Whatever was agreed before may have come from somebody else. */
    handshake->has_tls = true;
    handshake->session = (struct nbd_session){0};
    handshake->context_export = NULL;
    return 0;
}

/* Send one piece of information that is a string. */
static int send_info_string(struct handshake *handshake, uint16_t type,
                            const char *text)
{
    size_t len = strnlen(text, NBD_STRING_MAX);
    uint8_t *data = answer_data(handshake);

    put_be16(data, type);
    memcpy(data + 2, text, len);
    return send_answer(handshake, NBD_REP_INFO, 2 + len);
}

static int send_infos(struct handshake *handshake,
                      const struct nbd_export *export,
                      const struct nbd_info_request *request)
{
    uint8_t *data = answer_data(handshake);
    size_t len = nbd_put_info_export(data, device_size(export->device),
                                     export_flags(export, &handshake->session));
    int error = send_answer(handshake, NBD_REP_INFO, len);

    if (error < 0)
        return error;
    if (nbd_info_request_has(request, NBD_INFO_NAME)) {
        error = send_info_string(handshake, NBD_INFO_NAME, export->name);
        if (error < 0)
            return error;
    }
    if (export->description &&
        nbd_info_request_has(request, NBD_INFO_DESCRIPTION)) {
        error = send_info_string(handshake, NBD_INFO_DESCRIPTION,
                                 export->description);
        if (error < 0)
            return error;
    }
    /* Unasked as well: programs that set up a kernel's device like it. */
    len = nbd_put_info_block_size(data, BLOCK_SIZE_MIN, BLOCK_SIZE_PREFERRED,
                                  NBD_PAYLOAD_ADVERTISED);
    return send_answer(handshake, NBD_REP_INFO, len);
}

/* INFO and GO: the same answers, but for what follows. */
static int run_info(struct handshake *handshake)
{
    struct nbd_info_request request;
    const struct nbd_export *export;
    int error =
        nbd_get_info_request(handshake->data, handshake->option.len, &request);

    if (error < 0)
        return refuse(handshake, NBD_REP_ERR_INVALID,
                      "the lengths or the name in this option are wrong");
    export = nbd_exports_find(handshake->options->exports, request.name);
    if (!export)
        return refuse(handshake, NBD_REP_ERR_UNKNOWN,
                      "there is no export of this name");
    error = send_infos(handshake, export, &request);
    if (error == 0)
        error = acknowledge(handshake);
    if (error < 0 || handshake->option.option == NBD_OPT_INFO)
        return error;
    choose(handshake, export);
    return EXPORT_CHOSEN;
}

static int run_structured_reply(struct handshake *handshake)
{
    if (handshake->session.structured)
        return refuse(handshake, NBD_REP_ERR_INVALID,
                      "structured replies are already agreed upon");
    handshake->session.structured = true;
    return acknowledge(handshake);
}

static int run_extended_headers(struct handshake *handshake)
{
    if (handshake->session.extended)
        return refuse(handshake, NBD_REP_ERR_INVALID,
                      "extended headers are already agreed upon");
    handshake->session.extended = true;
    handshake->session.structured = true;
    return acknowledge(handshake);
}

/*
 * Whether the queries ask for the context of that name; or, in a list, for all
 * of its namespace, or for whatever there is.
 */
static bool asks_for(struct nbd_context_request request, const char *name,
                     const char *namespace, bool is_list)
{
    struct nbd_string query;

    if (is_list && request.count == 0)
        return true;
    while (nbd_next_query(&request, &query)) {
        if (nbd_string_is(query, name) ||
            (is_list && nbd_string_is(query, namespace)))
            return true;
    }
    return false;
}

static int send_context(struct handshake *handshake, uint32_t id,
                        const char *name)
{
    uint8_t *data = answer_data(handshake);
    size_t len = strlen(name);

    put_be32(data, id);
    memcpy(data + 4, name, len);
    return send_answer(handshake, NBD_REP_META_CONTEXT, 4 + len);
}

/* The name says all; as a context it can never be selected. */
static int send_incarnation(struct handshake *handshake,
                            const struct nbd_export *export)
{
    char text[DEVICE_INCARNATION_SIZE];
    char name[sizeof(CONTEXT_INCARNATION) + 1 + sizeof(text)];

    device_incarnation(export->device, text);
    (void)snprintf(name, sizeof(name), "%s/%s", CONTEXT_INCARNATION, text);
    return send_context(handshake, 0, name);
}

static int list_contexts(struct handshake *handshake,
                         const struct nbd_context_request *request,
                         const struct nbd_export *export)
{
    int error = 0;

    if (asks_for(*request, CONTEXT_ALLOCATION, "base:", true))
        error = send_context(handshake, 0, CONTEXT_ALLOCATION);
    if (error == 0 &&
        asks_for(*request, CONTEXT_INCARNATION, "x-s3blkdev:", true))
        error = send_incarnation(handshake, export);
    return error;
}

static int set_context(struct handshake *handshake,
                       const struct nbd_context_request *request,
                       const struct nbd_export *export)
{
    if (!asks_for(*request, CONTEXT_ALLOCATION, "base:", false))
        return 0;
    handshake->context_export = export;
    return send_context(handshake, NBD_CONTEXT_ALLOCATION, CONTEXT_ALLOCATION);
}

/* LIST_META_CONTEXT and SET_META_CONTEXT. */
static int run_meta_context(struct handshake *handshake)
{
    bool is_list = handshake->option.option == NBD_OPT_LIST_META_CONTEXT;
    struct nbd_context_request request;
    const struct nbd_export *export;
    int error;

    /* Also a selection that fails replaces the one before. */
    if (!is_list)
        handshake->context_export = NULL;
    if (!handshake->session.structured)
        return refuse(handshake, NBD_REP_ERR_INVALID,
                      "structured replies must be agreed upon first");
    error = nbd_get_context_request(handshake->data, handshake->option.len,
                                    &request);
    if (error < 0)
        return refuse(handshake, NBD_REP_ERR_INVALID,
                      "the lengths or the strings in this option are wrong");
    export = nbd_exports_find(handshake->options->exports, request.name);
    if (!export)
        return refuse(handshake, NBD_REP_ERR_UNKNOWN,
                      "there is no export of this name");
    error = is_list ? list_contexts(handshake, &request, export)
                    : set_context(handshake, &request, export);
    return error < 0 ? error : acknowledge(handshake);
}

static const struct handler {
    uint32_t option;
    int (*run)(struct handshake *handshake);
    bool has_data; /* else any data make it invalid */
} handlers[] = {
    {NBD_OPT_EXPORT_NAME, run_export_name, true},
    {NBD_OPT_LIST, run_list, false},
    {NBD_OPT_STARTTLS, run_starttls, false},
    {NBD_OPT_INFO, run_info, true},
    {NBD_OPT_GO, run_info, true},
    {NBD_OPT_STRUCTURED_REPLY, run_structured_reply, false},
    {NBD_OPT_LIST_META_CONTEXT, run_meta_context, true},
    {NBD_OPT_SET_META_CONTEXT, run_meta_context, true},
    {NBD_OPT_EXTENDED_HEADERS, run_extended_headers, false},
};

static const struct handler *find_handler(uint32_t option)
{
    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
        if (handlers[i].option == option)
            return &handlers[i];
    }
    return NULL;
}

/* ---- the whole ---------------------------------------------------------- */

static int greet(struct handshake *handshake)
{
    const uint32_t known = NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES;
    uint8_t bytes[NBD_CLIENT_FLAGS_SIZE];
    uint32_t flags;
    int error = send_bytes(
        handshake, nbd_put_greeting(handshake->answer, (uint16_t)known));

    if (error == 0)
        error = receive(handshake, bytes, sizeof(bytes));
    if (error < 0)
        return error;
    flags = get_be32(bytes);
    if ((flags & ~known) != 0)
        return -EPROTO;
    handshake->fixed_newstyle = (flags & NBD_FLAG_FIXED_NEWSTYLE) != 0;
    handshake->no_zeroes = (flags & NBD_FLAG_NO_ZEROES) != 0;
    return 0;
}

/* Receive the head of an option, and check what holds for each. */
static int receive_option(struct handshake *handshake)
{
    uint8_t bytes[NBD_OPTION_SIZE];
    int error = receive(handshake, bytes, sizeof(bytes));

    if (error < 0)
        return error;
    error = nbd_get_option(bytes, &handshake->option);
    if (error < 0)
        return error;
    if (handshake->option.len > handshake->bytes_left)
        return -EPROTO;
    handshake->bytes_left -= handshake->option.len;
    /* A client that knows no errors could not make sense of any. */
    if (!handshake->fixed_newstyle &&
        handshake->option.option != NBD_OPT_EXPORT_NAME)
        return -EPROTO;
    return 0;
}

static int run_abort(struct handshake *handshake)
{
    int error = discard_data(handshake);

    if (error == 0)
        error = acknowledge(handshake);
    return error < 0 ? error : -ECONNABORTED;
}

/* Answer the option; see struct handler for what is returned. */
static int run_option(struct handshake *handshake)
{
    const struct nbd_handshake_options *options = handshake->options;
    uint32_t option = handshake->option.option;
    const struct handler *handler = find_handler(option);
    int error;

    if (option == NBD_OPT_ABORT)
        return run_abort(handshake);
    if (atomic_load(options->stopping)) {
        if (option != NBD_OPT_EXPORT_NAME)
            (void)discard_and_refuse(handshake, NBD_REP_ERR_SHUTDOWN,
                                     "the server is stopping");
        return -ESHUTDOWN;
    }
    if (options->tls_required && !handshake->has_tls &&
        option != NBD_OPT_STARTTLS) {
        if (option == NBD_OPT_EXPORT_NAME)
            return -EPROTO;
        return discard_and_refuse(handshake, NBD_REP_ERR_TLS_REQD,
                                  "start TLS first");
    }
    if (!handler)
        return discard_and_refuse(handshake, NBD_REP_ERR_UNSUP,
                                  "this server does not know the option");
    if (!handler->has_data && handshake->option.len > 0)
        return discard_and_refuse(handshake, NBD_REP_ERR_INVALID,
                                  "this option has no data");
    if (option == NBD_OPT_EXPORT_NAME && handshake->option.len > NBD_STRING_MAX)
        return -EPROTO;
    if (handshake->option.len > OPTION_DATA_MAX) {
        if (option == NBD_OPT_SET_META_CONTEXT)
            handshake->context_export = NULL;
        return discard_and_refuse(handshake, NBD_REP_ERR_TOO_BIG,
                                  "the data of this option are too long");
    }
    error = receive(handshake, handshake->data, handshake->option.len);
    return error < 0 ? error : handler->run(handshake);
}

int nbd_handshake(const struct nbd_handshake_options *options,
                  struct stream **stream, struct nbd_session *ret_session)
{
    AUTO_FREE struct handshake *handshake = calloc(1, sizeof(*handshake));
    int result;

    if (!handshake)
        return -ENOMEM;
    handshake->options = options;
    handshake->stream = stream;
    handshake->bytes_left = BYTES_MAX;
    result = greet(handshake);
    for (int count = 0; result == 0; count++) {
        if (count == OPTIONS_MAX)
            return -EPROTO;
        result = receive_option(handshake);
        if (result == 0)
            result = run_option(handshake);
    }
    if (result < 0)
        return result;
    *ret_session = handshake->session;
    return 0;
}
