/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The path of the control socket may be longer than a socket's address can
 * be: so it is reached through the descriptor of its directory, which also
 * makes sure that it is the directory whose lock is held.
 */
#include "cache/control_server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/net.h"
#include "base/stream.h"
#include "cache/control_wire.h"

static const char control_name[] = "control";

enum {
    BACKLOG = 128,
    CONNECTIONS_MAX = 256,
    STATUS_MODE = 0660,
    /* A peer that takes no answer, or asks nothing of the status socket. */
    SEND_TIMEOUT_S = 30,
    STATUS_IDLE_S = 30,
    RETRY_MS = 100, /* when there are no descriptors for a connection */
};

struct connection {
    struct control_server *server;
    struct connection *next; /* in open, or in ended */
    pthread_t thread;
    struct stream *stream;
    uint64_t holder;
    struct control_wire wire;
    struct control_message request, reply;
    bool has_asked; /* the handler knows of the holder */
    bool is_given;  /* GUARDED_BY(server->mutex): to the handler */
};

struct control_server {
    struct control_server_options options;
    _Atomic uint64_t device_size;
    char *status_path; /* NULL: it is the control socket */
    dev_t socket_device;
    ino_t socket_inode;
    int listening;
    int wake; /* eventfd: something has ended, or is to end */
    pthread_t thread;
    uint64_t last_holder;     /* the thread's own */
    struct mutex mutex;       /* a leaf */
    struct connection *open;  /* GUARDED_BY(mutex) */
    struct connection *ended; /* GUARDED_BY(mutex): to be joined */
    size_t connections;       /* GUARDED_BY(mutex): open and ended */
    bool is_stopping;         /* GUARDED_BY(mutex) */
};

/* ---- a connection ------------------------------------------------------- */

static uint64_t after_seconds(unsigned seconds)
{
    return clock_monotonic_ns() + (uint64_t)seconds * 1000000000U;
}

/* Whether who connected may ask for anything. */
static bool peer_is_allowed(const struct connection *connection)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(connection->stream->fd, SOL_SOCKET, SO_PEERCRED, &peer,
                   &len) != 0)
        return false;
    if (peer.uid == 0 || peer.uid == geteuid())
        return true;
    log_warning("%s: the control socket was opened by uid %u, pid %d, and "
                "closed",
                connection->server->options.device_name, (unsigned)peer.uid,
                (int)peer.pid);
    return false;
}

static void answer_hello(struct connection *connection)
{
    const struct control_server_options *options = &connection->server->options;
    struct control_message *reply = &connection->reply;
    uint64_t version;

    if (control_message_get_number(&connection->request, "version", 1,
                                   UINT64_MAX, &version) != 0 ||
        version != CONTROL_VERSION) {
        control_message_start_error(reply, -EPROTO,
                                    "this is version %d of the protocol",
                                    CONTROL_VERSION);
        return;
    }
    control_message_start(reply, "ok");
    control_message_add_number(reply, "version", CONTROL_VERSION);
    control_message_add(reply, "device", options->device_name);
    control_message_add_number(reply, "size",
                               atomic_load(&connection->server->device_size));
    control_message_add_number(reply, "chunksize", options->chunk_size);
    control_message_add_number(reply, "daemon", !options->handler.yield);
    control_message_add_number(reply, "pid", (uint64_t)getpid());
}

/* Give the connection away.  Returns whether that was possible. */
static bool answer_yield(struct connection *connection)
{
    const struct control_handler *handler =
        &connection->server->options.handler;
    int fd;

    if (!handler->yield) {
        control_message_start_error(&connection->reply, -EBUSY, "%s",
                                    "a daemon has this cache directory");
        return false;
    }
    fd = fcntl(connection->stream->fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) {
        control_message_start_error(&connection->reply, -errno, "%s",
                                    "the connection cannot be kept");
        return false;
    }
    /* Its end would tell the peer that the lock is free. */
    mutex_lock(&connection->server->mutex);
    connection->is_given = true;
    mutex_unlock(&connection->server->mutex);
    handler->yield(handler->yield_context, fd);
    return true;
}

static void answer_by_handler(struct connection *connection)
{
    const struct control_handler *handler =
        &connection->server->options.handler;
    int error;

    connection->has_asked = true;
    error = handler->handle(handler->context, &connection->request,
                            connection->holder, &connection->reply);
    if (error)
        control_message_start_error(&connection->reply, error, "%s",
                                    log_errno(error));
}

/* Returns whether the connection goes on with a reply. */
static bool answer(struct connection *connection)
{
    const struct control_message *request = &connection->request;
    bool is_status = connection->server->status_path != NULL;

    if (is_status && !control_message_is(request, "status") &&
        !control_message_is(request, "map"))
        control_message_start_error(&connection->reply, -EACCES, "%s",
                                    "only \"status\" and \"map\" are answered "
                                    "here");
    else if (control_message_is(request, "hello"))
        answer_hello(connection);
    else if (control_message_is(request, "yield"))
        return !answer_yield(connection);
    else
        answer_by_handler(connection);
    return true;
}

static void log_request(const struct connection *connection)
{
    log_debug("%s: control: %s",
              connection->server->options.device_name
                  ? connection->server->options.device_name
                  : connection->server->status_path,
              control_message_verb(&connection->request));
}

static int send_reply(struct connection *connection)
{
    int error = control_wire_send(&connection->wire, &connection->reply,
                                  after_seconds(SEND_TIMEOUT_S));

    control_message_clear(&connection->reply);
    if (error != -E2BIG)
        return error;
    control_message_start_error(&connection->reply, -E2BIG, "%s",
                                "the answer is too long");
    return control_wire_send(&connection->wire, &connection->reply,
                             after_seconds(SEND_TIMEOUT_S));
}

/* Answer requests until the peer, or the server, ends it. */
static void serve(struct connection *connection)
{
    bool is_status = connection->server->status_path != NULL;
    int error = 0;

    if (!is_status && !peer_is_allowed(connection)) {
        control_message_start_error(&connection->reply, -EACCES, "%s",
                                    "only root and the owner may ask");
        (void)send_reply(connection);
        return;
    }
    while (!error) {
        bool goes_on;

        error = control_wire_receive(&connection->wire, &connection->request,
                                     is_status ? after_seconds(STATUS_IDLE_S)
                                               : STREAM_FOREVER);
        if (error == -EBADMSG) {
            control_message_start_error(&connection->reply, error, "%s",
                                        "this is no request");
            (void)send_reply(connection);
        }
        if (error)
            return;
        log_request(connection);
        goes_on = answer(connection);
        control_message_clear(&connection->request);
        if (!goes_on)
            return;
        error = send_reply(connection);
    }
}

/* Move it from those that are open to those that are to be joined. */
static void end_connection(struct connection *connection)
{
    struct control_server *server = connection->server;
    struct connection **link;

    mutex_lock(&server->mutex);
    for (link = &server->open; *link != connection;)
        link = &(*link)->next;
    *link = connection->next;
    connection->next = server->ended;
    server->ended = connection;
    mutex_unlock(&server->mutex);
    (void)eventfd_write(server->wake, 1);
}

static void *run_connection(void *context)
{
    struct connection *connection = context;
    const struct control_handler *handler =
        &connection->server->options.handler;

    serve(connection);
    if (connection->has_asked && handler->gone)
        handler->gone(handler->context, connection->holder);
    end_connection(connection);
    return NULL;
}

/* ---- all connections ---------------------------------------------------- */

static void free_connection(struct connection *connection)
{
    stream_close(connection->stream);
    free(connection);
}

/* Join the threads that have ended. */
static void join_ended(struct control_server *server)
{
    struct connection *ended;

    mutex_lock(&server->mutex);
    ended = take_pointer(&server->ended);
    mutex_unlock(&server->mutex);
    while (ended) {
        struct connection *connection = ended;

        ended = connection->next;
        (void)pthread_join(connection->thread, NULL);
        free_connection(connection);
        mutex_lock(&server->mutex);
        server->connections--;
        mutex_unlock(&server->mutex);
    }
}

/* Start a thread for the connection, unless we are stopping.  Takes fd. */
static int add_connection(struct control_server *server, int fd)
{
    struct connection *connection = calloc(1, sizeof(*connection));
    int error = -ENOMEM;

    if (!connection) {
        (void)close(fd);
        return error;
    }
    connection->server = server;
    connection->holder = ++server->last_holder;
    if (stream_open(fd, &connection->stream) != 0) {
        free(connection);
        return error;
    }
    control_wire_init(&connection->wire, connection->stream);
    mutex_lock(&server->mutex);
    error = server->is_stopping ? -ESHUTDOWN
            : server->connections == CONNECTIONS_MAX
                ? -EMFILE
                : -pthread_create(&connection->thread, NULL, run_connection,
                                  connection);
    if (!error) {
        connection->next = server->open;
        server->open = connection;
        server->connections++;
    }
    mutex_unlock(&server->mutex);
    if (error)
        free_connection(connection);
    return error;
}

static bool is_stopping(struct control_server *server)
{
    bool result;

    mutex_lock(&server->mutex);
    result = server->is_stopping;
    mutex_unlock(&server->mutex);
    return result;
}

static void accept_connection(struct control_server *server)
{
    static struct log_limit limit;
    uint64_t left_out;
    int fd = net_accept(server->listening);
    int error = fd;

    if (fd >= 0)
        error = add_connection(server, fd);
    if (error >= 0 || error == -EAGAIN || error == -ESHUTDOWN)
        return;
    if (log_limit_allows(&limit, &left_out))
        log_warning("%s: a connection was not taken: %s",
                    server->status_path ? server->status_path : control_name,
                    log_errno(error));
    if (fd < 0) {
        struct pollfd wake = {.fd = server->wake, .events = POLLIN};

        (void)poll(&wake, 1, RETRY_MS);
    }
}

static void *run_server(void *context)
{
    struct control_server *server = context;

    while (!is_stopping(server)) {
        struct pollfd polled[] = {
            {.fd = server->listening, .events = POLLIN},
            {.fd = server->wake, .events = POLLIN},
        };

        if (stream_wait_fds(polled, 2, STREAM_FOREVER) != 0)
            continue;
        if (polled[1].revents) {
            eventfd_t count;

            (void)eventfd_read(server->wake, &count);
            join_ended(server);
        }
        if (polled[0].revents && !is_stopping(server))
            accept_connection(server);
    }
    return NULL;
}

/* ---- start and stop ----------------------------------------------------- */

/* Remove what a dead owner left: we hold the lock. */
static int remove_left_socket(int dirfd)
{
    struct stat info;

    if (fstatat(dirfd, control_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(info.st_mode))
        return -EEXIST;
    return file_unlink(dirfd, control_name);
}

/* Returns the listening descriptor of `control` in the directory. */
static int listen_in(int dirfd)
{
    AUTO_CLOSE int fd = -1;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int error = remove_left_socket(dirfd);

    if (error)
        return error;
    (void)snprintf(address.sun_path, sizeof(address.sun_path),
                   "/proc/self/fd/%d/%s", dirfd, control_name);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        return -errno;
    /* Nobody can connect before listen, so the mode holds from the start. */
    if (fchmodat(dirfd, control_name, 0600, 0) != 0 ||
        listen(fd, BACKLOG) != 0) {
        error = -errno;
        (void)file_unlink(dirfd, control_name);
        return error;
    }
    return take_fd(&fd);
}

static void remove_socket(const struct control_server *server)
{
    const char *path = server->status_path;
    struct stat info;
    int error = 0;

    if (server->listening < 0)
        return;
    if (!path)
        error = file_unlink(server->options.dirfd, control_name);
    else if (stat(path, &info) == 0 && info.st_dev == server->socket_device &&
             info.st_ino == server->socket_inode)
        /* Else somebody has put another one in its place. */
        error = file_unlink(AT_FDCWD, path);
    if (error)
        log_warning("%s: the socket %s cannot be removed: %s",
                    path ? "status" : server->options.device_name,
                    path ? path : control_name, log_errno(error));
}

/* Undo what start() did, but for its thread. */
static void free_server(struct control_server *server)
{
    if (server->listening >= 0)
        (void)close(server->listening);
    if (server->wake >= 0)
        (void)close(server->wake);
    mutex_done(&server->mutex);
    free(server->status_path);
    free(server);
}

/* Start what listens already, or the error of that. */
static int start(struct control_server *server,
                 struct control_server **ret_server)
{
    int error = server->listening < 0 ? server->listening : 0;

    server->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!error && server->wake < 0)
        error = -errno;
    mutex_init(&server->mutex);
    if (!error)
        error = -pthread_create(&server->thread, NULL, run_server, server);
    if (error) {
        remove_socket(server);
        free_server(server);
        return error;
    }
    *ret_server = server;
    return 0;
}

int control_server_start(const struct control_server_options *options,
                         struct control_server **ret_server)
{
    struct control_server *server = calloc(1, sizeof(*server));

    if (!server)
        return -ENOMEM;
    server->options = *options;
    atomic_store(&server->device_size, options->device_size);
    server->listening = listen_in(options->dirfd);
    return start(server, ret_server);
}

int control_server_start_status(const char *path,
                                const struct control_handler *handler,
                                struct control_server **ret_server)
{
    struct control_server *server = calloc(1, sizeof(*server));
    struct stat info;

    if (!server)
        return -ENOMEM;
    server->options.handler = *handler;
    server->options.dirfd = -1;
    server->status_path = strdup(path);
    if (!server->status_path) {
        free(server);
        return -ENOMEM;
    }
    server->listening = net_listen_unix(path, STATUS_MODE); /* logs */
    if (server->listening >= 0 && stat(path, &info) == 0) {
        server->socket_device = info.st_dev;
        server->socket_inode = info.st_ino;
    }
    return start(server, ret_server);
}

/* Whether some are open still, or not yet joined. */
static bool has_connections(struct control_server *server)
{
    bool result;

    mutex_lock(&server->mutex);
    result = server->connections > 0;
    mutex_unlock(&server->mutex);
    return result;
}

void control_server_set_size(struct control_server *server,
                             uint64_t device_size)
{
    atomic_store(&server->device_size, device_size);
}

static void stop(struct control_server *server, bool stays)
{
    if (!server)
        return;
    if (!stays)
        remove_socket(server);
    mutex_lock(&server->mutex);
    server->is_stopping = true;
    for (struct connection *c = server->open; c; c = c->next) {
        if (!c->is_given)
            stream_shutdown(c->stream);
    }
    mutex_unlock(&server->mutex);
    if (stays) /* who connects from now on is refused, not left waiting */
        (void)shutdown(server->listening, SHUT_RDWR);
    (void)eventfd_write(server->wake, 1);
    (void)pthread_join(server->thread, NULL);
    join_ended(server);
    while (has_connections(server)) {
        struct pollfd wake = {.fd = server->wake, .events = POLLIN};
        eventfd_t count;

        (void)stream_wait_fds(&wake, 1, STREAM_FOREVER);
        (void)eventfd_read(server->wake, &count);
        join_ended(server);
    }
    free_server(server);
}

void control_server_stop(struct control_server *server)
{
    stop(server, false);
}

void control_server_leave(struct control_server *server)
{
    stop(server, true);
}
