/* SPDX-License-Identifier: BSD-2-Clause */
/* links: memory_device */
#include "nbd/nbd_server.h"

#include <pthread.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "nbd/nbd_tally.h"
#include "support/memory_device.h"
#include "support/nbd_client.h"
#include "unit/test.h"

static void start(struct nbd_fixture *fixture)
{
    nbd_fixture_init(fixture, test_dir());
    nbd_fixture_start(fixture);
}

TEST("exports need names that can be told apart and sent")
{
    struct device *device = memory_device_new(4096);
    struct nbd_export exports[2] = {{.device = device, .name = "a"},
                                    {.device = device, .name = "a"}};
    struct nbd_server_options options = {.exports = exports};
    struct nbd_server *server;
    char *name = calloc(1, 4098);

    NEED(name);
    memset(name, 'n', 4097);
    options.exports_count = 2;
    CHECK(nbd_server_start(&options, &server) == -EEXIST);
    exports[1].name = "\xc3";
    CHECK(nbd_server_start(&options, &server) == -EINVAL);
    exports[1].name = name;
    CHECK(nbd_server_start(&options, &server) == -EINVAL);
    name[4096] = '\0';
    options.tls_required = true;
    CHECK(nbd_server_start(&options, &server) == -EINVAL);
    options.tls_required = false;
    CHECK(nbd_server_start(&options, &server) == 0);
    CHECK(nbd_server_stop(server, 0) == 0);
    nbd_server_free(server);
    nbd_server_free(NULL);
    (void)device_close(device);
    free(name);
}

/* A server that begins without exports, and whose "" is "main". */
static void start_empty(struct nbd_fixture *fixture)
{
    nbd_fixture_init(fixture, test_dir());
    fixture->options.exports_count = 0;
    fixture->options.default_name = "main";
    nbd_fixture_start(fixture);
}

TEST("an export that is added is found by whoever asks from then on, also on a "
     "connection that was there before")
{
    struct nbd_fixture fixture;
    struct nbd_client early, main, second;
    struct nbd_client_answer answer;

    start_empty(&fixture);
    NEED(nbd_client_greet(&early, &fixture, 3));
    CHECK(nbd_client_ask(&early, NBD_OPT_LIST, NULL, 0) == NBD_REP_ACK);
    CHECK(nbd_server_add_export(fixture.server, &fixture.exports[1]) == 0);
    CHECK(nbd_client_send_option(&early, NBD_OPT_LIST, NULL, 0));
    CHECK(nbd_client_receive_answer(&early, &answer));
    CHECK(answer.type == NBD_REP_SERVER);
    CHECK(answer.len >= 10 && memcmp(answer.data + 4, "second", 6) == 0);
    CHECK(nbd_client_receive_answer(&early, &answer));
    CHECK(answer.type == NBD_REP_ACK);
    CHECK(nbd_client_enter(&second, &fixture, NBD_CLIENT_STRUCTURED, "second"));
    CHECK(second.size == 1 << 20);
    /* Who asks for the first of the configuration must not get another. */
    CHECK(!nbd_client_enter(&main, &fixture, NBD_CLIENT_STRUCTURED, ""));
    nbd_client_close(&main);
    CHECK(nbd_server_add_export(fixture.server, &fixture.exports[0]) == 0);
    CHECK(nbd_client_enter(&main, &fixture, NBD_CLIENT_STRUCTURED, ""));
    CHECK(main.size == NBD_FIXTURE_SIZE && nbd_client_is_alive(&main));
    CHECK(nbd_client_is_alive(&second));
    CHECK(nbd_server_attached(fixture.server, fixture.device) == 1);
    nbd_client_close(&main);
    nbd_client_close(&second);
    nbd_client_close(&early);
    nbd_fixture_done(&fixture);
}

TEST(
    "no export is added twice, nor after the stop, which knows those that were "
    "added")
{
    struct nbd_fixture fixture;
    struct nbd_client client;

    start_empty(&fixture);
    CHECK(nbd_server_add_export(fixture.server, &fixture.exports[0]) == 0);
    CHECK(nbd_server_add_export(fixture.server, &fixture.exports[0]) ==
          -EEXIST);
    CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    nbd_client_send_held(&fixture, &client, 1);
    CHECK(nbd_server_stop(fixture.server, 0) == -ETIMEDOUT);
    CHECK(memory_device_seen(fixture.device).expelled > 0);
    CHECK(nbd_server_add_export(fixture.server, &fixture.exports[1]) ==
          -ESHUTDOWN);
    nbd_client_close(&client);
    memory_device_release(fixture.device);
    nbd_server_free(fixture.server);
    fixture.server = NULL;
    nbd_fixture_done(&fixture);
}

enum { HOUR_MS = 3600000 }; /* more than a test has */

TEST("limits that change hold for who connects from then on")
{
    const struct nbd_server_changes none = {.tls_required = true};
    const struct nbd_server_changes fewer = {.max_connections = 1,
                                             .handshake_timeout_ms = HOUR_MS};
    const struct nbd_server_changes more = {.max_connections = 3,
                                            .handshake_timeout_ms = 1};
    struct nbd_fixture fixture;
    struct nbd_client one, two, third = {0};

    nbd_fixture_init(&fixture, test_dir());
    fixture.options.max_connections = 2;
    fixture.options.handshake_timeout_ms = HOUR_MS;
    nbd_fixture_start(&fixture);
    CHECK(nbd_client_enter(&one, &fixture, NBD_CLIENT_SIMPLE, "main"));
    CHECK(nbd_client_enter(&two, &fixture, NBD_CLIENT_SIMPLE, "main"));
    CHECK(nbd_server_change(fixture.server, &none) == -EINVAL);
    CHECK(nbd_server_change(fixture.server, &fewer) == 0);
    CHECK(nbd_client_is_alive(&one) && nbd_client_is_alive(&two));
    nbd_client_close(&two);
    nbd_fixture_wait_connections(&fixture, 1);
    two.fd = nbd_fixture_connect(&fixture);
    CHECK(nbd_client_is_hung_up(&two));
    CHECK(nbd_server_change(fixture.server, &more) == 0);
    /* It says nothing, for longer than it may. */
    third.fd = nbd_fixture_connect(&fixture);
    CHECK(nbd_client_receive(&third, (uint8_t[NBD_GREETING_SIZE]){0},
                             NBD_GREETING_SIZE));
    CHECK(nbd_client_is_hung_up(&third));
    CHECK(nbd_client_is_alive(&one));
    nbd_client_close(&one);
    nbd_fixture_done(&fixture);
}

struct stopping {
    struct nbd_server *server;
    unsigned deadline_ms;
    int result;
};

static void *stop_server(void *argument)
{
    struct stopping *stopping = argument;

    stopping->result = nbd_server_stop(stopping->server, stopping->deadline_ms);
    return NULL;
}

static void free_server(struct nbd_fixture *fixture)
{
    nbd_server_free(fixture->server);
    fixture->server = NULL;
}

TEST("a stop answers the requests that run, and ends handshakes and idle "
     "connections")
{
    struct nbd_fixture fixture;
    struct nbd_client busy, idle, greeting;
    struct stopping stopping = {.deadline_ms = 60000};
    pthread_t thread;
    unsigned seen = 0;

    start(&fixture);
    stopping.server = fixture.server;
    CHECK(nbd_client_enter(&busy, &fixture, NBD_CLIENT_SIMPLE, "main"));
    CHECK(nbd_client_enter(&idle, &fixture, NBD_CLIENT_SIMPLE, "second"));
    CHECK(nbd_client_greet(&greeting, &fixture, 3));
    nbd_client_send_held(&fixture, &busy, 4);
    CHECK(pthread_create(&thread, NULL, stop_server, &stopping) == 0);
    CHECK(nbd_client_is_hung_up(&idle));
    CHECK(nbd_client_is_hung_up(&greeting));
    memory_device_release(fixture.device);
    for (int i = 0; i < 4; i++) {
        uint8_t bytes[16];

        CHECK(nbd_client_receive(&busy, bytes, sizeof(bytes)));
        CHECK(get_be32(bytes + 4) == 0);
        seen |= 1U << get_be64(bytes + 8);
    }
    CHECK(seen == 15);
    CHECK(nbd_client_is_hung_up(&busy));
    (void)pthread_join(thread, NULL);
    CHECK(stopping.result == 0);
    free_server(&fixture);
    nbd_fixture_done(&fixture);
}

TEST("a stop whose deadline is over drops what has no place in the journal, "
     "and does not answer it")
{
    struct nbd_fixture fixture;
    struct nbd_client client;

    start(&fixture);
    CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    nbd_client_send_held(&fixture, &client, 7);
    CHECK(nbd_server_stop(fixture.server, 0) == -ETIMEDOUT);
    CHECK(memory_device_seen(fixture.device).canceled == 7);
    CHECK(bytes_are_zero(memory_device_bytes(fixture.device), 7 * 4096));
    CHECK(nbd_client_is_hung_up(&client));
    free_server(&fixture);
    nbd_fixture_done(&fixture);
}

static void release_device(void *device)
{
    memory_device_release(device);
}

TEST("a stop whose deadline is over says so, for what waits to come back, and "
     "does not answer it")
{
    struct nbd_fixture fixture;
    struct nbd_client client;

    nbd_fixture_init(&fixture, test_dir());
    fixture.options.late = release_device;
    fixture.options.late_context = fixture.device;
    nbd_fixture_start(&fixture);
    CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    memory_device_hold(fixture.device, 1U << DEVICE_READ);
    for (uint64_t i = 0; i < 3; i++)
        CHECK(nbd_client_request(&client, 0, NBD_CMD_READ, i, 0, 512));
    memory_device_wait_held(fixture.device, 3);
    CHECK(nbd_server_stop(fixture.server, 0) == -ETIMEDOUT);
    CHECK(nbd_client_is_hung_up(&client));
    free_server(&fixture);
    nbd_fixture_done(&fixture);
}

TEST("a stop whose deadline is over ends a client that does not read")
{
    struct nbd_fixture fixture;
    struct nbd_client client;

    start(&fixture);
    CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    memory_device_hold(fixture.device, 1U << DEVICE_READ);
    for (uint64_t i = 0; i < 4; i++)
        CHECK(nbd_client_request(&client, 0, NBD_CMD_READ, i, 0, 4 << 20));
    memory_device_wait_held(fixture.device, 4);
    memory_device_release(fixture.device);
    CHECK(nbd_server_stop(fixture.server, 1) == -ETIMEDOUT);
    nbd_client_close(&client);
    free_server(&fixture);
    nbd_fixture_done(&fixture);
}

struct served {
    struct nbd_server *server;
    int fd;
    int result;
};

static void *serve(void *argument)
{
    struct served *served = argument;

    served->result = nbd_server_serve(served->server, served->fd);
    return NULL;
}

TEST("one connected socket is served without listening, until its client "
     "leaves or the server stops")
{
    struct nbd_fixture fixture;

    for (int way = 0; way < 2; way++) {
        struct nbd_client client = {0};
        struct served served;
        pthread_t thread;
        int fds[2];
        uint8_t greeting[18];

        nbd_fixture_init(&fixture, test_dir());
        CHECK(nbd_server_start(&fixture.options, &fixture.server) == 0);
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
        served = (struct served){fixture.server, fds[0], -1};
        client.fd = fds[1];
        CHECK(pthread_create(&thread, NULL, serve, &served) == 0);
        CHECK(nbd_client_receive(&client, greeting, sizeof(greeting)));
        CHECK(nbd_client_send(&client, "\0\0\0\3", 4));
        CHECK(nbd_client_go(&client, "main"));
        CHECK(nbd_client_is_alive(&client));
        if (way == 0)
            CHECK(nbd_client_request(&client, 0, NBD_CMD_DISC, 1, 0, 0));
        else
            CHECK(nbd_server_stop(fixture.server, 10000) == 0);
        CHECK(nbd_client_is_hung_up(&client));
        (void)pthread_join(thread, NULL);
        CHECK(served.result == 0);
        CHECK(nbd_server_stop(fixture.server, 0) == 0);
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
        client.fd = fds[1];
        CHECK(nbd_server_serve(fixture.server, fds[0]) == -ESHUTDOWN);
        CHECK(nbd_client_is_hung_up(&client));
        free_server(&fixture);
        nbd_fixture_done(&fixture);
    }
}

TEST("the status counts connections, requests, errors and bytes")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct nbd_server_status status;
    struct nbd_tally_sums sums;
    char bytes[4096] = {0};

    start(&fixture);
    CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    CHECK(nbd_client_write(&client, 0, 0, bytes, 3000) == 0);
    CHECK(nbd_client_read(&client, 0, 0, bytes, 4096) == 0);
    CHECK(nbd_client_do(&client, 0, 99, 0, 0) == NBD_EINVAL);
    CHECK(nbd_server_tally(fixture.server, "main", &sums));
    CHECK(sums.requests[NBD_TALLY_WRITE] == 1 && sums.bytes_written == 3000);
    CHECK(nbd_server_attached(fixture.server,
                              fixture.options.exports[0].device) == 1);
    CHECK(nbd_server_attached(fixture.server, NULL) == 0);
    nbd_client_close(&client);
    nbd_fixture_wait_connections(&fixture, 0);
    CHECK(nbd_server_attached(fixture.server,
                              fixture.options.exports[0].device) == 0);
    nbd_server_status(fixture.server, &status);
    CHECK(status.connections == 0 && status.connections_total == 1);
    CHECK(status.connections_refused == 0);
    CHECK(status.requests == 3 && status.errors == 1);
    CHECK(status.bytes_written == 3000 && status.bytes_read == 4096);
    CHECK(status.memory_used == 0);
    CHECK(nbd_server_tally(fixture.server, "main", &sums));
    CHECK(sums.requests[NBD_TALLY_WRITE] == 1 && sums.bytes_written == 3000);
    CHECK(sums.requests[NBD_TALLY_READ] == 1 && sums.bytes_read == 4096);
    CHECK(sums.requests[NBD_TALLY_OTHER] == 1);
    CHECK(sums.errors[NBD_TALLY_REFUSED] == 1 && sums.in_flight == 0);
    CHECK(sums.latencies[NBD_TALLY_WRITE].total == 1);
    CHECK(sums.time_ns[NBD_TALLY_READ] > 0);
    CHECK(!nbd_server_tally(fixture.server, "none", &sums));
    nbd_fixture_done(&fixture);
}
