/* SPDX-License-Identifier: BSD-2-Clause */
/* links: memory_device */
#include "nbd/nbd_server.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/auto.h"
#include "base/bytes.h"
#include "base/tls.h"
#include "nbd/nbd_record.h"
#include "support/memory_device.h"
#include "support/nbd_client.h"
#include "support/nbd_restart.h"
#include "support/tls_client.h"
#include "unit/test.h"

enum { PAGE = 4096, LARGE = 1 << 20 };

static const enum nbd_client_mode modes[3] = {
    NBD_CLIENT_SIMPLE, NBD_CLIENT_STRUCTURED, NBD_CLIENT_EXTENDED};

static void start(struct nbd_fixture *fixture)
{
    nbd_fixture_init(fixture, test_dir());
    nbd_fixture_start(fixture);
}

static bool is_alive(struct nbd_client *client)
{
    return nbd_client_do(client, 0, NBD_CMD_FLUSH, 0, 0) == 0;
}

/* From the connection to transmission, which the server has begun, too. */
static bool enter(struct nbd_client *client, const struct nbd_fixture *fixture,
                  enum nbd_client_mode mode, const char *name)
{
    return nbd_client_enter(client, fixture, mode, name) && is_alive(client);
}

/* Wait until the server has received all that was sent. */
static void wait_received(const struct nbd_client *client)
{
    int unread = 1;

    while (ioctl(client->fd, SIOCOUTQ, &unread) == 0 && unread > 0)
        (void)sched_yield();
}

static uint16_t write_flags(const struct nbd_client *client)
{
    return client->extended ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;
}

/* Send a WRITE of one byte repeated. */
static bool send_write(struct nbd_client *client, uint64_t cookie,
                       uint64_t offset, int byte, size_t len)
{
    uint8_t *data = malloc(len);
    bool ok;

    memset(data, byte, len);
    ok = nbd_client_request(client, write_flags(client), NBD_CMD_WRITE, cookie,
                            offset, len) &&
         nbd_client_send(client, data, len);
    free(data);
    return ok;
}

/* Whether the device, of which nothing is in flight, has these bytes. */
static bool is_filled(struct device *device, uint64_t offset, int byte,
                      size_t len)
{
    const unsigned char *at = memory_device_bytes(device) + offset;

    /* It takes the lock that whoever wrote them has taken afterwards. */
    (void)memory_device_seen(device);
    return at[0] == byte && memcmp(at, at + 1, len - 1) == 0;
}

TEST("a client that asks nothing is served on by the successor, whatever was "
     "agreed upon, and again by the next")
{
    for (size_t i = 0; i < 3; i++) {
        struct nbd_restart restart = {.count = 0};
        struct nbd_fixture fixture;
        struct nbd_client client;
        uint8_t data[PAGE];

        start(&fixture);
        NEED(enter(&client, &fixture, modes[i], "main"));
        CHECK(send_write(&client, 1, 0, 'x', PAGE));
        CHECK(nbd_client_result(&client, 1) == 0);
        for (int round = 0; round < 3; round++) {
            nbd_restart_hand_over(&restart, &fixture, 1000);
            CHECK(restart.count == 1 && restart.result == 0);
            nbd_restart_resume(&restart, &fixture);
            nbd_restart_open(&fixture);
            CHECK(nbd_client_read(&client, 0, 0, data, PAGE) == 0);
            CHECK(data[0] == 'x' && data[PAGE - 1] == 'x');
            CHECK(nbd_server_attached(fixture.server, fixture.device) == 1);
        }
        nbd_client_close(&client);
        nbd_fixture_done(&fixture);
    }
}

/* Send one request of each kind, to pages of their own. */
static void send_all_kinds(struct nbd_client *client)
{
    CHECK(send_write(client, 1, 0, 'w', PAGE));
    CHECK(send_write(client, 2, LARGE, 'W', LARGE));
    CHECK(nbd_client_request(client, 0, NBD_CMD_READ, 3, 3 * LARGE, PAGE));
    CHECK(nbd_client_request(client, 0, NBD_CMD_TRIM, 4, PAGE, PAGE));
    CHECK(nbd_client_request(client, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES,
                             5, 2 * PAGE, PAGE));
    CHECK(nbd_client_request(client, 0, NBD_CMD_FLUSH, 6, 0, 0));
    CHECK(nbd_client_request(client, 0, NBD_CMD_CACHE, 7, 0, PAGE));
}

static size_t block_status(struct nbd_client *client)
{
    uint8_t contexts[12];

    if (!client->structured)
        return 0;
    if (!client->extended) {
        CHECK(nbd_client_request(client, 0, NBD_CMD_BLOCK_STATUS, 8, 4 * LARGE,
                                 LARGE));
        return 1;
    }
    put_be64(contexts, LARGE);
    put_be32(contexts + 8, 1);
    CHECK(nbd_client_request(client, NBD_CMD_FLAG_PAYLOAD_LEN,
                             NBD_CMD_BLOCK_STATUS, 8, 4 * LARGE, 12));
    CHECK(nbd_client_send(client, contexts, sizeof(contexts)));
    return 1;
}

/*
 * Receive a whole reply, whatever kind: its cookie, or UINT64_MAX.  Data of
 * the READ with cookie 3 are checked to be this byte.
 */
static uint64_t receive_reply(struct nbd_client *client, int byte)
{
    struct nbd_client_chunk chunk;
    uint8_t bytes[PAGE + 32];
    uint64_t cookie;

    if (!nbd_client_receive(client, bytes, 16))
        return UINT64_MAX;
    cookie = get_be64(bytes + 8);
    if (get_be32(bytes) == NBD_SIMPLE_REPLY_MAGIC) {
        CHECK(get_be32(bytes + 4) == 0);
        if (cookie == 3 && !client->structured) {
            CHECK(nbd_client_receive(client, bytes, PAGE));
            CHECK(bytes[0] == byte && bytes[PAGE - 1] == byte);
        }
        return cookie;
    }
    CHECK(nbd_client_receive(client, bytes + 16, client->extended ? 16 : 4));
    chunk.type = get_be16(bytes + 6);
    chunk.length =
        client->extended ? get_be64(bytes + 24) : get_be32(bytes + 16);
    if (!CHECK(chunk.type != NBD_REPLY_ERROR && chunk.length <= sizeof(bytes)))
        return UINT64_MAX;
    CHECK(nbd_client_receive(client, bytes, (size_t)chunk.length));
    if (cookie == 3) {
        CHECK(chunk.type == NBD_REPLY_OFFSET_DATA);
        CHECK(bytes[8] == byte && bytes[8 + PAGE - 1] == byte);
    }
    return cookie;
}

/* Receive the replies to cookies 1 to count, each once, in any order. */
static void receive_all(struct nbd_client *client, size_t count, int byte)
{
    unsigned seen = 0;

    for (size_t i = 0; i < count; i++) {
        uint64_t cookie = receive_reply(client, byte);

        NEED(cookie >= 1 && cookie <= count);
        CHECK((seen & 1U << cookie) == 0);
        seen |= 1U << cookie;
    }
}

TEST("what waits in the device at the deadline is run by the successor, each "
     "once: every kind of request, whatever was agreed upon")
{
    for (size_t i = 0; i < 3; i++) {
        struct memory_device_seen seen;
        struct nbd_fixture fixture;
        struct nbd_client client;
        size_t count = 7;

        start(&fixture);
        NEED(enter(&client, &fixture, modes[i], "main"));
        CHECK(send_write(&client, 1, 3 * LARGE, 'r', PAGE));
        CHECK(nbd_client_result(&client, 1) == 0);
        memory_device_hold(fixture.device, UINT32_MAX);
        send_all_kinds(&client);
        count += block_status(&client);
        memory_device_wait_held(fixture.device, count);
        /* The successor's device has to be asked again, and holds nothing. */
        memory_device_hold(fixture.device, 0);
        nbd_restart_at_once(&fixture);
        receive_all(&client, count, 'r');
        CHECK(is_filled(fixture.device, 0, 'w', PAGE));
        CHECK(is_filled(fixture.device, LARGE, 'W', LARGE));
        seen = memory_device_seen(fixture.device);
        CHECK(seen.canceled == count);
        CHECK(seen.executed[DEVICE_WRITE] == 3);
        CHECK(seen.executed[DEVICE_READ] == 1);
        CHECK(seen.executed[DEVICE_TRIM] == 1);
        CHECK(seen.executed[DEVICE_ZERO] == 1);
        CHECK(seen.executed[DEVICE_FLUSH] == 2);
        CHECK(seen.executed[DEVICE_EXTENTS] == count - 7);
        CHECK(seen.length[DEVICE_EXTENTS] == (i > 0 ? LARGE : 0));
        CHECK(is_alive(&client));
        nbd_client_close(&client);
        nbd_fixture_done(&fixture);
    }
}

struct hand_over {
    struct nbd_restart restart;
    struct nbd_fixture *fixture;
    unsigned deadline_ms;
};

static void *hand_over(void *argument)
{
    struct hand_over *this = argument;

    nbd_restart_hand_over(&this->restart, this->fixture, this->deadline_ms);
    return NULL;
}

TEST("what ends before the deadline is answered, and not run again")
{
    struct memory_device_seen seen;
    struct nbd_fixture fixture;
    struct hand_over handing = {.fixture = &fixture, .deadline_ms = 600000};
    struct nbd_client client;
    pthread_t thread;

    start(&fixture);
    NEED(enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    memory_device_hold(fixture.device, 1U << DEVICE_WRITE);
    CHECK(send_write(&client, 1, 0, 'a', PAGE));
    memory_device_wait_held(fixture.device, 1);
    NEED(pthread_create(&thread, NULL, hand_over, &handing) == 0);
    memory_device_release(fixture.device);
    CHECK(nbd_client_result(&client, 1) == 0);
    (void)pthread_join(thread, NULL);
    CHECK(handing.restart.count == 1 && handing.restart.result == 0);
    nbd_restart_resume(&handing.restart, &fixture);
    nbd_restart_open(&fixture);
    CHECK(is_alive(&client));
    seen = memory_device_seen(fixture.device);
    CHECK(seen.executed[DEVICE_WRITE] == 1 && seen.canceled == 0);
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

enum { STUCK = 200, STUCK_LEN = 64 << 10, STUCK_SEEN = 100 };

TEST("replies that a client did not read yet reach it after the restart, also "
     "one that was sent in part, and so do those to what was not parsed")
{
    static uint8_t data[STUCK_LEN];
    bool is_answered[STUCK] = {false};
    struct nbd_restart restart = {.count = 0};
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct nbd_record record;

    start(&fixture);
    NEED(enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    CHECK(send_write(&client, 1, 0, 's', STUCK_LEN));
    CHECK(nbd_client_result(&client, 1) == 0);
    for (uint64_t i = 0; i < STUCK; i++)
        CHECK(nbd_client_request(&client, 0, NBD_CMD_READ, i, 0, STUCK_LEN));
    /* More than a socket takes; the connection's own memory is used up. */
    while (memory_device_seen(fixture.device).executed[DEVICE_READ] <
           STUCK_SEEN)
        (void)sched_yield();
    wait_received(&client);
    nbd_restart_hand_over(&restart, &fixture, 0);
    NEED(restart.count == 1);
    CHECK(nbd_record_read(restart.items[0].record, restart.items[0].record_len,
                          &record) == 0);
    CHECK(record.replies_len > STUCK_LEN);
    CHECK(record.replies_len % (16 + STUCK_LEN) != 0);
    nbd_restart_resume(&restart, &fixture);
    /* Before anything was sent: what is not sent must not become more. */
    nbd_restart_open(&fixture);
    nbd_restart_hand_over(&restart, &fixture, 0);
    CHECK(restart.count == 1);
    nbd_restart_resume(&restart, &fixture);
    nbd_restart_open(&fixture);
    for (uint64_t i = 0; i < STUCK; i++) {
        uint8_t head[16];

        NEED(nbd_client_receive(&client, head, sizeof(head)));
        NEED(get_be32(head + 4) == 0 && get_be64(head + 8) < STUCK);
        CHECK(!is_answered[get_be64(head + 8)]);
        is_answered[get_be64(head + 8)] = true;
        NEED(nbd_client_receive(&client, data, sizeof(data)));
        CHECK(data[0] == 's' && data[STUCK_LEN - 1] == 's');
    }
    CHECK(is_alive(&client));
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST("a payload of which only a part was received is completed after the "
     "restart, wherever it was cut, and so is a head")
{
    static const size_t cuts[] = {1, 13, 28, 29, 5000, 70000, 28 + LARGE - 1};
    static uint8_t bytes[28 + LARGE];

    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        struct nbd_fixture fixture;
        struct nbd_client client;

        start(&fixture);
        NEED(enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
        memset(bytes, 'a' + (int)i, sizeof(bytes));
        put_be32(bytes, NBD_REQUEST_MAGIC);
        put_be16(bytes + 4, 0);
        put_be16(bytes + 6, NBD_CMD_WRITE);
        put_be64(bytes + 8, 77);
        put_be64(bytes + 16, PAGE);
        put_be32(bytes + 24, LARGE);
        CHECK(nbd_client_send(&client, bytes, cuts[i]));
        wait_received(&client);
        nbd_restart_at_once(&fixture);
        /* And once more, when nothing has come since. */
        nbd_restart_at_once(&fixture);
        CHECK(
            nbd_client_send(&client, bytes + cuts[i], sizeof(bytes) - cuts[i]));
        CHECK(nbd_client_result(&client, 77) == 0);
        CHECK(is_filled(fixture.device, PAGE, 'a' + (int)i, LARGE));
        CHECK(memory_device_seen(fixture.device).executed[DEVICE_WRITE] == 1);
        CHECK(is_alive(&client));
        nbd_client_close(&client);
        nbd_fixture_done(&fixture);
    }
}

TEST("a payload that is dropped goes on being dropped after the restart, with "
     "requests before it that are run then, and is answered as before")
{
    static uint8_t payload[LARGE];
    struct nbd_fixture fixture;
    struct nbd_client client;

    start(&fixture);
    memset(payload, 0x55, sizeof(payload));
    NEED(enter(&client, &fixture, NBD_CLIENT_SIMPLE, "second"));
    memory_device_hold(fixture.second, 1U << DEVICE_READ);
    CHECK(nbd_client_request(&client, 0, NBD_CMD_READ, 3, 0, PAGE));
    memory_device_wait_held(fixture.second, 1);
    CHECK(nbd_client_request(&client, 0, NBD_CMD_WRITE, 9, 0, LARGE));
    CHECK(nbd_client_send(&client, payload, 100000));
    wait_received(&client);
    nbd_restart_at_once(&fixture);
    memory_device_wait_held(fixture.second, 1);
    CHECK(nbd_client_send(&client, payload, 200000));
    wait_received(&client);
    nbd_restart_at_once(&fixture);
    memory_device_hold(fixture.second, 0);
    nbd_restart_at_once(&fixture);
    CHECK(receive_reply(&client, 0) == 3);
    CHECK(nbd_client_send(&client, payload, LARGE - 300000));
    CHECK(nbd_client_result(&client, 9) == NBD_EPERM);
    CHECK(is_alive(&client));
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST("a client that has said good-bye, or will send no more, gets its replies "
     "from the successor, and then the end")
{
    for (int says_so = 0; says_so < 2; says_so++) {
        struct nbd_fixture fixture;
        struct nbd_client client;

        start(&fixture);
        NEED(enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
        memory_device_hold(fixture.device, 1U << DEVICE_WRITE);
        CHECK(send_write(&client, 1, 0, 'd', PAGE));
        memory_device_wait_held(fixture.device, 1);
        if (says_so)
            CHECK(nbd_client_request(&client, 0, NBD_CMD_DISC, 2, 0, 0));
        else
            CHECK(shutdown(client.fd, SHUT_WR) == 0);
        wait_received(&client);
        memory_device_hold(fixture.device, 0);
        nbd_restart_at_once(&fixture);
        CHECK(nbd_client_result(&client, 1) == 0);
        CHECK(nbd_client_is_hung_up(&client));
        CHECK(is_filled(fixture.device, 0, 'd', PAGE));
        nbd_fixture_done(&fixture);
    }
}

TEST("what a client asked before its good-bye is waited for by the successor, "
     "whatever other connections it has")
{
    struct nbd_fixture fixture;
    struct nbd_client leaving, other;

    start(&fixture);
    NEED(enter(&leaving, &fixture, NBD_CLIENT_SIMPLE, "main"));
    NEED(enter(&other, &fixture, NBD_CLIENT_SIMPLE, "main"));
    memory_device_hold(fixture.device, 1U << DEVICE_WRITE);
    CHECK(send_write(&leaving, 1, 0, 'd', PAGE));
    memory_device_wait_held(fixture.device, 1);
    CHECK(nbd_client_request(&leaving, 0, NBD_CMD_DISC, 2, 0, 0));
    wait_received(&leaving);
    nbd_restart_at_once(&fixture);
    memory_device_wait_held(fixture.device, 1);
    CHECK(is_alive(&other));
    memory_device_release(fixture.device);
    CHECK(nbd_client_result(&leaving, 1) == 0);
    CHECK(nbd_client_is_hung_up(&leaving));
    CHECK(is_filled(fixture.device, 0, 'd', PAGE));
    nbd_client_close(&other);
    nbd_fixture_done(&fixture);
}

TEST("nothing is run for a client that hung up between the two processes")
{
    struct nbd_restart restart = {.count = 0};
    struct nbd_fixture fixture;
    struct nbd_client client;

    start(&fixture);
    NEED(enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    memory_device_hold(fixture.device, 1U << DEVICE_WRITE);
    CHECK(send_write(&client, 1, 0, 'g', PAGE));
    memory_device_wait_held(fixture.device, 1);
    memory_device_hold(fixture.device, 0);
    nbd_restart_hand_over(&restart, &fixture, 0);
    nbd_client_close(&client);
    nbd_restart_resume(&restart, &fixture);
    CHECK(nbd_server_attached(fixture.server, fixture.device) == 0);
    nbd_restart_open(&fixture);
    nbd_fixture_wait_connections(&fixture, 0);
    CHECK(is_filled(fixture.device, 0, 0, PAGE));
    CHECK(memory_device_seen(fixture.device).executed[DEVICE_WRITE] == 0);
    nbd_fixture_done(&fixture);
}

TEST("a client of another incarnation is closed, and nothing of it is run")
{
    struct nbd_restart restart = {.count = 0};
    struct nbd_fixture fixture;
    struct nbd_client client;

    start(&fixture);
    NEED(enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    memory_device_hold(fixture.device, 1U << DEVICE_WRITE);
    CHECK(send_write(&client, 1, 0, 'i', PAGE));
    memory_device_wait_held(fixture.device, 1);
    memory_device_hold(fixture.device, 0);
    nbd_restart_hand_over(&restart, &fixture, 0);
    memory_device_set_incarnation(fixture.device, 2);
    nbd_restart_resume(&restart, &fixture);
    nbd_restart_open(&fixture);
    CHECK(nbd_client_is_hung_up(&client));
    CHECK(memory_device_seen(fixture.device).executed[DEVICE_WRITE] == 0);
    CHECK(nbd_server_attached(fixture.server, fixture.device) == 0);
    nbd_fixture_done(&fixture);
}

TEST("a client that was told of no cache, and so never asks for a flush, has "
     "each write made durable also when the device has a cache by now")
{
    const uint16_t types[] = {NBD_CMD_WRITE_ZEROES, NBD_CMD_TRIM};
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct memory_device_seen seen;

    nbd_fixture_init(&fixture, test_dir());
    memory_device_set_write_through(fixture.device, true);
    nbd_fixture_start(&fixture);
    NEED(enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    for (int restarts = 0; restarts < 3; restarts++) {
        CHECK(nbd_client_write(&client, 0, 0, "d", 1) == 0);
        for (size_t i = 0; i < 2; i++)
            CHECK(nbd_client_do(&client, 0, types[i], 0, PAGE) == 0);
        seen = memory_device_seen(fixture.device);
        CHECK(seen.flags[DEVICE_WRITE] == DEVICE_FUA);
        CHECK(seen.flags[DEVICE_ZERO] == DEVICE_FUA);
        CHECK(seen.flags[DEVICE_TRIM] == DEVICE_FUA);
        memory_device_set_write_through(fixture.device, false);
        nbd_restart_at_once(&fixture);
    }
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST("a record that is not whole, or was changed, closes its connection")
{
    struct nbd_restart restart = {.count = 0};
    struct nbd_restart_item *item = &restart.items[0];
    struct nbd_fixture fixture;
    struct nbd_client client;
    int fd;

    start(&fixture);
    NEED(enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    nbd_restart_hand_over(&restart, &fixture, 0);
    NEED(restart.count == 1);
    fixture.options.exports_count = 0;
    NEED(nbd_server_start(&fixture.options, &fixture.server) == 0);
    for (size_t len = 0; len < item->record_len; len += 29) {
        fd = fcntl(item->fd, F_DUPFD_CLOEXEC, 3);
        CHECK(nbd_server_resume(fixture.server, fd, item->record, len) ==
              -EPROTO);
        CHECK(fcntl(fd, F_GETFD) == -1 && errno == EBADF);
    }
    item->record[item->record_len - 1] ^= 1;
    fd = take_fd(&item->fd);
    CHECK(nbd_server_resume(fixture.server, fd, item->record,
                            item->record_len) == -EPROTO);
    CHECK(nbd_client_is_hung_up(&client));
    nbd_restart_done(&restart);
    nbd_fixture_done(&fixture);
}

/* Keeps "main" alone waiting. */
static bool is_main(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "main") == 0;
}

TEST(
    "a connection waits for its export as long as it takes, is seen "
    "meanwhile, and travels on unchanged; or it is closed when the export will "
    "not come")
{
    struct nbd_restart restart = {.count = 0}, again = {.count = 0};
    struct nbd_server_status status;
    struct nbd_fixture fixture;
    struct nbd_client client, second;
    size_t record_len;
    uint8_t *record;

    start(&fixture);
    NEED(enter(&second, &fixture, NBD_CLIENT_SIMPLE, "second"));
    NEED(enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    CHECK(send_write(&client, 1, 0, 'q', PAGE));
    nbd_restart_hand_over(&restart, &fixture, 60000);
    NEED(restart.count == 2);
    record_len = restart.items[0].record_len;
    record = malloc(record_len);
    memcpy(record, restart.items[0].record, record_len);
    nbd_restart_resume(&restart, &fixture);
    nbd_server_status(fixture.server, &status);
    CHECK(status.connections == 2);
    nbd_server_close_waiting(fixture.server, is_main, NULL);
    CHECK(nbd_client_is_hung_up(&second));
    nbd_restart_hand_over(&again, &fixture, 0);
    NEED(again.count == 1 && again.result == 0);
    CHECK(again.items[0].record_len == record_len &&
          memcmp(again.items[0].record, record, record_len) == 0);
    free(record);
    nbd_restart_resume(&again, &fixture);
    nbd_restart_open(&fixture);
    CHECK(nbd_client_result(&client, 1) == 0);
    CHECK(is_filled(fixture.device, 0, 'q', PAGE));
    CHECK(is_alive(&client));
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
}

TEST("a rollback can see the connections that wait for its device")
{
    struct nbd_restart restart = {.count = 0};
    struct nbd_fixture fixture;
    struct nbd_client client;

    start(&fixture);
    nbd_server_stop(fixture.server, 0);
    nbd_server_free(fixture.server);
    /* The device's own name is that of the export, as in the program. */
    fixture.exports[0].name = device_name(fixture.device);
    nbd_fixture_start(&fixture);
    NEED(enter(&client, &fixture, NBD_CLIENT_SIMPLE, fixture.exports[0].name));
    nbd_restart_hand_over(&restart, &fixture, 0);
    nbd_restart_resume(&restart, &fixture);
    CHECK(nbd_server_attached(fixture.server, fixture.device) == 1);
    CHECK(nbd_server_stop(fixture.server, 0) == 0);
    CHECK(nbd_client_is_hung_up(&client));
    CHECK(nbd_server_attached(fixture.server, fixture.device) == 0);
    nbd_fixture_done(&fixture);
}

TEST("an export that is there already has no connection handed over to it")
{
    struct nbd_restart restart = {.count = 0};
    struct nbd_fixture fixture;
    struct nbd_client client;

    start(&fixture);
    NEED(enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    nbd_restart_hand_over(&restart, &fixture, 0);
    NEED(restart.count == 1);
    nbd_fixture_start(&fixture);
    CHECK(nbd_server_resume(fixture.server, take_fd(&restart.items[0].fd),
                            restart.items[0].record,
                            restart.items[0].record_len) == -EEXIST);
    CHECK(nbd_client_is_hung_up(&client));
    nbd_restart_done(&restart);
    nbd_fixture_done(&fixture);
}

TEST("who shakes hands at a hand-over, and what cannot be given away, is "
     "closed")
{
    struct nbd_restart restart = {.count = 0, .error = -EMFILE};
    struct nbd_fixture fixture;
    struct nbd_client client, early;

    start(&fixture);
    NEED(enter(&client, &fixture, NBD_CLIENT_SIMPLE, "main"));
    NEED(nbd_client_greet(&early, &fixture, 3));
    nbd_restart_hand_over(&restart, &fixture, 60000);
    CHECK(restart.count == 0 && restart.result == 0);
    CHECK(nbd_client_is_hung_up(&early));
    CHECK(nbd_client_is_hung_up(&client));
    nbd_fixture_done(&fixture);
}

/* Have the connection wait for memory that others of its export have. */
static void stand_in_line(struct nbd_client *client)
{
    const struct nbd_request flush = {.type = NBD_CMD_FLUSH, .cookie = 1};
    const struct nbd_request read = {
        .type = NBD_CMD_READ, .cookie = 2, .length = 2 * LARGE};
    uint8_t bytes[2 * NBD_REQUEST_SIZE];
    size_t len = nbd_put_request(bytes, false, &flush);

    len += nbd_put_request(bytes + len, false, &read);
    CHECK(nbd_client_send(client, bytes, len));
    /* What came together is parsed before the first of it is answered. */
    CHECK(nbd_client_result(client, 1) == 0);
}

TEST("who stands in line for memory at a hand-over is not woken afterwards by "
     "who returns it")
{
    struct nbd_restart restart = {.count = 0};
    struct nbd_fixture fixture;
    struct nbd_client holder, waiter;

    nbd_fixture_init(&fixture, test_dir());
    memory_device_grow(fixture.device, 64 * LARGE);
    fixture.options.memory_max = 1; /* for each export what one may have */
    nbd_fixture_start(&fixture);
    NEED(enter(&holder, &fixture, NBD_CLIENT_SIMPLE, "main"));
    NEED(enter(&waiter, &fixture, NBD_CLIENT_SIMPLE, "main"));
    memory_device_hold(fixture.device, 1U << DEVICE_READ);
    CHECK(nbd_client_request(&holder, 0, NBD_CMD_READ, 1, 0, 64 * LARGE));
    memory_device_wait_held(fixture.device, 1);
    stand_in_line(&waiter);
    nbd_restart_hand_over(&restart, &fixture, 0);
    CHECK(restart.count == 2 && restart.result == 0);
    nbd_restart_done(&restart);
    nbd_client_close(&holder);
    nbd_client_close(&waiter);
    nbd_fixture_done(&fixture);
}

TEST("over TLS a connection is not handed over: it gets its replies and the "
     "end")
{
    const struct tls_server_options options = {.certificates_dir = test_dir()};
    struct hand_over handing = {.deadline_ms = 600000};
    struct nbd_fixture fixture;
    struct nbd_client client;
    struct tls_context *tls = NULL;
    pthread_t thread;
    uint8_t byte;

    tls_client_make_files(test_dir());
    nbd_fixture_init(&fixture, test_dir());
    CHECK(tls_server_new(&options, &tls) == 0);
    fixture.options.tls = tls;
    nbd_fixture_start(&fixture);
    handing.fixture = &fixture;
    NEED(nbd_client_greet(&client, &fixture, 3));
    CHECK(nbd_client_ask(&client, NBD_OPT_STARTTLS, NULL, 0) == NBD_REP_ACK);
    client.tls = tls_client_start(&(struct tls_client_setup){.dir = test_dir()},
                                  client.fd);
    NEED(client.tls);
    CHECK(nbd_client_go(&client, "main"));
    memory_device_hold(fixture.device, 1U << DEVICE_WRITE);
    CHECK(send_write(&client, 1, 0, 't', PAGE));
    memory_device_wait_held(fixture.device, 1);
    NEED(pthread_create(&thread, NULL, hand_over, &handing) == 0);
    memory_device_release(fixture.device);
    CHECK(nbd_client_result(&client, 1) == 0);
    CHECK(!nbd_client_receive(&client, &byte, 1));
    (void)pthread_join(thread, NULL);
    CHECK(handing.restart.count == 0 && handing.restart.result == 0);
    nbd_client_close(&client);
    nbd_fixture_done(&fixture);
    tls_free(tls);
}
