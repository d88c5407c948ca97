/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/net.h"
#include "nbd/nbd_server.h"

enum {
    ADDRESSES_MAX = 16, /* of one listen setting */
    SOCKET_MODE = 0660, /* of Unix sockets: who may connect */
};

/* ---- what is handed over ------------------------------------------------ */

/*
 * Take standard input as the one connection; from here on nothing else can
 * read from it or write to it by accident.
 */
static int take_standard_input(struct daemon_sockets *sockets)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int listens;
    socklen_t len = sizeof(listens);

    if (getsockopt(STDIN_FILENO, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) !=
            0 ||
        listens) {
        log_error("--single: standard input is not a connected socket");
        return -ENOTSOCK;
    }
    sockets->handed_over.connected = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    if (sockets->handed_over.connected < 0 || null < 0 ||
        dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
        return -errno;
    return close(null) == 0 ? 0 : -errno;
}

/* Wait for the one connection on the socket that was handed over. */
static int accept_one(struct daemon_sockets *sockets)
{
    int listening = sockets->handed_over.listening[0];
    int fd;

    do {
        struct pollfd wait_for = {.fd = listening, .events = POLLIN};

        (void)poll(&wait_for, 1, -1);
        fd = net_accept(listening);
    } while (fd == -EAGAIN);
    if (fd < 0)
        return fd;
    (void)close(listening);
    sockets->handed_over.listening_count = 0;
    sockets->handed_over.connected = fd;
    return 0;
}

int daemon_sockets_take(struct daemon_sockets *sockets,
                        const struct config *config, const char *config_path,
                        bool is_single)
{
    int error = fd_store_open(&sockets->handed_over);

    if (!error && is_single && sockets->handed_over.connected < 0)
        error = sockets->handed_over.listening_count == 1
                    ? accept_one(sockets)
                    : take_standard_input(sockets);
    if (error || sockets->handed_over.connected >= 0 ||
        sockets->handed_over.listening_count > 0)
        return error;
    if (config->listen.count == 0) {
        log_error("%s: nothing to listen on; set listen", config_path);
        return -EDESTADDRREQ;
    }
    return 0;
}

/* ---- listening ---------------------------------------------------------- */

static int listen_on_fd(struct daemon_sockets *sockets,
                        struct nbd_server *server, int fd)
{
    int error = nbd_server_listen(server, fd);

    sockets->listeners += error == 0;
    return error;
}

static int listen_on_path(struct daemon_sockets *sockets,
                          struct nbd_server *server, const char *path)
{
    int fd = net_listen_unix(path, SOCKET_MODE);
    struct stat st;

    if (fd < 0)
        return fd;
    if (stat(path, &st) == 0)
        sockets->paths[sockets->paths_count++] =
            (struct daemon_socket_path){path, st.st_dev, st.st_ino};
    return listen_on_fd(sockets, server, fd);
}

static int listen_on_address(struct daemon_sockets *sockets,
                             struct nbd_server *server, const char *address,
                             uint16_t port)
{
    int fds[ADDRESSES_MAX];
    int error = 0;
    int count = net_listen_tcp(address, port, fds, ADDRESSES_MAX);

    for (int i = 0; i < count; i++) {
        int this_error = listen_on_fd(sockets, server, fds[i]);

        error = error ? error : this_error;
    }
    return count < 0 ? count : error;
}

int daemon_sockets_listen(struct daemon_sockets *sockets,
                          const struct config *config,
                          struct nbd_server *server)
{
    const struct config_list *listen = &config->listen;
    int error = 0;

    for (size_t i = 0; !error && i < sockets->handed_over.listening_count; i++)
        error =
            listen_on_fd(sockets, server, sockets->handed_over.listening[i]);
    if (error || sockets->handed_over.listening_count > 0 ||
        sockets->handed_over.connected >= 0)
        return error;
    for (size_t i = 0; !error && i < listen->count; i++) {
        const char *item = listen->items[i];

        error = item[0] == '/' ? listen_on_path(sockets, server, item)
                               : listen_on_address(sockets, server, item,
                                                   (uint16_t)config->port);
        if (error)
            log_error("listen %s: %s%s", item, log_errno(error),
                      error == -EADDRINUSE ? ": is a server running there?"
                                           : "");
    }
    return error;
}

void daemon_sockets_remove(struct daemon_sockets *sockets)
{
    for (size_t i = 0; i < sockets->paths_count; i++) {
        const struct daemon_socket_path *path = &sockets->paths[i];
        struct stat st;

        /* Somebody may have put another one in its place. */
        if (stat(path->path, &st) == 0 && st.st_dev == path->device &&
            st.st_ino == path->inode && unlink(path->path) != 0)
            log_warning("%s: cannot be removed: %s", path->path,
                        log_errno(-errno));
    }
    sockets->paths_count = 0;
}
