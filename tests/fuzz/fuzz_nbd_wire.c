/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_nbd_wire - any bytes as the data of options and as requests; what is
 * understood must lie inside them, and is turned into replies.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "nbd/nbd_command.h"
#include "nbd/nbd_reply.h"
#include "nbd/nbd_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DEVICE_BYTES = 1 << 20 };

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void require_inside(const uint8_t *data, size_t size,
                           struct nbd_string string)
{
    const uint8_t *bytes = (const uint8_t *)string.bytes;

    require(bytes >= data && bytes <= data + size);
    require(string.len <= size - (size_t)(bytes - data));
    require(nbd_string_is_valid(string));
}

static void get_options(const uint8_t *data, size_t size)
{
    struct nbd_info_request info;
    struct nbd_context_request contexts;
    struct nbd_string query;
    struct nbd_option option;

    if (size >= NBD_OPTION_SIZE)
        (void)nbd_get_option(data, &option);
    if (nbd_get_info_request(data, size, &info) == 0) {
        require_inside(data, size, info.name);
        require(6 + info.name.len + 2 * info.count == size);
        (void)nbd_info_request_has(&info, NBD_INFO_NAME);
    }
    if (nbd_get_context_request(data, size, &contexts) == 0) {
        require_inside(data, size, contexts.name);
        while (nbd_next_query(&contexts, &query))
            require_inside(data, size, query);
    }
}

/* Whatever is run lies inside the device, and has no more data than allowed. */
static void check_request(const struct nbd_session *session,
                          const uint8_t *data, size_t size)
{
    size_t head_len = nbd_request_size(session->extended);
    struct nbd_request request;
    struct nbd_command command;
    struct nbd_reply reply;
    uint64_t payload_len;

    if (size < head_len ||
        nbd_get_request(data, session->extended, &request) < 0)
        return;
    payload_len = nbd_command_payload_len(session, &request);
    command = nbd_command_check(
        session, DEVICE_BYTES, data[size - 1] & 1, &request,
        payload_len <= size - head_len ? data + head_len : NULL);
    if (command.verdict == NBD_VERDICT_RUN) {
        require(command.length <= DEVICE_BYTES);
        require(command.offset <= DEVICE_BYTES - command.length);
        require(command.length > 0 || command.operation == DEVICE_FLUSH);
        require(!command.writes || (data[size - 1] & 1) == 0);
        nbd_reply_ok(&reply, session, &request);
        if (command.operation == DEVICE_READ)
            nbd_reply_data(&reply, session, &request, data, size);
    } else if (command.verdict == NBD_VERDICT_ANSWER) {
        nbd_reply_error(&reply, session, &request, command.error, command.text);
        require(reply.head_len <= sizeof(reply.head));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct nbd_session sessions[] = {
        {0},
        {.structured = true, .block_status = true},
        {.structured = true, .extended = true, .block_status = true},
    };
    /* Memory of exactly that size, so that the sanitizer sees its borders. */
    AUTO_FREE uint8_t *copy = calloc(1, size + 1);

    require(copy);
    memcpy(copy, data, size);
    get_options(copy, size);
    for (size_t i = 0; i < 3; i++)
        check_request(&sessions[i], copy, size);
    return 0;
}
