/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/net.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "unit/test.h"

static const char *socket_path(void)
{
    static char path[100];

    (void)snprintf(path, sizeof(path), "%s/socket", test_dir());
    return path;
}

static int connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* Connect to where a TCP socket listens; its port is stored. */
static int connect_tcp(int listening, uint16_t *ret_port)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    int fd;

    if (getsockname(listening, (struct sockaddr *)&address, &len) < 0)
        abort();
    *ret_port = ntohs(address.ss_family == AF_INET
                          ? ((struct sockaddr_in *)&address)->sin_port
                          : ((struct sockaddr_in6 *)&address)->sin6_port);
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, len) < 0)
        abort();
    return fd;
}

TEST("a Unix socket accepts, with the permissions asked for, whatever the "
     "umask")
{
    mode_t before = umask(0777);
    int listening = net_listen_unix(socket_path(), 0660);
    int client, accepted;
    struct stat info;
    char name[80], expected[80];

    (void)umask(before);
    NEED(listening >= 0);
    CHECK(stat(socket_path(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0660);
    CHECK((fcntl(listening, F_GETFD) & FD_CLOEXEC) != 0);
    client = connect_unix(socket_path());
    accepted = net_accept(listening);
    CHECK(client >= 0 && accepted >= 0);
    CHECK((fcntl(accepted, F_GETFD) & FD_CLOEXEC) != 0);
    net_peer_name(accepted, name, sizeof(name));
    (void)snprintf(expected, sizeof(expected), "unix (pid %d)", (int)getpid());
    CHECK(strcmp(name, expected) == 0);
    (void)close(accepted);
    (void)close(client);
    (void)close(listening);
}

TEST("the socket of a process that is gone is replaced, that of a living one "
     "is not")
{
    int living = net_listen_unix(socket_path(), 0600);
    int again, client;

    NEED(living >= 0);
    CHECK(net_listen_unix(socket_path(), 0600) == -EADDRINUSE);
    client = connect_unix(socket_path());
    CHECK(client >= 0);
    (void)close(client);
    (void)close(living);
    CHECK(connect_unix(socket_path()) < 0);
    again = net_listen_unix(socket_path(), 0600);
    CHECK(again >= 0);
    client = connect_unix(socket_path());
    CHECK(client >= 0);
    (void)close(client);
    (void)close(again);
}

TEST("a living server whose queue is full is not taken for a dead one")
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int living = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client;

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s",
                   socket_path());
    NEED(bind(living, (struct sockaddr *)&address, sizeof(address)) == 0);
    NEED(listen(living, 0) == 0);
    client = connect_unix(socket_path());
    CHECK(client >= 0);
    CHECK(net_listen_unix(socket_path(), 0600) == -EADDRINUSE);
    (void)close(client);
    (void)close(living);
}

TEST("what is no socket is left alone, and so is a path that cannot be one")
{
    char long_path[300];
    int fd = open(socket_path(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    struct stat info;

    NEED(fd >= 0);
    (void)close(fd);
    CHECK(net_listen_unix(socket_path(), 0600) == -EADDRINUSE);
    CHECK(stat(socket_path(), &info) == 0 && S_ISREG(info.st_mode));
    memset(long_path, 'p', sizeof(long_path) - 1);
    long_path[sizeof(long_path) - 1] = '\0';
    CHECK(net_listen_unix(long_path, 0600) == -ENAMETOOLONG);
    CHECK(net_listen_unix("", 0600) == -ENAMETOOLONG);
    (void)snprintf(long_path, sizeof(long_path), "%s/no/socket", test_dir());
    CHECK(net_listen_unix(long_path, 0600) == -ENOENT);
}

TEST("H22: TCP connections have no delay, and probe an idle peer")
{
    int listening, client, accepted, value = 0;
    socklen_t len = sizeof(value);
    uint16_t port;
    char name[80];

    NEED(net_listen_tcp("127.0.0.1", 0, &listening, 1) == 1);
    client = connect_tcp(listening, &port);
    accepted = net_accept(listening);
    CHECK(accepted >= 0);
    CHECK(getsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &value, &len) == 0);
    CHECK(value == 1);
    value = 0;
    CHECK(getsockopt(accepted, SOL_SOCKET, SO_KEEPALIVE, &value, &len) == 0);
    CHECK(value == 1);
    net_peer_name(accepted, name, sizeof(name));
    CHECK(strncmp(name, "127.0.0.1:", 10) == 0);
    (void)close(accepted);
    (void)close(client);
    (void)close(listening);
}

TEST("a TCP port that is taken is refused, and one that was just used is not")
{
    int listening, again, client, accepted;
    uint16_t port;

    NEED(net_listen_tcp("127.0.0.1", 0, &listening, 1) == 1);
    client = connect_tcp(listening, &port);
    CHECK(net_listen_tcp("127.0.0.1", port, &again, 1) == -EADDRINUSE);
    accepted = net_accept(listening);
    /* Who closes first keeps the port in TIME_WAIT. */
    (void)close(accepted);
    (void)close(client);
    (void)close(listening);
    CHECK(net_listen_tcp("127.0.0.1", port, &again, 1) == 1);
    (void)close(again);
}

TEST("no address means all of this host, by IPv4 and by IPv6 where it is")
{
    int fds[8], client, first;
    int count = net_listen_tcp(NULL, 0, fds, 8);
    uint16_t port;
    char name[80];

    NEED(count >= 1);
    for (int i = 0; i < count; i++) {
        client = connect_tcp(fds[i], &port);
        CHECK(client >= 0);
        first = net_accept(fds[i]);
        net_peer_name(first, name, sizeof(name));
        CHECK(strchr(name, ':') != NULL);
        (void)close(first);
        (void)close(client);
    }
    while (count > 0)
        (void)close(fds[--count]);
    CHECK(net_listen_tcp("127.0.0.300", 0, fds, 8) == -EADDRNOTAVAIL);
    CHECK(net_listen_tcp("192.0.2.1", 0, fds, 8) == -EADDRNOTAVAIL);
}

TEST("an accept without a connection, or on what does not listen, says so")
{
    int listening = net_listen_unix(socket_path(), 0600);
    int fds[2];

    NEED(listening >= 0);
    NEED(fcntl(listening, F_SETFL, O_NONBLOCK) == 0);
    CHECK(net_accept(listening) == -EAGAIN);
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    CHECK(net_accept(fds[0]) == -EINVAL);
    (void)close(fds[0]);
    (void)close(fds[1]);
    (void)close(listening);
}
