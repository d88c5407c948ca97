/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/net.h"

#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/log.h"

/* Connections that wait to be accepted; the kernel may allow fewer. */
enum { BACKLOG = 128 };

/* To take a reply of 256 KiB at once; the kernel may allow less. */
enum { UNIX_SEND_BUFFER = 1 << 20 };

/*
 * Probes of an idle connection: a peer that vanished without a word is found
 * after 60 + 4 * 15 seconds.
 */
enum { KEEPALIVE_IDLE_S = 60, KEEPALIVE_INTERVAL_S = 15, KEEPALIVE_COUNT = 4 };

static int listen_unix_error(const char *path, const char *what, int error)
{
    log_error("%s: %s: %s", path, what, log_errno(error));
    return error;
}

/* Remove a socket at path that nobody listens on; -EADDRINUSE otherwise. */
static int remove_stale_socket(const char *path,
                               const struct sockaddr_un *address)
{
    AUTO_CLOSE int fd = -1;
    struct stat info;

    if (lstat(path, &info) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(info.st_mode))
        return -EADDRINUSE;
    /* Not blocking: a live server whose backlog is full must not stop us. */
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
        errno != ECONNREFUSED)
        return -EADDRINUSE;
    log_info("%s: replacing the socket of a process that is gone", path);
    return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

int net_listen_unix(const char *path, mode_t mode)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    AUTO_CLOSE int fd = -1;
    size_t len = strlen(path);
    int error;

    if (len == 0 || len >= sizeof(address.sun_path))
        return listen_unix_error(path, "socket path", -ENAMETOOLONG);
    memcpy(address.sun_path, path, len);
    error = remove_stale_socket(path, &address);
    if (error < 0)
        return listen_unix_error(path, "cannot take this socket path", error);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return listen_unix_error(path, "socket", -errno);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return listen_unix_error(path, "bind", -errno);
    /* Nobody can connect before listen, so the mode holds from the start. */
    if (chmod(path, mode) < 0 || listen(fd, BACKLOG) < 0) {
        error = -errno;
        (void)unlink(path);
        return listen_unix_error(path, "listen", error);
    }
    return take_fd(&fd);
}

static int listen_at(const struct addrinfo *info)
{
    AUTO_CLOSE int fd = socket(
        info->ai_family, info->ai_socktype | SOCK_CLOEXEC, info->ai_protocol);
    const int yes = 1;

    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0)
        return -errno;
    /* IPv4 has a socket of its own: otherwise the second bind would fail. */
    if (info->ai_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes)) < 0)
        return -errno;
    if (bind(fd, info->ai_addr, info->ai_addrlen) < 0 ||
        listen(fd, BACKLOG) < 0)
        return -errno;
    return take_fd(&fd);
}

static int resolve_error(const char *address, int status)
{
    int error = status == EAI_SYSTEM   ? -errno
                : status == EAI_MEMORY ? -ENOMEM
                                       : -EADDRNOTAVAIL;

    log_error("%s: cannot find this address: %s", address ? address : "*",
              status == EAI_SYSTEM ? log_errno(error) : gai_strerror(status));
    return error;
}

int net_listen_tcp(const char *address, uint16_t port, int fds[], size_t max)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
    };
    struct addrinfo *found;
    char service[8];
    size_t count = 0;
    int status, error = 0;

    (void)snprintf(service, sizeof(service), "%u", (unsigned)port);
    status = getaddrinfo(address, service, &hints, &found);
    if (status != 0)
        return resolve_error(address, status);
    for (struct addrinfo *info = found; info && count < max;
         info = info->ai_next) {
        int fd = listen_at(info);

        /* A host without IPv6 (or without IPv4) is asked for all it has. */
        if (fd == -EAFNOSUPPORT || (!address && fd == -EADDRNOTAVAIL))
            continue;
        if (fd < 0) {
            error = fd;
            break;
        }
        fds[count++] = fd;
    }
    freeaddrinfo(found);
    if (error == 0 && count == 0)
        error = -EADDRNOTAVAIL;
    if (error == 0)
        return (int)count;
    log_error("%s port %u: cannot listen: %s", address ? address : "*",
              (unsigned)port, log_errno(error));
    while (count > 0)
        (void)close(fds[--count]);
    return error;
}

int net_accept(int fd)
{
    int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

    if (accepted >= 0) {
        net_prepare(accepted);
        return accepted;
    }
    switch (errno) {
    case EINTR:
    case EPERM: /* a firewall's rule */
    case ECONNABORTED:
    /* accept(2): what went wrong on the new connection is reported here. */
    case ENETDOWN:
    case EPROTO:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ETIMEDOUT:
        return -EAGAIN;
    default:
        return -errno;
    }
}

void net_prepare(int fd)
{
    const int yes = 1, idle = KEEPALIVE_IDLE_S, buffer = UNIX_SEND_BUFFER;
    const int interval = KEEPALIVE_INTERVAL_S, count = KEEPALIVE_COUNT;

    /* What is no TCP socket fails at once, and needs none of it. */
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) < 0) {
        /* TCP's buffers grow by themselves, these do not. */
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
        return;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof(yes));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval,
                     sizeof(interval));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

/* Of a Unix socket: who connected it, and may be gone by now. */
static void name_process(int fd, char *name, size_t size)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
        peer.pid > 0)
        (void)snprintf(name, size, "unix (pid %d)", (int)peer.pid);
    else
        (void)snprintf(name, size, "%s", "unix");
}

void net_peer_name(int fd, char *name, size_t size)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);
    char host[INET6_ADDRSTRLEN + IF_NAMESIZE], service[8];

    if (getpeername(fd, (struct sockaddr *)&address, &len) < 0) {
        (void)snprintf(name, size, "%s", "a peer that is gone");
        return;
    }
    if (address.ss_family == AF_UNIX) {
        name_process(fd, name, size);
        return;
    }
    if (getnameinfo((struct sockaddr *)&address, len, host, sizeof(host),
                    service, sizeof(service),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        (void)snprintf(name, size, "%s", "a peer of unknown kind");
        return;
    }
    if (address.ss_family == AF_INET6)
        (void)snprintf(name, size, "[%s]:%s", host, service);
    else
        (void)snprintf(name, size, "%s:%s", host, service);
}
