/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/tls_pair.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct tls_context *tls_pair_context(const char *dir, bool verify_peer)
{
    char keys_path[PATH_MAX];
    const struct tls_server_options options = {
        .certificates_dir = dir,
        .psk_file = keys_path,
        .verify_peer = verify_peer,
    };
    struct tls_context *context = NULL;

    tls_client_make_files(dir);
    (void)snprintf(keys_path, sizeof(keys_path), "%s/keys.psk", dir);
    if (tls_server_new(&options, &context) < 0)
        abort();
    return context;
}

static void *start_client(void *argument)
{
    struct tls_pair *pair = argument;

    pair->client = tls_client_start(&pair->options, pair->fd);
    return NULL;
}

struct stream *tls_pair_shake_hands(struct tls_context *context,
                                    struct tls_pair *pair)
{
    struct stream *stream;
    pthread_t thread;
    int fds[2], error;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
        stream_open(fds[0], &stream) < 0)
        abort();
    pair->fd = fds[1];
    if (pthread_create(&thread, NULL, start_client, pair) != 0)
        abort();
    error = tls_accept(context, &stream, STREAM_FOREVER);
    if (error < 0) {
        stream_close(stream);
        stream = NULL;
    }
    (void)pthread_join(thread, NULL);
    return stream;
}

void tls_pair_hang_up(struct tls_pair *pair)
{
    tls_client_free(pair->client);
    pair->client = NULL;
    (void)close(pair->fd);
}
