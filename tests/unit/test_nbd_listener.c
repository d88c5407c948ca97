/* SPDX-License-Identifier: BSD-2-Clause */
/* links: memory_device */
#include "nbd/nbd_listener.h"

#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/net.h"
#include "support/memory_device.h"
#include "support/nbd_client.h"
#include "unit/test.h"

static void start(struct nbd_fixture *fixture)
{
    nbd_fixture_init(fixture, test_dir());
    nbd_fixture_start(fixture);
}

/* Connect to the address that a socket listens on. */
static int connect_to(int listening)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    int fd = -1;

    if (getsockname(listening, (struct sockaddr *)&address, &len) == 0)
        fd = socket(address.ss_family, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, len) < 0)
        abort();
    return fd;
}

TEST("several sockets are listened on: TCP by IPv4 and IPv6, and Unix")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    static const char *const addresses[] = {"127.0.0.1", "::1"};
    int fds[2];
    uint8_t greeting[18];

    start(&fixture);
    for (int i = 0; i < 2; i++) {
        if (net_listen_tcp(addresses[i], 0, &fds[i], 1) != 1)
            SKIP("this host has no IPv4 or no IPv6");
        CHECK(nbd_listener_start(fixture.server, fds[i]) == 0);
        client = (struct nbd_client){.fd = connect_to(fds[i])};
        CHECK(nbd_client_receive(&client, greeting, sizeof(greeting)));
        CHECK(nbd_client_send(&client, "\0\0\0\3", 4));
        CHECK(nbd_client_go(&client, "main"));
        CHECK(nbd_client_write(&client, 0, 0, "t", 1) == 0);
        nbd_client_close(&client);
    }
    CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    CHECK(nbd_client_is_alive(&client));
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST("a server that has stopped takes no socket to listen on")
{
    struct nbd_fixture fixture;
    int fd;

    start(&fixture);
    CHECK(nbd_server_stop(fixture.server, 0) == 0);
    CHECK(nbd_fixture_connect(&fixture) == -1);
    fd = net_listen_unix(fixture.socket, 0600);
    CHECK(nbd_listener_start(fixture.server, fd) == -ESHUTDOWN);
    CHECK(fcntl(fd, F_GETFD) == -1 && errno == EBADF);
    nbd_server_free(fixture.server);
    fixture.server = NULL;
    nbd_fixture_done(&fixture);
}

TEST("without descriptors for a new connection the server goes on, and takes "
     "the connection when there are some")
{
    struct nbd_fixture fixture;
    struct nbd_client client, waiting = {0};
    struct rlimit before, none;
    uint8_t greeting[18];

    start(&fixture);
    CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    /* Answered, it has all the descriptors that it ever needs. */
    CHECK(nbd_client_is_alive(&client));
    waiting.fd = nbd_fixture_connect(&fixture);
    CHECK(nbd_client_receive(&waiting, greeting, sizeof(greeting)));
    nbd_client_close(&waiting);
    nbd_fixture_wait_connections(&fixture, 1);
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none = before;
    waiting.fd = socket(AF_UNIX, SOCK_STREAM, 0);
    /* No descriptor above those in use now. */
    none.rlim_cur = (rlim_t)waiting.fd + 1;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    (void)close(waiting.fd);
    waiting.fd = nbd_fixture_connect(&fixture);
    CHECK(nbd_client_is_alive(&client));
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(nbd_client_receive(&waiting, greeting, sizeof(greeting)));
    nbd_client_close(&waiting);
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}
