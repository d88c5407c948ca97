/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_nbd_transmission - any bytes as a stream of requests.
 *
 * The first byte chooses the mode (simple, structured, extended), whether the
 * export is read-only, and what the device fails.  Whatever was sent, the
 * server must come to an end with every request answered or dropped, and all
 * memory given back.
 */
/* links: memory_device */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/stream.h"
#include "nbd/nbd_memory.h"
#include "nbd/nbd_server.h"
#include "nbd/nbd_tally.h"
#include "nbd/nbd_transmission.h"
#include "support/memory_device.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What fits into the socket, so that nobody has to send meanwhile. */
enum { INPUT_MAX = 60000, DEVICE_BYTES = 1 << 20 };

static void require(bool ok)
{
    if (!ok)
        abort();
}

/* Read the replies, so that the server never has to wait for it. */
static void *read_replies(void *argument)
{
    static uint8_t replies[1 << 16];

    while (recv(*(int *)argument, replies, sizeof(replies), 0) > 0)
        ;
    return NULL;
}

static struct nbd_transmission_options make_options(uint8_t choice)
{
    static struct nbd_export export;
    static struct nbd_tally tally;
    struct nbd_transmission_options options = {
        .tally = &tally,
        .drain_ms = 60000,
        .stall_ms = 60000,
    };

    if (!export.device)
        export = (struct nbd_export){.device = memory_device_new(DEVICE_BYTES),
                                     .name = "fuzzed"};
    export.read_only = (choice & 4) != 0;
    memory_device_fail(export.device, DEVICE_READ, choice & 8 ? -EIO : 0);
    memory_device_fail(export.device, DEVICE_WRITE, choice & 16 ? -ENOSPC : 0);
    options.session.export = &export;
    options.session.structured = (choice & 3) > 0;
    options.session.block_status = (choice & 3) > 0;
    options.session.extended = (choice & 3) > 1;
    return options;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nbd_transmission_options options;
    struct nbd_transmission *transmission;
    pthread_t reader;
    int fds[2];

    if (size < 1 || size > INPUT_MAX)
        return 0;
    options = make_options(data[0]);
    require(nbd_memory_new(64 << 20, &options.memory) == 0);
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    require(stream_open(fds[0], &options.stream) == 0);
    require(send(fds[1], data + 1, size - 1, MSG_NOSIGNAL) ==
            (ssize_t)size - 1);
    require(shutdown(fds[1], SHUT_WR) == 0);
    require(pthread_create(&reader, NULL, read_replies, &fds[1]) == 0);
    require(nbd_transmission_new(&options, &transmission) == 0);
    require(nbd_transmission_run(transmission) == 0);
    nbd_transmission_free(transmission);
    require(nbd_memory_used(options.memory) == 0);
    stream_close(options.stream);
    (void)pthread_join(reader, NULL);
    (void)close(fds[1]);
    nbd_memory_free(options.memory);
    return 0;
}
