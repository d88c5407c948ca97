/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_client_handshake - any bytes as what a server says; what is understood
 * makes sense, and its end is found.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "attach/client_handshake.h"
#include "nbd/nbd_protocol.h"
#include "support/scripted_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void go(struct scripted_stream *script)
{
    struct client_export found = {0};
    struct net_failure failure;

    if (client_handshake_go(&script->stream, "disk", UINT64_MAX - 1, &found,
                            &failure) != 0)
        return;
    require(found.size <= INT64_MAX);
    require((found.flags & NBD_FLAG_HAS_FLAGS) != 0);
    require(found.block_size_min >= 1 && found.block_size_min <= 65536);
}

static void ask(struct scripted_stream *script)
{
    char incarnation[CLIENT_INCARNATION_SIZE];
    struct net_failure failure;

    if (client_handshake_ask(&script->stream, "disk", UINT64_MAX - 1,
                             incarnation, &failure) != 0)
        return;
    require(strlen(incarnation) < CLIENT_INCARNATION_SIZE);
    require(strpbrk(incarnation, "@/ \n") == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct scripted_stream script;

    scripted_stream_init(&script);
    script.answer = data;
    script.answer_len = size;
    go(&script);
    scripted_stream_done(&script);
    scripted_stream_init(&script);
    script.answer = data;
    script.answer_len = size;
    ask(&script);
    scripted_stream_done(&script);
    return 0;
}
