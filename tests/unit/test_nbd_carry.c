/* SPDX-License-Identifier: BSD-2-Clause */
/* links: memory_device */
#include "nbd/nbd_carry.h"

#include <linux/sockios.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "base/stream.h"
#include "nbd/nbd_exports.h"
#include "nbd/nbd_pending.h"
#include "support/memory_device.h"
#include "unit/test.h"

enum { PAGE = 4096, HEAD = NBD_REQUEST_SIZE, REPLY = NBD_SIMPLE_REPLY_SIZE };

/* A transmission with simple replies that runs in a thread, and its client. */
struct fixture {
    struct device *device;
    struct nbd_exports *exports;
    struct nbd_tally tally;
    struct stream *stream;
    struct nbd_transmission *t;
    pthread_t thread;
    int server, client, result;
};

static void *run(void *argument)
{
    struct fixture *fixture = argument;

    fixture->result = nbd_transmission_run(fixture->t);
    return NULL;
}

/* Run a transmission that goes on from a record, if there is one. */
static bool go_on(struct fixture *fixture, uint8_t *bytes,
                  const struct nbd_record *record)
{
    const struct nbd_string name = {"main", 4};
    struct nbd_transmission_options options = {
        .drain_ms = 600000,
        .stall_ms = 600000,
        .carried = record,
        .carried_bytes = bytes,
    };

    if (stream_open(fixture->server, &fixture->stream) != 0)
        return false;
    options.stream = fixture->stream;
    options.session.export = nbd_exports_find(fixture->exports, name);
    options.memory = nbd_exports_memory(options.session.export);
    options.tally = &fixture->tally;
    return nbd_transmission_new(&options, &fixture->t) == 0 &&
           pthread_create(&fixture->thread, NULL, run, fixture) == 0;
}

static bool prepare(struct fixture *fixture)
{
    struct nbd_export export = {.name = "main"};
    int fds[2];

    *fixture = (struct fixture){.device = memory_device_new(1 << 20)};
    export.device = fixture->device;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
        nbd_exports_new(NULL, 0, &fixture->exports) != 0 ||
        nbd_exports_add(fixture->exports, &export) != 0)
        return false;
    fixture->server = fds[0];
    fixture->client = fds[1];
    return true;
}

static bool begin(struct fixture *fixture)
{
    return prepare(fixture) && go_on(fixture, NULL, NULL);
}

/* End it: the client hangs up. */
static void end(struct fixture *fixture)
{
    (void)close(fixture->client);
    if (fixture->t) {
        (void)pthread_join(fixture->thread, NULL);
        nbd_transmission_free(fixture->t);
        stream_close(fixture->stream);
    }
    nbd_exports_free(fixture->exports);
    (void)device_close(fixture->device);
}

/* Stop it as a hand-over does; the record lies in *ret_bytes. */
static bool carry_out(struct fixture *fixture, uint8_t **ret_bytes,
                      struct nbd_record *ret_record)
{
    size_t len;

    nbd_transmission_hand_over(fixture->t);
    nbd_transmission_expel(fixture->t);
    device_expel(fixture->device);
    (void)pthread_join(fixture->thread, NULL);
    if (!CHECK(fixture->result == NBD_TRANSMISSION_PAUSED) ||
        !CHECK(nbd_transmission_record(fixture->t, ret_bytes, &len) == 0))
        return false;
    nbd_transmission_free(fixture->t);
    fixture->t = NULL;
    fixture->server = dup(fixture->server);
    stream_close(fixture->stream);
    return CHECK(nbd_record_read(*ret_bytes, len, ret_record) == 0);
}

static void put_request(uint8_t *to, uint16_t type, uint64_t cookie,
                        uint64_t offset, uint32_t length)
{
    const struct nbd_request request = {
        .type = type, .cookie = cookie, .offset = offset, .length = length};

    (void)nbd_put_request(to, false, &request);
}

/* Send, and wait until the other side has received it. */
static void send_all(const struct fixture *fixture, const uint8_t *bytes,
                     size_t len)
{
    int unread = 1;

    CHECK(send(fixture->client, bytes, len, 0) == (ssize_t)len);
    while (ioctl(fixture->client, SIOCOUTQ, &unread) == 0 && unread > 0)
        (void)sched_yield();
}

/* Receive the simple reply, without data, to a request. */
static bool receive_ok(const struct fixture *fixture, uint64_t cookie)
{
    uint8_t reply[REPLY];

    return recv(fixture->client, reply, REPLY, MSG_WAITALL) == REPLY &&
           get_be32(reply + 4) == 0 && get_be64(reply + 8) == cookie;
}

/* A record in memory that belongs to who goes on from it. */
static uint8_t *make_record(struct nbd_record *record, const uint8_t *replies,
                            const uint8_t *requests)
{
    size_t len;
    uint8_t *bytes, *to_replies, *to_requests;

    record->name = "main";
    record->incarnation = "1";
    len = nbd_record_size(record);
    bytes = malloc(len);
    nbd_record_begin(record, bytes, &to_replies, &to_requests);
    if (record->replies_len > 0)
        memcpy(to_replies, replies, record->replies_len);
    if (record->requests_len > 0)
        memcpy(to_requests, requests, record->requests_len);
    nbd_record_seal(bytes, len);
    CHECK(nbd_record_read(bytes, len, record) == 0);
    return bytes;
}

TEST("what was received and not run is in the record as it was sent, up to the "
     "middle of a head")
{
    static uint8_t sent[3 * HEAD + PAGE + 100 + 11];
    struct fixture fixture;
    struct nbd_record record;
    uint8_t *bytes, *at = sent;

    for (size_t i = 0; i < sizeof(sent); i++)
        sent[i] = (uint8_t)(i * 7);
    put_request(at, NBD_CMD_WRITE, 1, 100, PAGE);
    at += HEAD + PAGE;
    put_request(at, NBD_CMD_TRIM, 2, 8192, 8192);
    at += HEAD;
    put_request(at, NBD_CMD_WRITE, 3, 512, 100);
    NEED(begin(&fixture));
    memory_device_hold(fixture.device, UINT32_MAX);
    send_all(&fixture, sent, sizeof(sent));
    memory_device_wait_held(fixture.device, 3);
    NEED(carry_out(&fixture, &bytes, &record));
    CHECK(record.requests_len == sizeof(sent));
    CHECK(memcmp(record.requests, sent, sizeof(sent)) == 0);
    CHECK(record.replies_len == 0 && !record.has_ended && !record.is_leaving);
    CHECK(!record.structured && !record.extended && !record.block_status);
    free(bytes);
    (void)close(fixture.server);
    end(&fixture);
}

TEST("of a payload that is being received, what is there is in the record")
{
    static uint8_t sent[HEAD + 100000];
    struct fixture fixture;
    struct nbd_record record;
    uint8_t *bytes;

    memset(sent, 'p', sizeof(sent));
    put_request(sent, NBD_CMD_WRITE, 1, 0, 1 << 20);
    NEED(begin(&fixture));
    send_all(&fixture, sent, sizeof(sent));
    NEED(carry_out(&fixture, &bytes, &record));
    CHECK(record.requests_len == sizeof(sent));
    CHECK(memcmp(record.requests, sent, sizeof(sent)) == 0);
    free(bytes);
    (void)close(fixture.server);
    end(&fixture);
}

TEST("a record with more requests than may be in flight is worked off, and "
     "what comes from the socket follows")
{
    enum { COUNT = 3 * NBD_IN_FLIGHT_MAX };
    static uint8_t requests[COUNT * HEAD];
    struct nbd_record record = {.requests_len = sizeof(requests) - 5};
    struct fixture fixture;
    uint8_t *bytes;

    for (uint64_t i = 0; i < COUNT; i++)
        put_request(requests + i * HEAD, NBD_CMD_TRIM, i, 0, PAGE);
    bytes = make_record(&record, NULL, requests);
    NEED(prepare(&fixture) && go_on(&fixture, bytes, &record));
    for (uint64_t i = 0; i < COUNT - 1; i++)
        CHECK(receive_ok(&fixture, i));
    send_all(&fixture, requests + sizeof(requests) - 5, 5);
    CHECK(receive_ok(&fixture, COUNT - 1));
    end(&fixture);
}

TEST("few replies of a record go out before those to its requests")
{
    uint8_t request[HEAD], replies[5] = "reply", received[5];
    struct nbd_record record = {.replies_len = 5, .requests_len = HEAD};
    struct fixture fixture;
    uint8_t *bytes;

    put_request(request, NBD_CMD_FLUSH, 9, 0, 0);
    bytes = make_record(&record, replies, request);
    NEED(prepare(&fixture) && go_on(&fixture, bytes, &record));
    CHECK(recv(fixture.client, received, 5, MSG_WAITALL) == 5);
    CHECK(memcmp(received, replies, 5) == 0);
    CHECK(receive_ok(&fixture, 9));
    end(&fixture);
}

TEST("with many replies unsent no request is run, and the next record has no "
     "more of anything")
{
    enum { MANY = 4 << 20 };
    static uint8_t replies[MANY], received[MANY];
    uint8_t request[HEAD], *bytes;
    struct nbd_record record = {.replies_len = MANY, .requests_len = HEAD};
    struct nbd_record next;
    struct fixture fixture;
    size_t got;

    for (size_t i = 0; i < MANY; i++)
        replies[i] = (uint8_t)(i * 13 / 7);
    put_request(request, NBD_CMD_TRIM, 9, 0, PAGE);
    bytes = make_record(&record, replies, request);
    NEED(prepare(&fixture) && go_on(&fixture, bytes, &record));
    CHECK(recv(fixture.client, received, 1000, MSG_WAITALL) == 1000);
    NEED(carry_out(&fixture, &bytes, &next));
    CHECK(memory_device_seen(fixture.device).count[DEVICE_TRIM] == 0);
    CHECK(next.replies_len < MANY - 1000 && next.replies_len > 1 << 20);
    CHECK(next.requests_len == HEAD);
    CHECK(memcmp(next.requests, request, HEAD) == 0);
    NEED(go_on(&fixture, bytes, &next));
    got = 1000;
    while (got < MANY) {
        ssize_t part = recv(fixture.client, received + got, MANY - got, 0);

        NEED(part > 0);
        got += (size_t)part;
    }
    CHECK(memcmp(received, replies, MANY) == 0);
    CHECK(receive_ok(&fixture, 9));
    CHECK(memory_device_seen(fixture.device).executed[DEVICE_TRIM] == 1);
    end(&fixture);
}

TEST("after a record that has ended nothing is received: its requests are "
     "answered, and then the connection ends")
{
    uint8_t requests[2 * HEAD], byte;
    struct nbd_record record = {.has_ended = true,
                                .requests_len = sizeof(requests)};
    struct fixture fixture;
    uint8_t *bytes;

    put_request(requests, NBD_CMD_TRIM, 1, 0, PAGE);
    put_request(requests + HEAD, NBD_CMD_FLUSH, 2, 0, 0);
    bytes = make_record(&record, NULL, requests);
    NEED(prepare(&fixture));
    CHECK(send(fixture.client, requests, HEAD, 0) == HEAD);
    NEED(go_on(&fixture, bytes, &record));
    CHECK(receive_ok(&fixture, 1) && receive_ok(&fixture, 2));
    CHECK(recv(fixture.client, &byte, 1, 0) == 0);
    CHECK(memory_device_seen(fixture.device).executed[DEVICE_TRIM] == 1);
    end(&fixture);
}

TEST("a payload that is dropped may be the last but one that ever comes: what "
     "is behind it in the record is run")
{
    enum { DROPPED = 1000 };
    uint8_t requests[DROPPED + HEAD], reply[REPLY], byte;
    struct nbd_record record = {
        .has_ended = true,
        .is_discarding = true,
        .discarded = {.type = NBD_CMD_WRITE, .cookie = 5, .length = 4000},
        .discard_left = DROPPED,
        .discard_error = NBD_EPERM,
        .requests_len = sizeof(requests),
    };
    struct fixture fixture;
    uint8_t *bytes;

    memset(requests, 0x25, DROPPED);
    put_request(requests + DROPPED, NBD_CMD_TRIM, 1, 0, PAGE);
    bytes = make_record(&record, NULL, requests);
    NEED(prepare(&fixture));
    NEED(go_on(&fixture, bytes, &record));
    CHECK(recv(fixture.client, reply, REPLY, MSG_WAITALL) == REPLY);
    CHECK(get_be32(reply + 4) == NBD_EPERM && get_be64(reply + 8) == 5);
    CHECK(receive_ok(&fixture, 1));
    CHECK(recv(fixture.client, &byte, 1, 0) == 0);
    CHECK(memory_device_seen(fixture.device).executed[DEVICE_TRIM] == 1);
    end(&fixture);
}

TEST("a payload that is dropped is dropped where it continues, in the record "
     "and then in the socket, however often it is handed over")
{
    enum { BEFORE = HEAD, IN_RECORD = 1000, IN_SOCKET = 500 };
    uint8_t requests[BEFORE + IN_RECORD], rest[IN_SOCKET + HEAD];
    struct nbd_record record = {
        .is_discarding = true,
        .discarded = {.type = NBD_CMD_WRITE, .cookie = 5, .length = 4000},
        .discard_left = IN_RECORD + IN_SOCKET,
        .discard_at = BEFORE,
        .discard_error = NBD_EPERM,
        .requests_len = sizeof(requests),
    };
    struct nbd_record next;
    struct fixture fixture;
    uint8_t *bytes, reply[REPLY];

    memset(requests, 0x25, sizeof(requests));
    memset(rest, 0x25, sizeof(rest));
    put_request(requests, NBD_CMD_READ, 1, 0, 512);
    put_request(rest + IN_SOCKET, NBD_CMD_FLUSH, 2, 0, 0);
    bytes = make_record(&record, NULL, requests);
    NEED(prepare(&fixture));
    memory_device_hold(fixture.device, 1U << DEVICE_READ);
    NEED(go_on(&fixture, bytes, &record));
    memory_device_wait_held(fixture.device, 1);
    memory_device_hold(fixture.device, 0);
    NEED(carry_out(&fixture, &bytes, &next));
    CHECK(next.is_discarding && next.discard_error == NBD_EPERM);
    CHECK(next.discarded.cookie == 5 && next.discarded.length == 4000);
    /* How far it came is its own affair; what is left is not. */
    CHECK(next.discard_at == HEAD);
    CHECK(next.discard_left - (next.requests_len - HEAD) == IN_SOCKET);
    NEED(go_on(&fixture, bytes, &next));
    CHECK(receive_ok(&fixture, 1));
    CHECK(recv(fixture.client, requests, 512, MSG_WAITALL) == 512);
    send_all(&fixture, rest, sizeof(rest));
    CHECK(recv(fixture.client, reply, REPLY, MSG_WAITALL) == REPLY);
    CHECK(get_be32(reply + 4) == NBD_EPERM && get_be64(reply + 8) == 5);
    CHECK(receive_ok(&fixture, 2));
    end(&fixture);
}
