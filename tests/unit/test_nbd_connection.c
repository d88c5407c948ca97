/* SPDX-License-Identifier: BSD-2-Clause */
/* links: memory_device */
#include "nbd/nbd_connection.h"

#include <sys/socket.h>

#include "support/memory_device.h"
#include "support/nbd_client.h"
#include "unit/test.h"

static void start(struct nbd_fixture *fixture)
{
    nbd_fixture_init(fixture, test_dir());
    nbd_fixture_start(fixture);
}

/* Make a pair of sockets; returns the one that is to be served. */
static int make_pair(struct nbd_client *client)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
        abort();
    *client = (struct nbd_client){.fd = fds[1]};
    return fds[0];
}

TEST("a socket is admitted while there is room and the server does not stop, "
     "and else closed")
{
    struct nbd_fixture fixture;
    struct nbd_server_status status;
    struct nbd_connection *connection = NULL, *none = NULL;
    struct nbd_client first, second, third;

    nbd_fixture_init(&fixture, test_dir());
    fixture.options.max_connections = 1;
    NEED(nbd_server_start(&fixture.options, &fixture.server) == 0);
    NEED(nbd_connection_admit(fixture.server, make_pair(&first), &connection) ==
         0);
    CHECK(nbd_connection_admit(fixture.server, make_pair(&second), &none) ==
          -EBUSY);
    CHECK(nbd_client_is_hung_up(&second));
    nbd_server_status(fixture.server, &status);
    CHECK(status.connections == 1 && status.connections_total == 1);
    CHECK(status.connections_refused == 1);
    nbd_connection_leave(connection);
    nbd_connection_free(connection);
    CHECK(nbd_client_is_hung_up(&first));
    CHECK(nbd_server_stop(fixture.server, 0) == 0);
    CHECK(nbd_connection_admit(fixture.server, make_pair(&third), &none) ==
          -ESHUTDOWN);
    CHECK(nbd_client_is_hung_up(&third));
    nbd_server_status(fixture.server, &status);
    CHECK(status.connections == 0 && status.connections_refused == 1);
    CHECK(none == NULL);
    nbd_server_free(fixture.server);
    fixture.server = NULL;
    nbd_fixture_done(&fixture);
}

TEST("a connection that was started is served, and joined when it has ended")
{
    struct nbd_fixture fixture;
    struct nbd_connection *connection = NULL;
    struct nbd_client client;
    uint8_t greeting[NBD_GREETING_SIZE];

    nbd_fixture_init(&fixture, test_dir());
    NEED(nbd_server_start(&fixture.options, &fixture.server) == 0);
    NEED(nbd_connection_admit(fixture.server, make_pair(&client),
                              &connection) == 0);
    NEED(nbd_connection_start(connection) == 0);
    CHECK(nbd_client_receive(&client, greeting, sizeof(greeting)));
    nbd_client_close(&client);
    nbd_fixture_wait_connections(&fixture, 0);
    CHECK(fixture.server->finished == connection);
    nbd_connection_join_finished(fixture.server);
    CHECK(fixture.server->finished == NULL);
    nbd_fixture_done(&fixture);
}

TEST("a connection above max_connections is closed at once, half-open ones "
     "count, and one that ends makes room")
{
    struct nbd_fixture fixture;
    struct nbd_client one, half_open = {0}, third = {0};
    struct nbd_server_status status;
    uint8_t greeting[NBD_GREETING_SIZE];

    nbd_fixture_init(&fixture, test_dir());
    fixture.options.max_connections = 2;
    nbd_fixture_start(&fixture);
    CHECK(nbd_client_enter(&one, &fixture, NBD_CLIENT_SIMPLE, "main"));
    half_open.fd = nbd_fixture_connect(&fixture);
    CHECK(nbd_client_receive(&half_open, greeting, sizeof(greeting)));
    for (int i = 0; i < 3; i++) {
        third.fd = nbd_fixture_connect(&fixture);
        CHECK(nbd_client_is_hung_up(&third));
    }
    nbd_server_status(fixture.server, &status);
    CHECK(status.connections == 2 && status.connections_total == 2);
    CHECK(status.connections_refused == 3);
    nbd_client_close(&half_open);
    nbd_fixture_wait_connections(&fixture, 1);
    CHECK(nbd_client_enter(&third, &fixture, NBD_CLIENT_SIMPLE, "main"));
    CHECK(nbd_client_is_alive(&third) && nbd_client_is_alive(&one));
    nbd_client_close(&third);
    nbd_client_close(&one);
    nbd_fixture_done(&fixture);
}

TEST("what was cut off is not answered: the connection ends")
{
    for (int held = 0; held < 2; held++) {
        struct nbd_fixture fixture;
        struct nbd_client client;

        start(&fixture);
        CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
        CHECK(nbd_client_is_alive(&client));
        memory_device_fail(fixture.device, DEVICE_READ, -ECANCELED);
        if (held)
            memory_device_hold(fixture.device, 1U << DEVICE_READ);
        CHECK(nbd_client_request(&client, 0, NBD_CMD_READ, 7, 0, 512));
        if (held) {
            memory_device_wait_held(fixture.device, 1);
            memory_device_release(fixture.device);
        }
        CHECK(nbd_client_is_hung_up(&client));
        nbd_fixture_wait_connections(&fixture, 0);
        nbd_fixture_done(&fixture);
    }
}

TEST("a hundred connections come and go, and each of them is served")
{
    struct nbd_fixture fixture;
    struct nbd_client clients[50];
    struct nbd_server_status status;

    start(&fixture);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 50; i++)
            CHECK(nbd_client_enter(
                &clients[i], &fixture,
                i % 2 ? NBD_CLIENT_EXTENDED : NBD_CLIENT_STRUCTURED, "main"));
        for (size_t i = 0; i < 50; i++) {
            CHECK(nbd_client_write(&clients[i], 0, i * 4096, "abcd", 4) == 0);
            nbd_client_close(&clients[i]);
        }
    }
    nbd_fixture_wait_connections(&fixture, 0);
    nbd_server_status(fixture.server, &status);
    CHECK(status.connections_total == 100 && status.requests == 100);
    nbd_fixture_done(&fixture);
}
