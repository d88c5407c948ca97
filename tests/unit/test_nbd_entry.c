/* SPDX-License-Identifier: BSD-2-Clause */
/* links: memory_device */
#include "nbd/nbd_entry.h"

#include <pthread.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "nbd/nbd_transmission.h"
#include "support/memory_device.h"
#include "support/nbd_client.h"
#include "unit/test.h"

static void start(struct nbd_fixture *fixture)
{
    nbd_fixture_init(fixture, test_dir());
    nbd_fixture_start(fixture);
}

TEST("a peer is there, has closed its direction, or is gone")
{
    int fds[2];

    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    CHECK(nbd_peer_state(fds[0], false) == NBD_PEER_PRESENT);
    CHECK(send(fds[1], "more", 4, 0) == 4);
    CHECK(nbd_peer_state(fds[0], false) == NBD_PEER_PRESENT);
    CHECK(shutdown(fds[1], SHUT_WR) == 0);
    CHECK(nbd_peer_state(fds[0], false) == NBD_PEER_HALF_CLOSED);
    CHECK(close(fds[1]) == 0);
    CHECK(nbd_peer_state(fds[0], false) == NBD_PEER_GONE);
    /* Who said that it leaves may close, and is served to the end. */
    CHECK(nbd_peer_state(fds[0], true) == NBD_PEER_HALF_CLOSED);
    CHECK(close(fds[0]) == 0);
}

TEST("when a client that hung up has writes that are not in the journal, they "
     "are dropped before the next client's first request runs")
{
    struct nbd_fixture fixture;
    struct nbd_client gone, next;
    char byte;

    start(&fixture);
    CHECK(nbd_client_enter(&gone, &fixture, NBD_CLIENT_SIMPLE, "main"));
    nbd_client_send_held(&fixture, &gone, 20);
    nbd_client_close(&gone);
    CHECK(nbd_client_enter(&next, &fixture, NBD_CLIENT_SIMPLE, "main"));
    CHECK(nbd_client_read(&next, 0, 0, &byte, 1) == 0 && byte == 0);
    CHECK(memory_device_seen(fixture.device).canceled == 20);
    CHECK(memory_device_seen(fixture.device).expelled > 0);
    nbd_fixture_wait_connections(&fixture, 1);
    CHECK(bytes_are_zero(memory_device_bytes(fixture.device), 20 * 4096));
    memory_device_release(fixture.device);
    CHECK(nbd_client_write(&next, 0, 0, "n", 1) == 0);
    nbd_client_close(&next);
    nbd_fixture_done(&fixture);
}

/*
 * What the kernel does with several connections when a request takes too long:
 * it gives up its connection, and sends it again over another one.
 */
struct several {
    struct nbd_fixture fixture;
    struct nbd_client ended, other;
};

static void begin_several(struct several *several)
{
    start(&several->fixture);
    /* No deadline is ever over. */
    clock_set_for_tests(UINT64_C(1000000000));
    CHECK(nbd_client_enter(&several->ended, &several->fixture,
                           NBD_CLIENT_SIMPLE, "main"));
    CHECK(nbd_client_enter(&several->other, &several->fixture,
                           NBD_CLIENT_SIMPLE, "main"));
}

/* The client ends one, or only its direction of it, and that is seen. */
static void end_one(struct several *several, bool is_half)
{
    if (is_half)
        CHECK(shutdown(several->ended.fd, SHUT_WR) == 0);
    else
        nbd_client_close(&several->ended);
    nbd_fixture_wait_connections(&several->fixture, 1);
}

/* What it asks over the other one now is the last that is done. */
static void end_several(struct several *several, bool is_half)
{
    struct nbd_client *other = &several->other;
    char byte;

    memory_device_release(several->fixture.device);
    CHECK(nbd_client_write(other, 0, 0, "o", 1) == 0);
    CHECK(nbd_client_read(other, 0, 0, &byte, 1) == 0 && byte == 'o');
    if (is_half)
        nbd_client_close(&several->ended);
    nbd_client_close(other);
    clock_set_for_tests(0);
    nbd_fixture_done(&several->fixture);
}

TEST("a client that ended one of its connections, and asks again over another "
     "one, finds nothing of the old one run after that")
{
    for (int is_half = 0; is_half < 2; is_half++) {
        struct several several;

        begin_several(&several);
        nbd_client_send_held(&several.fixture, &several.ended, 3);
        end_one(&several, is_half);
        CHECK(memory_device_seen(several.fixture.device).canceled == 3);
        end_several(&several, is_half);
    }
}

/* Send as many TRIMs as can be in flight, which the device holds. */
static void send_trims_held(const struct nbd_fixture *fixture,
                            struct nbd_client *client)
{
    memory_device_hold(fixture->device, 1U << DEVICE_TRIM);
    for (uint64_t i = 0; i < NBD_IN_FLIGHT_MAX; i++)
        NEED(nbd_client_request(client, 0, NBD_CMD_TRIM, i, 4096, 4096));
    memory_device_wait_held(fixture->device, NBD_IN_FLIGHT_MAX);
}

TEST("nor does it find anything run that was not read yet, since the old one "
     "had too much in flight")
{
    for (int is_half = 0; is_half < 2; is_half++) {
        struct several several;
        struct nbd_client *ended = &several.ended;
        struct device *device;
        char page[4096];

        begin_several(&several);
        device = several.fixture.device;
        send_trims_held(&several.fixture, ended);
        memset(page, 'w', sizeof(page));
        CHECK(nbd_client_request(ended, 0, NBD_CMD_WRITE, 1, 0, 4096));
        CHECK(nbd_client_send(ended, page, sizeof(page)));
        end_one(&several, is_half);
        CHECK(memory_device_seen(device).canceled == NBD_IN_FLIGHT_MAX);
        CHECK(memory_device_seen(device).count[DEVICE_WRITE] == 0);
        end_several(&several, is_half);
    }
}

TEST("an only client that closed its own direction gets all that it asked, "
     "also what could not be read at once")
{
    struct nbd_fixture fixture;
    struct nbd_client client;
    uint8_t reply[16];

    start(&fixture);
    CHECK(nbd_client_enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    send_trims_held(&fixture, &client);
    CHECK(nbd_client_request(&client, 0, NBD_CMD_WRITE, 1, 0, 1));
    CHECK(nbd_client_send(&client, "w", 1));
    CHECK(shutdown(client.fd, SHUT_WR) == 0);
    memory_device_release(fixture.device);
    for (int i = 0; i < NBD_IN_FLIGHT_MAX + 1; i++)
        CHECK(nbd_client_receive(&client, reply, sizeof(reply)));
    CHECK(nbd_client_is_hung_up(&client));
    CHECK(memory_device_seen(fixture.device).canceled == 0);
    CHECK(memory_device_bytes(fixture.device)[0] == 'w');
    nbd_fixture_done(&fixture);
}

TEST("clients of another export, and those that are still there, are left "
     "alone when one enters")
{
    struct nbd_fixture fixture;
    struct nbd_client silent, present, second, next;

    start(&fixture);
    CHECK(nbd_client_enter(&silent, &fixture, NBD_CLIENT_SIMPLE, "main"));
    nbd_client_send_held(&fixture, &silent, 1);
    CHECK(shutdown(silent.fd, SHUT_WR) == 0);
    CHECK(nbd_client_enter(&second, &fixture, NBD_CLIENT_SIMPLE, "second"));
    CHECK(nbd_client_is_alive(&second));
    CHECK(memory_device_seen(fixture.device).canceled == 0);
    memory_device_release(fixture.device);
    nbd_fixture_wait_connections(&fixture, 1);
    CHECK(memory_device_bytes(fixture.device)[0] == 'w');
    CHECK(nbd_client_enter(&present, &fixture, NBD_CLIENT_SIMPLE, "main"));
    nbd_client_send_held(&fixture, &present, 2);
    CHECK(nbd_client_enter(&next, &fixture, NBD_CLIENT_SIMPLE, "main"));
    CHECK(nbd_client_is_alive(&next));
    CHECK(memory_device_seen(fixture.device).canceled == 0);
    memory_device_release(fixture.device);
    CHECK(memory_device_bytes(fixture.device)[4096] == 'w');
    nbd_client_close(&silent);
    nbd_client_close(&present);
    nbd_client_close(&second);
    nbd_client_close(&next);
    nbd_fixture_done(&fixture);
}

struct entering {
    const struct nbd_fixture *fixture;
    struct nbd_client client;
    bool entered;
    char byte;
};

static void *enter_and_read(void *argument)
{
    struct entering *entering = argument;

    entering->entered =
        nbd_client_enter(&entering->client, entering->fixture,
                         NBD_CLIENT_SIMPLE, "main") &&
        nbd_client_read(&entering->client, 0, 0, &entering->byte, 1) == 0;
    return NULL;
}

TEST("a client that closed only its own direction, or said DISC, is served to "
     "the end before the next one's first request runs")
{
    for (int way = 0; way < 2; way++) {
        struct nbd_fixture fixture;
        struct nbd_client leaving;
        struct entering entering = {.fixture = &fixture};
        pthread_t thread;
        uint8_t reply[16];

        start(&fixture);
        CHECK(nbd_client_enter(&leaving, &fixture, NBD_CLIENT_SIMPLE, "main"));
        nbd_client_send_held(&fixture, &leaving, 3);
        if (way == 0) {
            CHECK(shutdown(leaving.fd, SHUT_WR) == 0);
        } else {
            CHECK(nbd_client_request(&leaving, 0, NBD_CMD_DISC, 9, 0, 0));
            /* What this connection has in flight is not dropped now. */
            CHECK(shutdown(leaving.fd, SHUT_WR) == 0);
        }
        CHECK(pthread_create(&thread, NULL, enter_and_read, &entering) == 0);
        memory_device_release(fixture.device);
        (void)pthread_join(thread, NULL);
        CHECK(entering.entered && entering.byte == 'w');
        for (int i = 0; i < 3; i++)
            CHECK(nbd_client_receive(&leaving, reply, sizeof(reply)));
        CHECK(nbd_client_is_hung_up(&leaving));
        CHECK(memory_device_seen(fixture.device).canceled == 0);
        nbd_client_close(&entering.client);
        nbd_fixture_done(&fixture);
    }
}

struct stopping {
    struct nbd_server *server;
    int result;
};

static void *stop_server(void *argument)
{
    struct stopping *stopping = argument;

    stopping->result = nbd_server_stop(stopping->server, 60000);
    return NULL;
}

TEST("who waits for another to leave when the server stops is sent away at "
     "once")
{
    struct nbd_fixture fixture;
    struct nbd_client leaving, waiting;
    struct stopping stopping;
    pthread_t thread;
    uint8_t reply[16];

    start(&fixture);
    stopping.server = fixture.server;
    CHECK(nbd_client_enter(&leaving, &fixture, NBD_CLIENT_SIMPLE, "main"));
    nbd_client_send_held(&fixture, &leaving, 1);
    CHECK(shutdown(leaving.fd, SHUT_WR) == 0);
    CHECK(nbd_client_enter(&waiting, &fixture, NBD_CLIENT_SIMPLE, "main"));
    CHECK(pthread_create(&thread, NULL, stop_server, &stopping) == 0);
    CHECK(nbd_client_is_hung_up(&waiting));
    memory_device_release(fixture.device);
    CHECK(nbd_client_receive(&leaving, reply, sizeof(reply)));
    CHECK(nbd_client_is_hung_up(&leaving));
    (void)pthread_join(thread, NULL);
    CHECK(stopping.result == 0);
    nbd_server_free(fixture.server);
    fixture.server = NULL;
    nbd_fixture_done(&fixture);
}
