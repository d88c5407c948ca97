/* SPDX-License-Identifier: BSD-2-Clause */
/* links: memory_device */
#include "nbd/nbd_pending.h"

#include <sys/socket.h>

#include "base/bytes.h"
#include "base/stream.h"
#include "nbd/nbd_exports.h"
#include "support/memory_device.h"
#include "unit/test.h"

/* A transmission that this thread is the own one of, and its client. */
struct fixture {
    struct device *device;
    struct nbd_exports *exports;
    struct nbd_tally tally;
    struct stream *stream;
    struct nbd_transmission *t;
    int client;
};

static bool begin(struct fixture *fixture)
{
    const struct nbd_string name = {"main", 4};
    struct nbd_transmission_options options = {.drain_ms = 0};
    struct nbd_export export = {.name = "main"};
    int fds[2];

    *fixture = (struct fixture){.device = memory_device_new(1 << 20)};
    export.device = fixture->device;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
        stream_open(fds[0], &fixture->stream) != 0 ||
        nbd_exports_new(NULL, 0, &fixture->exports) != 0 ||
        nbd_exports_add(fixture->exports, &export) != 0)
        return false;
    fixture->client = fds[1];
    options.stream = fixture->stream;
    options.session.export = nbd_exports_find(fixture->exports, name);
    options.memory = nbd_exports_memory(options.session.export);
    options.tally = &fixture->tally;
    if (nbd_transmission_new(&options, &fixture->t) != 0)
        return false;
    fixture->t->thread = pthread_self();
    return true;
}

static void end(struct fixture *fixture)
{
    nbd_transmission_free(fixture->t);
    stream_close(fixture->stream);
    (void)close(fixture->client);
    nbd_exports_free(fixture->exports);
    (void)device_close(fixture->device);
}

/* Take a WRITE that the device is to have. */
static struct nbd_pending *take_write(struct nbd_transmission *t)
{
    struct nbd_pending *request = nbd_pending_take(t);

    request->wire = (struct nbd_request){
        .type = NBD_CMD_WRITE, .cookie = 7, .length = 4096};
    request->command = (struct nbd_command){
        .verdict = NBD_VERDICT_RUN, .operation = DEVICE_WRITE, .writes = true};
    request->device.operation = DEVICE_WRITE;
    (void)atomic_fetch_add(&t->writes, 1);
    return request;
}

TEST("a connection has so many requests and no more, and each place is used "
     "again")
{
    static struct nbd_pending *requests[NBD_IN_FLIGHT_MAX];
    struct fixture fixture;

    NEED(begin(&fixture));
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < NBD_IN_FLIGHT_MAX; i++) {
            requests[i] = nbd_pending_take(fixture.t);
            NEED(requests[i]);
        }
        CHECK(!nbd_pending_take(fixture.t));
        for (int i = 0; i < NBD_IN_FLIGHT_MAX; i++)
            nbd_pending_abandon(fixture.t, requests[i]);
        CHECK(fixture.t->outstanding == 0);
    }
    nbd_pending_abandon(fixture.t, NULL);
    end(&fixture);
}

TEST("what the device answered is counted, and its reply sent")
{
    struct nbd_pending *request;
    struct fixture fixture;
    uint8_t reply[16];

    NEED(begin(&fixture));
    request = take_write(fixture.t);
    CHECK(nbd_pending_in_flight(fixture.t) == 1);
    nbd_pending_done(&request->device, 0);
    CHECK(!nbd_pending_send(fixture.t).is_broken);
    CHECK(fixture.t->outstanding == 0 && atomic_load(&fixture.t->writes) == 0);
    CHECK(atomic_load(&fixture.tally.requests[NBD_TALLY_WRITE]) == 1);
    CHECK(atomic_load(&fixture.tally.bytes_written) == 4096);
    CHECK(recv(fixture.client, reply, 16, 0) == 16);
    CHECK(get_be32(reply + 4) == 0 && get_be64(reply + 8) == 7);
    end(&fixture);
}

TEST("what the device gave back ends the connection, without a reply that "
     "would say that it failed")
{
    struct nbd_pending *request;
    struct fixture fixture;
    uint8_t byte;

    NEED(begin(&fixture));
    request = take_write(fixture.t);
    nbd_pending_done(&request->device, -ECANCELED);
    CHECK(nbd_pending_send(fixture.t).is_broken);
    CHECK(atomic_load(&fixture.t->is_gone) && fixture.t->outstanding == 0);
    CHECK(recv(fixture.client, &byte, 1, 0) == 0);
    end(&fixture);
}

TEST("when it is handed over, what the device gave back is kept in order, is "
     "not in flight, and counts for nothing; what it answered is not kept")
{
    struct nbd_pending *first, *second, *third;
    struct fixture fixture;

    NEED(begin(&fixture));
    first = take_write(fixture.t);
    second = take_write(fixture.t);
    third = take_write(fixture.t);
    nbd_transmission_hand_over(fixture.t);
    nbd_pending_done(&first->device, -ECANCELED);
    CHECK(nbd_pending_in_flight(fixture.t) == 2);
    nbd_pending_done(&second->device, -ECANCELED);
    nbd_pending_done(&third->device, -EIO);
    CHECK(!nbd_pending_send(fixture.t).is_broken);
    CHECK(nbd_pending_in_flight(fixture.t) == 0);
    CHECK(fixture.t->kept == first && first->next == second && !second->next);
    CHECK(atomic_load(&fixture.t->writes) == 0);
    CHECK(atomic_load(&fixture.tally.requests[NBD_TALLY_WRITE]) == 1);
    CHECK(atomic_load(&fixture.tally.errors[NBD_TALLY_IO]) == 1);
    nbd_pending_abandon_kept(fixture.t);
    CHECK(!fixture.t->kept && fixture.t->outstanding == 0);
    end(&fixture);
}

TEST("of a client that is gone nothing is kept")
{
    struct nbd_pending *request;
    struct fixture fixture;

    NEED(begin(&fixture));
    request = take_write(fixture.t);
    nbd_transmission_hand_over(fixture.t);
    nbd_transmission_drop(fixture.t);
    nbd_pending_done(&request->device, -ECANCELED);
    (void)nbd_pending_send(fixture.t);
    CHECK(!fixture.t->kept && fixture.t->outstanding == 0);
    end(&fixture);
}

TEST("every error has words")
{
    for (uint32_t error = 0; error < 256; error++)
        CHECK(nbd_pending_text(error)[0] != '\0');
    CHECK(strcmp(nbd_pending_text(NBD_EPERM), nbd_pending_text(NBD_EIO)) != 0);
}
