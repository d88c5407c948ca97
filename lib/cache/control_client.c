/* SPDX-License-Identifier: BSD-2-Clause */
#include "cache/control_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/stream.h"
#include "cache/control_wire.h"

/* Until an owner that accepts connections must have answered hello. */
enum { HELLO_TIMEOUT_S = 30 };

struct control_client {
    struct stream *stream;
    struct control_wire wire;
    atomic_bool is_interrupted;
};

/*
 * Returns a descriptor that is connected to the directory's socket, whose own
 * path may be too long for an address.
 */
static int connect_to(const char *cachedir)
{
    AUTO_CLOSE int dirfd =
        file_open(AT_FDCWD, cachedir, O_RDONLY | O_DIRECTORY, 0);
    AUTO_CLOSE int fd = -1;
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (dirfd < 0) {
        log_error("%s: %s", cachedir, log_errno(dirfd));
        /* -ENOENT is for a socket that is not there. */
        return dirfd == -ENOENT ? -ENXIO : dirfd;
    }
    (void)snprintf(address.sun_path, sizeof(address.sun_path),
                   "/proc/self/fd/%d/control", dirfd);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        int error = -errno;

        if (error != -ENOENT && error != -ECONNREFUSED)
            log_error("%s/control: %s", cachedir, log_errno(error));
        return error;
    }
    return take_fd(&fd);
}

static int open_stream(const char *cachedir, struct control_client **ret_client)
{
    struct control_client *client;
    int fd = connect_to(cachedir);
    int error;

    if (fd < 0)
        return fd;
    client = calloc(1, sizeof(*client));
    if (!client) {
        (void)close(fd);
        return -ENOMEM;
    }
    error = stream_open(fd, &client->stream);
    if (error) {
        free(client);
        return error;
    }
    control_wire_init(&client->wire, client->stream);
    *ret_client = client;
    return 0;
}

/* What an error of the connection means for who asked. */
static int connection_error(const struct control_client *client, int error)
{
    if (atomic_load(&client->is_interrupted))
        return -ECANCELED;
    return error == -ECONNRESET ? -EPIPE : error;
}

static int ask_until(struct control_client *client,
                     const struct control_message *request,
                     struct control_message *ret_reply, uint64_t deadline_ns)
{
    int error = control_wire_send(&client->wire, request, deadline_ns);

    if (!error)
        error = control_wire_receive(&client->wire, ret_reply, deadline_ns);
    return error ? connection_error(client, error) : 0;
}

/* Read what the owner says of itself. */
static int read_hello(const struct control_message *reply,
                      struct control_owner *ret_owner)
{
    const char *name = control_message_get(reply, "device");
    struct control_owner owner = {.is_daemon = false};
    uint64_t version, chunk_size;

    if (!control_message_is(reply, "ok") || !name ||
        strlen(name) >= sizeof(owner.device_name) ||
        control_message_get_number(reply, "version", CONTROL_VERSION,
                                   CONTROL_VERSION, &version) != 0 ||
        control_message_get_number(reply, "size", 1, UINT64_MAX,
                                   &owner.device_size) != 0 ||
        control_message_get_number(reply, "chunksize", 1, UINT32_MAX,
                                   &chunk_size) != 0 ||
        control_message_get_number(reply, "pid", 1, INT32_MAX, &owner.pid) != 0)
        return -EPROTO;
    memcpy(owner.device_name, name, strlen(name) + 1);
    owner.chunk_size = (uint32_t)chunk_size;
    owner.is_daemon = control_message_has(reply, "daemon");
    *ret_owner = owner;
    return 0;
}

static int say_hello(struct control_client *client, const char *cachedir,
                     struct control_owner *ret_owner)
{
    AUTO_FREE struct control_message *message = malloc(2 * sizeof(*message));
    uint64_t deadline =
        clock_monotonic_ns() + (uint64_t)HELLO_TIMEOUT_S * 1000000000U;
    const char *text;
    int error;

    if (!message)
        return -ENOMEM;
    control_message_start(&message[0], "hello");
    control_message_add_number(&message[0], "version", CONTROL_VERSION);
    error = ask_until(client, &message[0], &message[1], deadline);
    if (error == -EPIPE) /* it has just ended: as if it did not listen */
        return -ECONNREFUSED;
    if (error) {
        log_error("%s/control: no answer: %s", cachedir, log_errno(error));
        return error;
    }
    error = read_hello(&message[1], ret_owner);
    if (error) {
        text = control_message_get(&message[1], "text");
        log_error("%s/control: who answers does not speak version %d of our "
                  "protocol: %s",
                  cachedir, CONTROL_VERSION,
                  text ? text : control_message_verb(&message[1]));
    }
    control_message_clear(&message[1]);
    return error;
}

int control_client_open(const char *cachedir,
                        struct control_client **ret_client,
                        struct control_owner *ret_owner)
{
    struct control_client *client;
    int error = open_stream(cachedir, &client);

    if (error)
        return error;
    error = say_hello(client, cachedir, ret_owner);
    if (error) {
        control_client_close(client);
        return error;
    }
    *ret_client = client;
    return 0;
}

int control_client_ask(struct control_client *client,
                       const struct control_message *request,
                       struct control_message *ret_reply)
{
    return ask_until(client, request, ret_reply, STREAM_FOREVER);
}

void control_client_interrupt(struct control_client *client)
{
    atomic_store(&client->is_interrupted, true);
    stream_shutdown(client->stream);
}

void control_client_close(struct control_client *client)
{
    if (!client)
        return;
    stream_close(client->stream);
    free(client);
}

int control_client_ask_to_yield(const char *cachedir, uint64_t deadline_ns)
{
    AUTO_FREE struct control_message *message = malloc(2 * sizeof(*message));
    struct control_client *client;
    uint64_t number;
    int error;

    if (!message)
        return -ENOMEM;
    error = open_stream(cachedir, &client);
    if (error)
        return error == -ENOENT || error == -ECONNREFUSED ? 0 : error;
    control_message_start(&message[0], "yield");
    error = ask_until(client, &message[0], &message[1], deadline_ns);
    if (error == -EPIPE) {
        error = 0;
    } else if (!error) {
        error = control_message_get_number(&message[1], "errno", 1, 4095,
                                           &number) == 0
                    ? -(int)number
                    : -EPROTO;
        control_message_clear(&message[1]);
    }
    control_client_close(client);
    return error;
}
