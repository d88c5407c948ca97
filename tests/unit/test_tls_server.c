/* SPDX-License-Identifier: BSD-2-Clause */
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/tls.h"
#include "support/tls_pair.h"
#include "unit/test.h"

TEST("missing or broken files are told apart, and nothing is left behind")
{
    struct tls_server_options options = {0};
    struct tls_context *context = NULL;
    char path[PATH_MAX];
    FILE *file;

    CHECK(tls_server_new(&options, &context) == -EINVAL);
    options.psk_file = "/nonexistent";
    CHECK(tls_server_new(&options, &context) == -ENOENT);
    options.verify_peer = true;
    CHECK(tls_server_new(&options, &context) == -EINVAL);
    options = (struct tls_server_options){.certificates_dir = test_dir()};
    CHECK(tls_server_new(&options, &context) == -ENOENT);
    tls_client_make_files(test_dir());
    CHECK(tls_server_new(&options, &context) == 0);
    tls_free(context);
    (void)snprintf(path, sizeof(path), "%s/ca-cert.pem", test_dir());
    CHECK(unlink(path) == 0);
    CHECK(tls_server_new(&options, &context) == 0);
    tls_free(context);
    options.verify_peer = true;
    CHECK(tls_server_new(&options, &context) == -ENOENT);
    file = fopen(path, "w");
    NEED(file);
    (void)fclose(file);
    CHECK(tls_server_new(&options, &context) == -EINVAL);
    options.verify_peer = false;
    (void)snprintf(path, sizeof(path), "%s/server-key.pem", test_dir());
    CHECK(truncate(path, 20) == 0);
    CHECK(tls_server_new(&options, &context) == -EINVAL);
    tls_free(NULL);
}

/* Returns what a server says to a file of this mode. */
static int load_with_mode(const struct tls_server_options *options,
                          const char *path, mode_t mode)
{
    struct tls_context *context = NULL;
    int error =
        chmod(path, mode) == 0 ? tls_server_new(options, &context) : -errno;

    tls_free(context);
    return error;
}

TEST("keys that others can read or change are refused, those of a group not")
{
    char key[PATH_MAX], keys[PATH_MAX];
    struct tls_server_options by_certificate = {.certificates_dir = test_dir()};
    struct tls_server_options by_key = {.psk_file = keys};

    tls_client_make_files(test_dir());
    (void)snprintf(key, sizeof(key), "%s/server-key.pem", test_dir());
    (void)snprintf(keys, sizeof(keys), "%s/keys.psk", test_dir());
    CHECK(load_with_mode(&by_certificate, key, 0644) == -EACCES);
    CHECK(load_with_mode(&by_certificate, key, 0602) == -EACCES);
    CHECK(load_with_mode(&by_certificate, key, 0640) == 0);
    CHECK(load_with_mode(&by_key, keys, 0604) == -EACCES);
    CHECK(load_with_mode(&by_key, keys, 0642) == -EACCES);
    CHECK(load_with_mode(&by_key, keys, 0640) == 0);
}

TEST("with a pre-shared key, a stock client gets AES-128-GCM, not the slow "
     "cipher; with a certificate, AES-256-GCM")
{
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("aes"))
        SKIP("this processor has no AES");
#endif
    struct tls_context *context = tls_pair_context(test_dir(), false);
    struct tls_pair by_key = {.options = {.psk = true}};
    struct tls_pair by_certificate = {.options = {.dir = test_dir()}};
    struct stream *stream = tls_pair_shake_hands(context, &by_key);

    CHECK(stream && by_key.client);
    CHECK(strcmp(tls_client_cipher(by_key.client), "AES-128-GCM") == 0);
    stream_close(stream);
    tls_pair_hang_up(&by_key);
    stream = tls_pair_shake_hands(context, &by_certificate);
    CHECK(stream && by_certificate.client);
    CHECK(strcmp(tls_client_cipher(by_certificate.client), "AES-256-GCM") == 0);
    stream_close(stream);
    tls_pair_hang_up(&by_certificate);
    tls_free(context);
}

TEST("TLS 1.2 and 1.3 are spoken, older ones are not")
{
    static const char *const versions[] = {
        "NORMAL:-VERS-ALL:+VERS-TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.2",
        "NORMAL:-VERS-ALL:+VERS-TLS1.1:%COMPAT",
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:+ECDHE-PSK:+PSK"};
    struct tls_context *context = tls_pair_context(test_dir(), false);

    for (int i = 0; i < 4; i++) {
        struct tls_pair peer = {.options = {.dir = test_dir(),
                                            .psk = i == 3,
                                            .priority = versions[i]}};
        struct stream *stream = tls_pair_shake_hands(context, &peer);

        CHECK((stream != NULL) == (i != 2));
        CHECK((peer.client != NULL) == (i != 2));
        stream_close(stream);
        tls_pair_hang_up(&peer);
    }
    tls_free(context);
}

TEST("a handshake meets its deadline when the peer says nothing")
{
    struct tls_context *context = tls_pair_context(test_dir(), false);
    struct stream *stream, *before;
    int fds[2];

    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    NEED(stream_open(fds[0], &stream) == 0);
    before = stream;
    CHECK(tls_accept(context, &stream, clock_monotonic_ns() + 1000000) ==
          -ETIMEDOUT);
    CHECK(stream == before);
    stream_close(stream);
    (void)close(fds[1]);
    tls_free(context);
}

TEST("who has a connection goes on with what was loaded for it, given up since")
{
    struct tls_pair pair = {.options = {.dir = test_dir()}};
    struct tls_context *context, *held;
    struct stream *stream;
    char byte = 'a';

    context = tls_pair_context(test_dir(), false);
    NEED(context);
    held = tls_hold(context);
    CHECK(held == context && !tls_hold(NULL));
    stream = tls_pair_shake_hands(context, &pair);
    tls_free(context);
    NEED(stream);
    tls_client_update_key(pair.client);
    CHECK(tls_client_send(pair.client, &byte, 1) == 1);
    byte = 'b';
    CHECK(stream_receive(stream, &byte, 1, UINT64_MAX) == 1 && byte == 'a');
    tls_free(held);
    CHECK(tls_client_send(pair.client, &byte, 1) == 1);
    CHECK(stream_receive(stream, &byte, 1, UINT64_MAX) == 1);
    stream_close(stream);
    tls_pair_hang_up(&pair);
}
