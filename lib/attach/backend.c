/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A connection that is for the kernel cannot ask for the incarnation: that
 * needs structured replies, which the kernel does not understand.  Others ask,
 * one before and one after.  Incarnations only grow, so that all between two
 * equal answers is of that one.
 */
#include "attach/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/connect.h"
#include "base/human.h"
#include "base/log.h"
#include "base/net.h"
#include "base/resolve.h"
#include "nbd/nbd_protocol.h"

/* ---- connect ------------------------------------------------------------ */

/* How long connect(2) and send(2) may block; {0}: for ever. */
static int set_send_timeout(int fd, struct timeval timeout)
{
    return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) <
                   0
               ? -errno
               : 0;
}

/* Connect to a Unix socket; that waits if many others do. */
static int connect_unix(const char *path, uint64_t deadline_ns)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint64_t now_ns = clock_monotonic_ns();
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint64_t left_ms;
    struct timeval left;
    int error;

    if (fd < 0)
        return -errno;
    if (now_ns >= deadline_ns)
        return -ETIMEDOUT;
    left_ms = (deadline_ns - now_ns) / 1000000 + 1;
    left = (struct timeval){(time_t)(left_ms / 1000),
                            (suseconds_t)(left_ms % 1000 * 1000)};
    memcpy(address.sun_path, path, strlen(path) + 1);
    error = set_send_timeout(fd, left);
    if (error == 0 &&
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        error = errno == EAGAIN ? -ETIMEDOUT : -errno;
    /* The kernel, which has it next, must not run into ours. */
    if (error == 0)
        error = set_send_timeout(fd, (struct timeval){0});
    return error ? error : take_fd(&fd);
}

static int connect_host(const struct target *target, uint64_t deadline_ns,
                        struct net_failure *ret_failure)
{
    struct net_address addresses[RESOLVER_ADDRESSES_MAX];
    struct resolver *resolver;
    int count = resolver_new(UINT64_MAX, &resolver);

    if (count < 0) {
        net_failure_set(ret_failure, count, "%s", log_errno(count));
        return count;
    }
    count =
        resolver_addresses(resolver, target->server, target->port, addresses,
                           RESOLVER_ADDRESSES_MAX, deadline_ns, ret_failure);
    resolver_free(resolver);
    if (count <= 0)
        return count;
    return connect_any(addresses, (size_t)count, deadline_ns, -1, NULL,
                       ret_failure);
}

static int connect_target(const struct target *target, uint64_t deadline_ns,
                          struct net_failure *ret_failure)
{
    int fd;

    if (!target_is_unix(target))
        return connect_host(target, deadline_ns, ret_failure);
    fd = connect_unix(target->server, deadline_ns);
    if (fd < 0)
        net_failure_set(ret_failure, fd, "%s: %s", target->server,
                        fd == -ECONNREFUSED ? "nobody listens there"
                                            : log_errno(fd));
    else
        net_prepare(fd);
    return fd;
}

/* Connect; the stream shares the socket with fd, which stays the caller's. */
static int connect_stream(const struct target *target, uint64_t deadline_ns,
                          int *ret_fd, struct stream **ret_stream,
                          struct net_failure *ret_failure)
{
    AUTO_CLOSE int fd = connect_target(target, deadline_ns, ret_failure);
    int copy, error;

    if (fd < 0)
        return fd;
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    error = copy < 0 ? -errno : stream_open(copy, ret_stream);
    if (error)
        net_failure_set(ret_failure, error, "%s", log_errno(error));
    else
        *ret_fd = take_fd(&fd);
    return error;
}

/* ---- ask and choose ----------------------------------------------------- */

/* Put the server's name in front of what went wrong there. */
static int name_server(const struct target *target, int error,
                       struct net_failure *failure)
{
    char server[TARGET_SERVER_SIZE + 16];
    struct net_failure inner = *failure;

    if (error)
        net_failure_set(failure, error, "%s, export %s: %s",
                        target_server_name(target, server), target->export_name,
                        inner.text);
    return error;
}

static int ask_incarnation(const struct target *target, uint64_t deadline_ns,
                           char incarnation[CLIENT_INCARNATION_SIZE],
                           struct net_failure *ret_failure)
{
    AUTO_CLOSE int fd = -1;
    struct stream *stream = NULL;
    int error = connect_stream(target, deadline_ns, &fd, &stream, ret_failure);

    if (error == 0)
        error = client_handshake_ask(stream, target->export_name, deadline_ns,
                                     incarnation, ret_failure);
    stream_close(stream);
    return name_server(target, error, ret_failure);
}

static int open_one(const struct target *target, uint64_t deadline_ns,
                    int *ret_fd, struct client_export *ret_export,
                    struct net_failure *ret_failure)
{
    AUTO_CLOSE int fd = -1;
    struct stream *stream = NULL;
    int error = connect_stream(target, deadline_ns, &fd, &stream, ret_failure);

    if (error == 0)
        error = client_handshake_go(stream, target->export_name, deadline_ns,
                                    ret_export, ret_failure);
    stream_close(stream);
    if (error == 0)
        *ret_fd = take_fd(&fd);
    return name_server(target, error, ret_failure);
}

static void close_all(const int fds[], uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        (void)close(fds[i]);
}

static bool exports_are_equal(const struct client_export *a,
                              const struct client_export *b)
{
    return a->size == b->size && a->flags == b->flags &&
           a->block_size_min == b->block_size_min;
}

static int replaced(struct net_failure *ret_failure)
{
    net_failure_set(ret_failure, -EAGAIN,
                    "the export is being changed at this moment");
    return -EAGAIN;
}

/* Open connections; *ret_opened tells how many, also after an error. */
static int open_all(const struct target *target, int fds[], uint32_t count,
                    uint64_t deadline_ns, uint32_t *ret_opened,
                    struct client_export *ret_export,
                    struct net_failure *ret_failure)
{
    for (uint32_t i = 0; i < count; i++) {
        struct client_export one;
        int error = open_one(target, deadline_ns, &fds[i], &one, ret_failure);

        if (error)
            return error;
        *ret_opened = i + 1;
        if (i == 0)
            *ret_export = one;
        else if (!exports_are_equal(ret_export, &one))
            return replaced(ret_failure);
    }
    return 0;
}

static void set_name(const struct target *target, const char *incarnation,
                     char name[BACKEND_NAME_SIZE])
{
    name[0] = '\0';
    if (incarnation[0] != '\0')
        (void)snprintf(name, BACKEND_NAME_SIZE, "%s@%s", target->export_name,
                       incarnation);
}

int backend_open(const struct target *target, int fds[], uint32_t count,
                 uint64_t deadline_ns, struct backend *ret_backend,
                 struct net_failure *ret_failure)
{
    char before[CLIENT_INCARNATION_SIZE], after[CLIENT_INCARNATION_SIZE];
    struct backend backend = {0};
    uint32_t opened = 0;
    int error = ask_incarnation(target, deadline_ns, before, ret_failure);

    if (error == 0)
        error = open_all(target, fds, count, deadline_ns, &opened,
                         &backend.export_info, ret_failure);
    if (error == 0 && before[0] != '\0') {
        error = ask_incarnation(target, deadline_ns, after, ret_failure);
        if (error == 0 && strcmp(before, after) != 0)
            error = name_server(target, replaced(ret_failure), ret_failure);
    }
    if (error == 0)
        set_name(target, before, backend.name);
    if (error)
        close_all(fds, opened);
    else
        *ret_backend = backend;
    return error;
}

int backend_look(const struct target *target, uint64_t deadline_ns,
                 char ret_name[BACKEND_NAME_SIZE],
                 struct net_failure *ret_failure)
{
    char incarnation[CLIENT_INCARNATION_SIZE];
    int error = ask_incarnation(target, deadline_ns, incarnation, ret_failure);

    if (error == 0)
        set_name(target, incarnation, ret_name);
    return error;
}

/* ---- the same, and no worse --------------------------------------------- */

bool backend_is_of_export(const char *name, const char *export_name)
{
    const char *at = strrchr(name, '@');
    size_t len = strlen(export_name);

    return at && (size_t)(at - name) == len &&
           memcmp(name, export_name, len) == 0;
}

int backend_check(const struct backend *backend,
                  const struct block_device *device,
                  struct net_failure *ret_failure)
{
    const uint16_t flags = backend->export_info.flags;
    const char *missing = NULL;
    char now[HUMAN_TEXT], then[HUMAN_TEXT];

    if (strcmp(backend->name, device->backend) != 0) {
        net_failure_set(ret_failure, -ESTALE,
                        "it was attached to %s, and the server has %s now: "
                        "what it had answered may be lost, or was replaced",
                        device->backend[0] ? device->backend
                                           : "nobody knows "
                                             "what",
                        backend->name[0] ? backend->name
                                         : "something without a name");
        return -ESTALE;
    }
    if (backend->export_info.size < device->size) {
        net_failure_set(ret_failure, -ESTALE,
                        "the export has %s, and the device %s",
                        human_size(backend->export_info.size, now),
                        human_size(device->size, then));
        return -ESTALE;
    }
    if (device->flushes && (flags & NBD_FLAG_SEND_FLUSH) == 0)
        missing = "FLUSH";
    /* The kernel will send no FLUSH for as long as the device is attached. */
    else if (!device->flushes && !device->is_read_only &&
             (flags & NBD_FLAG_SEND_FLUSH) != 0)
        missing = "writethrough";
    else if (device->fua && (flags & NBD_FLAG_SEND_FUA) == 0)
        missing = "FUA";
    else if (device->trims && (flags & NBD_FLAG_SEND_TRIM) == 0)
        missing = "TRIM";
    else if (!device->is_read_only && (flags & NBD_FLAG_READ_ONLY) != 0)
        missing = "writing";
    if (!missing)
        return 0;
    net_failure_set(ret_failure, -ESTALE,
                    "the server no longer offers %s, which the device uses",
                    missing);
    return -ESTALE;
}
