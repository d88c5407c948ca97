/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_nbd_handshake - any bytes as what a client sends in the handshake.
 *
 * The first byte says whether TLS is required; the server has no certificate,
 * so STARTTLS itself is left to test_nbd_handshake.c.
 */
/* links: memory_device */
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/stream.h"
#include "nbd/nbd_exports.h"
#include "nbd/nbd_handshake.h"
#include "support/memory_device.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What fits into the socket, so that nobody has to send meanwhile. */
enum { INPUT_MAX = 60000 };

static void require(bool ok)
{
    if (!ok)
        abort();
}

static struct nbd_exports *make_exports(void)
{
    const struct nbd_export main = {.device = memory_device_new(1 << 20),
                                    .name = "main",
                                    .description = "a disk"};
    const struct nbd_export other = {.device = memory_device_new(1 << 16),
                                     .name = "other",
                                     .read_only = true};
    struct nbd_exports *exports;

    require(nbd_exports_new(NULL, 0, &exports) == 0);
    require(nbd_exports_add(exports, &main) == 0);
    require(nbd_exports_add(exports, &other) == 0);
    return exports;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct nbd_exports *exports;
    static uint8_t answers[1 << 18];
    static atomic_bool stopping;
    struct nbd_handshake_options options = {
        .stopping = &stopping,
    };
    struct nbd_session session = {0};
    struct stream *stream;
    int fds[2];

    if (size < 1 || size > INPUT_MAX)
        return 0;
    if (!exports)
        exports = make_exports();
    options.exports = exports;
    options.tls_required = (data[0] & 1) != 0;
    atomic_store(&stopping, (data[0] & 2) != 0);
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    require(stream_open(fds[0], &stream) == 0);
    require(send(fds[1], data + 1, size - 1, MSG_NOSIGNAL) ==
            (ssize_t)size - 1);
    require(shutdown(fds[1], SHUT_WR) == 0);
    /* Answers that nobody reads end it, instead of filling the socket. */
    options.deadline_ns = clock_monotonic_ns() + 20000000;
    if (nbd_handshake(&options, &stream, &session) == 0) {
        require(session.export != NULL);
        require(session.structured || !session.extended);
        require(session.structured || !session.block_status);
        require(!options.tls_required);
    }
    stream_close(stream);
    while (recv(fds[1], answers, sizeof(answers), 0) > 0)
        ;
    (void)close(fds[1]);
    return 0;
}
