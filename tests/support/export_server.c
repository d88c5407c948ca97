/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/export_server.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "nbd/nbd_protocol.h"

enum { CONNECTIONS_MAX = 64, DATA_MAX = 8192 };

struct export_server {
    char path[108];
    int listening;
    pthread_t acceptor;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct export_server_script script;
    unsigned questions;
    size_t chosen;
    size_t count; /* of threads that were started */
    struct connection {
        struct export_server *server;
        pthread_t thread;
        int fd;
        bool is_closed;
    } connections[CONNECTIONS_MAX];
};

static void require(bool ok)
{
    if (!ok)
        abort();
}

struct export_server_script export_server_good(uint64_t size)
{
    return (struct export_server_script){
        .size = size,
        .flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
                 NBD_FLAG_SEND_TRIM | NBD_FLAG_CAN_MULTI_CONN,
        .block_size_min = 1,
        .incarnation = "0123456789abcdef-1",
    };
}

/* ---- one connection ----------------------------------------------------- */

static bool receive(int fd, void *data, size_t len)
{
    return len == 0 || recv(fd, data, len, MSG_WAITALL) == (ssize_t)len;
}

static bool send_all(int fd, const void *data, size_t len)
{
    return len == 0 || send(fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool answer(int fd, uint32_t option, uint32_t type, const void *data,
                   size_t len)
{
    uint8_t head[NBD_OPTION_REPLY_SIZE];

    put_be64(head, NBD_OPTION_REPLY_MAGIC);
    put_be32(head + 8, option);
    put_be32(head + 12, type);
    put_be32(head + 16, (uint32_t)len);
    return send_all(fd, head, sizeof(head)) && send_all(fd, data, len);
}

static struct export_server_script script_of(struct export_server *server)
{
    struct export_server_script script;

    (void)pthread_mutex_lock(&server->mutex);
    script = server->script;
    (void)pthread_mutex_unlock(&server->mutex);
    return script;
}

/* The incarnation that is to be told now. */
static const char *next_incarnation(struct export_server *server)
{
    const char *incarnation;

    (void)pthread_mutex_lock(&server->mutex);
    server->questions++;
    incarnation = server->script.next_at > 0 &&
                          server->questions >= server->script.next_at
                      ? server->script.next_incarnation
                      : server->script.incarnation;
    (void)pthread_mutex_unlock(&server->mutex);
    return incarnation;
}

static bool answer_contexts(struct connection *connection)
{
    const char *incarnation = next_incarnation(connection->server);
    char data[256] = {0};
    int len;

    if (!incarnation)
        return answer(connection->fd, NBD_OPT_LIST_META_CONTEXT,
                      NBD_REP_ERR_UNSUP, NULL, 0);
    len = snprintf(data + 4, sizeof(data) - 4, "x-s3blkdev:incarnation/%s",
                   incarnation);
    return answer(connection->fd, NBD_OPT_LIST_META_CONTEXT,
                  NBD_REP_META_CONTEXT, data, 4 + (size_t)len) &&
           answer(connection->fd, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK, NULL,
                  0);
}

static bool answer_go(struct connection *connection)
{
    struct export_server_script script = script_of(connection->server);
    uint8_t data[14] = {0};

    if (script.refusal)
        return answer(connection->fd, NBD_OPT_GO, script.refusal, "no", 2);
    put_be16(data, NBD_INFO_EXPORT);
    put_be64(data + 2, script.size);
    put_be16(data + 10, script.flags);
    if (!answer(connection->fd, NBD_OPT_GO, NBD_REP_INFO, data, 12))
        return false;
    put_be16(data, NBD_INFO_BLOCK_SIZE);
    put_be32(data + 2, script.block_size_min);
    put_be32(data + 6, 4096);
    put_be32(data + 10, 1 << 25);
    if (script.block_size_min &&
        !answer(connection->fd, NBD_OPT_GO, NBD_REP_INFO, data, 14))
        return false;
    return answer(connection->fd, NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
}

/* Shake hands; true when transmission follows. */
static bool shake_hands(struct connection *connection)
{
    uint8_t greeting[NBD_GREETING_SIZE], head[NBD_OPTION_SIZE], data[DATA_MAX];
    int fd = connection->fd;

    put_be64(greeting, NBD_MAGIC);
    put_be64(greeting + 8, NBD_OPTION_MAGIC);
    put_be16(greeting + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    if (!send_all(fd, greeting, sizeof(greeting)) ||
        !receive(fd, data, NBD_CLIENT_FLAGS_SIZE))
        return false;
    while (receive(fd, head, sizeof(head))) {
        uint32_t option = get_be32(head + 8), len = get_be32(head + 12);
        bool goes_on;

        if (len > sizeof(data) || !receive(fd, data, len))
            return false;
        if (option == NBD_OPT_STRUCTURED_REPLY) {
            goes_on = answer(fd, option, NBD_REP_ACK, NULL, 0);
        } else if (option == NBD_OPT_LIST_META_CONTEXT) {
            goes_on = answer_contexts(connection);
        } else if (option == NBD_OPT_GO) {
            if (!answer_go(connection))
                return false;
            if (script_of(connection->server).refusal == 0)
                return true;
            goes_on = true;
        } else {
            (void)answer(fd, option, NBD_REP_ACK, NULL, 0);
            goes_on = false;
        }
        if (!goes_on)
            return false;
    }
    return false;
}

static void count_chosen(struct export_server *server, bool more)
{
    (void)pthread_mutex_lock(&server->mutex);
    server->chosen = more ? server->chosen + 1 : server->chosen - 1;
    (void)pthread_cond_broadcast(&server->changed);
    (void)pthread_mutex_unlock(&server->mutex);
}

static void *run_connection(void *argument)
{
    struct connection *connection = argument;
    struct export_server *server = connection->server;

    if (shake_hands(connection)) {
        char data[DATA_MAX];

        count_chosen(server, true);
        while (recv(connection->fd, data, sizeof(data), 0) > 0)
            continue;
        count_chosen(server, false);
    }
    (void)pthread_mutex_lock(&server->mutex);
    (void)close(connection->fd);
    connection->is_closed = true;
    (void)pthread_mutex_unlock(&server->mutex);
    return NULL;
}

/* ---- the server --------------------------------------------------------- */

static void *run_acceptor(void *argument)
{
    struct export_server *server = argument;

    for (;;) {
        struct connection *connection = &server->connections[server->count];
        int fd = accept(server->listening, NULL, NULL);

        if (fd < 0)
            return NULL;
        require(server->count < CONNECTIONS_MAX);
        (void)pthread_mutex_lock(&server->mutex);
        *connection = (struct connection){.server = server, .fd = fd};
        require(pthread_create(&connection->thread, NULL, run_connection,
                               connection) == 0);
        server->count++;
        (void)pthread_mutex_unlock(&server->mutex);
    }
}

struct export_server *export_server_start(const char *path,
                                          struct export_server_script script)
{
    struct export_server *server = calloc(1, sizeof(*server));
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    require(server && strlen(path) < sizeof(address.sun_path));
    (void)snprintf(server->path, sizeof(server->path), "%s", path);
    memcpy(address.sun_path, path, strlen(path));
    server->script = script;
    require(pthread_mutex_init(&server->mutex, NULL) == 0 &&
            pthread_cond_init(&server->changed, NULL) == 0);
    server->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    require(server->listening >= 0);
    require(bind(server->listening, (struct sockaddr *)&address,
                 sizeof(address)) == 0 &&
            listen(server->listening, CONNECTIONS_MAX) == 0);
    require(pthread_create(&server->acceptor, NULL, run_acceptor, server) == 0);
    return server;
}

void export_server_change(struct export_server *server,
                          struct export_server_script script)
{
    (void)pthread_mutex_lock(&server->mutex);
    server->script = script;
    server->questions = 0;
    (void)pthread_mutex_unlock(&server->mutex);
}

void export_server_kill(struct export_server *server)
{
    (void)unlink(server->path);
    (void)shutdown(server->listening, SHUT_RDWR);
    (void)pthread_join(server->acceptor, NULL);
    (void)close(server->listening);
    (void)pthread_mutex_lock(&server->mutex);
    for (size_t i = 0; i < server->count; i++) {
        if (!server->connections[i].is_closed)
            (void)shutdown(server->connections[i].fd, SHUT_RDWR);
    }
    (void)pthread_mutex_unlock(&server->mutex);
    for (size_t i = 0; i < server->count; i++)
        (void)pthread_join(server->connections[i].thread, NULL);
    (void)pthread_cond_destroy(&server->changed);
    (void)pthread_mutex_destroy(&server->mutex);
    free(server);
}

size_t export_server_chosen(struct export_server *server)
{
    size_t chosen;

    (void)pthread_mutex_lock(&server->mutex);
    chosen = server->chosen;
    (void)pthread_mutex_unlock(&server->mutex);
    return chosen;
}

void export_server_wait_chosen(struct export_server *server, size_t count)
{
    (void)pthread_mutex_lock(&server->mutex);
    while (server->chosen != count)
        (void)pthread_cond_wait(&server->changed, &server->mutex);
    (void)pthread_mutex_unlock(&server->mutex);
}
